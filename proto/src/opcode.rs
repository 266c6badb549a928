//! The opcodes: one table of numbers and names.

use crate::error::WireError;

macro_rules! opcodes {
    ($($variant:ident, $byte:literal, $name:literal;)+) => {
        /// What a request is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each variant is its name; docs/commands.md says what it does")]
        #[repr(u8)]
        pub enum Opcode { $($variant = $byte,)+ }

        impl Opcode {
            /// Every opcode there is, ascending.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The opcode with this number.
            ///
            /// # Errors
            /// [`WireError::UnknownOpcode`].
            pub const fn from_u8(byte: u8) -> Result<Self, WireError> {
                match byte { $($byte => Ok(Self::$variant),)+ _ => Err(WireError::UnknownOpcode(byte)) }
            }

            /// The name in logs and metrics, for example `BACKUP_TO`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

opcodes! {
    Auth, 0x01, "AUTH";
    Ping, 0x02, "PING";
    Get, 0x03, "GET";
    GetDel, 0x04, "GETDEL";
    GetEx, 0x05, "GETEX";
    Set, 0x06, "SET";
    SetNx, 0x07, "SETNX";
    Del, 0x08, "DEL";
    Exists, 0x09, "EXISTS";
    MGet, 0x0A, "MGET";
    MSet, 0x0B, "MSET";
    Incr, 0x0C, "INCR";
    Decr, 0x0D, "DECR";
    Expire, 0x0E, "EXPIRE";
    Ttl, 0x0F, "TTL";
    Persist, 0x10, "PERSIST";
    Rename, 0x11, "RENAME";
    RenameNx, 0x12, "RENAMENX";
    Scan, 0x13, "SCAN";
    DbSize, 0x14, "DBSIZE";
    Info, 0x15, "INFO";
    Metrics, 0x16, "METRICS";
    List, 0x17, "LIST";
    Clear, 0x18, "CLEAR";
    Count, 0x19, "COUNT";
    Save, 0x1A, "SAVE";
    Snapshot, 0x1B, "SNAPSHOT";
    Multi, 0x1C, "MULTI";
    Exec, 0x1D, "EXEC";
    Discard, 0x1E, "DISCARD";
    Backup, 0x1F, "BACKUP";
    Restore, 0x20, "RESTORE";
    CreateUser, 0x21, "CREATE_USER";
    DropUser, 0x22, "DROP_USER";
    CreateRole, 0x23, "CREATE_ROLE";
    DropRole, 0x24, "DROP_ROLE";
    GrantRole, 0x25, "GRANT_ROLE";
    RevokeRole, 0x26, "REVOKE_ROLE";
    GrantPermission, 0x27, "GRANT_PERMISSION";
    RevokePermission, 0x28, "REVOKE_PERMISSION";
    ShowUsers, 0x29, "SHOW_USERS";
    ShowRoles, 0x2A, "SHOW_ROLES";
    WhoAmI, 0x2B, "WHOAMI";
    BackupTo, 0x2C, "BACKUP_TO";
    RestoreFrom, 0x2D, "RESTORE_FROM";
    RestoreCheck, 0x2E, "RESTORE_CHECK";
    RestoreCheckFrom, 0x2F, "RESTORE_CHECK_FROM";
    AlterUserPassword, 0x30, "ALTER_USER_PASSWORD";
    MetricsProm, 0x31, "METRICS_PROM";
    BackupVerify, 0x32, "BACKUP_VERIFY";
    BackupVerifyFrom, 0x33, "BACKUP_VERIFY_FROM";
    ShowGrants, 0x34, "SHOW_GRANTS";
    ShowGrantsForUser, 0x35, "SHOW_GRANTS_FOR_USER";
    ShowGrantsForRole, 0x36, "SHOW_GRANTS_FOR_ROLE";
    MaintenanceOn, 0x37, "MAINTENANCE_ON";
    MaintenanceOff, 0x38, "MAINTENANCE_OFF";
    MaintenanceStatus, 0x39, "MAINTENANCE_STATUS";
    Health, 0x3A, "HEALTH";
    ShowCluster, 0x3B, "SHOW_CLUSTER";
    ClusterJoin, 0x3C, "CLUSTER_JOIN";
    ClusterRemove, 0x3D, "CLUSTER_REMOVE";
    ShowReplication, 0x3E, "SHOW_REPLICATION";
    PromoteFollower, 0x3F, "PROMOTE_FOLLOWER";
    PauseReplication, 0x40, "PAUSE_REPLICATION";
    ResumeReplication, 0x41, "RESUME_REPLICATION";
    ReplicationStatus, 0x42, "REPLICATION_STATUS";
    ReplicationSnapshot, 0x43, "REPLICATION_SNAPSHOT";
    ReplicationFetch, 0x44, "REPLICATION_FETCH";
    ReplicationAck, 0x45, "REPLICATION_ACK";
    ReplicationVote, 0x46, "REPLICATION_VOTE";
    ReplicationHeartbeat, 0x47, "REPLICATION_HEARTBEAT";
    ReplicationAppend, 0x48, "REPLICATION_APPEND";
    ReplicationInstallSnapshot, 0x49, "REPLICATION_INSTALL_SNAPSHOT";
}

impl Opcode {
    /// The number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether only servers say this to each other. The payload is private to them then, and is no command.
    #[must_use]
    pub const fn is_internal(self) -> bool {
        self.as_u8() >= Self::ReplicationStatus.as_u8()
    }
}
