//! Pages of keys.
//!
//! A cursor is an offset into the list of live keys that match the pattern, in order. On its own it drifts when
//! keys before it come or go, and finding it costs as many steps as its number. So whoever serves scans keeps a
//! [`ScanMemory`] of the last key behind each cursor it gave out: the next page then starts right after that
//! key. Without a memory of it the cursor is the offset it always was; while nothing changes, both give the
//! same pages.

use std::collections::{HashMap, VecDeque};
use std::ops::Bound;

use bytestring::ByteString;
use vaylix_proto::ScanPage;

use super::allowance::{Allowance, Exceeded};
use super::keyspace::Keyspace;
use crate::glob::Pattern;

/// How many keys a page has when the client does not say.
const COUNT_DEFAULT: u16 = 10;

/// Where a page begins.
pub(super) enum Start<'a> {
    /// After this many matching keys.
    Offset(u64),
    /// After this key.
    After(&'a str),
}

/// A page before its cursor is known.
pub(super) struct Page {
    keys: Vec<ByteString>,
    more: bool,
}

impl Page {
    /// The answer to a scan that was at `cursor`.
    pub(super) fn continued_from(self, cursor: u64) -> ScanPage {
        let next_cursor = if self.more { cursor.saturating_add(self.keys.len() as u64) } else { 0 };
        ScanPage { next_cursor, keys: self.keys }
    }
}

/// The page of live matching keys that begins at `start`. Only keys with the pattern's literal prefix are
/// looked at, but how many of them are skipped is known only afterwards: each takes a look.
pub(super) fn page(
    keys: &Keyspace,
    start: Start<'_>,
    pattern: Pattern<'_>,
    count: Option<u16>,
    now_ms: u64,
    allowance: &mut Allowance,
) -> Result<Page, Exceeded> {
    let prefix = pattern.literal_prefix();
    let (from, mut skip) = match start {
        Start::After(key) if key >= prefix => (Bound::Excluded(key), 0),
        Start::After(_) => (Bound::Included(prefix), 0),
        Start::Offset(offset) => (Bound::Included(prefix), usize::try_from(offset).unwrap_or(usize::MAX)),
    };
    let size = usize::from(count.unwrap_or(COUNT_DEFAULT).max(1));
    let mut page = Page { keys: Vec::new(), more: false };
    allowance.take_bytes(12)?;
    for entry in keys.iter_from(from) {
        allowance.take_looks(1)?;
        let key = entry.key();
        if !(if pattern.is_literal() { key == prefix } else { key.starts_with(prefix) }) {
            break;
        }
        if !entry.is_live(now_ms) || !pattern.matches(key) {
            continue;
        }
        if skip > 0 {
            skip -= 1;
        } else if page.keys.len() == size {
            page.more = true;
            break;
        } else {
            allowance.take_bytes(2 + key.len())?;
            page.keys.push(ByteString::from(key));
        }
    }
    Ok(page)
}

/// Remembers the last key of the pages it saw, for as many cursors as its size says; the oldest are forgotten
/// first. One per session keeps scans of different clients apart.
#[derive(Debug)]
pub struct ScanMemory {
    cursors_max: usize,
    last_keys: HashMap<Place, ByteString>,
    oldest_first: VecDeque<Place>,
}

/// A cursor means something only together with its pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    pattern: ByteString,
    cursor: u64,
}

impl ScanMemory {
    /// A memory of at most this many cursors, each with a pattern and a key.
    #[must_use]
    pub fn new(cursors_max: usize) -> Self {
        Self { cursors_max, last_keys: HashMap::new(), oldest_first: VecDeque::new() }
    }

    /// The last key before this cursor, when known.
    pub(super) fn last_key(&self, pattern: &ByteString, cursor: u64) -> Option<&ByteString> {
        self.last_keys.get(&Place { pattern: pattern.clone(), cursor })
    }

    /// Remembers where `page` ended.
    pub(super) fn remember(&mut self, pattern: &ByteString, page: &ScanPage) {
        let Some(last) = page.keys.last().filter(|_| page.next_cursor != 0) else { return };
        let place = Place { pattern: pattern.clone(), cursor: page.next_cursor };
        if self.last_keys.insert(place.clone(), last.clone()).is_none() {
            self.oldest_first.push_back(place);
        }
        if self.oldest_first.len() > self.cursors_max
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.last_keys.remove(&oldest);
        }
    }
}
