//! Why a document is not a logical backup.

use std::io;

use vaylix_proto::Code;

use super::ENTRY_BYTES_MAX;

/// Why a document is not a logical backup.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It could not be read, or it is no text.
    #[error("{0}")]
    Io(io::Error),
    /// It is no JSON, or a member of the document is missing or wrong.
    #[error("{0}")]
    Document(serde_json::Error),
    /// Its version is neither 1 nor 2.
    #[error("unsupported backup version {0}")]
    Version(u64),
    /// The entries are no array.
    #[error("{0}")]
    Entries(serde_json::Error),
    /// An entry lacks a member or has a wrong one.
    #[error("entry {position}: {error}")]
    Entry {
        /// Which entry, counted from 1.
        position: u64,
        /// What is wrong with it; lines and columns are those of the entry.
        error: serde_json::Error,
    },
    /// The value of an entry is not base64.
    #[error("entry {position}: {error}")]
    Base64 {
        /// Which entry, counted from 1.
        position: u64,
        /// What is wrong with it.
        error: base64::DecodeError,
    },
    /// Key and value of an entry are longer than any that could be stored and read again.
    #[error("entry {position}: key and value take {bytes} bytes, more than {ENTRY_BYTES_MAX}")]
    EntryTooLarge {
        /// Which entry, counted from 1.
        position: u64,
        /// Their length together.
        bytes: usize,
    },
}

/// What somebody wanted a document for, which decides under which code its fault is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `RESTORE` and `RESTORE CHECK`.
    Restore,
    /// `BACKUP VERIFY`.
    Verify,
}

impl DumpError {
    /// The stable code.
    #[must_use]
    pub fn code(&self, purpose: Purpose) -> Code {
        match (self, purpose) {
            (Self::Io(_), _) => Code::ServerFilesystemIoFailure,
            (Self::Document(_) | Self::Version(_), Purpose::Verify) => Code::BackupVerificationFailure,
            (Self::Version(_), Purpose::Restore) => Code::UnsupportedStorageFormat,
            (Self::Document(_), Purpose::Restore)
            | (Self::Entries(_) | Self::Entry { .. } | Self::Base64 { .. } | Self::EntryTooLarge { .. }, _) => {
                Code::SnapshotDeserializationFailure
            }
        }
    }

    /// The message for clients, without the prefix that names the engine.
    #[must_use]
    pub fn message(&self, purpose: Purpose) -> String {
        match self.code(purpose) {
            Code::ServerFilesystemIoFailure => format!("filesystem I/O failed: {self}"),
            Code::BackupVerificationFailure => format!("backup verification failed: {self}"),
            Code::UnsupportedStorageFormat => "unsupported storage format for logical backup".to_owned(),
            _ => format!("snapshot deserialization failed: {self}"),
        }
    }

    /// A failure of the parser by its kind; whether it happened among the entries decides what it is about.
    pub(super) fn from_json(error: serde_json::Error, among_entries: bool) -> Self {
        if error.is_io() {
            Self::Io(error.into())
        } else if error.is_data() && among_entries {
            Self::Entries(error)
        } else {
            Self::Document(error)
        }
    }
}
