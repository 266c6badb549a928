//! What happens when nodes die, freeze, or are told to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vaylix_proto::{Command, Reply};
use vaylix_testkit::wire::set_command;

use crate::support::{Cluster, until};

/// Writes numbered keys at the leader until it does not answer any more; returns how many were acknowledged.
fn write_until_it_dies(cluster: &Cluster, at: usize, stop: &AtomicBool) -> u32 {
    let mut connection = cluster.nodes[at].login();
    let mut acknowledged = 0;
    while !stop.load(Ordering::Relaxed) {
        match connection.call(&set_command(&format!("w{acknowledged:06}"), "x")) {
            Ok(Ok(Reply::Ok)) => acknowledged += 1,
            _ => break,
        }
    }
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_with_the_leader_and_it_comes_back() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let stop = AtomicBool::new(false);
    let id = cluster.nodes[leader].server.as_ref().unwrap().id().to_string();
    let acknowledged = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until_it_dies(&cluster, leader, &stop));
        std::thread::sleep(Duration::from_millis(500));
        assert!(std::process::Command::new("kill").args(["-9", &id]).status().unwrap().success());
        writer.join().unwrap()
    });
    assert!(acknowledged > 0);
    cluster.kill(leader);
    let died = Instant::now();
    let next = cluster.leader();
    println!("a new leader after {:?}", died.elapsed());
    assert_ne!(next, leader);
    let mut connection = cluster.nodes[next].login();
    for key in 0..acknowledged {
        let read = connection.call(&Command::Get { key: format!("w{key:06}").into() }).unwrap().unwrap();
        assert_eq!(read, Reply::Value("x".into()), "w{key:06} of {acknowledged}");
    }
    cluster.set("after", b"1");
    cluster.nodes[leader].start();
    cluster.expect_everywhere("after", b"1");
    let term = |cluster: &Cluster, at: usize| {
        cluster.nodes[at].entries(&Command::ShowCluster)["current_term"].clone()
    };
    assert_eq!(cluster.leader(), next, "who comes back does not disturb");
    assert_eq!(term(&cluster, leader), term(&cluster, next));
}

#[test]
fn a_cluster_that_was_killed_as_a_whole_goes_on_where_it_was() {
    let mut cluster = Cluster::start(3, &[]);
    for key in 0..50 {
        cluster.set(&format!("k{key}"), b"v");
    }
    for at in 0..3 {
        cluster.kill(at);
    }
    for node in &mut cluster.nodes {
        node.start();
    }
    let started = Instant::now();
    cluster.set("after", b"1");
    assert!(started.elapsed() < Duration::from_secs(20), "writable after {:?}", started.elapsed());
    for key in 0..50 {
        cluster.expect_everywhere(&format!("k{key}"), b"v");
    }
}

#[test]
fn a_frozen_leader_is_replaced_and_does_not_answer_from_the_past() {
    let cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    cluster.set("k", b"old");
    let mut reader = cluster.nodes[leader].login();
    cluster.nodes[leader].signal("STOP");
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    let next = until("another leader", || {
        others.iter().copied().find(|at| {
            let health = cluster.nodes[*at].health();
            health.get("role").is_some_and(|role| role == "leader") && health["ready"] == "true"
        })
    });
    let mut writer = cluster.nodes[next].login();
    assert_eq!(writer.call(&set_command("k", "new")).unwrap(), Ok(Reply::Ok));
    // The question is there before it wakes, so it is answered first of all.
    reader.send(&Command::Get { key: "k".into() }).unwrap();
    reader.flush().unwrap();
    cluster.nodes[leader].signal("CONT");
    match reader.receive(&Command::Get { key: "k".into() }).unwrap() {
        // As a follower it says what it has, which is documented to be old; as a leader it must not.
        Ok(Reply::Value(value)) if value == "old" => {
            assert_eq!(cluster.nodes[leader].health()["role"], "follower");
        }
        Ok(reply) => assert_eq!(reply, Reply::Value("new".into())),
        Err(refusal) => assert!(["SRV-036", "SRV-037"].contains(&&*refusal.code), "{refusal}"),
    }
    cluster.nodes[leader].expect("k", b"new");
}

#[test]
fn a_leader_without_a_majority_steps_down_and_takes_no_writes() {
    let mut cluster = Cluster::start(3, &["--replication-ack-timeout-ms", "1000"]);
    let leader = cluster.leader();
    cluster.set("k", b"v");
    let mut connection = cluster.nodes[leader].login();
    for at in cluster.followers() {
        cluster.kill(at);
    }
    let refusal = connection.call(&set_command("unacknowledged", "x")).unwrap().unwrap_err();
    assert!(["SRV-036", "SRV-037"].contains(&&*refusal.code), "{refusal}");
    let node = &cluster.nodes[leader];
    until("it steps down", || (node.health().get("ready")? == "false").then_some(()));
    let refusal = node.call(&set_command("k", "w")).unwrap_err();
    assert!(["SRV-036", "SRV-037"].contains(&&*refusal.code), "{refusal}");
    assert_eq!(node.get("unacknowledged"), Some(Reply::NotFound), "never shown");

    let other = (leader + 1) % 3;
    cluster.nodes[other].start();
    cluster.set("k", b"w");
    cluster.expect_everywhere("k", b"w");
}

#[test]
fn a_leader_that_is_told_to_stop_hands_its_office_over_first() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    cluster.set("k", b"v");
    let followers = cluster.followers();
    let elected = std::thread::scope(|scope| {
        let nodes = &cluster.nodes;
        let watch = scope.spawn(move || {
            // How long nobody takes a write.
            let mut sessions: Vec<_> = followers.iter().map(|at| nodes[*at].login()).collect();
            until("a write elsewhere", || {
                sessions.iter_mut().find_map(|session| {
                    matches!(session.call(&set_command("next", "1")), Ok(Ok(Reply::Ok))).then(Instant::now)
                })
            })
        });
        std::thread::sleep(Duration::from_millis(50));
        let told = Instant::now();
        nodes[leader].signal("TERM");
        watch.join().unwrap().saturating_duration_since(told)
    });
    println!("another node took writes after {elected:?}");
    // Half of the shortest election time: nobody had to miss the leader first.
    assert!(elected < Duration::from_millis(390), "{elected:?}");
    cluster.nodes[leader].wait();
    cluster.expect_everywhere("next", b"1");
}

#[test]
fn writes_in_mode_all_are_on_every_node_and_say_so_when_they_are_not() {
    let mut cluster = Cluster::start(3, &["--write-ack-mode", "all", "--replication-ack-timeout-ms", "700"]);
    let leader = cluster.leader();
    cluster.set("k", b"v");
    let gone = cluster.followers()[0];
    cluster.kill(gone);
    let refusal = cluster.nodes[leader].call(&set_command("k", "w")).unwrap_err();
    assert_eq!(refusal.code, "SRV-035", "{refusal}");
    assert!(refusal.message.contains("in mode all"), "{refusal}");
    cluster.nodes[gone].start();
    cluster.set("k", b"x");
    cluster.expect_everywhere("k", b"x");
}

/// Two nodes of five may be lost. With three of them silent, what was taken in before the leader noticed has an unknown outcome
/// (`SRV-036`), is shown nowhere meanwhile, and is decided the same for everybody when they are back.
#[test]
fn five_nodes_lose_two_without_a_word_and_say_what_is_unknown_when_they_lose_three() {
    let cluster = Cluster::start(5, &["--replication-ack-timeout-ms", "1000"]);
    let leader = cluster.leader();
    let followers = cluster.followers();
    let mut connection = cluster.nodes[leader].login();
    for at in &followers[..2] {
        cluster.nodes[*at].signal("STOP");
    }
    assert_eq!(connection.call(&set_command("k", "by three")).unwrap(), Ok(Reply::Ok));

    cluster.nodes[followers[2]].signal("STOP");
    let refusal = connection.call(&set_command("unknown", "x")).unwrap().unwrap_err();
    assert_eq!(&*refusal.code, "SRV-036", "{refusal}");
    let awake = [leader, followers[3]];
    for at in awake {
        let node = &cluster.nodes[at];
        until("it is not ready", || (node.health().get("ready")? == "false").then_some(()));
        assert_eq!(node.get("unknown"), Some(Reply::NotFound), "never shown before it is decided");
    }
    let refusal = cluster.nodes[leader].call(&set_command("k", "by two")).unwrap_err();
    assert!(["SRV-036", "SRV-037"].contains(&&*refusal.code), "{refusal}");

    for at in &followers[..3] {
        cluster.nodes[*at].signal("CONT");
    }
    cluster.set("after", b"x");
    cluster.expect_everywhere("after", b"x");
    let decided: Vec<_> = (0..5).map(|at| cluster.nodes[at].get("unknown")).collect();
    assert!(decided.windows(2).all(|pair| pair[0] == pair[1]), "{decided:?}");
    let kept: Vec<_> = (0..5).map(|at| cluster.nodes[at].get("k")).collect();
    assert!(kept.windows(2).all(|pair| pair[0] == pair[1]), "{kept:?}");
    assert_ne!(kept[0], Some(Reply::NotFound), "what a majority of five had");
}
