//! Answers that need no writing, shared by transactions and readers.
//!
//! Answers that grow with the keys are gathered within an [`Allowance`], lengths being those on the wire.

use bytes::Bytes;
use bytestring::ByteString;
use vaylix_proto::{NamedValue, Reply};

use super::allowance::{Allowance, Exceeded};
use super::entry::Entry;
use super::keyspace::Keyspace;

/// The answer to `TTL`: remaining seconds rounded up, -1 without deadline, -2 for a missing key.
pub(super) fn ttl_seconds(entry: Option<&Entry>, now_ms: u64) -> i64 {
    match entry.map(Entry::expires_at_ms) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => i64::try_from(at.saturating_sub(now_ms).div_ceil(1000))
            .expect("a 64-bit number of milliseconds has fewer than 2^63 seconds"),
    }
}

/// The answer to `LIST`: every live key with its value, in order.
pub(super) fn list(keys: &Keyspace, now_ms: u64, allowance: &mut Allowance) -> Result<Reply, Exceeded> {
    allowance.take_looks(keys.len())?;
    allowance.take_bytes(4)?;
    let live = keys.iter().filter(|entry| entry.is_live(now_ms));
    let named = live.map(|entry| {
        allowance.take_bytes(6 + entry.key_bytes().len() + entry.value().len())?;
        Ok(NamedValue { name: ByteString::from(entry.key()), value: entry.value_shared() })
    });
    named.collect::<Result<_, _>>().map(Reply::Entries)
}

/// The answer to `MGET`: the values of entries that are there.
pub(super) fn values<'a>(
    entries: impl Iterator<Item = Option<&'a Entry>>,
    allowance: &mut Allowance,
) -> Result<Reply, Exceeded> {
    allowance.take_bytes(4)?;
    entries.map(|entry| slot(entry, allowance)).collect::<Result<_, _>>().map(Reply::Strings)
}

/// One slot of the answer to `MGET`: the value of an entry that is there.
pub(super) fn slot(entry: Option<&Entry>, allowance: &mut Allowance) -> Result<Option<Bytes>, Exceeded> {
    allowance.take_bytes(entry.map_or(1, |entry| 5 + entry.value().len()))?;
    Ok(entry.map(Entry::value_shared))
}

/// The answer to `PING`.
pub(super) fn pong(message: Option<&str>) -> Bytes {
    message.map_or(Bytes::from_static(b"PONG"), |message| Bytes::copy_from_slice(message.as_bytes()))
}
