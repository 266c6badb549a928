//! TLS, spoken with the client library.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use vaylix_access::Metric;
use vaylix_dataplane::client::{Config, Connection, Credentials, TlsOptions};
use vaylix_dataplane::server::Settings;
use vaylix_proto::{Command, Reply};
use vaylix_tls::{Files, Keeper};

use crate::support::{Client, Options, PASSWORD, Server, command, plain_hello, soon, value};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

fn files() -> Files {
    Files { cert: data("server.pem"), key: data("server.key"), client_ca: None }
}

#[tokio::test]
async fn sessions_over_tls() {
    let keeper = Keeper::open(files()).await.unwrap();
    let settings = Settings {
        tls: Some(keeper.current()),
        hello_timeout: Duration::from_millis(1500),
        ..Settings::default()
    };
    let server = Server::start(Options { settings, ..Options::default() }).await;
    let config_of_client = Config {
        port: server.address.port(),
        tls: Some(TlsOptions { ca_cert: Some(data("ca.pem")), ..TlsOptions::default() }),
        ..Config::default()
    };
    let mut client = soon(Connection::connect(&config_of_client)).await.unwrap();
    let big = Command::Set {
        key: "big".into(),
        value: vec![9; 250_000].into(),
        options: vaylix_proto::SetOptions::default(),
    };
    assert_eq!(soon(client.call(&big)).await.unwrap(), Ok(Reply::Ok));
    for _ in 0..100 {
        client.send(&command("incr n")).unwrap();
    }
    client.send(&command("get big")).unwrap();
    soon(client.flush()).await.unwrap();
    for n in 1..=100 {
        assert_eq!(soon(client.receive()).await.unwrap(), Ok(Reply::Integer(n)));
    }
    assert!(
        matches!(soon(client.receive()).await.unwrap(), Ok(Reply::Value(value)) if value.len() == 250_000)
    );

    // Another protocol on a TLS port, and silence: neither is a session.
    let mut stranger = Client::silent(server.address).await;
    stranger.send(b"GET / HTTP/1.1\r\n\r\n").await;
    let mut alert = Vec::new();
    soon(stranger.stream.read_to_end(&mut alert)).await.unwrap();
    assert_eq!(alert.first(), Some(&21), "an alert in TLS: {alert:?}");
    Client::silent(server.address).await.is_closed().await;

    // New material counts for new connections; the session goes on with the old.
    let asked = Arc::new(Notify::new());
    asked.notify_one();
    let following = tokio::spawn(keeper.follow(server.door.clone(), asked));
    server.metric_becomes(Metric::TlsReloads, 1).await;
    let mut second = soon(Connection::connect(&config_of_client)).await.unwrap();
    assert_eq!(soon(second.call(&command("ping"))).await.unwrap(), Ok(value("PONG")));
    assert_eq!(soon(client.call(&command("ping"))).await.unwrap(), Ok(value("PONG")));
    assert_eq!(server.metric(Metric::ConnectionsAccepted), 4);
    assert_eq!(server.metric(Metric::TlsHandshakeFailures), 1, "silence is no handshake");
    following.abort();
    drop((client, second));
    server.close().await;
}

#[tokio::test]
async fn a_client_without_tls_is_told_so_in_its_own_protocol() {
    let keeper = Keeper::open(files()).await.unwrap();
    let settings = Settings { tls: Some(keeper.current()), ..Settings::default() };
    let server = Server::start(Options { settings, ..Options::default() }).await;
    let (mut client, hello) = Client::greet(server.address, &plain_hello()).await;
    assert!(hello.agreement().is_none(), "{hello:?}");
    assert_eq!(hello.rejection.code.as_deref(), Some("SRV-011"));
    client.is_closed().await;
    let config = Config { port: server.address.port(), ..Config::default() };
    let error = soon(Connection::connect(&config)).await.unwrap_err();
    assert_eq!(error.code().code(), "TRN-014");
    assert!(error.to_string().contains("--ssl"), "{error}");
    server.metric_becomes(Metric::TlsHandshakeFailures, 2).await;
    server.close().await;
}

/// Handshakes that do not go on hold up nobody, and end with the time for the hello.
#[tokio::test]
async fn unfinished_handshakes_delay_nobody_and_end() {
    let keeper = Keeper::open(files()).await.unwrap();
    let hello_timeout = Duration::from_secs(2);
    let settings = Settings { tls: Some(keeper.current()), hello_timeout, ..Settings::default() };
    let server = Server::start(Options { settings, ..Options::default() }).await;
    let begun = Instant::now();
    let mut hesitant = Vec::new();
    for number in 0..300_usize {
        let mut client = Client::silent(server.address).await;
        // The beginning of a record that announces 512 bytes of a handshake.
        client.send(&[22, 3, 1, 2, 0, 1, 0, 1][..number % 9]).await;
        hesitant.push(client);
    }
    server.metric_becomes(Metric::ConnectionsActive, 300).await;
    // One of them goes on, a byte at a time, for longer than it may.
    let mut dripping = hesitant.swap_remove(4);
    let drip = tokio::spawn(async move {
        while dripping.stream.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Instant::now()
    });
    let config = Config {
        port: server.address.port(),
        tls: Some(TlsOptions { ca_cert: Some(data("ca.pem")), ..TlsOptions::default() }),
        ..Config::default()
    };
    let mut client = soon(Connection::connect(&config)).await.unwrap();
    assert_eq!(soon(client.call(&command("ping"))).await.unwrap(), Ok(value("PONG")));
    assert!(begun.elapsed() < hello_timeout, "served while all the others hesitate");
    for client in &mut hesitant {
        let mut rest = Vec::new();
        // However it ends, it ends.
        drop(soon(client.stream.read_to_end(&mut rest)).await);
    }
    let ended = soon(drip).await.unwrap();
    assert!(ended - begun >= hello_timeout, "time is not cut short");
    server.metric_becomes(Metric::ConnectionsActive, 1).await;
    drop(client);
    server.close().await;
}

/// Sessions are bounded over TLS as they are without, and unfinished handshakes take none of their places.
#[tokio::test]
async fn places_are_for_those_who_have_said_hello() {
    let keeper = Keeper::open(files()).await.unwrap();
    let settings =
        Settings { tls: Some(keeper.current()), sessions_max: 1, handshakes_max: 2, ..Settings::default() };
    let server = Server::start(Options { settings, login: true, ..Options::default() }).await;
    let config = Config {
        port: server.address.port(),
        tls: Some(TlsOptions { ca_cert: Some(data("ca.pem")), ..TlsOptions::default() }),
        credentials: Some(Credentials::new("root", PASSWORD)),
        ..Config::default()
    };
    let mut silent = Vec::new();
    for number in 1..=3 {
        silent.push(Client::silent(server.address).await);
        if number < 3 {
            server.metric_becomes(Metric::ConnectionsActive, number).await;
        }
    }
    silent[0].is_closed().await;
    let mut user = soon(Connection::connect(&config)).await.unwrap();
    assert_eq!(soon(user.log_in(&config)).await.unwrap(), Ok(Reply::Ok));
    let error = soon(Connection::connect(&config)).await.unwrap_err();
    assert!(error.to_string().contains("max_connections is 1"), "{error}");
    drop(user);
    server.close().await;
}
