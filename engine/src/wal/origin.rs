//! Where the log begins: the last record that was purged, if any, in `wal/origin.bin`.
//!
//! The file is a [small sealed file](crate::blob) with magic `VXWALORG`. Its payload is empty while nothing has been
//! purged, else term, leader and index (8 bytes each, little-endian) of the last purged record. It is made before the
//! first segment, so segments without it mean that something has been lost.

use vaylix_proto::Code;

use super::record::RecordId;
use crate::blob::Kind;
use crate::cursor::Cursor;
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;

pub(crate) const KIND: Kind = Kind {
    magic: b"VXWALORG",
    name: "the origin of the log",
    advice: "restore the directory from a backup, or rebuild this node from another one",
};

/// The last purged record; the outer `None` when the log was never made.
pub(super) fn load(dir: &DataDir, keyring: &Keyring) -> Result<Option<Option<RecordId>>, StorageError> {
    let Some(payload) = KIND.load(&dir.wal_origin(), keyring)? else { return Ok(None) };
    if payload.is_empty() {
        return Ok(Some(None));
    }
    let mut cursor = Cursor::new(&payload);
    match RecordId::decode(&mut cursor) {
        Ok(id) if cursor.rest().is_empty() => Ok(Some(Some(id))),
        _ => Err(StorageError::new(
            Code::WalDeserializationFailure,
            "the origin of the log is not a record's name",
        )
        .in_file(&dir.wal_origin())
        .advise(KIND.advice)),
    }
}

/// Replaces the origin, durably.
pub(super) fn store(dir: &DataDir, keyring: &Keyring, purged: Option<RecordId>) -> Result<(), StorageError> {
    let payload = purged.map(RecordId::encode);
    KIND.store(dir.disk(), &dir.wal_origin(), keyring, payload.as_ref().map_or(&[][..], |id| id))
}
