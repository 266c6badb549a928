//! The spare segment: a file filled with zeros ahead of need, by a thread of its own.
//!
//! Zeros that were really written let later syncs of the same bytes leave the metadata alone. They are written in
//! pieces, each with its own sync and a pause behind it, so that the syncs of the log never have to carry
//! much of them along.
//!
//! A spare is a convenience. Where there is no room for one there is none, and one that is ready is given up as soon as
//! something essential finds no room ([`Spare::reserve`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::disk::{Disk, DiskFile, Reserve};
use crate::error::StorageError;

const PIECE_BYTES: usize = 512 << 10;
const PAUSE: Duration = Duration::from_millis(4);
/// How long a spare that found no room is not tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

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
    /// Not before then.
    after: Option<Instant>,
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

    /// Asks for a spare, unless there is one or there was no room for one lately.
    pub(super) fn want(&self) {
        let mut state = self.shared.state.lock();
        if state.ready.is_none() && !state.wanted && state.after.is_none_or(|after| after <= Instant::now()) {
            state.wanted = true;
            self.shared.changed.notify_one();
        }
    }

    /// What gives the spare up when its room is needed.
    pub(super) fn reserve(&self, disk: Disk) -> Reserve {
        let shared = Arc::clone(&self.shared);
        Box::new(move || {
            let mut state = shared.state.lock();
            let Some(spare) = state.ready.take() else { return false };
            state.after = Some(Instant::now() + RETRY_AFTER);
            drop(state);
            tracing::warn!("the disk is full: giving up the spare segment");
            let removed = disk.remove(spare.path());
            removed.inspect_err(|error| tracing::warn!(%error, "the spare segment stays")).is_ok()
        })
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
            if let Err(error) = &made {
                tracing::warn!(%error, "no spare segment could be prepared: the log goes on with slower syncs");
                // On a full disk the log itself needs the room.
                self.disk.discard(&self.path);
            }
            let mut state = self.shared.state.lock();
            state.wanted = false;
            state.after = made.is_err().then(|| Instant::now() + RETRY_AFTER);
            state.ready = made.ok().flatten();
        }
        self.disk.discard(&self.path);
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
    if len > 0 {
        // So that nothing is written where it does not fit anyway.
        file.allocate_if_cheap(0, len)?;
    }
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
