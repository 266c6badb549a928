//! How long something took, many times over: counts in buckets, in constant memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts of durations by upper bounds that suit a disk: from a tenth of a millisecond to ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    counts: [u64; Self::BOUNDS_US.len() + 1],
    sum_us: u64,
    max_us: u64,
}

impl Durations {
    /// The longest duration that each bucket takes, in microseconds, ascending. One more bucket takes the rest.
    pub const BOUNDS_US: [u64; 16] = [
        100, 250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
        2_000_000, 5_000_000, 10_000_000,
    ];

    /// Counts one.
    pub fn count(&mut self, took: Duration) {
        let took_us = micros(took);
        self.counts[bucket(took_us)] += 1;
        self.sum_us = self.sum_us.saturating_add(took_us);
        self.max_us = self.max_us.max(took_us);
    }

    /// How many were counted.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their sum, in microseconds.
    #[must_use]
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The longest of them, in microseconds.
    #[must_use]
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// The upper bound of each bucket, in microseconds, and how many took no longer. The last bound is none: all of them.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = Self::BOUNDS_US.into_iter().map(Some).chain([None]);
        bounds.zip(self.counts).scan(0, |total, (bound, count)| {
            *total += count;
            Some((bound, *total))
        })
    }

    /// What was counted since `earlier`, which these were once. The longest is that of all: nobody knows when it was.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            counts: std::array::from_fn(|at| self.counts[at].saturating_sub(earlier.counts[at])),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
            max_us: self.max_us,
        }
    }

    /// So many of a thousand took no longer than this, in microseconds: the upper bound of the bucket, or the longest of
    /// all if that is less. 0 when nothing was counted.
    #[must_use]
    pub fn permille_us(&self, permille: u64) -> u64 {
        let wanted = (self.len() * permille.min(1000)).div_ceil(1000);
        let reached = self.cumulative().find(|(_, total)| *total >= wanted);
        reached.and_then(|(bound, _)| bound).map_or(self.max_us, |bound| bound.min(self.max_us))
    }
}

/// [`Durations`] that several threads count at once. Every operation is relaxed: counts order nothing.
#[derive(Debug, Default)]
pub struct SharedDurations {
    counts: [AtomicU64; Durations::BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
    max_us: AtomicU64,
}

impl SharedDurations {
    /// Counts one.
    pub fn count(&self, took: Duration) {
        let took_us = micros(took);
        self.counts[bucket(took_us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
        // Hardly any is the longest, and to look is cheaper than to write.
        if took_us > self.max_us.load(Ordering::Relaxed) {
            self.max_us.fetch_max(took_us, Ordering::Relaxed);
        }
    }

    /// What was counted so far. Counts that are being made meanwhile may be in it in part.
    #[must_use]
    pub fn get(&self) -> Durations {
        Durations {
            counts: std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed)),
            sum_us: self.sum_us.load(Ordering::Relaxed),
            max_us: self.max_us.load(Ordering::Relaxed),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn bucket(took_us: u64) -> usize {
    Durations::BOUNDS_US.partition_point(|bound| *bound < took_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_together_is_what_one_counts() {
        let shared = SharedDurations::default();
        let mut alone = Durations::default();
        let took = |at: u64| Duration::from_micros(at * at);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let shared = &shared;
                scope.spawn(move || (0..100).for_each(|at| shared.count(took(100 * thread + at))));
            }
        });
        (0..400).for_each(|at| alone.count(took(at)));
        assert_eq!(shared.get(), alone);
    }

    #[test]
    fn what_was_counted_is_found_in_its_bucket() {
        let mut durations = Durations::default();
        assert_eq!((durations.len(), durations.permille_us(990)), (0, 0));
        for _ in 0..98 {
            durations.count(Duration::from_micros(100));
        }
        durations.count(Duration::from_micros(101));
        durations.count(Duration::from_secs(60));
        assert_eq!(durations.len(), 100);
        assert_eq!(durations.permille_us(500), 100);
        assert_eq!(durations.permille_us(990), 250);
        assert_eq!(durations.permille_us(1000), 60_000_000);
        assert_eq!(durations.sum_us(), 98 * 100 + 101 + 60_000_000);
        let cumulative: Vec<_> = durations.cumulative().collect();
        assert_eq!(cumulative[0], (Some(100), 98));
        assert_eq!(cumulative[1], (Some(250), 99));
        assert_eq!(cumulative[15], (Some(10_000_000), 99));
        assert_eq!(cumulative[16], (None, 100));
    }

    #[test]
    fn what_was_counted_before_is_left_out() {
        let mut durations = Durations::default();
        (0..99).for_each(|_| durations.count(Duration::from_micros(50)));
        let earlier = durations;
        assert!(durations.since(&earlier).is_empty());
        durations.count(Duration::from_millis(3));
        let since = durations.since(&earlier);
        assert_eq!((since.len(), since.sum_us()), (1, 3_000));
        assert_eq!((since.permille_us(500), durations.permille_us(500)), (3_000, 100));
    }

    #[test]
    fn the_longest_bounds_what_a_bucket_says() {
        let mut durations = Durations::default();
        durations.count(Duration::from_micros(600));
        assert_eq!(durations.permille_us(990), 600);
    }
}
