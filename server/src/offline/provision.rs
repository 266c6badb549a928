//! `vaylix provision`: what the nodes of a cluster share, made for whoever tries one out or has no authority of his own.
//!
//! The secret of the cluster, and on request an authority, of which only the certificate stays, with a certificate for each node.
//! What is there is kept, so that it can be run before each start.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::storage::line;
use crate::error::ServerError;
use crate::flags::Provision;

/// Random bytes in a secret.
const SECRET_BYTES: usize = 32;

/// How long certificates are good for.
const VALID_FOR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// By how much clocks of nodes may be behind the one that the certificates were made by.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn run(arguments: &Provision) -> Result<String, ServerError> {
    let dir = &arguments.dir;
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
    let mut out = String::new();
    let secret = dir.join("cluster-secret");
    if !exists(&secret)? {
        write(&secret, &new_secret()?)?;
    }
    line(&mut out, "cluster_secret", &secret.display().to_string());
    if !arguments.tls_hosts.is_empty() {
        let authority = dir.join("ca.pem");
        if exists(&authority)? {
            check_complete(dir, &arguments.tls_hosts)?;
        } else {
            issue(dir, &authority, &arguments.tls_hosts)?;
        }
        line(&mut out, "certificate_authority", &authority.display().to_string());
        for host in &arguments.tls_hosts {
            let (certificate, key) = pair(dir, host);
            line(&mut out, &format!("certificate.{host}"), &certificate.display().to_string());
            line(&mut out, &format!("key.{host}"), &key.display().to_string());
        }
    }
    Ok(out)
}

/// The files of a host: its certificate and its key.
fn pair(dir: &Path, host: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{host}.pem")), dir.join(format!("{host}.key")))
}

/// A certificate for each host, and then the authority's, which says that all are there. Its key is forgotten.
fn issue(dir: &Path, authority: &Path, hosts: &[String]) -> Result<(), ServerError> {
    let made = |error: rcgen::Error| ServerError::Arguments(format!("no certificate can be made: {error}"));
    let mut params = certificate("Vaylix cluster authority", Vec::new()).map_err(made)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(made)?).map_err(made)?;
    for host in hosts {
        let names = vec![host.clone(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = certificate(host, names).map_err(made)?;
        // Nodes show it to each other on both ends.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(made)?;
        let issued = params.signed_by(&key, &issuer).map_err(made)?;
        let (certificate_file, key_file) = pair(dir, host);
        write(&key_file, &key.serialize_pem())?;
        write(&certificate_file, &issued.pem())?;
    }
    write(authority, &issuer.pem())
}

fn certificate(name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let now = SystemTime::now();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - CLOCK_SKEW_MAX).into();
    params.not_after = (now + VALID_FOR).into();
    Ok(params)
}

/// The authority that is there cannot issue anything any more.
fn check_complete(dir: &Path, hosts: &[String]) -> Result<(), ServerError> {
    for host in hosts {
        let (certificate, key) = pair(dir, host);
        for file in [certificate, key] {
            if !exists(&file)? {
                return Err(ServerError::Arguments(format!(
                    "{} is missing, and the key of the authority beside it was not kept: to make all certificates anew, for every \
                     host at once, remove {}",
                    file.display(),
                    dir.join("ca.pem").display()
                )));
            }
        }
    }
    Ok(())
}

fn new_secret() -> Result<String, ServerError> {
    let mut random = [0; SECRET_BYTES];
    getrandom::fill(&mut random).map_err(ServerError::Randomness)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect())
}

fn exists(path: &Path) -> Result<bool, ServerError> {
    path.try_exists().map_err(failed(path))
}

/// Writes a file that its owner alone can read, in one step: it is whole, or it is not there.
fn write(path: &Path, text: &str) -> Result<(), ServerError> {
    let mut next = path.as_os_str().to_owned();
    next.push(".tmp");
    let next = PathBuf::from(next);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)
        .map_err(failed(&next))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed(&next))?;
    std::fs::rename(&next, path).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::Provision { path: path.to_owned(), source }
}
