//! Client certificates that stand for users.

use hyper::body::Body as _;
use tempfile::TempDir;
use tonic::client::GrpcService as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use vaylix_admin_proto::v1::access_service_client::AccessServiceClient;
use vaylix_admin_proto::v1::audit_service_client::AuditServiceClient;
use vaylix_admin_proto::v1::cluster_service_client::ClusterServiceClient;
use vaylix_admin_proto::v1::*;
use vaylix_testkit::Server;
use vaylix_testkit::certificates::{Authority, Directory, Pair, Validity};

use crate::support::{ADMIN, admin, by, by_admin, run, with_authorization};

const PASSWORD: &str = "correct horse 7 battery";

/// A server that asks for certificates of an authority, and the authority.
struct Fixture {
    authority: Authority,
    server: Server,
    folder: TempDir,
}

impl Fixture {
    fn start(flags: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let files = Directory::at(folder.path());
        let authority = Authority::new("the authority").unwrap();
        files.put(&authority.server("server", Validity::default()).unwrap()).unwrap();
        files.write("ca.pem", &authority.pem()).unwrap();
        let paths = ["server.pem", "server.key", "ca.pem"].map(|name| files.path(name));
        let tls = ["--ssl", "--tls-cert", &paths[0], "--tls-key", &paths[1], "--tls-client-ca", &paths[2]];
        let server = Server::start(&[&tls[..], flags].concat()).unwrap();
        Self { authority, server, folder }
    }

    /// A connection on which this certificate is shown.
    async fn channel(&self, pair: &Pair) -> Channel {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .identity(Identity::from_pem(&pair.cert, &pair.key));
        let address = format!("https://localhost:{}", admin(&self.server).port());
        Endpoint::from_shared(address).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
    }

    async fn with_uri(&self, uri: &str) -> Channel {
        self.channel(&self.authority.client_with_uri("somebody", uri).unwrap()).await
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

async fn who(channel: &Channel) -> Result<String, Status> {
    let mut access = AccessServiceClient::new(channel.clone());
    access.who_am_i(Request::new(WhoAmIRequest {})).await.map(|answer| answer.into_inner().user)
}

async fn list_users(channel: &Channel) -> Result<(), Status> {
    let mut access = AccessServiceClient::new(channel.clone());
    access.list_users(Request::new(ListUsersRequest::default())).await.map(drop)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, stable: &str) {
    let status = outcome.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (code, stable), "{status:?}");
}

#[test]
fn a_certificate_acts_as_the_user_it_names_with_what_that_user_may_now() {
    let fixture = Fixture::start(&["--admin-cert-user", "uri"]);
    run(async {
        let by_ann = fixture.with_uri("urn:vaylix:user:ann").await;
        refused(who(&by_ann).await, Code::Unauthenticated, "SRV-008");

        let mut access = AccessServiceClient::new(by_ann.clone());
        let ann = || "ann".to_owned();
        let create = CreateUserRequest { name: ann(), password: PASSWORD.to_owned() };
        // The header decides, whatever certificate it comes with.
        access.create_user(by_admin(create)).await.unwrap();
        assert_eq!(who(&by_ann).await.unwrap(), "ann");
        refused(list_users(&by_ann).await, Code::PermissionDenied, "SRV-017");

        // Grants are those of now, on the same connection.
        let grant = || GrantRoleRequest { role: "admin".to_owned(), user: ann() };
        access.grant_role(by_admin(grant())).await.unwrap();
        list_users(&by_ann).await.unwrap();
        let revoke = RevokeRoleRequest { role: "admin".to_owned(), user: ann() };
        access.revoke_role(by_admin(revoke)).await.unwrap();
        refused(list_users(&by_ann).await, Code::PermissionDenied, "SRV-017");

        // A header that proves nothing is not made good by a certificate, and one that does is somebody else.
        let wrong = access.who_am_i(by(("vaylix", "wrong"), WhoAmIRequest {})).await;
        refused(wrong, Code::Unauthenticated, "SRV-008");
        let unreadable = access.who_am_i(with_authorization("Digest x", WhoAmIRequest {})).await;
        refused(unreadable, Code::Unauthenticated, "SRV-007");
        let other = access.who_am_i(by(ADMIN, WhoAmIRequest {})).await.unwrap().into_inner();
        assert_eq!(other.user, "vaylix");

        access.drop_user(by_admin(DropUserRequest { name: ann() })).await.unwrap();
        refused(who(&by_ann).await, Code::Unauthenticated, "SRV-008");

        let mut audit = AuditServiceClient::new(by_ann.clone());
        let filter = AuditFilter { event_type: "auth".to_owned(), ..Default::default() };
        let request = ReadEventsRequest { size: 1000, filter: Some(filter), ..Default::default() };
        let events = audit.read_events(by_admin(request)).await.unwrap().into_inner().events;
        let by_certificate: Vec<_> = events
            .iter()
            .filter(|event| event.details.get("method").is_some_and(|method| method == "certificate"))
            .collect();
        let told: Vec<_> =
            by_certificate.iter().map(|event| (event.status.as_str(), event.user.as_str())).collect();
        // Refusals each time, a success once for the connection.
        assert_eq!(told, [("error", ""), ("ok", "ann"), ("error", "")], "{by_certificate:?}");
        assert!(by_certificate.iter().all(|event| event.details["username"] == "ann"));
        assert!(by_certificate.iter().all(|event| event.details["certificate"].len() == 64));
        assert_eq!(by_certificate[0].error_code, "SRV-008");
    });
}

#[test]
fn an_authority_that_is_taken_away_ends_what_it_vouched_for_on_open_connections_too() {
    let fixture = Fixture::start(&["--admin-cert-user", "uri"]);
    run(async {
        let admin = fixture.with_uri("urn:vaylix:user:vaylix").await;
        assert_eq!(who(&admin).await.unwrap(), "vaylix");
        let mut cluster = ClusterServiceClient::new(admin.clone());
        let mut watched =
            cluster.watch_status(Request::new(WatchStatusRequest {})).await.unwrap().into_inner();
        assert!(watched.message().await.unwrap().is_some());

        let another = Authority::new("another authority").unwrap();
        Directory::at(fixture.folder.path()).write("ca.pem", &another.pem()).unwrap();
        let told = loop {
            match watched.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a word"),
                Err(status) => break status,
            }
        };
        refused(Err::<(), _>(told), Code::Unauthenticated, "SRV-007");
        refused(who(&admin).await, Code::Unauthenticated, "SRV-007");
    });
}

#[test]
fn who_is_not_named_is_nobody() {
    let fixture = Fixture::start(&["--admin-cert-user", "uri"]);
    run(async {
        // The common name is that of the administrator, and does not count.
        let pair = fixture.authority.client("vaylix", Validity::default()).unwrap();
        refused(who(&fixture.channel(&pair).await).await, Code::Unauthenticated, "SRV-007");
        let foreign = fixture.with_uri("spiffe://example.com/vaylix").await;
        refused(who(&foreign).await, Code::Unauthenticated, "SRV-007");
        let admin = fixture.with_uri("urn:vaylix:user:vaylix").await;
        assert_eq!(who(&admin).await.unwrap(), "vaylix");
        list_users(&admin).await.unwrap();
    });
}

#[test]
fn the_common_name_counts_where_that_is_the_rule() {
    let fixture = Fixture::start(&["--admin-cert-user", "cn"]);
    run(async {
        let pair = fixture.authority.client("vaylix", Validity::default()).unwrap();
        assert_eq!(who(&fixture.channel(&pair).await).await.unwrap(), "vaylix");
    });
}

#[test]
fn without_the_rule_a_certificate_stands_for_nobody() {
    let fixture = Fixture::start(&[]);
    run(async {
        let pair = fixture.authority.client_with_uri("vaylix", "urn:vaylix:user:vaylix").unwrap();
        refused(who(&fixture.channel(&pair).await).await, Code::Unauthenticated, "SRV-007");
    });
}

#[test]
fn the_rule_needs_certificates() {
    let Err(error) = Server::start(&["--admin-cert-user", "cn"]) else { panic!("it starts") };
    assert!(format!("{error:#}").contains("--admin-cert-user needs --tls-client-ca"), "{error:#}");
}

/// Sends a request of HTTP on a connection of gRPC: its answer without the body, and the body.
async fn http(
    channel: &Channel,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> (hyper::http::response::Parts, serde_json::Value) {
    let mut request = hyper::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(tonic::body::Body::new(body.to_owned())).unwrap();
    let mut channel = channel.clone();
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let (parts, mut body) = channel.call(request).await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        bytes.extend(frame.unwrap().into_data().unwrap_or_default());
    }
    (parts, serde_json::from_slice(&bytes).unwrap())
}

#[test]
fn a_browser_with_a_certificate_is_whom_it_has_logged_in_as() {
    let fixture = Fixture::start(&["--admin-cert-user", "uri"]);
    run(async {
        let by_ann = fixture.with_uri("urn:vaylix:user:ann").await;
        let mut access = AccessServiceClient::new(by_ann.clone());
        let create = CreateUserRequest { name: "ann".to_owned(), password: PASSWORD.to_owned() };
        access.create_user(by_admin(create)).await.unwrap();
        let session = ("GET", "/v1/session");
        let (_, told) = http(&by_ann, session, &[], "").await;
        assert_eq!((&told["user"], told.get("csrfToken")), (&"ann".into(), None), "{told}");

        let login = r#"{"user":"vaylix","password":"vaylix","cookie":true}"#;
        let (answer, told) = http(&by_ann, ("POST", "/v1/login"), &[], login).await;
        let line = answer.headers["set-cookie"].to_str().unwrap();
        assert!(line.starts_with("__Host-vaylix_session_") && line.contains("; Secure"), "{line}");
        let cookie = ("cookie", line.split(';').next().unwrap());
        let csrf = ("x-csrf-token", told["csrfToken"].as_str().unwrap());
        assert_eq!(http(&by_ann, session, &[cookie], "").await.1["user"], "vaylix");
        let role = ("POST", "/v1/roles");
        let body = r#"{"name":"made"}"#;
        assert_eq!(
            http(&by_ann, role, &[cookie], body).await.0.status,
            403,
            "the certificate does not make it good"
        );
        assert_eq!(http(&by_ann, role, &[csrf], body).await.0.status, 403, "nor is it of use to ann");
        assert_eq!(http(&by_ann, role, &[cookie, csrf], body).await.0.status, 200);
        // gRPC knows no cookies.
        let mut request = Request::new(WhoAmIRequest {});
        request.metadata_mut().insert("cookie", cookie.1.parse().unwrap());
        assert_eq!(access.who_am_i(request).await.unwrap().into_inner().user, "ann");
        let asks = LoginRequest { user: "ann".to_owned(), password: PASSWORD.to_owned(), cookie: true };
        refused(access.login(asks).await, Code::InvalidArgument, "SRV-030");

        assert_eq!(http(&by_ann, ("POST", "/v1/logout"), &[cookie, csrf], "").await.0.status, 200);
        let (answer, told) = http(&by_ann, session, &[cookie], "").await;
        assert_eq!(
            (answer.status.as_u16(), &told["code"]),
            (401, &"SRV-007".into()),
            "what has ended proves nothing"
        );
        assert_eq!(http(&by_ann, session, &[], "").await.1["user"], "ann");
    });
}
