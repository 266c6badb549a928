//! All keys in order, as a persistent map: cloning costs nothing and the clone never changes.

use std::cmp::Ordering;
use std::ops::Bound;

use equivalent::{Comparable, Equivalent};
use imbl::OrdSet;

use super::digest::Sum;
use super::entry::Entry;
use super::tree::{Builder, Tree};

/// The keys, and the order in which they expire.
///
/// Invariants:
/// - `deadlines` holds exactly the entries of `entries` that have a deadline.
/// - `overdue` is the number of entries whose deadline is at or before `time_ms`.
/// - `sum` is that over `entries`.
#[derive(Clone, Default)]
pub(super) struct Keyspace {
    entries: Tree,
    deadlines: OrdSet<Deadline>,
    time_ms: u64,
    overdue: usize,
    sum: Sum,
}

impl Keyspace {
    /// The keyspace at a moment that holds these entries, which are in ascending order of their keys.
    pub(super) fn from_ascending<E>(
        time_ms: u64,
        entries: impl Iterator<Item = Result<Entry, E>>,
    ) -> Result<Self, E> {
        let mut keys = Self { time_ms, ..Self::default() };
        let mut tree = Builder::default();
        for entry in entries {
            let entry = entry?;
            keys.sum.add_entry(&entry);
            keys.note_deadline(&entry);
            tree.push(entry);
        }
        Ok(Self { entries: tree.finish(), ..keys })
    }

    /// The time up to which `overdue` is counted; never goes back.
    pub(super) fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Moves the time forward. Costs as much as there are keys that expire on the way.
    pub(super) fn advance(&mut self, time_ms: u64) {
        if time_ms > self.time_ms {
            self.overdue += self.expiring(self.time_ms, time_ms);
            self.time_ms = time_ms;
        }
    }

    /// The entry of a key, whether or not it has expired.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key.as_bytes())
    }

    /// The entry of a key that is there at `now_ms`.
    pub(super) fn live(&self, key: &str, now_ms: u64) -> Option<&Entry> {
        self.get(key).filter(|entry| entry.is_live(now_ms))
    }

    /// Puts an entry in the place of whatever its key had.
    pub(super) fn put(&mut self, entry: Entry) {
        let noted = entry.deadline().is_some().then(|| entry.clone());
        self.sum.add_entry(&entry);
        if let Some(replaced) = self.entries.insert(entry) {
            self.sum.subtract_entry(&replaced);
            self.forget_deadline(replaced);
        }
        if let Some(entry) = noted {
            self.note_deadline(&entry);
        }
    }

    /// Takes a key out, whether or not it has expired.
    pub(super) fn remove(&mut self, key: &str) -> Option<Entry> {
        let removed = self.entries.remove(key.as_bytes())?;
        self.sum.subtract_entry(&removed);
        self.forget_deadline(removed.clone());
        Some(removed)
    }

    /// Takes out the entry with the earliest deadline if that is at or before the current time.
    pub(super) fn remove_overdue(&mut self) -> Option<Entry> {
        let Deadline(entry) =
            self.deadlines.get_min().filter(|first| !first.0.is_live(self.time_ms))?.clone();
        self.entries.remove(entry.key_bytes());
        self.sum.subtract_entry(&entry);
        self.forget_deadline(entry.clone());
        Some(entry)
    }

    /// Removes every key and hands back the map as it was.
    pub(super) fn clear(&mut self) -> Self {
        std::mem::replace(self, Self { time_ms: self.time_ms, ..Self::default() })
    }

    /// The sum over all entries, expired ones included.
    pub(super) fn sum(&self) -> Sum {
        self.sum
    }

    /// The number of entries, expired ones included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of entries that have a deadline, expired ones included.
    pub(super) fn deadlines_len(&self) -> usize {
        self.deadlines.len()
    }

    /// The number of keys that are there at `now_ms`, which is not before the current time. Costs as much as
    /// there are keys that expired since then.
    pub(super) fn live_len(&self, now_ms: u64) -> usize {
        self.entries.len() - self.overdue - self.expiring(self.time_ms, now_ms)
    }

    /// The number of expired entries that are still held, counted as [`Self::live_len`] does.
    pub(super) fn expired_len(&self, now_ms: u64) -> usize {
        self.entries.len() - self.live_len(now_ms)
    }

    /// The earliest deadline of all.
    pub(super) fn first_deadline_ms(&self) -> Option<u64> {
        self.deadlines.get_min()?.0.expires_at_ms()
    }

    /// All entries in order, expired ones included.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The entries from a key on, in order, expired ones included.
    pub(super) fn iter_from<'s>(&'s self, from: Bound<&'s str>) -> impl Iterator<Item = &'s Entry> {
        self.entries.iter_from(from.map(str::as_bytes))
    }

    fn note_deadline(&mut self, entry: &Entry) {
        if entry.deadline().is_some() {
            self.overdue += usize::from(!entry.is_live(self.time_ms));
            self.deadlines.insert(Deadline(entry.clone()));
        }
    }

    fn forget_deadline(&mut self, entry: Entry) {
        if entry.deadline().is_some() {
            self.overdue -= usize::from(!entry.is_live(self.time_ms));
            self.deadlines.remove(&Deadline(entry));
        }
    }

    /// How many deadlines are after the first moment and not after the second.
    fn expiring(&self, after_ms: u64, until_ms: u64) -> usize {
        if until_ms <= after_ms || self.deadlines.is_empty() {
            return 0;
        }
        self.deadlines.range(EndOf(after_ms)..EndOf(until_ms)).count()
    }
}

/// An entry with a deadline, ordered by deadline and then by key.
#[derive(Clone)]
struct Deadline(Entry);

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Deadline {}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.deadline().cmp(&other.0.deadline()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The place in the order of deadlines after everything that expires in this millisecond or before.
struct EndOf(u64);

impl Equivalent<Deadline> for EndOf {
    fn equivalent(&self, _: &Deadline) -> bool {
        false
    }
}

impl Comparable<Deadline> for EndOf {
    fn compare(&self, deadline: &Deadline) -> Ordering {
        if deadline.0.is_live(self.0) { Ordering::Less } else { Ordering::Greater }
    }
}
