//! What nodes of a cluster say to each other, for the plane that carries it.
//!
//! Peers are not users: what they ask of the node is not admitted by the door, but by the [`Desk`], after the plane has
//! made sure that they know the cluster's secret.

pub use vaylix_consensus::limits::ENTRY_BYTES_MAX;
pub use vaylix_consensus::{
    Card, Connections, Desk, NodeId, Peer, PeerAnswer, PeerCall, PeerReady, PeerTransport, Unreachable,
};
