//! The snapshot of the directory: a state and its place in the log.

use std::io::{self, Write};

use openraft::{LogId, StoredMembership};
use serde::{Deserialize, Serialize};
use vaylix_engine::error::StorageError;
use vaylix_engine::keyring::Keyring;
use vaylix_engine::layout::DataDir;
use vaylix_engine::progress::Progress;
use vaylix_engine::snapshot::{self, Head, Info};
use vaylix_engine::state::Root;
use vaylix_proto::Code;

use super::Member;
use super::codec;
use super::machine::Meta;
use crate::clock;

/// What a snapshot says about its place in the log, in its meta bytes: MessagePack, struct as map.
#[derive(Serialize, Deserialize)]
struct Label {
    last_log: LogId<u64>,
    membership: StoredMembership<u64, Member>,
}

/// Whether the snapshot that a new one takes the place of is kept for restores to a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Older {
    Kept,
    Replaced,
}

/// Replaces the snapshot of the directory. Durable on return.
pub(crate) fn write(
    dir: &DataDir,
    keyring: &Keyring,
    meta: &Meta,
    root: &Root,
    older: Older,
) -> Result<Info, StorageError> {
    write_breathing(dir, keyring, meta, root, older, || ())
}

/// The same; calls `breathe` again and again, which may take its time.
pub(crate) fn write_breathing(
    dir: &DataDir,
    keyring: &Keyring,
    meta: &Meta,
    root: &Root,
    older: Older,
    breathe: impl Fn(),
) -> Result<Info, StorageError> {
    let last_log = meta.last_log_id.expect("a snapshot is of something applied");
    let label = Label { last_log, membership: meta.last_membership.clone() };
    let label = rmp_serde::to_vec_named(&label)
        .expect("numbers and strings encode, and memory does not refuse to be written");
    let head = Head { last: Some(codec::record_id(&last_log)), time_ms: clock::now_ms(), meta: label };
    let body = |sink: &mut dyn Write| root.encode(&mut Breathing { sink, breathe });
    match older {
        Older::Kept => snapshot::write_keeping(dir, keyring, &head, body),
        Older::Replaced => snapshot::write(dir, keyring, &head, body),
    }
}

/// Breathes between writing.
struct Breathing<'a, B> {
    sink: &'a mut dyn Write,
    breathe: B,
}

impl<B: Fn()> Write for Breathing<'_, B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.breathe)();
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Reads the snapshot of the directory; `None` when there is none.
pub(crate) fn load(dir: &DataDir, keyring: &Keyring) -> Result<Option<(Meta, Root, Info)>, StorageError> {
    let Some(reader) = snapshot::load(dir, keyring)? else { return Ok(None) };
    let label = label(&reader.head()).map_err(|error| error.in_file(&dir.snapshot()))?;
    let size_bytes = dir.snapshot().metadata().map_or(0, |metadata| metadata.len());
    let mut progress = Progress::bytes("loading the snapshot", size_bytes);
    let (root, info) = snapshot::read_state(reader, &mut progress)?;
    Ok(Some((codec::snapshot_meta(label.last_log, label.membership), root, info)))
}

/// Checks what a snapshot says about its place in the log.
pub(crate) fn check(head: &Head) -> Result<(), StorageError> {
    label(head).map(|_| ())
}

fn label(head: &Head) -> Result<Label, StorageError> {
    rmp_serde::from_slice(&head.meta).map_err(|error| {
        StorageError::new(
            Code::SnapshotDeserializationFailure,
            format!("snapshot deserialization failed: its place in the log: {error}"),
        )
        .advise(
            "start the release that wrote it, or restore snapshot.bin and manifest.bin together from a backup, or \
             rebuild this node from another one",
        )
    })
}
