//! The error codes: one table, the only source of codes and names.
//!
//! A code is a promise to clients and never changes its meaning; the message beside it is for humans.
//! `docs/error-codes.md` lists the same table with the situations behind each row; a test compares the two in
//! both directions.

use std::fmt;

/// What a client may do after a refusal or failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request will fail again.
    Never,
    /// Nothing happened; the same request may succeed later.
    Backoff,
    /// Nothing happened here; the same request may succeed at the leader.
    AtLeader,
    /// The write may or may not have happened: read before writing again.
    OutcomeUnknown,
}

macro_rules! codes {
    ($($variant:ident, $code:literal, $name:literal, $retry:ident;)+) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each variant is its name; docs/error-codes.md says when it is raised")]
        pub enum Code { $($variant,)+ }

        impl Code {
            /// Every code there is, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable code, for example `SRV-017`.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The stable name, for example `Permission Denied`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What a client may do about it.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)+ }
            }

            /// The code with this text, if it is one of ours.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

codes! {
    EmptyCommand, "CMD-001", "Empty Command", Never;
    UnknownCommand, "CMD-002", "Unknown Command", Never;
    InvalidCommandArity, "CMD-003", "Invalid Command Arity", Never;
    InvalidIntegerArgument, "CMD-004", "Invalid Integer Argument", Never;
    InvalidCommandOption, "CMD-005", "Invalid Command Option", Never;
    ConflictingCommandOptions, "CMD-006", "Conflicting Command Options", Never;
    ExpectedOpeningQuote, "CMD-007", "Expected Opening Quote", Never;
    UnterminatedQuotedString, "CMD-008", "Unterminated Quoted String", Never;
    InvalidFrame, "TRN-001", "Invalid Frame", Never;
    UnknownOpcode, "TRN-002", "Unknown Opcode", Never;
    UnknownStatus, "TRN-003", "Unknown Status", Never;
    TransportUnsupportedCommand, "TRN-004", "Unsupported Command", Never;
    VersionMismatch, "TRN-005", "Version Mismatch", Never;
    FrameTooLarge, "TRN-006", "Frame Too Large", Never;
    UnexpectedEndOfFrame, "TRN-007", "Unexpected End Of Frame", Never;
    CorruptedPayload, "TRN-008", "Corrupted Payload", Never;
    ChecksumMismatch, "TRN-009", "Checksum Mismatch", Never;
    UnsupportedFrameFlags, "TRN-010", "Unsupported Frame Flags", Never;
    CompressionFailure, "TRN-011", "Compression Failure", Never;
    InvalidUtf8Payload, "TRN-012", "Invalid UTF-8 Payload", Never;
    TransportIoFailure, "TRN-013", "Transport I/O Failure", OutcomeUnknown;
    ProtocolNegotiationFailed, "TRN-014", "Protocol Negotiation Failed", Never;
    TransportCapabilityMismatch, "TRN-015", "Transport Capability Mismatch", Never;
    RequestDeadlineExceeded, "TRN-016", "Request Deadline Exceeded", Backoff;
    DecompressedFrameTooLarge, "TRN-017", "Decompressed Frame Too Large", Never;
    ProtocolStateViolation, "TRN-018", "Protocol State Violation", Never;
    EngineProjectDirectoriesUnavailable, "ENG-001", "Project Directories Unavailable", Never;
    EngineFilesystemIoFailure, "ENG-002", "Filesystem I/O Failure", Backoff;
    SnapshotSerializationFailure, "ENG-003", "Snapshot Serialization Failure", Never;
    SnapshotDeserializationFailure, "ENG-004", "Snapshot Deserialization Failure", Never;
    ManifestSerializationFailure, "ENG-005", "Manifest Serialization Failure", Never;
    ManifestDeserializationFailure, "ENG-006", "Manifest Deserialization Failure", Never;
    ChecksumValidationFailure, "ENG-007", "Checksum Validation Failure", Never;
    EncryptedStorageFailure, "ENG-008", "Encrypted Storage Failure", Never;
    UnsupportedStorageFormat, "ENG-009", "Unsupported Storage Format", Never;
    StorageMigrationRequired, "ENG-010", "Storage Migration Required", Never;
    InvalidStorageOperation, "ENG-011", "Invalid Storage Operation", Never;
    RestorePointUnavailable, "ENG-012", "Restore Point Unavailable", Never;
    WalSerializationFailure, "ENG-013", "WAL Serialization Failure", Never;
    WalDeserializationFailure, "ENG-014", "WAL Deserialization Failure", Never;
    InvalidIntegerValue, "ENG-015", "Invalid Integer Value", Never;
    NumericOverflow, "ENG-016", "Numeric Overflow", Never;
    EngineUnsupportedCommand, "ENG-017", "Unsupported Command", Never;
    ListenerBindFailure, "SRV-001", "Listener Bind Failure", Never;
    ConnectionAcceptFailure, "SRV-002", "Connection Accept Failure", Never;
    ConnectionSlotPoolClosed, "SRV-003", "Connection Slot Pool Closed", Never;
    ServerFilesystemIoFailure, "SRV-004", "Filesystem I/O Failure", Never;
    EngineWorkerClosed, "SRV-005", "Engine Worker Closed", Backoff;
    EngineLockPoisoned, "SRV-006", "Engine Lock Poisoned", Never;
    AuthenticationRequired, "SRV-007", "Authentication Required", Never;
    AuthenticationFailed, "SRV-008", "Authentication Failed", Never;
    AuthenticationConfigurationInvalid, "SRV-009", "Authentication Configuration Invalid", Never;
    TlsConfigurationInvalid, "SRV-010", "TLS Configuration Invalid", Never;
    TlsHandshakeFailure, "SRV-011", "TLS Handshake Failure", Never;
    RateLimitExceeded, "SRV-012", "Rate Limit Exceeded", Backoff;
    QuotaExceeded, "SRV-013", "Quota Exceeded", Never;
    TransactionAlreadyActive, "SRV-014", "Transaction Already Active", Never;
    NoActiveTransaction, "SRV-015", "No Active Transaction", Never;
    UnsupportedRemoteCommand, "SRV-016", "Unsupported Remote Command", Never;
    PermissionDenied, "SRV-017", "Permission Denied", Never;
    InvalidPermission, "SRV-018", "Invalid Permission", Never;
    UserAlreadyExists, "SRV-019", "User Already Exists", Never;
    UserNotFound, "SRV-020", "User Not Found", Never;
    RoleAlreadyExists, "SRV-021", "Role Already Exists", Never;
    RoleNotFound, "SRV-022", "Role Not Found", Never;
    ProtectedRole, "SRV-023", "Protected Role", Never;
    LastAdminUser, "SRV-024", "Last Admin User", Never;
    AuthStoreSerializationFailure, "SRV-025", "Auth Store Serialization Failure", Never;
    AuthStoreDeserializationFailure, "SRV-026", "Auth Store Deserialization Failure", Never;
    BackupPathRejected, "SRV-027", "Backup Path Rejected", Never;
    AuditChainVerificationFailure, "SRV-028", "Audit Chain Verification Failure", Never;
    BackupVerificationFailure, "SRV-029", "Backup Verification Failure", Never;
    InvalidArguments, "SRV-030", "Invalid Arguments", Never;
    AuthenticationLocked, "SRV-031", "Authentication Locked", Backoff;
    PasswordPolicyViolation, "SRV-032", "Password Policy Violation", Never;
    MaintenanceModeEnabled, "SRV-033", "Maintenance Mode Enabled", Backoff;
    TransactionExpired, "SRV-034", "Transaction Expired", Never;
    ReplicationAcknowledgementTimeout, "SRV-035", "Replication Acknowledgement Timeout", OutcomeUnknown;
    ReplicationAcknowledgementUnavailable, "SRV-036", "Replication Acknowledgement Unavailable", OutcomeUnknown;
    FollowerWriteRejected, "SRV-037", "Follower Write Rejected", AtLeader;
    ReplicationPromotionDenied, "SRV-038", "Replication Promotion Denied", Never;
    HealthcheckFailed, "SRV-039", "Healthcheck Failed", Never;
    ClientFilesystemIoFailure, "CLI-003", "Filesystem I/O Failure", Never;
    ReadlineFailure, "CLI-004", "Readline Failure", Never;
    ClientProjectDirectoriesUnavailable, "CLI-005", "Project Directories Unavailable", Never;
    ResponseIdMismatch, "CLI-006", "Response Id Mismatch", Never;
    LocalCommandResponse, "CLI-007", "Local Command Response", Never;
    InvalidClientConfiguration, "CLI-008", "Invalid Client Configuration", Never;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
