//! Frames: the envelope of every message in both directions.
//!
//! | Offset | Size | Field | Value |
//! |---:|---:|---|---|
//! | 0 | 4 | magic | ASCII `VTP2` |
//! | 4 | 1 | version | 2 |
//! | 5 | 1 | flags | bit 0: the payload is zstd-compressed; all others 0 |
//! | 6 | 4 | length | bytes of payload as transmitted, big-endian |
//! | 10 | 4 | checksum | CRC-32 (ISO-HDLC) of the payload as transmitted, big-endian |
//! | 14 | length | payload | the body, or one or more zstd frames that hold it |
//!
//! The header is judged before the payload is awaited, in this order: magic, version, absolute limit, flags,
//! agreed limit. Then come checksum and decompression. Every failure is final for the connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::compress::{Compressor, Decompressor};
use crate::error::WireError;

/// Bytes of a frame before its payload.
pub const HEADER_LEN: usize = 14;
/// The first bytes of every frame.
pub const MAGIC: [u8; 4] = *b"VTP2";
/// The version of frames and hellos.
pub const VERSION: u8 = 2;
/// Largest payload and largest body of a frame in bytes; peers may agree on less.
pub const FRAME_LEN_MAX: u32 = 8_388_608;
/// Bodies of at least this many bytes are worth an attempt to compress them.
pub const COMPRESSION_THRESHOLD_BYTES: usize = 1024;

const FLAG_COMPRESSED: u8 = 1;

/// How a sender may shrink its payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Bodies travel as they are.
    #[default]
    None,
    /// Bodies may travel as zstd frames.
    Zstd,
}

/// A header that passed all checks that need only the header.
struct Header {
    compressed: bool,
    payload_len: usize,
    checksum: u32,
}

impl Header {
    /// Reads the header that `input` starts with; `None` when it is not complete.
    fn parse(input: &[u8], max_frame_len: u32) -> Result<Option<Self>, WireError> {
        let Some((header, _)) = input.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let [m0, m1, m2, m3, version, flags, l0, l1, l2, l3, c0, c1, c2, c3] = *header;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(WireError::InvalidFrame);
        }
        if version != VERSION {
            return Err(WireError::VersionMismatch { found: version });
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        check_size(size(length), FRAME_LEN_MAX)?;
        if flags & !FLAG_COMPRESSED != 0 {
            return Err(WireError::UnsupportedFrameFlags(flags));
        }
        check_size(size(length), max_frame_len)?;
        Ok(Some(Self {
            compressed: flags == FLAG_COMPRESSED,
            payload_len: size(length),
            checksum: u32::from_be_bytes([c0, c1, c2, c3]),
        }))
    }

    fn check(&self, payload: &[u8]) -> Result<(), WireError> {
        let found = crc32fast::hash(payload);
        if found == self.checksum {
            Ok(())
        } else {
            Err(WireError::ChecksumMismatch { expected: self.checksum, found })
        }
    }
}

fn size(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn check_size(bytes: usize, max: u32) -> Result<(), WireError> {
    if bytes > size(max) { Err(WireError::FrameTooLarge { size: bytes, max: size(max) }) } else { Ok(()) }
}

/// Turns bodies into frames.
pub struct FrameEncoder {
    compressor: Option<Compressor>,
    threshold_bytes: usize,
    max_frame_len: u32,
}

impl FrameEncoder {
    /// An encoder that attempts to compress bodies of at least `threshold_bytes` bytes when `compression` allows
    /// it, and refuses bodies above `max_frame_len` bytes.
    #[must_use]
    pub fn new(compression: Compression, threshold_bytes: usize, max_frame_len: u32) -> Self {
        let compressor = match compression {
            Compression::None => None,
            Compression::Zstd => Some(Compressor::default()),
        };
        Self { compressor, threshold_bytes, max_frame_len: max_frame_len.min(FRAME_LEN_MAX) }
    }

    /// Appends one frame to `out`. `body` appends the body to the buffer it is given and must leave what is
    /// already there alone.
    ///
    /// # Errors
    /// What `body` reports, or [`WireError::FrameTooLarge`] when the body is above the limit. `out` is then as
    /// it was before.
    pub fn encode(
        &mut self,
        out: &mut BytesMut,
        body: impl FnOnce(&mut BytesMut) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let start = out.len();
        let result = self.append(out, start, body);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn append(
        &mut self,
        out: &mut BytesMut,
        start: usize,
        body: impl FnOnce(&mut BytesMut) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        out.put_bytes(0, HEADER_LEN);
        let body_start = out.len();
        body(out)?;
        let mut flags = 0;
        let plain = out.get(body_start..).unwrap_or_default();
        check_size(plain.len(), self.max_frame_len)?;
        if let Some(compressor) = self.compressor.as_mut().filter(|_| plain.len() >= self.threshold_bytes) {
            if let Some(compressed) = compressor.compress(plain) {
                out.truncate(body_start);
                out.put_slice(compressed);
                flags = FLAG_COMPRESSED;
            }
            compressor.shrink();
        }
        let frame = out.get_mut(start..).unwrap_or_default();
        if let Some((header, payload)) = frame.split_first_chunk_mut::<HEADER_LEN>() {
            let length = u32::try_from(payload.len()).map_err(|_| WireError::CorruptedPayload)?;
            let mut header = header.as_mut_slice();
            header.put_slice(&MAGIC);
            header.put_u8(VERSION);
            header.put_u8(flags);
            header.put_u32(length);
            header.put_u32(crc32fast::hash(payload));
        }
        Ok(())
    }
}

/// Finds frames in a stream of bytes. It does no I/O and owns no buffer.
pub struct FrameDecoder {
    decompressor: Decompressor,
    max_frame_len: u32,
    needed: usize,
}

impl FrameDecoder {
    /// A decoder that refuses payloads and bodies above `max_frame_len` bytes.
    #[must_use]
    pub fn new(max_frame_len: u32) -> Self {
        let max_frame_len = max_frame_len.min(FRAME_LEN_MAX);
        Self { decompressor: Decompressor::default(), max_frame_len, needed: HEADER_LEN }
    }

    /// Changes the limit from the next frame on, which is what a finished negotiation does.
    pub fn set_max_frame_len(&mut self, max_frame_len: u32) {
        self.max_frame_len = max_frame_len.min(FRAME_LEN_MAX);
    }

    /// How many more bytes the last unfinished [`decode`](Self::decode) waited for: a hint for the next read,
    /// stated by the peer and therefore nothing to reserve at once.
    #[must_use]
    pub const fn needed(&self) -> usize {
        self.needed
    }

    /// Takes the next whole frame out of `input` and returns its body, which shares the memory of `input`
    /// unless it was compressed. `None`: more bytes are needed, and `input` is untouched.
    ///
    /// # Errors
    /// Any failure of the frame. The stream has no next frame then.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, WireError> {
        let Some(header) = Header::parse(input, self.max_frame_len)? else {
            self.needed = HEADER_LEN.saturating_sub(input.len());
            return Ok(None);
        };
        let frame_len = HEADER_LEN.saturating_add(header.payload_len);
        let Some(payload) = input.get(HEADER_LEN..frame_len) else {
            self.needed = frame_len.saturating_sub(input.len());
            return Ok(None);
        };
        header.check(payload)?;
        self.needed = HEADER_LEN;
        if header.compressed {
            let body = self.decompressor.decompress(payload, size(self.max_frame_len))?;
            input.advance(frame_len);
            return Ok(Some(body));
        }
        input.advance(HEADER_LEN);
        Ok(Some(input.split_to(header.payload_len).freeze()))
    }

    /// The body of the one frame that `input` consists of.
    ///
    /// # Errors
    /// [`WireError::UnexpectedEnd`] when the frame is not complete, [`WireError::InvalidFrame`] when bytes
    /// follow it, and any failure of the frame.
    pub fn decode_exact(&mut self, input: &[u8]) -> Result<Bytes, WireError> {
        let mut input = BytesMut::from(input);
        let body = self.decode(&mut input)?.ok_or(WireError::UnexpectedEnd)?;
        if input.is_empty() { Ok(body) } else { Err(WireError::InvalidFrame) }
    }
}
