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

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::followed::Followed;

/// The leadership an entry or a vote belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) term: u64,
    pub(crate) node: u64,
}

pub(crate) struct Gate {
    node: u64,
    open: AtomicBool,
    in_office: AtomicBool,
    serving: AtomicBool,
    facts: Mutex<Facts>,
    opened: watch::Sender<bool>,
    office: watch::Sender<Option<Leadership>>,
    /// Whether this node is giving its office away.
    retiring: watch::Sender<bool>,
    /// What a snapshot on its way from the leader is waited for with.
    pub(crate) arrival: Arrival,
    /// The entry that is in flight, for those who follow it.
    pub(crate) followed: Followed,
    /// What a test has made wrong about the node.
    #[cfg(test)]
    pub(crate) planted: crate::planted::Planted,
}

/// This node is giving its office away, as long as this lives.
pub(crate) struct Retiring<'a>(&'a Gate);

impl Drop for Retiring<'_> {
    fn drop(&mut self) {
        self.0.retiring.send_replace(false);
    }
}

struct Facts {
    voted: Option<Leadership>,
    applied: Option<Leadership>,
    /// The newest membership seen (by log index), and whether this node is its only voter.
    membership: Option<(u64, bool)>,
    shut: bool,
    /// What it would answer from is known to be wrong.
    quarantined: bool,
}

impl Gate {
    pub(crate) fn new(node: u64) -> Self {
        Self {
            node,
            open: AtomicBool::new(false),
            in_office: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            facts: Mutex::new(Facts {
                voted: None,
                applied: None,
                membership: None,
                shut: false,
                quarantined: false,
            }),
            opened: watch::Sender::new(false),
            office: watch::Sender::new(None),
            retiring: watch::Sender::new(false),
            arrival: Arrival::default(),
            followed: Followed::default(),
            #[cfg(test)]
            planted: crate::planted::Planted::default(),
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

    /// The leadership this node holds and knows everything for that was acknowledged before it: it may take writes, and
    /// reads once its peers confirm that it still holds it.
    pub(crate) fn office(&self) -> Option<Leadership> {
        *self.office.borrow()
    }

    /// Follows [`Gate::office`].
    pub(crate) fn watch_office(&self) -> watch::Receiver<Option<Leadership>> {
        self.office.subscribe()
    }

    /// Begins to give the office away: until the result is dropped nothing new enters the log here, and this node does not
    /// stand for another office.
    pub(crate) fn retire(&self) -> Retiring<'_> {
        self.retiring.send_replace(true);
        Retiring(self)
    }

    /// Whether this node is giving its office away.
    pub(crate) fn is_retiring(&self) -> bool {
        *self.retiring.borrow()
    }

    /// Returns when this node is not giving its office away, at once as a rule.
    pub(crate) async fn not_retiring(&self) {
        if self.is_retiring() {
            let mut retiring = self.retiring.subscribe();
            retiring.wait_for(|retiring| !*retiring).await.expect("the sender lives as long as the gate");
        }
    }

    /// Whom this process last gave its vote to, or is about to; `None` before it has given any.
    pub(crate) fn voted(&self) -> Option<Leadership> {
        self.facts.lock().voted
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
        if leadership.node == self.node && !self.in_office.load(Ordering::Acquire) {
            self.update(|facts| facts.applied = Some(leadership));
        }
    }

    /// No more reads, ever: the node is stopping.
    pub(crate) fn shut(&self) {
        self.serving.store(false, Ordering::Release);
        self.update(|facts| facts.shut = true);
    }

    /// This node answers nothing and holds no office while its state is known to be wrong.
    pub(crate) fn quarantine(&self, imposed: bool) {
        self.update(|facts| facts.quarantined = imposed);
    }

    fn update(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.facts.lock();
        change(&mut facts);
        let leading = facts.voted.is_some_and(|vote| vote.node == self.node)
            && facts.voted == facts.applied
            && !facts.quarantined;
        let sole_voter = facts.membership.is_some_and(|(_, sole)| sole);
        let open = leading && sole_voter && !facts.shut;
        let office = facts.voted.filter(|_| leading && !facts.shut);
        self.in_office.store(office.is_some(), Ordering::Release);
        self.open.store(open, Ordering::Release);
        self.office.send_if_modified(|was| std::mem::replace(was, office) != office);
        self.opened.send_if_modified(|was| std::mem::replace(was, open) != open);
    }
}

/// A snapshot that the leader sent and that is being made durable. openraft lets go of the log that it covers at the same
/// time; the log must not go first.
#[derive(Default)]
pub(crate) struct Arrival {
    /// The last record of the one that is expected.
    expected: AtomicU64,
    settled: watch::Sender<Settled>,
}

#[derive(Clone, Copy, Default)]
struct Settled {
    /// The last record of the newest one that is on disk.
    stored: u64,
    failed: bool,
}

impl Arrival {
    /// One that ends with this record is about to be handed to openraft.
    pub(crate) fn expect(&self, record_index: u64) {
        self.expected.fetch_max(record_index, Ordering::AcqRel);
    }

    /// It is on disk.
    pub(crate) fn stored(&self, record_index: u64) {
        self.settled.send_modify(|settled| settled.stored = settled.stored.max(record_index));
    }

    /// It could not be stored.
    pub(crate) fn failed(&self) {
        self.settled.send_modify(|settled| settled.failed = true);
    }

    /// Waits until a snapshot that is expected and covers this record is on disk. `false` when it never will be.
    pub(crate) async fn covers(&self, record_index: u64) -> bool {
        if self.expected.load(Ordering::Acquire) < record_index {
            return true;
        }
        let mut settled = self.settled.subscribe();
        let settled = settled.wait_for(|settled| settled.failed || settled.stored >= record_index).await;
        settled.is_ok_and(|settled| settled.stored >= record_index)
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
    fn an_office_among_others_needs_no_open_gate() {
        let gate = Gate::new(ME);
        gate.membership(0, false);
        gate.voting(MINE);
        assert_eq!(gate.office(), None, "it may not know yet what was acknowledged before");
        gate.applied(MINE);
        assert_eq!(gate.office(), Some(MINE));
        assert!(!gate.is_open());
        gate.voting(Leadership { term: 4, node: 0 });
        assert_eq!(gate.office(), None, "given up");
        gate.applied(MINE);
        assert_eq!(gate.office(), None);
    }

    #[tokio::test]
    async fn the_log_waits_for_the_snapshot_that_covers_it_and_for_no_other() {
        let arrival = Arrival::default();
        assert!(arrival.covers(5).await, "none is expected");
        arrival.expect(10);
        assert!(arrival.covers(11).await, "that is not what it covers");
        let waits = arrival.covers(9);
        let mut waits = std::pin::pin!(waits);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::future::Future::poll(waits.as_mut(), &mut context).is_pending());
        arrival.stored(10);
        assert!(waits.await);
        arrival.expect(20);
        arrival.failed();
        assert!(!arrival.covers(15).await, "and never will");
    }

    #[test]
    fn quarantine_closes_it_and_takes_the_office() {
        let gate = leading();
        gate.quarantine(true);
        assert!(!gate.is_open() && gate.office().is_none());
        gate.applied(MINE);
        assert!(!gate.is_open() && gate.office().is_none());
        gate.quarantine(false);
        assert!(gate.is_open() && gate.office() == Some(MINE));
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
