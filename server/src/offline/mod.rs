//! Commands that work on a data directory while no server uses it.
//!
//! Each takes the directory's lock, does one thing, and prints `name=value` lines to standard output; what an operator
//! should know besides goes to standard error, as does the reason of a failure (exit status 1).

mod rewrap;
mod rotate;

use std::fmt::Display;
use std::io::Write as _;

use clap::Subcommand;

use crate::error::ServerError;
use crate::logging;

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Offline {
    /// Work on a data directory that no server uses.
    #[command(subcommand)]
    Storage(Storage),
}

/// The commands under `storage`.
#[derive(Subcommand)]
pub(crate) enum Storage {
    /// Wrap the keyring under a key-encryption key, under another one, or under none.
    RewrapKeys(rewrap::Arguments),
    /// Make a new storage key, under which everything is sealed that the server writes from then on.
    RotateKey(rotate::Arguments),
}

/// Carries out a command.
///
/// # Errors
/// Why it could not be carried out; nothing was changed then unless the command says otherwise.
pub(crate) fn run(command: Offline) -> Result<(), ServerError> {
    logging::start_offline();
    let Offline::Storage(command) = command;
    match command {
        Storage::RewrapKeys(arguments) => rewrap::run(&arguments),
        Storage::RotateKey(arguments) => rotate::run(&arguments),
    }
}

/// Prints one line of the answer.
fn print(name: &str, value: impl Display) -> Result<(), ServerError> {
    writeln!(std::io::stdout(), "{name}={value}").map_err(ServerError::Runtime)
}
