//! The leader is lost, in every way in which a leader can be lost.

use std::time::Duration;

use vaylix_proto::{Command, Reply};
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Cluster, Link, Party, Stall, wait};

use crate::trial::{PATIENCE, Trial, entries, rounds, setting};

/// Most that a leader's loss may interrupt writes. In debug builds on a busy machine several elections may be needed.
const FAILOVER_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 5 });

/// The same where the leader has to notice for itself that it is stuck: one and a half of the longest election times
/// more.
const STUCK_FAILOVER_MAX: Duration = FAILOVER_MAX.saturating_add(Duration::from_millis(1_500));

/// Each round breaks what `fault` breaks about the leader, expects another leader and writes soon, repairs it, and
/// expects everything to work again.
fn lose_the_leader<T>(
    trial: &mut Trial,
    fault: impl Fn(&mut Cluster, usize) -> T,
    repair: impl Fn(&mut Cluster, usize, T),
) {
    for _ in 0..rounds() {
        let leader = trial.leader();
        let broken = trial.interrupt(|cluster| fault(cluster, leader));
        trial.cluster.await_other_leader(leader, PATIENCE).unwrap();
        repair(&mut trial.cluster, leader, broken);
        trial.settle();
    }
}

/// Judges a trial in which no interruption may have been longer than this.
fn judge_within(trial: Trial, longest: Duration) {
    let slowest = trial.interruptions.iter().max().copied().unwrap();
    trial.judge();
    assert!(slowest <= longest, "writes were interrupted for {slowest:?}");
}

fn kill(cluster: &mut Cluster, leader: usize) {
    cluster.kill(leader).unwrap();
}

fn start(cluster: &mut Cluster, leader: usize, (): ()) {
    cluster.start_node(leader).unwrap();
}

fn heal(cluster: &mut Cluster, _: usize, (): ()) {
    cluster.network().heal();
}

#[test]
fn the_leader_is_killed() {
    let mut trial = Trial::start("leader killed", 3);
    lose_the_leader(&mut trial, kill, start);
    judge_within(trial, FAILOVER_MAX);
}

/// Where a node listens says nothing about where it is.
#[test]
#[ignore = "long: tests/slow runs it"]
fn the_leader_is_killed_and_all_nodes_listen_on_every_address() {
    let flags = ["--bind", "0.0.0.0", "--user", "vaylix", "--password", "vaylix"];
    let mut trial = Trial::start_with("leader killed, all on 0.0.0.0", 3, &flags);
    lose_the_leader(&mut trial, kill, start);
    let leader = trial.leader();
    let seen = trial.cluster.status(leader).unwrap();
    for node in 0..3 {
        let address = seen.get(&format!("member.{}.advertise_addr", vaylix_testkit::cluster::name(node)));
        assert_eq!(address, trial.cluster.addresses()[node].to_string());
    }
    judge_within(trial, FAILOVER_MAX);
}

#[test]
fn the_leader_is_frozen() {
    let mut trial = Trial::start("leader frozen", 3);
    lose_the_leader(
        &mut trial,
        |cluster, leader| cluster.freeze(leader).unwrap(),
        |cluster, leader, ()| cluster.thaw(leader).unwrap(),
    );
    judge_within(trial, FAILOVER_MAX);
}

/// Its process works, its connections work, and no sync ends.
#[test]
fn the_leaders_disk_hangs() {
    let mut trial = Trial::start("leader's disk hangs", 3);
    lose_the_leader(
        &mut trial,
        |cluster, leader| cluster.stall(leader).unwrap(),
        |_, _, stall: Stall| stall.end().unwrap(),
    );
    judge_within(trial, STUCK_FAILOVER_MAX);
}

#[test]
fn the_leader_is_cut_off_from_the_other_nodes() {
    let mut trial = Trial::start("leader cut off", 3);
    lose_the_leader(&mut trial, |cluster, leader| cluster.network().isolate(leader, Link::Drop), heal);
    judge_within(trial, FAILOVER_MAX);
}

/// Connections between it and the others are broken in the middle of whatever they carry, again and again.
#[test]
#[ignore = "long: tests/slow runs it"]
fn connections_of_the_leader_are_reset() {
    let mut trial = Trial::start("leader's connections reset", 3);
    lose_the_leader(&mut trial, |cluster, leader| cluster.network().isolate(leader, Link::Reset), heal);
    for _ in 0..5 * rounds() {
        trial.interrupt(|cluster| {
            cluster.network().set_between_nodes(Link::Reset);
            cluster.network().heal();
        });
    }
    trial.settle();
    judge_within(trial, FAILOVER_MAX);
}

fn others(leader: usize) -> impl Iterator<Item = usize> {
    (0..3).filter(move |node| *node != leader)
}

#[test]
#[ignore = "long: tests/slow runs it"]
fn the_leader_is_not_heard_or_hears_nothing() {
    let mut trial = Trial::start("leader not heard, or hears nothing", 3);
    lose_the_leader(
        &mut trial,
        |cluster, leader| {
            for other in others(leader) {
                cluster.network().set(Party::Node(leader), Party::Node(other), Link::Drop);
            }
        },
        heal,
    );
    // The other way round it keeps speaking, but hears no acknowledgement.
    lose_the_leader(
        &mut trial,
        |cluster, leader| {
            for other in others(leader) {
                cluster.network().set(Party::Node(other), Party::Node(leader), Link::Drop);
            }
        },
        heal,
    );
    judge_within(trial, STUCK_FAILOVER_MAX);
}

/// A leader, back after a crash, gets a long log from the next one; that one dies as soon as it leads. Nothing that was
/// acknowledged may go, and two of three nodes are enough.
#[test]
#[ignore = "long: tests/slow runs it"]
fn two_leaders_in_a_row_are_killed() {
    let mut trial = Trial::start("two leaders killed", 3);
    let mut writer = Connection::login(trial.cluster.addresses()[trial.leader()]).unwrap();
    for entry in 0..setting("VAYLIX_FAULT_ENTRIES", 500) {
        let command = set_command(&format!("entry:{entry}"), "x");
        assert_eq!(writer.call(&command).unwrap(), Ok(Reply::Ok));
    }
    for _ in 0..rounds() {
        let first = trial.leader();
        trial.interrupt(|cluster| cluster.kill(first).unwrap());
        trial.cluster.start_node(first).unwrap();
        let second = trial.cluster.await_other_leader(first, PATIENCE).unwrap();
        trial.interrupt(|cluster| cluster.kill(second).unwrap());
        trial.cluster.start_node(second).unwrap();
        trial.settle();
    }
    let leader = trial.leader();
    let mut reader = Connection::login(trial.cluster.addresses()[leader]).unwrap();
    for entry in 0..setting("VAYLIX_FAULT_ENTRIES", 500) {
        let read = reader.call(&Command::Get { key: format!("entry:{entry}").into() }).unwrap();
        assert_eq!(read, Ok(Reply::Value("x".into())), "entry {entry}");
    }
    judge_within(trial, FAILOVER_MAX);
}

/// What a leader has in its log and no majority has is shown by no command, on no node; and in the end it is everywhere
/// or nowhere.
#[test]
fn what_was_not_acknowledged_is_seen_by_nobody() {
    let flags = ["--replication-ack-timeout-ms", "500"];
    let trial = Trial::start_with("writes without a majority", 3, &flags);
    for round in 0..rounds() {
        let leader = trial.leader();
        let key = format!("unacknowledged:{round}");
        let mut writer = Connection::login(trial.cluster.addresses()[leader]).unwrap();
        let mut readers: Vec<_> = (0..3)
            .map(|node| Connection::login_within(trial.cluster.addresses()[node], PATIENCE).unwrap())
            .collect();
        trial.cluster.network().isolate(leader, Link::Drop);
        let refusal = writer.call(&set_command(&key, "x")).unwrap().unwrap_err();
        assert!(["SRV-036", "SRV-037"].contains(&&*refusal.code), "{refusal}");
        let next = trial.cluster.await_other_leader(leader, PATIENCE).unwrap();
        wait::within("it steps down", PATIENCE, || {
            (trial.cluster.status(leader)?.get("ready") == "false").then_some(())
        })
        .unwrap();
        for (node, reader) in readers.iter_mut().enumerate() {
            for command in [
                Command::Get { key: key.as_str().into() },
                Command::Exists { key: key.as_str().into() },
                Command::List,
                Command::Backup,
            ] {
                let shown = match reader.call(&command).unwrap() {
                    Ok(Reply::Value(bytes)) => contains(&bytes, key.as_bytes()) || &*bytes == b"x",
                    Ok(Reply::Entries(entries)) => entries.iter().any(|entry| entry.name == *key),
                    Ok(Reply::Count(count)) => count > 0,
                    Ok(Reply::Bool(exists)) => exists,
                    Ok(Reply::NotFound) => false,
                    Ok(other) => panic!("{command:?} answered {other:?}"),
                    Err(refusal) => {
                        assert!(["SRV-036", "SRV-037"].contains(&&*refusal.code), "{refusal}");
                        false
                    }
                };
                assert!(!shown, "{command:?} shows it on node {node}; {leader} led, {next} leads");
            }
        }
        trial.cluster.network().heal();
        trial.settle();
        let dump = entries(&trial.cluster, leader).to_string();
        assert!(!dump.contains(&format!("\"{key}\"")), "another leader has been elected without it");
    }
    trial.judge();
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
