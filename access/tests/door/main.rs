//! The door over a real node in a directory of its own.

mod access;
mod bootstrap;
mod matrix;
mod open;
mod rules;
mod session;
mod status;
mod support;
