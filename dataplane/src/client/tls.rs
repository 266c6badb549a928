//! TLS for the client: rustls with the ring provider, system roots unless a CA file replaces them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::Error;
use super::stream::Stream;

/// How to trust a server and how to prove who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM bundle that is trusted instead of the system's roots.
    pub ca_cert: Option<PathBuf>,
    /// Client certificate, for servers that demand one.
    pub identity: Option<ClientIdentity>,
    /// Whether whoever answers is taken for the server, whatever its certificate says. For probes on one machine:
    /// whoever is between client and server could read and change everything.
    pub trusts_anybody: bool,
}

/// A client certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// PEM certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// Runs the TLS handshake over `tcp`; the server must prove to be `host`.
pub(super) async fn handshake(options: &TlsOptions, host: &str, tcp: TcpStream) -> Result<Stream, Error> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Error::Configuration(format!("{host} cannot be a TLS server name")))?;
    let connector = TlsConnector::from(Arc::new(client_config(options)?));
    let stream = connector.connect(name, tcp).await.map_err(|source| Error::TlsHandshake { source })?;
    Ok(Stream::Tls(Box::new(stream)))
}

fn client_config(options: &TlsOptions) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Configuration(error.to_string()))?;
    let builder = if options.trusts_anybody {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        builder.with_root_certificates(roots(options.ca_cert.as_deref())?)
    };
    match &options.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => builder
            .with_client_auth_cert(certificates(&identity.cert)?, private_key(&identity.key)?)
            .map_err(|error| Error::Configuration(format!("client certificate: {error}"))),
    }
}

/// Takes every certificate for that of the server. Signatures are verified all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn roots(ca_cert: Option<&Path>) -> Result<RootCertStore, Error> {
    if let Some(path) = ca_cert {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| Error::Configuration(format!("{}: {error}", path.display())))?;
        }
        return Ok(roots);
    }
    system_roots().map_err(|reason| Error::Configuration(format!("{reason}; name a CA file")))
}

/// The authorities that this system trusts.
pub(crate) fn system_roots() -> Result<RootCertStore, &'static str> {
    let mut roots = RootCertStore::empty();
    // A system bundle may hold a few entries that cannot be used; what counts is that some can.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err("no trusted certificates found on this system") } else { Ok(roots) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| pem_error(path, error))?;
    if certificates.is_empty() {
        return Err(Error::Configuration(format!("{}: no certificate found", path.display())));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| pem_error(path, error))
}

fn pem_error(path: &Path, error: pem::Error) -> Error {
    match error {
        pem::Error::Io(source) => Error::File { path: path.to_owned(), source },
        other => Error::Configuration(format!("{}: {other}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn ca(path: &Path) -> TlsOptions {
        TlsOptions { ca_cert: Some(path.to_owned()), ..TlsOptions::default() }
    }

    #[test]
    fn a_missing_ca_file_is_named() {
        let error = client_config(&ca(Path::new("/nonexistent/ca.pem"))).unwrap_err();
        assert!(matches!(&error, Error::File { path, source }
            if path.ends_with("ca.pem") && source.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = client_config(&ca(file.path())).unwrap_err();
        assert!(matches!(error, Error::Configuration(message) if message.ends_with("no certificate found")));
    }
}
