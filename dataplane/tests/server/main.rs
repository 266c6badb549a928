//! The listener over real sockets, with a real door and node behind it.

mod lifecycle;
mod pipeline;
mod requests;
mod support;
mod transactions;
mod vectors;
