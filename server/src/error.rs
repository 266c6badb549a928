//! Why a server does not start, in one line: `[CODE] Name: message`.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use vaylix_access::OpenError;
use vaylix_consensus::StartError;
use vaylix_proto::Code;

/// Why the server ended with a failure.
#[derive(Debug)]
pub(crate) enum ServerError {
    /// A setting cannot be used.
    Arguments(String),
    /// The listen address is unknown or taken.
    Bind(io::Error),
    /// The node did not start: damaged, foreign or locked files, or a failing disk.
    Start(StartError),
    /// The access rules cannot be read or the administrator cannot be stored.
    Open(OpenError),
    /// The operating system refuses threads or signals.
    Runtime(io::Error),
    /// No randomness for a password.
    Randomness(getrandom::Error),
    /// The listener on this address failed.
    Serve(SocketAddr, io::Error),
}

impl ServerError {
    fn code(&self) -> Code {
        match self {
            Self::Arguments(_) => Code::InvalidArguments,
            Self::Bind(_) => Code::ListenerBindFailure,
            Self::Start(error) => error.code(),
            Self::Open(OpenError::Refused(refusal)) => {
                refusal.known_code().unwrap_or(Code::AuthenticationConfigurationInvalid)
            }
            Self::Open(OpenError::Node(error)) => error.code(),
            Self::Runtime(_) | Self::Randomness(_) => Code::ServerFilesystemIoFailure,
            Self::Serve(..) => Code::ConnectionAcceptFailure,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code();
        write!(f, "[{code}] {}: ", code.name())?;
        match self {
            Self::Arguments(detail) => write!(f, "invalid command-line arguments: {detail}"),
            Self::Bind(error) => write!(f, "failed to bind TCP listener: {error}"),
            Self::Start(error) => write!(f, "engine failure: {error}"),
            Self::Open(OpenError::Refused(refusal)) => f.write_str(&refusal.message),
            Self::Open(error) => write!(f, "{error}"),
            Self::Runtime(error) => write!(f, "the operating system refused: {error}"),
            Self::Randomness(error) => write!(f, "no randomness for a password: {error}"),
            Self::Serve(address, error) => write!(f, "listener on {address} failed: {error}"),
        }
    }
}
