//! Values of every size, and nodes that have missed much.

use bytes::Bytes;
use vaylix_proto::{Command, Reply};
use vaylix_testkit::wire::{Connection, set_command};

use crate::support::{Cluster, until};

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state >> 56).unwrap()
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn what_a_client_may_send_is_replicated_however_large() {
    let flags = [
        "--max-value-bytes",
        "2000000",
        "--max-request-payload-bytes",
        "8000000",
        "--replication-ack-timeout-ms",
        "30000",
    ];
    let mut cluster = Cluster::prepare(3, &flags);
    for node in &mut cluster.nodes {
        // Unoptimised and on a busy machine, such entries take a while.
        node.replace_flag("--replication-election-timeout-min-ms", "3000");
        node.replace_flag("--replication-election-timeout-max-ms", "5000");
        node.start();
    }
    let mut leader = cluster.nodes[cluster.leader()].login();
    let call = |leader: &mut Connection, command: &Command| leader.call(command).unwrap().unwrap();

    assert_eq!(call(&mut leader, &set_command("ones", vec![0xFF; 262_144])), Reply::Ok);
    let pairs = (0..4).map(|at| (format!("m{at}").into(), noise(1_900_000, at))).collect();
    assert_eq!(call(&mut leader, &Command::MSet { pairs }), Reply::Ok);
    // One log entry larger than any frame.
    assert_eq!(call(&mut leader, &Command::Multi), Reply::Ok);
    for at in 0..12 {
        leader.send(&set_command(&format!("t{at}"), noise(1_500_000, 100 + at))).unwrap();
        leader.flush().unwrap();
        // Answered by a value, as what is queued always is.
        leader.receive(&Command::Ping { message: None }).unwrap().unwrap();
    }
    assert!(
        matches!(leader.call(&Command::Exec).unwrap().unwrap(), Reply::Exec(results) if results.len() == 12)
    );

    for node in &cluster.nodes {
        node.expect("ones", &[0xFF; 262_144]);
        for at in 0..4 {
            node.expect(&format!("m{at}"), &noise(1_900_000, at));
        }
        for at in 0..12 {
            node.expect(&format!("t{at}"), &noise(1_500_000, 100 + at));
        }
    }
}

#[test]
fn a_node_that_is_far_behind_gets_a_snapshot_while_others_write() {
    let mut cluster = Cluster::start(3, &["--wal-retain-segments", "0", "--pitr-retain-seconds", "0"]);
    let behind = cluster.followers()[0];
    cluster.set("first", b"1");
    cluster.expect_everywhere("first", b"1");
    cluster.kill(behind);
    let leader = cluster.leader();
    let mut writer = cluster.nodes[leader].login();
    for at in 0..40 {
        let value = noise(200_000, at);
        assert_eq!(writer.call(&set_command(&format!("big{at}"), value)).unwrap(), Ok(Reply::Ok));
    }
    // The log behind the snapshot goes.
    assert_eq!(writer.call(&Command::Save).unwrap(), Ok(Reply::Ok));
    assert_eq!(writer.call(&set_command("tail", "1")).unwrap(), Ok(Reply::Ok));
    let floor = until("the log is let go of", || {
        let floor =
            cluster.nodes[leader].entries(&Command::ShowReplication)["retention_floor_sequence"].clone();
        (floor != "1").then_some(floor)
    });
    println!("the leader's log begins with {floor}");
    cluster.nodes[behind].start();
    let mut written = 0;
    until("it has caught up", || {
        assert_eq!(writer.call(&set_command(&format!("more{written}"), "x")).unwrap(), Ok(Reply::Ok));
        written += 1;
        (cluster.nodes[behind].get("tail")? == Reply::Value("1".into())).then_some(())
    });
    cluster.expect_everywhere(&format!("more{}", written - 1), b"x");
    cluster.expect_everywhere("big39", &noise(200_000, 39));

    // It is a full member: with it and one other there is a majority, and it starts again by itself.
    cluster.kill(behind);
    cluster.nodes[behind].start();
    cluster.kill(leader);
    cluster.set("after", b"1");
    cluster.expect_everywhere("big0", &noise(200_000, 0));
}
