//! The node: makes changes durable on a quorum, applies them in one order, and says when a read is safe.
//!
//! A standalone server is a cluster of one, so there is one path for every write:
//!
//! ```text
//! submit -> queue -> engine worker -> one log entry -> log on disk -> state -> answers
//! ```
//!
//! - [`Node`] is the handle that everything above uses.
//! - The engine worker ([`worker`]) gathers commands into entries.
//! - [`raft`] is the only place that knows openraft.
//! - [`gate`] decides when reads need no round to the peers.
//!
//! Absences: nothing here opens a socket (peers are reached through a [`PeerTransport`]) or touches a file
//! (the engine does), and nothing knows users or permissions: an access revision is a number here.

pub mod background;
mod clock;
mod config;
mod error;
mod fatal;
mod followed;
mod gate;
mod identity;
mod keys;
mod lanes;
pub mod limits;
mod node;
pub mod offline;
#[cfg(test)]
mod planted;
mod proposal;
mod queue;
mod raft;
mod snapshots;
mod status;
mod sweeper;
mod transport;
mod view;
mod worker;

pub use config::{Acknowledge, ClusterConfig, Config, Seed, Timing};
pub use error::{
    LeaderHint, MembershipError, ProposeError, ReadError, RotationError, SnapshotError, StartError,
};
pub use identity::{ClusterId, Identity, NodeId};
pub use node::Node;
pub use proposal::{Payload, Proposal};
pub use queue::{NODE_ITSELF, Pending, Restoration};
pub use raft::cluster::Desk;
pub use status::{
    AgreementCounts, BatchStatus, ClusterStatus, KeyStatus, MemberStatus, PeerCounts, Phase, Recovery, Role,
    SnapshotCounts, SnapshotStatus, Status, SweepStatus,
};
pub use transport::{
    Card, Connections, NoPeers, Peer, PeerAnswer, PeerCall, PeerReady, PeerTransport, Unreachable,
};
pub use view::View;
