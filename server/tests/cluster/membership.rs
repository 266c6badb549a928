//! Nodes that come, go, and come back without their disk.

use vaylix_proto::{Command, Reply};

use vaylix_testkit::Server;
use vaylix_testkit::wire::{self, Connection};

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

#[test]
fn a_single_node_with_data_becomes_the_first_of_a_cluster() {
    let mut cluster = Cluster::prepare(1, &[]);
    let mut alone = Server::start_in(cluster.nodes[0].dir(), &[]).unwrap();
    wire::set(alone.address(), "k", b"v").unwrap();
    let mut client = Connection::login(alone.address()).unwrap();
    for command in [join("n2", "127.0.0.1:1"), remove("n1"), Command::PromoteFollower] {
        let refusal = client.call(&command).unwrap().unwrap_err();
        assert_eq!(refusal.code, "SRV-016", "{command:?}");
        assert!(refusal.message.contains("--cluster-peers"), "{refusal}");
    }
    for command in [Command::PauseReplication, Command::ResumeReplication] {
        let refusal = client.call(&command).unwrap().unwrap_err();
        assert!(refusal.message.contains("is not paused"), "{refusal}");
    }
    drop(client);
    assert!(alone.stop("TERM").unwrap().success());

    // As the refusal says.
    cluster.nodes[0].start();
    assert_eq!(cluster.leader(), 0);
    for name in ["n2", "n3"] {
        let new = cluster.add_stranger(name);
        cluster.nodes[new].start();
        let address = cluster.nodes[new].address;
        assert_eq!(cluster.nodes[0].call(&join(name, address)), Ok(Reply::Ok), "{name}");
    }
    cluster.expect_everywhere("k", b"v");
    // It can be lost now.
    cluster.kill(0);
    cluster.set("k", b"w");
    cluster.expect_everywhere("k", b"w");
}

#[test]
fn joining_again_changes_nothing_and_nodes_of_other_clusters_stay_there() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.set("k", b"v");
    let leader = cluster.leader();
    let before = cluster.nodes[leader].entries(&Command::ShowCluster);
    for node in &cluster.nodes {
        assert_eq!(
            cluster.nodes[leader].call(&join(&node.name, node.address)),
            Ok(Reply::Ok),
            "{}",
            node.name
        );
    }
    let members = |seen: &std::collections::BTreeMap<String, String>| {
        seen.iter()
            .filter(|(name, _)| name.starts_with("member"))
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(members(&cluster.nodes[leader].entries(&Command::ShowCluster)), members(&before));

    // A name that is taken, at the address of another member.
    let (one, other) = (cluster.nodes[0].name.clone(), cluster.nodes[1].address);
    let refusal = cluster.nodes[leader].call(&join(&one, other)).unwrap_err();
    assert!(refusal.message.contains("is called n2"), "{refusal}");

    let foreign = cluster.add_foreigner("x1");
    cluster.nodes[foreign].start();
    until("the other cluster", || (cluster.nodes[foreign].health().get("ready")? == "true").then_some(()));
    let address = cluster.nodes[foreign].address;
    let refusal = cluster.nodes[leader].call(&join("x1", address)).unwrap_err();
    assert_eq!(refusal.code, "SRV-030");
    let seen = cluster.nodes[leader].entries(&Command::ShowCluster);
    assert_eq!(members(&seen), members(&before));
    assert_eq!(cluster.nodes[foreign].entries(&Command::ShowCluster)["member_count"], "1");
}

#[test]
fn replication_is_not_paused_on_any_node() {
    let cluster = Cluster::start(3, &[]);
    for node in &cluster.nodes {
        for command in [Command::PauseReplication, Command::ResumeReplication] {
            let refusal = node.call(&command).unwrap_err();
            assert_eq!(refusal.code, "SRV-016", "{}", node.name);
            assert!(refusal.message.contains("CLUSTER REMOVE"), "{refusal}");
        }
        assert_eq!(node.entries(&Command::ShowReplication)["paused"], "false");
    }
    cluster.set("k", b"v");
    cluster.expect_everywhere("k", b"v");
}

#[test]
fn info_counts_what_goes_on_between_the_nodes() {
    let mut cluster = Cluster::start(3, &[]);
    for key in 0..20 {
        cluster.set(&format!("k{key}"), b"v");
    }
    let leader = cluster.leader();
    let count = |cluster: &Cluster, name: &str| -> Option<u64> {
        let info = cluster.nodes[leader].entries(&Command::Info);
        info.get(&format!("replication.client.{name}"))?.parse().ok()
    };
    let opened = count(&cluster, "connection.opened.count").unwrap();
    assert!(opened >= 4, "to each of two nodes one for heartbeats and one for the log, but {opened}");
    assert!(count(&cluster, "append.latency.avg.ms").unwrap() < 1_000);
    let reconnected = count(&cluster, "reconnect.count").unwrap();

    let gone = cluster.followers()[0];
    cluster.kill(gone);
    cluster.set("k", b"w");
    until("calls to it fail", || {
        let failures = count(&cluster, "heartbeat.failure.count")?;
        (failures > 0 && count(&cluster, "append.failure.count")? > 0).then_some(())
    });
    cluster.nodes[gone].start();
    cluster.nodes[gone].expect("k", b"w");
    until("it is connected again", || (count(&cluster, "reconnect.count")? > reconnected).then_some(()));
    assert!(count(&cluster, "connection.opened.count").unwrap() > opened);
}
