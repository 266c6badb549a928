//! Snapshots: everything up to some record, so that the log before it can go.
//!
//! A snapshot is a stream (`stream`) of sealed chunks; what is in it is the caller's. The last one of a directory is
//! `snapshot.bin`, described by `manifest.bin` (`manifest`). A new one is written beside the old one and synced. Then the
//! old one is moved to `snapshots/<index>.bin`, if it is to be kept (`older`); the new one is renamed into place; and the
//! manifest is replaced in the same way. Whenever a crash comes, the whole snapshot of the highest number is the last one,
//! under whichever name, and a manifest that is older than it is accepted: the log goes only after the manifest.

mod content;
mod manifest;
mod older;
mod scrub;
mod stream;

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use vaylix_proto::Code;

pub use content::{read_position, read_state};
pub(crate) use manifest::KIND as MANIFEST;
pub use older::{Kept, Listed, Listing, Retention, list, remove_older, retain};
pub(crate) use scrub::{files, scrub};
pub use stream::{Head, Info, Reader, Writer};

use crate::disk::{Disk, DiskFile, temporary};
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;
use crate::wal::RecordId;
use manifest::Manifest;
use stream::Header;

/// A new snapshot is synced every so many bytes, so that a sync of the log, which waits for what is on its way to the disk
/// before it, waits for little.
const SYNC_STRIDE_BYTES: u64 = 512 << 10;
const READ_BYTES: usize = 256 << 10;
const RESTORE: &str =
    "restore snapshot.bin and manifest.bin together from a backup, or rebuild this node from another one";

/// What becomes of the snapshot that a new one takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Previous {
    Replaced,
    Kept,
}

/// Replaces the snapshot of the directory by one whose content `body` writes. Durable on return; when it fails, or the
/// process dies, the old one or the new one is there.
///
/// # Errors
/// Whatever `body` fails with; `ENG-002` for I/O; `ENG-003` when the meta bytes exceed 1 MiB.
pub fn write(
    dir: &DataDir,
    keyring: &Keyring,
    head: &Head,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Info, StorageError> {
    write_next(dir, keyring, head, Previous::Replaced, body)
}

/// The same, but the old one is kept beside the new one until [`remove_older`] removes it.
///
/// # Errors
/// As [`write()`].
pub fn write_keeping(
    dir: &DataDir,
    keyring: &Keyring,
    head: &Head,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Info, StorageError> {
    write_next(dir, keyring, head, Previous::Kept, body)
}

fn write_next(
    dir: &DataDir,
    keyring: &Keyring,
    head: &Head,
    previous: Previous,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Info, StorageError> {
    let path = dir.snapshot();
    let _announced = dir.disk().essential_work();
    let (in_place, number) = predecessor(dir, keyring, head)?;
    let temporary = temporary(&path);
    let (header, info) = match fill(&dir.disk().essential(), &temporary, keyring, head, number, body) {
        Ok(filled) => filled,
        Err(error) => {
            // On a full disk the log needs the room more than half a snapshot does.
            if let Err(error) = dir.disk().remove(&temporary) {
                tracing::warn!(%error, "what was written of the snapshot stays until the next one or the next start");
            }
            return Err(error);
        }
    };
    if previous == Previous::Kept
        && let Some(last) = in_place.filter(|last| last.path == path)
    {
        older::set_aside(dir, &last)?;
    }
    let disk = dir.disk().essential();
    disk.publish(&temporary, &path).inspect_err(|error| {
        if error.may_pass() {
            disk.discard(&temporary);
        }
    })?;
    Manifest::of(&header, info.size_bytes).store(dir, keyring)?;
    Ok(info)
}

/// Opens the snapshot of the directory; `None` when there is none.
///
/// # Errors
/// `ENG-004`, `ENG-006`, `ENG-007`, `ENG-008` or `ENG-009` when snapshot or manifest are damaged or do not belong
/// together, `ENG-002` for I/O. Damage of the content shows while it is read.
pub fn load(dir: &DataDir, keyring: &Keyring) -> Result<Option<Reader<BufReader<File>>>, StorageError> {
    let manifest = Manifest::load(dir, keyring)?;
    let Some(last) = older::last(dir)? else {
        return match manifest {
            None => Ok(None),
            Some(_) => Err(missing(dir)),
        };
    };
    let path = &last.path;
    let refuse = |code, message| Err(StorageError::new(code, message).in_file(path).advise(RESTORE));
    let reader = open_file(path, keyring)?;
    let header = reader.header();
    match manifest {
        Some(manifest) if manifest.number > header.number => {
            if *path != dir.snapshot() {
                return Err(missing(dir));
            }
            refuse(Code::ManifestDeserializationFailure, "the manifest describes a newer snapshot")
        }
        Some(manifest) if manifest.number == header.number => {
            let size_bytes =
                path.metadata().map_err(|source| StorageError::io("measure the file", path, source))?.len();
            if manifest != Manifest::of(header, size_bytes) {
                return refuse(
                    Code::ChecksumValidationFailure,
                    "the snapshot is not the one that the manifest describes",
                );
            }
            Ok(Some(reader))
        }
        older => {
            let described = older.map(|manifest| manifest.number);
            tracing::warn!(
                file = %path.display(), number = header.number, ?described,
                "the snapshot is newer than its manifest: its replacement was interrupted"
            );
            Ok(Some(reader))
        }
    }
}

fn missing(dir: &DataDir) -> StorageError {
    let message = "the snapshot that the manifest describes is missing";
    StorageError::new(Code::ChecksumValidationFailure, message).in_file(&dir.snapshot()).advise(RESTORE)
}

/// The last record that the snapshot of the directory covers, without reading its content; `None` without a snapshot.
///
/// # Errors
/// As [`load`].
pub fn covered(dir: &DataDir, keyring: &Keyring) -> Result<Option<RecordId>, StorageError> {
    Ok(load(dir, keyring)?.and_then(|reader| reader.header().last))
}

/// Writes a snapshot to a file of its own, in a directory of the caller's choice. Durable on return but for the name of
/// the file.
///
/// # Errors
/// As [`write()`], apart from the snapshot in place.
pub fn write_file(
    path: &Path,
    keyring: &Keyring,
    head: &Head,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Info, StorageError> {
    Ok(fill(&Disk::default(), path, keyring, head, 0, body)?.1)
}

/// Opens the snapshot in a file.
///
/// # Errors
/// As [`Reader::new`], naming the file.
pub fn open_file(path: &Path, keyring: &Keyring) -> Result<Reader<BufReader<File>>, StorageError> {
    let file = File::open(path).map_err(|source| StorageError::io("open the snapshot", path, source))?;
    Reader::new(BufReader::with_capacity(READ_BYTES, file), keyring)
        .map(|reader| reader.of_file(path))
        .map_err(|error| error.in_file(path).or_advise(RESTORE))
}

/// The last snapshot, and a number larger than that of any snapshot before. What of those cannot be read any more is about
/// to be replaced, and must not stand in the way of that.
fn predecessor(
    dir: &DataDir,
    keyring: &Keyring,
    head: &Head,
) -> Result<(Option<older::Found>, u64), StorageError> {
    // Nearly every snapshot covers a record more than the one before, so this is far ahead of a number that is lost.
    let lost = |error: &StorageError| {
        tracing::warn!(%error, "the snapshot before has been damaged while this process ran: replacing it");
        let index = head.last.map_or(0, |last| last.index);
        Ok::<_, StorageError>(index.max(older::highest_number(dir)?))
    };
    let (last, in_place) = match older::last(dir) {
        Ok(last) => {
            let number = last.as_ref().map_or(0, |last| last.header.number);
            (last, number)
        }
        Err(error) => (None, lost(&error)?),
    };
    let described = match Manifest::load(dir, keyring) {
        Ok(manifest) => manifest.map_or(0, |manifest| manifest.number),
        Err(error) => {
            // A start would refuse it, also beside the new snapshot; without one it takes the snapshot as it is.
            dir.disk().remove(&dir.manifest())?;
            dir.disk().sync_directory(dir.root())?;
            lost(&error)?
        }
    };
    Ok((last, in_place.max(described) + 1))
}

fn fill(
    disk: &Disk,
    path: &Path,
    keyring: &Keyring,
    head: &Head,
    number: u64,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(Header, Info), StorageError> {
    let sink = Sequential { file: disk.create(path)?, offset: 0, synced: 0 };
    let mut writer = Writer::numbered(sink, keyring, head, number)?;
    body(&mut writer)?;
    let header = writer.header().clone();
    let (sink, info) = writer.finish()?;
    sink.file.sync()?;
    Ok((header, info))
}

/// Writes a file from its beginning on, and syncs it as it grows.
struct Sequential {
    file: DiskFile,
    offset: u64,
    synced: u64,
}

impl Write for Sequential {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        if self.offset - self.synced >= SYNC_STRIDE_BYTES {
            self.file.sync()?;
            self.synced = self.offset;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
