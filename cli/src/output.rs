//! Standard output and standard error: the only place that writes to them.

use std::io::{self, Write};

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// Among the replies.
    Stdout,
    /// Beside the replies, so that a program can read those.
    Stderr,
    /// Nowhere.
    Off,
}

impl Log {
    /// Writes `[INFO] [target] message`.
    pub(crate) fn info(self, target: &str, message: &str) -> io::Result<()> {
        self.line(&format!("[INFO] [{target}] {message}"))
    }

    /// Writes `text` where log lines go.
    pub(crate) fn line(self, text: &str) -> io::Result<()> {
        match self {
            Self::Stdout => print(text),
            Self::Stderr => complain(text),
            Self::Off => Ok(()),
        }
    }
}

/// Writes one reply to standard output.
pub(crate) fn print(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes one line to standard error.
pub(crate) fn complain(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{text}")
}
