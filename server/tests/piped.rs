//! Recorded non-interactive runs of another client, replayed with ours: what goes in on standard input, what
//! comes out on standard output and standard error, and the exit status.
//!
//! In the recording, `<CR>` and `<no newline>` at the end of a line stand for themselves. Blocks share a server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use vaylix_testkit::transcript::matches;
use vaylix_testkit::{Server, session};

/// One recorded run.
#[derive(Clone, Debug)]
struct Run {
    /// Line of its command in the file, from 1.
    line: usize,
    arguments: Vec<String>,
    input: String,
    expected: Expected,
}

#[derive(Debug, Default, Clone)]
struct Expected {
    stdout: Vec<String>,
    stderr: Vec<String>,
    exit: i32,
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The sections of a block: name and lines.
fn sections<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = "";
    for line in lines {
        if let Some(heading) = line.strip_prefix("--- ") {
            name = heading;
            found.insert(name, Vec::new());
        } else if let Some(section) = found.get_mut(name) {
            section.push(line);
        }
    }
    found
}

fn expected(sections: &BTreeMap<&str, Vec<&str>>) -> Expected {
    let lines = |name: &str| {
        let lines = sections.get(name).map(Vec::as_slice).unwrap_or_default();
        lines.iter().map(ToString::to_string).collect()
    };
    let exit = sections.keys().find_map(|name| name.strip_prefix("exit ")).expect("an exit status");
    Expected { stdout: lines("stdout"), stderr: lines("stderr"), exit: exit.parse().unwrap() }
}

fn runs(text: &str) -> Vec<Run> {
    let lines: Vec<&str> = text.lines().collect();
    let starts: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("$ ")).collect();
    let run = |at: usize| {
        let end = lines[at + 1..].iter().position(|line| line.starts_with("--- exit ")).expect("an end");
        let sections = sections(lines[at + 1..=at + 1 + end].iter().copied());
        let input = sections["input"]
            .iter()
            .map(|line| match line.strip_suffix("<no newline>") {
                Some(line) => line.to_owned(),
                None => format!("{}\n", line.replace("<CR>", "\r")),
            })
            .collect();
        Run {
            line: at + 1,
            arguments: lines[at].split_whitespace().skip(2).map(ToOwned::to_owned).collect(),
            input,
            expected: expected(&sections),
        }
    };
    starts.into_iter().map(run).collect()
}

/// Deliberate differences: `@ LINE because ANCHOR` and the sections that differ, complete.
fn differences(text: &str) -> BTreeMap<usize, (String, Expected)> {
    let mut found = BTreeMap::new();
    for block in text.split("\n@ ").skip(1) {
        let (heading, body) = block.split_once('\n').unwrap();
        let (line, because) = heading.split_once(" because ").unwrap();
        found.insert(line.parse().unwrap(), (because.to_owned(), expected(&sections(body.lines()))));
    }
    found
}

fn perform(server: &Server, run: &Run) -> Expected {
    let port = server.address().port().to_string();
    let arguments: Vec<String> = run.arguments.iter().map(|a| a.replace("<port>", &port)).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = session::command(&arguments).unwrap();
    let home = TempDir::new().unwrap();
    command.env("HOME", home.path()).env("XDG_DATA_HOME", home.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end without reading everything.
    let _ = child.stdin.take().unwrap().write_all(run.input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let lines = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        let mut lines: Vec<String> = text.split('\n').map(ToOwned::to_owned).collect();
        match lines.pop() {
            Some(last) if !last.is_empty() => lines.push(format!("{last}<no newline>")),
            _ => {}
        }
        lines
    };
    Expected {
        stdout: lines(output.stdout),
        stderr: lines(output.stderr),
        exit: output.status.code().unwrap_or(-1),
    }
}

fn same(expected: &Expected, actual: &Expected) -> bool {
    let lines = |expected: &[String], actual: &[String]| {
        expected.len() == actual.len() && expected.iter().zip(actual).all(|(e, a)| matches(e, a, ""))
    };
    lines(&expected.stdout, &actual.stdout)
        && lines(&expected.stderr, &actual.stderr)
        && expected.exit == actual.exit
}

#[test]
fn non_interactive_runs_are_as_recorded_or_as_listed() {
    let recording = std::fs::read_to_string(data("transcripts/piped.txt")).unwrap();
    let mut listed = differences(&std::fs::read_to_string(data("piped-differences.txt")).unwrap());
    let explained =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md"))
            .unwrap();
    let server = Server::start(&[]).unwrap();
    let runs = runs(&recording);
    assert_eq!(runs.len(), recording.matches("\n$ ").count());
    let mut failures = String::new();
    for run in &runs {
        let mut run_here = run.clone();
        if refused_port(&run.expected) {
            // Recorded without a server: a port nobody listens on.
            let position = run_here.arguments.iter().position(|a| a == "--port").unwrap();
            run_here.arguments[position + 1] = unused_port();
        }
        let actual = perform(&server, &run_here);
        let recorded = same(&run.expected, &actual);
        let problem = match listed.remove(&run.line) {
            Some((because, _)) if !explained.contains(&format!("`{because}`")) => {
                "the difference is not explained"
            }
            Some(_) if recorded => "listed as different, but is not",
            Some((_, ours)) if !same(&ours, &actual) => "differs from what is listed",
            None if !recorded => "differs from the recording",
            _ => continue,
        };
        let _ = writeln!(failures, "piped.txt:{}: {problem}: {:?}\n{actual:#?}", run.line, run.arguments);
    }
    assert!(listed.is_empty(), "differences where no run is: {listed:?}");
    assert!(failures.is_empty(), "{failures}");
}

fn refused_port(expected: &Expected) -> bool {
    expected.stderr.iter().any(|line| line.contains("Connection refused"))
}

/// A port that was free a moment ago.
fn unused_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}
