//! The startup exchange from the client's side: what we offer, and what we hold the server to.

use bytes::Bytes;
use vaylix_proto::frame::Compression;
use vaylix_proto::hello::{Capabilities, ClientHello, ServerHello};

use super::config::Config;
use super::error::Error;

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreement {
    pub(super) compression: Compression,
    pub(super) max_frame_len: u32,
}
pub(super) fn offer(config: &Config) -> ClientHello {
    todo!()
}
pub(super) fn accept(config: &Config, body: &Bytes) -> Result<Agreement, Error> {
    todo!()
}
