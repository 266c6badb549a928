//! The handlers: plain functions from a typed request to a typed answer, whatever carried them.

pub(crate) mod access;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod cluster;
pub(crate) mod keys;
pub(crate) mod maintenance;
