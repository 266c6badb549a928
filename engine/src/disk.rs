//! The one door to the file system: every change of a file passes here.
//!
//! One door means one place for modes (files 0600, directories 0700), for the order of sync and rename, and for
//! watching: a [`Probe`] sees each operation before and after it happens and may refuse it, which is how the tests
//! crash the storage between any two steps.
//!
//! # Trouble
//! Every refusal is a [`StorageError`] that says of what kind it is ([`Trouble`]). Two rules hold here for all files:
//! - A failed sync of a file or directory is reported to whoever stops the process ([`OnFailedSync`]), whatever its
//!   caller makes of the error, and is never tried again.
//! - What keeps the node alive or frees space (the vote, the origin of the log, the manifest, a snapshot, the next
//!   segment) goes through an *essential* handle: when it finds no room, the reserves are given up ([`Reserve`]) and it
//!   is tried once more. Work of many steps is announced ([`Disk::essential_work`]): once it has found no room, no space
//!   is set aside for anything else until it ends, or others would take what was given up for it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use vaylix_proto::Code;

use crate::error::{StorageError, Trouble, is_no_space};

/// Zeros are written in pieces of this size where a file system cannot set space aside by itself.
const ZEROS_BYTES: usize = 256 << 10;

/// A change of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A file is created or emptied.
    Create,
    /// Bytes are written to a file.
    Write,
    /// A file is cut or extended.
    Resize,
    /// Space is set aside for a file, which reads as zeros there.
    Allocate,
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
    /// Called with the bytes that are about to be written; an error replaces the write. A test that refuses here may have
    /// written a part of them itself, as a failing disk does.
    fn write(&self, _path: &Path, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }
    /// Called after the operation succeeded.
    fn after(&self, operation: Operation, path: &Path);
    /// Called after the system refused the operation.
    fn failed(&self, _operation: Operation, _path: &Path) {}
}

/// Called when the sync of a file or directory has failed: what is on the disk is unknown then.
pub type OnFailedSync = Arc<dyn Fn(&StorageError) + Send + Sync>;

/// Something that can give up space on the disk. Answers whether it had any.
pub(crate) type Reserve = Box<dyn Fn() -> bool + Send + Sync>;

#[derive(Default)]
struct Shared {
    reserves: Mutex<Vec<Reserve>>,
    /// Held while space is set aside for something that is not essential.
    demand: Mutex<Demand>,
    /// Counts the beginning and the end of each time that happens: odd while it does.
    others: AtomicU64,
    on_failed_sync: Mutex<Option<OnFailedSync>>,
}

/// What essential work asks of everything else.
#[derive(Default)]
struct Demand {
    /// How much of it is going on.
    works: usize,
    /// Whether any of it has found no room.
    is_pressing: bool,
}

/// Essential work of many steps, until it is dropped.
pub(crate) struct EssentialWork(Arc<Shared>);

impl Drop for EssentialWork {
    fn drop(&mut self) {
        let mut demand = self.0.demand.lock();
        demand.works -= 1;
        demand.is_pressing &= demand.works > 0;
    }
}

/// Performs changes of files and directories.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    probe: Option<Arc<dyn Probe>>,
    shared: Arc<Shared>,
    essential: bool,
}

impl Disk {
    pub(crate) fn watched(probe: Arc<dyn Probe>) -> Self {
        Self { probe: Some(probe), ..Self::default() }
    }

    /// A handle for what must not fail for lack of space as long as there are reserves.
    pub(crate) fn essential(&self) -> Self {
        Self { essential: true, ..self.clone() }
    }

    fn ordinary(&self) -> Self {
        Self { essential: false, ..self.clone() }
    }

    /// Announces work of many steps through an essential handle.
    pub(crate) fn essential_work(&self) -> EssentialWork {
        self.shared.demand.lock().works += 1;
        EssentialWork(self.shared.clone())
    }

    /// Makes an attempt that must not fail while there is room to be had. One that found none may have met somebody who was
    /// about to give back what he could not use: then it is made again when nobody is setting space aside; and after each
    /// reserve that is given up.
    fn insist<T>(&self, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let others = self.shared.others.load(Ordering::Acquire);
        let mut result = attempt();
        if !result.as_ref().is_err_and(is_no_space) {
            return result;
        }
        let mut demand = self.shared.demand.lock();
        demand.is_pressing = demand.works > 0;
        if !others.is_multiple_of(2) || self.shared.others.load(Ordering::Acquire) != others {
            result = attempt();
        }
        while result.as_ref().is_err_and(is_no_space)
            && self.shared.reserves.lock().iter().any(|reserve| reserve())
        {
            result = attempt();
        }
        result
    }

    /// Adds something that is given up when an essential operation finds no room: before those that were added earlier,
    /// and one at a time.
    pub(crate) fn add_reserve(&self, reserve: Reserve) {
        self.shared.reserves.lock().insert(0, reserve);
    }

    /// Forgets the reserves: whoever kept them is going away.
    pub(crate) fn forget_reserves(&self) {
        self.shared.reserves.lock().clear();
    }

    pub(crate) fn set_on_failed_sync(&self, hook: OnFailedSync) {
        *self.shared.on_failed_sync.lock() = Some(hook);
    }

    fn run<T>(
        &self,
        operation: Operation,
        path: &Path,
        what: &str,
        action: impl Fn() -> io::Result<T>,
    ) -> Result<T, StorageError> {
        let attempt = || match &self.probe {
            None => action(),
            Some(probe) => {
                probe.before(operation, path)?;
                let result = action();
                match &result {
                    Ok(_) => probe.after(operation, path),
                    Err(_) => probe.failed(operation, path),
                }
                result
            }
        };
        let is_sync = matches!(operation, Operation::Sync | Operation::SyncDirectory);
        let result = if self.essential && !is_sync { self.insist(attempt) } else { attempt() };
        result.map_err(|source| {
            let error = StorageError::io(what, path, source);
            if !is_sync {
                return error;
            }
            let error = error.in_trouble(Trouble::Sync);
            let hook = self.shared.on_failed_sync.lock().clone();
            if let Some(hook) = hook {
                hook(&error);
            }
            error
        })
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
        self.run(Operation::Create, path, "create the directory", || {
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                result => result,
            }
        })?;
        self.sync_directory(parent)
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
    /// Durable on return. Essential: it is for small files that say how things stand. When it fails other than by a
    /// sync, the old content is in place.
    pub(crate) fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StorageError> {
        let disk = self.essential();
        let temporary = temporary(path);
        let replaced = disk.create(&temporary).and_then(|file| {
            file.write_at(content, 0)?;
            file.sync()?;
            disk.publish(&temporary, path)
        });
        if replaced.as_ref().is_err_and(StorageError::may_pass) {
            self.discard(&temporary);
        }
        replaced
    }

    /// Removes a file that is of no use any more; where that fails, it stays until it is made anew or the next start.
    pub(crate) fn discard(&self, path: &Path) {
        if let Err(error) = self.remove(path) {
            tracing::warn!(%error, "a file of no use stays for now");
        }
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

    /// When it fails, any part of the bytes may have been written.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), StorageError> {
        self.disk.run(Operation::Write, &self.path, "write to the file", || {
            if let Some(probe) = &self.disk.probe {
                probe.write(&self.path, bytes, offset)?;
            }
            self.file.write_all_at(bytes, offset)
        })
    }

    pub(crate) fn resize(&self, len: u64) -> Result<(), StorageError> {
        self.disk.run(Operation::Resize, &self.path, "set the length of the file", || self.file.set_len(len))
    }

    /// Gives the space behind `offset` back to the file system, if that can be done; the length stays, and the bytes read as
    /// zeros.
    pub(crate) fn punch(&self, offset: u64) -> Result<(), StorageError> {
        self.disk.run(Operation::Resize, &self.path, "give space of the file back", || {
            let len = self.file.metadata()?.len().saturating_sub(offset);
            if len == 0 {
                return Ok(());
            }
            match fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
                outcome => Ok(outcome?),
            }
        })
    }

    /// Sets space aside behind what has been written, so that writes there do not fail for lack of it. The bytes read
    /// as zeros. When it fails, part of the space may have been set aside.
    pub(crate) fn allocate(&self, offset: u64, len: u64) -> Result<(), StorageError> {
        self.allocate_by(&self.disk.ordinary(), offset, len)
    }

    /// The same, also at the cost of the reserves.
    pub(crate) fn allocate_essential(&self, offset: u64, len: u64) -> Result<(), StorageError> {
        self.allocate_by(&self.disk.essential(), offset, len)
    }

    fn allocate_by(&self, disk: &Disk, offset: u64, len: u64) -> Result<(), StorageError> {
        self.run_allocation(disk, || match self.set_aside(offset, len)? {
            true => Ok(()),
            // Zeros that are written take the space just as well.
            false => self.fill(offset, len),
        })
    }

    /// The same for a file that is about to be filled anyway, if the file system can set space aside.
    pub(crate) fn allocate_if_cheap(&self, offset: u64, len: u64) -> Result<(), StorageError> {
        self.run_allocation(&self.disk.ordinary(), || self.set_aside(offset, len).map(|_| ()))
    }

    fn run_allocation(&self, disk: &Disk, action: impl Fn() -> io::Result<()>) -> Result<(), StorageError> {
        const WHAT: &str = "set space aside for the file";
        let demand = (!disk.essential).then(|| disk.shared.demand.lock());
        if demand.as_ref().is_some_and(|demand| demand.is_pressing) {
            return Err(StorageError::io(WHAT, &self.path, Errno::NOSPC.into()));
        }
        let Some(_held) = demand else { return disk.run(Operation::Allocate, &self.path, WHAT, action) };
        disk.shared.others.fetch_add(1, Ordering::AcqRel);
        let result = disk.run(Operation::Allocate, &self.path, WHAT, action);
        disk.shared.others.fetch_add(1, Ordering::AcqRel);
        result
    }

    /// `false` when the file system cannot.
    fn set_aside(&self, offset: u64, len: u64) -> io::Result<bool> {
        match fallocate(&self.file, FallocateFlags::empty(), offset, len) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn fill(&self, offset: u64, len: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES];
        let mut done = 0;
        while done < len {
            let piece = usize::try_from(len - done).map_or(ZEROS_BYTES, |left| left.min(ZEROS_BYTES));
            self.file.write_all_at(&zeros[..piece], offset + done)?;
            done += piece as u64;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use tempfile::TempDir;

    use super::*;

    /// A disk on which nothing can be created until somebody gives up a reserve.
    #[derive(Default)]
    struct Full(AtomicBool);

    impl Probe for Full {
        fn before(&self, operation: Operation, _: &Path) -> io::Result<()> {
            let is_full = operation == Operation::Create && self.0.load(Ordering::SeqCst);
            if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn after(&self, _: Operation, _: &Path) {}
    }

    fn with_a_reserve() -> (TempDir, Arc<Full>, Disk) {
        let full = Arc::new(Full::default());
        let disk = Disk::watched(full.clone());
        let given_up = full.clone();
        disk.add_reserve(Box::new(move || given_up.0.swap(false, Ordering::SeqCst)));
        (TempDir::new().unwrap(), full, disk)
    }

    #[test]
    fn what_was_given_up_for_essential_work_is_left_to_it_until_it_ends() {
        let (dir, full, disk) = with_a_reserve();
        let other = disk.create(&dir.path().join("other")).unwrap();
        let works = [disk.essential_work(), disk.essential_work()];
        other.allocate(0, 10).expect("nothing has pressed yet");
        full.0.store(true, Ordering::SeqCst);
        disk.essential().create(&dir.path().join("essential")).expect("the reserve is given up");
        for work in works {
            assert_eq!(other.allocate(10, 10).unwrap_err().trouble(), Some(Trouble::NoSpace));
            other.allocate_essential(10, 10).expect("others may be essential too");
            drop(work);
        }
        other.allocate(20, 10).expect("the work has ended");
        let _later = disk.essential_work();
        other.allocate(30, 10).expect("later work has not pressed");
    }

    #[test]
    fn a_single_essential_step_keeps_nobody_away_afterwards() {
        let (dir, full, disk) = with_a_reserve();
        let other = disk.create(&dir.path().join("other")).unwrap();
        full.0.store(true, Ordering::SeqCst);
        assert!(disk.create(&dir.path().join("ordinary")).is_err());
        disk.essential().create(&dir.path().join("essential")).unwrap();
        other.allocate(0, 10).unwrap();
    }
}
