//! What happens to every request before and after its handler: an id, a place among those in progress, a bound on its body,
//! a time limit, a line for those who trace, a figure for those who count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tower::ServiceExt as _;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;
use vaylix_access::Metric;
use vaylix_proto::Code;
use vaylix_telemetry::Trace;

use crate::api::{self, Audience};
use crate::caller::Origin;
use crate::caps::{
    BODY_TIME_MAX, LONG_REQUEST_TIME_MAX, REQUEST_ID_BYTES_MAX, REQUEST_TIME_MAX, REQUESTS_MAX,
};
use crate::cookie::CONFIRMATION;
use crate::fault::Fault;
use crate::listener::Guest;
use crate::metrics::Surface;
use crate::stage::Stage;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What all requests share.
pub(crate) struct Frame {
    stage: Stage,
    router: Router,
    /// For what needs a login.
    places: Arc<Semaphore>,
    /// For what needs none, so that strangers who watch keep no administrator out.
    open_places: Arc<Semaphore>,
}

/// A request's place among those in progress; probes and checks of health take none.
pub(crate) type Place = Option<OwnedSemaphorePermit>;

impl Frame {
    pub(crate) fn new(stage: Stage, router: Router) -> Self {
        let places = || Arc::new(Semaphore::new(REQUESTS_MAX));
        Self { stage, router, places: places(), open_places: places() }
    }

    /// Counts and tells of a TLS handshake that failed, as the data plane does.
    pub(crate) fn handshake_failed(&self, peer: SocketAddr, reason: &dyn std::fmt::Display) {
        if let Some(door) = self.stage.door() {
            door.counters().increment(Metric::TlsHandshakeFailures);
        }
        let code = Code::TlsHandshakeFailure;
        tracing::warn!(target: "admin.tls", %peer, %code, "TLS handshake failed: {reason}");
    }

    /// Answers a request. Its place is taken until what comes with the answer is dropped.
    pub(crate) async fn handle(&self, request: Request<Body>, guest: Guest) -> (Response, Place) {
        let begun = Instant::now();
        let surface = Surface::of(&request);
        let (id, shown_id) = request_id(request.headers());
        let span = tracing::debug_span!(
            target: "admin.request", "request", request_id = %shown_id, peer = %guest.peer,
            method = %request.method(), path = api::shown(request.uri().path())
        );
        let followed = request_span(&request, surface, &guest);
        let (mut response, place) =
            self.pass(request, guest, id, surface, &followed).instrument(span.clone()).await;
        if surface == Surface::Grpc
            && let Some(fault) = untold(response.headers())
        {
            response = fault.into_grpc();
        }
        if !followed.is_disabled() {
            end(&followed, &response);
        }
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&shown_id) {
            headers.insert(REQUEST_ID, value);
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if surface == Surface::Http {
            // Whatever an answer holds, a browser that shows it runs nothing of it.
            let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
            headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(nothing);
            // Nor does a page of somebody else get it as an image or a script, whatever cookie goes along.
            headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        }
        self.stage.traffic().count(surface, &response, begun.elapsed());
        tracing::debug!(
            target: "admin.request", parent: &span,
            status = response.status().as_u16(), latency_us = begun.elapsed().as_micros(), "answered"
        );
        (response, place)
    }

    async fn pass(
        &self,
        request: Request<Body>,
        guest: Guest,
        id: Uuid,
        surface: Surface,
        followed: &Span,
    ) -> (Response, Place) {
        let refuse = |fault: Fault| match surface {
            Surface::Grpc => fault.into_grpc(),
            Surface::Probe | Surface::Http => fault.into_http(None),
        };
        let places = match api::audience(request.uri().path()) {
            Audience::Probes => None,
            Audience::Strangers => Some(&self.open_places),
            Audience::Users => Some(&self.places),
        };
        let place = match places.map(|places| Arc::clone(places).try_acquire_owned()) {
            None => None,
            Some(Ok(place)) => Some(place),
            Some(Err(_none_left)) => return (refuse(Fault::busy()), None),
        };
        let is_upload = api::is_upload(request.uri().path());
        let body_bytes_max = api::body_bytes_max(request.uri().path());
        if !is_upload && announced_len(request.headers()).is_some_and(|len| len > body_bytes_max as u64) {
            return (refuse(Fault::too_large(body_bytes_max)), place);
        }
        let time_max = time_max(&request);
        // A refusal before the body is read would end the stream of HTTP/2 so that not every client sees the answer.
        let request = match request {
            request if surface == Surface::Http && !is_upload => {
                match timeout(BODY_TIME_MAX, with_whole_body(request, body_bytes_max)).await {
                    Ok(Ok(request)) => request,
                    Ok(Err(fault)) => return (refuse(fault), place),
                    Err(_elapsed) => return (refuse(Fault::too_slow()), place),
                }
            }
            request => request,
        };
        if surface == Surface::Http && comes_from_elsewhere(&request) {
            return (refuse(Fault::foreign()), place);
        }
        let (mut parts, body) = request.into_parts();
        let asked = (&parts.method, &parts.headers);
        let origin = Origin::new(self.stage.clone(), guest, id, followed.clone(), surface, asked);
        if origin.is_unconfirmed() && !api::takes_no_proof(parts.uri.path()) {
            // It would not be taken for a proof anyway; so nothing else is said of the request, either.
            return (refuse(Fault::unconfirmed()), place);
        }
        let kept = origin.kept();
        let may_ask = may_ask_for_a_password(&parts.headers, origin.is_by_cookie());
        // From here on nobody has a use for them, and logs must not have them.
        for secret in [header::AUTHORIZATION, header::COOKIE, CONFIRMATION] {
            parts.headers.remove(secret);
        }
        parts.extensions.insert(origin);
        let body = if is_upload { body } else { Body::new(Limited::new(body, body_bytes_max)) };
        let request = Request::from_parts(parts, body);
        let answer = timeout(time_max, self.router.clone().oneshot(request)).await;
        match answer {
            Ok(Ok(mut response)) => {
                if let Some(line) = kept.lock().take() {
                    response.headers_mut().insert(header::SET_COOKIE, line);
                }
                if !may_ask && response.headers().contains_key(header::WWW_AUTHENTICATE) {
                    let silent = HeaderValue::from_static("Bearer");
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, silent);
                }
                (response, place)
            }
            Ok(Err(never)) => match never {},
            Err(_elapsed) => (refuse(Fault::too_late()), place),
        }
    }
}

/// The same request with all of its body, which is not longer than anybody's.
async fn with_whole_body(request: Request<Body>, bytes_max: usize) -> Result<Request<Body>, Fault> {
    let (parts, body) = request.into_parts();
    // The only failure that is not the end of the connection.
    let whole = Limited::new(body, bytes_max).collect().await.map_err(|_| Fault::too_large(bytes_max))?;
    Ok(Request::from_parts(parts, Body::from(whole.to_bytes())))
}

/// Whether a browser says that a page of somebody else has it send this request, which would change something. A browser
/// brings certificates to such requests without being asked, and where nobody has to log in it needs nothing at all.
fn comes_from_elsewhere(request: &Request<Body>) -> bool {
    if request.method().is_safe() {
        return false;
    }
    let text = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return !["same-origin", "none"].contains(&site);
    }
    let host = text("host").or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
    text("origin").is_some_and(|origin| {
        let origin = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        origin.is_none() || origin != host
    })
}

/// Whether a browser may open its own dialog when the answer asks for a password. Not where a page asks: it has a form for that.
fn may_ask_for_a_password(headers: &HeaderMap, is_by_cookie: bool) -> bool {
    let has = |name: HeaderName, wanted: fn(&str) -> bool| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(wanted)
    };
    let is_by_page = has(HeaderName::from_static("sec-fetch-mode"), |mode| mode != "navigate")
        || has(header::ACCEPT, |types| types.contains("text/event-stream"))
        || headers.contains_key(CONFIRMATION);
    !is_by_page && !is_by_cookie
}

/// The span of a request, if somebody follows requests: in the trace of its client, with a link to its connection. Probes are
/// asked all the time and have none.
fn request_span(request: &Request<Body>, surface: Surface, guest: &Guest) -> Span {
    if surface == Surface::Probe {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: vaylix_telemetry::REQUEST, parent: None, "request", otel.kind = "server",
        surface = surface.name(), http.request.method = api::method_name(request.method()),
        http.route = api::route(request.uri().path()), http.response.status_code = Empty,
        error.r#type = Empty, otel.status_code = Empty
    );
    if !span.is_disabled() {
        vaylix_telemetry::join(&span, Trace::of_headers(request.headers()));
        span.follows_from(&guest.span);
    }
    span
}

/// What a refusal of the gRPC library stands for, which knows nothing of our codes.
fn untold(headers: &HeaderMap) -> Option<Fault> {
    let is_told = headers.contains_key("grpc-status-details-bin");
    let status = tonic::Status::from_header_map(headers).filter(|_| !is_told)?;
    Fault::of_library(&status)
}

/// Says in the span of a request how it was answered. Of a stream that is its beginning.
fn end(span: &Span, response: &Response) {
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    let grpc_status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    let grpc_failure = grpc_status.filter(|status| *status != "0");
    if let Some(failure) = grpc_failure {
        span.record("error.type", failure);
    }
    if grpc_failure.is_some() || status.is_server_error() || status.is_client_error() {
        span.record("otel.status_code", "ERROR");
    }
    vaylix_telemetry::finish(span);
}

/// The id of a request, as the door takes it and as it is shown: the client's own, if that can be shown, or a new one.
fn request_id(headers: &HeaderMap) -> (Uuid, String) {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let given = given.filter(|text| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match given {
        Some(text) => (Uuid::parse_str(text).unwrap_or_else(|_| Uuid::now_v7()), text.to_owned()),
        None => {
            let id = Uuid::now_v7();
            (id, id.to_string())
        }
    }
}

fn announced_len(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How long a request may take: what its client allows, and never longer than its kind may.
fn time_max(request: &Request<Body>) -> Duration {
    let own = if api::is_long(request.uri().path()) { LONG_REQUEST_TIME_MAX } else { REQUEST_TIME_MAX };
    let asked = request.headers().get("grpc-timeout").and_then(|value| value.to_str().ok());
    asked.and_then(grpc_timeout).map_or(own, |asked| asked.min(own))
}

/// The time in a `grpc-timeout`: up to eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_grpc_are_digits_and_a_unit() {
        assert_eq!(grpc_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for text in ["", "S", "5", "5s", "-5S", "+5S", "999999999S", "5ü", "1 S"] {
            assert_eq!(grpc_timeout(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_the_library_refuses_has_a_code_of_ours_too() {
        use tonic_types::StatusExt as _;
        let of = |status: tonic::Status| untold(status.into_http::<Body>().headers());
        let told = |status| Fault::of_library(&status).map(tonic::Status::from).unwrap();
        for (status, code) in [
            (tonic::Status::unimplemented(""), "SRV-016"),
            (tonic::Status::out_of_range("decoded message length too large"), "SRV-013"),
            (tonic::Status::internal("failed to decode"), "TRN-008"),
        ] {
            let kind = status.code();
            let status = told(status);
            let details = status.get_details_error_info().unwrap();
            assert_eq!((status.code(), details.reason.as_str()), (kind, code), "{status}");
        }
        assert!(of(tonic::Status::unimplemented("")).is_some());
        // Whoever has said more is left alone, and so is what went well.
        assert!(of(Fault::busy().into()).is_none());
        assert!(untold(&HeaderMap::new()).is_none());
    }

    #[test]
    fn ids_of_clients_are_shown_again_if_they_can_be() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            request_id(&headers)
        };
        assert_eq!(with("deploy-17").1, "deploy-17");
        let own = Uuid::now_v7();
        assert_eq!(with(&own.to_string()).0, own);
        for text in ["", "two words", &"x".repeat(65), "ü"] {
            assert_ne!(with(text).1, text);
        }
    }
}
