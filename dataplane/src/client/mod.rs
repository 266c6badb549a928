//! The asynchronous client: one connection, VTP2 over TCP or TLS; and a cluster's worth of them.
//!
//! ```no_run
//! use vaylix_dataplane::client::{Config, Connection, Credentials};
//! use vaylix_proto::{Command, Reply};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config {
//!     credentials: Some(Credentials::new("vaylix", "vaylix")),
//!     ..Config::default()
//! };
//! let mut connection = Connection::connect(&config).await?;
//! connection.log_in(&config).await??;
//! let reply = connection.call(&Command::Get { key: "city".into() }).await??;
//! assert_eq!(reply, Reply::NotFound);
//! # Ok(())
//! # }
//! ```
//!
//! Every answer has two layers: the outer `Result` says whether the connection works ([`Error`]), the inner one
//! what the server decided ([`ErrorReply`](vaylix_proto::ErrorReply)). When an [`Error`] leaves the connection
//! no longer [usable](Connection::is_usable), requests in flight have an *unknown* outcome.
//!
//! [`Cluster`] stands above: given the addresses of several servers it finds one, follows the way to the leader,
//! connects anew, and repeats what may be repeated.

mod cluster;
mod config;
mod connection;
mod endpoint;
mod error;
mod redirect;
mod repeat;
#[cfg(test)]
mod scripted;
mod stream;
mod tls;
mod transaction;
mod url;

pub use cluster::{CallError, Cluster, ClusterConfig};
pub use config::{Config, Credentials, DEFAULT_HOST, DEFAULT_PORT};
pub use connection::{Connection, IN_FLIGHT_MAX, Parts};
pub use endpoint::Endpoint;
pub use error::Error;
pub use redirect::leader_address;
pub use repeat::may_repeat;
pub use stream::Stream;
pub(crate) use tls::system_roots;
pub use tls::{ClientIdentity, TlsOptions};
pub use transaction::Transaction;
pub use url::Url;
