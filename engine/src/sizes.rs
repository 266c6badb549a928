//! How many of something there were, many times over: counts in buckets, in constant memory.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of sizes by upper bounds that are powers of two: from 1 to 4096.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    counts: [u64; Self::BOUNDS.len() + 1],
    sum: u64,
}

impl Sizes {
    /// The largest size that each bucket takes, ascending. One more bucket takes the rest.
    pub const BOUNDS: [u64; 13] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

    /// Counts one.
    pub fn count(&mut self, size: u64) {
        self.counts[bucket(size)] += 1;
        self.sum = self.sum.saturating_add(size);
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

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The upper bound of each bucket, and how many were no larger. The last bound is none: all of them.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = Self::BOUNDS.into_iter().map(Some).chain([None]);
        bounds.zip(self.counts).scan(0, |total, (bound, count)| {
            *total += count;
            Some((bound, *total))
        })
    }
}

/// [`Sizes`] that several threads count at once. Every operation is relaxed: counts order nothing.
#[derive(Debug, Default)]
pub struct SharedSizes {
    counts: [AtomicU64; Sizes::BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl SharedSizes {
    /// Counts one.
    pub fn count(&self, size: u64) {
        self.counts[bucket(size)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(size, Ordering::Relaxed);
    }

    /// What was counted so far. Counts that are being made meanwhile may be in it in part.
    #[must_use]
    pub fn get(&self) -> Sizes {
        Sizes {
            counts: std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

fn bucket(size: u64) -> usize {
    Sizes::BOUNDS.partition_point(|bound| *bound < size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_found_in_its_bucket() {
        let mut sizes = Sizes::default();
        assert!(sizes.is_empty());
        let shared = SharedSizes::default();
        for size in [0, 1, 2, 3, 4096, 4097] {
            sizes.count(size);
            shared.count(size);
        }
        assert_eq!(shared.get(), sizes);
        assert_eq!((sizes.len(), sizes.sum()), (6, 6 + 4096 + 4097));
        let cumulative: Vec<_> = sizes.cumulative().collect();
        assert_eq!(&cumulative[..3], [(Some(1), 2), (Some(2), 3), (Some(4), 4)]);
        assert_eq!(&cumulative[12..], [(Some(4096), 5), (None, 6)]);
    }
}
