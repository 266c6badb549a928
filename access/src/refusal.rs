//! The refusals of the door, each with its stable code and its one message.

use std::fmt::Display;
use std::time::Duration;

use bytestring::ByteString;
use vaylix_consensus::LeaderHint;
use vaylix_proto::{Code, ErrorReply};

macro_rules! fixed {
    ($($(#[$doc:meta])+ $name:ident, $code:ident, $message:literal;)+) => {$(
        $(#[$doc])+
        #[must_use]
        pub fn $name() -> ErrorReply {
            ErrorReply::new(Code::$code, ByteString::from_static($message))
        }
    )+};
}

fixed! {
    /// The audit log cannot be written, and what is not written down does not happen.
    audit_unwritable, ServerFilesystemIoFailure,
        "filesystem I/O failed: the audit log cannot be written, so logins and administration have to wait";
    /// The command would change something, or lead to a change.
    in_maintenance, MaintenanceModeEnabled, "maintenance mode is enabled";
    /// The time that the request gave was over before it was begun.
    too_late, RequestDeadlineExceeded, "request deadline exceeded";
    /// The session has not logged in, or its user is gone.
    login_required, AuthenticationRequired, "client authentication is required";
    /// User or password is wrong; which of them is not told.
    login_failed, AuthenticationFailed, "client authentication failed";
    /// The connection sends faster than its bucket is refilled.
    rate_limited, RateLimitExceeded, "request rate limit exceeded";
    /// A key, value, batch, payload or transaction is longer than configured.
    quota_exceeded, QuotaExceeded, "request exceeds configured quotas";
    /// MULTI inside a transaction.
    transaction_active, TransactionAlreadyActive, "transaction already active for this session";
    /// EXEC or DISCARD outside a transaction.
    no_transaction, NoActiveTransaction, "no active transaction for this session";
    /// The command makes no sense on this server.
    unsupported, UnsupportedRemoteCommand, "unsupported remote command";
    /// The command cannot wait for EXEC.
    not_in_transaction, UnsupportedRemoteCommand,
        "unsupported remote command: it cannot be part of a transaction, which stays open";
    /// The command is part of the protocol, but this release does not offer it.
    unavailable, UnsupportedRemoteCommand, "unsupported remote command: not available in this release";
    /// A node that was started alone is no member of anything.
    alone, UnsupportedRemoteCommand,
        "unsupported remote command: this node was started alone; to make it the first of a cluster, start it on the same data \
         directory with --node-id, --cluster-peers and --cluster-secret-file, then CLUSTER JOIN the others";
    /// A grant is missing.
    denied, PermissionDenied, "permission denied";
    /// The role `admin` keeps its name and its permission.
    protected_role, ProtectedRole, "role is protected: admin";
    /// Somebody must be able to administer the server.
    last_admin, LastAdminUser, "cannot remove the last admin user";
    /// Hashing failed, or a stored hash cannot be read.
    hashing_failed, AuthenticationConfigurationInvalid, "server authentication configuration is invalid";
    /// The server is stopping, or its engine has stopped.
    closed, EngineWorkerClosed, "engine worker is unavailable";
    /// Nobody can say whether the write will survive: read before writing again.
    outcome_unknown, ReplicationAcknowledgementUnavailable, "replication write acknowledgement is unavailable";
    /// Too few nodes answer for the leader to take writes; nothing was done.
    no_quorum, ReplicationAcknowledgementUnavailable,
        "replication write acknowledgement is unavailable: no majority of the nodes answers; nothing was done";
    /// The leader could not make sure that it still leads, so it does not answer from what may be the past.
    unconfirmed, ReplicationAcknowledgementUnavailable,
        "replication write acknowledgement is unavailable: no majority of the nodes confirms the read; try again";
    /// The node has been started, and does not have the users of its cluster yet.
    uninformed, EngineWorkerClosed,
        "engine worker is unavailable: this node is still catching up with its cluster; try again";
    /// The node knows that its state is not that of its cluster.
    quarantined, EngineWorkerClosed,
        "engine worker is unavailable: the state of this node differs from that of its cluster and is being learnt anew; ask \
         another node";
    /// Members keep what the leader sends them, or the leader may lose what it acknowledged.
    not_pausable, UnsupportedRemoteCommand,
        "unsupported remote command: replication is not paused: a member that takes nothing in would count for a \
         majority that it does not help to reach; stop the node, or take it out with CLUSTER REMOVE";
    /// Access records moved on again and again while the request was retried; nothing was done.
    contended, RateLimitExceeded, "access rules kept changing while the request was retried; nothing was done";
}

/// A write reached a node that is not the leader. The message says who is, in a form that programs may read:
/// `; leader=<node id> address=<host:port>` at its end.
#[must_use]
pub fn not_leader(leader: Option<&LeaderHint>) -> ErrorReply {
    const MESSAGE: &str = "writes are rejected on follower nodes";
    let message = match leader {
        Some(leader) if !leader.address.is_empty() => {
            format!("{MESSAGE}; leader={} address={}", leader.name, leader.address).into()
        }
        _ => ByteString::from_static(MESSAGE),
    };
    ErrorReply::new(Code::FollowerWriteRejected, message)
}

macro_rules! named {
    ($($(#[$doc:meta])+ $name:ident, $code:ident, $message:literal;)+) => {$(
        $(#[$doc])+
        pub(crate) fn $name(what: impl Display) -> ErrorReply {
            ErrorReply::new(Code::$code, format!($message, what))
        }
    )+};
}

named! {
    /// The password is too simple; what it lacks.
    weak_password, PasswordPolicyViolation, "password does not satisfy the configured policy: it needs {}";
    /// There is no such permission.
    unknown_permission, InvalidPermission, "unknown permission: {}";
    /// CREATE USER of an existing one.
    user_exists, UserAlreadyExists, "user already exists: {}";
    /// There is no such user.
    no_such_user, UserNotFound, "user not found: {}";
    /// CREATE ROLE of an existing one.
    role_exists, RoleAlreadyExists, "role already exists: {}";
    /// There is no such role.
    no_such_role, RoleNotFound, "role not found: {}";
    /// A transaction outlived its limit, named in seconds.
    transaction_expired, TransactionExpired, "transaction expired after {} seconds";
    /// An access record cannot be written.
    record_unwritable, AuthStoreSerializationFailure, "auth store serialization failed: {}";
    /// An access record cannot be read.
    record_unreadable, AuthStoreDeserializationFailure, "auth store deserialization failed: {}";
    /// An answer that takes more than this many bytes.
    answer_too_large, FrameTooLarge, "frame too large: the answer exceeds maximum {} bytes";
    /// A write that a majority has, but not every node in time; which entry.
    not_on_all, ReplicationAcknowledgementTimeout,
        "replication write acknowledgement timed out for sequence {} in mode all; a majority has it and it is in force";
    /// The membership cannot be changed like that, or not now.
    membership, InvalidArguments, "invalid command-line arguments: {}";
    /// The office stays where it is.
    promotion, ReplicationPromotionDenied, "replication promotion denied: {}";
    /// A backup that no frame of this many bytes can carry.
    backup_too_large, FrameTooLarge, "frame too large: the backup exceeds maximum {} bytes";
}

/// A login of this user during a lockout that ends so much later.
pub(crate) fn locked(user: impl Display, left: Duration) -> ErrorReply {
    // Whoever comes back as told must not come too early.
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    let message = format!("authentication lockout active for {user}; try again in {seconds} s");
    ErrorReply::new(Code::AuthenticationLocked, message)
}

/// A failure of the engine, marked as such for the reader.
pub(crate) fn engine(code: Code, failure: impl Display) -> ErrorReply {
    ErrorReply::new(code, format!("engine failure: {failure}"))
}
