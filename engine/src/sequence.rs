//! Positions in the replicated log.

use std::fmt;
use std::num::NonZeroU64;

/// Position of an entry in the replicated log. Starts at 1, has no gaps, never goes back; "none yet" is
/// `Option<Sequence>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(NonZeroU64);

impl Sequence {
    /// The first position of every log.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The position with this number; `None` for 0, which no entry has.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number of this position, at least 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The position after this one.
    ///
    /// # Panics
    /// At the end of the 64-bit range, which no log reaches.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a log never holds 2^64 entries"))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
