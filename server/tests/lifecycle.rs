//! How the server process starts, stops and refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::BufRead;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use vaylix_proto::{Command, Reply};
use vaylix_testkit::process::Process;
use vaylix_testkit::wire::{Connection, set};
use vaylix_testkit::{Server, server};

/// Runs a server that is expected to end by itself: its output and its exit status.
fn run(data_dir: &Path, flags: &[&str]) -> (String, Option<i32>) {
    let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
    let mut process = Process::spawn(server::command(data_dir, &flags).unwrap()).unwrap();
    let mut output = String::new();
    while let Some(line) = process.next_line().unwrap() {
        output.push_str(&line);
        output.push('\n');
    }
    (output, process.wait().unwrap().code())
}

fn get(server: &Server, key: &str) -> Reply {
    Connection::login(server.address()).unwrap().call(&Command::Get { key: key.into() }).unwrap().unwrap()
}

#[test]
fn the_first_start_says_what_to_do_next() {
    let server = Server::start(&[]).unwrap();
    let log = server.startup_log().join("\n");
    assert!(log.contains("vaylix-client"), "{log}");
    assert!(log.contains("default credentials"), "{log}");
}

#[test]
fn both_stop_signals_stop_cleanly_and_lose_nothing() {
    for signal in ["INT", "TERM"] {
        let mut server = Server::start(&[]).unwrap();
        set(server.address(), "k", signal.as_bytes()).unwrap();
        // A session that is open and idle must not hold the server up.
        let _idle = Connection::login(server.address()).unwrap();
        assert!(server.stop(signal).unwrap().success(), "{signal}");
        server.restart().unwrap();
        assert_eq!(get(&server, "k"), Reply::Value(signal.as_bytes().to_vec().into()));
    }
}

#[test]
fn a_log_that_nobody_reads_any_more_does_not_stop_the_server() {
    let parent = TempDir::new().unwrap();
    let mut command = server::command(&parent.path().join("data"), &[]).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut lines = std::io::BufReader::new(reader).lines();
    let ready =
        lines.find_map(|line| line.unwrap().split_once("listener ready on ").map(|(_, at)| at.to_owned()));
    let address = ready.expect("a ready line").parse().unwrap();
    drop(lines);
    for n in 0..3 {
        set(address, "k", format!("{n}").as_bytes()).unwrap();
    }
    Process::signal_id(child.id(), "TERM").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_hangup_is_not_the_end() {
    let server = Server::start(&[]).unwrap();
    std::process::Command::new("kill").args(["-s", "HUP", &server.id().to_string()]).status().unwrap();
    set(server.address(), "k", b"v").unwrap();
    assert_eq!(get(&server, "k"), Reply::Value("v".into()));
}

#[test]
fn a_directory_serves_one_server() {
    let server = Server::start(&[]).unwrap();
    let (output, status) = run(server.data_dir(), &[]);
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("[ENG-011] Invalid Storage Operation: "), "{output}");
    set(server.address(), "k", b"v").unwrap();
}

#[test]
fn a_taken_port_is_a_coded_refusal() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let parent = TempDir::new().unwrap();
    // The command line has `--port 0` already; the environment is what a second value can come from.
    let mut command = server::command(&parent.path().join("data"), &[]).unwrap();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut again = std::process::Command::new(command.get_program());
    again.args(arguments.iter().map(|a| if a == "0" { port.as_ref() } else { a.as_os_str() }));
    command = again;
    let mut process = Process::spawn(command).unwrap();
    let mut output = String::new();
    while let Some(line) = process.next_line().unwrap() {
        output.push_str(&line);
    }
    assert_eq!(process.wait().unwrap().code(), Some(1), "{output}");
    let told =
        format!("[SRV-001] Listener Bind Failure: failed to bind TCP listener: 127.0.0.1:{port}: Address");
    assert!(output.contains(&told), "{output}");
}

#[test]
fn settings_that_cannot_be_used_are_refused_and_touch_nothing() {
    let parent = TempDir::new().unwrap();
    let data_dir = parent.path().join("data");
    let (output, status) = run(&data_dir, &["--cluster-peers", "a@127.0.0.1:1"]);
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("[SRV-030] Invalid Arguments: "), "{output}");
    assert!(output.contains("--cluster-secret-file"), "{output}");
    assert!(!data_dir.exists());
    assert_eq!(run(&data_dir, &["--no-such-flag"]).1, Some(2));
}

#[test]
fn default_credentials_never_serve_the_network() {
    let parent = TempDir::new().unwrap();
    let server = Server::start_in(&parent.path().join("data"), &["--bind", "0.0.0.0"]).unwrap();
    let log = server.startup_log().join("\n");
    assert!(log.contains("generated"), "{log}");
    let address = ([127, 0, 0, 1], server.address().port()).into();
    let mut connection = Connection::open(address).unwrap();
    let login = Command::Auth { user: "vaylix".into(), password: "vaylix".into() };
    let refusal = connection.call(&login).unwrap().unwrap_err();
    assert_eq!(refusal.code, "SRV-008");
}

#[test]
fn default_credentials_left_by_a_start_on_loopback_do_not_serve_the_network() {
    let parent = TempDir::new().unwrap();
    let data_dir = parent.path().join("data");
    let mut server = Server::start_in(&data_dir, &[]).unwrap();
    Connection::login(server.address()).unwrap();
    assert!(server.stop("TERM").unwrap().success());
    let server = Server::start_in(&data_dir, &["--bind", "0.0.0.0"]).unwrap();
    let mut connection = Connection::open(([127, 0, 0, 1], server.address().port()).into()).unwrap();
    let login = Command::Auth { user: "vaylix".into(), password: "vaylix".into() };
    assert_eq!(connection.call(&login).unwrap().unwrap_err().code, "SRV-008");
    drop(server);
    // Not by configuring somebody else either.
    let flags = ["--bind", "0.0.0.0", "--user", "root", "--password", "correct horse 7 battery"];
    let server = Server::start_in(&data_dir, &flags).unwrap();
    let mut connection = Connection::open(([127, 0, 0, 1], server.address().port()).into()).unwrap();
    assert_eq!(connection.call(&login).unwrap().unwrap_err().code, "SRV-008");
    drop(server);
    // Asked for by name, it does, with a warning.
    let flags = ["--bind", "0.0.0.0", "--user", "vaylix", "--password", "vaylix"];
    let server = Server::start_in(&data_dir, &flags).unwrap();
    let mut connection = Connection::open(([127, 0, 0, 1], server.address().port()).into()).unwrap();
    assert_eq!(connection.call(&login).unwrap(), Ok(Reply::Ok));
    assert!(server.startup_log().join("\n").contains("default credentials"));
}

#[test]
fn a_name_without_a_password_makes_no_administrator() {
    let refused = format!("{:#}", Server::start(&["--user", "bob"]).unwrap_err());
    assert!(refused.contains("[SRV-030]") && refused.contains("--password"), "{refused}");
}

#[test]
fn files_are_for_the_owner_only() {
    let server = Server::start(&[]).unwrap();
    set(server.address(), "k", b"v").unwrap();
    let mut pending = vec![server.data_dir().to_owned()];
    let mut seen = 0;
    while let Some(path) = pending.pop() {
        let metadata = std::fs::metadata(&path).unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, expected, "{}", path.display());
        seen += 1;
        if metadata.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert!(seen > 3);
}

#[test]
fn damage_is_refused_with_code_file_and_offset_and_left_alone() {
    let mut server = Server::start(&[]).unwrap();
    set(server.address(), "k", b"value").unwrap();
    set(server.address(), "l", b"value").unwrap();
    assert!(server.stop("TERM").unwrap().success());
    let wal = server.data_dir().join("wal");
    let segment = std::fs::read_dir(&wal)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .expect("a segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.iter().rposition(|b| *b != 0).unwrap() / 2;
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let (output, status) = run(server.data_dir(), &[]);
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("[ENG-"), "{output}");
    assert!(output.contains(segment.file_name().unwrap().to_str().unwrap()), "{output}");
    assert!(output.contains(" at byte "), "{output}");
    assert_eq!(std::fs::read(&segment).unwrap(), bytes);
}

#[test]
fn the_log_is_json_where_that_is_asked_for() {
    let mut server = Server::start(&["--log-format", "json", "--log-requests"]).unwrap();
    assert_eq!(get(&server, "nothing"), Reply::NotFound);
    server.stop("TERM").unwrap();
    let mut lines = server.startup_log().to_vec();
    lines.extend(server.take_log());
    let events: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for event in &events {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(event[field].is_string(), "{field} of {event}");
        }
    }
    let request = events.iter().find(|event| event["opcode"] == "GET").unwrap();
    assert_eq!(request["span"]["name"], "connection", "{request}");
    assert!(events.iter().any(|event| event["message"] == "stopped"), "{events:?}");
}
