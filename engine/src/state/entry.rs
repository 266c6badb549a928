//! One key with everything that belongs to it, in one allocation.

use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU64;

use bytes::Bytes;
use triomphe::ThinArc;

/// Values of at least this many bytes are handed out by reference instead of copied.
const SHARE_BYTES_MIN: usize = 1024;

/// Entries of at most this many bytes are put together on the stack.
const STACK_BYTES: usize = 256;

/// A key, its value, version and deadline. Immutable and cheap to clone; ordered by the bytes of the key.
#[derive(Clone)]
pub struct Entry(ThinArc<Head, u8>);

/// What precedes the bytes of key and value.
struct Head {
    version: u64,
    expires_at_ms: Option<NonZeroU64>,
    key_len: u32,
}

impl Entry {
    /// A key with a value. A deadline of 0 would always be over, so it has no representation: such a key is
    /// not stored.
    pub(super) fn new(key: &[u8], value: &[u8], version: u64, expires_at_ms: Option<NonZeroU64>) -> Self {
        let key_len =
            u32::try_from(key.len()).expect("frames and records are shorter than 4 GiB, so keys are");
        let head = Head { version, expires_at_ms, key_len };
        let len = key.len() + value.len();
        if len <= STACK_BYTES {
            let mut bytes = [0; STACK_BYTES];
            bytes[..key.len()].copy_from_slice(key);
            bytes[key.len()..len].copy_from_slice(value);
            Self(ThinArc::from_header_and_slice(head, &bytes[..len]))
        } else {
            Self(ThinArc::from_header_and_slice(head, &[key, value].concat()))
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        std::str::from_utf8(self.key_bytes()).expect("keys enter the state as text")
    }

    /// The bytes of the key, which are what orders entries.
    #[must_use]
    pub fn key_bytes(&self) -> &[u8] {
        &self.0.slice[..self.key_len()]
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.0.slice[self.key_len()..]
    }

    /// The value, copied when it is small and shared when it is large.
    #[must_use]
    pub fn value_shared(&self) -> Bytes {
        if self.value().len() < SHARE_BYTES_MIN {
            Bytes::copy_from_slice(self.value())
        } else {
            Bytes::from_owner(Value(self.clone()))
        }
    }

    /// The version: 1 for a new key, one more with each new value.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.header.header.version
    }

    /// The deadline in unix milliseconds. At that moment the key is gone.
    #[must_use]
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.deadline().map(NonZeroU64::get)
    }

    /// Whether the key is still there at `now_ms`.
    #[must_use]
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.expires_at_ms().is_none_or(|at| at > now_ms)
    }

    /// The same key and value with another deadline.
    pub(super) fn with_deadline(&self, expires_at_ms: Option<NonZeroU64>) -> Self {
        Self::new(self.key_bytes(), self.value(), self.version(), expires_at_ms)
    }

    pub(super) fn deadline(&self) -> Option<NonZeroU64> {
        self.0.header.header.expires_at_ms
    }

    fn key_len(&self) -> usize {
        self.0.header.header.key_len as usize
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key_bytes().cmp(other.key_bytes())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key_bytes() == other.key_bytes()
    }
}

impl Eq for Entry {}

impl std::borrow::Borrow<[u8]> for Entry {
    fn borrow(&self) -> &[u8] {
        self.key_bytes()
    }
}

impl fmt::Debug for Entry {
    /// Without the value, which is nobody's business in a log file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key_len", &self.key_len())
            .field("value_len", &self.value().len())
            .field("version", &self.version())
            .field("expires_at_ms", &self.expires_at_ms())
            .finish()
    }
}

/// Keeps an entry alive for as long as somebody holds its value.
struct Value(Entry);

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}
