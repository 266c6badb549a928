//! Small sealed files that are always replaced as a whole: the vote, the origin of the log, the manifest.
//!
//! # Format, version 1
//! | Bytes | Field |
//! |---|---|
//! | 8 | magic, one for each kind of file |
//! | 4 | version, 1 |
//! | 16 | id of the storage key |
//! | 32 | salt |
//! | 4 | length of the payload, at most 1 MiB |
//! | length | payload, [sealed](crate::seal) with counter 0; the 64 bytes above are the header that the key is bound to |
//! | 16 | tag |
//! | 4 | CRC-32 of everything before it (of every version) |
//!
//! Integers are little-endian. Such a file is never torn; whatever does not match is damage and refused.

use std::path::Path;

use uuid::Uuid;
use vaylix_proto::Code;

use crate::cursor::{Cursor, Truncated};
use crate::disk::{Disk, read_small};
use crate::error::StorageError;
use crate::keyring::{Keyring, fill_random};
use crate::seal::{FileKey, SALT_BYTES, TAG_BYTES};

const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
const FILE_BYTES_MAX: u64 = (HEADER_BYTES + PAYLOAD_BYTES_MAX + TAG_BYTES + 4) as u64;

/// A kind of small sealed file.
pub(crate) struct Kind {
    pub(crate) magic: &'static [u8; 8],
    /// For messages: "the vote".
    pub(crate) name: &'static str,
    /// What to do when the file is damaged.
    pub(crate) advice: &'static str,
}

impl Kind {
    /// Replaces the file, durably.
    pub(crate) fn store(
        &self,
        disk: &Disk,
        path: &Path,
        keyring: &Keyring,
        payload: &[u8],
    ) -> Result<(), StorageError> {
        let len = u32::try_from(payload.len()).ok().filter(|len| *len as usize <= PAYLOAD_BYTES_MAX);
        let len = len.ok_or_else(|| {
            let message =
                format!("{} of {} bytes, of which {PAYLOAD_BYTES_MAX} are allowed", self.name, payload.len());
            StorageError::new(Code::InvalidStorageOperation, message).in_file(path)
        })?;
        let key = keyring.active();
        let mut salt = [0; SALT_BYTES];
        fill_random(&mut salt)?;
        let mut out = Vec::with_capacity(HEADER_BYTES + payload.len() + TAG_BYTES + 4);
        out.extend_from_slice(self.magic);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(key.id().as_bytes());
        out.extend_from_slice(&salt);
        out.extend_from_slice(&len.to_le_bytes());
        let file_key = FileKey::derive(&key, &salt, self.name.as_bytes(), &out);
        out.extend_from_slice(payload);
        file_key.seal(0, &[], &mut out, HEADER_BYTES);
        let checksum = crc32fast::hash(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        disk.replace(path, &out)
    }

    /// Reads the file; `None` when it does not exist.
    pub(crate) fn load(&self, path: &Path, keyring: &Keyring) -> Result<Option<Vec<u8>>, StorageError> {
        let payload = read_small(path, FILE_BYTES_MAX).and_then(|content| {
            content.map(|mut content| self.decode(&mut content, path, keyring)).transpose()
        });
        payload.map_err(|error| match error.advice() {
            Some(_) => error,
            None => error.in_file(path).advise(self.advice),
        })
    }

    /// The storage key that the file is sealed under and the length of the file; `None` when it does not exist.
    pub(crate) fn key_and_size(&self, path: &Path) -> Result<Option<(Uuid, u64)>, StorageError> {
        let Some(content) = read_small(path, FILE_BYTES_MAX)? else { return Ok(None) };
        let mut cursor = Cursor::new(content.get(self.magic.len() + 4..).unwrap_or_default());
        let key_id = cursor.array().map_err(|_| {
            let message = format!("{} ends early", self.name);
            StorageError::new(Code::ManifestDeserializationFailure, message).in_file(path).advise(self.advice)
        })?;
        Ok(Some((Uuid::from_bytes(key_id), content.len() as u64)))
    }

    fn decode(&self, content: &mut [u8], path: &Path, keyring: &Keyring) -> Result<Vec<u8>, StorageError> {
        let name = self.name;
        let total = content.len() as u64;
        let truncated = |_: Truncated| {
            StorageError::new(Code::ManifestDeserializationFailure, format!("{name} ends early")).at(total)
        };
        if !content.starts_with(self.magic) {
            return Err(StorageError::new(Code::UnsupportedStorageFormat, format!("not {name}")).at(0));
        }
        let (body, checksum) = content.split_last_chunk_mut::<4>().ok_or(Truncated).map_err(truncated)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            let message = format!("checksum validation failed for {name}");
            return Err(StorageError::new(Code::ChecksumValidationFailure, message).at(total - 4));
        }
        let (header, sealed) = body.split_at_mut_checked(HEADER_BYTES).ok_or(Truncated).map_err(truncated)?;
        let mut cursor = Cursor::new(&header[self.magic.len()..]);
        let version = cursor.u32().map_err(truncated)?;
        if version != VERSION {
            let message = format!("{name} has version {version}, of which {VERSION} is known");
            return Err(StorageError::newer_format(message).in_file(path).at(8));
        }
        let key_id = Uuid::from_bytes(cursor.array().map_err(truncated)?);
        let salt = cursor.array().map_err(truncated)?;
        let len = cursor.u32().map_err(truncated)? as usize;
        if sealed.len() != len + TAG_BYTES {
            let message = format!("{name} does not have the length it names");
            return Err(StorageError::new(Code::ManifestDeserializationFailure, message).at(60));
        }
        let key = keyring.key_of(key_id, path)?;
        let opened =
            FileKey::derive(&key, &salt, name.as_bytes(), header).open(0, &[], sealed).map_err(|_| {
                let message = format!("{name} is not what was sealed under its storage key");
                StorageError::new(Code::EncryptedStorageFailure, message).at(HEADER_BYTES as u64)
            })?;
        Ok(opened.to_vec())
    }
}
