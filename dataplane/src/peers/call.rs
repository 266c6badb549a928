//! The caller's side: keeps connections to peers, and makes new ones when they break.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vaylix_access::peers::{
    Connections, Desk, Peer, PeerAnswer, PeerCall, PeerReady, PeerTransport, Unreachable,
};
use vaylix_proto::frame::Compression;

use super::line::Line;
use super::{CONNECT_TIME_MAX, ClusterSecret, Lane, PAUSE_MAX, PAUSE_MIN, STALL_MAX, opcode};
use crate::client::system_roots;
use vaylix_tls::{Current, Material};

/// Connections to peers over TCP.
///
/// Each peer has its own, and waits for nobody else. When a peer falls silent on the connection for votes and heartbeats,
/// its others are given up too, so that nothing waits for an answer that will not come.
pub struct Transport {
    secret: ClusterSecret,
    compression: Compression,
    tls: Option<Current>,
    desk: OnceLock<Desk>,
    routes: Mutex<HashMap<(Peer, Lane), Arc<Route>>>,
    /// Counts how often each peer has been lost.
    losses: Mutex<HashMap<Peer, watch::Sender<u64>>>,
    opened: AtomicU64,
    reopened: AtomicU64,
}

/// The way to one peer on one lane.
#[derive(Default)]
struct Route {
    line: tokio::sync::Mutex<Option<Arc<Line>>>,
    pause: Mutex<Pause>,
    /// Whether there ever was a connection.
    was_open: AtomicBool,
}

#[derive(Default)]
struct Pause {
    last: Duration,
    until: Option<Instant>,
    reason: String,
}

impl Transport {
    /// A transport that proves itself with this secret, and compresses what is large if `compression` says so. With `tls`
    /// its connections are encrypted, and the certificate of a peer must name the host by which the peer is called.
    #[must_use]
    pub fn new(secret: ClusterSecret, compression: Compression, tls: Option<Current>) -> Self {
        Self {
            secret,
            compression,
            tls,
            desk: OnceLock::new(),
            routes: Mutex::default(),
            losses: Mutex::default(),
            opened: AtomicU64::new(0),
            reopened: AtomicU64::new(0),
        }
    }

    fn route(&self, peer: &Peer, lane: Lane) -> Arc<Route> {
        Arc::clone(self.routes.lock().entry((peer.clone(), lane)).or_default())
    }

    fn losses(&self, peer: &Peer) -> watch::Receiver<u64> {
        self.losses.lock().entry(peer.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    fn lost(&self, peer: &Peer) {
        if let Some(losses) = self.losses.lock().get(peer) {
            losses.send_modify(|losses| *losses += 1);
        }
    }

    /// An open connection, made if need be. Whoever comes while one is being made waits for it.
    async fn line(&self, route: &Route, peer: &Peer, lane: Lane) -> Result<Arc<Line>, Unreachable> {
        let mut line = route.line.lock().await;
        if let Some(line) = line.as_ref().filter(|line| line.is_open()) {
            return Ok(Arc::clone(line));
        }
        *line = None;
        route.pause.lock().check()?;
        let desk = self.desk.get().ok_or_else(|| Unreachable("the node has not started".to_owned()))?;
        let connect = async {
            let stream = TcpStream::connect(&peer.address).await.map_err(unreachable)?;
            prepare(&stream).map_err(unreachable)?;
            let Some(tls) = &self.tls else {
                return Line::open(stream, &self.secret, desk, peer, lane, self.compression).await;
            };
            let material = Arc::clone(&tls.borrow());
            let stream = encrypted(stream, &material, &peer.address).await?;
            Line::open(stream, &self.secret, desk, peer, lane, self.compression).await
        };
        let opened = timeout(CONNECT_TIME_MAX, connect).await;
        let opened = opened.unwrap_or_else(|_| Err(Unreachable("no connection in time".to_owned())));
        match opened {
            Ok(opened) => {
                // It is there: what is paused on other lanes has no reason to be.
                for lane in Lane::ALL {
                    self.route(peer, lane).pause.lock().end();
                }
                self.opened.fetch_add(1, Ordering::Relaxed);
                if route.was_open.swap(true, Ordering::Relaxed) {
                    self.reopened.fetch_add(1, Ordering::Relaxed);
                }
                tracing::debug!(target: "server.peers", address = %peer.address, ?lane, "connected to a peer");
                let opened = Arc::new(opened);
                *line = Some(Arc::clone(&opened));
                Ok(opened)
            }
            Err(error) => {
                route.pause.lock().begin(&error, &peer.address);
                Err(error)
            }
        }
    }

    async fn deliver(
        &self,
        peer: &Peer,
        call: PeerCall,
        body: Bytes,
        wait: Duration,
    ) -> Result<Bytes, Unreachable> {
        let lane = Lane::of(call);
        let route = self.route(peer, lane);
        let mut losses = self.losses(peer);
        losses.borrow_and_update();
        let begun = Instant::now();
        let mut used = None;
        let work = async {
            let line = self.line(&route, peer, lane).await?;
            let line = Arc::clone(used.insert(line));
            line.call(opcode(call), body).await
        };
        let answer = tokio::select! {
            answer = timeout(wait, work) => answer,
            _ = losses.changed(), if lane != Lane::Control => {
                Ok(Err(Unreachable("the peer has fallen silent".to_owned())))
            }
        };
        let was_late = answer.is_err();
        let answer = answer.unwrap_or_else(|_| Err(Unreachable("no answer in time".to_owned())));
        if answer.is_err()
            && let Some(line) = used
        {
            let is_silent = line.is_silent_since(begun);
            if (was_late || lane != Lane::Control) && is_silent {
                // Whatever is in it is not coming.
                let mut current = route.line.lock().await;
                if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &line)) {
                    *current = None;
                }
                if lane == Lane::Control {
                    self.lost(peer);
                }
            }
        } else if was_late && lane == Lane::Control {
            self.lost(peer);
        }
        answer
    }
}

impl PeerTransport for Transport {
    fn call<'a>(&'a self, peer: &'a Peer, call: PeerCall, body: Bytes, timeout: Duration) -> PeerAnswer<'a> {
        Box::pin(self.deliver(peer, call, body, timeout))
    }

    fn prepare<'a>(&'a self, peer: &'a Peer) -> PeerReady<'a> {
        Box::pin(async move {
            for lane in [Lane::Control, Lane::Log] {
                let route = self.route(peer, lane);
                if self.line(&route, peer, lane).await.is_err() {
                    // Said where connections are made.
                    return;
                }
            }
        })
    }

    fn connections(&self) -> Connections {
        Connections {
            opened: self.opened.load(Ordering::Relaxed),
            reopened: self.reopened.load(Ordering::Relaxed),
        }
    }

    fn introduce(&self, desk: Desk) {
        if self.desk.set(desk).is_err() {
            tracing::error!(target: "server.peers", "a transport serves one node");
        }
    }
}

impl Pause {
    fn check(&self) -> Result<(), Unreachable> {
        match self.until {
            Some(until) if Instant::now() < until => Err(Unreachable(self.reason.clone())),
            _ => Ok(()),
        }
    }

    fn end(&mut self) {
        *self = Self::default();
    }

    fn begin(&mut self, error: &Unreachable, address: &str) {
        if self.reason != error.0 {
            tracing::warn!(target: "server.peers", %address, reason = %error.0, "a peer cannot be reached");
            self.reason.clone_from(&error.0);
        }
        self.last = (self.last * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        // Not in step with other nodes.
        let part = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        self.until = Some(Instant::now() + self.last.mul_f64(0.5 + part / 2.0));
    }
}

/// Shakes hands as a client that shows the certificate of its own node. Peers are judged by the authorities that clients
/// are judged by; where there are none, by those of the system.
async fn encrypted(
    stream: TcpStream,
    material: &Material,
    address: &str,
) -> Result<TlsStream<TcpStream>, Unreachable> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(unreachable)?;
    let trusted = match material.authorities() {
        Some(authorities) => Arc::clone(authorities),
        None => Arc::new(system_roots().map_err(unreachable)?),
    };
    let config = material.client_config(trusted).map_err(unreachable)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| {
        Unreachable(format!("TLS with the peer: {error} (its certificate must name the host in its address, and come from an authority in --tls-client-ca)"))
    })
}

fn unreachable(error: impl std::fmt::Display) -> Unreachable {
    Unreachable(error.to_string())
}

/// Small messages leave at once, and a peer that takes nothing is noticed by the system too.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(STALL_MAX))
}
