//! The token bucket that bounds how many requests one connection may send.
//!
//! The bucket starts full, holds at most `burst` tokens and is refilled continuously with `rate` tokens per
//! second; each request takes one. It is a plain value: the clock is handed in, nothing waits.

use std::time::{Duration, Instant};

/// How many requests one connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second that can be sustained.
    pub per_second: u32,
    /// Requests that may come at once.
    pub burst: u32,
}

impl Default for Rate {
    /// High enough that no ordinary client, pipelining or not, ever meets it: it bounds abuse.
    fn default() -> Self {
        Self { per_second: 250_000, burst: 500_000 }
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// One connection's bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    /// Tokens in billionths, so that refilling is exact integer arithmetic.
    level_nano: u64,
    refilled_at: Instant,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, level_nano: Self::capacity_nano(rate), refilled_at: now }
    }

    /// Takes one token; false when there is none, which costs nothing.
    #[must_use]
    pub fn take(&mut self, now: Instant) -> bool {
        if self.level_nano < NANOS_PER_SECOND {
            self.refill(now);
        }
        match self.level_nano.checked_sub(NANOS_PER_SECOND) {
            Some(rest) => {
                self.level_nano = rest;
                true
            }
            None => false,
        }
    }

    /// Adds what has accrued since the last refill. A clock that went back adds nothing.
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        self.refilled_at = self.refilled_at.max(now);
        let gained_nano = nanos(elapsed).saturating_mul(u64::from(self.rate.per_second));
        self.level_nano = self.level_nano.saturating_add(gained_nano).min(Self::capacity_nano(self.rate));
    }

    fn capacity_nano(rate: Rate) -> u64 {
        u64::from(rate.burst) * NANOS_PER_SECOND
    }
}

fn nanos(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Rate};
    use std::time::{Duration, Instant};

    fn drain(bucket: &mut Bucket, now: Instant) -> usize {
        (0..1000).take_while(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_full_bucket_allows_the_burst_and_refills_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 200, burst: 400 }, start);
        assert_eq!(drain(&mut bucket, start), 400);
        assert_eq!(drain(&mut bucket, start + Duration::from_millis(4)), 0);
        assert_eq!(drain(&mut bucket, start + Duration::from_millis(5)), 1);
        assert_eq!(drain(&mut bucket, start + Duration::from_millis(1005)), 200);
        assert_eq!(drain(&mut bucket, start + Duration::from_secs(3600)), 400, "never more than the burst");
    }

    #[test]
    fn refusals_do_not_lose_fractions() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 3, burst: 2 }, start);
        assert_eq!(drain(&mut bucket, start), 2);
        let taken = (1..=1000).filter(|ms| bucket.take(start + Duration::from_millis(*ms))).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn nothing_configured_means_nothing_allowed() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 0, burst: 0 }, start);
        assert!(!bucket.take(start + Duration::from_secs(60)));
    }

    #[test]
    fn a_clock_that_goes_back_adds_nothing() {
        let start = Instant::now() + Duration::from_secs(60);
        let mut bucket = Bucket::new(Rate { per_second: 1, burst: 1 }, start);
        assert!(bucket.take(start));
        assert!(!bucket.take(start - Duration::from_secs(10)));
        assert!(!bucket.take(start + Duration::from_millis(999)));
        assert!(bucket.take(start + Duration::from_secs(1)));
    }
}
