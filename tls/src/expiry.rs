//! When somebody has to be told that a certificate ends.

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Days before the end at which it is told.
const DAYS: [u64; 3] = [30, 7, 1];

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The certificate has less than one of the [`DAYS`] left.
    Soon {
        /// Whole days that are left.
        days: u64,
    },
    /// It has ended.
    Over,
}

/// Tells each thing once for each certificate.
#[derive(Default)]
pub(crate) struct Expiry {
    over_from_ms: u64,
    /// How many of the [`DAYS`] have been told, and one more for the end.
    told: usize,
}

impl Expiry {
    /// What is new about a certificate that is not valid any more from `over_from_ms` on.
    pub(crate) fn look(&mut self, over_from_ms: u64, now_ms: u64) -> Option<Notice> {
        if self.over_from_ms != over_from_ms {
            *self = Self { over_from_ms, told: 0 };
        }
        let left_ms = over_from_ms.saturating_sub(now_ms);
        let reached =
            DAYS.iter().filter(|days| left_ms <= *days * DAY_MS).count() + usize::from(left_ms == 0);
        if reached <= self.told {
            return None;
        }
        self.told = reached;
        Some(if left_ms == 0 { Notice::Over } else { Notice::Soon { days: left_ms / DAY_MS } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_told_once() {
        let mut expiry = Expiry::default();
        let end = 1000 * DAY_MS;
        assert_eq!(expiry.look(end, end - 30 * DAY_MS - 1), None);
        assert_eq!(expiry.look(end, end - 30 * DAY_MS), Some(Notice::Soon { days: 30 }));
        assert_eq!(expiry.look(end, end - 8 * DAY_MS), None);
        assert_eq!(expiry.look(end, end - 7 * DAY_MS + 1), Some(Notice::Soon { days: 6 }));
        assert_eq!(expiry.look(end, end - 5), Some(Notice::Soon { days: 0 }));
        assert_eq!(expiry.look(end, end), Some(Notice::Over));
        assert_eq!(expiry.look(end, end + DAY_MS), None);
    }

    #[test]
    fn another_certificate_begins_anew() {
        let mut expiry = Expiry::default();
        assert_eq!(expiry.look(DAY_MS, 0), Some(Notice::Soon { days: 1 }), "the nearest threshold alone");
        assert_eq!(expiry.look(90 * DAY_MS, 0), None);
        assert_eq!(expiry.look(90 * DAY_MS, 84 * DAY_MS), Some(Notice::Soon { days: 6 }));
    }
}
