//! Room for what is to be appended, known before anybody depends on it.
//!
//! Whoever hands a record over must be able to rely on its being written: a node that agreed on an entry cannot take it
//! back because the disk is full. So space is set aside behind the last frame of the active segment (the file system
//! then promises that writes there find room), and a caller asks first: [`Wal::has_room`](super::Wal::has_room) costs
//! nothing, [`Wal::want_room`](super::Wal::want_room) has the thread of the log look for more.
//!
//! | Part of the space | For |
//! |---|---|
//! | what is above [`Config::reserve_bytes`](super::Config::reserve_bytes) | any write |
//! | the reserve, down to 64 KiB | what frees space ([`Purpose::Free`]): deletes are refused last |
//! | the last 64 KiB | what is appended without being asked: the entries by which a node takes office |
//!
//! Besides, a file `wal/reserve.tmp` of twice the reserve is kept. It is given up when something essential (the vote, the
//! origin, the manifest, a snapshot, the next segment) finds no room, and made again when there is some; until then no
//! space is set aside for ordinary writes, or they would take what was given up for others.
//!
//! While writes find no room, the thread looks again twice a second, so the log recovers by itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::{Disk, Reserve};
use crate::error::StorageError;

/// What remains when everything else has been refused.
const FLOOR_BYTES: u64 = 64 << 10;
/// Space is set aside in steps: the largest that there is room for.
pub(super) const STEPS_BYTES: [u64; 4] = [4 << 20, 1 << 20, 256 << 10, 64 << 10];

/// What a start keeps for its vote when there is not enough for the whole reserve.
const START_BYTES: [u64; 2] = [64 << 10, 16 << 10];

/// What an append is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Anything.
    Write,
    /// Something that makes the state smaller: allowed to use the reserve.
    Free,
}

impl Purpose {
    /// What must be left behind an append, of a reserve of this size.
    pub(super) fn spared_bytes(self, reserve_bytes: u64) -> u64 {
        match self {
            Self::Write => reserve_bytes,
            Self::Free => FLOOR_BYTES.min(reserve_bytes),
        }
    }
}

/// Called with whether there is room.
pub type RoomAnswer = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// The file that is given up when something essential finds no room.
pub(super) struct ReserveFile {
    disk: Disk,
    path: PathBuf,
    bytes: u64,
    there: Arc<AtomicBool>,
}

impl ReserveFile {
    pub(super) fn new(disk: Disk, path: PathBuf, bytes: u64) -> Self {
        Self { disk, path, bytes, there: Arc::default() }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.bytes > 0 && !self.there.load(Ordering::Acquire)
    }

    /// Makes the file if there is room for it. Losing it in a crash loses nothing, so it is not synced.
    ///
    /// # Errors
    /// `ENG-002` when there is none.
    pub(super) fn make(&self) -> Result<(), StorageError> {
        self.make_of(self.bytes)
    }

    /// The same for a start, which takes less if there is less.
    pub(super) fn make_any(&self) {
        let less = START_BYTES.into_iter().filter(|bytes| *bytes < self.bytes);
        let made = std::iter::once(self.bytes).chain(less).any(|bytes| self.make_of(bytes).is_ok());
        if !made {
            tracing::warn!("no room for a reserve: this start may fail");
        }
    }

    fn make_of(&self, bytes: u64) -> Result<(), StorageError> {
        let made = self.disk.create(&self.path).and_then(|file| file.allocate(0, bytes));
        match &made {
            Ok(()) => self.there.store(true, Ordering::Release),
            Err(_) => self.disk.discard(&self.path),
        }
        made
    }

    /// What gives the file up.
    pub(super) fn reserve(&self) -> Reserve {
        let (disk, path, there) = (self.disk.clone(), self.path.clone(), Arc::clone(&self.there));
        Box::new(move || {
            if !there.swap(false, Ordering::AcqRel) {
                return false;
            }
            tracing::warn!("the disk is full: giving up the reserve");
            let removed = disk.remove(&path);
            removed.inspect_err(|error| tracing::warn!(%error, "the reserve stays")).is_ok()
        })
    }

    /// Removes the file: the log is closed.
    pub(super) fn remove(&self) {
        if self.there.swap(false, Ordering::AcqRel) {
            self.disk.discard(&self.path);
        }
    }
}
