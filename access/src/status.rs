//! The answers about the node: HEALTH, SHOW CLUSTER, SHOW REPLICATION, MAINTENANCE STATUS, INFO, METRICS.

use std::fmt::Display;
use std::time::{Duration, Instant};

use vaylix_consensus::{ClusterStatus, MemberStatus, NodeId, Phase, Role, Status};
use vaylix_engine::state::Root;
use vaylix_proto::{ErrorReply, NamedValue, Reply};

use crate::counters::{Counters, Metric};
use crate::door::Door;
use crate::entries::Entries;
use crate::identity::Identity;
use crate::permission::Permission;

/// The version that INFO gives for the storage engine: the one that logical backups carry.
const ENGINE_VERSION: u32 = 3;
/// Why a node whose state is not that of its cluster cannot serve.
const STATE_DIVERGED: &str = "state_diverged";
/// What stands for a period or a limit that is not set.
const DISABLED: &str = "disabled";

/// Whether the node can serve, and as what.
pub(crate) struct Health {
    role: &'static str,
    /// Why it cannot; `none` when it can.
    pub(crate) reason: &'static str,
}

impl Health {
    pub(crate) fn of(status: &Status) -> Self {
        if let Some(cluster) = &status.cluster {
            return Self::of_member(status, cluster);
        }
        let (role, reason) = match status.role {
            Role::Leader if status.voters > 1 => ("leader", disk(status)),
            Role::Leader if status.reads_open => ("standalone", disk(status)),
            Role::Leader => ("standalone", "awaiting_leader"),
            Role::Candidate => ("candidate", "election_in_progress"),
            Role::Follower | Role::Learner if status.leader.is_some() => ("follower", "none"),
            Role::Follower | Role::Learner | Role::Stopped => ("follower", "awaiting_leader"),
        };
        Self { role, reason }
    }

    fn of_member(status: &Status, cluster: &ClusterStatus) -> Self {
        let (role, reason) = match status.role {
            Role::Leader if cluster.is_quarantined => ("leader", STATE_DIVERGED),
            _ if cluster.is_quarantined => ("follower", STATE_DIVERGED),
            Role::Leader if cluster.has_quorum => ("leader", disk(status)),
            Role::Leader => ("leader", "awaiting_leader"),
            Role::Candidate => ("candidate", "election_in_progress"),
            Role::Stopped => ("follower", "awaiting_leader"),
            Role::Follower | Role::Learner => match cluster.phase {
                Phase::Bootstrap => ("follower", "awaiting_leader"),
                Phase::Stale if status.leader.is_none() => ("follower", "awaiting_leader"),
                Phase::Stale => ("follower", "replication_stale"),
                Phase::CatchingUp if !cluster.is_informed => ("follower", "awaiting_leader"),
                Phase::CatchingUp | Phase::Streaming => ("follower", disk(status)),
            },
        };
        Self { role, reason }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.reason == "none"
    }

    fn name(&self) -> &'static str {
        if self.is_ready() { "ready" } else { "degraded" }
    }
}

impl Door {
    /// METRICS, with the figures that the node counts brought up to date.
    pub(crate) fn metrics(&self) -> &Counters {
        let status = self.0.node.status();
        let counters = &self.0.counters;
        counters.set(Metric::Snapshots, status.snapshots.taken);
        counters.set(Metric::Sweeps, status.sweeps.sweeps);
        counters.set(Metric::SweptKeys, status.sweeps.keys);
        counters.set(Metric::ReplayedEntries, status.recovery.replayed_entries);
        counters.set(Metric::WriteBatches, status.batches.batches);
        counters.set(Metric::CoordinatedWrites, status.batches.commands);
        counters.set(Metric::LargestWriteBatch, status.batches.commands_max);
        counters.set(Metric::ReadLag, status.commit_index.saturating_sub(status.applied_index));
        let agreement = status.cluster.as_ref().map(|cluster| cluster.agreement).unwrap_or_default();
        let is_quarantined = status.cluster.as_ref().is_some_and(|cluster| cluster.is_quarantined);
        counters.set(Metric::StateChecksAgreed, agreement.agreed);
        counters.set(Metric::StateChecksDiverged, agreement.diverged);
        counters.set(Metric::StateChecksUndecided, agreement.undecided);
        counters.set(Metric::StateRelearned, agreement.relearned);
        counters.set(Metric::StateQuarantined, u64::from(is_quarantined));
        self.count_certificate();
        counters
    }

    /// HEALTH.
    pub(crate) fn health(&self) -> Result<Reply, ErrorReply> {
        let status = self.0.node.status();
        let health = Health::of(&status);
        let mut entries = Entries::default();
        entries
            .add("status", health.name())
            .add("ready", health.is_ready())
            .add("reason", health.reason)
            .add("role", health.role)
            .add("maintenance_mode", self.policy()?.in_maintenance());
        if let Some(phase) = follower_phase(&status) {
            entries.add("follower_phase", phase);
        }
        Ok(entries.reply())
    }

    /// MAINTENANCE STATUS. The mode is part of the replicated state; `path` is where clients expect to read of a file,
    /// and paths of the server are for administrators only.
    pub(crate) fn maintenance_status(&self, who: &Identity) -> Result<Reply, ErrorReply> {
        let path = self.0.report.data_dir.join("maintenance.mode");
        let path = who.rights().allow_everywhere(Permission::Admin.into()).then(|| path.display());
        Ok(Entries::default()
            .add("enabled", self.policy()?.in_maintenance())
            .add_or_none("path", path)
            .reply())
    }

    /// SHOW CLUSTER.
    pub(crate) fn show_cluster(&self) -> Reply {
        let status = self.0.node.status();
        let health = Health::of(&status);
        let mut entries = Entries::default();
        self.add_identity(&mut entries, &status)
            .add("role", health.role)
            .add("current_term", status.term)
            .add_or_none("leader_node_id", self.leader_node_id(&status))
            .add_or_none("leader_advertise_addr", self.leader_advertise_addr(&status))
            .add("commit_index", status.commit_index)
            .add("last_applied_index", status.applied_index)
            .add("quorum_size", quorum_size(&status))
            .add("member_count", status.voters)
            .add("sync_policy", &self.0.report.write_ack_mode)
            .add("health", health.name());
        self.add_members(&mut entries, &status).reply()
    }

    /// SHOW REPLICATION.
    pub(crate) fn show_replication(&self) -> Reply {
        let status = self.0.node.status();
        let health = Health::of(&status);
        let in_cluster = status.cluster.is_some();
        let follows = in_cluster && health.role != "leader";
        let lag = status.last_index.saturating_sub(status.applied_index);
        let silence = status.cluster.as_ref().and_then(|cluster| cluster.leader_silence);
        let followers = self.followers(&status);
        let mut entries = Entries::default();
        self.add_identity(&mut entries, &status)
            .add("role", health.role)
            .add("advertise_addr", &self.0.report.advertise_addr)
            .add_or_none("leader_node_id", self.leader_node_id(&status))
            .add_or_none("leader_advertise_addr", self.leader_advertise_addr(&status))
            .add_or_none("upstream", self.leader_advertise_addr(&status).filter(|_| health.role != "leader"))
            .add("write_ack_mode", &self.0.report.write_ack_mode)
            .add("current_term", status.term)
            .add_or_none(
                "voted_for",
                status.voted_for.map(|node| self.name_of(&status, node)).filter(|_| in_cluster),
            )
            .add("quorum_size", quorum_size(&status))
            .add("paused", false)
            .add("health", health.name())
            .add("reason", health.reason)
            .add("local_last_applied_sequence", status.applied_index)
            .add("commit_sequence", status.commit_index)
            .add_or_none("retention_floor_sequence", status.wal.oldest_index)
            .add_or_none("follower_phase", follower_phase(&status))
            .add_or_none("follower_lag_entries", follows.then_some(lag))
            .add_or_none("follower_lag_ms", silence.filter(|_| follows).map(|silence| silence.as_millis()))
            .add("known_followers", followers.len());
        if let Some(cluster) = &status.cluster {
            let checked = Some(cluster.agreement.agreed_index).filter(|index| *index > 0);
            entries
                .add_or_none("incoming_snapshot_bytes", cluster.incoming_bytes)
                .add_or_none("state_checked_sequence", checked);
        }
        for follower in followers {
            let name = &follower.name;
            let matched = follower.matched_index.unwrap_or(0);
            entries
                .add(format!("follower.{name}.applied_sequence"), matched)
                .add(format!("follower.{name}.lag_entries"), status.last_index.saturating_sub(matched))
                .add_or_none(
                    format!("follower.{name}.lag_ms"),
                    follower.silence.map(|silence| silence.as_millis()),
                )
                .add(
                    format!("follower.{name}.stale"),
                    follower.silence.is_none_or(|silence| silence > self.0.report.stale_after),
                );
        }
        self.add_members(&mut entries, &status).reply()
    }

    /// INFO: everything, sorted by name.
    pub(crate) fn info(&self, root: &Root) -> Result<Reply, ErrorReply> {
        let status = self.0.node.status();
        let mut entries = Entries::default();
        entries.add("health.status", Health::of(&status).name());
        entries.extend(self.metrics().entries().into_iter().map(|metric| NamedValue {
            name: format!("metrics.{}", metric.name).into(),
            value: metric.value,
        }));
        self.add_persistence(&mut entries, &status);
        self.add_replication(&mut entries, &status);
        self.add_runtime(&mut entries, self.policy()?.in_maintenance());
        self.add_audit(&mut entries);
        self.add_security(&mut entries, &status);
        self.add_tls(&mut entries);
        self.add_server(&mut entries, &status, root);
        Ok(entries.sort().reply())
    }

    fn add_persistence(&self, entries: &mut Entries, status: &Status) {
        let snapshots = status.snapshots;
        entries
            .add("persistence.last_recovery_duration_ms", status.recovery.duration.as_millis())
            .add_or_none("persistence.last_snapshot_at_ms", status.snapshot.map(|snapshot| snapshot.taken_ms))
            .add_or_none(
                "persistence.last_snapshot_duration_ms",
                snapshots.last_duration.map(|duration| duration.as_millis()),
            )
            .add_or_none("persistence.last_snapshot_failure_at_ms", snapshots.last_failed_ms)
            .add("persistence.snapshot_failure_count", snapshots.failed)
            .add_or_none("persistence.oldest_retained_sequence", status.wal.oldest_index)
            .add("persistence.wal_segment_count", status.wal.segment_count)
            .add("persistence.wal_size_bytes", status.wal.size_bytes)
            .add("persistence.wal_sync_policy", &self.0.report.wal_sync_policy);
    }

    fn add_replication(&self, entries: &mut Entries, status: &Status) {
        let health = Health::of(status);
        let calls = status.cluster.as_ref().map(|cluster| cluster.calls).unwrap_or_default();
        entries
            .add("replication.client.append.failure.count", calls.appends_failed)
            .add("replication.client.append.latency.avg.ms", calls.append_time_average().as_millis())
            .add("replication.client.connection.opened.count", calls.connections.opened)
            .add("replication.client.heartbeat.failure.count", calls.heartbeats_failed)
            .add("replication.client.reconnect.count", calls.connections.reopened)
            .add("replication.commit_sequence", status.commit_index)
            .add("replication.group_id", &self.0.report.group_id)
            .add("replication.health", health.name())
            .add_or_none("replication.leader_node_id", self.leader_node_id(status))
            .add("replication.node_id", self.node_id(status))
            .add("replication.paused", false)
            .add("replication.reason", health.reason)
            .add_or_none("replication.retention_floor_sequence", status.wal.oldest_index)
            .add("replication.role", health.role)
            .add_or_none(
                "replication.upstream",
                self.leader_advertise_addr(status).filter(|_| health.role != "leader"),
            )
            .add("replication.write_ack_mode", &self.0.report.write_ack_mode);
    }

    /// How the audit log fares. These names are ours.
    fn add_audit(&self, entries: &mut Entries) {
        let audit = &self.0.audit;
        entries
            .add("audit.commands", audit.settings().commands)
            .add("audit.failures", audit.failures())
            .add("audit.last_sequence", audit.sequence())
            .add("audit.status", if audit.is_failing() { "failing" } else { "ready" })
            .add("audit.suppressed_events", audit.suppressed());
    }

    fn add_runtime(&self, entries: &mut Entries, in_maintenance: bool) {
        let (limits, report) = (self.limits(), &self.0.report);
        let lockout = self.0.failures.rule();
        entries
            .add("runtime.auth_failure_limit", lockout.failures_max)
            .add("runtime.auth_failure_window_seconds", lockout.window.as_secs())
            .add("runtime.auth_lockout_seconds", lockout.duration.as_secs())
            .add("runtime.locked_auth_records", self.0.failures.locked_count(Instant::now()))
            .add("runtime.backup_dir", report.backup_dir.display())
            .add("runtime.expiration_sweep_interval_seconds", seconds(report.expiration_sweep_interval))
            .add("runtime.idle_timeout_seconds", seconds(report.idle_timeout))
            .add("runtime.handshake_timeout_ms", report.hello_timeout.as_millis())
            .add("runtime.key_rotation_days", days(report.key_age_max))
            .add("runtime.maintenance_mode", in_maintenance)
            .add("runtime.max_connections", report.sessions_max)
            .add("runtime.max_key_bytes", limits.key_bytes_max)
            .add("runtime.max_keys_per_batch", limits.batch_keys_max)
            .add("runtime.max_request_payload_bytes", limits.request_payload_bytes_max)
            .add("runtime.max_transaction_queue_len", limits.transaction_commands_max)
            .add("runtime.max_value_bytes", limits.value_bytes_max)
            .add("runtime.request_burst", limits.request_rate.burst)
            .add("runtime.requests_per_second", limits.request_rate.per_second)
            .add("runtime.slow_command_threshold_ms", millis(self.0.audit.settings().slow_command_threshold))
            .add("runtime.snapshot_interval_seconds", seconds(report.snapshot_interval))
            .add("runtime.snapshot_log_bytes", or_disabled(report.snapshot_log_bytes))
            .add("runtime.transaction_max_seconds", limits.transaction_time_max.as_secs())
            .add("runtime.wal_retain_segments", report.wal_retain_segments)
            .add("runtime.wal_segment_size_bytes", report.wal_segment_size_bytes);
    }

    fn add_security(&self, entries: &mut Entries, status: &Status) {
        let keys = &status.keys;
        let key_age_ms = self.0.node.local().now_ms.saturating_sub(keys.active_created_ms);
        let is_required = self.0.requires_login;
        entries
            .add("security.auth_mode", if is_required { "password" } else { "disabled" })
            .add("security.auth_required", is_required)
            .add("security.insecure_auth_disabled", !is_required)
            .add("security.insecure_default_credentials", self.0.has_default_credentials)
            .add("security.rbac_enabled", is_required)
            .add("security.storage_encryption", "enabled")
            .add("security.storage_key_age_seconds", key_age_ms / 1000)
            .add("security.storage_key_count", keys.count)
            .add("security.storage_key_id", &keys.active_id)
            .add("security.storage_keyring_wrapped", keys.wrapped);
    }

    fn add_server(&self, entries: &mut Entries, status: &Status, root: &Root) {
        let report = &self.0.report;
        let now_ms = self.0.node.local().now_ms;
        let compression = if report.compression { "zstd" } else { "none" };
        let threshold = if report.compression { report.compression_threshold_bytes } else { 0 };
        entries
            .add("server.git_sha", &report.git_sha)
            .add("server.mode", if status.cluster.is_some() { "primary-replica" } else { "single-node" })
            .add("server.version", &report.version)
            .add("storage.engine_version", ENGINE_VERSION)
            .add("storage.key_count", root.live_count(now_ms))
            .add("storage.last_applied_sequence", status.applied_index)
            .add("transport.compression", compression)
            .add("transport.compression_mode", compression)
            .add("transport.compression_threshold_bytes", threshold)
            .add("transport.max_decompressed_frame_len", report.frame_len_max)
            .add("transport.max_frame_len", report.frame_len_max)
            .add("transport.protocol_magic", "VTP2")
            .add("transport.protocol_version", 2);
    }

    fn add_identity<'a>(&self, entries: &'a mut Entries, status: &Status) -> &'a mut Entries {
        entries.add("node_id", self.node_id(status)).add("group_id", &self.0.report.group_id)
    }

    /// The members of the cluster, by name; a node that is alone lists itself.
    fn add_members<'a>(&self, entries: &'a mut Entries, status: &Status) -> &'a mut Entries {
        let Some(cluster) = &status.cluster else {
            let node_id = self.node_id(status);
            return entries
                .add(format!("member.{node_id}.advertise_addr"), &self.0.report.advertise_addr)
                .add(format!("member.{node_id}.voter"), status.role != Role::Learner);
        };
        let mut members: Vec<_> = cluster.members.iter().collect();
        members.sort_by(|a, b| a.name.cmp(&b.name).then(a.node.cmp(&b.node)));
        for member in members {
            entries
                .add(format!("member.{}.advertise_addr", member.name), &member.address)
                .add(format!("member.{}.voter", member.name), member.voter);
        }
        entries
    }

    /// On a leader, the other members.
    fn followers<'s>(&self, status: &'s Status) -> Vec<&'s MemberStatus> {
        let Some(cluster) = status.cluster.as_ref().filter(|_| status.role == Role::Leader) else {
            return Vec::new();
        };
        let mut others: Vec<_> =
            cluster.members.iter().filter(|member| member.node != status.identity.node).collect();
        others.sort_by(|a, b| a.name.cmp(&b.name));
        others
    }

    /// The name the operator gave this node, or else the number it drew.
    pub(crate) fn node_id(&self, status: &Status) -> String {
        self.0.report.node_id.clone().unwrap_or_else(|| status.identity.node.to_string())
    }

    /// What a member is called.
    pub(crate) fn name_of(&self, status: &Status, node: NodeId) -> String {
        let member =
            status.cluster.iter().flat_map(|cluster| &cluster.members).find(|member| member.node == node);
        match member {
            Some(member) => member.name.clone(),
            None if node == status.identity.node => self.node_id(status),
            None => node.to_string(),
        }
    }

    /// The leader of a cluster; a node that is alone has none over it.
    fn leader_node_id(&self, status: &Status) -> Option<String> {
        let leader = status.leader.filter(|_| status.cluster.is_some())?;
        Some(self.name_of(status, leader))
    }

    fn leader_advertise_addr<'s>(&'s self, status: &'s Status) -> Option<&'s str> {
        let leader = status.leader?;
        let members = &status.cluster.as_ref()?.members;
        let member = members.iter().find(|member| member.node == leader)?;
        Some(&member.address)
    }
}

/// How far a member is from being of use; none for a node that is alone.
fn follower_phase(status: &Status) -> Option<&'static str> {
    Some(match status.cluster.as_ref()?.phase {
        Phase::Bootstrap => "bootstrap",
        Phase::CatchingUp => "catching_up",
        Phase::Streaming => "streaming",
        Phase::Stale => "stale",
    })
}

/// What the disk has against writes; reads are answered all the same.
pub(crate) fn disk(status: &Status) -> &'static str {
    if status.wal.is_stuck {
        "disk_failing"
    } else if status.wal.is_short {
        "disk_full"
    } else {
        "none"
    }
}

fn quorum_size(status: &Status) -> usize {
    status.voters / 2 + 1
}

fn days(period: Option<Duration>) -> impl Display {
    or_disabled(period.map(|period| period.as_secs() / (24 * 60 * 60)))
}

fn seconds(period: Option<Duration>) -> impl Display {
    or_disabled(period.map(|period| period.as_secs()))
}

fn millis(period: Option<Duration>) -> impl Display {
    or_disabled(period.map(|period| period.as_millis()))
}

fn or_disabled(value: Option<impl Display>) -> impl Display {
    value.map_or_else(|| DISABLED.to_owned(), |value| value.to_string())
}
