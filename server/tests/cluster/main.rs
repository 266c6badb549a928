//! Real servers that form a cluster: what was acknowledged is there, whatever happens to one of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what the servers said is of use when a test fails")]

mod divergence;
mod failover;
mod followers;
mod forming;
mod membership;
mod support;
mod tls;
mod transfer;
