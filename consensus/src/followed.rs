//! The log entry that is in flight, for those who follow requests through the node.
//!
//! openraft takes no spans along, and reads entries back from the log before it applies or sends them. So the worker says
//! here which entry it proposes and within which span; whoever meets the entry again finds that span. One entry is in flight
//! at a time. Where nobody follows anything, all of this costs one load per entry.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tracing::Span;

/// A batch shows that it serves so many proposals beside the first; a longer list helps nobody.
pub(crate) const LINKS_MAX: usize = 127;

#[derive(Default)]
pub(crate) struct Followed {
    is_any: AtomicBool,
    entry: Mutex<Option<InFlight>>,
}

struct InFlight {
    /// By whose place in memory the entry is recognised when the log gets it.
    bytes: Bytes,
    /// Known once the log has it.
    index: Option<u64>,
    span: Span,
}

impl Followed {
    /// An entry with these bytes is about to be proposed within `span`.
    pub(crate) fn begin(&self, bytes: &Bytes, span: &Span) {
        if span.is_disabled() {
            return;
        }
        *self.entry.lock() = Some(InFlight { bytes: bytes.clone(), index: None, span: span.clone() });
        self.is_any.store(true, Ordering::Release);
    }

    /// Whatever becomes of it, nobody follows it any longer.
    pub(crate) fn end(&self) {
        if self.is_any.load(Ordering::Acquire) {
            self.is_any.store(false, Ordering::Release);
            *self.entry.lock() = None;
        }
    }

    /// The log gets the entry with these bytes under this index. Returns the span it is proposed within, if it has one.
    pub(crate) fn appended(&self, bytes: &Bytes, index: u64) -> Option<Span> {
        if !self.is_any.load(Ordering::Acquire) {
            return None;
        }
        let mut entry = self.entry.lock();
        let entry = entry.as_mut().filter(|entry| std::ptr::eq(entry.bytes.as_ptr(), bytes.as_ptr()))?;
        entry.index = Some(index);
        Some(entry.span.clone())
    }

    /// The span that one of these entries is proposed within, if it has one.
    pub(crate) fn among(&self, indexes: RangeInclusive<u64>) -> Option<Span> {
        if !self.is_any.load(Ordering::Acquire) {
            return None;
        }
        let entry = self.entry.lock();
        let entry = entry.as_ref().filter(|entry| entry.index.is_some_and(|at| indexes.contains(&at)))?;
        Some(entry.span.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets every span exist.
    struct Everything;

    impl tracing::Subscriber for Everything {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
            tracing::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {}
        fn enter(&self, _: &tracing::Id) {}
        fn exit(&self, _: &tracing::Id) {}
    }

    #[test]
    fn an_entry_is_found_from_when_the_log_has_it_until_it_is_over() {
        tracing::subscriber::with_default(Everything, || {
            let followed = Followed::default();
            let (bytes, same_text) = (Bytes::from(vec![1, 2]), Bytes::from(vec![1, 2]));
            let span = tracing::info_span!("proposal");
            followed.begin(&bytes, &span);
            assert!(followed.among(0..=u64::MAX).is_none(), "the log has not got it");
            assert!(followed.appended(&same_text, 6).is_none(), "it is another entry");
            assert!(followed.appended(&bytes, 7).is_some());
            assert!(followed.among(5..=7).is_some() && followed.among(7..=7).is_some());
            assert!(followed.among(8..=9).is_none() && followed.among(1..=6).is_none());
            followed.end();
            assert!(followed.among(7..=7).is_none() && followed.appended(&bytes, 7).is_none());
        });
    }

    #[test]
    fn what_nobody_follows_is_not_kept() {
        let followed = Followed::default();
        let bytes = Bytes::from(vec![1]);
        followed.begin(&bytes, &Span::none());
        assert!(followed.appended(&bytes, 1).is_none());
        assert!(followed.entry.lock().is_none());
    }
}
