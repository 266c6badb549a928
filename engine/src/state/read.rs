//! Answers that need no writing, shared by transactions and readers.

use bytes::Bytes;
use bytestring::ByteString;
use vaylix_proto::NamedValue;

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

/// Every live key with its value, in order.
pub(super) fn list(keys: &Keyspace, now_ms: u64) -> Vec<NamedValue> {
    keys.iter()
        .filter(|entry| entry.is_live(now_ms))
        .map(|entry| NamedValue { name: ByteString::from(entry.key()), value: entry.value_shared() })
        .collect()
}

/// The answer to `PING`.
pub(super) fn pong(message: Option<&str>) -> Bytes {
    message.map_or(Bytes::from_static(b"PONG"), |message| Bytes::copy_from_slice(message.as_bytes()))
}
