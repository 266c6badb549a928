//! What the tests of the control plane share.

use std::net::SocketAddr;

use serde_json::Value;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use vaylix_testkit::{Server, http};

/// The administrator of a server that was started without credentials.
pub(crate) const ADMIN: (&str, &str) = ("vaylix", "vaylix");

/// Where the control plane of a server is.
pub(crate) fn admin(server: &Server) -> SocketAddr {
    server.admin_address().unwrap()
}

/// Runs a test on a runtime of its own.
pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// A connection of gRPC without TLS.
pub(crate) async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// A request by the administrator.
pub(crate) fn by_admin<T>(message: T) -> Request<T> {
    by(ADMIN, message)
}

/// A request by this user.
pub(crate) fn by<T>((user, password): (&str, &str), message: T) -> Request<T> {
    with_authorization(&http::basic(user, password), message)
}

/// A request with this proof.
pub(crate) fn with_authorization<T>(authorization: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    request
}

/// A JSON operation by the administrator: its status and its answer.
pub(crate) fn call(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
    call_as(server, Some(ADMIN), method, path, body)
}

/// A JSON operation by this user, or by nobody.
pub(crate) fn call_as(
    server: &Server,
    user: Option<(&str, &str)>,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, Value) {
    let authorization = user.map(|(user, password)| http::basic(user, password));
    let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
    let response = http::request(admin(server), method, path, &headers, body.as_bytes()).unwrap();
    let answer = serde_json::from_slice(&response.body)
        .unwrap_or_else(|error| panic!("{method} {path}: {error}: {}", response.text()));
    (response.status, answer)
}
