//! `/metrics`: the text of METRICS PROM, whose names are a contract, and behind it what only this page tells.
//!
//! Names of the second part carry their unit, or what is counted. Labels come from closed lists, but for `member`, of which there are as many as
//! the cluster has members.

use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{Request, header};
use parking_lot::Mutex;
use vaylix_access::{Durations, Figures, Role, Sizes};

use crate::probes;

/// Which part of the control plane a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    Grpc,
    Http,
    Probe,
}

impl Surface {
    const ALL: [Self; 3] = [Self::Grpc, Self::Http, Self::Probe];

    pub(crate) fn of(request: &Request<Body>) -> Self {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        if content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
            Self::Grpc
        } else if probes::PATHS.contains(&request.uri().path()) {
            Self::Probe
        } else {
            Self::Http
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Probe => "probe",
        }
    }
}

/// What was asked of the control plane so far.
#[derive(Default)]
pub(crate) struct Traffic(Mutex<[Counted; Surface::ALL.len()]>);

#[derive(Default)]
struct Counted {
    refused: u64,
    durations: Durations,
}

impl Traffic {
    /// Counts an answer. Of a stream its beginning is counted.
    pub(crate) fn count(&self, surface: Surface, response: &Response, took: Duration) {
        let grpc_status = response.headers().get("grpc-status");
        let is_refused = response.status().is_client_error()
            || response.status().is_server_error()
            || grpc_status.is_some_and(|status| status != "0");
        let counted = &mut self.0.lock()[surface as usize];
        counted.refused += u64::from(is_refused);
        counted.durations.count(took);
    }
}

/// The page.
pub(crate) fn page(figures: &Figures, traffic: &Traffic) -> String {
    let mut page = Page(figures.contract.clone());
    page.0.push('\n');
    node(&mut page, figures);
    requests(&mut page, figures);
    batches(&mut page, figures);
    members(&mut page, figures);
    storage(&mut page, figures);
    let counted = traffic.0.lock();
    page.family(
        "vaylix_admin_requests_refused_total",
        "counter",
        "Requests of the control plane that were refused or failed.",
    );
    for surface in Surface::ALL {
        let label = format!("{{surface=\"{}\"}}", surface.name());
        page.sample("vaylix_admin_requests_refused_total", &label, counted[surface as usize].refused);
    }
    page.family(
        "vaylix_admin_request_duration_seconds",
        "histogram",
        "How long requests of the control plane took.",
    );
    for surface in Surface::ALL {
        let label = format!("surface=\"{}\"", surface.name());
        page.durations("vaylix_admin_request_duration_seconds", &label, &counted[surface as usize].durations);
    }
    page.0
}

fn node(page: &mut Page, figures: &Figures) {
    let overview = &figures.overview;
    let status = &overview.status;
    let (version, sha) = (label_value(&overview.report.version), label_value(&overview.report.git_sha));
    page.family("vaylix_build_info", "gauge", "The release; always 1.");
    page.sample("vaylix_build_info", &format!("{{version=\"{version}\",git_sha=\"{sha}\"}}"), 1);
    for (name, help, value) in [
        ("vaylix_node_ready", "Whether clients are served.", u64::from(overview.ready)),
        ("vaylix_node_leader", "Whether this node leads.", u64::from(status.role == Role::Leader)),
        ("vaylix_node_maintenance", "Whether maintenance mode is on.", u64::from(overview.in_maintenance)),
        ("vaylix_raft_term", "The term of the last vote.", status.term),
        ("vaylix_raft_last_index", "The last entry of the log.", status.last_index),
        ("vaylix_raft_durable_index", "The last entry known to be on disk here.", status.durable_index),
        ("vaylix_raft_committed_index", "The last entry known to be committed.", status.commit_index),
        ("vaylix_raft_applied_index", "The last entry that is part of the state.", status.applied_index),
        ("vaylix_raft_voters", "Members with a vote.", status.voters as u64),
    ] {
        page.gauge(name, help, value);
    }
}

/// What clients wait for.
fn requests(page: &mut Page, figures: &Figures) {
    const NAME: &str = "vaylix_request_duration_seconds";
    page.family(NAME, "histogram", "How long requests took until their answers were known, by their class.");
    for times in &figures.requests {
        page.durations(NAME, &format!("class=\"{}\"", times.class.name()), &times.durations);
    }
}

/// How writes get into the state. Elsewhere than on a leader nothing is counted.
fn batches(page: &mut Page, figures: &Figures) {
    let batches = &figures.overview.status.batches;
    page.family("vaylix_proposal_commands", "histogram", "Commands in each batch that was proposed.");
    page.sizes("vaylix_proposal_commands", &batches.sizes);
    page.family(
        "vaylix_proposal_apply_duration_seconds",
        "histogram",
        "How long batches took from being proposed until they were on a majority and applied.",
    );
    page.durations("vaylix_proposal_apply_duration_seconds", "", &batches.until_applied);
}

/// What a leader knows of the other members; elsewhere nothing.
fn members(page: &mut Page, figures: &Figures) {
    let overview = &figures.overview;
    let status = &overview.status;
    let known = || {
        let leads = status.role == Role::Leader;
        overview.members.iter().filter(move |member| leads && member.node != status.identity.node)
    };
    page.family("vaylix_peer_lag_entries", "gauge", "On a leader: log entries that a member is behind.");
    for member in known() {
        let label = format!("{{member=\"{}\"}}", label_value(&member.name));
        let lag = status.last_index.saturating_sub(member.matched_index.unwrap_or(0));
        page.sample("vaylix_peer_lag_entries", &label, lag);
    }
    page.family("vaylix_peer_silence_seconds", "gauge", "On a leader: how long a member has not answered.");
    for member in known() {
        if let Some(silence) = member.silence {
            let label = format!("{{member=\"{}\"}}", label_value(&member.name));
            page.sample("vaylix_peer_silence_seconds", &label, seconds(silence));
        }
    }
    page.family(
        "vaylix_peer_append_duration_seconds",
        "histogram",
        "How long members took to take log entries, the syncs of their disks included.",
    );
    let calls = status.cluster.as_ref().map(|cluster| cluster.calls).unwrap_or_default();
    page.durations("vaylix_peer_append_duration_seconds", "", &calls.append_times);
}

fn storage(page: &mut Page, figures: &Figures) {
    let overview = &figures.overview;
    let (status, wal) = (&overview.status, &overview.status.wal);
    page.family("vaylix_wal_sync_duration_seconds", "histogram", "How long syncs of the log took.");
    page.durations("vaylix_wal_sync_duration_seconds", "", &wal.syncs);
    page.family("vaylix_wal_write_records", "histogram", "Records in each write to the log.");
    page.sizes("vaylix_wal_write_records", &wal.frame_records);
    page.family("vaylix_snapshot_duration_seconds", "histogram", "How long the writing of snapshots took.");
    page.durations("vaylix_snapshot_duration_seconds", "", &status.snapshots.durations);
    page.family(
        "vaylix_snapshot_written_bytes_total",
        "counter",
        "Bytes of all snapshots written since the start.",
    );
    page.sample("vaylix_snapshot_written_bytes_total", "", status.snapshots.bytes);
    for (name, help, value) in [
        ("vaylix_wal_size_bytes", "Size of the log on disk.", wal.size_bytes),
        ("vaylix_wal_segments", "Segments of the log on disk.", wal.segment_count as u64),
        (
            "vaylix_wal_since_snapshot_bytes",
            "Bytes of log that a restart would have to apply.",
            status.log_bytes_since_snapshot,
        ),
        ("vaylix_disk_full", "Whether writes find no room.", u64::from(wal.is_short)),
        (
            "vaylix_disk_failing",
            "Whether the disk refuses something that was handed over.",
            u64::from(wal.is_stuck),
        ),
        (
            "vaylix_snapshot_size_bytes",
            "Size of the last snapshot; 0 without one.",
            status.snapshot.map_or(0, |s| s.size_bytes),
        ),
        ("vaylix_snapshot_failures", "Snapshots that failed since the start.", status.snapshots.failed),
        (
            "vaylix_storage_findings",
            "What the last verification of the disk found damaged, missing or in the wrong place; 0 before one, which then has no \
             vaylix_storage_verified_timestamp_seconds.",
            overview.last_verification.map_or(0, |verified| verified.findings),
        ),
        (
            "vaylix_storage_key_age_seconds",
            "Age of the storage key in use.",
            overview.now_ms.saturating_sub(status.keys.active_created_ms) / 1000,
        ),
    ] {
        page.gauge(name, help, value);
    }
    if let Some(verified) = overview.last_verification {
        page.gauge(
            "vaylix_storage_verified_timestamp_seconds",
            "When what is on disk was last verified to the end, since 1970.",
            seconds(Duration::from_millis(verified.ended_at_ms)),
        );
    }
    if let Some(snapshot) = status.snapshot {
        let taken = Duration::from_millis(snapshot.taken_ms);
        page.gauge(
            "vaylix_snapshot_taken_timestamp_seconds",
            "When the last snapshot was taken, since 1970.",
            seconds(taken),
        );
    }
}

/// A page being written.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, label: &str, value: impl std::fmt::Display) {
        self.line(format_args!("{name}{label} {value}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn durations(&mut self, name: &str, label: &str, durations: &Durations) {
        let in_seconds = |us| seconds(Duration::from_micros(us));
        let buckets = durations.cumulative().map(|(bound, count)| (bound.map(in_seconds), count));
        self.histogram(name, label, buckets, &in_seconds(durations.sum_us()));
    }

    fn sizes(&mut self, name: &str, sizes: &Sizes) {
        let buckets = sizes.cumulative().map(|(bound, count)| (bound.map(|bound| bound.to_string()), count));
        self.histogram(name, "", buckets, &sizes.sum().to_string());
    }

    /// The last bucket has no bound: it counts all.
    fn histogram(
        &mut self,
        name: &str,
        label: &str,
        buckets: impl Iterator<Item = (Option<String>, u64)>,
        sum: &str,
    ) {
        let comma = if label.is_empty() { "" } else { "," };
        let mut all = 0;
        for (bound, count) in buckets {
            let bound = bound.as_deref().unwrap_or("+Inf");
            self.line(format_args!("{name}_bucket{{{label}{comma}le=\"{bound}\"}} {count}"));
            all = count;
        }
        let label = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
        self.line(format_args!("{name}_sum{label} {sum}"));
        self.line(format_args!("{name}_count{label} {all}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to a string does not fail");
    }
}

/// Seconds in decimal digits, without rounding.
fn seconds(time: Duration) -> String {
    let text = format!("{}.{:06}", time.as_secs(), time.subsec_micros());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A label's value with what would end it escaped.
fn label_value(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_in_full() {
        assert_eq!(seconds(Duration::from_micros(100)), "0.0001");
        assert_eq!(seconds(Duration::from_secs(10)), "10");
        assert_eq!(seconds(Duration::from_millis(2500)), "2.5");
        assert_eq!(seconds(Duration::ZERO), "0");
    }

    #[test]
    fn a_histogram_counts_up_to_all() {
        let mut durations = Durations::default();
        durations.count(Duration::from_millis(3));
        let mut page = Page(String::new());
        page.durations("x_seconds", "surface=\"grpc\"", &durations);
        let lines: Vec<_> = page.0.lines().collect();
        assert_eq!(lines[0], "x_seconds_bucket{surface=\"grpc\",le=\"0.0001\"} 0");
        assert_eq!(lines[5], "x_seconds_bucket{surface=\"grpc\",le=\"0.005\"} 1");
        assert_eq!(lines[16], "x_seconds_bucket{surface=\"grpc\",le=\"+Inf\"} 1");
        assert_eq!(
            &lines[17..],
            ["x_seconds_sum{surface=\"grpc\"} 0.003", "x_seconds_count{surface=\"grpc\"} 1"]
        );
    }

    #[test]
    fn sizes_are_whole_numbers() {
        let mut sizes = Sizes::default();
        sizes.count(3);
        sizes.count(5000);
        let mut page = Page(String::new());
        page.sizes("x_records", &sizes);
        let lines: Vec<_> = page.0.lines().collect();
        assert_eq!(
            lines[..3],
            ["x_records_bucket{le=\"1\"} 0", "x_records_bucket{le=\"2\"} 0", "x_records_bucket{le=\"4\"} 1"]
        );
        assert_eq!(
            lines[13..],
            ["x_records_bucket{le=\"+Inf\"} 2", "x_records_sum 5003", "x_records_count 2"]
        );
    }

    #[test]
    fn names_cannot_end_a_label() {
        assert_eq!(label_value("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
