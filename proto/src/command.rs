//! What a client can ask for, independent of how it was written down.
//!
//! A [`Command`] comes either from the bytes of a VTP2 request or from a line of text; the server only ever
//! sees the former. Keys and names are UTF-8, values are bytes. Nothing here judges permission, size or
//! meaning: a command that exists is merely well-formed.

use bytes::Bytes;
use bytestring::ByteString;

/// A key, user name, role name, pattern or path as it travels: UTF-8, cheap to clone.
pub type Text = ByteString;

/// Relative life time of a key, counted from the moment the leader stamps the write. 0 means "already over".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// Whole seconds.
    Seconds(u64),
    /// Milliseconds.
    Millis(u64),
}

impl Expiration {
    /// The life time in milliseconds, saturating: no duration is too long to be accepted.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        match self {
            Self::Seconds(seconds) => seconds.saturating_mul(1000),
            Self::Millis(millis) => millis,
        }
    }
}

/// The NX / XX condition of `SET`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Write whether or not the key exists.
    #[default]
    Always,
    /// NX: write only if the key is missing.
    IfMissing,
    /// XX: write only if the key exists.
    IfPresent,
}

/// The options of `SET`. The wire allows every combination; see `docs/compatibility.md` for what they mean
/// together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// NX / XX.
    pub condition: Condition,
    /// EX / PX. Wins over `keep_ttl`.
    pub expiration: Option<Expiration>,
    /// KEEPTTL.
    pub keep_ttl: bool,
    /// GET: answer the previous value instead of whether the write happened.
    pub return_previous: bool,
    /// IF VERSION: write only if the key exists with exactly this version.
    pub if_version: Option<u64>,
}

/// A logical backup, named by content or by place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dump {
    /// The document itself.
    Inline(Text),
    /// A file in the server's backup directory.
    File(Text),
}

/// One request of the public opcodes `0x01`–`0x41`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the arguments named in docs/commands.md")]
pub enum Command {
    Auth { user: Text, password: Text },
    Ping { message: Option<Text> },
    Get { key: Text },
    GetDel { key: Text },
    GetEx { key: Text, expiration: Option<Expiration>, persist: bool },
    Set { key: Text, value: Bytes, options: SetOptions },
    SetNx { key: Text, value: Bytes },
    Del { keys: Vec<Text> },
    Exists { key: Text },
    MGet { keys: Vec<Text> },
    MSet { pairs: Vec<(Text, Bytes)> },
    Incr { key: Text },
    Decr { key: Text },
    Expire { key: Text, seconds: u64 },
    Ttl { key: Text },
    Persist { key: Text },
    Rename { source: Text, destination: Text },
    RenameNx { source: Text, destination: Text },
    Scan { cursor: u64, pattern: Option<Text>, count: Option<u16> },
    DbSize,
    Info,
    Metrics,
    MetricsProm,
    List,
    Clear,
    Count,
    Save,
    Snapshot,
    Multi,
    Exec,
    Discard,
    Backup,
    BackupTo { path: Text },
    BackupVerify(Dump),
    Restore(Dump),
    RestoreCheck(Dump),
    CreateUser { user: Text, password: Text },
    AlterUserPassword { user: Text, password: Text },
    DropUser { user: Text },
    CreateRole { role: Text },
    DropRole { role: Text },
    GrantRole { role: Text, user: Text },
    RevokeRole { role: Text, user: Text },
    GrantPermission { permission: Text, pattern: Text, role: Text },
    RevokePermission { permission: Text, pattern: Text, role: Text },
    ShowUsers,
    ShowRoles,
    ShowGrants,
    ShowGrantsForUser { user: Text },
    ShowGrantsForRole { role: Text },
    WhoAmI,
    MaintenanceOn,
    MaintenanceOff,
    MaintenanceStatus,
    Health,
    ShowCluster,
    ClusterJoin { node: Text, address: Text },
    ClusterRemove { node: Text },
    ShowReplication,
    PromoteFollower,
    PauseReplication,
    ResumeReplication,
}
