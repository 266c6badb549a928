//! The adapter to openraft: everything that names it is below this module.
//!
//! openraft counts log positions from 0 in plain integers; the engine counts [`Sequence`]s from 1 and its log
//! records likewise. [`codec`] converts between the two, and nothing else does.
//!
//! [`Sequence`]: vaylix_engine::sequence::Sequence

#![expect(clippy::result_large_err, reason = "openraft's error type is in the signatures of its traits")]

pub(crate) mod cluster;
pub(crate) mod codec;
mod fault;
pub(crate) mod hard_state;
pub(crate) mod log_store;
pub(crate) mod machine;
mod membership;
pub(crate) mod network;
pub(crate) mod office;
pub(crate) mod offline;
pub(crate) mod quarantine;
mod snapshot_file;
pub(crate) mod start;
pub(crate) mod state_machine;
#[cfg(test)]
mod suite;
mod types;

pub(crate) use office::{announce_snapshot, office, propose, purge, stopped};
pub(crate) use types::{Applied, EntryBody, Image, Member, TypeConfig};

/// A running openraft node with our types.
pub(crate) type Raft = openraft::Raft<TypeConfig>;
