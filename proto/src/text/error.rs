//! What can be wrong with a line.

use crate::code::Code;

/// A mistake in a line of text. Displays as the message that belongs to its [`Code`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// There is no word.
    #[error("empty command")]
    Empty,
    /// The first word, in lower case, is no command.
    #[error("unknown command: {0}")]
    UnknownCommand(String),
    /// Too few or too many words, or another word where a fixed one belongs.
    #[error("usage: {0}")]
    Arity(&'static str),
    /// A number does not parse or does not fit.
    #[error("invalid integer for {field}: {text}")]
    Integer {
        /// What the number means.
        field: &'static str,
        /// What was typed.
        text: String,
    },
    /// An unknown option or sub-command.
    #[error("invalid option for {command}: {option}")]
    Option {
        /// The command word.
        command: &'static str,
        /// The word that does not belong there.
        option: String,
    },
    /// A sub-command that is known, with another word where a fixed one belongs.
    #[error("invalid option for {command}: {option} (usage: {usage})")]
    Form {
        /// The command word.
        command: &'static str,
        /// The sub-command.
        option: &'static str,
        /// How it is written.
        usage: &'static str,
    },
    /// Options that exclude each other.
    #[error("conflicting options for {command}: {detail}")]
    Conflict {
        /// The command word.
        command: &'static str,
        /// Which rule is broken.
        detail: &'static str,
    },
    /// A closing quote is missing.
    #[error("unterminated quoted string starting at byte {at}")]
    UnterminatedQuote {
        /// Offset of the opening quote in bytes.
        at: usize,
    },
}

impl TextError {
    /// The stable code of this mistake.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Empty => Code::EmptyCommand,
            Self::UnknownCommand(_) => Code::UnknownCommand,
            Self::Arity(_) => Code::InvalidCommandArity,
            Self::Integer { .. } => Code::InvalidIntegerArgument,
            Self::Option { .. } | Self::Form { .. } => Code::InvalidCommandOption,
            Self::Conflict { .. } => Code::ConflictingCommandOptions,
            Self::UnterminatedQuote { .. } => Code::UnterminatedQuotedString,
        }
    }
}
