//! The server's side of VTP2: listener, connections and sessions.
//!
//! | Module | Is |
//! |---|---|
//! | `listener` | the accept loop |
//! | `registry` | who is connected, and who leaves when places run out |
//! | `attend` | one connection from accept to close |
//! | `handshake` | the hello |
//! | `connection` | the loop between socket and session |
//! | `session` | identity, transaction, rate, and the order of checks; waits for nothing |
//! | `transaction` | what is queued between MULTI and EXEC |
//! | `replies` | answers in the order of the requests |
//! | `reply_len` | how long a reply is, before it is encoded |
//! | `caps` | every bound |

mod attend;
mod caps;
mod connection;
mod handshake;
mod listener;
mod registry;
mod replies;
mod reply_len;
mod session;
mod settings;
mod transaction;

pub use listener::{BindError, Drained, Listener, Socket};
pub use settings::Settings;
