//! The file beside a backup that tells whether the backup is still what was written.
//!
//! Pretty-printed JSON with two spaces and without a final newline, members in the order of [`Manifest`]'s
//! fields; `hash_algorithm` is `sha256` and covers the exact bytes of the backup.

use serde::{Deserialize, Serialize};

use super::Summary;

/// The manifest version that is written, and the only one that is read.
const VERSION: u64 = 1;

/// The only algorithm there is.
const ALGORITHM: &str = "sha256";

/// The content of `<backup>.manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    manifest_version: u64,
    backup_version: u64,
    created_at_ms: u64,
    source_engine_version: u32,
    source_sequence: u64,
    entry_count: u64,
    byte_len: u64,
    hash_algorithm: String,
    sha256: String,
}

/// Why a backup is not the one its manifest describes. Displays as the detail of a `SRV-029` message.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest is no JSON, or a member is missing or wrong.
    #[error("{0}")]
    Document(#[from] serde_json::Error),
    /// Written by a release that this one does not know.
    #[error("unsupported manifest version {0}")]
    Version(u64),
    /// It relies on a hash that this release does not have.
    #[error("unsupported hash algorithm {0}")]
    Algorithm(String),
    /// Some value differs.
    #[error("backup manifest does not match dump")]
    Mismatch,
}

impl Manifest {
    /// The manifest of a backup.
    #[must_use]
    pub fn of(summary: &Summary) -> Self {
        Self {
            manifest_version: VERSION,
            backup_version: summary.header.version,
            created_at_ms: summary.header.created_at_ms,
            source_engine_version: summary.header.source_engine_version,
            source_sequence: summary.header.source_sequence,
            entry_count: summary.entry_count,
            byte_len: summary.byte_len,
            hash_algorithm: ALGORITHM.to_owned(),
            sha256: summary.sha256.clone(),
        }
    }

    /// The text of the manifest file.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and text always have a JSON form")
    }

    /// Reads the text of a manifest file. Unknown members are ignored.
    ///
    /// # Errors
    /// [`ManifestError::Document`].
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, ManifestError> {
        Ok(serde_json::from_slice(text.as_ref())?)
    }

    /// Checks that this is the manifest of the backup with this summary.
    ///
    /// # Errors
    /// [`ManifestError`], in the order version, algorithm, values.
    pub fn verify(&self, summary: &Summary) -> Result<(), ManifestError> {
        if self.manifest_version != VERSION {
            Err(ManifestError::Version(self.manifest_version))
        } else if self.hash_algorithm != ALGORITHM {
            Err(ManifestError::Algorithm(self.hash_algorithm.clone()))
        } else if *self != Self::of(summary) {
            Err(ManifestError::Mismatch)
        } else {
            Ok(())
        }
    }
}
