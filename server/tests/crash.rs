//! Kills the server outright under load, again and again: what was acknowledged is there afterwards, and the
//! node always starts.
//!
//! `VAYLIX_CRASH_ROUNDS` sets the number of kills (default 6).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever runs the long version")]

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use vaylix_proto::{Command, Reply};
use vaylix_testkit::Server;
use vaylix_testkit::wire::{Connection, set_command};

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
            slots[at].sent = *next;
            connection.send(&command).unwrap();
            batch.push((at, *next, command));
        }
        if connection.flush().is_err() {
            return;
        }
        for (at, number, command) in batch {
            match connection.receive(&command) {
                Ok(Ok(Reply::Ok)) => slots[at].acknowledged = number,
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

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let rounds = std::env::var("VAYLIX_CRASH_ROUNDS").map_or(6, |n| n.parse().expect("a number of rounds"));
    let mut server = Server::start(&["--wal-segment-size-bytes", "262144"]).unwrap();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut slots = vec![[Slot::default(); SLOTS]; WRITERS];
    let mut next = [0u64; WRITERS];
    let mut acknowledged_writes = 0;
    for round in 0..rounds {
        let address = server.address();
        let before: u64 = next.iter().sum();
        std::thread::scope(|scope| {
            let (started, first) = mpsc::channel();
            for (writer, (slots, next)) in slots.iter_mut().zip(&mut next).enumerate() {
                let started = started.clone();
                scope.spawn(move || write(address, writer, slots, next, &started));
            }
            drop(started);
            first.recv().expect("a first acknowledged write");
            // Not synchronisation: the moment of the kill is what varies.
            std::thread::sleep(Duration::from_millis(dice.roll(60)));
            server.kill().unwrap();
        });
        acknowledged_writes += next.iter().sum::<u64>() - before;
        server.restart().unwrap_or_else(|e| panic!("round {round}: no start after a kill: {e:#}"));
        let mut connection = Connection::login(server.address()).unwrap();
        for (writer, slots) in slots.iter_mut().enumerate() {
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
    println!("{rounds} kills under load, about {acknowledged_writes} writes, nothing acknowledged lost");
}
