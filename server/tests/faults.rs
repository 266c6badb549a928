//! Breaks things under load and checks that nobody noticed more than a pause: crashes, frozen processes, cut and slow
//! links, restarts.
//!
//! Clients read and write the same few keys at once through everything, and `vaylix-checker` judges what they saw:
//! what was acknowledged is there, what was refused is not, and every answer fits one order of all operations.
//!
//! `VAYLIX_FAULT_ROUNDS` sets how often each test breaks things (default 2; more for the long version).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever runs the long version")]

use std::time::Duration;

use serde_json::Value;
use vaylix_proto::{Command, Reply};
use vaylix_testkit::wire::Connection;
use vaylix_testkit::workload::Running;
use vaylix_testkit::{Cluster, Link, Party, Workload, wait};

/// For everything that has to happen at all; debug builds on a busy machine are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most that a leader's loss may interrupt writes, in debug builds on a busy machine.
const FAILOVER_MAX: Duration = Duration::from_secs(10);

/// Writes that must be acknowledged before the next thing is broken.
const WRITES_BETWEEN: u64 = 100;

/// How long the checker may take.
const CHECK_LIMIT: Duration = Duration::from_secs(120);

fn rounds() -> u32 {
    std::env::var("VAYLIX_FAULT_ROUNDS").map_or(2, |rounds| rounds.parse().expect("a number of rounds"))
}

/// A cluster under load, and how long each fault kept writers waiting.
struct Trial {
    name: &'static str,
    cluster: Cluster,
    load: Running,
    interruptions: Vec<Duration>,
}

impl Trial {
    fn start(name: &'static str, nodes: usize) -> Self {
        let cluster = Cluster::start(nodes, &[]).unwrap();
        cluster.await_leader(PATIENCE).unwrap();
        let load = Workload::new(cluster.addresses()).start().unwrap();
        load.await_writes(WRITES_BETWEEN, PATIENCE).unwrap();
        Self { name, cluster, load, interruptions: Vec::new() }
    }

    fn leader(&self) -> usize {
        self.cluster.await_leader(PATIENCE).unwrap()
    }

    /// Breaks something and waits until a write that began afterwards is acknowledged.
    fn interrupt(&mut self, fault: impl FnOnce(&mut Cluster)) {
        let moment = self.load.now();
        fault(&mut self.cluster);
        let interruption = self.load.await_write_after(moment, PATIENCE).unwrap();
        self.interruptions.push(interruption);
    }

    /// Waits until everything works as if nothing had happened.
    fn settle(&self) {
        self.cluster.await_caught_up(PATIENCE).unwrap();
        self.load.await_writes(WRITES_BETWEEN, PATIENCE).unwrap();
    }

    /// Ends the load and judges it.
    fn judge(mut self) {
        let record = self.load.finish(PATIENCE).unwrap();
        let report = vaylix_checker::check(&record.history, CHECK_LIMIT);
        assert!(report.is_linearizable(), "{}: {report}", self.name);
        same_everywhere(&self.cluster);

        self.interruptions.sort_unstable();
        let at = |percent: usize| {
            self.interruptions.get(
                (self.interruptions.len() * percent / 100).min(self.interruptions.len().saturating_sub(1)),
            )
        };
        print!("{}: {report}", self.name);
        println!("  not acknowledged: {:?}", record.refusals);
        if let (Some(p50), Some(p99)) = (at(50), at(99)) {
            println!("  {} interruptions: p50 {p50:.0?}, p99 {p99:.0?}", self.interruptions.len());
        }
    }
}

/// After everything has settled, all nodes hold the same keys, values, versions and expiries.
fn same_everywhere(cluster: &Cluster) {
    cluster.await_caught_up(PATIENCE).unwrap();
    let first = entries(cluster, 0);
    assert!(!first.as_array().unwrap().is_empty());
    for node in 1..cluster.len() {
        wait::within("the nodes hold the same", PATIENCE, || (entries(cluster, node) == first).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", differences(&first, &entries(cluster, node))));
    }
}

fn entries(cluster: &Cluster, node: usize) -> Value {
    let mut connection = Connection::login(cluster.addresses()[node]).unwrap();
    let Reply::Value(dump) = connection.call(&Command::Backup).unwrap().unwrap() else { panic!("no dump") };
    serde_json::from_slice::<Value>(&dump).unwrap()["entries"].take()
}

/// The first few entries that only one of the two has.
fn differences(one: &Value, other: &Value) -> String {
    let (one, other) = (one.as_array().unwrap(), other.as_array().unwrap());
    let only = |these: &[Value], those: &[Value]| {
        these.iter().filter(|entry| !those.contains(entry)).take(5).map(Value::to_string).collect::<Vec<_>>()
    };
    format!("only on the first: {:?}; only on the other: {:?}", only(one, other), only(other, one))
}

#[test]
fn a_single_node_survives_crashes_and_freezes() {
    let mut trial = Trial::start("one node, kills and freezes", 1);
    for _ in 0..rounds() {
        trial.interrupt(|cluster| {
            cluster.kill(0).unwrap();
            cluster.start_node(0).unwrap();
        });
        trial.settle();
        trial.interrupt(|cluster| {
            cluster.freeze(0).unwrap();
            // Long enough that clients give up reads.
            std::thread::sleep(Duration::from_millis(1_500));
            cluster.thaw(0).unwrap();
        });
        trial.settle();
        trial.interrupt(|cluster| {
            assert!(cluster.stop(0).unwrap().success());
            cluster.start_node(0).unwrap();
        });
        trial.settle();
    }
    trial.judge();
}

#[test]
fn a_single_node_survives_a_bad_network() {
    let mut trial = Trial::start("one node, bad network", 1);
    let link = |cluster: &Cluster, there, back| {
        cluster.network().set(Party::Outside, Party::Node(0), there);
        cluster.network().set(Party::Node(0), Party::Outside, back);
    };
    for _ in 0..rounds() {
        trial.interrupt(|cluster| {
            link(cluster, Link::Reset, Link::Pass);
            cluster.network().heal();
        });
        // Requests arrive, answers do not: what was written is unknown to the clients.
        trial.interrupt(|cluster| {
            link(cluster, Link::Pass, Link::Drop);
            std::thread::sleep(Duration::from_millis(300));
            link(cluster, Link::Pass, Link::Reset);
            cluster.network().heal();
        });
        trial.interrupt(|cluster| {
            link(
                cluster,
                Link::Delay(Duration::from_millis(30)),
                Link::Lossy { one_in: 20, stall: Duration::from_millis(200) },
            );
        });
        trial.load.await_writes(WRITES_BETWEEN, PATIENCE).unwrap();
        trial.cluster.network().heal();
        trial.settle();
    }
    trial.judge();
}

/// What all of this is worth: a node that comes back without its disk is found out.
#[test]
fn a_lost_disk_is_noticed() {
    let mut cluster = Cluster::start(1, &[]).unwrap();
    let load = Workload::new(cluster.addresses()).start().unwrap();
    load.await_writes(WRITES_BETWEEN, PATIENCE).unwrap();
    let moment = load.now();
    cluster.kill(0).unwrap();
    cluster.wipe(0).unwrap();
    cluster.start_node(0).unwrap();
    load.await_write_after(moment, PATIENCE).unwrap();
    let record = load.finish(PATIENCE).unwrap();
    let report = vaylix_checker::check(&record.history, CHECK_LIMIT);
    assert!(!report.violations.is_empty(), "{report}");
}

/// Each round breaks what `fault` breaks about the leader, expects another leader and writes soon, repairs it, and
/// expects everything to work again.
fn lose_the_leader(
    name: &'static str,
    fault: impl Fn(&mut Cluster, usize),
    repair: impl Fn(&mut Cluster, usize),
) {
    let mut trial = Trial::start(name, 3);
    for _ in 0..rounds() {
        let leader = trial.leader();
        trial.interrupt(|cluster| fault(cluster, leader));
        trial.cluster.await_other_leader(leader, PATIENCE).unwrap();
        repair(&mut trial.cluster, leader);
        trial.settle();
    }
    let slowest = trial.interruptions.iter().max().copied().unwrap();
    trial.judge();
    assert!(slowest <= FAILOVER_MAX, "{name}: writes were interrupted for {slowest:?}");
}

#[test]
#[ignore = "takes minutes: run with --ignored"]
fn the_leader_is_killed() {
    lose_the_leader(
        "leader killed",
        |cluster, leader| cluster.kill(leader).unwrap(),
        |cluster, leader| cluster.start_node(leader).unwrap(),
    );
}

#[test]
#[ignore = "takes minutes: run with --ignored"]
fn the_leader_is_frozen() {
    lose_the_leader(
        "leader frozen",
        |cluster, leader| cluster.freeze(leader).unwrap(),
        |cluster, leader| cluster.thaw(leader).unwrap(),
    );
}

#[test]
#[ignore = "takes minutes: run with --ignored"]
fn the_leader_is_cut_off_from_the_other_nodes() {
    lose_the_leader(
        "leader cut off",
        |cluster, leader| cluster.network().isolate(leader, Link::Drop),
        |cluster, _| cluster.network().heal(),
    );
}

#[test]
#[ignore = "takes minutes: run with --ignored"]
fn the_leader_is_not_heard() {
    let others = |leader: usize| (0..3).filter(move |node| *node != leader);
    lose_the_leader(
        "leader not heard",
        |cluster, leader| {
            for other in others(leader) {
                cluster.network().set(Party::Node(leader), Party::Node(other), Link::Drop);
            }
        },
        |cluster, _| cluster.network().heal(),
    );
    // The other way round it keeps speaking, but hears no acknowledgement.
    lose_the_leader(
        "leader hears nothing",
        |cluster, leader| {
            for other in others(leader) {
                cluster.network().set(Party::Node(other), Party::Node(leader), Link::Drop);
            }
        },
        |cluster, _| cluster.network().heal(),
    );
}

#[test]
#[ignore = "takes minutes: run with --ignored"]
fn a_cut_off_follower_comes_back_without_disturbing() {
    let mut trial = Trial::start("follower cut off", 3);
    for _ in 0..rounds() {
        let leader = trial.leader();
        let follower = (leader + 1) % 3;
        trial.interrupt(|cluster| cluster.network().isolate(follower, Link::Drop));
        trial.load.await_writes(WRITES_BETWEEN, PATIENCE).unwrap();
        trial.interrupt(|cluster| cluster.network().heal());
        trial.settle();
        assert_eq!(trial.leader(), leader, "a follower that comes back takes nobody's place");
    }
    trial.judge();
}

#[test]
#[ignore = "takes minutes: run with --ignored"]
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
    }
    trial.judge();
}

#[test]
#[ignore = "takes minutes: run with --ignored"]
fn nodes_are_restarted_one_after_the_other() {
    let mut trial = Trial::start("rolling restart", 3);
    for _ in 0..rounds() {
        for node in 0..3 {
            trial.interrupt(|cluster| assert!(cluster.stop(node).unwrap().success()));
            trial.interrupt(|cluster| cluster.start_node(node).unwrap());
            trial.settle();
        }
    }
    trial.judge();
}

#[test]
#[ignore = "takes minutes: run with --ignored"]
fn all_nodes_are_killed_at_once() {
    let mut trial = Trial::start("all nodes killed", 3);
    for _ in 0..rounds() {
        trial.interrupt(|cluster| {
            (0..3).for_each(|node| cluster.kill(node).unwrap());
            (0..3).for_each(|node| cluster.start_node(node).unwrap());
        });
        trial.settle();
    }
    trial.judge();
}

/// A leader, back after a crash, hands its log to others; then the next leader dies. Nothing that all had may go.
#[test]
#[ignore = "takes minutes: run with --ignored"]
fn two_leaders_in_a_row_are_killed() {
    let mut trial = Trial::start("two leaders killed", 3);
    for _ in 0..rounds() {
        let first = trial.leader();
        trial.interrupt(|cluster| cluster.kill(first).unwrap());
        trial.cluster.start_node(first).unwrap();
        let second = trial.cluster.await_other_leader(first, PATIENCE).unwrap();
        trial.interrupt(|cluster| cluster.kill(second).unwrap());
        trial.cluster.start_node(second).unwrap();
        trial.settle();
    }
    trial.judge();
}
