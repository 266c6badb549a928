//! A node whose state is wrong, and how it comes to the right one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::{CommittedLeaderId, Membership};
use tempfile::TempDir;
use vaylix_engine::op::When;
use vaylix_engine::state::Mark;

use super::*;
use crate::raft::EntryBody;
use crate::raft::codec::KIND_BATCH;

const ME: u64 = 1;
const LEADER: u64 = 2;

struct Bench {
    temp: TempDir,
    machine: Machine,
}

fn recover(temp: &TempDir) -> Machine {
    let dir = DataDir::open_or_create(temp.path()).unwrap();
    let keyring = Arc::new(Keyring::open_or_create(&dir, 0).unwrap());
    Machine::recover(ME, Arc::new(Gate::new(ME)), dir, keyring, Older::Kept, u64::MAX).unwrap()
}

fn id(index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(1, LEADER), index)
}

fn entry(index: u64, ops: Vec<Op<'_>>) -> Entry {
    let mut bytes = vec![KIND_BATCH];
    bytes.extend(Batch { time_ms: 1_000 + index, access_revision: 0, ops }.encode());
    let body = EntryBody { time_ms: 1_000 + index, bytes: Bytes::from(bytes) };
    Entry { log_id: id(index), payload: EntryPayload::Normal(body) }
}

fn set(index: u64, value: &str) -> Entry {
    set_key(index, "k", value)
}

fn set_key(index: u64, key: &'static str, value: &str) -> Entry {
    let value = value.as_bytes();
    let (ttl_ms, if_version) = (None, None);
    let (keep_ttl, return_previous, when) = (false, false, When::Always);
    entry(index, vec![Op::Set { key, value, ttl_ms, when, keep_ttl, return_previous, if_version }])
}

/// Both are voters.
fn founding() -> Entry {
    let nodes = BTreeMap::from([(ME, Member::default()), (LEADER, Member::default())]);
    let membership = Membership::new(vec![BTreeSet::from([ME, LEADER])], nodes);
    Entry { log_id: id(0), payload: EntryPayload::Membership(membership) }
}

impl Bench {
    fn new() -> Self {
        let temp = TempDir::new().unwrap();
        Self { machine: recover(&temp), temp }
    }

    fn apply(&self, entries: &[Entry]) {
        for entry in entries {
            self.machine.apply(entry).unwrap();
        }
    }

    fn root(&self) -> Root {
        self.machine.view().unwrap().root
    }

    fn mark(&self) -> Mark {
        self.machine.quarantine.mark().unwrap()
    }
}

/// Reads at most two entries at a time, as a log may.
fn reader(log: &[Entry]) -> impl Fn(u64, u64) -> Result<Vec<Entry>, openraft::StorageError<u64>> {
    move |from, to| {
        let wanted = log.iter().filter(|entry| (from..to).contains(&entry.log_id.index));
        Ok(wanted.take(2).cloned().collect())
    }
}

/// A right node and a wrong one, which has a snapshot of what is wrong, and the log that both have had.
fn divergent() -> (Bench, Bench, Vec<Entry>) {
    let (right, wrong) = (Bench::new(), Bench::new());
    let mut log = vec![founding(), set(1, "right"), set(2, "right"), entry(3, vec![Op::Mark])];
    right.apply(&log);
    wrong.apply(&[founding(), set(1, "right"), set(2, "wrong")]);
    wrong.machine.store(&wrong.machine.view().unwrap()).unwrap();
    wrong.apply(&log[3..]);
    assert_eq!(right.mark().at, wrong.mark().at);
    assert_ne!(right.mark().digest, wrong.mark().digest);
    let mark = right.mark();
    log.push(entry(4, vec![Op::Check { at: mark.at.get(), digest: mark.digest.as_bytes() }]));
    right.apply(&log[4..]);
    wrong.apply(&log[4..]);
    (right, wrong, log)
}

#[test]
fn a_check_puts_those_in_quarantine_who_were_something_else() {
    let (right, wrong, _) = divergent();
    assert!(!right.machine.quarantine.is_imposed());
    assert_eq!(right.machine.quarantine.counts().agreed_index, 5);
    assert!(wrong.machine.quarantine.is_imposed());
    assert_eq!(wrong.machine.quarantine.counts().diverged, 1);

    // Also after a restart, from the wrong snapshot and the same log, mark or no mark.
    let Bench { temp, machine } = wrong;
    drop(machine);
    let again = recover(&temp);
    assert!(!again.quarantine.is_imposed());
    let (_, _, log) = divergent();
    for entry in &log[3..] {
        again.apply(entry).unwrap();
    }
    assert!(again.quarantine.is_imposed());
}

#[test]
fn a_state_that_is_learnt_anew_takes_the_place_of_the_wrong_one_in_memory_and_on_disk() {
    let (right, wrong, mut log) = divergent();
    // The leader's state ends somewhere; this node has gone on meanwhile.
    let taught = right.root();
    for index in 5..9 {
        log.push(set_key(index, "later", &format!("value {index}")));
    }
    right.apply(&log[5..]);
    wrong.apply(&log[5..]);
    assert_ne!(wrong.root().digest(), right.root().digest());

    wrong.machine.relearn(taught, reader(&log)).unwrap();
    assert!(!wrong.machine.quarantine.is_imposed());
    assert_eq!(wrong.machine.quarantine.counts().relearned, 1);
    assert_eq!(wrong.root().digest(), right.root().digest());
    assert_eq!(wrong.machine.applied_record_index(), 9);
    assert_eq!(wrong.machine.reader().get("k", 0), Some("right".into()));
    assert_eq!(wrong.machine.reader().get("later", 0), Some("value 8".into()));
    assert_eq!(wrong.mark(), right.mark());

    let next = set(9, "next");
    right.apply(std::slice::from_ref(&next));
    wrong.apply(std::slice::from_ref(&next));
    assert_eq!(wrong.root().digest(), right.root().digest(), "it goes on from there");
    let Bench { temp, machine } = wrong;
    drop(machine);
    let again = recover(&temp);
    again.apply(&next).unwrap();
    assert_eq!(again.view().unwrap().root.digest(), right.root().digest());
}

#[test]
fn nothing_is_replaced_by_what_does_not_fit() {
    let (right, wrong, mut log) = divergent();
    let before = wrong.root().digest();
    // The log behind it is gone.
    let taught = right.root();
    log.push(set(5, "more"));
    log.push(set(6, "more"));
    wrong.apply(&log[5..]);
    let refused = wrong.machine.relearn(taught, reader(&log[6..]));
    assert!(matches!(refused, Err(RelearnError::Gap { learnt: 5 })), "{refused:?}");
    // It is wrong as well: the check behind it says so.
    let other = Bench::new();
    other.apply(&[founding(), set(1, "right"), set(2, "also wrong"), log[3].clone()]);
    let refused = wrong.machine.relearn(other.root(), reader(&log));
    assert!(matches!(refused, Err(RelearnError::Diverged(5))), "{refused:?}");
    assert!(wrong.machine.quarantine.is_imposed());
    assert_ne!(wrong.root().digest(), before, "it has gone on with its own");
    assert_eq!(wrong.machine.quarantine.counts().relearned, 0);
}

#[test]
fn what_is_offered_stays_the_same_until_it_has_arrived_or_is_of_no_use() {
    let bench = Bench::new();
    assert!(bench.machine.offer(0).is_none(), "there is nothing");
    bench.apply(&[founding(), set(1, "a")]);
    let last = |log_begins| bench.machine.offer(log_begins).unwrap().meta.last_log_id;
    bench.apply(&[set(2, "b")]);
    assert_eq!(last(0), Some(id(2)), "what nobody was sent is not kept");
    bench.machine.offered(&bench.machine.offer(0).unwrap());
    bench.apply(&[set(3, "c")]);
    assert_eq!(last(0), Some(id(2)));
    assert_eq!(last(4), Some(id(2)), "the log goes on behind it");
    bench.machine.forget_old_offer();
    assert_eq!(last(0), Some(id(2)));
    assert_eq!(last(5), Some(id(3)), "the log has let go of what follows");
    bench.machine.offered(&bench.machine.offer(0).unwrap());
    bench.apply(&[set(4, "d")]);
    assert_eq!(last(0), Some(id(3)));
    bench.machine.withdraw_offer();
    assert_eq!(last(0), Some(id(4)));
}

#[test]
fn a_snapshot_has_the_less_leisure_the_more_log_there_is() {
    let leisure = |log_bytes| leisure(log_bytes, 1000);
    assert!((leisure(0) - 1.0).abs() < f64::EPSILON);
    assert!((leisure(1000) - 1.0).abs() < f64::EPSILON);
    assert!((leisure(1250) - 0.5).abs() < 0.001);
    assert!(leisure(1500).abs() < f64::EPSILON);
    assert!(leisure(u64::MAX).abs() < f64::EPSILON);
    // Where the log may grow for ever there is always time, and where there is no room for any there is none.
    assert!((super::leisure(1 << 60, u64::MAX) - 1.0).abs() < f64::EPSILON);
    assert!(super::leisure(1, 0).abs() < f64::EPSILON);
}
