//! `vaylix audit`: the audit log, without a server.

use std::path::PathBuf;

use clap::Subcommand;
use vaylix_access::audit::verify;

use super::say;
use crate::error::ServerError;

/// The commands about the audit log.
#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Verify the chain of an audit log and its closed files. Changes nothing, and may run beside a server.
    Verify {
        /// The file that the server writes, or wrote.
        #[arg(default_value = "./default.vaylix/audit.log")]
        path: PathBuf,
    },
}

pub(super) fn run(command: Audit) -> Result<(), ServerError> {
    match command {
        Audit::Verify { path } => {
            let summary = verify(&path).map_err(ServerError::Audit)?;
            let first = summary.first_sequence.map_or_else(|| "none".to_owned(), |first| first.to_string());
            say(&format!("files: {}", summary.files))?;
            say(&format!("events: {}", summary.events))?;
            say(&format!("first_sequence: {first}"))?;
            say(&format!("last_sequence: {}", summary.last_sequence))?;
            say(&format!("last_hash: {}", summary.last_hash))?;
            if let Some(torn) = summary.torn {
                say(&format!(
                    "unfinished: line {} with {} bytes, which the next start of a server cuts off",
                    torn.line, torn.bytes
                ))?;
            }
            say("status: ok")
        }
    }
}
