//! The listener over real sockets, with a real door and node behind it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lifecycle;
mod logging;
mod long;
mod pipeline;
mod requests;
mod support;
mod tls;
mod transactions;
mod vectors;
