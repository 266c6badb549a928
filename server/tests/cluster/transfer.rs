//! Values of every size, and nodes that have missed much.

use std::time::Duration;

use bytes::Bytes;
use vaylix_proto::{Command, Dump, Reply};
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Cluster as Proxied, Link, Party, wait};

use crate::support::{Cluster, PATIENCE, until};

/// Bytes that do not compress.
pub(crate) fn noise(len: usize, seed: u64) -> Bytes {
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

/// More than any request or log entry may hold goes into the log in parts.
#[test]
fn a_restore_of_ten_megabytes_is_on_every_node_and_survives() {
    let mut cluster = Cluster::prepare(3, &["--replication-ack-timeout-ms", "30000"]);
    for node in &mut cluster.nodes {
        node.replace_flag("--replication-election-timeout-min-ms", "3000");
        node.replace_flag("--replication-election-timeout-max-ms", "5000");
        node.start();
    }
    let mut leader = cluster.nodes[cluster.leader()].login();
    let mut call = |command: &Command| leader.call(command).unwrap().unwrap();
    for at in 0..40 {
        assert_eq!(call(&set_command(&format!("big{at}"), noise(250_000, at))), Reply::Ok);
    }
    assert_eq!(call(&Command::BackupTo { path: "large.json".into() }), Reply::Ok);
    assert_eq!(call(&Command::Clear), Reply::Ok);
    assert_eq!(call(&set_command("other", "goes")), Reply::Ok);
    assert_eq!(call(&Command::Restore(Dump::File("large.json".into()))), Reply::Count(40));
    let check = |cluster: &Cluster| {
        for node in &cluster.nodes {
            for at in [0, 17, 39] {
                node.expect(&format!("big{at}"), &noise(250_000, at));
            }
            assert_eq!(node.call(&Command::Count), Ok(Reply::Count(40)), "{}", node.name);
        }
    };
    check(&cluster);
    for at in 0..3 {
        cluster.kill(at);
    }
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.leader();
    check(&cluster);
}

const PART_BYTES: u64 = 1 << 20;

/// Slow enough that somebody who looks again and again sees every part, and not so slow that heartbeats are held up.
const BYTES_PER_SECOND: u32 = 700_000;

/// A cluster in which one node does not run and needs a snapshot of about eight parts, on a line that is slow enough to
/// look. Returns the leader and that node.
fn far_behind() -> (Proxied, usize, usize) {
    let flags = ["--wal-retain-segments", "0", "--pitr-retain-seconds", "0"];
    let mut cluster = Proxied::start(3, &flags).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    let behind = (0..3).find(|node| *node != leader).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    cluster.kill(behind).unwrap();
    let mut writer = Connection::login(cluster.addresses()[leader]).unwrap();
    for at in 0..40 {
        assert_eq!(
            writer.call(&set_command(&format!("big{at}"), noise(200_000, at))).unwrap(),
            Ok(Reply::Ok)
        );
    }
    assert_eq!(writer.call(&Command::Save).unwrap(), Ok(Reply::Ok));
    let shown = |cluster: &Proxied, node: usize, field: &str| replication(cluster, node, field);
    wait::within("the log is let go of", PATIENCE, || {
        (shown(&cluster, leader, "retention_floor_sequence")? != "1").then_some(())
    })
    .unwrap();
    cluster.network().set(Party::Node(leader), Party::Node(behind), Link::Bandwidth(BYTES_PER_SECOND));
    cluster.start_node(behind).unwrap();
    (cluster, leader, behind)
}

/// A line of SHOW REPLICATION, past the proxies.
fn replication(cluster: &Proxied, node: usize, field: &str) -> Option<String> {
    shown(&mut Connection::login_within(cluster.addresses()[node], PATIENCE).ok()?, field)
}

fn received(cluster: &Proxied, node: usize) -> Option<u64> {
    replication(cluster, node, "incoming_snapshot_bytes")?.parse().ok()
}

/// Looks at a node over one connection: logging in takes as long as some parts.
struct Observer(Connection);

impl Observer {
    fn of(cluster: &Proxied, node: usize) -> Self {
        let login = || Connection::login_within(cluster.addresses()[node], PATIENCE).ok();
        Self(wait::within("a login", PATIENCE, login).unwrap())
    }

    /// Bytes of a snapshot that have come, if one is on its way.
    fn received(&mut self) -> Option<u64> {
        shown(&mut self.0, "incoming_snapshot_bytes")?.parse().ok()
    }
}

fn shown(connection: &mut Connection, field: &str) -> Option<String> {
    let Ok(Ok(Reply::Entries(entries))) = connection.call(&Command::ShowReplication) else { return None };
    let entry = entries.into_iter().find(|entry| &*entry.name == field)?;
    String::from_utf8(entry.value.to_vec()).ok()
}

/// Waits until all of it is there.
fn expect_all(cluster: &Proxied, node: usize) {
    for at in [0, 20, 39] {
        let get = Command::Get { key: format!("big{at}").into() };
        wait::within("it has everything", PATIENCE, || {
            let mut connection = Connection::login_within(cluster.addresses()[node], PATIENCE).ok()?;
            (connection.call(&get).ok()? == Ok(Reply::Value(noise(200_000, at)))).then_some(())
        })
        .unwrap();
    }
}

#[test]
fn a_snapshot_whose_connection_breaks_at_every_part_goes_on_and_ends() {
    let (cluster, leader, behind) = far_behind();
    let mut observer = Observer::of(&cluster, behind);
    let (mut held, mut breaks) = (0, 0);
    wait::within("all of it, and the connection broken at every part that is seen", 2 * PATIENCE, || {
        match observer.received() {
            Some(now) => {
                assert!(now >= held, "it began anew: {now} after {held}");
                if now >= held + PART_BYTES {
                    held = now;
                    breaks += 1;
                    let network = cluster.network();
                    network.set_both(Party::Node(leader), Party::Node(behind), Link::Reset);
                    network.set(Party::Node(behind), Party::Node(leader), Link::Pass);
                    network.set(Party::Node(leader), Party::Node(behind), Link::Bandwidth(BYTES_PER_SECOND));
                }
                None
            }
            // All of it is there, or nothing yet.
            None => (held > 0).then_some(()),
        }
    })
    .unwrap();
    assert!(breaks >= 2, "only {breaks} breaks, the last at {held}");
    cluster.network().heal();
    expect_all(&cluster, behind);
}

#[test]
fn a_snapshot_that_was_given_up_goes_on_where_it_was() {
    let (cluster, leader, behind) = far_behind();
    let mut observer = Observer::of(&cluster, behind);
    let arrived =
        wait::within("some of it", PATIENCE, || observer.received().filter(|bytes| *bytes >= 3 * PART_BYTES))
            .unwrap();
    cluster.network().set_both(Party::Node(leader), Party::Node(behind), Link::Drop);
    // Longer than the leader waits for an answer to a part: it is the passing of this time that is tested.
    std::thread::sleep(Duration::from_secs(22));
    let mut held = observer.received().expect("it keeps what it has");
    assert!(held >= arrived, "{held} of {arrived}");
    cluster.network().set(Party::Node(behind), Party::Node(leader), Link::Pass);
    cluster.network().set(Party::Node(leader), Party::Node(behind), Link::Bandwidth(BYTES_PER_SECOND));
    wait::within("the rest comes", PATIENCE, || {
        match observer.received() {
            Some(now) => {
                assert!(now >= held, "it began anew: {now} after {held}");
                held = now;
                None
            }
            // All of it is there.
            None => Some(()),
        }
    })
    .unwrap();
    cluster.network().heal();
    expect_all(&cluster, behind);
}

#[test]
fn a_snapshot_begins_anew_when_either_side_was_restarted() {
    let (mut cluster, leader, behind) = far_behind();
    for _ in 0..2 {
        wait::within("some of it", PATIENCE, || received(&cluster, behind)).unwrap();
        cluster.kill(behind).unwrap();
        cluster.start_node(behind).unwrap();
    }
    wait::within("some of it again", PATIENCE, || received(&cluster, behind)).unwrap();
    cluster.kill(leader).unwrap();
    cluster.network().heal();
    cluster.await_other_leader(leader, PATIENCE).unwrap();
    expect_all(&cluster, behind);
    cluster.start_node(leader).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
}
