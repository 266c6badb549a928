//! Subcommands: work that is done instead of serving.
//!
//! Results go to standard output as `key=value` lines, what an operator should know besides and the reason of a failure
//! to standard error.

mod rewrap;
mod rotate;

use std::fmt::Display;
use std::io::Write as _;

use crate::error::ServerError;
use crate::flags::{Command, StorageCommand};
use crate::logging;

/// Does the work.
///
/// # Errors
/// Whatever it fails with.
pub(crate) fn run(command: Command) -> Result<(), ServerError> {
    logging::start_offline();
    match command {
        Command::Storage(StorageCommand::RewrapKeys(arguments)) => rewrap::run(&arguments),
        Command::Storage(StorageCommand::RotateKey(arguments)) => rotate::run(&arguments),
    }
}

/// Prints one line of the result.
fn print(name: &str, value: impl Display) -> Result<(), ServerError> {
    writeln!(std::io::stdout(), "{name}={value}").map_err(ServerError::Output)
}
