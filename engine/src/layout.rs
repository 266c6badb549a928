//! Where things lie in a data directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vaylix_proto::Code;

use crate::disk::{Disk, OnFailedSync, Operation, Probe, temporary};
use crate::error::StorageError;
use crate::lock::{DirectoryLock, Hold};

/// A data directory that this process holds: exclusively, unless it is opened for reading only. Clones share the hold;
/// the last one gives it up.
///
/// | Path | Content |
/// |---|---|
/// | `LOCK` | held while a process uses the directory |
/// | `keyring.bin` | [storage keys](crate::keyring) |
/// | `vote.bin` | [the vote](crate::vote) |
/// | `snapshot.bin`, `manifest.bin` | [the last snapshot](crate::snapshot) and its description |
/// | `snapshots/<index>.bin` | an older snapshot, by the last record it covers, kept for restoring to a point in time |
/// | `wal/origin.bin` | where the log begins: what has been purged |
/// | `wal/active-<start>.wal` | [the segment](crate::wal) being written |
/// | `wal/<start>-<end>.wal` | a sealed segment, both ends inclusive |
/// | `wal/spare.tmp`, `wal/reserve.tmp` | space set aside: the next segment, and [what is given up](crate::wal) on a full disk |
/// | `*.tmp` | the next content of a file; never read, overwritten or removed at will |
///
/// Directories are created 0700, files 0600.
#[derive(Clone)]
pub struct DataDir(Arc<Inner>);

/// The room on a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// What this process may still take.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

struct Inner {
    root: PathBuf,
    disk: Disk,
    /// `None` for a directory that is only read and that no server has ever used.
    _lock: Option<DirectoryLock>,
}

/// Refuses every change, for directories that are only read.
struct ReadOnly;

impl Probe for ReadOnly {
    fn before(&self, _: Operation, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn after(&self, _: Operation, _: &Path) {}
}

impl DataDir {
    /// Takes the directory, creating it when it is missing.
    ///
    /// # Errors
    /// `ENG-011` when another process holds it, `ENG-010` when it holds the log of the public 0.9 release, `ENG-002`
    /// when it cannot be created.
    pub fn open_or_create(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        Self::with_disk(root.into(), Disk::default())
    }

    /// Takes a directory that has a keyring, and creates nothing in any other.
    ///
    /// # Errors
    /// `ENG-011` when another process holds it or there is no keyring in it, `ENG-002` for I/O.
    pub fn open_existing(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let root = root.into();
        let keyring = root.join("keyring.bin");
        if !keyring.exists() {
            return Err(StorageError::new(
                Code::InvalidStorageOperation,
                "this is no data directory: there is no keyring in it",
            )
            .in_file(&keyring)
            .advise("name the directory that a server was given as --data-dir"));
        }
        Self::open_or_create(root)
    }

    /// The same as [`open_or_create`](Self::open_or_create) with a probe that sees every change of a file; for tests of crash safety.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create).
    pub fn with_probe(root: impl Into<PathBuf>, probe: Arc<dyn Probe>) -> Result<Self, StorageError> {
        Self::with_disk(root.into(), Disk::watched(probe))
    }

    /// Opens an existing directory and changes nothing in it, whatever is called: the right to read is enough. While
    /// it is held, no server starts on it.
    ///
    /// # Errors
    /// `ENG-011` when another process holds it, or when it is no data directory; `ENG-010` when it holds the log of the
    /// public 0.9 release; `ENG-002` when it does not exist or cannot be read.
    pub fn read_only(root: impl Into<PathBuf>, hold: Hold) -> Result<Self, StorageError> {
        let root = root.into();
        let failed = |source: io::Error| StorageError::io("open the data directory", &root, source);
        if !fs::metadata(&root)
            .map_err(|source| failed(source).advise("name an existing data directory"))?
            .is_dir()
        {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        refuse_legacy(&root)?;
        let lock = DirectoryLock::acquire_existing(&root.join("LOCK"), hold)?;
        let disk = Disk::watched(Arc::new(ReadOnly));
        let dir = Self(Arc::new(Inner { root, disk, _lock: lock }));
        if !dir.keyring().exists() && dir.sealed_file().is_none() && !dir.wal().exists() {
            let message = "invalid storage operation: there is no data in this directory";
            return Err(StorageError::new(Code::InvalidStorageOperation, message)
                .in_file(dir.root())
                .advise("name the directory that a server was given as --data-dir"));
        }
        Ok(dir)
    }

    fn with_disk(root: PathBuf, disk: Disk) -> Result<Self, StorageError> {
        refuse_legacy(&root)?;
        disk.create_directory(&root)?;
        let lock = DirectoryLock::acquire(&root.join("LOCK"))?;
        let dir = Self(Arc::new(Inner { root, disk, _lock: Some(lock) }));
        dir.clear_leftovers()?;
        // A process that was killed may have changed names and not synced them. What is built on those names from now
        // on must not be on disk before them.
        dir.disk().sync_directory(dir.root())?;
        // Its absence is for whoever opens the log to judge.
        if dir.wal().is_dir() {
            dir.disk().sync_directory(&dir.wal())?;
        }
        Ok(dir)
    }

    /// Removes what an interrupted replacement left of the next content of a file: a snapshot's can be large, and
    /// the disk may be full because of it.
    fn clear_leftovers(&self) -> Result<(), StorageError> {
        for path in [self.keyring(), self.vote(), self.snapshot(), self.manifest()] {
            let leftover = temporary(&path);
            if leftover.exists() {
                self.disk().remove(&leftover)?;
            }
        }
        Ok(())
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// How much room the file system under it has, as of now.
    ///
    /// # Errors
    /// The system's reason.
    pub fn space(&self) -> io::Result<Space> {
        let found = rustix::fs::statvfs(self.root())?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) })
    }

    /// The storage keys.
    #[must_use]
    pub fn keyring(&self) -> PathBuf {
        self.0.root.join("keyring.bin")
    }

    /// The vote.
    #[must_use]
    pub fn vote(&self) -> PathBuf {
        self.0.root.join("vote.bin")
    }

    /// The last snapshot.
    #[must_use]
    pub fn snapshot(&self) -> PathBuf {
        self.0.root.join("snapshot.bin")
    }

    /// The directory of older snapshots.
    #[must_use]
    pub fn older_snapshots(&self) -> PathBuf {
        self.0.root.join("snapshots")
    }

    /// The description of the last snapshot.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.0.root.join("manifest.bin")
    }

    /// The directory of the log.
    #[must_use]
    pub fn wal(&self) -> PathBuf {
        self.0.root.join("wal")
    }

    /// Where the log begins.
    #[must_use]
    pub fn wal_origin(&self) -> PathBuf {
        self.0.root.join("wal").join("origin.bin")
    }

    /// Who hears of a failed sync of any file or directory in here. What is on the disk is unknown then, so it should
    /// end the process.
    pub fn on_failed_sync(&self, hook: OnFailedSync) {
        self.0.disk.set_on_failed_sync(hook);
    }

    /// A file of the directory, outside the log, that only the keyring can open; `None` on a fresh directory.
    pub(crate) fn sealed_file(&self) -> Option<PathBuf> {
        let older = fs::read_dir(self.older_snapshots()).ok().and_then(|mut entries| entries.next()?.ok());
        [self.vote(), self.snapshot(), self.manifest()]
            .into_iter()
            .find(|path| path.exists())
            .or_else(|| older.map(|entry| entry.path()))
    }

    /// A file of the log; `None` when there is none but temporary ones.
    pub(crate) fn log_file(&self) -> Result<Option<PathBuf>, StorageError> {
        let wal = self.wal();
        let failed = |source| StorageError::io("list the directory", &wal, source);
        let entries = match fs::read_dir(&wal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "wal" || extension == "bin") {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.0.disk
    }
}

/// The single-file log of the public 0.9 release is nothing this release reads, and a new log beside it would hide it.
fn refuse_legacy(root: &Path) -> Result<(), StorageError> {
    let path = root.join("wal.log");
    if !path.exists() {
        return Ok(());
    }
    let message = "storage migration is required for legacy wal layout";
    Err(StorageError::new(Code::StorageMigrationRequired, message).in_file(&path).advise(
        "files of the public release are not read: start that release, take a logical backup with `backup`, and \
         `restore` it here into another data directory",
    ))
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::disk::Operation;

    #[test]
    fn a_directory_that_is_only_read_is_never_changed_or_created() {
        let parent = crate::crash::scratch();
        let root = parent.path().join("data");
        let missing = DataDir::read_only(&root, Hold::Shared).err().unwrap();
        assert_eq!(missing.code(), Code::EngineFilesystemIoFailure);
        assert!(!root.exists());
        fs::create_dir(&root).unwrap();
        let empty = DataDir::read_only(&root, Hold::Shared).err().unwrap();
        assert_eq!(empty.code(), Code::InvalidStorageOperation);

        drop(DataDir::open_or_create(&root).unwrap());
        assert!(DataDir::read_only(&root, Hold::Shared).is_err(), "there is still nothing but the lock");
        fs::create_dir(root.join("wal")).unwrap();
        let dir = DataDir::read_only(&root, Hold::Shared).unwrap();
        let refused = dir.disk().replace(&dir.vote(), b"x").unwrap_err();
        assert_eq!(refused.code(), Code::EngineFilesystemIoFailure);
        assert!(!dir.vote().exists() && !temporary(&dir.vote()).exists());
    }

    #[test]
    fn a_log_of_the_public_release_is_left_alone() {
        let parent = crate::crash::scratch();
        fs::write(parent.path().join("wal.log"), b"theirs").unwrap();
        let opened = [
            DataDir::open_or_create(parent.path()).err(),
            DataDir::read_only(parent.path(), Hold::Exclusive).err(),
        ];
        for error in opened {
            assert_eq!(error.unwrap().code(), Code::StorageMigrationRequired);
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing was created");
    }

    #[derive(Default)]
    struct Synced(Mutex<Vec<PathBuf>>);

    impl Probe for Synced {
        fn before(&self, _: Operation, _: &Path) -> io::Result<()> {
            Ok(())
        }

        fn after(&self, operation: Operation, path: &Path) {
            if operation == Operation::SyncDirectory {
                self.0.lock().push(path.to_owned());
            }
        }
    }

    #[test]
    fn names_that_an_earlier_process_did_not_sync_are_synced_before_anything_is_built_on_them() {
        let parent = crate::crash::scratch();
        let root = parent.path().join("data");
        fs::create_dir_all(root.join("wal")).unwrap();
        let synced = Arc::new(Synced::default());
        DataDir::with_probe(&root, Arc::clone(&synced) as _).unwrap();
        for directory in [parent.path(), &root, &root.join("wal")] {
            assert!(synced.0.lock().iter().any(|path| path == directory), "{}", directory.display());
        }
    }
}
