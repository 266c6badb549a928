//! When a leader was heard of last.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time of the last sign of a leader.
pub(crate) struct Contact {
    heard: Mutex<Instant>,
    /// None before any leader was heard of.
    first: Mutex<Option<Instant>>,
}

impl Contact {
    /// Counts from now.
    pub(super) fn new() -> Self {
        Self { heard: Mutex::new(Instant::now()), first: Mutex::default() }
    }

    /// A leader whom this node accepts has shown itself.
    pub(super) fn heard(&self) {
        let now = Instant::now();
        *self.heard.lock() = now;
        self.first.lock().get_or_insert(now);
    }

    pub(super) fn last(&self) -> Instant {
        *self.heard.lock()
    }

    /// How long no leader has been heard of; none if there never was one.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.first.lock().is_some().then(|| self.last().elapsed())
    }
}
