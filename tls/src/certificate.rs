//! What a certificate says about itself.

use std::path::Path;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use vaylix_access::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_SERVER_AUTH};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage};
use x509_cert::time::Time;

use crate::error::Error;

/// A certificate that was read, with its times in words.
pub(crate) struct Stated {
    pub(crate) certificate: Certificate,
    not_before: Time,
    not_after: Time,
    /// Whether it may vouch for others.
    pub(crate) is_authority: bool,
    /// Whether it may stand for a server: it names no purposes, or that one.
    pub(crate) is_for_servers: bool,
}

impl Stated {
    /// Reads what the certificate of `path` says. Whether anybody vouches for it is not looked at.
    pub(crate) fn read(der: &CertificateDer<'_>, path: &Path) -> Result<Self, Error> {
        let bad = |error: x509_cert::der::Error| Error::BadCertificate {
            path: path.to_owned(),
            detail: error.to_string(),
        };
        let whole = x509_cert::Certificate::from_der(der).map_err(bad)?;
        let tbs = whole.tbs_certificate();
        let (not_before, not_after) = (tbs.validity().not_before, tbs.validity().not_after);
        let certificate = Certificate {
            subject: tbs.subject().to_string(),
            fingerprint: hexadecimal(&Sha256::digest(der)),
            not_before_ms: millis(not_before.to_unix_duration()),
            not_after_ms: millis(not_after.to_unix_duration()),
        };
        let (_, constraints) = tbs.get_extension::<BasicConstraints>().map_err(bad)?.unzip();
        let (_, purposes) = tbs.get_extension::<ExtendedKeyUsage>().map_err(bad)?.unzip();
        let serves = [ID_KP_SERVER_AUTH, ANY_EXTENDED_KEY_USAGE];
        Ok(Self {
            certificate,
            not_before,
            not_after,
            is_authority: constraints.is_some_and(|constraints| constraints.ca),
            is_for_servers: purposes
                .is_none_or(|named| named.0.iter().any(|purpose| serves.contains(purpose))),
        })
    }

    /// Whether it is valid at `now_ms`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_time(&self, now_ms: u64, path: &Path) -> Result<(), Error> {
        let path = path.to_owned();
        if now_ms < self.certificate.not_before_ms {
            return Err(Error::NotYetValid { path, from: self.not_before.to_string() });
        }
        if now_ms >= self.certificate.over_from_ms() {
            return Err(Error::Expired { path, at: self.not_after.to_string() });
        }
        Ok(())
    }
}

fn millis(since_epoch: Duration) -> u64 {
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
