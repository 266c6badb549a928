//! The wire contract of Vaylix: VTP2 frames, hellos, commands, replies and error codes.
//!
//! This crate is vocabulary. It knows nothing of sockets, files, users or time, and both ends of a
//! connection use the same definitions.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod code;
pub mod command;
mod compress;
pub mod error;
pub mod frame;
pub mod hello;
pub mod opcode;
pub mod payload;
pub mod reader;
pub mod reply;
pub mod request;
pub mod response;
pub mod text;
mod writer;

pub use code::{Code, Retry};
pub use command::{Command, Condition, Dump, Expiration, SetOptions, Text};
pub use error::WireError;
pub use frame::{Compression, FrameDecoder, FrameEncoder};
pub use opcode::Opcode;
pub use reply::{ErrorReply, NamedValue, Reply, ScanPage};
pub use request::{Metadata, Request, RequestError, RequestId};
pub use response::{Response, Shape, Status, encode_reply};
