//! Opens a log: judges everything first, then repairs what a crash may leave behind, then hands it over.
//!
//! While judging, nothing on disk changes, so a refusal leaves the evidence as it was.
//!
//! | Found | Done |
//! |---|---|
//! | no file of the log and nothing else sealed | a new log |
//! | `*.tmp` | removed: never part of the log |
//! | a segment wholly at or below the origin | removed: a purge was interrupted. Its content is not read |
//! | a segment wholly superseded | removed: a truncation was interrupted. Its content is not read |
//! | active segment without records | replaced by the new active segment, which supersedes what it superseded |
//! | an older active segment beside it, without records | removed: its replacement was interrupted |
//! | active segment with records | a torn tail is cut off; the segment is sealed |
//! | no active segment | fine: a rotation was interrupted |
//! | anything else that does not fit | refused with code, file, offset and advice |

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vaylix_proto::Code;

use super::header::{Header, SegmentKey};
use super::log::{Log, Segment, remove_all};
use super::name::Name;
use super::record::RecordId;
use super::scan::{self, Scanned};
use super::sector::SECTOR_BYTES;
use super::{Config, origin};
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;

/// What was found when the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records found, verified and kept.
    pub records: u64,
    /// The last record, or the last purged one when there is none.
    pub last: Option<RecordId>,
    /// The last purged record.
    pub purged: Option<RecordId>,
    /// The beginning of a write that never completed and was cut off.
    pub torn_tail: Option<TornTail>,
}

/// The beginning of a write that never completed, hence was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment, under the name it had.
    pub file: PathBuf,
    /// Where the incomplete frame began.
    pub offset: u64,
}

struct Found {
    path: PathBuf,
    name: Name,
    header: Header,
    /// The first index that a segment of a higher number supersedes.
    below: u64,
}

impl Found {
    fn is_active(&self) -> bool {
        matches!(self.name, Name::Active { .. })
    }

    fn refuse(&self, message: impl Into<String>) -> StorageError {
        StorageError::new(Code::WalDeserializationFailure, message)
            .in_file(&self.path)
            .at(0)
            .advise("segments are missing, renamed or mixed with others: restore the directory from a backup, or rebuild this node from another one")
    }
}

/// The segments, in the order of the log.
#[derive(Default)]
struct Judged {
    live: Vec<Live>,
    stale: Vec<Stale>,
}

/// A segment that holds nothing any more.
struct Stale {
    path: PathBuf,
    /// Whether records are in it that only a later segment supersedes.
    overhangs: bool,
}

/// A segment that counts.
struct Live {
    found: Found,
    key: Arc<SegmentKey>,
    scanned: Scanned,
}

/// A log that waits for its active segment.
pub(super) struct Opened {
    pub(super) log: Log,
    /// Of the next segment.
    pub(super) number: u64,
    /// The active segment that was found, when it holds no records.
    pub(super) vacant: Option<Vacant>,
    pub(super) recovery: Recovery,
}

/// An active segment without records.
pub(super) struct Vacant {
    pub(super) path: PathBuf,
    pub(super) supersedes: bool,
}

/// Opens the log of the directory. `check` judges last, before anything is changed.
pub(super) fn open(
    dir: &DataDir,
    config: &Config,
    keyring: &Keyring,
    check: impl FnOnce(&Recovery) -> Result<(), StorageError>,
) -> Result<Opened, StorageError> {
    let Listing { mut segments, leftovers } = list(&dir.wal())?;
    let purged = match origin::load(dir, keyring)? {
        Some(purged) => purged,
        None => {
            if let Some(path) = segments.first().map(|found| found.path.clone()).or_else(|| dir.sealed_file())
            {
                return Err(StorageError::new(
                    Code::WalDeserializationFailure,
                    format!(
                        "the origin of the log is missing, but {} exists: the log was lost",
                        path.display()
                    ),
                )
                .in_file(&dir.wal_origin())
                .advise("restore the directory from a backup, or rebuild this node from another one"));
            }
            check(&Recovery::default())?;
            origin::store(dir, keyring, None)?;
            repair(dir, &leftovers, &[])?;
            let log = Log::new(None, None, VecDeque::new(), config.tail_bytes_max);
            return Ok(Opened { log, number: 1, vacant: None, recovery: Recovery::default() });
        }
    };
    if segments.is_empty()
        && purged.is_none()
        && let Some(path) = dir.sealed_file()
    {
        return Err(StorageError::new(
            Code::WalDeserializationFailure,
            format!("the log has no segment, but {} exists: the log was lost", path.display()),
        )
        .in_file(&dir.wal())
        .advise("restore the directory from a backup, or rebuild this node from another one"));
    }
    // A foreign segment is told as such, and not by the disorder it makes.
    for found in &segments {
        found.header.key(keyring, &found.path)?;
    }
    order(&mut segments)?;
    let number = segments.last().map_or(1, |newest| newest.header.number + 1);
    let Judged { live, stale } = judge(segments, purged, keyring)?;

    let last = live.iter().rev().find_map(|live| live.scanned.live_last).or(purged);
    let mut recovery = Recovery { last, purged, ..Recovery::default() };
    check(&recovery)?;
    repair(dir, &leftovers, &stale)?;
    let (mut kept, mut vacant) = (VecDeque::new(), None);
    for live in live {
        if live.scanned.torn {
            let torn = TornTail { file: live.found.path.clone(), offset: live.scanned.end };
            tracing::warn!(file = %torn.file.display(), offset = torn.offset, "cut off a torn tail: a write that never completed");
            recovery.torn_tail = Some(torn);
        }
        match seal(dir, live)? {
            Kept::Segment(segment) => kept.push_back(segment),
            Kept::Vacant(found) => vacant = Some(found),
        }
    }
    let log = Log::new(purged, last, kept, config.tail_bytes_max);
    if let (Some(first), Some(last)) = (log.first(), last) {
        recovery.records = last.index - first + 1;
    }
    Ok(Opened { log, number, vacant, recovery })
}

struct Listing {
    segments: Vec<Found>,
    leftovers: Vec<PathBuf>,
}

fn list(directory: &Path) -> Result<Listing, StorageError> {
    let failed = |source| StorageError::io("list the directory", directory, source);
    let mut listing = Listing { segments: Vec::new(), leftovers: Vec::new() };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match (extension, path.file_name().and_then(|name| name.to_str()).and_then(Name::parse)) {
            (_, Some(name)) => {
                let header = read_header(&path)?;
                listing.segments.push(Found { path, name, header, below: u64::MAX });
            }
            (Some("tmp"), None) => listing.leftovers.push(path),
            (Some("wal"), None) => {
                return Err(StorageError::new(Code::WalDeserializationFailure, "not the name of a segment")
                    .in_file(&path)
                    .advise("give the file its name back, or move it out of the directory when it is no part of the log"));
            }
            _ => {}
        }
    }
    Ok(listing)
}

fn read_header(path: &Path) -> Result<Header, StorageError> {
    let failed = |source| StorageError::io("read the segment", path, source);
    let mut bytes = Vec::with_capacity(SECTOR_BYTES);
    let file = File::open(path).map_err(failed)?;
    file.take(SECTOR_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
    Header::decode(&bytes, path)
}

/// Puts the segments in the order of the log and tells how far each counts.
fn order(segments: &mut [Found]) -> Result<(), StorageError> {
    segments.sort_by_key(|found| found.header.number);
    for pair in segments.windows(2) {
        if pair[0].header.number == pair[1].header.number {
            return Err(pair[1].refuse("two segments with one number"));
        }
    }
    let active: Vec<_> = segments.iter().filter(|found| found.is_active()).collect();
    if let [.., newest] = active[..] {
        if active.len() > 2 {
            return Err(newest.refuse(format!("ambiguous log: found {} active segments", active.len())));
        }
        if !segments[segments.len() - active.len()..].iter().all(Found::is_active) {
            return Err(newest.refuse("an active segment is older than a sealed one"));
        }
    }
    let mut below = u64::MAX;
    for found in segments.iter_mut().rev() {
        if found.header.start != found.name.start() {
            return Err(found.refuse("segment start sequence mismatch"));
        }
        found.below = below;
        if found.header.supersedes {
            below = below.min(found.header.start);
        }
    }
    Ok(())
}

/// Verifies every segment that counts and that they follow each other.
fn judge(segments: Vec<Found>, purged: Option<RecordId>, keyring: &Keyring) -> Result<Judged, StorageError> {
    let gone = |index: u64| purged.is_some_and(|purged| index <= purged.index);
    let Judged { mut live, mut stale } = Judged::default();
    // The last record so far; `None` while nothing says where the log begins.
    let mut last: Option<RecordId> = None;
    let mut segments = segments.into_iter().peekable();
    while let Some(found) = segments.next() {
        let start = found.header.start;
        let below = found.below;
        match found.name {
            Name::Sealed { end, .. } if start >= below || gone(end.min(below - 1)) => {
                stale.push(Stale { path: found.path, overhangs: end >= below });
                continue;
            }
            _ => {}
        }
        if found.is_active() && segments.peek().is_some() {
            let key = found.header.key(keyring, &found.path)?;
            let scanned = scan::active(&found.path, &found.header, &key, below)?;
            if scanned.last.is_some() || scanned.torn {
                return Err(found.refuse("ambiguous log: found 2 active segments"));
            }
            stale.push(Stale { path: found.path, overhangs: false });
            continue;
        }
        let expected = last.or(purged);
        match expected {
            None if found.header.previous.is_some() => {
                return Err(found.refuse(format!("missing records: the log begins with {start}")));
            }
            Some(expected) if live.is_empty() && start <= expected.index => {}
            Some(expected) if start != expected.index + 1 => {
                let message =
                    format!("non-contiguous segments: expected {}, found {start}", expected.index + 1);
                return Err(found.refuse(message));
            }
            Some(expected) if last.is_some() && found.header.previous != Some(expected) => {
                return Err(found.refuse("the segment does not continue the one before it"));
            }
            _ => {}
        }
        let key = Arc::new(found.header.key(keyring, &found.path)?);
        let scanned = match found.name {
            Name::Active { .. } => scan::active(&found.path, &found.header, &key, below)?,
            Name::Sealed { end, .. } => {
                let scanned = scan::sealed(&found.path, &found.header, &key, below)?;
                match scanned.last {
                    None => return Err(found.refuse("sealed segment is empty")),
                    Some(last) if last.index != end => {
                        return Err(found
                            .refuse(format!("segment end sequence mismatch: it ends with {}", last.index)));
                    }
                    Some(_) => scanned,
                }
            }
        };
        if scanned.live_last.is_some_and(|last| gone(last.index)) {
            stale.push(Stale { path: found.path, overhangs: scanned.last != scanned.live_last });
            continue;
        }
        last = scanned.live_last.or(last);
        live.push(Live { found, key, scanned });
    }
    Ok(Judged { live, stale })
}

fn repair(dir: &DataDir, leftovers: &[PathBuf], stale: &[Stale]) -> Result<(), StorageError> {
    let leftovers = leftovers.iter().map(|path| (path.as_path(), false));
    let stale = stale.iter().map(|stale| (stale.path.as_path(), stale.overhangs));
    remove_all(dir.disk(), &dir.wal(), leftovers.chain(stale))
}

enum Kept {
    Segment(Segment),
    Vacant(Vacant),
}

/// Makes a verified segment a sealed one, unless it is an active one without records.
fn seal(dir: &DataDir, live: Live) -> Result<Kept, StorageError> {
    let Live { found, key, scanned } = live;
    let Scanned { last, live_last, end, marks, .. } = scanned;
    let mut path = found.path;
    let Some(last) = last else {
        return Ok(Kept::Vacant(Vacant { path, supersedes: found.header.supersedes }));
    };
    if let Name::Active { start } = found.name {
        let mut file = dir.disk().open(&path)?;
        file.resize(end)?;
        file.sync_all()?;
        path = Name::Sealed { start, end: last.index }.path(&dir.wal());
        file.rename(&path)?;
        dir.disk().sync_directory(&dir.wal())?;
    }
    let live_last = live_last.map(|last| last.index);
    let overhangs = live_last != Some(last.index);
    Ok(Kept::Segment(Segment {
        path,
        start: found.header.start,
        last: live_last,
        overhangs,
        end,
        key,
        marks,
    }))
}
