//! What is replicated: values of every size and kind, what nodes have missed, what expires.

use std::fs;

use bytes::Bytes;
use serde_json::Value;
use vaylix_proto::command::Dump;
use vaylix_proto::{Command, Expiration, Reply, SetOptions};
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Cluster, Link, wait};

use crate::trial::{PATIENCE, entries, same_everywhere, setting, turn};

/// The largest value by default.
const VALUE_BYTES_MAX: usize = 262_144;

/// The largest request by default, less what an MSET of three values has beside them.
const MSET_VALUE_BYTES: usize = (1_048_576 - 4096) / 3;

/// What is restored at once.
const RESTORED_BYTES: usize = 10 << 20;

/// Unoptimised and on a busy machine, large entries take a while: neither writers nor voters lose their patience.
const PATIENT: [&str; 6] = [
    "--replication-ack-timeout-ms",
    "60000",
    "--replication-election-timeout-min-ms",
    "2000",
    "--replication-election-timeout-max-ms",
    "4000",
];

/// Bytes that do not compress and tell their number.
fn noise(len: usize, number: u64) -> Bytes {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

fn at_leader(cluster: &Cluster) -> Connection {
    Connection::login(cluster.addresses()[cluster.await_leader(PATIENCE).unwrap()]).unwrap()
}

fn call(connection: &mut Connection, command: &Command) -> Reply {
    connection.call(command).unwrap().unwrap()
}

/// Whether every running node has these values.
fn assert_everywhere(cluster: &Cluster, values: &[(String, Bytes)]) {
    cluster.await_caught_up(PATIENCE).unwrap();
    for node in (0..cluster.len()).filter(|node| cluster.is_running(*node)) {
        let mut connection = Connection::login(cluster.addresses()[node]).unwrap();
        for (key, value) in values {
            let get = Command::Get { key: key.as_str().into() };
            // One that has just been started, or sent everything anew, refuses reads until the next heartbeat has told it that
            // nothing is missing.
            let read = wait::within("a read is answered", PATIENCE, || connection.call(&get).unwrap().ok());
            assert!(read.unwrap() == Reply::Value(value.clone()), "{key} on node {node}");
        }
    }
}

fn restart_all(cluster: &mut Cluster) {
    (0..3).for_each(|node| cluster.kill(node).unwrap());
    (0..3).for_each(|node| cluster.start_node(node).unwrap());
}

#[test]
#[ignore = "long: tests/slow runs it"]
fn the_largest_of_everything_is_on_all_nodes() {
    let _turn = turn();
    let mut cluster = Cluster::start(3, &PATIENT).unwrap();
    let mut leader = at_leader(&cluster);

    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let patterns: [Bytes; 5] = [
        vec![0x00; VALUE_BYTES_MAX].into(),
        vec![0x7F; VALUE_BYTES_MAX].into(),
        vec![0xFF; VALUE_BYTES_MAX].into(),
        every_byte.repeat(VALUE_BYTES_MAX / every_byte.len()).into(),
        noise(VALUE_BYTES_MAX, 1),
    ];
    let mut values: Vec<(String, Bytes)> =
        patterns.into_iter().enumerate().map(|(at, value)| (format!("pattern:{at}"), value)).collect();
    for (key, value) in &values {
        assert_eq!(call(&mut leader, &set_command(key, value.clone())), Reply::Ok);
    }
    let pairs: Vec<_> = (0..3)
        .map(|at| (format!("mset:{at}"), noise(MSET_VALUE_BYTES.min(VALUE_BYTES_MAX), 10 + at)))
        .collect();
    let mset = Command::MSet {
        pairs: pairs.iter().map(|(key, value)| (key.as_str().into(), value.clone())).collect(),
    };
    assert_eq!(call(&mut leader, &mset), Reply::Ok);
    values.extend(pairs);
    let many: Vec<_> = (0..256_u64).map(|at| (format!("many:{at}"), noise(4000, 100 + at))).collect();
    let mset = Command::MSet {
        pairs: many.iter().map(|(key, value)| (key.as_str().into(), value.clone())).collect(),
    };
    assert_eq!(call(&mut leader, &mset), Reply::Ok);
    values.extend(many);
    assert_everywhere(&cluster, &values);

    let filling = (RESTORED_BYTES / VALUE_BYTES_MAX) as u64;
    for at in 0..filling {
        let (key, value) = (format!("filling:{at}"), noise(VALUE_BYTES_MAX, 1000 + at));
        assert_eq!(call(&mut leader, &set_command(&key, value.clone())), Reply::Ok);
        values.push((key, value));
    }
    let file = "everything.json";
    assert_eq!(call(&mut leader, &Command::BackupTo { path: file.into() }), Reply::Ok);
    let led = cluster.await_leader(PATIENCE).unwrap();
    let len = fs::metadata(cluster.data_dir(led).join("backups").join(file)).unwrap().len();
    assert!(len >= RESTORED_BYTES as u64, "{len} bytes");
    assert_eq!(call(&mut leader, &Command::Clear), Reply::Ok);
    let gone = call(&mut leader, &Command::Get { key: "pattern:0".into() });
    assert_eq!(gone, Reply::NotFound);
    let restored = call(&mut leader, &Command::Restore(Dump::File(file.into())));
    assert!(!matches!(restored, Reply::NotFound), "{restored:?}");
    assert_everywhere(&cluster, &values);

    restart_all(&mut cluster);
    assert_everywhere(&cluster, &values);
}

/// Once the log still has what it missed, once only a snapshot has.
#[test]
#[ignore = "long: tests/slow runs it"]
fn a_node_that_missed_much_catches_up() {
    let _turn = turn();
    let retention = ["--wal-retain-segments", "0", "--pitr-retain-seconds", "0"];
    let flags = [&PATIENT[..], &retention[..]].concat();
    let mut cluster = Cluster::start(3, &flags).unwrap();
    let megabytes = u64::from(setting("VAYLIX_FAULT_MEGABYTES", 8));
    for (round, is_pruned) in [false, true].into_iter().enumerate() {
        let leader = cluster.await_leader(PATIENCE).unwrap();
        let behind = (leader + 1) % 3;
        cluster.kill(behind).unwrap();
        let mut writer = Connection::login(cluster.addresses()[leader]).unwrap();
        let len = 100_000;
        let values: Vec<_> = (0..megabytes * 10)
            .map(|at| (format!("missed:{round}:{at}"), noise(len, at + 1_000_000 * round as u64)))
            .collect();
        for (key, value) in &values {
            assert_eq!(call(&mut writer, &set_command(key, value.clone())), Reply::Ok);
        }
        if is_pruned {
            let floor = |cluster: &Cluster| -> String {
                let Reply::Entries(entries) = Connection::login(cluster.addresses()[leader])
                    .unwrap()
                    .call(&Command::ShowReplication)
                    .unwrap()
                    .unwrap()
                else {
                    panic!("no entries")
                };
                let floor = entries.iter().find(|entry| entry.name == *"retention_floor_sequence").unwrap();
                String::from_utf8(floor.value.to_vec()).unwrap()
            };
            let before = floor(&cluster);
            assert_eq!(call(&mut writer, &Command::Save), Reply::Ok);
            wait::within("the log is let go of", PATIENCE, || (floor(&cluster) != before).then_some(()))
                .unwrap();
        }
        cluster.start_node(behind).unwrap();
        assert_everywhere(&cluster, &values);
        // It counts: with it and one other there is a majority.
        cluster.kill(leader).unwrap();
        cluster.await_other_leader(leader, PATIENCE).unwrap();
        // Who leads may change once more: the candidates were many.
        let after = set_command("after", round.to_string());
        let write = || at_leader(&cluster).call(&after).ok()?.ok();
        assert_eq!(wait::within("a write", PATIENCE, write).unwrap(), Reply::Ok);
        cluster.start_node(leader).unwrap();
        cluster.await_caught_up(PATIENCE).unwrap();
    }
}

/// Expiry is decided once, by the leader, also for a node that hears of it much later.
#[test]
fn what_expires_and_what_is_counted_is_the_same_on_all_nodes() {
    let _turn = turn();
    let cluster = Cluster::start(3, &PATIENT).unwrap();
    let led = cluster.await_leader(PATIENCE).unwrap();
    let mut leader = at_leader(&cluster);
    let expiring = |key: &str, value: &str, millis: u64| Command::Set {
        key: key.into(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        options: SetOptions { expiration: Some(Expiration::Millis(millis)), ..SetOptions::default() },
    };
    let late = (led + 1) % 3;
    for round in 0..3 {
        let key = |name: &str| format!("{name}:{round}");
        // Counted before it expires, by everybody, although one node hears of that when it has.
        cluster.network().isolate(late, Link::Drop);
        call(&mut leader, &expiring(&key("counted-before"), "10", 60_000));
        call(&mut leader, &expiring(&key("gone"), "10", 300));
        let before = call(&mut leader, &Command::Incr { key: key("counted-before").into() });
        assert_eq!(before, Reply::Integer(11));
        wait::within("it has expired", PATIENCE, || {
            (call(&mut leader, &Command::Get { key: key("gone").into() }) == Reply::NotFound).then_some(())
        })
        .unwrap();
        // Counted anew after it has expired, by everybody.
        assert_eq!(call(&mut leader, &Command::Incr { key: key("gone").into() }), Reply::Integer(1));
        call(&mut leader, &Command::Incr { key: key("gone").into() });
        cluster.network().heal();
        cluster.await_caught_up(PATIENCE).unwrap();
    }
    same_everywhere(&cluster);
    let dump = entries(&cluster, late);
    let entry = |key: &str| -> Value {
        dump.as_array().unwrap().iter().find(|entry| entry["key"] == key).cloned().unwrap()
    };
    assert_eq!(entry("gone:0")["version"], 2, "{}", entry("gone:0"));
    assert!(entry("gone:0")["expires_at_ms"].is_null(), "{}", entry("gone:0"));
    assert_eq!(entry("counted-before:2")["version"], 2, "{}", entry("counted-before:2"));
    assert!(entry("counted-before:2")["expires_at_ms"].is_u64(), "{}", entry("counted-before:2"));
}
