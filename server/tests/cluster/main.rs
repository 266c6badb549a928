//! Real servers that form a cluster: what was acknowledged is there, whatever happens to one of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what a failed test prints is shown")]

mod failover;
mod forming;
mod membership;
mod support;
mod transfer;
