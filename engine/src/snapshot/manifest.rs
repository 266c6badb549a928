//! The manifest: which snapshot is the last one, in `manifest.bin`.
//!
//! The file is a [small sealed file](crate::blob) with magic `VXMANIFE`. Its payload: number (8), last record (28, as in
//! the [snapshot](super::stream)), time (8), size of the snapshot file (8), salt of the snapshot (32); integers are
//! little-endian.
//!
//! It is replaced after the snapshot. So a crash may leave it older than the snapshot by number, or missing beside the
//! first one: both are fine. A manifest that is newer than the snapshot, or that describes another one of
//! the same number, means that a file was exchanged or lost: refused.

use vaylix_proto::Code;

use super::stream::{Header, decode_last, encode_last};
use crate::blob::Kind;
use crate::cursor::{Cursor, Truncated};
use crate::error::StorageError;
use crate::keyring::Keyring;
use crate::layout::DataDir;
use crate::seal::SALT_BYTES;
use crate::wal::RecordId;

pub(crate) const KIND: Kind = Kind {
    magic: b"VXMANIFE",
    name: "the manifest",
    advice: "restore snapshot.bin and manifest.bin together from a backup, or rebuild this node from another one",
};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) number: u64,
    last: Option<RecordId>,
    time_ms: u64,
    size_bytes: u64,
    salt: [u8; SALT_BYTES],
}

impl Manifest {
    pub(super) fn of(header: &Header, size_bytes: u64) -> Self {
        let Header { number, last, time_ms, salt, .. } = *header;
        Self { number, last, time_ms, size_bytes, salt }
    }

    pub(super) fn load(dir: &DataDir, keyring: &Keyring) -> Result<Option<Self>, StorageError> {
        let Some(payload) = KIND.load(&dir.manifest(), keyring)? else { return Ok(None) };
        let fields = |mut cursor: Cursor<'_>| -> Result<Self, Truncated> {
            let manifest = Self {
                number: cursor.u64()?,
                last: decode_last(&mut cursor)?,
                time_ms: cursor.u64()?,
                size_bytes: cursor.u64()?,
                salt: cursor.array()?,
            };
            if cursor.rest().is_empty() { Ok(manifest) } else { Err(Truncated) }
        };
        fields(Cursor::new(&payload)).map(Some).map_err(|_| {
            StorageError::new(Code::ManifestDeserializationFailure, "the manifest makes no sense")
                .in_file(&dir.manifest())
                .advise(KIND.advice)
        })
    }

    pub(super) fn store(&self, dir: &DataDir, keyring: &Keyring) -> Result<(), StorageError> {
        let mut payload = Vec::new();
        payload.extend_from_slice(&self.number.to_le_bytes());
        payload.extend_from_slice(&encode_last(self.last));
        payload.extend_from_slice(&self.time_ms.to_le_bytes());
        payload.extend_from_slice(&self.size_bytes.to_le_bytes());
        payload.extend_from_slice(&self.salt);
        KIND.store(dir.disk(), &dir.manifest(), keyring, &payload)
    }
}
