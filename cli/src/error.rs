//! What ends the client, or one of its lines.

use std::io;

use rustyline::error::ReadlineError;
use vaylix_dataplane::client;
use vaylix_proto::Code;

/// A failure of the client process. `Display` is the message that goes behind code and name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Connection, protocol or configuration.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Standard output or standard input failed.
    #[error("filesystem I/O failed: {0}")]
    Io(#[from] io::Error),
    /// The line editor failed, or a line is no text.
    #[error("line editor failure: {0}")]
    Readline(#[from] ReadlineError),
    /// There is no place for the history.
    #[error("could not determine project directories")]
    NoDataDirectory,
}

impl Error {
    /// The stable code and name.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Client(error) => error.code(),
            Self::Io(_) => Code::ClientFilesystemIoFailure,
            Self::Readline(_) => Code::ReadlineFailure,
            Self::NoDataDirectory => Code::ClientProjectDirectoriesUnavailable,
        }
    }

    /// `[CODE] Name: message`, as it stands on standard error.
    pub(crate) fn line(&self) -> String {
        let code = self.code();
        format!("[{}] {}: {self}", code.code(), code.name())
    }
}
