//! The whole replicated state at one moment.

use std::ops::Bound;

use bytes::Bytes;
use bytestring::ByteString;
use imbl::OrdMap;
use vaylix_proto::{Command, Reply, ScanPage};

use super::allowance::{Allowance, Exceeded};
use super::digest::{self, Mark, StateDigest, Sum};
use super::entry::Entry;
use super::keyspace::Keyspace;
use super::read;
use super::restore::Prepared;
use super::scan::{self, ScanMemory, Start};
use crate::glob::Pattern;
use crate::sequence::Sequence;

/// An immutable view of everything replicated, as it was between two log entries. Cloning is O(1), and holding
/// one neither blocks writers nor changes under its holder.
///
/// "Now" in reads is the caller's wall clock, but never before [`Root::time_ms`]: use [`Root::now`].
#[derive(Clone, Default)]
pub struct Root {
    pub(super) keys: Keyspace,
    pub(super) system: OrdMap<ByteString, Bytes>,
    /// Over `system`.
    pub(super) system_sum: Sum,
    pub(super) applied: Option<Sequence>,
    pub(super) access_revision: u64,
    pub(super) prepared: Option<Prepared>,
    /// The last one.
    pub(super) mark: Option<Mark>,
}

impl Root {
    /// The last log entry that this state contains.
    #[must_use]
    pub fn applied(&self) -> Option<Sequence> {
        self.applied
    }

    /// What the state is, apart from its mark. Takes no time however large it is.
    #[must_use]
    pub fn digest(&self) -> StateDigest {
        digest::of(self)
    }

    /// The last mark that the log has set.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Puts a record in the place of the one of its name.
    pub(super) fn put_record(&mut self, name: ByteString, content: Bytes) {
        self.system_sum.add_record(&name, &content);
        if let Some(replaced) = self.system.insert(name.clone(), content) {
            self.system_sum.subtract_record(&name, &replaced);
        }
    }

    /// Takes a record out, if it is there.
    pub(super) fn remove_record(&mut self, name: &str) {
        if let Some(removed) = self.system.remove(name) {
            self.system_sum.subtract_record(name, &removed);
        }
    }

    /// The time of the last batch in unix milliseconds; it never goes back.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.keys.time_ms()
    }

    /// How often the system part has changed.
    #[must_use]
    pub fn access_revision(&self) -> u64 {
        self.access_revision
    }

    /// The moment at which a read at this wall clock time takes place.
    #[must_use]
    pub fn now(&self, wall_ms: u64) -> u64 {
        wall_ms.max(self.time_ms())
    }

    /// The number of entries held, expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.len() == 0
    }

    /// The number of keys that are there at `now_ms`. Costs as much as keys expired since the last batch.
    #[must_use]
    pub fn live_count(&self, now_ms: u64) -> usize {
        self.keys.live_len(self.now(now_ms))
    }

    /// The number of expired entries that wait to be swept.
    #[must_use]
    pub fn expired_count(&self, now_ms: u64) -> usize {
        self.keys.expired_len(self.now(now_ms))
    }

    /// The earliest deadline of all entries, for whoever decides when to sweep.
    #[must_use]
    pub fn first_deadline_ms(&self) -> Option<u64> {
        self.keys.first_deadline_ms()
    }

    /// The entry of a key that is there at `now_ms`.
    #[must_use]
    pub fn get(&self, key: &str, now_ms: u64) -> Option<&Entry> {
        self.keys.live(key, self.now(now_ms))
    }

    /// Every entry in order, expired ones included.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.keys.iter()
    }

    /// The entries from a key on, in order, expired ones included.
    pub fn iter_from<'r>(&'r self, from: Bound<&'r str>) -> impl Iterator<Item = &'r Entry> {
        self.keys.iter_from(from)
    }

    /// A page of keys, from where `memory` knows the cursor to be, or else by its offset.
    ///
    /// # Errors
    /// [`Exceeded`]; the memory is as it was.
    pub fn scan(
        &self,
        cursor: u64,
        pattern: Option<&ByteString>,
        count: Option<u16>,
        now_ms: u64,
        memory: &mut ScanMemory,
        allowance: &mut Allowance,
    ) -> Result<ScanPage, Exceeded> {
        let all = ByteString::from_static(Pattern::ALL.as_str());
        let pattern = pattern.unwrap_or(&all);
        let start = memory.last_key(pattern, cursor).map_or(Start::Offset(cursor), |key| Start::After(key));
        let page = scan::page(&self.keys, start, Pattern::new(pattern), count, self.now(now_ms), allowance)?;
        let page = page.continued_from(cursor);
        memory.remember(pattern, &page);
        Ok(page)
    }

    /// The answer to a command that only reads keys; `None` for any other. Cursors are plain offsets here.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn query(
        &self,
        command: &Command,
        now_ms: u64,
        allowance: &mut Allowance,
    ) -> Result<Option<Reply>, Exceeded> {
        let now_ms = self.now(now_ms);
        let live = |key: &str| self.keys.live(key, now_ms);
        let value = |key: &str| live(key).map(Entry::value_shared);
        allowance.take_looks(1)?;
        let reply = match command {
            Command::Get { key } | Command::GetEx { key, expiration: None, persist: false } => {
                value(key).map_or(Reply::NotFound, Reply::Value)
            }
            Command::MGet { keys } => {
                allowance.take_looks(keys.len())?;
                return read::values(keys.iter().map(|key| live(key)), allowance).map(Some);
            }
            Command::Exists { key } => Reply::Bool(live(key).is_some()),
            Command::Ttl { key } => Reply::Integer(read::ttl_seconds(live(key), now_ms)),
            Command::DbSize | Command::Count => {
                allowance.take_looks(self.keys.deadlines_len())?;
                Reply::Count(self.keys.live_len(now_ms) as u64)
            }
            Command::List => return read::list(&self.keys, now_ms, allowance).map(Some),
            Command::Scan { cursor, pattern, count } => {
                let pattern = pattern.as_deref().map_or(Pattern::ALL, Pattern::new);
                let start = Start::Offset(*cursor);
                let page = scan::page(&self.keys, start, pattern, *count, now_ms, allowance)?;
                return Ok(Some(Reply::Scan(page.continued_from(*cursor))));
            }
            _ => return Ok(None),
        };
        allowance.take_bytes(reply.encoded_len())?;
        Ok(Some(reply))
    }

    /// The content of a system record.
    #[must_use]
    pub fn system_get(&self, key: &str) -> Option<&Bytes> {
        self.system.get(key)
    }

    /// The system records whose names begin with `prefix`, in order.
    pub fn system_iter<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = (&'s str, &'s Bytes)> {
        self.system
            .range::<_, str>((Bound::Included(prefix), Bound::Unbounded))
            .map(|(key, value)| (&**key, value))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }
}
