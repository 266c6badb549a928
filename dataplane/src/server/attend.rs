//! One connection from accept to close: TLS, hello, requests, farewell.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::Span;
use vaylix_access::{Counters, Door, Metric};
use vaylix_proto::Code;
use vaylix_proto::frame::{self, Compression};

use crate::peers;

use super::caps::{LINGER_BYTES_MAX, LINGER_MAX, READ_BYTES_MAX};
use super::connection::{Connection, End};
use super::handshake::{self, Failed};
use super::registry::Member;
use super::settings::Settings;
use vaylix_tls::Current;

/// What all connections share.
pub(crate) struct Server {
    pub(crate) door: Door,
    pub(crate) settings: Settings,
}

/// Attends to one connection until it is closed.
pub(crate) async fn attend(stream: TcpStream, peer: SocketAddr, mut member: Member, server: Arc<Server>) {
    let _counted = Counted::new(server.door.counters());
    let connection_id = member.id().0;
    let span = tracing::info_span!(target: "server.connection", "connection", connection_id, %peer);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(target: "server.connection", parent: &span, %error, "TCP_NODELAY was not set");
    }
    let mut visit = Visit { member: &mut member, server: &server, peer, span: &span, hello_by: None };
    visit.hello_by = Instant::now().checked_add(server.settings.hello_timeout);
    // Boxed, so that a connection is not as large as both ways together.
    match &server.settings.tls {
        None => Box::pin(visit.converse(stream)).await,
        Some(tls) => Box::pin(visit.converse_over_tls(stream, tls)).await,
    }
}

/// A connection being counted.
struct Counted<'a>(&'a Counters);

impl<'a> Counted<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.increment(Metric::ConnectionsAccepted);
        counters.increment(Metric::ConnectionsActive);
        Self(counters)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.decrement(Metric::ConnectionsActive);
        self.0.increment(Metric::ConnectionsCompleted);
    }
}

/// What accompanies a connection.
struct Visit<'a> {
    member: &'a mut Member,
    server: &'a Arc<Server>,
    peer: SocketAddr,
    span: &'a Span,
    /// When the hello must be complete; none: the time is beyond the clock.
    hello_by: Option<Instant>,
}

impl Visit<'_> {
    /// Speaks VTP2 over `stream`, then closes it.
    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(&mut self, mut stream: S) {
        match self.greet(&mut stream).await {
            Ok(greeted) if greeted.is_peer => Box::pin(self.serve_peer(&mut stream, greeted)).await,
            Ok(greeted) => self.serve(&mut stream, greeted).await,
            Err(failure) => {
                tracing::debug!(target: "server.connection", parent: self.span, %failure, "no session");
                if matches!(failure, Failed::Malformed(_) | Failed::Rejected) {
                    close(&mut stream, matches!(failure, Failed::Rejected)).await;
                }
            }
        }
    }

    /// Runs the TLS handshake, then speaks VTP2. Everything up to the hello has one time limit, and happens in this
    /// connection's own task.
    async fn converse_over_tls(&mut self, stream: TcpStream, tls: &Current) {
        let first = match self.in_time(first_byte(&stream)).await {
            Some(Ok(Some(first))) => first,
            // Whoever only looks whether the port is open does not fail in a handshake.
            ended => {
                tracing::debug!(target: "server.tls", parent: self.span, ?ended, "no TLS handshake");
                return;
            }
        };
        let failure = if first == frame::MAGIC[0] {
            self.turn_away(stream).await;
            "a client that does not use TLS".to_owned()
        } else {
            let acceptor = TlsAcceptor::from(Arc::clone(tls.borrow().server_config()));
            match Box::pin(self.in_time(acceptor.accept(stream).into_fallible())).await {
                Some(Ok(stream)) => return Box::pin(self.converse(stream)).await,
                Some(Err((error, mut stream))) => {
                    // The alert that says why must not be overtaken by a reset.
                    close(&mut stream, true).await;
                    error.to_string()
                }
                None => "not finished in time".to_owned(),
            }
        };
        self.server.door.counters().increment(Metric::TlsHandshakeFailures);
        let code = Code::TlsHandshakeFailure;
        tracing::warn!(target: "server.tls", parent: self.span, %code, "TLS handshake failed: {failure}");
    }

    /// Tells a client that speaks VTP2 where TLS is spoken, in the one way it understands. It gets no session.
    async fn turn_away(&mut self, mut stream: TcpStream) {
        let answer = handshake::needs_tls();
        if let Some(Err(Failed::Rejected)) = self.in_time(handshake::send(&mut stream, &answer)).await {
            close(&mut stream, true).await;
        }
    }

    async fn greet<S>(&mut self, stream: &mut S) -> Result<Greeted, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let hello = self.in_time(handshake::receive(stream)).await.ok_or(Failed::Late)??;
        let answer = hello.decide(self.member, &self.server.settings);
        let agreement = self.in_time(handshake::send(stream, &answer)).await.ok_or(Failed::Late)??;
        let is_peer = hello.is_peer(&self.server.settings);
        Ok(Greeted { is_noteworthy: hello.is_noteworthy(), input: hello.rest, agreement, is_peer })
    }

    /// Another node. Until it has proved to be one, it is an arrival like any other.
    async fn serve_peer<S>(&mut self, stream: &mut S, greeted: Greeted)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some((secret, desk)) = self.server.settings.peers.clone() else { return };
        let patience = match self.hello_by {
            Some(at) => at.saturating_duration_since(Instant::now()),
            None => self.server.settings.hello_timeout,
        };
        let compression = greeted.agreement.compression;
        let (arrived, is_peer) = tokio::sync::oneshot::channel();
        let end = {
            // The registry is told in between, and may want the connection to leave at any time.
            let member = &mut *self.member;
            let attended =
                peers::attend(stream, greeted.input, compression, (&secret, &desk), patience, move || {
                    arrived.send(()).is_ok()
                });
            let mut attended = std::pin::pin!(attended);
            let mut is_peer = Some(is_peer);
            loop {
                let proved = async {
                    match &mut is_peer {
                        Some(proved) => proved.await.is_ok(),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    end = &mut attended => break Some(end),
                    () = member.dismissed() => break None,
                    proved = proved => {
                        is_peer = None;
                        if proved && !member.become_peer() {
                            break None;
                        }
                    }
                }
            }
        };
        if let Some(end) = end {
            tracing::debug!(target: "server.peers", parent: self.span, %end, "a peer has gone");
            if matches!(end, peers::End::Refused(_)) {
                close(stream, false).await;
            }
        }
    }

    async fn serve<S>(&mut self, stream: &mut S, greeted: Greeted)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Greeted { input, agreement, is_noteworthy, .. } = greeted;
        if is_noteworthy {
            let compression = match agreement.compression {
                Compression::None => "none",
                Compression::Zstd => "zstd",
            };
            let max_frame_len = agreement.max_frame_len;
            tracing::info!(target: "server.connection", parent: self.span, "accepted client");
            tracing::info!(
                target: "server.connection",
                parent: self.span,
                protocol = frame::VERSION,
                compression,
                max_frame_len,
                "negotiated"
            );
        }
        let connection = Connection::new(
            &mut *stream,
            input,
            agreement,
            self.member,
            Arc::clone(self.server),
            self.peer,
            self.span.clone(),
        );
        let end = connection.run().await;
        if is_noteworthy {
            match &end {
                End::Closed => {
                    tracing::info!(target: "server.connection", parent: self.span, "client disconnected");
                }
                end => {
                    tracing::info!(target: "server.connection", parent: self.span, reason = %end, "closed");
                }
            }
        }
        if !matches!(end, End::Lost(_) | End::Stalled) {
            close(stream, matches!(end, End::Malformed(_) | End::Unanswerable)).await;
        }
    }

    /// What `work` yields before the hello is due; none when it is late, or the connection has to leave.
    async fn in_time<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let late = async {
            match self.hello_by {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            output = work => Some(output),
            () = self.member.dismissed() => None,
            () = late => None,
        }
    }
}

/// What the peer says first, without taking it; none when it says nothing and closes.
async fn first_byte(stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut first = [0];
    Ok((stream.peek(&mut first).await? > 0).then_some(first[0]))
}

/// A connection that may send requests.
struct Greeted {
    input: BytesMut,
    agreement: vaylix_proto::hello::Agreement,
    is_noteworthy: bool,
    is_peer: bool,
}

/// Closes so that the last answers arrive. Closing a socket with unread bytes resets the connection, and a
/// reset can overtake what was sent before: so the sending side is closed first, and what the peer still sends
/// is thrown away, for a bounded time, until it closes too. Without `expects_more` one look is enough.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, expects_more: bool) {
    let farewell = async {
        stream.shutdown().await?;
        let mut discarded = 0;
        let mut buffer = BytesMut::with_capacity(READ_BYTES_MAX);
        while discarded < LINGER_BYTES_MAX {
            let read = stream.read_buf(&mut buffer);
            let count = if expects_more || discarded > 0 {
                read.await?
            } else {
                match tokio::time::timeout(std::time::Duration::ZERO, read).await {
                    Ok(count) => count?,
                    Err(_) => break,
                }
            };
            if count == 0 {
                break;
            }
            discarded += count;
            buffer.clear();
        }
        io::Result::Ok(())
    };
    // Nobody is left to be told of a failure.
    drop(tokio::time::timeout(LINGER_MAX, farewell).await);
}
