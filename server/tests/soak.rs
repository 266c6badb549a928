//! Writes as fast as the server takes them, for a while: the directory of the log and the memory of the process stay
//! below bounds that follow from the settings, and after a kill everything acknowledged is there.
//!
//! `VAYLIX_SOAK_SECONDS` sets how long (default 5; 600 for the long version).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever runs the long version")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vaylix_proto::{Command, Reply};
use vaylix_testkit::Server;
use vaylix_testkit::wire::{Connection, set_command};

const MIB: u64 = 1 << 20;
const WRITERS: usize = 8;
/// Keys each writer goes around.
const KEYS: usize = 500;
/// Writes each writer has on the way at once.
const DEPTH: usize = 32;
const VALUE_BYTES: usize = 1024;

const SEGMENT_BYTES: u64 = 2 * MIB;
const SEGMENTS_RETAINED: u64 = 2;
/// Log after which a snapshot is due.
const SNAPSHOT_LOG_BYTES: u64 = 16 * MIB;
/// The log reaches back to what the last snapshot covers: what has come since, which calls for the next snapshot, and
/// what comes while that one is written; at most as much again, since 4 MiB of data are written faster than 16 MiB of log.
/// Then the retained segments, the active one, a spare one, and one more because records are let go by whole segments.
const LOG_BYTES_MAX: u64 = 2 * SNAPSHOT_LOG_BYTES + (SEGMENTS_RETAINED + 3) * SEGMENT_BYTES;
/// The newest records that the log keeps in memory (`wal::Config::tail_bytes_max`).
const LOG_TAIL_BYTES: u64 = 16 * MIB;
/// What the writers' logins take at first: 19 MiB for each password, which the threads that hashed them keep for a while.
const LOGIN_BYTES: u64 = 64 * MIB;
/// Twice the live data, twice the tail of the log, since memory comes in blocks of its own sizes, the logins, and
/// 128 MiB.
const MEMORY_BYTES_MAX: u64 =
    2 * (WRITERS * KEYS * VALUE_BYTES) as u64 + 2 * LOG_TAIL_BYTES + LOGIN_BYTES + 128 * MIB;
/// Memory that the second half of a long run may take beyond the first: it does not grow with what is written.
const GROWTH_BYTES_MAX: u64 = 16 * MIB;

/// From here on the first half is long enough to warm up in.
const SECONDS_LONG: u64 = 60;

/// Time between two looks at the sizes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a writer knows of one of its keys.
#[derive(Clone, Copy, Default)]
struct Slot {
    sent: u64,
    acknowledged: u64,
}

fn key(writer: usize, at: usize) -> String {
    format!("w{writer}:{at}")
}

/// Writes ever larger numbers until told to end, or until the connection breaks.
fn write(server: SocketAddr, writer: usize, slots: &mut [Slot], end: &AtomicBool) -> u64 {
    let mut connection = Connection::login(server).unwrap();
    let mut number = 0;
    let mut batch = Vec::with_capacity(DEPTH);
    while !end.load(Ordering::Relaxed) {
        for _ in 0..DEPTH {
            number += 1;
            let at = usize::try_from(number).unwrap() % KEYS;
            let command = set_command(&key(writer, at), format!("{number:0VALUE_BYTES$}"));
            slots[at].sent = number;
            connection.send(&command).unwrap();
            batch.push((at, number, command));
        }
        if connection.flush().is_err() {
            break;
        }
        for (at, number, command) in batch.drain(..) {
            match connection.receive(&command) {
                Ok(answer) => assert_eq!(answer, Ok(Reply::Ok)),
                Err(_) => return number,
            }
            slots[at].acknowledged = number;
        }
    }
    number
}

/// The files of the log together.
fn log_bytes(data_dir: &Path) -> u64 {
    let entries = fs::read_dir(data_dir.join("wal")).unwrap();
    // One that has gone since it was listed takes no room.
    entries.filter_map(|entry| entry.unwrap().metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Resident memory of a process.
fn memory_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line about memory");
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

fn check(server: &Server, slots: &[Vec<Slot>]) {
    let mut connection = Connection::login(server.address()).unwrap();
    for (writer, slots) in slots.iter().enumerate() {
        for (at, slot) in slots.iter().enumerate() {
            let found = match connection.call(&Command::Get { key: key(writer, at).into() }).unwrap() {
                Ok(Reply::Value(value)) => std::str::from_utf8(&value).unwrap().parse().unwrap(),
                Ok(Reply::NotFound) => 0,
                other => panic!("GET answered {other:?}"),
            };
            assert!((slot.acknowledged..=slot.sent).contains(&found), "{}: {found}", key(writer, at));
        }
    }
}

#[test]
fn the_log_and_the_memory_are_bounded_however_long_it_writes() {
    let seconds = std::env::var("VAYLIX_SOAK_SECONDS").map_or(5, |n| n.parse().expect("a number of seconds"));
    let settings = [
        ("--wal-segment-size-bytes", SEGMENT_BYTES),
        ("--wal-retain-segments", SEGMENTS_RETAINED),
        ("--snapshot-log-bytes", SNAPSHOT_LOG_BYTES),
    ]
    .map(|(name, value)| [name.to_owned(), value.to_string()]);
    let mut flags: Vec<&str> = settings.as_flattened().iter().map(String::as_str).collect();
    // What is kept for restores has a bound of its own, which minutes of writing do not reach.
    flags.extend(["--pitr-retain-seconds", "0"]);
    let mut server = Server::start(&flags).unwrap();
    let (address, process) = (server.address(), server.id());

    let end = AtomicBool::new(false);
    let mut slots = vec![vec![Slot::default(); KEYS]; WRITERS];
    let (mut log_max, mut memory_max, mut memory_max_halfway) = (0, 0, 0);
    let begun = Instant::now();
    let writes: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = slots
            .iter_mut()
            .enumerate()
            .map(|(writer, slots)| {
                let end = &end;
                scope.spawn(move || write(address, writer, slots, end))
            })
            .collect();
        while begun.elapsed() < Duration::from_secs(seconds) && writers.iter().all(|w| !w.is_finished()) {
            log_max = log_max.max(log_bytes(server.data_dir()));
            memory_max = memory_max.max(memory_bytes(process));
            if begun.elapsed() < Duration::from_secs(seconds) / 2 {
                memory_max_halfway = memory_max;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let outlived = begun.elapsed() >= Duration::from_secs(seconds);
        let snapshots = snapshots(address);
        // In the midst of it all, with writes on the way.
        server.kill().unwrap();
        end.store(true, Ordering::Relaxed);
        let writes = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        assert!(outlived, "a writer ended before its time");
        println!("{seconds} s, {writes} writes of {VALUE_BYTES} bytes, {snapshots} snapshots");
        writes
    });
    println!("log: {log_max} bytes at most, of {LOG_BYTES_MAX}");
    println!(
        "memory: {memory_max} bytes at most, of {MEMORY_BYTES_MAX}; {memory_max_halfway} in the first half"
    );
    assert!(log_max <= LOG_BYTES_MAX, "{log_max} bytes of log, of {LOG_BYTES_MAX}");
    assert!(memory_max <= MEMORY_BYTES_MAX, "{memory_max} bytes of memory, of {MEMORY_BYTES_MAX}");
    if seconds >= SECONDS_LONG {
        let growth = memory_max - memory_max_halfway;
        assert!(growth <= GROWTH_BYTES_MAX, "memory grows: {growth} bytes");
    }
    assert!(log_max > SNAPSHOT_LOG_BYTES / 2, "{writes} writes are too few to show anything");

    server.restart().unwrap();
    check(&server, &slots);
}

fn snapshots(server: SocketAddr) -> String {
    let answer = Connection::login(server).unwrap().call(&Command::Info).unwrap().unwrap();
    let Reply::Entries(entries) = answer else { panic!("INFO answers entries") };
    let name = "metrics.vaylix.persistence.snapshot.completed.count";
    let entry = entries.iter().find(|entry| entry.name == name).unwrap();
    String::from_utf8(entry.value.to_vec()).unwrap()
}
