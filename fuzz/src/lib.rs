//! What must hold for any bytes at all: one function per fuzz target.
//!
//! Each function takes arbitrary bytes and panics when a property of the codec is broken. `cargo +nightly fuzz run <name>`
//! feeds them from libFuzzer; the tests of `proto` include this file and feed them a bounded, repeatable set.

use bytes::{Bytes, BytesMut};
use vaylix_proto::frame::{FRAME_LEN_MAX, HEADER_LEN, MAGIC, VERSION};
use vaylix_proto::hello::{ClientHello, ServerHello, ServerPolicy, negotiate};
use vaylix_proto::text::{Line, parse_line};
use vaylix_proto::{
    Code, Command, Compression, FrameDecoder, FrameEncoder, Request, Response, Shape, Status, WireError,
    encode_reply,
};

/// Frames: however a stream is cut, the same frames and the same failure come out of it, and every body that
/// comes out can go in again. The same bytes are also tried as a body and as a compressed payload.
pub fn frame(data: &[u8]) {
    let whole = frames(&[data]);
    let step = data.first().map_or(1, |byte| usize::from(*byte).max(1));
    let pieces: Vec<&[u8]> = data.chunks(step).collect();
    assert_eq!(whole, frames(&pieces), "the cuts of a stream change what is read from it");
    for body in whole.0.iter().map(|body| &body[..]).chain([data]) {
        for compression in [Compression::None, Compression::Zstd] {
            let mut out = BytesMut::new();
            FrameEncoder::new(compression, 0, FRAME_LEN_MAX)
                .encode(&mut out, |out| {
                    out.extend_from_slice(body);
                    Ok(())
                })
                .expect("a body within the limit has a frame");
            assert_eq!(FrameDecoder::new(FRAME_LEN_MAX).decode_exact(&out).as_deref(), Ok(body));
        }
    }
    let limit = u32::try_from(data.len()).expect("inputs are short").saturating_mul(64).min(FRAME_LEN_MAX);
    if let Ok(body) = FrameDecoder::new(limit).decode_exact(&compressed_frame(data)) {
        assert!(body.len() <= limit as usize, "a body of {} bytes passed a limit of {limit}", body.len());
    }
}

/// The frames of a stream that arrives in `pieces`, and the failure that ends it.
fn frames(pieces: &[&[u8]]) -> (Vec<Bytes>, Option<WireError>) {
    let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
    let (mut input, mut bodies) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(body)) => bodies.push(body),
                Ok(None) => break,
                Err(error) => return (bodies, Some(error)),
            }
        }
        assert!(decoder.needed() >= 1, "waiting for nothing");
    }
    (bodies, None)
}

/// A frame with a valid header that says that `payload` is compressed.
fn compressed_frame(payload: &[u8]) -> Vec<u8> {
    // The encoder computes length and checksum; only the flag is added.
    let mut out = BytesMut::new();
    FrameEncoder::new(Compression::None, 0, FRAME_LEN_MAX)
        .encode(&mut out, |out| {
            out.extend_from_slice(payload);
            Ok(())
        })
        .expect("inputs are short");
    assert_eq!((&out[..4], out[4], out.len()), (&MAGIC[..], VERSION, HEADER_LEN + payload.len()));
    out[5] = 1;
    out.to_vec()
}

/// Requests: a failure names the request when it had an id; what is understood survives being written again.
pub fn request(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let request = match Request::decode(body) {
        Ok(request) => request,
        Err(failure) => {
            assert_eq!(failure.id.as_ref().map(<[u8; 16]>::as_slice), data.get(1..17));
            return;
        }
    };
    match request.command() {
        Ok(command) => {
            let mut out = BytesMut::new();
            Request::encode(request.id, &request.metadata, &command, &mut out)
                .expect("what was read fits its fields");
            let again = Request::decode(out.freeze()).expect("what was written is a request");
            assert_eq!(
                (again.id, again.metadata, again.opcode),
                (request.id, request.metadata, request.opcode)
            );
            assert_eq!(again.command().as_ref(), Ok(&command));
        }
        Err(error) => {
            assert_eq!(error.code() == Code::TransportUnsupportedCommand, request.opcode.is_internal());
        }
    }
}

/// Responses: read under a shape chosen by the first byte, what is understood survives being written again.
pub fn reply(data: &[u8]) {
    const SHAPES: [Shape; 9] = [
        Shape::Empty,
        Shape::Value,
        Shape::Bool,
        Shape::Count,
        Shape::Integer,
        Shape::Entries,
        Shape::Strings,
        Shape::Scan,
        Shape::Exec,
    ];
    let Some((choice, body)) = data.split_first() else { return };
    let shape = SHAPES[usize::from(*choice) % SHAPES.len()];
    let Ok(response) = Response::decode(Bytes::copy_from_slice(body)) else { return };
    let Ok(reply) = response.reply(shape) else { return };
    assert_eq!(reply.is_err(), response.status == Status::Error);
    let mut out = BytesMut::new();
    encode_reply(response.id, &reply, &mut out).expect("what was read fits its fields");
    assert_eq!(out, body, "a reply has one form");
}

/// Hellos: they have one form each, and any two of them lead to an agreement or a refusal, on both sides alike.
pub fn hello(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    if let Ok(hello) = ClientHello::decode(&body) {
        let mut out = BytesMut::new();
        hello.encode(&mut out).expect("what was read fits its fields");
        assert_eq!(out, body);
        let policy = ServerPolicy { compression: Compression::Zstd, max_frame_len: FRAME_LEN_MAX };
        let answer = negotiate(&hello, &policy, [0; 16]);
        let mut out = BytesMut::new();
        answer.encode(&mut out).expect("our own words fit their fields");
        let answer = ServerHello::decode(&out.freeze()).expect("our own answer is a hello");
        assert_eq!(answer.agreement(), answer.accept(&hello).ok(), "the two sides disagree");
    }
    if let Ok(hello) = ServerHello::decode(&body) {
        let mut out = BytesMut::new();
        hello.encode(&mut out).expect("what was read fits its fields");
        assert_eq!(out, body);
        if let Ok(agreement) = hello.accept(&ClientHello::new("fuzz", "0")) {
            assert!(agreement.max_frame_len <= FRAME_LEN_MAX);
        }
    }
}

/// Lines of text: a command that was understood can be sent, or is too long for the wire.
pub fn command_text(data: &[u8]) {
    let line = String::from_utf8_lossy(data);
    match parse_line(&line) {
        Ok(Line::Command(command)) => {
            let mut out = BytesMut::new();
            match command.encode_payload(&mut out) {
                Ok(()) => {
                    let again = Command::decode(command.opcode(), &out.freeze());
                    assert_eq!(again.as_ref(), Ok(&command));
                }
                Err(error) => {
                    assert_eq!(error, WireError::CorruptedPayload);
                    assert!(line.len() > usize::from(u16::MAX), "a short line does not fit the wire");
                }
            }
        }
        Ok(Line::Help | Line::Exit) => {}
        Err(error) => assert!(error.code().code().starts_with("CMD-"), "{error}"),
    }
}
