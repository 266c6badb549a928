//! How a log is kept.

use std::sync::Arc;

use crate::error::StorageError;

/// When an append counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// After `fdatasync`: survives the loss of power. The only safe policy.
    #[default]
    Sync,
    /// After the write to the operating system, synced in the background within a second: survives the death of the
    /// process; the loss of power takes up to a second of acknowledged writes. Unsafe.
    Flush,
    /// After the write to the operating system, synced only when a segment ends: survives the death of the process.
    /// Unsafe.
    Buffered,
}

impl SyncPolicy {
    /// The name in options, logs and INFO.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Flush => "flush",
            Self::Buffered => "buffered",
        }
    }
}

/// What is called when a sync has failed, or anything else after which nobody knows what is on the disk: the log stops.
pub type OnFatal = Arc<dyn Fn(&StorageError) + Send + Sync>;

/// How a log is kept.
#[derive(Clone)]
pub struct Config {
    /// When an append counts as done.
    pub sync: SyncPolicy,
    /// Size at which a segment ends; 0 = only at restarts and truncations. A frame larger than this gets a segment of
    /// its own.
    pub segment_size_bytes: u64,
    /// How much of the first segment after a start is filled with zeros before use.
    pub initial_size_bytes: u64,
    /// Whether segments are filled with zeros ahead of use: an `fdatasync` that changes no metadata is about twice as
    /// fast.
    pub prezero: bool,
    /// Room in the log that is kept for what frees space, and half of what is kept beside it for everything essential;
    /// 0 = nothing is set aside, and callers need not ask. See [`Purpose`](super::Purpose).
    pub reserve_bytes: u64,
    /// Bytes of the newest records kept in memory for readers.
    pub tail_bytes_max: usize,
    /// Called on the log's thread when a sync has failed. The default aborts the process; a test may return,
    /// and finds the log refusing everything from then on.
    pub on_fatal: OnFatal,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sync: SyncPolicy::Sync,
            segment_size_bytes: 64 << 20,
            initial_size_bytes: 4 << 20,
            prezero: true,
            reserve_bytes: 1 << 20,
            tail_bytes_max: 16 << 20,
            on_fatal: Arc::new(|_| std::process::abort()),
        }
    }
}
