//! Reading a backup of either version, entry by entry.
//!
//! A document is read twice where its entries are wanted: once to know that all of it is right, then, with the version
//! known, for the entries. Neither keeps more than one entry in memory. What is wrong is reported in a fixed order,
//! whatever comes first in the document: what cannot be read, the document, its version, its entries.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::io::{BufReader, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::source::{Budget, Source};
use super::{DumpError, ENTRY_BYTES_MAX, Header, Summary};
use crate::op::RestoreEntry;

/// Bytes read from a file at once.
const BUFFER_BYTES: usize = 256 << 10;

/// What a complete and checked document holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What a manifest would have to say about it.
    pub summary: Summary,
    /// How many entries a restore would count: all that have not expired, repeated keys included.
    pub live_count: u64,
}

/// Reads a document and checks all of it. `now_ms` (unix milliseconds) decides which entries are live.
///
/// # Errors
/// [`DumpError`], whose code depends on what the document was read for.
pub fn check(source: impl Read, now_ms: u64) -> Result<Checked, DumpError> {
    let mut tally = Tally { v1: Count::new(now_ms), v2: Count::new(now_ms), entry_count: 0 };
    let (outline, among_entries, (byte_len, sha256)) = read(source, &mut tally);
    let outline = outline.map_err(|error| DumpError::from_json(error, among_entries))?;
    let version = outline.version.ok_or_else(|| missing("version"))?;
    let count = match version {
        1 => tally.v1,
        2 => tally.v2,
        other => return Err(DumpError::Version(other)),
    };
    let header = Header {
        version,
        created_at_ms: outline.created_at_ms.ok_or_else(|| missing("created_at_ms"))?,
        source_engine_version: outline
            .source_engine_version
            .ok_or_else(|| missing("source_engine_version"))?,
        source_sequence: outline.source_sequence.ok_or_else(|| missing("source_sequence"))?,
    };
    if !outline.has_entries {
        return Err(missing("entries"));
    }
    if let Some(fault) = count.fault {
        return Err(fault);
    }
    let summary = Summary { header, entry_count: tally.entry_count, byte_len, sha256 };
    Ok(Checked { summary, live_count: count.live })
}

/// Hands out the entries of a document, in their order, expired ones included, until `each` says false. The document
/// has been checked before; returns its length in bytes and its SHA-256, by which the caller knows that it still is
/// what was checked, or `None` when `each` has had enough.
///
/// # Errors
/// [`DumpError`] when it is another document now.
pub fn entries(
    source: impl Read,
    version: u64,
    each: impl FnMut(RestoreEntry<'static>) -> bool,
) -> Result<Option<(u64, String)>, DumpError> {
    let mut handout = Handout { version, each, position: 0, fault: None, has_had_enough: false };
    let (outline, among_entries, measured) = read(source, &mut handout);
    match (handout.fault, outline) {
        _ if handout.has_had_enough => Ok(None),
        (Some(fault), _) => Err(fault),
        (None, Err(error)) => Err(DumpError::from_json(error, among_entries)),
        (None, Ok(_)) => Ok(Some(measured)),
    }
}

/// A complete and checked logical backup in memory.
#[derive(Clone, Debug)]
pub struct Document {
    summary: Summary,
    entries: Vec<RestoreEntry<'static>>,
}

impl Document {
    /// Reads a document and checks all of it.
    ///
    /// # Errors
    /// [`DumpError`], whose code depends on what it was read for.
    pub fn parse(text: &str) -> Result<Self, DumpError> {
        let Checked { summary, .. } = check(text.as_bytes(), 0)?;
        let mut list = Vec::new();
        entries(text.as_bytes(), summary.header.version, |entry| {
            list.push(entry);
            true
        })?;
        Ok(Self { summary, entries: list })
    }

    /// What a manifest would have to say about it.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// How many entries a restore at `now_ms` would count: all that have not expired, repeated keys included.
    #[must_use]
    pub fn live_count(&self, now_ms: u64) -> u64 {
        self.entries.iter().filter(|entry| is_live(entry.expires_at_ms, now_ms)).count() as u64
    }

    /// The entries that have not expired at `now_ms`, in the order of the document.
    #[must_use]
    pub fn into_entries(mut self, now_ms: u64) -> Vec<RestoreEntry<'static>> {
        self.entries.retain(|entry| is_live(entry.expires_at_ms, now_ms));
        self.entries
    }
}

fn is_live(expires_at_ms: Option<u64>, now_ms: u64) -> bool {
    expires_at_ms.is_none_or(|at| at > now_ms)
}

fn missing(member: &'static str) -> DumpError {
    DumpError::Document(serde_json::Error::missing_field(member))
}

/// What is done with the entries.
trait Sink {
    /// Takes the JSON of the next entry; `version` is that of the document if it came before the entries. False ends
    /// the reading.
    fn entry(&mut self, json: &str, version: Option<u64>) -> bool;
}

/// Runs the parser over the whole document. Returns what it found beside the entries, whether it stopped among them,
/// and the measures.
fn read(
    source: impl Read,
    sink: &mut impl Sink,
) -> (Result<Outline, serde_json::Error>, bool, (u64, String)) {
    let source = Source::new(source);
    let among_entries = Cell::new(false);
    let visitor = DocumentVisitor { sink, budget: source.budget(), among_entries: &among_entries };
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, source);
    let mut parser = serde_json::Deserializer::from_reader(&mut reader);
    let mut outline = parser.deserialize_map(visitor);
    if outline.is_ok() {
        outline = parser.end().and(outline);
    }
    let mut source = reader.into_inner();
    if outline.as_ref().is_err_and(|error| !error.is_io())
        && let Err(error) = source.drain()
    {
        outline = Err(serde_json::Error::io(error));
    }
    (outline, among_entries.get(), source.finish())
}

/// The document without its entries.
#[derive(Default)]
struct Outline {
    version: Option<u64>,
    created_at_ms: Option<u64>,
    source_engine_version: Option<u32>,
    source_sequence: Option<u64>,
    has_entries: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Member {
    Version,
    CreatedAtMs,
    SourceEngineVersion,
    SourceSequence,
    Entries,
    #[serde(other)]
    Unknown,
}

struct DocumentVisitor<'a, S> {
    sink: &'a mut S,
    budget: Budget,
    among_entries: &'a Cell<bool>,
}

impl<'de, S: Sink> Visitor<'de> for DocumentVisitor<'_, S> {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a logical backup")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
        let mut outline = Outline::default();
        while let Some(member) = map.next_key()? {
            match member {
                Member::Version => once(&mut outline.version, "version", &mut map)?,
                Member::CreatedAtMs => once(&mut outline.created_at_ms, "created_at_ms", &mut map)?,
                Member::SourceEngineVersion => {
                    once(&mut outline.source_engine_version, "source_engine_version", &mut map)?;
                }
                Member::SourceSequence => once(&mut outline.source_sequence, "source_sequence", &mut map)?,
                Member::Entries if outline.has_entries => {
                    return Err(A::Error::duplicate_field("entries"));
                }
                Member::Entries => {
                    outline.has_entries = true;
                    self.among_entries.set(true);
                    map.next_value_seed(Entries {
                        sink: &mut *self.sink,
                        budget: &self.budget,
                        version: outline.version,
                    })?;
                    self.among_entries.set(false);
                }
                Member::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(outline)
    }
}

fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    slot: &mut Option<T>,
    name: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    if slot.replace(map.next_value()?).is_some() { Err(A::Error::duplicate_field(name)) } else { Ok(()) }
}

/// The array of entries.
struct Entries<'a, S> {
    sink: &'a mut S,
    budget: &'a Budget,
    version: Option<u64>,
}

impl<'de, S: Sink> DeserializeSeed<'de> for Entries<'_, S> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Entries<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        // Each entry first as it stands: one that is wrong must not hide what is wrong with the document.
        while let Some(entry) = list.next_element::<Box<RawValue>>()? {
            if !self.sink.entry(entry.get(), self.version) {
                return Err(A::Error::custom("not read to the end"));
            }
            self.budget.renew();
        }
        Ok(())
    }
}

/// Checks the entries by the rules of one version.
struct Count {
    now_ms: u64,
    live: u64,
    /// What is wrong with the first entry that is not right.
    fault: Option<DumpError>,
}

impl Count {
    fn new(now_ms: u64) -> Self {
        Self { now_ms, live: 0, fault: None }
    }

    fn add(&mut self, entry: Result<RestoreEntry<'_>, DumpError>) {
        match entry {
            Ok(entry) => self.live += u64::from(is_live(entry.expires_at_ms, self.now_ms)),
            Err(fault) => self.fault = Some(fault),
        }
    }
}

/// Checks the entries. While the version is unknown they may be of either.
struct Tally {
    v1: Count,
    v2: Count,
    entry_count: u64,
}

impl Sink for Tally {
    fn entry(&mut self, json: &str, version: Option<u64>) -> bool {
        self.entry_count += 1;
        if matches!(version, None | Some(1)) && self.v1.fault.is_none() {
            self.v1.add(entry_v1(json, self.entry_count));
        }
        if matches!(version, None | Some(2)) && self.v2.fault.is_none() {
            self.v2.add(entry_v2(json, self.entry_count));
        }
        true
    }
}

/// Gives the entries to somebody.
struct Handout<F> {
    version: u64,
    each: F,
    position: u64,
    fault: Option<DumpError>,
    has_had_enough: bool,
}

impl<F: FnMut(RestoreEntry<'static>) -> bool> Sink for Handout<F> {
    fn entry(&mut self, json: &str, _: Option<u64>) -> bool {
        self.position += 1;
        let entry = match self.version {
            1 => entry_v1(json, self.position),
            _ => entry_v2(json, self.position),
        };
        match entry {
            Ok(entry) => {
                self.has_had_enough = !(self.each)(owned(entry));
                !self.has_had_enough
            }
            Err(fault) => {
                self.fault = Some(fault);
                false
            }
        }
    }
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

fn entry_v1(json: &str, position: u64) -> Result<RestoreEntry<'_>, DumpError> {
    let EntryV1 { key, value, expires_at_ms } =
        serde_json::from_str(json).map_err(|error| DumpError::Entry { position, error })?;
    let value = match value {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    within_bounds(RestoreEntry { key, value, expires_at_ms, version: 1 }, position)
}

fn entry_v2(json: &str, position: u64) -> Result<RestoreEntry<'_>, DumpError> {
    let EntryV2 { key, value_base64, expires_at_ms, version } =
        serde_json::from_str(json).map_err(|error| DumpError::Entry { position, error })?;
    let value =
        STANDARD.decode(value_base64.as_bytes()).map_err(|error| DumpError::Base64 { position, error })?;
    let entry = RestoreEntry { key, value: Cow::Owned(value), expires_at_ms, version: version.max(1) };
    within_bounds(entry, position)
}

fn within_bounds(entry: RestoreEntry<'_>, position: u64) -> Result<RestoreEntry<'_>, DumpError> {
    let bytes = entry.key.len() + entry.value.len();
    if bytes > ENTRY_BYTES_MAX { Err(DumpError::EntryTooLarge { position, bytes }) } else { Ok(entry) }
}

fn owned(entry: RestoreEntry<'_>) -> RestoreEntry<'static> {
    RestoreEntry {
        key: Cow::Owned(entry.key.into_owned()),
        value: Cow::Owned(entry.value.into_owned()),
        expires_at_ms: entry.expires_at_ms,
        version: entry.version,
    }
}
