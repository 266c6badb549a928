//! Who led when, in the part of the log that is not read when it is opened.
//!
//! A segment's header names the record before it, and so the header of the next one names its last. Where both are of one
//! term, so is everything between them. Elsewhere a term begins within the segment, and records of it are read to
//! find out where: mostly the first one, for a restart begins both a segment and a term.
//!
//! Damage there is no reason not to start: a snapshot covers all of it. What is behind the damage is told, and what is
//! before it is left to those who read old records themselves.

use std::fs::File;
use std::sync::Arc;

use super::log::Source;
use super::record::RecordId;
use super::recovery::Live;
use super::scan::{self, FIRST_FRAME, Mark};
use crate::error::StorageError;
use vaylix_proto::Code;

/// Where terms begin in a part of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The record the part begins with or follows, and the first one of every later term, in the order of the log.
    starts: Vec<RecordId>,
    /// The last record of the part; 0 for none.
    end: u64,
}

/// Damage behind which the terms are known, and before which they are not.
pub(super) struct Damage {
    /// The last record of the damaged segment.
    pub(super) up_to: RecordId,
    pub(super) error: StorageError,
}

impl Terms {
    /// The name of the record `index`; `None` when it is not in the part, or before damage.
    #[must_use]
    pub fn id_of(&self, index: u64) -> Option<RecordId> {
        let known = self.starts.partition_point(|start| start.index <= index);
        let start = self.starts[..known].last().filter(|_| index <= self.end)?;
        Some(RecordId { index, ..*start })
    }

    /// Finds the terms of the segments that were not read, which come first. The part follows `purged`.
    pub(super) fn find(purged: Option<RecordId>, live: &[Live]) -> (Self, Option<Damage>) {
        let mut terms = Self { starts: purged.into_iter().collect(), end: 0 };
        let mut damage = None;
        for segment in live {
            let Some(last) = segment.scanned.last.filter(|_| segment.scanned.marks.is_empty()) else { break };
            terms.end = last.index;
            if let Err(error) = scan::check_end(&segment.found.path, &segment.key, last) {
                terms.starts = vec![last];
                damage = Some(Damage { up_to: last, error });
                continue;
            }
            let start = segment.found.header.start;
            let before = purged.filter(|purged| purged.index >= start).or(segment.found.header.previous);
            if before.is_some_and(|before| is_of_one_term(before, last)) {
                continue;
            }
            let from = before.map_or(start, |before| before.index + 1);
            match starts_in(segment, before, from, last) {
                Ok(starts) => terms.starts.extend(starts),
                Err(error) => {
                    terms.starts = vec![last];
                    damage = Some(Damage { up_to: last, error });
                }
            }
        }
        (terms, damage)
    }
}

fn is_of_one_term(one: RecordId, other: RecordId) -> bool {
    (one.term, one.leader) == (other.term, other.leader)
}

/// The first record of every term that begins among the records `from..=last`, which `before` precedes.
fn starts_in(
    segment: &Live,
    before: Option<RecordId>,
    from: u64,
    last: RecordId,
) -> Result<Vec<RecordId>, StorageError> {
    let mut starts = Vec::new();
    let first = id_at(segment, from)?;
    if before.is_none_or(|before| !is_of_one_term(before, first)) {
        starts.push(first);
    }
    // Spans whose ends are known, the earliest on top.
    let mut spans = vec![(first, last)];
    while let Some((low, high)) = spans.pop() {
        if is_of_one_term(low, high) {
            continue;
        }
        if low.index + 1 >= high.index {
            starts.push(high);
            continue;
        }
        let middle = id_at(segment, low.index + (high.index - low.index) / 2)?;
        spans.extend([(middle, high), (low, middle)]);
    }
    Ok(starts)
}

/// Reads who put the record there.
fn id_at(segment: &Live, index: u64) -> Result<RecordId, StorageError> {
    let path = &segment.found.path;
    let file = File::open(path).map_err(|source| StorageError::io("open the segment", path, source))?;
    let start = segment.found.header.start;
    let source = Source::Disk {
        file,
        path: path.clone(),
        key: Arc::clone(&segment.key),
        mark: Mark { index: start, ordinal: 1, offset: FIRST_FRAME },
        unread: true,
        end: segment.scanned.end,
        last: segment.scanned.last.map_or(start, |last| last.index),
    };
    let record = source.read(index, index + 1, 1)?.into_iter().next();
    record.map(|record| record.id).filter(|id| id.index == index).ok_or_else(|| {
        StorageError::new(Code::WalDeserializationFailure, format!("the segment lacks its record {index}"))
            .in_file(path)
    })
}
