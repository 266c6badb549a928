//! What a membership means for this node.

use openraft::Membership;

use super::Member;

/// Whether `node` alone decides.
pub(crate) fn is_sole_voter(membership: &Membership<u64, Member>, node: u64) -> bool {
    let mut voters = membership.voter_ids();
    voters.next() == Some(node) && voters.next().is_none()
}
