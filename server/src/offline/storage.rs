//! What `vaylix storage` prints.

use std::fmt::Write;

use vaylix_engine::verify::{Inspection, STORAGE_FORMAT_VERSION, Verified};

use super::or_none;

/// What is in a data directory: the same keys in the same order for every command.
pub(crate) fn inspected(found: &Inspection) -> String {
    let snapshot = found.snapshot.as_ref();
    let sealed = found.segments.iter().filter(|segment| segment.sealed_end.is_some());
    let active = found.segments.iter().find(|segment| segment.sealed_end.is_none());
    let sealed_count = sealed.clone().count();
    let wal_size_bytes: u64 = found.segments.iter().map(|segment| segment.size_bytes).sum();
    [
        ("snapshot_present", snapshot.is_some().to_string()),
        ("storage_format_version", STORAGE_FORMAT_VERSION.to_string()),
        ("snapshot_size_bytes", snapshot.map_or(0, |snapshot| snapshot.size_bytes).to_string()),
        (
            "last_snapshot_sequence",
            snapshot.and_then(|snapshot| snapshot.last).map_or(0, |last| last.index).to_string(),
        ),
        ("last_snapshot_at_ms", or_none(snapshot.map(|snapshot| snapshot.time_ms))),
        ("wal_segment_count", found.segments.len().to_string()),
        ("sealed_wal_segment_count", sealed_count.to_string()),
        ("active_wal_segment_count", (found.segments.len() - sealed_count).to_string()),
        ("active_wal_start_sequence", or_none(active.map(|active| active.start))),
        ("oldest_retained_sequence", or_none(found.oldest_record)),
        ("newest_sequence", or_none(sealed.filter_map(|segment| segment.sealed_end).max())),
        ("wal_size_bytes", wal_size_bytes.to_string()),
    ]
    .iter()
    .fold(String::new(), |mut out, (key, value)| {
        line(&mut out, key, value);
        out
    })
}

/// The same, and what was verified.
pub(crate) fn verified(verified: &Verified) -> String {
    let mut out = inspected(&verified.inspection);
    let found = &verified.inspection;
    line(&mut out, "verified_bytes", &verified.bytes.to_string());
    line(&mut out, "verified_wal_entries", &verified.records.to_string());
    line(&mut out, "older_snapshot_count", &found.older_snapshots.len().to_string());
    line(&mut out, "torn_tail", if found.torn_tail.is_some() { "true" } else { "false" });
    line(&mut out, "left_over_wal_segment_count", &found.left_over_segments.len().to_string());
    for (nth, path) in (1..).zip(&found.left_over_segments) {
        line(&mut out, &format!("left_over_wal_segment.{nth}.path"), &path.display().to_string());
    }
    for (key, bytes) in &verified.bytes_by_key {
        line(&mut out, &format!("storage_key.{key}.bytes"), &bytes.to_string());
    }
    out
}

pub(super) fn line(out: &mut String, key: &str, value: &str) {
    writeln!(out, "{key}={value}").expect("memory does not refuse to be written");
}
