//! The deterministic state of Vaylix and everything it keeps on disk.
//!
//! Synchronous throughout: no runtime, no sockets, and no clock except the times that callers pass in.

pub mod dump;
pub mod glob;
pub mod op;
pub mod sequence;
pub mod state;
