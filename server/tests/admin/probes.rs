//! What supervisors, load balancers and collectors of figures ask.

use std::net::SocketAddr;

use vaylix_proto::Command;
use vaylix_testkit::process::{PATIENCE, Process};
use vaylix_testkit::server::{self, ADMIN_READY, named_address};
use vaylix_testkit::{Server, http, wait, wire};

use crate::support::{ADMIN, admin, call};

fn status(address: SocketAddr, path: &str) -> u16 {
    http::get(address, path).unwrap().status
}

#[test]
fn a_server_that_is_alone_is_everything_but_a_follower() {
    let server = Server::start(&[]).unwrap();
    for (path, expected) in [
        ("/livez", 200),
        ("/startupz", 200),
        ("/readyz", 200),
        ("/leader", 200),
        ("/follower", 503),
        ("/read-write", 200),
        ("/read-only", 200),
        ("/read-only?max_lag=0", 200),
        ("/nothing", 404),
    ] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let response = http::request(admin(&server), method, path, &[], b"").unwrap();
            assert_eq!(response.status, expected, "{method} {path}");
            assert!(method != "HEAD" || response.body.is_empty(), "{path}");
        }
    }
    assert_eq!(http::request(admin(&server), "POST", "/livez", &[], b"").unwrap().status, 405);
    assert_eq!(status(admin(&server), "/read-only?max_lag=few"), 400);
}

#[test]
fn readiness_names_its_checks() {
    let server = Server::start(&[]).unwrap();
    let verbose = http::get(admin(&server), "/readyz?verbose").unwrap().text();
    for check in ["started", "not-stopping", "cluster", "disk", "audit-log"] {
        assert!(verbose.contains(&format!("[+]{check} ok\n")), "{verbose}");
    }
    let excluded = http::get(admin(&server), "/readyz?verbose&exclude=disk&exclude=cluster").unwrap().text();
    assert!(excluded.contains("[+]disk excluded\n[+]audit-log ok\n"), "{excluded}");
    let unknown = http::get(admin(&server), "/readyz?exclude=disc").unwrap();
    assert_eq!(unknown.status, 400);
    assert_eq!(unknown.header("content-type"), "application/problem+json");
    assert!(unknown.text().contains("SRV-030"), "{}", unknown.text());
}

#[test]
fn maintenance_takes_writes_away_and_nothing_else() {
    let server = Server::start(&[]).unwrap();
    assert_eq!(call(&server, "PUT", "/v1/maintenance", r#"{"enabled":true}"#).0, 200);
    for (path, expected) in [("/read-write", 503), ("/leader", 200), ("/read-only", 200), ("/readyz", 200)] {
        assert_eq!(status(admin(&server), path), expected, "{path}");
    }
    assert_eq!(call(&server, "PUT", "/v1/maintenance", r#"{"enabled":false}"#).0, 200);
    assert_eq!(status(admin(&server), "/read-write"), 200);
}

#[test]
fn a_start_that_takes_long_is_alive_and_says_how_far_it_is() {
    let mut server = Server::start(&["--snapshot-log-bytes", "0"]).unwrap();
    // Large values: the log takes a moment to go through.
    let value = vec![b'x'; 200_000];
    let mut connection = wire::Connection::login(server.address()).unwrap();
    for at in 0..400 {
        connection.call(&wire::set_command(&format!("k{at}"), value.clone())).unwrap().unwrap();
    }
    let data_dir = server.data_dir().to_owned();
    server.kill().unwrap();
    let process = Process::spawn(server::command(&data_dir, &[]).unwrap()).unwrap();
    let mut log = Vec::new();
    let address = loop {
        log.push(process.next_line().unwrap().expect("it runs"));
        if let Some(address) = named_address(&log, ADMIN_READY) {
            break address;
        }
    };
    let first = http::get(address, "/startupz").unwrap();
    assert_eq!(status(address, "/livez"), 200);
    if first.status == 503 {
        assert!(first.text().contains("\"started\":false"), "{}", first.text());
        let refused = http::request(address, "GET", "/v1/cluster/status", &[], b"").unwrap();
        assert!(matches!(refused.status, 401 | 503), "{}", refused.text());
    }
    wait::within("it has started", PATIENCE, || (status(address, "/startupz") == 200).then_some(())).unwrap();
    assert_eq!(status(address, "/readyz"), 200);
    process.signal("TERM").unwrap();
}

#[test]
fn figures_are_the_contract_and_more_and_need_the_permission() {
    let server = Server::start(&[]).unwrap();
    wire::set(server.address(), "k", b"v").unwrap();
    let refused = http::get(admin(&server), "/metrics").unwrap();
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").starts_with("Basic"));
    let authorization = http::basic(ADMIN.0, ADMIN.1);
    let page =
        http::request(admin(&server), "GET", "/metrics", &[("authorization", &authorization)], b"").unwrap();
    assert_eq!(page.status, 200);
    let text = page.text();
    check_exposition(&text);
    assert!(text.starts_with("# HELP vaylix_server_connection_accepted_count "), "{text}");
    for line in [
        "# TYPE vaylix_wal_sync_duration_seconds histogram",
        "vaylix_node_leader 1",
        "# TYPE vaylix_admin_request_duration_seconds histogram",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

/// Whether every sample belongs to the family that was declared before it, and every histogram counts up.
fn check_exposition(text: &str) {
    let mut family = "";
    let mut last_bucket = 0;
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            family = declared.split(' ').next().unwrap();
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(name.starts_with(family), "{line} after {family}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            if name.contains("_bucket{") {
                let count: u64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(count >= last_bucket, "{line}");
                last_bucket = if name.contains("+Inf") { 0 } else { count };
            }
        }
    }
}

#[test]
fn a_listener_for_collectors_knows_nothing_else() {
    let server = Server::start(&["--metrics-bind", "127.0.0.1:0"]).unwrap();
    let address = server.metrics_address().unwrap();
    assert_ne!(address, admin(&server));
    let page = http::get(address, "/metrics").unwrap();
    assert_eq!(page.status, 200);
    check_exposition(&page.text());
    assert_eq!(status(address, "/readyz"), 200);
    let authorization = http::basic(ADMIN.0, ADMIN.1);
    for path in ["/v1/cluster/status", "/v1/openapi.json", "/vaylix.admin.v1.ClusterService/GetStatus"] {
        let headers = [("authorization", authorization.as_str())];
        assert_eq!(http::request(address, "GET", path, &headers, b"").unwrap().status, 404, "{path}");
    }
}

#[test]
fn what_is_done_is_found_in_the_histograms() {
    let server = Server::start(&["--metrics-bind", "127.0.0.1:0"]).unwrap();
    let mut client = wire::Connection::login(server.address()).unwrap();
    for key in ["a", "b", "c"] {
        client.call(&wire::set_command(key, "v")).unwrap().unwrap();
    }
    client.call(&Command::Multi).unwrap().unwrap();
    client.call(&Command::Discard).unwrap().unwrap();
    client.call(&Command::Get { key: "a".into() }).unwrap().unwrap();
    client.call(&Command::Snapshot).unwrap().unwrap();
    let page = http::get(server.metrics_address().unwrap(), "/metrics").unwrap().text();
    check_exposition(&page);
    let value = |sample: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{sample}\n{page}")).parse().unwrap()
    };
    for (class, count) in [
        ("read", 1.0),
        ("write", 3.0),
        ("transaction", 2.0),
        ("session", 1.0),
        ("admin", 1.0),
        ("refused", 0.0),
    ] {
        let sample = format!("vaylix_request_duration_seconds_count{{class=\"{class}\"}}");
        assert!((value(&sample) - count).abs() < f64::EPSILON, "{sample}\n{page}");
    }
    assert!(
        value("vaylix_request_duration_seconds_sum{class=\"write\"}") > 0.0,
        "a write waits for the disk"
    );
    // The writes, and the administrator that the server began with.
    for histogram in
        ["vaylix_proposal_commands", "vaylix_proposal_apply_duration_seconds", "vaylix_wal_write_records"]
    {
        assert!(value(&format!("{histogram}_count")) >= 4.0, "{histogram}\n{page}");
        assert!(value(&format!("{histogram}_sum")) > 0.0, "{histogram}\n{page}");
    }
    assert!((value("vaylix_snapshot_duration_seconds_count") - 1.0).abs() < f64::EPSILON, "{page}");
    assert!(value("vaylix_snapshot_written_bytes_total") >= value("vaylix_snapshot_size_bytes"), "{page}");
    assert!((value("vaylix_peer_append_duration_seconds_count")).abs() < f64::EPSILON, "it is alone");
}

#[test]
fn a_follower_of_a_cluster_says_so() {
    let cluster = vaylix_testkit::Cluster::start(3, &[]).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    for node in 0..3 {
        let address = cluster.admin_address(node).unwrap();
        let is = |path: &str| status(address, path) == 200;
        wait::within("the node is ready", PATIENCE, || is("/readyz").then_some(())).unwrap();
        assert_eq!(is("/leader"), node == leader);
        assert_eq!(is("/read-write"), node == leader);
        assert_eq!(is("/follower"), node != leader);
        assert!(is("/read-only"));
    }
}
