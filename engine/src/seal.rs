//! Sealing: AES-256-GCM under a key of its own for every file.
//!
//! A file names a storage key and carries 32 random bytes of salt; its key is
//! `HKDF-SHA256(secret of the storage key, salt, purpose ‖ header of the file)`. So no two files share a key, a file
//! cannot pass for one of another kind, and a changed header makes every seal in the file fail.
//!
//! The nonce is a counter within the file (4 zero bytes, 8 bytes big-endian). A file is sealed by one writer from its
//! creation on and never continued by another process, so no nonce repeats under one key.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::keyring::StorageKey;

/// Bytes of salt in the header of a file.
pub(crate) const SALT_BYTES: usize = 32;
/// Bytes that a seal adds to what it seals.
pub(crate) const TAG_BYTES: usize = 16;

/// The bytes are not what was sealed under this key, counter and associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

/// The key of one file.
pub(crate) struct FileKey(Aes256Gcm);

impl FileKey {
    /// Derives the key of the file with this salt and header; `purpose` is the kind of file.
    pub(crate) fn derive(key: &StorageKey, salt: &[u8; SALT_BYTES], purpose: &[u8], header: &[u8]) -> Self {
        Self::derive_from(key.secret(), salt, purpose, header)
    }

    /// The same from a secret that is no storage key.
    pub(crate) fn derive_from(
        secret: &[u8; 32],
        salt: &[u8; SALT_BYTES],
        purpose: &[u8],
        header: &[u8],
    ) -> Self {
        let mut derived = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(salt), secret)
            .expand_multi_info(&[purpose, header], &mut *derived)
            .expect("32 bytes are within what HKDF-SHA256 can give");
        Self(Aes256Gcm::new((&*derived).into()))
    }

    /// Seals `buffer[from..]` in place and appends the tag. `counter` must be new for this file.
    pub(crate) fn seal(&self, counter: u64, associated: &[u8], buffer: &mut Vec<u8>, from: usize) {
        let tag = self
            .0
            .encrypt_inout_detached(&nonce(counter), associated, InOutBuf::from(&mut buffer[from..]))
            .expect("a file is sealed in pieces far below the 64 GiB limit of AES-GCM");
        buffer.extend_from_slice(&tag);
    }

    /// Opens a sealed piece in place and returns the plain bytes.
    pub(crate) fn open<'a>(
        &self,
        counter: u64,
        associated: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], NotAuthentic> {
        let (buffer, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>().ok_or(NotAuthentic)?;
        self.0
            .decrypt_inout_detached(
                &nonce(counter),
                associated,
                InOutBuf::from(&mut *buffer),
                &Tag::from(*tag),
            )
            .map_err(|_| NotAuthentic)?;
        Ok(buffer)
    }
}

fn nonce(counter: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce.into()
}
