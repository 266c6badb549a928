//! The first message of each side, and what follows from the two of them.
//!
//! Client hello:
//!
//! | Field | Type |
//! |---|---|
//! | marker | u8, `F0` |
//! | protocol_version | u8 |
//! | client_name, client_version | str16, str16 |
//! | supported_capabilities | u64, a bit set |
//! | desired_compression | u8: 0 none, 1 zstd |
//! | max_frame_len | u32 |
//! | auth_intent | bool, advice only |
//!
//! Server hello: marker `F1`, protocol_version u8, accepted_capabilities u64, compression u8, max_frame_len u32,
//! server_id 16 bytes, status u8, then code, name and message of a rejection, each as opt(str16).
//!
//! A length is looked at first in three places: two bytes before the marker, the last 14 bytes of a client hello
//! and the first 32 bytes of a server hello are demanded as a unit.

use bytes::{BufMut, Bytes, BytesMut};

use crate::code::Code;
use crate::command::Text;
use crate::error::WireError;
use crate::frame::{Compression, FRAME_LEN_MAX, VERSION};
use crate::reader::Reader;
use crate::response::Status;
use crate::writer;

/// Smallest frame limit a server agrees to: below it not even an error reply fits.
pub const MAX_FRAME_LEN_MIN: u32 = 64;

/// Identifies one connection in logs of both sides; a fresh UUID for every connection.
pub type ServerId = [u8; 16];

const CLIENT_MARKER: u8 = 0xF0;
const SERVER_MARKER: u8 = 0xF1;
const CLIENT_FIXED_TAIL_LEN: usize = 14;
const SERVER_FIXED_LEN: usize = 32;

/// A set of optional protocol features. Unknown bits are kept when decoding and never agreed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Frames may be compressed.
    pub const ZSTD: Self = Self(1);
    /// Requests may carry a deadline.
    pub const REQUEST_DEADLINE: Self = Self(1 << 1);
    /// METRICS and METRICS PROM exist.
    pub const SERVER_METRICS: Self = Self(1 << 2);
    /// Several requests may be in flight, and requests may carry a sequence.
    pub const PIPELINING: Self = Self(1 << 3);
    /// Requests may carry a trace id.
    pub const TRACE_CONTEXT: Self = Self(1 << 4);
    /// Reads on this connection are linearizable wherever they are answered, on followers too. Not part of the published
    /// protocol: its bits are counted from 0, ours from 16, so that neither side takes one for the other.
    pub const LINEARIZABLE_FOLLOWER_READS: Self = Self(1 << 16);
    /// What the published protocol knows, and what a client offers unless it wants more.
    pub const ALL: Self = Self(0b1_1111);
    /// Everything that a server agrees to.
    const KNOWN: Self = Self(Self::ALL.0 | Self::LINEARIZABLE_FOLLOWER_READS.0);

    /// The members of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every member of `other` is a member.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The common members.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The members that `other` lacks.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// What a client introduces itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The protocol it speaks; [`VERSION`] is the only one there is.
    pub protocol_version: u8,
    /// Its program, for logs.
    pub client_name: Text,
    /// Its release, for logs.
    pub client_version: Text,
    /// What it could use.
    pub supported_capabilities: Capabilities,
    /// What it asks for.
    pub desired_compression: Compression,
    /// Largest payload and body it handles, in bytes.
    pub max_frame_len: u32,
    /// Whether it plans to log in. Grants and costs nothing.
    pub auth_intent: bool,
}

impl ClientHello {
    /// The hello of a client that offers everything this release can do.
    #[must_use]
    pub fn new(name: impl Into<Text>, version: impl Into<Text>) -> Self {
        Self {
            protocol_version: VERSION,
            client_name: name.into(),
            client_version: version.into(),
            supported_capabilities: Capabilities::ALL,
            desired_compression: Compression::Zstd,
            max_frame_len: FRAME_LEN_MAX,
            auth_intent: false,
        }
    }

    /// Reads the body of a frame.
    ///
    /// # Errors
    /// [`WireError::StateViolation`] when the body is no client hello, otherwise what is wrong with it.
    pub fn decode(body: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let [marker, protocol_version] = reader.array()?;
        if marker != CLIENT_MARKER {
            return Err(WireError::StateViolation("expected client hello"));
        }
        let client_name = reader.str16()?;
        let client_version = reader.str16()?;
        if reader.remaining() < CLIENT_FIXED_TAIL_LEN {
            return Err(WireError::UnexpectedEnd);
        }
        let hello = Self {
            protocol_version,
            client_name,
            client_version,
            supported_capabilities: Capabilities(reader.u64()?),
            desired_compression: read_compression(&mut reader)?,
            max_frame_len: reader.u32()?,
            auth_intent: reader.bool()?,
        };
        reader.finish()?;
        Ok(hello)
    }

    /// Appends the body of a frame.
    ///
    /// # Errors
    /// [`WireError::CorruptedPayload`] when name or version is longer than 65 535 bytes.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), WireError> {
        out.put_u8(CLIENT_MARKER);
        out.put_u8(self.protocol_version);
        writer::str16(out, &self.client_name)?;
        writer::str16(out, &self.client_version)?;
        out.put_u64(self.supported_capabilities.0);
        out.put_u8(compression_byte(self.desired_compression));
        out.put_u32(self.max_frame_len);
        writer::bool(out, self.auth_intent);
        Ok(())
    }
}

/// Why a server turned a client away, as far as it said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejection {
    /// Stable code such as `TRN-014`.
    pub code: Option<Text>,
    /// Stable name.
    pub name: Option<Text>,
    /// For humans.
    pub message: Option<Text>,
}

impl From<WireError> for Rejection {
    fn from(error: WireError) -> Self {
        Self {
            code: Some(Text::from_static(error.code().code())),
            name: Some(Text::from_static(error.code().name())),
            message: Some(error.to_string().into()),
        }
    }
}

/// What a server answers to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The protocol it speaks.
    pub protocol_version: u8,
    /// What both sides may use.
    pub accepted_capabilities: Capabilities,
    /// How both sides may compress.
    pub compression: Compression,
    /// Largest payload and body in either direction, in bytes.
    pub max_frame_len: u32,
    /// Names this connection.
    pub server_id: ServerId,
    /// [`Status::Ok`] when the connection goes on.
    pub status: Status,
    /// The reasons when it does not.
    pub rejection: Rejection,
}

impl ServerHello {
    /// The answer to a hello that cannot be agreed to; the connection ends after it.
    #[must_use]
    pub fn rejected(reason: WireError) -> Self {
        Self {
            protocol_version: VERSION,
            accepted_capabilities: Capabilities::default(),
            compression: Compression::None,
            max_frame_len: FRAME_LEN_MAX,
            server_id: ServerId::default(),
            status: Status::Error,
            rejection: reason.into(),
        }
    }

    /// Reads the body of a frame.
    ///
    /// # Errors
    /// [`WireError::StateViolation`] when the body is no server hello, otherwise what is wrong with it.
    pub fn decode(body: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        if reader.remaining() < SERVER_FIXED_LEN {
            return Err(WireError::UnexpectedEnd);
        }
        if reader.u8()? != SERVER_MARKER {
            return Err(WireError::StateViolation("expected server hello"));
        }
        let hello = Self {
            protocol_version: reader.u8()?,
            accepted_capabilities: Capabilities(reader.u64()?),
            compression: read_compression(&mut reader)?,
            max_frame_len: reader.u32()?,
            server_id: reader.array()?,
            status: Status::from_u8(reader.u8()?)?,
            rejection: Rejection {
                code: reader.opt(Reader::str16)?,
                name: reader.opt(Reader::str16)?,
                message: reader.opt(Reader::str16)?,
            },
        };
        reader.finish()?;
        Ok(hello)
    }

    /// Appends the body of a frame.
    ///
    /// # Errors
    /// [`WireError::CorruptedPayload`] when a text of the rejection is longer than 65 535 bytes.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), WireError> {
        out.put_u8(SERVER_MARKER);
        out.put_u8(self.protocol_version);
        out.put_u64(self.accepted_capabilities.0);
        out.put_u8(compression_byte(self.compression));
        out.put_u32(self.max_frame_len);
        out.put_slice(&self.server_id);
        out.put_u8(self.status.as_u8());
        for text in [&self.rejection.code, &self.rejection.name, &self.rejection.message] {
            writer::opt(out, text.as_ref(), |out, text| writer::str16(out, text))?;
        }
        Ok(())
    }

    /// What the server side adopts: `None` when the client was turned away.
    #[must_use]
    pub fn agreement(&self) -> Option<Agreement> {
        (self.status == Status::Ok).then_some(Agreement {
            capabilities: self.accepted_capabilities,
            compression: self.compression,
            max_frame_len: self.max_frame_len,
        })
    }

    /// What the client that sent `offer` adopts. Its own frame limit stays in force.
    ///
    /// # Errors
    /// [`Refused`] when the server turned the client away or answered outside the offer.
    pub fn accept(&self, offer: &ClientHello) -> Result<Agreement, Refused> {
        let local = |error| Err(Refused { error, rejection: Rejection::default() });
        let Some(agreement) = self.agreement() else {
            let error = WireError::NegotiationFailed("server rejected startup");
            return Err(Refused { error, rejection: self.rejection.clone() });
        };
        if self.protocol_version != VERSION {
            return local(WireError::NegotiationFailed("unsupported server protocol version"));
        }
        if self.compression == Compression::Zstd && offer.desired_compression == Compression::None {
            return local(WireError::CapabilityMismatch("server chose a compression that was not offered"));
        }
        Ok(Agreement { max_frame_len: agreement.max_frame_len.min(offer.max_frame_len), ..agreement })
    }
}

/// What holds for a connection once both hellos are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// What both sides may use.
    pub capabilities: Capabilities,
    /// How both sides may compress.
    pub compression: Compression,
    /// Largest payload and body in either direction, in bytes.
    pub max_frame_len: u32,
}

/// A server hello that a client cannot go on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}{}", stated(rejection))]
pub struct Refused {
    /// What it means for the client.
    pub error: WireError,
    /// What the server said about it, if anything.
    pub rejection: Rejection,
}

impl Refused {
    /// The stable code of this failure.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.error.code()
    }
}

fn stated(rejection: &Rejection) -> String {
    match &rejection.message {
        Some(message) if !message.is_empty() => format!(" ({message})"),
        _ => String::new(),
    }
}

/// What a server is willing to agree to.
#[derive(Clone, Copy, Debug)]
pub struct ServerPolicy {
    /// Whether frames may be compressed.
    pub compression: Compression,
    /// Largest payload and body it handles, in bytes.
    pub max_frame_len: u32,
}

/// The server's answer to a hello. `server_id` should be fresh for every connection.
///
/// A client is turned away for another protocol version, or for a frame limit below [`MAX_FRAME_LEN_MIN`].
#[must_use]
pub fn negotiate(client: &ClientHello, policy: &ServerPolicy, server_id: ServerId) -> ServerHello {
    if client.protocol_version != VERSION {
        return ServerHello::rejected(WireError::NegotiationFailed("unsupported protocol version"));
    }
    if client.max_frame_len < MAX_FRAME_LEN_MIN {
        return ServerHello::rejected(WireError::NegotiationFailed("max_frame_len is below 64 bytes"));
    }
    let offered = client.supported_capabilities;
    // Who claims capabilities that nobody has defined is taken at its word only for those that every server has had.
    let common = if Capabilities::KNOWN.contains(offered) { Capabilities::KNOWN } else { Capabilities::ALL };
    let accepted = offered.intersection(common);
    let zstd = policy.compression == Compression::Zstd
        && client.desired_compression == Compression::Zstd
        && accepted.contains(Capabilities::ZSTD);
    ServerHello {
        protocol_version: VERSION,
        accepted_capabilities: if zstd { accepted } else { accepted.difference(Capabilities::ZSTD) },
        compression: if zstd { Compression::Zstd } else { Compression::None },
        max_frame_len: client.max_frame_len.min(policy.max_frame_len).min(FRAME_LEN_MAX),
        server_id,
        status: Status::Ok,
        rejection: Rejection::default(),
    }
}

fn read_compression(reader: &mut Reader<'_>) -> Result<Compression, WireError> {
    match reader.u8()? {
        0 => Ok(Compression::None),
        1 => Ok(Compression::Zstd),
        _ => Err(WireError::CapabilityMismatch("unknown compression")),
    }
}

const fn compression_byte(compression: Compression) -> u8 {
    match compression {
        Compression::None => 0,
        Compression::Zstd => 1,
    }
}
