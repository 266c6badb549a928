//! Every bound of the control plane.

use std::time::Duration;

/// Connections at once. Whoever comes beyond that takes the place of the one that has been quiet for longest, if one is
/// quiet, and is closed otherwise.
pub(crate) const CONNECTIONS_MAX: usize = 256;

/// Requests in progress at once, over all connections; streams count while they last. So many that need a login, and as many
/// that need none. Probes are not counted.
pub(crate) const REQUESTS_MAX: usize = 64;

/// Streams in progress at once on one HTTP/2 connection.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 32;

/// Pause after a failed accept, which is mostly a lack of file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Within this time a connection must have finished its TLS handshake, and again have sent the head of its first request.
pub(crate) const GREETING_TIME_MAX: Duration = Duration::from_secs(10);

/// Within this time each further head of a request must be complete, once it was begun or the connection is idle.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// A connection without a request in progress is closed after this time.
pub(crate) const IDLE_TIME_MAX: Duration = Duration::from_secs(300);

/// Within this time a request must be complete and answered; of a stream, its head.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a change of the membership may take: a new member has to catch up.
pub(crate) const LONG_REQUEST_TIME_MAX: Duration = Duration::from_secs(600);

/// The other side must take in something within this time while there is something to take in.
pub(crate) const WRITE_STALL_MAX: Duration = Duration::from_secs(30);

/// How often HTTP/2 asks whether the other side is there, and how long it may take to say so.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(20);
pub(crate) const PING_TIME_MAX: Duration = Duration::from_secs(20);

/// Head of an HTTP/1.1 request: the buffer it must fit in, and how many fields it may have.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
pub(crate) const HEAD_FIELDS_MAX: usize = 64;

/// Head of an HTTP/2 request, decompressed.
pub(crate) const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// HTTP/2 streams that a client may reset before they are served: more are an attack.
pub(crate) const PENDING_RESETS_MAX: usize = 20;
pub(crate) const LOCAL_RESETS_MAX: usize = 64;

/// Bytes that a client may send ahead of the handler, on a stream and on a connection.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes of answers that are kept for a stream.
pub(crate) const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How long the body of a request over HTTP may take to arrive, but for an uploaded backup. It has one of the places of requests in
/// progress meanwhile.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// The body of a request, and a message of gRPC.
pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024;

/// The same where a value of the data plane is in it: base64 takes four bytes for three.
pub(crate) const VALUE_BODY_BYTES_MAX: usize = 1024 * 1024;

/// A value that is told.
pub(crate) const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// A message of gRPC that is sent.
pub(crate) const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The value of `authorization`: a name and a password at their longest are shorter.
pub(crate) const AUTHORIZATION_BYTES_MAX: usize = 4 * 1024;

/// A request id that a client chooses.
pub(crate) const REQUEST_ID_BYTES_MAX: usize = 64;

/// Items of a page when nothing is asked for, and at most.
pub(crate) const PAGE_DEFAULT: usize = 100;
pub(crate) const PAGE_MAX: usize = 1000;

/// How often the state is looked at for those who watch it.
pub(crate) const WATCH_EVERY: Duration = Duration::from_millis(200);

/// Event streams over HTTP at once. Each is also one of the requests in progress: these leave places for others.
pub(crate) const EVENT_STREAMS_MAX: usize = 32;

/// Events that wait for whoever follows a stream, and for how long the oldest may wait: who does not read is cut off.
pub(crate) const EVENTS_AHEAD_MAX: usize = 64;
pub(crate) const EVENT_STALL_MAX: Duration = Duration::from_secs(10);

/// An event stream that has nothing to say says so after this time, so that nobody on its way takes it for dead.
pub(crate) const EVENT_SILENCE_MAX: Duration = Duration::from_secs(15);

/// How often figures are taken, and how many are remembered.
pub(crate) const FIGURES_EVERY: Duration = Duration::from_secs(1);
pub(crate) const FIGURES_KEPT_MAX: usize = 600;

/// How often it is looked who leads, and how many changes are remembered.
pub(crate) const LEADER_LOOK_EVERY: Duration = Duration::from_millis(250);
pub(crate) const LEADERS_KEPT_MAX: usize = 100;

/// How long connections may take to finish when the server stops.
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Connections of the control plane are numbered from here, so that the audit log tells them from those of the data plane.
/// Below 2^53, which is as far as numbers of JSON are exact.
pub(crate) const CONNECTION_ID_BASE: u64 = 1 << 48;

const _: () =
    assert!(EVENT_STREAMS_MAX < REQUESTS_MAX, "whoever watches must leave places for those who act");
const _: () = assert!(VALUE_BYTES_MAX < ANSWER_BYTES_MAX, "a value must fit in an answer");
const _: () = assert!(PAGE_DEFAULT <= PAGE_MAX, "what nobody asks for must be allowed");
const _: () = assert!(
    AUTHORIZATION_BYTES_MAX < HEAD_BYTES_MAX && REQUEST_ID_BYTES_MAX < HEAD_BYTES_MAX,
    "a header must fit in a head"
);
