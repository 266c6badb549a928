//! The listener: takes connections in, makes room for them, and sees them out.
//!
//! Nothing can block the accept loop: handshakes and heads have their own clocks in the tasks of their connections.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tracing::Span;
use vaylix_proto::Code;
use vaylix_tls::{Current, UserRule};

use crate::api;
use crate::caps::{ACCEPT_PAUSE, CONNECTION_ID_BASE, CONNECTIONS_MAX, SHUTDOWN_GRACE};
use crate::connection::{Activity, attend};
use crate::frame::Frame;
use crate::live;
use crate::stage::Stage;

/// An address of the control plane cannot be listened on (`SRV-001`).
#[derive(Debug, thiserror::Error)]
#[error("failed to bind TCP listener of the control plane: {address}: {source} ({advice})")]
pub struct BindError {
    address: String,
    source: io::Error,
    advice: &'static str,
}

impl BindError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        Code::ListenerBindFailure
    }
}

/// A bound address without a server behind it yet. Clients may connect; they wait in the system's queue.
#[derive(Debug)]
pub struct Socket {
    listener: StdListener,
    address: SocketAddr,
}

impl Socket {
    /// Binds the first address that `host` stands for; port 0 picks a free one. `advice` says what an operator can do when
    /// that fails.
    ///
    /// # Errors
    /// The system's reason.
    pub fn bind(host: &str, port: u16, advice: &'static str) -> Result<Self, BindError> {
        let bind = || -> io::Result<Self> {
            let address = (host, port).to_socket_addrs()?.next();
            let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
            let listener = StdListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|source| BindError { address: format!("{host}:{port}"), source, advice })
    }

    /// The address that is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// What a listener offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Everything {
        /// Whether the page for people is part of it.
        console: bool,
    },
    /// Probes and metrics only, without login.
    Watching,
}

/// How a listener serves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it offers.
    pub scope: Scope,
    /// The certificate, when it speaks TLS.
    pub tls: Option<Current>,
    /// Which user the certificate of a client stands for; none where it stands for nobody.
    pub user_rule: Option<UserRule>,
}

/// A bound socket with what will be served on it.
pub struct Server {
    socket: Socket,
    settings: Settings,
    stage: Stage,
}

impl Server {
    /// A server on `socket` for what is at `stage`.
    #[must_use]
    pub fn new(socket: Socket, settings: Settings, stage: Stage) -> Self {
        Self { socket, settings, stage }
    }

    /// Serves until `shutdown` completes, then gives requests in progress a short while.
    ///
    /// # Errors
    /// When the system refuses to have the socket waited for.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let Self { socket, settings, stage } = self;
        let socket = TcpListener::from_std(socket.listener)?;
        let router = api::router(settings.scope, &stage);
        let mut memory = JoinSet::new();
        if matches!(settings.scope, Scope::Everything { .. }) {
            memory.spawn(live::remember(stage.clone()));
        }
        let frame = Arc::new(Frame::new(stage, router));
        let (closing, _) = watch::channel(false);
        let crowd = Crowd::default();
        let mut tasks = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let mut next_id = CONNECTION_ID_BASE;
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(target: "admin.connection", %error, "connection task failed");
                    }
                }
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => {
                        next_id += 1;
                        let Some(place) = crowd.enter(next_id) else {
                            tracing::debug!(target: "admin.connection", %peer, "no place for another connection");
                            continue;
                        };
                        tasks.spawn(take_in(
                            stream,
                            Guest {
                                peer,
                                id: next_id,
                                is_encrypted: settings.tls.is_some(),
                                shown: None,
                                span: connection_span(next_id, peer),
                            },
                            place,
                            Arc::clone(&frame),
                            settings.tls.clone().map(|tls| (tls, settings.user_rule)),
                            closing.subscribe(),
                        ));
                    }
                    Err(error) => {
                        let code = Code::ConnectionAcceptFailure;
                        tracing::warn!(target: "admin.accept", %code, %error, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(socket);
        closing.send_replace(true);
        let drain = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE, drain).await.is_err() {
            tasks.shutdown().await;
        }
        Ok(())
    }
}

/// Who is on the other side of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) peer: SocketAddr,
    pub(crate) id: u64,
    /// Whether TLS is spoken.
    pub(crate) is_encrypted: bool,
    /// The certificate that was shown and verified, where it stands for a user.
    pub(crate) shown: Option<Arc<Shown>>,
    /// Of the connection; disabled if nobody follows connections.
    pub(crate) span: Span,
}

fn connection_span(connection_id: u64, peer: SocketAddr) -> Span {
    tracing::info_span!(target: vaylix_telemetry::CONNECTION, parent: None, "connection", connection_id, %peer)
}

/// A client's certificate, verified when it was shown.
#[derive(Debug)]
pub(crate) struct Shown {
    /// What was shown, the client's own first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The authorities in force.
    pub(crate) current: Current,
    /// Whom it names by the rule in force.
    pub(crate) user: Option<String>,
    pub(crate) fingerprint: String,
    /// Whether it has been written down that this connection acts as that user.
    pub(crate) is_known: AtomicBool,
}

impl Shown {
    /// Whether it would be let in now as well: a connection may be older than the end of its certificate, or than the
    /// authority's.
    pub(crate) fn is_in_force(&self) -> bool {
        self.current.borrow().vouches_for(&self.chain)
    }
}

async fn take_in(
    stream: TcpStream,
    guest: Guest,
    place: Place,
    frame: Arc<Frame>,
    tls: Option<(Current, Option<UserRule>)>,
    closing: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(target: "admin.connection", %error, "TCP_NODELAY was not set");
    }
    attend(stream, guest, &place.activity, frame, tls, closing).await;
}

/// The connections that there are.
#[derive(Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<u64, Arc<Activity>>>>);

impl Crowd {
    /// A place for one more. When all are taken, the connection that has been quiet for longest is dismissed for it; none if
    /// all are busy.
    fn enter(&self, id: u64) -> Option<Place> {
        let mut all = self.0.lock();
        if all.len() >= CONNECTIONS_MAX {
            let quiet = all.iter().filter_map(|(id, activity)| Some((activity.quiet_since()?, *id)));
            let (_, longest) = quiet.min()?;
            if let Some(activity) = all.remove(&longest) {
                activity.dismiss();
            }
        }
        let activity = Arc::new(Activity::default());
        all.insert(id, Arc::clone(&activity));
        Some(Place { crowd: self.clone(), id, activity })
    }
}

/// A place among the connections. Given back when dropped.
struct Place {
    crowd: Crowd,
    id: u64,
    activity: Arc<Activity>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.0.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quietest_makes_room_and_nobody_busy_does() {
        let crowd = Crowd::default();
        let places: Vec<_> = (0..CONNECTIONS_MAX as u64).map(|id| crowd.enter(id).unwrap()).collect();
        let busy: Vec<_> = places.iter().map(|place| place.activity.begin()).collect();
        assert!(crowd.enter(1_000).is_none(), "all are busy");
        drop(busy);
        let first = places[0].activity.begin();
        assert!(crowd.enter(1_001).is_some());
        assert!(!places[0].activity.is_dismissed(), "it is busy");
        assert_eq!(places.iter().filter(|place| place.activity.is_dismissed()).count(), 1);
        drop(first);
        drop(places);
        assert!(crowd.0.lock().is_empty(), "every place was given back");
    }

    #[test]
    fn a_port_that_is_taken_is_said_with_code_and_advice() {
        let first = Socket::bind("127.0.0.1", 0, "").unwrap();
        let error = Socket::bind("127.0.0.1", first.local_addr().port(), "try another one").unwrap_err();
        assert_eq!(error.code().code(), "SRV-001");
        let text = error.to_string();
        assert!(
            text.contains(&first.local_addr().to_string()) && text.ends_with("(try another one)"),
            "{text}"
        );
    }
}
