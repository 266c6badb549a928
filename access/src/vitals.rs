//! What a node says of itself to anybody who watches it: no names, no addresses, nothing to log in for.

use std::time::Duration;

use vaylix_consensus::{Phase, Role};

use crate::door::Door;
use crate::status::{Health, disk};

/// How a node is, for probes and for the header of every answer of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// Its cluster, as 32 hexadecimal digits.
    pub cluster_id: String,
    /// The id it drew.
    pub node_id: String,
    /// What its operator calls it, or else its id.
    pub node_name: String,
    /// The term of its last vote.
    pub term: u64,
    /// The last entry that is part of its state.
    pub applied_index: u64,
    /// What it is.
    pub role: Role,
    /// Whether it was started to be one of several.
    pub clustered: bool,
    /// Whether clients are served; what HEALTH calls `ready`.
    pub ready: bool,
    /// Why not: what HEALTH calls `reason`; `none` when they are.
    pub reason: &'static str,
    /// Whether it takes writes, as far as its office goes.
    pub leads: bool,
    /// What the disk has against writes: `none`, `disk_full` or `disk_failing`.
    pub disk: &'static str,
    /// Whether only what changes nothing is let in; `None` when the access records cannot be read.
    pub in_maintenance: Option<bool>,
    /// Whether the audit log is being written.
    pub audit_works: bool,
    /// Entries that its log has and its state has not. On a follower: how far it is behind, as of the last word of its leader.
    pub lag_entries: u64,
    /// How long no leader has been heard of; `None` on a leader, and before the first one.
    pub leader_silence: Option<Duration>,
    /// Whether it leaves clients and the office to others.
    pub draining: bool,
    /// Whether it has had everything since its start that was acknowledged before it.
    pub informed: bool,
}

impl Door {
    /// How the node is. Needs no login, waits for nothing and touches no disk.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        let status = self.0.node.status();
        let health = Health::of(&status);
        let cluster = status.cluster.as_ref();
        Vitals {
            cluster_id: status.identity.cluster.to_string(),
            node_id: status.identity.node.to_string(),
            node_name: self.node_id(&status),
            term: status.term,
            applied_index: status.applied_index,
            role: status.role,
            clustered: cluster.is_some(),
            ready: health.is_ready(),
            reason: health.reason,
            leads: self.0.node.leads() && cluster.is_none_or(|cluster| cluster.has_quorum),
            disk: disk(&status),
            in_maintenance: self.policy().ok().map(|policy| policy.in_maintenance()),
            audit_works: !self.0.audit.is_failing(),
            lag_entries: status.last_index.saturating_sub(status.applied_index),
            leader_silence: cluster.and_then(|cluster| cluster.leader_silence),
            draining: self.is_draining(),
            informed: cluster.is_none_or(|cluster| cluster.is_informed && cluster.phase != Phase::Bootstrap),
        }
    }

    /// Where the control plane of the leader is reached, if the leader says so in time.
    pub async fn leader_admin_address(&self) -> Option<String> {
        self.0.node.leader_admin_address().await
    }
}
