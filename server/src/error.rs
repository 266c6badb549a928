//! Why a server does not start or a subcommand fails, in one line: `[CODE] Name: message`.

use std::fmt;
use std::io;
use std::path::PathBuf;

use vaylix_access::OpenError;
use vaylix_access::audit::VerifyError;
use vaylix_consensus::StartError;
use vaylix_dataplane::client;
use vaylix_dataplane::server::BindError;
use vaylix_engine::StorageError;
use vaylix_proto::Code;
use vaylix_tls as tls;

/// Why the server ended with a failure.
#[derive(Debug)]
pub(crate) enum ServerError {
    /// A setting cannot be used.
    Arguments(String),
    /// The settings of TLS contradict each other.
    TlsSettings(&'static str),
    /// Certificate, key or client authorities cannot be used.
    Tls(tls::Error),
    /// The listen address is unknown or taken.
    Bind(BindError),
    /// An address of the control plane is unknown or taken.
    BindControl(vaylix_controlplane::BindError),
    /// The node did not start: damaged, foreign or locked files, or a failing disk.
    Start(StartError),
    /// The access rules cannot be read or the administrator cannot be stored.
    Open(OpenError),
    /// The audit log does not verify, or cannot be read.
    Audit(VerifyError),
    /// There is no audit log to verify.
    NoAuditLog(VerifyError),
    /// The backup directory cannot be used, a subcommand cannot do its work on a data directory, or the file of a
    /// key-encryption key cannot be read.
    Storage(StorageError),
    /// A health check found the server not alive or not ready.
    Healthcheck(String),
    /// A health check lost its connection, or what answers is no Vaylix server.
    Probe(client::Error),
    /// The result cannot be written to standard output.
    Output(io::Error),
    /// A file that the nodes of a cluster share cannot be written.
    Provision {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system refuses threads or signals.
    Runtime(io::Error),
    /// No randomness for a password.
    Randomness(getrandom::Error),
}

impl ServerError {
    fn code(&self) -> Code {
        match self {
            Self::Arguments(_) => Code::InvalidArguments,
            Self::TlsSettings(_) => Code::TlsConfigurationInvalid,
            Self::Tls(error) => error.code(),
            Self::Bind(error) => error.code(),
            Self::BindControl(error) => error.code(),
            Self::Start(error) => error.code(),
            Self::Open(OpenError::Refused(refusal)) => {
                refusal.known_code().unwrap_or(Code::AuthenticationConfigurationInvalid)
            }
            Self::Open(OpenError::Audit(error)) => error.code(),
            Self::Open(OpenError::Node(error)) => error.code(),
            Self::Audit(error) | Self::NoAuditLog(error) => error.code(),
            Self::Storage(error) => error.code(),
            Self::Healthcheck(_) => Code::HealthcheckFailed,
            Self::Probe(error) => error.code(),
            Self::Output(_) | Self::Provision { .. } | Self::Runtime(_) | Self::Randomness(_) => {
                Code::ServerFilesystemIoFailure
            }
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code();
        write!(f, "[{code}] {}: ", code.name())?;
        match self {
            Self::Arguments(detail) => write!(f, "invalid command-line arguments: {detail}"),
            Self::TlsSettings(detail) => write!(f, "TLS configuration is invalid: {detail}"),
            Self::Tls(error) => write!(f, "TLS configuration is invalid: {error}"),
            Self::Bind(error) => write!(f, "{error}"),
            Self::BindControl(error) => write!(f, "{error}"),
            Self::Start(error) => write!(f, "engine failure: {error}"),
            Self::Storage(error) => write!(f, "engine failure: {error}"),
            Self::Healthcheck(detail) => f.write_str(detail),
            Self::Probe(error) => write!(f, "{error}"),
            Self::Output(error) => write!(f, "filesystem I/O failed: write to standard output: {error}"),
            Self::Open(OpenError::Refused(refusal)) => f.write_str(&refusal.message),
            Self::Open(error) => write!(f, "{error}"),
            Self::Audit(error) => write!(f, "{error}"),
            Self::NoAuditLog(error) => {
                write!(f, "{error} (name it, or the data directory of its server with --data-dir)")
            }
            Self::Provision { path, source } => {
                write!(f, "filesystem I/O failed: {}: {source}", path.display())
            }
            Self::Runtime(error) => write!(f, "the operating system refused: {error}"),
            Self::Randomness(error) => write!(f, "no randomness for a password: {error}"),
        }
    }
}

impl From<StorageError> for ServerError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<vaylix_controlplane::BindError> for ServerError {
    fn from(error: vaylix_controlplane::BindError) -> Self {
        Self::BindControl(error)
    }
}

impl From<BindError> for ServerError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}
