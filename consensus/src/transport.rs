//! How nodes reach each other, left to whoever owns the sockets.
//!
//! The transport proves to each side of a connection that the other one knows the cluster's secret, and carries opaque
//! bodies. Who the two sides are stands on their [`Card`]s, which it exchanges as part of that proof; whether they
//! belong together is decided here, by the [`Desk`] of each side.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use vaylix_proto::{Code, ErrorReply};

use crate::identity::{ClusterId, Identity, NodeId};
use crate::raft::cluster::Desk;

/// What a node asks of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerCall {
    /// About who and where it is, its read index, or a change of the membership.
    Ask,
    /// For its vote, or whether it would give it.
    Vote,
    /// To acknowledge that the caller leads.
    Heartbeat,
    /// To append entries.
    Append,
    /// To take a part of a snapshot.
    Snapshot,
}

/// A peer as the membership or the operator names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its id; `None` for whoever is there.
    pub node: Option<NodeId>,
    /// Where it listens, `host:port`.
    pub address: String,
}

/// The peer did not answer: no connection, a broken one, a refusal, or too late.
#[derive(Debug, thiserror::Error)]
#[error("peer unreachable: {0}")]
pub struct Unreachable(pub String);

/// A future of a transport that opens connections.
pub type PeerReady<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A future that a transport hands out.
pub type PeerAnswer<'a> = Pin<Box<dyn Future<Output = Result<Bytes, Unreachable>> + Send + 'a>>;

/// Carries calls to peers and brings back their answers. Bodies are opaque to it.
///
/// Calls of different kinds do not wait for each other: a large append or snapshot never delays a vote or a heartbeat.
pub trait PeerTransport: Send + Sync + 'static {
    /// Delivers `body` to `peer` and returns its answer, within `timeout` of now.
    fn call<'a>(&'a self, peer: &'a Peer, call: PeerCall, body: Bytes, timeout: Duration) -> PeerAnswer<'a>;

    /// Opens the connections to `peer` that votes, heartbeats and entries need, unless they are open: a change of leaders
    /// then waits for none. What cannot be opened now is left to the next call.
    fn prepare<'a>(&'a self, peer: &'a Peer) -> PeerReady<'a> {
        let _ = peer;
        Box::pin(std::future::ready(()))
    }

    /// What it has opened to make its calls since it was made.
    fn connections(&self) -> Connections {
        Connections::default()
    }

    /// Says on whose behalf it calls. Happens once, before the first call.
    fn introduce(&self, desk: Desk) {
        drop(desk);
    }
}

/// How often connections to peers were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// All of them.
    pub opened: u64,
    /// Those in the place of one that was lost.
    pub reopened: u64,
}

/// The transport of a node that has no way to any peer, as in a cluster of one: nobody is reachable.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl PeerTransport for NoPeers {
    fn call<'a>(&'a self, peer: &'a Peer, _: PeerCall, _: Bytes, _: Duration) -> PeerAnswer<'a> {
        Box::pin(std::future::ready(Err(Unreachable(format!("no transport to {}", peer.address)))))
    }
}

/// Who one side of a connection is. MessagePack, struct as map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// What its operator calls it.
    pub name: String,
    node: u64,
    /// All zero before it belongs to a cluster.
    #[serde(with = "serde_bytes")]
    cluster: [u8; 16],
}

impl Card {
    pub(crate) fn new(name: &str, identity: Identity) -> Self {
        Self { name: name.to_owned(), node: identity.node.get(), cluster: identity.cluster.to_bytes() }
    }

    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self)
            .expect("numbers and strings encode, and memory does not refuse to be written")
    }

    /// What was sent.
    ///
    /// # Errors
    /// `SRV-030` when it is no card.
    pub fn decode(bytes: &[u8]) -> Result<Self, ErrorReply> {
        let card: Self = rmp_serde::from_slice(bytes)
            .map_err(|error| refused(format!("the peer's card is unreadable: {error}")))?;
        if card.node().is_none() {
            return Err(refused("the peer's card names no node".to_owned()));
        }
        Ok(card)
    }

    /// The node's id; never `None` in a card that was decoded.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        NodeId::new(self.node)
    }

    /// The cluster it belongs to; `None` before it does.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        Some(ClusterId::from_bytes(self.cluster)).filter(|cluster| *cluster != ClusterId::NONE)
    }

    /// Whether the two may speak at all.
    ///
    /// # Errors
    /// `SRV-030` when they belong to different clusters, or are the same node twice.
    pub(crate) fn check_other(&self, other: &Self) -> Result<(), ErrorReply> {
        match (self.cluster(), other.cluster()) {
            (Some(own), Some(theirs)) if own != theirs => Err(refused(format!(
                "node {} belongs to cluster {own}, node {} to cluster {theirs}: one of them has a foreign data directory",
                self.name, other.name
            ))),
            _ => Ok(()),
        }
    }
}

/// A refusal between nodes.
pub(crate) fn refused(detail: String) -> ErrorReply {
    ErrorReply::new(Code::InvalidArguments, format!("invalid peer request: {detail}"))
}
