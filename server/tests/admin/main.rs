//! The control plane of real servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod audit;
mod backup;
mod bounds;
mod certificates;
mod cluster;
mod console;
mod grpc;
mod json;
mod keys;
mod listener;
mod probes;
mod storage;
mod support;
