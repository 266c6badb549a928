//! What the audit log says about a command that it always tells of.

use vaylix_proto::opcode::Opcode;
use vaylix_proto::{Command, Dump, Text};

/// An event to be written when the outcome is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) event_type: &'static str,
    /// Names and values. Never a password, a value or a document.
    pub(crate) details: Vec<(&'static str, Text)>,
}

/// Whether requests of this kind are always written down, whatever becomes of them.
pub(crate) fn is_watched(opcode: Opcode) -> bool {
    use Opcode as O;
    matches!(
        opcode,
        O::Auth
            | O::Clear
            | O::Backup
            | O::BackupTo
            | O::Restore
            | O::RestoreFrom
            | O::CreateUser
            | O::AlterUserPassword
            | O::DropUser
            | O::CreateRole
            | O::DropRole
            | O::GrantRole
            | O::RevokeRole
            | O::GrantPermission
            | O::RevokePermission
            | O::MaintenanceOn
            | O::MaintenanceOff
            | O::ClusterJoin
            | O::ClusterRemove
            | O::PromoteFollower
            | O::PauseReplication
            | O::ResumeReplication
    )
}

impl Subject {
    /// What there is to say about `command`; none when it is not watched.
    pub(crate) fn of(command: &Command) -> Option<Self> {
        use Command as C;
        let text = Text::from_static;
        Some(match command {
            C::Auth { user, .. } => Self::new("auth", &[("username", user)]),
            C::CreateUser { user, .. } => Self::new("rbac_create_user", &[("target_user", user)]),
            C::AlterUserPassword { user, .. } => {
                Self::new("rbac_alter_user_password", &[("target_user", user)])
            }
            C::DropUser { user } => Self::new("rbac_drop_user", &[("target_user", user)]),
            C::CreateRole { role } => Self::new("rbac_create_role", &[("role", role)]),
            C::DropRole { role } => Self::new("rbac_drop_role", &[("role", role)]),
            C::GrantRole { role, user } => {
                Self::new("rbac_grant_role", &[("role", role), ("target_user", user)])
            }
            C::RevokeRole { role, user } => {
                Self::new("rbac_revoke_role", &[("role", role), ("target_user", user)])
            }
            C::GrantPermission { permission, pattern, role } => Self::new(
                "rbac_grant_permission",
                &[("pattern", pattern), ("permission", permission), ("role", role)],
            ),
            C::RevokePermission { permission, pattern, role } => Self::new(
                "rbac_revoke_permission",
                &[("pattern", pattern), ("permission", permission), ("role", role)],
            ),
            C::MaintenanceOn => Self::new("maintenance_mode", &[("enabled", &text("true"))]),
            C::MaintenanceOff => Self::new("maintenance_mode", &[("enabled", &text("false"))]),
            C::Clear => Self::new("clear", &[]),
            C::Backup => Self::new("backup", &[]),
            C::BackupTo { path } => Self::new("backup", &[("path", path)]),
            C::Restore(Dump::Inline(_)) => Self::new("restore", &[]),
            C::Restore(Dump::File(path)) => Self::new("restore", &[("path", path)]),
            C::ClusterJoin { node, address } => {
                Self::new("cluster_join", &[("address", address), ("node_id", node)])
            }
            C::ClusterRemove { node } => Self::new("cluster_remove", &[("node_id", node)]),
            C::PromoteFollower => Self::new("replication_promote", &[]),
            C::PauseReplication => Self::new("replication_pause", &[("paused", &text("true"))]),
            C::ResumeReplication => Self::new("replication_pause", &[("paused", &text("false"))]),
            _ => return None,
        })
    }

    pub(crate) fn new(event_type: &'static str, details: &[(&'static str, &Text)]) -> Self {
        let details = details.iter().map(|(name, value)| (*name, (*value).clone())).collect();
        Self { event_type, details }
    }
}
