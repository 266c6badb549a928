//! The state behind openraft's state machine, shared with readers and with whoever takes snapshots.
//!
//! One lock covers the state and the log position and membership that belong to it, so a view taken under it
//! is consistent. It is held for one entry at a time; readers do not need it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::{EntryPayload, LogId, SnapshotMeta, StoredMembership};
use parking_lot::Mutex;
use tokio::sync::Notify;
use vaylix_engine::error::StorageError;
use vaylix_engine::keyring::Keyring;
use vaylix_engine::layout::DataDir;
use vaylix_engine::op::{Batch, Op};
use vaylix_engine::sequence::Sequence;
use vaylix_engine::snapshot::{self, Info};
use vaylix_engine::state::{Outcome, Reader, Root, State};
use vaylix_engine::wal;
use vaylix_proto::{Code, Reply};

use super::codec::{self, BadRecord, Entry};
use super::membership::is_sole_voter;
use super::quarantine::Quarantine;
use super::snapshot_file::{self, Older};
use super::{Applied, Image, Member};
use crate::clock;
use crate::fatal::no_panic;
use crate::gate::{Gate, Leadership};
use crate::limits::OFFER_TIME_MAX;
use crate::status::{KeyStatus, SnapshotCounts};

/// openraft's description of a snapshot, with our types.
pub(crate) type Meta = SnapshotMeta<u64, Member>;

/// By this part of the size at which a snapshot is due, the log may grow until its writing has no leisure any more: so
/// the log stays below twice that size as long as a snapshot in haste is written in the time in which half of it is.
const LOG_EXCESS_PART: u64 = 2;

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
    /// The view that is on its way to a node, or was, and did not arrive.
    offered: Mutex<Option<Offer>>,
    /// Whether the state is known to be wrong.
    pub(crate) quarantine: Quarantine,
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

/// A view that is offered to nodes that are too far behind for the log.
struct Offer {
    meta: Meta,
    root: Root,
    made: Instant,
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
        let quarantine = Quarantine::default();
        quarantine.marked(state.root().mark());
        Ok(Self {
            quarantine,
            offered: Mutex::default(),
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
        no_panic("applying a log entry", || Ok(self.apply_next(entry, self.batch(entry)?.as_ref())))
    }

    /// The same, unless that may take long: then nothing has happened.
    pub(crate) fn apply_briefly(&self, entry: &Entry) -> Result<Option<Applied>, BadRecord> {
        no_panic("applying a log entry", || {
            let batch = self.batch(entry)?;
            let is_long = batch.as_ref().is_some_and(|batch| batch.ops.iter().any(Op::visits_many_keys));
            Ok((!is_long).then(|| self.apply_next(entry, batch.as_ref())))
        })
    }

    /// What the entry holds; nothing for one of openraft's own.
    fn batch<'e>(&self, entry: &'e Entry) -> Result<Option<Batch<'e>>, BadRecord> {
        let batch = codec::batch(entry)?;
        #[cfg(test)]
        let batch = self.gate.planted.stamp(batch);
        Ok(batch)
    }

    /// `batch` is what the entry holds.
    fn apply_next(&self, entry: &Entry, batch: Option<&Batch<'_>>) -> Applied {
        let Entry { log_id, payload } = entry;
        let at = codec::sequence(log_id.index);
        let body_len = codec::body_len(entry);
        let mut core = self.core.lock();
        let outcomes = match (batch, payload) {
            (Some(batch), _) => {
                let outcomes = core.state.apply(at, batch);
                self.judge(&core, at.get(), batch, &outcomes);
                outcomes
            }
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

    /// Takes note of what a batch says about the state of the nodes. Whoever was something else than a majority answers
    /// nobody from here on; the answers to this batch are not given either.
    fn judge(&self, core: &Core, index: u64, batch: &Batch<'_>, outcomes: &[Outcome]) {
        for (op, outcome) in batch.ops.iter().zip(outcomes) {
            match (op, outcome) {
                (Op::Mark, _) => self.quarantine.marked(core.state.root().mark()),
                (Op::Check { .. }, Outcome::Reply(Reply::Bool(true))) => self.quarantine.agreed(index),
                (Op::Check { at, .. }, Outcome::Reply(Reply::Bool(false))) => {
                    self.diverged(core, index, *at);
                }
                _ => {}
            }
        }
    }

    fn diverged(&self, core: &Core, check_index: u64, marked_index: u64) {
        if is_sole_voter(core.membership.membership(), self.node) {
            self.quarantine.noticed();
            tracing::error!(
                marked_index,
                check_index,
                "the state of this node is not what a majority of its cluster had; nobody is left to learn it from"
            );
        } else if self.quarantine.impose(check_index) {
            self.gate.quarantine(true);
            tracing::error!(
                marked_index,
                check_index,
                "the state of this node is not what a majority of the nodes had: it serves nobody until it has learnt it \
                 anew from the leader"
            );
        }
    }

    /// Puts a state in the place of the one that is known to be wrong: that of the leader, at an entry that is applied
    /// here too, and what `log` has behind it. Durable on return. Log, vote and membership stay what they are.
    ///
    /// `log` reads entries by their openraft numbers, from the first up to before the second; it may return fewer.
    pub(crate) fn relearn(
        &self,
        root: Root,
        log: impl Fn(u64, u64) -> Result<Vec<Entry>, openraft::StorageError<u64>>,
    ) -> Result<(), RelearnError> {
        let mut state = State::from_root(root);
        loop {
            catch_up(&mut state, self.applied_record_index(), &log)?;
            let mut core = self.core.lock();
            let applied = core.last_applied.map_or(0, |id| codec::record_id(&id).index);
            let learnt = state.applied().map_or(0, Sequence::get);
            // While this is done nothing else is applied, so not much may be left to do.
            if applied.saturating_sub(learnt) <= RELEARNED_AT_ONCE_MAX {
                catch_up(&mut state, applied, &log)?;
                core.state.replace(state.root());
                self.quarantine.marked(state.root().mark());
                break;
            }
        }
        // What is on disk, or kept for restores, may be wrong as well.
        let view = self.view().expect("something is applied, or there was nothing to learn");
        self.write_over(&view)?;
        self.lift_quarantine();
        Ok(())
    }

    /// Makes a view the only snapshot on disk, whatever is there.
    fn write_over(&self, view: &View) -> Result<(), StorageError> {
        let _storing = self.storing.lock();
        let begun = Instant::now();
        let written = snapshot_file::write(&self.dir, &self.keyring, &view.meta, &view.root, Older::Replaced);
        let info = written.inspect_err(|_| self.count_failed_snapshot())?;
        self.count_snapshot(begun.elapsed(), &info);
        self.log_bytes_stored.store(view.log_bytes, Ordering::Release);
        *self.stored.lock() = Some(Stored { meta: view.meta.clone(), info });
        let doubtful: Vec<_> =
            snapshot::list(&self.dir)?.older.into_iter().map(|listed| listed.path).collect();
        snapshot::remove_older(&self.dir, &doubtful)
    }

    fn lift_quarantine(&self) {
        if self.quarantine.lift() {
            self.gate.quarantine(false);
            tracing::info!("this node has learnt the state of its cluster anew and serves again");
        }
    }

    /// Whether enough has been applied since the stored snapshot to take the next one.
    pub(crate) fn is_snapshot_due(&self) -> bool {
        self.log_bytes_since_snapshot() >= self.log_bytes_max
    }

    /// How much leisure the writing of a snapshot has, from 1 to 0: the less, the more the log has grown beyond the size
    /// at which a snapshot is due.
    pub(crate) fn leisure(&self) -> f64 {
        leisure(self.log_bytes_since_snapshot(), self.log_bytes_max)
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

    /// A snapshot was written.
    fn count_snapshot(&self, took: Duration, info: &Info) {
        let mut counts = self.counts.lock();
        counts.taken += 1;
        counts.last_duration = Some(took);
        counts.durations.count(took);
        counts.bytes += info.size_bytes;
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

    /// The view that is sent to nodes that are too far behind for the log, whose first record is, or would be,
    /// `log_begins`: the same for a while, so that what has arrived of it need not be sent again.
    pub(crate) fn offer(&self, log_begins: u64) -> Option<openraft::Snapshot<super::TypeConfig>> {
        let mut offered = self.offered.lock();
        let is_of_use = |offer: &Offer| {
            offer.made.elapsed() < OFFER_TIME_MAX && record_index(&offer.meta) + 1 >= log_begins
        };
        offered.take_if(|offer| !is_of_use(offer));
        match &*offered {
            Some(Offer { meta, root, .. }) => {
                let snapshot = Box::new(Image(Some(root.clone())));
                Some(openraft::Snapshot { meta: meta.clone(), snapshot })
            }
            None => self.view().map(View::into_snapshot),
        }
    }

    /// A view is about to be sent: until it has arrived it is what others are offered.
    pub(crate) fn offered(&self, snapshot: &openraft::Snapshot<super::TypeConfig>) {
        let mut offered = self.offered.lock();
        if let (None, Some(root)) = (&*offered, &snapshot.snapshot.0) {
            *offered = Some(Offer { meta: snapshot.meta.clone(), root: root.clone(), made: Instant::now() });
        }
    }

    /// What was offered has arrived, or nobody is to get it any more.
    pub(crate) fn withdraw_offer(&self) {
        *self.offered.lock() = None;
    }

    /// Lets go of an offer that is too old to be of use: it keeps what has been replaced since in memory.
    pub(crate) fn forget_old_offer(&self) {
        self.offered.lock().take_if(|offer| offer.made.elapsed() >= OFFER_TIME_MAX);
    }

    /// The snapshot on disk.
    pub(crate) fn stored(&self) -> Option<Stored> {
        self.stored.lock().clone()
    }

    /// Makes a view the snapshot on disk, unless that is newer, or as new and sealed under the active key. Blocks until it
    /// is durable.
    pub(crate) fn store(&self, view: &View) -> Result<Stored, StorageError> {
        self.store_breathing(view, || ())
    }

    /// The same; calls `breathe` again and again, which may take its time.
    pub(crate) fn store_breathing(&self, view: &View, breathe: impl Fn()) -> Result<Stored, StorageError> {
        let _storing = self.storing.lock();
        if let Some(stored) = self.stored()
            && (stored.meta.last_log_id > view.meta.last_log_id || self.is_stored(view.record_index()))
        {
            return Ok(stored);
        }
        let begun = Instant::now();
        let (meta, root) = (&view.meta, &view.root);
        let info = snapshot_file::write_breathing(&self.dir, &self.keyring, meta, root, self.older, breathe)
            .inspect_err(|_| self.count_failed_snapshot())?;
        self.count_snapshot(begun.elapsed(), &info);
        self.log_bytes_stored.store(view.log_bytes, Ordering::Release);
        let stored = Stored { meta: view.meta.clone(), info };
        *self.stored.lock() = Some(stored.clone());
        Ok(stored)
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
        self.quarantine.marked(core.state.root().mark());
        drop(core);
        self.lift_quarantine();
        Ok(())
    }
}

/// Why a state was not learnt anew. The node stays in quarantine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelearnError {
    /// It was not stored.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log behind it could not be read.
    #[error("the log behind it cannot be read: {0}")]
    Log(#[from] openraft::StorageError<u64>),
    /// An entry makes no sense.
    #[error(transparent)]
    Unreadable(#[from] BadRecord),
    /// The log does not reach back to it.
    #[error("it ends with entry {learnt}, and the log here does not have the one after it")]
    Gap {
        /// The last entry of the state.
        learnt: u64,
    },
    /// A check in the log finds this one wrong too.
    #[error("it is not what a majority had either, says entry {0}")]
    Diverged(u64),
}

/// Entries that may be applied to a state that is learnt anew while nothing else is.
const RELEARNED_AT_ONCE_MAX: u64 = 64;

/// Applies what the log has behind `state`, up to a record.
fn catch_up(
    state: &mut State,
    up_to: u64,
    log: &impl Fn(u64, u64) -> Result<Vec<Entry>, openraft::StorageError<u64>>,
) -> Result<(), RelearnError> {
    loop {
        let learnt = state.applied().map_or(0, Sequence::get);
        if learnt >= up_to {
            return Ok(());
        }
        // openraft's number of the next entry is that of the last one here.
        let entries = log(learnt, up_to)?;
        if entries.first().is_none_or(|entry| codec::sequence(entry.log_id.index).get() != learnt + 1) {
            return Err(RelearnError::Gap { learnt });
        }
        for entry in &entries {
            let at = codec::sequence(entry.log_id.index);
            let Some(batch) = codec::batch(entry)? else {
                state.skip(at);
                continue;
            };
            let outcomes = state.apply(at, &batch);
            let is_wrong = |(op, outcome): (&Op<'_>, &Outcome)| {
                matches!(op, Op::Check { .. }) && *outcome == Outcome::Reply(Reply::Bool(false))
            };
            if batch.ops.iter().zip(&outcomes).any(is_wrong) {
                return Err(RelearnError::Diverged(at.get()));
            }
        }
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

/// See [`Machine::leisure`].
#[allow(clippy::cast_precision_loss, reason = "it is a matter of degree")]
fn leisure(log_bytes: u64, due_bytes: u64) -> f64 {
    let excess = log_bytes.saturating_sub(due_bytes) as f64;
    (1.0 - excess / (due_bytes / LOG_EXCESS_PART).max(1) as f64).max(0.0)
}

#[cfg(test)]
mod tests;
