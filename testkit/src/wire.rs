//! A small blocking speaker of VTP2 for tests that need bytes, threads or raw sockets rather than the client.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use vaylix_proto::frame::{Compression, FRAME_LEN_MAX, FrameDecoder, FrameEncoder};
use vaylix_proto::hello::{ClientHello, ServerHello};
use vaylix_proto::opcode::Opcode;
use vaylix_proto::request::{Metadata, Request};
use vaylix_proto::response::Response;
use vaylix_proto::{Command, ErrorReply, Reply, SetOptions};

use crate::process::PATIENCE;

/// The administrator of a server that was started without credentials.
pub const DEFAULT_LOGIN: (&str, &str) = ("vaylix", "vaylix");

/// One connection after its hello.
pub struct Connection {
    stream: TcpStream,
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    input: BytesMut,
    output: BytesMut,
    sent: u128,
    received: u128,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects and exchanges hellos, without compression.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn open(server: SocketAddr) -> Result<Self> {
        Self::open_within(server, PATIENCE)
    }

    /// As [`Connection::open`], for a server that may never answer: `patience` is how long connecting, and each answer,
    /// may take.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or does not answer in time.
    pub fn open_within(server: SocketAddr, patience: Duration) -> Result<Self> {
        let offer = ClientHello {
            desired_compression: Compression::None,
            ..ClientHello::new("vaylix-test", env!("CARGO_PKG_VERSION"))
        };
        Self::greet(server, &offer, patience)
    }

    /// Connects and says this hello, which asks for no compression.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn open_as(server: SocketAddr, offer: &ClientHello) -> Result<Self> {
        Self::greet(server, offer, PATIENCE)
    }

    fn greet(server: SocketAddr, offer: &ClientHello, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, patience).context("cannot connect")?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream,
            encoder: FrameEncoder::new(Compression::None, 0, FRAME_LEN_MAX),
            decoder: FrameDecoder::new(FRAME_LEN_MAX),
            input: BytesMut::new(),
            output: BytesMut::new(),
            sent: 0,
            received: 0,
        };
        connection.encoder.encode(&mut connection.output, |body| offer.encode(body))?;
        connection.flush()?;
        let body = connection.frame()?.context("closed instead of a hello")?;
        let hello = ServerHello::decode(&body)?;
        ensure!(hello.accept(offer).is_ok(), "rejected: {hello:?}");
        Ok(connection)
    }

    /// Connects and logs in with the default credentials.
    ///
    /// # Errors
    /// As [`Connection::open`], and when the login is refused.
    pub fn login(server: SocketAddr) -> Result<Self> {
        Self::login_within(server, PATIENCE)
    }

    /// As [`Connection::login`], for a server that may never answer.
    ///
    /// # Errors
    /// As [`Connection::open_within`], and when the login is refused.
    pub fn login_within(server: SocketAddr, patience: Duration) -> Result<Self> {
        let (user, password) = DEFAULT_LOGIN;
        let mut connection = Self::open_within(server, patience)?;
        connection.call(&Command::Auth { user: user.into(), password: password.into() })??;
        Ok(connection)
    }

    /// Another handle to the socket, for what this speaker does not do.
    ///
    /// # Errors
    /// When the system has none to give.
    pub fn socket(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// Puts a request into the output buffer.
    ///
    /// # Errors
    /// When it does not fit in a frame.
    pub fn send(&mut self, command: &Command) -> Result<()> {
        self.sent += 1;
        let id = self.sent.to_be_bytes();
        self.encoder
            .encode(&mut self.output, |body| Request::encode(id, &Metadata::default(), command, body))?;
        Ok(())
    }

    /// One request with this metadata, and its response.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn call_with(&mut self, metadata: &Metadata, command: &Command) -> Result<Result<Reply, ErrorReply>> {
        self.sent += 1;
        let id = self.sent.to_be_bytes();
        self.encoder.encode(&mut self.output, |body| Request::encode(id, metadata, command, body))?;
        self.flush()?;
        self.receive(command)
    }

    /// One request with an opcode and payload of the caller's, and the status, code and message of its answer.
    ///
    /// # Errors
    /// When the connection is lost or the response cannot be understood.
    pub fn call_opaque(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Response> {
        self.sent += 1;
        let id = self.sent.to_be_bytes();
        self.encoder.encode(&mut self.output, |body| {
            Request::encode_opaque(id, &Metadata::default(), opcode, payload, body);
            Ok(())
        })?;
        self.flush()?;
        self.received += 1;
        let body = self.frame()?.context("closed instead of a response")?;
        Ok(Response::decode(body)?)
    }

    /// Writes what [`Connection::send`] has collected.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    /// The next response, in request order, read as the answer to `command` outside a transaction.
    ///
    /// # Errors
    /// When the connection is lost or the response cannot be understood or answers something else.
    pub fn receive(&mut self, command: &Command) -> Result<Result<Reply, ErrorReply>> {
        let body = self.frame()?.context("closed instead of a response")?;
        let response = Response::decode(body)?;
        self.received += 1;
        ensure!(response.id == self.received.to_be_bytes(), "a response to another request");
        Ok(response.reply(command.reply_shape(false))?)
    }

    /// One request and its response.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn call(&mut self, command: &Command) -> Result<Result<Reply, ErrorReply>> {
        self.send(command)?;
        self.flush()?;
        self.receive(command)
    }

    fn frame(&mut self) -> Result<Option<Bytes>> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(body) = self.decoder.decode(&mut self.input)? {
                return Ok(Some(body));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read"),
            }
        }
    }
}

/// A plain SET.
#[must_use]
pub fn set_command(key: &str, value: impl Into<Bytes>) -> Command {
    Command::Set { key: key.into(), value: value.into(), options: SetOptions::default() }
}

/// Stores `value` under `key` as the default administrator.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub fn set(server: SocketAddr, key: &str, value: &[u8]) -> Result<()> {
    match Connection::login(server)?.call(&set_command(key, value.to_vec()))?? {
        Reply::Ok => Ok(()),
        other => bail!("SET answered {other:?}"),
    }
}

/// Bytes from hexadecimal digits.
///
/// # Errors
/// When the text is not an even number of digits.
pub fn unhex(text: &str) -> Result<Vec<u8>> {
    ensure!(text.is_ascii() && text.len().is_multiple_of(2), "not hexadecimal: {text}");
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?)).collect()
}
