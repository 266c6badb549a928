//! Whether this node's state is what a majority of the nodes had: where it is not, it serves nobody.
//!
//! The log says what the state was ([`Op::Check`](vaylix_engine::op::Op::Check)); whoever applies that and was something
//! else puts itself in quarantine, at once and before anybody is answered. Its log and its vote are not in doubt: it goes
//! on storing entries and voting for others, but it answers no read, takes no office, and takes no snapshot of what it has.
//! See `cluster::relearn` for the way out.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use vaylix_engine::state::Mark;

use crate::status::AgreementCounts;

/// What a node knows of its agreement with the others.
pub(crate) struct Quarantine {
    /// The entry of the check that found it out; `None` where nothing is wrong.
    since: watch::Sender<Option<u64>>,
    /// The last mark that was applied.
    mark: Mutex<Option<Mark>>,
    agreed: AtomicU64,
    agreed_index: AtomicU64,
    diverged: AtomicU64,
    undecided: AtomicU64,
    relearned: AtomicU64,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self {
            since: watch::Sender::new(None),
            mark: Mutex::default(),
            agreed: AtomicU64::default(),
            agreed_index: AtomicU64::default(),
            diverged: AtomicU64::default(),
            undecided: AtomicU64::default(),
            relearned: AtomicU64::default(),
        }
    }
}

impl Quarantine {
    /// Whether this node is in quarantine.
    pub(crate) fn is_imposed(&self) -> bool {
        self.since.borrow().is_some()
    }

    /// Follows it: the entry of the check that imposed it.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<u64>> {
        self.since.subscribe()
    }

    /// The last mark in the state of this node.
    pub(crate) fn mark(&self) -> Option<Mark> {
        *self.mark.lock()
    }

    pub(crate) fn marked(&self, mark: Option<Mark>) {
        *self.mark.lock() = mark;
    }

    /// A check found what it should.
    pub(crate) fn agreed(&self, check_index: u64) {
        self.agreed.fetch_add(1, Ordering::Relaxed);
        self.agreed_index.fetch_max(check_index, Ordering::Relaxed);
    }

    /// A check found something else. Returns whether that is news.
    pub(crate) fn impose(&self, check_index: u64) -> bool {
        self.diverged.fetch_add(1, Ordering::Relaxed);
        self.since.send_if_modified(|since| since.is_none() && since.replace(check_index).is_none())
    }

    /// A check found something else on a node that nobody can teach better.
    pub(crate) fn noticed(&self) {
        self.diverged.fetch_add(1, Ordering::Relaxed);
    }

    /// This node asked the others what they were, and there was no majority.
    pub(crate) fn undecided(&self) {
        self.undecided.fetch_add(1, Ordering::Relaxed);
    }

    /// The state is another one now. Returns whether this node was in quarantine.
    pub(crate) fn lift(&self) -> bool {
        let was_imposed = self.since.send_if_modified(|since| since.take().is_some());
        if was_imposed {
            self.relearned.fetch_add(1, Ordering::Relaxed);
        }
        was_imposed
    }

    pub(crate) fn counts(&self) -> AgreementCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AgreementCounts {
            agreed: count(&self.agreed),
            agreed_index: count(&self.agreed_index),
            diverged: count(&self.diverged),
            undecided: count(&self.undecided),
            relearned: count(&self.relearned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_imposed_once_and_lifted_once() {
        let quarantine = Quarantine::default();
        quarantine.agreed(5);
        assert!(!quarantine.is_imposed() && !quarantine.lift());
        assert!(quarantine.impose(9) && !quarantine.impose(12));
        assert_eq!(*quarantine.watch().borrow(), Some(9));
        assert!(quarantine.lift() && !quarantine.lift());
        let counts = quarantine.counts();
        assert_eq!((counts.agreed, counts.agreed_index, counts.diverged, counts.relearned), (1, 5, 2, 1));
    }
}
