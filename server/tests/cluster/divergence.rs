//! A node whose state is not what its log makes of it: it is found out, serves nobody, and learns better.

use std::path::Path;
use std::sync::Arc;

use vaylix_engine::progress::Progress;
use vaylix_engine::{DataDir, Keyring, snapshot};
use vaylix_proto::{Command, ErrorReply, Reply};
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Cluster as Proxied, Link, Party, wait};

use crate::support::{Cluster, Node, PATIENCE, until};
use crate::transfer::noise;

/// Compare the states often.
const OFTEN: [&str; 2] = ["--replication-state-check-entries", "20"];

/// Changes one byte of a value in the snapshot of a node that does not run, as a fault of its memory would have done before
/// the snapshot was taken: sealed and whole as it is, nothing on the disk tells. In the format without a digest, because one
/// with a digest would not get past the start.
fn falsify(dir: &Path, value: &[u8]) {
    let dir = DataDir::open_or_create(dir).unwrap();
    let keyring = Arc::new(Keyring::open_or_create(&dir, 0).unwrap());
    let reader = snapshot::load(&dir, &keyring).unwrap().expect("a node that was stopped has a snapshot");
    let head = reader.head();
    let (root, _) = snapshot::read_state(reader, &mut Progress::bytes("reading", 0)).unwrap();
    let mut image = Vec::new();
    root.encode(&mut image).unwrap();

    // Format 2 ends with: marked u8, mark (8 + 32) if it is 1, digest (32), end (4).
    let end = image.split_off(image.len() - 4);
    image.truncate(image.len() - 32);
    image.truncate(image.len() - if root.mark().is_some() { 1 + 8 + 32 } else { 1 });
    image[7] = 1;
    image.extend(end);
    let at = image.windows(value.len()).position(|window| window == value).expect("the value is there");
    image[at] ^= 1;
    snapshot::write(&dir, &keyring, &head, |sink| sink.write_all(&image)).unwrap();
}

fn metric(node: &Node, name: &str) -> Option<u64> {
    node.entries(&Command::Metrics).get(name)?.parse().ok()
}

fn relearned(node: &Node) -> Option<u64> {
    metric(node, "vaylix.replication.state.relearned.count")
}

/// A cluster with a key, its second node stopped and its snapshot falsified.
fn with_a_false_one() -> (Cluster, usize) {
    let mut cluster = Cluster::start(3, &OFTEN);
    cluster.set("precious", b"the right value");
    cluster.expect_everywhere("precious", b"the right value");
    let wrong = cluster.followers()[0];
    cluster.nodes[wrong].stop();
    falsify(cluster.nodes[wrong].dir(), b"the right value");
    (cluster, wrong)
}

/// Waits until all nodes have the same state as far as their backups tell.
fn expect_equal(cluster: &Cluster) {
    until("the same everywhere", || {
        let backup = |node: &Node| match node.try_login()?.call(&Command::Backup) {
            Ok(Ok(Reply::Value(document))) => {
                let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
                Some(document["entries"].clone())
            }
            _ => None,
        };
        let backups: Vec<_> = cluster.nodes.iter().map(backup).collect::<Option<_>>()?;
        backups.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
    });
}

#[test]
fn a_follower_that_differs_serves_nobody_until_it_has_learnt_better() {
    let (mut cluster, wrong) = with_a_false_one();
    let leader = cluster.leader();
    cluster.nodes[wrong].start();
    let mut seen_reasons = std::collections::BTreeSet::new();
    let mut writer = cluster.nodes[leader].login();
    let mut written = 0;
    until("it has been found out and has learnt better", || {
        assert_eq!(writer.call(&set_command(&format!("k{}", written % 50), "v")).unwrap(), Ok(Reply::Ok));
        written += 1;
        let node = &cluster.nodes[wrong];
        seen_reasons.insert(node.health().get("reason")?.clone());
        (relearned(node)? > 0).then_some(())
    });
    println!("{written} writes; reasons seen: {seen_reasons:?}");
    let node = &cluster.nodes[wrong];
    assert!(metric(node, "vaylix.replication.state.check.diverged.count").is_some_and(|count| count > 0));
    assert_eq!(metric(node, "vaylix.replication.state.quarantined"), Some(0));
    node.expect("precious", b"the right value");
    expect_equal(&cluster);
    let audit = std::fs::read_to_string(node.dir().join("audit.log")).unwrap();
    assert!(audit.contains("state_diverged") && audit.contains("state_relearned"), "{audit}");

    // It is a full member again: with it there is a majority, and it starts with what it has learnt.
    cluster.kill(wrong);
    cluster.nodes[wrong].start();
    cluster.kill(leader);
    cluster.set("after", b"1");
    cluster.nodes[wrong].expect("precious", b"the right value");
    assert_eq!(relearned(&cluster.nodes[wrong]), Some(0), "it was right from the start");
}

/// What the client of a node is told, there where the proxy has it.
fn call(cluster: &Proxied, node: usize, command: &Command) -> Option<Result<Reply, ErrorReply>> {
    Connection::login_within(cluster.addresses()[node], PATIENCE).ok()?.call(command).ok()
}

#[test]
fn a_node_that_differs_says_so_and_refuses_until_it_has_learnt_better() {
    let mut cluster = Proxied::start(3, &OFTEN).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    let mut writer = Connection::login(cluster.addresses()[leader]).unwrap();
    let mut set = |key: &str, value: Vec<u8>| {
        assert_eq!(writer.call(&set_command(key, value)).unwrap(), Ok(Reply::Ok), "{key}");
    };
    set("precious", b"the right value".to_vec());
    // So much that learning it takes a while on a slow line.
    for key in 0..20 {
        set(&format!("large{key}"), noise(100_000, key).to_vec());
    }
    cluster.await_caught_up(PATIENCE).unwrap();
    let wrong = (0..3).find(|node| *node != leader).unwrap();
    assert!(cluster.stop(wrong).unwrap().success());
    falsify(cluster.data_dir(wrong), b"the right value");
    cluster.network().set(Party::Node(leader), Party::Node(wrong), Link::Bandwidth(300_000));
    cluster.start_node(wrong).unwrap();
    let says_so = |cluster: &Proxied| {
        let status = cluster.status(wrong)?;
        (status.get("reason") == "state_diverged").then_some(status)
    };
    let mut key = 0;
    let status = wait::until("it says that it is wrong", || {
        set(&format!("k{}", key % 50), b"v".to_vec());
        key += 1;
        says_so(&cluster)
    });
    assert_eq!((status.get("ready"), status.get("role")), ("false", "follower"));
    let get = Command::Get { key: "precious".into() };
    for refused in [get.clone(), Command::Backup, Command::List, Command::ShowUsers] {
        assert_eq!(call(&cluster, wrong, &refused).unwrap().unwrap_err().code, "SRV-005", "{refused:?}");
    }
    assert_eq!(call(&cluster, wrong, &set_command("k", "v")).unwrap().unwrap_err().code, "SRV-037");
    for told in [Command::ShowReplication, Command::Info, Command::Metrics, Command::WhoAmI] {
        assert!(call(&cluster, wrong, &told).unwrap().is_ok(), "{told:?}");
    }

    // It does not forget that by dying: the check is in its log.
    cluster.kill(wrong).unwrap();
    cluster.start_node(wrong).unwrap();
    wait::until("it says so again", || says_so(&cluster));
    assert_eq!(call(&cluster, wrong, &get).unwrap().unwrap_err().code, "SRV-005");

    cluster.network().heal();
    wait::within("it has learnt better", PATIENCE, || {
        (call(&cluster, wrong, &get)? == Ok(Reply::Value("the right value".into()))).then_some(())
    })
    .unwrap();
    assert_eq!(cluster.await_leader(PATIENCE).unwrap(), leader, "nobody else noticed");
}

#[test]
fn a_leader_that_differs_steps_down_and_learns_better() {
    let (mut cluster, wrong) = with_a_false_one();
    for at in 0..3 {
        if cluster.nodes[at].server.is_some() {
            cluster.nodes[at].stop();
        }
    }
    // It stands for election long before the others.
    for (at, node) in cluster.nodes.iter_mut().enumerate() {
        if at != wrong {
            node.replace_flag("--replication-election-timeout-min-ms", "4000");
            node.replace_flag("--replication-election-timeout-max-ms", "5000");
        }
        node.start();
    }
    until("it has learnt better", || (relearned(&cluster.nodes[wrong])? > 0).then_some(()));
    let leader = cluster.leader();
    assert_ne!(leader, wrong, "it has stepped down");
    cluster.nodes[wrong].expect("precious", b"the right value");
    cluster.set("after", b"1");
    cluster.expect_everywhere("after", b"1");
    expect_equal(&cluster);
}
