//! Everything a connection needs to know before it is opened.

use std::fmt;
use std::time::Duration;

use vaylix_proto::Text;
use vaylix_proto::frame::FRAME_LEN_MAX;

use super::endpoint::Endpoint;
use super::tls::TlsOptions;

/// Where a server is looked for when nothing else is said.
pub const DEFAULT_HOST: &str = "127.0.0.1";

/// The port of VTP2.
pub const DEFAULT_PORT: u16 = 9173;

/// Name and password for `AUTH`. Its `Debug` form hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: Text,
    /// The user's password.
    pub password: Text,
}

impl Credentials {
    /// Credentials of `user`.
    #[must_use]
    pub fn new(user: impl Into<Text>, password: impl Into<Text>) -> Self {
        Self { user: user.into(), password: password.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How to reach a server and what to agree on with it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Host name, IPv4 or IPv6 address (without brackets). With TLS also the name that the server's certificate
    /// must carry.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS, or plain TCP when `None`.
    pub tls: Option<TlsOptions>,
    /// Who [`Connection::log_in`](super::Connection::log_in) logs in as. `None`: stay anonymous.
    pub credentials: Option<Credentials>,
    /// Whether to ask for zstd. Requests are then compressed where that makes them smaller.
    pub compression: bool,
    /// Whether reads must be linearizable even when a follower answers them. A server that does not promise so is
    /// refused ([`Error::Wire`](super::Error::Wire) with `TRN-015`). Without this a follower answers from its own
    /// state, which may be behind; a leader's answers are linearizable either way.
    pub linearizable_reads: bool,
    /// How this program calls itself in the startup exchange.
    pub client_name: String,
    /// The largest frame to accept or send, in bytes. The server may lower it, never raise it.
    pub max_frame_len: u32,
    /// Time for name resolution, TCP, TLS and the startup exchange together.
    pub connect_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: DEFAULT_HOST.to_owned(),
            port: DEFAULT_PORT,
            tls: None,
            credentials: None,
            compression: true,
            linearizable_reads: false,
            client_name: "vaylix-client".to_owned(),
            max_frame_len: FRAME_LEN_MAX,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// The address for people: `host:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn address(&self) -> String {
        Endpoint::new(self.host.as_str(), self.port).to_string()
    }
}
