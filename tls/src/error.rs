//! Why TLS files cannot be used.

use std::io;
use std::path::PathBuf;

use vaylix_proto::Code;

/// Why TLS files cannot be used, in words for whoever can change them. Names the file and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not there or may not be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory, a pipe or a device.
    #[error("{} is no file: name a PEM file", path.display())]
    NoFile {
        /// What is there.
        path: PathBuf,
    },
    /// More than anybody's certificates take.
    #[error("{} is larger than {max_bytes} bytes: name a PEM file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest that is read.
        max_bytes: u64,
    },
    /// The text is not well-formed PEM.
    #[error("{} is not a PEM file: {detail}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// PEM, but without a certificate in it.
    #[error("{} contains no certificate: it must have a block BEGIN CERTIFICATE", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// PEM, but without a private key in it.
    #[error(
        "{} contains no private key: it must have a block BEGIN PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY",
        path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The private key wants a password, and nobody could give it at a restart.
    #[error("{} is encrypted: store the private key without a password, for the server's user alone", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate that cannot be understood, or is not of version 3.
    #[error("{} contains a certificate that cannot be used: {detail}", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A private key of a kind or size that is not supported.
    #[error("{} contains a private key that cannot be used: {detail}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Key and certificate do not belong together.
    #[error(
        "the private key in {} does not belong to the first certificate in {}: name a pair, leaf first",
        key.display(),
        cert.display()
    )]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate is out of date.
    #[error("the certificate in {} expired at {at}: renew it", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// When.
        at: String,
    },
    /// The certificate's time has not come.
    #[error("the certificate in {} is not valid before {from}: wait, or set the clock of this machine", path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When it will be.
        from: String,
    },
    /// The certificate is not meant for servers.
    #[error(
        "the certificate in {} is not for servers: clients would refuse it; its extended key usage must name serverAuth",
        path.display()
    )]
    WrongPurpose {
        /// The file.
        path: PathBuf,
    },
    /// Whoever has the key of that certificate could make certificates for anybody.
    #[error(
        "the certificate of {subject} in {} is no certificate authority: name that of the authority that issues the \
         certificates of clients (basic constraints CA:TRUE)",
        path.display()
    )]
    NoAuthority {
        /// The file.
        path: PathBuf,
        /// Whose certificate it is.
        subject: String,
    },
    /// Nobody could present a certificate that the named authorities vouch for.
    #[error("no certificate authority in {} is valid now: clients could not be told apart", path.display())]
    NoValidAuthority {
        /// The file.
        path: PathBuf,
    },
    /// The TLS library refuses the settings for another reason.
    #[error("the TLS library refuses: {0}")]
    Refused(String),
}

impl Error {
    /// The stable code: one for all of them.
    #[must_use]
    pub fn code(&self) -> Code {
        Code::TlsConfigurationInvalid
    }
}
