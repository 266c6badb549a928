//! What the log is known to hold: its segments, its ends, and the newest records in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::header::SegmentKey;
use super::record::{Record, RecordId};
use super::scan::{self, FIRST_FRAME, Mark};
use crate::error::StorageError;

/// A segment that holds live records, or the active one.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) start: u64,
    /// The last live record; `None` while there is none.
    pub(super) last: Option<u64>,
    /// Whether records behind the last live one are on disk, which a later segment supersedes.
    pub(super) overhangs: bool,
    /// Where its frames end.
    pub(super) end: u64,
    pub(super) key: Arc<SegmentKey>,
    /// Empty in a segment that was not read when the log was opened.
    pub(super) marks: Vec<Mark>,
}

/// - Records from `first` to `last` follow each other without gaps.
/// - `durable` ≤ `written` ≤ `last`; what is not written is in the tail.
/// - The tail ends with `last`.
/// - Segments are in the order of the log; their live records do not overlap; the last one is the active one.
pub(super) struct Log {
    /// The last purged record.
    pub(super) origin: Option<RecordId>,
    /// The last record, or the last purged one when there is none; `None` for a log that never held anything.
    pub(super) last: Option<RecordId>,
    pub(super) written: Option<u64>,
    pub(super) durable: Option<u64>,
    pub(super) segments: VecDeque<Segment>,
    tail: VecDeque<Record>,
    tail_bytes: usize,
    tail_bytes_max: usize,
}

/// Where records are to be had.
pub(super) enum Source {
    Memory(Vec<Record>),
    Disk {
        file: File,
        path: PathBuf,
        key: Arc<SegmentKey>,
        mark: Mark,
        /// Whether the mark is the beginning of a segment that nobody has looked into.
        unread: bool,
        end: u64,
        last: u64,
    },
}

impl Log {
    pub(super) fn new(
        origin: Option<RecordId>,
        last: Option<RecordId>,
        segments: VecDeque<Segment>,
        tail_bytes_max: usize,
    ) -> Self {
        let index = last.map(|last| last.index);
        Self {
            origin,
            last,
            written: index,
            durable: index,
            segments,
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_bytes_max,
        }
    }

    /// The oldest record, if there is one.
    pub(super) fn first(&self) -> Option<u64> {
        let first = match self.origin {
            Some(origin) => origin.index + 1,
            None => self.segments.front()?.start,
        };
        self.last.filter(|last| last.index >= first).map(|_| first)
    }

    /// The only index that the next record may have; any will do while `None`.
    pub(super) fn next(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }

    /// Adds records that are not written yet.
    pub(super) fn push(&mut self, records: &[Record]) {
        self.tail_bytes += records.iter().map(Record::size_bytes).sum::<usize>();
        self.tail.extend(records.iter().cloned());
        self.last = records.last().map(|record| record.id).or(self.last);
    }

    /// Everything up to `index` can be read from disk.
    pub(super) fn set_written(&mut self, index: u64) {
        self.written = Some(index);
        while self.tail_bytes > self.tail_bytes_max
            && self.tail.front().is_some_and(|front| front.id.index <= index)
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(record) = self.tail.pop_front() {
            self.tail_bytes -= record.size_bytes();
        }
    }

    /// Where to read the record `from`, and those behind it before `to_exclusive`, up to about `bytes_max`.
    pub(super) fn source(
        &self,
        from: u64,
        to_exclusive: u64,
        bytes_max: usize,
    ) -> Result<Option<Source>, StorageError> {
        let last = match self.last {
            Some(last) if self.first().is_some_and(|first| from >= first) && from <= last.index => last.index,
            _ => return Ok(None),
        };
        let tail_start = last + 1 - self.tail.len() as u64;
        if from >= tail_start {
            let skip = usize::try_from(from - tail_start).expect("less than the length of the tail");
            let mut bytes = 0;
            let records = self.tail.range(skip..).take_while(|record| {
                let take = record.id.index < to_exclusive && (bytes == 0 || bytes < bytes_max);
                bytes += record.body.len().max(1);
                take
            });
            return Ok(Some(Source::Memory(records.cloned().collect())));
        }
        let nth = self.segments.partition_point(|segment| segment.start <= from) - 1;
        let segment = &self.segments[nth];
        let unread = segment.marks.is_empty();
        let mark = match segment.marks.partition_point(|mark| mark.index <= from) {
            0 => Mark { index: segment.start, ordinal: 1, offset: FIRST_FRAME },
            behind => segment.marks[behind - 1],
        };
        let file = File::open(&segment.path)
            .map_err(|source| StorageError::io("open the segment", &segment.path, source))?;
        Ok(Some(Source::Disk {
            file,
            path: segment.path.clone(),
            key: Arc::clone(&segment.key),
            mark,
            unread,
            end: segment.end,
            last: segment.last.expect("a record was found in the segment"),
        }))
    }

    /// Reads the records from `from` to before `to_exclusive`, until their bodies exceed `bytes_max`, but at least one if
    /// there is one. `log` is asked for each piece anew, so that it need not be held while the disk is waited for.
    pub(super) fn read_pieces<L: std::ops::Deref<Target = Self>>(
        log: impl Fn() -> L,
        mut from: u64,
        to_exclusive: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError> {
        let mut out: Vec<Record> = Vec::new();
        let mut bytes = 0;
        from = from.max(log().first().unwrap_or(u64::MAX));
        while from < to_exclusive && (out.is_empty() || bytes < bytes_max) {
            let wanted = bytes_max - bytes.min(bytes_max);
            let source = log().source(from, to_exclusive, wanted)?;
            let Some(source) = source else { break };
            let records = source.read(from, to_exclusive, wanted)?;
            let Some(last) = records.last() else { break };
            from = last.id.index + 1;
            bytes += records.iter().map(|record| record.body.len()).sum::<usize>();
            out.extend(records);
        }
        Ok(out)
    }

    /// Forgets the records from `index` on. Returns the files of the segments that hold nothing else.
    pub(super) fn truncate(&mut self, index: u64, previous: Option<RecordId>) -> Vec<PathBuf> {
        let mut superseded = Vec::new();
        while let Some(segment) = self.segments.pop_back_if(|segment| segment.start >= index) {
            superseded.push(segment.path);
        }
        if let Some(segment) = self.segments.back_mut()
            && segment.last.is_some_and(|last| last >= index)
        {
            segment.last = Some(index - 1);
            segment.overhangs = true;
        }
        while let Some(record) = self.tail.pop_back_if(|record| record.id.index >= index) {
            self.tail_bytes -= record.size_bytes();
        }
        self.last = previous;
        let last = previous.map(|previous| previous.index);
        self.written = self.written.min(last);
        self.durable = self.durable.min(last);
        superseded
    }

    /// Forgets the records up to and including `up_to`. Returns the sealed segments that hold nothing else.
    pub(super) fn purge(&mut self, up_to: RecordId) -> Vec<Segment> {
        self.origin = Some(up_to);
        if self.last.is_none_or(|last| last.index <= up_to.index) {
            self.last = Some(up_to);
            self.written = Some(up_to.index);
            self.durable = Some(up_to.index);
        }
        while self.tail.front().is_some_and(|front| front.id.index <= up_to.index) {
            self.pop_front();
        }
        let mut purged = Vec::new();
        while self.segments.len() > 1 && self.segments[0].last.is_none_or(|last| last <= up_to.index) {
            purged.extend(self.segments.pop_front());
        }
        purged
    }

    /// The segment being written.
    pub(super) fn active(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("there is always an active segment")
    }

    /// The bytes of the finished segments that hold records in `after + 1..=up_to`.
    pub(super) fn segment_bytes(&self, after: u64, up_to: u64) -> u64 {
        let finished = self.segments.len().saturating_sub(1);
        let within =
            |segment: &&Segment| segment.start <= up_to && segment.last.is_some_and(|last| last > after);
        self.segments.iter().take(finished).filter(within).map(|segment| segment.end).sum()
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }
}

impl Source {
    /// Reads the records.
    pub(super) fn read(
        self,
        from: u64,
        to_exclusive: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError> {
        match self {
            Self::Memory(records) => Ok(records),
            Self::Disk { file, path, key, mark, unread, end, last } => {
                let mark = if unread { scan::locate(&file, &path, key.seed, mark, end, from)? } else { mark };
                scan::read(file, &path, &key, mark, end, from..to_exclusive.min(last + 1), bytes_max)
            }
        }
    }
}

/// Removes the files in this order, durably. A segment that overhangs must be gone for good before the one that
/// supersedes its end goes.
pub(super) fn remove_all<'a>(
    disk: &crate::disk::Disk,
    directory: &Path,
    files: impl IntoIterator<Item = (&'a Path, bool)>,
) -> Result<(), StorageError> {
    let mut removed = false;
    for (path, overhangs) in files {
        disk.remove(path)?;
        removed = true;
        if overhangs {
            disk.sync_directory(directory)?;
            removed = false;
        }
    }
    if removed { disk.sync_directory(directory) } else { Ok(()) }
}
