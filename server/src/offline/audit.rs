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
        /// The file that the server writes, or wrote [default: audit.log in the data directory].
        #[arg(env = "VAYLIX_AUDIT_LOG_PATH")]
        path: Option<PathBuf>,

        /// The server's data directory.
        #[arg(long, env = "VAYLIX_DATA_DIR", default_value = "./default.vaylix")]
        data_dir: PathBuf,
    },
}

pub(super) fn run(command: Audit) -> Result<(), ServerError> {
    match command {
        Audit::Verify { path, data_dir } => {
            let path = path.unwrap_or_else(|| data_dir.join("audit.log"));
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
