//! The connection against a scripted peer, friendly and hostile.

mod tls;

use std::future::Future;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use vaylix_proto::hello::ClientHello;
use vaylix_proto::{Code, NamedValue, SetOptions};

use super::*;
use crate::client::scripted::{ERROR, HELLO_NONE, OK, Peer, error, unhex, value};

/// Complete server hello frames.
const HELLO_ZSTD: &str =
    "565450320200000000230f5de0bcf102000000000000001f0100800000018f0f6f758d70c9b2de2b9f1cb3c99900000000";
const HELLO_SMALL_FRAMES: &str =
    "56545032020000000023586841dcf102000000000000001f0100000400018f0f6f758d70c9b2de2b9f1cb3c99900000000";
const HELLO_31_BYTES: &str =
    "5654503202000000001f8a067631f102000000000000001f0100800000018f0f6f758d70c9b2de2b9f1cb3c111";
const HELLO_REJECTED: &str = "565450320200000000843acd1935f1020000000000000000000080000000000000000000000000000000\
     0000000101000754524e2d30313401001b50726f746f636f6c204e65676f74696174696f6e204661696c6564010039\
     70726f746f636f6c206e65676f74696174696f6e206661696c65643a20756e737570706f727465642070726f746f636f6c\
     2076657273696f6e";
const HELLO_REJECTED_WITHOUT_DETAILS: &str =
    "565450320200000000231a9d44bdf102000000000000000000008000000000000000000000000000000000000001000000";
const HELLO_VERSION_3: &str =
    "5654503202000000002389bcc9abf103000000000000001f0100001000018f0f6f758d70c9b2de2b9f1cb3c99900000000";

fn get(key: &'static str) -> Command {
    Command::Get { key: key.into() }
}

async fn bind() -> (TcpListener, Config) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Config { port, connect_timeout: Duration::from_secs(30), ..Config::default() })
}

/// Runs `client` against a peer that has sent `hello` and then does `script`.
async fn meet<C, F, S, G>(hello: &str, script: S, client: C)
where
    C: FnOnce(Connection) -> F,
    F: Future<Output = ()>,
    S: FnOnce(Peer) -> G,
    G: Future<Output = ()>,
{
    let (listener, config) = bind().await;
    let peer = async {
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        peer.body().await;
        peer.hex(hello).await;
        script(peer).await;
    };
    let client = async { client(Connection::connect(&config).await.unwrap()).await };
    let both = async { tokio::join!(peer, client) };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("nobody waits for ever");
}

async fn startup_error(change: impl FnOnce(&mut Config), answer: &[u8]) -> Error {
    let (listener, mut config) = bind().await;
    change(&mut config);
    let peer = async {
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        peer.body().await;
        peer.stream.write_all(answer).await.unwrap();
        if !answer.is_empty() {
            peer.gone().await;
        }
    };
    let (result, ()) = tokio::join!(Connection::connect(&config), peer);
    result.expect_err("the startup exchange must fail")
}

#[tokio::test]
async fn startup_says_who_we_are() {
    let (listener, mut config) = bind().await;
    config.max_frame_len = 4096;
    config.client_name = "test".to_owned();
    let peer = async {
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        let hello = ClientHello::decode(&peer.body().await).unwrap();
        peer.hex(HELLO_ZSTD).await;
        hello
    };
    let (connection, hello) = tokio::join!(Connection::connect(&config), peer);
    let connection = connection.unwrap();
    assert_eq!(&*hello.client_name, "test");
    assert_eq!(hello.max_frame_len, 4096);
    assert!(!hello.auth_intent);
    assert!(connection.compression());
    assert_eq!(connection.max_frame_len(), 4096, "the server may not raise our limit");
    assert_eq!(connection.transaction(), Transaction::Closed);
}

#[tokio::test]
async fn startup_takes_lower_limits() {
    meet(HELLO_SMALL_FRAMES, Peer::gone, async |mut connection| {
        assert_eq!(connection.max_frame_len(), 1024);
        let large = Command::SetNx { key: "k".into(), value: vec![b'x'; 2000].into() };
        let refused = connection.call(&large).await.unwrap_err();
        assert_eq!(refused.code(), Code::FrameTooLarge);
        assert!(connection.is_usable(), "nothing was sent");
        assert!(matches!(connection.receive().await, Err(Error::NothingInFlight)));
    })
    .await;
}

#[tokio::test]
async fn startup_ends_with_a_code() {
    let unhexed = |hex| unhex(hex);
    let check = async |answer: &[u8], code: Code, message: &str| {
        let error = startup_error(|_| {}, answer).await;
        assert_eq!((error.code(), error.to_string()), (code, format!("transport failure: {message}")));
    };
    check(
        &unhexed(HELLO_REJECTED),
        Code::ProtocolNegotiationFailed,
        "protocol negotiation failed: server rejected startup (protocol negotiation failed: unsupported \
         protocol version)",
    )
    .await;
    check(
        &unhexed(HELLO_REJECTED_WITHOUT_DETAILS),
        Code::ProtocolNegotiationFailed,
        "protocol negotiation failed: server rejected startup",
    )
    .await;
    check(
        &unhexed(HELLO_VERSION_3),
        Code::ProtocolNegotiationFailed,
        "protocol negotiation failed: unsupported server protocol version",
    )
    .await;
    check(&unhexed(HELLO_31_BYTES), Code::UnexpectedEndOfFrame, "unexpected end of input").await;
    check(b"", Code::TransportIoFailure, "i/o error: the server closed the connection").await;
    check(b"HTTP/1.1 400 Bad Request\r\n\r\n", Code::InvalidFrame, "invalid frame").await;
}

#[tokio::test]
async fn startup_refuses_compression_it_did_not_ask_for() {
    let error = startup_error(|config| config.compression = false, &unhex(HELLO_ZSTD)).await;
    assert_eq!(error.code(), Code::TransportCapabilityMismatch);
}

#[tokio::test]
async fn startup_does_not_wait_for_a_silent_server() {
    let (listener, mut config) = bind().await;
    config.connect_timeout = Duration::from_millis(50);
    let error = Connection::connect(&config).await.unwrap_err();
    assert!(matches!(&error, Error::Io(io) if io.kind() == io::ErrorKind::TimedOut), "{error:?}");
    drop(listener);
}

#[tokio::test]
async fn answers_are_read_byte_by_byte() {
    let (listener, config) = bind().await;
    let peer = async {
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        peer.body().await;
        for byte in unhex(HELLO_NONE) {
            peer.stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let (id, _) = peer.request().await;
        for byte in peer.frame(id, OK, &value(b"paris")) {
            peer.stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let client = async {
        let mut connection = Connection::connect(&config).await.unwrap();
        connection.call(&get("city")).await
    };
    let ((), answer) = tokio::join!(peer, client);
    assert_eq!(answer.unwrap(), Ok(Reply::Value("paris".into())));
}

#[tokio::test]
async fn the_command_decides_how_an_answer_reads() {
    let script = async |mut peer: Peer| {
        let payloads: [(u8, Vec<u8>); 4] = [
            (OK, 5_u64.to_be_bytes().to_vec()),
            (OK, 5_i64.to_be_bytes().to_vec()),
            (2, vec![]),
            (ERROR, error("SRV-017", "Permission Denied", "permission denied")),
        ];
        for (status, payload) in payloads {
            let (id, _) = peer.request().await;
            peer.respond(id, status, &payload).await;
        }
    };
    meet(HELLO_NONE, script, async |mut connection| {
        let mut call = async |command| connection.call(&command).await.unwrap();
        assert_eq!(call(Command::DbSize).await, Ok(Reply::Count(5)));
        assert_eq!(call(Command::Incr { key: "n".into() }).await, Ok(Reply::Integer(5)));
        assert_eq!(call(get("k")).await, Ok(Reply::NotFound));
        let refusal = call(Command::Save).await.unwrap_err();
        assert_eq!(refusal.to_string(), "[SRV-017] Permission Denied: permission denied");
        assert!(connection.is_usable());
    })
    .await;
}

/// Whatever the peer makes of a LIST must be an error that ends the connection.
async fn hostile(code: Code, answer: impl FnOnce(&mut Peer, RequestId) -> Vec<u8>) {
    let script = async |mut peer: Peer| {
        let (id, _) = peer.request().await;
        let bytes = answer(&mut peer, id);
        peer.stream.write_all(&bytes).await.unwrap();
        peer.gone().await;
    };
    meet(HELLO_NONE, script, async |mut connection| {
        let error = connection.call(&Command::List).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(!connection.is_usable());
        assert!(matches!(connection.call(&Command::List).await, Err(Error::Unusable)));
    })
    .await;
}

#[tokio::test]
async fn hostile_answers_end_the_connection() {
    let entries = |count: u32| count.to_be_bytes().to_vec();
    hostile(Code::ResponseIdMismatch, |peer, _| peer.frame([9; 16], OK, &entries(0))).await;
    hostile(Code::UnexpectedEndOfFrame, |peer, id| peer.frame(id, OK, &entries(u32::MAX))).await;
    hostile(Code::CorruptedPayload, |peer, id| peer.frame(id, OK, &[entries(0), vec![0]].concat())).await;
    hostile(Code::UnknownStatus, |peer, id| peer.frame(id, 3, &[])).await;
    hostile(Code::UnexpectedEndOfFrame, |peer, id| peer.frame(id, ERROR, b"\x00\x07SRV")).await;
    hostile(Code::FrameTooLarge, |_, _| {
        [b"VTP2\x02\x00".as_slice(), &u32::MAX.to_be_bytes(), &[0; 4]].concat()
    })
    .await;
    hostile(Code::ChecksumMismatch, |peer, id| {
        let mut frame = peer.frame(id, OK, &entries(0));
        *frame.last_mut().unwrap() ^= 1;
        frame
    })
    .await;
}

#[tokio::test]
async fn pipelined_answers_come_in_order() {
    const COUNT: u64 = 100;
    let script = async |mut peer: Peer| {
        for number in 0..COUNT {
            let (id, _) = peer.request().await;
            peer.respond(id, OK, &number.to_be_bytes()).await;
        }
    };
    meet(HELLO_NONE, script, async |mut connection| {
        for _ in 0..COUNT {
            connection.send(&Command::DbSize).unwrap();
        }
        connection.flush().await.unwrap();
        for number in 0..COUNT {
            assert_eq!(connection.receive().await.unwrap(), Ok(Reply::Count(number)));
        }
        assert!(matches!(connection.receive().await, Err(Error::NothingInFlight)));
    })
    .await;
}

#[tokio::test]
async fn the_pipeline_is_bounded() {
    meet(HELLO_NONE, Peer::gone, async |mut connection| {
        for _ in 0..IN_FLIGHT_MAX {
            connection.send(&Command::DbSize).unwrap();
        }
        assert!(matches!(connection.send(&Command::DbSize), Err(Error::PipelineFull)));
        assert!(connection.is_usable());
    })
    .await;
}

#[tokio::test]
async fn a_long_pipeline_does_not_wedge() {
    // More in either direction than the buffers of two sockets hold.
    const COUNT: usize = 75;
    const SIZE: usize = 200_000;
    // Answers each request before it reads the next one, as a server with full buffers would.
    let script = async |mut peer: Peer| {
        for _ in 0..COUNT {
            let (id, _) = peer.request().await;
            peer.respond(id, OK, &value(&vec![b'x'; SIZE])).await;
        }
    };
    meet(HELLO_NONE, script, async |mut connection| {
        let options = SetOptions { return_previous: true, ..SetOptions::default() };
        let command = Command::Set { key: "k".into(), value: vec![b'y'; SIZE].into(), options };
        for _ in 0..COUNT {
            connection.send(&command).unwrap();
        }
        connection.flush().await.unwrap();
        for _ in 0..COUNT {
            let answer = connection.receive().await.unwrap();
            assert!(matches!(answer, Ok(Reply::Value(value)) if value.len() == SIZE));
        }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_call_does_not_confuse_the_next_one() {
    let script = async |mut peer: Peer| {
        let (first, _) = peer.request().await;
        let (second, _) = peer.request().await;
        peer.respond(first, OK, &value(b"first")).await;
        peer.respond(second, OK, &1_u64.to_be_bytes()).await;
    };
    meet(HELLO_NONE, script, async |mut connection| {
        let dropped = tokio::time::timeout(Duration::from_millis(20), connection.call(&get("k"))).await;
        assert!(dropped.is_err(), "the peer answers only later");
        assert_eq!(connection.call(&Command::DbSize).await.unwrap(), Ok(Reply::Count(1)));
    })
    .await;
}

#[tokio::test]
async fn queued_is_understood_only_inside_a_transaction() {
    let queued = || value(QUEUED);
    let script = async |mut peer: Peer| {
        let one_value = [&1_u32.to_be_bytes()[..], &[2], &value(b"v")].concat();
        let answers = [
            queued(),
            vec![],
            queued(),
            queued(),
            one_value,
            [&1_u32.to_be_bytes()[..], b"\0\x01k", &value(b"v")].concat(),
        ];
        for answer in answers {
            let (id, _) = peer.request().await;
            peer.respond(id, OK, &answer).await;
        }
    };
    meet(HELLO_NONE, script, async |mut connection| {
        let queued = || Ok(Reply::Value(QUEUED.into()));
        assert_eq!(connection.call(&get("k")).await.unwrap(), queued(), "a value that reads so");
        assert_eq!(connection.transaction(), Transaction::Closed);
        connection.call(&Command::Multi).await.unwrap().unwrap();
        assert_eq!(connection.transaction(), Transaction::Open);
        assert_eq!(connection.call(&Command::List).await.unwrap(), queued());
        assert_eq!(connection.call(&Command::DbSize).await.unwrap(), queued());
        let results = Reply::Exec(vec![Reply::Value("v".into())]);
        assert_eq!(connection.call(&Command::Exec).await.unwrap(), Ok(results));
        assert_eq!(connection.transaction(), Transaction::Closed);
        let entries = Reply::Entries(vec![NamedValue { name: "k".into(), value: "v".into() }]);
        assert_eq!(connection.call(&Command::List).await.unwrap(), Ok(entries));
    })
    .await;
}

#[tokio::test]
async fn requests_are_compressed_where_it_helps() {
    let noise: Vec<u8> = {
        // Nothing a compressor could use: a linear congruential generator's high bytes.
        let mut state = 1_u64;
        (0..4096)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect()
    };
    let values = [vec![b'a'; 4096], vec![b'a'; 100], noise];
    let expected = [true, false, false];
    let script = async |mut peer: Peer| {
        for compressed in expected {
            while peer.input.len() < 6 {
                peer.stream.read_buf(&mut peer.input).await.unwrap();
            }
            assert_eq!(peer.input[5] & 1 == 1, compressed);
            let (id, _) = peer.request().await;
            peer.respond(id, OK, &[1]).await;
        }
    };
    meet(HELLO_ZSTD, script, async |mut connection| {
        for value in values {
            let command = Command::SetNx { key: "k".into(), value: value.into() };
            assert_eq!(connection.call(&command).await.unwrap(), Ok(Reply::Bool(true)));
        }
    })
    .await;
}

#[tokio::test]
async fn logging_in_sends_the_credentials() {
    let (listener, mut config) = bind().await;
    config.credentials = Some(crate::client::Credentials::new("bob", "secret"));
    let peer = async {
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        assert!(ClientHello::decode(&peer.body().await).unwrap().auth_intent);
        peer.hex(HELLO_NONE).await;
        let (id, command) = peer.request().await;
        assert_eq!(command, Command::Auth { user: "bob".into(), password: "secret".into() });
        peer.respond(id, ERROR, &error("SRV-008", "Authentication Failed", "no")).await;
    };
    let client = async {
        let mut connection = Connection::connect(&config).await.unwrap();
        let refusal = connection.log_in(&config).await.unwrap().unwrap_err();
        assert_eq!(refusal.known_code(), Some(Code::AuthenticationFailed));
        assert!(connection.is_usable());
    };
    tokio::join!(peer, client);
}

#[test]
fn connections_can_move_between_threads() {
    fn send<T: Send>(_: fn(&'static Config, &'static mut Connection) -> T) {}
    send(|config, _| Connection::connect(config));
    send(|_, connection| connection.receive());
    send(|_, connection| connection.call(&Command::Multi));
}
