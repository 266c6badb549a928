//! Work on data directories that no server uses: looking at them, verifying them, restoring the past.
//!
//! Sources are opened for reading only; whoever calls may hold no more than the right to read. `kek` is always the
//! key-encryption key that the keyring is wrapped under, `None` when it is not wrapped.

use std::path::Path;

use vaylix_engine::error::StorageError;
use vaylix_engine::kek::Kek;
use vaylix_engine::keyring::Keyring;
use vaylix_engine::layout::DataDir;
use vaylix_engine::lock::Hold;
use vaylix_engine::pitr::{self, Point};
use vaylix_engine::verify::{self, Inspection, Verified};
use vaylix_proto::Code;

use crate::clock;
use crate::error::StartError;
use crate::raft::offline::{Entries, write_restored};

/// What a restore made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The last log entry in the new directory; numbering goes on behind it.
    pub sequence: u64,
    /// The time of the last change in it, in ms since 1970; 0 when there is none.
    pub time_ms: u64,
    /// The log entry that the snapshot ends with that it was begun with; 0 when it was begun with nothing.
    pub base_sequence: u64,
    /// Log entries applied on top.
    pub replayed_entries: u64,
}

/// Says what is in a data directory, by names and headers. Damage in the newest segment of the log is part of the answer.
///
/// # Errors
/// `ENG-011` when it is in use or no data directory; otherwise as for the start of a node.
pub fn inspect(data_dir: &Path, kek: Option<Kek>) -> Result<Inspection, StorageError> {
    let (dir, keyring) = open(data_dir, kek, Hold::Shared)?;
    verify::inspect(&dir, &keyring, &Entries)
}

/// Reads every byte of a data directory that counts.
///
/// # Errors
/// `ENG-011` when it is in use or no data directory; otherwise the first damage.
pub fn verify(data_dir: &Path, kek: Option<Kek>) -> Result<Verified, StorageError> {
    let (dir, keyring) = open(data_dir, kek, Hold::Shared)?;
    verify::verify(&dir, &keyring, &Entries)
}

/// Brings a data directory to the format of this release. There is only one so far, so nothing is changed: a directory
/// in any other form is refused.
///
/// # Errors
/// `ENG-010` for the log of the public 0.9 release; otherwise as [`inspect`].
pub fn migrate(data_dir: &Path, kek: Option<Kek>) -> Result<Inspection, StorageError> {
    let (dir, keyring) = open(data_dir, kek, Hold::Exclusive)?;
    let mut found = verify::inspect(&dir, &keyring, &Entries)?;
    found.damage.take().map_or(Ok(found), Err)
}

/// Makes a new data directory with the state, users and roles included, as it was. The new node is a cluster of one with
/// an identity of its own and the keyring of the source, so that nobody takes it for the old one; log entries go on behind the restored one.
///
/// # Errors
/// `ENG-012` when the moment is not within what is retained, `ENG-011` when the target cannot be one; otherwise as for
/// the start of a node. Nothing is left of the target then.
pub fn restore(source: &Path, target: &Path, kek: Option<Kek>, point: Point) -> Result<Restored, StartError> {
    let (dir, keyring) = open(source, kek.clone(), Hold::Shared)?;
    let target = pitr::Target::prepare(&dir, target)?;
    let rebuilt = pitr::rebuild(&dir, &keyring, &Entries, point)?;
    let keyring = Keyring::open_or_create_with(target.dir(), kek, clock::now_ms())?;
    write_restored(target.dir(), keyring, &rebuilt)?;
    target.publish()?;
    Ok(Restored {
        sequence: rebuilt.last.index,
        time_ms: rebuilt.root.time_ms(),
        base_sequence: rebuilt.base.unwrap_or(0),
        replayed_entries: rebuilt.replayed,
    })
}

fn open(data_dir: &Path, kek: Option<Kek>, hold: Hold) -> Result<(DataDir, Keyring), StorageError> {
    let dir = DataDir::read_only(data_dir, hold)?;
    if !dir.keyring().exists() {
        return Err(StorageError::new(
            Code::UnsupportedStorageFormat,
            "the keyring is missing, and everything else is sealed under it",
        )
        .in_file(&dir.keyring())
        .advise("restore keyring.bin from a backup; without it the data cannot be read"));
    }
    let keyring = Keyring::open(&dir, kek)?;
    Ok((dir, keyring))
}
