//! Why a backup file cannot be written or used.

use std::io;

use rustix::io::Errno;
use vaylix_proto::Code;

use crate::dump::{DumpError, ManifestError, Purpose};

/// Why a backup file cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The path leaves the backup directory, or a symbolic link is on it. Holds the path as given.
    #[error("backup path is outside the configured backup directory: {0}")]
    Rejected(String),
    /// The operating system refused.
    #[error("filesystem I/O failed: {0}")]
    Io(#[from] io::Error),
    /// The document is not a logical backup.
    #[error(transparent)]
    Document(#[from] DumpError),
    /// The document is not the one that its manifest describes.
    #[error("backup verification failed: {0}")]
    Manifest(#[from] ManifestError),
    /// Somebody wrote into the document after it had been checked.
    #[error("backup verification failed: the file changed while it was being read")]
    Changed,
    /// The work was given up because nobody waits for it any more.
    #[error("the work on a backup was given up")]
    Stopped,
}

impl BackupError {
    /// A file that should be there is missing.
    #[must_use]
    pub fn missing() -> Self {
        Self::Io(Errno::NOENT.into())
    }

    /// The stable code, which depends on what the backup was wanted for.
    #[must_use]
    pub fn code(&self, purpose: Purpose) -> Code {
        match self {
            Self::Rejected(_) => Code::BackupPathRejected,
            Self::Io(_) => Code::ServerFilesystemIoFailure,
            Self::Document(error) => error.code(purpose),
            Self::Manifest(_) | Self::Changed => Code::BackupVerificationFailure,
            Self::Stopped => Code::EngineWorkerClosed,
        }
    }

    /// The message for clients, without the prefix that names the engine.
    #[must_use]
    pub fn message(&self, purpose: Purpose) -> String {
        match self {
            Self::Document(error) => error.message(purpose),
            Self::Manifest(_) if purpose == Purpose::Restore => {
                format!("{self} (a document without a manifest is restored unverified)")
            }
            _ => self.to_string(),
        }
    }
}
