//! One request at a time: the order of checks, limits, deadlines, answers that do not fit, login.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use vaylix_access::{Limits, Metric, Rate};
use vaylix_proto::hello::ClientHello;
use vaylix_proto::request::Metadata;
use vaylix_proto::response::Shape;
use vaylix_proto::{Command, Reply, SetOptions};

use crate::support::{
    Client, Options, PASSWORD, Server, code, command, frame, id, plain_hello, quoted, value,
};

fn set(key: &str, value: Bytes) -> Command {
    Command::Set { key: key.into(), value, options: SetOptions::default() }
}

/// A request body with any opcode, flags and payload.
fn raw(flags: u8, opcode: u8, rest: &[u8]) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u8(flags);
    body.put_slice(&id(77));
    body.put_u8(opcode);
    body.put_slice(rest);
    frame(&body)
}

async fn refusal_of(client: &mut Client, request: &[u8]) -> String {
    client.send(request).await;
    let response = client.response().await;
    assert_eq!(response.id, id(77));
    response.reply(Shape::Empty).unwrap().unwrap_err().code.to_string()
}

#[tokio::test]
async fn what_has_an_id_is_answered_and_the_connection_stays() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    for opcode in [0x00, 0x4A, 0x7F, 0x80, 0xF0, 0xFF] {
        assert_eq!(refusal_of(&mut client, &raw(0, opcode, b"")).await, "TRN-002");
    }
    for flags in [0x08, 0x10, 0x80, 0xF0, 0xFF] {
        assert_eq!(refusal_of(&mut client, &raw(flags, 0x02, b"\0")).await, "TRN-008");
    }
    assert_eq!(refusal_of(&mut client, &raw(7, 0x02, b"short")).await, "TRN-007");
    assert_eq!(client.say("ping").await, Ok(value("PONG")));
    server.close().await;
}

#[tokio::test]
async fn opcodes_between_servers_are_refused() {
    let server = Server::start(Options { login: true, ..Options::default() }).await;
    let mut stranger = server.connect().await;
    let mut root = server.login().await;
    for opcode in 0x42..=0x49 {
        assert_eq!(refusal_of(&mut stranger, &raw(0, opcode, b"x")).await, "SRV-007");
        assert_eq!(refusal_of(&mut root, &raw(0, opcode, b"x")).await, "SRV-016");
    }
    server.close().await;
}

#[tokio::test]
async fn the_payload_limit_is_inclusive_and_answered() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    // 5 bytes are presence and length.
    let message = |len: usize| Command::Ping { message: Some("x".repeat(len).into()) };
    assert!(client.call(&message(1024 * 1024 - 5)).await.is_ok());
    let refused = client.call(&message(1024 * 1024 - 4)).await;
    assert_eq!(code(&refused), "SRV-013");
    assert!(refused.unwrap_err().message.contains("1048576"), "the limit is named");
    assert_eq!(client.say("ping").await, Ok(value("PONG")));
    server.close().await;
}

#[tokio::test]
async fn checks_come_in_order() {
    let server = Server::start(Options { login: true, ..Options::default() }).await;
    let mut client = server.connect().await;
    let late = Metadata { deadline_ms: Some(0), ..Metadata::default() };
    let oversized = Command::Get { key: "k".repeat(1025).into() };
    assert_eq!(code(&client.call_with(&late, &oversized).await), "TRN-016");
    assert_eq!(code(&client.call(&oversized).await), "SRV-013");
    assert_eq!(code(&client.say("get a").await), "SRV-007");
    assert_eq!(refusal_of(&mut client, &raw(0, 0x03, b"\0")).await, "TRN-007");
    assert_eq!(refusal_of(&mut client, &raw(1, 0x03, &[0; 8])).await, "TRN-016", "even if malformed");
    assert_eq!(server.metric(Metric::Requests), 3, "late ones do not count");
    server.close().await;
}

#[tokio::test]
async fn login_before_and_after() {
    let server = Server::start(Options { login: true, ..Options::default() }).await;
    let mut client = server.connect().await;
    assert_eq!(client.say("ping").await, Ok(value("PONG")));
    assert_eq!(code(&client.say("auth root wrong").await), "SRV-008");
    assert_eq!(code(&client.say("auth nobody wrong").await), "SRV-008");
    assert_eq!(code(&client.say("multi").await), "SRV-007");
    assert_eq!(client.say(&format!("auth root {}", quoted(PASSWORD))).await, Ok(Reply::Ok));
    assert_eq!(client.say("set a 1").await, Ok(Reply::Ok));
    assert_eq!(code(&client.say("auth root wrong").await), "SRV-008");
    assert_eq!(client.say("get a").await, Ok(value("1")), "the identity stays");
    assert_eq!(server.metric(Metric::LoginsSucceeded), 1);
    server.close().await;
}

#[tokio::test]
async fn the_rate_limit_refuses_and_the_connection_stays() {
    let rate = Rate { per_second: 1, burst: 5 };
    let limits = Limits { request_rate: rate, ..Limits::default() };
    let server = Server::start(Options { limits, ..Options::default() }).await;
    let mut client = server.connect().await;
    for _ in 0..5 {
        assert_eq!(client.say("ping").await, Ok(value("PONG")));
    }
    assert_eq!(code(&client.say("ping").await), "SRV-012");
    assert_eq!(refusal_of(&mut client, &raw(0, 0xFF, b"")).await, "SRV-012", "nonsense costs the same");
    server.is_well().await;
    server.close().await;
}

#[tokio::test]
async fn budgets_are_relative_and_generous_ones_do_not_matter() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    for deadline_ms in [10_000, 1_700_000_000_000, u64::MAX] {
        let metadata = Metadata { deadline_ms: Some(deadline_ms), ..Metadata::default() };
        assert_eq!(
            client.call_with(&metadata, &command("incr n")).await.unwrap(),
            match deadline_ms {
                10_000 => Reply::Integer(1),
                u64::MAX => Reply::Integer(3),
                _ => Reply::Integer(2),
            }
        );
    }
    server.close().await;
}

/// A budget that has run out while the request waited for its turn is refused, one that has begun is not.
#[tokio::test]
async fn what_waited_too_long_is_not_begun() {
    let server = Server::start(Options { login: true, ..Options::default() }).await;
    let mut client = server.login().await;
    // Hashing a password takes far longer than one millisecond, and the request behind it waits.
    let metadata = Metadata { deadline_ms: Some(1), ..Metadata::default() };
    let mut both = BytesMut::new();
    both.extend_from_slice(&crate::support::request_frame(
        id(1),
        &Metadata::default(),
        &command(&format!("auth root {}", quoted(PASSWORD))),
    ));
    both.extend_from_slice(&crate::support::request_frame(id(2), &metadata, &command("set late 1")));
    client.send(&both).await;
    assert_eq!(client.response().await.reply(Shape::Empty).unwrap(), Ok(Reply::Ok));
    assert_eq!(code(&client.response().await.reply(Shape::Empty).unwrap()), "TRN-016");
    assert_eq!(client.say("get late").await, Ok(Reply::NotFound));
    server.close().await;
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_refused_and_nothing_is_lost() {
    let server = Server::open().await;
    let mut writer = server.connect().await;
    let big = Bytes::from(vec![7; 5_000]);
    assert_eq!(writer.call(&set("big", big.clone())).await, Ok(Reply::Ok));
    assert_eq!(writer.say("set small 1").await, Ok(Reply::Ok));

    let mut client = Client::with_frames_of(server.address, 4096).await;
    for line in ["get big", "mget big", "list", "getdel big", "getex big ex 0", "set big 1 get"] {
        let refused = client.say(line).await;
        assert_eq!(code(&refused), "TRN-006", "{line}");
    }
    assert_eq!(client.say("getdel small").await, Ok(value("1")), "what fits is served");
    assert_eq!(writer.say("get big").await, Ok(Reply::Value(big.clone())), "and nothing was lost");

    assert_eq!(client.say("multi").await, Ok(Reply::Ok));
    assert_eq!(client.say("set other 1").await, Ok(value("QUEUED")));
    assert_eq!(client.say("getdel big").await, Ok(value("QUEUED")));
    let id = client.ask(&Command::Exec).await;
    let refused = client.response().await;
    assert_eq!(refused.id, id);
    assert_eq!(code(&refused.reply(Shape::Exec).unwrap()), "TRN-006");
    assert_eq!(code(&client.say("discard").await), "SRV-015", "EXEC ends it, whatever comes of it");
    assert_eq!(writer.say("get big").await, Ok(Reply::Value(big)));
    assert_eq!(writer.say("get other").await, Ok(Reply::NotFound));

    // What the transaction itself writes counts, too; what fits is carried out.
    let half = set("half", Bytes::from(vec![8; 2_000]));
    for gets in [3, 1] {
        assert_eq!(client.say("multi").await, Ok(Reply::Ok));
        assert_eq!(client.call(&half).await, Ok(value("QUEUED")));
        for _ in 0..gets {
            assert_eq!(client.say("get half").await, Ok(value("QUEUED")));
        }
        client.ask(&Command::Exec).await;
        let answer = client.response().await.reply(Shape::Exec).unwrap();
        if gets == 3 {
            assert_eq!(code(&answer), "TRN-006");
            assert_eq!(writer.say("get half").await, Ok(Reply::NotFound));
        } else {
            assert!(matches!(answer, Ok(Reply::Exec(results)) if results.len() == 2));
        }
    }
    server.close().await;
}

#[tokio::test]
async fn the_smallest_frames_still_carry_codes() {
    let server = Server::open().await;
    let mut client = Client::with_frames_of(server.address, 64).await;
    let refused = client.say("exec").await.unwrap_err();
    assert_eq!((&*refused.code, &*refused.name, &*refused.message), ("SRV-015", "No Active Transaction", ""));
    let hello = ClientHello { max_frame_len: 63, ..plain_hello() };
    let (mut refused, answer) = Client::greet(server.address, &hello).await;
    assert_eq!(answer.rejection.code.as_deref(), Some("TRN-014"));
    refused.is_closed().await;
    server.close().await;
}

#[tokio::test]
async fn compressed_answers_and_requests() {
    let server = Server::open().await;
    let (mut client, hello) = Client::greet(server.address, &ClientHello::new("test", "1")).await;
    assert_eq!(hello.agreement().unwrap().compression, vaylix_proto::frame::Compression::Zstd);
    let long = Bytes::from(vec![b'x'; 200_000]);
    assert_eq!(client.call(&set("long", long.clone())).await, Ok(Reply::Ok));
    assert_eq!(client.say("get long").await, Ok(Reply::Value(long)));
    server.close().await;
}

#[tokio::test]
async fn request_lines_are_no_obstacle_and_idle_sessions_end() {
    let settings = vaylix_dataplane::server::Settings {
        log_requests: true,
        idle_timeout: Some(Duration::from_millis(500)),
        ..Default::default()
    };
    let server = Server::start(Options { settings, ..Options::default() }).await;
    let mut client = server.connect().await;
    assert_eq!(client.say("ping").await, Ok(value("PONG")));
    client.is_closed().await;
    server.metric_becomes(Metric::IdleDisconnects, 1).await;
    server.close().await;
}
