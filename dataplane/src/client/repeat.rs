//! What may be sent again without asking.
//!
//! A request whose answer got lost was executed, will be, or never was. Sending it again is harmless only if it
//! changes nothing. No write qualifies: a `SET` repeated late puts an old value over a newer one, and every write
//! counts the version on.

use vaylix_proto::{Command, Dump};

/// Whether a command changes nothing, so that it can be repeated when its answer got lost.
#[must_use]
pub fn may_repeat(command: &Command) -> bool {
    match command {
        Command::Ping { .. }
        | Command::Get { .. }
        | Command::MGet { .. }
        | Command::Exists { .. }
        | Command::Ttl { .. }
        | Command::Scan { .. }
        | Command::DbSize
        | Command::Count
        | Command::List
        | Command::Info
        | Command::Metrics
        | Command::MetricsProm
        | Command::Health
        | Command::WhoAmI
        | Command::ShowUsers
        | Command::ShowRoles
        | Command::ShowGrants
        | Command::ShowGrantsForUser { .. }
        | Command::ShowGrantsForRole { .. }
        | Command::ShowCluster
        | Command::ShowReplication
        | Command::MaintenanceStatus
        | Command::Backup
        | Command::BackupVerify(_)
        | Command::RestoreCheck(_) => true,
        Command::GetEx { expiration, persist, .. } => expiration.is_none() && !persist,
        // They change the session, which is lost together with the answer.
        Command::Auth { .. } | Command::Multi => true,
        _ => false,
    }
}

/// Whether a command is about the node that it is sent to, so that no other can stand in for it.
pub(super) fn is_for_this_node(command: &Command) -> bool {
    matches!(
        command,
        Command::PromoteFollower
            | Command::PauseReplication
            | Command::ResumeReplication
            | Command::Save
            | Command::Snapshot
            | Command::BackupTo { .. }
            | Command::BackupVerify(Dump::File(_))
            | Command::Restore(Dump::File(_))
            | Command::RestoreCheck(Dump::File(_))
    )
}

/// Whether a command may take long however well everything is, so that waiting must have no end.
pub(super) fn takes_its_time(command: &Command) -> bool {
    matches!(
        command,
        Command::Save
            | Command::Snapshot
            | Command::Backup
            | Command::BackupTo { .. }
            | Command::BackupVerify(_)
            | Command::Restore(_)
            | Command::RestoreCheck(_)
            | Command::List
            | Command::Clear
            | Command::Exec
    )
}

#[cfg(test)]
mod tests {
    use vaylix_proto::SetOptions;

    use super::*;

    #[test]
    fn no_write_is_repeated() {
        let key = || "k".into();
        let writes = [
            Command::Set { key: key(), value: "v".into(), options: SetOptions::default() },
            Command::SetNx { key: key(), value: "v".into() },
            Command::MSet { pairs: vec![(key(), "v".into())] },
            Command::Del { keys: vec![key()] },
            Command::GetDel { key: key() },
            Command::GetEx { key: key(), expiration: None, persist: true },
            Command::Incr { key: key() },
            Command::Expire { key: key(), seconds: 1 },
            Command::Rename { source: key(), destination: key() },
            Command::Clear,
            Command::Exec,
            Command::Restore(Dump::Inline("{}".into())),
            Command::CreateRole { role: "r".into() },
            Command::MaintenanceOn,
            Command::ClusterRemove { node: "n".into() },
            Command::Save,
        ];
        for command in writes {
            assert!(!may_repeat(&command), "{command:?}");
        }
        assert!(may_repeat(&Command::Get { key: key() }));
        assert!(may_repeat(&Command::GetEx { key: key(), expiration: None, persist: false }));
    }
}
