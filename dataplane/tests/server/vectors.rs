//! Every recorded frame against a live server: what is malformed is refused or closed upon as it should be, and
//! never concerns anybody else.

use serde_json::Value;
use vaylix_proto::frame::FrameDecoder;
use vaylix_proto::request::{Metadata, Request};

use crate::support::{Client, Options, Server, code, command, plain_hello, request_frame};

const VECTORS: &str = include_str!("../../../proto/tests/data/vtp2-vectors.json");
const FRAME_LEN_MAX: u32 = 8_388_608;

fn vectors(kind: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    let chosen: Vec<Value> = all.into_iter().filter(|vector| vector["kind"] == kind).collect();
    assert!(!chosen.is_empty());
    chosen
}

fn bytes(vector: &Value) -> Vec<u8> {
    let hex = vector["hex"].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn name(vector: &Value) -> &str {
    vector["name"].as_str().unwrap()
}

fn frame_limit(vector: &Value) -> u32 {
    let limit = vector["fields"]["limits"]["max_frame_len"].as_u64();
    limit.map_or(FRAME_LEN_MAX, |limit| u32::try_from(limit).unwrap())
}

/// The request in a vector of kind `request`.
fn request(vector: &Value) -> Request {
    let body = FrameDecoder::new(FRAME_LEN_MAX).decode_exact(&bytes(vector)).unwrap();
    Request::decode(body).unwrap()
}

#[tokio::test]
async fn every_request_is_served() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    for vector in vectors("request") {
        let request = request(&vector);
        client.send(&bytes(&vector)).await;
        let response = client.response().await;
        assert_eq!(response.id, request.id, "{}", name(&vector));
        let shape = request.command().map(|command| command.reply_shape(false)).unwrap();
        let answer = response.reply(shape).unwrap_or_else(|error| panic!("{}: {error}", name(&vector)));
        let is_transport_error = answer.as_ref().is_err_and(|refusal| refusal.code.starts_with("TRN"));
        let is_late = request.metadata.deadline_ms == Some(0);
        assert_eq!(is_transport_error, is_late, "{}: {answer:?}", name(&vector));
        if vector["fields"]["command"] == "MULTI" {
            client.send(&request_frame(request.id, &Metadata::default(), &command("discard"))).await;
            assert!(client.response().await.payload.is_empty());
        }
    }
    server.close().await;
}

#[tokio::test]
async fn nothing_but_ping_is_served_before_login() {
    let server = Server::start(Options { login: true, ..Options::default() }).await;
    let mut client = server.connect().await;
    for vector in vectors("request") {
        let request = request(&vector);
        client.send(&bytes(&vector)).await;
        let answer = client.response().await.reply(request.command().unwrap().reply_shape(false)).unwrap();
        let name = name(&vector);
        match request.command().unwrap() {
            _ if request.metadata.deadline_ms == Some(0) => assert_eq!(code(&answer), "TRN-016", "{name}"),
            vaylix_proto::Command::Ping { .. } => assert!(answer.is_ok(), "{name}: {answer:?}"),
            vaylix_proto::Command::Auth { .. } => {
                assert!(matches!(code(&answer), "SRV-008" | "SRV-031" | "SRV-013"), "{name}: {answer:?}");
            }
            _ => assert!(matches!(code(&answer), "SRV-007" | "SRV-013"), "{name}: {answer:?}"),
        }
    }
    server.close().await;
}

#[tokio::test]
async fn hellos_are_negotiated_as_recorded() {
    let server = Server::open().await;
    for vector in vectors("client_hello") {
        let expected = &vector["fields"]["server_negotiation"];
        let mut client = Client::silent(server.address).await;
        client.send(&bytes(&vector)).await;
        let hello = client.hello().await;
        let name = name(&vector);
        let wants_too_little = vector["fields"]["max_frame_len"].as_u64().unwrap() < 64;
        match hello.agreement() {
            None => {
                assert!(expected["result"] == "rejected" || wants_too_little, "{name}: {hello:?}");
                assert_eq!(hello.rejection.code.as_deref(), Some("TRN-014"), "{name}");
                if !wants_too_little {
                    assert_eq!(hello.rejection.message.as_deref(), expected["message"].as_str(), "{name}");
                }
                client.is_closed().await;
            }
            Some(agreement) => {
                assert_eq!(expected["result"], "accepted", "{name}");
                assert_eq!(agreement.capabilities.0.to_string(), expected["accepted_capabilities"], "{name}");
                assert_eq!(u64::from(agreement.max_frame_len), expected["max_frame_len"], "{name}");
                let compression = format!("{:?}", agreement.compression).to_lowercase();
                assert_eq!(compression, expected["compression"], "{name}");
            }
        }
    }
    server.is_well().await;
    server.close().await;
}

#[tokio::test]
async fn malformed_requests_are_answered_where_possible_and_closed_upon_otherwise() {
    let server = Server::open().await;
    for vector in vectors("malformed") {
        if vector["fields"]["decode_as"] != "request" {
            continue;
        }
        let (name, input) = (name(&vector), bytes(&vector));
        let hello = vaylix_proto::hello::ClientHello { max_frame_len: frame_limit(&vector), ..plain_hello() };
        let (mut client, _) = Client::greet(server.address, &hello).await;
        client.send(&input).await;
        let body = FrameDecoder::new(FRAME_LEN_MAX).decode_exact(&input).ok();
        let is_framed = vector["fields"]["stage"] != "frame";
        let is_answerable = is_framed && body.is_some_and(|body| body.len() > 16);
        if is_answerable {
            let answer = client.response().await.reply(vaylix_proto::response::Shape::Empty).unwrap();
            // The short form of an address that older clients send is understood, then refused for what it asks.
            let expected = match name {
                "cluster_join_u16_address" => "SRV-016",
                _ => vector["expect_error"].as_str().unwrap(),
            };
            assert_eq!(code(&answer), expected, "{name}");
            assert!(client.say("ping").await.is_ok(), "{name}");
        } else {
            let served = usize::from(vector["fields"]["one_shot_only"] == true)
                + usize::from(name == "bad_two_frames_in_one_buffer");
            if matches!(vector["expect_error"].as_str(), Some("TRN-007")) || served > 0 {
                // Cut off in the middle: only the end of the stream shows that nothing follows.
                client.finish().await;
            }
            for _ in 0..served {
                client.response().await;
            }
            client.is_closed().await;
        }
        server.is_well().await;
    }
    server.close().await;
}

#[tokio::test]
async fn whatever_is_no_hello_is_closed_upon() {
    let server = Server::open().await;
    let others = ["request", "response", "server_hello", "frame", "malformed"];
    let inputs = others.iter().flat_map(|kind| vectors(kind));
    // A second hello is malformed only where it is the second.
    let inputs = inputs.filter(|vector| name(vector) != "body_client_hello_after_negotiation");
    let inputs = inputs.map(|vector| bytes(&vector));
    let strangers = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), b"*1\r\n$4\r\nPING\r\n".to_vec()];
    for input in inputs.chain(strangers) {
        let mut client = Client::silent(server.address).await;
        client.send(&input).await;
        client.finish().await;
        client.is_closed().await;
    }
    server.is_well().await;
    server.close().await;
}

#[tokio::test]
async fn messages_of_the_server_are_no_requests() {
    let server = Server::open().await;
    let kinds = ["response", "server_hello", "client_hello", "frame"];
    for vector in kinds.iter().flat_map(|kind| vectors(kind)) {
        let mut client = server.connect().await;
        client.send(&bytes(&vector)).await;
        client.finish().await;
        while let Some(body) = client.body().await {
            assert_eq!(body.get(16), Some(&1), "{}: only refusals", name(&vector));
        }
    }
    server.is_well().await;
    server.close().await;
}
