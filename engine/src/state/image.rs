//! The bytes of a whole state: what a snapshot contains.
//!
//! ```text
//! image      magic "VXSTATE" (7), format u8 = 2,
//!            applied u64 (0: nothing yet), time_ms u64, access_revision u64,
//!            record count u64, records, keys, prepared u8 (0 or 1), restore if it is 1,
//!            marked u8 (0 or 1), mark if it is 1, digest (32), end "END." (4)
//! record     name length u32, content length u32, name, content
//! keys       key count u64, that many times key
//! restore    identity u64, parts u32, entries counted u64, time of the last part u64, keys
//! mark       log entry u64, digest (32)
//! key        key length u32, value length u32, version u64, deadline u64 (0: none), key, value
//! ```
//! Numbers are little-endian, lengths are in bytes, names and keys are UTF-8 and strictly ascending, and a
//! version is at least 1. The same state always has the same bytes. The [digest](super::digest) is that of the state, as it
//! was kept while the state changed: it is compared with what was written, and with what is read. Format 1, which is read
//! too, has neither mark nor digest.
//!
//! Decoding believes nothing: memory grows with the bytes that arrive, whatever the lengths say.

use std::io::{self, Read, Write};
use std::num::NonZeroU64;

use bytes::Bytes;
use bytestring::ByteString;

use super::digest::{self, Counted, DIGEST_BYTES, Mark, StateDigest, Sum};
use super::entry::Entry;
use super::keyspace::Keyspace;
use super::restore::Prepared;
use super::root::Root;
use crate::sequence::Sequence;

const MAGIC: &[u8; 7] = b"VXSTATE";
const FORMAT: u8 = 2;
/// Without mark and digest.
const FORMAT_1: u8 = 1;
const END: &[u8; 4] = b"END.";

/// Why bytes are not an image.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// They could not be read, or ended too early.
    #[error("state image: {0}")]
    Io(#[from] io::Error),
    /// They are something else.
    #[error("state image: not an image of the state")]
    Magic,
    /// Written by a release that this one does not know.
    #[error("state image: unknown format {0}")]
    Format(u8),
    /// They contradict the format.
    #[error("state image: {0}")]
    Malformed(&'static str),
}

impl Root {
    /// Writes the image of this state. Many small writes: `sink` should be buffered.
    ///
    /// # Errors
    /// Those of `sink`; [`io::ErrorKind::InvalidData`] when the keys are not those whose digest was kept: the memory is
    /// faulty, or this program is.
    pub fn encode(&self, sink: &mut impl Write) -> io::Result<()> {
        sink.write_all(MAGIC)?;
        sink.write_all(&[FORMAT])?;
        write_u64(sink, self.applied.map_or(0, Sequence::get))?;
        write_u64(sink, self.time_ms())?;
        write_u64(sink, self.access_revision)?;
        write_u64(sink, self.system.len() as u64)?;
        for (name, content) in &self.system {
            write_len(sink, name.len())?;
            write_len(sink, content.len())?;
            sink.write_all(name.as_bytes())?;
            sink.write_all(content)?;
        }
        write_keys(sink, &self.keys)?;
        sink.write_all(&[u8::from(self.prepared.is_some())])?;
        if let Some(prepared) = &self.prepared {
            write_u64(sink, prepared.restore)?;
            sink.write_all(&prepared.parts.to_le_bytes())?;
            write_u64(sink, prepared.counted)?;
            write_u64(sink, prepared.touched_ms)?;
            write_keys(sink, &prepared.keys)?;
        }
        sink.write_all(&[u8::from(self.mark.is_some())])?;
        if let Some(mark) = &self.mark {
            write_u64(sink, mark.at.get())?;
            sink.write_all(mark.digest.as_bytes())?;
        }
        sink.write_all(self.digest().as_bytes())?;
        sink.write_all(END)
    }

    /// Reads only the beginning of an image: the last log entry it contains, and the time of its last batch in unix
    /// milliseconds.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode_position(source: impl Read) -> Result<(Option<Sequence>, u64), DecodeError> {
        let (_, applied, time_ms) = Image { source, scratch: Vec::new() }.head()?;
        Ok((applied, time_ms))
    }

    /// Reads an image and nothing after it. Many small reads: `source` should be buffered.
    ///
    /// # Errors
    /// [`DecodeError`], for anything that [`Root::encode`] does not write.
    pub fn decode(source: impl Read) -> Result<Self, DecodeError> {
        Self::read(source, Keys::Kept)
    }

    /// Reads an image as [`decode`](Self::decode) does and judges all of it, but keeps no keys: the memory it takes is that of
    /// one entry. Returns the last log entry that the image contains.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn check(source: impl Read) -> Result<Option<Sequence>, DecodeError> {
        Ok(Self::read(source, Keys::Counted)?.applied)
    }

    fn read(source: impl Read, become_of: Keys) -> Result<Self, DecodeError> {
        let mut image = Image { source, scratch: Vec::new() };
        let (format, applied, time_ms) = image.head()?;
        let mut root = Self { applied, ..Self::default() };
        root.keys.advance(time_ms);
        root.access_revision = image.u64()?;
        for _ in 0..image.u64()? {
            let (name_len, content_len) = (image.u32()?, image.u32()?);
            let name = std::str::from_utf8(image.bytes(name_len.into())?)
                .map(ByteString::from)
                .map_err(|_| DecodeError::Malformed("the name of a record is not UTF-8"))?;
            if root.system.get_max().is_some_and(|(last, _)| *last >= name) {
                return Err(DecodeError::Malformed("records are not in order"));
            }
            root.put_record(name, Bytes::copy_from_slice(image.bytes(content_len.into())?));
        }
        let (keys, counted) = image.keys(root.keys.time_ms(), become_of)?;
        root.keys = keys;
        let mut prepared_counted = Counted::default();
        root.prepared = match image.array()? {
            [0] => None,
            [1] => {
                let (prepared, counted) = image.prepared(become_of)?;
                prepared_counted = counted;
                Some(prepared)
            }
            _ => return Err(DecodeError::Malformed("neither with nor without a prepared restore")),
        };
        if format != FORMAT_1 {
            root.mark = match image.array()? {
                [0] => None,
                [1] => Some(image.mark()?),
                _ => return Err(DecodeError::Malformed("neither with nor without a mark")),
            };
            let digest = digest::of_counted(&root, counted, prepared_counted);
            if image.array::<DIGEST_BYTES>()? != digest.as_bytes() {
                return Err(DecodeError::Malformed("the digest is that of another state"));
            }
        }
        if image.array()? == *END { Ok(root) } else { Err(DecodeError::Malformed("the end mark is missing")) }
    }
}

/// What becomes of the keys of an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    Kept,
    /// They are judged and forgotten.
    Counted,
}

/// A source of the parts of an image.
struct Image<R> {
    source: R,
    scratch: Vec<u8>,
}

impl<R: Read> Image<R> {
    /// What comes first: the format, the last log entry, and the time.
    fn head(&mut self) -> Result<(u8, Option<Sequence>, u64), DecodeError> {
        if self.array()? != *MAGIC {
            return Err(DecodeError::Magic);
        }
        let [format] = self.array()?;
        if !matches!(format, FORMAT | FORMAT_1) {
            return Err(DecodeError::Format(format));
        }
        Ok((format, Sequence::new(self.u64()?), self.u64()?))
    }

    fn mark(&mut self) -> Result<Mark, DecodeError> {
        let at = Sequence::new(self.u64()?).ok_or(DecodeError::Malformed("a mark of no entry"))?;
        Ok(Mark { at, digest: StateDigest(self.array()?) })
    }

    fn prepared(&mut self, become_of: Keys) -> Result<(Prepared, Counted), DecodeError> {
        let restore = self.u64()?;
        let (parts, counted, touched_ms) = (self.u32()?, self.u64()?, self.u64()?);
        let mut prepared = Prepared { parts, counted, ..Prepared::new(restore, touched_ms) };
        let (keys, counted) = self.keys(prepared.keys.time_ms(), become_of)?;
        prepared.keys = keys;
        Ok((prepared, counted))
    }

    /// The keys that are kept, and the digest of all.
    fn keys(&mut self, time_ms: u64, become_of: Keys) -> Result<(Keyspace, Counted), DecodeError> {
        let mut last: Option<Entry> = None;
        let count = self.u64()?;
        let mut entries = (0..count).map(|_| {
            let entry = self.entry()?;
            if last.replace(entry.clone()).is_some_and(|last| last >= entry) {
                return Err(DecodeError::Malformed("keys are not in order"));
            }
            Ok(entry)
        });
        if become_of == Keys::Kept {
            let keys = Keyspace::from_ascending(time_ms, entries)?;
            let counted = Counted::of(&keys);
            return Ok((keys, counted));
        }
        let mut counted = Counted::default();
        entries.try_for_each(|entry| entry.map(|entry| counted.add(&entry)))?;
        let mut none = Keyspace::default();
        none.advance(time_ms);
        Ok((none, counted))
    }

    fn entry(&mut self) -> Result<Entry, DecodeError> {
        let (key_len, value_len) = (self.u32()?, self.u32()?);
        let (version, expires_at_ms) = (self.u64()?, self.u64()?);
        let bytes = self.bytes(u64::from(key_len) + u64::from(value_len))?;
        let (key, value) = bytes.split_at(key_len as usize);
        if std::str::from_utf8(key).is_err() {
            return Err(DecodeError::Malformed("a key is not UTF-8"));
        }
        if version == 0 {
            return Err(DecodeError::Malformed("a version is 0"));
        }
        Ok(Entry::new(key, value, version, NonZeroU64::new(expires_at_ms)))
    }

    /// The next `len` bytes. What is kept for them grows with what arrives.
    fn bytes(&mut self, len: u64) -> io::Result<&[u8]> {
        self.scratch.clear();
        let arrived = self.source.by_ref().take(len).read_to_end(&mut self.scratch)?;
        if arrived as u64 == len { Ok(&self.scratch) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn write_keys(sink: &mut impl Write, keys: &Keyspace) -> io::Result<()> {
    write_u64(sink, keys.len() as u64)?;
    let mut sum = Sum::default();
    for entry in keys.iter() {
        sum.add_entry(entry);
        write_len(sink, entry.key_bytes().len())?;
        write_len(sink, entry.value().len())?;
        write_u64(sink, entry.version())?;
        write_u64(sink, entry.expires_at_ms().unwrap_or(0))?;
        sink.write_all(entry.key_bytes())?;
        sink.write_all(entry.value())?;
    }
    if sum != keys.sum() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the keys in memory are not those that were written: their digest is another",
        ));
    }
    Ok(())
}

fn write_u64(sink: &mut impl Write, number: u64) -> io::Result<()> {
    sink.write_all(&number.to_le_bytes())
}

fn write_len(sink: &mut impl Write, len: usize) -> io::Result<()> {
    let len = u32::try_from(len).map_err(|_| io::Error::other("a key or value of 4 GiB or more"))?;
    sink.write_all(&len.to_le_bytes())
}
