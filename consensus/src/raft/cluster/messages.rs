//! What nodes say to each other, in MessagePack with structs as maps. Values of keys are bytes, never arrays of numbers.

use bytes::Bytes;
use openraft::{LogId, Vote};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vaylix_proto::ErrorReply;

use super::super::Member;
use super::super::machine::Meta;
use crate::transport::refused;

/// A question outside of Raft.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Who are you, and what do you know of the cluster?
    Who,
    /// Up to where must be applied what a linearizable read that begins now sees?
    ReadIndex,
    /// I was a member and have lost my disk: take me in under my new id.
    Rejoin { node: u64, member: Member },
    /// Take this member out.
    Remove { node: u64 },
    /// Give your office to me.
    HandOver { to: u64 },
    /// Stand for election now: I, who lead under `vote`, give up my office.
    Elect { vote: Vote<u64> },
    /// What was your state at the last mark that you have applied?
    Mark,
    /// My state is wrong: send me yours.
    Teach { node: u64 },
}

/// The answer to an [`Ask`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// To [`Ask::Who`].
    Who(Whereabouts),
    /// To [`Ask::ReadIndex`]: the number of an entry.
    ReadIndex(u64),
    /// To [`Ask::Mark`].
    Mark {
        /// The entry of the mark.
        at: u64,
        /// The digest of the state there.
        #[serde(with = "serde_bytes")]
        digest: Vec<u8>,
    },
    /// It is done.
    Done,
    /// It is not, for this reason; perhaps somebody else can.
    Not(String),
}

/// What a node knows of itself and of its cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Whereabouts {
    pub(super) name: String,
    pub(super) node: u64,
    #[serde(with = "serde_bytes")]
    pub(super) cluster: [u8; 16],
    /// Whether it has a log or has ever voted.
    pub(super) initialized: bool,
    /// The nodes that it would found a cluster of.
    pub(super) seeds: Vec<(String, String)>,
    pub(super) leader: Option<u64>,
    pub(super) members: Vec<Listed>,
    /// Where its control plane is reached, if it has one. Earlier releases say nothing of it.
    #[serde(default)]
    pub(super) admin: Option<String>,
}

/// A member as a node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) node: u64,
    pub(super) member: Member,
    pub(super) voter: bool,
}

/// A request for a vote.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ballot {
    /// Would you give it? Binds nobody.
    Sounding { node: u64, last_log: Option<LogId<u64>> },
    /// Do you give it?
    Vote(openraft::raft::VoteRequest<u64>),
}

/// A piece of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Shipment {
    /// A snapshot comes.
    Begin {
        id: u64,
        vote: Vote<u64>,
        meta: Meta,
        /// Whether it is for a node that has all of that in its log, and has made something wrong of it.
        #[serde(default)]
        teaches: bool,
    },
    /// Bytes `offset..` of its compressed image.
    Part {
        id: u64,
        vote: Vote<u64>,
        offset: u64,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// That was all of it.
    End { id: u64, vote: Vote<u64>, len: u64 },
}

impl Shipment {
    pub(super) fn vote(&self) -> &Vote<u64> {
        match self {
            Self::Begin { vote, .. } | Self::Part { vote, .. } | Self::End { vote, .. } => vote,
        }
    }
}

/// The answer to a [`Shipment`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Receipt {
    /// Taken in; send what comes from here on.
    Next(u64),
    /// Installed.
    Installed,
    /// There is a newer leader.
    HigherVote(Vote<u64>),
    /// This snapshot is not expected any more: begin anew.
    Restart,
}

pub(super) fn encode(message: &impl Serialize) -> Bytes {
    let bytes = rmp_serde::to_vec_named(message);
    Bytes::from(bytes.expect("numbers, strings and bytes encode, and memory does not refuse to be written"))
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ErrorReply> {
    rmp_serde::from_slice(body).map_err(|error| refused(format!("unreadable: {error}")))
}
