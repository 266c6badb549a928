//! A digest of the whole state that costs nothing to ask for: it is kept as the state changes.
//!
//! What the state holds is a set of entries and a set of records, so the digest is a sum over them: each contributes the
//! SHA-256 of all that belongs to it, read as four numbers of 64 bits, and each of the four is summed up modulo 2^64. What
//! comes is added, what goes is subtracted, and the order in which it happened leaves no trace: states that hold the same
//! have the same digest, however they came to it. [`Root::digest`](super::Root::digest) hashes the sums together with the
//! few numbers beside them.
//!
//! The sum detects faults, of memory, disks and programs. It is no signature: whoever may choose keys and values by the
//! billion could find two states with the same sum.
//!
//! ```text
//! entry    SHA-256 of  "k", key length u32, version u64, deadline u64 (0: none), key, value
//! record   SHA-256 of  "r", name length u32, name, content
//! state    SHA-256 of  "VXDIGEST", format u8 = 1, applied u64, time_ms u64, access_revision u64,
//!                      record count u64, sum of the records, entry count u64, sum of the entries,
//!                      prepared u8 (0 or 1), if it is 1: identity u64, parts u32, entries counted u64,
//!                      time of the last part u64, entry count u64, sum of the entries
//! ```
//! Numbers are little-endian.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::entry::Entry;
use super::keyspace::Keyspace;
use super::root::Root;
use crate::sequence::Sequence;

const FORMAT: &[u8; 9] = b"VXDIGEST\x01";

/// Bytes of a digest.
pub(super) const DIGEST_BYTES: usize = 32;

const LANES: usize = DIGEST_BYTES / size_of::<u64>();

/// The digest of a state at one log entry. Equal states have equal digests, and different ones nearly certainly do not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateDigest(pub(super) [u8; DIGEST_BYTES]);

impl StateDigest {
    /// The digest with these bytes; `None` when there are not 32 of them.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for StateDigest {
    /// The first eight bytes: enough to tell two apart that somebody looks at.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateDigest({self}…)")
    }
}

/// The state at an entry that its leader has chosen for comparing the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The entry.
    pub at: Sequence,
    /// What the state was when the mark was made.
    pub digest: StateDigest,
}

/// The sum over a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum([u64; LANES]);

impl Sum {
    /// Takes an entry in.
    pub(super) fn add_entry(&mut self, entry: &Entry) {
        self.add(entry_lanes(entry));
    }

    /// Takes an entry out that was taken in.
    pub(super) fn subtract_entry(&mut self, entry: &Entry) {
        self.subtract(entry_lanes(entry));
    }

    /// Takes a record in.
    pub(super) fn add_record(&mut self, name: &str, content: &[u8]) {
        self.add(record_lanes(name, content));
    }

    /// Takes a record out that was taken in.
    pub(super) fn subtract_record(&mut self, name: &str, content: &[u8]) {
        self.subtract(record_lanes(name, content));
    }

    fn add(&mut self, lanes: [u64; LANES]) {
        for (sum, lane) in self.0.iter_mut().zip(lanes) {
            *sum = sum.wrapping_add(lane);
        }
    }

    fn subtract(&mut self, lanes: [u64; LANES]) {
        for (sum, lane) in self.0.iter_mut().zip(lanes) {
            *sum = sum.wrapping_sub(lane);
        }
    }

    fn hash_into(self, hash: &mut Sha256) {
        for lane in self.0 {
            hash.update(lane.to_le_bytes());
        }
    }
}

fn entry_lanes(entry: &Entry) -> [u64; LANES] {
    let mut head = [0; 21];
    let key_len = entry.key_bytes().len() as u64;
    head[0] = b'k';
    // Keys are shorter than 4 GiB: see `Entry::new`.
    head[1..5].copy_from_slice(&key_len.to_le_bytes()[..4]);
    head[5..13].copy_from_slice(&entry.version().to_le_bytes());
    head[13..21].copy_from_slice(&entry.expires_at_ms().unwrap_or(0).to_le_bytes());
    let hash = Sha256::new().chain_update(head).chain_update(entry.key_bytes()).chain_update(entry.value());
    lanes(&hash.finalize().into())
}

fn record_lanes(name: &str, content: &[u8]) -> [u64; LANES] {
    let mut head = [0; 5];
    head[0] = b'r';
    head[1..5].copy_from_slice(&(name.len() as u64).to_le_bytes()[..4]);
    let hash = Sha256::new().chain_update(head).chain_update(name.as_bytes()).chain_update(content);
    lanes(&hash.finalize().into())
}

fn lanes(digest: &[u8; DIGEST_BYTES]) -> [u64; LANES] {
    let mut lanes = [0; LANES];
    for (lane, bytes) in lanes.iter_mut().zip(digest.chunks_exact(size_of::<u64>())) {
        *lane = u64::from_le_bytes(bytes.try_into().expect("chunks are as long as asked for"));
    }
    lanes
}

/// A set of entries, as a digest sees it.
#[derive(Clone, Copy, Default)]
pub(super) struct Counted {
    len: u64,
    sum: Sum,
}

impl Counted {
    /// The keys of a state.
    pub(super) fn of(keys: &Keyspace) -> Self {
        Self { len: keys.len() as u64, sum: keys.sum() }
    }

    /// Takes an entry in.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.len += 1;
        self.sum.add_entry(entry);
    }

    fn hash_into(self, hash: &mut Sha256) {
        hash.update(self.len.to_le_bytes());
        self.sum.hash_into(hash);
    }
}

/// The digest of a state.
pub(super) fn of(root: &Root) -> StateDigest {
    let prepared = root.prepared.as_ref().map(|prepared| Counted::of(&prepared.keys));
    of_counted(root, Counted::of(&root.keys), prepared.unwrap_or_default())
}

/// The digest of a state whose keys, and those of whose prepared restore if it has one, are these instead of its own.
pub(super) fn of_counted(root: &Root, keys: Counted, prepared_keys: Counted) -> StateDigest {
    let mut hash = Sha256::new_with_prefix(FORMAT);
    for number in [root.applied.map_or(0, Sequence::get), root.time_ms(), root.access_revision] {
        hash.update(number.to_le_bytes());
    }
    hash.update((root.system.len() as u64).to_le_bytes());
    root.system_sum.hash_into(&mut hash);
    keys.hash_into(&mut hash);
    hash.update([u8::from(root.prepared.is_some())]);
    if let Some(prepared) = &root.prepared {
        hash.update(prepared.restore.to_le_bytes());
        hash.update(prepared.parts.to_le_bytes());
        hash.update(prepared.counted.to_le_bytes());
        hash.update(prepared.touched_ms.to_le_bytes());
        prepared_keys.hash_into(&mut hash);
    }
    StateDigest(hash.finalize().into())
}
