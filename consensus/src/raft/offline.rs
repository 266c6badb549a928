//! The files of a node without a node: what they mean, and how a new directory begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::{Membership, StoredMembership, Vote};
use vaylix_engine::content::Content;
use vaylix_engine::error::StorageError;
use vaylix_engine::keyring::Keyring;
use vaylix_engine::layout::DataDir;
use vaylix_engine::op::Batch;
use vaylix_engine::pitr::Rebuilt;
use vaylix_engine::snapshot::Head;
use vaylix_engine::wal::{self, Record, Wal};
use vaylix_proto::Code;

use super::Member;
use super::codec;
use super::hard_state::HardState;
use super::snapshot_file::{self, Older};
use crate::error::StartError;
use crate::identity::Identity;

/// What a node wrote.
pub(crate) struct Entries;

impl Content for Entries {
    fn batch<'r>(&self, record: &'r Record) -> Result<Option<Batch<'r>>, StorageError> {
        codec::record_batch(record).map_err(|error| {
            StorageError::new(
                Code::WalDeserializationFailure,
                format!("write-ahead log deserialization failed: {error}"),
            )
            .advise("the log was written by a newer release, or is damaged: use that release, or restore a backup")
            .because(error)
        })
    }

    fn check_head(&self, head: &Head) -> Result<(), StorageError> {
        snapshot_file::check(head)
    }

    fn check_vote(&self, vote: &[u8]) -> Result<(), StorageError> {
        HardState::decode(vote).map(|_| ())
    }
}

/// Fills a directory that holds nothing but a keyring: a new node that has applied everything up to the rebuilt state
/// and alone decides what comes next.
pub(crate) fn write_restored(dir: &DataDir, keyring: Keyring, rebuilt: &Rebuilt) -> Result<(), StartError> {
    let keyring = Arc::new(keyring);
    let identity = Identity::draw()?;
    let node = identity.node.get();
    let last = codec::log_id(&rebuilt.last);

    let config = wal::Config { prezero: false, initial_size_bytes: 0, ..wal::Config::default() };
    let (wal, _) = Wal::open(dir, config, keyring.clone())?;
    wal.purge_to(rebuilt.last)?;
    wal.close()?;

    let members = BTreeMap::from([(node, Member::default())]);
    let membership = Membership::new(vec![BTreeSet::from([node])], members);
    let membership = StoredMembership::new(Some(last), membership);
    let meta = codec::snapshot_meta(last, membership);
    snapshot_file::write(dir, &keyring, &meta, &rebuilt.root, Older::Replaced)?;

    // A term that the old leader never had: the next election is for one above, so what follows in the log is newer than
    // anything that the old cluster wrote at these places.
    let vote = Some(Vote::new(rebuilt.last.term + 1, node));
    HardState { identity, vote }.store(dir, &keyring)?;
    Ok(())
}
