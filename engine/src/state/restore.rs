//! Replacing every key at once, from one log entry or prepared over many.
//!
//! A logical backup can be far larger than a log entry may be. Its parts are kept aside, replicated like
//! everything else, and take the place of the keys in one step when the last one is there.

use std::num::NonZeroU64;

use super::entry::Entry;
use super::execute::FIRST_VERSION;
use super::keyspace::Keyspace;
use super::outcome::ApplyError;
use crate::op::RestoreEntry;

/// A restore that makes no progress for this long is forgotten.
const IDLE_MS_MAX: u64 = 10 * 60 * 1000;

/// The parts of a restore that have arrived.
#[derive(Clone)]
pub(super) struct Prepared {
    /// Which restore.
    pub(super) restore: u64,
    /// How many parts have arrived.
    pub(super) parts: u32,
    /// How many entries counted so far.
    pub(super) counted: u64,
    /// When the last part arrived.
    pub(super) touched_ms: u64,
    /// What the keys will be.
    pub(super) keys: Keyspace,
}

impl Prepared {
    /// A restore without any entries yet.
    pub(super) fn new(restore: u64, now_ms: u64) -> Self {
        let mut keys = Keyspace::default();
        keys.advance(now_ms);
        Self { restore, parts: 0, counted: 0, touched_ms: now_ms, keys }
    }

    /// Adds the next part. Entries that have expired are left out and not counted; of entries with the same key
    /// the last one stays.
    pub(super) fn add(&mut self, entries: &[RestoreEntry<'_>], now_ms: u64) {
        for entry in entries.iter().filter(|entry| entry.expires_at_ms.is_none_or(|at| at > now_ms)) {
            let deadline = entry.expires_at_ms.and_then(NonZeroU64::new);
            let version = entry.version.max(FIRST_VERSION);
            self.keys.put(Entry::new(entry.key.as_bytes(), &entry.value, version, deadline));
            self.counted = self.counted.saturating_add(1);
        }
        self.parts = self.parts.saturating_add(1);
        self.touched_ms = now_ms;
    }

    /// Whether exactly this many parts of this restore have arrived.
    pub(super) fn has(&self, restore: u64, parts: u32) -> bool {
        self.restore == restore && self.parts == parts
    }

    /// Whether it has been left alone for so long that nobody will finish it.
    pub(super) fn is_forgotten(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.touched_ms) > IDLE_MS_MAX
    }
}

/// Takes a part in and answers how many entries counted so far. Part 0 takes the place of whatever was being
/// prepared.
pub(super) fn add_part(
    prepared: &mut Option<Prepared>,
    (restore, part): (u64, u32),
    entries: &[RestoreEntry<'_>],
    now_ms: u64,
) -> Result<u64, ApplyError> {
    if part == 0 {
        *prepared = Some(Prepared::new(restore, now_ms));
    }
    let current = prepared.as_mut().filter(|prepared| prepared.has(restore, part));
    let current = current.ok_or(ApplyError::RestoreInterrupted)?;
    current.add(entries, now_ms);
    Ok(current.counted)
}
