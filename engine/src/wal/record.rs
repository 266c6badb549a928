//! What the log holds.

use bytes::Bytes;

use crate::cursor::{Cursor, Truncated};

/// Names a record: its place in the log and the leader that put it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The term of the leader.
    pub term: u64,
    /// The node that led that term.
    pub leader: u64,
    /// The place in the log, without gaps.
    pub index: u64,
}

/// One entry of the log. The log does not look into the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub id: RecordId,
    /// When the leader made it, in ms since 1970.
    pub time_ms: u64,
    /// Its content, at most [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX) bytes.
    pub body: Bytes,
}

/// Bytes of a [`RecordId`] on disk: term, leader, index.
pub(crate) const ID_BYTES: usize = 24;

impl RecordId {
    pub(crate) fn encode(self) -> [u8; ID_BYTES] {
        let mut out = [0; ID_BYTES];
        out[..8].copy_from_slice(&self.term.to_le_bytes());
        out[8..16].copy_from_slice(&self.leader.to_le_bytes());
        out[16..].copy_from_slice(&self.index.to_le_bytes());
        out
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Truncated> {
        Ok(Self { term: cursor.u64()?, leader: cursor.u64()?, index: cursor.u64()? })
    }
}

impl Record {
    /// What the record costs in memory.
    pub(super) fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.body.len()
    }
}
