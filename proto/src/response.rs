//! Responses: what a server answers after the hellos.
//!
//! | Order | Field | Type |
//! |---:|---|---|
//! | 1 | request_id | 16 bytes |
//! | 2 | status | u8: 0 ok, 1 error, 2 not found |
//! | 3 | payload | rest |
//!
//! The payload of an error is code str16, name str16, message str32; not found has none. An ok payload carries no
//! type: its [`Shape`] follows from the request.

use bytes::{BufMut, Bytes, BytesMut};

use crate::command::{Command, Condition};
use crate::error::WireError;
use crate::reader::Reader;
use crate::reply::{ErrorReply, NamedValue, Reply, ScanPage};
use crate::request::RequestId;
use crate::writer;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was done.
    Ok,
    /// It was refused or failed.
    Error,
    /// There is no value.
    NotFound,
}

impl Status {
    /// The number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::NotFound => 2,
        }
    }

    /// The status with this number.
    ///
    /// # Errors
    /// [`WireError::UnknownStatus`].
    pub const fn from_u8(byte: u8) -> Result<Self, WireError> {
        match byte {
            0 => Ok(Self::Ok),
            1 => Ok(Self::Error),
            2 => Ok(Self::NotFound),
            _ => Err(WireError::UnknownStatus(byte)),
        }
    }
}

/// How the payload of an ok response is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Empty,
    /// bytes32.
    Value,
    /// One byte, 0 or 1.
    Bool,
    /// u64.
    Count,
    /// i64.
    Integer,
    /// u32 n, then n × (str16 name, bytes32 value).
    Entries,
    /// u32 n, then n × opt(bytes32).
    Strings,
    /// u64 next cursor, u32 n, then n × str16.
    Scan,
    /// u32 n, then n × (u8 tag, layout of that tag).
    Exec,
}

impl Command {
    /// The shape of the ok response to this command. Inside a transaction whatever is queued is answered by a
    /// value.
    #[must_use]
    pub const fn reply_shape(&self, in_transaction: bool) -> Shape {
        match self {
            Self::Auth { .. } | Self::Multi | Self::Discard => Shape::Empty,
            Self::Exec => Shape::Exec,
            _ if in_transaction => Shape::Value,
            Self::Ping { .. }
            | Self::Get { .. }
            | Self::GetDel { .. }
            | Self::GetEx { .. }
            | Self::MetricsProm
            | Self::Backup => Shape::Value,
            Self::Set { options, .. } => {
                if options.return_previous {
                    Shape::Value
                } else if matches!(options.condition, Condition::Always) && options.if_version.is_none() {
                    Shape::Empty
                } else {
                    Shape::Bool
                }
            }
            Self::SetNx { .. }
            | Self::Exists { .. }
            | Self::Expire { .. }
            | Self::Persist { .. }
            | Self::Rename { .. }
            | Self::RenameNx { .. } => Shape::Bool,
            Self::Del { .. } | Self::DbSize | Self::Count | Self::Restore(_) | Self::RestoreCheck(_) => {
                Shape::Count
            }
            Self::Incr { .. } | Self::Decr { .. } | Self::Ttl { .. } => Shape::Integer,
            Self::Info
            | Self::Metrics
            | Self::List
            | Self::BackupVerify(_)
            | Self::ShowUsers
            | Self::ShowRoles
            | Self::ShowGrants
            | Self::ShowGrantsForUser { .. }
            | Self::ShowGrantsForRole { .. }
            | Self::WhoAmI
            | Self::MaintenanceStatus
            | Self::Health
            | Self::ShowCluster
            | Self::ShowReplication => Shape::Entries,
            Self::MGet { .. } => Shape::Strings,
            Self::Scan { .. } => Shape::Scan,
            Self::MSet { .. }
            | Self::Clear
            | Self::Save
            | Self::Snapshot
            | Self::BackupTo { .. }
            | Self::CreateUser { .. }
            | Self::AlterUserPassword { .. }
            | Self::DropUser { .. }
            | Self::CreateRole { .. }
            | Self::DropRole { .. }
            | Self::GrantRole { .. }
            | Self::RevokeRole { .. }
            | Self::GrantPermission { .. }
            | Self::RevokePermission { .. }
            | Self::MaintenanceOn
            | Self::MaintenanceOff
            | Self::ClusterJoin { .. }
            | Self::ClusterRemove { .. }
            | Self::PromoteFollower
            | Self::PauseReplication
            | Self::ResumeReplication => Shape::Empty,
        }
    }
}

impl Reply {
    /// How many bytes the payload of a response with this reply takes, without encoding it.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Ok | Self::NotFound => 0,
            Self::Value(value) => sum([4, value.len()]),
            Self::Bool(_) => 1,
            Self::Count(_) | Self::Integer(_) => 8,
            Self::Entries(entries) => {
                let entry = |entry: &NamedValue| sum([2, entry.name.len(), 4, entry.value.len()]);
                sum([4, sum(entries.iter().map(entry))])
            }
            Self::Strings(slots) => {
                let slot = |slot: &Option<Bytes>| slot.as_ref().map_or(1, |value| sum([1, 4, value.len()]));
                sum([4, sum(slots.iter().map(slot))])
            }
            Self::Scan(page) => sum([8, 4, sum(page.keys.iter().map(|key| sum([2, key.len()])))]),
            Self::Exec(results) => sum([4, sum(results.iter().map(|result| sum([1, result.encoded_len()])))]),
        }
    }
}

fn sum(lens: impl IntoIterator<Item = usize>) -> usize {
    lens.into_iter().fold(0, usize::saturating_add)
}

/// Appends the body of a response.
///
/// # Errors
/// [`WireError::CorruptedPayload`] when a text is too long for its field or a transaction is nested.
pub fn encode_reply(
    id: RequestId,
    reply: &Result<Reply, ErrorReply>,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    out.put_slice(&id);
    match reply {
        Ok(Reply::NotFound) => {
            out.put_u8(Status::NotFound.as_u8());
            Ok(())
        }
        Ok(reply) => {
            out.put_u8(Status::Ok.as_u8());
            write_reply(out, reply)
        }
        Err(error) => {
            out.put_u8(Status::Error.as_u8());
            writer::str16(out, &error.code)?;
            writer::str16(out, &error.name)?;
            writer::str32(out, &error.message)
        }
    }
}

/// A response whose payload has not been looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The request it answers.
    pub id: RequestId,
    /// How the request ended.
    pub status: Status,
    /// What `status` and the request make of it.
    pub payload: Bytes,
}

impl Response {
    /// Reads the body of a frame up to the payload.
    ///
    /// # Errors
    /// [`WireError::UnexpectedEnd`] or [`WireError::UnknownStatus`].
    pub fn decode(body: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(&body);
        let id = reader.array()?;
        let status = Status::from_u8(reader.u8()?)?;
        let payload = reader.tail();
        Ok(Self { id, status, payload })
    }

    /// The answer to a request whose ok response has this `shape`: the reply, or the error that the server
    /// stated. Values share the memory of the payload.
    ///
    /// # Errors
    /// What is wrong with the payload.
    pub fn reply(&self, shape: Shape) -> Result<Result<Reply, ErrorReply>, WireError> {
        let mut reader = Reader::new(&self.payload);
        let reply = match self.status {
            Status::Ok => Ok(read_reply(&mut reader, shape)?),
            Status::NotFound => Ok(Reply::NotFound),
            Status::Error => {
                Err(ErrorReply { code: reader.str16()?, name: reader.str16()?, message: reader.str32()? })
            }
        };
        reader.finish()?;
        Ok(reply)
    }
}

fn write_reply(out: &mut BytesMut, reply: &Reply) -> Result<(), WireError> {
    match reply {
        Reply::Ok | Reply::NotFound => {}
        Reply::Value(value) => writer::bytes32(out, value)?,
        Reply::Bool(value) => writer::bool(out, *value),
        Reply::Count(count) => out.put_u64(*count),
        Reply::Integer(number) => out.put_i64(*number),
        Reply::Entries(entries) => {
            writer::count32(out, entries.len())?;
            for NamedValue { name, value } in entries {
                writer::str16(out, name)?;
                writer::bytes32(out, value)?;
            }
        }
        Reply::Strings(values) => {
            writer::count32(out, values.len())?;
            for value in values {
                writer::opt(out, value.as_ref(), |out, value| writer::bytes32(out, value))?;
            }
        }
        Reply::Scan(page) => {
            out.put_u64(page.next_cursor);
            writer::count32(out, page.keys.len())?;
            for key in &page.keys {
                writer::str16(out, key)?;
            }
        }
        Reply::Exec(results) => {
            writer::count32(out, results.len())?;
            for result in results {
                out.put_u8(result_tag(result)?);
                write_reply(out, result)?;
            }
        }
    }
    Ok(())
}

fn result_tag(result: &Reply) -> Result<u8, WireError> {
    match result {
        Reply::Ok => Ok(0),
        Reply::NotFound => Ok(1),
        Reply::Value(_) => Ok(2),
        Reply::Bool(_) => Ok(3),
        Reply::Count(_) => Ok(4),
        Reply::Integer(_) => Ok(5),
        Reply::Entries(_) => Ok(6),
        Reply::Strings(_) => Ok(7),
        Reply::Scan(_) => Ok(8),
        Reply::Exec(_) => Err(WireError::CorruptedPayload),
    }
}

fn read_reply(reader: &mut Reader<'_>, shape: Shape) -> Result<Reply, WireError> {
    match shape {
        Shape::Empty => Ok(Reply::Ok),
        Shape::Value => reader.bytes32().map(Reply::Value),
        // A payload without the byte is taken for another shape, not for a cut one.
        Shape::Bool if reader.is_empty() => Err(WireError::CorruptedPayload),
        Shape::Bool => reader.bool().map(Reply::Bool),
        Shape::Count => reader.u64().map(Reply::Count),
        Shape::Integer => reader.i64().map(Reply::Integer),
        Shape::Entries => read_entries(reader),
        Shape::Strings => read_strings(reader),
        Shape::Scan => read_scan(reader),
        Shape::Exec => {
            let count = reader.count32()?;
            let mut results = Vec::with_capacity(reader.capacity(count, size_of::<Reply>()));
            for _ in 0..count {
                results.push(read_result(reader)?);
            }
            Ok(Reply::Exec(results))
        }
    }
}

fn read_result(reader: &mut Reader<'_>) -> Result<Reply, WireError> {
    match reader.u8()? {
        0 => Ok(Reply::Ok),
        1 => Ok(Reply::NotFound),
        2 => reader.bytes32().map(Reply::Value),
        3 => reader.bool().map(Reply::Bool),
        4 => reader.u64().map(Reply::Count),
        5 => reader.i64().map(Reply::Integer),
        6 => read_entries(reader),
        7 => read_strings(reader),
        8 => read_scan(reader),
        _ => Err(WireError::CorruptedPayload),
    }
}

fn read_entries(reader: &mut Reader<'_>) -> Result<Reply, WireError> {
    let count = reader.count32()?;
    let mut entries = Vec::with_capacity(reader.capacity(count, size_of::<NamedValue>()));
    for _ in 0..count {
        entries.push(NamedValue { name: reader.str16()?, value: reader.bytes32()? });
    }
    Ok(Reply::Entries(entries))
}

fn read_strings(reader: &mut Reader<'_>) -> Result<Reply, WireError> {
    let count = reader.count32()?;
    let mut values = Vec::with_capacity(reader.capacity(count, size_of::<Option<Bytes>>()));
    for _ in 0..count {
        values.push(reader.opt(Reader::bytes32)?);
    }
    Ok(Reply::Strings(values))
}

fn read_scan(reader: &mut Reader<'_>) -> Result<Reply, WireError> {
    let next_cursor = reader.u64()?;
    let count = reader.count32()?;
    let mut keys = Vec::with_capacity(reader.capacity(count, size_of::<crate::Text>()));
    for _ in 0..count {
        keys.push(reader.str16()?);
    }
    Ok(Reply::Scan(ScanPage { next_cursor, keys }))
}
