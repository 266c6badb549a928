//! What a node says about itself, as numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vaylix_engine::durations::{Durations, SharedDurations};
use vaylix_engine::sizes::{SharedSizes, Sizes};
use vaylix_engine::wal;

use crate::identity::{Identity, NodeId};
use crate::transport::Connections;

/// What this node is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Leader,
    /// Stands for election.
    Candidate,
    /// Follows a leader, and votes.
    Follower,
    /// Follows a leader without a vote.
    Learner,
    /// Has stopped.
    Stopped,
}

/// The state of a node at one moment. Log positions count from 1; 0 is "none yet".
#[derive(Clone, Debug)]
pub struct Status {
    /// This node and its cluster.
    pub identity: Identity,
    /// What this node is.
    pub role: Role,
    /// The term of the last vote.
    pub term: u64,
    /// The leader, when one is known.
    pub leader: Option<NodeId>,
    /// Whom the last vote was given to; `None` before any, and for one that was given to nobody.
    pub voted_for: Option<NodeId>,
    /// Nodes with a vote.
    pub voters: usize,
    /// The log entry that made the membership what it is; 0 before there is one.
    pub membership_index: u64,
    /// What the node is in its cluster; `None` for one that was started alone.
    pub cluster: Option<ClusterStatus>,
    /// Whether reads are answered without asking a peer.
    pub reads_open: bool,
    /// The last entry of the log.
    pub last_index: u64,
    /// The last entry known to be on disk here.
    pub durable_index: u64,
    /// The last entry known to be committed. Entries are applied as soon as they are.
    pub commit_index: u64,
    /// The last entry that is part of the state.
    pub applied_index: u64,
    /// How often the system part has changed.
    pub access_revision: u64,
    /// The time of the last batch, unix milliseconds.
    pub time_ms: u64,
    /// The log.
    pub wal: wal::Stats,
    /// The snapshot on disk.
    pub snapshot: Option<SnapshotStatus>,
    /// What became of the snapshots since the start, whoever asked for them.
    pub snapshots: SnapshotCounts,
    /// Bytes of log on disk that a restart would have to apply.
    pub log_bytes_since_snapshot: u64,
    /// What the engine worker has done since the start.
    pub batches: BatchStatus,
    /// What the sweeper has done since the start.
    pub sweeps: SweepStatus,
    /// How the last start went.
    pub recovery: Recovery,
    /// The keys of what is on disk.
    pub keys: KeyStatus,
}

/// The state of a node among others.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// The members, by id.
    pub members: Vec<MemberStatus>,
    /// How far the node is from being of use.
    pub phase: Phase,
    /// Whether the node has had everything since its start that was acknowledged before it.
    pub is_informed: bool,
    /// On a leader: whether a majority has answered lately.
    pub has_quorum: bool,
    /// How long no leader has been heard of; `None` before the first one, and on a leader.
    pub leader_silence: Option<Duration>,
    /// What the calls to peers came to since the start.
    pub calls: PeerCounts,
    /// Bytes that have come of a snapshot that the leader sends, compressed, while one is being received.
    pub incoming_bytes: Option<u64>,
    /// Whether its state is known to differ from that of a majority: it serves nobody until it has learnt it anew.
    pub is_quarantined: bool,
    /// What came of comparing the nodes since the start.
    pub agreement: AgreementCounts,
}

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub node: NodeId,
    /// What its operator calls it; its id if that is not known.
    pub name: String,
    /// Where it is reached.
    pub address: String,
    /// Whether it has a vote.
    pub voter: bool,
    /// On a leader: the last entry that it is known to have.
    pub matched_index: Option<u64>,
    /// On a leader: how long it has not answered.
    pub silence: Option<Duration>,
}

/// How far a node is from being of use to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not belong to a cluster yet.
    Bootstrap,
    /// It is applying what it missed.
    CatchingUp,
    /// It has what the leader says is committed.
    Streaming,
    /// It hears no leader.
    Stale,
}

/// What came of comparing this node's state with that of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgreementCounts {
    /// Checks in the log that found the state of this node as it should be.
    pub agreed: u64,
    /// The entry of the last of them; 0 before the first.
    pub agreed_index: u64,
    /// Checks that found it otherwise.
    pub diverged: u64,
    /// On a leader: comparisons in which no majority had the same state.
    pub undecided: u64,
    /// How often the state was thrown away and learnt anew.
    pub relearned: u64,
}

/// What the calls to peers came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Heartbeats that were not answered.
    pub heartbeats_failed: u64,
    /// Calls with log entries that were not answered.
    pub appends_failed: u64,
    /// From the first byte of these to their answers, the sync of the other's disk included.
    pub append_times: Durations,
    /// Connections that were opened.
    pub connections: Connections,
}

impl PeerCounts {
    /// How long a call with log entries took on average; zero before the first.
    #[must_use]
    pub fn append_time_average(&self) -> Duration {
        let average_us = self.append_times.sum_us().checked_div(self.append_times.len());
        Duration::from_micros(average_us.unwrap_or_default())
    }
}

/// The snapshot on disk, by this process or an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// The last log entry it covers.
    pub index: u64,
    /// Its size on disk.
    pub size_bytes: u64,
    /// When it was taken, unix milliseconds.
    pub taken_ms: u64,
}

/// What became of the snapshots since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotCounts {
    /// Snapshots that were written.
    pub taken: u64,
    /// How long the writing of the last one took.
    pub last_duration: Option<Duration>,
    /// How long the writing of each took.
    pub durations: Durations,
    /// Bytes of all of them on disk, also of those that are gone.
    pub bytes: u64,
    /// Attempts that failed; the log stays complete.
    pub failed: u64,
    /// When the last of them failed, unix milliseconds.
    pub last_failed_ms: Option<u64>,
}

/// The storage keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The key that seals what is written now: a UUID as text.
    pub active_id: String,
    /// When it was made, unix milliseconds.
    pub active_created_ms: u64,
    /// How many keys there are, the active one included.
    pub count: usize,
    /// Whether the keyring is wrapped under a key-encryption key.
    pub wrapped: bool,
}

/// What the engine worker has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchStatus {
    /// Log entries proposed.
    pub batches: u64,
    /// Commands in them.
    pub commands: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Most commands in one.
    pub commands_max: u64,
    /// How many commands they hold.
    pub sizes: Sizes,
    /// From being handed to consensus until their outcomes are known here: on the disks of a majority, and applied.
    pub until_applied: Durations,
    /// Commands sent back because access control had changed.
    pub stale: u64,
}

/// What the sweeper has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepStatus {
    /// Sweeps that found something.
    pub sweeps: u64,
    /// Expired keys removed.
    pub keys: u64,
}

/// How a start went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// From opening the directory to being ready.
    pub duration: Duration,
    /// The last log entry that came with the snapshot; 0 without one.
    pub snapshot_index: u64,
    /// Log entries applied on top of it.
    pub replayed_entries: u64,
    /// Their bytes on disk.
    pub replayed_bytes: u64,
    /// What was found in the log.
    pub wal: wal::Recovery,
}

/// Counts up from 0.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a running node counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    batches: Counter,
    commands: Counter,
    bytes: Counter,
    commands_max: AtomicU64,
    sizes: SharedSizes,
    pub(crate) until_applied: SharedDurations,
    pub(crate) stale: Counter,
    pub(crate) sweeps: Counter,
    pub(crate) swept_keys: Counter,
}

impl Counters {
    pub(crate) fn batch(&self, commands: usize, bytes: usize) {
        self.batches.add(1);
        self.commands.add(commands as u64);
        self.bytes.add(bytes as u64);
        self.commands_max.fetch_max(commands as u64, Ordering::Relaxed);
        self.sizes.count(commands as u64);
    }

    pub(crate) fn batches(&self) -> BatchStatus {
        BatchStatus {
            batches: self.batches.get(),
            commands: self.commands.get(),
            bytes: self.bytes.get(),
            commands_max: self.commands_max.load(Ordering::Relaxed),
            sizes: self.sizes.get(),
            until_applied: self.until_applied.get(),
            stale: self.stale.get(),
        }
    }

    pub(crate) fn sweeps(&self) -> SweepStatus {
        SweepStatus { sweeps: self.sweeps.get(), keys: self.swept_keys.get() }
    }
}
