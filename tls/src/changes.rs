//! When files that differ from those in force are worth an attempt.

use std::time::{Duration, Instant};

use crate::files::Digest;

/// Files that could not be used are tried again after this time although they have not changed: the day of a certificate
/// may have come, or a file be readable again.
pub(crate) const RETRY_EVERY: Duration = Duration::from_secs(60);

/// What a look at the files showed: their contents, or why there are none.
pub(crate) type Seen = Result<Digest, String>;

/// What is to be done after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: nothing has changed, or the files are still changing.
    Wait,
    /// They are new, and have been the same twice.
    Try,
    /// They have failed before. A failure is no news.
    TryAgain,
}

/// What was seen of the files so far.
pub(crate) struct Changes {
    in_force: Seen,
    last: Seen,
    failed: Option<(Seen, Instant)>,
}

impl Changes {
    /// With contents in force that were just read.
    pub(crate) fn new(in_force: Digest) -> Self {
        Self { in_force: Ok(in_force), last: Ok(in_force), failed: None }
    }

    /// Takes note of a look.
    pub(crate) fn look(&mut self, seen: Seen, now: Instant) -> Step {
        let is_settled = seen == self.last;
        if !is_settled {
            self.last.clone_from(&seen);
        }
        if seen == self.in_force {
            self.failed = None;
            return Step::Wait;
        }
        match &self.failed {
            _ if !is_settled => Step::Wait,
            Some((failed, at)) if *failed == seen => {
                if now.saturating_duration_since(*at) >= RETRY_EVERY {
                    Step::TryAgain
                } else {
                    Step::Wait
                }
            }
            _ => Step::Try,
        }
    }

    /// These contents are in force now.
    pub(crate) fn succeeded(&mut self, digest: Digest) {
        *self = Self::new(digest);
    }

    /// An attempt failed at `now`; `seen` is what was tried.
    pub(crate) fn failed(&mut self, seen: Seen, now: Instant) {
        self.failed = Some((seen, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Seen = Ok([1; 32]);
    const B: Seen = Ok([2; 32]);

    fn gone() -> Seen {
        Err("no such file".to_owned())
    }

    #[test]
    fn contents_are_tried_when_they_have_been_the_same_twice() {
        let now = Instant::now();
        let mut changes = Changes::new([1; 32]);
        assert_eq!(changes.look(A, now), Step::Wait);
        assert_eq!(changes.look(gone(), now), Step::Wait, "between two files");
        assert_eq!(changes.look(B, now), Step::Wait);
        assert_eq!(changes.look(B, now), Step::Try);
        changes.succeeded([2; 32]);
        assert_eq!(changes.look(B, now), Step::Wait);
        assert_eq!(changes.look(A, now), Step::Wait, "going back is a change too");
        assert_eq!(changes.look(A, now), Step::Try);
    }

    #[test]
    fn what_failed_is_tried_again_later_and_what_is_new_at_once() {
        let now = Instant::now();
        let mut changes = Changes::new([1; 32]);
        changes.look(gone(), now);
        assert_eq!(changes.look(gone(), now), Step::Try);
        changes.failed(gone(), now);
        assert_eq!(changes.look(gone(), now + RETRY_EVERY / 2), Step::Wait);
        assert_eq!(changes.look(gone(), now + RETRY_EVERY), Step::TryAgain);
        changes.failed(gone(), now + RETRY_EVERY);
        assert_eq!(changes.look(gone(), now + RETRY_EVERY), Step::Wait);
        changes.look(B, now + RETRY_EVERY);
        assert_eq!(changes.look(B, now + RETRY_EVERY), Step::Try);
        changes.failed(B, now + RETRY_EVERY);
        assert_eq!(changes.look(A, now), Step::Wait, "what is in force");
        changes.look(B, now);
        assert_eq!(changes.look(B, now), Step::Try, "the operator tries once more");
    }
}
