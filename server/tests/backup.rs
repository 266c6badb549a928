//! Backup files through the real server: what it writes, what it restores, what it refuses, and what all of that
//! costs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vaylix_proto::{Code, Command, Dump, ErrorReply, Reply, SetOptions};
use vaylix_testkit::process::Process;
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Server, server};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/data/backups")
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(fixtures().join("expected-backups.json")).unwrap()).unwrap()
}

/// Copies a document and its manifest, if it has one, into the server's backup directory.
fn put(server: &Server, name: &str) {
    let backups = server.data_dir().join("backups");
    let from = fixtures().join(name);
    let file = from.file_name().unwrap().to_str().unwrap();
    fs::copy(&from, backups.join(file)).unwrap();
    let manifest = from.with_file_name(format!("{file}.manifest.json"));
    if manifest.exists() {
        fs::copy(manifest, backups.join(format!("{file}.manifest.json"))).unwrap();
    }
}

/// For a gibibyte, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(600);

/// A session, and the commands on backups.
struct Client(Connection);

impl Client {
    fn login(server: &Server) -> Self {
        Self(Connection::login_within(server.address(), PATIENCE).unwrap())
    }

    fn call(&mut self, command: &Command) -> Result<Reply, ErrorReply> {
        self.0.call(command).unwrap()
    }

    fn backup_to(&mut self, path: &str) -> Result<Reply, ErrorReply> {
        self.call(&Command::BackupTo { path: path.into() })
    }

    fn verify(&mut self, path: &str) -> Result<Reply, ErrorReply> {
        self.call(&Command::BackupVerify(Dump::File(path.into())))
    }

    fn check(&mut self, path: &str) -> Result<Reply, ErrorReply> {
        self.call(&Command::RestoreCheck(Dump::File(path.into())))
    }

    fn restore(&mut self, path: &str) -> Result<Reply, ErrorReply> {
        self.call(&Command::Restore(Dump::File(path.into())))
    }

    /// The entries of an inline backup.
    fn content(&mut self) -> Vec<Value> {
        let Reply::Value(document) = self.call(&Command::Backup).unwrap() else { panic!("no value") };
        let document: Value = serde_json::from_slice(&document).unwrap();
        document["entries"].as_array().unwrap().clone()
    }
}

fn code(result: Result<Reply, ErrorReply>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.known_code().unwrap().to_string(),
    }
}

fn entries(reply: Reply) -> BTreeMap<String, String> {
    let Reply::Entries(entries) = reply else { panic!("{reply:?}") };
    entries
        .into_iter()
        .map(|entry| (entry.name.to_string(), String::from_utf8(entry.value.to_vec()).unwrap()))
        .collect()
}

/// The content of a file that a test looks at as a whole.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn documents_of_the_public_release_arrive_byte_for_byte() {
    let server = Server::start(&[]).unwrap();
    let mut client = Client::login(&server);
    for accepted in expected()["accepted"].as_array().unwrap() {
        let file = accepted["file"].as_str().unwrap();
        put(&server, file);
        let verified: BTreeMap<String, String> =
            serde_json::from_value(accepted["backup_verify_from"].clone()).unwrap();
        assert_eq!(entries(client.verify(file).unwrap()), verified, "{file}");
        let count = |field: &str| Ok(Reply::Count(accepted[field].as_u64().unwrap()));
        client.call(&set_command("something else", "x")).unwrap();
        assert_eq!(client.check(file), count("restore_check_count"), "{file}");
        assert!(
            client.content().iter().any(|entry| entry["key"] == "something else"),
            "a check changed keys"
        );
        assert_eq!(client.restore(file), count("restore_count"), "{file}");

        let content: Vec<Value> = client
            .content()
            .into_iter()
            .map(|entry| {
                let key = entry["key"].as_str().unwrap();
                let Reply::Value(value) = client.call(&Command::Get { key: key.into() }).unwrap() else {
                    panic!("{key} has no value")
                };
                let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
                json!({"key": key, "value_hex": hex, "version": entry["version"],
                       "expires_at_ms": entry["expires_at_ms"]})
            })
            .collect();
        assert_eq!(Value::from(content), accepted["entries_after_restore"], "{file}");
    }
}

#[test]
fn documents_that_are_not_right_are_refused_and_change_nothing() {
    let server = Server::start(&[]).unwrap();
    let mut client = Client::login(&server);
    client.call(&set_command("k", "v")).unwrap();
    let before = client.content();
    let list = expected();
    let list = list["rejected"].as_object().unwrap();
    // Where the release accepts a file although something is wrong with it, we do not.
    let stricter = |file: &str, command: &str| match (file, command) {
        ("bad-base64.json", _) => Some("ENG-004"),
        ("wrong-digest.json" | "wrong-length.json", _) => Some("SRV-029"),
        ("manifest-version-2.json" | "manifest-other-hash.json", _) => Some("SRV-029"),
        _ => None,
    };
    let mut unverified = BTreeSet::new();
    for (file, answers) in list {
        put(&server, &format!("rejected/{file}"));
        for command in ["BackupVerifyFrom", "RestoreCheckFrom", "RestoreFrom"] {
            let answer = match command {
                "BackupVerifyFrom" => client.verify(file),
                "RestoreCheckFrom" => client.check(file),
                _ => client.restore(file),
            };
            let expected = stricter(file, command).unwrap_or_else(|| answers[command].as_str().unwrap());
            assert_eq!(code(answer), expected, "{file}: {command}");
            if expected == "accepted" {
                unverified.insert(file.clone());
                client.call(&Command::Clear).unwrap();
                client.call(&set_command("k", "v")).unwrap();
            }
        }
        assert_eq!(client.content(), before, "{file}");
    }
    // A document may come without a manifest; then it can be restored, but not verified.
    assert_eq!(unverified.into_iter().collect::<Vec<_>>(), ["no-manifest.json"]);
}

#[test]
fn a_backup_brings_everything_back() {
    let server = Server::start(&[]).unwrap();
    let mut client = Client::login(&server);
    let far = vaylix_proto::Expiration::Seconds(1_000_000);
    for n in 0..50u8 {
        let options = SetOptions { expiration: (n % 5 == 0).then_some(far), ..SetOptions::default() };
        let value = (0..=255).map(|byte: u8| byte.wrapping_mul(n)).collect::<Vec<_>>();
        for _ in 0..=n % 3 {
            let command = Command::Set { key: format!("k{n}").into(), value: value.clone().into(), options };
            client.call(&command).unwrap();
        }
    }
    let before = client.content();
    assert_eq!(client.backup_to("deep/er/x.json"), Ok(Reply::Ok));
    assert_eq!(client.check("deep/er/x.json"), Ok(Reply::Count(50)));
    client.call(&Command::Clear).unwrap();
    client.call(&set_command("later", "x")).unwrap();
    assert_eq!(client.restore("deep/er/x.json"), Ok(Reply::Count(50)));
    assert_eq!(client.content(), before);
    let absolute = server.data_dir().join("backups/deep/er/x.json");
    assert_eq!(client.check(absolute.to_str().unwrap()), Ok(Reply::Count(50)));
    // The same keys make the same document, but for its header.
    let entries = |document: &[u8]| {
        let text = String::from_utf8(document.to_vec()).unwrap();
        text.split_once(",\"entries\":").unwrap().1.to_owned()
    };
    client.backup_to("again.json").unwrap();
    let again = fs::read(server.data_dir().join("backups/again.json")).unwrap();
    assert_eq!(entries(&fs::read(absolute).unwrap()), entries(&again));
}

#[test]
fn a_restore_in_many_parts_is_one_step_and_survives_a_kill() {
    let mut server = Server::start(&[]).unwrap();
    let mut client = Client::login(&server);
    // Several times what goes into one log entry.
    let value = vec![7; 200_000];
    for n in 0..30 {
        client.call(&set_command(&format!("big{n}"), value.clone())).unwrap();
    }
    client.backup_to("big.json").unwrap();
    client.call(&Command::Clear).unwrap();
    client.call(&set_command("only", "this")).unwrap();
    // Whoever looks meanwhile sees all of the old or all of the new.
    let address = server.address();
    let restoring = std::thread::spawn(move || {
        let mut client = Client(Connection::login(address).unwrap());
        client.restore("big.json")
    });
    let mut counts = BTreeSet::new();
    while !restoring.is_finished() {
        let Reply::Count(count) = client.call(&Command::Count).unwrap() else { panic!("no count") };
        counts.insert(count);
    }
    assert_eq!(restoring.join().unwrap(), Ok(Reply::Count(30)));
    assert!(counts.is_subset(&BTreeSet::from([1, 30])), "{counts:?}");
    server.kill().unwrap();
    server.restart().unwrap();
    let mut client = Client::login(&server);
    assert_eq!(client.call(&Command::Count), Ok(Reply::Count(30)));
    assert_eq!(client.call(&Command::Get { key: "big29".into() }), Ok(Reply::Value(value.into())));
}

#[test]
fn a_kill_in_the_middle_of_a_restore_changes_nothing() {
    let mut server = Server::start(&[]).unwrap();
    let mut client = Client::login(&server);
    let value = vec![7; 200_000];
    for n in 0..60 {
        client.call(&set_command(&format!("big{n}"), value.clone())).unwrap();
    }
    client.backup_to("big.json").unwrap();
    client.call(&Command::Clear).unwrap();
    client.call(&set_command("only", "this")).unwrap();
    client.0.send(&Command::Restore(Dump::File("big.json".into()))).unwrap();
    client.0.flush().unwrap();
    // The restore is under way once its parts are in the log: other entries come in between.
    let mut other = Client::login(&server);
    for n in 0..5 {
        other.call(&set_command("only", format!("{n}"))).unwrap();
    }
    server.kill().unwrap();
    server.restart().unwrap();
    let mut client = Client::login(&server);
    let Reply::Count(count) = client.call(&Command::Count).unwrap() else { panic!("no count") };
    // Killed before the end, or after it, and never in between.
    assert!(count == 1 || count == 60 || count == 61, "{count} keys");
}

#[test]
fn paths_stay_inside_and_say_so() {
    let outside = TempDir::new().unwrap();
    let server = Server::start(&[]).unwrap();
    let mut client = Client::login(&server);
    let backups = server.data_dir().join("backups");
    symlink(outside.path(), backups.join("link")).unwrap();
    symlink(outside.path().join("x"), backups.join("file")).unwrap();
    let absolute = outside.path().join("new/x.json");
    for path in
        ["../x", "a/../x", "/etc/x.json", "link/x.json", "file", absolute.to_str().unwrap(), "../data2/x"]
    {
        let message = format!("backup path is outside the configured backup directory: {path}");
        for answer in [client.backup_to(path), client.verify(path), client.check(path), client.restore(path)]
        {
            let error = answer.unwrap_err();
            assert_eq!(error.known_code(), Some(Code::BackupPathRejected), "{path}: {error:?}");
            assert_eq!(error.message, message);
        }
    }
    for path in ["", "."] {
        assert_eq!(code(client.backup_to(path)), "SRV-027");
    }
    for answer in [client.verify("missing"), client.check("missing"), client.restore("no/where")] {
        assert_eq!(code(answer), "SRV-004");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&backups).unwrap().count(), 2);
}

#[test]
fn permissions_and_transactions() {
    let server = Server::start(&[]).unwrap();
    let mut admin = Client::login(&server);
    admin.backup_to("x.json").unwrap();
    let name = |text: &str| text.to_owned().into();
    for permission in ["backup", "restore"] {
        admin.call(&Command::CreateUser { user: name(permission), password: name("abcdefghijk1") }).unwrap();
        admin.call(&Command::CreateRole { role: name(permission) }).unwrap();
        let (role, pattern) = (name(permission), name("*"));
        admin.call(&Command::GrantPermission { permission: name(permission), pattern, role }).unwrap();
        admin.call(&Command::GrantRole { role: name(permission), user: name(permission) }).unwrap();
    }
    let login = |user: &str| {
        let mut client = Client(Connection::open(server.address()).unwrap());
        client.call(&Command::Auth { user: name(user), password: name("abcdefghijk1") }).unwrap();
        client
    };
    let answers = |client: &mut Client| {
        [
            client.backup_to("y.json"),
            client.verify("x.json"),
            client.check("x.json"),
            client.restore("x.json"),
        ]
        .map(code)
    };
    assert_eq!(answers(&mut login("backup")), ["accepted", "accepted", "SRV-017", "SRV-017"]);
    assert_eq!(answers(&mut login("restore")), ["SRV-017", "SRV-017", "accepted", "accepted"]);
    admin.call(&Command::Multi).unwrap();
    assert_eq!(answers(&mut admin), ["SRV-016"; 4]);
    admin.call(&Command::Discard).unwrap();
}

#[test]
fn a_backup_is_one_state_while_writes_go_on() {
    let server = Server::start(&[]).unwrap();
    let mut client = Client::login(&server);
    let value = vec![1; 100_000];
    for n in 0..50 {
        client.call(&set_command(&format!("ballast{n}"), value.clone())).unwrap();
    }
    let pair = |n: u32| {
        let value = || n.to_string().into_bytes().into();
        Command::MSet { pairs: vec![("a".into(), value()), ("z".into(), value())] }
    };
    client.call(&pair(0)).unwrap();
    let address = server.address();
    let backing_up = std::thread::spawn(move || {
        let mut client = Client(Connection::login(address).unwrap());
        for n in 0..5 {
            client.backup_to(&format!("{n}.json")).unwrap();
        }
    });
    let mut writes = 0;
    while !backing_up.is_finished() {
        writes += 1;
        client.call(&pair(writes)).unwrap();
    }
    backing_up.join().unwrap();
    // Each backup takes a good while; writes that waited for it would be few.
    assert!(writes > 5, "{writes} writes");
    for n in 0..5 {
        let document = fs::read(server.data_dir().join(format!("backups/{n}.json"))).unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        let value = |key: &str| {
            let entries = document["entries"].as_array().unwrap();
            entries.iter().find(|entry| entry["key"] == key).unwrap()["value_base64"].clone()
        };
        assert_eq!(value("a"), value("z"), "backup {n} tears a transaction");
    }
}

#[test]
fn the_backup_directory_can_be_anywhere_but_among_the_files_of_the_server() {
    let parent = TempDir::new().unwrap();
    let backups = parent.path().join("some/where");
    let data_dir = parent.path().join("data");
    let server = Server::start_in(&data_dir, &["--backup-dir", backups.to_str().unwrap()]).unwrap();
    let mut client = Client::login(&server);
    client.backup_to("x.json").unwrap();
    assert_eq!(files(&backups).keys().collect::<Vec<_>>(), ["x.json", "x.json.manifest.json"]);
    let info = entries(client.call(&Command::Info).unwrap());
    assert_eq!(info["runtime.backup_dir"], backups.to_str().unwrap());
    assert!(!data_dir.join("backups").exists());
    drop(server);

    let refused = data_dir.to_str().unwrap().to_owned();
    let mut process =
        Process::spawn(server::command(&data_dir, &["--backup-dir".into(), refused]).unwrap()).unwrap();
    let mut output = Vec::new();
    output.extend(std::iter::from_fn(|| process.next_line().unwrap()));
    assert_eq!(process.wait().unwrap().code(), Some(1));
    assert!(output.iter().any(|line| line.starts_with("[ENG-011]")), "{output:?}");
}

#[test]
fn what_a_killed_server_left_is_brought_to_an_end_at_the_next_start() {
    let mut server = Server::start(&[]).unwrap();
    let mut client = Client::login(&server);
    client.call(&set_command("k", "v")).unwrap();
    client.backup_to("x.json").unwrap();
    // What a killed server leaves: a document that nobody holds, and one whose manifest was not renamed.
    let backups = server.data_dir().join("backups");
    let before = files(&backups);
    server.kill().unwrap();
    fs::write(backups.join(".x.json.0123456789abcdef.next"), "half of a docu").unwrap();
    fs::rename(backups.join("x.json.manifest.json"), backups.join(".x.json.fedcba9876543210.next-manifest"))
        .unwrap();
    server.restart().unwrap();
    assert_eq!(files(&backups), before);
    assert!(Client::login(&server).verify("x.json").is_ok());
}

/// A figure of a process in bytes, as Linux tells it.
fn memory(server: &Server, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// How far the memory of the server grows above where it stands while something is done.
fn growth(server: &Server, action: impl FnOnce()) -> u64 {
    // Begins the peak anew.
    fs::write(format!("/proc/{}/clear_refs", server.id()), "5").unwrap();
    let before = memory(server, "VmRSS");
    action();
    memory(server, "VmHWM").saturating_sub(before)
}

/// MiB of live data: `VAYLIX_BACKUP_GIB` GiB, or little.
fn live_mib() -> u64 {
    std::env::var("VAYLIX_BACKUP_GIB").map_or(64, |text| text.parse::<u64>().unwrap() << 10)
}

/// Fills the server with `live_mib` MiB of values.
fn fill(client: &mut Client, live_mib: u64) {
    let value: Vec<u8> = (0..64 << 10).map(|n: u32| n.to_le_bytes()[0]).collect();
    for n in 0..live_mib * 16 {
        client.call(&set_command(&format!("key{n:08}"), value.clone())).unwrap();
    }
}

/// Fills a server with about `live_mib` MiB of values, backs it up, verifies and restores, and holds what that takes
/// against what it may take.
#[expect(clippy::print_stdout, reason = "the figures are of use where the test is run by hand")]
fn memory_stays_bounded(live_mib: u64) {
    /// Far less than the live data even where a test run is short.
    const ALLOWED: u64 = 32 << 20;
    let server = Server::start(&[]).unwrap();
    let mut client = Client::login(&server);
    fill(&mut client, live_mib);
    let live = live_mib << 20;
    let written = growth(&server, || drop(client.backup_to("big.json").unwrap()));
    let document = fs::metadata(server.data_dir().join("backups/big.json")).unwrap().len();
    assert!(document > live, "{document} bytes of document for {live} bytes of values");
    let verified = growth(&server, || drop(client.verify("big.json").unwrap()));
    let checked = growth(&server, || drop(client.check("big.json").unwrap()));
    let restored = growth(&server, || {
        assert_eq!(client.restore("big.json"), Ok(Reply::Count(live_mib * 16)));
    });
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{live_mib} MiB live: backup {} MiB, verify {} MiB, check {} MiB, restore {} MiB more at the peak",
        mib(written),
        mib(verified),
        mib(checked),
        mib(restored)
    );
    for (what, growth) in [("a backup", written), ("a verification", verified), ("a check", checked)] {
        assert!(growth <= ALLOWED, "{what} took {} MiB more", mib(growth));
    }
    // What is restored is there beside what it replaces, until it does.
    assert!(restored <= live + live / 4 + ALLOWED, "a restore took {} MiB more", mib(restored));
}

/// How much, `tests/slow` decides: the bound is the same.
#[test]
fn a_backup_takes_memory_for_a_few_entries_only() {
    memory_stays_bounded(live_mib());
}

/// There is nothing to keep beside what is restored, so that and a bounded rest is what it takes.
#[test]
fn a_restore_into_an_empty_server_takes_the_memory_of_what_it_restores() {
    const ALLOWED: u64 = 64 << 20;
    let live_mib = live_mib();
    let backups = TempDir::new().unwrap();
    let flags = ["--backup-dir", backups.path().to_str().unwrap()];
    {
        let full = Server::start(&flags).unwrap();
        let mut client = Client::login(&full);
        fill(&mut client, live_mib);
        client.backup_to("big.json").unwrap();
    }
    let empty = Server::start(&flags).unwrap();
    let mut client = Client::login(&empty);
    let restored = growth(&empty, || {
        assert_eq!(client.restore("big.json"), Ok(Reply::Count(live_mib * 16)));
    });
    println!("{live_mib} MiB into an empty server: {} MiB more at the peak", restored >> 20);
    assert!(restored <= (live_mib << 20) + ALLOWED, "a restore took {} MiB more", restored >> 20);
}
