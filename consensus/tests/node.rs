//! A node of one, from outside: what is acknowledged is there afterwards, however it stopped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use vaylix_consensus::{Config, Node, Payload, Proposal, ProposeError, Role, limits};
use vaylix_engine::op::{RestoreEntry, SystemChange};
use vaylix_engine::wal;
use vaylix_proto::{Command, Expiration, Reply, SetOptions};

/// Longer than any of these tests takes; a hang fails instead of blocking.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(temp: &TempDir) -> Config {
    let wal = wal::Config {
        initial_size_bytes: 64 << 10,
        segment_size_bytes: 256 << 10,
        prezero: false,
        ..wal::Config::default()
    };
    Config { wal, sweep_interval: Duration::from_millis(20), ..Config::new(temp.path()) }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be had")
}

/// Runs one life of a node, which ends like a crash: the runtime and everything on it is torn down.
fn life<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(async { timeout(PATIENCE, work).await.expect("still not done") })
}

fn set(key: &str, value: impl Into<Bytes>) -> Command {
    Command::Set { key: key.into(), value: value.into(), options: SetOptions::default() }
}

fn command(command: Command) -> Proposal {
    Proposal {
        span: tracing::Span::none(),
        caller: 0,
        access_revision: 0,
        payload: Payload::Command(command),
    }
}

fn get(node: &Node, key: &str) -> Option<Bytes> {
    let view = node.try_read().expect("a ready node of one answers reads");
    view.reader.get(key, view.now_ms)
}

/// Waits for background work of the node.
async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_fresh_node_leads_and_reads_its_writes() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        assert_eq!(node.propose(command(set("a", "1"))).await, Ok(Reply::Ok));
        assert_eq!(get(&node, "a"), Some(Bytes::from("1")));
        assert_eq!(node.propose(command(Command::Incr { key: "a".into() })).await, Ok(Reply::Integer(2)));
        assert_eq!(node.read().await.unwrap().reader.get("a", 0), Some(Bytes::from("2")));

        let status = node.status();
        assert_eq!(status.role, Role::Leader);
        assert_eq!(status.leader, Some(status.identity.node));
        assert_eq!(status.voters, 1);
        assert!(status.reads_open);
        assert_eq!(status.applied_index, 4, "membership, the leader's blank entry and two writes");
        assert_eq!(status.durable_index, 4);
        assert_eq!((status.batches.batches, status.batches.commands), (2, 2));
        assert!(status.wal.syncs.len() >= 2);
        assert!(status.snapshot.is_none());
    });
}

#[test]
fn a_crashed_node_recovers_from_the_log_alone() {
    let temp = TempDir::new().unwrap();
    let identity = life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        for i in 0..50 {
            node.propose(command(set(&format!("k{i}"), format!("v{i}")))).await.unwrap();
        }
        node.identity()
    });
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        assert_eq!(node.identity(), identity);
        assert_eq!(node.status().recovery.snapshot_index, 0);
        assert_eq!(node.status().recovery.replayed_entries, 52);
        for i in 0..50 {
            assert_eq!(get(&node, &format!("k{i}")), Some(Bytes::from(format!("v{i}"))));
        }
    });
}

#[test]
fn a_restart_loads_the_snapshot_and_replays_only_what_follows() {
    let temp = TempDir::new().unwrap();
    let snapshot_index = life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        for i in 0..20 {
            node.propose(command(set("before", i.to_string()))).await.unwrap();
        }
        node.snapshot().await.unwrap();
        let snapshot = node.status().snapshot.unwrap();
        assert_eq!(snapshot.index, 22);
        node.snapshot().await.unwrap();
        let counts = node.status().snapshots;
        assert_eq!((counts.taken, counts.failed), (1, 0), "nothing new, nothing taken");
        node.propose(command(set("after", "1"))).await.unwrap();
        snapshot.index
    });
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        let recovery = node.status().recovery;
        assert_eq!(recovery.snapshot_index, snapshot_index);
        assert_eq!(recovery.replayed_entries, 1);
        assert_eq!(get(&node, "before"), Some(Bytes::from("19")));
        assert_eq!(get(&node, "after"), Some(Bytes::from("1")));
        node.propose(command(set("after", "2"))).await.unwrap();
        node.snapshot().await.unwrap();
    });
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        assert_eq!(node.status().recovery.replayed_entries, 0);
        assert_eq!(get(&node, "after"), Some(Bytes::from("2")));
    });
}

#[test]
fn a_clean_stop_drains_takes_a_snapshot_and_frees_the_directory() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        let mut pending = Vec::new();
        for i in 0..500 {
            pending.push(node.submit(command(set(&format!("k{i}"), "v"))).await);
        }
        let other = node.clone();
        node.shutdown().await.unwrap();
        for answer in pending {
            assert_eq!(answer.await, Ok(Reply::Ok));
        }
        assert_eq!(other.propose(command(set("late", "v"))).await, Err(ProposeError::Closed));
        assert!(other.try_read().is_none());
        assert!(other.read().await.is_err());
        drop(other);

        let node = Node::start(config(&temp)).await.unwrap();
        assert_eq!(node.status().recovery.replayed_entries, 0, "the last snapshot has everything");
        assert_eq!(node.status().recovery.wal.records, 0, "and the log has let go of it");
        assert_eq!(node.local().reader.root().len(), 500);
        assert_eq!(get(&node, "late"), None);
    });
}

#[test]
fn what_was_acknowledged_to_concurrent_and_aborted_callers_survives_a_crash() {
    const CALLERS: u64 = 64;
    let temp = TempDir::new().unwrap();
    let acknowledged: Vec<_> = (0..CALLERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        let enough = Arc::new(AtomicBool::new(false));
        let mut callers = Vec::new();
        for (caller, acknowledged) in (0..CALLERS).zip(acknowledged.iter().cloned()) {
            let (node, enough) = (node.clone(), enough.clone());
            callers.push(tokio::spawn(async move {
                for i in 1.. {
                    let write = command(set(&format!("c{caller}"), i.to_string()));
                    if i % (caller + 2) == 0 {
                        // A caller that walks away while its write is under way.
                        let walks_away = tokio::spawn({
                            let node = node.clone();
                            async move { node.propose(write).await }
                        });
                        tokio::task::yield_now().await;
                        walks_away.abort();
                        continue;
                    }
                    node.propose(write).await.unwrap();
                    acknowledged.store(i, Ordering::SeqCst);
                    if enough.load(Ordering::SeqCst) {
                        return;
                    }
                }
            }));
        }
        until(|| node.status().batches.commands > 5_000).await;
        for caller in callers.iter().step_by(2) {
            caller.abort();
        }
        enough.store(true, Ordering::SeqCst);
        for caller in callers.into_iter().skip(1).step_by(2) {
            caller.await.unwrap();
        }
        assert!(node.status().batches.commands_max > 1, "concurrent commands share entries");
    });
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        for (caller, last) in acknowledged.iter().enumerate() {
            let found = get(&node, &format!("c{caller}"))
                .map_or(0, |value| std::str::from_utf8(&value).unwrap().parse().unwrap());
            let last = last.load(Ordering::SeqCst);
            assert!(found >= last, "caller {caller} was told {last}, found {found}");
        }
    });
}

#[test]
fn pipelined_changes_of_one_caller_take_effect_in_order() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        let mut pending = Vec::new();
        for _ in 0..3_000 {
            pending.push(node.submit(command(Command::Incr { key: "n".into() })).await);
        }
        for (answer, n) in pending.into_iter().zip(1..) {
            assert_eq!(answer.await, Ok(Reply::Integer(n)));
        }
        assert!(node.status().batches.commands_max <= limits::BATCH_COMMANDS_MAX as u64);
    });
}

fn grant(expect_revision: u64) -> Payload {
    let put = SystemChange::Put { key: "user/a".into(), value: b"x".as_slice().into() };
    Payload::System { expect_revision, changes: vec![put] }
}

#[test]
fn a_change_admitted_under_an_older_access_revision_is_sent_back() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        let system = |expect| Proposal {
            span: tracing::Span::none(),
            caller: 0,
            access_revision: expect,
            payload: grant(expect),
        };
        // In one batch: the second was admitted before the first took effect.
        let (first, second) =
            tokio::join!(node.submit(system(0)), node.submit(command(set("together", "1"))));
        assert_eq!(first.await, Ok(Reply::Ok));
        assert_eq!(second.await, Err(ProposeError::Stale));
        let entries = node.status().last_index;
        assert_eq!(node.propose(command(set("later", "1"))).await, Err(ProposeError::Stale));
        assert_eq!(node.propose(system(0)).await, Err(ProposeError::Stale));
        assert_eq!(node.status().last_index, entries, "what is stale does not enter the log");
        assert_eq!(node.status().batches.stale, 3);
        assert_eq!(get(&node, "together"), None);

        let current = Proposal {
            span: tracing::Span::none(),
            caller: 0,
            access_revision: 1,
            payload: Payload::Command(set("later", "2")),
        };
        assert_eq!(node.propose(current).await, Ok(Reply::Ok));
        assert_eq!(node.status().access_revision, 1);
    });
}

#[test]
fn each_caller_of_a_batch_gets_its_own_cause() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        node.propose(command(set("text", "abc"))).await.unwrap();
        let bad = node.submit(command(Command::Incr { key: "text".into() })).await;
        let good = node.submit(command(set("b", "1"))).await;
        let foreign = node.submit(command(Command::Info)).await;
        assert!(matches!(bad.await, Err(ProposeError::Failed(_))));
        assert_eq!(good.await, Ok(Reply::Ok));
        assert!(matches!(foreign.await, Err(ProposeError::Failed(_))), "not a command about keys");
    });
}

#[test]
fn a_transaction_of_a_mebibyte_is_all_or_nothing_and_survives() {
    let temp = TempDir::new().unwrap();
    let large = |i: usize| Bytes::from(vec![u8::try_from(i).unwrap(); 64 << 10]);
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        let mut commands: Vec<_> = (0..16).map(|i| set(&format!("k{i}"), large(i))).collect();
        let transaction = |commands| Proposal {
            span: tracing::Span::none(),
            caller: 0,
            access_revision: 0,
            payload: Payload::Transaction { commands, answer_bytes_max: 1 << 20 },
        };
        let Ok(Reply::Exec(replies)) = node.propose(transaction(commands.clone())).await else { panic!() };
        assert_eq!(replies, vec![Reply::Ok; 16]);
        commands.push(Command::Incr { key: "k1".into() });
        commands[0] = set("k0", "overwritten");
        let failed = node.propose(transaction(commands)).await;
        assert!(matches!(failed, Err(ProposeError::Failed(_))), "{failed:?}");
    });
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        for i in 0..16 {
            assert_eq!(get(&node, &format!("k{i}")), Some(large(i)));
        }
    });
}

#[test]
fn what_does_not_fit_in_an_entry_is_refused_and_the_rest_goes_on() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        let huge = set("huge", vec![0; limits::ENTRY_BYTES_MAX]);
        let (huge, small) = (node.submit(command(huge)).await, node.submit(command(set("small", "1"))).await);
        assert!(matches!(huge.await, Err(ProposeError::TooLarge { .. })));
        assert_eq!(small.await, Ok(Reply::Ok));
    });
}

#[test]
fn a_restore_replaces_everything() {
    let temp = TempDir::new().unwrap();
    let restore = |keys: usize, value_bytes: usize| {
        let entry = |i: usize| RestoreEntry {
            key: format!("k{i}").into(),
            value: vec![7; value_bytes].into(),
            expires_at_ms: None,
            version: 7,
        };
        Proposal {
            span: tracing::Span::none(),
            caller: 0,
            access_revision: 0,
            payload: Payload::Restore((0..keys).map(entry).collect()),
        }
    };
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        node.propose(command(set("old", "1"))).await.unwrap();
        assert_eq!(node.propose(restore(2, 10)).await, Ok(Reply::Count(2)));
        assert_eq!(node.local().reader.root().len(), 2);
        let entries = node.status().last_index;
        assert_eq!(node.propose(restore(5, 500 << 10)).await, Ok(Reply::Count(5)));
        assert!(node.status().last_index >= entries + 3, "a large one takes several entries");
        assert_eq!(node.local().reader.root().len(), 5);
    });
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        assert_eq!(node.local().reader.root().len(), 5);
        assert_eq!(get(&node, "k4"), Some(Bytes::from(vec![7; 500 << 10])));
    });
}

fn part(keys: std::ops::Range<usize>) -> Vec<RestoreEntry<'static>> {
    let entry = |i: usize| RestoreEntry {
        key: format!("k{i}").into(),
        value: vec![7; 10].into(),
        expires_at_ms: None,
        version: 7,
    };
    keys.map(entry).collect()
}

#[test]
fn a_restore_in_parts_changes_nothing_until_it_is_committed() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        node.propose(command(set("old", "1"))).await.unwrap();
        let mut restoration = node.begin_restore().await;
        restoration.add(part(0..10)).await.unwrap();
        node.propose(command(set("between", "1"))).await.unwrap();
        restoration.add(part(5..15)).await.unwrap();
        assert_eq!(node.local().reader.root().len(), 2);
        // Admitted under rules that have changed: the caller may come again.
        assert_eq!(restoration.commit(99).await, Err(ProposeError::Stale));
        assert_eq!(restoration.commit(0).await, Ok(Reply::Count(20)));
        assert_eq!(node.local().reader.root().len(), 15);
        drop(restoration);

        // One is prepared at a time, and one that is given up is as if it had never been.
        let mut abandoned = node.begin_restore().await;
        abandoned.add(part(0..1)).await.unwrap();
        let mut next = std::pin::pin!(node.begin_restore());
        assert!(now_or_never(next.as_mut()).await.is_none());
        abandoned.abandon().await.unwrap();
        let mut next = next.await;
        next.add(part(0..3)).await.unwrap();
        assert_eq!(node.local().reader.root().len(), 15);
        assert_eq!(next.commit(0).await, Ok(Reply::Count(3)));
        drop(next);

        let mut interrupted = node.begin_restore().await;
        interrupted.add(part(0..7)).await.unwrap();
    });
    // A crash in the middle.
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        assert_eq!(node.local().reader.root().len(), 3);
        let mut restoration = node.begin_restore().await;
        restoration.add(Vec::new()).await.unwrap();
        assert_eq!(restoration.commit(0).await, Ok(Reply::Count(0)));
        assert!(node.local().reader.root().is_empty());
    });
}

/// What a future yields if it takes no waiting.
async fn now_or_never<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn expired_keys_are_hidden_at_once_and_swept_through_the_log() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        let options = SetOptions { expiration: Some(Expiration::Millis(1)), ..SetOptions::default() };
        for i in 0..10 {
            let set = Command::Set { key: format!("k{i}").into(), value: Bytes::from("v"), options };
            node.propose(command(set)).await.unwrap();
        }
        node.propose(command(set("stays", "v"))).await.unwrap();
        until(|| node.status().sweeps.keys == 10).await;
        assert!(node.status().sweeps.sweeps >= 1);
        assert_eq!(node.local().reader.root().len(), 1);
    });
}

#[test]
fn snapshots_are_taken_by_log_size_and_the_log_behind_them_goes() {
    let temp = TempDir::new().unwrap();
    let small = || Config { snapshot_log_bytes: Some(700 << 10), ..config(&temp) };
    let mut expected = BTreeMap::new();
    life(async {
        let node = Node::start(small()).await.unwrap();
        for i in 0..20 {
            let (key, value) = (format!("k{}", i % 10), Bytes::from(vec![i; 100 << 10]));
            node.propose(command(set(&key, value.clone()))).await.unwrap();
            expected.insert(key, value);
        }
        until(|| node.status().snapshots.taken >= 1).await;
        until(|| node.status().wal.oldest_index > Some(1)).await;
    });
    life(async {
        let node = Node::start(small()).await.unwrap();
        assert!(node.status().recovery.snapshot_index > 0);
        for (key, value) in expected {
            assert_eq!(get(&node, &key), Some(value));
        }
    });
}

#[test]
fn retained_segments_stay_behind_the_snapshot() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(Config { retained_segments: 3, ..config(&temp) }).await.unwrap();
        for i in 0..18 {
            node.propose(command(set("k", vec![i; 100 << 10]))).await.unwrap();
        }
        let before = node.status().wal;
        assert!(before.segment_count > 5);
        node.snapshot().await.unwrap();
        until(|| node.status().wal.oldest_index > before.oldest_index).await;
        assert_eq!(node.status().wal.segment_count, 4, "three and the active one");
    });
}

#[test]
fn a_directory_is_used_by_one_node() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        let second = Node::start(config(&temp)).await.err().unwrap();
        assert_eq!(second.code().code(), "ENG-011");
        drop(node);
    });
}

#[test]
fn a_node_without_its_vote_does_not_start_under_a_new_name() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        node.propose(command(set("a", "1"))).await.unwrap();
    });
    std::fs::remove_file(temp.path().join("vote.bin")).unwrap();
    life(async {
        let error = Node::start(config(&temp)).await.err().unwrap();
        assert!(error.file().unwrap().ends_with("vote.bin"), "{error}");
    });
}

#[test]
fn a_node_whose_snapshot_is_gone_does_not_start_with_a_hole() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        node.propose(command(set("a", "1"))).await.unwrap();
        node.snapshot().await.unwrap();
        until(|| node.status().wal.oldest_index != Some(1)).await;
    });
    for file in ["snapshot.bin", "manifest.bin"] {
        std::fs::remove_file(temp.path().join(file)).unwrap();
    }
    life(async {
        let error = Node::start(config(&temp)).await.err().unwrap();
        assert!(error.code().code().starts_with("ENG-"), "{error}");
    });
}

#[test]
fn a_stop_does_not_wait_for_a_pause_of_the_callers() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let node = node.clone();
                tokio::spawn(async move {
                    // Always more on the way than an entry takes.
                    let mut pending = VecDeque::new();
                    loop {
                        pending.push_back(
                            node.submit(command(set(&format!("k{caller}"), vec![0; 140_000]))).await,
                        );
                        if pending.len() > 16
                            && pending.pop_front().unwrap().await == Err(ProposeError::Closed)
                        {
                            return;
                        }
                    }
                })
            })
            .collect();
        until(|| node.status().batches.commands > 10).await;
        node.shutdown().await.unwrap();
        for caller in callers {
            caller.await.unwrap();
        }
    });
}

#[test]
fn a_stop_writes_no_snapshot_for_a_few_changes_of_much_data() {
    let temp = TempDir::new().unwrap();
    let taken = || {
        life(async {
            let node = Node::start(config(&temp)).await.unwrap();
            node.propose(command(set("few", "changes"))).await.unwrap();
            let other = node.clone();
            node.shutdown().await.unwrap();
            other.status().snapshots.taken
        })
    };
    assert_eq!(taken(), 1, "there was none");
    assert_eq!(taken(), 1, "the log is larger than that one");
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        // Something that compression does not shrink to nothing.
        let noise = std::iter::successors(Some(1_u32), |last| {
            Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
        });
        let noise: Bytes = noise.map(|number| (number >> 24) as u8).take(64 << 10).collect();
        node.propose(command(set("much", noise))).await.unwrap();
        node.snapshot().await.unwrap();
    });
    assert_eq!(taken(), 0);
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        assert!(node.status().recovery.replayed_entries > 0);
        assert_eq!(get(&node, "few"), Some(Bytes::from("changes")));
    });
}

#[test]
fn the_log_is_bounded_on_disk_however_small_its_entries_are() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(Config { snapshot_log_bytes: Some(64 << 10), ..config(&temp) }).await.unwrap();
        for _ in 0..128 {
            node.propose(command(Command::Incr { key: "n".into() })).await.unwrap();
        }
        until(|| node.status().snapshot.is_some()).await;
    });
}

#[test]
fn a_new_storage_key_is_put_to_use_at_once_and_loses_nothing() {
    let temp = TempDir::new().unwrap();
    let (first, last) = life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        let first = node.status().keys;
        assert_eq!((first.count, first.wrapped), (1, false));
        for i in 0..20 {
            node.propose(command(set(&format!("k{i}"), "before"))).await.unwrap();
        }
        node.snapshot().await.unwrap();
        // Writes go on meanwhile.
        let writer = tokio::spawn({
            let node = node.clone();
            async move {
                for i in 0..200 {
                    node.propose(command(set(&format!("k{i}"), "amid"))).await.unwrap();
                }
            }
        });
        let mut ids = vec![first.active_id.clone()];
        for _ in 0..5 {
            ids.push(node.rotate_storage_key().await.unwrap());
        }
        writer.await.unwrap();
        let status = node.status();
        assert_eq!(status.keys.count, 6);
        assert_eq!(Some(&status.keys.active_id), ids.last());
        assert_eq!(status.snapshots.taken, 6, "one that was asked for, and one for each key");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 6);
        (first.active_id, status.keys.active_id)
    });
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        assert_eq!(node.status().keys.active_id, last);
        for i in 0..200 {
            assert_eq!(get(&node, &format!("k{i}")), Some(Bytes::from("amid")));
        }
        // With nothing new to cover, too.
        node.snapshot().await.unwrap();
        let index = node.status().snapshot.unwrap().index;
        node.rotate_storage_key().await.unwrap();
        assert_eq!(node.status().snapshot.unwrap().index, index);
        node.shutdown().await.unwrap();
    });
    let old = u128::from_str_radix(&first.replace('-', ""), 16).unwrap().to_be_bytes();
    for file in ["snapshot.bin", "manifest.bin", "vote.bin", "wal/origin.bin"] {
        let content = std::fs::read(temp.path().join(file)).unwrap();
        assert!(!content.windows(16).any(|window| window == old), "{file} is still under the first key");
    }
}

#[test]
fn a_storage_key_that_has_grown_old_is_replaced() {
    let temp = TempDir::new().unwrap();
    life(async {
        let aging = Config { key_age_max: Some(Duration::from_millis(50)), ..config(&temp) };
        let node = Node::start(aging).await.unwrap();
        node.propose(command(set("k", "v"))).await.unwrap();
        until(|| node.status().keys.count >= 3).await;
        // Nobody asked for a snapshot.
        until(|| node.status().snapshots.taken >= 1).await;
        node.shutdown().await.unwrap();
    });
    life(async {
        let node = Node::start(Config { key_age_max: None, ..config(&temp) }).await.unwrap();
        assert!(node.status().keys.count >= 3);
        assert_eq!(get(&node, "k"), Some(Bytes::from("v")));
    });
}

#[test]
fn snapshots_are_taken_by_time_and_only_when_something_has_changed() {
    let temp = TempDir::new().unwrap();
    life(async {
        let interval = Some(Duration::from_millis(20));
        let node = Node::start(Config { snapshot_interval: interval, ..config(&temp) }).await.unwrap();
        for round in 1..=3 {
            node.propose(command(set("k", round.to_string()))).await.unwrap();
            let applied = node.status().applied_index;
            until(|| node.status().snapshot.is_some_and(|snapshot| snapshot.index >= applied)).await;
            let status = node.status();
            assert!(status.snapshots.taken <= 1 + round && status.snapshots.last_duration.is_some());
        }
    });
}

#[test]
fn a_snapshot_that_fails_is_counted_and_does_not_hold_up_the_next() {
    let temp = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        node.propose(command(set("k", "1"))).await.unwrap();
        let obstacle = temp.path().join("snapshot.bin.tmp");
        std::fs::create_dir(&obstacle).unwrap();
        assert!(node.snapshot().await.is_err());
        let counts = node.status().snapshots;
        assert_eq!((counts.taken, counts.failed), (0, 1));
        assert!(counts.last_failed_ms.is_some() && node.status().snapshot.is_none());
        // A new key is active although the snapshot under it has to wait.
        let key = node.rotate_storage_key().await.unwrap();
        assert_eq!(node.status().keys.active_id, key);
        std::fs::remove_dir(&obstacle).unwrap();
        node.snapshot().await.unwrap();
        assert_eq!(node.status().snapshots.taken, 1);
    });
}

/// A node whose next segment cannot get its name, and the number of the write that waits for it. The log asks for no room
/// beforehand, or the write would be refused instead.
async fn stuck(temp: &TempDir, patience: Duration) -> (Node, Obstacle, u32) {
    let wal = wal::Config {
        initial_size_bytes: 4 << 10,
        segment_size_bytes: 4 << 10,
        reserve_bytes: 0,
        ..config(temp).wal
    };
    let node = Node::start(Config { wal, stuck_patience: patience, ..config(temp) }).await.unwrap();
    let write = async |nth: u32| {
        let write = node.propose(command(set(&format!("k{nth}"), vec![b'v'; 300]))).await;
        write.map_err(|error| {
            assert_eq!(error, ProposeError::OutcomeUnknown);
            assert_eq!(error.code(), vaylix_proto::Code::ReplicationAcknowledgementUnavailable);
        })
    };
    write(0).await.unwrap();
    let obstacle = Obstacle::new(temp, node.status().applied_index);
    for nth in 1..20 {
        if write(nth).await.is_err() {
            return (node, obstacle, nth);
        }
    }
    panic!("the segment holds fewer");
}

/// Directories under the names that the next segment may get.
struct Obstacle(Vec<std::path::PathBuf>);

impl Obstacle {
    fn new(temp: &TempDir, applied: u64) -> Self {
        let names = (applied + 1..applied + 30).map(|start| format!("wal/active-{start}.wal"));
        let paths: Vec<_> = names.map(|name| temp.path().join(name)).collect();
        paths.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        Self(paths)
    }

    fn remove(self) {
        self.0.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
    }
}

#[test]
fn callers_that_wait_for_the_disk_are_told_so_and_the_node_goes_on_when_it_can() {
    let temp = TempDir::new().unwrap();
    life(async {
        let (node, obstacle, unknown) = stuck(&temp, Duration::from_millis(500)).await;
        assert!(unknown > 0);
        let applied = node.status().applied_index;
        // While it waits, nothing else is taken on, and what was acknowledged can be read.
        for _ in 0..3 {
            let refused = node.propose(command(set("later", "1"))).await.unwrap_err();
            assert!(matches!(refused, ProposeError::NoRoom(_)), "{refused}");
        }
        assert!(get(&node, "k0").is_some() && get(&node, &format!("k{unknown}")).is_none());
        assert_eq!(node.status().applied_index, applied);

        obstacle.remove();
        until(|| get(&node, &format!("k{unknown}")).is_some()).await;
        // For a moment more it may not know that the wait is over.
        while let Err(refused) = node.propose(command(set("after", "1"))).await {
            assert!(matches!(refused, ProposeError::NoRoom(_)), "{refused}");
        }
        assert!(get(&node, "later").is_none(), "what was refused did not happen");
    });
    life(async {
        let node = Node::start(config(&temp)).await.unwrap();
        assert!(get(&node, "k0").is_some() && get(&node, "after").is_some());
    });
}

#[test]
fn patience_with_the_disk_is_as_long_as_it_is_set() {
    let temp = TempDir::new().unwrap();
    life(async {
        let patience = Duration::from_millis(400);
        let begun = std::time::Instant::now();
        let (node, obstacle, unknown) = stuck(&temp, patience).await;
        assert!(begun.elapsed() >= patience);
        // A node that goes away while it is stuck ends its process.
        obstacle.remove();
        until(|| get(&node, &format!("k{unknown}")).is_some()).await;
    });
    assert_eq!(config(&temp).stuck_patience, Duration::from_secs(5));
}
