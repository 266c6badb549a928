//! openraft's own suite, run on the real log and state machine in a directory of their own.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{
    EntryPayload, LogId, OptionalSend, RaftLogReader, Snapshot, StorageError, StoredMembership, Vote,
};
use tempfile::TempDir;
use vaylix_engine::keyring::Keyring;
use vaylix_engine::layout::DataDir;
use vaylix_engine::wal::{self, Wal};

use super::codec::Entry;
use super::hard_state::HardState;
use super::log_store::LogStore;
use super::machine::{Machine, Meta};
use super::snapshot_file::Older;
use super::state_machine::{Builder, StateMachine};
use super::{Applied, Image, Member, TypeConfig};
use crate::gate::Gate;
use crate::identity::{ClusterId, Identity, NodeId};

const NODE: u64 = 5;

struct Store {
    dir: DataDir,
    keyring: Arc<Keyring>,
    wal: Wal,
}

impl Store {
    fn open(temp: &TempDir) -> Self {
        let dir = DataDir::open_or_create(temp.path()).unwrap();
        let keyring = Arc::new(Keyring::open_or_create(&dir, 0).unwrap());
        let config = wal::Config { initial_size_bytes: 64 << 10, prezero: false, ..wal::Config::default() };
        let (wal, _) = Wal::open(&dir, config, keyring.clone()).unwrap();
        Self { dir, keyring, wal }
    }

    fn log_store(&self, gate: Arc<Gate>) -> LogStore {
        let hard_state = HardState::load(&self.dir, &self.keyring).unwrap().unwrap_or(HardState {
            identity: Identity { node: NodeId::new(NODE).unwrap(), cluster: ClusterId::from_bytes([1; 16]) },
            vote: None,
        });
        let found = wal::Recovery::default();
        LogStore::new(self.dir.clone(), self.keyring.clone(), self.wal.clone(), hard_state, gate, &found)
    }
}

struct InTempDir;

impl StoreBuilder<TypeConfig, Unpurged, Gapless, TempDir> for InTempDir {
    async fn build(&self) -> Result<(TempDir, Unpurged, Gapless), StorageError<u64>> {
        let temp = TempDir::new().unwrap();
        let store = Store::open(&temp);
        let gate = Arc::new(Gate::new(NODE));
        let log_store = store.log_store(gate.clone());
        let machine = Machine::recover(NODE, gate, store.dir, store.keyring, Older::Kept, u64::MAX).unwrap();
        let state_machine = StateMachine::new(Arc::new(machine), store.wal);
        Ok((temp, Unpurged(log_store), Gapless { inner: state_machine, next: 0 }))
    }
}

/// The suite appends entries that have been purged; the engine refuses to write them again, as it should. This
/// leaves them out.
struct Unpurged(LogStore);

impl RaftLogReader<TypeConfig> for Unpurged {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError<u64>> {
        self.0.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError<u64>> {
        self.0.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<TypeConfig> for Unpurged {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        self.0.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        self.0.read_vote().await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        flushed: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let purged = self.0.get_log_state().await?.last_purged_log_id.map(|id| id.index);
        let unpurged: Vec<_> =
            entries.into_iter().filter(|entry| Some(entry.log_id.index) > purged).collect();
        self.0.append(unpurged, flushed).await
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.0.truncate(log_id).await
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.0.purge(log_id).await
    }
}

/// The suite applies entries that do not begin at the beginning and skips some; the engine refuses a gap, as
/// it should. This puts blank entries where the suite leaves holes.
struct Gapless {
    inner: StateMachine,
    next: u64,
}

impl RaftStateMachine<TypeConfig> for Gapless {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, Member>), StorageError<u64>> {
        self.inner.applied_state().await
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut applied = Vec::new();
        for entry in entries {
            let log_id = entry.log_id;
            let blank =
                |index| Entry { log_id: LogId::new(log_id.leader_id, index), payload: EntryPayload::Blank };
            self.inner.apply((self.next..log_id.index).map(blank).collect::<Vec<_>>()).await?;
            applied.extend(self.inner.apply([entry]).await?);
            self.next = log_id.index + 1;
        }
        Ok(applied)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.inner.get_snapshot_builder().await
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Image>, StorageError<u64>> {
        self.inner.begin_receiving_snapshot().await
    }

    async fn install_snapshot(&mut self, meta: &Meta, image: Box<Image>) -> Result<(), StorageError<u64>> {
        self.inner.install_snapshot(meta, image).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        self.inner.get_current_snapshot().await
    }
}

#[test]
fn the_store_passes_openrafts_suite() {
    Suite::test_all(InTempDir).unwrap();
}

#[tokio::test]
async fn the_own_vote_is_read_back_uncommitted_and_anothers_as_it_was() {
    let temp = TempDir::new().unwrap();
    {
        let mut log_store = Store::open(&temp).log_store(Arc::new(Gate::new(NODE)));
        log_store.save_vote(&Vote::new_committed(3, NODE)).await.unwrap();
        assert_eq!(log_store.read_vote().await.unwrap(), Some(Vote::new(3, NODE)));
    }
    let mut log_store = Store::open(&temp).log_store(Arc::new(Gate::new(NODE)));
    assert_eq!(log_store.read_vote().await.unwrap(), Some(Vote::new(3, NODE)), "after a restart");
    log_store.save_vote(&Vote::new_committed(4, NODE + 1)).await.unwrap();
    assert_eq!(log_store.read_vote().await.unwrap(), Some(Vote::new_committed(4, NODE + 1)));
}
