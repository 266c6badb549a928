//! Reads a log that is in use from end to end and judges it, while it grows, rotates, is cut and purged.
//!
//! Segments are opened under the lock under which they get their names, so one that the log knows and that cannot be opened is
//! missing. What has been opened can be read whatever becomes of its name: a segment is never written again below where its
//! frames end, and its file is never taken for anything else. Whatever is found in a segment that the log does not know any
//! more counts for nothing: nobody will read it again.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vaylix_proto::Code;

use super::header::{Header, SegmentKey};
use super::name::Name;
use super::record::{Record, RecordId};
use super::recovery::read_header;
use super::scan::{self, FIRST_FRAME, RESTORE};
use super::{Wal, newest, origin};
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;
use crate::scrub::Watch;

const DISORDER: &str = "segments are missing, renamed or mixed with others: rebuild this node from another one, or restore the directory from a backup";

/// What was read of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scrubbed {
    pub(crate) segments: u64,
    pub(crate) records: u64,
}

/// A segment as the log knows it at one moment.
struct Piece {
    path: PathBuf,
    file: io::Result<File>,
    start: u64,
    /// The last record that counts.
    last: Option<u64>,
    /// Where its frames end.
    end: u64,
    key: Arc<SegmentKey>,
    /// Whether it is the last one: it may have its final name and not be cut to its content yet.
    is_newest: bool,
}

impl Piece {
    /// The last record by its name; `None` for the one being written.
    fn sealed_end(&self) -> Option<u64> {
        let name = self.path.file_name().and_then(|name| name.to_str()).and_then(Name::parse);
        name.and_then(|name| match name {
            Name::Sealed { end, .. } => Some(end),
            Name::Active { .. } => None,
        })
    }

    fn refuse(&self, code: Code, what: impl Into<String>, at: u64) -> StorageError {
        StorageError::new(code, what).in_file(&self.path).at(at)
    }
}

/// What a segment that was read says of its place.
struct Place {
    header: Header,
    /// The last record in it that counts, if no more can follow it.
    last: Option<RecordId>,
}

/// The order of the segments, as far as it has been read.
#[derive(Default)]
struct Order {
    /// The one before, and the last record in it that counts, if no more could follow it.
    before: Option<(u64, Arc<SegmentKey>, Option<RecordId>)>,
}

impl Wal {
    /// Reads everything that the log had on disk when this was called, and what has been added meanwhile to the last
    /// segment of it. `check` judges every record.
    pub(crate) fn scrub(
        &self,
        dir: &DataDir,
        keyring: &Keyring,
        check: &mut dyn FnMut(&Record) -> Result<(), StorageError>,
        watch: &mut dyn Watch,
    ) -> ControlFlow<(), Scrubbed> {
        if let Err(finding) = self.scrub_origin(dir, keyring) {
            watch.found(finding);
        }
        watch.advance(dir.wal_origin().metadata().map_or(0, |metadata| metadata.len()))?;
        let until = self.0.shared.state.lock().log.written.unwrap_or(0);
        let mut scrubbed = Scrubbed::default();
        let mut order = Order::default();
        while let Some(mut piece) = self.piece_behind(&order, until) {
            let read = read(&mut piece, keyring, &mut scrubbed.records, check, watch)?;
            let place = read.and_then(|place| self.follows(&order, &piece, &place).map(|()| place));
            let last = match place {
                Ok(place) => place.last,
                Err(finding) => {
                    if self.knows(&piece.key) {
                        watch.found(finding);
                    }
                    None
                }
            };
            scrubbed.segments += 1;
            order.before = Some((piece.start, piece.key, last));
        }
        if let Err(finding) = self.scrub_names(dir, watch)? {
            watch.found(finding);
        }
        ControlFlow::Continue(scrubbed)
    }

    fn scrub_origin(&self, dir: &DataDir, keyring: &Keyring) -> Result<(), StorageError> {
        // It is written before the log follows it, so it is never behind.
        let purged = self.purged().map_or(0, |purged| purged.index);
        let refuse = |message: String| {
            let error = StorageError::new(Code::WalDeserializationFailure, message);
            Err(error.in_file(&dir.wal_origin()).at(0).advise(origin::KIND.advice))
        };
        match origin::load(dir, keyring)? {
            None => refuse("the origin of the log is missing".to_owned()),
            Some(written) => match written.map_or(0, |written| written.index) {
                written if written < purged => {
                    refuse(format!("the log begins after entry {purged}, but its origin names {written}"))
                }
                _ => Ok(()),
            },
        }
    }

    /// The next segment in the order of the log, unless it begins behind what follows `until`.
    fn piece_behind(&self, order: &Order, until: u64) -> Option<Piece> {
        let state = self.0.shared.state.lock();
        let segment = state.log.segments.iter().find(|segment| match &order.before {
            None => true,
            Some((start, key, _)) => {
                segment.start > *start || (segment.start == *start && !Arc::ptr_eq(&segment.key, key))
            }
        });
        let segment = segment.filter(|segment| segment.start <= until.saturating_add(1))?;
        Some(Piece {
            path: segment.path.clone(),
            file: File::open(&segment.path),
            start: segment.start,
            last: segment.last,
            end: segment.end,
            key: Arc::clone(&segment.key),
            is_newest: state.log.segments.back().is_some_and(|newest| Arc::ptr_eq(&newest.key, &segment.key)),
        })
    }

    /// Whether this segment is still part of the log.
    fn knows(&self, key: &Arc<SegmentKey>) -> bool {
        self.0.shared.state.lock().log.segments.iter().any(|segment| Arc::ptr_eq(&segment.key, key))
    }

    /// Whether the segment continues the one before, if that is still there. One that supersedes goes on wherever the log was
    /// cut.
    fn follows(&self, order: &Order, piece: &Piece, place: &Place) -> Result<(), StorageError> {
        let Some((_, key, Some(last))) = &order.before else { return Ok(()) };
        if place.header.supersedes || place.header.previous == Some(*last) || !self.knows(key) {
            return Ok(());
        }
        let what = "the segment does not continue the one before it";
        Err(piece.refuse(Code::WalDeserializationFailure, what, 0).advise(DISORDER))
    }

    /// Judges the names in the directory of the log: a start reads every segment there, known or not.
    fn scrub_names(&self, dir: &DataDir, watch: &mut dyn Watch) -> ControlFlow<(), Result<(), StorageError>> {
        let mut suspicion = Suspicion::default();
        loop {
            match self.judge_names(dir, &mut suspicion, watch) {
                // A segment got its final name, or went, while its header was to be read.
                Ok(false) => watch.advance(0)?,
                Ok(true) => return ControlFlow::Continue(Ok(())),
                Err(finding) => return ControlFlow::Continue(Err(finding)),
            }
        }
    }

    /// The same once; `false` when it has to be done again.
    fn judge_names(
        &self,
        dir: &DataDir,
        suspicion: &mut Suspicion,
        watch: &mut dyn Watch,
    ) -> Result<bool, StorageError> {
        let directory = dir.wal();
        let failed = |source| StorageError::io("list the directory", &directory, source);
        let (mut listed, mut marked) = (Vec::new(), None);
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().and_then(|extension| extension.to_str()) == Some("wal") {
                listed.push(path);
            } else {
                marked = marked.max(newest::parse(&path));
            }
        }
        // Later than the list: what is listed and not known here is no part of the log any more, or not yet.
        let (known, purged) = {
            let log = &self.0.shared.state.lock().log;
            let known: Vec<_> = log.segments.iter().map(|segment| segment.path.clone()).collect();
            (known, log.origin.map_or(0, |origin| origin.index))
        };
        listed.retain(|path| !known.contains(path));
        let mut headers = Vec::new();
        for path in &known {
            match read_header(path) {
                Ok(header) => headers.push(header),
                Err(_) if !is_there(path) && suspicion.may_be_a_new_name() => return Ok(false),
                // It has been told already.
                Err(_) => {}
            }
        }
        if let Some(marked) = marked {
            let unknown = listed.iter().filter_map(|path| read_header(path).ok());
            let newest = headers.iter().chain(&unknown.collect::<Vec<_>>()).map(|header| header.number).max();
            if newest.is_none_or(|newest| newest < marked) {
                if !suspicion.is_certain(marked) {
                    return Ok(false);
                }
                watch.found(newest::missing(dir, marked, known.last().map(PathBuf::as_path)));
            }
        }
        for path in listed {
            let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(Name::parse) else {
                let error = StorageError::new(Code::WalDeserializationFailure, "not the name of a segment");
                watch.found(error.in_file(&path).at(0).advise(
                    "give the file its name back, or move it out of the directory when it is no part of the log",
                ));
                continue;
            };
            match read_header(&path) {
                Ok(header) if is_in_passing(&header, name, &headers, purged) => {}
                _ if !is_there(&path) => {}
                Ok(_) => {
                    let what = "a segment that is no part of the log: the next start would refuse it";
                    let error = StorageError::new(Code::WalDeserializationFailure, what).in_file(&path);
                    watch.found(error.at(0).advise("move the file out of the directory"));
                }
                Err(error) => watch.found(error),
            }
        }
        Ok(true)
    }
}

/// What one look at the names alone does not prove. A segment gets its final name before the log knows it by that, and is durable
/// before the mark of the newest one names it; but a list of a directory may miss a name that is given meanwhile.
#[derive(Default)]
struct Suspicion {
    marked: u64,
    looks: u32,
    missed: u32,
}

impl Suspicion {
    const LOOKS_MIN: u32 = 3;

    /// Whether a segment that is not where it should be may just have got another name: not after enough looks.
    fn may_be_a_new_name(&mut self) -> bool {
        self.missed += 1;
        self.missed < Self::LOOKS_MIN
    }

    /// Whether enough looks after one another have found this mark, and no segment of its number.
    fn is_certain(&mut self, marked: u64) -> bool {
        self.looks = if self.marked == marked { self.looks + 1 } else { 1 };
        self.marked = marked;
        self.looks >= Self::LOOKS_MIN
    }
}

/// Whether a segment that the log does not know is one that it is about to take up, or has let go of. A start removes what is
/// left of those.
fn is_in_passing(header: &Header, name: Name, known: &[Header], purged: u64) -> bool {
    let is_purged = matches!(name, Name::Sealed { end, .. } if end <= purged);
    let is_newer = known.iter().all(|known| known.number < header.number);
    let is_superseded = known
        .iter()
        .any(|known| known.supersedes && known.number > header.number && known.start <= header.start);
    // One without records goes when the next one has taken its place.
    let is_replaced = matches!(name, Name::Active { .. })
        && known.iter().any(|known| known.number > header.number && known.start == header.start);
    is_purged || is_newer || is_superseded || is_replaced
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Reads a segment. The outer answer is whether anybody still waits.
fn read(
    piece: &mut Piece,
    keyring: &Keyring,
    records: &mut u64,
    check: &mut dyn FnMut(&Record) -> Result<(), StorageError>,
    watch: &mut dyn Watch,
) -> ControlFlow<(), Result<Place, StorageError>> {
    let file = std::mem::replace(&mut piece.file, Err(io::ErrorKind::NotFound.into()));
    let (file, header) = match begin(piece, file, keyring) {
        Ok(begun) => begun,
        Err(finding) => return ControlFlow::Continue(Err(finding)),
    };
    watch.advance(FIRST_FRAME)?;
    let mut last = None;
    let mut visit = |record: &Record| {
        *records += 1;
        if piece.last == Some(record.id.index) {
            last = Some(record.id);
        }
        check(record)
    };
    let read =
        scan::written((file, &piece.path), &header, &piece.key, piece.end, &mut visit, &mut |bytes| {
            watch.advance(bytes)
        })?;
    ControlFlow::Continue(read.and_then(|on_disk| {
        let on_disk = on_disk.map(|id| id.index);
        if let Some(end) = piece.sealed_end()
            && on_disk != Some(end)
        {
            let what = format!("segment end sequence mismatch: it ends with {}", on_disk.unwrap_or(0));
            return Err(piece.refuse(Code::WalDeserializationFailure, what, piece.end).advise(DISORDER));
        }
        // The one being written may have grown since, or become a finished one.
        let last = last.filter(|_| piece.sealed_end().is_some());
        Ok(Place { header, last })
    }))
}

/// Judges what comes before the first frame.
fn begin(piece: &Piece, file: io::Result<File>, keyring: &Keyring) -> Result<(File, Header), StorageError> {
    let mut file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = "a segment of the log is missing";
            return Err(piece.refuse(Code::WalDeserializationFailure, what, 0).advise(RESTORE));
        }
        file => file.map_err(|source| StorageError::io("open the segment", &piece.path, source))?,
    };
    let header = Header::read(&mut file, &piece.path)?;
    let key = header.key(keyring, &piece.path)?;
    // One without records may just have been replaced by another of its name.
    if header.start != piece.start || (piece.end > FIRST_FRAME && key.seed != piece.key.seed) {
        let what = "the file is not the segment that the log has written";
        return Err(piece.refuse(Code::WalDeserializationFailure, what, 0).advise(DISORDER));
    }
    let len =
        file.metadata().map_err(|source| StorageError::io("measure the file", &piece.path, source))?.len();
    let is_uncut = piece.is_newest && len > piece.end;
    if piece.sealed_end().is_some() && len != piece.end && !is_uncut {
        let what = format!("a finished segment of {len} bytes whose records end at {}", piece.end);
        return Err(piece.refuse(Code::WalDeserializationFailure, what, len.min(piece.end)).advise(RESTORE));
    }
    Ok((file, header))
}
