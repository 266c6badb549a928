//! Every setting of the server: one table, read from the command line, then the environment, then the settings file, then
//! defaults.
//!
//! The names are those of the public release, so that its unit files and container definitions keep working.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use vaylix_consensus::limits::{AGREEMENT_ENTRIES_DEFAULT, KEY_AGE_MAX_DEFAULT, SNAPSHOT_LOG_BYTES_DEFAULT};
use vaylix_tls::UserRule;

use crate::settings_file::SettingsFile;
use crate::shown::{self, Shown};

/// What the command line and the environment say, before it is checked.
#[derive(Parser)]
#[command(
    name = "vaylix",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("VAYLIX_GIT_SHA"), ")"),
    about = "Vaylix: a secure, consensus-backed key-value database for operational state",
    after_help = "Every option can also be given in the environment, for example VAYLIX_PORT for --port, and in the file \
                  that --config names, as port = 9173. The command line wins over the environment, and that over the file.\n\
                  RUST_LOG chooses what is logged: error, warn, info or debug.\n\
                  OTEL_EXPORTER_OTLP_ENDPOINT names a collector of OpenTelemetry that gets spans; docs/observability.md\n\
                  lists the other variables that begin with OTEL_.\n\
                  VAYLIX_KEK has no option: it can hold the key-encryption key, which belongs on no command line.\n\
                  Exit status: 0 stopped cleanly or done, 1 could not start or be done, 2 wrong options.\n\
                  Documentation: docs/server.md, docs/operations.md and the other pages of docs/ in the source tree."
)]
pub(crate) struct Flags {
    /// Address to listen on, for example 127.0.0.1, ::1 or 0.0.0.0.
    #[arg(long, env = "VAYLIX_BIND", default_value = "127.0.0.1", help_heading = NETWORK)]
    pub(crate) bind: String,

    /// Port to listen on; 0 picks a free one.
    #[arg(long, env = "VAYLIX_PORT", default_value_t = 9173, help_heading = NETWORK)]
    pub(crate) port: u16,

    /// Sessions served at once; further clients are refused with SRV-013.
    #[arg(long, env = "VAYLIX_MAX_CONNECTIONS", default_value_t = 256, help_heading = NETWORK,
          value_parser = at_least_one)]
    pub(crate) max_connections: usize,

    /// Close a connection that has not finished its hello after this many milliseconds.
    #[arg(long, env = "VAYLIX_HANDSHAKE_TIMEOUT_MS", default_value_t = 5_000, help_heading = NETWORK,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) handshake_timeout_ms: u64,

    /// Close a session that has sent no request for this many seconds [default: never].
    #[arg(long, env = "VAYLIX_IDLE_TIMEOUT_SECONDS", help_heading = NETWORK,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) idle_timeout_seconds: Option<u64>,

    /// Log one line per request.
    #[arg(long, env = "VAYLIX_LOG_REQUESTS", help_heading = NETWORK)]
    pub(crate) log_requests: bool,

    /// How the log is written: lines for people, or one JSON object per line.
    #[arg(long, env = "VAYLIX_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, help_heading = NETWORK)]
    pub(crate) log_format: LogFormat,

    /// Never negotiate zstd compression.
    #[arg(long, env = "VAYLIX_DISABLE_COMPRESSION", help_heading = NETWORK)]
    pub(crate) disable_compression: bool,

    /// Serve TLS only; needs --tls-cert and --tls-key. Bare --ssl means true.
    #[arg(long, env = "VAYLIX_SSL", num_args = 0..=1, default_missing_value = "true", help_heading = TLS)]
    pub(crate) ssl: Option<bool>,

    /// PEM file with the server's certificate and, behind it, those that lead to its authority. Read again on SIGHUP
    /// and when it changes, together with the other two.
    #[arg(long, env = "VAYLIX_TLS_CERT", help_heading = TLS)]
    pub(crate) tls_cert: Option<PathBuf>,

    /// PEM file with its private key (PKCS#8, RSA or EC), not encrypted.
    #[arg(long, env = "VAYLIX_TLS_KEY", help_heading = TLS)]
    pub(crate) tls_key: Option<PathBuf>,

    /// PEM file with certificate authorities. With it every client must present a certificate of one of them; it
    /// logs in all the same.
    #[arg(long, env = "VAYLIX_TLS_CLIENT_CA", help_heading = TLS)]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// The part of a client's certificate that names the user it stands for on the control plane, when a request brings no
    /// other proof. Needs --tls-client-ca, with an authority that issues certificates to users alone. Not set, certificates
    /// stand for nobody.
    #[arg(long, env = "VAYLIX_ADMIN_CERT_USER", value_enum, value_name = "PART", help_heading = CONTROL)]
    pub(crate) admin_cert_user: Option<CertUser>,

    /// Address of the control plane: gRPC and HTTP for administration, probes and metrics.
    #[arg(long, env = "VAYLIX_ADMIN_BIND", default_value = "127.0.0.1", help_heading = CONTROL)]
    pub(crate) admin_bind: String,

    /// Its port; 0 picks a free one. It speaks TLS when the server does, with the same files.
    #[arg(long, env = "VAYLIX_ADMIN_PORT", default_value_t = 9174, help_heading = CONTROL)]
    pub(crate) admin_port: u16,

    /// Do without the control plane; --metrics-bind is not concerned.
    #[arg(long, env = "VAYLIX_DISABLE_ADMIN", help_heading = CONTROL)]
    pub(crate) disable_admin: bool,

    /// Do without the page for people that the control plane has at `/`; the rest of it is not concerned.
    #[arg(long, env = "VAYLIX_DISABLE_CONSOLE", help_heading = CONTROL)]
    pub(crate) disable_console: bool,

    /// `host:port` that the other nodes are to name as the control plane of this one [default: --admin-port on the host
    /// that the other nodes reach this one at, unless only this machine reaches the control plane].
    #[arg(long, env = "VAYLIX_ADMIN_ADVERTISE_ADDR", help_heading = CONTROL)]
    pub(crate) admin_advertise_addr: Option<String>,

    /// `host:port` of one more listener for probes and /metrics alone, which asks nobody for a login: keep it where only
    /// those who collect figures reach it. Port 0 picks a free one [default: none].
    #[arg(long, env = "VAYLIX_METRICS_BIND", help_heading = CONTROL)]
    pub(crate) metrics_bind: Option<String>,

    /// Where everything is kept; created when missing.
    #[arg(long, env = "VAYLIX_DATA_DIR", default_value = "./default.vaylix", help_heading = STORAGE)]
    pub(crate) data_dir: PathBuf,

    /// Where backup files are written and read; created when missing [default: `backups` in the data directory].
    #[arg(long, env = "VAYLIX_BACKUP_DIR", help_heading = STORAGE)]
    pub(crate) backup_dir: Option<PathBuf>,

    /// When a write counts as done. `sync`: it is on disk. `flush` and `buffered` are UNSAFE: the operating
    /// system has it, and a power failure can lose what was acknowledged.
    #[arg(long, env = "VAYLIX_WAL_SYNC", value_enum, default_value_t = WalSync::Sync, help_heading = STORAGE)]
    pub(crate) wal_sync: WalSync,

    /// Size at which a log segment is sealed and the next one begun.
    #[arg(long, env = "VAYLIX_WAL_SEGMENT_SIZE_BYTES", default_value_t = 64 * 1024 * 1024,
          help_heading = STORAGE)]
    pub(crate) wal_segment_size_bytes: u64,

    /// Sealed log segments kept when a snapshot prunes the log, besides those that restores to a point in time need.
    #[arg(long, env = "VAYLIX_WAL_RETAIN_SEGMENTS", default_value_t = 128, help_heading = STORAGE)]
    pub(crate) wal_retain_segments: usize,

    /// Every moment of so many seconds ago can be restored with `vaylix pitr restore`: older snapshots and the log
    /// between them are kept for it. 0 keeps none.
    #[arg(long, env = "VAYLIX_PITR_RETAIN_SECONDS", default_value_t = 24 * 60 * 60, help_heading = STORAGE)]
    pub(crate) pitr_retain_seconds: u64,

    /// Most bytes that older snapshots and the log before the last one may take on disk for that; the oldest moments
    /// go first. 0 keeps none.
    #[arg(long, env = "VAYLIX_PITR_RETAIN_BYTES", default_value_t = 8 * 1024 * 1024 * 1024,
          help_heading = STORAGE)]
    pub(crate) pitr_retain_bytes: u64,

    /// Take a snapshot when the log has grown by so many bytes since the last one; 0 never. A snapshot bounds the log and
    /// the time a start takes.
    #[arg(long, env = "VAYLIX_SNAPSHOT_LOG_BYTES", default_value_t = SNAPSHOT_LOG_BYTES_DEFAULT, help_heading = STORAGE)]
    pub(crate) snapshot_log_bytes: u64,

    /// Take a snapshot every so many seconds, if anything has changed; 0 never.
    #[arg(long, env = "VAYLIX_SNAPSHOT_INTERVAL_SECONDS", default_value_t = 0, help_heading = STORAGE)]
    pub(crate) snapshot_interval_seconds: u64,

    /// File with the key-encryption key that the keyring is wrapped under: 32 random bytes, or their text in hexadecimal
    /// or base64. VAYLIX_KEK can hold the text itself instead. A fresh directory is wrapped under it from the start; an
    /// existing one by `vaylix storage rewrap-keys`.
    #[arg(long, env = "VAYLIX_KEK_FILE", help_heading = STORAGE)]
    pub(crate) kek_file: Option<PathBuf>,

    /// Age in days at which the storage key is replaced by a new one; 0 never.
    #[arg(long, env = "VAYLIX_KEY_ROTATION_DAYS", default_value_t = DEFAULT_KEY_ROTATION_DAYS, help_heading = STORAGE,
          value_parser = clap::value_parser!(u64).range(..=KEY_ROTATION_DAYS_MAX))]
    pub(crate) key_rotation_days: u64,

    /// Seconds between removals of expired keys. Expired keys are invisible at once; this frees their memory.
    #[arg(long, env = "VAYLIX_EXPIRATION_SWEEP_INTERVAL_SECONDS", default_value_t = 1, help_heading = STORAGE,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) expiration_sweep_interval_seconds: u64,

    /// Name of the administrator. The first start creates it; so does a later start with another name or
    /// password. Administrators who exist already stay.
    #[arg(long, env = "VAYLIX_USER", default_value = DEFAULT_USER, help_heading = ACCESS,
          value_parser = NonEmptyStringValueParser::new())]
    pub(crate) user: String,

    /// Its password. Prefer the environment: command lines are visible to other users of the machine.
    #[arg(long, env = "VAYLIX_PASSWORD", default_value = DEFAULT_PASSWORD, hide_env_values = true,
          help_heading = ACCESS, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) password: String,

    /// Serve everybody everything, without login. For tests on a machine of your own only.
    #[arg(long, env = "VAYLIX_DISABLE_AUTH", help_heading = ACCESS)]
    pub(crate) disable_auth: bool,

    /// Seconds within which failed logins of a user from an address are added up.
    #[arg(long, env = "VAYLIX_AUTH_FAILURE_WINDOW_SECONDS", default_value_t = 300, help_heading = ACCESS,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) auth_failure_window_seconds: u64,

    /// Failed logins of a user from an address that lock that user for that address (SRV-031).
    #[arg(long, env = "VAYLIX_AUTH_FAILURE_LIMIT", default_value_t = 5, help_heading = ACCESS,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) auth_failure_limit: u32,

    /// Seconds that such a lock lasts. A restart forgets it.
    #[arg(long, env = "VAYLIX_AUTH_LOCKOUT_SECONDS", default_value_t = 900, help_heading = ACCESS,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) auth_lockout_seconds: u64,

    /// File of the audit log [default: audit.log in the data directory].
    #[arg(long, env = "VAYLIX_AUDIT_LOG_PATH", help_heading = AUDIT)]
    pub(crate) audit_log_path: Option<PathBuf>,

    /// Write every command to the audit log, not only those that matter for security.
    #[arg(long, env = "VAYLIX_AUDIT_COMMANDS", help_heading = AUDIT)]
    pub(crate) audit_commands: bool,

    /// Milliseconds from which on a command is written to the audit log as slow; 0 watches none.
    #[arg(long, env = "VAYLIX_SLOW_COMMAND_THRESHOLD_MS", default_value_t = 100, help_heading = AUDIT)]
    pub(crate) slow_command_threshold_ms: u64,

    /// Milliseconds within which an event of the audit log is on disk.
    #[arg(long, env = "VAYLIX_AUDIT_SYNC_INTERVAL_MS", default_value_t = 100, help_heading = AUDIT,
          value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub(crate) audit_sync_interval_ms: u64,

    /// Size at which the file of the audit log is closed and the next one begun.
    #[arg(long, env = "VAYLIX_AUDIT_MAX_BYTES", default_value_t = 32 * 1024 * 1024, help_heading = AUDIT,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) audit_max_bytes: u64,

    /// Closed files of the audit log that are kept; older ones are deleted. All of them are verified at each start.
    #[arg(long, env = "VAYLIX_AUDIT_RETAIN_FILES", default_value_t = 16, help_heading = AUDIT,
          value_parser = at_least_one)]
    pub(crate) audit_retain_files: usize,

    /// Requests per second that one connection may keep up.
    #[arg(long, env = "VAYLIX_REQUESTS_PER_SECOND", default_value_t = 250_000, help_heading = LIMITS,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) requests_per_second: u32,

    /// Requests that one connection may send at once on top.
    #[arg(long, env = "VAYLIX_REQUEST_BURST", default_value_t = 500_000, help_heading = LIMITS,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) request_burst: u32,

    /// Largest request payload, uncompressed, in bytes.
    #[arg(long, env = "VAYLIX_MAX_REQUEST_PAYLOAD_BYTES", default_value_t = 1_048_576, help_heading = LIMITS,
          value_parser = at_least_one)]
    pub(crate) max_request_payload_bytes: usize,

    /// Longest key, user, role, permission, pattern or node id, in bytes.
    #[arg(long, env = "VAYLIX_MAX_KEY_BYTES", default_value_t = 1_024, help_heading = LIMITS,
          value_parser = at_least_one)]
    pub(crate) max_key_bytes: usize,

    /// Longest value, password or path, in bytes.
    #[arg(long, env = "VAYLIX_MAX_VALUE_BYTES", default_value_t = 262_144, help_heading = LIMITS,
          value_parser = at_least_one)]
    pub(crate) max_value_bytes: usize,

    /// Most keys in one MGET, MSET or DEL.
    #[arg(long, env = "VAYLIX_MAX_KEYS_PER_BATCH", default_value_t = 256, help_heading = LIMITS,
          value_parser = at_least_one)]
    pub(crate) max_keys_per_batch: usize,

    /// Most elements of a transaction; MULTI itself counts as one.
    #[arg(long, env = "VAYLIX_MAX_TRANSACTION_QUEUE_LEN", default_value_t = 128, help_heading = LIMITS,
          value_parser = at_least_one)]
    pub(crate) max_transaction_queue_len: usize,

    /// Life time of a transaction from MULTI on, in seconds.
    #[arg(long, env = "VAYLIX_TRANSACTION_MAX_SECONDS", default_value_t = 30, help_heading = LIMITS,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) transaction_max_seconds: u64,

    /// Part this node takes in a cluster. `leader` and `follower` mean the same where --cluster-peers is given: the nodes
    /// elect their leader. Without a list `leader` founds a cluster of one, and `follower` waits for CLUSTER JOIN.
    #[arg(long, env = "VAYLIX_REPLICATION_ROLE", value_enum, default_value_t = Role::Standalone,
          help_heading = CLUSTER)]
    pub(crate) replication_role: Role,

    /// Name of this node: in status reports, and in the list of a cluster, where it is needed [default: made on the
    /// first start and kept].
    #[arg(long, env = "VAYLIX_NODE_ID", help_heading = CLUSTER)]
    pub(crate) node_id: Option<String>,

    /// Name of the cluster in status reports.
    #[arg(long, env = "VAYLIX_REPLICATION_GROUP_ID", default_value = "default", help_heading = CLUSTER)]
    pub(crate) replication_group_id: String,

    /// How many nodes must have a write before it is acknowledged. A single node waits for its own log only.
    /// `replica` means a majority of the nodes, and status reports call it so.
    #[arg(long, env = "VAYLIX_WRITE_ACK_MODE", value_enum, default_value_t = AckMode::Replica,
          help_heading = CLUSTER)]
    pub(crate) write_ack_mode: AckMode,

    /// The nodes that form the cluster, this one included: `node_id@host:port`, comma separated or given several times,
    /// the same on every node. Once the cluster exists, only places to look for it.
    #[arg(long, env = "VAYLIX_CLUSTER_PEERS", value_delimiter = ',', help_heading = CLUSTER)]
    pub(crate) cluster_peers: Vec<String>,

    /// File with the secret that the nodes of the cluster prove to each other: at least 16 bytes, the same on every
    /// node. VAYLIX_CLUSTER_SECRET can hold the secret itself instead.
    #[arg(long, env = "VAYLIX_CLUSTER_SECRET_FILE", help_heading = CLUSTER)]
    pub(crate) cluster_secret_file: Option<PathBuf>,

    /// `host:port` that the other nodes and clients reach this one at [default: what --cluster-peers says of it].
    #[arg(long, env = "VAYLIX_REPLICATION_ADVERTISE_ADDR", help_heading = CLUSTER)]
    pub(crate) replication_advertise_addr: Option<String>,

    /// What reads on the leader see. `linearizable`: everything acknowledged before them, anywhere. `local`: what this
    /// node has, without asking the others whether it still leads.
    #[arg(long, env = "VAYLIX_READ_CONSISTENCY", value_enum, default_value_t = ReadConsistency::Linearizable,
          help_heading = CLUSTER)]
    pub(crate) read_consistency: ReadConsistency,

    /// Milliseconds that a write waits for the other nodes before its outcome is called unknown.
    #[arg(long, env = "VAYLIX_REPLICATION_ACK_TIMEOUT_MS", default_value_t = 5_000, help_heading = CLUSTER,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) replication_ack_timeout_ms: u64,

    /// Milliseconds between a leader's heartbeats.
    #[arg(long, env = "VAYLIX_REPLICATION_HEARTBEAT_INTERVAL_MS", default_value_t = 100, help_heading = CLUSTER,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) replication_heartbeat_interval_ms: u64,

    /// Shortest silence of a leader, in milliseconds, after which another node stands for election.
    #[arg(long, env = "VAYLIX_REPLICATION_ELECTION_TIMEOUT_MIN_MS", default_value_t = 500, help_heading = CLUSTER,
          value_parser = clap::value_parser!(u64).range(10..))]
    pub(crate) replication_election_timeout_min_ms: u64,

    /// Longest such silence, in milliseconds.
    #[arg(long, env = "VAYLIX_REPLICATION_ELECTION_TIMEOUT_MAX_MS", default_value_t = 1_000, help_heading = CLUSTER,
          value_parser = clap::value_parser!(u64).range(10..))]
    pub(crate) replication_election_timeout_max_ms: u64,

    /// Log entries after which the nodes compare their states; after a minute they do after fewer. A node that differs from
    /// the majority serves nobody until it has learnt the state anew.
    #[arg(long, env = "VAYLIX_REPLICATION_STATE_CHECK_ENTRIES", default_value_t = AGREEMENT_ENTRIES_DEFAULT,
          value_parser = clap::value_parser!(u64).range(1..), help_heading = CLUSTER)]
    pub(crate) replication_state_check_entries: u64,

    /// Seconds of silence after which status reports call a node stale.
    #[arg(long, env = "VAYLIX_REPLICATION_STALE_AFTER_SECONDS", default_value_t = 15, help_heading = CLUSTER)]
    pub(crate) replication_stale_after_seconds: u64,

    /// With --replication-password, takes the place of a secret that is not given. No user of that name is needed
    /// [default: the value of --user].
    #[arg(long, env = "VAYLIX_REPLICATION_USER", help_heading = CLUSTER)]
    pub(crate) replication_user: Option<String>,

    /// The password to that; the same on every node. A secret file is better.
    #[arg(long, env = "VAYLIX_REPLICATION_PASSWORD", hide_env_values = true, help_heading = CLUSTER)]
    pub(crate) replication_password: Option<String>,

    /// Accepted and without effect: nodes find their leader by themselves.
    #[arg(long, env = "VAYLIX_REPLICATION_UPSTREAM", help_heading = CLUSTER, hide = true)]
    pub(crate) replication_upstream: Option<String>,

    /// Accepted and without effect: the leader sends entries as they come.
    #[arg(long, env = "VAYLIX_REPLICATION_POLL_INTERVAL_MS", help_heading = CLUSTER, hide = true)]
    pub(crate) replication_poll_interval_ms: Option<u64>,

    /// Accepted and without effect: messages to other nodes are bounded by bytes.
    #[arg(long, env = "VAYLIX_REPLICATION_FETCH_BATCH_SIZE", help_heading = CLUSTER, hide = true)]
    pub(crate) replication_fetch_batch_size: Option<usize>,

    /// TOML file with settings, named as the options here without `--`.
    #[arg(long, env = "VAYLIX_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Print every setting in force and where it comes from, in the form of a settings file, and end. Secrets are left out.
    #[arg(long)]
    pub(crate) print_config: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Looks after a data directory that no server uses.
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Restores a data directory as it was at a point in time.
    #[command(subcommand)]
    Pitr(PitrCommand),
    /// Looks after the audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Asks a running server whether it is alive or ready. Says nothing and ends with status 0 when it is.
    Healthcheck(Healthcheck),
    /// Makes what the nodes of a cluster share: the secret and, with --tls-host, an authority and certificates. Keeps what is
    /// there.
    Provision(Provision),
}

/// What to make, and where.
#[derive(clap::Args)]
pub(crate) struct Provision {
    /// The directory to write to; created when missing. Its files are readable by their owner alone.
    #[arg(long)]
    pub(crate) dir: PathBuf,

    /// Host by which nodes and clients reach a node; repeat it for every node. Each gets a certificate of its own from a new
    /// authority, whose key is not kept.
    #[arg(long = "tls-host", value_name = "HOST", value_parser = host_name)]
    pub(crate) tls_hosts: Vec<String>,
}

/// Work on a data directory.
#[derive(Subcommand)]
pub(crate) enum StorageCommand {
    /// Reads every byte and says what is there. Changes nothing and needs no right to write.
    Verify(Directory),
    /// Brings the files to the format of this release, of which there is only one so far.
    Migrate(Directory),
    /// Wraps the keyring under a key-encryption key, under another one, or under none.
    RewrapKeys(RewrapKeys),
    /// Makes a new storage key, under which everything is sealed that the server writes from then on.
    RotateKey(Directory),
}

/// What the keyring is wrapped under, and what it shall be.
#[derive(clap::Args)]
pub(crate) struct RewrapKeys {
    /// The data directory. It must exist, and no server may use it.
    #[arg(long, env = "VAYLIX_DATA_DIR")]
    pub(crate) data_dir: PathBuf,

    /// File with the key-encryption key that the keyring is wrapped under now. VAYLIX_KEK can hold that key instead.
    #[arg(long, env = "VAYLIX_KEK_FILE")]
    pub(crate) kek_file: Option<PathBuf>,

    /// File with the key-encryption key to wrap the keyring under. VAYLIX_NEW_KEK can hold that key instead.
    #[arg(long, env = "VAYLIX_NEW_KEK_FILE", conflicts_with = "remove_kek")]
    pub(crate) new_kek_file: Option<PathBuf>,

    /// Leave the keyring unwrapped: whoever has the whole directory then has the data.
    #[arg(long)]
    pub(crate) remove_kek: bool,
}

/// Work on the past of a data directory.
#[derive(Subcommand)]
pub(crate) enum PitrCommand {
    /// Says what is there and what can be restored. Changes nothing and reads no more than it must.
    Inspect(Directory),
    /// Writes a new data directory with the state as it was. The source is only read.
    Restore(Restore),
}

/// Work on the audit log.
#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Verifies the chain through all of its files. Changes nothing, and may run beside a server.
    Verify(Trail),
}

/// Which audit log.
#[derive(clap::Args)]
pub(crate) struct Trail {
    /// The file that the server writes, or wrote [default: audit.log in the data directory].
    #[arg(env = "VAYLIX_AUDIT_LOG_PATH")]
    pub(crate) path: Option<PathBuf>,

    /// The server's data directory.
    #[arg(long, env = "VAYLIX_DATA_DIR", default_value = "./default.vaylix")]
    pub(crate) data_dir: PathBuf,
}

/// Which directory.
#[derive(clap::Args)]
pub(crate) struct Directory {
    /// The data directory. It must exist, and no server may use it.
    #[arg(long, env = "VAYLIX_DATA_DIR")]
    pub(crate) data_dir: PathBuf,

    /// File with the key-encryption key that the keyring is wrapped under. VAYLIX_KEK can hold that key instead.
    #[arg(long, env = "VAYLIX_KEK_FILE")]
    pub(crate) kek_file: Option<PathBuf>,
}

/// What to restore and where to.
#[derive(clap::Args)]
pub(crate) struct Restore {
    /// The data directory to read. No server may use it.
    #[arg(long)]
    pub(crate) source_dir: PathBuf,

    /// The data directory to make. It must not exist, or be empty.
    #[arg(long)]
    pub(crate) target_dir: PathBuf,

    /// File with the key-encryption key that the keyring of the source is wrapped under, and that of the
    /// target will be. VAYLIX_KEK can hold that key instead.
    #[arg(long, env = "VAYLIX_KEK_FILE")]
    pub(crate) kek_file: Option<PathBuf>,

    /// The last log entry to restore.
    #[arg(long, conflicts_with = "to_timestamp_ms")]
    pub(crate) to_sequence: Option<u64>,

    /// Restore everything up to this time, in milliseconds since 1970.
    #[arg(long)]
    pub(crate) to_timestamp_ms: Option<u64>,
}

/// What to ask and whom.
#[derive(clap::Args)]
pub(crate) struct Healthcheck {
    /// `liveness`: it answers. `readiness`: it takes requests; needs a login unless authentication is off.
    #[arg(long, env = "VAYLIX_HEALTHCHECK_KIND", value_enum, default_value_t = HealthcheckKind::Liveness)]
    pub(crate) kind: HealthcheckKind,

    /// Where the server is.
    #[arg(long, env = "VAYLIX_HEALTHCHECK_HOST", default_value = "127.0.0.1")]
    pub(crate) host: String,

    /// Its port [default: VAYLIX_PORT, else 9173].
    #[arg(long, env = "VAYLIX_HEALTHCHECK_PORT")]
    pub(crate) port: Option<u16>,

    /// Who asks whether it is ready [default: VAYLIX_USER].
    #[arg(long, env = "VAYLIX_HEALTHCHECK_USER")]
    pub(crate) user: Option<String>,

    /// The password [default: VAYLIX_PASSWORD].
    #[arg(long, env = "VAYLIX_HEALTHCHECK_PASSWORD", hide_env_values = true)]
    pub(crate) password: Option<String>,

    /// Use TLS; bare --ssl means true [default: VAYLIX_SSL, else false]. A server on a loopback address is taken for
    /// the right one whatever its certificate says, unless --tls-ca-cert is given.
    #[arg(long, env = "VAYLIX_HEALTHCHECK_SSL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) ssl: Option<bool>,

    /// PEM file with the certificate authorities to trust, instead of the system's.
    #[arg(long, env = "VAYLIX_HEALTHCHECK_TLS_CA_CERT")]
    pub(crate) tls_ca_cert: Option<PathBuf>,

    /// PEM certificate to present [default: VAYLIX_TLS_CERT, if the server wants certificates (VAYLIX_TLS_CLIENT_CA)].
    #[arg(long, env = "VAYLIX_HEALTHCHECK_TLS_CLIENT_CERT", requires = "tls_client_key")]
    pub(crate) tls_client_cert: Option<PathBuf>,

    /// PEM key of that certificate.
    #[arg(long, env = "VAYLIX_HEALTHCHECK_TLS_CLIENT_KEY", requires = "tls_client_cert")]
    pub(crate) tls_client_key: Option<PathBuf>,

    /// How long the answer may take altogether.
    #[arg(long, env = "VAYLIX_HEALTHCHECK_TIMEOUT_MS", default_value_t = 2_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout_ms: u64,
}

/// What a health check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HealthcheckKind {
    Liveness,
    Readiness,
}

/// Name of the administrator when none is configured.
pub(crate) const DEFAULT_USER: &str = "vaylix";
/// Its password when none is configured. Serves listeners on loopback addresses only.
pub(crate) const DEFAULT_PASSWORD: &str = "vaylix";

/// Age at which a storage key is replaced when nothing else is said.
const DEFAULT_KEY_ROTATION_DAYS: u64 = KEY_AGE_MAX_DEFAULT.as_secs() / SECONDS_PER_DAY;
/// A hundred years.
const KEY_ROTATION_DAYS_MAX: u64 = 36_500;
pub(crate) const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

const NETWORK: &str = "Network and sessions";
const TLS: &str = "TLS";
const CONTROL: &str = "Control plane";
const STORAGE: &str = "Storage";
const ACCESS: &str = "Credentials";
const AUDIT: &str = "Audit log";
const LIMITS: &str = "Limits";
const CLUSTER: &str = "Cluster";

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WalSync {
    Buffered,
    Flush,
    Sync,
}

impl WalSync {
    /// The word that stands for it in settings and reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Flush => "flush",
            Self::Sync => "sync",
        }
    }

    /// What an acknowledgement means, to complete "acknowledged writes are …".
    pub(crate) fn promise(self) -> &'static str {
        match self {
            Self::Buffered | Self::Flush => "handed to the operating system, not yet on disk",
            Self::Sync => "on disk",
        }
    }
}

/// Part a node takes in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Standalone,
    Leader,
    Follower,
}

/// The part of a certificate that names a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CertUser {
    /// The subject alternative name urn:vaylix:user:NAME
    Uri,
    /// The DNS name among the subject alternative names
    Dns,
    /// The common name of the subject
    Cn,
}

impl From<CertUser> for UserRule {
    fn from(part: CertUser) -> Self {
        match part {
            CertUser::Uri => Self::Uri,
            CertUser::Dns => Self::Dns,
            CertUser::Cn => Self::CommonName,
        }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What reads on a leader see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReadConsistency {
    Linearizable,
    Local,
}

/// How many nodes must have a write before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AckMode {
    Local,
    #[value(alias = "majority")]
    Replica,
    All,
}

impl AckMode {
    /// The word that stands for it in status reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Replica => "majority",
            Self::All => "all",
        }
    }
}

/// The settings, and which of them the operator chose.
pub(crate) struct Given {
    pub(crate) flags: Flags,
    /// Whether the user was configured rather than left at its default.
    pub(crate) user_configured: bool,
    /// Whether the password was.
    pub(crate) password_configured: bool,
    /// Whether the part in a cluster was.
    pub(crate) role_configured: bool,
    /// All settings with their origins.
    pub(crate) shown: Vec<Shown>,
}

/// Reads the settings. Prints help, version or a usage error and ends the process where the command line asks
/// for it or cannot be understood (exit status 0 or 2).
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Given {
    match try_read(arguments) {
        Ok(given) => given,
        Err(error) => error.exit(),
    }
}

fn try_read(arguments: impl IntoIterator<Item = OsString>) -> Result<Given, clap::Error> {
    let mut command = Flags::command();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let file = match config_path(&arguments) {
        Some(path) => SettingsFile::read(&path, &command)
            .map_err(|error| command.error(ErrorKind::ValueValidation, error))?,
        None => SettingsFile::default(),
    };
    command = file.apply(command);
    let matches = command
        .try_get_matches_from_mut(&arguments)
        .map_err(|error| named_by_its_origin(error, &command, &arguments, &file))?;
    let given = |id: &str| {
        let long = id.replace('_', "-");
        matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
            || file.sets(&long)
    };
    for name in ["tls_cert", "tls_key", "tls_client_ca"] {
        if matches.value_source(name) == Some(ValueSource::CommandLine) && !given("ssl") {
            let message = format!("--{} needs --ssl", name.replace('_', "-"));
            return Err(Flags::command().error(ErrorKind::MissingRequiredArgument, message));
        }
    }
    let (user_configured, password_configured) = (given("user"), given("password"));
    let flags = Flags::from_arg_matches(&matches)?;
    let role_configured = given("replication_role");
    let shown = shown::settings(&command, &matches, &file);
    Ok(Given { flags, user_configured, password_configured, role_configured, shown })
}

/// The settings file that the command line or the environment names.
fn config_path(arguments: &[OsString]) -> Option<PathBuf> {
    let matches = Flags::command().ignore_errors(true).try_get_matches_from(arguments).ok()?;
    matches.get_one::<PathBuf>("config").cloned()
}

/// The same error; where the value came from the environment or a file, it names what has to be changed.
fn named_by_its_origin(
    mut error: clap::Error,
    command: &clap::Command,
    arguments: &[OsString],
    file: &SettingsFile,
) -> clap::Error {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg).cloned() else {
        return error;
    };
    let flag = shown.split([' ', '=', '[']).next().unwrap_or_default();
    let is_written = arguments.iter().filter_map(|argument| argument.to_str()).any(|argument| {
        argument.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    let Some(long) = flag.strip_prefix("--").filter(|_| !is_written) else { return error };
    let origin = match variable(command, long) {
        Some(variable) => variable,
        None if file.sets(long) => format!("{long} in {}", file.path().display()),
        None => return error,
    };
    error.insert(ContextKind::InvalidArg, ContextValue::String(format!("{origin}, the same as {shown}")));
    error
}

/// The variable of an option, of the program or one of its subcommands, if it is set.
fn variable(command: &clap::Command, long: &str) -> Option<String> {
    let own = command
        .get_arguments()
        .filter(|argument| argument.get_long() == Some(long))
        .filter_map(|argument| argument.get_env())
        .find(|name| std::env::var_os(name).is_some())
        .map(|name| name.display().to_string());
    own.or_else(|| command.get_subcommands().find_map(|inner| variable(inner, long)))
}

/// A host that can be the name of a file, too.
fn host_name(text: &str) -> Result<String, String> {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    match text {
        "ca" => Err("the authority has that name".to_owned()),
        _ if text.is_empty() || text.starts_with('.') || !text.chars().all(is_usable) => {
            Err("a host is a name or an address, without a port".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("0 would refuse everything; give at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Given, clap::Error> {
        try_read(std::iter::once("vaylix").chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let given = parse(&[]).unwrap();
        assert_eq!(given.flags.bind, "127.0.0.1");
        assert_eq!(given.flags.port, 9173);
        assert_eq!((given.flags.admin_bind.as_str(), given.flags.admin_port), ("127.0.0.1", 9174));
        assert!(!given.flags.disable_admin && given.flags.metrics_bind.is_none());
        assert_eq!(given.flags.wal_sync, WalSync::Sync);
        assert_eq!(given.flags.data_dir, PathBuf::from("./default.vaylix"));
        assert_eq!(given.flags.snapshot_log_bytes, 256 * 1024 * 1024);
        assert_eq!(given.flags.snapshot_interval_seconds, 0);
        assert_eq!(given.flags.key_rotation_days, 90);
        assert!(!given.user_configured && !given.password_configured);
        assert_eq!((given.flags.pitr_retain_seconds, given.flags.pitr_retain_bytes), (86_400, 8_589_934_592));
    }

    #[test]
    fn the_peers_of_a_cluster_are_a_list() {
        let given = parse(&["--replication-role", "leader", "--cluster-peers", "a@b:1,c@d:2"]).unwrap();
        assert_eq!(given.flags.cluster_peers, ["a@b:1", "c@d:2"]);
    }

    #[test]
    fn tls_files_need_tls() {
        for name in ["--tls-cert", "--tls-key", "--tls-client-ca"] {
            assert_eq!(parse(&[name, "x"]).err().map(|e| e.exit_code()), Some(2), "{name}");
            assert!(parse(&["--ssl", name, "x"]).is_ok(), "{name}");
        }
        for (arguments, ssl) in [
            (&["--ssl"][..], Some(true)),
            (&["--ssl", "true"], Some(true)),
            (&["--ssl", "false"], Some(false)),
            (&["--ssl", "--port", "1"], Some(true)),
            (&[], None),
        ] {
            assert_eq!(parse(arguments).unwrap().flags.ssl, ssl, "{arguments:?}");
        }
        assert_eq!(parse(&["--ssl", "yes"]).err().map(|e| e.exit_code()), Some(2));
    }

    #[test]
    fn values_that_would_refuse_everybody_are_usage_errors() {
        for arguments in [
            ["--max-connections", "0"],
            ["--max-key-bytes", "0"],
            ["--requests-per-second", "0"],
            ["--auth-failure-limit", "0"],
            ["--audit-max-bytes", "0"],
        ] {
            assert_eq!(parse(&arguments).err().map(|e| e.exit_code()), Some(2), "{arguments:?}");
        }
        assert_eq!(parse(&["--password", ""]).err().map(|e| e.exit_code()), Some(2));
        assert_eq!(parse(&["--key-rotation-days", "36501"]).err().map(|e| e.exit_code()), Some(2));
        assert_eq!(parse(&["--user", ""]).err().map(|e| e.exit_code()), Some(2));
        assert_eq!(parse(&["--port", "1", "--port", "2"]).err().map(|e| e.exit_code()), Some(2));
        assert_eq!(parse(&["--wal-sync", "SYNC"]).err().map(|e| e.exit_code()), Some(2));
    }

    #[test]
    fn subcommands_are_read_and_their_mistakes_are_usage_errors() {
        let restore = ["pitr", "restore", "--source-dir", "a", "--target-dir", "b"];
        let with = |more: &[&str]| parse(&[&restore[..], more].concat());
        assert!(matches!(
            with(&["--to-sequence", "7"]).unwrap().flags.command,
            Some(Command::Pitr(PitrCommand::Restore(Restore { to_sequence: Some(7), .. })))
        ));
        assert!(with(&[]).is_ok(), "told apart later, by code");
        for arguments in [
            [&restore[..], &["--to-sequence", "7", "--to-timestamp-ms", "7"]].concat(),
            vec!["storage"],
            vec!["pitr"],
            vec!["storage", "repair"],
            vec!["storage", "verify", "--data-dir"],
            vec!["healthcheck", "--kind", "Liveness"],
            vec!["healthcheck", "--timeout-ms", "0"],
        ] {
            assert_eq!(parse(&arguments).err().map(|e| e.exit_code()), Some(2), "{arguments:?}");
        }
        assert!(parse(&["--wal-sync", "sync", "storage", "verify", "--data-dir", "x"]).is_ok());
    }

    #[test]
    fn majority_is_another_word_for_replica() {
        assert_eq!(parse(&["--write-ack-mode", "majority"]).unwrap().flags.write_ack_mode, AckMode::Replica);
    }
}
