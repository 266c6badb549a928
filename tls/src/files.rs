//! The files an operator named, read as one.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// The largest file that is read: a bundle of all public authorities has a quarter of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How often files are read again in the hope that two readings agree.
const READINGS_MAX: usize = 5;

/// Where certificate, key and client authorities are, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The leaf's private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
    /// The authorities that clients must have a certificate of; none: clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// Says whether contents are the same, without keeping a private key around for it.
pub(crate) type Digest = [u8; 32];

/// What was in the files at one time.
#[derive(PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) cert: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) client_ca: Option<Vec<u8>>,
}

impl Contents {
    pub(crate) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for part in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten() {
            // The length keeps bytes from wandering between files unnoticed.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl Files {
    /// Reads all of them once. Blocks.
    pub(crate) fn read(&self) -> Result<Contents, Error> {
        Ok(Contents {
            cert: read(&self.cert)?,
            key: read(&self.key)?,
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
        })
    }

    /// Reads all of them until two readings agree, so that files which are being replaced are not seen half old
    /// and half new. Blocks.
    pub(crate) fn read_settled(&self) -> Result<Contents, Error> {
        let mut contents = self.read()?;
        for _ in 1..READINGS_MAX {
            let again = self.read()?;
            if again == contents {
                break;
            }
            contents = again;
        }
        Ok(contents)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source: io::Error| Error::Unreadable { path: path.to_owned(), source };
    // Asked before it is opened: opening a pipe waits for whoever writes it.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(Error::NoFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::TooLarge { path: path.to_owned(), max_bytes: FILE_BYTES_MAX });
    }
    Ok(bytes)
}
