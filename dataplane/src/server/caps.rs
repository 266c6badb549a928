//! Every bound of the server that is not an operator's, by name.

use std::time::Duration;

/// What an idle connection keeps ready for reading.
pub(crate) const READ_BYTES_MIN: usize = 1024;

/// Most bytes asked of the socket at once, unless a larger frame is already half here.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;

/// Longest body of a client hello: two texts of 65 535 bytes and 20 bytes beside them.
pub(crate) const HELLO_LEN_MAX: u32 = 2 * 65_535 + 20;

/// Encoded replies that may wait for a slow reader before its requests are no longer handled. One more reply
/// may come on top, and no reply is longer than a frame.
pub(crate) const REPLY_BYTES_HIGH: usize = 256 * 1024;

/// Writes of one connection that may be under way at once.
pub(crate) const WRITES_IN_FLIGHT_MAX: usize = 1024;

/// Bytes that the writes under way of one connection, and their answers, may hold.
pub(crate) const IN_FLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What an answer that waits for its turn costs besides its own bytes, about.
pub(crate) const ANSWER_OVERHEAD_BYTES: usize = 256;

/// Requests of one connection handled before others get their turn.
pub(crate) const REQUESTS_PER_TURN: usize = 128;

/// Request bytes of the commands queued in one transaction. The usual limits allow at most 127 values of
/// 256 KiB, which fit.
pub(crate) const TRANSACTION_BYTES_MAX: usize = 48 * 1024 * 1024;

/// How often a connection looks after itself: gives back buffers, notices idleness and stalled readers.
pub(crate) const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);

/// A connection whose peer takes nothing of what waits for it during this time is closed.
pub(crate) const WRITE_STALL_MAX: Duration = Duration::from_secs(60);

/// How long a connection that is being closed waits for its peer to close too, so that the last replies are
/// not lost to a reset.
pub(crate) const LINGER_MAX: Duration = Duration::from_millis(500);

/// Bytes thrown away while waiting for that.
pub(crate) const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Connections of other nodes: a few for each of them, and those that are not yet known to be broken.
pub(crate) const PEERS_MAX: usize = 256;

/// Connections the operating system may hold for us before we accept them.
pub(crate) const ACCEPT_BACKLOG: u32 = 1024;

/// File descriptors that connections leave to the log, snapshots and everything else; half of all if the
/// process may have fewer than twice as many.
pub(crate) const FILES_RESERVED: usize = 256;

/// Failed accepts are reported once in this time.
pub(crate) const ACCEPT_WARNING_EVERY: Duration = Duration::from_secs(1);

/// First pause after a failed accept; it doubles up to [`ACCEPT_PAUSE_MAX`].
pub(crate) const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(5);

/// Longest pause after a failed accept.
pub(crate) const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(500);

const _: () =
    assert!(REPLY_BYTES_HIGH >= READ_BYTES_MAX, "a batch of small requests must be answerable in one write");
