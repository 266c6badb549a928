//! The subcommands, with the real binary: looking at data directories, verifying them, restoring the past, health checks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use vaylix_proto::{Command, ErrorReply, Reply};
use vaylix_testkit::wire::{Connection, set};
use vaylix_testkit::{Server, binary, server};

/// What a program said and how it ended.
struct Outcome {
    stdout: String,
    stderr: String,
    status: Option<i32>,
}

/// Runs `vaylix` with these arguments and nothing configured by the surroundings but `environment`.
fn vaylix_with(arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let mut command = std::process::Command::new(binary::SERVER.path().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VAYLIX_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    let output = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    Outcome {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        status: output.status.code(),
    }
}

fn vaylix(arguments: &[&str]) -> Outcome {
    vaylix_with(arguments, &[])
}

impl Outcome {
    /// The pairs that it printed, in order. It must have succeeded.
    #[track_caller]
    fn pairs(&self) -> Vec<(String, String)> {
        assert_eq!((self.status, &*self.stderr), (Some(0), ""), "{}", self.stdout);
        let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.stdout.lines().map(|line| pair(line).expect("key=value")).collect()
    }

    #[track_caller]
    fn get(&self, key: &str) -> String {
        let found = self.pairs().into_iter().find(|(found, _)| found == key);
        found.unwrap_or_else(|| panic!("no {key} in\n{}", self.stdout)).1
    }

    #[track_caller]
    fn refused(&self, start: &str, part: &str) {
        assert_eq!((self.status, &*self.stdout), (Some(1), ""), "{}", self.stderr);
        assert!(self.stderr.starts_with(start) && self.stderr.contains(part), "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every file below a directory with its content, but for the lock.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

const INSPECTION: [&str; 12] = [
    "snapshot_present",
    "storage_format_version",
    "snapshot_size_bytes",
    "last_snapshot_sequence",
    "last_snapshot_at_ms",
    "wal_segment_count",
    "sealed_wal_segment_count",
    "active_wal_segment_count",
    "active_wal_start_sequence",
    "oldest_retained_sequence",
    "newest_sequence",
    "wal_size_bytes",
];

fn login(server: &Server, user: &str, password: &str) -> Result<Connection, ErrorReply> {
    let mut connection = Connection::open(server.address()).unwrap();
    let command = Command::Auth { user: user.into(), password: password.into() };
    connection.call(&command).unwrap().map(|_| connection)
}

fn get(server: &Server, key: &str) -> Option<Vec<u8>> {
    let mut connection = Connection::login(server.address()).unwrap();
    match connection.call(&Command::Get { key: key.into() }).unwrap().unwrap() {
        Reply::Value(value) => Some(value.to_vec()),
        Reply::NotFound => None,
        other => panic!("{other:?}"),
    }
}

/// The last log entry, as `INFO` says it.
fn sequence(server: &Server) -> u64 {
    let mut connection = Connection::login(server.address()).unwrap();
    let Ok(Reply::Entries(entries)) = connection.call(&Command::Info).unwrap() else { panic!("no entries") };
    let entry = entries.iter().find(|entry| entry.name == "storage.last_applied_sequence").unwrap();
    std::str::from_utf8(&entry.value).unwrap().parse().unwrap()
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn run(server: &Server, command: &Command) {
    Connection::login(server.address()).unwrap().call(command).unwrap().unwrap();
}

fn create_user(name: &str) -> Command {
    Command::CreateUser { user: name.into(), password: "correct-horse-7".into() }
}

/// A server that was written to in three phases with a snapshot after each of the first two, then stopped. Where each
/// phase ended: log entry and time.
fn with_a_past() -> (TempDir, PathBuf, Vec<(u64, u64)>) {
    let parent = TempDir::new().unwrap();
    let data_dir = parent.path().join("data");
    let mut server = Server::start_in(&data_dir, &[]).unwrap();
    let mut phases = Vec::new();
    for phase in 1..=3 {
        set(server.address(), "phase", format!("{phase}").as_bytes()).unwrap();
        set(server.address(), &format!("key{phase}"), b"value").unwrap();
        run(&server, &create_user(&format!("user{phase}")));
        phases.push((sequence(&server), now_ms()));
        // The next phase is stamped later.
        while now_ms() <= phases.last().unwrap().1 {
            std::hint::spin_loop();
        }
        if phase < 3 {
            run(&server, &Command::Save);
        }
    }
    assert!(server.stop("TERM").unwrap().success());
    (parent, data_dir, phases)
}

#[test]
fn what_nodes_share_is_made_once_and_serves_them() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("new/shared");
    let named = dir.to_str().unwrap();
    let arguments = ["provision", "--dir", named, "--tls-host", "n1", "--tls-host", "n2"];
    let made = vaylix(&arguments);
    assert_eq!(made.get("cluster_secret"), format!("{named}/cluster-secret"));
    assert_eq!(made.get("certificate.n2"), format!("{named}/n2.pem"));
    let secret = std::fs::read_to_string(dir.join("cluster-secret")).unwrap();
    assert_eq!(secret.trim_end().len(), 64, "{secret}");
    let contents = || {
        let files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    let before = contents();
    assert_eq!(before.len(), 6, "{:?}", before.keys());
    for path in before.keys() {
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert_eq!(vaylix(&arguments).pairs(), made.pairs());
    assert_eq!(contents(), before, "kept");

    // Each host has the other's trust.
    for host in ["n1", "n2"] {
        let files = [format!("{named}/ca.pem"), format!("{named}/{host}.pem")];
        let mut openssl = std::process::Command::new("openssl");
        let verified = openssl
            .args(["verify", "-verify_hostname", host, "-CAfile", &files[0], &files[1]])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }

    // Another host later would need the key of the authority.
    let more = ["provision", "--dir", named, "--tls-host", "n3"];
    vaylix(&more)
        .refused("[SRV-030]", "n3.pem is missing, and the key of the authority beside it was not kept");
    assert_eq!(contents(), before);
    for bad in ["../n3", "ca", "", ".n3"] {
        assert_eq!(vaylix(&["provision", "--dir", named, "--tls-host", bad]).status, Some(2), "{bad}");
    }
    let file = dir.join("ca.pem");
    vaylix(&["provision", "--dir", file.to_str().unwrap()]).refused("[SRV-004]", "ca.pem");
}

#[test]
fn any_moment_of_the_past_is_restored_and_served() {
    let (parent, data_dir, phases) = with_a_past();
    let before = files(&data_dir);
    let last = phases[2].0;

    let inspected = vaylix(&["pitr", "inspect", "--data-dir", text(&data_dir)]);
    let keys: Vec<_> = inspected.pairs().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys[..12], INSPECTION);
    assert_eq!(inspected.get("oldest_restorable_sequence"), "1");
    assert!(inspected.get("newest_restorable_sequence").parse::<u64>().unwrap() >= last);
    assert_eq!(inspected.get("last_snapshot_sequence"), inspected.get("newest_restorable_sequence"));
    assert_ne!(inspected.get("older_snapshot_count"), "0");

    let verified = vaylix(&["storage", "verify", "--data-dir", text(&data_dir)]);
    let keys: Vec<_> = verified.pairs().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys[..12], INSPECTION);
    // The lock holds nothing, and the audit log has a command of its own.
    let others = ["LOCK", "audit.log"].map(|name| data_dir.join(name));
    let bytes: usize =
        before.iter().filter(|(path, _)| !others.contains(path)).map(|(_, content)| content.len()).sum();
    assert_eq!(verified.get("verified_bytes"), bytes.to_string());
    let under_keys = verified.pairs().into_iter().filter(|(key, _)| key.starts_with("storage_key."));
    let under_keys: u64 = under_keys.map(|(_, bytes)| bytes.parse::<u64>().unwrap()).sum();
    let keyring = before[&data_dir.join("keyring.bin")].len();
    assert_eq!(under_keys, (bytes - keyring) as u64);

    for (nth, (entry, time_ms)) in (1..).zip(&phases) {
        for (how, value) in [("--to-sequence", *entry), ("--to-timestamp-ms", *time_ms)] {
            let target = parent.path().join(format!("restored-{nth}{how}"));
            let value = value.to_string();
            let (source, into) = (text(&data_dir), text(&target));
            let restored =
                vaylix(&["pitr", "restore", "--source-dir", source, "--target-dir", into, how, &value]);
            assert_eq!(restored.get("restored_sequence"), entry.to_string(), "{how} {nth}");
            let found = vaylix(&["storage", "verify", "--data-dir", into]);
            assert_eq!(found.get("last_snapshot_sequence"), entry.to_string());
            assert_eq!(found.get("active_wal_start_sequence"), (entry + 1).to_string());
            assert_eq!(found.get("wal_segment_count"), "1");

            let mut server = Server::start_in(&target, &[]).unwrap();
            assert!(sequence(&server) > *entry, "numbering goes on");
            assert_eq!(get(&server, "phase"), Some(format!("{nth}").into_bytes()));
            for phase in 1..=3 {
                let there = phase <= nth;
                assert_eq!(get(&server, &format!("key{phase}")).is_some(), there, "key{phase} as of {nth}");
                let user = login(&server, &format!("user{phase}"), "correct-horse-7");
                assert_eq!(user.is_ok(), there, "user{phase} as of {nth}");
            }
            // It is a server like any other: what it takes on survives a crash.
            set(server.address(), "after", b"kept").unwrap();
            server.kill().unwrap();
            server.restart().unwrap();
            assert_eq!(get(&server, "after"), Some(b"kept".to_vec()));
            assert_ne!(
                std::fs::read(target.join("vote.bin")).unwrap(),
                std::fs::read(data_dir.join("vote.bin")).unwrap()
            );
        }
    }
    assert_eq!(files(&data_dir), before, "the source was changed");
}

#[test]
fn what_can_be_restored_by_time_is_said_and_what_came_before_is_refused() {
    let begun_ms = now_ms();
    let (parent, data_dir, phases) = with_a_past();
    let inspected = vaylix(&["pitr", "inspect", "--data-dir", text(&data_dir)]);
    let at = |key: &str| inspected.get(key).parse::<u64>().unwrap();
    let (oldest, newest) = (at("oldest_restorable_at_ms"), at("newest_restorable_at_ms"));
    // The first change is the administrator.
    assert!((begun_ms..=phases[0].1).contains(&oldest), "{}", inspected.stdout);
    assert!((phases[1].1..=phases[2].1).contains(&newest), "{}", inspected.stdout);
    let dates = ["oldest_restorable_at", "newest_restorable_at"].map(|key| inspected.get(key));
    assert!(dates.iter().all(|date| date.len() == 24 && date.starts_with("20") && date.ends_with('Z')));

    let target = parent.path().join("restored");
    let restore = |timestamp_ms: u64| {
        let (source, into) = (text(&data_dir), text(&target));
        let wanted = timestamp_ms.to_string();
        let how = "--to-timestamp-ms";
        vaylix(&["pitr", "restore", "--source-dir", source, "--target-dir", into, how, &wanted])
    };
    let refused = "[ENG-012] Restore Point Unavailable: engine failure: restore point is unavailable: ";
    let window =
        format!("the oldest restorable time is {oldest} ({}), the newest {newest} ({})", dates[0], dates[1]);
    for early in [0, 1, oldest - 1, phases[0].1 / 1000] {
        restore(early).refused(refused, &window);
    }
    restore(phases[0].1 / 1000).refused(refused, "timestamps are in milliseconds");
    assert!(!target.exists());
    restore(oldest).pairs();
    assert!(target.exists());
}

#[test]
fn only_damage_in_what_is_restored_matters() {
    let (parent, data_dir, phases) = with_a_past();
    let newest =
        files(&data_dir.join("wal")).into_keys().filter(|path| path.extension().is_some_and(|e| e == "wal"));
    let start = |path: &PathBuf| {
        let name =
            path.file_name().unwrap().to_str().unwrap().split(['-', '.']).find_map(|part| part.parse().ok());
        name.unwrap_or(0_u64)
    };
    let newest = newest.max_by_key(start).unwrap();
    // The snapshots would do without it.
    for name in ["snapshot.bin", "manifest.bin"] {
        std::fs::remove_file(data_dir.join(name)).unwrap();
    }
    std::fs::remove_dir_all(data_dir.join("snapshots")).unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let at = bytes.iter().rposition(|byte| *byte != 0).unwrap() - 200;
    bytes[at] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let before = files(&data_dir);

    let verified = vaylix(&["storage", "verify", "--data-dir", text(&data_dir)]);
    verified.refused("[ENG-007] ", text(&newest));
    let inspected = vaylix(&["pitr", "inspect", "--data-dir", text(&data_dir)]);
    assert_eq!(inspected.status, Some(0));
    assert!(inspected.stderr.contains(text(&newest)), "{}", inspected.stderr);
    let restore = |target: &Path, sequence: u64| {
        let (source, into, wanted) = (text(&data_dir), text(target), sequence.to_string());
        vaylix(&["pitr", "restore", "--source-dir", source, "--target-dir", into, "--to-sequence", &wanted])
    };
    let target = parent.path().join("restored");
    let restored = restore(&target, phases[1].0);
    assert_eq!(restored.status, Some(0), "{}", restored.stderr);
    assert!(restored.stdout.contains(&format!("restored_sequence={}\n", phases[1].0)), "{}", restored.stdout);
    assert!(restored.stderr.contains("is damaged behind what is restored"), "{}", restored.stderr);
    let server = Server::start_in(&target, &[]).unwrap();
    assert_eq!(get(&server, "phase"), Some(b"2".to_vec()));
    restore(&parent.path().join("more"), 1_000).refused("[ENG-007] ", text(&newest));
    assert_eq!(files(&data_dir), before);
}

/// A server is killed, and somebody cuts the segment that it was writing.
#[test]
fn what_is_left_of_a_cut_segment_is_restored() {
    let mut server = Server::start(&[]).unwrap();
    for n in 0..40 {
        set(server.address(), &format!("k{n}"), &[b'x'; 700]).unwrap();
    }
    let whole = sequence(&server);
    let data_dir = server.data_dir().to_owned();
    server.kill().unwrap();
    let active = files(&data_dir)
        .into_keys()
        .find(|path| path.file_name().is_some_and(|name| name.to_str().unwrap().starts_with("active-")))
        .unwrap();
    let segment = std::fs::OpenOptions::new().write(true).open(&active).unwrap();
    segment.set_len(512 * 30).unwrap();
    let before = files(&data_dir);

    let path = text(&data_dir);
    vaylix(&["storage", "verify", "--data-dir", path])
        .refused("[ENG-014]", "the segment was cut: it has 15360 bytes");
    let inspected = vaylix(&["pitr", "inspect", "--data-dir", path]);
    assert_eq!(inspected.status, Some(0), "{}", inspected.stderr);
    assert!(inspected.stderr.contains("the segment was cut"), "{}", inspected.stderr);
    let newest =
        inspected.stdout.lines().find_map(|line| line.strip_prefix("newest_restorable_sequence=")).unwrap();
    let newest: u64 = newest.parse().unwrap();
    assert!((5..whole).contains(&newest), "{newest} of {whole}");

    let target = TempDir::new().unwrap();
    let restored = target.path().join("restored");
    let arguments = |sequence: u64| -> Vec<String> {
        let flags =
            ["pitr", "restore", "--source-dir", path, "--target-dir", text(&restored), "--to-sequence"];
        flags.iter().map(|flag| (*flag).to_owned()).chain([sequence.to_string()]).collect()
    };
    let restore = |sequence| {
        let arguments = arguments(sequence);
        vaylix(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(restore(newest + 1).status, Some(1));
    let done = restore(newest);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    assert_eq!(files(&data_dir), before, "nothing of the source was touched");
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let refused = |environment: &[(&str, &str)], arguments: &[&str]| {
        let outcome = vaylix_with(arguments, environment);
        assert_eq!(outcome.status, Some(2), "{}", outcome.stderr);
        outcome.stderr
    };
    let told = refused(&[("VAYLIX_PORT", "x")], &[]);
    assert!(told.contains("for 'VAYLIX_PORT, the same as --port <PORT>'"), "{told}");
    let told = refused(&[("VAYLIX_LOG_REQUESTS", "yes")], &[]);
    assert!(told.contains("VAYLIX_LOG_REQUESTS"), "{told}");
    let told = refused(&[("VAYLIX_HEALTHCHECK_TIMEOUT_MS", "0")], &["healthcheck"]);
    assert!(told.contains("VAYLIX_HEALTHCHECK_TIMEOUT_MS"), "{told}");
    let told = refused(&[("VAYLIX_PORT", "1")], &["--port", "x"]);
    assert!(told.contains("for '--port <PORT>'") && !told.contains("VAYLIX_PORT"), "{told}");
}

#[test]
fn retention_decides_what_can_be_restored() {
    let (parent, data_dir, phases) = with_a_past();
    let target = parent.path().join("restored");
    // A snapshot under a server that keeps nothing lets go of what others kept.
    let flags = ["--pitr-retain-seconds", "0", "--wal-retain-segments", "0"];
    let mut server = Server::start_in(&data_dir, &flags).unwrap();
    set(server.address(), "phase", b"4").unwrap();
    run(&server, &Command::Save);
    let baseline = sequence(&server);
    assert!(server.stop("TERM").unwrap().success());
    let inspected = vaylix(&["pitr", "inspect", "--data-dir", text(&data_dir)]);
    assert_eq!(inspected.get("older_snapshot_count"), "0");
    assert_eq!(inspected.get("oldest_restorable_sequence"), baseline.to_string());

    let restore = |how: &str, value: u64| {
        let (source, into) = (text(&data_dir), text(&target));
        vaylix(&["pitr", "restore", "--source-dir", source, "--target-dir", into, how, &value.to_string()])
    };
    let (entry, time_ms) = phases[2];
    let unavailable = "[ENG-012] Restore Point Unavailable: engine failure: restore point is unavailable: ";
    restore("--to-sequence", entry)
        .refused(unavailable, &format!("sequence {entry} is older than snapshot baseline {baseline}"));
    restore("--to-timestamp-ms", time_ms).refused(unavailable, "is older than snapshot baseline");
    restore("--to-sequence", 1_000_000)
        .refused(unavailable, "sequence 1000000 is outside retained WAL history");
    assert!(!target.exists() && std::fs::read_dir(parent.path()).unwrap().count() == 1, "nothing is left");
    assert_eq!(restore("--to-timestamp-ms", u64::MAX).status, Some(0), "everything");
}

#[test]
fn what_cannot_be_done_is_refused_by_code_and_nothing_is_touched() {
    let parent = TempDir::new().unwrap();
    let missing = parent.path().join("missing");
    for command in [["storage", "verify"], ["storage", "migrate"], ["pitr", "inspect"]] {
        let outcome = vaylix(&[command[0], command[1], "--data-dir", text(&missing)]);
        outcome.refused("[ENG-002] Filesystem I/O Failure: engine failure: ", "missing");
        let empty = parent.path().join("empty");
        std::fs::create_dir_all(&empty).unwrap();
        let outcome = vaylix(&[command[0], command[1], "--data-dir", text(&empty)]);
        outcome.refused("[ENG-011] Invalid Storage Operation: engine failure: ", "empty");
        assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
    }
    assert!(!missing.exists());

    let data_dir = parent.path().join("data");
    let mut server = Server::start_in(&data_dir, &[]).unwrap();
    set(server.address(), "k", b"v").unwrap();
    for command in [["storage", "verify"], ["storage", "migrate"], ["pitr", "inspect"]] {
        let outcome = vaylix(&[command[0], command[1], "--data-dir", text(&data_dir)]);
        outcome.refused("[ENG-011] Invalid Storage Operation: ", "in use by another running server");
    }
    assert!(server.stop("TERM").unwrap().success());

    let source = text(&data_dir);
    let restore = |target: &Path, more: &[&str]| {
        let arguments = ["pitr", "restore", "--source-dir", source, "--target-dir", text(target)];
        vaylix(&[&arguments[..], more].concat())
    };
    let before = files(&data_dir);
    let target = parent.path().join("target");
    restore(&target, &[])
        .refused("[SRV-030] Invalid Arguments: ", "pitr restore requires --to-sequence or --to-timestamp-ms");
    assert_eq!(restore(&target, &["--to-sequence", "1", "--to-timestamp-ms", "1"]).status, Some(2));
    restore(&data_dir, &["--to-sequence", "1"])
        .refused("[ENG-011] ", "source and target data directories must differ");
    restore(&data_dir.join("wal/inner"), &["--to-sequence", "1"]).refused("[ENG-011] ", "inside");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("mine"), b"mine").unwrap();
    restore(&target, &["--to-sequence", "1"]).refused("[ENG-011] ", "not empty");
    assert_eq!(std::fs::read(target.join("mine")).unwrap(), b"mine");
    restore(&parent.path().join("other"), &["--to-sequence", "0"]).refused("[ENG-012] ", "sequence 0");

    let migrated = vaylix(&["storage", "migrate", "--data-dir", source]);
    assert_eq!(migrated.status, Some(0));
    assert!(migrated.stderr.contains("nothing had to be migrated"), "{}", migrated.stderr);
    assert_eq!(migrated.stdout.lines().count(), INSPECTION.len());
    assert_eq!(files(&data_dir), before);

    // The log of the public release, beside ours or alone.
    std::fs::write(data_dir.join("wal.log"), b"").unwrap();
    let alone = parent.path().join("theirs");
    std::fs::create_dir(&alone).unwrap();
    std::fs::write(alone.join("wal.log"), b"theirs").unwrap();
    for directory in [&data_dir, &alone] {
        let untouched = files(directory);
        for arguments in [["storage", "verify"], ["storage", "migrate"], ["pitr", "inspect"]] {
            let outcome = vaylix(&[arguments[0], arguments[1], "--data-dir", text(directory)]);
            outcome.refused("[ENG-010] Storage Migration Required: ", "wal.log");
        }
        let started = server::command(directory, &[]).unwrap().output().unwrap();
        assert_eq!(started.status.code(), Some(1));
        assert!(String::from_utf8(started.stderr).unwrap().starts_with("[ENG-010] "));
        assert_eq!(files(directory), untouched);
    }
}

#[test]
fn verify_names_the_damage_and_leaves_it() {
    let (_parent, data_dir, _) = with_a_past();
    for (path, good) in files(&data_dir) {
        // The lock, and the mark of the newest segment, which is a name.
        if path.ends_with("LOCK") || good.is_empty() {
            continue;
        }
        let mut bad = good.clone();
        let at = bad.len() / 2;
        bad[at] ^= 4;
        std::fs::write(&path, &bad).unwrap();
        if path.ends_with("audit.log") {
            let outcome = vaylix(&["audit", "verify", "--data-dir", text(&data_dir)]);
            outcome.refused("[SRV-028] Audit Chain Verification Failure: ", "line ");
        } else {
            let outcome = vaylix(&["storage", "verify", "--data-dir", text(&data_dir)]);
            outcome.refused("[ENG-", text(&path));
        }
        assert_eq!(std::fs::read(&path).unwrap(), bad);
        std::fs::write(&path, &good).unwrap();
    }
    assert_eq!(vaylix(&["storage", "verify", "--data-dir", text(&data_dir)]).status, Some(0));
}

/// Asks for the health of what listens at `address`.
fn healthcheck(address: SocketAddr, arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let port = address.port().to_string();
    vaylix_with(&[&["healthcheck", "--port", &port], arguments].concat(), environment)
}

#[test]
fn health_is_asked_for_by_those_who_may() {
    let server = Server::start(&[]).unwrap();
    let at = server.address();
    let fine = |outcome: Outcome| assert_eq!(outcome.pairs(), []);
    fine(healthcheck(at, &[], &[]));
    fine(healthcheck(at, &["--kind", "readiness", "--user", "vaylix", "--password", "vaylix"], &[]));
    let readiness = [("VAYLIX_HEALTHCHECK_KIND", "readiness")];
    let known = [readiness[0], ("VAYLIX_USER", "vaylix"), ("VAYLIX_PASSWORD", "vaylix")];
    fine(healthcheck(at, &[], &known));
    let port = at.port().to_string();
    fine(vaylix_with(&["healthcheck"], &[("VAYLIX_PORT", &port)]));

    let failed = "[SRV-039] Healthcheck Failed: ";
    healthcheck(at, &[], &readiness).refused(failed, "readiness probe returned status Error");
    healthcheck(at, &[], &readiness).refused(failed, "give --user and --password");
    let wrong = ["--kind", "readiness", "--user", "vaylix", "--password", "wrong"];
    healthcheck(at, &wrong, &[]).refused(failed, "authentication probe returned status Error");
    healthcheck(at, &["--kind", "readiness", "--user", "vaylix"], &[])
        .refused("[SRV-030] ", "healthcheck authentication requires both username and password");
    assert_eq!(vaylix_with(&["healthcheck"], &[("VAYLIX_PORT", "x")]).status, Some(2));

    // Nobody listens; somebody listens and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    healthcheck(silent, &["--timeout-ms", "300"], &[]).refused(failed, "300 ms");
    drop(listener);
    healthcheck(silent, &[], &[])
        .refused(failed, &format!("failed to connect to {silent}: Connection refused"));
    healthcheck(silent, &["--host", "no-such-host.invalid"], &[]).refused(failed, "failed to resolve");

    let open = Server::start(&["--disable-auth"]).unwrap();
    fine(healthcheck(open.address(), &["--kind", "readiness"], &[]));
}
