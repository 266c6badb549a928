//! Requests, responses and hellos beyond the vectors.

use bytes::{Bytes, BytesMut};
use vaylix_proto::hello::{ClientHello, MAX_FRAME_LEN_MIN, ServerPolicy, negotiate};
use vaylix_proto::{
    Code, Command, Compression, Condition, ErrorReply, Metadata, Opcode, Reply, Request, Response,
    SetOptions, Shape, Status, WireError, encode_reply,
};

const ID: [u8; 16] = *b"0123456789abcdef";

fn request_body(command: &Command) -> Bytes {
    let mut out = BytesMut::new();
    Request::encode(ID, &Metadata::default(), command, &mut out).unwrap();
    out.freeze()
}

#[test]
fn keys_and_values_are_slices_of_the_body() {
    let set = Command::Set { key: "key".into(), value: "value".into(), options: SetOptions::default() };
    let body = request_body(&set);
    let memory = body.as_ptr_range();
    let Command::Set { key, value, .. } = Request::decode(body).unwrap().command().unwrap() else {
        panic!("SET is SET")
    };
    assert!(memory.contains(&key.as_bytes().as_ptr()) && memory.contains(&value.as_ptr()));

    let mut out = BytesMut::new();
    encode_reply(ID, &Ok(Reply::Value("value".into())), &mut out).unwrap();
    let body = out.freeze();
    let memory = body.as_ptr_range();
    let Ok(Ok(Reply::Value(value))) = Response::decode(body).unwrap().reply(Shape::Value) else {
        panic!("a value is a value")
    };
    assert!(memory.contains(&value.as_ptr()));
}

#[test]
fn whatever_has_an_id_can_be_answered() {
    let mut body = request_body(&Command::Ping { message: None }).to_vec();
    body[17] = 0x4A;
    let failure = Request::decode(body.clone().into()).unwrap_err();
    assert_eq!((failure.id, failure.error), (Some(ID), WireError::UnknownOpcode(0x4A)));
    assert_eq!(failure.to_string(), "unknown opcode: 0x4a");
    let reply = ErrorReply::from(failure.error);
    assert_eq!(reply.to_string(), "[TRN-002] Unknown Opcode: unknown opcode: 0x4a");

    for (len, id) in [(0, None), (1, None), (16, None), (17, Some(ID))] {
        let failure = Request::decode(Bytes::copy_from_slice(&body[..len])).unwrap_err();
        assert_eq!((failure.id, failure.error), (id, WireError::UnexpectedEnd), "{len} bytes");
    }
    body[0] = 8;
    let failure = Request::decode(body.into()).unwrap_err();
    assert_eq!((failure.id, failure.error), (Some(ID), WireError::CorruptedPayload));
}

#[test]
fn messages_between_servers_are_no_commands() {
    let internal: Vec<_> = Opcode::ALL.iter().filter(|opcode| opcode.is_internal()).collect();
    assert_eq!(internal.len(), 8);
    for opcode in internal {
        let mut out = BytesMut::new();
        Request::encode_opaque(ID, &Metadata::default(), *opcode, b"private", &mut out);
        let request = Request::decode(out.freeze()).unwrap();
        assert_eq!((request.opcode, &request.payload[..]), (*opcode, &b"private"[..]));
        assert_eq!(request.command().unwrap_err().code(), Code::TransportUnsupportedCommand);
    }
    for byte in 0..=u8::MAX {
        assert_eq!(Opcode::from_u8(byte).is_ok(), (0x01..=0x49).contains(&byte));
        assert!(Opcode::from_u8(byte).is_ok_and(|opcode| opcode.as_u8() == byte) || byte == 0 || byte > 0x49);
    }
}

#[test]
fn an_argument_too_long_for_its_field_is_refused() {
    let fits = Command::Get { key: "k".repeat(65_535).into() };
    assert_eq!(fits.encode_payload(&mut BytesMut::new()), Ok(()));
    let long = Command::Get { key: "k".repeat(65_536).into() };
    assert_eq!(long.encode_payload(&mut BytesMut::new()), Err(WireError::CorruptedPayload));
    let many = Command::Del { keys: vec!["k".into(); 65_536] };
    assert_eq!(many.encode_payload(&mut BytesMut::new()), Err(WireError::CorruptedPayload));
    let nested = Ok(Reply::Exec(vec![Reply::Exec(vec![])]));
    assert_eq!(encode_reply(ID, &nested, &mut BytesMut::new()), Err(WireError::CorruptedPayload));
}

#[test]
fn the_shape_of_an_answer_follows_from_the_question() {
    let set = |options| Command::Set { key: "k".into(), value: "v".into(), options };
    let plain = SetOptions::default();
    let conditional = SetOptions { condition: Condition::IfMissing, ..plain };
    let versioned = SetOptions { if_version: Some(1), ..plain };
    let previous = SetOptions { return_previous: true, ..conditional };
    for (command, alone, queued) in [
        (set(plain), Shape::Empty, Shape::Value),
        (set(conditional), Shape::Bool, Shape::Value),
        (set(versioned), Shape::Bool, Shape::Value),
        (set(previous), Shape::Value, Shape::Value),
        (Command::Get { key: "k".into() }, Shape::Value, Shape::Value),
        (Command::Del { keys: vec![] }, Shape::Count, Shape::Value),
        (Command::Ttl { key: "k".into() }, Shape::Integer, Shape::Value),
        (Command::MGet { keys: vec![] }, Shape::Strings, Shape::Value),
        (Command::List, Shape::Entries, Shape::Value),
        (Command::Scan { cursor: 0, pattern: None, count: None }, Shape::Scan, Shape::Value),
        (Command::Auth { user: "u".into(), password: "p".into() }, Shape::Empty, Shape::Empty),
        (Command::Exec, Shape::Exec, Shape::Exec),
        (Command::Discard, Shape::Empty, Shape::Empty),
    ] {
        assert_eq!(command.reply_shape(false), alone, "{command:?}");
        assert_eq!(command.reply_shape(true), queued, "{command:?}");
    }
}

#[test]
fn an_error_is_read_whatever_the_shape() {
    let error = ErrorReply::new(Code::PermissionDenied, "permission denied");
    let mut out = BytesMut::new();
    encode_reply(ID, &Err(error.clone()), &mut out).unwrap();
    let response = Response::decode(out.freeze()).unwrap();
    assert_eq!(response.status, Status::Error);
    for shape in [Shape::Empty, Shape::Value, Shape::Bool, Shape::Exec] {
        assert_eq!(response.reply(shape), Ok(Err(error.clone())));
    }
    assert_eq!(error.known_code(), Some(Code::PermissionDenied));
}

#[test]
fn a_client_keeps_its_own_limits() {
    let policy = ServerPolicy { compression: Compression::Zstd, max_frame_len: 5000 };
    let offer = ClientHello { max_frame_len: 4000, ..ClientHello::new("test", "1") };
    let answer = negotiate(&offer, &policy, [1; 16]);
    assert_eq!(answer.agreement().unwrap().max_frame_len, 4000);

    let mut greedy = answer.clone();
    greedy.max_frame_len = 9000;
    assert_eq!(greedy.accept(&offer).unwrap().max_frame_len, 4000);

    let plain = ClientHello { desired_compression: Compression::None, ..offer };
    let refused = answer.accept(&plain).unwrap_err();
    assert_eq!(refused.code(), Code::TransportCapabilityMismatch);
}

#[test]
fn a_frame_limit_that_carries_no_reply_is_refused() {
    let policy = ServerPolicy { compression: Compression::Zstd, max_frame_len: 5000 };
    for (max_frame_len, accepted) in [(0, false), (MAX_FRAME_LEN_MIN - 1, false), (MAX_FRAME_LEN_MIN, true)] {
        let offer = ClientHello { max_frame_len, ..ClientHello::new("test", "1") };
        let answer = negotiate(&offer, &policy, [1; 16]);
        assert_eq!(answer.agreement().is_some(), accepted, "{max_frame_len}");
        if let Err(refused) = answer.accept(&offer) {
            assert_eq!(
                refused.to_string(),
                "protocol negotiation failed: server rejected startup \
                 (protocol negotiation failed: max_frame_len is below 64 bytes)"
            );
        }
    }
}
