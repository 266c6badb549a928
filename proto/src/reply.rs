//! What a server answers, before it is laid out for a particular opcode.

use bytes::Bytes;
use bytestring::ByteString;

use crate::code::Code;

/// A named value, as `LIST`, `INFO`, `HEALTH` and the `SHOW` commands answer them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedValue {
    /// Key or field name.
    pub name: ByteString,
    /// Arbitrary bytes for `LIST`, UTF-8 text everywhere else.
    pub value: Bytes,
}

/// One page of `SCAN`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Where to continue; 0 when the scan is complete.
    pub next_cursor: u64,
    /// The keys of this page, ascending by their bytes.
    pub keys: Vec<ByteString>,
}

/// A successful answer. Its encoding carries no type tag except inside [`Reply::Exec`], so a client must
/// remember what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, nothing to say.
    Ok,
    /// The key does not exist (status `NotFound`).
    NotFound,
    /// A value, or text.
    Value(Bytes),
    /// Whether it happened, or whether it is so.
    Bool(bool),
    /// How many.
    Count(u64),
    /// A signed number: counters and remaining seconds.
    Integer(i64),
    /// Named values in the server's order.
    Entries(Vec<NamedValue>),
    /// One slot per requested key.
    Strings(Vec<Option<Bytes>>),
    /// A page of keys.
    Scan(ScanPage),
    /// The results of a transaction in queue order. Never nested.
    Exec(Vec<Reply>),
}

/// The value that answers a command queued in a transaction.
pub const QUEUED: &[u8] = b"QUEUED";

/// A refusal or failure as a server states it: a stable code and text for humans.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[{code}] {name}: {message}")]
pub struct ErrorReply {
    /// Stable code such as `SRV-017`. Text, because a peer may be newer than we are.
    pub code: ByteString,
    /// Stable name such as `Permission Denied`.
    pub name: ByteString,
    /// For humans; may change between releases.
    pub message: ByteString,
}

impl ErrorReply {
    /// An error with one of our own codes.
    #[must_use]
    pub fn new(code: Code, message: impl Into<ByteString>) -> Self {
        Self {
            code: ByteString::from_static(code.code()),
            name: ByteString::from_static(code.name()),
            message: message.into(),
        }
    }

    /// The code, when it is one that this release knows.
    #[must_use]
    pub fn known_code(&self) -> Option<Code> {
        Code::from_code(&self.code)
    }
}
