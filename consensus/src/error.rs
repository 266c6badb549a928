//! What can go wrong, by what the caller must do about it.

use std::path::Path;

use vaylix_engine::error::StorageError;
use vaylix_engine::state::ApplyError;
use vaylix_proto::Code;

use crate::identity::NodeId;

/// Where the leader is, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader.
    pub node: NodeId,
    /// What its operator calls it, or else its id.
    pub name: String,
    /// Its address as the membership holds it; empty in a cluster of one.
    pub address: String,
}

/// Why a proposal was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was executed and failed as every replica would have it fail. Nothing changed.
    #[error(transparent)]
    Failed(#[from] ApplyError),
    /// It was admitted under an access revision that is no longer current. Nothing changed: admit it again.
    #[error("access control changed while the command was on its way")]
    Stale,
    /// This node does not lead. Nothing changed: ask the leader.
    #[error("this node is not the leader")]
    NotLeader {
        /// The leader, if one is known.
        leader: Option<LeaderHint>,
    },
    /// The node is stopping. Nothing changed.
    #[error("the node is stopping")]
    Closed,
    /// It does not fit in one log entry. Nothing changed.
    #[error("the change takes {bytes} bytes, one log entry holds {bytes_max}")]
    TooLarge {
        /// Encoded size.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// This node leads, but too few others answer for it to take writes. Nothing changed.
    #[error("no majority of the nodes answers")]
    NoQuorum,
    /// It is durable on a majority and in force, but not all nodes that were asked for have it in time.
    #[error("not all nodes have entry {sequence} in time; a majority has")]
    NotOnAll {
        /// The number of its log entry.
        sequence: u64,
    },
    /// The disk has no room for it. Nothing changed; later there may be room.
    #[error("{0}")]
    NoRoom(String),
    /// The node stopped or lost its office while the write was under way: it may or may not have happened.
    #[error("the outcome of the write is unknown: read before writing again")]
    OutcomeUnknown,
}

impl ProposeError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Failed(error) => error.code(),
            Self::Stale | Self::Closed => Code::EngineWorkerClosed,
            Self::NotLeader { .. } => Code::FollowerWriteRejected,
            Self::TooLarge { .. } => Code::InvalidArguments,
            Self::NoRoom(_) => Code::EngineFilesystemIoFailure,
            Self::OutcomeUnknown | Self::NoQuorum => Code::ReplicationAcknowledgementUnavailable,
            Self::NotOnAll { .. } => Code::ReplicationAcknowledgementTimeout,
        }
    }
}

/// Why a linearizable read was refused. Never answered stale instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This node does not lead: ask the leader.
    #[error("this node is not the leader")]
    NotLeader {
        /// The leader, if one is known.
        leader: Option<LeaderHint>,
    },
    /// This node may lead, but could not prove it now: try again.
    #[error("leadership could not be confirmed")]
    Unconfirmed,
    /// The state of this node is known to differ from that of its cluster, and is being learnt anew: ask another node.
    #[error("the state of this node differs from that of its cluster")]
    Quarantined,
    /// The node is stopping.
    #[error("the node is stopping")]
    Closed,
}

impl ReadError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotLeader { .. } => Code::FollowerWriteRejected,
            Self::Unconfirmed => Code::ReplicationAcknowledgementUnavailable,
            Self::Quarantined | Self::Closed => Code::EngineWorkerClosed,
        }
    }
}

/// Why the membership is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The node was started alone.
    #[error("this node is not part of a cluster")]
    Alone,
    /// Only the leader can do it.
    #[error("this node is not the leader")]
    NotLeader {
        /// The leader, if one is known.
        leader: Option<LeaderHint>,
    },
    /// It cannot be done, or not now.
    #[error("{0}")]
    Refused(String),
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The files are damaged, foreign, in use, or the disk refused. See [`StorageError`] for the place.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The operating system gave no randomness for a new identity.
    #[error("no randomness for a new node identity: {0}")]
    Randomness(#[from] getrandom::Error),
    /// The directory belongs to a node of a cluster of several, and was started without one.
    #[error(
        "invalid command-line arguments: the data directory belongs to a member of a cluster: start it with \
         --cluster-peers and the secret of the cluster"
    )]
    Cluster,
    /// The directory belongs to a cluster that was begun and never founded.
    #[error(
        "invalid command-line arguments: the data directory belongs to a node that waits for its cluster"
    )]
    Unattached,
    /// The consensus layer refused to start.
    #[error("consensus did not start: {0}")]
    Consensus(String),
}

impl StartError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Storage(error) => error.code(),
            Self::Randomness(_) => Code::EngineFilesystemIoFailure,
            Self::Cluster | Self::Unattached => Code::InvalidArguments,
            Self::Consensus(_) => Code::InvalidStorageOperation,
        }
    }

    /// The file concerned.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Storage(error) => error.file(),
            Self::Randomness(_) | Self::Cluster | Self::Unattached | Self::Consensus(_) => None,
        }
    }

    /// The byte of the file at which the trouble begins.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Storage(error) => error.offset(),
            Self::Randomness(_) | Self::Cluster | Self::Unattached | Self::Consensus(_) => None,
        }
    }
}

/// Why a snapshot was not taken. The log is complete all the same.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Writing failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Closed,
}

/// Why the storage key was not rotated, or not put to use everywhere yet.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The keyring or a file under the new key could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Closed,
}
