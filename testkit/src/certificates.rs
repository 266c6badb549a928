//! Certificate authorities and certificates for tests, made anew each time.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// A day, in which the validity of certificates is counted.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority that issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// The first moment.
    pub from: SystemTime,
    /// The last moment.
    pub to: SystemTime,
}

impl Validity {
    /// Since yesterday, and so much longer from now.
    #[must_use]
    pub fn for_another(time: Duration) -> Self {
        let now = SystemTime::now();
        Self { from: now - DAY, to: now + time }
    }
}

impl Default for Validity {
    /// A year.
    fn default() -> Self {
        Self::for_another(365 * DAY)
    }
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// A new authority of this name.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str) -> Result<Self> {
        Self::valid(name, Validity::default())
    }

    /// A new authority of this name that is valid at these times.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn valid(name: &str, validity: Validity) -> Result<Self> {
        let mut params = params(name, validity, Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// The authority's own certificate, as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server on this machine, which may also show it as a client.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn server(&self, name: &str, validity: Validity) -> Result<Pair> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let purposes = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params(name, validity, names)?, purposes)
    }

    /// A certificate for a client.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn client(&self, name: &str, validity: Validity) -> Result<Pair> {
        self.issue(params(name, validity, Vec::new())?, vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// The same with the subject alternative name `uri`.
    ///
    /// # Errors
    /// When no key can be made, or that is no URI.
    pub fn client_with_uri(&self, name: &str, uri: &str) -> Result<Pair> {
        let mut params = params(name, Validity::default(), Vec::new())?;
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        self.issue(params, vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn issue(&self, mut params: CertificateParams, purposes: Vec<ExtendedKeyUsagePurpose>) -> Result<Pair> {
        params.extended_key_usages = purposes;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok(Pair { cert: certificate.pem(), key: key.serialize_pem() })
    }
}

fn params(name: &str, validity: Validity, names: Vec<String>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = validity.from.into();
    params.not_after = validity.to.into();
    Ok(params)
}

/// A directory with the PEM files of a server.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The files in `path`.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Puts a pair into `server.pem` and `server.key`, one after the other as most tools do.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn put(&self, pair: &Pair) -> Result<()> {
        self.write("server.pem", &pair.cert)?;
        self.write("server.key", &pair.key)
    }

    /// Writes a file as a whole: others see the old one or the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let draft = self.0.join(format!("{name}.draft"));
        std::fs::write(&draft, text).with_context(|| draft.display().to_string())?;
        std::fs::rename(&draft, self.0.join(name)).with_context(|| name.to_owned())
    }

    /// The path of a file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}
