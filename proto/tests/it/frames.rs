//! Frames beyond the vectors: limits, compression that must pay, and buffers that stay intact.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use vaylix_proto::frame::{COMPRESSION_THRESHOLD_BYTES, FRAME_LEN_MAX, HEADER_LEN};
use vaylix_proto::{Compression, FrameDecoder, FrameEncoder, WireError};
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, zstd_sys::ZSTD_EndDirective};

fn put(body: &[u8]) -> impl FnOnce(&mut BytesMut) -> Result<(), WireError> {
    move |out| {
        out.put_slice(body);
        Ok(())
    }
}

fn encoded(encoder: &mut FrameEncoder, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    encoder.encode(&mut out, put(body)).unwrap();
    out
}

fn is_compressed(frame: &[u8]) -> bool {
    frame[5] == 1
}

/// A frame that announces `payload` as compressed.
fn announced_as_compressed(payload: &[u8]) -> BytesMut {
    let mut frame = encoded(&mut FrameEncoder::new(Compression::None, 0, FRAME_LEN_MAX), payload);
    frame[5] = 1;
    frame
}

/// A zstd frame whose header does not say how much it holds.
fn zstd_of_unknown_size(content: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(len)
    .collect()
}

#[test]
fn a_body_above_the_limit_leaves_the_buffer_as_it_was() {
    let mut encoder = FrameEncoder::new(Compression::Zstd, 0, 100);
    let mut out = encoded(&mut encoder, b"first");
    let before = out.clone();
    let error = encoder.encode(&mut out, put(&[0; 101])).unwrap_err();
    assert_eq!(error, WireError::FrameTooLarge { size: 101, max: 100 });
    assert_eq!(error.to_string(), "frame too large: 101 bytes exceeds maximum 100 bytes");
    assert_eq!(out, before);
    encoder.encode(&mut out, put(&[0; 100])).unwrap();

    let mut decoder = FrameDecoder::new(100);
    assert_eq!(decoder.decode(&mut out).unwrap().as_deref(), Some(&b"first"[..]));
    assert_eq!(decoder.decode(&mut out).unwrap().as_deref(), Some(&[0; 100][..]));
    assert_eq!(decoder.decode(&mut out), Ok(None));
}

#[test]
fn a_body_that_fails_leaves_the_buffer_as_it_was() {
    let mut encoder = FrameEncoder::new(Compression::None, 0, FRAME_LEN_MAX);
    let mut out = BytesMut::from("before");
    let result = encoder.encode(&mut out, |out| {
        out.put_slice(b"half");
        Err(WireError::CorruptedPayload)
    });
    assert_eq!((result, &out[..]), (Err(WireError::CorruptedPayload), &b"before"[..]));
}

#[test]
fn compression_starts_at_the_threshold_and_must_shrink() {
    let mut encoder = FrameEncoder::new(Compression::Zstd, COMPRESSION_THRESHOLD_BYTES, FRAME_LEN_MAX);
    let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
    let noise = noise(4096);
    let text = [b'a'; 300_000];
    for (body, expected) in [
        (&text[..COMPRESSION_THRESHOLD_BYTES - 1], false),
        (&text[..COMPRESSION_THRESHOLD_BYTES], true),
        (&noise[..], false),
        (&text[..], true),
        (&[][..], false),
    ] {
        let frame = encoded(&mut encoder, body);
        assert_eq!(is_compressed(&frame), expected, "{} bytes", body.len());
        assert!(frame.len() <= HEADER_LEN + body.len());
        assert_eq!(decoder.decode_exact(&frame).unwrap(), body);
    }
    let mut plain = FrameEncoder::new(Compression::None, 0, FRAME_LEN_MAX);
    assert!(!is_compressed(&encoded(&mut plain, &text)));
}

#[test]
fn codecs_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<FrameEncoder>();
    is_send::<FrameDecoder>();
}

#[test]
fn contexts_survive_a_failure() {
    let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
    let good = announced_as_compressed(&zstd_of_unknown_size(&[7; 5000]));
    let cut = announced_as_compressed(&zstd_of_unknown_size(&noise(5000))[..4000]);
    for _ in 0..3 {
        assert_eq!(decoder.decode_exact(&good).unwrap(), [7; 5000][..]);
        assert_eq!(decoder.decode_exact(&cut), Err(WireError::CompressionFailure));
    }
}

#[test]
fn decompression_stops_behind_the_limit() {
    let payload = zstd_of_unknown_size(&vec![0; 64 << 20]);
    let frame = announced_as_compressed(&payload);
    for limit in [64, 1000, 300_000, FRAME_LEN_MAX] {
        if frame.len() > limit as usize {
            continue;
        }
        let error = FrameDecoder::new(limit).decode_exact(&frame).unwrap_err();
        let max = limit as usize;
        assert_eq!(error, WireError::DecompressedTooLarge { size: u64::from(limit) + 1, max });
    }

    let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
    for len in [1, 1000, 256 * 1024, 256 * 1024 + 1, 1_000_000] {
        let frame = announced_as_compressed(&zstd_of_unknown_size(&vec![1; len]));
        decoder.set_max_frame_len(len.try_into().unwrap());
        let fits = decoder.decode_exact(&frame);
        if frame.len() <= HEADER_LEN + len {
            assert_eq!(fits.unwrap(), vec![1; len]);
            decoder.set_max_frame_len(u32::try_from(len).unwrap() - 1);
            assert!(matches!(decoder.decode_exact(&frame), Err(WireError::DecompressedTooLarge { .. })));
        } else {
            assert!(matches!(fits, Err(WireError::FrameTooLarge { .. })));
        }
    }
}

#[test]
fn several_zstd_frames_share_one_limit() {
    let one = zstd_of_unknown_size(&[5; 600]);
    let two = announced_as_compressed(&[one.clone(), one.clone()].concat());
    assert_eq!(FrameDecoder::new(1200).decode_exact(&two).unwrap(), [5; 1200][..]);
    let error = FrameDecoder::new(1199).decode_exact(&two).unwrap_err();
    assert_eq!(error, WireError::DecompressedTooLarge { size: 1200, max: 1199 });

    let announced = zstd::bulk::compress(&[5; 600], 1).unwrap();
    let two = announced_as_compressed(&[one, announced].concat());
    let error = FrameDecoder::new(1199).decode_exact(&two).unwrap_err();
    assert_eq!(error, WireError::DecompressedTooLarge { size: 1200, max: 1199 });
}

#[test]
fn a_window_above_the_largest_frame_is_refused() {
    let content = vec![3; 4096];
    for (window_log, accepted) in [(23, true), (24, false), (27, false)] {
        let mut context = CCtx::create();
        context.set_parameter(CParameter::WindowLog(window_log)).unwrap();
        context.set_parameter(CParameter::ContentSizeFlag(false)).unwrap();
        let mut payload = Vec::with_capacity(4096);
        let mut out = OutBuffer::around(&mut payload);
        // Fed in two steps, so that the window is not cut down to the size of the content.
        let mut half = InBuffer::around(&content[..2048]);
        context.compress_stream2(&mut out, &mut half, ZSTD_EndDirective::ZSTD_e_flush).unwrap();
        let mut half = InBuffer::around(&content[2048..]);
        context.compress_stream2(&mut out, &mut half, ZSTD_EndDirective::ZSTD_e_end).unwrap();
        let result = FrameDecoder::new(FRAME_LEN_MAX).decode_exact(&announced_as_compressed(&payload));
        let expected =
            if accepted { Ok(Bytes::from(content.clone())) } else { Err(WireError::CompressionFailure) };
        assert_eq!(result, expected, "window of 2^{window_log}");
    }
}

#[test]
fn a_header_reserves_nothing() {
    let mut frame = encoded(&mut FrameEncoder::new(Compression::None, 0, FRAME_LEN_MAX), b"");
    frame[6..10].copy_from_slice(&FRAME_LEN_MAX.to_be_bytes());
    let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
    assert_eq!(decoder.needed(), HEADER_LEN);
    let mut input = BytesMut::from(&frame[..]);
    let capacity = input.capacity();
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(decoder.needed(), FRAME_LEN_MAX as usize);
    assert_eq!((input.len(), input.capacity()), (HEADER_LEN, capacity));
    frame[6..10].copy_from_slice(&(FRAME_LEN_MAX + 1).to_be_bytes());
    assert!(matches!(decoder.decode(&mut frame), Err(WireError::FrameTooLarge { .. })));
}

#[test]
fn many_frames_in_one_buffer_come_out_in_order_and_share_it() {
    let mut encoder = FrameEncoder::new(Compression::None, 0, FRAME_LEN_MAX);
    let mut input = BytesMut::new();
    for n in 0..100_u8 {
        encoder.encode(&mut input, put(&[n; 10])).unwrap();
    }
    let memory = input.as_ptr_range();
    let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
    for n in 0..100_u8 {
        let body = decoder.decode(&mut input).unwrap().unwrap();
        assert_eq!(body, [n; 10][..]);
        assert!(memory.contains(&body.as_ptr()));
    }
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(input.is_empty());
}
