//! What the program does without serving anybody: reading and mending the files of a server that is stopped.

mod audit;

use std::io::{self, Write as _};

use clap::Subcommand;

use crate::error::ServerError;

/// The offline commands.
#[derive(Subcommand)]
pub(crate) enum Offline {
    /// The audit log.
    #[command(subcommand)]
    Audit(audit::Audit),
}

/// Carries out an offline command.
///
/// # Errors
/// Why it could not be.
pub(crate) fn run(command: Offline) -> Result<(), ServerError> {
    match command {
        Offline::Audit(command) => audit::run(command),
    }
}

/// Shows one line of the result.
fn say(line: &str) -> Result<(), ServerError> {
    writeln!(io::stdout(), "{line}").map_err(ServerError::Output)
}
