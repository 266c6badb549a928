//! Nodes that come, go, and come back without their disk.

use vaylix_proto::{Command, Reply};

use crate::support::{Cluster, until};

fn join(name: &str, address: impl ToString) -> Command {
    Command::ClusterJoin { node: name.into(), address: address.to_string().into() }
}

fn remove(name: &str) -> Command {
    Command::ClusterRemove { node: name.into() }
}

#[test]
fn a_node_that_has_lost_its_disk_comes_back_under_a_new_id() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.set("k", b"v");
    // The first of the list would found a cluster if there were none.
    let lost = 0;
    cluster.kill(lost);
    cluster.leader();
    cluster.nodes[lost].wipe();
    cluster.nodes[lost].start();
    cluster.nodes[lost].expect("k", b"v");
    until("it has a vote again", || {
        let leader = cluster.find_leader()?;
        let seen = cluster.nodes[leader].entries(&Command::ShowCluster);
        (seen.get("member_count")? == "3" && seen.get("member.n1.voter")? == "true").then_some(())
    });
    // It counts: without another node writes go on.
    let other = cluster.followers().into_iter().find(|at| *at != lost).unwrap_or_else(|| cluster.leader());
    cluster.kill(other);
    cluster.set("k", b"w");
    cluster.nodes[lost].expect("k", b"w");
}

#[test]
fn nodes_are_added_and_taken_out_also_the_leader() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.set("k", b"v");
    let new = cluster.add_stranger("n4");
    cluster.nodes[new].start();
    let address = cluster.nodes[new].address;
    let leader = cluster.leader();

    for (name, address) in
        [("n4", "127.0.0.1"), ("n4", "nowhere:0"), ("", "127.0.0.1:1"), ("n 4", "127.0.0.1:1")]
    {
        let refusal = cluster.nodes[leader].call(&join(name, address)).unwrap_err();
        assert_eq!(refusal.code, "SRV-030", "{name}@{address}: {refusal}");
    }
    let refusal = cluster.nodes[leader].call(&join("n5", address)).unwrap_err();
    assert!(refusal.message.contains("is called n4"), "{refusal}");
    let refusal = cluster.nodes[leader].call(&join("n5", "127.0.0.1:1")).unwrap_err();
    assert_eq!(refusal.code, "SRV-030", "nobody is there: {refusal}");
    let follower = cluster.followers()[0];
    assert_eq!(cluster.nodes[follower].call(&join("n4", address)).unwrap_err().code, "SRV-037");

    assert_eq!(cluster.nodes[leader].call(&join("n4", address)), Ok(Reply::Ok));
    let seen = cluster.nodes[leader].entries(&Command::ShowCluster);
    assert_eq!((&*seen["member_count"], &*seen["member.n4.voter"]), ("4", "true"));
    cluster.nodes[new].expect("k", b"v");

    let refusal = cluster.nodes[leader].call(&remove("n9")).unwrap_err();
    assert_eq!(refusal.code, "SRV-030");
    let leaving = cluster.nodes[leader].name.clone();
    assert_eq!(cluster.nodes[leader].call(&remove(&leaving)), Ok(Reply::Ok));
    let next = until("another leader", || cluster.find_leader().filter(|at| *at != leader));
    let seen = cluster.nodes[next].entries(&Command::ShowCluster);
    assert_eq!(seen["member_count"], "3");
    assert!(!seen.contains_key(&format!("member.{leaving}.voter")));
    until("it knows that it is out", || {
        (cluster.nodes[leader].health().get("ready")? == "false").then_some(())
    });
    let term = seen["current_term"].clone();
    cluster.kill(leader);
    cluster.set("k", b"w");
    assert_eq!(cluster.nodes[cluster.leader()].entries(&Command::ShowCluster)["current_term"], term);
}

#[test]
fn a_change_that_would_stop_the_cluster_is_refused() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let [gone, alive] = cluster.followers()[..] else { panic!("two follow") };
    cluster.kill(gone);
    let alive = cluster.nodes[alive].name.clone();
    let refusal = cluster.nodes[leader].call(&remove(&alive)).unwrap_err();
    assert!(refusal.message.contains("would stand still"), "{refusal}");
    let gone = cluster.nodes[gone].name.clone();
    assert_eq!(cluster.nodes[leader].call(&remove(&gone)), Ok(Reply::Ok));
    cluster.set("k", b"v");
}

#[test]
fn a_follower_is_promoted_in_maintenance_mode_only() {
    let cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let follower = cluster.followers()[0];
    let refusal = cluster.nodes[leader].call(&Command::PromoteFollower).unwrap_err();
    assert_eq!((&*refusal.code, refusal.message.contains("only followers")), ("SRV-038", true));
    let refusal = cluster.nodes[follower].call(&Command::PromoteFollower).unwrap_err();
    assert_eq!((&*refusal.code, refusal.message.contains("maintenance mode")), ("SRV-038", true));
    cluster.nodes[leader].call(&Command::MaintenanceOn).unwrap();
    until("maintenance mode is everywhere", || {
        (cluster.nodes[follower].health().get("maintenance_mode")? == "true").then_some(())
    });
    assert_eq!(cluster.nodes[follower].call(&Command::PromoteFollower), Ok(Reply::Ok));
    until("it leads", || (cluster.find_leader()? == follower).then_some(()));
    cluster.nodes[follower].call(&Command::MaintenanceOff).unwrap();
    cluster.set("k", b"v");
    assert_eq!(cluster.nodes[follower].call(&Command::PauseReplication).unwrap_err().code, "SRV-016");
}
