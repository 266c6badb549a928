//! What can go wrong on the client's side of a connection.

use std::io;
use std::path::PathBuf;

use rustls::{AlertDescription, CertificateError};
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
    Io(#[source] io::Error),
    /// No TLS connection came about.
    #[error("transport failure: i/o error: TLS handshake: {source}{}", hint(source))]
    TlsHandshake {
        /// What the TLS library or the socket says.
        source: io::Error,
    },
    /// The server ended the TLS connection because it wants a client certificate, or another one.
    #[error("transport failure: i/o error: {0}{CERTIFICATE_HINT}")]
    ClientCertificate(#[source] io::Error),
    /// The server answered in TLS, and was not asked in TLS.
    #[error("transport failure: protocol negotiation failed: the server uses TLS: connect with TLS (--ssl)")]
    NeedsTls,
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
            Self::Io(_) | Self::TlsHandshake { .. } | Self::ClientCertificate(_) | Self::Closed => {
                Code::TransportIoFailure
            }
            Self::NeedsTls => Code::ProtocolNegotiationFailed,
            Self::Wire(error) => error.code(),
            Self::Refused(refused) => refused.code(),
            Self::ResponseId => Code::ResponseIdMismatch,
            Self::PipelineFull | Self::NothingInFlight | Self::Unusable => Code::ProtocolStateViolation,
        }
    }
}

impl From<io::Error> for Error {
    /// With TLS 1.3 a client learns that its certificate does not do only when it reads: what went wrong is then inside.
    fn from(error: io::Error) -> Self {
        if is_about_client_certificate(&error) { Self::ClientCertificate(error) } else { Self::Io(error) }
    }
}

const CERTIFICATE_HINT: &str = "; the server accepts only clients with a certificate it trusts: name one \
                                (--tls-client-cert and --tls-client-key)";
const NO_TLS_HINT: &str = "; perhaps the server does not use TLS: then connect without --ssl";

/// What may help after a TLS handshake that failed like this.
fn hint(error: &io::Error) -> &'static str {
    if is_about_client_certificate(error) {
        return CERTIFICATE_HINT;
    }
    match inside(error) {
        // Whoever does not speak TLS closes, or answers in its own protocol.
        Some(rustls::Error::InvalidMessage(_)) => NO_TLS_HINT,
        None if matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ) =>
        {
            NO_TLS_HINT
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; name the authority that issued the server's certificate (--tls-ca-cert)"
        }
        _ => "",
    }
}

fn is_about_client_certificate(error: &io::Error) -> bool {
    matches!(
        inside(error),
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::DecryptError
        ))
    )
}

/// What the TLS library says.
fn inside(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
