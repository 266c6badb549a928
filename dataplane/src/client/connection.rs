//! One connection: startup, requests and their answers.
//!
//! Requests may be pipelined: [`Connection::send`] queues, [`Connection::flush`] writes, and
//! [`Connection::receive`] answers in the order of sending. [`Connection::call`] does the three for one command.
//!
//! Cancel safety: all state lives in the connection, never in a future, so dropping a future of any method but
//! [`Connection::connect`] loses nothing. A request whose future was dropped may still be executed; its answer
//! is read and thrown away by the next [`Connection::call`], or returned by the next [`Connection::receive`].

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use uuid::Uuid;
use vaylix_proto::frame::{
    COMPRESSION_THRESHOLD_BYTES, Compression, FRAME_LEN_MAX, FrameDecoder, FrameEncoder,
};
use vaylix_proto::hello::{Agreement, Capabilities, ClientHello, ServerHello};
use vaylix_proto::reply::QUEUED;
use vaylix_proto::request::{Metadata, Request, RequestId};
use vaylix_proto::response::{Response, Shape};
use vaylix_proto::{Command, ErrorReply, Reply, WireError};

use super::config::Config;
use super::error::Error;
use super::stream::Stream;
use super::tls;
use super::transaction::{Role, Transaction};

/// How many requests may be unanswered at a time.
pub const IN_FLIGHT_MAX: usize = 4096;

/// Room for arriving bytes that is made before each read.
const READ_CHUNK_BYTES: usize = 16 * 1024;

/// How far answers are read ahead while a request is being written.
const READ_AHEAD_BYTES_MAX: usize = 2 * FRAME_LEN_MAX as usize;

/// An open connection that has completed the startup exchange.
pub struct Connection {
    stream: Stream,
    agreement: Agreement,
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    input: BytesMut,
    output: BytesMut,
    in_flight: VecDeque<InFlight>,
    transaction: Transaction,
    usable: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("stream", &self.stream)
            .field("agreement", &self.agreement)
            .field("in_flight", &self.in_flight.len())
            .field("transaction", &self.transaction)
            .field("usable", &self.usable)
            .finish_non_exhaustive()
    }
}

/// How a TLS record begins that says what was wrong: its kind, and the first byte of every version.
const TLS_ALERT: [u8; 2] = [21, 3];

/// What must be remembered of a request to understand its answer.
#[derive(Debug)]
struct InFlight {
    id: RequestId,
    shape: Shape,
    role: Role,
}

/// A connection taken apart, for programs that speak frames themselves.
#[derive(Debug)]
pub struct Parts {
    /// The transport, after the startup exchange.
    pub stream: Stream,
    /// Bytes that were read but not yet used.
    pub input: BytesMut,
    /// The agreed limit of a frame, in bytes, for both directions.
    pub max_frame_len: u32,
}

impl Connection {
    /// Opens a connection: TCP, TLS if configured, startup exchange. Does not log in.
    ///
    /// # Errors
    /// [`Error::Connect`] when no TCP connection came about within [`Config::connect_timeout`]; any other kind
    /// when what follows fails.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let deadline = tokio::time::Instant::now() + config.connect_timeout;
        let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time");

        let tcp = tokio::time::timeout_at(deadline, TcpStream::connect((config.host.as_str(), config.port)))
            .await
            .unwrap_or_else(|_| Err(timed_out()))
            .map_err(|source| Error::Connect { address: config.address(), source })?;
        let startup = async {
            tcp.set_nodelay(true)?;
            let stream = match &config.tls {
                None => Stream::Tcp(tcp),
                Some(options) => tls::handshake(options, &config.host, tcp).await?,
            };
            Self::start(stream, config).await
        };
        tokio::time::timeout_at(deadline, startup).await.unwrap_or_else(|_| Err(Error::Io(timed_out())))
    }

    async fn start(stream: Stream, config: &Config) -> Result<Self, Error> {
        let mut connection = Self {
            stream,
            agreement: Agreement {
                capabilities: Capabilities::default(),
                compression: Compression::None,
                max_frame_len: FRAME_LEN_MAX,
            },
            encoder: FrameEncoder::new(Compression::None, COMPRESSION_THRESHOLD_BYTES, FRAME_LEN_MAX),
            decoder: FrameDecoder::new(FRAME_LEN_MAX),
            input: BytesMut::new(),
            output: BytesMut::new(),
            in_flight: VecDeque::new(),
            transaction: Transaction::Closed,
            usable: true,
        };
        let offer = offer(config);
        connection.encoder.encode(&mut connection.output, |out| offer.encode(out))?;
        connection.flush().await?;
        let hello = connection.next_frame().await.map_err(|error| connection.or_needs_tls(error))?;
        let agreement = ServerHello::decode(&hello)?.accept(&offer)?;
        if config.linearizable_reads
            && !agreement.capabilities.contains(Capabilities::LINEARIZABLE_FOLLOWER_READS)
        {
            let reason = "this server does not offer linearizable reads on followers";
            return Err(WireError::CapabilityMismatch(reason).into());
        }
        connection.encoder =
            FrameEncoder::new(agreement.compression, COMPRESSION_THRESHOLD_BYTES, agreement.max_frame_len);
        connection.decoder.set_max_frame_len(agreement.max_frame_len);
        connection.agreement = agreement;
        Ok(connection)
    }

    /// Sends `AUTH` with the configured credentials; without any this does nothing and succeeds.
    ///
    /// # Errors
    /// As [`Connection::call`]. A refused login leaves the connection usable and anonymous.
    pub async fn log_in(&mut self, config: &Config) -> Result<Result<Reply, ErrorReply>, Error> {
        let Some(credentials) = &config.credentials else { return Ok(Ok(Reply::Ok)) };
        let command =
            Command::Auth { user: credentials.user.clone(), password: credentials.password.clone() };
        self.call(&command).await
    }

    /// Sends one command and waits for its answer.
    ///
    /// Answers of earlier requests that nobody received are dropped.
    ///
    /// # Errors
    /// An [`Error`] when no answer could be had; whether the command was executed is then unknown unless the
    /// connection is still [usable](Self::is_usable).
    pub async fn call(&mut self, command: &Command) -> Result<Result<Reply, ErrorReply>, Error> {
        while self.in_flight.len() >= IN_FLIGHT_MAX {
            drop(self.receive().await?);
        }
        self.send(command)?;
        while self.in_flight.len() > 1 {
            drop(self.receive().await?);
        }
        self.receive().await
    }

    /// Queues a command for sending, without waiting.
    ///
    /// # Errors
    /// [`Error::PipelineFull`], or [`Error::Wire`] when the request is larger than the agreed limit. Nothing is
    /// queued then and the connection stays usable.
    pub fn send(&mut self, command: &Command) -> Result<(), Error> {
        self.check_usable()?;
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return Err(Error::PipelineFull);
        }
        let id = Uuid::now_v7().into_bytes();
        self.encoder
            .encode(&mut self.output, |out| Request::encode(id, &Metadata::default(), command, out))?;
        self.in_flight.push_back(InFlight { id, shape: command.reply_shape(false), role: Role::of(command) });
        Ok(())
    }

    /// Writes everything queued to the socket.
    ///
    /// While the server does not take more, its answers are read ahead (up to 16 MiB), so that a long pipeline
    /// does not end with both sides waiting for each other.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Closed`]; the connection is then no longer usable.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.check_usable()?;
        let result = poll_fn(|cx| self.poll_flush(cx)).await;
        self.note(result)
    }

    /// Waits for the next answer, in the order of sending. Flushes first.
    ///
    /// # Errors
    /// [`Error::NothingInFlight`] when everything sent has been answered. With any other error the connection is
    /// no longer usable: the stream ended, or what arrived is not the answer that was due.
    pub async fn receive(&mut self) -> Result<Result<Reply, ErrorReply>, Error> {
        if self.in_flight.is_empty() {
            return Err(Error::NothingInFlight);
        }
        self.flush().await?;
        let body = self.next_frame().await?;
        let result = self.answer(body);
        self.note(result)
    }

    /// Whether the connection can still carry requests.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Looks, without waiting, whether the server has closed the connection while nothing was under way. If so it is
    /// no longer usable, and what would have been sent next certainly was not.
    pub(super) async fn notice_end(&mut self) {
        if !self.usable || !self.in_flight.is_empty() {
            return;
        }
        // On a runtime of one thread the end shows only after the runtime has looked at its sockets.
        tokio::task::yield_now().await;
        let looked = poll_fn(|cx| match pin!(self.fill()).poll(cx) {
            Poll::Ready(filled) => Poll::Ready(filled),
            Poll::Pending => Poll::Ready(Ok(())),
        });
        let looked = looked.await;
        self.usable &= looked.is_ok();
    }

    /// Whether a transaction is open, judged by the answers received so far.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// The agreed limit of a frame, in bytes, for both directions.
    #[must_use]
    pub fn max_frame_len(&self) -> u32 {
        self.agreement.max_frame_len
    }

    /// Whether requests may be compressed.
    #[must_use]
    pub fn compression(&self) -> bool {
        self.agreement.compression == Compression::Zstd
    }

    /// Takes the connection apart. Unanswered requests are forgotten.
    #[must_use]
    pub fn into_parts(self) -> Parts {
        Parts { stream: self.stream, input: self.input, max_frame_len: self.agreement.max_frame_len }
    }

    fn check_usable(&self) -> Result<(), Error> {
        if self.usable { Ok(()) } else { Err(Error::Unusable) }
    }

    /// After a failure, what the stream carries next cannot be trusted.
    fn note<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.usable &= result.is_ok();
        result
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
                }
                Poll::Ready(Ok(written)) => self.output.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending if self.input.len() >= READ_AHEAD_BYTES_MAX => return Poll::Pending,
                Poll::Pending => match pin!(self.fill()).poll(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx).map_err(Error::from)
    }

    /// Reads what has arrived, at least one byte.
    async fn fill(&mut self) -> Result<(), Error> {
        self.input.reserve(READ_CHUNK_BYTES);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(Error::Closed),
            _ => Ok(()),
        }
    }

    async fn next_frame(&mut self) -> Result<Bytes, Error> {
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(body)) => return Ok(body),
                Ok(None) => {}
                Err(error) => return self.note(Err(error.into())),
            }
            let filled = self.fill().await;
            self.note(filled)?;
        }
    }

    /// What is wrong with an answer that is no frame: over plain TCP it may be a TLS alert, which is shorter than one.
    fn or_needs_tls(&self, error: Error) -> Error {
        let is_alert = matches!(self.stream, Stream::Tcp(_)) && self.input.starts_with(&TLS_ALERT);
        if is_alert { Error::NeedsTls } else { error }
    }

    /// Makes sense of `body` as the answer to the oldest request.
    fn answer(&mut self, body: Bytes) -> Result<Result<Reply, ErrorReply>, Error> {
        let request = self.in_flight.pop_front().ok_or(Error::ResponseId)?;
        let response = Response::decode(body)?;
        if response.id != request.id {
            return Err(Error::ResponseId);
        }
        let queued = self.transaction.may_queue(request.role) && is_queued(&response);
        let shape = if queued { Shape::Value } else { request.shape };
        let answer = response.reply(shape)?;
        self.transaction = self.transaction.after(request.role, &answer, queued);
        Ok(answer)
    }
}

fn offer(config: &Config) -> ClientHello {
    let own = ClientHello::new(config.client_name.as_str(), env!("CARGO_PKG_VERSION"));
    let extra = if config.linearizable_reads {
        Capabilities::LINEARIZABLE_FOLLOWER_READS
    } else {
        Capabilities::default()
    };
    ClientHello {
        supported_capabilities: own.supported_capabilities.union(extra),
        desired_compression: if config.compression { Compression::Zstd } else { Compression::None },
        max_frame_len: config.max_frame_len.min(FRAME_LEN_MAX),
        auth_intent: config.credentials.is_some(),
        ..own
    }
}

/// Whether a successful response consists of the value `QUEUED`.
fn is_queued(response: &Response) -> bool {
    matches!(response.reply(Shape::Value), Ok(Ok(Reply::Value(value))) if value == QUEUED)
}

#[cfg(test)]
mod tests;
