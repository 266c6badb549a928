//! Subcommands: work that is done instead of serving.
//!
//! Results go to standard output as `key=value` lines; progress, what an operator should know besides, and the reason of a
//! failure to standard error.

mod audit;
mod healthcheck;
mod pitr;
mod provision;
mod rewrap;
mod rotate;
mod storage;

use std::io::Write;

use vaylix_consensus::offline;

use crate::error::ServerError;
use crate::flags::{AuditCommand, Command, Directory, Given, PitrCommand, StorageCommand};
use crate::kek::Source;
use crate::logging;

/// Does the work.
///
/// # Errors
/// Whatever it fails with.
pub(crate) fn run(command: Command, given: &Given) -> Result<(), ServerError> {
    logging::start_offline();
    let kek = |of: &Directory| Source::current(of.kek_file.as_deref()).read();
    match command {
        Command::Storage(StorageCommand::Verify(of)) => {
            print(&storage::verified(&offline::verify(&of.data_dir, kek(&of)?)?))
        }
        Command::Storage(StorageCommand::Migrate(of)) => {
            let found = offline::migrate(&of.data_dir, kek(&of)?)?;
            tracing::warn!("the files have the only format there is so far: nothing had to be migrated");
            print(&storage::inspected(&found))
        }
        Command::Storage(StorageCommand::RewrapKeys(arguments)) => print(&rewrap::run(&arguments)?),
        Command::Storage(StorageCommand::RotateKey(of)) => print(&rotate::run(&of)?),
        Command::Pitr(PitrCommand::Inspect(of)) => {
            print(&pitr::inspected(&offline::inspect(&of.data_dir, kek(&of)?)?))
        }
        Command::Pitr(PitrCommand::Restore(restore)) => print(&pitr::restore(&restore)?),
        Command::Audit(AuditCommand::Verify(of)) => print(&audit::verified(&of)?),
        Command::Healthcheck(healthcheck) => healthcheck::run(&healthcheck, given),
        Command::Provision(arguments) => print(&provision::run(&arguments)?),
    }
}

/// Prints a result.
pub(crate) fn print(lines: &str) -> Result<(), ServerError> {
    let mut out = std::io::stdout().lock();
    out.write_all(lines.as_bytes()).and_then(|()| out.flush()).map_err(ServerError::Output)
}

/// A value that may be missing.
fn or_none(value: Option<u64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
