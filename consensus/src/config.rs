//! How a node runs.

use std::path::PathBuf;
use std::time::Duration;

use vaylix_engine::kek::Kek;
use vaylix_engine::layout::DataDir;
use vaylix_engine::progress::Board;
use vaylix_engine::snapshot::Retention;
use vaylix_engine::wal;

use crate::limits::{
    GATHER_YIELDS_DEFAULT, KEY_AGE_MAX_DEFAULT, SNAPSHOT_LOG_BYTES_DEFAULT, STUCK_PATIENCE_DEFAULT,
};

/// How a node runs. [`Config::new`] has the defaults.
#[derive(Clone)]
pub struct Config {
    /// The data directory; created when missing.
    pub data_dir: PathBuf,
    /// The same, if the caller holds it already.
    pub held: Option<DataDir>,
    /// The key-encryption key that the keyring is wrapped under; `None` when it is not wrapped. Must be what the keyring
    /// was made with.
    pub kek: Option<Kek>,
    /// Age at which the active storage key is replaced by a new one; `None` never.
    pub key_age_max: Option<Duration>,
    /// How the log is kept, above all when a write counts as durable.
    pub wal: wal::Config,
    /// Take a snapshot when entries that take so many bytes of log on disk have been applied since the last one;
    /// `None` never.
    pub snapshot_log_bytes: Option<u64>,
    /// Take a snapshot so often, if anything has been applied meanwhile; `None` never. The first one is due a full
    /// interval after the start.
    pub snapshot_interval: Option<Duration>,
    /// Log segments kept although a snapshot covers them, whether a restore to a point in time needs them or not.
    pub retained_segments: usize,
    /// How much of the past can be restored: older snapshots and the log between them are kept for it.
    pub pitr: Retention,
    /// How often expired keys are looked for.
    pub sweep_interval: Duration,
    /// How often the engine worker lets others run before it closes a batch.
    pub gather_yields: u32,
    /// How long the disk may keep a write waiting before its callers are told that its outcome is unknown.
    pub stuck_patience: Duration,
    /// The times of elections.
    pub timing: Timing,
    /// Whom it forms a cluster with; `None` for a node that is alone.
    pub cluster: Option<ClusterConfig>,
    /// Where the start shows how far it is.
    pub progress: Board,
}

/// What makes a node part of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// What the operator calls this node.
    pub name: String,
    /// Where clients and peers reach it, `host:port`.
    pub address: String,
    /// Where its control plane is reached, `host:port`, if it has one: told to peers that ask.
    pub admin_address: Option<String>,
    /// Every node of the cluster as it is to be founded, this one included. Afterwards only places to ask for the
    /// cluster.
    pub seeds: Vec<Seed>,
    /// Whom a write waits for.
    pub acknowledge: Acknowledge,
    /// How long it does.
    pub acknowledge_timeout: Duration,
    /// After so many log entries the nodes compare their states; after
    /// [`AGREEMENT_TIME_MAX`](crate::limits::AGREEMENT_TIME_MAX) also after fewer.
    pub agreement_entries: u64,
}

/// A node as the operator lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed {
    /// Its name.
    pub name: String,
    /// Where it listens, `host:port`.
    pub address: String,
}

/// Whose disks must have a write before it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// Those of a majority of the voters: what Raft calls committed.
    #[default]
    Majority,
    /// Those of all voters.
    All,
}

/// The times of elections. A cluster of one elects itself at once, whatever they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader shows that it lives.
    pub heartbeat: Duration,
    /// The silence after which a follower stands for election is drawn from here.
    pub election_min: Duration,
    /// To here.
    pub election_max: Duration,
}

impl Timing {
    /// How long a voter that hears a leader refuses its vote to others: a little less than the shortest silence after which
    /// anybody asks for it.
    pub(crate) fn lease(self) -> Duration {
        (self.election_min * 3 / 4).max(Duration::from_millis(2))
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1_000),
        }
    }
}

impl Config {
    /// The defaults: every acknowledged write is synced, a snapshot every 256 MiB of log, nothing kept of what it
    /// covers, a new storage key every 90 days, expired keys swept every second.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            held: None,
            kek: None,
            key_age_max: Some(KEY_AGE_MAX_DEFAULT),
            wal: wal::Config::default(),
            snapshot_log_bytes: Some(SNAPSHOT_LOG_BYTES_DEFAULT),
            snapshot_interval: None,
            retained_segments: 0,
            pitr: Retention::NONE,
            sweep_interval: Duration::from_secs(1),
            gather_yields: GATHER_YIELDS_DEFAULT,
            stuck_patience: STUCK_PATIENCE_DEFAULT,
            timing: Timing::default(),
            cluster: None,
            progress: Board::default(),
        }
    }
}
