//! `vaylix audit verify`: whether the audit log is what was written.

use std::fmt::Write as _;

use vaylix_access::audit::{VerifyError, verify};

use super::or_none;
use crate::error::ServerError;
use crate::flags::Trail;

/// Verifies an audit log and says what is in it.
///
/// # Errors
/// The first line that does not belong, or the file that cannot be read.
pub(super) fn verified(of: &Trail) -> Result<String, ServerError> {
    let path = of.path.clone().unwrap_or_else(|| of.data_dir.join("audit.log"));
    let summary = verify(&path).map_err(|error| match error {
        VerifyError::Missing { .. } => ServerError::NoAuditLog(error),
        error => ServerError::Audit(error),
    })?;
    if let Some(torn) = &summary.torn {
        let (line, bytes) = (torn.line, torn.bytes);
        tracing::warn!("line {line} is unfinished ({bytes} bytes): the next start of the server cuts it off");
    }
    let mut lines = String::new();
    write!(
        lines,
        "status=ok\nfiles={}\nevents={}\nfirst_sequence={}\nlast_sequence={}\nlast_hash={}\nunfinished_line={}\n",
        summary.files,
        summary.events,
        or_none(summary.first_sequence),
        summary.last_sequence,
        summary.last_hash,
        or_none(summary.torn.map(|torn| torn.line)),
    )
    .expect("writing to a string does not fail");
    Ok(lines)
}
