//! The snapshot of the directory: a state and its place in the log.

use std::io::{self, Read};

use openraft::{BasicNode, LogId, StoredMembership};
use serde::{Deserialize, Serialize};
use vaylix_engine::error::StorageError;
use vaylix_engine::keyring::Keyring;
use vaylix_engine::layout::DataDir;
use vaylix_engine::snapshot::{self, Head, Info};
use vaylix_engine::state::{DecodeError, Root};
use vaylix_proto::Code;

use super::codec;
use super::machine::Meta;
use crate::clock;

/// What a snapshot says about its place in the log, in its meta bytes: MessagePack, struct as map.
#[derive(Serialize, Deserialize)]
struct Label {
    last_log: LogId<u64>,
    membership: StoredMembership<u64, BasicNode>,
}

/// Replaces the snapshot of the directory. Durable on return.
pub(crate) fn write(
    dir: &DataDir,
    keyring: &Keyring,
    meta: &Meta,
    root: &Root,
) -> Result<Info, StorageError> {
    let last_log = meta.last_log_id.expect("a snapshot is of something applied");
    let label = Label { last_log, membership: meta.last_membership.clone() };
    let label = rmp_serde::to_vec_named(&label)
        .expect("numbers and strings encode, and memory does not refuse to be written");
    let head = Head { last: Some(codec::record_id(&last_log)), time_ms: clock::now_ms(), meta: label };
    snapshot::write(dir, keyring, &head, |mut sink| root.encode(&mut sink))
}

/// Reads the snapshot of the directory; `None` when there is none.
pub(crate) fn load(dir: &DataDir, keyring: &Keyring) -> Result<Option<(Meta, Root, Info)>, StorageError> {
    let Some(mut reader) = snapshot::load(dir, keyring)? else { return Ok(None) };
    let unreadable = |detail: String| {
        StorageError::new(
            Code::SnapshotDeserializationFailure,
            format!("snapshot deserialization failed: {detail}"),
        )
        .in_file(&dir.snapshot())
        .advise(
            "start the release that wrote it, or restore snapshot.bin and manifest.bin together from a backup, or \
             rebuild this node from another one",
        )
    };
    let label: Label = rmp_serde::from_slice(&reader.head().meta)
        .map_err(|error| unreadable(format!("its place in the log: {error}")))?;
    let root = Root::decode(&mut reader).map_err(|error| match error {
        DecodeError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => StorageError::from(error),
        error => unreadable(error.to_string()),
    })?;
    let trailing = reader.read(&mut [0]).map_err(StorageError::from)?;
    let info =
        reader.info().filter(|_| trailing == 0).ok_or_else(|| unreadable("trailing bytes".to_owned()))?;
    Ok(Some((codec::snapshot_meta(label.last_log, label.membership), root, info)))
}
