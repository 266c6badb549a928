//! Nodes speaking to each other, over VTP2.
//!
//! A peer's connection begins like any other, with the hellos; the name `vaylix-peer` in the client's hello says what it
//! is to become. Then both sides prove that they know the cluster's secret (`hail`), and only then are internal opcodes
//! understood. Peers are no users: they have no rights, and no login, lockout, rate, quota, maintenance mode or place among
//! the sessions concerns them.
//!
//! | Opcode | Carries |
//! |---|---|
//! | 0x42 | the hail; questions about the cluster |
//! | 0x46 | requests for votes, and soundings before them |
//! | 0x47 | heartbeats |
//! | 0x48 | entries of the log |
//! | 0x49 | parts of snapshots |
//!
//! The bodies are those of [`vaylix_access::peers`]. A message travels in parts that each fit in a frame (`parts`), so it
//! may be larger than one. There is one connection for each of three [lanes](Lane): what is large never delays a heartbeat
//! or a vote.

mod attend;
mod call;
mod hail;
mod line;
mod parts;
mod secret;

use std::time::Duration;

use vaylix_access::peers::PeerCall;
use vaylix_proto::opcode::Opcode;

pub(crate) use attend::{End, attend};
pub use call::Transport;
pub use secret::{ClusterSecret, TooShort};

/// The name in the hello by which a server knows that a peer has come.
pub const PEER_NAME: &str = "vaylix-peer";

/// Largest message, in bytes: the largest log entry, what else is read of the log in one piece, and room for both to be
/// described.
pub(crate) const MESSAGE_BYTES_MAX: usize = vaylix_access::peers::ENTRY_BYTES_MAX + (16 << 20);

/// Calls of one connection that are answered at the same time.
const CALLS_MAX: usize = 64;

/// How long a peer may take nothing of what is sent to it.
const STALL_MAX: Duration = Duration::from_secs(5);

/// How long connection, hello and hail may take together.
const CONNECT_TIME_MAX: Duration = Duration::from_millis(1_500);

/// The pauses after failed connections: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// What travels on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// What is small and must not wait: votes, heartbeats, questions.
    Control,
    /// Entries of the log.
    Log,
    /// Snapshots.
    Snapshot,
}

impl Lane {
    const ALL: [Self; 3] = [Self::Control, Self::Log, Self::Snapshot];

    fn of(call: PeerCall) -> Self {
        match call {
            PeerCall::Ask | PeerCall::Vote | PeerCall::Heartbeat => Self::Control,
            PeerCall::Append => Self::Log,
            PeerCall::Snapshot => Self::Snapshot,
        }
    }
}

fn opcode(call: PeerCall) -> Opcode {
    match call {
        PeerCall::Ask => Opcode::ReplicationStatus,
        PeerCall::Vote => Opcode::ReplicationVote,
        PeerCall::Heartbeat => Opcode::ReplicationHeartbeat,
        PeerCall::Append => Opcode::ReplicationAppend,
        PeerCall::Snapshot => Opcode::ReplicationInstallSnapshot,
    }
}

fn call_of(opcode: Opcode) -> Option<PeerCall> {
    match opcode {
        Opcode::ReplicationStatus => Some(PeerCall::Ask),
        Opcode::ReplicationVote => Some(PeerCall::Vote),
        Opcode::ReplicationHeartbeat => Some(PeerCall::Heartbeat),
        Opcode::ReplicationAppend => Some(PeerCall::Append),
        Opcode::ReplicationInstallSnapshot => Some(PeerCall::Snapshot),
        _ => None,
    }
}
