//! The directory of backup files: the only place on disk whose names clients choose.
//!
//! # Names
//! A client names a file by a path relative to the directory, or by an absolute one inside it. `..` is refused
//! whatever it leads to. No symbolic link below the directory is followed, at any place of a path, for reading or
//! writing: every component is opened by itself, relative to the one before, so that nothing that is swapped
//! meanwhile leads outside either. The path of the directory itself is the operator's and may contain links.
//!
//! # Files
//! A backup is two files: the [document](crate::dump) and, under the same name with `.manifest.json` behind it, its
//! [manifest](Manifest). Both appear in steps, each durable before the next:
//! ```text
//! 1  the document is written as   .<name>.<id>.next                 locked by the process that writes it
//! 2  the manifest is written as   .<name>.<id>.next-manifest
//! 3  the document is renamed to   <name>
//! 4  the manifest is renamed to   <name>.manifest.json
//! ```
//! So a crash leaves the old pair or the new one, or, between 3 and 4, a prepared manifest without the prepared
//! document of the same id: then the manifest is renamed by whoever comes next ([`leftovers`]). A prepared document
//! that nobody holds is removed, after its manifest. The id (16 hexadecimal digits) is drawn anew for each backup.
//! Directories are created 0700, files 0600.
//!
//! Steps 2 to 4, and looking at a pair, happen one at a time in a directory, so that nobody sees half a pair.

mod draft;
mod error;
mod leftovers;
mod listing;
mod pair;
mod place;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;
use vaylix_proto::Code;

pub use error::BackupError;
pub use listing::BackupFile;
pub use pair::Pair;

use crate::disk::{Operation, Probe};
use crate::dump::{Checked, Manifest, Summary};
use crate::error::StorageError;
use crate::layout::DataDir;
use crate::state::Root;
use draft::Draft;
use place::{Directory, Place};

/// The directory of backup files. Clones share it.
#[derive(Clone)]
pub struct BackupDir(Arc<Inner>);

struct Inner {
    /// As the operator wrote it, absolute.
    path: PathBuf,
    /// Where that was when the server started.
    real_path: PathBuf,
    watch: Watch,
    /// Held while pairs are published or looked at.
    turn: Mutex<()>,
}

impl BackupDir {
    /// Uses the directory `path`, creating it and its missing parents.
    ///
    /// # Errors
    /// `ENG-011` when `path` is the data directory, one of its parents, its log or its snapshots, where a backup could overwrite
    /// what the server lives on; `ENG-002` when it cannot be used.
    pub fn open_or_create(path: &Path, data_dir: &DataDir) -> Result<Self, StorageError> {
        let failed = |source| StorageError::io("use the backup directory", path, source);
        let data = fs::canonicalize(data_dir.root()).map_err(failed)?;
        // Before anything is created, and again when it is certain where the path leads.
        refuse_ours(path, &real_path(path).map_err(failed)?, &data)?;
        data_dir.disk().create_directory(path)?;
        let dir = Self::with_watch(path, Watch::default())?;
        refuse_ours(path, &dir.0.real_path, &data)?;
        Ok(dir)
    }

    /// Whether [`open_or_create`](Self::open_or_create) would take the directory, as far as that can be told without creating
    /// anything.
    ///
    /// # Errors
    /// As for [`open_or_create`](Self::open_or_create).
    pub fn check(path: &Path, data_dir: &DataDir) -> Result<(), StorageError> {
        let failed = |source| {
            StorageError::io("use the backup directory", path, source)
                .advise("name a directory that the server's user owns, or that can be created")
        };
        let data = fs::canonicalize(data_dir.root()).map_err(failed)?;
        refuse_ours(path, &real_path(path).map_err(failed)?, &data)?;
        match Directory::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => opened.map(drop).map_err(failed),
        }
    }

    fn with_watch(path: &Path, watch: Watch) -> Result<Self, StorageError> {
        let failed = |source| StorageError::io("use the backup directory", path, source);
        let real_path = fs::canonicalize(path).map_err(failed)?;
        let path = std::path::absolute(path).map_err(failed)?;
        let dir = Self(Arc::new(Inner { path, real_path, watch, turn: Mutex::default() }));
        dir.0.root().and_then(|root| dir.0.settle(&root)).map_err(failed)?;
        Ok(dir)
    }

    /// The directory, as the operator wrote it, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Writes the keys of `root` that are there at `created_at_ms` (unix milliseconds), and the manifest, in the place
    /// of whatever has that name. Durable on return. Takes as long as the keys are large; gives up soon after `go_on`
    /// said no.
    ///
    /// # Errors
    /// [`BackupError::Rejected`], [`BackupError::Io`] or [`BackupError::Stopped`]. What was there before is untouched,
    /// unless only the very last step failed: then the new document is in place, and its manifest follows with the
    /// next use of the directory.
    pub fn write(
        &self,
        path: &str,
        root: &Root,
        created_at_ms: u64,
        go_on: GoOn<'_>,
    ) -> Result<Summary, BackupError> {
        let inner = &*self.0;
        let place = inner.output(path)?;
        let mut draft = {
            let turn = inner.turn(&place.directory);
            inner.settle_in(&turn, &place.directory)?;
            Draft::begin(&place, &inner.watch)?
        };
        let summary = draft.write(root, created_at_ms, go_on)?;
        let manifest = Manifest::of(&summary).to_json();
        let _turn = inner.turn(&place.directory);
        draft.publish(manifest.as_bytes())?;
        Ok(summary)
    }

    /// Takes over a document that comes from elsewhere, and writes its manifest, in the place of whatever has that name.
    /// It is read to its end and checked before it gets its name. Durable on return. `now_ms` (unix milliseconds) decides
    /// which entries are live.
    ///
    /// # Errors
    /// [`BackupError::Rejected`], [`BackupError::Io`], [`BackupError::Stopped`], or what is wrong with the document. What
    /// was there before is untouched, as for [`write`](Self::write).
    pub fn receive(
        &self,
        path: &str,
        source: &mut impl Read,
        now_ms: u64,
        go_on: GoOn<'_>,
    ) -> Result<Checked, BackupError> {
        let inner = &*self.0;
        let place = inner.output(path)?;
        let mut draft = {
            let turn = inner.turn(&place.directory);
            inner.settle_in(&turn, &place.directory)?;
            Draft::begin(&place, &inner.watch)?
        };
        draft.copy(source, go_on)?;
        let checked = draft.open()?.check(now_ms, go_on)?;
        let manifest = Manifest::of(&checked.summary).to_json();
        let _turn = inner.turn(&place.directory);
        draft.publish(manifest.as_bytes())?;
        Ok(checked)
    }

    /// Removes a backup, its manifest first. Durable on return.
    ///
    /// # Errors
    /// [`BackupError::Rejected`] or [`BackupError::Io`], also when there is none of that name.
    pub fn remove(&self, path: &str) -> Result<(), BackupError> {
        let inner = &*self.0;
        let place = inner.input(path)?;
        let _turn = inner.turn(&place.directory);
        // A manifest goes with its document, never alone.
        if leftovers::is_reserved(&place.name) || place.name.ends_with(&place::manifest_name("")) {
            return Err(BackupError::Rejected(path.to_owned()));
        }
        // Whether it is a file at all, and not a link.
        drop(Pair::open(&place, path)?);
        place.directory.remove(&place.manifest(), &inner.watch)?;
        place.directory.sync(&inner.watch)?;
        place.directory.remove(&place.name, &inner.watch)?;
        Ok(place.directory.sync(&inner.watch)?)
    }

    /// Opens a backup for reading. What is done to its name afterwards does not matter to the opened one.
    ///
    /// # Errors
    /// [`BackupError::Rejected`] or [`BackupError::Io`].
    pub fn open(&self, path: &str) -> Result<Pair, BackupError> {
        let inner = &*self.0;
        let place = inner.input(path)?;
        let turn = inner.turn(&place.directory);
        if let Err(error) = inner.settle_in(&turn, &place.directory) {
            tracing::warn!(%error, "leftovers of an interrupted backup stay where they are");
        }
        Pair::open(&place, path)
    }
}

impl Inner {
    fn root(&self) -> io::Result<Directory> {
        Directory::open(&self.path)
    }

    /// Where a backup is to be written. Creates missing directories once it is certain that they are inside.
    fn output(&self, path: &str) -> Result<Place, BackupError> {
        let rejected = || BackupError::Rejected(path.to_owned());
        let names = place::names(path, &[&self.path, &self.real_path]).ok_or_else(rejected)?;
        let (name, parents) = names.split_last().ok_or_else(rejected)?;
        if leftovers::is_reserved(name) {
            return Err(rejected());
        }
        draft::check_name(name)?;
        let mut directory = self.root()?;
        for parent in parents {
            directory = directory.enter_or_create(parent, &self.watch)?.ok_or_else(rejected)?;
        }
        let place = Place { directory, name: (*name).to_owned() };
        if place.is_usable()? { Ok(place) } else { Err(rejected()) }
    }

    /// Where a backup is to be read.
    fn input(&self, path: &str) -> Result<Place, BackupError> {
        let rejected = || BackupError::Rejected(path.to_owned());
        let names = place::names(path, &[&self.path, &self.real_path]).ok_or_else(rejected)?;
        let (name, parents) = names.split_last().ok_or_else(|| BackupError::Io(Errno::ISDIR.into()))?;
        let mut directory = self.root()?;
        for parent in parents {
            directory = directory.enter(parent)?.ok_or_else(rejected)?;
        }
        Ok(Place { directory, name: (*name).to_owned() })
    }

    /// The right to publish in a directory and to look at pairs in it.
    fn turn(&self, directory: &Directory) -> Turn<'_> {
        Turn { _lock: directory.lock(), _here: self.turn.lock() }
    }

    fn settle(&self, directory: &Directory) -> io::Result<()> {
        self.settle_in(&self.turn(directory), directory)
    }

    /// Finishes or removes what interrupted backups have left in a directory.
    fn settle_in(&self, _: &Turn<'_>, directory: &Directory) -> io::Result<()> {
        leftovers::settle(directory, &self.watch)
    }
}

/// Where a path leads, whose last components may not exist yet.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for existing in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(existing), path.strip_prefix(existing)) {
            return Ok(real.join(rest));
        }
    }
    Ok(path)
}

/// Refuses a directory in which backups could overwrite what the server lives on.
fn refuse_ours(path: &Path, real_path: &Path, data: &Path) -> Result<(), StorageError> {
    let mut ours = ["wal", "snapshots"].iter().map(|name| data.join(name));
    if !data.starts_with(real_path) && !ours.any(|ours| real_path.starts_with(ours)) {
        return Ok(());
    }
    let message = "invalid storage operation: the backup directory holds the files of the server";
    Err(StorageError::new(Code::InvalidStorageOperation, message)
        .in_file(path)
        .advise("choose a directory of its own, for example `backups` in the data directory"))
}

/// Kept by whoever publishes or looks at pairs.
struct Turn<'a> {
    /// Keeps other processes out, where the file system knows locks.
    _lock: Option<fs::File>,
    _here: MutexGuard<'a, ()>,
}

/// Shows every change of a file to a [`Probe`].
///
/// Unlike the files of the data directory, a backup may fail without harm to anything else: whatever goes wrong here,
/// a failed sync included, only fails the backup.
#[derive(Clone, Default)]
struct Watch(Option<Arc<dyn Probe>>);

impl Watch {
    fn run<T>(
        &self,
        operation: Operation,
        path: &Path,
        action: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(probe) = &self.0 else { return action() };
        probe.before(operation, path)?;
        let result = action()?;
        probe.after(operation, path);
        Ok(result)
    }
}

/// Asked again and again by a long piece of work: whether to go on. It may take its time to answer.
pub type GoOn<'a> = &'a dyn Fn() -> bool;

/// What a long piece of work answers when it has been told to stop.
fn check_stop(go_on: GoOn<'_>) -> io::Result<()> {
    if go_on() { Ok(()) } else { Err(io::Error::other("stopped")) }
}
