//! One process per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use vaylix_proto::Code;

use crate::error::StorageError;

/// Bytes of the lock file that are worth reading: a process id.
const HOLDER_BYTES_MAX: u64 = 64;

/// The exclusive right to a data directory, held by an advisory lock on its `LOCK` file.
///
/// The operating system releases it when the process ends, however it ends. The file stays; what it holds (the
/// process id of the last holder) is for people only.
pub struct DirectoryLock {
    _file: File,
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
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The name of the holder is a courtesy: without it the refusal stands all the same.
                let known =
                    (&file).take(HOLDER_BYTES_MAX).read_to_string(&mut holder).is_ok() && !holder.is_empty();
                let holder = if known { holder.trim() } else { "process unknown" };
                return Err(StorageError::new(
                    Code::InvalidStorageOperation,
                    format!("the data directory is in use by another running server ({holder})"),
                )
                .in_file(path)
                .advise(
                    "stop that server or choose another data directory; the lock ends with its process",
                ));
            }
        }
        // Over the old content and not after emptying the file: on a full disk there may be no block to be had again.
        let holder = format!("process {}\n", std::process::id());
        let written = file.write_all(holder.as_bytes()).and_then(|()| file.set_len(holder.len() as u64));
        written.map_err(failed)?;
        Ok(Self { _file: file })
    }
}
