//! Starts real Vaylix processes for tests: servers on free ports with their own directories, clients that
//! are typed into, and recorded sessions that are replayed against both.
//!
//! Everything a test starts is stopped when its handle is dropped, by process id.

pub mod binary;
pub mod certificates;
pub mod process;
pub mod server;
pub mod session;
pub mod transcript;
pub mod wait;
pub mod wire;

pub use server::Server;
pub use session::Session;
