//! Restores the state as it was at a moment of the past into a new directory.
//!
//! A restore begins with the newest snapshot at or before the moment, or with the empty state where the log is complete,
//! and applies the log up to it. What may follow in the log is left behind, and may be damaged. The source is only read.
//!
//! By time, everything from the first change on can be restored where the log is complete; otherwise from the oldest snapshot on
//! that the log continues, which is the moment of the last change in it. Before that there is nothing to restore.
//!
//! The new directory is made beside its final name and gets that name when everything in it is durable: whenever a
//! restore ends, there is a whole directory or none.

use std::fs;
use std::path::{Component, Path, PathBuf};

use vaylix_proto::Code;

use crate::content::Content;
use crate::disk::{Disk, read_small};
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;
use crate::progress::Progress;
use crate::sequence::Sequence;
use crate::snapshot;
use crate::state::{Root, State};
use crate::wal::{History, Record, RecordId};
pub(crate) use past::Past;
pub use past::Window;

mod past;

/// Bytes of records read in one piece.
const READ_BYTES_MAX: usize = 4 << 20;
/// No keyring is larger.
const KEYRING_BYTES_MAX: u64 = 1 << 20;

/// A moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Behind this record.
    Sequence(u64),
    /// Before the first change stamped later than this, in ms since 1970; there must be a change stamped earlier, or none
    /// at all.
    TimestampMs(u64),
}

/// The state as it was.
pub struct Rebuilt {
    /// It.
    pub root: Root,
    /// The last record in it.
    pub last: RecordId,
    /// The last record of the snapshot it was begun with; `None` when it was begun with nothing.
    pub base: Option<u64>,
    /// Records applied on top.
    pub replayed: u64,
}

/// Makes the state as it was.
///
/// # Errors
/// `ENG-012` when the moment is not within what is retained; otherwise as for the start of a server, for damage in
/// what is needed. Damage in the newest segment behind it is a warning.
pub fn rebuild(
    dir: &DataDir,
    keyring: &Keyring,
    content: &impl Content,
    point: Point,
) -> Result<Rebuilt, StorageError> {
    let history = History::open_up_to_damage(dir, keyring)?;
    // For its agreement with the manifest.
    snapshot::covered(dir, keyring)?;
    let listing = snapshot::list(dir)?;
    for error in &listing.unreadable {
        tracing::warn!(%error, "an older snapshot cannot be read");
    }
    let past = Past { keyring, content, listing: &listing, history: &history };
    let base = past.base(point)?;
    let (mut state, mut last) = match &base {
        None => (State::new(), None),
        Some(listed) => {
            let reader = snapshot::open_file(&listed.path, keyring)?;
            content.check_head(&reader.head()).map_err(|error| error.in_file(&listed.path).at(0))?;
            let mut progress = Progress::bytes("loading the snapshot", listed.size_bytes);
            let (root, info) = snapshot::read_state(reader, &mut progress)?;
            (State::from_root(root), info.last)
        }
    };
    let base = last.map(|last| last.index);
    let end = history.last_id().map(|last| last.index).max(base).unwrap_or(0);
    let up_to = match point {
        Point::Sequence(wanted) if wanted > end => {
            past.refuse_damage()?;
            return Err(unavailable(format!(
                "sequence {wanted} is outside retained WAL history, which ends with {end}"
            )));
        }
        Point::Sequence(wanted) => wanted,
        Point::TimestampMs(_) => end,
    };
    let mut next = base.unwrap_or(0) + 1;
    let mut progress = Progress::entries("applying the log", (up_to + 1).saturating_sub(next));
    let mut replayed = 0;
    // The time of the first change that the moment comes before.
    let mut later = None;
    'log: while next <= up_to {
        let records = history.read(next, up_to + 1, READ_BYTES_MAX)?;
        if records.first().is_none_or(|first| first.id.index != next) {
            past.refuse_damage()?;
            let message = format!("entry {next} is outside retained WAL history");
            return Err(unavailable(message));
        }
        for record in &records {
            if !apply(&mut state, content, point, record).map_err(|error| error.in_file(&dir.wal()))? {
                later = Some(record.time_ms);
                break 'log;
            }
            last = Some(record.id);
            next += 1;
            replayed += 1;
        }
        progress.reach(replayed);
    }
    if let Point::TimestampMs(wanted) = point {
        match later {
            // Nothing had been changed then, so nothing was there that could be restored.
            Some(first) if state.time_ms() == 0 => {
                let detail =
                    format!("timestamp {wanted} is older than the first change, which was at {first}");
                return Err(past.outside(wanted, detail));
            }
            Some(_) => {}
            // Some of what is damaged may have happened before the moment.
            None => past.refuse_damage()?,
        }
    }
    if let Some(damage) = history.damage() {
        tracing::warn!(error = %damage, last = end, "the log is damaged behind what is restored, which is whole");
    }
    match (last, point) {
        (Some(last), _) => Ok(Rebuilt { root: state.root(), last, base, replayed }),
        (None, Point::Sequence(wanted)) => {
            Err(unavailable(format!("sequence {wanted} is outside retained WAL history")))
        }
        (None, Point::TimestampMs(_)) => Err(unavailable("nothing was ever written".to_owned())),
    }
}

/// Applies a record unless the moment comes before it.
fn apply(
    state: &mut State,
    content: &impl Content,
    point: Point,
    record: &Record,
) -> Result<bool, StorageError> {
    let at = Sequence::new(record.id.index).expect("records are numbered from 1");
    match content.batch(record)? {
        // Records without operations carry the clock of one node, which need not agree with that of the batches.
        Some(_) if matches!(point, Point::TimestampMs(wanted) if record.time_ms > wanted) => {
            return Ok(false);
        }
        Some(batch) => drop(state.apply(at, &batch)),
        None => state.skip(at),
    }
    Ok(true)
}

fn unavailable(detail: String) -> StorageError {
    StorageError::new(Code::RestorePointUnavailable, format!("restore point is unavailable: {detail}"))
        .advise("`vaylix pitr inspect` says what can be restored")
}

/// A directory in the making. Dropped before it is [published](Self::publish), it is removed.
pub struct Target {
    dir: DataDir,
    making: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Target {
    /// Begins a new directory that will be `path`, with the keyring of `source`.
    ///
    /// # Errors
    /// `ENG-011` when `path` is the source or inside of it, is not empty, or an interrupted restore is in the way;
    /// `ENG-002` for I/O.
    pub fn prepare(source: &DataDir, path: &Path) -> Result<Self, StorageError> {
        let given = std::path::absolute(path).map_err(|source| StorageError::io("find", path, source))?;
        let path = leads_to(&given);
        let refuse = |what: &str, file: &Path, advice: &str| {
            let message = format!("invalid storage operation: {what}");
            Err(StorageError::new(Code::InvalidStorageOperation, message).in_file(file).advise(advice))
        };
        let Some(name) = path.file_name() else {
            return refuse("the target is no directory that can be made", &path, "name a new directory");
        };
        let parent = path.parent().expect("what has a name has a parent");
        // Where it leads could not be told.
        if path.components().any(|component| component == Component::ParentDir) {
            let what = "the path of the target goes back from a directory that does not exist";
            return refuse(what, &given, "name the directory without `..`");
        }
        let from = leads_to(source.root());
        if from == path {
            return refuse("source and target data directories must differ", &path, "name a new directory");
        }
        if path.starts_with(&from) {
            return refuse("the target is inside of the source", &path, "name a directory elsewhere");
        }
        let is_empty = match fs::read_dir(&path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(StorageError::io("list the directory", &path, error)),
        };
        if !is_empty {
            return refuse("the target directory is not empty", &path, "name a new directory");
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".restoring");
        let making = parent.join(hidden);
        if fs::symlink_metadata(&making).is_ok() {
            let advice = "make sure that no other restore is at work there, and remove it";
            return refuse("an earlier restore was interrupted", &making, advice);
        }
        let keyring = read_small(&source.keyring(), KEYRING_BYTES_MAX)?.ok_or_else(|| {
            let gone = std::io::ErrorKind::NotFound.into();
            StorageError::io("read the file", &source.keyring(), gone)
        })?;
        let dir = DataDir::open_or_create(&making)?;
        let target = Self { dir, making, path, published: false };
        target.dir.disk().replace(&target.dir.keyring(), &keyring)?;
        Ok(target)
    }

    /// The directory, under the name it is made under.
    #[must_use]
    pub fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// Gives the directory its name. Durable on return.
    ///
    /// # Errors
    /// `ENG-002` for I/O: the directory is removed then.
    pub fn publish(mut self) -> Result<(), StorageError> {
        let disk = Disk::default();
        disk.rename(&self.making, &self.path)?;
        self.published = true;
        disk.sync_directory(self.path.parent().expect("it was made in one"))
    }
}

/// Where a path leads, whose last components may not exist yet.
fn leads_to(path: &Path) -> PathBuf {
    for existing in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(existing), path.strip_prefix(existing)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_dir_all(&self.making)
        {
            tracing::warn!(%error, directory = %self.making.display(), "what was made of the target could not be removed");
        }
    }
}

#[cfg(test)]
mod tests;
