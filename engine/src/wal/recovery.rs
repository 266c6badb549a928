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
//! | newest finished segment with zeros, or a write that failed, behind its end | cut: sealing it was interrupted |
//! | no active segment | fine: a rotation was interrupted |
//! | anything else that does not fit | refused with code, file, offset and advice |
//!
//! Finished segments that a snapshot covers are judged by name and header, if the next segment proves how they end. Of those
//! no more is read than it takes to tell who led when (`terms`), and damage found by that is told, but no reason to refuse.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vaylix_proto::Code;

use super::header::{Header, SegmentKey};
use super::log::{Log, Segment, remove_all};
use super::name::Name;
use super::record::{Record, RecordId};
use super::scan::{self, Scanned, Watch};
use super::terms::{self, Terms};
use super::{Config, newest, origin};
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;
use crate::progress::Progress;

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
    /// Who led when, in the segments that were not read.
    pub unread: Terms,
    /// The last record of the last damaged segment among those: who led when is not known up to there.
    pub unknown_up_to: Option<RecordId>,
}

/// The beginning of a write that never completed, hence was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment, under the name it had.
    pub file: PathBuf,
    /// Where the incomplete frame began.
    pub offset: u64,
}

pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) name: Name,
    pub(super) header: Header,
    /// The first index that a segment of a higher number supersedes.
    below: u64,
}

impl Found {
    fn is_active(&self) -> bool {
        matches!(self.name, Name::Active { .. })
    }

    /// Whether it is finished and holds nothing behind the record `covered`, and all of it counts.
    fn is_covered(&self, covered: u64) -> bool {
        matches!(self.name, Name::Sealed { end, .. } if end <= covered && end < self.below)
    }

    /// The same, damaged if it does not end with the record that its name says.
    fn ends_with(&self, end: u64, mut scanned: Scanned) -> Scanned {
        let wrong = match scanned.last {
            _ if scanned.damage.is_some() => return scanned,
            None => "sealed segment is empty".to_owned(),
            Some(last) if last.index != end => {
                format!("segment end sequence mismatch: it ends with {}", last.index)
            }
            Some(_) => return scanned,
        };
        scanned.damage = Some(self.refuse(wrong).at(scanned.end));
        scanned
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
pub(super) struct Judged {
    pub(super) live: Vec<Live>,
    pub(super) stale: Vec<Stale>,
    /// What is wrong with the newest one, where its whole part is taken.
    damage: Option<StorageError>,
}

/// How much of the log is wanted when its newest segment is damaged or missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it: it is refused.
    Whole,
    /// What came before.
    UpToDamage,
}

/// A segment that holds nothing any more.
pub(super) struct Stale {
    pub(super) path: PathBuf,
    /// Whether records are in it that only a later segment supersedes.
    overhangs: bool,
}

/// A segment that counts.
pub(super) struct Live {
    pub(super) found: Found,
    pub(super) key: Arc<SegmentKey>,
    pub(super) scanned: Scanned,
}

/// A log that waits for its active segment.
pub(super) struct Opened {
    pub(super) log: Log,
    /// Of the next segment.
    pub(super) number: u64,
    /// Of the newest segment by the mark.
    pub(super) marked: Option<u64>,
    /// The active segment that was found, when it holds no records.
    pub(super) vacant: Option<Vacant>,
    pub(super) recovery: Recovery,
}

/// An active segment without records.
pub(super) struct Vacant {
    pub(super) path: PathBuf,
    pub(super) supersedes: bool,
}

/// What was found before anything was changed.
pub(super) struct Examined {
    /// Whether there has never been a log.
    pub(super) fresh: bool,
    pub(super) judged: Judged,
    pub(super) recovery: Recovery,
    /// What is wrong with the newest segment; never with [`Extent::Whole`].
    pub(super) damage: Option<StorageError>,
    leftovers: Vec<PathBuf>,
    /// Of the newest segment by the mark.
    marked: Option<u64>,
    /// Of the next segment.
    number: u64,
}

/// Opens the log of the directory. Finished segments wholly at or below `covered` are not read. `check` judges last,
/// before anything is changed.
pub(super) fn open(
    dir: &DataDir,
    config: &Config,
    keyring: &Keyring,
    covered: u64,
    check: impl FnOnce(&Recovery) -> Result<(), StorageError>,
) -> Result<Opened, StorageError> {
    let examined = examine(dir, keyring, covered, Extent::Whole, &mut |_| Ok(()))?;
    let Examined { fresh, judged, mut recovery, leftovers, marked, number, .. } = examined;
    let Judged { live, stale, .. } = judged;
    let (unread, damage) = Terms::find(recovery.purged, &live);
    recovery.unread = unread;
    recovery.unknown_up_to = damage.as_ref().map(|damage| damage.up_to);
    check(&recovery)?;
    if let Some(terms::Damage { up_to, error }) = damage {
        tracing::error!(
            code = %error.code(),
            %error,
            up_to = up_to.index,
            "an old segment of the log is damaged: the node starts, for its snapshot has what was in there, but past moments \
             up to that record are lost to it; see `vaylix storage verify`"
        );
    }
    dir.disk().create_directory(&dir.wal())?;
    if fresh {
        origin::store(dir, keyring, None)?;
    }
    if let Some(torn) = &recovery.torn_tail {
        tracing::warn!(file = %torn.file.display(), offset = torn.offset, "cut off a torn tail: a write that never completed");
    }
    repair(dir, &leftovers, &stale)?;
    let (mut kept, mut vacant) = (VecDeque::new(), None);
    for live in live {
        match seal(dir, live)? {
            Kept::Segment(segment) => kept.push_back(segment),
            Kept::Vacant(found) => vacant = Some(found),
        }
    }
    let log = Log::new(recovery.purged, recovery.last, kept, config.tail_bytes_max);
    Ok(Opened { log, number, marked, vacant, recovery })
}

/// Judges the log of the directory and changes nothing. `visit` sees every record that is read and counts.
pub(super) fn examine(
    dir: &DataDir,
    keyring: &Keyring,
    covered: u64,
    extent: Extent,
    visit: &mut dyn FnMut(&Record) -> Result<(), StorageError>,
) -> Result<Examined, StorageError> {
    let Listing { mut segments, leftovers, mut damage, marked } = list(&dir.wal(), extent)?;
    let origin = origin::load(dir, keyring)?;
    if origin.is_none()
        && let Some(path) = segments.first().map(|found| found.path.clone()).or_else(|| dir.sealed_file())
    {
        return Err(StorageError::new(
            Code::WalDeserializationFailure,
            format!("the origin of the log is missing, but {} exists: the log was lost", path.display()),
        )
        .in_file(&dir.wal_origin())
        .advise("restore the directory from a backup, or rebuild this node from another one"));
    }
    let fresh = origin.is_none();
    let purged = origin.flatten();
    if segments.is_empty()
        && damage.is_none()
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
    if let Some(marked) = marked.filter(|marked| *marked >= number && damage.is_none()) {
        let error = newest::missing(dir, marked, segments.last().map(|last| &*last.path));
        match extent {
            Extent::Whole => return Err(error),
            Extent::UpToDamage => damage = Some(error),
        }
    }
    let mut total = 0;
    for found in segments.iter().filter(|found| !found.is_covered(covered)) {
        total += scan::file_len(&found.path)?;
    }
    let mut watch = Watch { progress: Progress::bytes("reading the log", total), visit };
    let mut judged = judge(segments, purged, keyring, covered, extent, &mut watch)?;
    // The end of what there is, before the segment that is not.
    let damage = judged.damage.take().or(damage);

    let live = &judged.live;
    let last = live.iter().rev().find_map(|live| live.scanned.live_last).or(purged);
    let torn = live.iter().find(|live| live.scanned.torn);
    let torn_tail = torn.map(|torn| TornTail { file: torn.found.path.clone(), offset: torn.scanned.end });
    let first = match purged {
        Some(purged) => Some(purged.index + 1),
        None => live.first().map(|live| live.found.header.start),
    };
    let records = first.zip(last).map_or(0, |(first, last)| (last.index + 1).saturating_sub(first));
    let recovery = Recovery { records, last, purged, torn_tail, ..Recovery::default() };
    Ok(Examined { fresh, judged, recovery, damage, leftovers, marked, number })
}

#[derive(Default)]
struct Listing {
    segments: Vec<Found>,
    leftovers: Vec<PathBuf>,
    /// Why the newest segment is not among them, though there is its file.
    damage: Option<StorageError>,
    marked: Option<u64>,
}

fn list(directory: &Path, extent: Extent) -> Result<Listing, StorageError> {
    let failed = |source| StorageError::io("list the directory", directory, source);
    let mut listing = Listing::default();
    let mut headless = Vec::new();
    let mut marks = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(listing),
        result => result.map_err(failed)?,
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match (extension, path.file_name().and_then(|name| name.to_str()).and_then(Name::parse)) {
            (_, Some(name)) => match read_header(&path) {
                Ok(header) => listing.segments.push(Found { path, name, header, below: u64::MAX }),
                Err(error) if extent == Extent::UpToDamage => headless.push((name, error)),
                Err(error) => return Err(error),
            },
            (Some("tmp"), None) => listing.leftovers.push(path),
            (Some("wal"), None) => {
                return Err(StorageError::new(Code::WalDeserializationFailure, "not the name of a segment")
                    .in_file(&path)
                    .advise("give the file its name back, or move it out of the directory when it is no part of the log"));
            }
            _ => marks.extend(newest::parse(&path).map(|number| (number, path))),
        }
    }
    marks.sort();
    listing.marked = marks.pop().map(|(number, _)| number);
    listing.leftovers.extend(marks.into_iter().map(|(_, path)| path));
    while let Some((name, error)) = headless.pop() {
        // Only its name is left to say that it is the newest one.
        let is_newest = listing.segments.iter().all(|found| found.name.start() < name.start());
        if !is_newest || !headless.is_empty() {
            return Err(error);
        }
        listing.damage = Some(error);
    }
    Ok(listing)
}

/// The header of the segment in this file.
pub(super) fn read_header(path: &Path) -> Result<Header, StorageError> {
    let mut file = File::open(path).map_err(|source| StorageError::io("read the segment", path, source))?;
    Header::read(&mut file, path)
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
fn judge(
    segments: Vec<Found>,
    purged: Option<RecordId>,
    keyring: &Keyring,
    covered: u64,
    extent: Extent,
    watch: &mut Watch<'_>,
) -> Result<Judged, StorageError> {
    let gone = |index: u64| purged.is_some_and(|purged| index <= purged.index);
    let Judged { mut live, mut stale, mut damage } = Judged::default();
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
            let scanned = scan::active(&found.path, &found.header, &key, below, watch)?.whole()?;
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
        let mut scanned = match found.name {
            Name::Active { .. } => scan::active(&found.path, &found.header, &key, below, watch)?,
            Name::Sealed { end, .. } if segments.peek().is_none() => {
                let read = scan::newest_sealed(&found.path, &found.header, &key, below, end, watch)?;
                found.ends_with(end, read)
            }
            Name::Sealed { end, .. } => {
                let proved = segments.peek().and_then(|next| next.header.previous);
                match proved.filter(|last| last.index == end && found.is_covered(covered)) {
                    Some(last) => scan::unread(&found.path, last)?,
                    None => {
                        let read = scan::sealed(&found.path, &found.header, &key, below, watch)?;
                        found.ends_with(end, read)
                    }
                }
            }
        };
        match extent {
            Extent::UpToDamage if segments.peek().is_none() => damage = scanned.damage.take(),
            _ => scanned = scanned.whole()?,
        }
        if scanned.live_last.is_some_and(|last| gone(last.index)) {
            stale.push(Stale { path: found.path, overhangs: scanned.last != scanned.live_last });
            continue;
        }
        last = scanned.live_last.or(last);
        live.push(Live { found, key, scanned });
    }
    Ok(Judged { live, stale, damage })
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
        file.sync()?;
        path = Name::Sealed { start, end: last.index }.path(&dir.wal());
        file.rename(&path)?;
        dir.disk().sync_directory(&dir.wal())?;
    }
    if scan::file_len(&path)? > end {
        let file = dir.disk().open(&path)?;
        file.resize(end)?;
        file.sync_all()?;
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
