//! Figures about the log.

use crate::durations::Durations;
use crate::sizes::Sizes;

/// Figures about the log since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segments on disk, the active one included.
    pub segment_count: usize,
    /// Bytes that their frames and headers take; the zeros ahead are not counted.
    pub size_bytes: u64,
    /// The oldest record that can be read.
    pub oldest_index: Option<u64>,
    /// Calls of `append` that completed.
    pub append_batches: u64,
    /// Records they brought.
    pub appended_records: u64,
    /// Frames written, hence writes.
    pub frames: u64,
    /// How many records they hold.
    pub frame_records: Sizes,
    /// Syncs of segments, by how long they took.
    pub syncs: Durations,
    /// Records found when the log was opened.
    pub replayed_records: u64,
    /// Bytes set aside behind the last frame.
    pub room_bytes: u64,
    /// Whether writes find no room, for the disk is full.
    pub is_short: bool,
    /// Whether something that was handed over cannot be written for now, for the disk refuses.
    pub is_stuck: bool,
    /// Writes that the disk refused; each was done again in a new segment.
    pub refused_writes: u64,
    /// Torn tails cut off when the log was opened: 0 or 1.
    pub torn_tails: u64,
}
