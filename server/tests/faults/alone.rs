//! A single node.

use std::time::Duration;

use vaylix_testkit::{Cluster, Link, Party, Workload};

use crate::trial::{CHECK_LIMIT, PATIENCE, Trial, WRITES_BETWEEN, rounds, turn};

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
    let _turn = turn();
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
