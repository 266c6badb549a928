//! Key-encryption keys, storage keys and snapshots, as an operator meets them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Output, Stdio};
use std::time::Instant;

use tempfile::TempDir;
use vaylix_proto::{Command, Reply};
use vaylix_testkit::process::{PATIENCE, Process};
use vaylix_testkit::wire::{Connection, set};
use vaylix_testkit::{Server, binary, server};

const KEK_A: &str = "5f1c0bd94ae7f2c31d9a6e0857bb64a2901f3ce8d52a7746bc0d1e9f83a5c6e7";
const KEK_B: &str = "c2d10e9b7f58a3644b6f21d8e09735ac1488fb5d6a7e903cf21b0d4c95e8a761";

/// A directory to work in: the data and files with keys.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// A file with this content that only its owner may read.
    fn kek(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn start(&self, flags: &[&str]) -> Server {
        Server::start_in(&self.data(), flags).unwrap()
    }

    /// Runs a server that is expected to refuse, and returns what it said.
    fn refused(&self, flags: &[&str], environment: &[(&str, &str)]) -> String {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let mut command = server::command(&self.data(), &flags).unwrap();
        command.envs(environment.iter().copied());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs `vaylix storage …` on the data directory.
    fn storage(&self, arguments: &[&str]) -> Output {
        storage(&self.data(), arguments, &[])
    }

    /// Every file below the data directory but the lock, whose content names the last process.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut pending = vec![self.data()];
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.file_name().unwrap() != "LOCK" {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
        found
    }
}

fn storage(data: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    offline(data, &[&["storage"], arguments].concat(), environment)
}

/// Runs a subcommand on the data directory.
fn offline(data: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Program::new(binary::SERVER.path().unwrap());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VAYLIX_")) {
        command.env_remove(name);
    }
    command.args(arguments).arg("--data-dir").arg(data).envs(environment.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
}

/// The answer of a command that succeeded.
fn answer(output: &Output) -> BTreeMap<String, String> {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| line.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect()
}

/// Why a command failed.
fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn info(server: &Server) -> BTreeMap<String, String> {
    let Reply::Entries(entries) =
        Connection::login(server.address()).unwrap().call(&Command::Info).unwrap().unwrap()
    else {
        panic!("INFO answers entries");
    };
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    entries.iter().map(|entry| (entry.name.to_string(), text(&entry.value))).collect()
}

/// Asks INFO until it says so.
fn until(server: &Server, condition: impl Fn(&BTreeMap<String, String>) -> bool) -> BTreeMap<String, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let info = info(server);
        if condition(&info) {
            return info;
        }
        assert!(Instant::now() < deadline, "{info:?}");
    }
}

fn has(server: &Server, key: &str, value: &str) {
    let mut connection = Connection::login(server.address()).unwrap();
    let found = connection.call(&Command::Get { key: key.into() }).unwrap().unwrap();
    assert_eq!(found, Reply::Value(value.to_owned().into()));
}

#[test]
fn a_wrapped_directory_opens_with_its_key_only() {
    let bench = Bench::new();
    let (a, b) = (bench.kek("a", KEK_A), bench.kek("b", KEK_B));
    let mut server = bench.start(&["--kek-file", &a]);
    let log = server.startup_log().join("\n");
    assert!(log.contains("the keyring is wrapped"), "{log}");
    assert!(!log.contains(&KEK_A[..8]), "{log}");
    set(server.address(), "k", b"v").unwrap();
    assert_eq!(info(&server)["security.storage_keyring_wrapped"], "true");
    assert!(server.stop("TERM").unwrap().success());

    let before = bench.files();
    for (flags, environment, words) in [
        (vec![], vec![], ["[ENG-008] Encrypted Storage Failure: ", "none was given", "--kek-file"]),
        (vec!["--kek-file", b.as_str()], vec![], ["[ENG-008]", "was given", "keyring.bin"]),
        (vec![], vec![("VAYLIX_KEK", KEK_B)], ["[ENG-008]", "was given", "keyring.bin"]),
        (vec![], vec![("VAYLIX_KEK", "")], ["[SRV-030]", "VAYLIX_KEK", "empty"]),
        (vec![], vec![("VAYLIX_KEK", "secret words")], ["[SRV-030]", "VAYLIX_KEK", "32 random bytes"]),
        (
            vec!["--kek-file", a.as_str()],
            vec![("VAYLIX_KEK", KEK_A)],
            ["[SRV-030]", "not both", "--kek-file"],
        ),
        (vec!["--kek-file", "/nowhere/kek"], vec![], ["[ENG-002]", "/nowhere/kek", "must exist"]),
    ] {
        let said = bench.refused(&flags, &environment);
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(!said.contains("secret words") && !said.contains(&KEK_B[..8]), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(bench.files(), before);

    server.restart().unwrap();
    has(&server, "k", "v");
    assert!(server.stop("TERM").unwrap().success());
    drop(server);
    // The same key as text in the environment.
    let flags = ["--bind".to_owned(), "127.0.0.1".to_owned()];
    let mut command = server::command(&bench.data(), &flags).unwrap();
    command.env("VAYLIX_KEK", format!("{}\n", KEK_A.to_uppercase()));
    let process = Process::spawn(command).unwrap();
    while !process.next_line().unwrap().expect("a server that starts").contains("listener ready") {}
}

#[test]
fn a_key_for_a_keyring_that_is_not_wrapped_is_refused() {
    let bench = Bench::new();
    let a = bench.kek("a", KEK_A);
    let mut server = bench.start(&[]);
    let log = server.startup_log().join("\n");
    assert!(log.contains("the keyring is not wrapped"), "{log}");
    assert_eq!(info(&server)["security.storage_keyring_wrapped"], "false");
    assert!(server.stop("TERM").unwrap().success());
    let before = bench.files();
    let said = bench.refused(&["--kek-file", &a], &[]);
    assert!(said.contains("[ENG-011] ") && said.contains("storage rewrap-keys"), "{said}");
    assert_eq!(bench.files(), before);
    server.restart().unwrap();
}

#[test]
fn a_key_file_that_others_can_read_is_warned_about() {
    let bench = Bench::new();
    let a = bench.kek("a", KEK_A);
    fs::set_permissions(&a, fs::Permissions::from_mode(0o644)).unwrap();
    let server = bench.start(&["--kek-file", &a]);
    let log = server.startup_log().join("\n");
    assert!(log.contains("WARN") && log.contains("0644"), "{log}");
}

#[test]
fn the_keyring_is_wrapped_rewrapped_and_unwrapped_offline() {
    let bench = Bench::new();
    let (a, b) = (bench.kek("a", KEK_A), bench.kek("b", &format!("{KEK_B}\n")));
    let mut server = bench.start(&[]);
    set(server.address(), "k", b"v").unwrap();
    let said = failure(&bench.storage(&["rewrap-keys", "--new-kek-file", &a]));
    assert!(said.contains("[ENG-011] ") && said.contains("in use"), "{said}");
    assert!(server.stop("TERM").unwrap().success());
    let unwrapped = fs::read(bench.data().join("keyring.bin")).unwrap();

    let wrapped = bench.storage(&["rewrap-keys", "--new-kek-file", &a]);
    assert!(String::from_utf8_lossy(&wrapped.stderr).contains("copies of the unwrapped keyring.bin"));
    let first = answer(&wrapped);
    assert_eq!((first["storage_key_count"].as_str(), first["kek_id"].len()), ("1", 16));

    let before = bench.files();
    for (arguments, word) in [
        (vec!["rewrap-keys"], "[SRV-030]"),
        (vec!["rewrap-keys", "--new-kek-file", b.as_str()], "[ENG-008]"),
        (vec!["rewrap-keys", "--kek-file", b.as_str(), "--new-kek-file", a.as_str()], "[ENG-008]"),
        (vec!["rewrap-keys", "--remove-kek"], "[ENG-008]"),
        (vec!["rotate-key"], "[ENG-008]"),
    ] {
        let said = failure(&bench.storage(&arguments));
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    assert_eq!(bench.files(), before);
    drop(bench.start(&["--kek-file", &a]));

    for arguments in [["storage", "verify"], ["pitr", "inspect"]] {
        assert!(failure(&offline(&bench.data(), &arguments, &[])).contains("[ENG-008]"), "{arguments:?}");
        let [area, command] = arguments;
        answer(&offline(&bench.data(), &[area, command, "--kek-file", &a], &[]));
    }

    let second = answer(&bench.storage(&["rewrap-keys", "--kek-file", &a, "--new-kek-file", &b]));
    assert_ne!(second["kek_id"], first["kek_id"]);
    assert_eq!(second["storage_key_id"], first["storage_key_id"], "what is sealed stays sealed as it is");
    assert!(bench.refused(&["--kek-file", &a], &[]).contains("[ENG-008]"));
    let server = bench.start(&["--kek-file", &b]);
    has(&server, "k", "v");
    drop(server);

    // By the environment as well.
    let environment = [("VAYLIX_KEK", KEK_B), ("VAYLIX_NEW_KEK", KEK_A)];
    let third = answer(&storage(&bench.data(), &["rewrap-keys"], &environment));
    assert_eq!(third["kek_id"], first["kek_id"]);
    let last = answer(&bench.storage(&["rewrap-keys", "--kek-file", &a, "--remove-kek"]));
    assert_eq!(last["kek_id"], "none");
    assert_eq!(fs::read(bench.data().join("keyring.bin")).unwrap(), unwrapped);
    let said = failure(&bench.storage(&["rewrap-keys", "--remove-kek"]));
    assert!(said.contains("[SRV-030]") && said.contains("not wrapped"), "{said}");
    has(&bench.start(&[]), "k", "v");
}

#[test]
fn offline_commands_create_nothing() {
    let bench = Bench::new();
    let a = bench.kek("a", KEK_A);
    for arguments in [vec!["rotate-key"], vec!["rewrap-keys", "--new-kek-file", a.as_str()]] {
        let said = failure(&bench.storage(&arguments));
        assert!(said.contains("[ENG-011] ") && said.contains("no data directory"), "{said}");
        assert!(!bench.data().exists());
    }
    // Without a command under `storage`: usage.
    assert_eq!(bench.storage(&[]).status.code(), Some(2));
}

#[test]
fn a_key_made_offline_is_put_to_use_by_the_next_start() {
    let bench = Bench::new();
    let a = bench.kek("a", KEK_A);
    let mut server = bench.start(&["--kek-file", &a]);
    set(server.address(), "k", b"v").unwrap();
    Connection::login(server.address()).unwrap().call(&Command::Save).unwrap().unwrap();
    let old = info(&server)["security.storage_key_id"].clone();
    assert!(server.stop("TERM").unwrap().success());

    let rotated = answer(&bench.storage(&["rotate-key", "--kek-file", &a]));
    assert_eq!((&rotated["previous_storage_key_id"], rotated["storage_key_count"].as_str()), (&old, "2"));
    server.restart().unwrap();
    // Nothing has been written that would call for a snapshot: the new key does.
    let snapshots = "metrics.vaylix.persistence.snapshot.completed.count";
    let info = until(&server, |info| info[snapshots] != "0");
    assert_eq!(info["security.storage_key_id"], rotated["storage_key_id"]);
    assert_eq!(info["security.storage_key_count"], "2");
    has(&server, "k", "v");
    server.kill().unwrap();
    let verified = answer(&bench.storage(&["verify", "--kek-file", &a]));
    let bytes = |key: &str| verified[&format!("storage_key.{key}.bytes")].parse::<u64>().unwrap();
    assert!(bytes(&rotated["storage_key_id"]) > 0 && bytes(&old) > 0, "{verified:?}");
    let old = uuid_bytes(&old);
    for file in ["snapshot.bin", "manifest.bin", "vote.bin"] {
        let content = fs::read(bench.data().join(file)).unwrap();
        assert!(!content.windows(16).any(|window| window == old), "{file} is still under the old key");
    }
    server.restart().unwrap();
    has(&server, "k", "v");
}

fn uuid_bytes(text: &str) -> Vec<u8> {
    vaylix_testkit::wire::unhex(&text.replace('-', "")).unwrap()
}

#[test]
fn snapshots_are_taken_by_the_clock() {
    let server = Server::start(&["--snapshot-interval-seconds", "1"]).unwrap();
    set(server.address(), "k", b"v").unwrap();
    let info = until(&server, |info| info["persistence.last_snapshot_at_ms"] != "none");
    assert_eq!(info["runtime.snapshot_interval_seconds"], "1");
    assert!(info["persistence.last_snapshot_duration_ms"].parse::<u64>().is_ok());
}

#[test]
fn snapshots_are_taken_by_the_size_of_the_log() {
    let server = Server::start(&["--snapshot-log-bytes", "65536"]).unwrap();
    for n in 0..200 {
        set(server.address(), &format!("k{n}"), &[b'v'; 512]).unwrap();
    }
    let snapshots = "metrics.vaylix.persistence.snapshot.completed.count";
    let info = until(&server, |info| info[snapshots] != "0");
    assert_eq!(info["runtime.snapshot_log_bytes"], "65536");

    let server = Server::start(&["--snapshot-log-bytes", "0"]).unwrap();
    assert_eq!(self::info(&server)["runtime.snapshot_log_bytes"], "disabled");
}

#[test]
fn a_snapshot_that_fails_is_shown_and_the_next_one_succeeds() {
    let server = Server::start(&[]).unwrap();
    let mut connection = Connection::login(server.address()).unwrap();
    set(server.address(), "k", b"1").unwrap();
    // A directory where the snapshot is prepared: it cannot be written there.
    let obstacle = server.data_dir().join("snapshot.bin.tmp");
    fs::create_dir(&obstacle).unwrap();
    let refusal = connection.call(&Command::Save).unwrap().unwrap_err();
    assert_eq!(refusal.code, "ENG-002");
    let failed = info(&server);
    assert_eq!(failed["persistence.snapshot_failure_count"], "1");
    assert!(failed["persistence.last_snapshot_failure_at_ms"].parse::<u64>().is_ok());
    assert_eq!(failed["persistence.last_snapshot_at_ms"], "none");
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(connection.call(&Command::Save).unwrap().unwrap(), Reply::Ok);
    assert_ne!(info(&server)["persistence.last_snapshot_at_ms"], "none");
    // One that went bad on disk does not stand in the way either.
    for file in ["snapshot.bin", "manifest.bin"] {
        fs::write(server.data_dir().join(file), b"garbage").unwrap();
        set(server.address(), "k", b"2").unwrap();
        assert_eq!(connection.call(&Command::Save).unwrap().unwrap(), Reply::Ok);
    }
    drop(connection);
    let mut server = server;
    server.kill().unwrap();
    server.restart().unwrap();
    has(&server, "k", "2");
}

#[test]
fn a_stop_signal_is_honoured_while_the_server_recovers() {
    let bench = Bench::new();
    let mut server = bench.start(&[]);
    set(server.address(), "k", b"v").unwrap();
    assert!(server.stop("TERM").unwrap().success());
    let vote = bench.data().join("vote.bin");
    let content = fs::read(&vote).unwrap();
    for signal in ["TERM", "INT"] {
        // A pipe in place of a file holds recovery up for ever, and tells when it has come there.
        fs::remove_file(&vote).unwrap();
        assert!(Program::new("mkfifo").arg(&vote).status().unwrap().success());
        let mut process = Process::spawn(server::command(&bench.data(), &[]).unwrap()).unwrap();
        let mut pipe = fs::OpenOptions::new().write(true).open(&vote).unwrap();
        process.signal(signal).unwrap();
        let status = process.wait().unwrap();
        assert!(status.success(), "{signal}: {status}");
        assert!(pipe.write_all(b"nobody reads").is_err(), "{signal}");
        fs::remove_file(&vote).unwrap();
        fs::write(&vote, &content).unwrap();
        fs::set_permissions(&vote, fs::Permissions::from_mode(0o600)).unwrap();
    }
    server.restart().unwrap();
    has(&server, "k", "v");
}
