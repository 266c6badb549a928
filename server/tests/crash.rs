//! Kills the server outright, again and again: under load, during a snapshot, while it stops and while it starts. What
//! was acknowledged is there afterwards, what was refused is not, and the node always starts.
//!
//! `VAYLIX_CRASH_ROUNDS` sets the number of rounds of each test (default 6 under load, 3 elsewhere).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever runs the long version")]

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;
use vaylix_proto::{Code, Command, Reply};
use vaylix_testkit::process::Process;
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Server, server};

const WRITERS: usize = 6;
/// Keys each writer goes around.
const SLOTS: usize = 40;
/// Writes each writer has on the way at once.
const DEPTH: usize = 4;

/// What one writer knows of one of its keys.
#[derive(Clone, Copy, Default)]
struct Slot {
    sent: u64,
    acknowledged: u64,
}

/// A xorshift generator: the kills fall at other moments each round, the same ones in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Writes ever larger numbers until the connection breaks; sends a note when its first write is acknowledged.
fn write(server: SocketAddr, writer: usize, slots: &mut [Slot], next: &mut u64, started: &mpsc::Sender<()>) {
    let Ok(mut connection) = Connection::login(server) else { return };
    let mut noted = false;
    loop {
        let mut batch = Vec::with_capacity(DEPTH);
        for _ in 0..DEPTH {
            *next += 1;
            let at = usize::try_from(*next).unwrap() % SLOTS;
            let command = set_command(&key(writer, at), next.to_string());
            let before = std::mem::replace(&mut slots[at].sent, *next);
            connection.send(&command).unwrap();
            batch.push((at, *next, before, command));
        }
        if connection.flush().is_err() {
            return;
        }
        for (at, number, before, command) in batch {
            match connection.receive(&command) {
                Ok(Ok(Reply::Ok)) => slots[at].acknowledged = number,
                // Only a server that is stopping refuses. What it refuses, it has not done.
                Ok(Err(error)) if error.code == Code::EngineWorkerClosed.code() => slots[at].sent = before,
                Ok(Err(error)) if error.code == Code::ReplicationAcknowledgementUnavailable.code() => {}
                Ok(other) => panic!("SET answered {other:?}"),
                Err(_) => return,
            }
        }
        if !noted {
            noted = true;
            // The receiver goes away once the kill is decided.
            let _ = started.send(());
        }
    }
}

fn key(writer: usize, at: usize) -> String {
    format!("w{writer}:{at}")
}

fn rounds(default: u32) -> u32 {
    std::env::var("VAYLIX_CRASH_ROUNDS").map_or(default, |n| n.parse().expect("a number of rounds"))
}

/// What all writers know.
struct Load {
    slots: [[Slot; SLOTS]; WRITERS],
    next: [u64; WRITERS],
}

impl Load {
    fn new() -> Self {
        Self { slots: [[Slot::default(); SLOTS]; WRITERS], next: [0; WRITERS] }
    }

    /// Writes until `end` has ended the server; it is called once writes are being acknowledged.
    fn run_until(&mut self, server: &mut Server, end: impl FnOnce(&mut Server)) {
        let address = server.address();
        std::thread::scope(|scope| {
            let (started, first) = mpsc::channel();
            for (writer, (slots, next)) in self.slots.iter_mut().zip(&mut self.next).enumerate() {
                let started = started.clone();
                scope.spawn(move || write(address, writer, slots, next, &started));
            }
            drop(started);
            first.recv().expect("a first acknowledged write");
            end(server);
        });
    }

    /// Compares what is known with what the server has.
    fn check(&mut self, server: &Server, round: u32) {
        let mut connection = Connection::login(server.address()).unwrap();
        for (writer, slots) in self.slots.iter_mut().enumerate() {
            for (at, slot) in slots.iter_mut().enumerate() {
                let found = match connection.call(&Command::Get { key: key(writer, at).into() }).unwrap() {
                    Ok(Reply::Value(value)) => std::str::from_utf8(&value).unwrap().parse().unwrap(),
                    Ok(Reply::NotFound) => 0,
                    other => panic!("GET answered {other:?}"),
                };
                assert!(
                    (slot.acknowledged..=slot.sent).contains(&found),
                    "round {round}: {} is {found}, acknowledged {}, sent {}",
                    key(writer, at),
                    slot.acknowledged,
                    slot.sent
                );
                // What survived is settled now, acknowledged or not.
                *slot = Slot { sent: found, acknowledged: found };
            }
        }
    }

    fn writes(&self) -> u64 {
        self.next.iter().sum()
    }
}

fn restart(server: &mut Server, round: u32) {
    server.restart().unwrap_or_else(|e| panic!("round {round}: no start after a kill: {e:#}"));
}

/// Lets a random time pass. Not synchronisation: the moment of the kill is what varies.
fn linger(dice: &mut Dice, ms_max: u64) {
    std::thread::sleep(Duration::from_micros(dice.roll(ms_max * 1000)));
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let rounds = rounds(6);
    let mut server = Server::start(&["--wal-segment-size-bytes", "262144"]).unwrap();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut load = Load::new();
    for round in 0..rounds {
        load.run_until(&mut server, |server| {
            linger(&mut dice, 60);
            server.kill().unwrap();
        });
        restart(&mut server, round);
        load.check(&server, round);
    }
    println!("{rounds} kills under load, about {} writes, nothing acknowledged lost", load.writes());
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed_while_it_takes_a_snapshot() {
    let rounds = rounds(3);
    let mut server = Server::start(&["--wal-segment-size-bytes", "262144"]).unwrap();
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut load = Load::new();
    for round in 0..rounds {
        load.run_until(&mut server, |server| {
            let address = server.address();
            std::thread::scope(|scope| {
                let (started, first) = mpsc::channel();
                scope.spawn(move || {
                    let mut connection = Connection::login(address).unwrap();
                    let _ = started.send(());
                    // Snapshots one after the other, until the connection breaks.
                    while let Ok(saved) = connection.call(&Command::Save) {
                        saved.unwrap();
                    }
                });
                first.recv().unwrap();
                linger(&mut dice, 60);
                server.kill().unwrap();
            });
        });
        restart(&mut server, round);
        load.check(&server, round);
    }
    println!("{} kills during snapshots, about {} writes, nothing acknowledged lost", rounds, load.writes());
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed_while_it_stops() {
    let rounds = rounds(3);
    let mut server = Server::start(&["--wal-segment-size-bytes", "262144"]).unwrap();
    let mut dice = Dice(0xd1b5_4a32_d192_ed03);
    let mut load = Load::new();
    for round in 0..rounds {
        load.run_until(&mut server, |server| {
            linger(&mut dice, 20);
            server.signal("TERM").unwrap();
            linger(&mut dice, 120);
            server.kill().unwrap();
        });
        restart(&mut server, round);
        load.check(&server, round);
    }
    println!("{rounds} kills during stops, about {} writes, nothing acknowledged lost", load.writes());
}

#[test]
fn a_start_that_is_killed_leaves_a_directory_that_starts() {
    let rounds = rounds(3);
    let mut dice = Dice(0x94d0_49bb_1331_11eb);
    for round in 0..rounds {
        let parent = TempDir::new().unwrap();
        let data_dir = parent.path().join("data");
        let flags = ["--wal-segment-size-bytes", "65536"].map(str::to_owned);
        let mut load = Load::new();
        // First on a fresh directory, then on one with a log.
        for _ in 0..2 {
            for _ in 0..=dice.roll(3) {
                let mut process = Process::spawn(server::command(&data_dir, &flags).unwrap()).unwrap();
                // The first milliseconds have the most steps in them.
                let ms_max = 1 + dice.roll(400);
                linger(&mut dice, ms_max);
                process.kill().unwrap();
            }
            let mut server = Server::start_in(&data_dir, &["--wal-segment-size-bytes", "65536"])
                .unwrap_or_else(|e| panic!("round {round}: no start after a killed one: {e:#}"));
            load.check(&server, round);
            load.run_until(&mut server, |server| server.kill().unwrap());
        }
    }
    println!("{rounds} directories whose starts were killed, all of them start");
}
