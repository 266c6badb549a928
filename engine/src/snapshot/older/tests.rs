use std::io::Read;
use std::sync::Arc;

use super::*;
use crate::keyring::Keyring;
use crate::snapshot::{Head, load, write_keeping};

const SECOND: u64 = 1000;

fn listed(index: u64, time_ms: u64, size_bytes: u64) -> Listed {
    Listed {
        path: PathBuf::from(format!("snapshots/{index}.bin")),
        last: Some(RecordId { term: 1, leader: 1, index }),
        time_ms,
        size_bytes,
        key_id: Uuid::nil(),
    }
}

/// Snapshots at records 100, 200, …, one per second, of 10 bytes each; the log takes a byte for each record.
fn listing(count: u64) -> Listing {
    let mut older: Vec<_> = (1..=count).map(|nth| listed(nth * 100, nth * SECOND, 10)).collect();
    let last = older.pop();
    Listing { last, older, unreadable: Vec::new() }
}

fn kept(count: u64, age_s: u64, bytes: u64, log_begins_after: u64) -> (u64, Vec<u64>) {
    let listing = listing(count);
    let retention = Retention { age_ms: age_s * SECOND, bytes };
    let now_ms = count * SECOND;
    let log_bytes = |after: u64, up_to: u64| up_to - after;
    let kept = retain(&listing, retention, now_ms, log_begins_after, log_bytes).unwrap();
    let left = listing.older.iter().filter(|older| !kept.removable.contains(&older.path));
    (kept.log_after, left.map(|older| older.last.unwrap().index).collect())
}

#[test]
fn age_and_bytes_decide_together() {
    const PLENTY: u64 = 1 << 40;
    assert_eq!(kept(5, 0, PLENTY, 0), (500, vec![]), "no age, nothing kept");
    assert_eq!(kept(5, 10, 0, 0), (500, vec![]), "no bytes, nothing kept");
    assert_eq!(kept(5, 10, PLENTY, 0), (0, vec![100, 200, 300, 400]), "back to the empty state");
    assert_eq!(kept(5, 10, PLENTY, 100), (100, vec![100, 200, 300, 400]), "the log begins later");
    assert_eq!(kept(5, 2, PLENTY, 0), (300, vec![300, 400]), "the one that was there two seconds ago");
    assert_eq!(kept(5, 10, 220, 0), (300, vec![300, 400]), "two snapshots and 200 bytes of log");
    assert_eq!(kept(5, 10, 219, 0), (400, vec![400]), "a byte too few");
    assert_eq!(kept(5, 10, PLENTY, 250), (300, vec![300, 400]), "what the log does not reach is of no use");
    assert!(retain(&Listing::default(), Retention::NONE, 0, 0, |_, _| 0).is_none(), "no snapshot");
}

#[test]
fn many_snapshots_are_thinned_and_the_oldest_stays() {
    let (log_after, left) = kept(200, 1_000, 1 << 40, 100);
    assert_eq!((log_after, left.len(), left[0]), (100, OLDER_MAX, 100));
}

fn head(index: u64) -> Head {
    Head { last: Some(RecordId { term: 1, leader: 1, index }), time_ms: index, meta: Vec::new() }
}

fn content(dir: &DataDir, keyring: &Keyring) -> String {
    let mut content = String::new();
    load(dir, keyring).unwrap().unwrap().read_to_string(&mut content).unwrap();
    content
}

fn put(dir: &DataDir, keyring: &Keyring, index: u64) {
    write_keeping(dir, keyring, &head(index), |out| write!(out, "state {index}")).unwrap();
}

#[test]
fn older_snapshots_stay_until_they_are_removed() {
    let root = crate::crash::scratch();
    let dir = DataDir::open_or_create(root.path()).unwrap();
    let keyring = Keyring::open_or_create(&dir, 1).unwrap();
    for index in [5, 7, 20] {
        put(&dir, &keyring, index);
    }
    let found = list(&dir).unwrap();
    let indexes = |listing: &Listing| listing.older.iter().map(|o| o.last.unwrap().index).collect::<Vec<_>>();
    assert_eq!(indexes(&found), [5, 7]);
    assert_eq!(found.last.as_ref().unwrap().last.unwrap().index, 20);
    remove_older(&dir, &[found.older[0].path.clone()]).unwrap();
    assert_eq!(indexes(&list(&dir).unwrap()), [7]);
    assert_eq!(content(&dir, &keyring), "state 20");

    // Damage among them is told, and stops neither a start nor the next snapshot.
    let path = dir.older_snapshots().join("7.bin");
    let mut bad = fs::read(&path).unwrap();
    bad[40] ^= 1;
    fs::write(&path, bad).unwrap();
    let found = list(&dir).unwrap();
    assert_eq!((found.older.len(), found.unreadable.len()), (0, 1));
    assert_eq!(found.unreadable[0].file(), Some(path.as_path()));
    put(&dir, &keyring, 21);
    assert_eq!(content(&dir, &keyring), "state 21");
}

#[test]
fn a_lost_last_snapshot_is_not_replaced_by_an_older_one() {
    let root = crate::crash::scratch();
    let dir = DataDir::open_or_create(root.path()).unwrap();
    let keyring = Keyring::open_or_create(&dir, 1).unwrap();
    put(&dir, &keyring, 5);
    put(&dir, &keyring, 7);
    fs::remove_file(dir.snapshot()).unwrap();
    assert_eq!(load(&dir, &keyring).err().unwrap().code(), Code::ChecksumValidationFailure);
}

#[test]
fn a_crash_between_any_two_steps_leaves_the_last_snapshot_and_the_older_ones() {
    let root = crate::crash::scratch();
    {
        let dir = DataDir::open_or_create(root.path()).unwrap();
        let keyring = Keyring::open_or_create(&dir, 1).unwrap();
        put(&dir, &keyring, 1);
    }
    let crashes = crate::crash::Crashes::<()>::watch(root.path());
    let dir = DataDir::with_probe(root.path(), Arc::clone(&crashes) as _).unwrap();
    let keyring = Keyring::open_or_create(&dir, 1).unwrap();
    for index in [2, 3] {
        put(&dir, &keyring, index);
    }
    remove_older(&dir, &[dir.older_snapshots().join("1.bin")]).unwrap();
    drop(dir);
    let mut seen = std::collections::BTreeSet::new();
    for image in crashes.taken() {
        let root = image.restore();
        let dir = DataDir::open_or_create(root.path()).unwrap();
        let keyring = Keyring::open_or_create(&dir, 1).unwrap();
        let current = content(&dir, &keyring);
        let listing = list(&dir).unwrap();
        assert!(listing.unreadable.is_empty(), "{}", image.what);
        let index = listing.last.unwrap().last.unwrap().index;
        assert_eq!(current, format!("state {index}"), "{}", image.what);
        seen.insert(index);
        // Whatever the crash left, the next snapshot keeps the one it found.
        put(&dir, &keyring, 9);
        let older = list(&dir).unwrap().older;
        assert!(older.iter().any(|older| older.last.unwrap().index == index), "{}", image.what);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
}
