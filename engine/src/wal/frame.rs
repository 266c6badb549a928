//! The frame: what is written and synced at once, one or more whole sectors.
//!
//! The payloads of its sectors, put together:
//!
//! | Bytes | Field |
//! |---|---|
//! | 8 | index of the first record |
//! | 8 | term of the first record |
//! | 4 | number of records, at least 1 |
//! | 4 | length of the sealed part without its tag |
//! | length | the records, sealed: for each its term (8), leader (8), time (8), length of the body (4), body |
//! | 16 | tag |
//! | rest | zero, less than a sector |
//!
//! Integers are little-endian. The seal's counter is the ordinal of the frame, its associated data the first 24 bytes;
//! the key is the segment's. So a frame cannot be moved within its segment or to another one. Record `i` of a frame
//! has the index of the first record + `i`.
//!
//! A frame begins at a sector of its own: a sector that holds acknowledged records is never written again.

use bytes::Bytes;
use vaylix_proto::Code;

use super::header::SegmentKey;
use super::record::{Record, RecordId};
use super::sector::{self, PAYLOAD_BYTES, Place, SECTOR_BYTES};
use crate::cursor::{Cursor, Truncated};
use crate::seal::TAG_BYTES;

const HEAD_BYTES: usize = 24;
const RECORD_HEAD_BYTES: usize = 28;
/// Records of one frame, in bytes, beyond which the next record goes to the next frame.
const RECORDS_BYTES_MAX: usize = 8 << 20;
/// Longest body of a record.
pub const BODY_BYTES_MAX: usize = 512 << 20;
/// Buffers larger than this are given back after use.
const BUFFER_BYTES_KEPT: usize = 2 << 20;
const _: () =
    assert!(BODY_BYTES_MAX + RECORD_HEAD_BYTES <= u32::MAX as usize, "a record must fit in a frame");

/// Why complete bytes are not a frame.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) code: Code,
    pub(super) what: &'static str,
}

/// How many of the records, at least one, go into one frame.
pub(super) fn fitting(records: &[Record]) -> usize {
    let mut bytes = 0;
    let more = records.iter().skip(1).take_while(|record| {
        bytes += RECORD_HEAD_BYTES + record.body.len();
        bytes <= RECORDS_BYTES_MAX.saturating_sub(records[0].body.len())
    });
    1 + more.count()
}

/// The bytes that a frame of these records takes.
pub(super) fn encoded_bytes(records: &[Record]) -> u64 {
    frame_bytes(records.iter().map(|record| RECORD_HEAD_BYTES + record.body.len()).sum())
}

/// The bytes that a record with a body of this length takes on disk when it is written alone.
#[must_use]
pub fn size_alone_bytes(body_len: usize) -> u64 {
    frame_bytes(RECORD_HEAD_BYTES + body_len)
}

fn frame_bytes(sealed: usize) -> u64 {
    ((HEAD_BYTES + sealed + TAG_BYTES).div_ceil(PAYLOAD_BYTES) * SECTOR_BYTES) as u64
}

/// Makes frames in buffers that it keeps.
#[derive(Default)]
pub(super) struct Encoder {
    plain: Vec<u8>,
    out: Vec<u8>,
}

impl Encoder {
    /// The frame of these records, which follow each other without gaps.
    pub(super) fn encode(
        &mut self,
        key: &SegmentKey,
        ordinal: u32,
        synced: u32,
        records: &[Record],
    ) -> &[u8] {
        let Self { plain, out } = self;
        for buffer in [&mut *plain, &mut *out] {
            buffer.clear();
            buffer.shrink_to(BUFFER_BYTES_KEPT);
        }
        let first = records[0].id;
        let sealed: usize = records.iter().map(|record| RECORD_HEAD_BYTES + record.body.len()).sum();
        plain.reserve(HEAD_BYTES + sealed + TAG_BYTES);
        plain.extend_from_slice(&first.index.to_le_bytes());
        plain.extend_from_slice(&first.term.to_le_bytes());
        plain.extend_from_slice(&length(records.len()));
        plain.extend_from_slice(&length(sealed));
        for record in records {
            plain.extend_from_slice(&record.id.term.to_le_bytes());
            plain.extend_from_slice(&record.id.leader.to_le_bytes());
            plain.extend_from_slice(&record.time_ms.to_le_bytes());
            plain.extend_from_slice(&length(record.body.len()));
            plain.extend_from_slice(&record.body);
        }
        let head: [u8; HEAD_BYTES] = *plain.first_chunk().expect("the head was just written");
        key.file_key.seal(u64::from(ordinal), &head, plain, HEAD_BYTES);

        let parts = plain.len().div_ceil(PAYLOAD_BYTES);
        out.reserve(parts * SECTOR_BYTES);
        let parts = u32::try_from(parts).expect("a frame is below 4 GiB");
        for (part, payload) in (0..parts).zip(plain.chunks(PAYLOAD_BYTES)) {
            sector::write(out, key.seed, Place { ordinal, part, parts, synced }, payload);
        }
        out
    }
}

fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("bodies are checked when they are handed over").to_le_bytes()
}

/// Opens the payloads of the sectors of frame `ordinal`, put together.
pub(super) fn decode(mut payload: Vec<u8>, key: &SegmentKey, ordinal: u32) -> Result<Vec<Record>, Malformed> {
    let corrupt = |what| Malformed { code: Code::WalDeserializationFailure, what };
    let Some((head, rest)) = payload.split_first_chunk_mut::<HEAD_BYTES>() else {
        return Err(corrupt("a frame without a head"));
    };
    let mut fields = Cursor::new(head);
    let short = |_: Truncated| corrupt("a frame without a head");
    let (index, term) = (fields.u64().map_err(short)?, fields.u64().map_err(short)?);
    let (count, sealed) = (fields.u32().map_err(short)?, fields.u32().map_err(short)? as usize);
    let Some((sealed, padding)) = rest.split_at_mut_checked(sealed.saturating_add(TAG_BYTES)) else {
        return Err(corrupt("a frame that names more bytes than it has"));
    };
    if padding.len() >= PAYLOAD_BYTES || padding.iter().any(|byte| *byte != 0) {
        return Err(corrupt("a frame with something behind its records"));
    }
    let plain = key.file_key.open(u64::from(ordinal), head, sealed).map_err(|_| Malformed {
        code: Code::EncryptedStorageFailure,
        what: "a frame that is not what was sealed under the key of the segment",
    })?;
    let plain_len = plain.len();
    let plain = Bytes::from(payload).slice(HEAD_BYTES..HEAD_BYTES + plain_len);
    let records = split(&plain, index, count).map_err(|_| corrupt("a frame whose records do not fill it"))?;
    match records.first() {
        Some(first) if first.id.term == term => Ok(records),
        _ => Err(corrupt("a frame whose head disagrees with its first record")),
    }
}

fn split(plain: &Bytes, first: u64, count: u32) -> Result<Vec<Record>, Truncated> {
    let mut cursor = Cursor::new(plain);
    // The plain bytes are authentic, yet the count is not trusted ahead of them.
    let mut records = Vec::with_capacity((count as usize).min(plain.len() / RECORD_HEAD_BYTES));
    for nth in 0..u64::from(count) {
        let (term, leader, time_ms) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        let len = cursor.u32()? as usize;
        let body = plain.slice_ref(cursor.bytes(len)?);
        let index = first.checked_add(nth).ok_or(Truncated)?;
        records.push(Record { id: RecordId { term, leader, index }, time_ms, body });
    }
    if cursor.rest().is_empty() { Ok(records) } else { Err(Truncated) }
}
