//! A log that is only read, in a directory that nobody writes to: for offline tools.

use std::collections::VecDeque;
use std::path::PathBuf;

use uuid::Uuid;

use super::log::{Log, Segment};
use super::name::Name;
use super::record::{Record, RecordId};
use super::recovery::{self, Examined, Extent, Live, TornTail};
use super::scan;
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;

/// A log that is only read. What recovery would repair is left as it is and counted out.
pub struct History {
    log: Log,
    segments: Vec<SegmentInfo>,
    left_over: Vec<PathBuf>,
    torn_tail: Option<TornTail>,
    damage: Option<StorageError>,
}

/// A segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its file.
    pub path: PathBuf,
    /// The index of the first record it holds, or of the one it waits for.
    pub start: u64,
    /// The last record it holds if it is finished; `None` for the one that was being written.
    pub sealed_end: Option<u64>,
    /// The length of its file.
    pub size_bytes: u64,
    /// The storage key it is sealed under.
    pub key_id: Uuid,
}

impl History {
    /// Opens the log of the directory. Reads and verifies all segments but finished ones wholly at or below the record
    /// `covered`: with 0 every byte that counts, with `u64::MAX` what it takes to know where the log ends. `visit` sees
    /// every record that is read; its error is told with file and offset.
    ///
    /// # Errors
    /// As [`Wal::open`](super::Wal::open).
    pub fn open(
        dir: &DataDir,
        keyring: &Keyring,
        covered: u64,
        visit: &mut dyn FnMut(&Record) -> Result<(), StorageError>,
    ) -> Result<Self, StorageError> {
        Self::open_as(dir, keyring, covered, Extent::Whole, visit)
    }

    /// The same with what it takes to know where the log ends, but when the newest segment is damaged or missing, the log
    /// ends before that: [`damage`](Self::damage).
    ///
    /// # Errors
    /// As [`Wal::open`](super::Wal::open), for every other segment.
    pub fn open_up_to_damage(dir: &DataDir, keyring: &Keyring) -> Result<Self, StorageError> {
        Self::open_as(dir, keyring, u64::MAX, Extent::UpToDamage, &mut |_| Ok(()))
    }

    fn open_as(
        dir: &DataDir,
        keyring: &Keyring,
        covered: u64,
        extent: Extent,
        visit: &mut dyn FnMut(&Record) -> Result<(), StorageError>,
    ) -> Result<Self, StorageError> {
        let examined = recovery::examine(dir, keyring, covered, extent, visit)?;
        let Examined { judged, recovery, damage, .. } = examined;
        let mut kept = VecDeque::new();
        let mut segments = Vec::new();
        for Live { found, key, scanned } in judged.live {
            if let Some(last) = scanned.last.filter(|_| scanned.marks.is_empty())
                && let Err(error) = scan::check_end(&found.path, &key, last)
            {
                tracing::warn!(code = %error.code(), %error, "an old segment of the log is damaged");
            }
            let sealed_end = match found.name {
                Name::Sealed { end, .. } => Some(end),
                Name::Active { .. } => None,
            };
            segments.push(SegmentInfo {
                size_bytes: scan::file_len(&found.path)?,
                path: found.path.clone(),
                start: found.header.start,
                sealed_end,
                key_id: found.header.key_id,
            });
            if scanned.last.is_some() {
                kept.push_back(Segment {
                    path: found.path,
                    start: found.header.start,
                    last: scanned.live_last.map(|last| last.index),
                    overhangs: scanned.live_last != scanned.last,
                    end: scanned.end,
                    key,
                    marks: scanned.marks,
                });
            }
        }
        Ok(Self {
            log: Log::new(recovery.purged, recovery.last, kept, 0),
            segments,
            left_over: judged.stale.into_iter().map(|stale| stale.path).collect(),
            torn_tail: recovery.torn_tail,
            damage,
        })
    }

    /// Reads the records from `from` to before `to_exclusive`, until their bodies exceed `bytes_max`, but at least one
    /// if there is one. What was purged or is beyond the end is left out.
    ///
    /// # Errors
    /// `ENG-007`, `ENG-008` or `ENG-014` when a segment is damaged, `ENG-002` for I/O.
    pub fn read(&self, from: u64, to_exclusive: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        Log::read_pieces(|| &self.log, from, to_exclusive, bytes_max)
    }

    /// The segments that count, in the order of the log.
    #[must_use]
    pub fn segments(&self) -> &[SegmentInfo] {
        &self.segments
    }

    /// Segments that hold nothing any more and go at the next start: a purge or truncation was interrupted. They are
    /// not read.
    #[must_use]
    pub fn left_over(&self) -> &[PathBuf] {
        &self.left_over
    }

    /// The beginning of a write that never completed, which the next start cuts off.
    #[must_use]
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.torn_tail.as_ref()
    }

    /// Why the log is taken to end with its last record, though there may have been more.
    #[must_use]
    pub fn damage(&self) -> Option<&StorageError> {
        self.damage.as_ref()
    }

    /// The same, taken out.
    #[must_use]
    pub fn into_damage(self) -> Option<StorageError> {
        self.damage
    }

    /// The oldest record that can be read; `None` when there is none.
    #[must_use]
    pub fn first_index(&self) -> Option<u64> {
        self.log.first()
    }

    /// The last record, or the last purged one when there is none; `None` when the log never held anything.
    #[must_use]
    pub fn last_id(&self) -> Option<RecordId> {
        self.log.last
    }

    /// The last purged record.
    #[must_use]
    pub fn purged(&self) -> Option<RecordId> {
        self.log.origin
    }
}
