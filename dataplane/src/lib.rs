//! VTP2 over sockets: the server's sessions and the client library.

pub mod client;
pub mod peers;
pub mod server;
