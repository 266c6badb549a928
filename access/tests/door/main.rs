//! The door over a real node in a directory of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod audit;
mod bootstrap;
mod maintenance;
mod matrix;
mod open;
mod rules;
mod session;
mod status;
mod support;
