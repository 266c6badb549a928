//! Who a node is: drawn at random on its first start, then kept for ever.

use std::fmt;
use std::num::NonZeroU64;

/// Bits of a node id: few enough that a JavaScript number holds it exactly.
const NODE_ID_BITS: u32 = 48;

/// A node. Never 0, drawn from 48 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU64);

impl NodeId {
    /// `None` for 0.
    #[must_use]
    pub fn new(id: u64) -> Option<Self> {
        NonZeroU64::new(id).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The cluster a node belongs to, so that nodes of different clusters do not mistake each other for peers.
/// Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId([u8; 16]);

impl ClusterId {
    /// Stands for "none yet": of a node that was started to become part of a cluster, before it has.
    pub const NONE: Self = Self([0; 16]);

    /// A new cluster.
    pub(crate) fn draw() -> Result<Self, getrandom::Error> {
        let mut cluster = [0; 16];
        getrandom::fill(&mut cluster)?;
        Ok(Self(cluster))
    }

    /// An id read from a file or a peer.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// As it is stored and sent.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// Node and cluster, as one directory holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// This node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
}

impl Identity {
    /// A new node in a new cluster of its own.
    pub(crate) fn draw() -> Result<Self, getrandom::Error> {
        Ok(Self { cluster: ClusterId::draw()?, ..Self::draw_unattached()? })
    }

    /// A new node that does not belong to a cluster yet.
    pub(crate) fn draw_unattached() -> Result<Self, getrandom::Error> {
        let node = getrandom::u64()? >> (u64::BITS - NODE_ID_BITS);
        // One draw in 2^48 is 0; 1 is as good a number as any.
        Ok(Self { node: NodeId::new(node).unwrap_or(NodeId(NonZeroU64::MIN)), cluster: ClusterId::NONE })
    }
}
