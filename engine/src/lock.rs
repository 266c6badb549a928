//! One process per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use vaylix_proto::Code;

use crate::error::StorageError;

/// Bytes of the lock file that are worth reading: a process id.
const HOLDER_BYTES_MAX: u64 = 64;

/// The right to a data directory, held by an advisory lock on its `LOCK` file: exclusive, or shared among processes
/// that only read.
///
/// The operating system releases it when the process ends, however it ends. The file stays; what it holds (the
/// process id of the last exclusive holder) is for people only.
pub struct DirectoryLock {
    _file: File,
}

/// How a directory that is only read is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Others may read it meanwhile.
    Shared,
    /// Nobody else may use it meanwhile.
    Exclusive,
}

impl DirectoryLock {
    /// Takes the lock at once or fails.
    ///
    /// # Errors
    /// `ENG-011` when another process, or this one, holds the directory; `ENG-002` when the file cannot be made.
    pub fn acquire(path: &Path) -> Result<Self, StorageError> {
        let failed = |source| StorageError::io("take the lock", path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => return Err(in_use(&file, path)),
        }
        // Over the old content and not after emptying the file: on a full disk there may be no block to be had again.
        let holder = format!("process {}\n", std::process::id());
        let written = file.write_all(holder.as_bytes()).and_then(|()| file.set_len(holder.len() as u64));
        written.map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Takes the lock at once or fails, and changes nothing, not even the lock file: so it needs no more than the right
    /// to read. `None` when there is no lock file: then no server has ever used the directory, as with a copy.
    ///
    /// # Errors
    /// `ENG-011` when another process holds the directory in a way that excludes this one, `ENG-002` when the file
    /// cannot be read.
    pub fn acquire_existing(path: &Path, hold: Hold) -> Result<Option<Self>, StorageError> {
        let failed = |source| StorageError::io("take the lock", path, source);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(failed)?,
        };
        let taken = match hold {
            Hold::Shared => file.try_lock_shared(),
            Hold::Exclusive => file.try_lock(),
        };
        match taken {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::Error(source)) => Err(failed(source)),
            Err(TryLockError::WouldBlock) => Err(in_use(&file, path)),
        }
    }
}

fn in_use(file: &File, path: &Path) -> StorageError {
    let mut holder = String::new();
    // The name of the holder is a courtesy: without it the refusal stands all the same.
    let known = file.take(HOLDER_BYTES_MAX).read_to_string(&mut holder).is_ok() && !holder.is_empty();
    let holder = if known { holder.trim() } else { "process unknown" };
    StorageError::new(
        Code::InvalidStorageOperation,
        format!("the data directory is in use by another running server ({holder}) or offline tool"),
    )
    .in_file(path)
    .advise("stop that server or choose another data directory; the lock ends with its process")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_a_server_does_not() {
        let root = crate::crash::scratch();
        let path = root.path().join("LOCK");
        assert!(DirectoryLock::acquire_existing(&path, Hold::Shared).unwrap().is_none());
        assert!(!path.exists(), "a reader creates nothing");

        let server = DirectoryLock::acquire(&path).unwrap();
        let content = std::fs::read(&path).unwrap();
        for hold in [Hold::Shared, Hold::Exclusive] {
            let refused = DirectoryLock::acquire_existing(&path, hold).err().unwrap();
            assert_eq!(refused.code(), Code::InvalidStorageOperation);
        }
        drop(server);

        let first = DirectoryLock::acquire_existing(&path, Hold::Shared).unwrap().unwrap();
        let second = DirectoryLock::acquire_existing(&path, Hold::Shared).unwrap().unwrap();
        assert!(DirectoryLock::acquire(&path).is_err());
        assert!(DirectoryLock::acquire_existing(&path, Hold::Exclusive).is_err());
        drop((first, second));
        assert!(DirectoryLock::acquire_existing(&path, Hold::Exclusive).unwrap().is_some());
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}
