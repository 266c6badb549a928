//! A disk that fills up, with real processes on a small file system in memory: writes are refused with a code, reads and
//! deletes go on, snapshots make room, and when there is space again everything works without a restart.
//!
//! Needs the right to mount; without it each test says so and passes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test that cannot run must say so")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vaylix_proto::{Command, ErrorReply, Reply};
use vaylix_testkit::Server;
use vaylix_testkit::wire::{Connection, set_command};

const VALUE_BYTES: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// A file system of limited size; unmounted when dropped.
struct Mount {
    parent: TempDir,
}

impl Mount {
    /// `None` where mounting is not permitted.
    fn new(mebibytes: u32) -> Option<Self> {
        let parent = TempDir::new().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0700"), "vaylix-test"])
            .arg(parent.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { parent }),
            Ok(output) => {
                println!(
                    "SKIPPED: no small file system could be mounted: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                None
            }
            Err(error) => {
                println!("SKIPPED: no small file system could be mounted: {error}");
                None
            }
        }
    }

    fn data_dir(&self) -> PathBuf {
        self.parent.path().join("data")
    }

    fn ballast(&self) -> PathBuf {
        self.parent.path().join("ballast")
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(self.ballast()).unwrap();
        let mut piece = 1 << 20;
        while piece > 0 {
            if file.write(&vec![1; piece]).is_err() {
                piece /= 2;
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("-l").arg(self.parent.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Bytes that do not compress and tell their number.
fn value(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = number.to_be_bytes().to_vec();
    while bytes.len() < VALUE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes
}

/// The files below a directory with their sizes.
fn tree(dir: &Path) -> String {
    let listing = std::process::Command::new("du").args(["-ab"]).arg(dir).output().unwrap();
    String::from_utf8(listing.stdout).unwrap()
}

fn call(connection: &mut Connection, command: &Command) -> Result<Reply, ErrorReply> {
    connection.call(command).unwrap()
}

fn put(connection: &mut Connection, key: &str, number: u64) -> Result<Reply, ErrorReply> {
    call(connection, &set_command(key, value(number)))
}

fn get(connection: &mut Connection, key: &str) -> Option<Vec<u8>> {
    match call(connection, &Command::Get { key: key.into() }).unwrap() {
        Reply::Value(value) => Some(value.to_vec()),
        Reply::NotFound => None,
        other => panic!("GET answered {other:?}"),
    }
}

fn health(connection: &mut Connection) -> BTreeMap<String, String> {
    match call(connection, &Command::Health).unwrap() {
        Reply::Entries(entries) => entries
            .into_iter()
            .map(|entry| (entry.name.to_string(), String::from_utf8(entry.value.to_vec()).unwrap()))
            .collect(),
        other => panic!("HEALTH answered {other:?}"),
    }
}

/// A refusal for want of space: nothing happened.
fn check_refusal(refusal: &ErrorReply) {
    assert_eq!(refusal.code, "ENG-002", "{refusal:?}");
    assert!(refusal.message.starts_with("engine failure: filesystem I/O failed: "), "{refusal:?}");
    assert!(refusal.message.contains("the write was not done"), "{refusal:?}");
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "still not so: {what}");
        std::thread::yield_now();
    }
}

/// Writes keys 0, 1, … until one is refused.
fn write_until_refused(connection: &mut Connection, from: u64) -> u64 {
    for number in from.. {
        match put(connection, &format!("key:{number}"), number) {
            Ok(Reply::Ok) => {}
            Ok(other) => panic!("SET answered {other:?}"),
            Err(refusal) => {
                check_refusal(&refusal);
                return number;
            }
        }
    }
    unreachable!("the disk is small")
}

#[test]
fn on_a_full_disk_reads_and_deletes_go_on_and_writes_work_again_when_there_is_space() {
    let Some(mount) = Mount::new(32) else { return };
    let mut server = Server::start_in(&mount.data_dir(), &[]).unwrap();
    let mut connection = Connection::login(server.address()).unwrap();
    for number in 0..40 {
        put(&mut connection, &format!("key:{number}"), number).unwrap();
    }
    // The snapshots that the server takes to help itself make room: somebody else takes that too.
    let mut written = 40;
    until("no room in spite of snapshots", || {
        mount.fill();
        written = write_until_refused(&mut connection, written);
        let health_now = health(&mut connection);
        let named = |name: &str| health_now[name].as_str();
        (named("ready"), named("status"), named("reason")) == ("false", "degraded", "disk_full")
            && put(&mut connection, "key:0", 0).is_err()
    });
    println!("{written} keys written in the end");
    for number in 0..written {
        assert_eq!(get(&mut connection, &format!("key:{number}")), Some(value(number)), "{number}");
    }
    assert_eq!(get(&mut connection, &format!("key:{written}")), None, "what was refused did not happen");
    mount.fill();
    for number in 0..10 {
        let deleted = call(&mut connection, &Command::Del { keys: vec![format!("key:{number}").into()] });
        assert_eq!(deleted, Ok(Reply::Count(1)), "{number}");
    }

    // A start finds the same, although there is no more space than before.
    mount.fill();
    server.kill().unwrap();
    server.restart().unwrap();
    let mut connection = Connection::login(server.address()).unwrap();
    for number in 0..written {
        let expected = (number >= 10).then(|| value(number));
        assert_eq!(get(&mut connection, &format!("key:{number}")), expected, "{number}");
    }
    let deleted = call(&mut connection, &Command::Del { keys: vec!["key:10".into()] });
    assert_eq!(deleted, Ok(Reply::Count(1)));

    mount.free();
    until("ready again", || health(&mut connection)["ready"] == "true");
    put(&mut connection, "key:0", 8).unwrap();
    assert_eq!(get(&mut connection, "key:0"), Some(value(8)));
    assert!(server.stop("TERM").unwrap().success());
}

#[test]
fn a_snapshot_makes_room_by_itself_and_on_demand() {
    let Some(mount) = Mount::new(32) else { return };
    let server = Server::start_in(&mount.data_dir(), &["--wal-segment-size-bytes", "4194304"]).unwrap();
    let mut connection = Connection::login(server.address()).unwrap();
    // Far more than fits, over few keys: whenever the log has taken all the space, a snapshot is taken.
    let (mut refused, mut number) = (0_u64, 0);
    let begun = Instant::now();
    while number < 1000 {
        assert!(begun.elapsed() < PATIENCE, "{number} written, {refused} refused");
        match put(&mut connection, &format!("key:{}", number % 10), number) {
            Ok(_) => number += 1,
            Err(refusal) => {
                check_refusal(&refusal);
                refused += 1;
                if refused % 2 == 0 {
                    // Nobody has to wait for it.
                    let saved = call(&mut connection, &Command::Save);
                    let on_disk = || tree(&mount.data_dir());
                    assert_eq!(saved, Ok(Reply::Ok), "{number} written, {refused} refused; {}", on_disk());
                }
            }
        }
    }
    println!("{number} values of {VALUE_BYTES} bytes on 32 MiB, {refused} refusals");
    assert!(refused > 0, "the disk was never full");
    for key in 0..10 {
        assert_eq!(get(&mut connection, &format!("key:{key}")), Some(value(990 + key)));
    }
}

/// What the writer of the next test knows of each of its keys.
#[derive(Clone, Copy, Default)]
struct Slot {
    tried: u64,
    acknowledged: u64,
}

#[derive(Default)]
struct Seen {
    written: AtomicU64,
    refused: AtomicU64,
}

const SLOTS: usize = 8;

fn write_until_gone(address: SocketAddr, slots: &Mutex<[Slot; SLOTS]>, next: &AtomicU64, seen: &Seen) {
    let Ok(mut connection) = Connection::login(address) else { return };
    loop {
        let number = next.fetch_add(1, Ordering::SeqCst) + 1;
        let at = usize::try_from(number).unwrap() % SLOTS;
        let before = std::mem::replace(&mut slots.lock().unwrap()[at].tried, number);
        match connection.call(&set_command(&format!("slot:{at}"), value(number))) {
            Ok(Ok(Reply::Ok)) => {
                slots.lock().unwrap()[at].acknowledged = number;
                seen.written.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Ok(other)) => panic!("SET answered {other:?}"),
            Ok(Err(refusal)) => {
                check_refusal(&refusal);
                slots.lock().unwrap()[at].tried = before;
                seen.refused.fetch_add(1, Ordering::SeqCst);
            }
            Err(_gone) => return,
        }
    }
}

/// When the process is killed.
const KILLS: [&str; 6] = [
    "while there is room",
    "while the disk fills up",
    "at the first refusal",
    "after many refusals",
    "as space comes back",
    "after writes work again",
];

#[test]
fn a_kill_at_any_moment_of_it_loses_nothing_acknowledged() {
    let Some(mount) = Mount::new(32) else { return };
    let flags = ["--wal-segment-size-bytes", "2097152"];
    let mut server = Server::start_in(&mount.data_dir(), &flags).unwrap();
    let slots = Arc::new(Mutex::new([Slot::default(); SLOTS]));
    let next = Arc::new(AtomicU64::new(0));
    for stage in 0..KILLS.len() {
        let seen = Arc::new(Seen::default());
        let writer = {
            let (address, slots, next, seen) =
                (server.address(), Arc::clone(&slots), Arc::clone(&next), Arc::clone(&seen));
            std::thread::spawn(move || write_until_gone(address, &slots, &next, &seen))
        };
        let reach = |counter: &AtomicU64, more: u64| {
            let from = counter.load(Ordering::SeqCst);
            until(KILLS[stage], || counter.load(Ordering::SeqCst) >= from + more || writer.is_finished());
        };
        reach(&seen.written, 5);
        if stage == 1 {
            let kill = || mount.fill();
            std::thread::scope(|scope| {
                scope.spawn(kill);
                server.kill().unwrap();
            });
        }
        let refused_times = [0, 0, 1, 50, 50, 50][stage];
        until(KILLS[stage], || {
            // Snapshots make room again and again: it is taken as often.
            if refused_times > 0 {
                mount.fill();
            }
            seen.refused.load(Ordering::SeqCst) >= refused_times || writer.is_finished()
        });
        if stage > 3 {
            mount.free();
        }
        if stage > 4 {
            reach(&seen.written, 5);
        }
        server.kill().unwrap();
        writer.join().unwrap();
        server.restart().unwrap_or_else(|error| panic!("killed {}: {error:#}", KILLS[stage]));
        let mut connection = Connection::login(server.address()).unwrap();
        for (at, slot) in slots.lock().unwrap().iter_mut().enumerate() {
            let found = get(&mut connection, &format!("slot:{at}"))
                .map_or(0, |value| u64::from_be_bytes(value[..8].try_into().unwrap()));
            assert!(
                found == slot.acknowledged || (found == slot.tried && found > slot.acknowledged),
                "killed {}: slot {at} holds {found}, acknowledged {}, tried {}",
                KILLS[stage],
                slot.acknowledged,
                slot.tried
            );
            *slot = Slot { tried: found, acknowledged: found };
        }
        if Path::exists(&mount.ballast()) {
            mount.free();
        }
        until("ready again", || health(&mut connection)["ready"] == "true");
    }
}
