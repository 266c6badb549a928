//! What clients say about the trace that a request belongs to.

use std::cell::Cell;
use std::str::FromStr as _;

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// A longer `tracestate` is left out: the specification asks for no more.
const STATE_BYTES_MAX: usize = 512;

/// The trace that a request belongs to, by what its client says.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace(Given);

#[derive(Clone, Debug, PartialEq)]
enum Given {
    /// The trace; its span there is not known.
    Id(TraceId),
    /// The span of the client.
    Parent(SpanContext),
}

impl Trace {
    /// The trace with this id, as VTP2 carries it; none for an id of zeros, which is no id.
    #[must_use]
    pub fn of_id(id: [u8; 16]) -> Option<Self> {
        let id = TraceId::from_bytes(id);
        (id != TraceId::INVALID).then_some(Self(Given::Id(id)))
    }

    /// The span of the client, by `traceparent` and `tracestate`. None where there is no `traceparent`, there are several, or
    /// it is not what the specification of the W3C says.
    #[must_use]
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all("traceparent").iter();
        let (parent, None) = (parents.next()?, parents.next()) else { return None };
        let (trace, span, flags) = parse(parent.to_str().ok()?)?;
        // A state that cannot be read costs nothing but itself.
        let state: Option<Vec<_>> =
            headers.get_all("tracestate").iter().map(|part| part.to_str().ok()).collect();
        let state = state.map(|parts| parts.join(",")).filter(|state| state.len() <= STATE_BYTES_MAX);
        let state = state.filter(|state| is_state(state)).and_then(|state| TraceState::from_str(&state).ok());
        let state = state.unwrap_or_default();
        Some(Self(Given::Parent(SpanContext::new(trace, span, flags, true, state))))
    }
}

/// The parts of a `traceparent`.
fn parse(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = text.split('-');
    let mut next = |len: usize| {
        let part = parts.next()?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (part.len() == len && part.bytes().all(is_hex)).then_some(part)
    };
    let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
    // Later versions may have more parts.
    if version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    (trace != TraceId::INVALID && span != SpanId::INVALID).then_some((trace, span, flags))
}

/// Whether a text is a list of `key=value` as a `tracestate` has them: the library takes more than that.
fn is_state(text: &str) -> bool {
    let is_key = |key: &str| {
        key.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte))
    };
    let is_value = |value: &str| {
        !value.is_empty() && value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
    };
    let is_member =
        |member: &str| member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value));
    text.split(',').all(|member| is_member(member.trim()))
}

/// Makes a span that has just begun part of the trace that its client says. Without one it begins a trace of its own.
pub fn join(span: &Span, trace: Option<Trace>) {
    match trace {
        None => {}
        _ if span.is_disabled() => {}
        Some(Trace(Given::Id(id))) => {
            GIVEN.set(Some(id));
            // Asking for the ids has them made.
            let _made = span.context();
            GIVEN.set(None);
        }
        Some(Trace(Given::Parent(parent))) => {
            let parent = Context::new().with_remote_span_context(parent);
            if let Err(error) = span.set_parent(parent) {
                tracing::debug!(%error, "a span does not join the trace of its client");
            }
        }
    }
}

/// What a span is about is over now. Others may still hold on to it, or to parts of it.
pub fn finish(span: &Span) {
    // The layer takes the time at which a span was left last.
    span.in_scope(|| ());
}

thread_local! {
    /// The id of the next trace that this thread begins.
    static GIVEN: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Ids at random, but for traces that clients have named.
#[derive(Debug, Default)]
pub(crate) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        GIVEN.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn parent(pairs: &[(&'static str, &str)]) -> Option<SpanContext> {
        match Trace::of_headers(&headers(pairs))? {
            Trace(Given::Parent(parent)) => Some(parent),
            Trace(Given::Id(_)) => panic!("headers name a span"),
        }
    }

    #[test]
    fn a_parent_is_what_the_specification_says() {
        let given =
            parent(&[("traceparent", PARENT), ("tracestate", "a=1,b=2"), ("tracestate", "c=3")]).unwrap();
        assert_eq!(given.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(given.span_id().to_string(), "00f067aa0ba902b7");
        assert!(given.is_sampled() && given.is_remote());
        assert_eq!(given.trace_state().header(), "a=1,b=2,c=3");
        assert!(!parent(&[("traceparent", &PARENT.replace("-01", "-00"))]).unwrap().is_sampled());
        let later = format!("{}-more", PARENT.replacen("00", "cc", 1));
        assert!(parent(&[("traceparent", &later)]).is_some(), "later versions may say more");
    }

    #[test]
    fn nothing_else_is_a_parent() {
        assert!(parent(&[]).is_none());
        assert!(parent(&[("traceparent", PARENT), ("traceparent", PARENT)]).is_none());
        for text in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-more"),
            &format!("{PARENT} "),
            &PARENT.to_uppercase(),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &PARENT.replace('4', "+"),
            &PARENT.replace('-', "_"),
        ] {
            assert!(Trace::of_headers(&headers(&[("traceparent", text)])).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_state_that_cannot_be_read_costs_only_itself() {
        for state in ["=", "a", "a=", "=1", "A=1", "a=1=2", "a=1,,b=2", &format!("a={}", "x".repeat(600))] {
            let given = parent(&[("traceparent", PARENT), ("tracestate", state)]).unwrap();
            assert_eq!(given.trace_state().header(), "", "{state}");
        }
    }

    #[test]
    fn zeros_are_no_id() {
        assert_eq!(Trace::of_id([0; 16]), None);
        assert!(Trace::of_id([1; 16]).is_some());
    }

    #[test]
    fn an_id_is_given_once() {
        let ids = Ids::default();
        GIVEN.set(Some(TraceId::from_bytes([7; 16])));
        assert_eq!(ids.new_trace_id(), TraceId::from_bytes([7; 16]));
        assert_ne!(ids.new_trace_id(), TraceId::from_bytes([7; 16]));
    }
}
