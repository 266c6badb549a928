//! Files that were checked, ready to accept and to open connections with.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use vaylix_access::Certificate;

use crate::certificate::Stated;
use crate::error::Error;
use crate::files::{Contents, Digest, Files};

/// What ALPN calls HTTP/2 and HTTP/1.1, the preferred one first.
const HTTP_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate with its key, and the authorities that clients are judged by.
///
/// TLS 1.2 and 1.3. With client authorities every client must present a certificate that one of them vouches for, in
/// every handshake: sessions are not resumed then, so that an authority which is taken away counts at once.
pub struct Material {
    server: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    pair: Arc<CertifiedKey>,
    authorities: Option<Arc<RootCertStore>>,
    /// Judges the certificates of clients, when they must have one.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    certificate: Certificate,
    /// What should be looked at, but refuses nothing.
    pub(crate) warnings: Vec<String>,
    pub(crate) digest: Digest,
}

impl Material {
    /// Checks the contents of `files`, as of `now_ms`.
    ///
    /// # Errors
    /// The first reason why they cannot be used.
    pub(crate) fn check(files: &Files, contents: Contents, now_ms: u64) -> Result<Self, Error> {
        let digest = contents.digest();
        let provider = provider();
        let chain = certificates(&files.cert, &contents.cert)?;
        let leaf = Stated::read(&chain[0], &files.cert)?;
        let pair = pair(files, &chain, private_key(&files.key, &contents.key)?, &provider)?;
        if !leaf.is_for_servers {
            return Err(Error::WrongPurpose { path: files.cert.clone() });
        }
        // After the pair: a key that does not fit tells more of what went wrong.
        leaf.check_time(now_ms, &files.cert)?;
        let mut warnings = Vec::new();
        for intermediate in &chain[1..] {
            let stated = Stated::read(intermediate, &files.cert)?;
            if let Err(error) = stated.check_time(now_ms, &files.cert) {
                warnings.push(format!(
                    "{error} (it is that of {}, behind the first)",
                    stated.certificate.subject
                ));
            }
        }
        let authorities = match (&files.client_ca, &contents.client_ca) {
            (Some(path), Some(bytes)) => Some(Arc::new(authorities(path, bytes, now_ms, &mut warnings)?)),
            _ => None,
        };
        let verifier =
            authorities.as_ref().map(|authorities| verifier(authorities, &provider)).transpose()?;
        let server = Arc::new(server_config(&pair, verifier.as_ref(), Arc::clone(&provider))?);
        let mut http = server_config(&pair, verifier.as_ref(), provider)?;
        http.alpn_protocols = HTTP_PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(Self {
            server,
            http: Arc::new(http),
            pair,
            authorities,
            verifier,
            certificate: leaf.certificate,
            warnings,
            digest,
        })
    }

    /// To accept connections with.
    #[must_use]
    pub fn server_config(&self) -> &Arc<ServerConfig> {
        &self.server
    }

    /// To accept connections with that speak HTTP: the same, and the client chooses between HTTP/2 and HTTP/1.1. Sessions
    /// of the one are not resumed with the other.
    #[must_use]
    pub fn http_config(&self) -> &Arc<ServerConfig> {
        &self.http
    }

    /// To open connections with, on which this node shows the same certificate that it shows to those who connect to it.
    /// The other side must prove to be who it is called by a certificate that one of `trusted` vouches for.
    ///
    /// # Errors
    /// When the TLS library refuses.
    pub fn client_config(&self, trusted: Arc<RootCertStore>) -> Result<ClientConfig, Error> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Refused(error.to_string()))?
            .with_root_certificates(trusted)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.pair))));
        Ok(config)
    }

    /// Whether a client with these certificates, its own first, would be let in at this moment: an authority in force vouches
    /// for it, and none of them has expired. Without client authorities nobody is asked for any.
    #[must_use]
    pub fn vouches_for(&self, chain: &[CertificateDer<'_>]) -> bool {
        match (&self.verifier, chain.split_first()) {
            (Some(verifier), Some((own, others))) => {
                verifier.verify_client_cert(own, others, UnixTime::now()).is_ok()
            }
            _ => false,
        }
    }

    /// The authorities that clients are judged by, when they are.
    #[must_use]
    pub fn authorities(&self) -> Option<&Arc<RootCertStore>> {
        self.authorities.as_ref()
    }

    /// What the certificate says about itself.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn verifier(
    authorities: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(authorities), Arc::clone(provider))
        .build()
        .map_err(|error| Error::Refused(error.to_string()))
}

fn server_config(
    pair: &Arc<CertifiedKey>,
    verifier: Option<&Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, Error> {
    let refused = |error: &dyn fmt::Display| Error::Refused(error.to_string());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(&error))?;
    let resolver = Arc::new(SingleCertAndKey::from(Arc::clone(pair)));
    let Some(verifier) = verifier else {
        return Ok(builder.with_no_client_auth().with_cert_resolver(resolver));
    };
    let mut config = builder.with_client_cert_verifier(Arc::clone(verifier)).with_cert_resolver(resolver);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn pair(
    files: &Files,
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, Error> {
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| Error::BadKey { path: files.key.clone(), detail: error.to_string() })?;
    let pair = CertifiedKey::new(chain.to_vec(), key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(pair)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Error::KeyMismatch { cert: files.cert.clone(), key: files.key.clone() })
        }
        Err(error) => Err(Error::BadCertificate { path: files.cert.clone(), detail: error.to_string() }),
    }
}

/// The authorities of a bundle that are valid. The TLS library would not look at their dates.
fn authorities(
    path: &Path,
    bytes: &[u8],
    now_ms: u64,
    warnings: &mut Vec<String>,
) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        let stated = Stated::read(&certificate, path)?;
        // The TLS library would let its key vouch for others all the same.
        if !stated.is_authority {
            return Err(Error::NoAuthority { path: path.to_owned(), subject: stated.certificate.subject });
        }
        if let Err(error) = stated.check_time(now_ms, path) {
            warnings
                .push(format!("{error} (it is that of {}, and is not trusted)", stated.certificate.subject));
            continue;
        }
        store
            .add(certificate)
            .map_err(|error| Error::BadCertificate { path: path.to_owned(), detail: error.to_string() })?;
    }
    if store.is_empty() {
        return Err(Error::NoValidAuthority { path: path.to_owned() });
    }
    Ok(store)
}

/// The certificates of a file, of which there is at least one.
fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::NotPem { path: path.to_owned(), detail: error.to_string() })?;
    if certificates.is_empty() {
        return Err(Error::NoCertificate { path: path.to_owned() });
    }
    Ok(certificates)
}

fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    if is_encrypted(bytes) {
        return Err(Error::EncryptedKey { path: path.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => Error::NoKey { path: path.to_owned() },
        error => Error::NotPem { path: path.to_owned(), detail: error.to_string() },
    })
}

/// Whether the key wants a password: by its label, or in the traditional form by a line behind that.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |mark: &[u8]| pem.windows(mark.len()).any(|window| window == mark);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}
