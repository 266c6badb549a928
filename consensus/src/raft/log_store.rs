//! openraft's log and vote, kept by the engine.
//!
//! - `append` hands records to the log's own thread and returns; openraft is told "flushed" only from there,
//!   after the records are on disk as the sync policy demands.
//! - The node's own vote is read back as *not committed*. openraft takes a committed vote of its own as office
//!   and would resume it at once after a restart, serving reads before it knows what was committed meanwhile.
//!   An uncommitted one is merely a promise not to vote twice: the node must win a new election first.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, LogId, OptionalSend, RaftLogReader, StorageError, Vote};
use parking_lot::Mutex;
use tracing::Span;
use vaylix_engine::error::StorageError as EngineError;
use vaylix_engine::keyring::Keyring;
use vaylix_engine::layout::DataDir;
use vaylix_engine::wal::{self, RecordId, Terms, Wal};

use super::TypeConfig;
use super::codec::{self, Entry};
use super::fault;
use super::hard_state::HardState;
use super::membership::is_sole_voter;
use crate::clock;
use crate::gate::{Gate, Leadership};
use crate::identity::{ClusterId, Identity};
use crate::limits::LOG_READ_BYTES_MAX;

/// How long a vote that the disk refused waits.
const VOTE_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// The log store. Clones share everything; openraft holds one for writing and one per reader.
#[derive(Clone)]
pub(crate) struct LogStore {
    wal: Wal,
    shared: Arc<Shared>,
}

struct Shared {
    dir: DataDir,
    keyring: Arc<Keyring>,
    hard_state: Mutex<HardState>,
    gate: Arc<Gate>,
    /// What the disk refused last; openraft keeps only the text.
    refusal: Mutex<Option<vaylix_engine::StorageError>>,
    /// For openraft the log begins behind this record: before it, something is damaged.
    unknown_up_to: Option<RecordId>,
    /// What openraft asks for while it starts, entry by entry: who led when. `None` once it has started.
    unread: Mutex<Option<Terms>>,
}

type Result<T> = std::result::Result<T, StorageError<u64>>;

impl LogStore {
    pub(crate) fn new(
        dir: DataDir,
        keyring: Arc<Keyring>,
        wal: Wal,
        hard_state: HardState,
        gate: Arc<Gate>,
        found: &wal::Recovery,
    ) -> Self {
        let shared = Shared {
            dir,
            keyring,
            hard_state: Mutex::new(hard_state),
            gate,
            refusal: Mutex::default(),
            unknown_up_to: found.unknown_up_to,
            unread: Mutex::new(Some(found.unread.clone())),
        };
        Self { wal, shared: Arc::new(shared) }
    }

    /// From now on entries are asked for to be read.
    pub(crate) fn started(&self) {
        self.shared.unread.lock().take();
    }

    /// An entry that openraft asks for while it starts: alone, for its name.
    fn name_only(&self, from: u64, to: u64) -> Option<Entry> {
        let id = self.shared.unread.lock().as_ref()?.id_of(codec::sequence(from).get())?;
        (from + 1 == to).then(|| Entry { log_id: codec::log_id(&id), payload: EntryPayload::Blank })
    }

    /// The last record that is gone for openraft.
    fn gone(&self) -> Option<RecordId> {
        let index = |id: &RecordId| id.index;
        self.wal.purged().into_iter().chain(self.shared.unknown_up_to).max_by_key(index)
    }

    /// Why the vote could not be stored, if that is why openraft stopped.
    pub(crate) fn take_refusal(&self) -> Option<vaylix_engine::StorageError> {
        self.shared.refusal.lock().take()
    }

    /// Writes the vote as it is, under the active storage key. Blocks until it is durable.
    pub(crate) fn seal_vote_anew(&self) -> std::result::Result<(), EngineError> {
        self.shared.hard_state.lock().store(&self.shared.dir, &self.shared.keyring)
    }

    /// Who this node is.
    pub(crate) fn identity(&self) -> Identity {
        self.shared.hard_state.lock().identity
    }

    /// Makes this node part of `cluster`, durably, if it belongs to none. Returns the cluster it belongs to. Blocks.
    pub(crate) fn adopt(&self, cluster: ClusterId) -> std::result::Result<ClusterId, EngineError> {
        let mut hard_state = self.shared.hard_state.lock();
        if hard_state.identity.cluster == ClusterId::NONE {
            let identity = Identity { cluster, ..hard_state.identity };
            let next = HardState { identity, ..*hard_state };
            next.store(&self.shared.dir, &self.shared.keyring)?;
            *hard_state = next;
        }
        Ok(hard_state.identity.cluster)
    }

    /// Entries `from..to` by openraft's count, perhaps not all of them.
    pub(crate) fn entries(&self, from: u64, to: u64) -> Result<Vec<Entry>> {
        read_piece(&self.wal, from, to)
    }

    fn node(&self) -> u64 {
        self.shared.hard_state.lock().identity.node.get()
    }

    /// Runs something that waits for the disk where waiting is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(store)).await.map_err(fault::write_logs)?
    }
}

/// Stores a vote until the disk allows it: openraft stops on a failure, and a node that waits has promised nothing yet.
/// At the start and at the end of a node a refusal is final.
fn insist(
    gate: &Gate,
    store: impl Fn() -> std::result::Result<(), vaylix_engine::StorageError>,
) -> std::result::Result<(), vaylix_engine::StorageError> {
    let mut said = false;
    loop {
        match store() {
            Err(error) if error.may_pass() && gate.is_serving() => {
                if !std::mem::replace(&mut said, true) {
                    tracing::error!(code = %error.code(), %error, "the disk refuses the vote: trying until it does not");
                }
                std::thread::sleep(VOTE_RETRY_INTERVAL);
            }
            outcome => return outcome,
        }
    }
}

/// Entries `from..to` by openraft's count, at most about [`LOG_READ_BYTES_MAX`] bytes but at least one if there
/// is one.
fn read_piece(wal: &Wal, from: u64, to: u64) -> Result<Vec<Entry>> {
    let records = wal.read(from + 1, to.saturating_add(1), LOG_READ_BYTES_MAX).map_err(fault::read_logs)?;
    records.into_iter().map(|record| codec::to_entry(record).map_err(fault::read_logs)).collect()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>> {
        let (from, to) = half_open(&range);
        if let Some(entry) = self.name_only(from, to) {
            return Ok(vec![entry]);
        }
        let first = self.wal.first_index().map_or(0, codec::raft_index);
        let from = from.max(first).max(self.gone().map_or(0, |gone| gone.index));
        let mut entries = Vec::new();
        let mut next = from;
        while next < to {
            let piece = read_piece(&self.wal, next, to)?;
            let Some(last) = piece.last() else { break };
            next = last.log_id.index + 1;
            entries.extend(piece);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>> {
        read_piece(&self.wal, start, end)
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>> {
        let last_purged_log_id = self.gone().as_ref().map(codec::log_id);
        let last_log_id = self.wal.last_id().as_ref().map(codec::log_id).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<()> {
        let vote = *vote;
        // First: from here on another leader may be elected with our consent.
        self.shared.gate.voting(Leadership { term: vote.leader_id.term, node: vote.leader_id.node_id });
        self.blocking(move |store| {
            let mut hard_state = store.shared.hard_state.lock();
            let next = HardState { vote: Some(vote), ..*hard_state };
            let store_vote = || {
                #[cfg(test)]
                if store.shared.gate.planted.is(crate::planted::Bug::VoteNotStored) {
                    return Ok(());
                }
                next.store(&store.shared.dir, &store.shared.keyring)
            };
            if let Err(error) = insist(&store.shared.gate, store_vote) {
                let told = io::Error::other(error.to_string());
                *store.shared.refusal.lock() = Some(error);
                return Err(fault::write_vote(told));
            }
            *hard_state = next;
            Ok(())
        })
        .await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>> {
        let node = self.node();
        let vote = self.shared.hard_state.lock().vote;
        Ok(vote.map(
            |vote| {
                if vote.leader_id.node_id == node { Vote::new(vote.leader_id.term, node) } else { vote }
            },
        ))
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<TypeConfig>) -> Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let now_ms = clock::now_ms();
        let node = self.node();
        let followed = &self.shared.gate.followed;
        let mut span = Span::none();
        let records = entries
            .into_iter()
            .map(|entry| {
                if let EntryPayload::Normal(body) = &entry.payload
                    && let Some(found) = followed.appended(&body.bytes, entry.log_id.index)
                {
                    span = found;
                }
                if let EntryPayload::Membership(membership) = &entry.payload {
                    self.shared.gate.membership(entry.log_id.index, is_sole_voter(membership, node));
                }
                codec::to_record(entry, now_ms)
            })
            .collect();
        let done = Box::new(move |result: io::Result<()>| flushed.log_io_completed(result));
        self.wal.append_within(span, records, done);
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<()> {
        let from = codec::record_id(&log_id).index;
        self.blocking(move |store| store.wal.truncate_from(from).map_err(fault::write_logs)).await
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<()> {
        let up_to = codec::record_id(&log_id);
        if !self.shared.gate.arrival.covers(up_to.index).await {
            return Err(fault::write_logs(io::Error::other(
                "the snapshot that covers the log was not stored",
            )));
        }
        self.blocking(move |store| match store.wal.purge_to(up_to) {
            // openraft stops on a failure. What stays is not asked for any more, and goes with the next purge.
            Err(error) if error.may_pass() => {
                tracing::warn!(%error, "the log keeps what it could let go of");
                Ok(())
            }
            purged => purged.map_err(fault::write_logs),
        })
        .await
    }
}
