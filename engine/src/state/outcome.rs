//! What became of an operation.

use vaylix_proto::{Code, Reply};

/// How much of a value that is not a number is repeated in the message about it.
const SHOWN_CHARS_MAX: usize = 256;

/// What became of one operation of a batch. The same on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out; conditions that did not hold are ordinary replies.
    Reply(Reply),
    /// Not carried out, and nothing was changed.
    Failed(ApplyError),
    /// Admitted under an access revision that is no longer the current one: nothing was changed, admit it again.
    Stale,
}

/// Why an operation failed. Displays as the message for clients, without the prefix that names the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A counter's value is not the text of a signed 64-bit number.
    #[error("value for key '{key}' is not a valid integer: {value}")]
    NotAnInteger {
        /// The key.
        key: String,
        /// Its value as text, shortened.
        value: String,
    },
    /// A counter is at the end of the signed 64-bit range.
    #[error("numeric overflow for key '{key}'")]
    Overflow {
        /// The key.
        key: String,
    },
    /// A transaction holds something that cannot be a step of one.
    #[error("command is not supported inside transactions")]
    NotAStep,
    /// Parts of a restore are missing: another one was begun meanwhile, or this one was idle for too long.
    #[error("invalid storage operation: the restore was interrupted")]
    RestoreInterrupted,
    /// What a transaction would answer does not fit in the frames of whoever asked.
    #[error("frame too large: the answer exceeds maximum {bytes_max} bytes")]
    AnswerTooLarge {
        /// Bytes that it may take.
        bytes_max: u64,
    },
    /// A step of a transaction failed, and with it the whole.
    #[error("{error} (command {position} of the transaction)")]
    Step {
        /// Which step, counted from 1.
        position: usize,
        /// Why it failed.
        error: Box<ApplyError>,
    },
}

impl ApplyError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotAnInteger { .. } => Code::InvalidIntegerValue,
            Self::Overflow { .. } => Code::NumericOverflow,
            Self::RestoreInterrupted => Code::InvalidStorageOperation,
            Self::NotAStep => Code::EngineUnsupportedCommand,
            Self::AnswerTooLarge { .. } => Code::FrameTooLarge,
            Self::Step { error, .. } => error.code(),
        }
    }

    pub(super) fn not_an_integer(key: &str, value: &[u8]) -> Self {
        let value = String::from_utf8_lossy(value).chars().take(SHOWN_CHARS_MAX).collect();
        Self::NotAnInteger { key: key.to_owned(), value }
    }
}
