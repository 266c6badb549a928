//! What can go wrong on the client's side of a connection.

use std::io;
use std::path::PathBuf;

use vaylix_proto::Code;
use vaylix_proto::WireError;
use vaylix_proto::hello::Refused;

/// A failure of the client or of the connection, as opposed to a refusal by the server.
///
/// `Display` is the message; [`Error::code`] gives the stable code and name that belong in front of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No TCP connection: refused, unreachable, unknown host, out of time. Nothing was sent.
    #[error("filesystem I/O failed: failed to connect to {address}: {source}")]
    Connect {
        /// Host and port that were tried.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A certificate or key file could not be read.
    #[error("filesystem I/O failed: {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A connection URL that is no URL.
    #[error("filesystem I/O failed: {0}")]
    MalformedUrl(&'static str),
    /// Settings that contradict each other or cannot be used.
    #[error("invalid client configuration: {0}")]
    Configuration(String),
    /// The socket failed, before or after the startup exchange.
    #[error("transport failure: i/o error: {0}")]
    Io(#[from] io::Error),
    /// The server closed the connection, at least while an answer was due: what was asked may have been done.
    #[error("transport failure: i/o error: the server closed the connection")]
    Closed,
    /// The peer does not speak the protocol, or a request is too large to be sent.
    #[error("transport failure: {0}")]
    Wire(#[from] WireError),
    /// The startup exchange ended without an agreement.
    #[error("transport failure: {0}")]
    Refused(#[from] Refused),
    /// An answer that does not belong to the request it should belong to.
    #[error("response id does not match the request id")]
    ResponseId,
    /// [`send`](super::Connection::send) while [`IN_FLIGHT_MAX`](super::IN_FLIGHT_MAX) requests are unanswered.
    #[error("too many requests in flight: receive some answers first")]
    PipelineFull,
    /// [`receive`](super::Connection::receive) with nothing to wait for.
    #[error("no request is in flight")]
    NothingInFlight,
    /// The connection was given up after an earlier failure.
    #[error("the connection was given up after an earlier failure")]
    Unusable,
}

impl Error {
    /// The stable code and name of this failure.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Connect { .. } | Self::File { .. } | Self::MalformedUrl(_) => {
                Code::ClientFilesystemIoFailure
            }
            Self::Configuration(_) => Code::InvalidClientConfiguration,
            Self::Io(_) | Self::Closed => Code::TransportIoFailure,
            Self::Wire(error) => error.code(),
            Self::Refused(refused) => refused.code(),
            Self::ResponseId => Code::ResponseIdMismatch,
            Self::PipelineFull | Self::NothingInFlight | Self::Unusable => Code::ProtocolStateViolation,
        }
    }
}
