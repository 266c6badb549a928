//! Size limits on the arguments of a command. They are checked before anything else is known about it.

use vaylix_proto::{Command, Dump, ErrorReply};

use crate::refusal;
use crate::settings::Limits;

/// Refuses a command whose arguments are too long or too many.
///
/// Names, permission names and patterns count as keys; passwords, paths and addresses as values; a document
/// sent for restoring or verifying may be as long as a request. The text of PING has no limit of its own.
///
/// # Errors
/// `SRV-013`.
pub(crate) fn check(command: &Command, limits: &Limits) -> Result<(), ErrorReply> {
    if fits(command, limits) { Ok(()) } else { Err(refusal::quota_exceeded()) }
}

fn fits(command: &Command, limits: &Limits) -> bool {
    use Command as C;
    let key = |text: &str| text.len() <= limits.key_bytes_max;
    let value = |bytes: &[u8]| bytes.len() <= limits.value_bytes_max;
    let dump = |dump: &Dump| match dump {
        Dump::Inline(document) => document.len() <= limits.request_payload_bytes_max,
        Dump::File(path) => value(path.as_bytes()),
    };
    match command {
        C::Get { key: name }
        | C::GetDel { key: name }
        | C::GetEx { key: name, .. }
        | C::Exists { key: name }
        | C::Incr { key: name }
        | C::Decr { key: name }
        | C::Expire { key: name, .. }
        | C::Ttl { key: name }
        | C::Persist { key: name }
        | C::DropUser { user: name }
        | C::CreateRole { role: name }
        | C::DropRole { role: name }
        | C::ShowGrantsForUser { user: name }
        | C::ShowGrantsForRole { role: name }
        | C::ClusterRemove { node: name } => key(name),
        C::Set { key: name, value: bytes, .. } | C::SetNx { key: name, value: bytes } => {
            key(name) && value(bytes)
        }
        C::Del { keys } | C::MGet { keys } => {
            keys.len() <= limits.batch_keys_max && keys.iter().all(|name| key(name))
        }
        C::MSet { pairs } => {
            pairs.len() <= limits.batch_keys_max
                && pairs.iter().all(|(name, bytes)| key(name) && value(bytes))
        }
        C::Rename { source, destination } | C::RenameNx { source, destination } => {
            key(source) && key(destination)
        }
        C::Scan { pattern, .. } => pattern.as_ref().is_none_or(|pattern| key(pattern)),
        C::Auth { user, password }
        | C::CreateUser { user, password }
        | C::AlterUserPassword { user, password } => key(user) && value(password.as_bytes()),
        C::GrantRole { role, user } | C::RevokeRole { role, user } => key(role) && key(user),
        C::GrantPermission { permission, pattern, role }
        | C::RevokePermission { permission, pattern, role } => key(permission) && key(pattern) && key(role),
        C::ClusterJoin { node, address } => key(node) && value(address.as_bytes()),
        C::BackupTo { path } => value(path.as_bytes()),
        C::BackupVerify(document) | C::Restore(document) | C::RestoreCheck(document) => dump(document),
        C::Ping { .. }
        | C::DbSize
        | C::Info
        | C::Metrics
        | C::MetricsProm
        | C::List
        | C::Clear
        | C::Count
        | C::Save
        | C::Snapshot
        | C::Multi
        | C::Exec
        | C::Discard
        | C::Backup
        | C::ShowUsers
        | C::ShowRoles
        | C::ShowGrants
        | C::WhoAmI
        | C::MaintenanceOn
        | C::MaintenanceOff
        | C::MaintenanceStatus
        | C::Health
        | C::ShowCluster
        | C::ShowReplication
        | C::PromoteFollower
        | C::PauseReplication
        | C::ResumeReplication => true,
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::settings::Limits;
    use bytes::Bytes;
    use vaylix_proto::{Code, Command, Dump, SetOptions, Text};

    fn limits() -> Limits {
        Limits {
            key_bytes_max: 8,
            value_bytes_max: 16,
            batch_keys_max: 3,
            request_payload_bytes_max: 32,
            ..Limits::default()
        }
    }

    fn text(len: usize) -> Text {
        "x".repeat(len).into()
    }

    fn is_refused(command: &Command) -> bool {
        match check(command, &limits()) {
            Ok(()) => false,
            Err(refusal) => {
                assert_eq!(refusal.known_code(), Some(Code::QuotaExceeded));
                true
            }
        }
    }

    /// Every command with one text of the given length in each limited place, one place at a time.
    fn keyed(n: usize) -> Vec<Command> {
        use Command as C;
        let (k, ok) = (text(n), text(1));
        let value = Bytes::new();
        vec![
            C::Auth { user: k.clone(), password: ok.clone() },
            C::Get { key: k.clone() },
            C::GetDel { key: k.clone() },
            C::GetEx { key: k.clone(), expiration: None, persist: false },
            C::Set { key: k.clone(), value: value.clone(), options: SetOptions::default() },
            C::SetNx { key: k.clone(), value: value.clone() },
            C::Del { keys: vec![ok.clone(), k.clone()] },
            C::Exists { key: k.clone() },
            C::MGet { keys: vec![k.clone()] },
            C::MSet { pairs: vec![(ok.clone(), value.clone()), (k.clone(), value)] },
            C::Incr { key: k.clone() },
            C::Decr { key: k.clone() },
            C::Expire { key: k.clone(), seconds: 1 },
            C::Ttl { key: k.clone() },
            C::Persist { key: k.clone() },
            C::Rename { source: k.clone(), destination: ok.clone() },
            C::Rename { source: ok.clone(), destination: k.clone() },
            C::RenameNx { source: k.clone(), destination: ok.clone() },
            C::RenameNx { source: ok.clone(), destination: k.clone() },
            C::Scan { cursor: 0, pattern: Some(k.clone()), count: None },
            C::CreateUser { user: k.clone(), password: ok.clone() },
            C::AlterUserPassword { user: k.clone(), password: ok.clone() },
            C::DropUser { user: k.clone() },
            C::CreateRole { role: k.clone() },
            C::DropRole { role: k.clone() },
            C::GrantRole { role: k.clone(), user: ok.clone() },
            C::RevokeRole { role: ok.clone(), user: k.clone() },
            C::GrantPermission { permission: k.clone(), pattern: ok.clone(), role: ok.clone() },
            C::RevokePermission { permission: ok.clone(), pattern: k.clone(), role: ok.clone() },
            C::GrantPermission { permission: ok.clone(), pattern: ok.clone(), role: k.clone() },
            C::ShowGrantsForUser { user: k.clone() },
            C::ShowGrantsForRole { role: k.clone() },
            C::ClusterJoin { node: k.clone(), address: ok },
            C::ClusterRemove { node: k },
        ]
    }

    fn valued(n: usize) -> Vec<Command> {
        use Command as C;
        let (v, ok) = (text(n), text(1));
        let bytes = Bytes::from(vec![0; n]);
        vec![
            C::Auth { user: ok.clone(), password: v.clone() },
            C::Set { key: ok.clone(), value: bytes.clone(), options: SetOptions::default() },
            C::SetNx { key: ok.clone(), value: bytes.clone() },
            C::MSet { pairs: vec![(ok.clone(), bytes)] },
            C::CreateUser { user: ok.clone(), password: v.clone() },
            C::AlterUserPassword { user: ok.clone(), password: v.clone() },
            C::BackupTo { path: v.clone() },
            C::BackupVerify(Dump::File(v.clone())),
            C::Restore(Dump::File(v.clone())),
            C::RestoreCheck(Dump::File(v.clone())),
            C::ClusterJoin { node: ok, address: v },
        ]
    }

    #[test]
    fn limits_are_inclusive_and_in_bytes() {
        for (fitting, too_long) in keyed(8).iter().zip(&keyed(9)).chain(valued(16).iter().zip(&valued(17))) {
            assert!(!is_refused(fitting), "{fitting:?}");
            assert!(is_refused(too_long), "{too_long:?}");
        }
        assert!(!is_refused(&Command::Get { key: "éééé".into() }));
        assert!(is_refused(&Command::Get { key: "ééééé".into() }));
    }

    #[test]
    fn batches_are_counted() {
        for (n, refused) in [(3, false), (4, true)] {
            let keys = vec![text(1); n];
            let pairs = keys.iter().map(|key| (key.clone(), Bytes::new())).collect();
            for command in
                [Command::Del { keys: keys.clone() }, Command::MGet { keys }, Command::MSet { pairs }]
            {
                assert_eq!(is_refused(&command), refused, "{command:?}");
            }
        }
    }

    #[test]
    fn documents_may_be_as_long_as_a_request_and_ping_has_no_limit() {
        for make in [Command::BackupVerify, Command::Restore, Command::RestoreCheck] {
            assert!(!is_refused(&make(Dump::Inline(text(32)))));
            assert!(is_refused(&make(Dump::Inline(text(33)))));
        }
        assert!(!is_refused(&Command::Ping { message: Some(text(1000)) }));
    }
}
