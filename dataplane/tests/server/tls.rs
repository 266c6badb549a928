//! TLS, spoken with the client library.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use vaylix_access::Metric;
use vaylix_dataplane::client::{Config, Connection, TlsOptions};
use vaylix_dataplane::server::Settings;
use vaylix_proto::{Command, Reply};

use crate::support::{Client, Options, Server, command, soon, value};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

/// A configuration with this certificate; the key always belongs to `server.pem`.
fn config(certificate: &str) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let certificates =
        CertificateDer::pem_file_iter(data(certificate)).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(data("server.key")).unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(certificates, key).unwrap())
}

#[tokio::test]
async fn sessions_over_tls() {
    let (material, tls) = watch::channel(config("server.pem"));
    let settings =
        Settings { tls: Some(tls), hello_timeout: Duration::from_millis(1500), ..Settings::default() };
    let server = Server::start(Options { settings, ..Options::default() }).await;
    let config_of_client = Config {
        port: server.address.port(),
        tls: Some(TlsOptions { ca_cert: Some(data("ca.pem")), identity: None }),
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

    // Plaintext on a TLS port, and silence: neither is a session.
    let mut stranger = Client::silent(server.address).await;
    stranger.send(b"VTP2 is not TLS").await;
    while soon(stranger.stream.readable()).await.is_ok() {
        let mut alert = [0; 64];
        match stranger.stream.try_read(&mut alert) {
            Ok(0) => break,
            Ok(count) => assert_ne!(&alert[..count.min(4)], b"VTP2"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    Client::silent(server.address).await.is_closed().await;

    // New material counts for new connections; the session goes on with the old.
    material.send(config("server.pem")).unwrap();
    let mut second = soon(Connection::connect(&config_of_client)).await.unwrap();
    assert_eq!(soon(second.call(&command("ping"))).await.unwrap(), Ok(value("PONG")));
    assert_eq!(soon(client.call(&command("ping"))).await.unwrap(), Ok(value("PONG")));
    assert_eq!(server.metric(Metric::ConnectionsAccepted), 4);
    drop((client, second));
    server.close().await;
}
