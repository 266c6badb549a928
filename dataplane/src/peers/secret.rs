//! What all nodes of a cluster know and nobody else does.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Fewer bytes than this can be guessed.
const BYTES_MIN: usize = 16;
const KEY_LEN: usize = 32;
const FROM_SECRET: &[u8] = b"vaylix peer key v1";
const FROM_PASSWORD: &[u8] = b"vaylix peer key from a replication password v1";

/// Memory, passes and lanes of the derivation from a password. Once per start.
const ARGON2_KIB: u32 = 64 * 1024;
const ARGON2_PASSES: u32 = 3;
const ARGON2_LANES: u32 = 1;

/// The key that peers prove to know. It is derived from the secret, which is not kept. Never shown.
#[derive(Clone)]
pub struct ClusterSecret(Zeroizing<[u8; KEY_LEN]>);

/// The secret is too short to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has {0} bytes; at least {BYTES_MIN} are needed, best random ones")]
pub struct TooShort(pub usize);

impl ClusterSecret {
    /// From the bytes that the operator gave to every node.
    ///
    /// # Errors
    /// [`TooShort`].
    pub fn new(secret: &[u8]) -> Result<Self, TooShort> {
        if secret.len() < BYTES_MIN {
            return Err(TooShort(secret.len()));
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Hkdf::<Sha256>::new(None, secret)
            .expand(FROM_SECRET, key.as_mut())
            .expect("a key is shorter than what can be derived");
        Ok(Self(key))
    }

    /// From a user and a password, stretched, since a password is easier to guess than a secret.
    ///
    /// # Errors
    /// The derivation's, when there is no memory for it.
    pub fn from_password(user: &str, password: &str) -> Result<Self, argon2::Error> {
        // The same on every node, hence nothing random.
        let salt = Sha256::new().chain_update(FROM_PASSWORD).chain_update(user.as_bytes()).finalize();
        let params = Params::new(ARGON2_KIB, ARGON2_PASSES, ARGON2_LANES, Some(KEY_LEN))?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
            password.as_bytes(),
            &salt,
            key.as_mut(),
        )?;
        Ok(Self(key))
    }

    pub(super) fn key(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_and_says_nothing_of_itself() {
        assert_eq!(ClusterSecret::new(b"fifteen bytes..").unwrap_err(), TooShort(15));
        let secret = ClusterSecret::new(b"sixteen bytes...").unwrap();
        assert_eq!(format!("{secret:?}"), "ClusterSecret(..)");
        assert_ne!(secret.key(), ClusterSecret::new(b"sixteen bytes..!").unwrap().key());
        assert_eq!(secret.key(), ClusterSecret::new(b"sixteen bytes...").unwrap().key());
    }

    #[test]
    fn user_and_password_both_count() {
        let key = |user, password| *ClusterSecret::from_password(user, password).unwrap().key();
        assert_eq!(key("repl", "secret"), key("repl", "secret"));
        assert_ne!(key("repl", "secret"), key("repl", "Secret"));
        assert_ne!(key("repl", "secret"), key("Repl", "secret"));
    }
}
