//! The door over a real node in a directory of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod bootstrap;
mod matrix;
mod open;
mod rules;
mod session;
mod status;
mod support;
