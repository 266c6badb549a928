//! The client as a process: what it prints where, and how it ends.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cluster;
mod output;
mod peer;
mod process;
mod startup;
