//! `vaylix storage rewrap-keys`: what the keyring is wrapped under.
//!
//! The keyring is replaced as a whole, so a crash leaves the old or the new one, and read back before the command says
//! that it is done. Nothing else in the directory changes: the storage keys stay what they are.

use tracing::warn;
use vaylix_engine::{DataDir, Keyring};

use super::storage::line;
use crate::error::ServerError;
use crate::flags::RewrapKeys;
use crate::kek::Source;

pub(super) fn run(arguments: &RewrapKeys) -> Result<String, ServerError> {
    let old = Source::current(arguments.kek_file.as_deref()).read()?;
    let new = Source::new_one(arguments.new_kek_file.as_deref()).read()?;
    let was_wrapped = old.is_some();
    match (&new, arguments.remove_kek) {
        (None, false) => {
            return refuse("rewrap-keys requires --new-kek-file, VAYLIX_NEW_KEK or --remove-kek");
        }
        (Some(_), true) => return refuse("give --remove-kek or a new key-encryption key, not both"),
        _ => {}
    }
    let dir = DataDir::open_existing(&arguments.data_dir)?;
    let keyring = Keyring::open(&dir, old)?;
    if arguments.remove_kek && !was_wrapped {
        return refuse("--remove-kek: the keyring is not wrapped");
    }
    keyring.rewrap(&dir, new.clone())?;
    let keyring = Keyring::open(&dir, new)?;
    if !was_wrapped {
        warn!(
            "copies of the unwrapped keyring.bin, and what the disk kept of it, still open the data: \
             destroy them, and consider `vaylix storage rotate-key` for what is written from now on"
        );
    }
    let mut out = String::new();
    line(&mut out, "keyring", &dir.keyring().display().to_string());
    line(&mut out, "storage_key_id", &keyring.active().id().to_string());
    line(&mut out, "storage_key_count", &keyring.count().to_string());
    line(&mut out, "kek_id", &keyring.kek_id().map_or_else(|| "none".to_owned(), |kek| kek.to_string()));
    Ok(out)
}

fn refuse(message: &str) -> Result<String, ServerError> {
    Err(ServerError::Arguments(message.to_owned()))
}
