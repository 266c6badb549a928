//! What can be wrong with bytes: every way in which a frame, a hello, a request or a response fails to decode
//! or cannot be encoded.

use crate::code::Code;
use crate::reply::ErrorReply;

/// A failure of the codec. Displays as the message that belongs to its [`Code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Wrong magic, or bytes behind the only frame of a buffer.
    #[error("invalid frame")]
    InvalidFrame,
    /// The opcode byte is not assigned.
    #[error("unknown opcode: {0:#04x}")]
    UnknownOpcode(u8),
    /// The status byte is not assigned.
    #[error("unknown status: {0:#04x}")]
    UnknownStatus(u8),
    /// A message between servers was read as a command.
    #[error("unsupported command for transport: {0}")]
    UnsupportedCommand(&'static str),
    /// The version in a frame header is not ours.
    #[error("protocol version mismatch: expected {expected}, got {found}", expected = crate::frame::VERSION)]
    VersionMismatch {
        /// The version that was stated.
        found: u8,
    },
    /// A frame or body above the limit, sending or receiving.
    #[error("frame too large: {size} bytes exceeds maximum {max} bytes")]
    FrameTooLarge {
        /// Bytes stated or produced.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bytes end before the structure does.
    #[error("unexpected end of input")]
    UnexpectedEnd,
    /// Trailing bytes, a flag that is neither 0 nor 1, or a length that does not fit its field.
    #[error("corrupted payload")]
    CorruptedPayload,
    /// The payload is not what was sent.
    #[error("frame checksum mismatch: expected 0x{expected:08X}, got 0x{found:08X}")]
    ChecksumMismatch {
        /// The checksum in the header.
        expected: u32,
        /// The checksum of the payload.
        found: u32,
    },
    /// Reserved frame flags are set.
    #[error("unsupported frame flags: {0:#04x}")]
    UnsupportedFrameFlags(u8),
    /// The payload is not a sequence of whole zstd frames within the window limit.
    #[error("frame compression failure")]
    CompressionFailure,
    /// A text field is not UTF-8.
    #[error("invalid utf-8 in payload")]
    InvalidUtf8,
    /// The two sides do not speak the same protocol.
    #[error("protocol negotiation failed: {0}")]
    NegotiationFailed(&'static str),
    /// A hello names something that was not offered or does not exist.
    #[error("transport capability mismatch: {0}")]
    CapabilityMismatch(&'static str),
    /// A compressed payload grows beyond the limit. `size` is what is known of it: at least that much.
    #[error("decompressed frame too large: {size} bytes exceeds maximum {max} bytes")]
    DecompressedTooLarge {
        /// Bytes stated or produced so far.
        size: u64,
        /// Bytes allowed.
        max: usize,
    },
    /// The message does not belong to this phase of the connection.
    #[error("protocol state violation: {0}")]
    StateViolation(&'static str),
}

impl WireError {
    /// The stable code of this failure.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::InvalidFrame => Code::InvalidFrame,
            Self::UnknownOpcode(_) => Code::UnknownOpcode,
            Self::UnknownStatus(_) => Code::UnknownStatus,
            Self::UnsupportedCommand(_) => Code::TransportUnsupportedCommand,
            Self::VersionMismatch { .. } => Code::VersionMismatch,
            Self::FrameTooLarge { .. } => Code::FrameTooLarge,
            Self::UnexpectedEnd => Code::UnexpectedEndOfFrame,
            Self::CorruptedPayload => Code::CorruptedPayload,
            Self::ChecksumMismatch { .. } => Code::ChecksumMismatch,
            Self::UnsupportedFrameFlags(_) => Code::UnsupportedFrameFlags,
            Self::CompressionFailure => Code::CompressionFailure,
            Self::InvalidUtf8 => Code::InvalidUtf8Payload,
            Self::NegotiationFailed(_) => Code::ProtocolNegotiationFailed,
            Self::CapabilityMismatch(_) => Code::TransportCapabilityMismatch,
            Self::DecompressedTooLarge { .. } => Code::DecompressedFrameTooLarge,
            Self::StateViolation(_) => Code::ProtocolStateViolation,
        }
    }
}

impl From<WireError> for ErrorReply {
    fn from(error: WireError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
