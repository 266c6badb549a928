//! The digest that is kept against one that is made of all there is, as its format says.

use proptest::collection::vec;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::model::{history, key, op, stored};
use super::*;

/// The sum over hashes, each read as four numbers.
fn sum(hashes: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut lanes = [0_u64; 4];
    for hashed in hashes {
        for (lane, bytes) in lanes.iter_mut().zip(Sha256::digest(hashed).chunks(8)) {
            *lane = lane.wrapping_add(u64::from_le_bytes(bytes.try_into().unwrap()));
        }
    }
    lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect()
}

fn number(number: usize) -> [u8; 8] {
    u64::try_from(number).unwrap().to_le_bytes()
}

fn len(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_le_bytes()
}

fn keys<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Vec<u8> {
    let hashed = |entry: &Entry| {
        let (version, deadline) = (entry.version(), entry.expires_at_ms().unwrap_or(0));
        let head = [&b"k"[..], &len(entry.key_bytes())[..], &version.to_le_bytes(), &deadline.to_le_bytes()];
        [&head.concat(), entry.key_bytes(), entry.value()].concat()
    };
    [number(entries.clone().count()).to_vec(), sum(entries.map(hashed))].concat()
}

/// From all there is.
fn recomputed(root: &Root) -> Vec<u8> {
    let records = root.system_iter("");
    let record = |(name, content): (&str, &Bytes)| {
        [&b"r"[..], &len(name.as_bytes())[..], name.as_bytes(), &content[..]].concat()
    };
    let mut hash = Sha256::new();
    hash.update(b"VXDIGEST\x01");
    hash.update(root.applied().map_or(0, Sequence::get).to_le_bytes());
    hash.update(root.time_ms().to_le_bytes());
    hash.update(root.access_revision().to_le_bytes());
    hash.update(number(root.system_iter("").count()));
    hash.update(sum(records.map(record)));
    hash.update(keys(root.iter().collect::<Vec<_>>().into_iter()));
    match &root.prepared {
        None => hash.update([0]),
        Some(prepared) => {
            hash.update([1]);
            hash.update(prepared.restore.to_le_bytes());
            hash.update(prepared.parts.to_le_bytes());
            hash.update(prepared.counted.to_le_bytes());
            hash.update(prepared.touched_ms.to_le_bytes());
            hash.update(keys(prepared.keys.iter().collect::<Vec<_>>().into_iter()));
        }
    }
    hash.finalize().to_vec()
}

#[track_caller]
fn check(root: &Root) {
    assert_eq!(root.digest().as_bytes(), recomputed(root));
}

/// What the model does not know: records, and restores at once and in parts.
#[derive(Clone, Debug)]
enum Other {
    Put(u8, Bytes),
    Delete(u8),
    Restore(Vec<(Text, Bytes)>),
    Part(u32, Vec<(Text, Bytes)>),
    Commit(u32),
}

fn other() -> impl Strategy<Value = Other> {
    let entries = || vec((key(), stored()), 0..4);
    prop_oneof![
        (0..4_u8, stored()).prop_map(|(name, content)| Other::Put(name, content)),
        (0..4_u8).prop_map(Other::Delete),
        entries().prop_map(Other::Restore),
        (0..3_u32, entries()).prop_map(|(part, entries)| Other::Part(part, entries)),
        (0..3_u32).prop_map(Other::Commit),
    ]
}

fn restored(entries: &[(Text, Bytes)]) -> Vec<RestoreEntry<'_>> {
    let entry = |(at, (key, value)): (usize, &'_ (Text, Bytes))| (at, key.to_string(), value.to_vec());
    let owned = entries.iter().enumerate().map(entry);
    let entry = |(at, key, value): (usize, String, Vec<u8>)| RestoreEntry {
        key: key.into(),
        value: value.into(),
        // Some last, some do not, and some are over before they come.
        expires_at_ms: (at % 2 == 1).then_some(1_000_000 + 40 * at as u64),
        version: at as u64,
    };
    owned.map(entry).collect()
}

impl Other {
    fn op(&self, expect_revision: u64) -> Op<'_> {
        let system = |change| Op::System { expect_revision, changes: vec![change] };
        match self {
            Self::Put(name, content) => {
                system(SystemChange::Put { key: format!("record/{name}").into(), value: content[..].into() })
            }
            Self::Delete(name) => system(SystemChange::Delete { key: format!("record/{name}").into() }),
            Self::Restore(entries) => Op::Restore { entries: restored(entries) },
            Self::Part(part, entries) => {
                Op::RestorePart { restore: 1, part: *part, entries: restored(entries) }
            }
            Self::Commit(parts) => Op::RestoreCommit { restore: 1, parts: *parts },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_what_is_there(history in history(), others in vec(other(), 25)) {
        let mut bench = Bench::new();
        for ((passed, events), other) in history.iter().zip(&others) {
            bench.now_ms = bench.now_ms.saturating_add_signed(*passed);
            bench.apply(events.iter().map(op).collect());
            check(&bench.state.root());
            bench.apply(vec![other.op(bench.state.access_revision())]);
            check(&bench.state.root());
        }
        let root = bench.state.root();
        let mut image = Vec::new();
        root.encode(&mut image).unwrap();
        prop_assert_eq!(Root::decode(&image[..]).unwrap().digest(), root.digest());
    }
}

#[test]
fn a_transaction_that_fails_half_way_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.run(&mset(&[("a", "1"), ("text", "no number")]));
    let before = bench.state.root();
    let failed = bench.exec(&[set("a", "2"), del(&["text"]), set("text", "x"), incr("text")]);
    assert!(matches!(failed, Outcome::Failed(_)));
    let after = bench.state.root();
    check(&after);
    assert_eq!(
        keys(after.iter().collect::<Vec<_>>().into_iter()),
        keys(before.iter().collect::<Vec<_>>().into_iter())
    );
}

#[test]
fn everything_counts() {
    let digest = |command: &Command, time_ms: u64, applied: usize| {
        let mut bench = Bench::new();
        bench.now_ms = time_ms;
        bench.run(command);
        (1..applied).for_each(|_| _ = bench.apply(vec![]));
        bench.state.root().digest()
    };
    let plain = digest(&set("k", "v"), 1000, 1);
    assert_eq!(plain, digest(&mset(&[("k", "v")]), 1000, 1), "the way there does not count");
    for (command, time_ms, applied) in [
        (set("k", "w"), 1000, 1),
        (set("l", "v"), 1000, 1),
        (set("kv", ""), 1000, 1),
        (set_px("k", "v", 5), 1000, 1),
        (mset(&[("k", "x"), ("k", "v")]), 1000, 1),
        (mset(&[("k", "v"), ("l", "v")]), 1000, 1),
        (set("k", "v"), 1001, 1),
        (set("k", "v"), 1000, 2),
    ] {
        assert_ne!(plain, digest(&command, time_ms, applied), "{command:?} at {time_ms}");
    }
}

#[test]
fn a_node_learns_from_a_check_whether_it_was_what_the_others_were() {
    let agreed = |reply| vec![Outcome::Reply(reply)];
    let mut bench = Bench::new();
    bench.run(&set("k", "v"));
    assert_eq!(bench.state.root().mark(), None);
    let before = bench.state.root();
    let outcomes = bench.apply(vec![Op::Mark]);
    let [Outcome::Reply(Reply::Value(told))] = &outcomes[..] else { panic!("a mark says what the state is") };
    let mark = bench.state.root().mark().unwrap();
    assert_eq!((mark.digest.as_bytes(), Some(mark.at)), (&told[..], bench.at));
    assert_eq!(bench.state.root().digest(), mark.digest, "marking changes nothing else");
    assert_ne!(before.digest(), mark.digest, "it is an entry all the same");

    // It is about the mark, whatever has happened since.
    bench.run(&set("k", "w"));
    let (at, digest) = (mark.at.get(), mark.digest);
    assert_eq!(bench.apply(vec![Op::Check { at, digest: digest.as_bytes() }]), agreed(Reply::Bool(true)));
    let other = [&[digest.as_bytes()[0] ^ 1][..], &digest.as_bytes()[1..]].concat();
    assert_eq!(bench.apply(vec![Op::Check { at, digest: &other }]), agreed(Reply::Bool(false)));
    assert_eq!(bench.apply(vec![Op::Check { at, digest: b"short" }]), agreed(Reply::Bool(false)));
    assert_eq!(bench.apply(vec![Op::Check { at: at + 1, digest: &other }]), agreed(Reply::NotFound));
    bench.apply(vec![Op::Mark]);
    assert_eq!(bench.apply(vec![Op::Check { at, digest: &other }]), agreed(Reply::NotFound));
    // Neither is a step of a transaction.
    assert!(!Op::Mark.is_step() && !Op::Check { at, digest: &other }.is_step());
}
