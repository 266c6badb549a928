//! Brings a data directory to life: recovery of everything on disk, then openraft on top.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::SnapshotPolicy;
use vaylix_engine::error::StorageError;
use vaylix_engine::keyring::Keyring;
use vaylix_engine::layout::DataDir;
use vaylix_engine::progress::{Board, Progress};
use vaylix_engine::snapshot;
use vaylix_engine::wal::{self, Wal};
use vaylix_proto::Code;

use super::codec;
use super::hard_state::HardState;
use super::log_store::LogStore;
use super::machine::Machine;
use super::membership::is_sole_voter;
use super::network::{Appends, Network};
use super::office::stopped;
use super::snapshot_file::Older;
use super::state_machine::StateMachine;
use super::{Member, Raft};
use crate::clock;
use crate::config::{Config, Timing};
use crate::error::StartError;
use crate::gate::{Gate, Leadership};
use crate::identity::{ClusterId, Identity};
use crate::limits::{APPEND_TIME_MAX, LOG_READ_BYTES_MAX, REPLICATED_ENTRIES_MAX};
use crate::status::Recovery;
use crate::transport::PeerTransport;

/// Everything a node is made of.
pub(crate) struct Started {
    pub(crate) raft: Raft,
    pub(crate) machine: Arc<Machine>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) wal: Wal,
    pub(crate) dir: DataDir,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) log_store: LogStore,
    pub(crate) recovery: Recovery,
    pub(crate) appends: Arc<Appends>,
}

/// What is on disk, recovered.
struct Opened {
    dir: DataDir,
    keyring: Arc<Keyring>,
    wal: Wal,
    hard_state: HardState,
    gate: Arc<Gate>,
    machine: Arc<Machine>,
    recovery: Recovery,
}

/// Recovers the directory and starts openraft on it. A node that is its cluster's only voter is elected, and
/// has applied everything, when this returns.
pub(crate) async fn start(config: &Config, transport: Arc<dyn PeerTransport>) -> Result<Started, StartError> {
    let started_at = Instant::now();
    let settings = config.clone();
    let opened = tokio::task::spawn_blocking(move || open(settings))
        .await
        .map_err(|error| StartError::Consensus(error.to_string()))??;
    let Opened { dir, keyring, wal, hard_state, gate, machine, mut recovery } = opened;
    let node = hard_state.identity.node.get();
    let found = &recovery.wal;
    let log_store = LogStore::new(dir.clone(), keyring.clone(), wal.clone(), hard_state, gate.clone(), found);
    let state_machine = StateMachine::new(machine.clone(), wal.clone());
    let raft_config = Arc::new(match &config.cluster {
        Some(_) => member_config(config.timing),
        None => raft_config(config.timing),
    });
    let appends = Arc::<Appends>::default();
    let network = Network { transport, appends: appends.clone(), machine: machine.clone() };
    let raft =
        Raft::new(node, raft_config, network, log_store.clone(), state_machine).await.map_err(consensus)?;
    log_store.started();
    let office = take_office(&raft, node, &machine, &gate, config.cluster.is_some());
    if let Err(error) = office.await {
        return Err(log_store.take_refusal().map_or(error, StartError::Storage));
    }
    // Until here a failed sync is a failed start.
    dir.on_failed_sync(config.wal.on_fatal.clone());
    recovery.duration = started_at.elapsed();
    Ok(Started { raft, machine, gate, wal, dir, keyring, log_store, recovery, appends })
}

/// Founds the cluster of a fresh node; elects the only voter of a cluster.
///
/// A node of a cluster comes to its office by election, or to its cluster by founding: both go on after the start.
async fn take_office(
    raft: &Raft,
    node: u64,
    machine: &Machine,
    gate: &Gate,
    in_cluster: bool,
) -> Result<(), StartError> {
    let fresh = !raft.is_initialized().await.map_err(consensus)?;
    let alone = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        is_sole_voter(metrics.membership_config.membership(), node)
    };
    if in_cluster && (fresh || !alone) {
        return Ok(());
    }
    if !fresh && !machine.is_sole_voter() {
        return Err(StartError::Cluster);
    }
    if fresh {
        raft.initialize(BTreeMap::from([(node, Member::default())])).await.map_err(consensus)?;
    } else if machine.is_sole_voter() {
        raft.trigger().elect().await.map_err(consensus)?;
    }
    if fresh || machine.is_sole_voter() {
        tokio::select! {
            () = gate.opened() => {}
            reason = stopped(raft) => {
                return Err(StartError::Consensus(reason.unwrap_or_else(|| "it stopped".to_owned())));
            }
        }
    }
    Ok(())
}

fn consensus(error: impl std::fmt::Display) -> StartError {
    StartError::Consensus(error.to_string())
}

fn raft_config(timing: Timing) -> openraft::Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "vaylix".to_owned(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        max_payload_entries: REPLICATED_ENTRIES_MAX,
        // Snapshots and purges are decided here, by bytes and segments rather than by entries.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        ..openraft::Config::default()
    }
}

/// The same for a node of a cluster, where elections and heartbeats are driven from outside (see [`super::cluster`]).
///
/// What openraft calls the heartbeat interval bounds how long it waits for an append here, and how often it looks after
/// its own affairs. What it calls the election time is the [lease](Timing::lease).
fn member_config(timing: Timing) -> openraft::Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let lease = millis(timing.lease());
    openraft::Config {
        heartbeat_interval: millis(APPEND_TIME_MAX),
        election_timeout_min: lease - 1,
        election_timeout_max: lease,
        enable_elect: false,
        ..raft_config(timing)
    }
}

fn open(config: Config) -> Result<Opened, StartError> {
    let board = config.progress.clone();
    board.begin("opening the data directory");
    let dir = match config.held {
        Some(dir) => dir,
        None => DataDir::open_or_create(&config.data_dir)?,
    };
    let keyring = Arc::new(Keyring::open_or_create_with(&dir, config.kek, clock::now_ms())?);
    match keyring.kek_id() {
        Some(kek) => tracing::info!(%kek, keys = keyring.count(), "the keyring is wrapped"),
        None => tracing::info!(
            keys = keyring.count(),
            "the keyring is not wrapped: it protects only while keyring.bin is kept apart from the other files; whoever \
             has the whole data directory has the data (see --kek-file)"
        ),
    }
    // Everything is read and judged before anything is changed, so that a refusal leaves the evidence as it was.
    // What the snapshot covers need not be read again.
    let covered = snapshot::covered(&dir, &keyring)?.map_or(0, |last| last.index);
    let stored = HardState::load(&dir, &keyring)?;
    let hard_state = match stored {
        Some(hard_state) => hard_state,
        None if config.cluster.is_some() => HardState { identity: Identity::draw_unattached()?, vote: None },
        None => HardState { identity: Identity::draw()?, vote: None },
    };
    if config.cluster.is_none() && hard_state.identity.cluster == ClusterId::NONE {
        return Err(StartError::Unattached);
    }
    let node = hard_state.identity.node.get();
    let gate = Arc::new(Gate::new(node));
    // A promise to somebody else still holds. One to this node itself is no office: see `LogStore::read_vote`.
    if let Some(vote) = hard_state.vote.filter(|vote| vote.leader_id.node_id != node) {
        gate.voting(Leadership { term: vote.leader_id.term, node: vote.leader_id.node_id });
    }
    let log_bytes_max = config.snapshot_log_bytes.unwrap_or(u64::MAX);
    let older = if config.pitr.keeps_any() { Older::Kept } else { Older::Replaced };
    board.begin("loading the snapshot");
    let machine = Machine::recover(node, gate.clone(), dir.clone(), keyring.clone(), older, log_bytes_max)?;
    let snapshot_index = machine.applied_record_index();
    board.begin("reading the log");
    let (wal, found) = Wal::open_if(&dir, config.wal, keyring.clone(), covered, |found| {
        if stored.is_none() {
            require_fresh(&dir, found)?;
        }
        require_connection(&dir, found, snapshot_index)
    })?;
    if stored.is_none() {
        hard_state.store(&dir, &keyring)?;
        tracing::info!(node = %hard_state.identity.node, cluster = %hard_state.identity.cluster, "new node");
    }
    replay(&wal, &machine, &dir, &found, &board)?;
    let recovery = Recovery {
        duration: Duration::ZERO,
        snapshot_index,
        replayed_entries: machine.applied_record_index() - snapshot_index,
        replayed_bytes: machine.log_bytes_since_snapshot(),
        wal: found,
    };
    Ok(Opened { dir, keyring, wal, hard_state, gate, machine: Arc::new(machine), recovery })
}

/// A directory that has lost its identity is refused: under a new name this node could vote a second time.
fn require_fresh(dir: &DataDir, found: &wal::Recovery) -> Result<(), StorageError> {
    if found.last.is_some() || dir.snapshot().exists() {
        return Err(StorageError::new(
            Code::ChecksumValidationFailure,
            "checksum validation failed for the vote: it is missing, but log or snapshot are there",
        )
        .in_file(&dir.vote())
        .advise("restore vote.bin, or remove the node from the cluster and join it afresh"));
    }
    Ok(())
}

/// The log must begin at or before the end of the snapshot.
fn require_connection(dir: &DataDir, found: &wal::Recovery, applied: u64) -> Result<(), StorageError> {
    match &found.purged {
        Some(purged) if purged.index > applied => Err(StorageError::new(
            Code::WalDeserializationFailure,
            format!("the log begins after entry {}, but the snapshot ends with {applied}", purged.index),
        )
        .in_file(&dir.snapshot())
        .advise("the snapshot was lost or replaced by an older one: restore it, or the whole directory")),
        _ => Ok(()),
    }
}

/// Applies what the log has beyond the snapshot, as long as this node alone decided it: everything in the log
/// of an only voter is committed. From the first entry on that others had a say in, the log waits for the
/// leader to tell what is.
fn replay(
    wal: &Wal,
    machine: &Machine,
    dir: &DataDir,
    found: &wal::Recovery,
    board: &Board,
) -> Result<(), StorageError> {
    let applied = machine.applied_record_index();
    let Some(last) = found.last.map(|last| last.index) else { return Ok(()) };
    if last < applied {
        tracing::warn!(
            log_ends_at = last,
            snapshot_ends_at = applied,
            "the log ends before the snapshot: entries after the snapshot, if there were any, are lost"
        );
    }
    let mut next = applied + 1;
    let mut progress = Progress::entries("replaying the log", (last + 1).saturating_sub(next)).on(board);
    while next <= last {
        for record in wal.read(next, last + 1, LOG_READ_BYTES_MAX)? {
            let entry = codec::to_entry(record).map_err(|error| unreadable(dir, error))?;
            if !machine.decides_alone(&entry) {
                return Ok(());
            }
            next = codec::sequence(entry.log_id.index).next().get();
            machine.apply(&entry).map_err(|error| unreadable(dir, error))?;
        }
        progress.reach(next - 1 - applied);
    }
    Ok(())
}

fn unreadable(dir: &DataDir, error: codec::BadRecord) -> StorageError {
    StorageError::new(
        Code::WalDeserializationFailure,
        format!("write-ahead log deserialization failed: {error}"),
    )
    .in_file(&dir.wal())
    .advise("the log was written by a newer release, or is damaged: start that release, or restore a backup")
    .because(error)
}

#[cfg(test)]
mod tests {
    use openraft::ServerState;
    use tempfile::TempDir;
    use vaylix_proto::{Command, SetOptions};

    use super::*;
    use crate::error::ReadError;
    use crate::raft::office::confirm_leadership;
    use crate::transport::NoPeers;
    use crate::{Node, Payload, Proposal};

    #[tokio::test]
    async fn a_restarted_leader_reads_nothing_before_it_is_elected_again() {
        let temp = TempDir::new().unwrap();
        let mut config = Config::new(temp.path());
        config.wal.prezero = false;
        let node = Node::start(config.clone()).await.unwrap();
        let set = Command::Set { key: "k".into(), value: "v".into(), options: SetOptions::default() };
        node.propose(Proposal {
            span: tracing::Span::none(),
            caller: 0,
            access_revision: 0,
            payload: Payload::Command(set),
        })
        .await
        .unwrap();
        let applied = node.status().applied_index;
        node.shutdown().await.unwrap();

        let Opened { dir, keyring, wal, hard_state, gate, machine, recovery } = open(config.clone()).unwrap();
        assert!(hard_state.vote.is_some_and(|vote| vote.committed), "it was in office when it stopped");
        assert_eq!(machine.applied_record_index(), applied, "it knows everything");
        assert!(!gate.is_open(), "but not that nobody else leads");

        let node = hard_state.identity.node.get();
        let state_machine = StateMachine::new(machine.clone(), wal.clone());
        let log_store = LogStore::new(dir, keyring, wal, hard_state, gate.clone(), &recovery.wal);
        let raft_config = openraft::Config { enable_elect: false, ..raft_config(config.timing) };
        let network =
            Network { transport: Arc::new(NoPeers), appends: Arc::default(), machine: machine.clone() };
        let raft = Raft::new(node, Arc::new(raft_config), network, log_store, state_machine).await.unwrap();
        assert_eq!(confirm_leadership(&raft).await, Err(ReadError::NotLeader { leader: None }));
        assert_eq!(raft.metrics().borrow().state, ServerState::Follower);
        assert!(!gate.is_open());

        raft.trigger().elect().await.unwrap();
        gate.opened().await;
        assert_eq!(confirm_leadership(&raft).await, Ok(()));
        assert!(machine.applied_record_index() > applied, "it has an entry of its new term");
        raft.shutdown().await.unwrap();
    }
}
