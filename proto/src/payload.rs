//! The arguments of every command as bytes, both directions side by side.
//!
//! First fields are `str16`; second fields of two-field commands are `str32`; values, passwords and documents
//! have 32-bit lengths; lists of keys have 16-bit counts. Payloads must be consumed to the last byte. Two older
//! dialects are understood: `SET` that ends before the presence byte of its version, and `CLUSTER JOIN` with a
//! `str16` address.

use bytes::{BufMut, Bytes, BytesMut};

use crate::command::{Command, Condition, Dump, Expiration, SetOptions, Text};
use crate::error::WireError;
use crate::opcode::Opcode;
use crate::reader::Reader;
use crate::writer;

impl Command {
    /// The opcode that carries this command.
    #[must_use]
    pub const fn opcode(&self) -> Opcode {
        match self {
            Self::Auth { .. } => Opcode::Auth,
            Self::Ping { .. } => Opcode::Ping,
            Self::Get { .. } => Opcode::Get,
            Self::GetDel { .. } => Opcode::GetDel,
            Self::GetEx { .. } => Opcode::GetEx,
            Self::Set { .. } => Opcode::Set,
            Self::SetNx { .. } => Opcode::SetNx,
            Self::Del { .. } => Opcode::Del,
            Self::Exists { .. } => Opcode::Exists,
            Self::MGet { .. } => Opcode::MGet,
            Self::MSet { .. } => Opcode::MSet,
            Self::Incr { .. } => Opcode::Incr,
            Self::Decr { .. } => Opcode::Decr,
            Self::Expire { .. } => Opcode::Expire,
            Self::Ttl { .. } => Opcode::Ttl,
            Self::Persist { .. } => Opcode::Persist,
            Self::Rename { .. } => Opcode::Rename,
            Self::RenameNx { .. } => Opcode::RenameNx,
            Self::Scan { .. } => Opcode::Scan,
            Self::DbSize => Opcode::DbSize,
            Self::Info => Opcode::Info,
            Self::Metrics => Opcode::Metrics,
            Self::MetricsProm => Opcode::MetricsProm,
            Self::List => Opcode::List,
            Self::Clear => Opcode::Clear,
            Self::Count => Opcode::Count,
            Self::Save => Opcode::Save,
            Self::Snapshot => Opcode::Snapshot,
            Self::Multi => Opcode::Multi,
            Self::Exec => Opcode::Exec,
            Self::Discard => Opcode::Discard,
            Self::Backup => Opcode::Backup,
            Self::BackupTo { .. } => Opcode::BackupTo,
            Self::BackupVerify(Dump::Inline(_)) => Opcode::BackupVerify,
            Self::BackupVerify(Dump::File(_)) => Opcode::BackupVerifyFrom,
            Self::Restore(Dump::Inline(_)) => Opcode::Restore,
            Self::Restore(Dump::File(_)) => Opcode::RestoreFrom,
            Self::RestoreCheck(Dump::Inline(_)) => Opcode::RestoreCheck,
            Self::RestoreCheck(Dump::File(_)) => Opcode::RestoreCheckFrom,
            Self::CreateUser { .. } => Opcode::CreateUser,
            Self::AlterUserPassword { .. } => Opcode::AlterUserPassword,
            Self::DropUser { .. } => Opcode::DropUser,
            Self::CreateRole { .. } => Opcode::CreateRole,
            Self::DropRole { .. } => Opcode::DropRole,
            Self::GrantRole { .. } => Opcode::GrantRole,
            Self::RevokeRole { .. } => Opcode::RevokeRole,
            Self::GrantPermission { .. } => Opcode::GrantPermission,
            Self::RevokePermission { .. } => Opcode::RevokePermission,
            Self::ShowUsers => Opcode::ShowUsers,
            Self::ShowRoles => Opcode::ShowRoles,
            Self::ShowGrants => Opcode::ShowGrants,
            Self::ShowGrantsForUser { .. } => Opcode::ShowGrantsForUser,
            Self::ShowGrantsForRole { .. } => Opcode::ShowGrantsForRole,
            Self::WhoAmI => Opcode::WhoAmI,
            Self::MaintenanceOn => Opcode::MaintenanceOn,
            Self::MaintenanceOff => Opcode::MaintenanceOff,
            Self::MaintenanceStatus => Opcode::MaintenanceStatus,
            Self::Health => Opcode::Health,
            Self::ShowCluster => Opcode::ShowCluster,
            Self::ClusterJoin { .. } => Opcode::ClusterJoin,
            Self::ClusterRemove { .. } => Opcode::ClusterRemove,
            Self::ShowReplication => Opcode::ShowReplication,
            Self::PromoteFollower => Opcode::PromoteFollower,
            Self::PauseReplication => Opcode::PauseReplication,
            Self::ResumeReplication => Opcode::ResumeReplication,
        }
    }

    /// Reads the arguments of `opcode`. Texts and values share the memory of `payload`.
    ///
    /// # Errors
    /// [`WireError::UnsupportedCommand`] for internal opcodes, otherwise what is wrong with the payload.
    pub fn decode(opcode: Opcode, payload: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        let r = &mut reader;
        let command = match opcode {
            Opcode::Auth => Self::Auth { user: r.str16()?, password: r.str32()? },
            Opcode::Ping => Self::Ping { message: r.opt(Reader::str32)? },
            Opcode::Get => Self::Get { key: r.str16()? },
            Opcode::GetDel => Self::GetDel { key: r.str16()? },
            Opcode::GetEx => {
                Self::GetEx { key: r.str16()?, expiration: read_expiration(r)?, persist: r.bool()? }
            }
            Opcode::Set => Self::Set { key: r.str16()?, value: r.bytes32()?, options: read_options(r)? },
            Opcode::SetNx => Self::SetNx { key: r.str16()?, value: r.bytes32()? },
            Opcode::Del => Self::Del { keys: read_keys(r)? },
            Opcode::Exists => Self::Exists { key: r.str16()? },
            Opcode::MGet => Self::MGet { keys: read_keys(r)? },
            Opcode::MSet => Self::MSet { pairs: read_pairs(r)? },
            Opcode::Incr => Self::Incr { key: r.str16()? },
            Opcode::Decr => Self::Decr { key: r.str16()? },
            Opcode::Expire => Self::Expire { key: r.str16()?, seconds: r.u64()? },
            Opcode::Ttl => Self::Ttl { key: r.str16()? },
            Opcode::Persist => Self::Persist { key: r.str16()? },
            Opcode::Rename => Self::Rename { source: r.str16()?, destination: r.str32()? },
            Opcode::RenameNx => Self::RenameNx { source: r.str16()?, destination: r.str32()? },
            Opcode::Scan => {
                Self::Scan { cursor: r.u64()?, pattern: r.opt(Reader::str16)?, count: r.opt(Reader::u16)? }
            }
            Opcode::DbSize => Self::DbSize,
            Opcode::Info => Self::Info,
            Opcode::Metrics => Self::Metrics,
            Opcode::MetricsProm => Self::MetricsProm,
            Opcode::List => Self::List,
            Opcode::Clear => Self::Clear,
            Opcode::Count => Self::Count,
            Opcode::Save => Self::Save,
            Opcode::Snapshot => Self::Snapshot,
            Opcode::Multi => Self::Multi,
            Opcode::Exec => Self::Exec,
            Opcode::Discard => Self::Discard,
            Opcode::Backup => Self::Backup,
            Opcode::BackupTo => Self::BackupTo { path: r.str16()? },
            Opcode::BackupVerify => Self::BackupVerify(Dump::Inline(r.str32()?)),
            Opcode::BackupVerifyFrom => Self::BackupVerify(Dump::File(r.str16()?)),
            Opcode::Restore => Self::Restore(Dump::Inline(r.str32()?)),
            Opcode::RestoreFrom => Self::Restore(Dump::File(r.str16()?)),
            Opcode::RestoreCheck => Self::RestoreCheck(Dump::Inline(r.str32()?)),
            Opcode::RestoreCheckFrom => Self::RestoreCheck(Dump::File(r.str16()?)),
            Opcode::CreateUser => Self::CreateUser { user: r.str16()?, password: r.str32()? },
            Opcode::AlterUserPassword => Self::AlterUserPassword { user: r.str16()?, password: r.str32()? },
            Opcode::DropUser => Self::DropUser { user: r.str16()? },
            Opcode::CreateRole => Self::CreateRole { role: r.str16()? },
            Opcode::DropRole => Self::DropRole { role: r.str16()? },
            Opcode::GrantRole => Self::GrantRole { role: r.str16()?, user: r.str32()? },
            Opcode::RevokeRole => Self::RevokeRole { role: r.str16()?, user: r.str32()? },
            Opcode::GrantPermission => {
                Self::GrantPermission { permission: r.str16()?, pattern: r.str16()?, role: r.str16()? }
            }
            Opcode::RevokePermission => {
                Self::RevokePermission { permission: r.str16()?, pattern: r.str16()?, role: r.str16()? }
            }
            Opcode::ShowUsers => Self::ShowUsers,
            Opcode::ShowRoles => Self::ShowRoles,
            Opcode::ShowGrants => Self::ShowGrants,
            Opcode::ShowGrantsForUser => Self::ShowGrantsForUser { user: r.str16()? },
            Opcode::ShowGrantsForRole => Self::ShowGrantsForRole { role: r.str16()? },
            Opcode::WhoAmI => Self::WhoAmI,
            Opcode::MaintenanceOn => Self::MaintenanceOn,
            Opcode::MaintenanceOff => Self::MaintenanceOff,
            Opcode::MaintenanceStatus => Self::MaintenanceStatus,
            Opcode::Health => Self::Health,
            Opcode::ShowCluster => Self::ShowCluster,
            Opcode::ClusterJoin => return decode_cluster_join(payload),
            Opcode::ClusterRemove => Self::ClusterRemove { node: r.str16()? },
            Opcode::ShowReplication => Self::ShowReplication,
            Opcode::PromoteFollower => Self::PromoteFollower,
            Opcode::PauseReplication => Self::PauseReplication,
            Opcode::ResumeReplication => Self::ResumeReplication,
            Opcode::ReplicationStatus
            | Opcode::ReplicationSnapshot
            | Opcode::ReplicationFetch
            | Opcode::ReplicationAck
            | Opcode::ReplicationVote
            | Opcode::ReplicationHeartbeat
            | Opcode::ReplicationAppend
            | Opcode::ReplicationInstallSnapshot => {
                return Err(WireError::UnsupportedCommand(opcode.name()));
            }
        };
        reader.finish()?;
        Ok(command)
    }

    /// Appends the arguments.
    ///
    /// # Errors
    /// [`WireError::CorruptedPayload`] when an argument is too long for its field.
    pub fn encode_payload(&self, out: &mut BytesMut) -> Result<(), WireError> {
        match self {
            Self::Auth { user, password }
            | Self::CreateUser { user, password }
            | Self::AlterUserPassword { user, password } => {
                writer::str16(out, user)?;
                writer::str32(out, password)
            }
            Self::Ping { message } => {
                writer::opt(out, message.as_ref(), |out, message| writer::str32(out, message))
            }
            Self::Get { key: text }
            | Self::GetDel { key: text }
            | Self::Exists { key: text }
            | Self::Incr { key: text }
            | Self::Decr { key: text }
            | Self::Ttl { key: text }
            | Self::Persist { key: text }
            | Self::BackupTo { path: text }
            | Self::BackupVerify(Dump::File(text))
            | Self::Restore(Dump::File(text))
            | Self::RestoreCheck(Dump::File(text))
            | Self::DropUser { user: text }
            | Self::CreateRole { role: text }
            | Self::DropRole { role: text }
            | Self::ShowGrantsForUser { user: text }
            | Self::ShowGrantsForRole { role: text }
            | Self::ClusterRemove { node: text } => writer::str16(out, text),
            Self::BackupVerify(Dump::Inline(text))
            | Self::Restore(Dump::Inline(text))
            | Self::RestoreCheck(Dump::Inline(text)) => writer::str32(out, text),
            Self::GetEx { key, expiration, persist } => {
                writer::str16(out, key)?;
                write_expiration(out, *expiration);
                writer::bool(out, *persist);
                Ok(())
            }
            Self::Set { key, value, options } => {
                writer::str16(out, key)?;
                writer::bytes32(out, value)?;
                write_options(out, options)
            }
            Self::SetNx { key, value } => {
                writer::str16(out, key)?;
                writer::bytes32(out, value)
            }
            Self::Del { keys } | Self::MGet { keys } => {
                writer::count16(out, keys.len())?;
                keys.iter().try_for_each(|key| writer::str16(out, key))
            }
            Self::MSet { pairs } => {
                writer::count16(out, pairs.len())?;
                pairs.iter().try_for_each(|(key, value)| {
                    writer::str16(out, key)?;
                    writer::bytes32(out, value)
                })
            }
            Self::Expire { key, seconds } => {
                writer::str16(out, key)?;
                out.put_u64(*seconds);
                Ok(())
            }
            Self::Rename { source: first, destination: second }
            | Self::RenameNx { source: first, destination: second }
            | Self::GrantRole { role: first, user: second }
            | Self::RevokeRole { role: first, user: second }
            | Self::ClusterJoin { node: first, address: second } => {
                writer::str16(out, first)?;
                writer::str32(out, second)
            }
            Self::GrantPermission { permission, pattern, role }
            | Self::RevokePermission { permission, pattern, role } => {
                writer::str16(out, permission)?;
                writer::str16(out, pattern)?;
                writer::str16(out, role)
            }
            Self::Scan { cursor, pattern, count } => {
                out.put_u64(*cursor);
                writer::opt(out, pattern.as_ref(), |out, pattern| writer::str16(out, pattern))?;
                writer::opt(out, *count, |out, count| {
                    out.put_u16(count);
                    Ok(())
                })
            }
            Self::DbSize
            | Self::Info
            | Self::Metrics
            | Self::MetricsProm
            | Self::List
            | Self::Clear
            | Self::Count
            | Self::Save
            | Self::Snapshot
            | Self::Multi
            | Self::Exec
            | Self::Discard
            | Self::Backup
            | Self::ShowUsers
            | Self::ShowRoles
            | Self::ShowGrants
            | Self::WhoAmI
            | Self::MaintenanceOn
            | Self::MaintenanceOff
            | Self::MaintenanceStatus
            | Self::Health
            | Self::ShowCluster
            | Self::ShowReplication
            | Self::PromoteFollower
            | Self::PauseReplication
            | Self::ResumeReplication => Ok(()),
        }
    }
}

/// Tag 0 none, 1 seconds, 2 milliseconds; the number follows as u64.
fn read_expiration(reader: &mut Reader<'_>) -> Result<Option<Expiration>, WireError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(Expiration::Seconds(reader.u64()?))),
        2 => Ok(Some(Expiration::Millis(reader.u64()?))),
        _ => Err(WireError::CorruptedPayload),
    }
}

fn write_expiration(out: &mut BytesMut, expiration: Option<Expiration>) {
    match expiration {
        None => out.put_u8(0),
        Some(Expiration::Seconds(seconds)) => {
            out.put_u8(1);
            out.put_u64(seconds);
        }
        Some(Expiration::Millis(millis)) => {
            out.put_u8(2);
            out.put_u64(millis);
        }
    }
}

/// Condition u8, expiration, keep_ttl, return_previous, if_version opt(u64); the last may be missing altogether.
fn read_options(reader: &mut Reader<'_>) -> Result<SetOptions, WireError> {
    Ok(SetOptions {
        condition: match reader.u8()? {
            0 => Condition::Always,
            1 => Condition::IfMissing,
            2 => Condition::IfPresent,
            _ => return Err(WireError::CorruptedPayload),
        },
        expiration: read_expiration(reader)?,
        keep_ttl: reader.bool()?,
        return_previous: reader.bool()?,
        if_version: if reader.is_empty() { None } else { reader.opt(Reader::u64)? },
    })
}

fn write_options(out: &mut BytesMut, options: &SetOptions) -> Result<(), WireError> {
    out.put_u8(match options.condition {
        Condition::Always => 0,
        Condition::IfMissing => 1,
        Condition::IfPresent => 2,
    });
    write_expiration(out, options.expiration);
    writer::bool(out, options.keep_ttl);
    writer::bool(out, options.return_previous);
    writer::opt(out, options.if_version, |out, version| {
        out.put_u64(version);
        Ok(())
    })
}

fn read_keys(reader: &mut Reader<'_>) -> Result<Vec<Text>, WireError> {
    let count = usize::from(reader.u16()?);
    let mut keys = Vec::with_capacity(reader.capacity(count, 2));
    for _ in 0..count {
        keys.push(reader.str16()?);
    }
    Ok(keys)
}

fn read_pairs(reader: &mut Reader<'_>) -> Result<Vec<(Text, Bytes)>, WireError> {
    let count = usize::from(reader.u16()?);
    let mut pairs = Vec::with_capacity(reader.capacity(count, 6));
    for _ in 0..count {
        pairs.push((reader.str16()?, reader.bytes32()?));
    }
    Ok(pairs)
}

/// Reads the address as `str32`, and when that does not fit exactly, as `str16`. Errors are those of `str32`.
fn decode_cluster_join(payload: &Bytes) -> Result<Command, WireError> {
    let read = |address: fn(&mut Reader<'_>) -> Result<Text, WireError>| {
        let mut reader = Reader::new(payload);
        let command = Command::ClusterJoin { node: reader.str16()?, address: address(&mut reader)? };
        reader.finish().map(|()| command)
    };
    read(|reader| reader.str32()).or_else(|error| read(|reader| reader.str16()).map_err(|_| error))
}
