//! The only place that names zstd: bounded decompression and compression that must pay for itself.

use bytes::Bytes;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use crate::error::WireError;

/// Fastest level of the format: frames are short-lived, and the network is seldom the bottleneck.
const LEVEL: i32 = 1;

/// Largest window a peer may make us keep: 2^23 bytes, the size of the largest frame.
const WINDOW_LOG_MAX: u32 = 23;

/// Output that is reserved before the first byte of it exists.
const OUTPUT_RESERVED_MAX: usize = 256 * 1024;

/// Output that a payload of unstated size is expected to have, per byte of input.
const RATIO_EXPECTED: usize = 4;

/// Smallest step by which output grows.
const OUTPUT_STEP_MIN: usize = 4096;

/// Working memory kept between frames; what a large frame needed beyond it is given back.
const RETAINED_SIZE_MAX: usize = 1024 * 1024;

/// Compresses bodies one at a time, reusing its working memory.
#[derive(Default)]
pub(crate) struct Compressor {
    context: Option<CCtx<'static>>,
    output: Vec<u8>,
}

impl Compressor {
    /// The compressed form of `body`, or `None` when it is not shorter.
    pub(crate) fn compress(&mut self, body: &[u8]) -> Option<&[u8]> {
        let size_max = body.len().checked_sub(1)?;
        if self.context.is_none() {
            let mut context = CCtx::try_create()?;
            context.set_parameter(CParameter::CompressionLevel(LEVEL)).ok()?;
            self.context = Some(context);
        }
        if self.output.len() < size_max {
            self.output.resize(size_max, 0);
        }
        let output = self.output.get_mut(..size_max)?;
        // Too little room is how zstd says that the result would not be shorter.
        let size = self.context.as_mut()?.compress2(output, body).ok()?;
        self.output.get(..size)
    }

    /// Gives back what a large body needed.
    pub(crate) fn shrink(&mut self) {
        if self.output.len() > RETAINED_SIZE_MAX {
            self.output = Vec::new();
        }
        self.context.take_if(|context| context.sizeof() > RETAINED_SIZE_MAX);
    }
}

/// Decompresses payloads one at a time, reusing its working memory.
#[derive(Default)]
pub(crate) struct Decompressor {
    context: Option<DCtx<'static>>,
}

impl Decompressor {
    /// The content of `payload`, which is one or more whole zstd frames and nothing else. At most `limit` + 1
    /// bytes are ever produced, and memory grows with the bytes produced, not with the bytes announced.
    pub(crate) fn decompress(&mut self, payload: &[u8], limit: usize) -> Result<Bytes, WireError> {
        if payload.is_empty() {
            return Err(WireError::CompressionFailure);
        }
        let mut context = match self.context.take() {
            Some(context) => context,
            None => new_context().ok_or(WireError::CompressionFailure)?,
        };
        let mut output = Vec::new();
        let mut rest = payload;
        while !rest.is_empty() {
            let consumed = append_frame(&mut context, rest, &mut output, limit)?;
            rest = rest.get(consumed..).unwrap_or_default();
        }
        if context.sizeof() <= RETAINED_SIZE_MAX {
            self.context = Some(context);
        }
        Ok(output.into())
    }
}

fn new_context() -> Option<DCtx<'static>> {
    let mut context = DCtx::try_create()?;
    context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).ok()?;
    Some(context)
}

/// Appends the content of the zstd frame that `input` starts with; returns how many bytes that frame has.
fn append_frame(
    context: &mut DCtx<'static>,
    input: &[u8],
    output: &mut Vec<u8>,
    limit: usize,
) -> Result<usize, WireError> {
    let failed = |_| WireError::CompressionFailure;
    let too_large = |size: u64| WireError::DecompressedTooLarge { size, max: limit };
    let room = limit.saturating_sub(output.len());
    let announced = zstd_safe::get_frame_content_size(input).map_err(|_| WireError::CompressionFailure)?;
    let expected = match announced.map(usize::try_from) {
        None => input.len().saturating_mul(RATIO_EXPECTED).min(room),
        Some(Ok(size)) if size <= room => size,
        Some(_) => return Err(too_large(announced.unwrap_or(0).saturating_add(as_u64(output.len())))),
    };
    output.reserve_exact(expected.min(OUTPUT_RESERVED_MAX));

    context.reset(ResetDirective::SessionOnly).map_err(failed)?;
    let mut source = InBuffer::around(input);
    loop {
        let filled = output.len();
        let mut target = OutBuffer::around_pos(output, filled);
        let pending = context.decompress_stream(&mut target, &mut source).map_err(failed)?;
        if output.len() > limit {
            return Err(too_large(as_u64(output.len())));
        }
        if pending == 0 {
            return Ok(source.pos());
        }
        if output.len() < output.capacity() {
            // There was room for more, so the input has ended inside the frame.
            return Err(WireError::CompressionFailure);
        }
        let until_too_large = limit.saturating_sub(output.len()).saturating_add(1);
        output.reserve_exact(output.len().max(OUTPUT_STEP_MIN).min(until_too_large));
    }
}

fn as_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}
