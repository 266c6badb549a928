//! Followers are lost, links are slow, everything is restarted.

use std::time::{Duration, Instant};

use vaylix_proto::Command;
use vaylix_testkit::wire::Connection;
use vaylix_testkit::{Link, Party};

use crate::trial::{PATIENCE, Trial, WRITES_BETWEEN, rounds};

/// Bad logins, more than the server allows within its window.
const BAD_LOGINS: u32 = 15;

/// Most that a node that is told to stop, or started again, may interrupt writes, its own time for that included.
const RESTART_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 3_000 } else { 1_000 });

/// Most that a cluster which was killed as a whole may take to serve again.
const WHOLE_RESTART_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 10 });

#[test]
#[ignore = "long: tests/slow runs it"]
fn a_cut_off_follower_comes_back_without_disturbing() {
    let mut trial = Trial::start("follower cut off", 3);
    for _ in 0..rounds() {
        let leader = trial.leader();
        let follower = (leader + 1) % 3;
        trial.interrupt(|cluster| cluster.network().isolate(follower, Link::Drop));
        // Longer than it takes to stand for election.
        let cut_off = Instant::now();
        while cut_off.elapsed() < Duration::from_secs(2) {
            trial.load.await_writes(WRITES_BETWEEN, PATIENCE).unwrap();
        }
        trial.interrupt(|cluster| cluster.network().heal());
        trial.settle();
        assert_eq!(trial.leader(), leader, "a follower that comes back takes nobody's place");
    }
    trial.judge();
}

#[test]
#[ignore = "long: tests/slow runs it"]
fn slow_and_lossy_links_only_slow_things_down() {
    let mut trial = Trial::start("slow links", 3);
    let kinds = [
        Link::Delay(Duration::from_millis(20)),
        Link::Bandwidth(500_000),
        Link::Lossy { one_in: 50, stall: Duration::from_millis(200) },
    ];
    for _ in 0..rounds() {
        for kind in kinds {
            trial.interrupt(|cluster| cluster.network().set_between_nodes(kind));
            trial.load.await_writes(WRITES_BETWEEN, PATIENCE).unwrap();
        }
        trial.interrupt(|cluster| cluster.network().heal());
        trial.settle();
        // One direction of one link: the leader's word arrives late, the answer does not.
        for kind in kinds {
            let leader = trial.leader();
            let follower = (leader + 1) % 3;
            trial.interrupt(|cluster| {
                cluster.network().set(Party::Node(leader), Party::Node(follower), kind);
            });
            trial.load.await_writes(WRITES_BETWEEN, PATIENCE).unwrap();
            trial.interrupt(|cluster| cluster.network().heal());
        }
        trial.settle();
    }
    trial.judge();
}

#[test]
#[ignore = "long: tests/slow runs it"]
fn nodes_are_restarted_one_after_the_other() {
    let mut trial = Trial::start("rolling restart", 3);
    for _ in 0..rounds() {
        for node in 0..3 {
            trial.interrupt(|cluster| assert!(cluster.stop(node).unwrap().success()));
            trial.interrupt(|cluster| cluster.start_node(node).unwrap());
            trial.settle();
        }
    }
    let slowest = trial.interruptions.iter().max().copied().unwrap();
    assert!(slowest <= RESTART_MAX, "writes were interrupted for {slowest:?}");
    trial.judge();
}

#[test]
fn all_nodes_are_killed_at_once() {
    let mut trial = Trial::start("all nodes killed", 3);
    for _ in 0..rounds() {
        trial.interrupt(|cluster| {
            (0..3).for_each(|node| cluster.kill(node).unwrap());
            (0..3).for_each(|node| cluster.start_node(node).unwrap());
        });
        trial.settle();
    }
    let slowest = trial.interruptions.iter().max().copied().unwrap();
    trial.judge();
    assert!(slowest <= WHOLE_RESTART_MAX, "writes were interrupted for {slowest:?}");
}

#[test]
#[ignore = "long: tests/slow runs it"]
fn five_nodes_survive_two() {
    let mut trial = Trial::start("two of five nodes killed", 5);
    for _ in 0..rounds() {
        let leader = trial.leader();
        let lost = [leader, (leader + 2) % 5];
        trial.interrupt(|cluster| lost.iter().for_each(|node| cluster.kill(*node).unwrap()));
        trial.cluster.await_other_leader(leader, PATIENCE).unwrap();
        trial.load.await_writes(WRITES_BETWEEN, PATIENCE).unwrap();
        lost.iter().for_each(|node| trial.cluster.start_node(*node).unwrap());
        trial.settle();
    }
    trial.judge();
}

/// The user whose name nodes have is locked out everywhere; elections are no business of users.
#[test]
#[ignore = "long: tests/slow runs it"]
fn bad_passwords_keep_no_node_from_being_elected() {
    // The workload's own user must not be locked out.
    let flags = ["--replication-user", "replication"];
    let mut trial = Trial::start_with("bad passwords", 3, &flags);
    for _ in 0..rounds() {
        let leader = trial.leader();
        for user in ["replication", "nobody"] {
            for node in 0..3 {
                for _ in 0..BAD_LOGINS {
                    let mut attacker = Connection::open(trial.cluster.addresses()[node]).unwrap();
                    let auth = Command::Auth { user: user.into(), password: "wrong".into() };
                    let refusal = attacker.call(&auth).unwrap().unwrap_err();
                    assert!(["SRV-008", "SRV-017", "SRV-031"].contains(&&*refusal.code), "{refusal}");
                }
            }
        }
        trial.interrupt(|cluster| cluster.kill(leader).unwrap());
        trial.cluster.await_other_leader(leader, PATIENCE).unwrap();
        trial.cluster.start_node(leader).unwrap();
        trial.settle();
    }
    trial.judge();
}
