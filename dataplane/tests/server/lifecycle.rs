//! Who is let in, who has to leave, and how the server stops.

use std::time::Duration;

use vaylix_access::Metric;
use vaylix_dataplane::server::{Drained, Settings};
use vaylix_proto::Reply;
use vaylix_proto::request::Metadata;
use vaylix_proto::response::Shape;

use crate::support::{
    Client, Options, Server, command, hello_frame, id, plain_hello, request_frame, soon, value,
};

/// A thousand clients that say nothing, or not enough, keep nobody out and do not delay the stop.
#[tokio::test]
async fn silent_connections_are_no_obstacle() {
    // Both ends of the connections are in this process.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: files.maximum, ..files };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let settings = Settings { hello_timeout: Duration::from_secs(3600), ..Settings::default() };
    let mut server = Server::start(Options { settings, ..Options::default() }).await;
    let mut silent = Vec::new();
    for number in 0..1000 {
        let mut client = Client::silent(server.address).await;
        let hello = hello_frame(&plain_hello());
        client.send(&hello[..number % hello.len()]).await;
        silent.push(client);
    }
    server.is_well().await;
    server.metric_becomes(Metric::ConnectionsActive, 1000).await;
    server.stop();
    assert_eq!(server.stopped().await, Drained { aborted: 0 });
    for mut client in silent {
        client.is_closed().await;
    }
    server.close().await;
}

#[tokio::test]
async fn a_hello_that_does_not_come_ends_the_connection() {
    let settings = Settings { hello_timeout: Duration::from_millis(30), ..Settings::default() };
    let server = Server::start(Options { settings, ..Options::default() }).await;
    let mut silent = Client::silent(server.address).await;
    let mut slow = Client::silent(server.address).await;
    slow.send(&hello_frame(&plain_hello())[..20]).await;
    silent.is_closed().await;
    slow.is_closed().await;
    server.metric_becomes(Metric::ConnectionsActive, 0).await;
    assert_eq!(server.metric(Metric::ConnectionsCompleted), 2);
    assert_eq!(server.metric(Metric::ConnectionsAccepted), 2);
    server.close().await;
}

#[tokio::test]
async fn arrivals_are_bounded_and_the_oldest_leaves() {
    let settings = Settings { handshakes_max: 3, ..Settings::default() };
    let server = Server::start(Options { settings, ..Options::default() }).await;
    let mut silent = Vec::new();
    for number in 1..=4 {
        silent.push(Client::silent(server.address).await);
        if number < 4 {
            server.metric_becomes(Metric::ConnectionsActive, number).await;
        }
    }
    silent[0].is_closed().await;
    server.is_well().await;
    server.close().await;
}

#[tokio::test]
async fn a_full_server_sends_the_longest_idle_stranger_away() {
    let settings = Settings { sessions_max: 2, ..Settings::default() };
    let server = Server::start(Options { settings, login: true, ..Options::default() }).await;
    let mut user = server.login().await;
    let mut stranger = server.connect().await;
    assert_eq!(stranger.say("ping").await, Ok(value("PONG")));
    let mut newcomer = server.login().await;
    stranger.is_closed().await;
    assert_eq!(user.say("set a 1").await, Ok(Reply::Ok));
    assert_eq!(newcomer.say("get a").await, Ok(value("1")));

    let (mut refused, hello) = Client::greet(server.address, &plain_hello()).await;
    assert!(hello.agreement().is_none());
    assert_eq!(hello.rejection.code.as_deref(), Some("SRV-013"));
    assert_eq!(hello.rejection.name.as_deref(), Some("Quota Exceeded"));
    let message = hello.rejection.message.unwrap();
    assert!(message.contains("max_connections is 2"), "{message}");
    refused.is_closed().await;
    drop(user);
    server.metric_becomes(Metric::ConnectionsActive, 1).await;
    server.is_well().await;
    server.close().await;
}

#[tokio::test]
async fn stopping_closes_the_idle_and_answers_the_busy() {
    let mut server = Server::open().await;
    let (mut idle, mut busy) = (server.connect().await, server.connect().await);
    assert_eq!(idle.say("ping").await, Ok(value("PONG")));
    let mut input = bytes::BytesMut::new();
    for number in 1..=500 {
        input.extend_from_slice(&request_frame(id(number), &Metadata::default(), &command("incr n")));
    }
    busy.send(&input).await;
    // The first answer shows that the requests have arrived.
    assert_eq!(busy.response().await.id, id(1));
    server.stop();
    idle.is_closed().await;
    let mut answered = 1;
    while let Some(body) = busy.body().await {
        answered += 1;
        let response = vaylix_proto::response::Response::decode(body).unwrap();
        assert_eq!(response.id, id(answered), "in order and without gaps");
        assert!(response.reply(Shape::Integer).unwrap().is_ok());
    }
    let address = server.address;
    assert_eq!(server.stopped().await, Drained { aborted: 0 });
    let view = server.node.local();
    let stored = view.reader.get("n", view.now_ms).unwrap();
    assert_eq!(stored, answered.to_string(), "what was done was answered");
    assert!(soon(tokio::net::TcpStream::connect(address)).await.is_err(), "nobody listens any more");
    server.close().await;
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_when_the_grace_is_over() {
    let settings = Settings { shutdown_grace: Duration::from_millis(50), ..Settings::default() };
    let mut server = Server::start(Options { settings, ..Options::default() }).await;
    let mut client = server.connect().await;
    let message = "x".repeat(1_000_000);
    let ping = vaylix_proto::Command::Ping { message: Some(message.into()) };
    let mut sent = 0;
    // Until neither side takes any more.
    let flood = async {
        loop {
            client.ask(&ping).await;
            sent += 1;
        }
    };
    tokio::time::timeout(Duration::from_millis(500), flood).await.unwrap_err();
    assert!(sent > 0);
    server.stop();
    assert_eq!(server.stopped().await, Drained { aborted: 1 });
    server.close().await;
}
