//! Where the control plane listens, and what it speaks there.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use vaylix_admin_proto::health::HealthCheckRequest;
use vaylix_admin_proto::health::health_check_response::ServingStatus;
use vaylix_admin_proto::health::health_client::HealthClient;
use vaylix_admin_proto::v1::audit_service_client::AuditServiceClient;
use vaylix_admin_proto::v1::cluster_service_client::ClusterServiceClient;
use vaylix_admin_proto::v1::{TailEventsRequest, WatchStatusRequest};
use vaylix_testkit::certificates::{Authority, Directory, Validity};
use vaylix_testkit::process::Process;
use vaylix_testkit::{Server, http, server, wire};

use crate::support::{admin, by_admin, call, channel, run};

fn output_of(flags: &[&str]) -> (String, Option<i32>) {
    let dir = TempDir::new().unwrap();
    let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
    let mut process = Process::spawn(server::command(&dir.path().join("data"), &flags).unwrap()).unwrap();
    let mut output = String::new();
    while let Some(line) = process.next_line().unwrap() {
        output.push_str(&line);
        output.push('\n');
    }
    let status = process.wait().unwrap().code();
    assert!(!dir.path().join("data").exists(), "nothing was touched");
    (output, status)
}

#[test]
fn a_port_that_is_taken_refuses_the_start_and_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (output, status) = output_of(&["--admin-port", &address.port().to_string()]);
    assert_eq!(status, Some(1), "{output}");
    let told = format!(
        "[SRV-001] Listener Bind Failure: failed to bind TCP listener of the control plane: {address}: Address already in use"
    );
    assert!(output.contains(&told) && output.contains("--disable-admin"), "{output}");
    let (output, status) = output_of(&["--metrics-bind", &address.to_string()]);
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("[SRV-001]") && output.contains("--metrics-bind"), "{output}");
    let (output, status) = output_of(&["--metrics-bind", "9175"]);
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("[SRV-030]"), "{output}");
}

#[test]
fn it_can_be_done_without() {
    let server = Server::start(&["--disable-admin"]).unwrap();
    assert_eq!(server.admin_address(), None);
    wire::set(server.address(), "k", b"v").unwrap();
}

#[test]
fn beyond_loopback_the_default_password_serves_nobody() {
    let server = Server::start(&["--admin-bind", "0.0.0.0"]).unwrap();
    let log = server.startup_log().join("\n");
    assert!(log.contains("generated the password"), "{log}");
    let address = format!("127.0.0.1:{}", admin(&server).port()).parse().unwrap();
    let authorization = http::basic("vaylix", "vaylix");
    let response =
        http::request(address, "GET", "/v1/whoami", &[("authorization", &authorization)], b"").unwrap();
    assert_eq!(response.status, 401, "{}", response.text());
}

/// Asks with curl, which knows nothing of us.
fn curl(arguments: &[&str]) -> (String, Option<i32>) {
    let output =
        Command::new("curl").args(["--silent", "--show-error", "--max-time", "30"]).args(arguments).output();
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.code())
}

#[test]
fn tls_is_that_of_the_data_plane() {
    let dir = TempDir::new().unwrap();
    let files = Directory::at(dir.path());
    let authority = Authority::new("site").unwrap();
    files.write("ca.pem", &authority.pem()).unwrap();
    files.put(&authority.server("node", Validity::default()).unwrap()).unwrap();
    let (cert, key, ca) = (files.path("server.pem"), files.path("server.key"), files.path("ca.pem"));
    let server = Server::start(&["--ssl", "--tls-cert", &cert, "--tls-key", &key]).unwrap();
    let url = format!("https://localhost:{}/livez", admin(&server).port());
    for version in ["--http1.1", "--http2"] {
        let shown = ["--cacert", &ca, version, "--write-out", "%{http_version} %{http_code}", &url];
        let (text, status) = curl(&shown);
        let spoken = if version == "--http2" { "ok\n2 200" } else { "ok\n1.1 200" };
        assert_eq!((text.as_str(), status), (spoken, Some(0)));
    }
    assert_ne!(curl(&[&url]).1, Some(0), "nobody vouches for it");
    let plain = format!("http://localhost:{}/livez", admin(&server).port());
    assert_ne!(curl(&[&plain]).1, Some(0), "it speaks nothing but TLS");
}

#[test]
fn client_certificates_are_asked_for_where_the_data_plane_asks() {
    let dir = TempDir::new().unwrap();
    let files = Directory::at(dir.path());
    let authority = Authority::new("site").unwrap();
    files.write("ca.pem", &authority.pem()).unwrap();
    files.put(&authority.server("node", Validity::default()).unwrap()).unwrap();
    let client = authority.client("operator", Validity::default()).unwrap();
    files.write("client.pem", &client.cert).unwrap();
    files.write("client.key", &client.key).unwrap();
    let stranger = Authority::new("elsewhere").unwrap().client("operator", Validity::default()).unwrap();
    files.write("stranger.pem", &stranger.cert).unwrap();
    files.write("stranger.key", &stranger.key).unwrap();
    let (cert, key, ca) = (files.path("server.pem"), files.path("server.key"), files.path("ca.pem"));
    let server =
        Server::start(&["--ssl", "--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca]).unwrap();
    let url = format!("https://localhost:{}/readyz", admin(&server).port());
    let with = |name: &str| {
        let (cert, key) = (files.path(&format!("{name}.pem")), files.path(&format!("{name}.key")));
        curl(&["--cacert", &ca, "--cert", &cert, "--key", &key, &url])
    };
    assert_eq!(with("client"), ("ok\n".to_owned(), Some(0)));
    assert_ne!(with("stranger").1, Some(0));
    assert_ne!(curl(&["--cacert", &ca, &url]).1, Some(0), "a certificate is needed");
}

#[test]
fn a_server_that_stops_finishes_what_it_was_asked() {
    let mut server = Server::start(&[]).unwrap();
    assert_eq!(call(&server, "GET", "/v1/whoami", "").0, 200);
    // A connection that is idle does not hold it up.
    let idle = http::connect(admin(&server)).unwrap();
    assert!(server.stop("TERM").unwrap().success());
    drop(idle);
}

/// Streams go on for ever, but not longer than the server: each ends with a code, and none holds up the stop.
#[test]
fn streams_end_with_a_code_when_the_server_stops() {
    /// Far below the time that requests in progress are given.
    const STOP_TIME_MAX: Duration = Duration::from_millis(1500);
    let mut server = Server::start(&[]).unwrap();
    run(async {
        let channel = channel(admin(&server)).await;
        let question = HealthCheckRequest { service: "vaylix.data".to_owned() };
        let mut health = HealthClient::new(channel.clone()).watch(question).await.unwrap().into_inner();
        let mut cluster = ClusterServiceClient::new(channel.clone());
        let mut status = cluster.watch_status(by_admin(WatchStatusRequest {})).await.unwrap().into_inner();
        let mut audit = AuditServiceClient::new(channel.clone());
        let request = TailEventsRequest { last: 1, filter: None, after_sequence: 0 };
        let mut tail = audit.tail_events(by_admin(request)).await.unwrap().into_inner();
        let serving = health.message().await.unwrap().unwrap().status();
        assert_eq!(serving, ServingStatus::Serving);
        status.message().await.unwrap().unwrap();
        tail.message().await.unwrap().unwrap();

        let begun = Instant::now();
        server.signal("TERM").unwrap();
        let last = health.message().await.unwrap().unwrap().status();
        assert_eq!(last, ServingStatus::NotServing, "that is said before the end");
        let ended = health.message().await.unwrap_err();
        is_stopping(&ended);
        is_stopping(&end_of(&mut status).await);
        is_stopping(&end_of(&mut tail).await);
        // The client's end of the connection has a part in its end.
        let ended = tokio::task::spawn_blocking(move || server.wait());
        assert!(ended.await.unwrap().unwrap().success());
        let took = begun.elapsed();
        assert!(took < STOP_TIME_MAX, "{took:?}");
    });
}

/// What a stream ends with.
async fn end_of<T>(stream: &mut Streaming<T>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends without a status"),
            Err(status) => return status,
        }
    }
}

#[track_caller]
fn is_stopping(status: &Status) {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    assert_eq!((status.code(), reason.as_str()), (Code::Unavailable, "SRV-005"), "{status:?}");
}
