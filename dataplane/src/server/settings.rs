//! What the listener is told when it is bound, as plain data.

use std::time::Duration;

use vaylix_access::peers::Desk;
use vaylix_proto::frame::FRAME_LEN_MAX;

use crate::peers::ClusterSecret;
use vaylix_tls::Current;

/// How the listener treats its connections. The limits on requests are the door's.
#[derive(Clone)]
pub struct Settings {
    /// Sessions served at once, counted from the completed hello.
    pub sessions_max: usize,
    /// Connections that have not completed their hello. When one more comes, the oldest of them is closed.
    pub handshakes_max: usize,
    /// Time from the accepted connection to the completed hello, TLS included.
    pub hello_timeout: Duration,
    /// A session that sends no complete request for this long is closed without a message; none: never.
    pub idle_timeout: Option<Duration>,
    /// How long requests under way may take to be answered once the server stops.
    pub shutdown_grace: Duration,
    /// Whether zstd is granted to clients that ask for it.
    pub compression: bool,
    /// The largest frame, in bytes; at most [`FRAME_LEN_MAX`].
    pub frame_len_max: u32,
    /// Whether each request writes one line to the log.
    pub log_requests: bool,
    /// What new connections are encrypted with; none: plaintext. A new value counts from the next connection on.
    pub tls: Option<Current>,
    /// Who answers other nodes, and by what they are known; none: nobody, as on a node that is alone.
    pub peers: Option<(ClusterSecret, Desk)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sessions_max: 256,
            handshakes_max: 8192,
            hello_timeout: Duration::from_secs(5),
            idle_timeout: None,
            shutdown_grace: Duration::from_secs(10),
            compression: true,
            frame_len_max: FRAME_LEN_MAX,
            log_requests: false,
            tls: None,
            peers: None,
        }
    }
}
