//! Bugs that tests plant into a node, to show that their like is found. No other build has any of this.

use parking_lot::Mutex;
use vaylix_engine::op::Batch;

use crate::clock;

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// It does not write down whom it has given its vote to.
    VoteNotStored,
    /// As long as it thinks that it leads, it answers reads without asking anybody.
    ReadsUnconfirmed,
    /// It judges expiry by its own clock when it applies an entry, and that clock is so far ahead.
    ExpiryByOwnClock {
        /// Milliseconds.
        ahead_ms: u64,
    },
}

/// The bug of one node, if it has any.
#[derive(Default)]
pub(crate) struct Planted(Mutex<Option<Bug>>);

impl Planted {
    pub(crate) fn plant(&self, bug: Bug) {
        *self.0.lock() = Some(bug);
    }

    pub(crate) fn is(&self, bug: Bug) -> bool {
        *self.0.lock() == Some(bug)
    }

    /// The batch as the node takes it.
    pub(crate) fn stamp<'b>(&self, batch: Option<Batch<'b>>) -> Option<Batch<'b>> {
        match (*self.0.lock(), batch) {
            (Some(Bug::ExpiryByOwnClock { ahead_ms }), Some(batch)) => {
                Some(Batch { time_ms: clock::now_ms() + ahead_ms, ..batch })
            }
            (_, batch) => batch,
        }
    }
}
