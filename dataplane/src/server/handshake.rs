//! The hello: what has to be said before the first request.
//!
//! The client speaks first. Whatever is not a client hello is answered by closing; a hello that cannot be
//! agreed to, or finds no free place, is answered by a rejection. Requests may follow the hello at once, so the
//! bytes behind it are handed on.

use std::io;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use vaylix_proto::error::WireError;
use vaylix_proto::frame::{Compression, FRAME_LEN_MAX, FrameDecoder, FrameEncoder};
use vaylix_proto::hello::{Agreement, ClientHello, Rejection, ServerHello, ServerPolicy, negotiate};
use vaylix_proto::{Code, Text};

use crate::peers::PEER_NAME;

use super::caps::{HELLO_LEN_MAX, READ_BYTES_MIN};
use super::registry::{Full, Member};
use super::settings::Settings;

/// Clients of this name are not mentioned in the log: they come often and mean nothing.
const HEALTHCHECK_NAME: &str = "vaylix-healthcheck";

/// What a client has said first.
pub(crate) struct Hello {
    client: ClientHello,
    /// Bytes that came behind it.
    pub(crate) rest: BytesMut,
}

/// Why there will be no requests.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The peer closed before it had said anything complete.
    #[error("closed before the hello")]
    Closed,
    /// It was not complete in time, or the connection had to leave.
    #[error("no hello in time")]
    Late,
    /// It was no hello.
    #[error("malformed hello: [{code}] {0}", code = .0.code())]
    Malformed(#[from] WireError),
    /// The client has been told why.
    #[error("hello rejected")]
    Rejected,
    /// The socket failed.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
}

/// Waits for the client's hello.
///
/// # Errors
/// Why there is none; the connection is to be closed.
pub(crate) async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Hello, Failed> {
    let mut rest = BytesMut::new();
    let mut decoder = FrameDecoder::new(HELLO_LEN_MAX);
    loop {
        if let Some(body) = decoder.decode(&mut rest)? {
            return Ok(Hello { client: ClientHello::decode(&body)?, rest });
        }
        rest.reserve(READ_BYTES_MIN);
        if stream.read_buf(&mut rest).await? == 0 {
            return Err(Failed::Closed);
        }
    }
}

impl Hello {
    /// Whether the connection is worth a line in the log.
    pub(crate) fn is_noteworthy(&self) -> bool {
        self.client.client_name != HEALTHCHECK_NAME
    }

    /// Whether another node has come, by its own account.
    pub(crate) fn is_peer(&self, settings: &Settings) -> bool {
        settings.peers.is_some() && self.client.client_name == PEER_NAME
    }

    /// Decides about it, and takes a seat if it can be agreed to. A peer takes none.
    pub(crate) fn decide(&self, member: &mut Member, settings: &Settings) -> ServerHello {
        let policy = ServerPolicy {
            compression: if settings.compression { Compression::Zstd } else { Compression::None },
            max_frame_len: settings.frame_len_max,
        };
        let answer = negotiate(&self.client, &policy, uuid::Uuid::now_v7().into_bytes());
        if answer.agreement().is_some()
            && !self.is_peer(settings)
            && member.take_seat(Instant::now()) == Err(Full)
        {
            return no_seat(settings.sessions_max);
        }
        answer
    }
}

/// Answers the hello. What is agreed, if anything is.
///
/// # Errors
/// The socket's.
pub(crate) async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    answer: &ServerHello,
) -> Result<Agreement, Failed> {
    let mut frame = BytesMut::new();
    FrameEncoder::new(Compression::None, 0, FRAME_LEN_MAX).encode(&mut frame, |out| answer.encode(out))?;
    stream.write_all(&frame).await?;
    stream.flush().await?;
    answer.agreement().ok_or(Failed::Rejected)
}

/// The answer to a hello for which there is no place.
fn no_seat(sessions_max: usize) -> ServerHello {
    let message = format!("request exceeds configured quotas: max_connections is {sessions_max}");
    rejected("no place is free", Code::QuotaExceeded, message.into())
}

/// The answer to a client that does not use TLS where it must.
pub(crate) fn needs_tls() -> ServerHello {
    let message = "this server accepts TLS connections only: connect with TLS (vaylix-client --ssl)";
    rejected("TLS is needed", Code::TlsHandshakeFailure, Text::from_static(message))
}

fn rejected(reason: &'static str, code: Code, message: Text) -> ServerHello {
    ServerHello {
        rejection: Rejection {
            code: Some(Text::from_static(code.code())),
            name: Some(Text::from_static(code.name())),
            message: Some(message),
        },
        ..ServerHello::rejected(WireError::NegotiationFailed(reason))
    }
}
