//! The newest entry of each key, by hash: what point reads look at.
//!
//! The ordered map answers everything, but only its writer may look at it while a batch is being applied, and a
//! search takes a way down. This table holds the same entries for whoever knows the key. It is divided so that readers and the writer rarely meet, and so that
//! growing one division is over quickly.
//!
//! All changes of one operation become visible at once: the divisions they touch are locked together, always in
//! ascending order, by the writer and by readers of several keys alike.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use parking_lot::{RwLock, RwLockWriteGuard};

use super::entry::Entry;
use super::keyspace::Keyspace;

/// Number of divisions. At a few million keys each holds some ten thousand.
const SHARDS: usize = 256;

/// The entries by key, expired ones included.
pub(super) struct Index {
    hasher: RandomState,
    shards: Box<[Shard]>,
}

/// One division, alone on its cache line.
#[derive(Default)]
#[repr(align(64))]
struct Shard(RwLock<HashTable<Entry>>);

/// Up to this many entries are freed by the writer itself.
const FREED_AT_ONCE_MAX: usize = 10_000;

/// What an operation did to the keys, in order.
#[derive(Default)]
pub(super) struct Changes {
    each: Vec<Change>,
    /// The keys as they were, when every key may have changed.
    replaced: Option<Keyspace>,
}

/// What became of one key.
enum Change {
    /// It has this entry now.
    Put(Entry),
    /// The entry it had is gone.
    Removed(Entry),
}

impl Changes {
    pub(super) fn put(&mut self, entry: Entry) {
        self.push(Change::Put(entry));
    }

    pub(super) fn removed(&mut self, entry: Entry) {
        self.push(Change::Removed(entry));
    }

    /// Every key may have changed; these were the keys before.
    pub(super) fn everything(&mut self, replaced: Keyspace) {
        self.each.clear();
        self.replaced.get_or_insert(replaced);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.each.is_empty() && self.replaced.is_none()
    }

    pub(super) fn clear(&mut self) {
        self.each.clear();
        self.replaced = None;
    }

    fn push(&mut self, change: Change) {
        if self.replaced.is_none() {
            self.each.push(change);
        }
    }
}

impl Change {
    fn entry(&self) -> &Entry {
        match self {
            Self::Put(entry) | Self::Removed(entry) => entry,
        }
    }
}

impl Index {
    /// The index of a keyspace.
    pub(super) fn of(keys: &Keyspace) -> Self {
        let index = Self {
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect(),
        };
        index.rebuild(keys);
        index
    }

    /// The entry of a key, if `select` takes it.
    pub(super) fn find<R>(&self, key: &str, select: impl FnOnce(&Entry) -> Option<R>) -> Option<R> {
        let hash = self.hash(key.as_bytes());
        let table = self.shards[shard_of(hash)].0.read();
        table.find(hash, |entry| entry.key_bytes() == key.as_bytes()).and_then(select)
    }

    /// What `select` makes of the entry of each key, all at one moment. Its first error ends it.
    pub(super) fn find_all<K: AsRef<str>, R, E>(
        &self,
        keys: &[K],
        mut select: impl FnMut(Option<&Entry>) -> Result<R, E>,
    ) -> Result<Vec<R>, E> {
        let hashes: Vec<u64> = keys.iter().map(|key| self.hash(key.as_ref().as_bytes())).collect();
        let places = distinct_shards(hashes.iter().copied());
        let tables: Vec<_> = places.iter().map(|&place| self.shards[place].0.read()).collect();
        let find = |(key, &hash): (&K, &u64)| {
            let table = &tables[places.binary_search(&shard_of(hash)).expect("every key's shard is locked")];
            select(table.find(hash, |entry| entry.key_bytes() == key.as_ref().as_bytes()))
        };
        keys.iter().zip(&hashes).map(find).collect()
    }

    /// Makes what an operation did visible, all at one moment. `keys` is the keyspace after it.
    pub(super) fn publish(&self, changes: &mut Changes, keys: &Keyspace) {
        if let Some(replaced) = changes.replaced.take() {
            discard(replaced.len(), (self.rebuild(keys), replaced));
        } else if let [change] = changes.each.as_slice() {
            let hash = self.hash(change.entry().key_bytes());
            self.change(&mut self.shards[shard_of(hash)].0.write(), hash, change);
        } else if !changes.each.is_empty() {
            self.publish_together(&changes.each);
        }
        changes.each.clear();
    }

    fn publish_together(&self, changes: &[Change]) {
        let hashes: Vec<u64> = changes.iter().map(|change| self.hash(change.entry().key_bytes())).collect();
        let places = distinct_shards(hashes.iter().copied());
        let mut tables: Vec<_> = places.iter().map(|&place| self.shards[place].0.write()).collect();
        for (change, &hash) in changes.iter().zip(&hashes) {
            let place = places.binary_search(&shard_of(hash)).expect("every change's shard is locked");
            self.change(&mut tables[place], hash, change);
        }
    }

    /// Replaces the whole content and hands back the old one. The new tables are made before anything is locked.
    fn rebuild(&self, keys: &Keyspace) -> Vec<HashTable<Entry>> {
        let mut tables: Vec<_> = (0..SHARDS).map(|_| HashTable::with_capacity(keys.len() / SHARDS)).collect();
        for entry in keys.iter() {
            let hash = self.hash(entry.key_bytes());
            tables[shard_of(hash)].insert_unique(hash, entry.clone(), |entry| self.hash(entry.key_bytes()));
        }
        let guards: Vec<RwLockWriteGuard<'_, _>> = self.shards.iter().map(|shard| shard.0.write()).collect();
        for (mut guard, table) in guards.into_iter().zip(&mut tables) {
            std::mem::swap(&mut *guard, table);
        }
        tables
    }

    fn change(&self, table: &mut HashTable<Entry>, hash: u64, change: &Change) {
        let key = change.entry().key_bytes();
        let slot = table.entry(hash, |held| held.key_bytes() == key, |held| self.hash(held.key_bytes()));
        match (change, slot) {
            (Change::Put(entry), Slot::Occupied(mut held)) => *held.get_mut() = entry.clone(),
            (Change::Put(entry), Slot::Vacant(free)) => _ = free.insert(entry.clone()),
            (Change::Removed(_), Slot::Occupied(held)) => _ = held.remove(),
            (Change::Removed(_), Slot::Vacant(_)) => {}
        }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }
}

/// Frees what nobody needs any more, on a thread of its own if it is much: millions of entries take a good part
/// of a second, for which the writer would stand still.
fn discard(entries: usize, garbage: impl Send + 'static) {
    if entries > FREED_AT_ONCE_MAX {
        // If there is no thread to be had, the closure is dropped, and the garbage with it.
        _ = std::thread::Builder::new().name("state-discard".to_owned()).spawn(move || drop(garbage));
    }
}

/// The division of a hash. The table inside uses the other bits.
fn shard_of(hash: u64) -> usize {
    usize::from(hash.to_le_bytes()[6])
}

/// The divisions of these hashes, ascending: the order in which everybody locks them.
fn distinct_shards(hashes: impl Iterator<Item = u64>) -> Vec<usize> {
    let mut places: Vec<usize> = hashes.map(shard_of).collect();
    places.sort_unstable();
    places.dedup();
    places
}

const _: () = assert!(SHARDS == 256, "one byte of the hash selects the division");
