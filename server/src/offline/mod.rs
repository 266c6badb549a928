//! Subcommands: work that is done instead of serving.
//!
//! Results go to standard output as `key=value` lines, progress and the reason of a failure to standard error.

mod healthcheck;
mod pitr;
mod storage;

use std::io::Write;

use vaylix_consensus::offline;

use crate::error::ServerError;
use crate::flags::{Command, Given, PitrCommand, StorageCommand};
use crate::logging;

/// Does the work.
///
/// # Errors
/// Whatever it fails with.
pub(crate) fn run(command: Command, given: &Given) -> Result<(), ServerError> {
    logging::start_offline();
    match command {
        Command::Storage(StorageCommand::Verify(of)) => {
            print(&storage::verified(&offline::verify(&of.data_dir)?))
        }
        Command::Storage(StorageCommand::Migrate(of)) => {
            let found = offline::migrate(&of.data_dir)?;
            tracing::warn!("the files have the only format there is so far: nothing had to be migrated");
            print(&storage::inspected(&found))
        }
        Command::Pitr(PitrCommand::Inspect(of)) => print(&pitr::inspected(&offline::inspect(&of.data_dir)?)),
        Command::Pitr(PitrCommand::Restore(restore)) => print(&pitr::restore(&restore)?),
        Command::Healthcheck(healthcheck) => healthcheck::run(&healthcheck, given),
    }
}

fn print(lines: &str) -> Result<(), ServerError> {
    let mut out = std::io::stdout().lock();
    out.write_all(lines.as_bytes()).and_then(|()| out.flush()).map_err(ServerError::Output)
}

/// A value that may be missing.
fn or_none(value: Option<u64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
