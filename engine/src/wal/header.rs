//! The first sector of a segment.
//!
//! | Bytes | Field |
//! |---|---|
//! | 8 | magic `VXWALSEG` |
//! | 4 | version, 1 |
//! | 4 | flags: 1 = supersedes, 2 = has a previous record, 4 = says its length |
//! | 8 | number: counts the segments ever made in this log; the order of the log |
//! | 8 | start: index of the first record |
//! | 24 | previous: term, leader and index of the record before the first one; zero when there is none |
//! | 16 | id of the storage key |
//! | 32 | salt |
//! | 8 | length of the file in bytes when it got its name, zeros included; zero when it does not say |
//! | 392 | zero |
//! | 4 | CRC-32 of the 504 bytes above (of every version) |
//! | 4 | end mark `B5 45 4E 44` |
//!
//! Integers are little-endian. The header is durable before the segment gets its name, so it is never torn: whatever
//! does not match is damage. A segment that *supersedes* takes the place of every record from its start on that
//! stands in segments of a lower number; this is how the log is truncated in one atomic step. A segment that is being written
//! only ever grows: one that is shorter than it was at first has been cut, and records with it. Segments of earlier releases do
//! not say how long they were, nor do those that were begun without room to spare.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use uuid::Uuid;
use vaylix_proto::Code;

use super::record::{ID_BYTES, RecordId};
use super::sector::SECTOR_BYTES;
use crate::cursor::{Cursor, Truncated};
use crate::error::StorageError;
use crate::keyring::{Keyring, fill_random};
use crate::seal::{FileKey, SALT_BYTES};

const MAGIC: &[u8; 8] = b"VXWALSEG";
const VERSION: u32 = 1;
const SUPERSEDES: u32 = 1;
const HAS_PREVIOUS: u32 = 2;
const HAS_LENGTH: u32 = 4;
const FIELD_BYTES: usize = 112;
const CHECKED_BYTES: usize = SECTOR_BYTES - 8;
const END: [u8; 4] = [0xB5, b'E', b'N', b'D'];
const PURPOSE: &[u8] = b"vaylix log segment";

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) start: u64,
    pub(super) previous: Option<RecordId>,
    pub(super) supersedes: bool,
    pub(super) key_id: Uuid,
    salt: [u8; SALT_BYTES],
    /// What the file's length is at least as long as it is being written.
    pub(super) length: Option<u64>,
}

/// The key and the checksum seed of one segment.
pub(super) struct SegmentKey {
    pub(super) file_key: FileKey,
    pub(super) seed: u32,
}

impl Header {
    /// A header for a new segment, with fresh salt under the active storage key.
    pub(super) fn new(
        number: u64,
        start: u64,
        previous: Option<RecordId>,
        supersedes: bool,
        keyring: &Keyring,
    ) -> Result<Self, StorageError> {
        let mut salt = [0; SALT_BYTES];
        fill_random(&mut salt)?;
        Ok(Self { number, start, previous, supersedes, key_id: keyring.active().id(), salt, length: None })
    }

    pub(super) fn encode(&self) -> [u8; SECTOR_BYTES] {
        let mut out = [0; SECTOR_BYTES];
        let fields = self.fields();
        out[..fields.len()].copy_from_slice(&fields);
        let checksum = crc32fast::hash(&out[..CHECKED_BYTES]);
        out[CHECKED_BYTES..CHECKED_BYTES + 4].copy_from_slice(&checksum.to_le_bytes());
        out[CHECKED_BYTES + 4..].copy_from_slice(&END);
        out
    }

    fn fields(&self) -> Vec<u8> {
        let flags = if self.supersedes { SUPERSEDES } else { 0 }
            | if self.previous.is_some() { HAS_PREVIOUS } else { 0 }
            | if self.length.is_some() { HAS_LENGTH } else { 0 };
        let mut out = Vec::with_capacity(FIELD_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(&self.previous.map_or([0; ID_BYTES], RecordId::encode));
        out.extend_from_slice(self.key_id.as_bytes());
        out.extend_from_slice(&self.salt);
        // The key is bound to the fields, so those of a segment that does not say it stay as they were.
        out.extend(self.length.into_iter().flat_map(u64::to_le_bytes));
        out
    }

    /// Reads the header that a file begins with.
    pub(super) fn read(file: &mut File, path: &Path) -> Result<Self, StorageError> {
        let mut bytes = Vec::with_capacity(SECTOR_BYTES);
        file.take(SECTOR_BYTES as u64)
            .read_to_end(&mut bytes)
            .map_err(|source| StorageError::io("read the segment", path, source))?;
        Self::decode(&bytes, path)
    }

    pub(super) fn decode(bytes: &[u8], file: &Path) -> Result<Self, StorageError> {
        Self::decode_fields(bytes).map_err(|error| {
            error.in_file(file).or_advise("the header of a segment is never torn: restore the file from a backup, or rebuild this node from another one")
        })
    }

    fn decode_fields(bytes: &[u8]) -> Result<Self, StorageError> {
        let truncated = |_: Truncated| {
            StorageError::new(Code::WalDeserializationFailure, "truncated segment header")
                .at(bytes.len() as u64)
        };
        let Some(sector) = bytes.first_chunk::<SECTOR_BYTES>() else { return Err(truncated(Truncated)) };
        if !sector.starts_with(MAGIC) {
            return Err(StorageError::new(Code::UnsupportedStorageFormat, "not a segment of the log").at(0));
        }
        let (checked, tail) = sector.split_at(CHECKED_BYTES);
        if tail[4..] != END || tail[..4] != crc32fast::hash(checked).to_le_bytes() {
            let message = "checksum validation failed for the segment header";
            return Err(StorageError::new(Code::ChecksumValidationFailure, message).at(0));
        }
        let mut cursor = Cursor::new(&checked[MAGIC.len()..]);
        let version = cursor.u32().map_err(truncated)?;
        let flags = cursor.u32().map_err(truncated)?;
        if version != VERSION || flags & !(SUPERSEDES | HAS_PREVIOUS | HAS_LENGTH) != 0 {
            let message = format!(
                "segment of version {version} with flags {flags}, of which version {VERSION} is known"
            );
            return Err(StorageError::newer_format(message).at(8));
        }
        let number = cursor.u64().map_err(truncated)?;
        let start = cursor.u64().map_err(truncated)?;
        let previous = RecordId::decode(&mut cursor).map_err(truncated)?;
        let key_id = Uuid::from_bytes(cursor.array().map_err(truncated)?);
        let salt = cursor.array().map_err(truncated)?;
        let length = cursor.u64().map_err(truncated)?;
        let length = (flags & HAS_LENGTH != 0).then_some(length);
        let previous = (flags & HAS_PREVIOUS != 0).then_some(previous);
        if number == u64::MAX {
            let message = "the segment has the last number there is";
            return Err(StorageError::new(Code::WalDeserializationFailure, message).at(16));
        }
        if previous.is_some_and(|previous| previous.index.checked_add(1) != Some(start)) {
            let message = "the segment does not start behind the record it names as the previous one";
            return Err(StorageError::new(Code::WalDeserializationFailure, message).at(32));
        }
        Ok(Self { number, start, previous, supersedes: flags & SUPERSEDES != 0, key_id, salt, length })
    }

    /// The key of this segment, bound to everything the header says.
    pub(super) fn key(&self, keyring: &Keyring, file: &Path) -> Result<SegmentKey, StorageError> {
        let key = keyring.key_of(self.key_id, file)?;
        Ok(SegmentKey {
            file_key: FileKey::derive(&key, &self.salt, PURPOSE, &self.fields()),
            seed: crc32fast::hash(&self.salt),
        })
    }
}
