//! The deterministic state of Vaylix and everything it keeps on disk.

mod blob;
#[cfg(test)]
mod crash;
mod cursor;
pub mod disk;
pub mod error;
pub mod keyring;
pub mod layout;
pub mod lock;
mod seal;
pub mod snapshot;
pub mod vote;
pub mod wal;

pub use error::StorageError;
pub use keyring::Keyring;
pub use layout::DataDir;
