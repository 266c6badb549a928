//! The state behind openraft's state machine, shared with readers and with whoever takes snapshots.
//!
//! One lock covers the state and the log position and membership that belong to it, so a view taken under it
//! is consistent. It is held for one entry at a time; readers do not need it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use openraft::{EntryPayload, LogId, SnapshotMeta, StoredMembership};
use parking_lot::Mutex;
use tokio::sync::Notify;
use vaylix_engine::error::StorageError;
use vaylix_engine::keyring::Keyring;
use vaylix_engine::layout::DataDir;
use vaylix_engine::op::{Batch, Op};
use vaylix_engine::snapshot::Info;
use vaylix_engine::state::{Reader, Root, State};
use vaylix_engine::wal;
use vaylix_proto::Code;

use super::codec::{self, BadRecord, Entry};
use super::membership::is_sole_voter;
use super::snapshot_file::{self, Older};
use super::{Applied, Image, Member};
use crate::clock;
use crate::fatal::no_panic;
use crate::gate::{Gate, Leadership};
use crate::status::{KeyStatus, SnapshotCounts};

/// openraft's description of a snapshot, with our types.
pub(crate) type Meta = SnapshotMeta<u64, Member>;

pub(crate) struct Machine {
    core: Mutex<Core>,
    reader: Reader,
    node: u64,
    gate: Arc<Gate>,
    dir: DataDir,
    keyring: Arc<Keyring>,
    /// What becomes of the snapshot on disk when the next one is stored.
    older: Older,
    /// The number of the last applied record, for those who do not wait for the lock.
    applied_record: AtomicU64,
    /// The snapshot on disk.
    stored: Mutex<Option<Stored>>,
    /// Held while a snapshot is written, so that there is one writer at a time.
    storing: Mutex<()>,
    /// Every snapshot since the start, whoever asked for it.
    counts: Mutex<SnapshotCounts>,
    /// Bytes of log entries applied by this process, and how many of them the stored snapshot covers.
    log_bytes: AtomicU64,
    log_bytes_stored: AtomicU64,
    /// So many bytes beyond the stored snapshot call for the next one.
    log_bytes_max: u64,
    /// Wakes whoever takes snapshots.
    pub(crate) snapshot_due: Notify,
}

struct Core {
    state: State,
    last_applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, Member>,
}

/// The snapshot on disk.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) meta: Meta,
    pub(crate) info: Info,
}

/// A consistent view of the state with its place in the log.
pub(crate) struct View {
    pub(crate) meta: Meta,
    pub(crate) root: Root,
    /// Bytes of log on disk applied by this process up to here.
    log_bytes: u64,
}

impl Machine {
    /// The state as the snapshot on disk has it, or an empty one.
    pub(crate) fn recover(
        node: u64,
        gate: Arc<Gate>,
        dir: DataDir,
        keyring: Arc<Keyring>,
        older: Older,
        log_bytes_max: u64,
    ) -> Result<Self, StorageError> {
        let mut state = State::new();
        let mut stored = None;
        if let Some((meta, root, info)) = snapshot_file::load(&dir, &keyring)? {
            state.replace(root);
            stored = Some(Stored { meta, info });
        }
        let (last_applied, membership) = match &stored {
            Some(Stored { meta, .. }) => (meta.last_log_id, meta.last_membership.clone()),
            None => (None, StoredMembership::default()),
        };
        if let Some(at) = membership.log_id() {
            gate.membership(at.index, is_sole_voter(membership.membership(), node));
        }
        Ok(Self {
            reader: state.reader(),
            core: Mutex::new(Core { state, last_applied, membership }),
            node,
            gate,
            dir,
            keyring,
            older,
            applied_record: AtomicU64::new(last_applied.map_or(0, |id| codec::record_id(&id).index)),
            stored: Mutex::new(stored),
            storing: Mutex::default(),
            counts: Mutex::default(),
            log_bytes: AtomicU64::new(0),
            log_bytes_stored: AtomicU64::new(0),
            log_bytes_max,
            snapshot_due: Notify::new(),
        })
    }

    /// The keys of what is on disk.
    pub(crate) fn keys(&self) -> KeyStatus {
        let active = self.keyring.active();
        KeyStatus {
            active_id: active.id().to_string(),
            active_created_ms: active.created_ms(),
            count: self.keyring.count(),
            wrapped: self.keyring.kek_id().is_some(),
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    pub(crate) fn position(&self) -> (Option<LogId<u64>>, StoredMembership<u64, Member>) {
        let core = self.core.lock();
        (core.last_applied, core.membership.clone())
    }

    /// The number of the last applied record, 0 when there is none.
    pub(crate) fn applied_record_index(&self) -> u64 {
        self.applied_record.load(Ordering::Acquire)
    }

    /// Whether this node alone decides, by the last applied membership.
    pub(crate) fn is_sole_voter(&self) -> bool {
        is_sole_voter(self.core.lock().membership.membership(), self.node)
    }

    /// Whether this node alone decided that `entry`, the next one, is committed.
    pub(crate) fn decides_alone(&self, entry: &Entry) -> bool {
        match &entry.payload {
            EntryPayload::Membership(membership) => is_sole_voter(membership, self.node),
            EntryPayload::Blank | EntryPayload::Normal(_) => self.is_sole_voter(),
        }
    }

    /// Applies one committed entry.
    pub(crate) fn apply(&self, entry: &Entry) -> Result<Applied, BadRecord> {
        no_panic("applying a log entry", || Ok(self.apply_next(entry, codec::batch(entry)?.as_ref())))
    }

    /// The same, unless that may take long: then nothing has happened.
    pub(crate) fn apply_briefly(&self, entry: &Entry) -> Result<Option<Applied>, BadRecord> {
        no_panic("applying a log entry", || {
            let batch = codec::batch(entry)?;
            let is_long = batch.as_ref().is_some_and(|batch| batch.ops.iter().any(Op::visits_many_keys));
            Ok((!is_long).then(|| self.apply_next(entry, batch.as_ref())))
        })
    }

    /// `batch` is what the entry holds.
    fn apply_next(&self, entry: &Entry, batch: Option<&Batch<'_>>) -> Applied {
        let Entry { log_id, payload } = entry;
        let at = codec::sequence(log_id.index);
        let body_len = codec::body_len(entry);
        let mut core = self.core.lock();
        let outcomes = match (batch, payload) {
            (Some(batch), _) => core.state.apply(at, batch),
            (None, payload) => {
                core.state.skip(at);
                if let EntryPayload::Membership(membership) = payload {
                    self.gate.membership(log_id.index, is_sole_voter(membership, self.node));
                    core.membership = StoredMembership::new(Some(*log_id), membership.clone());
                }
                Vec::new()
            }
        };
        core.last_applied = Some(*log_id);
        // What the entry takes on disk: many small ones take several times their content.
        self.log_bytes.fetch_add(wal::size_alone_bytes(body_len), Ordering::Relaxed);
        drop(core);
        self.applied_record.store(codec::record_id(log_id).index, Ordering::Release);
        if self.is_snapshot_due() {
            self.snapshot_due.notify_one();
        }
        self.gate.applied(Leadership { term: log_id.leader_id.term, node: log_id.leader_id.node_id });
        Applied(outcomes)
    }

    /// Whether enough has been applied since the stored snapshot to take the next one.
    pub(crate) fn is_snapshot_due(&self) -> bool {
        self.log_bytes_since_snapshot() >= self.log_bytes_max
    }

    /// Whether the next snapshot has been due for so long that the log grows faster than it is let go of.
    pub(crate) fn is_snapshot_overdue(&self) -> bool {
        self.log_bytes_since_snapshot() >= self.log_bytes_max.saturating_add(self.log_bytes_max / 8)
    }

    /// Whether the stored snapshot covers this record and is sealed under the active key: then there is nothing to gain
    /// by another one.
    pub(crate) fn is_stored(&self, record_index: u64) -> bool {
        let key_id = self.keyring.active().id();
        self.stored()
            .is_some_and(|stored| stored.record_index() == record_index && stored.info.key_id == key_id)
    }

    /// Whether the stored snapshot is sealed under an older key than the active one, as after a rotation.
    pub(crate) fn is_sealed_under_an_older_key(&self) -> bool {
        let key_id = self.keyring.active().id();
        self.stored().is_some_and(|stored| stored.info.key_id != key_id)
    }

    /// What became of the snapshots since the start.
    pub(crate) fn snapshot_counts(&self) -> SnapshotCounts {
        *self.counts.lock()
    }

    /// A snapshot failed.
    pub(crate) fn count_failed_snapshot(&self) {
        let mut counts = self.counts.lock();
        counts.failed += 1;
        counts.last_failed_ms = Some(clock::now_ms());
    }

    /// Bytes of log on disk that a restart would have to apply again.
    pub(crate) fn log_bytes_since_snapshot(&self) -> u64 {
        // Stored first: what it covers was counted before, so the difference is never negative.
        let stored = self.log_bytes_stored.load(Ordering::Acquire);
        self.log_bytes.load(Ordering::Acquire) - stored
    }

    /// The state as it is now; `None` before anything was applied. Takes no time however large the state is.
    pub(crate) fn view(&self) -> Option<View> {
        let core = self.core.lock();
        let last = core.last_applied?;
        Some(View {
            meta: codec::snapshot_meta(last, core.membership.clone()),
            root: core.state.root(),
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
        })
    }

    /// The snapshot on disk.
    pub(crate) fn stored(&self) -> Option<Stored> {
        self.stored.lock().clone()
    }

    /// Makes a view the snapshot on disk, unless that is newer, or as new and sealed under the active key. Blocks until it
    /// is durable.
    pub(crate) fn store(&self, view: &View) -> Result<Stored, StorageError> {
        Ok(self.store_while(view, || true)?.expect("nobody told it to stop"))
    }

    /// The same, as long as `go_on` says so; `None` when it said no.
    pub(crate) fn store_while(
        &self,
        view: &View,
        go_on: impl Fn() -> bool,
    ) -> Result<Option<Stored>, StorageError> {
        let _storing = self.storing.lock();
        if let Some(stored) = self.stored()
            && (stored.meta.last_log_id > view.meta.last_log_id || self.is_stored(view.record_index()))
        {
            return Ok(Some(stored));
        }
        let begun = Instant::now();
        let written =
            snapshot_file::write_while(&self.dir, &self.keyring, &view.meta, &view.root, self.older, go_on)
                .inspect_err(|_| self.count_failed_snapshot())?;
        let Some(info) = written else { return Ok(None) };
        {
            let mut counts = self.counts.lock();
            counts.taken += 1;
            counts.last_duration = Some(begun.elapsed());
        }
        self.log_bytes_stored.store(view.log_bytes, Ordering::Release);
        let stored = Stored { meta: view.meta.clone(), info };
        *self.stored.lock() = Some(stored.clone());
        Ok(Some(stored))
    }

    /// Replaces the state with one received from the leader, on disk first.
    pub(crate) fn install(&self, meta: &Meta, image: Image) -> Result<(), StorageError> {
        let (Some(root), Some(last)) = (image.0, meta.last_log_id) else {
            return Err(StorageError::new(
                Code::SnapshotDeserializationFailure,
                "snapshot deserialization failed: the leader sent an empty snapshot",
            ));
        };
        let log_bytes = self.log_bytes.load(Ordering::Relaxed);
        let view = View { meta: meta.clone(), root, log_bytes };
        self.store(&view)?;
        let mut core = self.core.lock();
        core.state.replace(view.root);
        core.last_applied = Some(last);
        self.applied_record.store(codec::record_id(&last).index, Ordering::Release);
        core.membership = meta.last_membership.clone();
        if let Some(at) = core.membership.log_id() {
            self.gate.membership(at.index, is_sole_voter(core.membership.membership(), self.node));
        }
        Ok(())
    }
}

impl Stored {
    /// The last record it covers.
    pub(crate) fn record_index(&self) -> u64 {
        record_index(&self.meta)
    }
}

impl View {
    /// The last record it covers.
    pub(crate) fn record_index(&self) -> u64 {
        record_index(&self.meta)
    }

    /// As openraft hands it on.
    pub(crate) fn into_snapshot(self) -> openraft::Snapshot<super::TypeConfig> {
        openraft::Snapshot { meta: self.meta, snapshot: Box::new(Image(Some(self.root))) }
    }
}

fn record_index(meta: &Meta) -> u64 {
    meta.last_log_id.map_or(0, |id| codec::record_id(&id).index)
}
