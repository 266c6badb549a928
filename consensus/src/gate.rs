//! When this node may answer a linearizable read from its own memory without asking anyone.
//!
//! That is so exactly while all three hold:
//! - the last vote this node saved is for itself, so no other leader can have been elected with its consent;
//! - it is the only voter, so none can have been elected without it;
//! - it has applied an entry of its own term, hence everything any earlier leader acknowledged.
//!
//! The gate closes *before* a vote for someone else is written and before a membership with a second voter
//! is appended: there is no moment in which it is open and another leader possible. A restarted node starts
//! with a closed gate whatever its files say.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

/// The leadership an entry or a vote belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) term: u64,
    pub(crate) node: u64,
}

pub(crate) struct Gate {
    node: u64,
    open: AtomicBool,
    serving: AtomicBool,
    facts: Mutex<Facts>,
    opened: watch::Sender<bool>,
}

struct Facts {
    voted: Option<Leadership>,
    applied: Option<Leadership>,
    /// The newest membership seen (by log index), and whether this node is its only voter.
    membership: Option<(u64, bool)>,
    shut: bool,
}

impl Gate {
    pub(crate) fn new(node: u64) -> Self {
        Self {
            node,
            open: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            facts: Mutex::new(Facts { voted: None, applied: None, membership: None, shut: false }),
            opened: watch::Sender::new(false),
        }
    }

    /// Whether a read may be answered now.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// The start has succeeded.
    pub(crate) fn serve(&self) {
        self.serving.store(true, Ordering::Release);
    }

    /// Whether the node has started and is not stopping.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// Resolves as soon as the gate is open.
    pub(crate) async fn opened(&self) {
        let mut opened = self.opened.subscribe();
        opened.wait_for(|open| *open).await.expect("the sender lives as long as the gate");
    }

    /// A vote is about to be saved.
    pub(crate) fn voting(&self, vote: Leadership) {
        self.update(|facts| facts.voted = Some(vote));
    }

    /// A membership entry was appended, or recovered, or applied. Only a newer one than those seen counts.
    pub(crate) fn membership(&self, index: u64, sole_voter: bool) {
        self.update(|facts| {
            if facts.membership.is_none_or(|(seen, _)| index > seen) {
                facts.membership = Some((index, sole_voter));
            }
        });
    }

    /// An entry of `leadership` was applied. Cheap when nothing changes, which is nearly always.
    pub(crate) fn applied(&self, leadership: Leadership) {
        if leadership.node == self.node && !self.is_open() {
            self.update(|facts| facts.applied = Some(leadership));
        }
    }

    /// No more reads, ever: the node is stopping.
    pub(crate) fn shut(&self) {
        self.serving.store(false, Ordering::Release);
        self.update(|facts| facts.shut = true);
    }

    fn update(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.facts.lock();
        change(&mut facts);
        let leading = facts.voted.is_some_and(|vote| vote.node == self.node) && facts.voted == facts.applied;
        let sole_voter = facts.membership.is_some_and(|(_, sole)| sole);
        let open = leading && sole_voter && !facts.shut;
        self.open.store(open, Ordering::Release);
        self.opened.send_if_modified(|was| std::mem::replace(was, open) != open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u64 = 7;
    const MINE: Leadership = Leadership { term: 3, node: ME };

    fn leading() -> Gate {
        let gate = Gate::new(ME);
        gate.membership(0, true);
        gate.voting(MINE);
        gate.applied(MINE);
        assert!(gate.is_open());
        gate
    }

    #[test]
    fn opens_only_with_an_applied_entry_of_the_own_term() {
        let gate = Gate::new(ME);
        gate.membership(0, true);
        gate.applied(Leadership { term: 2, node: ME });
        assert!(!gate.is_open(), "replayed entries of an earlier term prove nothing");
        gate.voting(MINE);
        assert!(!gate.is_open());
        gate.applied(Leadership { term: 2, node: ME });
        assert!(!gate.is_open());
        gate.applied(MINE);
        assert!(gate.is_open());
    }

    #[test]
    fn a_vote_for_another_closes_it_and_late_entries_do_not_reopen_it() {
        let gate = leading();
        gate.voting(Leadership { term: 4, node: 9 });
        assert!(!gate.is_open());
        gate.applied(MINE);
        assert!(!gate.is_open());
    }

    #[test]
    fn a_second_voter_closes_it_and_an_older_membership_does_not_reopen_it() {
        let gate = leading();
        gate.membership(8, false);
        assert!(!gate.is_open());
        gate.membership(5, true);
        assert!(!gate.is_open());
        gate.membership(9, true);
        assert!(gate.is_open());
    }

    #[test]
    fn shut_is_final() {
        let gate = leading();
        gate.shut();
        gate.voting(MINE);
        gate.applied(MINE);
        assert!(!gate.is_open());
    }
}
