//! Requests: what a client sends after the hellos.
//!
//! | Order | Field | Type | Present |
//! |---:|---|---|---|
//! | 1 | metadata_flags | u8 | always; bits 3–7 are 0 |
//! | 2 | request_id | 16 bytes | always |
//! | 3 | opcode | u8 | always |
//! | 4 | deadline_ms | u64 | flag bit 0 |
//! | 5 | trace_id | 16 bytes | flag bit 1 |
//! | 6 | sequence | u64 | flag bit 2 |
//! | 7 | payload | rest | see [`crate::payload`] |

use bytes::{BufMut, Bytes, BytesMut};

use crate::command::Command;
use crate::error::WireError;
use crate::opcode::Opcode;
use crate::reader::Reader;

/// Chosen by the client and echoed in the response; any 16 bytes.
pub type RequestId = [u8; 16];

const FLAG_DEADLINE: u8 = 1;
const FLAG_TRACE: u8 = 1 << 1;
const FLAG_SEQUENCE: u8 = 1 << 2;

/// What a request says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Remaining time budget in milliseconds, counted from receipt; 0 has already run out.
    pub deadline_ms: Option<u64>,
    /// For tracing; never echoed.
    pub trace_id: Option<[u8; 16]>,
    /// A number without meaning for the server, except that a transaction refuses it.
    pub sequence: Option<u64>,
}

/// A request whose command has not been looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names the request.
    pub id: RequestId,
    /// What it says about itself.
    pub metadata: Metadata,
    /// What it is.
    pub opcode: Opcode,
    /// Its arguments.
    pub payload: Bytes,
}

/// A request that cannot be read. With an id it can still be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct RequestError {
    /// The id, when the request was long enough to have one.
    pub id: Option<RequestId>,
    /// What is wrong.
    pub error: WireError,
}

impl Request {
    /// Reads the body of a frame up to the payload.
    ///
    /// # Errors
    /// Too short a body, reserved metadata flags, an unknown opcode, truncated metadata: the first of these.
    pub fn decode(body: Bytes) -> Result<Self, RequestError> {
        let mut reader = Reader::new(&body);
        let flags = reader.u8().map_err(|error| RequestError { id: None, error })?;
        let id = reader.array().map_err(|error| RequestError { id: None, error })?;
        let (opcode, metadata) =
            read_head(&mut reader, flags).map_err(|error| RequestError { id: Some(id), error })?;
        let payload = reader.tail();
        Ok(Self { id, metadata, opcode, payload })
    }

    /// The command.
    ///
    /// # Errors
    /// [`WireError::UnsupportedCommand`] for internal opcodes, otherwise what is wrong with the payload.
    pub fn command(&self) -> Result<Command, WireError> {
        Command::decode(self.opcode, &self.payload)
    }

    /// Appends the body of a request for `command`.
    ///
    /// # Errors
    /// [`WireError::CorruptedPayload`] when an argument is too long for its field.
    pub fn encode(
        id: RequestId,
        metadata: &Metadata,
        command: &Command,
        out: &mut BytesMut,
    ) -> Result<(), WireError> {
        encode_prefix(id, metadata, command.opcode(), out);
        command.encode_payload(out)
    }

    /// Appends the body of a request with an opaque payload, as servers send them to each other.
    pub fn encode_opaque(
        id: RequestId,
        metadata: &Metadata,
        opcode: Opcode,
        payload: &[u8],
        out: &mut BytesMut,
    ) {
        encode_prefix(id, metadata, opcode, out);
        out.put_slice(payload);
    }
}

/// Reads opcode and metadata values.
fn read_head(reader: &mut Reader<'_>, flags: u8) -> Result<(Opcode, Metadata), WireError> {
    let opcode = reader.u8()?;
    if flags & !(FLAG_DEADLINE | FLAG_TRACE | FLAG_SEQUENCE) != 0 {
        return Err(WireError::CorruptedPayload);
    }
    let opcode = Opcode::from_u8(opcode)?;
    let has = |flag| flags & flag != 0;
    let metadata = Metadata {
        deadline_ms: has(FLAG_DEADLINE).then(|| reader.u64()).transpose()?,
        trace_id: has(FLAG_TRACE).then(|| reader.array()).transpose()?,
        sequence: has(FLAG_SEQUENCE).then(|| reader.u64()).transpose()?,
    };
    Ok((opcode, metadata))
}

fn encode_prefix(id: RequestId, metadata: &Metadata, opcode: Opcode, out: &mut BytesMut) {
    let flag = |present: bool, flag: u8| if present { flag } else { 0 };
    out.put_u8(
        flag(metadata.deadline_ms.is_some(), FLAG_DEADLINE)
            | flag(metadata.trace_id.is_some(), FLAG_TRACE)
            | flag(metadata.sequence.is_some(), FLAG_SEQUENCE),
    );
    out.put_slice(&id);
    out.put_u8(opcode.as_u8());
    if let Some(deadline_ms) = metadata.deadline_ms {
        out.put_u64(deadline_ms);
    }
    if let Some(trace_id) = metadata.trace_id {
        out.put_slice(&trace_id);
    }
    if let Some(sequence) = metadata.sequence {
        out.put_u64(sequence);
    }
}
