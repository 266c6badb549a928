//! The deterministic state of Vaylix and everything it keeps on disk.
//!
//! Synchronous throughout: no runtime, no sockets, and no clock except the times that callers pass in.

pub mod backups;
mod blob;
pub mod content;
#[cfg(test)]
mod crash;
mod cursor;
pub mod disk;
pub mod dump;
pub mod durations;
pub mod error;
#[cfg(test)]
mod failpoints;
pub mod glob;
pub mod kek;
pub mod keyring;
pub mod layout;
pub mod lock;
pub mod moment;
pub mod op;
pub mod pitr;
pub mod progress;
pub mod scrub;
mod seal;
pub mod sequence;
pub mod sizes;
pub mod snapshot;
pub mod state;
pub mod verify;
pub mod vote;
pub mod wal;

pub use backups::BackupDir;
pub use error::StorageError;
pub use kek::Kek;
pub use keyring::Keyring;
pub use layout::DataDir;
