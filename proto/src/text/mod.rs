//! Commands as a human types them: one line in, one [`Line`] out.
//!
//! Only clients read text; a server never sees it. [`lexer`] turns a line into words, [`parser`] turns words into
//! a command, [`usage`] is the table behind `help` and behind the message of a wrong argument count.

mod error;
mod lexer;
mod parser;
mod usage;

pub use error::TextError;
pub use usage::{USAGES, Usage};

use crate::command::Command;

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Something for the server.
    Command(Command),
    /// The table of commands; answered by the client itself.
    Help,
    /// The end of the session.
    Exit,
}

/// Reads one line. Separators around it do not count, also not in the byte offsets of errors.
///
/// # Errors
/// The first mistake of the line, from left to right.
pub fn parse_line(line: &str) -> Result<Line, TextError> {
    parser::parse(lexer::words(line.trim_matches(lexer::is_separator))?)
}
