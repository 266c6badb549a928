//! The audit log of a real server: what it continues, what it refuses, and what a kill leaves behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use vaylix_proto::{Code, Command, Reply};
use vaylix_testkit::process::Process;
use vaylix_testkit::wire::Connection;
use vaylix_testkit::{Server, binary, server};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../access/tests/data/audit").join(name)
}

/// An otherwise empty data directory with a file as its audit log.
fn placed(name: &str) -> (TempDir, PathBuf) {
    let parent = TempDir::new().unwrap();
    let data_dir = parent.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    fs::copy(fixture(name), data_dir.join("audit.log")).unwrap();
    (parent, data_dir)
}

/// Output and exit status of a program that ends by itself.
fn run(command: std::process::Command) -> (String, Option<i32>) {
    let mut process = Process::spawn(command).unwrap();
    let mut output = String::new();
    while let Some(line) = process.next_line().unwrap() {
        output.push_str(&line);
        output.push('\n');
    }
    (output, process.wait().unwrap().code())
}

fn verify(data_dir: &Path) -> (String, Option<i32>) {
    let mut command = std::process::Command::new(binary::SERVER.path().unwrap());
    // As in a container, where the environment configures the server.
    command.args(["audit", "verify"]).env("VAYLIX_DATA_DIR", data_dir).env("VAYLIX_PORT", "9173");
    command.stdin(std::process::Stdio::null());
    run(command)
}

fn events(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn auth(user: &str, password: &str) -> Command {
    Command::Auth { user: user.into(), password: password.into() }
}

#[test]
fn a_log_of_the_reference_release_is_continued() {
    let (_parent, data_dir) = placed("audit-valid.log");
    let mut server = Server::start_in(&data_dir, &["--slow-command-threshold-ms", "0"]).unwrap();
    Connection::login(server.address()).unwrap();
    assert!(server.stop("TERM").unwrap().success());
    let events = events(&data_dir.join("audit.log"));
    assert_eq!(events.len(), 83);
    assert_eq!(events[81]["event_type"], "administrator_configured");
    assert_eq!(events[81]["details"]["target_user"], "vaylix");
    assert_eq!(events[82]["sequence"], 83);
    assert_eq!(events[82]["previous_hash"], events[81]["event_hash"]);
    assert_eq!(events[82]["event_type"], "auth");
    let (output, status) = verify(&data_dir);
    assert_eq!(status, Some(0), "{output}");
    for line in ["files=1", "events=83", "first_sequence=1", "last_sequence=83", "status=ok"] {
        assert!(output.lines().any(|shown| shown == line), "{output}");
    }
    assert!(output.contains(&format!("last_hash={}", events[82]["event_hash"].as_str().unwrap())));
}

#[test]
fn a_tampered_log_is_refused_as_the_reference_release_does() {
    let expected: Value =
        serde_json::from_str(&fs::read_to_string(fixture("expected-audit.json")).unwrap()).unwrap();
    for name in ["audit-tampered-field.log", "audit-tampered-deleted-line.log"] {
        let (_parent, data_dir) = placed(name);
        let before = fs::read(data_dir.join("audit.log")).unwrap();
        let said = expected["reference_startup_result"][name].as_str().unwrap();
        let (output, status) = run(server::command(&data_dir, &[]).unwrap());
        assert_eq!(status, Some(1), "{output}");
        assert_eq!(output.lines().last(), Some(said), "{output}");
        assert!(!output.contains(" ERROR "), "one failure, told once: {output}");
        assert_eq!(fs::read(data_dir.join("audit.log")).unwrap(), before, "nothing was changed");
        let (output, status) = verify(&data_dir);
        assert_eq!((output.trim(), status), (said, Some(1)));
    }
}

#[test]
fn a_torn_tail_is_repaired_and_said() {
    let (_parent, data_dir) = placed("audit-torn-tail.log");
    let (output, status) = verify(&data_dir);
    assert_eq!(status, Some(0), "{output}");
    assert!(output.contains("unfinished_line=81\n") && output.contains("line 81 is unfinished"), "{output}");
    let mut server = Server::start_in(&data_dir, &[]).unwrap();
    let log = server.startup_log().join("\n");
    assert!(log.contains("the last line of the audit log was unfinished and has been cut off"), "{log}");
    assert!(server.stop("TERM").unwrap().success());
    let events = events(&data_dir.join("audit.log"));
    assert_eq!((events.len(), events[80]["event_type"].as_str()), (82, Some("audit_repaired")));
    let (output, status) = verify(&data_dir);
    assert_eq!(status, Some(0), "{output}");
    assert!(output.contains("unfinished_line=none\n"), "{output}");
}

/// Killed under a flood of failing logins, of which each writes, a server always starts again with a whole chain.
#[test]
fn kills_under_failing_logins_never_break_the_chain() {
    let parent = TempDir::new().unwrap();
    let data_dir = parent.path().join("data");
    let flags =
        ["--auth-failure-limit", "1000000", "--audit-max-bytes", "4096", "--audit-sync-interval-ms", "0"];
    let mut server = Server::start_in(&data_dir, &flags).unwrap();
    for round in 1..=6 {
        let (told, answers) = mpsc::channel();
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (address, told) = (server.address(), told.clone());
                std::thread::spawn(move || {
                    let Ok(mut connection) = Connection::open(address) else { return };
                    // Until the server is gone.
                    while let Ok(answer) = connection.call(&auth(&format!("nobody-{n}"), "wrong")) {
                        assert_eq!(answer.unwrap_err().known_code(), Some(Code::AuthenticationFailed));
                        if told.send(()).is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        for _ in 0..5 * round {
            answers.recv().unwrap();
        }
        server.kill().unwrap();
        drop(answers);
        for thread in threads {
            thread.join().unwrap();
        }
        server.restart().unwrap();
    }
    assert!(server.stop("TERM").unwrap().success());
    let (output, status) = verify(&data_dir);
    assert_eq!(status, Some(0), "{output}");
    let files = output.lines().find_map(|line| line.strip_prefix("files=")).unwrap().parse::<u32>().unwrap();
    assert!(files > 3, "{output}");
}

#[test]
fn the_settings_do_what_they_say() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("elsewhere/trail.log");
    let flags = [
        "--audit-log-path",
        path.to_str().unwrap(),
        "--audit-commands",
        "--auth-failure-limit",
        "1",
        "--auth-failure-window-seconds",
        "7",
        "--auth-lockout-seconds",
        "8",
        "--slow-command-threshold-ms",
        "9",
        "--audit-retain-files",
        "2",
        "--audit-max-bytes",
        "1",
    ];
    let mut server = Server::start(&flags).unwrap();
    let mut connection = Connection::login(server.address()).unwrap();
    let Reply::Entries(info) = connection.call(&Command::Info).unwrap().unwrap() else { panic!() };
    let value = |name: &str| {
        let entry = info.iter().find(|entry| entry.name == name).unwrap();
        String::from_utf8(entry.value.to_vec()).unwrap()
    };
    for (name, expected) in [
        ("audit.commands", "true"),
        ("audit.status", "ready"),
        ("runtime.auth_failure_limit", "1"),
        ("runtime.auth_failure_window_seconds", "7"),
        ("runtime.auth_lockout_seconds", "8"),
        ("runtime.slow_command_threshold_ms", "9"),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    // Files are closed between writes, and one write takes all events that wait. Each call gives the writer time.
    let anchor = path.with_file_name("trail.log.anchor");
    let begun = Instant::now();
    while !anchor.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no file was ever deleted");
        connection.call(&Command::Get { key: "k".into() }).unwrap().unwrap();
    }
    let wrong = connection.call(&auth("x", "y")).unwrap().unwrap_err();
    assert_eq!(wrong.known_code(), Some(Code::AuthenticationFailed));
    // Not from another connection either: the port is no part of the address.
    let mut other = Connection::open(server.address()).unwrap();
    let locked = other.call(&auth("x", "y")).unwrap().unwrap_err();
    assert_eq!(locked.known_code(), Some(Code::AuthenticationLocked));
    let left = locked.message.strip_prefix("authentication lockout active for x; try again in ");
    let left: u64 = left.and_then(|left| left.strip_suffix(" s")?.parse().ok()).expect("the seconds left");
    assert!((1..=8).contains(&left), "{left}");
    assert!(server.stop("TERM").unwrap().success());
    assert!(!server.data_dir().join("audit.log").exists());
    let names: Vec<String> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // The one being written, two closed ones, and the note about those before.
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn a_log_that_is_not_there_is_said_to_be_missing() {
    let parent = TempDir::new().unwrap();
    for data_dir in [parent.path().to_owned(), parent.path().join("no/such/directory")] {
        let (output, status) = verify(&data_dir);
        assert_eq!(status, Some(1));
        let expected = format!(
            "[SRV-004] Filesystem I/O Failure: filesystem I/O failed: there is no audit log {}, ",
            data_dir.join("audit.log").display()
        );
        assert!(output.starts_with(&expected) && output.contains("--data-dir"), "{output}");
    }
}
