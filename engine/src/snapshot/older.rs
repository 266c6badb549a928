//! Older snapshots, kept so that the state can be restored as it was at any moment since the oldest of them.
//!
//! They lie in `snapshots/`, each named by the last record it covers: `<index>.bin`. With the log from there on they reach
//! every later record. A start does not need them: damage in them is reported by whoever reads them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use vaylix_proto::Code;

use super::stream::Header;
use crate::error::StorageError;
use crate::layout::DataDir;
use crate::wal::RecordId;

/// Older snapshots kept at once. With more, the one between the closest neighbours goes: the log reaches over it.
const OLDER_MAX: usize = 64;

/// One of the snapshots of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its file.
    pub path: PathBuf,
    /// The last record it covers; `None` when it covers none.
    pub last: Option<RecordId>,
    /// When it was taken, in ms since 1970.
    pub time_ms: u64,
    /// Its size on disk.
    pub size_bytes: u64,
    /// The storage key it is sealed under.
    pub key_id: Uuid,
}

/// The snapshots of a directory, by their headers.
#[derive(Debug, Default)]
pub struct Listing {
    /// The last one.
    pub last: Option<Listed>,
    /// The older ones, oldest first.
    pub older: Vec<Listed>,
    /// Files that cannot be told to be what their names say.
    pub unreadable: Vec<StorageError>,
}

/// A snapshot file and its header.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) header: Header,
}

/// Lists the snapshots of the directory.
///
/// # Errors
/// `ENG-002` for I/O; `ENG-004`, `ENG-007` or `ENG-009` when the header of the last one is damaged.
pub fn list(dir: &DataDir) -> Result<Listing, StorageError> {
    let last = last(dir)?;
    let (found, unreadable) = older(dir)?;
    let mut older = Vec::new();
    for found in found {
        if last.as_ref().is_none_or(|last| last.header.last != found.header.last) {
            older.push(listed(found)?);
        }
    }
    older.sort_by_key(|listed| listed.last.map(|last| last.index));
    Ok(Listing { last: last.map(listed).transpose()?, older, unreadable })
}

fn listed(found: Found) -> Result<Listed, StorageError> {
    let Found { path, header } = found;
    let size_bytes =
        path.metadata().map_err(|source| StorageError::io("measure the file", &path, source))?.len();
    Ok(Listed { path, last: header.last, time_ms: header.time_ms, size_bytes, key_id: header.key_id })
}

/// The last snapshot: the one in place, or, when a crash has come between its two names, the one of the highest number.
pub(super) fn last(dir: &DataDir) -> Result<Option<Found>, StorageError> {
    let path = dir.snapshot();
    if let Some(header) = read_header(&path)? {
        return Ok(Some(Found { path, header }));
    }
    Ok(older(dir)?.0.into_iter().max_by_key(|found| found.header.number))
}

/// The highest number among the older ones, 0 when there are none.
pub(super) fn highest_number(dir: &DataDir) -> Result<u64, StorageError> {
    Ok(older(dir)?.0.iter().map(|found| found.header.number).max().unwrap_or(0))
}

/// Moves the last snapshot among the older ones. Durable on return; at every moment it has at least one name.
pub(super) fn set_aside(dir: &DataDir, last: &Found) -> Result<(), StorageError> {
    let Some(id) = last.header.last else { return Ok(()) };
    let directory = dir.older_snapshots();
    let disk = dir.disk().essential();
    disk.create_directory(&directory)?;
    disk.rename(&last.path, &path_of(&directory, id.index))?;
    dir.disk().sync_directory(&directory)?;
    dir.disk().sync_directory(dir.root())
}

fn path_of(directory: &Path, index: u64) -> PathBuf {
    directory.join(format!("{index}.bin"))
}

/// Whether this is the name of an older snapshot; a file of another name is nobody's business.
fn is_named_like_one(path: &Path) -> bool {
    let is_binary = path.extension().is_some_and(|extension| extension == "bin");
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    is_binary && stem.is_some_and(|stem| stem.bytes().all(|byte| byte.is_ascii_digit()))
}

fn older(dir: &DataDir) -> Result<(Vec<Found>, Vec<StorageError>), StorageError> {
    let directory = dir.older_snapshots();
    let failed = |source| StorageError::io("list the directory", &directory, source);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        result => result.map_err(failed)?,
    };
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if !is_named_like_one(&path) {
            continue;
        }
        match read_header(&path) {
            Ok(Some(header)) if header.last.is_some_and(|last| path_of(&directory, last.index) == path) => {
                found.push(Found { path, header });
            }
            Ok(None) => {}
            Ok(Some(_)) => unreadable.push(
                StorageError::new(
                    Code::ManifestDeserializationFailure,
                    "the file is not named by the last record of the snapshot in it",
                )
                .in_file(&path)
                .at(0)
                .advise(ADVICE),
            ),
            Err(error) => unreadable.push(error.advise(ADVICE)),
        }
    }
    Ok((found, unreadable))
}

pub(super) const ADVICE: &str =
    "only moments before the next newer snapshot need it: restore the file from a backup, or remove it";

fn read_header(path: &Path) -> Result<Option<Header>, StorageError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|source| StorageError::io("open the snapshot", path, source))?,
    };
    match Header::read(&mut file) {
        Ok(header) => Ok(Some(header)),
        Err(error) => Err(error.in_file(path).advise(super::RESTORE)),
    }
}

/// How much of the past stays restorable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Every moment of so long ago can be restored, in ms; 0 keeps nothing but the last snapshot.
    pub age_ms: u64,
    /// As far as older snapshots and the log before the last one take no more than this on disk; 0 keeps nothing.
    pub bytes: u64,
}

impl Retention {
    /// Nothing but the last snapshot is kept.
    pub const NONE: Self = Self { age_ms: 0, bytes: 0 };

    /// Whether older snapshots are of any use.
    #[must_use]
    pub fn keeps_any(self) -> bool {
        self.age_ms > 0 && self.bytes > 0
    }
}

/// What is to stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The log is needed from behind this record on; 0 for all of it.
    pub log_after: u64,
    /// Older snapshots that are not needed any more.
    pub removable: Vec<PathBuf>,
}

/// Where a restore can begin.
struct Base<'a> {
    index: u64,
    time_ms: u64,
    size_bytes: u64,
    path: Option<&'a Path>,
}

/// Decides what stays of the older snapshots and of the log before the last one. `log_begins_after` is the last purged
/// record, 0 when the log is complete, so that it reaches back to the empty state; `log_bytes(after, up_to)` is what the
/// log takes between two records.
#[must_use]
pub fn retain(
    listing: &Listing,
    retention: Retention,
    now_ms: u64,
    log_begins_after: u64,
    log_bytes: impl Fn(u64, u64) -> u64,
) -> Option<Kept> {
    let base =
        |listed: &'_ Listed| (listed.last.map_or(0, |last| last.index), listed.time_ms, listed.size_bytes);
    let (current, current_ms, _) = base(listing.last.as_ref()?);
    let mut bases = Vec::new();
    if log_begins_after == 0 {
        bases.push(Base { index: 0, time_ms: 0, size_bytes: 0, path: None });
    }
    let mut removable = Vec::new();
    for listed in &listing.older {
        let (index, time_ms, size_bytes) = base(listed);
        if index < log_begins_after || index >= current {
            removable.push(listed.path.clone());
        } else {
            bases.push(Base { index, time_ms, size_bytes, path: Some(&listed.path) });
        }
    }
    bases.push(Base { index: current, time_ms: current_ms, size_bytes: 0, path: None });

    let newest = bases.len() - 1;
    // From the last base that was there already at the beginning of the time to keep.
    let cutoff_ms = now_ms.saturating_sub(retention.age_ms);
    let mut from = if retention.keeps_any() {
        bases.iter().rposition(|base| base.time_ms <= cutoff_ms).unwrap_or(0)
    } else {
        newest
    };
    let takes = |from: usize| {
        let snapshots: u64 = bases[from..].iter().map(|base| base.size_bytes).sum();
        snapshots + log_bytes(bases[from].index, current)
    };
    while from < newest && takes(from) > retention.bytes {
        from += 1;
    }
    let gone = bases.drain(..from).collect::<Vec<_>>();
    removable.extend(gone.iter().filter_map(|base| base.path.map(Path::to_owned)));
    let log_after = bases[0].index;
    // The first one is where restores begin and the last one is the current one.
    while bases.len() > OLDER_MAX + 1 {
        let gap = |nth: &usize| bases[nth + 1].index - bases[nth - 1].index;
        let nth = (1..bases.len() - 1).min_by_key(gap).expect("there are more than two");
        removable.extend(bases.remove(nth).path.map(Path::to_owned));
    }
    Some(Kept { log_after, removable })
}

/// Removes older snapshots, durably.
///
/// # Errors
/// `ENG-002` for I/O: some may be left then, and go the next time.
pub fn remove_older(dir: &DataDir, files: &[PathBuf]) -> Result<(), StorageError> {
    let directory = dir.older_snapshots();
    for path in files {
        assert!(path.starts_with(&directory), "{} is no older snapshot", path.display());
        dir.disk().remove(path)?;
    }
    if files.is_empty() { Ok(()) } else { dir.disk().sync_directory(&directory) }
}

#[cfg(test)]
mod tests;
