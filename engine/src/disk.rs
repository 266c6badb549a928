//! The one door to the file system: every change of a file passes here.
//!
//! One door means one place for modes (files 0600, directories 0700), for the order of sync and rename, and for
//! watching: a [`Probe`] sees each operation before and after it happens and may refuse it, which is how the tests
//! crash the storage between any two steps.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vaylix_proto::Code;

use crate::error::StorageError;

/// A change of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A file is created or emptied.
    Create,
    /// Bytes are written to a file.
    Write,
    /// A file is cut or extended.
    Resize,
    /// The content of a file is made durable.
    Sync,
    /// A file gets another name; the path is the new one.
    Rename,
    /// A file is removed.
    Remove,
    /// The entries of a directory are made durable.
    SyncDirectory,
}

/// Watches every change of the file system; for tests of crash safety.
pub trait Probe: Send + Sync {
    /// Called before the operation; an error replaces it.
    fn before(&self, operation: Operation, path: &Path) -> io::Result<()>;
    /// Called after the operation succeeded.
    fn after(&self, operation: Operation, path: &Path);
}

/// Performs changes of files and directories.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    probe: Option<Arc<dyn Probe>>,
}

impl Disk {
    pub(crate) fn watched(probe: Arc<dyn Probe>) -> Self {
        Self { probe: Some(probe) }
    }

    fn run<T>(
        &self,
        operation: Operation,
        path: &Path,
        what: &str,
        action: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, StorageError> {
        let result = match &self.probe {
            None => action(),
            Some(probe) => probe.before(operation, path).and_then(|()| action()).inspect(|_| {
                probe.after(operation, path);
            }),
        };
        result.map_err(|source| StorageError::io(what, path, source))
    }

    /// Creates the directory and its missing parents, durably, readable by the owner only.
    pub(crate) fn create_directory(&self, path: &Path) -> Result<(), StorageError> {
        let parent = match path.parent() {
            None => Path::new("/"),
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
        };
        if path.is_dir() {
            // Perhaps made by a process that was killed before it could sync the name. Where the name cannot be
            // synced, the directory was made by somebody else, who answers for it.
            if let Err(error) = self.sync_directory(parent) {
                tracing::debug!(%error, "the name of the directory is left to whoever made it");
            }
            return Ok(());
        }
        self.create_directory(parent)?;
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(StorageError::io("create the directory", path, error))
            }
            _ => self.sync_directory(parent),
        }
    }

    /// Creates the file, or empties it when it exists.
    pub(crate) fn create(&self, path: &Path) -> Result<DiskFile, StorageError> {
        let file = self.run(Operation::Create, path, "create the file", || {
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
        })?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    /// Opens an existing file for changes.
    pub(crate) fn open(&self, path: &Path) -> Result<DiskFile, StorageError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| StorageError::io("open the file", path, source))?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.run(Operation::Rename, to, "rename the file", || fs::rename(from, to))
    }

    /// Removes the file; one that does not exist is fine.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), StorageError> {
        self.run(Operation::Remove, path, "remove the file", || match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        })
    }

    /// Makes creations, renames and removals in the directory durable.
    pub(crate) fn sync_directory(&self, path: &Path) -> Result<(), StorageError> {
        self.run(Operation::SyncDirectory, path, "sync the directory", || File::open(path)?.sync_all())
    }

    /// Replaces the content of `path` so that a crash leaves the old or the new content, never a mixture.
    /// Durable on return.
    pub(crate) fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StorageError> {
        let temporary = temporary(path);
        let file = self.create(&temporary)?;
        file.write_at(content, 0)?;
        file.sync()?;
        self.publish(&temporary, path)
    }

    /// Moves a complete, synced temporary file into place, durably.
    pub(crate) fn publish(&self, temporary: &Path, path: &Path) -> Result<(), StorageError> {
        let directory = path.parent().expect("every file of the storage lies in a directory");
        self.sync_directory(directory)?;
        self.rename(temporary, path)?;
        self.sync_directory(directory)
    }
}

/// Where the next content of `path` is prepared: the same name with `.tmp` behind it.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// A file open for changes.
pub(crate) struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

impl DiskFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), StorageError> {
        self.disk
            .run(Operation::Write, &self.path, "write to the file", || self.file.write_all_at(bytes, offset))
    }

    pub(crate) fn resize(&self, len: u64) -> Result<(), StorageError> {
        self.disk.run(Operation::Resize, &self.path, "set the length of the file", || self.file.set_len(len))
    }

    /// Makes the content durable, and what of the metadata is needed to read it.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.disk.run(Operation::Sync, &self.path, "sync the file", || self.file.sync_data())
    }

    /// Makes content and metadata durable, above all a length that was cut.
    pub(crate) fn sync_all(&self) -> Result<(), StorageError> {
        self.disk.run(Operation::Sync, &self.path, "sync the file", || self.file.sync_all())
    }

    /// Gives the file another name in the same directory. Not durable until the directory is synced.
    pub(crate) fn rename(&mut self, to: &Path) -> Result<(), StorageError> {
        self.disk.rename(&self.path, to)?;
        to.clone_into(&mut self.path);
        Ok(())
    }
}

/// Reads a whole small file; `None` when it does not exist. One that is larger than `len_max` bytes is not what was
/// written (`ENG-006`).
pub(crate) fn read_small(path: &Path, len_max: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let failed = |source| StorageError::io("read the file", path, source);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed)?,
    };
    let len = file.metadata().map_err(failed)?.len();
    if len > len_max {
        let message = format!("the file has {len} bytes, and never more than {len_max} are written to it");
        return Err(StorageError::new(Code::ManifestDeserializationFailure, message)
            .in_file(path)
            .at(len_max));
    }
    // In one piece, so that no secret stays behind in a smaller buffer that was outgrown.
    let mut content = Vec::with_capacity(usize::try_from(len).map_or(0, |len| len + 1));
    io::Read::read_to_end(&mut io::Read::take(file, len_max), &mut content).map_err(failed)?;
    Ok(Some(content))
}
