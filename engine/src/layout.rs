//! Where things lie in a data directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, OnFailedSync, Probe, temporary};
use crate::error::StorageError;
use crate::lock::DirectoryLock;

/// A data directory that this process holds exclusively. Clones share the hold; the last one gives it up.
///
/// | Path | Content |
/// |---|---|
/// | `LOCK` | held while a process uses the directory |
/// | `keyring.bin` | [storage keys](crate::keyring) |
/// | `vote.bin` | [the vote](crate::vote) |
/// | `snapshot.bin`, `manifest.bin` | [the last snapshot](crate::snapshot) and its description |
/// | `wal/origin.bin` | where the log begins: what has been purged |
/// | `wal/active-<start>.wal` | [the segment](crate::wal) being written |
/// | `wal/<start>-<end>.wal` | a sealed segment, both ends inclusive |
/// | `wal/spare.tmp`, `wal/reserve.tmp` | space set aside: the next segment, and [what is given up](crate::wal) on a full disk |
/// | `*.tmp` | the next content of a file; never read, overwritten or removed at will |
///
/// Directories are created 0700, files 0600.
#[derive(Clone)]
pub struct DataDir(Arc<Inner>);

struct Inner {
    root: PathBuf,
    disk: Disk,
    _lock: DirectoryLock,
}

impl DataDir {
    /// Takes the directory, creating it when it is missing.
    ///
    /// # Errors
    /// `ENG-011` when another process holds it, `ENG-002` when it cannot be created.
    pub fn open_or_create(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        Self::with_disk(root.into(), Disk::default())
    }

    /// The same with a probe that sees every change of a file; for tests of crash safety.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create).
    pub fn with_probe(root: impl Into<PathBuf>, probe: Arc<dyn Probe>) -> Result<Self, StorageError> {
        Self::with_disk(root.into(), Disk::watched(probe))
    }

    fn with_disk(root: PathBuf, disk: Disk) -> Result<Self, StorageError> {
        disk.create_directory(&root)?;
        let lock = DirectoryLock::acquire(&root.join("LOCK"))?;
        let wal = root.join("wal");
        disk.create_directory(&wal)?;
        let dir = Self(Arc::new(Inner { root, disk, _lock: lock }));
        dir.clear_leftovers()?;
        // A process that was killed may have changed names and not synced them. What is built on those names from now
        // on must not be on disk before them.
        for directory in [dir.root(), &wal] {
            dir.disk().sync_directory(directory)?;
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
        [self.vote(), self.snapshot(), self.manifest()].into_iter().find(|path| path.exists())
    }

    /// A file of the log; `None` when there is none but temporary ones.
    pub(crate) fn log_file(&self) -> Result<Option<PathBuf>, StorageError> {
        let wal = self.wal();
        let failed = |source| StorageError::io("list the directory", &wal, source);
        for entry in fs::read_dir(&wal).map_err(failed)? {
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

#[cfg(test)]
mod tests {
    use std::io;

    use parking_lot::Mutex;

    use super::*;
    use crate::disk::Operation;

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
