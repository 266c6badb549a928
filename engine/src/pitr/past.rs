//! What of the past is there, and where a restore begins.

use super::{Point, READ_BYTES_MAX, unavailable};
use crate::content::Content;
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::moment::rfc3339;
use crate::sequence::Sequence;
use crate::snapshot::{self, Listed, Listing};
use crate::wal::{History, Record};

/// A directory, for questions about its past.
pub(crate) struct Past<'a, C> {
    pub(super) keyring: &'a Keyring,
    pub(super) content: &'a C,
    pub(super) listing: &'a Listing,
    pub(super) history: &'a History,
}

/// What can be restored. Times are in ms since 1970; they are missing where nothing was ever changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The earliest record whose state can be restored.
    pub oldest: Option<u64>,
    /// The earliest moment that can be restored: that of the last change in this state, or of the first one behind it when
    /// there is none in it.
    pub oldest_ms: Option<u64>,
    /// The last record that can be restored.
    pub newest: Option<u64>,
    /// The moment of the last change in this state, and later ones stand for the same state; the last moment before it where
    /// the log is damaged behind it.
    pub newest_ms: Option<u64>,
}

impl<'a, C: Content> Past<'a, C> {
    pub(crate) fn new(
        keyring: &'a Keyring,
        content: &'a C,
        listing: &'a Listing,
        history: &'a History,
    ) -> Self {
        Self { keyring, content, listing, history }
    }

    fn is_complete(&self) -> bool {
        self.history.purged().is_none() && self.history.first_index() == Some(Sequence::FIRST.get())
    }

    /// The snapshot to begin with; `None` for the empty state.
    pub(super) fn base(&self, point: Point) -> Result<Option<Listed>, StorageError> {
        let Listing { older, last, .. } = self.listing;
        let mut oldest = None;
        for listed in older.iter().chain(last).rev() {
            let index = index(listed);
            let reached = match point {
                Point::Sequence(wanted) => index <= wanted,
                Point::TimestampMs(wanted) => self.time_ms(listed)? <= wanted,
            };
            if reached {
                return Ok(Some(listed.clone()));
            }
            oldest = Some(listed);
        }
        match (oldest, point) {
            _ if self.is_complete() => Ok(None),
            (Some(oldest), Point::Sequence(wanted)) => {
                let baseline = index(oldest);
                Err(unavailable(format!("sequence {wanted} is older than snapshot baseline {baseline}")))
            }
            (Some(oldest), Point::TimestampMs(wanted)) => {
                let baseline = self.time_ms(oldest)?;
                let detail = format!("timestamp {wanted} is older than snapshot baseline {baseline}");
                Err(self.outside(wanted, detail))
            }
            (None, _) => {
                self.refuse_damage()?;
                Err(unavailable("there is neither a snapshot nor a complete log".to_owned()))
            }
        }
    }

    /// The time of the last change in a snapshot, which only its content says: it was taken later. 0 when there is none.
    fn time_ms(&self, listed: &Listed) -> Result<u64, StorageError> {
        Ok(snapshot::read_position(snapshot::open_file(&listed.path, self.keyring)?)?.1)
    }

    /// Refuses what needs more of the log than is whole.
    pub(super) fn refuse_damage(&self) -> Result<(), StorageError> {
        let Some(damage) = self.history.damage() else { return Ok(()) };
        let advice = match self.history.last_id() {
            Some(last) => format!(
                "the log is whole up to entry {}: restore an earlier moment, or the directory from a copy",
                last.index
            ),
            None => "restore the directory from a copy".to_owned(),
        };
        let again = StorageError::new(damage.code(), damage.message()).advise(advice);
        let again = damage.file().into_iter().fold(again, StorageError::in_file);
        Err(damage.offset().into_iter().fold(again, StorageError::at))
    }

    /// The refusal of a moment before the oldest one.
    pub(super) fn outside(&self, wanted_ms: u64, detail: String) -> StorageError {
        let window = match self.window() {
            Ok(window) => window,
            Err(error) => {
                tracing::warn!(%error, "what can be restored could not be found out");
                return unavailable(detail);
            }
        };
        let (Some(oldest), Some(newest)) = (window.oldest_ms, window.newest_ms) else {
            return unavailable(detail);
        };
        let told = |ms| rfc3339(ms).map_or_else(|| format!("{ms}"), |date| format!("{ms} ({date})"));
        let refusal = unavailable(format!(
            "{detail}; the oldest restorable time is {}, the newest {}",
            told(oldest),
            told(newest)
        ));
        match wanted_ms.checked_mul(1000) {
            // Within the window or the second in which it begins, and so much less that it is no slip of a digit.
            Some(as_seconds) if as_seconds.saturating_add(1000) > oldest && wanted_ms < oldest / 100 => {
                refusal.advise(format!("timestamps are in milliseconds; in seconds it would be {as_seconds}"))
            }
            _ => refusal,
        }
    }

    /// What can be restored.
    ///
    /// # Errors
    /// For damage in the beginning of a snapshot, and in the parts of the log that have to be looked at.
    pub(crate) fn window(&self) -> Result<Window, StorageError> {
        let Listing { older, last, .. } = self.listing;
        // The log reaches from the oldest snapshot on that it continues, or from the empty state.
        let base = match self.history.purged() {
            _ if self.is_complete() => None,
            None => last.as_ref(),
            Some(purged) => older.iter().chain(last).find(|listed| index(listed) >= purged.index),
        };
        let first = if self.is_complete() { self.history.first_index() } else { base.map(index) };
        let oldest_ms = match base.map(|base| self.time_ms(base)) {
            Some(Err(error)) => {
                tracing::warn!(%error, "the oldest snapshot cannot be read");
                None
            }
            Some(Ok(time_ms)) if time_ms > 0 => Some(time_ms),
            _ => {
                let from = base.map_or(Sequence::FIRST.get(), |base| index(base) + 1);
                self.first_change(from).unwrap_or_else(|error| {
                    tracing::warn!(code = %error.code(), %error, "the beginning of the log cannot be read");
                    None
                })
            }
        };
        let covered = last.as_ref().map(index);
        let newest_ms = match self.last_change(covered.unwrap_or(0))? {
            Some(time_ms) => Some(time_ms),
            None => {
                let time_ms = last.as_ref().map(|last| self.time_ms(last)).transpose()?;
                time_ms.filter(|time_ms| *time_ms > 0)
            }
        };
        // What is damaged may have happened at the time of the last change that is whole, and is part of that moment.
        let newest_ms = newest_ms.map(|last| last - u64::from(self.history.damage().is_some()));
        let newest = covered.max(self.history.last_id().map(|last| last.index));
        Ok(Window { oldest: first, oldest_ms, newest, newest_ms })
    }

    /// The time of the first change in the record `from` or behind it. No more is read than that takes: what comes later may
    /// be damaged.
    fn first_change(&self, mut from: u64) -> Result<Option<u64>, StorageError> {
        loop {
            let records = self.history.read(from, u64::MAX, 1)?;
            let Some(last) = records.last() else { return Ok(None) };
            from = last.id.index + 1;
            for record in &records {
                if self.is_change(record)? {
                    return Ok(Some(record.time_ms));
                }
            }
        }
    }

    /// The time of the last change behind the record `after`. Segments are read from the newest one back.
    fn last_change(&self, after: u64) -> Result<Option<u64>, StorageError> {
        let mut end = u64::MAX;
        for segment in self.history.segments().iter().rev() {
            let mut next = segment.start.max(after + 1);
            let mut found = None;
            while next < end {
                let records = self.history.read(next, end, READ_BYTES_MAX)?;
                let Some(last) = records.last() else { break };
                next = last.id.index + 1;
                for record in &records {
                    if self.is_change(record)? {
                        found = Some(record.time_ms);
                    }
                }
            }
            if found.is_some() || segment.start <= after {
                return Ok(found);
            }
            end = segment.start;
        }
        Ok(None)
    }

    fn is_change(&self, record: &Record) -> Result<bool, StorageError> {
        Ok(self.content.batch(record)?.is_some())
    }
}

fn index(listed: &Listed) -> u64 {
    listed.last.map_or(0, |last| last.index)
}
