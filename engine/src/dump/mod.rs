//! Logical backups: the keys as a JSON document that people and other programs can read.
//!
//! # Document, version 2 (written)
//! One compact JSON object without a final newline, members in this order:
//! ```text
//! version                2
//! created_at_ms          unix milliseconds
//! source_engine_version  3
//! source_sequence        the last log entry contained, 0 when there is none
//! entries                array, ascending by the bytes of the key, of objects:
//!   key                  string
//!   value_base64         standard alphabet, padded
//!   expires_at_ms        unix milliseconds or null
//!   version              at least 1
//! ```
//! Entries that have expired when the backup is made are left out.
//!
//! # Reading
//! Version 1 is read too: its entries have `value`, a string, in the place of `value_base64`, and no `version`.
//! Order, spacing and unknown members do not matter; `expires_at_ms` may be missing. Everything else must be
//! there and be right, base64 included, or the whole document is refused. A version of 0 counts as 1, and of
//! entries with the same key the last one stays.
//!
//! Documents are written and read entry by entry: neither needs memory in proportion to the document.
//!
//! Beside a backup file lies its [`Manifest`], which tells whether the file is still the one that was written.

mod error;
mod manifest;
mod read;
mod source;
#[cfg(test)]
mod tests;
mod write;

use serde::Serialize;

pub use error::{DumpError, Purpose};
pub use manifest::{Manifest, ManifestError};
pub use read::{Checked, Document, check, entries};
pub use write::write;

/// The document version that is written.
pub const VERSION: u64 = 2;

/// Bytes that key and value of one entry may have together: more than any frame carries, less than any log entry.
pub const ENTRY_BYTES_MAX: usize = 32 << 20;

/// What documents call the engine they come from: the generation of its data model.
pub const SOURCE_ENGINE_VERSION: u32 = 3;

/// What a document says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Header {
    /// 1 or 2.
    pub version: u64,
    /// When it was made, in unix milliseconds.
    pub created_at_ms: u64,
    /// The generation of the data model of the engine that made it.
    pub source_engine_version: u32,
    /// The last log entry it contains, 0 when there is none.
    pub source_sequence: u64,
}

/// Everything by which a manifest knows its document again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What the document says about itself.
    pub header: Header,
    /// The number of entries, expired ones included.
    pub entry_count: u64,
    /// The length of the document in bytes.
    pub byte_len: u64,
    /// The SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: String,
}

/// Bytes in lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes every write");
        text
    })
}
