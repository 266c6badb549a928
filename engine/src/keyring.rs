//! The storage keys: everything sealed in a data directory is sealed under one of them.
//!
//! # `keyring.bin`, version 1
//! | Bytes | Field |
//! |---|---|
//! | 8 | magic `VXKEYRNG` |
//! | 4 | version, 1 |
//! | 16 | how the secrets below are protected: `unwrapped` in ASCII, zero-padded. No other value exists yet; the field is where a wrapping by a key-encryption key will be named |
//! | 4 | number of keys, 1 to 4096 |
//! | 56 each | key: id (UUIDv7, 16), creation time (ms since 1970, 8), secret (32); the active key first, then the previous ones, newest first |
//! | 4 | CRC-32 of everything before it |
//!
//! Integers are little-endian. The file is always replaced as a whole, so it is never torn: whatever does not match is
//! damage, and the storage refuses to open. An unwrapped keyring protects against the loss of the *other*
//! files only: who has both has the data. Who loses it has lost the data, hence a missing keyring beside sealed files
//! is an error and never a reason to make a new one.

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use uuid::Uuid;
use vaylix_proto::Code;
use zeroize::Zeroizing;

use crate::cursor::{Cursor, Truncated};
use crate::disk::read_small;
use crate::error::StorageError;
use crate::layout::DataDir;

const MAGIC: &[u8; 8] = b"VXKEYRNG";
const VERSION: u32 = 1;
const UNWRAPPED: &[u8; 16] = b"unwrapped\0\0\0\0\0\0\0";
const HEAD_BYTES: usize = 32;
const KEY_BYTES: usize = 56;
/// One key a month lasts for three centuries.
const KEYS_MAX: usize = 4096;
const FILE_BYTES_MAX: u64 = (HEAD_BYTES + KEYS_MAX * KEY_BYTES + 4) as u64;

/// One storage key. Has no `Debug`, and its secret is wiped when dropped.
pub struct StorageKey {
    id: Uuid,
    created_ms: u64,
    secret: Zeroizing<[u8; 32]>,
}

impl StorageKey {
    fn generate(now_ms: u64) -> Result<Self, StorageError> {
        let mut tail = [0; 10];
        let mut secret = Zeroizing::new([0; 32]);
        fill_random(&mut tail)?;
        fill_random(&mut *secret)?;
        let id = uuid::Builder::from_unix_timestamp_millis(now_ms, &tail).into_uuid();
        Ok(Self { id, created_ms: now_ms, secret })
    }

    /// Names the key in everything sealed under it.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// When the key was made, in ms since 1970.
    #[must_use]
    pub fn created_ms(&self) -> u64 {
        self.created_ms
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

/// The active storage key and the previous ones.
pub struct Keyring {
    /// Never empty; the active key first.
    keys: RwLock<Vec<Arc<StorageKey>>>,
}

impl Keyring {
    /// Reads the keyring of the directory, or makes the first one when the directory is fresh. `now_ms` dates a new key.
    ///
    /// # Errors
    /// `ENG-009` for an unknown format or version and for a keyring that is missing while sealed files exist,
    /// `ENG-007` for a damaged one, `ENG-006` for one that makes no sense, `ENG-002` for I/O.
    pub fn open_or_create(dir: &DataDir, now_ms: u64) -> Result<Self, StorageError> {
        let path = dir.keyring();
        let restore = "restore keyring.bin from a backup; without it the data cannot be read";
        let content = read_small(&path, FILE_BYTES_MAX).map_err(|error| match error.advice() {
            Some(_) => error,
            None => error.advise(restore),
        })?;
        if let Some(content) = content {
            let keys =
                decode(&Zeroizing::new(content)).map_err(|error| error.in_file(&path).or_advise(restore))?;
            return Ok(Self { keys: RwLock::new(keys) });
        }
        let sealed = match dir.sealed_file() {
            Some(path) => Some(path),
            None => dir.log_file()?,
        };
        if let Some(sealed) = sealed {
            return Err(StorageError::new(
                Code::UnsupportedStorageFormat,
                format!("the keyring is missing, but {} was sealed under it", sealed.display()),
            )
            .in_file(&path)
            .advise("restore keyring.bin from a backup; to start afresh, move the data directory away"));
        }
        let keyring = Self { keys: RwLock::new(vec![Arc::new(StorageKey::generate(now_ms)?)]) };
        keyring.store(dir, &keyring.keys.read())?;
        tracing::info!(file = %path.display(), "created the keyring: its keys are not wrapped, so keep the file apart from backups of the data");
        Ok(keyring)
    }

    /// A keyring of one given key that is not kept anywhere, to seal what travels between nodes.
    #[must_use]
    pub fn for_transfer(secret: [u8; 32]) -> Self {
        let key = StorageKey { id: Uuid::nil(), created_ms: 0, secret: Zeroizing::new(secret) };
        Self { keys: RwLock::new(vec![Arc::new(key)]) }
    }

    /// The key under which new files are sealed.
    #[must_use]
    pub fn active(&self) -> Arc<StorageKey> {
        Arc::clone(&self.keys.read()[0])
    }

    /// The key of this id.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<Arc<StorageKey>> {
        self.keys.read().iter().find(|key| key.id == id).map(Arc::clone)
    }

    /// Makes a new active key and keeps the old ones for reading. Durable on return; what is sealed from then on uses
    /// the new key, beginning with the next segment and the next snapshot.
    ///
    /// # Errors
    /// `ENG-011` when there are too many keys, `ENG-002` for I/O; the old key stays active then.
    pub fn rotate(&self, dir: &DataDir, now_ms: u64) -> Result<(), StorageError> {
        let mut keys = self.keys.write();
        if keys.len() == KEYS_MAX {
            let message = format!("the keyring already holds {KEYS_MAX} keys");
            return Err(StorageError::new(Code::InvalidStorageOperation, message).in_file(&dir.keyring()));
        }
        let mut next = vec![Arc::new(StorageKey::generate(now_ms)?)];
        next.extend(keys.iter().cloned());
        self.store(dir, &next)?;
        *keys = next;
        Ok(())
    }

    fn store(&self, dir: &DataDir, keys: &[Arc<StorageKey>]) -> Result<(), StorageError> {
        dir.disk().replace(&dir.keyring(), &encode(keys))
    }

    /// The key of this id, or the refusal of `file` that names it.
    pub(crate) fn key_of(&self, id: Uuid, file: &Path) -> Result<Arc<StorageKey>, StorageError> {
        self.get(id).ok_or_else(|| {
            StorageError::new(Code::UnsupportedStorageFormat, format!("sealed under the unknown storage key {id}"))
                .in_file(file)
                .advise("the file belongs to another data directory, or keyring.bin is older than it: restore the pair that belongs together")
        })
    }
}

/// Fills the bytes from the operating system's source of randomness.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), StorageError> {
    getrandom::fill(bytes).map_err(|error| {
        StorageError::new(Code::EncryptedStorageFailure, format!("no randomness from the system: {error}"))
    })
}

fn encode(keys: &[Arc<StorageKey>]) -> Zeroizing<Vec<u8>> {
    let count = u32::try_from(keys.len()).expect("KEYS_MAX fits in 32 bits");
    // Reserved in full, so that no secret stays behind in a smaller buffer that was outgrown.
    let mut out = Zeroizing::new(Vec::with_capacity(HEAD_BYTES + keys.len() * KEY_BYTES + 4));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(UNWRAPPED);
    out.extend_from_slice(&count.to_le_bytes());
    for key in keys {
        out.extend_from_slice(key.id.as_bytes());
        out.extend_from_slice(&key.created_ms.to_le_bytes());
        out.extend_from_slice(key.secret());
    }
    let checksum = crc32fast::hash(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn decode(content: &[u8]) -> Result<Vec<Arc<StorageKey>>, StorageError> {
    let truncated = |_: Truncated| {
        StorageError::new(Code::ManifestDeserializationFailure, "the keyring ends early")
            .at(content.len() as u64)
    };
    if !content.starts_with(MAGIC) {
        return Err(StorageError::new(Code::UnsupportedStorageFormat, "not a keyring").at(0));
    }
    let (body, checksum) = content.split_last_chunk::<4>().ok_or(Truncated).map_err(truncated)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        let message = "checksum validation failed for the keyring";
        return Err(StorageError::new(Code::ChecksumValidationFailure, message).at(body.len() as u64));
    }
    let mut cursor = Cursor::new(&body[MAGIC.len()..]);
    let version = cursor.u32().map_err(truncated)?;
    if version != VERSION {
        let message = format!("keyring of version {version}, of which {VERSION} is known");
        return Err(StorageError::newer_format(message).at(8));
    }
    if cursor.array::<16>().map_err(truncated)? != *UNWRAPPED {
        let message = "the keyring is wrapped in a way this version does not know";
        return Err(StorageError::new(Code::UnsupportedStorageFormat, message).at(12));
    }
    let count = cursor.u32().map_err(truncated)? as usize;
    if count == 0 || count > KEYS_MAX || cursor.rest().len() != count * KEY_BYTES {
        let message = format!("{} bytes cannot be {count} keys", cursor.rest().len());
        return Err(StorageError::new(Code::ManifestDeserializationFailure, message).at(28));
    }
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        keys.push(Arc::new(StorageKey {
            id: Uuid::from_bytes(cursor.array().map_err(truncated)?),
            created_ms: cursor.u64().map_err(truncated)?,
            secret: Zeroizing::new(cursor.array().map_err(truncated)?),
        }));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests;
