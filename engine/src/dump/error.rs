//! Why a document is not a logical backup.

use vaylix_proto::Code;

/// Why a document is not a logical backup.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It is no JSON, or a member of the document is missing or wrong.
    #[error("{0}")]
    Document(serde_json::Error),
    /// Its version is neither 1 nor 2.
    #[error("unsupported backup version {0}")]
    Version(u64),
    /// An entry lacks a member or has a wrong one.
    #[error("{0}")]
    Entries(serde_json::Error),
    /// The value of an entry is not base64.
    #[error("entry {position}: {error}")]
    Base64 {
        /// Which entry, counted from 1.
        position: usize,
        /// What is wrong with it.
        error: base64::DecodeError,
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
            (Self::Document(_) | Self::Version(_), Purpose::Verify) => Code::BackupVerificationFailure,
            (Self::Version(_), Purpose::Restore) => Code::UnsupportedStorageFormat,
            (Self::Document(_), Purpose::Restore) | (Self::Entries(_) | Self::Base64 { .. }, _) => {
                Code::SnapshotDeserializationFailure
            }
        }
    }

    /// The message for clients, without the prefix that names the engine.
    #[must_use]
    pub fn message(&self, purpose: Purpose) -> String {
        match self.code(purpose) {
            Code::BackupVerificationFailure => format!("backup verification failed: {self}"),
            Code::UnsupportedStorageFormat => "unsupported storage format for logical backup".to_owned(),
            _ => format!("snapshot deserialization failed: {self}"),
        }
    }
}
