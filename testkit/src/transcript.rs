//! Recorded sessions, replayed against our own programs.
//!
//! A transcript is plain text, one directive per line, with the output it led to below it, verbatim, up to the
//! next directive:
//!
//! | Line | Meaning |
//! |---|---|
//! | `# text` | comment |
//! | `! server FLAGS` | start a server with these flags on a fresh data directory |
//! | `! open NAME FLAGS` | start a client session; what it prints after its two start-up log lines follows |
//! | `> line` | type the line in session `main` |
//! | `@NAME> line` | type the line in session NAME |
//! | `! close NAME` | end of input for that session; its remaining output and exit status follow |
//! | `! sleep SECONDS` | let time pass, for expiries and time limits |
//! | `! restart`, `! kill` | close all sessions, stop the server cleanly or outright, start it again |
//! | `! wire-set KEY HEX` | store raw bytes under KEY with a plain SET |
//! | `! append FILE TEXT`, `! remove FILE` | change a file of the data directory |
//! | `(client exited, status N)` | the client ended by itself |
//!
//! Masks in the output: `<ttl a..b>`, `<ttl huge>`, `<ms>`, `<index>`, `<sha256>`, `<uuid>`, `<data-dir>`, `<port>`,
//! `<detail>`.
//!
//! The transcripts were recorded from another implementation. Where ours answers differently on purpose, a
//! [`Difference`] says what it answers and names the paragraph of `docs/compatibility.md` that explains it. A
//! difference that does not apply any more fails the replay, so the list stays true.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::server::Server;
use crate::session::{Answer, Session};
use crate::wire;

/// One directive and the output recorded below it.
#[derive(Debug)]
struct Step<'a> {
    /// Line of the directive in its file, counted from 1.
    line: usize,
    directive: &'a str,
    output: Vec<&'a str>,
}

/// A place where we answer differently on purpose.
#[derive(Debug)]
pub struct Difference {
    /// The transcript's file name.
    pub file: String,
    /// The line of the directive whose output differs.
    pub line: usize,
    /// The anchor in `docs/compatibility.md` that says why.
    pub because: String,
    /// What we answer, masks included.
    pub output: Vec<String>,
}

/// Reads a list of differences: blocks of `@ FILE:LINE because ANCHOR` and the output lines below; lines that
/// start with `#` before the first block or between blocks are comments.
///
/// # Errors
/// When a heading cannot be read.
pub fn differences(text: &str) -> Result<Vec<Difference>> {
    let mut list: Vec<Difference> = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("@ ") {
            let (place, because) =
                heading.split_once(" because ").context("a difference without a reason")?;
            let (file, number) = place.split_once(':').context("a difference without a line number")?;
            list.push(Difference {
                file: file.to_owned(),
                line: number.parse().context("a line number that is none")?,
                because: because.to_owned(),
                output: Vec::new(),
            });
        } else if line.starts_with('#') {
        } else if let Some(difference) = list.last_mut() {
            difference.output.push(line.to_owned());
        } else {
            ensure!(line.is_empty(), "output before the first heading: {line}");
        }
    }
    Ok(list)
}

/// Replays one transcript; `differences` may be those of all files.
///
/// # Errors
/// When anything is answered otherwise than recorded or listed; the message shows every such place.
pub fn replay(file: &str, text: &str, differences: &[Difference]) -> Result<()> {
    let mut ours: BTreeMap<usize, &Difference> =
        differences.iter().filter(|d| d.file == file).map(|d| (d.line, d)).collect();
    let mut stage = Stage::default();
    let mut failures = String::new();
    for step in steps(text) {
        let actual = stage
            .perform(step.directive)
            .with_context(|| format!("{file}:{}: {}", step.line, step.directive))?;
        let Some(actual) = actual else { continue };
        let recorded: Vec<&str> = step.output.clone();
        let data_dir = stage.data_dir();
        let same = |expected: &[&str]| {
            expected.len() == actual.len()
                && expected.iter().zip(&actual).all(|(e, a)| matches(e, a, &data_dir))
        };
        if let Some(difference) = ours.remove(&step.line) {
            let listed: Vec<&str> = difference.output.iter().map(String::as_str).collect();
            if same(&recorded) {
                let _ = writeln!(failures, "{file}:{}: listed as different, but is not\n", step.line);
            } else if !same(&listed) {
                report(&mut failures, file, &step, &listed, &actual);
            }
        } else if !same(&recorded) {
            report(&mut failures, file, &step, &recorded, &actual);
        }
    }
    for line in ours.keys() {
        let _ = writeln!(failures, "{file}:{line}: a difference is listed where no directive is");
    }
    ensure!(failures.is_empty(), "{failures}");
    Ok(())
}

fn report(failures: &mut String, file: &str, step: &Step<'_>, expected: &[&str], actual: &[String]) {
    let _ = writeln!(failures, "{file}:{}: {}", step.line, step.directive);
    for line in expected {
        let _ = writeln!(failures, "  - {line}");
    }
    for line in actual {
        let _ = writeln!(failures, "  + {line}");
    }
}

fn steps(text: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let session = line.strip_prefix('@').is_some_and(|rest| rest.contains("> "));
        if line.starts_with("! ") || line.starts_with("> ") || session {
            steps.push(Step { line: index + 1, directive: line, output: Vec::new() });
        } else if line.starts_with("# ") {
        } else if let Some(step) = steps.last_mut() {
            step.output.push(line);
        }
    }
    steps
}

/// What is running during a replay.
#[derive(Default)]
struct Stage {
    server: Option<Server>,
    sessions: BTreeMap<String, Session>,
}

impl Stage {
    fn data_dir(&self) -> String {
        self.server.as_ref().map(|s| s.data_dir().display().to_string()).unwrap_or_default()
    }

    fn server(&mut self) -> Result<&mut Server> {
        self.server.as_mut().context("no server was started")
    }

    /// Performs one directive; `None` when it has no output to compare.
    fn perform(&mut self, directive: &str) -> Result<Option<Vec<String>>> {
        if let Some(line) = directive.strip_prefix("> ") {
            return self.type_line("main", line).map(Some);
        }
        if let Some((name, line)) = directive.strip_prefix('@').and_then(|rest| rest.split_once("> ")) {
            return self.type_line(name, line).map(Some);
        }
        let words: Vec<&str> = directive.trim_start_matches("! ").split_whitespace().collect();
        match words.as_slice() {
            ["server", flags @ ..] => {
                self.sessions.clear();
                self.server = Some(Server::start(flags)?);
                Ok(None)
            }
            ["open", name, flags @ ..] => {
                let address = self.server()?.address();
                let (session, answer) = Session::open(address, flags)?;
                self.sessions.insert((*name).to_owned(), session);
                Ok(Some(self.lines(name, answer)))
            }
            ["close", name] => {
                let session = self.sessions.remove(*name).context("no such session")?;
                let (mut lines, status) = session.close()?;
                lines.push(format!("(exit status {})", status.code().unwrap_or(-1)));
                Ok(Some(lines))
            }
            ["sleep", seconds] => {
                // Not synchronisation: the transcript is about what the passing of time does.
                std::thread::sleep(Duration::from_secs_f64(seconds.parse()?));
                Ok(None)
            }
            ["restart"] => {
                self.sessions.clear();
                let status = self.server()?.stop("INT")?;
                ensure!(status.success(), "the server stopped with {status}");
                self.server()?.restart()?;
                Ok(None)
            }
            ["kill"] => {
                self.sessions.clear();
                self.server()?.kill()?;
                self.server()?.restart()?;
                Ok(None)
            }
            ["wire-set", key, hex] => {
                wire::set(self.server()?.address(), key, &wire::unhex(hex)?)?;
                Ok(None)
            }
            ["append", file, text] => {
                let path = self.server()?.data_dir().join(file);
                let file = std::fs::OpenOptions::new().append(true).open(&path);
                file.and_then(|mut file| file.write_all(text.as_bytes()))
                    .with_context(|| path.display().to_string())?;
                Ok(None)
            }
            ["remove", file] => {
                let path = self.server()?.data_dir().join(file);
                std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
                Ok(None)
            }
            _ => bail!("an unknown directive"),
        }
    }

    fn type_line(&mut self, name: &str, line: &str) -> Result<Vec<String>> {
        let session = self.sessions.get_mut(name).context("no such session")?;
        let answer = session.type_line(line)?;
        Ok(self.lines(name, answer))
    }

    fn lines(&mut self, name: &str, answer: Answer) -> Vec<String> {
        match answer {
            Answer::Lines(lines) => lines,
            Answer::Exited(mut lines, status) => {
                self.sessions.remove(name);
                lines.push(format!("(client exited, status {})", status.unwrap_or(-1)));
                lines
            }
        }
    }
}

/// Whether `actual` is what `expected` says, masks included.
#[must_use]
pub fn matches(expected: &str, actual: &str, data_dir: &str) -> bool {
    let Some(start) = expected.find('<') else { return expected == actual };
    let Some(length) = expected[start..].find('>') else { return expected == actual };
    let (before, mask, after) =
        (&expected[..start], &expected[start..=start + length], &expected[start + length + 1..]);
    let Some(rest) = actual.strip_prefix(before) else { return false };
    let number = |low: u128, high: u128| {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest[..digits].parse().is_ok_and(|n: u128| (low..=high).contains(&n))
            && matches(after, &rest[digits..], data_dir)
    };
    let fixed = |length: usize, allowed: fn(char) -> bool| {
        rest.get(..length).is_some_and(|text| text.chars().all(allowed))
            && matches(after, &rest[length..], data_dir)
    };
    match mask {
        "<ms>" => number(1_000_000_000_000, 9_999_999_999_999),
        "<index>" => number(0, u128::MAX),
        "<port>" => number(1, 65_535),
        "<ttl huge>" => number(1_000_000_000_000, u128::MAX),
        "<sha256>" => fixed(64, |c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()),
        "<uuid>" => fixed(36, |c| c == '-' || c.is_ascii_hexdigit()),
        "<detail>" => !rest.is_empty(),
        "<data-dir>" => rest.strip_prefix(data_dir).is_some_and(|rest| matches(after, rest, data_dir)),
        _ => match mask.strip_prefix("<ttl ").and_then(|m| m.strip_suffix('>')?.split_once("..")) {
            Some((low, high)) => match (low.parse(), high.parse()) {
                (Ok(low), Ok(high)) => number(low, high),
                _ => false,
            },
            // Not a mask: the text really contains angle brackets.
            None => {
                let plain = start + 1;
                actual.get(..plain) == Some(&expected[..plain])
                    && matches(&expected[plain..], &actual[plain..], data_dir)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_match_what_they_stand_for_and_nothing_else() {
        let same = |expected, actual| matches(expected, actual, "/data");
        assert!(same("plain", "plain"));
        assert!(!same("plain", "plainer"));
        assert!(same("<ttl 1..2>", "2"));
        assert!(!same("<ttl 1..2>", "3"));
        assert!(!same("<ttl 1..2>", "2x"));
        assert!(same("a=<ms>,b", "a=1795218167063,b"));
        assert!(!same("a=<ms>,b", "a=1,b"));
        assert!(same("path=<data-dir>/x", "path=/data/x"));
        assert!(!same("path=<data-dir>/x", "path=/other/x"));
        assert!(same("usage: get <key>", "usage: get <key>"));
        assert!(!same("usage: get <key>", "usage: get <cow>"));
        assert!(same("failed: <detail>", "failed: expected value at line 1"));
        assert!(!same("failed: <detail>", "failed: "));
    }

    #[test]
    fn a_transcript_is_cut_into_directives_with_their_output() {
        let text = "# note\n! server\n! open main\nOK\n> get a\nx\n\n@b> get # c\ny\n";
        let steps = steps(text);
        let shape: Vec<_> = steps.iter().map(|s| (s.line, s.directive, s.output.clone())).collect();
        assert_eq!(
            shape,
            [
                (2, "! server", vec![]),
                (3, "! open main", vec!["OK"]),
                (5, "> get a", vec!["x", ""]),
                (8, "@b> get # c", vec!["y"]),
            ]
        );
    }

    #[test]
    fn differences_are_read_as_blocks() {
        let list =
            differences("# why\n\n@ a.txt:3 because reason\none\n\n@ b.txt:4 because other\n").unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].line, list[0].output.len()), (3, 2));
        assert_eq!((list[1].file.as_str(), list[1].because.as_str()), ("b.txt", "other"));
        assert!(list[1].output.is_empty());
        assert!(differences("stray").is_err());
    }
}
