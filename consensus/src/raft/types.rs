//! The types openraft is instantiated with.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use vaylix_engine::state::{Outcome, Root};

openraft::declare_raft_types!(
    /// openraft, spoken with our types.
    pub(crate) TypeConfig:
        D = EntryBody,
        R = Applied,
        NodeId = u64,
        Node = Member,
        SnapshotData = Image,
);

/// A member of the cluster, as the membership in the log names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Where clients and peers reach it, `host:port`; empty for a node that is alone.
    pub(crate) addr: String,
    /// What its operator calls it; empty for a node that was never part of a cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
}

/// What a log entry carries: a batch, encoded once by the worker, as the log and the peers get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryBody {
    /// The leader's time for the batch, milliseconds since 1970. Also inside `bytes`; kept beside them so that
    /// the log can index by time without decoding.
    pub(crate) time_ms: u64,
    /// The record body as [`codec`](super::codec) lays it out.
    #[serde(serialize_with = "bytes_out", deserialize_with = "bytes_in")]
    pub(crate) bytes: Bytes,
}

fn bytes_out<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serde_bytes::serialize(bytes.as_ref(), serializer)
}

fn bytes_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    serde_bytes::deserialize::<Vec<u8>, D>(deserializer).map(Bytes::from)
}

/// What became of the operations of one entry, in their order. Empty for entries without any.
///
/// openraft wants it serialisable; it never leaves the process, so both directions refuse.
#[derive(Debug, Default)]
pub(crate) struct Applied(pub(crate) Vec<Outcome>);

impl Serialize for Applied {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("outcomes stay in the process that applied the entry"))
    }
}

impl<'de> Deserialize<'de> for Applied {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("outcomes stay in the process that applied the entry"))
    }
}

/// A state as it travels in a snapshot: an immutable view, encoded only when it is written or sent.
#[derive(Clone, Default)]
pub(crate) struct Image(pub(crate) Option<Root>);

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Image(..)" } else { "Image(empty)" })
    }
}
