//! The replicated access records, as bytes.
//!
//! Access control lives in the reserved system part of the state: the engine orders, replicates and snapshots
//! these records without reading them.
//!
//! | Key | Record |
//! |---|---|
//! | `access/user/<name>` | [`User`] |
//! | `access/role/<name>` | [`Role`] |
//! | `access/bootstrap` | [`Bootstrap`] |
//! | `access/maintenance` | [`Maintenance`] |
//!
//! A record is one byte of format version ([`VERSION`]) followed by a MessagePack map with named fields.
//! Fields may be added with a default; everything else takes a new version. An unknown version or permission
//! is refused (`SRV-026`): access rules are never half understood.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vaylix_proto::ErrorReply;

use crate::refusal;

/// The format version that this release writes.
const VERSION: u8 = 1;

/// Prefix of the keys of all access records.
pub(crate) const PREFIX: &str = "access/";
/// Prefix of the keys of users.
pub(crate) const USER_PREFIX: &str = "access/user/";
/// Prefix of the keys of roles.
pub(crate) const ROLE_PREFIX: &str = "access/role/";
/// Key of the maintenance record.
pub(crate) const MAINTENANCE_KEY: &str = "access/maintenance";
/// Key of the bootstrap record.
pub(crate) const BOOTSTRAP_KEY: &str = "access/bootstrap";

/// A user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    /// The access revision that created the user: a name that is dropped and taken again is somebody else.
    pub(crate) created_revision: u64,
    /// Argon2id hash as a PHC string.
    pub(crate) password_hash: String,
    /// Names of the user's roles, sorted.
    pub(crate) roles: Vec<String>,
    /// Whether login is refused.
    pub(crate) disabled: bool,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Role {
    /// (permission name, pattern), sorted.
    pub(crate) grants: Vec<(String, String)>,
}

/// The administrator's credentials that were last taken over from the configuration.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bootstrap {
    /// The configured name.
    pub(crate) user: String,
    /// Argon2id hash of the configured password, whatever the user's password is by now.
    pub(crate) password_hash: String,
}

/// Whether maintenance mode is on. No record means that it never was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Maintenance {
    /// Whether it is.
    pub(crate) enabled: bool,
}

/// A record as bytes.
///
/// # Errors
/// `SRV-025` when MessagePack refuses, which these types give it no reason to.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, ErrorReply> {
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write_named(&mut bytes, record).map_err(refusal::record_unwritable)?;
    Ok(bytes)
}

/// A record from bytes.
///
/// # Errors
/// `SRV-026` for an unknown version, a malformed record or trailing bytes.
pub(crate) fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, ErrorReply> {
    let Some((&VERSION, mut body)) = bytes.split_first() else {
        return Err(refusal::record_unreadable(format_args!("{key}: unknown format version")));
    };
    let record = rmp_serde::from_read(&mut body)
        .map_err(|error| refusal::record_unreadable(format_args!("{key}: {error}")))?;
    if body.is_empty() {
        Ok(record)
    } else {
        Err(refusal::record_unreadable(format_args!("{key}: trailing bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::{Bootstrap, Maintenance, Role, User, decode, encode};
    use vaylix_proto::Code;

    fn user() -> User {
        User {
            created_revision: 7,
            password_hash: "$argon2id$x".into(),
            roles: vec!["admin".into()],
            disabled: false,
        }
    }

    #[test]
    fn records_survive_the_round_trip() {
        let role = Role { grants: vec![("read".into(), "app:*".into())] };
        let bootstrap = Bootstrap { user: "root".into(), password_hash: "h".into() };
        assert!(decode::<User>("k", &encode(&user()).unwrap()).unwrap() == user());
        assert_eq!(decode::<Role>("k", &encode(&role).unwrap()).unwrap(), role);
        assert!(decode::<Bootstrap>("k", &encode(&bootstrap).unwrap()).unwrap() == bootstrap);
    }

    /// The bytes of the first release: they must be readable for ever.
    #[test]
    fn version_1_is_this() {
        let role = Role { grants: vec![("read".into(), "*".into())] };
        let bytes = b"\x01\x81\xa6grants\x91\x92\xa4read\xa1*";
        assert_eq!(encode(&role).unwrap(), bytes);
        assert_eq!(decode::<Role>("k", bytes).unwrap(), role);
        let bytes = b"\x01\x84\xb0created_revision\x07\xadpassword_hash\xab$argon2id$x\xa5roles\x91\xa5admin\xa8disabled\xc2";
        assert_eq!(encode(&user()).unwrap(), bytes);
        assert!(decode::<User>("k", bytes).unwrap() == user());
        let bytes = b"\x01\x81\xa7enabled\xc3";
        assert_eq!(encode(&Maintenance { enabled: true }).unwrap(), bytes);
        assert_eq!(decode::<Maintenance>("k", bytes).unwrap(), Maintenance { enabled: true });
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let good = encode(&user()).unwrap();
        let mut trailing = good.clone();
        trailing.push(0);
        let mut newer = good.clone();
        newer[0] = 2;
        for bad in [&[][..], &good[..good.len() - 1], &trailing, &newer, b"\x01\xff"] {
            let refusal = decode::<User>("access/user/x", bad).err().unwrap();
            assert_eq!(refusal.known_code(), Some(Code::AuthStoreDeserializationFailure), "{bad:?}");
        }
    }
}
