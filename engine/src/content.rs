//! What the owner of the files makes of bytes that the engine keeps for it and does not look into.

use crate::error::StorageError;
use crate::op::Batch;
use crate::snapshot::Head;
use crate::wal::Record;

/// Reads what the owner wrote. An implementation names no file in its errors; its callers do.
pub trait Content {
    /// The operations in a record of the log; `None` for a record without any.
    ///
    /// # Errors
    /// `ENG-014` for a record that makes no sense.
    fn batch<'r>(&self, record: &'r Record) -> Result<Option<Batch<'r>>, StorageError>;

    /// Checks what a snapshot says of its place in the log.
    ///
    /// # Errors
    /// `ENG-004` when it makes no sense.
    fn check_head(&self, head: &Head) -> Result<(), StorageError>;

    /// Checks the content of the vote.
    ///
    /// # Errors
    /// `ENG-009` when it makes no sense.
    fn check_vote(&self, vote: &[u8]) -> Result<(), StorageError>;
}
