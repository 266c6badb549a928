//! From settings to a serving node and back to a stopped one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::{info, warn};
use vaylix_access::{
    Administrator, Authentication, Certificate, Door, Limits, Lockout, Rate, Report, Secret, Settings, audit,
};
use vaylix_consensus::{ClusterConfig, NoPeers, Node, PeerTransport};
use vaylix_controlplane::{Setting, Stage};
use vaylix_dataplane::peers::Transport;
use vaylix_dataplane::server::{BindError, Settings as ListenerSettings, Socket};
use vaylix_engine::snapshot::Retention;
use vaylix_engine::wal::SyncPolicy;
use vaylix_engine::{BackupDir, DataDir, Kek};
use vaylix_proto::frame::{Compression, FRAME_LEN_MAX};
use vaylix_proto::{Code, Text};
use vaylix_telemetry::Telemetry;
use vaylix_tls as tls;

use crate::cluster::{self, Cluster};
use crate::control::{self, Bound};
use crate::error::ServerError;
use crate::flags::{
    DEFAULT_PASSWORD, DEFAULT_USER, Flags, Given, LogFormat, ReadConsistency, SECONDS_PER_DAY, WalSync,
};
use crate::kek::Source;
use crate::shown;
use crate::signals::Signals;

/// Replies of at least this many bytes are compressed, where compression was negotiated.
const COMPRESSION_THRESHOLD_BYTES: usize = 1024;

/// How long a leader that is told to stop waits for another one to take over.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(5);

/// Random bytes in a generated password.
const GENERATED_PASSWORD_BYTES: usize = 18;

/// Settings that can be used.
pub(crate) struct Config {
    flags: Flags,
    credentials: Credentials,
    /// What the listener is encrypted with, when it is.
    tls: Option<tls::Files>,
    /// Whether only this machine reaches the listeners.
    loopback: bool,
    /// `None` for a node that is alone.
    cluster: Option<Cluster>,
    /// All settings, for those who ask for them.
    told: Vec<Setting>,
}

/// Where the administrator's credentials come from.
enum Credentials {
    /// Login is off.
    None,
    /// The operator chose them.
    Configured,
    /// The documented defaults, for a listener that only this machine reaches.
    Default,
    /// The default name with a password made for this start, for any other listener.
    Generated(Secret),
}

impl Config {
    /// How the log is written.
    pub(crate) fn log_format(&self) -> LogFormat {
        self.flags.log_format
    }

    /// Checks the settings against each other. Nothing has been touched yet when this refuses.
    ///
    /// # Errors
    /// [`ServerError::Arguments`] for a setting without one that it needs, or against another one;
    /// [`ServerError::TlsSettings`] for settings of TLS that contradict each other.
    pub(crate) fn check(given: Given) -> Result<Self, ServerError> {
        let tls = tls_files(&given.flags)?;
        check_cert_user(&given.flags)?;
        let cluster = Cluster::check(&given.flags, given.role_configured)?;
        control::check(&given.flags)?;
        let loopback = control::is_local(&given.flags);
        let credentials = if given.flags.disable_auth {
            Credentials::None
        } else if given.password_configured {
            Credentials::Configured
        } else if given.user_configured {
            // With the password that everybody knows, it would be an administrator for everybody.
            return Err(ServerError::Arguments(
                "--user (VAYLIX_USER) needs --password (VAYLIX_PASSWORD) beside it".to_owned(),
            ));
        } else if loopback {
            Credentials::Default
        } else if cluster.is_some() {
            // Every node would make up another one.
            return Err(ServerError::Arguments(
                "a cluster on a listener beyond loopback needs --user and --password, the same on every node"
                    .to_owned(),
            ));
        } else {
            Credentials::Generated(generate_password()?)
        };
        let told = shown::as_told(&given.shown);
        Ok(Self { flags: given.flags, credentials, tls, loopback, cluster, told })
    }

    fn authentication(&self) -> Authentication {
        let (password, explicit) = match &self.credentials {
            Credentials::None => return Authentication::Disabled,
            Credentials::Configured => (Secret::from(self.flags.password.as_str()), true),
            Credentials::Default => (Secret::from(DEFAULT_PASSWORD), false),
            Credentials::Generated(password) => (password.clone(), false),
        };
        let administrator = Administrator { user: Text::from(self.flags.user.as_str()), password, explicit };
        // On a listener that others reach, the pair everybody knows serves only when it was asked for; also when
        // an earlier start, on loopback, has left it behind.
        let accepts_well_known = self.loopback || (explicit && administrator.is_well_known());
        Authentication::Required { administrator, accepts_well_known }
    }

    fn node(&self, kek: Option<Kek>, cluster: Option<ClusterConfig>) -> vaylix_consensus::Config {
        let flags = &self.flags;
        let mut config = vaylix_consensus::Config::new(&flags.data_dir);
        config.kek = kek;
        config.key_age_max = self.key_age_max();
        config.snapshot_log_bytes = self.snapshot_log_bytes();
        config.snapshot_interval = self.snapshot_interval();
        config.wal.sync = match flags.wal_sync {
            WalSync::Sync => SyncPolicy::Sync,
            WalSync::Flush => SyncPolicy::Flush,
            WalSync::Buffered => SyncPolicy::Buffered,
        };
        config.wal.segment_size_bytes = flags.wal_segment_size_bytes;
        config.retained_segments = flags.wal_retain_segments;
        config.pitr = Retention {
            age_ms: flags.pitr_retain_seconds.saturating_mul(1000),
            bytes: flags.pitr_retain_bytes,
        };
        config.timing = cluster::timing(flags);
        config.cluster = cluster;
        config.sweep_interval = Duration::from_secs(flags.expiration_sweep_interval_seconds);
        config
    }

    fn peer_compression(&self) -> Compression {
        if self.flags.disable_compression { Compression::None } else { Compression::Zstd }
    }

    fn key_age_max(&self) -> Option<Duration> {
        let days = Some(self.flags.key_rotation_days).filter(|days| *days > 0)?;
        Some(Duration::from_secs(days * SECONDS_PER_DAY))
    }

    fn snapshot_log_bytes(&self) -> Option<u64> {
        Some(self.flags.snapshot_log_bytes).filter(|bytes| *bytes > 0)
    }

    fn snapshot_interval(&self) -> Option<Duration> {
        Some(self.flags.snapshot_interval_seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    fn limits(&self) -> Limits {
        let flags = &self.flags;
        Limits {
            key_bytes_max: flags.max_key_bytes,
            value_bytes_max: flags.max_value_bytes,
            batch_keys_max: flags.max_keys_per_batch,
            request_payload_bytes_max: flags.max_request_payload_bytes,
            transaction_commands_max: flags.max_transaction_queue_len,
            transaction_time_max: Duration::from_secs(flags.transaction_max_seconds),
            request_rate: Rate { per_second: flags.requests_per_second, burst: flags.request_burst },
        }
    }

    fn lockout(&self) -> Lockout {
        let flags = &self.flags;
        Lockout {
            failures_max: flags.auth_failure_limit,
            window: Duration::from_secs(flags.auth_failure_window_seconds),
            duration: Duration::from_secs(flags.auth_lockout_seconds),
        }
    }

    fn audit(&self) -> audit::Settings {
        let flags = &self.flags;
        let path = flags.audit_log_path.clone().unwrap_or_else(|| flags.data_dir.join("audit.log"));
        let slow_ms = Some(flags.slow_command_threshold_ms).filter(|ms| *ms > 0);
        let mut settings = audit::Settings::new(path);
        settings.commands = flags.audit_commands;
        settings.slow_command_threshold = slow_ms.map(Duration::from_millis);
        settings.sync_interval = Duration::from_millis(flags.audit_sync_interval_ms);
        settings.file_bytes_max = flags.audit_max_bytes;
        settings.closed_files_max = flags.audit_retain_files;
        settings
    }

    fn backup_dir(&self) -> PathBuf {
        self.flags.backup_dir.clone().unwrap_or_else(|| self.flags.data_dir.join("backups"))
    }

    fn report(&self, address: SocketAddr, cluster: Option<&ClusterConfig>, backups: &BackupDir) -> Report {
        let flags = &self.flags;
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            git_sha: env!("VAYLIX_GIT_SHA").to_owned(),
            data_dir: flags.data_dir.clone(),
            backup_dir: backups.path().to_owned(),
            node_id: cluster.map(|cluster| cluster.name.clone()).or_else(|| flags.node_id.clone()),
            group_id: flags.replication_group_id.clone(),
            write_ack_mode: flags.write_ack_mode.name().to_owned(),
            advertise_addr: match cluster {
                Some(cluster) => cluster.address.clone(),
                None => flags.replication_advertise_addr.clone().unwrap_or_else(|| address.to_string()),
            },
            local_reads: flags.read_consistency == ReadConsistency::Local,
            stale_after: Duration::from_secs(flags.replication_stale_after_seconds),
            wal_sync_policy: flags.wal_sync.name().to_owned(),
            wal_segment_size_bytes: flags.wal_segment_size_bytes,
            wal_retain_segments: flags.wal_retain_segments,
            snapshot_interval: self.snapshot_interval(),
            snapshot_log_bytes: self.snapshot_log_bytes(),
            key_age_max: self.key_age_max(),
            expiration_sweep_interval: Some(Duration::from_secs(flags.expiration_sweep_interval_seconds)),
            idle_timeout: flags.idle_timeout_seconds.map(Duration::from_secs),
            sessions_max: flags.max_connections,
            hello_timeout: Duration::from_millis(flags.handshake_timeout_ms),
            tls: self.tls.is_some(),
            mtls: self.tls.as_ref().is_some_and(|files| files.client_ca.is_some()),
            compression: !flags.disable_compression,
            compression_threshold_bytes: COMPRESSION_THRESHOLD_BYTES,
            frame_len_max: FRAME_LEN_MAX as usize,
        }
    }
}

/// Nobody who has certificates stand for users gets a server that asks for none.
fn check_cert_user(flags: &Flags) -> Result<(), ServerError> {
    match (flags.admin_cert_user, &flags.tls_client_ca) {
        (Some(_), None) => Err(ServerError::TlsSettings("--admin-cert-user needs --tls-client-ca")),
        _ => Ok(()),
    }
}

/// The files that TLS is asked for with, if it is. Nobody who names one gets a server without TLS.
fn tls_files(flags: &Flags) -> Result<Option<tls::Files>, ServerError> {
    match (flags.ssl.unwrap_or(false), &flags.tls_cert, &flags.tls_key, &flags.tls_client_ca) {
        (true, Some(cert), Some(key), client_ca) => {
            Ok(Some(tls::Files { cert: cert.clone(), key: key.clone(), client_ca: client_ca.clone() }))
        }
        (true, ..) => Err(ServerError::TlsSettings("--ssl needs --tls-cert and --tls-key")),
        (false, None, None, None) => Ok(None),
        (false, ..) => Err(ServerError::TlsSettings("--tls-cert, --tls-key and --tls-client-ca need --ssl")),
    }
}

/// How a server ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to stop, and did so cleanly.
    Cleanly,
    /// It was told to stop while it still recovered its data, and did not wait for that.
    BeforeReady,
}

/// Starts the node, serves until a stop signal arrives, stops cleanly.
///
/// # Errors
/// The first step that fails, with its stable code. What earlier steps created stays.
pub(crate) async fn serve(
    mut config: Config,
    control: &Handle,
    telemetry: Option<&Telemetry>,
) -> Result<Ended, ServerError> {
    config.flags.data_dir =
        std::path::absolute(&config.flags.data_dir).unwrap_or_else(|_| PathBuf::from(&config.flags.data_dir));
    raise_file_limit();
    let mut signals = Signals::register().map_err(ServerError::Runtime)?;
    let kek = Source::current(config.flags.kek_file.as_deref()).read()?;
    let keeper = match config.tls.clone() {
        Some(files) => Some(tls::Keeper::open(files).await.map_err(ServerError::Tls)?),
        None => None,
    };
    let reload = Arc::new(Notify::new());
    if keeper.is_some() {
        signals.reload_with(Arc::clone(&reload));
    }
    // The port is taken before anything is created, so that a second start by mistake leaves no trace; it is
    // served only once everything is recovered.
    let socket = bind(&config.flags.bind, config.flags.port).await?;
    let address = socket.local_addr().map_err(|source| BindError::new(&config.flags.bind, source))?;
    let bound = Bound::bind(&config.flags)?;

    let in_cluster = match &config.cluster {
        Some(cluster) => Some(cluster.config(&config.flags, address, &bound)?),
        None => None,
    };
    let transport: Arc<dyn PeerTransport> = match &config.cluster {
        Some(cluster) => {
            let tls = keeper.as_ref().map(tls::Keeper::current);
            Arc::new(Transport::new(cluster.secret.clone(), config.peer_compression(), tls))
        }
        None => Arc::new(NoPeers),
    };
    let mut settings = config.node(kek, in_cluster.clone());
    let board = settings.progress.clone();
    let told = std::mem::take(&mut config.told);
    let stage = Stage::starting(told, move || control::replay(&board));
    let user_rule = config.flags.admin_cert_user.map(Into::into);
    let console = !config.flags.disable_console;
    let current = keeper.as_ref().map(tls::Keeper::current);
    let control = bound.serve(control, &stage, current.as_ref(), user_rule, console);
    // A long recovery is not waited for.
    let start = async {
        let (dir, audit) = open_for_start(&config).await?;
        settings.held = Some(dir);
        let node = Node::start_among(settings, transport).await.map_err(ServerError::Start)?;
        Ok::<_, ServerError>((node, audit))
    };
    let (node, audit) = tokio::select! {
        started = start => started?,
        signal = signals.stop() => {
            info!(signal, "stopped before the server was ready; the data is as it was, and the next start recovers it");
            return Ok(Ended::BeforeReady);
        }
    };
    if let Some(telemetry) = telemetry {
        telemetry.identify(&node.status().identity.node.to_string());
    }
    let backups =
        BackupDir::open_or_create(&config.backup_dir(), node.data_dir()).map_err(ServerError::Storage)?;
    let report = config.report(address, in_cluster.as_ref(), &backups);
    let settings = Settings {
        authentication: config.authentication(),
        lockout: config.lockout(),
        limits: config.limits(),
        backups,
        audit,
        report,
    };
    let door = match Door::open(node.clone(), settings).await {
        Ok(door) => door,
        Err(refusal) => {
            // Torn down instead, consensus would log its end as a failure of its own.
            if let Err(error) = node.shutdown().await {
                warn!(%error, "the final snapshot was not taken");
            }
            return Err(ServerError::Open(refusal));
        }
    };

    let lets_default_in = door.lets_the_default_pair_in().await.map_err(|e| ServerError::Open(e.into()))?;
    let tls = keeper.as_ref().map(tls::Keeper::current);
    let certificate = tls.as_ref().map(|tls| tls.borrow().certificate().clone());
    // Before the log says that the server is ready.
    stage.serve(door.clone());
    announce(&config, address, &door, lets_default_in, certificate.as_ref());
    // Whoever follows the files says so when the certificate ends soon, also now.
    let following = keeper.zip(certificate).map(|(keeper, certificate)| {
        door.tls_started(certificate);
        tokio::spawn(keeper.follow(door.clone(), reload))
    });
    let settings = ListenerSettings {
        sessions_max: config.flags.max_connections,
        hello_timeout: Duration::from_millis(config.flags.handshake_timeout_ms),
        idle_timeout: config.flags.idle_timeout_seconds.map(Duration::from_secs),
        compression: !config.flags.disable_compression,
        log_requests: config.flags.log_requests,
        tls,
        peers: config.cluster.as_ref().and_then(|cluster| Some((cluster.secret.clone(), node.desk()?))),
        ..ListenerSettings::default()
    };
    let leading = node.clone();
    let stop = async move {
        let signal = signals.stop().await;
        info!(signal, "shutdown signal received");
        // Before anything else, so that whoever balances load sends nobody here any more.
        stage.stop();
        hand_over(&leading).await;
    };
    let drained = socket.listen(door.clone(), settings).serve(stop).await;
    if drained.aborted > 0 {
        warn!(connections = drained.aborted, "cut off connections that did not finish in time");
    }
    if let Some(following) = following {
        following.abort();
    }
    control.stop().await;
    door.close().await;
    // The log is complete whether or not the last snapshot could be taken; a start would only take longer.
    if let Err(error) = node.shutdown().await {
        warn!(%error, "the final snapshot was not taken");
    }
    info!("stopped");
    Ok(Ended::Cleanly)
}

/// Takes the data directory, looks at that of the backups and verifies the audit log, before anything in either is changed: what refuses a start leaves
/// the evidence as it was.
async fn open_for_start(config: &Config) -> Result<(DataDir, audit::Settings), ServerError> {
    let (data_dir, backups, audit) = (config.flags.data_dir.clone(), config.backup_dir(), config.audit());
    let opened = tokio::task::spawn_blocking(move || {
        let dir = DataDir::open_or_create(data_dir).map_err(|error| ServerError::Start(error.into()))?;
        BackupDir::check(&backups, &dir).map_err(ServerError::Storage)?;
        let path = audit.path.clone();
        let audit = audit.verified().map_err(|error| {
            if error.code() == Code::ServerFilesystemIoFailure {
                return ServerError::Audit(error);
            }
            warn!(
                "the audit log {} is not as it was written: find out who changed it and keep its files as evidence; with all of \
                 them moved away (the closed files and the anchor beside it too), a start begins a new one",
                path.display()
            );
            ServerError::Audit(error)
        })?;
        Ok((dir, audit))
    });
    opened.await.map_err(|error| ServerError::Runtime(error.into()))?
}

/// Gives the office of the leader to another node before this one stops, so that the others need not miss it first.
async fn hand_over(node: &Node) {
    if node.desk().is_none() || !node.leads() {
        return;
    }
    match tokio::time::timeout(HAND_OVER_TIME_MAX, node.hand_over()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "stopping as leader: the others elect another one"),
        Err(_elapsed) => {
            warn!("stopping as leader, which nobody took over in time: the others elect another one")
        }
    }
}

/// Allows as many open files as the system permits: each connection takes one.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            warn!(%error, "the limit of open files stays where it is; connections are bounded by it");
        }
    }
}

/// Binds the first address that `host` stands for.
async fn bind(host: &str, port: u16) -> Result<Socket, ServerError> {
    let failed = |source| BindError::new(format_args!("{host}:{port}"), source);
    let address = tokio::net::lookup_host((host, port))
        .await
        .map_err(failed)?
        .next()
        .ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
    Ok(Socket::bind(address).await?)
}

/// Says where the server is and what to do next, and warns of what an operator should not leave as it is.
fn announce(
    config: &Config,
    address: SocketAddr,
    door: &Door,
    lets_default_in: bool,
    certificate: Option<&Certificate>,
) {
    let flags = &config.flags;
    info!("data in {}, acknowledged writes are {}", flags.data_dir.display(), flags.wal_sync.promise());
    match &config.credentials {
        Credentials::None => {
            warn!("authentication is disabled: whoever reaches {address} may do everything");
        }
        Credentials::Configured | Credentials::Default => {}
        Credentials::Generated(password) if door.administrator_taken_over() => {
            warn!(
                "no credentials were configured for a listener beyond loopback: generated the password {} for \
                 the administrator {}; it is shown only now",
                password.expose(),
                flags.user
            );
        }
        Credentials::Generated(_) => {
            info!(
                "no credentials are configured for a listener beyond loopback: the default password does not \
                 serve it; if no other administrator exists, start once with --user and --password"
            );
        }
    }
    if lets_default_in {
        warn!(
            "the default credentials {DEFAULT_USER}/{DEFAULT_PASSWORD} let anybody in who reaches a listener \
             of this server: change that password, or drop that user, outside of tests"
        );
    }
    if config.tls.is_none() && !address.ip().is_loopback() {
        warn!("the listener on {address} has no TLS: passwords and values cross the network readable");
    }
    if flags.wal_sync != WalSync::Sync {
        warn!("--wal-sync {} is unsafe: a power failure can lose acknowledged writes", flags.wal_sync.name());
    }
    if let Some(certificate) = certificate {
        let clients = if config.tls.as_ref().is_some_and(|files| files.client_ca.is_some()) {
            "clients must present a certificate"
        } else {
            "clients need no certificate"
        };
        let (subject, fingerprint) = (&certificate.subject, &certificate.fingerprint);
        info!("TLS with the certificate of {subject} (SHA-256 {fingerprint}); {clients}");
    }
    // An unspecified address is no place to connect to.
    let host = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    let ssl = if certificate.is_some() { " --ssl" } else { "" };
    info!("next: vaylix-client --host {host} --port {} --user {}{ssl}", address.port(), flags.user);
    // Last, because it is the line that scripts wait for.
    info!("listener ready on {address}");
}

/// A password nobody can guess: letters and digits only, so that it survives every shell and URL.
fn generate_password() -> Result<Secret, ServerError> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; GENERATED_PASSWORD_BYTES];
    getrandom::fill(&mut random).map_err(ServerError::Randomness)?;
    Ok(Secret::new(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()))
}
