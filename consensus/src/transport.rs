//! How nodes reach each other, left to whoever owns the sockets.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::identity::NodeId;

/// What a node asks of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerCall {
    /// For its vote.
    Vote,
    /// To append entries; without entries, a heartbeat.
    Append,
}

/// A peer as the membership names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub node: NodeId,
    /// Where it listens for peers.
    pub address: String,
}

/// The peer did not answer: no connection, a broken one, or too late.
#[derive(Debug, thiserror::Error)]
#[error("peer unreachable: {0}")]
pub struct Unreachable(pub String);

/// A future that a transport hands out.
pub type PeerAnswer<'a> = Pin<Box<dyn Future<Output = Result<Bytes, Unreachable>> + Send + 'a>>;

/// Carries calls to peers and brings back their answers. Bodies are opaque to it.
pub trait PeerTransport: Send + Sync + 'static {
    /// Delivers `body` to `peer` and returns its answer, within `timeout` of now.
    fn call<'a>(&'a self, peer: &'a Peer, call: PeerCall, body: Bytes, timeout: Duration) -> PeerAnswer<'a>;
}

/// The transport of a node that has no way to any peer, as in a cluster of one: nobody is reachable.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl PeerTransport for NoPeers {
    fn call<'a>(&'a self, peer: &'a Peer, _: PeerCall, _: Bytes, _: Duration) -> PeerAnswer<'a> {
        Box::pin(std::future::ready(Err(Unreachable(format!("no transport to node {}", peer.node)))))
    }
}
