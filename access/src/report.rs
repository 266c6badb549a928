//! Facts of other parts of the server that INFO and the status commands repeat.
//!
//! The door knows nothing of sockets, TLS or files; whoever puts the server together says here how they are
//! set. Everything that moves while the server runs comes from the node or from the counters instead.

use std::path::PathBuf;
use std::time::Duration;

/// How the server was set up, for INFO, SHOW CLUSTER, SHOW REPLICATION and MAINTENANCE STATUS.
#[derive(Clone, Debug)]
pub struct Report {
    /// `server.version`: the release of the protocol's reference server that this one is compatible with
    /// (clients compare it with `0.4.0` and later).
    pub version: String,
    /// Revision the server was built from, 40 hexadecimal digits, or `unknown`.
    pub git_sha: String,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where server-side backup files live.
    pub backup_dir: PathBuf,
    /// Name of this node in its group, when an operator chose one; otherwise the node's own number is shown.
    pub node_id: Option<String>,
    /// Name of the replication group.
    pub group_id: String,
    /// Which nodes a write waits for: `local`, `majority` or `all`. In a cluster of one they are the same.
    pub write_ack_mode: String,
    /// `host:port` that clients and peers reach this node at.
    pub advertise_addr: String,
    /// Whether every read is answered with what this node has, leader or not, without asking anybody.
    pub local_reads: bool,
    /// How long a node may be silent before SHOW REPLICATION calls it stale.
    pub stale_after: Duration,
    /// Log durability: `sync`, `flush` or `buffered`.
    pub wal_sync_policy: String,
    /// Size at which a log segment is closed, in bytes.
    pub wal_segment_size_bytes: u64,
    /// Closed log segments kept behind a snapshot.
    pub wal_retain_segments: usize,
    /// Period of snapshots, when they are taken by time.
    pub snapshot_interval: Option<Duration>,
    /// Bytes of log after which a snapshot is taken, when they are taken by size.
    pub snapshot_log_bytes: Option<u64>,
    /// Age at which a storage key is replaced, when it is.
    pub key_age_max: Option<Duration>,
    /// Period of the expiry sweeper, when it runs.
    pub expiration_sweep_interval: Option<Duration>,
    /// How long a connection may be idle, when that is limited.
    pub idle_timeout: Option<Duration>,
    /// Most sessions at once.
    pub sessions_max: usize,
    /// Within which time a connection must have said its hello.
    pub hello_timeout: Duration,
    /// Whether the listener speaks TLS.
    pub tls: bool,
    /// Whether clients must present a certificate.
    pub mtls: bool,
    /// Whether zstd may be negotiated.
    pub compression: bool,
    /// Body size from which frames are compressed, in bytes.
    pub compression_threshold_bytes: usize,
    /// Largest frame, in bytes.
    pub frame_len_max: usize,
}
