//! Reads a segment from end to end and judges every byte of it.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;

use vaylix_proto::Code;

use super::frame;
use super::header::{Header, SegmentKey};
use super::record::{Record, RecordId};
use super::sector::{self, SECTOR_BYTES, Sector};
use crate::error::StorageError;
use crate::progress::Progress;

const READ_BYTES: usize = 256 << 10;
/// A segment remembers the place of a frame every so many bytes.
const MARK_STRIDE_BYTES: u64 = 64 << 10;
pub(super) const FIRST_FRAME: u64 = SECTOR_BYTES as u64;

pub(super) const RESTORE: &str = "acknowledged records are damaged: restore the directory from a backup, or rebuild this node from another one";

/// Where a frame begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) index: u64,
    pub(super) ordinal: u32,
    pub(super) offset: u64,
}

/// Adds the frame to the marks when it is far enough from the last one.
pub(super) fn mark(marks: &mut Vec<Mark>, frame: Mark) {
    if marks.last().is_none_or(|last| frame.offset - last.offset >= MARK_STRIDE_BYTES) {
        marks.push(frame);
    }
}

/// Who watches while segments are read.
pub(super) struct Watch<'a> {
    pub(super) progress: Progress,
    /// Sees every record that counts; an error ends the reading and is told with its file and offset.
    pub(super) visit: &'a mut dyn FnMut(&Record) -> Result<(), StorageError>,
}

/// What a segment holds.
#[derive(Default)]
pub(super) struct Scanned {
    /// The last record on disk.
    pub(super) last: Option<RecordId>,
    /// The last record that no later segment supersedes.
    pub(super) live_last: Option<RecordId>,
    /// Where the last complete frame ends.
    pub(super) end: u64,
    /// Whether the beginning of an incomplete frame follows.
    pub(super) torn: bool,
    pub(super) marks: Vec<Mark>,
    /// Why nothing more was read, though there is more.
    pub(super) damage: Option<StorageError>,
}

impl Scanned {
    /// The same, if all of it was read.
    pub(super) fn whole(mut self) -> Result<Self, StorageError> {
        self.damage.take().map_or(Ok(self), Err)
    }
}

/// What is said of a finished segment that is not read: its name gives its last record, and the header of the next
/// segment proves it.
pub(super) fn unread(path: &Path, last: RecordId) -> Result<Scanned, StorageError> {
    let end = file_len(path)?;
    if end <= FIRST_FRAME || end % SECTOR_BYTES as u64 != 0 {
        let message = "a finished segment that does not end with a record";
        return Err(StorageError::new(Code::WalDeserializationFailure, message)
            .in_file(path)
            .at(end)
            .advise(RESTORE));
    }
    Ok(Scanned { last: Some(last), live_last: Some(last), end, ..Scanned::default() })
}

/// Whether a finished segment that is not read ends with its last record.
pub(super) fn check_end(path: &Path, key: &SegmentKey, last: RecordId) -> Result<(), StorageError> {
    let len = file_len(path)?;
    let refuse = |what: String| {
        Err(StorageError::new(Code::WalDeserializationFailure, what).in_file(path).at(len).advise(RESTORE))
    };
    let no_record = || refuse("a finished segment that does not end with a record".to_owned());
    let file = File::open(path).map_err(|source| StorageError::io("open the segment", path, source))?;
    let mut sectors = Sectors::new(file, path, len.saturating_sub(SECTOR_BYTES as u64))?;
    let mut bytes = [0; SECTOR_BYTES];
    sectors.next(&mut bytes)?;
    let place = match sector::read(&bytes, key.seed) {
        Sector::Whole(place, _) => place,
        Sector::Zero => return no_record(),
        Sector::Damaged => {
            let what = "checksum validation failed for a sector of the log";
            return Err(StorageError::new(Code::ChecksumValidationFailure, what)
                .in_file(path)
                .at(len - SECTOR_BYTES as u64)
                .advise(RESTORE));
        }
    };
    let frame_len = u64::from(place.parts) * SECTOR_BYTES as u64;
    let begin = len.checked_sub(frame_len).filter(|begin| *begin >= FIRST_FRAME);
    let (Some(begin), true) = (begin, place.part + 1 == place.parts) else { return no_record() };
    let file = File::open(path).map_err(|source| StorageError::io("open the segment", path, source))?;
    let payload = Sectors::new(file, path, begin)?.frame(place.ordinal, key.seed)?;
    let payload = payload.map_err(|broken| broken.refuse(path))?;
    let records = frame::decode(payload, key, place.ordinal)
        .map_err(|bad| StorageError::new(bad.code, bad.what).in_file(path).at(begin).advise(RESTORE))?;
    match records.last() {
        Some(found) if found.id == last => Ok(()),
        Some(found) => refuse(format!("segment end sequence mismatch: it ends with {}", found.id.index)),
        None => no_record(),
    }
}

/// Reads a finished segment: frames from the header to the last byte, nothing else. Up to the first damage, if there is any.
pub(super) fn sealed(
    path: &Path,
    header: &Header,
    key: &SegmentKey,
    below: u64,
    watch: &mut Watch<'_>,
) -> Result<Scanned, StorageError> {
    let len = file_len(path)?;
    let mut scan = Scan::new(path, header, key, below)?;
    while scan.found.end < len {
        let at = scan.found.end;
        match scan.frame(watch) {
            Ok(Ok(())) => watch.progress.advance(scan.found.end - at),
            Ok(Err(broken)) => return Ok(scan.damaged(broken.refuse(path))),
            Err(error) => return Ok(scan.damaged(error)),
        }
    }
    Ok(scan.found)
}

/// Reads the newest finished segment, which ends with the record `end`. Behind that it may have what it had when it was being
/// written: zeros, and one frame that was not acknowledged.
pub(super) fn newest_sealed(
    path: &Path,
    header: &Header,
    key: &SegmentKey,
    below: u64,
    end: u64,
    watch: &mut Watch<'_>,
) -> Result<Scanned, StorageError> {
    let len = file_len(path)?;
    let mut scan = Scan::new(path, header, key, below)?;
    while scan.found.end < len && scan.index <= end {
        let at = scan.found.end;
        match scan.frame(watch) {
            Ok(Ok(())) => watch.progress.advance(scan.found.end - at),
            Ok(Err(broken)) => return Ok(scan.damaged(broken.refuse(path))),
            Err(error) => return Ok(scan.damaged(error)),
        }
    }
    let rest = match scan.sectors.frame(scan.ordinal, key.seed)? {
        Ok(_whole) => tail(path, scan.sectors.offset, scan.ordinal + 1, key.seed),
        Err(_torn) => tail(path, scan.found.end, scan.ordinal, key.seed),
    };
    match rest {
        Ok(_) => Ok(scan.found),
        Err(error) => Ok(scan.damaged(error)),
    }
}

/// Reads the segment that was being written: frames, then zeros, between them at most one torn tail. Up to the first
/// damage, if there is any.
pub(super) fn active(
    path: &Path,
    header: &Header,
    key: &SegmentKey,
    below: u64,
    watch: &mut Watch<'_>,
) -> Result<Scanned, StorageError> {
    let len = file_len(path)?;
    let cut = header.length.filter(|length| len < *length).map(|length| {
        let message = format!("the segment was cut: it has {len} bytes, and had {length} when it was begun");
        StorageError::new(Code::WalDeserializationFailure, message).in_file(path).at(len).advise(RESTORE)
    });
    let mut scan = Scan::new(path, header, key, below)?;
    let mut at = scan.found.end;
    loop {
        match scan.frame(watch) {
            Ok(Ok(())) => watch.progress.advance(scan.found.end - at),
            Ok(Err(_)) => break,
            // Where it was cut, that is what its end looks like.
            Err(error) => return Ok(scan.damaged(cut.unwrap_or(error))),
        }
        at = scan.found.end;
    }
    if let Some(cut) = cut {
        return Ok(scan.damaged(cut));
    }
    match tail(path, scan.found.end, scan.ordinal, key.seed) {
        Ok(torn) => scan.found.torn = torn,
        Err(error) => return Ok(scan.damaged(error)),
    }
    Ok(scan.found)
}

/// Reads a segment of a log in use: frames from the header up to `end`, all of which have been written. Returns the last record.
/// `advance` is told of the bytes read, and says whether to go on.
pub(super) fn written(
    (file, path): (File, &Path),
    header: &Header,
    key: &SegmentKey,
    end: u64,
    visit: &mut dyn FnMut(&Record) -> Result<(), StorageError>,
    advance: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> ControlFlow<(), Result<Option<RecordId>, StorageError>> {
    let mut watch = Watch { progress: Progress::bytes("", 0), visit };
    let mut scan = match Scan::of(file, path, header, key, u64::MAX) {
        Ok(scan) => scan,
        Err(error) => return ControlFlow::Continue(Err(error)),
    };
    while scan.found.end < end {
        let at = scan.found.end;
        match scan.frame(&mut watch) {
            Ok(Ok(())) => advance(scan.found.end - at)?,
            Ok(Err(broken)) => return ControlFlow::Continue(Err(broken.refuse(path))),
            Err(error) => return ControlFlow::Continue(Err(error)),
        }
    }
    ControlFlow::Continue(Ok(scan.found.last))
}

pub(super) fn file_len(path: &Path) -> Result<u64, StorageError> {
    std::fs::metadata(path)
        .map(|metadata| metadata.len())
        .map_err(|source| StorageError::io("measure the file", path, source))
}

struct Scan<'a> {
    path: &'a Path,
    key: &'a SegmentKey,
    sectors: Sectors<'a>,
    /// Of the next frame.
    ordinal: u32,
    /// Of the next record.
    index: u64,
    below: u64,
    found: Scanned,
}

impl<'a> Scan<'a> {
    fn new(path: &'a Path, header: &Header, key: &'a SegmentKey, below: u64) -> Result<Self, StorageError> {
        let file = File::open(path).map_err(|source| StorageError::io("open the segment", path, source))?;
        Self::of(file, path, header, key, below)
    }

    fn of(
        file: File,
        path: &'a Path,
        header: &Header,
        key: &'a SegmentKey,
        below: u64,
    ) -> Result<Self, StorageError> {
        let sectors = Sectors::new(file, path, FIRST_FRAME)?;
        let found = Scanned { end: FIRST_FRAME, ..Scanned::default() };
        Ok(Self { path, key, sectors, ordinal: 1, index: header.start, below, found })
    }

    /// What was found before the damage.
    fn damaged(self, error: StorageError) -> Scanned {
        Scanned { damage: Some(error), ..self.found }
    }

    /// Takes the next frame. The inner error means that its sectors are not all there and whole; everything else that
    /// is wrong with it is an outer error.
    fn frame(&mut self, watch: &mut Watch<'_>) -> Result<Result<(), Broken>, StorageError> {
        let offset = self.sectors.offset;
        let payload = match self.sectors.frame(self.ordinal, self.key.seed)? {
            Ok(payload) => payload,
            Err(broken) => return Ok(Err(broken)),
        };
        let refuse =
            |code, what: &str| StorageError::new(code, what).in_file(self.path).at(offset).advise(RESTORE);
        let records =
            frame::decode(payload, self.key, self.ordinal).map_err(|bad| refuse(bad.code, bad.what))?;
        let (first, last) = (records[0].id, records[records.len() - 1].id);
        if first.index != self.index {
            let message = format!("non-contiguous records: expected {}, found {}", self.index, first.index);
            return Err(refuse(Code::WalDeserializationFailure, &message));
        }
        for record in records.iter().filter(|record| record.id.index < self.below) {
            (watch.visit)(record).map_err(|error| error.in_file(self.path).at(offset))?;
        }
        mark(&mut self.found.marks, Mark { index: first.index, ordinal: self.ordinal, offset });
        if let Some(live) = records.iter().rev().find(|record| record.id.index < self.below) {
            self.found.live_last = Some(live.id);
        }
        self.found.last = Some(last);
        self.found.end = self.sectors.offset;
        let numbering = "a segment whose numbers overflow";
        self.index =
            last.index.checked_add(1).ok_or_else(|| refuse(Code::WalDeserializationFailure, numbering))?;
        self.ordinal += 1;
        Ok(Ok(()))
    }
}

/// Judges what follows the last complete frame: `false` for zeros only, `true` for a torn frame `ordinal`, an error for
/// anything else.
///
/// A frame is torn when some of its sectors were never written (they are zero, or the file ends before them; the last
/// one written may be cut short) while the others are whole and in their place. Only a frame that nobody knew to be
/// durable can be torn: a sector written later would name it as synced. With the unsafe policies several frames can be
/// in that state at once.
fn tail(path: &Path, from: u64, ordinal: u32, seed: u32) -> Result<bool, StorageError> {
    let file = File::open(path).map_err(|source| StorageError::io("open the segment", path, source))?;
    let mut sectors = Sectors::new(file, path, from)?;
    let mut bytes = [0; SECTOR_BYTES];
    let (mut torn, mut cut) = (false, false);
    let (mut parts, mut present) = (None, 0);
    loop {
        let offset = sectors.offset;
        if sectors.next(&mut bytes)? == 0 {
            break;
        }
        let part = (offset - from) / SECTOR_BYTES as u64;
        let refuse =
            |code, what: &str| Err(StorageError::new(code, what).in_file(path).at(offset).advise(RESTORE));
        match sector::read(&bytes, seed) {
            Sector::Zero => {}
            _ if cut => {
                return refuse(Code::WalDeserializationFailure, "bytes behind a record that was cut short");
            }
            Sector::Whole(place, _) => {
                torn = true;
                if place.synced >= ordinal {
                    return refuse(Code::ChecksumValidationFailure, "a whole record behind a damaged one");
                }
                let of_this = place.ordinal == ordinal;
                let misplaced = of_this && (u64::from(place.part) != part || part >= u64::from(place.parts));
                if place.ordinal < ordinal
                    || misplaced
                    || (of_this && parts.is_some_and(|parts| parts != place.parts))
                {
                    return refuse(Code::WalDeserializationFailure, "a sector that does not belong here");
                }
                if of_this {
                    parts = Some(place.parts);
                    present += 1;
                }
            }
            Sector::Damaged => {
                let begins =
                    u32::try_from(part).is_ok_and(|part| sector::is_beginning(&bytes, ordinal, part));
                if !begins {
                    return refuse(
                        Code::ChecksumValidationFailure,
                        "checksum validation failed for a sector of the log",
                    );
                }
                (torn, cut) = (true, true);
            }
        }
    }
    if parts == Some(present) {
        return Err(StorageError::new(Code::WalDeserializationFailure, "a frame whose sectors disagree")
            .in_file(path)
            .at(from)
            .advise(RESTORE));
    }
    Ok(torn)
}

/// Why the sectors of a frame are not all there and whole.
pub(super) struct Broken {
    offset: u64,
    code: Code,
    what: &'static str,
}

impl Broken {
    pub(super) fn refuse(&self, path: &Path) -> StorageError {
        StorageError::new(self.code, self.what).in_file(path).at(self.offset).advise(RESTORE)
    }
}

/// The sectors of a file from some place on.
pub(super) struct Sectors<'a> {
    reader: BufReader<File>,
    path: &'a Path,
    pub(super) offset: u64,
}

impl<'a> Sectors<'a> {
    pub(super) fn new(mut file: File, path: &'a Path, offset: u64) -> Result<Self, StorageError> {
        file.seek(SeekFrom::Start(offset))
            .map_err(|source| StorageError::io("seek in the segment", path, source))?;
        Ok(Self { reader: BufReader::with_capacity(READ_BYTES, file), path, offset })
    }

    /// Reads the next sector; what the file lacks of it is zero. Returns how many bytes the file had.
    fn next(&mut self, sector: &mut [u8; SECTOR_BYTES]) -> Result<usize, StorageError> {
        let mut filled = 0;
        while filled < SECTOR_BYTES {
            match self.reader.read(&mut sector[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(StorageError::io("read the segment", self.path, source).at(self.offset));
                }
            }
        }
        sector[filled..].fill(0);
        self.offset += SECTOR_BYTES as u64;
        Ok(filled)
    }

    /// Reads the payloads of frame `ordinal`, which must begin here.
    pub(super) fn frame(&mut self, ordinal: u32, seed: u32) -> Result<Result<Vec<u8>, Broken>, StorageError> {
        let mut bytes = [0; SECTOR_BYTES];
        let mut payload = Vec::new();
        let mut expected: Option<sector::Place> = None;
        loop {
            let offset = self.offset;
            let filled = self.next(&mut bytes)?;
            let broken = |code, what| Ok(Err(Broken { offset, code, what }));
            let (place, part) = match sector::read(&bytes, seed) {
                Sector::Whole(place, part) => (place, part),
                Sector::Zero if filled == 0 => {
                    return broken(Code::WalDeserializationFailure, "the segment ends early");
                }
                Sector::Zero => {
                    return broken(Code::WalDeserializationFailure, "zeros where records should be");
                }
                Sector::Damaged => {
                    return broken(
                        Code::ChecksumValidationFailure,
                        "checksum validation failed for a sector of the log",
                    );
                }
            };
            let wanted = expected.unwrap_or(sector::Place { ordinal, part: 0, ..place });
            if place != wanted {
                return broken(Code::WalDeserializationFailure, "a sector that does not belong here");
            }
            payload.extend_from_slice(part);
            if place.part + 1 >= place.parts {
                return Ok(Ok(payload));
            }
            expected = Some(sector::Place { part: place.part + 1, ..place });
        }
    }
}

/// Finds a frame at or before the record `index` in a finished segment that begins with `first`, by halving: each sector
/// says which part of its frame it is, and each frame which record it begins with. What that says is not proved here but
/// when the frame is read; where it makes no sense, the search ends and the reader comes upon the damage.
pub(super) fn locate(
    mut file: &File,
    path: &Path,
    seed: u32,
    first: Mark,
    end: u64,
    index: u64,
) -> Result<Mark, StorageError> {
    const SECTOR: u64 = SECTOR_BYTES as u64;
    let mut sector_at = |offset: u64| -> Result<Option<(sector::Place, Option<u64>)>, StorageError> {
        let mut bytes = [0; SECTOR_BYTES];
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes));
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            result => {
                result.map_err(|source| StorageError::io("read the segment", path, source).at(offset))?;
            }
        }
        Ok(match sector::read(&bytes, seed) {
            Sector::Whole(place, payload) => {
                Some((place, payload.first_chunk().map(|index| u64::from_le_bytes(*index))))
            }
            Sector::Zero | Sector::Damaged => None,
        })
    };
    let mut low = first;
    let mut high = end;
    while high.saturating_sub(low.offset) > MARK_STRIDE_BYTES {
        let middle = low.offset + (high - low.offset) / 2 / SECTOR * SECTOR;
        let Some((place, _)) = sector_at(middle)? else { break };
        // Where the frame begins that the sector belongs to; when that is the lowest one, the frame behind it.
        let begin = middle.checked_sub(u64::from(place.part) * SECTOR);
        let begin = match begin {
            Some(begin) if begin == low.offset => begin + u64::from(place.parts) * SECTOR,
            Some(begin) => begin,
            None => break,
        };
        if begin <= low.offset || begin >= high {
            break;
        }
        match sector_at(begin)? {
            Some((sector::Place { ordinal, part: 0, .. }, Some(found))) if found <= index => {
                low = Mark { index: found, ordinal, offset: begin };
            }
            Some((sector::Place { part: 0, .. }, Some(_))) => high = begin,
            _ => break,
        }
    }
    Ok(low)
}

/// Reads records from a segment, beginning with the frame at `mark`: those from `from` to `to_exclusive`, until they
/// exceed `bytes_max`, at least one. `end` is where the frames end.
pub(super) fn read(
    file: File,
    path: &Path,
    key: &SegmentKey,
    mark: Mark,
    end: u64,
    range: std::ops::Range<u64>,
    bytes_max: usize,
) -> Result<Vec<Record>, StorageError> {
    let mut sectors = Sectors::new(file, path, mark.offset)?;
    let mut ordinal = mark.ordinal;
    let mut out = Vec::new();
    let mut bytes = 0;
    let mut next = mark.index;
    while sectors.offset < end && next < range.end {
        let offset = sectors.offset;
        let payload = sectors.frame(ordinal, key.seed)?.map_err(|broken| broken.refuse(path))?;
        let records = frame::decode(payload, key, ordinal)
            .map_err(|bad| StorageError::new(bad.code, bad.what).in_file(path).at(offset).advise(RESTORE))?;
        for record in records {
            next = record.id.index + 1;
            if record.id.index >= range.end || (bytes >= bytes_max && !out.is_empty()) {
                return Ok(out);
            }
            if record.id.index >= range.start {
                bytes += record.body.len();
                out.push(record);
            }
        }
        ordinal += 1;
    }
    if next < range.end {
        let message = format!("the segment ends before its record {next}");
        return Err(StorageError::new(Code::WalDeserializationFailure, message)
            .in_file(path)
            .at(sectors.offset)
            .advise(RESTORE));
    }
    Ok(out)
}
