//! What each command needs: the master table, one row for every command.

use vaylix_proto::Command;

use crate::permission::{Permission, Permissions};

/// The permission a command needs, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Not even a login.
    Nothing,
    /// A login.
    Login,
    /// All of these on every key that the command names.
    Keys(Permissions),
    /// All of these on every key that the command's pattern can match.
    Pattern(Permissions),
    /// This one on `*`.
    Everywhere(Permission),
}

/// What happens to a command while the session's transaction is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InTransaction {
    /// It waits for EXEC.
    Queued,
    /// It opens, carries out or drops the transaction, or logs in.
    Immediate,
    /// It is refused.
    Refused,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) need: Need,
    /// Whether only the leader can do it.
    pub(crate) leader_only: bool,
    pub(crate) in_transaction: InTransaction,
    /// Whether maintenance mode lets it through.
    pub(crate) in_maintenance: bool,
}

const READ: Permissions = Permissions::of(&[Permission::Read]);
const WRITE: Permissions = Permissions::of(&[Permission::Write]);
/// Writes that also tell what was there.
const READ_WRITE: Permissions = Permissions::of(&[Permission::Read, Permission::Write]);

impl Rule {
    /// The row of `command`.
    pub(crate) fn of(command: &Command) -> Self {
        use Command as C;
        match command {
            C::Auth { .. } => Self::new(Need::Nothing, false, InTransaction::Immediate),
            C::Ping { .. } => Self::queued(Need::Nothing, false),

            C::Get { .. } | C::MGet { .. } | C::Exists { .. } | C::Ttl { .. } => {
                Self::queued(Need::Keys(READ), false)
            }
            C::Scan { .. } => Self::queued(Need::Pattern(READ), false),
            C::DbSize | C::Count | C::List => Self::queued(Need::Everywhere(Permission::Read), false),

            C::Set { options, .. } if options.return_previous => Self::queued(Need::Keys(READ_WRITE), true),
            C::GetDel { .. } => Self::queued(Need::Keys(READ_WRITE), true),
            C::GetEx { expiration, persist, .. } => {
                Self::queued(Need::Keys(READ_WRITE), expiration.is_some() || *persist)
            }
            C::Set { .. }
            | C::SetNx { .. }
            | C::Del { .. }
            | C::MSet { .. }
            | C::Incr { .. }
            | C::Decr { .. }
            | C::Expire { .. }
            | C::Persist { .. }
            | C::Rename { .. }
            | C::RenameNx { .. } => Self::queued(Need::Keys(WRITE), true),
            C::Clear => Self::queued(Need::Everywhere(Permission::Clear), true),

            C::Multi | C::Exec => Self::new(Need::Login, true, InTransaction::Immediate),
            // What is open must not have to stay open.
            C::Discard => Self::new(Need::Login, true, InTransaction::Immediate).with_maintenance(true),

            C::Info | C::Metrics | C::MetricsProm => {
                Self::direct(Need::Everywhere(Permission::Metrics), false)
            }
            C::Save | C::Snapshot => Self::direct(Need::Everywhere(Permission::Snapshot), true),
            C::Backup | C::BackupVerify(_) => Self::direct(Need::Everywhere(Permission::Backup), false),
            // It writes a file of the server.
            C::BackupTo { .. } => {
                Self::direct(Need::Everywhere(Permission::Backup), false).with_maintenance(false)
            }
            C::Restore(_) => Self::direct(Need::Everywhere(Permission::Restore), true),
            C::RestoreCheck(_) => Self::direct(Need::Everywhere(Permission::Restore), false),

            C::CreateUser { .. } | C::AlterUserPassword { .. } | C::DropUser { .. } => {
                Self::direct(Need::Everywhere(Permission::UserAdmin), true)
            }
            C::CreateRole { .. }
            | C::DropRole { .. }
            | C::GrantRole { .. }
            | C::RevokeRole { .. }
            | C::GrantPermission { .. }
            | C::RevokePermission { .. } => Self::direct(Need::Everywhere(Permission::RoleAdmin), true),
            C::ShowUsers | C::ShowGrantsForUser { .. } => {
                Self::direct(Need::Everywhere(Permission::UserAdmin), false)
            }
            C::ShowRoles | C::ShowGrantsForRole { .. } => {
                Self::direct(Need::Everywhere(Permission::RoleAdmin), false)
            }

            C::ShowGrants | C::WhoAmI | C::MaintenanceStatus | C::Health => Self::direct(Need::Login, false),
            C::ShowCluster | C::ShowReplication => Self::direct(Need::Everywhere(Permission::Admin), false),
            C::ClusterJoin { .. } | C::ClusterRemove { .. } => {
                Self::direct(Need::Everywhere(Permission::Admin), true)
            }
            // On again, off again: both are always possible.
            C::MaintenanceOn | C::MaintenanceOff => {
                Self::direct(Need::Everywhere(Permission::Admin), true).with_maintenance(true)
            }
            // These change the node that is asked, leader or not.
            C::PromoteFollower => Self::direct(Need::Everywhere(Permission::Admin), false),
            C::PauseReplication | C::ResumeReplication => {
                Self::direct(Need::Everywhere(Permission::Admin), false).with_maintenance(false)
            }
        }
    }

    /// Whether the answer is about this node, or about files, and so is right also where the state is not.
    pub(crate) fn needs_no_state(command: &Command) -> bool {
        use Command as C;
        matches!(
            command,
            C::Ping { .. }
                | C::Info
                | C::Metrics
                | C::MetricsProm
                | C::Health
                | C::ShowCluster
                | C::ShowReplication
                | C::MaintenanceStatus
                | C::WhoAmI
                | C::BackupVerify(_)
                | C::RestoreCheck(_)
        )
    }

    /// Maintenance mode lets through what any node can do: that changes nothing.
    const fn new(need: Need, leader_only: bool, in_transaction: InTransaction) -> Self {
        Self { need, leader_only, in_transaction, in_maintenance: !leader_only }
    }

    const fn with_maintenance(self, in_maintenance: bool) -> Self {
        Self { in_maintenance, ..self }
    }

    const fn queued(need: Need, leader_only: bool) -> Self {
        Self::new(need, leader_only, InTransaction::Queued)
    }

    const fn direct(need: Need, leader_only: bool) -> Self {
        Self::new(need, leader_only, InTransaction::Refused)
    }
}

/// Whether `allowed` says yes to every key that `command` names. A command that names none is not covered by
/// permissions on keys: no.
pub(crate) fn every_key(command: &Command, allowed: impl Fn(&str) -> bool) -> bool {
    use Command as C;
    match command {
        C::Get { key }
        | C::GetDel { key }
        | C::GetEx { key, .. }
        | C::Set { key, .. }
        | C::SetNx { key, .. }
        | C::Exists { key }
        | C::Incr { key }
        | C::Decr { key }
        | C::Expire { key, .. }
        | C::Ttl { key }
        | C::Persist { key } => allowed(key),
        C::Rename { source, destination } | C::RenameNx { source, destination } => {
            allowed(source) && allowed(destination)
        }
        C::Del { keys } | C::MGet { keys } if !keys.is_empty() => keys.iter().all(|key| allowed(key)),
        C::MSet { pairs } if !pairs.is_empty() => pairs.iter().all(|(key, _)| allowed(key)),
        _ => false,
    }
}
