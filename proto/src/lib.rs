//! The wire contract of Vaylix: VTP2 frames, hellos, commands, replies and error codes.
//!
//! This crate is vocabulary. It knows nothing of sockets, files, users or time, and both ends of a
//! connection use the same definitions.

pub mod code;
pub mod command;
pub mod reply;

pub use code::{Code, Retry};
pub use command::{Command, Condition, Dump, Expiration, SetOptions, Text};
pub use reply::{ErrorReply, NamedValue, Reply, ScanPage};
