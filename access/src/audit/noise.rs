//! What strangers can cause as often as they like: written down up to a rate, counted beyond it.
//!
//! A request that is refused before anything was done costs its sender next to nothing. If each were a line, a
//! flood of them would fill the disk and push older lines out of the files that are kept. So a bounded number of
//! them is written in full, and of the others how many there were of each kind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::bucket::{Bucket, Rate};

/// How many of these events are written in full.
const RATE: Rate = Rate { per_second: 20, burst: 200 };

macro_rules! kinds {
    ($($(#[$doc:meta])+ $variant:ident, $name:literal;)+) => {
        /// A kind of event that may be counted rather than written.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Noise { $($(#[$doc])+ $variant,)+ }

        impl Noise {
            const ALL: &[Self] = &[$(Self::$variant,)+];

            const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

kinds! {
    /// Refused by the rate limit.
    RateLimit, "rate_limit";
    /// Not to be decoded.
    Decode, "decode";
    /// Larger than the limits allow.
    Quota, "quota";
    /// Without the permission.
    Denied, "denied";
    /// A login during a lockout.
    Locked, "locked";
    /// A slow command while the queue was full.
    Slow, "slow_command";
    /// A command while the log could not be written.
    Command, "command";
    /// Refused because the log could not be written.
    Unwritable, "unwritable";
}

/// Which events are written, and how many were not.
pub(super) struct Brake {
    bucket: Mutex<Bucket>,
    suppressed: [AtomicU64; Noise::ALL.len()],
    /// All that were ever suppressed.
    total: AtomicU64,
}

impl Brake {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            bucket: Mutex::new(Bucket::new(RATE, now)),
            suppressed: Default::default(),
            total: AtomicU64::new(0),
        }
    }

    /// Whether one more event may be written in full now.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.bucket.lock().take(now)
    }

    /// Counts an event that is not written.
    pub(super) fn suppress(&self, kind: Noise) {
        self.suppressed[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// The kinds and numbers of suppressed events since the last call, without those there were none of.
    pub(super) fn take_suppressed(&self) -> Vec<(&'static str, u64)> {
        let taken = Noise::ALL
            .iter()
            .map(|kind| (kind.name(), self.suppressed[*kind as usize].swap(0, Ordering::Relaxed)));
        taken.filter(|(_, count)| *count > 0).collect()
    }

    /// How many events were suppressed since the start.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Brake, Noise, RATE};
    use std::time::{Duration, Instant};

    #[test]
    fn a_burst_is_written_and_the_rest_is_counted_by_kind() {
        let start = Instant::now();
        let brake = Brake::new(start);
        let written = (0..1000).filter(|_| brake.allows(start)).count();
        assert_eq!(written, RATE.burst as usize);
        assert!(brake.allows(start + Duration::from_secs(1)), "it is refilled");
        for kind in [Noise::Denied, Noise::Locked, Noise::Locked] {
            brake.suppress(kind);
        }
        assert_eq!(brake.take_suppressed(), [("denied", 1), ("locked", 2)]);
        assert_eq!(brake.take_suppressed(), []);
        assert_eq!(brake.total(), 3);
    }
}
