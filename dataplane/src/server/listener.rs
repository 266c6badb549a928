//! The listener: takes connections in, keeps count of them, and sees them out.
//!
//! Nothing can block the accept loop: no permit is held across `accept`, the hello and TLS have their own
//! clock in the connection's own task, and a failed accept only makes a pause during which the stop signal is
//! still heard. Connections never take all file descriptors of the process, because the log needs some to go
//! on: before that, arrivals are sent away, and if there are none, the next connection waits in the system's
//! queue until another one ends.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinError, JoinSet};
use vaylix_access::Door;
use vaylix_proto::Code;

use super::attend::{Server, attend};
use super::caps::{ACCEPT_BACKLOG, ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN, ACCEPT_WARNING_EVERY, FILES_RESERVED};
use super::registry::Registry;
use super::settings::Settings;

/// The address cannot be listened on (`SRV-001`).
#[derive(Debug, thiserror::Error)]
#[error("failed to bind TCP listener: {address}: {source}")]
pub struct BindError {
    address: String,
    source: io::Error,
}

impl BindError {
    /// Nobody can listen on this address, host and port, for that reason.
    #[must_use]
    pub fn new(address: impl std::fmt::Display, source: io::Error) -> Self {
        Self { address: address.to_string(), source }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        Code::ListenerBindFailure
    }
}

/// A bound address without a server behind it yet. Clients may connect; they wait in the system's queue.
pub struct Socket(TcpListener);

impl Socket {
    /// Binds `address`; port 0 picks a free one.
    ///
    /// # Errors
    /// The system's reason.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bind = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // A restart must not wait until the connections of the last run are forgotten.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(ACCEPT_BACKLOG)
        };
        bind().map(Self).map_err(|source| BindError::new(address, source))
    }

    /// The address that is bound.
    ///
    /// # Errors
    /// The system's reason.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Puts a server behind the address.
    #[must_use]
    pub fn listen(self, door: Door, settings: Settings) -> Listener {
        Listener { socket: self.0, server: Arc::new(Server { door, settings }) }
    }
}

/// A bound socket that has not begun to serve.
pub struct Listener {
    socket: TcpListener,
    server: Arc<Server>,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off because the grace was over.
    pub aborted: usize,
}

impl Listener {
    /// Binds `address`; port 0 picks a free one. Connections wait in the system's queue until
    /// [`serve`](Self::serve).
    ///
    /// # Errors
    /// The system's reason.
    pub async fn bind(address: SocketAddr, door: Door, settings: Settings) -> Result<Self, BindError> {
        Ok(Socket::bind(address).await?.listen(door, settings))
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// The system's reason.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves connections until `shutdown` completes. Then no connection is taken in any more, idle sessions
    /// are closed, and requests that have arrived completely are answered, within
    /// [`Settings::shutdown_grace`]. What is not answered by then is cut off.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Drained {
        let Self { socket, server } = self;
        let settings = &server.settings;
        let registry = Registry::new(settings.sessions_max, settings.handshakes_max, Instant::now());
        let mut tasks = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let mut pause = Pause::default();
        let mut warned_at = None::<Instant>;
        let connections_max = connections_max();
        loop {
            if tasks.len() >= connections_max {
                registry.dismiss_oldest_arrival();
            }
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = tasks.join_next() => report(ended),
                accepted = pause.accept(&socket), if tasks.len() < connections_max => match accepted {
                    Ok((stream, peer)) => {
                        tasks.spawn(attend(stream, peer, registry.arrive(), Arc::clone(&server)));
                    }
                    Err(error) => {
                        // Perhaps out of file descriptors: who has said nothing yet gives one back.
                        registry.dismiss_oldest_arrival();
                        if warned_at.is_none_or(|at| at.elapsed() >= ACCEPT_WARNING_EVERY) {
                            warned_at = Some(Instant::now());
                            let code = Code::ConnectionAcceptFailure;
                            tracing::warn!(target: "server.accept", %code, %error, "accept failed");
                        }
                    }
                },
            }
        }
        drop(socket);
        registry.close();
        let drain = async {
            while tasks.len() > registry.peer_count() {
                if let Some(ended) = tasks.join_next().await {
                    report(ended);
                }
            }
            registry.dismiss_peers();
            while let Some(ended) = tasks.join_next().await {
                report(ended);
            }
        };
        // Whether it ran to its end shows in what is left.
        drop(tokio::time::timeout(server.settings.shutdown_grace, drain).await);
        let aborted = tasks.len();
        tasks.shutdown().await;
        Drained { aborted }
    }
}

/// How many connections the process has file descriptors for, beside its own files.
fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    let files = files.unwrap_or(usize::MAX);
    files - FILES_RESERVED.min(files / 2)
}

/// A task that ended by a panic is a defect; its connection is gone, the others are not concerned.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(target: "server.connection", %error, "connection task failed");
    }
}

/// The pause before the next accept after a failed one.
#[derive(Default)]
struct Pause(Option<(Duration, Instant)>);

impl Pause {
    /// Accepts when the pause is over. Cancel-safe: the pause goes on.
    async fn accept(&mut self, socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        if let Some((_, until)) = self.0 {
            tokio::time::sleep_until(until.into()).await;
        }
        let accepted = socket.accept().await;
        self.0 = match &accepted {
            Ok(_) => None,
            // That client has gone again; the next one is not concerned.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
            Err(_) => {
                let pause = self.0.map_or(ACCEPT_PAUSE_MIN, |(last, _)| (2 * last).min(ACCEPT_PAUSE_MAX));
                Some((pause, Instant::now() + pause))
            }
        };
        accepted
    }
}
