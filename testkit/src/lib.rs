//! Starts real Vaylix processes for tests: servers on free ports with their own directories, clients that
//! are typed into, and recorded sessions that are replayed against both.
//!
//! For what only shows when things break there are whole clusters ([`Cluster`]), a network between their nodes that
//! can be cut and slowed down ([`Network`]), disks that hang ([`Stall`]), and clients that record what they saw
//! ([`Workload`]) for `vaylix-checker` to judge, or from when on they were served ([`Watch`]).
//!
//! Everything a test starts is stopped when its handle is dropped, by process id.

pub mod binary;
pub mod certificates;
pub mod cluster;
pub mod http;
pub mod network;
pub mod process;
pub mod server;
pub mod session;
pub mod stall;
pub mod transcript;
pub mod wait;
pub mod watch;
pub mod wire;
pub mod workload;

pub use cluster::Cluster;
pub use network::{Link, Network, Party};
pub use server::Server;
pub use session::Session;
pub use stall::Stall;
pub use watch::Watch;
pub use workload::Workload;
