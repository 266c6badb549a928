//! The JSON API.

use serde_json::json;
use vaylix_testkit::{Server, http};

use crate::support::{ADMIN, admin, call, call_as};

#[test]
fn it_says_what_grpc_says() {
    let server = Server::start(&["--node-id", "here"]).unwrap();
    let (status, answer) = call(&server, "GET", "/v1/cluster/status", "");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["header"]["nodeName"], "here");
    assert_eq!(answer["status"]["role"], "ROLE_LEADER");
    assert_eq!(answer["status"]["members"][0]["leader"], true);
    assert!(answer["status"]["appliedIndex"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    let (_, members) = call(&server, "GET", "/v1/cluster/members?pageSize=1", "");
    assert_eq!(members["members"][0]["name"], "here");
    let (status, answer) = call(&server, "POST", "/v1/snapshots", "");
    assert_eq!(status, 200, "{answer}");
    let (_, answer) = call(&server, "GET", "/v1/cluster/status", "");
    assert_eq!(answer["status"]["snapshot"]["takenCount"], "1");
}

#[test]
fn a_token_takes_the_place_of_the_password() {
    let server = Server::start(&[]).unwrap();
    let login = json!({ "user": ADMIN.0, "password": ADMIN.1 }).to_string();
    let (status, answer) = call_as(&server, None, "POST", "/v1/login", &login);
    assert_eq!(status, 200, "{answer}");
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let ask = |method: &str, path: &str| {
        http::request(admin(&server), method, path, &[("authorization", &bearer)], b"").unwrap().status
    };
    assert_eq!(ask("GET", "/v1/whoami"), 200);
    assert_eq!(ask("POST", "/v1/logout"), 200);
    assert_eq!(ask("GET", "/v1/whoami"), 401);
    let wrong = json!({ "user": ADMIN.0, "password": "guess" }).to_string();
    assert_eq!(call_as(&server, None, "POST", "/v1/login", &wrong).0, 401);
}

#[test]
fn mistakes_are_problems() {
    let server = Server::start(&[]).unwrap();
    for (method, path, body, status, code) in [
        ("GET", "/v1/nothing", "", 404, "SRV-016"),
        ("PATCH", "/v1/users", "", 405, "SRV-016"),
        ("POST", "/v1/roles", "{", 400, "SRV-030"),
        ("POST", "/v1/roles", "[]", 400, "SRV-030"),
        ("POST", "/v1/roles", "{}", 400, "SRV-030"),
        ("POST", "/v1/roles", r#"{"name":7}"#, 400, "SRV-030"),
        ("GET", "/v1/users?pageSize=many", "", 400, "SRV-030"),
        ("GET", "/v1/users?sort=name", "", 400, "SRV-030"),
        ("POST", "/v1/users", r#"{"name":"al","password":"weak"}"#, 400, "SRV-032"),
        ("DELETE", "/v1/roles/admin", "", 400, "SRV-023"),
        ("DELETE", "/v1/roles/nobody", "", 404, "SRV-022"),
        ("DELETE", "/v1/cluster/members/nobody", "", 400, "SRV-030"),
        ("PUT", "/v1/maintenance", "{}", 400, "SRV-030"),
        ("POST", "/v1/roles/admin/grants", r#"{"grant":{"permission":"read"}}"#, 400, "SRV-030"),
        ("POST", "/v1/roles/admin/grants", r#"{"grant":{"permission":"read","pattern":""}}"#, 400, "SRV-030"),
        ("PUT", "/v1/keys/a", "{}", 400, "SRV-030"),
        ("PUT", "/v1/keys/a", "", 400, "SRV-030"),
        ("PUT", "/v1/drain", "{}", 400, "SRV-030"),
        ("POST", "/v1/cluster/members?validateOnly=true", r#"{"name":"b","address":"b:1"}"#, 400, "SRV-030"),
        (
            "POST",
            "/v1/cluster/members",
            r#"{"name":"b b","address":"b:1","validateOnly":true}"#,
            400,
            "SRV-030",
        ),
        ("POST", "/v1/cluster/members", r#"{"name":"b","address":"b","validateOnly":true}"#, 400, "SRV-030"),
        ("POST", "/v1/users", r#"{"name":"a\u0007","password":"correct horse 7 battery"}"#, 400, "SRV-030"),
    ] {
        let (found, problem) = call(&server, method, path, body);
        assert_eq!(
            (found, problem["code"].as_str()),
            (status, Some(code)),
            "{method} {path} {body}: {problem}"
        );
        assert_eq!(problem["status"], status, "{problem}");
    }
}

#[test]
fn ids_of_requests_come_back() {
    let server = Server::start(&[]).unwrap();
    let given =
        http::request(admin(&server), "GET", "/livez", &[("x-request-id", "deploy-17")], b"").unwrap();
    assert_eq!(given.header("x-request-id"), "deploy-17");
    assert_eq!(http::get(admin(&server), "/livez").unwrap().header("x-request-id").len(), 36);
}

#[test]
fn it_is_described_without_a_login() {
    let server = Server::start(&[]).unwrap();
    let response = http::get(admin(&server), "/v1/openapi.json").unwrap();
    assert_eq!(response.status, 200);
    let document: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["paths"]["/v1/cluster/status"]["get"]["operationId"], "get_status");
    assert!(document["components"]["schemas"]["NodeStatus"]["properties"]["appliedIndex"].is_object());
}

#[test]
fn lists_come_in_pages() {
    let server = Server::start(&[]).unwrap();
    for name in ["a", "b", "c"] {
        assert_eq!(call(&server, "POST", "/v1/roles", &json!({ "name": name }).to_string()).0, 200);
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let (_, answer) = call(&server, "GET", &format!("/v1/roles?pageSize=2&pageToken={token}"), "");
        names.extend(
            answer["roles"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap().to_owned()),
        );
        match answer["nextToken"].as_str() {
            Some(next) if !next.is_empty() => next.clone_into(&mut token),
            _ => break,
        }
    }
    assert_eq!(names, ["a", "admin", "b", "c"], "with the one that is always there");
}

#[test]
fn a_deadline_of_the_client_is_kept() {
    let server = Server::start(&[]).unwrap();
    let authorization = http::basic(ADMIN.0, ADMIN.1);
    // Hashing a password takes longer.
    let headers = [("authorization", authorization.as_str()), ("grpc-timeout", "100u")];
    let response = http::request(admin(&server), "GET", "/v1/whoami", &headers, b"").unwrap();
    assert_eq!(response.status, 504, "{}", response.text());
    assert!(response.text().contains("TRN-016"), "{}", response.text());
}

#[test]
fn a_field_that_nobody_knows_is_not_passed_over() {
    let server = Server::start(&[]).unwrap();
    let body = r#"{"name":"n2","address":"127.0.0.1:1","validate":true}"#;
    let (status, problem) = call(&server, "POST", "/v1/cluster/members", body);
    assert_eq!((status, problem["code"].as_str()), (400, Some("SRV-030")), "{problem}");
}
