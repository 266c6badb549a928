//! The vote: what this node has promised to whom, kept as opaque bytes in `vote.bin`.
//!
//! The file is a small sealed file (`blob`) with magic `VXVOTE\0\0`. A node that forgot its vote could vote twice
//! in one term, so a damaged vote stops the node.

use crate::blob::Kind;
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;

pub(crate) const KIND: Kind = Kind {
    magic: b"VXVOTE\0\0",
    name: "the vote",
    advice: "a node must not forget its vote: restore vote.bin, or remove the node from the cluster and join it afresh",
};

/// The vote stored last; `None` when there never was one.
///
/// # Errors
/// `ENG-006`, `ENG-007`, `ENG-008` or `ENG-009` when the file is damaged or foreign, `ENG-002` for I/O.
pub fn load(dir: &DataDir, keyring: &Keyring) -> Result<Option<Vec<u8>>, StorageError> {
    KIND.load(&dir.vote(), keyring)
}

/// Replaces the vote. Durable on return; after a crash the old or the new one is found.
///
/// # Errors
/// `ENG-002` for I/O: the outcome is unknown then, so the node must not go on voting. `ENG-011` above 1 MiB.
pub fn store(dir: &DataDir, keyring: &Keyring, vote: &[u8]) -> Result<(), StorageError> {
    KIND.store(dir.disk(), &dir.vote(), keyring, vote)
}
