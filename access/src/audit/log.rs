//! The handle to the audit log that the door holds: places for events, and what becomes of them.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::OpenError;
use super::event::{Event, millis};
use super::noise::{Brake, Noise};
use super::verify::{self, Chain, VerifyError};
use super::writer::{self, Writer};
use crate::limits::AUDIT_QUEUE_EVENTS;

/// How the audit log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file that is written; closed ones stand beside it.
    pub path: PathBuf,
    /// Whether every command is written down, not only those that matter for security.
    pub commands: bool,
    /// From when on a command counts as slow, when that is watched.
    pub slow_command_threshold: Option<Duration>,
    /// How long after it was written an event may be lost to a power failure.
    pub sync_interval: Duration,
    /// Bytes at which a file is closed and the next one begun.
    pub file_bytes_max: u64,
    /// Closed files that are kept.
    pub closed_files_max: usize,
    /// What was verified ahead.
    pub(super) verified: Option<Arc<Chain>>,
}

impl Settings {
    /// The defaults, for the log at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            commands: false,
            slow_command_threshold: Some(Duration::from_millis(100)),
            sync_interval: Duration::from_millis(100),
            file_bytes_max: 32 * 1024 * 1024,
            closed_files_max: 16,
            verified: None,
        }
    }

    /// Verifies what there is of the log and changes nothing. Whoever opens the log with the result need not read it again,
    /// unless somebody wrote to it meanwhile. A log without any file is an empty one. Reads the whole log: call it where
    /// waiting is allowed.
    ///
    /// Also finds out whether the log could be written, as far as that leaves it as it is.
    ///
    /// # Errors
    /// [`VerifyError::Broken`] or [`VerifyError::Io`].
    pub fn verified(mut self) -> Result<Self, VerifyError> {
        writer::check(&self.path).map_err(|source| VerifyError::Io { path: self.path.clone(), source })?;
        self.verified = Some(Arc::new(verify::read(&self.path)?));
        Ok(self)
    }
}

/// What goes to the thread that writes.
pub(super) enum Message {
    /// An event, and the place it takes until it is written.
    Event(Event, OwnedSemaphorePermit),
    /// Write everything and end.
    Close,
}

/// What the handle and the thread share.
pub(super) struct State {
    /// Whether the last attempt to write or sync failed.
    pub(super) is_failing: AtomicBool,
    /// Failed attempts since the start.
    pub(super) failures: AtomicU64,
    /// The last event that was written.
    pub(super) sequence: AtomicU64,
    /// Whether the thread is to end even if it cannot write.
    pub(super) is_closing: AtomicBool,
    pub(super) brake: Brake,
}

/// Room in the queue for events to come.
#[derive(Debug)]
pub(crate) struct Places(OwnedSemaphorePermit);

impl Places {
    fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        self.0.split(1)
    }
}

/// The audit log. Cloning gives another handle.
#[derive(Clone)]
pub(crate) struct Log(Arc<Shared>);

struct Shared {
    settings: Settings,
    queue: SyncSender<Message>,
    places: Arc<Semaphore>,
    state: Arc<State>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Verifies what there is, repairs a torn end, and starts the thread that writes. Reads the whole log: call it
    /// where waiting is allowed.
    ///
    /// # Errors
    /// A log that does not verify, or cannot be written; then nothing was changed.
    pub(crate) fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::open_with(settings, |_| {})
    }

    /// As [`open`](Self::open), after something was done to the writer.
    pub(crate) fn open_with(
        settings: Settings,
        prepare: impl FnOnce(&mut Writer),
    ) -> Result<Self, OpenError> {
        let state = Arc::new(State {
            is_failing: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            brake: Brake::new(Instant::now()),
        });
        // Every event has a place, so there is room for all of them, and for the end.
        let (queue, receiver) = sync_channel(AUDIT_QUEUE_EVENTS + 1);
        let mut writer = Writer::open(settings.clone(), Arc::clone(&state), receiver)?;
        prepare(&mut writer);
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io { path: settings.path.clone(), source })?;
        Ok(Self(Arc::new(Shared {
            settings,
            queue,
            places: Arc::new(Semaphore::new(AUDIT_QUEUE_EVENTS)),
            state,
            thread: Mutex::new(Some(thread)),
        })))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Room for this many events, if there is.
    pub(crate) fn try_places(&self, count: u32) -> Option<Places> {
        Arc::clone(&self.0.places).try_acquire_many_owned(count).ok().map(Places)
    }

    /// Waits for room for this many events. Those who wait get it in the order in which they came.
    pub(crate) fn places(&self, count: u32) -> impl Future<Output = Option<Places>> + Send + use<> {
        let places = Arc::clone(&self.0.places);
        async move { places.acquire_many_owned(count).await.ok().map(Places) }
    }

    /// Writes an event that has a place, or needs none because there is room.
    pub(crate) fn write(&self, event: Event, places: Option<&mut Places>, kind: Noise) {
        let place = places.and_then(Places::take).or_else(|| self.try_places(1)?.take());
        match place {
            Some(place) => self.send(Message::Event(event, place)),
            None => self.suppress(kind),
        }
    }

    /// Whether one more event of those that cost nothing to cause may be written now.
    pub(crate) fn allows_noise(&self) -> bool {
        self.0.state.brake.allows(Instant::now())
    }

    /// Counts an event that is not written.
    pub(crate) fn suppress(&self, kind: Noise) {
        self.0.state.brake.suppress(kind);
    }

    /// Whether what was written last could not be, and is being tried again.
    pub(crate) fn is_failing(&self) -> bool {
        self.0.state.is_failing.load(Ordering::Relaxed)
    }

    /// Failed attempts to write or sync since the start.
    pub(crate) fn failures(&self) -> u64 {
        self.0.state.failures.load(Ordering::Relaxed)
    }

    /// Events that were counted instead of written since the start.
    pub(crate) fn suppressed(&self) -> u64 {
        self.0.state.brake.total()
    }

    /// The sequence number of the last event that was written.
    pub(crate) fn sequence(&self) -> u64 {
        self.0.state.sequence.load(Ordering::Relaxed)
    }

    /// Writes and syncs everything and ends the thread. Blocks until it has ended. What comes later is lost: nobody
    /// may be served any more.
    pub(crate) fn close(&self) {
        let Some(thread) = self.0.thread.lock().take() else { return };
        self.0.state.is_closing.store(true, Ordering::Relaxed);
        if self.0.queue.send(Message::Close).is_err() || thread.join().is_err() {
            tracing::error!(target: "server.audit", "the thread of the audit log had ended");
        }
    }

    fn send(&self, message: Message) {
        match self.0.queue.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                tracing::error!(target: "server.audit", "an event came after the audit log was closed");
            }
        }
    }
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
