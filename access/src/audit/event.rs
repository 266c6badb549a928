//! What an event says, and its form before the chain numbers it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use uuid::Uuid;
use vaylix_proto::request::RequestId;

use super::chain::{Body, algorithm};

/// Longest detail, in bytes: what clients send may be as long as a key or a value, and it is written down.
const DETAIL_BYTES_MAX: usize = 1024;
/// Stands at the end of a detail that was cut.
const CUT: &str = "…";
/// The opcode of what the server does by itself.
const RUNTIME: &str = "RUNTIME";

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    NotFound,
    Error,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::Error => "error",
        }
    }
}

/// What the events of one request have in common.
pub(crate) struct Opening<'a> {
    pub(crate) connection_id: u64,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) username: Option<&'a str>,
    pub(crate) request_id: RequestId,
    pub(crate) opcode: &'static str,
    pub(crate) status: Status,
    pub(crate) latency: Duration,
}

/// An event, complete but for its place in the chain.
pub(crate) struct Event {
    /// The object without the fields that the chain adds.
    pub(super) body: String,
}

impl Event {
    /// An event of a request at `now_ms`. `details` are cut to a bounded length.
    pub(crate) fn new(
        now_ms: u64,
        opening: &Opening<'_>,
        error_code: Option<&str>,
        event_type: &str,
        details: &[(&str, &str)],
    ) -> Self {
        let body = Body {
            hash_algorithm: algorithm(),
            timestamp_ms: now_ms,
            connection_id: opening.connection_id,
            peer: opening.peer.map(|peer| peer.to_string().into()),
            username: opening.username.map(cut),
            request_id: Uuid::from_bytes(opening.request_id).to_string().into(),
            opcode: opening.opcode.into(),
            status: opening.status.name().into(),
            error_code: error_code.map(Cow::Borrowed),
            latency_ms: millis(opening.latency),
            event_type: event_type.into(),
            details: details
                .iter()
                .map(|(name, value)| (Cow::Borrowed(*name), cut(value)))
                .collect::<BTreeMap<_, _>>(),
        };
        Self { body: body.to_json() }
    }

    /// An event of the server itself.
    pub(crate) fn runtime(now_ms: u64, event_type: &str, details: &[(&str, &str)]) -> Self {
        let opening = Opening {
            connection_id: 0,
            peer: None,
            username: None,
            request_id: RequestId::default(),
            opcode: RUNTIME,
            status: Status::Ok,
            latency: Duration::ZERO,
        };
        Self::new(now_ms, &opening, None, event_type, details)
    }
}

/// Whole milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= DETAIL_BYTES_MAX {
        return text.into();
    }
    let mut end = DETAIL_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}", &text[..end]).into()
}
