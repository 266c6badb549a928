//! The rules: what each operation does to the keys and what it answers.
//!
//! Expired keys are missing for every operation. Time, order and content come from the batch alone.

use std::num::NonZeroU64;

use vaylix_proto::Reply;

use super::allowance::{Allowance, Exceeded};
use super::entry::Entry;
use super::index::{Changes, Index};
use super::keyspace::Keyspace;
use super::outcome::ApplyError;
use super::{read, scan};
use crate::glob::Pattern;
use crate::op::{Op, Pair, When};

/// The version of a key that was not there before.
pub(super) const FIRST_VERSION: u64 = 1;

/// The keys while operations work on them, with a record of what they did.
pub(super) struct Draft<'a> {
    keys: &'a mut Keyspace,
    changes: &'a mut Changes,
    /// The keys as readers see them: without `changes`.
    index: &'a Index,
    now_ms: u64,
}

/// The arguments of `SET`.
struct Set<'a> {
    key: &'a str,
    value: &'a [u8],
    ttl_ms: Option<u64>,
    when: When,
    keep_ttl: bool,
    return_previous: bool,
    if_version: Option<u64>,
}

impl<'a> Draft<'a> {
    /// Works on `keys` at their current time and adds to `changes`.
    pub(super) fn new(keys: &'a mut Keyspace, changes: &'a mut Changes, index: &'a Index) -> Self {
        Self { now_ms: keys.time_ms(), keys, changes, index }
    }

    /// Carries out one operation that is about keys. When it fails, it has changed nothing.
    pub(super) fn run(&mut self, op: &Op<'_>) -> Result<Reply, ApplyError> {
        let reply = self.run_within(op, &mut Allowance::bytes(usize::MAX))?;
        Ok(reply.expect("no answer in memory takes more bytes than there are addresses"))
    }

    /// The same for an answer that may be too large; then it may have changed something. Takes the bytes of the
    /// answer.
    pub(super) fn run_within(
        &mut self,
        op: &Op<'_>,
        allowance: &mut Allowance,
    ) -> Result<Result<Reply, Exceeded>, ApplyError> {
        let reply = match *op {
            Op::MGet { ref keys } => {
                return Ok(read::values(keys.iter().map(|key| self.live(key)), allowance));
            }
            Op::Scan { cursor, pattern, count } => {
                let pattern = pattern.map_or(Pattern::ALL, Pattern::new);
                let start = scan::Start::Offset(cursor);
                let page = scan::page(self.keys, start, pattern, count, self.now_ms, allowance);
                return Ok(page.map(|page| Reply::Scan(page.continued_from(cursor))));
            }
            Op::List => return Ok(read::list(self.keys, self.now_ms, allowance)),
            Op::Set { key, value, ttl_ms, when, keep_ttl, return_previous, if_version } => {
                self.set(&Set { key, value, ttl_ms, when, keep_ttl, return_previous, if_version })
            }
            Op::GetDel { key } => {
                let reply = value_or_not_found(self.live(key));
                self.remove(key);
                reply
            }
            Op::GetEx { key, ttl_ms, persist } => self.get_ex(key, ttl_ms, persist),
            Op::Del { ref keys } => Reply::Count(keys.iter().map(|key| u64::from(self.remove(key))).sum()),
            Op::MSet { ref pairs } => {
                for &Pair { key, value } in pairs {
                    let version = next_version(self.live(key));
                    self.put(Entry::new(key.as_bytes(), value, version, None));
                }
                Reply::Ok
            }
            Op::Incr { key } => self.step(key, 1)?,
            Op::Decr { key } => self.step(key, -1)?,
            Op::Expire { key, ttl_ms } => Reply::Bool(self.set_deadline(key, ttl_ms)),
            Op::Persist { key } => Reply::Bool(self.persist(key)),
            Op::Rename { source, destination } => Reply::Bool(self.rename(source, destination)),
            Op::RenameNx { source, destination } => {
                Reply::Bool(self.live(destination).is_none() && self.rename(source, destination))
            }
            Op::Clear => {
                if self.keys.len() > 0 {
                    self.changes.everything(self.keys.clear());
                }
                Reply::Ok
            }
            Op::Get { key } => value_or_not_found(self.live(key)),
            Op::Exists { key } => Reply::Bool(self.live(key).is_some()),
            Op::Ttl { key } => Reply::Integer(read::ttl_seconds(self.live(key), self.now_ms)),
            Op::Count => Reply::Count(self.keys.live_len(self.now_ms) as u64),
            Op::Ping { message } => Reply::Value(read::pong(message)),
            Op::Exec(_)
            | Op::ExecWithin { .. }
            | Op::Sweep { .. }
            | Op::Restore { .. }
            | Op::RestorePart { .. }
            | Op::RestoreCommit { .. }
            | Op::System { .. }
            | Op::Mark
            | Op::Check { .. } => return Err(ApplyError::NotAStep),
        };
        Ok(allowance.take_bytes(reply.encoded_len()).map(|()| reply))
    }

    /// Removes at most `limit` expired keys and answers how many it were.
    pub(super) fn sweep(&mut self, limit: u32) -> Reply {
        let mut swept = 0;
        while swept < u64::from(limit)
            && let Some(entry) = self.keys.remove_overdue()
        {
            self.changes.removed(entry);
            swept += 1;
        }
        Reply::Count(swept)
    }

    /// Replaces every key.
    pub(super) fn replace(&mut self, keys: Keyspace) {
        self.changes.everything(std::mem::replace(self.keys, keys));
    }

    fn set(&mut self, set: &Set<'_>) -> Reply {
        let held = self.find_live(set.key);
        let held = held.as_ref();
        let presence_holds = match set.when {
            When::Always => true,
            When::Missing => held.is_none(),
            When::Present => held.is_some(),
        };
        let version_holds =
            set.if_version.is_none_or(|version| held.is_some_and(|held| held.version() == version));
        let holds = presence_holds && version_holds;
        let reply = if set.return_previous {
            value_or_not_found(held)
        } else if set.when == When::Always && set.if_version.is_none() {
            Reply::Ok
        } else {
            Reply::Bool(holds)
        };
        if holds && set.ttl_ms == Some(0) {
            self.remove(set.key);
        } else if holds {
            let kept = held.and_then(Entry::deadline).filter(|_| set.keep_ttl);
            let deadline = set.ttl_ms.map_or(kept, |ttl_ms| self.deadline_after(ttl_ms));
            self.put(Entry::new(set.key.as_bytes(), set.value, next_version(held), deadline));
        }
        reply
    }

    fn get_ex(&mut self, key: &str, ttl_ms: Option<u64>, persist: bool) -> Reply {
        let reply = value_or_not_found(self.live(key));
        match ttl_ms {
            Some(ttl_ms) => _ = self.set_deadline(key, ttl_ms),
            None if persist => _ = self.persist(key),
            None => {}
        }
        reply
    }

    fn step(&mut self, key: &str, by: i64) -> Result<Reply, ApplyError> {
        let held = self.find_live(key);
        let held = held.as_ref();
        let number = match held {
            None => 0,
            Some(entry) => std::str::from_utf8(entry.value())
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| ApplyError::not_an_integer(key, entry.value()))?,
        };
        let number = number.checked_add(by).ok_or_else(|| ApplyError::Overflow { key: key.to_owned() })?;
        let (version, deadline) = (next_version(held), held.and_then(Entry::deadline));
        self.put(Entry::new(key.as_bytes(), number.to_string().as_bytes(), version, deadline));
        Ok(Reply::Integer(number))
    }

    fn set_deadline(&mut self, key: &str, ttl_ms: u64) -> bool {
        match self.live(key) {
            None => false,
            Some(_) if ttl_ms == 0 => self.remove(key),
            Some(entry) => {
                let entry = entry.with_deadline(self.deadline_after(ttl_ms));
                self.put(entry);
                true
            }
        }
    }

    fn persist(&mut self, key: &str) -> bool {
        let Some(entry) = self.live(key).filter(|entry| entry.deadline().is_some()) else { return false };
        let entry = entry.with_deadline(None);
        self.put(entry);
        true
    }

    fn rename(&mut self, source: &str, destination: &str) -> bool {
        let Some(moved) = self.live(source).cloned() else { return false };
        if source != destination {
            self.remove(source);
            let version = next_version(self.live(destination));
            self.put(Entry::new(destination.as_bytes(), moved.value(), version, moved.deadline()));
        }
        true
    }

    fn put(&mut self, entry: Entry) {
        self.changes.put(entry.clone());
        self.keys.put(entry);
    }

    /// Takes a key out and says whether it was there, as opposed to expired or missing.
    fn remove(&mut self, key: &str) -> bool {
        let Some(entry) = self.keys.remove(key) else { return false };
        let was_live = entry.is_live(self.now_ms);
        self.changes.removed(entry);
        was_live
    }

    fn live(&self, key: &str) -> Option<&Entry> {
        self.keys.live(key, self.now_ms)
    }

    /// The same, found by hash while that is up to date: publishing a change goes there anyway.
    fn find_live(&self, key: &str) -> Option<Entry> {
        if self.changes.is_empty() {
            self.index.find(key, |entry| entry.is_live(self.now_ms).then(|| entry.clone()))
        } else {
            self.live(key).cloned()
        }
    }

    fn deadline_after(&self, ttl_ms: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(self.now_ms.saturating_add(ttl_ms))
    }
}

/// The version of a key's next value.
fn next_version(held: Option<&Entry>) -> u64 {
    held.map_or(FIRST_VERSION, |held| held.version().saturating_add(1))
}

fn value_or_not_found(entry: Option<&Entry>) -> Reply {
    entry.map(Entry::value_shared).map_or(Reply::NotFound, Reply::Value)
}
