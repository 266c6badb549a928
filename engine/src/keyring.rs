//! The storage keys: everything sealed in a data directory is sealed under one of them.
//!
//! # `keyring.bin`, version 1
//! | Bytes | Field |
//! |---|---|
//! | 8 | magic `VXKEYRNG` |
//! | 4 | version, 1 |
//! | 16 | how the secrets below are protected, in ASCII, zero-padded: `unwrapped` or `kek-aes256gcm` |
//! | 4 | number of keys, 1 to 4096 |
//! | … | the keys, the active one first, then the previous ones, newest first |
//! | 4 | CRC-32 of everything before it |
//!
//! Keys that are *unwrapped*:
//!
//! | Bytes | Field |
//! |---|---|
//! | 56 each | id (UUIDv7, 16), creation time (ms since 1970, 8), secret (32) |
//!
//! Keys that are wrapped under a [key-encryption key](crate::kek):
//!
//! | Bytes | Field |
//! |---|---|
//! | 8 | id of the key-encryption key |
//! | 32 | salt |
//! | 24 each | id (UUIDv7, 16), creation time (ms since 1970, 8) |
//! | 32 each | secrets, in the same order, sealed together by AES-256-GCM |
//! | 16 | tag |
//!
//! The secrets are [sealed](crate::seal) with counter 0 under `HKDF-SHA256(key-encryption key, salt, purpose)`, with
//! everything before them as associated data, so no key can be renamed, moved or left out. The salt is new whenever
//! the file is written, hence so is the key, and the nonce never repeats under one.
//!
//! Integers are little-endian. The file is always replaced as a whole, so it is never torn: whatever does not match is
//! damage, and the storage refuses to open. An unwrapped keyring protects against the loss of the *other*
//! files only: who has both has the data. Who loses it has lost the data, hence a missing keyring beside sealed files
//! is an error and never a reason to make a new one.
//!
//! A keyring is opened in the form it has. A key-encryption key for an unwrapped one is refused rather than put to use:
//! copies of the unwrapped file would go on opening the data, and whoever asked for encryption should know; wrapping is
//! a deliberate act, [`Keyring::rewrap`].

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use uuid::Uuid;
use vaylix_proto::Code;
use zeroize::Zeroizing;

use crate::cursor::{Cursor, Truncated};
use crate::disk::read_small;
use crate::error::StorageError;
use crate::kek::{Kek, KekId};
use crate::layout::DataDir;
use crate::seal::{FileKey, SALT_BYTES, TAG_BYTES};

const MAGIC: &[u8; 8] = b"VXKEYRNG";
const VERSION: u32 = 1;
const UNWRAPPED: &[u8; 16] = b"unwrapped\0\0\0\0\0\0\0";
const WRAPPED: &[u8; 16] = b"kek-aes256gcm\0\0\0";
const PURPOSE: &[u8] = b"vaylix keyring";
const HEAD_BYTES: usize = 32;
const LABEL_BYTES: usize = 24;
const SECRET_BYTES: usize = 32;
const KEY_BYTES: usize = LABEL_BYTES + SECRET_BYTES;
/// What wrapping adds to the keys: the id of the key-encryption key, the salt and the tag.
const WRAPPING_BYTES: usize = 8 + SALT_BYTES + TAG_BYTES;
/// One key a month lasts for three centuries.
const KEYS_MAX: usize = 4096;
const FILE_BYTES_MAX: u64 = (HEAD_BYTES + WRAPPING_BYTES + KEYS_MAX * KEY_BYTES + 4) as u64;
const RESTORE: &str = "restore keyring.bin from a backup; without it the data cannot be read";

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
    ring: RwLock<Ring>,
}

struct Ring {
    /// Never empty; the active key first.
    keys: Vec<Arc<StorageKey>>,
    /// What the file is wrapped under.
    kek: Option<Kek>,
}

impl Keyring {
    /// Reads an unwrapped keyring, or makes the first one when the directory is fresh.
    /// [`open_or_create_with`](Self::open_or_create_with) without a key-encryption key.
    ///
    /// # Errors
    /// As there.
    pub fn open_or_create(dir: &DataDir, now_ms: u64) -> Result<Self, StorageError> {
        Self::open_or_create_with(dir, None, now_ms)
    }

    /// Reads the keyring of the directory, or makes the first one, wrapped under `kek` if there is one, when the
    /// directory is fresh. `now_ms` dates a new key.
    ///
    /// # Errors
    /// As [`open`](Self::open), and `ENG-009` for a keyring that is missing while sealed files exist.
    pub fn open_or_create_with(dir: &DataDir, kek: Option<Kek>, now_ms: u64) -> Result<Self, StorageError> {
        let path = dir.keyring();
        if let Some(keys) = read(dir, kek.as_ref())? {
            return Ok(Self { ring: RwLock::new(Ring { keys, kek }) });
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
        let ring = Ring { keys: vec![Arc::new(StorageKey::generate(now_ms)?)], kek };
        ring.store(dir)?;
        tracing::info!(file = %path.display(), "created the keyring");
        Ok(Self { ring: RwLock::new(ring) })
    }

    /// Reads the keyring of a directory that has one.
    ///
    /// # Errors
    /// `ENG-008` when it is wrapped and `kek` is missing or another one, `ENG-011` when it is not wrapped and `kek` is
    /// given, `ENG-009` for an unknown format or version or a missing file, `ENG-007` for a damaged one, `ENG-006` for
    /// one that makes no sense, `ENG-002` for I/O.
    pub fn open(dir: &DataDir, kek: Option<Kek>) -> Result<Self, StorageError> {
        let Some(keys) = read(dir, kek.as_ref())? else {
            return Err(StorageError::new(Code::UnsupportedStorageFormat, "the keyring is missing")
                .in_file(&dir.keyring())
                .advise(RESTORE));
        };
        Ok(Self { ring: RwLock::new(Ring { keys, kek }) })
    }

    /// A keyring of one given key that is not kept anywhere, to seal what travels between nodes.
    #[must_use]
    pub fn for_transfer(secret: [u8; 32]) -> Self {
        let key = StorageKey { id: Uuid::nil(), created_ms: 0, secret: Zeroizing::new(secret) };
        Self { ring: RwLock::new(Ring { keys: vec![Arc::new(key)], kek: None }) }
    }

    /// The key under which new files are sealed.
    #[must_use]
    pub fn active(&self) -> Arc<StorageKey> {
        Arc::clone(&self.ring.read().keys[0])
    }

    /// All keys, the active one first, then the previous ones, newest first.
    #[must_use]
    pub fn keys(&self) -> Vec<Arc<StorageKey>> {
        self.ring.read().keys.clone()
    }

    /// How many keys there are, at least 1.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ring.read().keys.len()
    }

    /// What the file is wrapped under; `None` when it is not wrapped.
    #[must_use]
    pub fn kek_id(&self) -> Option<KekId> {
        self.ring.read().kek.as_ref().map(Kek::id)
    }

    /// The key of this id.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<Arc<StorageKey>> {
        self.ring.read().keys.iter().find(|key| key.id == id).map(Arc::clone)
    }

    /// Makes a new active key and keeps the old ones for reading. Durable on return; what is sealed from then on uses
    /// the new key, beginning with the next segment and the next snapshot. Returns the new key.
    ///
    /// # Errors
    /// `ENG-011` when there are too many keys, `ENG-002` for I/O; the old key stays active then.
    pub fn rotate(&self, dir: &DataDir, now_ms: u64) -> Result<Arc<StorageKey>, StorageError> {
        let mut ring = self.ring.write();
        if ring.keys.len() == KEYS_MAX {
            let message = format!("the keyring already holds {KEYS_MAX} keys");
            return Err(StorageError::new(Code::InvalidStorageOperation, message)
                .in_file(&dir.keyring())
                .advise("keys are never dropped, since older files may need them: rotate less often"));
        }
        let key = Arc::new(StorageKey::generate(now_ms)?);
        let mut next = Ring { keys: vec![Arc::clone(&key)], kek: ring.kek.clone() };
        next.keys.extend(ring.keys.iter().cloned());
        next.store(dir)?;
        *ring = next;
        Ok(key)
    }

    /// Writes the file anew, wrapped under `kek`, or unwrapped without one. The storage keys stay what they are, so
    /// nothing else has to be sealed again; and whoever had them, from a copy of the old file, has them still. Durable on
    /// return; after a crash the old or the new file is found.
    ///
    /// # Errors
    /// `ENG-002` for I/O.
    pub fn rewrap(&self, dir: &DataDir, kek: Option<Kek>) -> Result<(), StorageError> {
        let mut ring = self.ring.write();
        let next = Ring { keys: ring.keys.clone(), kek };
        next.store(dir)?;
        *ring = next;
        Ok(())
    }

    /// Judges the file: it must hold what this keyring holds. A keyring that is in use changes only together with its file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn check_file(&self, dir: &DataDir) -> Result<(), StorageError> {
        let ring = self.ring.read();
        let refuse =
            |what| StorageError::new(Code::UnsupportedStorageFormat, what).in_file(&dir.keyring()).at(0);
        let keys =
            read(dir, ring.kek.as_ref())?.ok_or_else(|| refuse("the keyring is missing").advise(RESTORE))?;
        let same = |(a, b): (&Arc<StorageKey>, &Arc<StorageKey>)| a.id == b.id && a.secret() == b.secret();
        if keys.len() == ring.keys.len() && keys.iter().zip(&ring.keys).all(same) {
            return Ok(());
        }
        Err(refuse("the keyring is not the one in use: another one, or an older one, was put in its place")
            .advise(RESTORE))
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

fn read(dir: &DataDir, kek: Option<&Kek>) -> Result<Option<Vec<Arc<StorageKey>>>, StorageError> {
    let path = dir.keyring();
    let advised = |error: StorageError| error.in_file(&path).or_advise(RESTORE);
    let Some(content) = read_small(&path, FILE_BYTES_MAX).map_err(advised)? else { return Ok(None) };
    decode(&mut Zeroizing::new(content), kek).map(Some).map_err(advised)
}

impl Ring {
    fn store(&self, dir: &DataDir) -> Result<(), StorageError> {
        dir.disk().replace(&dir.keyring(), &self.encode()?)
    }

    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, StorageError> {
        let count = u32::try_from(self.keys.len()).expect("KEYS_MAX fits in 32 bits");
        // Reserved in full, so that no secret stays behind in a smaller buffer that was outgrown.
        let len = HEAD_BYTES + WRAPPING_BYTES + self.keys.len() * KEY_BYTES + 4;
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(if self.kek.is_some() { WRAPPED } else { UNWRAPPED });
        out.extend_from_slice(&count.to_le_bytes());
        match &self.kek {
            None => {
                for key in &self.keys {
                    out.extend_from_slice(&key.label());
                    out.extend_from_slice(key.secret());
                }
            }
            Some(kek) => {
                let mut salt = [0; SALT_BYTES];
                fill_random(&mut salt)?;
                out.extend_from_slice(&kek.id().0);
                out.extend_from_slice(&salt);
                for key in &self.keys {
                    out.extend_from_slice(&key.label());
                }
                let associated = out.to_vec();
                for key in &self.keys {
                    out.extend_from_slice(key.secret());
                }
                wrapping_key(kek, &salt).seal(0, &associated, &mut out, associated.len());
            }
        }
        let checksum = crc32fast::hash(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        Ok(out)
    }
}

impl StorageKey {
    fn label(&self) -> [u8; LABEL_BYTES] {
        let mut label = [0; LABEL_BYTES];
        label[..16].copy_from_slice(self.id.as_bytes());
        label[16..].copy_from_slice(&self.created_ms.to_le_bytes());
        label
    }
}

fn wrapping_key(kek: &Kek, salt: &[u8; SALT_BYTES]) -> FileKey {
    FileKey::derive_from(kek.secret(), salt, PURPOSE, &[])
}

fn decode(content: &mut [u8], kek: Option<&Kek>) -> Result<Vec<Arc<StorageKey>>, StorageError> {
    let total = content.len() as u64;
    let truncated = |_: Truncated| {
        StorageError::new(Code::ManifestDeserializationFailure, "the keyring ends early").at(total)
    };
    if !content.starts_with(MAGIC) {
        return Err(StorageError::new(Code::UnsupportedStorageFormat, "not a keyring").at(0));
    }
    let (body, checksum) = content.split_last_chunk_mut::<4>().ok_or(Truncated).map_err(truncated)?;
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
    let protection: [u8; 16] = cursor.array().map_err(truncated)?;
    let count = cursor.u32().map_err(truncated)? as usize;
    let rest = cursor.rest().len();
    let senseless = || {
        let message = format!("{rest} bytes cannot be {count} keys");
        StorageError::new(Code::ManifestDeserializationFailure, message).at(28)
    };
    if count == 0 || count > KEYS_MAX {
        return Err(senseless());
    }
    match &protection {
        UNWRAPPED if kek.is_some() => Err(StorageError::new(
            Code::InvalidStorageOperation,
            "a key-encryption key was given, but the keyring is not wrapped",
        )
        .at(12)
        .advise(
            "wrap it while the server is stopped, with `vaylix storage rewrap-keys --data-dir … --new-kek-file …`, or \
             leave out --kek-file and VAYLIX_KEK",
        )),
        UNWRAPPED if rest != count * KEY_BYTES => Err(senseless()),
        UNWRAPPED => decode_keys(&body[HEAD_BYTES..], KEY_BYTES, &body[HEAD_BYTES + LABEL_BYTES..], KEY_BYTES)
            .map_err(truncated),
        WRAPPED if rest != WRAPPING_BYTES + count * KEY_BYTES => Err(senseless()),
        WRAPPED => {
            let wrapped_under = KekId(cursor.array().map_err(truncated)?);
            let salt = cursor.array().map_err(truncated)?;
            let kek = unwrapping_kek(wrapped_under, kek)?;
            let labels_at = HEAD_BYTES + WRAPPING_BYTES - TAG_BYTES;
            let (associated, sealed) = body.split_at_mut(labels_at + count * LABEL_BYTES);
            let secrets = wrapping_key(kek, &salt).open(0, associated, sealed).map_err(|_| {
                let message = "the keyring is not what was wrapped under this key-encryption key";
                StorageError::new(Code::EncryptedStorageFailure, message).at(associated.len() as u64)
            })?;
            decode_keys(&associated[labels_at..], LABEL_BYTES, secrets, SECRET_BYTES).map_err(truncated)
        }
        _ => {
            let message = "the keyring is wrapped in a way this version does not know";
            Err(StorageError::new(Code::UnsupportedStorageFormat, message).at(12))
        }
    }
}

/// The key-encryption key that was given, if it is the right one.
fn unwrapping_kek(wrapped_under: KekId, given: Option<&Kek>) -> Result<&Kek, StorageError> {
    let refuse = |message: String, advice: &str| {
        Err(StorageError::new(Code::EncryptedStorageFailure, message).at(HEAD_BYTES as u64).advise(advice))
    };
    match given {
        Some(given) if given.id() == wrapped_under => Ok(given),
        Some(given) => refuse(
            format!(
                "the keyring is wrapped under the key-encryption key {wrapped_under}, but {} was given",
                given.id()
            ),
            "give that key with --kek-file or VAYLIX_KEK; without it the data cannot be read",
        ),
        None => refuse(
            format!(
                "the keyring is wrapped under the key-encryption key {wrapped_under}, and none was given"
            ),
            "give it with --kek-file or VAYLIX_KEK",
        ),
    }
}

/// Labels and secrets, each so many bytes apart.
fn decode_keys(
    labels: &[u8],
    label_stride: usize,
    secrets: &[u8],
    secret_stride: usize,
) -> Result<Vec<Arc<StorageKey>>, Truncated> {
    labels
        .chunks(label_stride)
        .zip(secrets.chunks(secret_stride))
        .map(|(label, secret)| {
            let mut label = Cursor::new(label);
            Ok(Arc::new(StorageKey {
                id: Uuid::from_bytes(label.array()?),
                created_ms: label.u64()?,
                secret: Zeroizing::new(Cursor::new(secret).array()?),
            }))
        })
        .collect()
}

#[cfg(test)]
mod tests;
