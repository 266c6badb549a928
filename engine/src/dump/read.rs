//! Reading a backup of either version.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use super::{DumpError, Header, Summary, hex};
use crate::op::RestoreEntry;

/// A complete and checked logical backup.
#[derive(Clone, Debug)]
pub struct Document {
    summary: Summary,
    entries: Vec<RestoreEntry<'static>>,
}

impl Document {
    /// Reads a document and checks all of it.
    ///
    /// # Errors
    /// [`DumpError`], which depends on what it was read for.
    pub fn parse(text: &str) -> Result<Self, DumpError> {
        let outline: Outline = serde_json::from_str(text).map_err(DumpError::Document)?;
        let entries = match outline.version {
            1 => {
                let list: List<EntryV1<'_>> = serde_json::from_str(text).map_err(DumpError::Entries)?;
                list.entries.into_iter().map(EntryV1::into_restore_entry).collect()
            }
            2 => {
                let list: List<EntryV2<'_>> = serde_json::from_str(text).map_err(DumpError::Entries)?;
                let decode = |(entry, position): (EntryV2<'_>, usize)| {
                    entry.into_restore_entry().map_err(|error| DumpError::Base64 { position, error })
                };
                list.entries.into_iter().zip(1..).map(decode).collect::<Result<Vec<_>, _>>()?
            }
            other => return Err(DumpError::Version(other)),
        };
        let header = Header {
            version: outline.version,
            created_at_ms: outline.created_at_ms,
            source_engine_version: outline.source_engine_version,
            source_sequence: outline.source_sequence,
        };
        let summary = Summary {
            header,
            entry_count: entries.len() as u64,
            byte_len: text.len() as u64,
            sha256: hex(&Sha256::digest(text)),
        };
        Ok(Self { summary, entries })
    }

    /// What a manifest would have to say about it.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// How many entries a restore at `now_ms` would count: all that have not expired, repeated keys included.
    #[must_use]
    pub fn live_count(&self, now_ms: u64) -> u64 {
        self.entries.iter().filter(|entry| is_live(entry, now_ms)).count() as u64
    }

    /// The entries that have not expired at `now_ms`, in the order of the document.
    #[must_use]
    pub fn into_entries(mut self, now_ms: u64) -> Vec<RestoreEntry<'static>> {
        self.entries.retain(|entry| is_live(entry, now_ms));
        self.entries
    }
}

fn is_live(entry: &RestoreEntry<'_>, now_ms: u64) -> bool {
    entry.expires_at_ms.is_none_or(|at| at > now_ms)
}

/// The document without its entries, of which only the presence matters.
#[derive(Deserialize)]
struct Outline {
    version: u64,
    created_at_ms: u64,
    source_engine_version: u32,
    source_sequence: u64,
    #[serde(rename = "entries")]
    _entries: IgnoredAny,
}

/// The entries without the document.
#[derive(Deserialize)]
struct List<E> {
    entries: Vec<E>,
}

#[derive(Deserialize)]
struct EntryV1<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    expires_at_ms: Option<u64>,
}

#[derive(Deserialize)]
struct EntryV2<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value_base64: Cow<'a, str>,
    expires_at_ms: Option<u64>,
    version: u64,
}

impl EntryV1<'_> {
    fn into_restore_entry(self) -> RestoreEntry<'static> {
        RestoreEntry {
            key: Cow::Owned(self.key.into_owned()),
            value: Cow::Owned(self.value.into_owned().into_bytes()),
            expires_at_ms: self.expires_at_ms,
            version: 1,
        }
    }
}

impl EntryV2<'_> {
    fn into_restore_entry(self) -> Result<RestoreEntry<'static>, base64::DecodeError> {
        Ok(RestoreEntry {
            key: Cow::Owned(self.key.into_owned()),
            value: Cow::Owned(STANDARD.decode(self.value_base64.as_bytes())?),
            expires_at_ms: self.expires_at_ms,
            version: self.version.max(1),
        })
    }
}
