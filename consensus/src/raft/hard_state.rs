//! Who this node is and whom it voted for: the content of `vote.bin`.
//!
//! One file, so that identity and vote cannot part: a node that has lost its votes has lost its name too and
//! cannot vote twice under it. MessagePack, struct as map:
//!
//! | Field | Type | Is |
//! |---|---|---|
//! | `format` | u8 | 1 |
//! | `node` | u64 | this node's id |
//! | `cluster` | bytes, 16 | the cluster's id; all zero before the node belongs to one |
//! | `vote` | map or nil | `term`, `node` and whether it was `committed`; nil before the first election |

use openraft::Vote;
use serde::{Deserialize, Serialize};
use vaylix_engine::error::StorageError;
use vaylix_engine::keyring::Keyring;
use vaylix_engine::layout::DataDir;
use vaylix_engine::vote;
use vaylix_proto::Code;

use crate::identity::{ClusterId, Identity, NodeId};

const FORMAT: u8 = 1;

/// What must survive a restart besides the log and the snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HardState {
    pub(crate) identity: Identity,
    pub(crate) vote: Option<Vote<u64>>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u8,
    node: u64,
    #[serde(with = "serde_bytes")]
    cluster: [u8; 16],
    vote: Option<StoredVote>,
}

#[derive(Serialize, Deserialize)]
struct StoredVote {
    term: u64,
    node: u64,
    committed: bool,
}

impl HardState {
    /// What the directory says; `None` when it is fresh.
    pub(crate) fn load(dir: &DataDir, keyring: &Keyring) -> Result<Option<Self>, StorageError> {
        let Some(bytes) = vote::load(dir, keyring)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(|error| error.in_file(&dir.vote()).at(0))
    }

    /// Reads the content of the file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        let unreadable = |detail: String| {
            StorageError::new(
                Code::UnsupportedStorageFormat,
                format!("unsupported storage format for the vote: {detail}"),
            )
            .advise("start the release that wrote it, or restore vote.bin, or remove the node from the cluster and join it afresh")
        };
        let stored: Stored = rmp_serde::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        if stored.format != FORMAT {
            return Err(unreadable(format!("version {}", stored.format)));
        }
        let node = NodeId::new(stored.node).ok_or_else(|| unreadable("node 0".to_owned()))?;
        let vote =
            stored.vote.map(
                |StoredVote { term, node, committed }| {
                    if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) }
                },
            );
        Ok(Self { identity: Identity { node, cluster: ClusterId::from_bytes(stored.cluster) }, vote })
    }

    /// Durable when it returns.
    pub(crate) fn store(&self, dir: &DataDir, keyring: &Keyring) -> Result<(), StorageError> {
        let stored = Stored {
            format: FORMAT,
            node: self.identity.node.get(),
            cluster: self.identity.cluster.to_bytes(),
            vote: self.vote.map(|vote| StoredVote {
                term: vote.leader_id.term,
                node: vote.leader_id.node_id,
                committed: vote.committed,
            }),
        };
        let bytes = rmp_serde::to_vec_named(&stored)
            .expect("numbers and bytes encode, and memory does not refuse to be written");
        vote::store(dir, keyring, &bytes)
    }
}
