//! How far long work on the files is, told about once a second.
//!
//! Told through `tracing`, with the target [`TARGET`]: a server puts it in its log, an offline tool on standard error.
//! Work that is over within a second says nothing.

use std::time::{Duration, Instant};

/// The `tracing` target of every line about progress.
pub const TARGET: &str = "vaylix_engine::progress";

const EVERY: Duration = Duration::from_secs(1);

/// One piece of long work.
pub struct Progress {
    what: &'static str,
    unit: &'static str,
    done: u64,
    total: u64,
    said: Instant,
}

impl Progress {
    /// Work on so many bytes.
    #[must_use]
    pub fn bytes(what: &'static str, total: u64) -> Self {
        Self::new(what, "bytes", total)
    }

    /// Work on so many log entries.
    #[must_use]
    pub fn entries(what: &'static str, total: u64) -> Self {
        Self::new(what, "entries", total)
    }

    fn new(what: &'static str, unit: &'static str, total: u64) -> Self {
        Self { what, unit, done: 0, total, said: Instant::now() }
    }

    /// So much more is done.
    pub fn advance(&mut self, by: u64) {
        self.reach(self.done + by);
    }

    /// So much is done altogether.
    pub fn reach(&mut self, done: u64) {
        self.done = done;
        if self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            tracing::info!(target: TARGET, "{}: {done} of {} {}", self.what, self.total, self.unit);
        }
    }
}
