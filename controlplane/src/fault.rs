//! What a refusal looks like: `google.rpc.Status` with details in gRPC, `application/problem+json` in HTTP.
//!
//! Both carry the stable code of `docs/error-codes.md`; status numbers only sort them roughly.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tonic::{Code as GrpcCode, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use vaylix_proto::code::Retry;
use vaylix_proto::{Code, ErrorReply};

/// Where the codes in `reason` belong to.
const DOMAIN: &str = "vaylix";

/// What the operating system calls a file that is not there.
const ENOENT: i32 = 2;

/// After how long it is worth to try again what may succeed later.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A request that is refused or failed.
#[derive(Debug)]
pub(crate) struct Fault {
    reply: ErrorReply,
    /// The field of the request that is wrong.
    field: Option<&'static str>,
    /// Where the control plane of the leader is, for what only it can do.
    leader_admin_address: Option<String>,
    /// What it is where the code says too little: a thing that is not there, or is not as it was.
    kind: Option<GrpcCode>,
    /// What HTTP says instead of what the code stands for.
    status: Option<StatusCode>,
    /// After how long it may succeed, where that is known.
    retry_after: Option<Duration>,
}

impl From<ErrorReply> for Fault {
    fn from(reply: ErrorReply) -> Self {
        Self { reply, field: None, leader_admin_address: None, kind: None, status: None, retry_after: None }
    }
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        ErrorReply::new(code, message.into()).into()
    }

    /// A field of the request cannot be used (`SRV-030`).
    pub(crate) fn field(field: &'static str, problem: impl std::fmt::Display) -> Self {
        let message = format!("invalid command-line arguments: {field}: {problem}");
        Self { field: Some(field), ..Self::new(Code::InvalidArguments, message) }
    }

    /// It is this field of the request that cannot be used.
    pub(crate) fn of_field(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    /// A page of another site has a browser ask for it.
    pub(crate) fn foreign() -> Self {
        Self::new(
            Code::PermissionDenied,
            "permission denied: a page of another site had the browser send this (Origin, Sec-Fetch-Site)",
        )
    }

    /// The server is not ready for it yet.
    pub(crate) fn starting() -> Self {
        Self::new(
            Code::EngineWorkerClosed,
            "engine worker is unavailable: the server is starting; see /startupz",
        )
    }

    /// The server has been told to stop: what would go on for ever ends.
    pub(crate) fn stopping() -> Self {
        Self::new(Code::EngineWorkerClosed, "engine worker is unavailable: the server is stopping")
    }

    /// Too much is in progress.
    pub(crate) fn busy() -> Self {
        Self::new(
            Code::RateLimitExceeded,
            "request rate limit exceeded: too many requests of the control plane are in progress",
        )
    }

    /// It took too long.
    pub(crate) fn too_late() -> Self {
        Self::new(
            Code::RequestDeadlineExceeded,
            "request deadline exceeded: what was begun goes on, look before you repeat it",
        )
    }

    /// The body did not arrive in time: nothing was begun.
    pub(crate) fn too_slow() -> Self {
        Self::new(
            Code::RequestDeadlineExceeded,
            "request deadline exceeded: the body of the request did not arrive in time; nothing was done",
        )
        .with_status(StatusCode::REQUEST_TIMEOUT)
    }

    /// The body is longer than anybody's.
    pub(crate) fn too_large(bytes_max: usize) -> Self {
        let message = format!("request exceeds configured quotas: a body holds at most {bytes_max} bytes");
        Self::new(Code::QuotaExceeded, message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// There is nothing of this path.
    pub(crate) fn no_such_path() -> Self {
        Self::new(Code::UnsupportedRemoteCommand, "unsupported remote command: there is nothing at this path")
            .with_status(StatusCode::NOT_FOUND)
    }

    /// The path knows other methods.
    pub(crate) fn no_such_method() -> Self {
        Self::new(
            Code::UnsupportedRemoteCommand,
            "unsupported remote command: this path does not know the method",
        )
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
    }

    /// The door did something else than it was asked.
    pub(crate) fn nonsense() -> Self {
        Self::new(Code::UnsupportedRemoteCommand, "unsupported remote command")
    }

    /// The access records cannot be read.
    pub(crate) fn rules_unreadable() -> Self {
        Self::new(Code::AuthStoreDeserializationFailure, "auth store deserialization failed")
    }

    /// What the request rests on is not so any more (`SRV-030`).
    pub(crate) fn moved_on(message: String) -> Self {
        Self { kind: Some(GrpcCode::Aborted), ..Self::new(Code::InvalidArguments, message) }
    }

    /// What the request names in this field is not there (`SRV-030`).
    pub(crate) fn missing(field: &'static str, problem: &str) -> Self {
        Self { kind: Some(GrpcCode::NotFound), ..Self::field(field, problem) }
    }

    /// The same with the code that the data plane has for it, for files of the server that are not there.
    pub(crate) fn or_missing_file(self) -> Self {
        let is_missing = self.code() == Some(Code::ServerFilesystemIoFailure)
            && self.reply.message.contains(&std::io::Error::from_raw_os_error(ENOENT).to_string());
        if is_missing { Self { kind: Some(GrpcCode::NotFound), ..self } } else { self }
    }

    /// What the request names in this field is not as it expects (`SRV-030`).
    pub(crate) fn conflict(field: &'static str, problem: &str) -> Self {
        Self { kind: Some(GrpcCode::Aborted), ..Self::field(field, problem) }
    }

    /// A cookie came without what shows that the page it belongs to sent it.
    pub(crate) fn unconfirmed() -> Self {
        Self::new(
            Code::PermissionDenied,
            "permission denied: a change by cookie needs the header x-csrf-token with the token of the session",
        )
    }

    /// More event streams than the server keeps open.
    pub(crate) fn too_many_streams() -> Self {
        Self::new(
            Code::RateLimitExceeded,
            "request rate limit exceeded: too many event streams of the control plane are open",
        )
    }

    /// What the door would have said.
    pub(crate) fn into_reply(self) -> ErrorReply {
        self.reply
    }

    fn with_status(self, status: StatusCode) -> Self {
        Self { status: Some(status), ..self }
    }

    /// It may succeed after so long, and not before.
    pub(crate) fn after(self, wait: Option<Duration>) -> Self {
        Self { retry_after: wait, ..self }
    }

    /// After how long to try again, if that makes sense at all.
    fn retry_info(&self) -> Option<Duration> {
        let is_transient = self.code().is_some_and(|code| code.retry() == Retry::Backoff);
        self.retry_after.or_else(|| is_transient.then_some(RETRY_AFTER))
    }

    pub(crate) fn at_leader(self, address: Option<String>) -> Self {
        Self { leader_admin_address: address, ..self }
    }

    /// What it is called where only code and text are told.
    pub(crate) fn told(&self) -> (&str, &str) {
        (&self.reply.code, &self.reply.message)
    }

    /// The code; none for one that this release does not know.
    pub(crate) fn code(&self) -> Option<Code> {
        self.reply.known_code()
    }

    fn retry(&self) -> &'static str {
        match self.code().map(Code::retry) {
            Some(Retry::Backoff) => "backoff",
            Some(Retry::AtLeader) => "at_leader",
            Some(Retry::OutcomeUnknown) => "outcome_unknown",
            Some(Retry::Never) | None => "never",
        }
    }

    fn grpc_code(&self) -> GrpcCode {
        self.kind.unwrap_or_else(|| self.code().map_or(GrpcCode::Unknown, grpc_code))
    }

    fn details(&self) -> ErrorDetails {
        let mut details = ErrorDetails::new();
        let mut metadata = HashMap::from([
            ("name".to_owned(), self.reply.name.to_string()),
            ("retry".to_owned(), self.retry().to_owned()),
        ]);
        if let Some(address) = &self.leader_admin_address {
            metadata.insert("leader_admin_address".to_owned(), address.clone());
        }
        details.set_error_info(&*self.reply.code, DOMAIN, metadata);
        if let Some(wait) = self.retry_info() {
            details.set_retry_info(Some(wait));
        }
        if let Some(field) = self.field {
            details.add_bad_request_violation(field, &*self.reply.message);
        }
        if self.grpc_code() == GrpcCode::FailedPrecondition {
            details.add_precondition_failure_violation(&*self.reply.code, DOMAIN, &*self.reply.message);
        }
        details
    }

    /// The answer in HTTP. `redirect` is where the same request finds the leader, if that is known.
    pub(crate) fn into_http(self, redirect: Option<String>) -> Response {
        let status = match (&redirect, self.status) {
            (Some(_), _) => StatusCode::TEMPORARY_REDIRECT,
            (None, Some(status)) => status,
            (None, None) => http_status(self.grpc_code(), self.code()),
        };
        let problem = Problem {
            kind: "about:blank",
            title: &self.reply.name,
            status: status.as_u16(),
            detail: &self.reply.message,
            code: &self.reply.code,
            retry: self.retry(),
            field: self.field,
            leader_admin_address: self.leader_admin_address.as_deref(),
        };
        let body = serde_json::to_vec(&problem).expect("texts and numbers are serialized");
        let mut response = (status, Body::from(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"vaylix\", Bearer"));
        }
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            let wait = self.retry_after.unwrap_or(RETRY_AFTER);
            // Whoever comes back as told must not come too early.
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
            );
        }
        if let Some(location) = redirect.and_then(|location| HeaderValue::from_str(&location).ok()) {
            headers.insert(header::LOCATION, location);
        }
        response
    }

    pub(crate) fn leader_admin_address(&self) -> Option<&str> {
        self.leader_admin_address.as_deref()
    }

    /// What the gRPC library refused by itself, in our words: a method that there is not, a message that is too long or cannot
    /// be read. `None` for what needs no words.
    pub(crate) fn of_library(status: &Status) -> Option<Self> {
        let code = match status.code() {
            GrpcCode::Unimplemented => Code::UnsupportedRemoteCommand,
            GrpcCode::OutOfRange | GrpcCode::ResourceExhausted => Code::QuotaExceeded,
            GrpcCode::Internal | GrpcCode::InvalidArgument => Code::CorruptedPayload,
            GrpcCode::DeadlineExceeded | GrpcCode::Cancelled => Code::RequestDeadlineExceeded,
            _ => return None,
        };
        let text = match status.message() {
            "" => "there is no such service or method",
            text => text,
        };
        let reply = ErrorReply::new(code, format!("{}: {text}", code.name().to_lowercase()));
        Some(Self { kind: Some(status.code()), ..reply.into() })
    }

    /// The answer in gRPC.
    pub(crate) fn into_grpc(self) -> Response {
        Status::from(self).into_http()
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let message = fault.reply.to_string();
        Status::with_error_details(fault.grpc_code(), message, fault.details())
    }
}

/// RFC 9457, with what programs need.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// The stable code.
    code: &'a str,
    retry: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    #[serde(rename = "leaderAdminAddress", skip_serializing_if = "Option::is_none")]
    leader_admin_address: Option<&'a str>,
}

/// What gRPC calls it.
fn grpc_code(code: Code) -> GrpcCode {
    use Code as C;
    match code {
        C::AuthenticationRequired | C::AuthenticationFailed => GrpcCode::Unauthenticated,
        C::PermissionDenied => GrpcCode::PermissionDenied,
        C::AuthenticationLocked | C::RateLimitExceeded => GrpcCode::ResourceExhausted,
        C::QuotaExceeded
        | C::InvalidArguments
        | C::InvalidPermission
        | C::PasswordPolicyViolation
        | C::BackupPathRejected
        | C::BackupVerificationFailure
        | C::CorruptedPayload
        | C::InvalidUtf8Payload => GrpcCode::InvalidArgument,
        C::UserAlreadyExists | C::RoleAlreadyExists => GrpcCode::AlreadyExists,
        C::UserNotFound | C::RoleNotFound => GrpcCode::NotFound,
        C::ProtectedRole
        | C::LastAdminUser
        | C::MaintenanceModeEnabled
        | C::FollowerWriteRejected
        | C::ReplicationPromotionDenied => GrpcCode::FailedPrecondition,
        C::UnsupportedRemoteCommand => GrpcCode::Unimplemented,
        C::EngineWorkerClosed
        | C::ReplicationAcknowledgementUnavailable
        | C::ReplicationAcknowledgementTimeout => GrpcCode::Unavailable,
        C::RequestDeadlineExceeded => GrpcCode::DeadlineExceeded,
        _ => GrpcCode::Internal,
    }
}

/// What HTTP calls it: the mapping of `google.rpc.Code`, but that a request for the leader may succeed elsewhere.
fn http_status(grpc: GrpcCode, code: Option<Code>) -> StatusCode {
    if code == Some(Code::FollowerWriteRejected) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    match grpc {
        GrpcCode::Ok => StatusCode::OK,
        GrpcCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        GrpcCode::PermissionDenied => StatusCode::FORBIDDEN,
        GrpcCode::NotFound => StatusCode::NOT_FOUND,
        GrpcCode::AlreadyExists | GrpcCode::Aborted => StatusCode::CONFLICT,
        GrpcCode::InvalidArgument | GrpcCode::FailedPrecondition | GrpcCode::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        GrpcCode::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        GrpcCode::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        GrpcCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        GrpcCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        GrpcCode::Cancelled | GrpcCode::Unknown | GrpcCode::Internal | GrpcCode::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_carries_the_stable_code_and_what_to_do() {
        let status = Status::from(Fault::new(Code::MaintenanceModeEnabled, "maintenance mode is enabled"));
        assert_eq!(status.code(), GrpcCode::FailedPrecondition);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("SRV-033", "vaylix"));
        assert_eq!(info.metadata["retry"], "backoff");
        assert!(details.retry_info().is_some() && details.precondition_failure().is_some());

        let status = Status::from(Fault::field("address", "is no address"));
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "address");
        assert!(details.retry_info().is_none());
    }

    #[test]
    fn http_says_the_same_in_its_own_words() {
        let refused = || Fault::new(Code::FollowerWriteRejected, "x").at_leader(Some("b:2".to_owned()));
        assert_eq!(refused().into_http(None).status(), 503);
        let response = refused().into_http(Some("http://b:2/v1/x".to_owned()));
        assert_eq!(response.status(), 307);
        assert_eq!(response.headers()["location"], "http://b:2/v1/x");
        let response = Fault::new(Code::AuthenticationRequired, "x").into_http(None);
        assert_eq!(response.status(), 401);
        assert!(response.headers().contains_key("www-authenticate"));
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(Fault::missing("key", "x").into_http(None).status(), 404);
        assert_eq!(Fault::conflict("expected_version", "x").into_http(None).status(), 409);
    }
}
