//! The audit log: what happened at the door, in a chain that shows changes.
//!
//! The only files that this crate touches, and nobody else writes them.
//!
//! # Format
//! One JSON object per line, UTF-8, ended by a line feed. Fields in the order they are written:
//!
//! | Field | Type | Meaning |
//! |---|---|---|
//! | `audit_version` | number | 1 |
//! | `sequence` | number | 1, 2, 3 … without gaps |
//! | `previous_hash` | string | `event_hash` of the event before; 64 zeros before event 1 |
//! | `event_hash` | string | SHA-256 of the canonical form, hexadecimal in lower case |
//! | `hash_algorithm` | string | `sha256` |
//! | `timestamp_ms` | number | unix milliseconds |
//! | `connection_id` | number | 0 for events of the server itself |
//! | `peer` | string or null | `ip:port` |
//! | `username` | string or null | who the session was when the event was written |
//! | `request_id` | string | UUID, all zeros for events of the server itself |
//! | `opcode` | string | the command; `RUNTIME`, `RATE_LIMIT` or `DECODE` where there was none |
//! | `status` | string | `ok`, `error`, `not_found` |
//! | `error_code` | string or null | what the client was told |
//! | `latency_ms` | number | whole milliseconds |
//! | `event_type` | string | see `docs/access.md` |
//! | `details` | object | text by name, sorted by the bytes of the names |
//!
//! The canonical form is the compact object in this order without `event_hash`. A verifier depends neither on
//! the order of the fields nor on spaces, and ignores fields it does not know.
//!
//! # Files
//! The chain goes on through several files. The one being written has the configured name; when it has grown
//! to its limit it is renamed to that name, a dot, and the sequence number of its first event in 20 digits. The
//! oldest files beyond the number to keep are deleted, and `<name>.anchor` then says which event was the last
//! one deleted: `{"sequence":N,"hash":"…"}`. The first file that is left must continue it.
//!
//! # Torn and tampered
//! What a crash can leave behind is an incomplete last line of the last file: no line feed, and no JSON. It is cut
//! off, and an `audit_repaired` event says so. Anything else that does not verify refuses the start.
//!
//! # Writing
//! An event gets its *place* in the bounded queue before the command begins that it will tell of, so that
//! telling never waits and never fails. One thread numbers, chains and writes: one `write` for everything that
//! has queued up, one `fdatasync` at most [`Settings::sync_interval`] after it. What a failing disk did not take is
//! kept, cut off and written again until it is synced; meanwhile [`Log::is_failing`], and the door lets nobody in.

mod chain;
mod event;
mod files;
mod log;
mod noise;
mod read;
mod verify;
mod writer;

pub use log::Settings;
pub use read::{AuditCursor, AuditEvent, AuditPage};
pub use verify::{Summary, Torn, VerifyError, verify};

pub(crate) use event::{Event, Opening, Status};
pub(crate) use log::{Log, Places, now_ms};
pub(crate) use noise::Noise;
#[cfg(test)]
pub(crate) use writer::Medium;

use std::io;
use std::path::PathBuf;

/// Why the audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It does not verify (`SRV-028`).
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A file cannot be written (`SRV-004`).
    #[error("filesystem I/O failed: {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl OpenError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> vaylix_proto::Code {
        match self {
            Self::Verify(error) => error.code(),
            Self::Io { .. } => vaylix_proto::Code::ServerFilesystemIoFailure,
        }
    }
}

#[cfg(test)]
mod tests;
