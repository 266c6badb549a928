//! openraft's state machine: a thin view of the [`Machine`].
//!
//! What openraft calls the current snapshot is the state as it is now, or was when it was first sent to a node that has
//! not got all of it yet, as an O(1) view: it is as new as the log that is left needs it to be, costs nothing to take, and
//! is encoded only while it is being sent.

use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageError, StoredMembership,
};
use parking_lot::Mutex;
use tracing::Span;
use vaylix_engine::wal::Wal;

use super::codec::{self, Entry};
use super::machine::{Machine, Meta};
use super::{Applied, Image, Member, TypeConfig, fault};
use crate::limits::APPLY_INLINE_BYTES_MAX;

pub(crate) struct StateMachine {
    machine: Arc<Machine>,
    wal: Wal,
    /// The last snapshot openraft was told of.
    announced: Arc<Mutex<Option<LogId<u64>>>>,
}

type Result<T> = std::result::Result<T, StorageError<u64>>;

impl StateMachine {
    pub(crate) fn new(machine: Arc<Machine>, wal: Wal) -> Self {
        let announced = machine.stored().and_then(|stored| stored.meta.last_log_id);
        Self { machine, wal, announced: Arc::new(Mutex::new(announced)) }
    }
}

impl StateMachine {
    /// Within the proposal of the entry, if that is followed.
    fn apply_span(&self, entry: &Entry) -> Span {
        let index = entry.log_id.index;
        let Some(within) = self.machine.gate().followed.among(index..=index) else { return Span::none() };
        tracing::info_span!(
            target: "span.apply", parent: &within, "apply", log.index = codec::sequence(index).get()
        )
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(fault::apply)?
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, StoredMembership<u64, Member>)> {
        Ok(self.machine.position())
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut applied = Vec::new();
        for entry in entries {
            // As long as it takes.
            let _span = self.apply_span(&entry);
            let large = matches!(&entry.payload,
                EntryPayload::Normal(body) if body.bytes.len() > APPLY_INLINE_BYTES_MAX);
            let brief =
                if large { None } else { self.machine.apply_briefly(&entry).map_err(fault::apply)? };
            applied.push(match brief {
                Some(applied) => applied,
                None => {
                    let machine = self.machine.clone();
                    blocking(move || machine.apply(&entry).map_err(fault::apply)).await?
                }
            });
        }
        Ok(applied)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { machine: self.machine.clone(), announced: self.announced.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Image>> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &Meta, image: Box<Image>) -> Result<()> {
        let machine = self.machine.clone();
        let meta = meta.clone();
        blocking(move || {
            let last = meta.last_log_id.map_or(0, |id| codec::record_id(&id).index);
            let installed = machine.install(&meta, *image);
            match &installed {
                Ok(()) => machine.gate().arrival.stored(last),
                Err(_) => machine.gate().arrival.failed(),
            }
            installed.map_err(fault::write_snapshot)
        })
        .await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>> {
        Ok(self.machine.offer(self.wal.purged().map_or(0, |purged| purged.index + 1)))
    }
}

/// Tells openraft of a snapshot that was stored without it, which is how this crate takes them: a full disk
/// then costs a snapshot and not the node. Takes one itself only when there is nothing new to tell of.
pub(crate) struct Builder {
    machine: Arc<Machine>,
    announced: Arc<Mutex<Option<LogId<u64>>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>> {
        let (machine, announced) = (self.machine.clone(), self.announced.clone());
        blocking(move || {
            let mut announced = announced.lock();
            let newer = machine.stored().filter(|stored| stored.meta.last_log_id > *announced);
            let stored = match (newer, machine.view()) {
                (Some(stored), _) => stored,
                (None, Some(view)) => machine.store(&view).map_err(fault::write_snapshot)?,
                (None, None) => return Ok(Snapshot { meta: Meta::default(), snapshot: Box::default() }),
            };
            *announced = stored.meta.last_log_id;
            Ok(Snapshot { meta: stored.meta, snapshot: Box::default() })
        })
        .await
    }
}
