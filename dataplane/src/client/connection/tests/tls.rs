//! Connections over TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::client::{ClientIdentity, TlsOptions};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

fn certificates(name: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(data(name)).unwrap().map(Result::unwrap).collect()
}

fn acceptor(demand_certificate: bool) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = if demand_certificate {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates("ca.pem"));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(data("server.key")).unwrap();
    TlsAcceptor::from(Arc::new(builder.with_single_cert(certificates("server.pem"), key).unwrap()))
}

/// Connects to a server on this machine, known by `host`, and exchanges hellos.
async fn connect(host: &str, tls: TlsOptions, demand_certificate: bool) -> Result<Connection, Error> {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Config { host: host.to_owned(), port, tls: Some(tls), ..Config::default() };
    let server = async {
        let stream = listener.accept().await.unwrap().0;
        // A handshake that fails is the client's story to tell.
        let Ok(mut stream) = acceptor(demand_certificate).accept(stream).await else { return };
        if stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {
            stream.write_all(&unhex(HELLO_NONE)).await.unwrap();
            stream.flush().await.unwrap();
        }
    };
    tokio::join!(Connection::connect(&config), server).0
}

fn trusting() -> TlsOptions {
    TlsOptions { ca_cert: Some(data("ca.pem")), ..TlsOptions::default() }
}

fn identity() -> Option<ClientIdentity> {
    Some(ClientIdentity { cert: data("client.pem"), key: data("client.key") })
}

#[tokio::test]
async fn a_trusted_server_is_accepted() {
    let connection = connect("127.0.0.1", trusting(), false).await.unwrap();
    assert!(matches!(connection.into_parts().stream, Stream::Tls(_)));
    connect("localhost", trusting(), false).await.unwrap();
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let strangers = TlsOptions { ca_cert: Some(data("server.pem")), ..TlsOptions::default() };
    let error = connect("127.0.0.1", strangers, false).await.unwrap_err();
    assert_eq!(error.code(), Code::TransportIoFailure, "{error}");
}

#[tokio::test]
async fn a_server_with_another_name_is_refused() {
    let error = connect("127.0.0.2", trusting(), false).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_when_demanded() {
    connect("127.0.0.1", TlsOptions { identity: identity(), ..trusting() }, true).await.unwrap();
    let error = connect("127.0.0.1", trusting(), true).await.unwrap_err();
    assert_eq!(error.code(), Code::TransportIoFailure, "{error}");
}

#[tokio::test]
async fn a_server_without_tls_is_an_error() {
    let (listener, mut config) = bind().await;
    config.tls = Some(trusting());
    let server = async {
        let mut stream = listener.accept().await.unwrap().0;
        assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
    };
    let (result, ()) = tokio::join!(Connection::connect(&config), server);
    assert_eq!(result.unwrap_err().code(), Code::TransportIoFailure);
}
