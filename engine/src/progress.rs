//! How far long work on the files is, told about once a second.
//!
//! Told through `tracing`, with the target [`TARGET`]: a server puts it in its log, an offline tool on standard error.
//! Work that is over within a second says nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The `tracing` target of every line about progress.
pub const TARGET: &str = "vaylix_engine::progress";

const EVERY: Duration = Duration::from_secs(1);

/// A piece of long work, and how much of it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is being done.
    pub what: &'static str,
    /// What is counted: `bytes` or `entries`; empty where nothing is.
    pub unit: &'static str,
    /// How many are done.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// Where the work stands, for whoever asks meanwhile. Clones are the same board.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Option<Step>>>);

impl Board {
    /// What is being done now; `None` before anything is.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        *self.0.lock()
    }

    /// Something begins of which nobody knows how long it takes.
    pub fn begin(&self, what: &'static str) {
        *self.0.lock() = Some(Step { what, unit: "", done: 0, total: 0 });
    }
}

/// One piece of long work.
pub struct Progress {
    what: &'static str,
    unit: &'static str,
    done: u64,
    total: u64,
    said: Instant,
    board: Option<Board>,
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
        Self { what, unit, done: 0, total, said: Instant::now(), board: None }
    }

    /// Shows it there too, from now on.
    #[must_use]
    pub fn on(mut self, board: &Board) -> Self {
        self.board = Some(board.clone());
        self.show();
        self
    }

    fn show(&self) {
        if let Some(board) = &self.board {
            let Self { what, unit, done, total, .. } = *self;
            *board.0.lock() = Some(Step { what, unit, done, total });
        }
    }

    /// So much more is done.
    pub fn advance(&mut self, by: u64) {
        self.reach(self.done + by);
    }

    /// So much is done altogether.
    pub fn reach(&mut self, done: u64) {
        self.done = done;
        self.show();
        if self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            tracing::info!(target: TARGET, "{}: {done} of {} {}", self.what, self.total, self.unit);
        }
    }
}
