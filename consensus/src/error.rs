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
            Self::OutcomeUnknown => Code::ReplicationAcknowledgementUnavailable,
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
            Self::Unconfirmed | Self::Closed => Code::EngineWorkerClosed,
        }
    }
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
            Self::Consensus(_) => Code::InvalidStorageOperation,
        }
    }

    /// The file concerned.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Storage(error) => error.file(),
            Self::Randomness(_) | Self::Consensus(_) => None,
        }
    }

    /// The byte of the file at which the trouble begins.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Storage(error) => error.offset(),
            Self::Randomness(_) | Self::Consensus(_) => None,
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
