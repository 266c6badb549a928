//! `vaylix storage rotate-key`: a new storage key, on demand.
//!
//! Only the keyring changes. The next start seals a new segment and a new vote under the new key, and takes a snapshot
//! because the one on disk is under an older key.

use std::time::{SystemTime, UNIX_EPOCH};

use vaylix_engine::{DataDir, Keyring};

use super::storage::line;
use crate::error::ServerError;
use crate::flags::Directory;
use crate::kek::Source;

pub(super) fn run(arguments: &Directory) -> Result<String, ServerError> {
    let kek = Source::current(arguments.kek_file.as_deref()).read()?;
    let dir = DataDir::open_existing(&arguments.data_dir)?;
    let keyring = Keyring::open(&dir, kek)?;
    let previous = keyring.active().id();
    // A clock before 1970 makes a key that is due for the next rotation at once.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let active = keyring.rotate(&dir, u64::try_from(now.as_millis()).unwrap_or(u64::MAX))?;
    let mut out = String::new();
    line(&mut out, "keyring", &dir.keyring().display().to_string());
    line(&mut out, "storage_key_id", &active.id().to_string());
    line(&mut out, "previous_storage_key_id", &previous.to_string());
    line(&mut out, "storage_key_count", &keyring.count().to_string());
    Ok(out)
}
