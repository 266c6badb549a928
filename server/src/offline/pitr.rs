//! `vaylix pitr`: what it prints, and what it wants.

use vaylix_consensus::{StartError, offline};
use vaylix_engine::moment::rfc3339;
use vaylix_engine::pitr::{Point, Window};
use vaylix_engine::verify::Inspection;

use super::or_none;
use super::storage::{self, line};
use crate::error::ServerError;
use crate::flags::Restore;
use crate::kek::Source;

/// What is in a data directory, and what can be restored.
pub(crate) fn inspected(found: &Inspection) -> String {
    if let Some(damage) = &found.damage {
        tracing::warn!(error = %damage, "the log is damaged at its end: a server does not start on it, what came before can be restored");
    }
    let mut out = storage::inspected(found);
    let Window { oldest, oldest_ms, newest, newest_ms } = found.window;
    line(&mut out, "oldest_restorable_sequence", &or_none(oldest));
    line(&mut out, "newest_restorable_sequence", &or_none(newest));
    for (key, ms) in [("oldest_restorable", oldest_ms), ("newest_restorable", newest_ms)] {
        line(&mut out, &format!("{key}_at_ms"), &or_none(ms));
        let date = ms.and_then(rfc3339).unwrap_or_else(|| "none".to_owned());
        line(&mut out, &format!("{key}_at"), &date);
    }
    line(&mut out, "older_snapshot_count", &found.older_snapshots.len().to_string());
    for older in &found.older_snapshots {
        let sequence = older.last.map_or(0, |last| last.index);
        line(&mut out, &format!("older_snapshot.{sequence}.at_ms"), &older.time_ms.to_string());
        line(&mut out, &format!("older_snapshot.{sequence}.size_bytes"), &older.size_bytes.to_string());
    }
    out
}

/// Restores, and says what.
pub(crate) fn restore(wanted: &Restore) -> Result<String, ServerError> {
    let point = match (wanted.to_sequence, wanted.to_timestamp_ms) {
        (Some(sequence), _) => Point::Sequence(sequence),
        (None, Some(timestamp_ms)) => Point::TimestampMs(timestamp_ms),
        (None, None) => {
            let message = "pitr restore requires --to-sequence or --to-timestamp-ms";
            return Err(ServerError::Arguments(message.to_owned()));
        }
    };
    let kek = Source::current(wanted.kek_file.as_deref()).read()?;
    let restored = offline::restore(&wanted.source_dir, &wanted.target_dir, kek, point);
    let restored = restored.map_err(|error| match error {
        StartError::Storage(error) => ServerError::Storage(error),
        error => ServerError::Start(error),
    })?;
    let mut out = String::new();
    line(&mut out, "restored_sequence", &restored.sequence.to_string());
    line(&mut out, "restored_at_ms", &or_none(Some(restored.time_ms).filter(|time| *time > 0)));
    line(&mut out, "base_snapshot_sequence", &or_none(Some(restored.base_sequence).filter(|base| *base > 0)));
    line(&mut out, "replayed_entries", &restored.replayed_entries.to_string());
    Ok(out)
}
