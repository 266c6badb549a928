//! The spare segment: a file filled with zeros ahead of need, by a thread of its own.
//!
//! Zeros that were really written let later syncs of the same bytes leave the metadata alone. They are written in
//! pieces, each with its own sync and a pause behind it, so that the syncs of the log never have to carry
//! much of them along.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;

const PIECE_BYTES: usize = 512 << 10;
const PAUSE: Duration = Duration::from_millis(4);

/// Prepares one file at a time.
pub(super) struct Spare {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wanted: bool,
    stopped: bool,
    ready: Option<DiskFile>,
}

impl Spare {
    /// Starts the thread, which waits until a spare is wanted.
    pub(super) fn start(disk: Disk, path: PathBuf, len: u64) -> Result<Self, StorageError> {
        let shared = Arc::new(Shared::default());
        let worker = Worker { shared: Arc::clone(&shared), disk, path: path.clone(), len };
        let thread = std::thread::Builder::new()
            .name("vaylix-wal-spare".into())
            .spawn(move || worker.run())
            .map_err(|source| StorageError::io("start the thread for the spare segment", &path, source))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Asks for a spare, unless there is one.
    pub(super) fn want(&self) {
        let mut state = self.shared.state.lock();
        if state.ready.is_none() {
            state.wanted = true;
            self.shared.changed.notify_one();
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.shared.state.lock().ready.is_some()
    }

    pub(super) fn take(&self) -> Option<DiskFile> {
        self.shared.state.lock().ready.take()
    }
}

impl Drop for Spare {
    /// Stops the thread and removes an unused spare.
    fn drop(&mut self) {
        self.shared.state.lock().stopped = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for the spare segment panicked");
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    disk: Disk,
    path: PathBuf,
    len: u64,
}

impl Worker {
    fn run(self) {
        loop {
            {
                let mut state = self.shared.state.lock();
                while !state.wanted && !state.stopped {
                    self.shared.changed.wait(&mut state);
                }
                if state.stopped {
                    break;
                }
            }
            let made = zeroed(&self.disk, &self.path, self.len, || self.pause());
            let mut state = self.shared.state.lock();
            state.wanted = false;
            match made {
                Ok(made) => state.ready = made,
                Err(error) => {
                    tracing::warn!(%error, "no spare segment could be prepared: the log goes on with slower syncs");
                    // On a full disk the log itself needs the room.
                    if let Err(error) = self.disk.remove(&self.path) {
                        tracing::warn!(%error, "the beginning of the spare segment stays until the next one");
                    }
                }
            }
        }
        if let Err(error) = self.disk.remove(&self.path) {
            tracing::warn!(%error, "the unused spare segment stays until the next start");
        }
    }

    /// Waits a little; `false` when the work is to stop.
    fn pause(&self) -> bool {
        let mut state = self.shared.state.lock();
        if !state.stopped {
            self.shared.changed.wait_for(&mut state, PAUSE);
        }
        !state.stopped
    }
}

/// Creates a file of `len` written and synced zeros; `None` when `go_on` said no in between.
pub(super) fn zeroed(
    disk: &Disk,
    path: &Path,
    len: u64,
    mut go_on: impl FnMut() -> bool,
) -> Result<Option<DiskFile>, StorageError> {
    let file = disk.create(path)?;
    let zeros = vec![0; PIECE_BYTES];
    let mut offset = 0;
    while offset < len {
        let piece = usize::try_from(len - offset).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        file.write_at(&zeros[..piece], offset)?;
        file.sync()?;
        offset += piece as u64;
        if !go_on() {
            return Ok(None);
        }
    }
    Ok(Some(file))
}
