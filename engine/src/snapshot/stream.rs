//! The container of a snapshot: sealed, compressed chunks between a header and an authenticated end.
//!
//! # Format, version 1
//! | Bytes | Field |
//! |---|---|
//! | 8 | magic `VXSNAPSH` |
//! | 4 | version, 1 |
//! | 16 | id of the storage key |
//! | 32 | salt |
//! | 8 | number: counts the snapshots of a directory; 0 outside of one |
//! | 4 | 1 when the snapshot covers records, else 0 |
//! | 24 | term, leader and index of the last record it covers, else zero |
//! | 8 | time, in ms since 1970 |
//! | 4 | CRC-32 of everything above (of every version) |
//!
//! Then chunks, each:
//!
//! | Bytes | Field |
//! |---|---|
//! | 1 | kind: 1 = meta (exactly the first chunk), 2 = content, 3 = end (exactly the last one) |
//! | 4 | length of the sealed part without its tag, at most `CHUNK_STORED_MAX` |
//! | length | sealed: for meta and content a zstd frame of at most 1 MiB of plain bytes; for the end the number of content chunks (8) and of plain content bytes (8) |
//! | 16 | tag |
//!
//! Integers are little-endian. The seal's counter is the position of the chunk, from 0, its associated data the 5 bytes
//! before it; the key is bound to the header. So chunks cannot be changed, moved, dropped or added, and a
//! container without its end is not a snapshot. Snapshots are never repaired.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;
use vaylix_proto::Code;

use crate::cursor::{Cursor, Truncated};
use crate::error::StorageError;
use crate::keyring::{Keyring, fill_random};
use crate::seal::{FileKey, SALT_BYTES, TAG_BYTES};
use crate::wal::RecordId;

const MAGIC: &[u8; 8] = b"VXSNAPSH";
const VERSION: u32 = 1;
const PURPOSE: &[u8] = b"vaylix snapshot";
pub(super) const HEADER_BYTES: usize = 108;
const CHUNK_HEAD_BYTES: usize = 5;
/// Plain bytes of one content chunk as written.
const CHUNK_BYTES: usize = 256 << 10;
/// Plain bytes of one chunk as read, hence of the meta bytes.
pub(super) const CHUNK_BYTES_MAX: usize = 1 << 20;
/// The worst that zstd makes of `CHUNK_BYTES_MAX`.
const CHUNK_STORED_MAX: usize = CHUNK_BYTES_MAX + CHUNK_BYTES_MAX / 128 + 1024;
/// Measured on snapshots: higher levels cost more time than they save bytes.
const ZSTD_LEVEL: i32 = 1;
const _: () = assert!(CHUNK_BYTES <= CHUNK_BYTES_MAX, "what is written must be readable");

const META: u8 = 1;
const CONTENT: u8 = 2;
const END: u8 = 3;

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last record it covers; `None` when it covers none.
    pub last: Option<RecordId>,
    /// When it was taken, in ms since 1970.
    pub time_ms: u64,
    /// Opaque, at most 1 MiB.
    pub meta: Vec<u8>,
}

/// What a finished snapshot turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The last record it covers.
    pub last: Option<RecordId>,
    /// When it was taken, in ms since 1970.
    pub time_ms: u64,
    /// Its size in the file.
    pub size_bytes: u64,
    /// The size of its content, plain.
    pub plain_bytes: u64,
    /// The storage key it is sealed under.
    pub key_id: Uuid,
}

/// The clear part of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) last: Option<RecordId>,
    pub(super) time_ms: u64,
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) key_id: Uuid,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(self.key_id.as_bytes());
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&encode_last(self.last));
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out.try_into().expect("the fields make up the header")
    }

    /// Reads the header of a snapshot; no key is needed for it.
    pub(super) fn read(source: &mut impl Read) -> Result<Self, StorageError> {
        let mut encoded = [0; HEADER_BYTES];
        source.read_exact(&mut encoded).map_err(|error| ends_early(error, 0))?;
        Self::decode(&encoded)
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, StorageError> {
        let refuse = |code, message: String, at| Err(StorageError::new(code, message).at(at));
        let (body, checksum) = bytes.split_last_chunk::<4>().expect("the header is longer");
        if !body.starts_with(MAGIC) {
            return refuse(Code::UnsupportedStorageFormat, "not a snapshot".into(), 0);
        }
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            let message = "checksum validation failed for the snapshot header";
            return refuse(Code::ChecksumValidationFailure, message.into(), 0);
        }
        let fields = |mut cursor: Cursor<'_>| -> Result<_, Truncated> {
            let version = cursor.u32()?;
            let key_id = Uuid::from_bytes(cursor.array()?);
            let salt = cursor.array()?;
            let number = cursor.u64()?;
            let last = decode_last(&mut cursor)?;
            Ok((version, Self { number, last, time_ms: cursor.u64()?, salt, key_id }))
        };
        match fields(Cursor::new(&body[MAGIC.len()..])) {
            Ok((VERSION, header)) => Ok(header),
            Ok((version, _)) => {
                let message = format!("snapshot of version {version}, of which {VERSION} is known");
                Err(StorageError::newer_format(message).at(8))
            }
            Err(Truncated) => {
                refuse(Code::SnapshotDeserializationFailure, "the snapshot header makes no sense".into(), 68)
            }
        }
    }
}

/// The 28 bytes of an optional record name: whether there is one, and the name.
pub(super) fn encode_last(last: Option<RecordId>) -> [u8; 28] {
    let mut out = [0; 28];
    if let Some(last) = last {
        out[0] = 1;
        out[4..].copy_from_slice(&last.encode());
    }
    out
}

pub(super) fn decode_last(cursor: &mut Cursor<'_>) -> Result<Option<RecordId>, Truncated> {
    let present = cursor.u32()?;
    let last = RecordId::decode(cursor)?;
    match present {
        0 => Ok(None),
        1 => Ok(Some(last)),
        _ => Err(Truncated),
    }
}

/// Writes a snapshot: its content goes in by [`Write`], in bounded memory; [`finish`](Self::finish) makes it whole.
pub struct Writer<W> {
    sink: W,
    key: FileKey,
    header: Header,
    compressor: zstd::bulk::Compressor<'static>,
    /// Content of the chunk being filled.
    plain: Vec<u8>,
    stored: Vec<u8>,
    counter: u64,
    plain_bytes: u64,
    size_bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a snapshot sealed under the active key.
    ///
    /// # Errors
    /// `ENG-003` when the meta bytes exceed 1 MiB or compression fails, `ENG-002` for I/O.
    pub fn new(sink: W, keyring: &Keyring, head: &Head) -> Result<Self, StorageError> {
        Self::numbered(sink, keyring, head, 0)
    }

    pub(super) fn numbered(
        sink: W,
        keyring: &Keyring,
        head: &Head,
        number: u64,
    ) -> Result<Self, StorageError> {
        if head.meta.len() > CHUNK_BYTES_MAX {
            let message = format!("{} meta bytes, of which {CHUNK_BYTES_MAX} are allowed", head.meta.len());
            return Err(StorageError::new(Code::SnapshotSerializationFailure, message));
        }
        let storage_key = keyring.active();
        let mut salt = [0; SALT_BYTES];
        fill_random(&mut salt)?;
        let header =
            Header { number, last: head.last, time_ms: head.time_ms, salt, key_id: storage_key.id() };
        let encoded = header.encode();
        let mut writer = Self {
            sink,
            key: FileKey::derive(&storage_key, &salt, PURPOSE, &encoded),
            header,
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(compression_failed)?,
            plain: Vec::with_capacity(CHUNK_BYTES),
            stored: Vec::with_capacity(CHUNK_HEAD_BYTES + CHUNK_STORED_MAX + TAG_BYTES),
            counter: 0,
            plain_bytes: 0,
            size_bytes: HEADER_BYTES as u64,
        };
        writer.sink.write_all(&encoded)?;
        writer.plain.extend_from_slice(&head.meta);
        writer.compressed_chunk(META)?;
        Ok(writer)
    }

    /// Ends the snapshot. Without it, what was written is not one.
    ///
    /// # Errors
    /// `ENG-003` when compression fails, `ENG-002` for I/O.
    pub fn finish(mut self) -> Result<(W, Info), StorageError> {
        if !self.plain.is_empty() {
            self.compressed_chunk(CONTENT)?;
        }
        let chunks = self.counter - 1;
        self.begin_chunk();
        self.stored.extend_from_slice(&chunks.to_le_bytes());
        self.stored.extend_from_slice(&self.plain_bytes.to_le_bytes());
        self.end_chunk(END)?;
        self.sink.flush()?;
        let Header { last, time_ms, key_id, .. } = self.header;
        let Self { sink, size_bytes, plain_bytes, .. } = self;
        Ok((sink, Info { last, time_ms, size_bytes, plain_bytes, key_id }))
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    fn compressed_chunk(&mut self, kind: u8) -> Result<(), StorageError> {
        self.begin_chunk();
        let compressed = self.compressor.compress(&self.plain).map_err(compression_failed)?;
        self.stored.extend_from_slice(&compressed);
        self.plain.clear();
        self.end_chunk(kind)
    }

    fn begin_chunk(&mut self) {
        self.stored.clear();
        self.stored.resize(CHUNK_HEAD_BYTES, 0);
    }

    fn end_chunk(&mut self, kind: u8) -> Result<(), StorageError> {
        let len =
            u32::try_from(self.stored.len() - CHUNK_HEAD_BYTES).expect("a chunk is about a megabyte at most");
        let head = chunk_head(kind, len);
        self.stored[..CHUNK_HEAD_BYTES].copy_from_slice(&head);
        self.key.seal(self.counter, &head, &mut self.stored, CHUNK_HEAD_BYTES);
        self.counter += 1;
        self.size_bytes += self.stored.len() as u64;
        self.sink.write_all(&self.stored)?;
        Ok(())
    }
}

fn compression_failed(error: io::Error) -> StorageError {
    let message = format!("snapshot serialization failed: {error}");
    StorageError::new(Code::SnapshotSerializationFailure, message).because(error)
}

fn chunk_head(kind: u8, len: u32) -> [u8; CHUNK_HEAD_BYTES] {
    let [a, b, c, d] = len.to_le_bytes();
    [kind, a, b, c, d]
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.plain.len());
        self.plain.extend_from_slice(&bytes[..taken]);
        self.plain_bytes += taken as u64;
        if self.plain.len() == CHUNK_BYTES {
            self.compressed_chunk(CONTENT)?;
        }
        Ok(taken)
    }

    /// Does nothing: a chunk is written when it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a snapshot: its content comes out by [`Read`], in bounded memory.
///
/// Each chunk is authentic when it comes out, but only the end of the content (a read of 0 bytes) says that it is whole:
/// use nothing of it before. Errors are [`StorageError`]s inside of `io::Error`.
pub struct Reader<R> {
    source: R,
    key: FileKey,
    header: Header,
    meta: Vec<u8>,
    decompressor: zstd::bulk::Decompressor<'static>,
    stored: Vec<u8>,
    plain: Vec<u8>,
    /// How much of `plain` has been handed out.
    taken: usize,
    counter: u64,
    plain_bytes: u64,
    offset: u64,
    ended: bool,
    /// The file it comes from, for errors.
    path: Option<PathBuf>,
}

impl Reader<BufReader<File>> {
    /// The length of the file.
    pub(super) fn file_len(&self) -> io::Result<u64> {
        Ok(self.source.get_ref().metadata()?.len())
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header and the meta bytes.
    ///
    /// # Errors
    /// `ENG-004`, `ENG-007`, `ENG-008` or `ENG-009` when it is damaged, foreign or no snapshot, `ENG-002` for I/O.
    pub fn new(mut source: R, keyring: &Keyring) -> Result<Self, StorageError> {
        let mut encoded = [0; HEADER_BYTES];
        source.read_exact(&mut encoded).map_err(|error| ends_early(error, 0))?;
        let header = Header::decode(&encoded)?;
        let storage_key = keyring.get(header.key_id).ok_or_else(|| {
            let message = format!("sealed under the unknown storage key {}", header.key_id);
            StorageError::new(Code::UnsupportedStorageFormat, message).at(12)
        })?;
        let mut reader = Self {
            source,
            key: FileKey::derive(&storage_key, &header.salt, PURPOSE, &encoded),
            header,
            meta: Vec::new(),
            decompressor: zstd::bulk::Decompressor::new().map_err(|error| damaged(error.to_string(), 0))?,
            stored: Vec::new(),
            plain: Vec::with_capacity(CHUNK_BYTES_MAX),
            taken: 0,
            counter: 0,
            plain_bytes: 0,
            offset: HEADER_BYTES as u64,
            ended: false,
            path: None,
        };
        if reader.chunk()? != META {
            return Err(damaged("a snapshot begins with its meta bytes".into(), HEADER_BYTES as u64));
        }
        reader.meta = reader.plain.clone();
        reader.taken = reader.plain.len();
        Ok(reader)
    }

    /// What the snapshot says of itself.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { last: self.header.last, time_ms: self.header.time_ms, meta: self.meta.clone() }
    }

    /// Names the file in later errors.
    pub(super) fn of_file(self, path: &Path) -> Self {
        Self { path: Some(path.to_owned()), ..self }
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// The file it comes from.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// How many bytes of the file have been read and found authentic.
    #[must_use]
    pub fn offset_bytes(&self) -> u64 {
        self.offset
    }

    /// What the snapshot turned out to be; `None` before its end has been read.
    #[must_use]
    pub fn info(&self) -> Option<Info> {
        let Header { last, time_ms, key_id, .. } = self.header;
        let Self { offset: size_bytes, plain_bytes, .. } = *self;
        self.ended.then_some(Info { last, time_ms, size_bytes, plain_bytes, key_id })
    }

    /// Reads and opens the next chunk into `plain` and returns its kind.
    fn chunk(&mut self) -> Result<u8, StorageError> {
        let at = self.offset;
        let mut head = [0; CHUNK_HEAD_BYTES];
        self.source.read_exact(&mut head).map_err(|error| ends_early(error, at))?;
        let [kind, len @ ..] = head;
        let len = u32::from_le_bytes(len) as usize;
        if len > CHUNK_STORED_MAX {
            return Err(damaged(format!("a chunk of {len} bytes"), at));
        }
        self.stored.clear();
        let wanted = len + TAG_BYTES;
        let read = self.source.by_ref().take(wanted as u64).read_to_end(&mut self.stored)?;
        if read < wanted {
            return Err(ends_early(io::ErrorKind::UnexpectedEof.into(), at));
        }
        let opened = self.key.open(self.counter, &head, &mut self.stored).map_err(|_| {
            let message = "the snapshot is not what was sealed under its storage key";
            StorageError::new(Code::EncryptedStorageFailure, message).at(at)
        })?;
        self.counter += 1;
        self.offset += (CHUNK_HEAD_BYTES + wanted) as u64;
        self.plain.clear();
        self.taken = 0;
        if kind == END {
            self.plain.extend_from_slice(opened);
        } else {
            self.decompressor
                .decompress_to_buffer(opened, &mut self.plain)
                .map_err(|error| damaged(format!("a chunk that does not decompress: {error}"), at))?;
        }
        Ok(kind)
    }

    /// Makes `plain` the next content, or finds the end.
    fn advance(&mut self) -> Result<(), StorageError> {
        let at = self.offset;
        match self.chunk()? {
            CONTENT => {
                self.plain_bytes += self.plain.len() as u64;
                Ok(())
            }
            END => {
                let mut cursor = Cursor::new(&self.plain);
                // Before the end came the meta bytes and the content.
                let agrees = cursor.u64() == Ok(self.counter - 2) && cursor.u64() == Ok(self.plain_bytes);
                if !agrees {
                    return Err(damaged("the end of the snapshot disagrees with its content".into(), at));
                }
                if self.source.by_ref().take(1).read_to_end(&mut self.stored)? > 0 {
                    return Err(damaged("bytes behind the end of the snapshot".into(), self.offset));
                }
                self.plain.clear();
                self.ended = true;
                Ok(())
            }
            kind => Err(damaged(format!("a chunk of kind {kind} out of place"), at)),
        }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.plain.len() && !self.ended {
            self.advance().map_err(|error| match &self.path {
                Some(path) => error.in_file(path).advise(super::RESTORE),
                None => error,
            })?;
        }
        let len = out.len().min(self.plain.len() - self.taken);
        out[..len].copy_from_slice(&self.plain[self.taken..self.taken + len]);
        self.taken += len;
        Ok(len)
    }
}

fn damaged(what: String, at: u64) -> StorageError {
    let message = format!("snapshot deserialization failed: {what}");
    StorageError::new(Code::SnapshotDeserializationFailure, message).at(at)
}

fn ends_early(error: io::Error, at: u64) -> StorageError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return damaged("it ends early".into(), at);
    }
    StorageError::from(error).at(at)
}
