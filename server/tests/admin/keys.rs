//! Keys and values through the control plane.

use serde_json::{Value, json};
use vaylix_proto::{Command, Reply};
use vaylix_testkit::process::PATIENCE;
use vaylix_testkit::wire::Connection;
use vaylix_testkit::{Cluster, Server, http, wait};

use crate::support::{ADMIN, call, call_as};

const PASSWORD: &str = "correct horse 7 battery";

/// A user who may do this and nothing else.
fn user(server: &Server, name: &str, grants: &[(&str, &str)]) {
    let user = json!({ "name": name, "password": PASSWORD }).to_string();
    assert_eq!(call(server, "POST", "/v1/users", &user).0, 200);
    assert_eq!(call(server, "POST", "/v1/roles", &json!({ "name": name }).to_string()).0, 200);
    for (permission, pattern) in grants {
        let grant = json!({ "grant": { "permission": permission, "pattern": pattern } }).to_string();
        assert_eq!(call(server, "POST", &format!("/v1/roles/{name}/grants"), &grant).0, 200);
    }
    assert_eq!(call(server, "PUT", &format!("/v1/users/{name}/roles/{name}"), "").0, 200);
}

fn names(listed: &Value) -> Vec<String> {
    let keys = listed["keys"].as_array().cloned().unwrap_or_default();
    // The empty text is left out, as every default value is.
    keys.iter().map(|key| key["key"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_key_is_made_changed_and_removed_by_its_version() {
    let server = Server::start(&[]).unwrap();
    let path = "/v1/keys/app%2Fone%20%C3%BC";
    let put = |body: Value| call(&server, "PUT", path, &body.to_string());
    let (status, answer) = call(&server, "GET", path, "");
    assert_eq!((status, &answer["code"]), (404, &"SRV-030".into()), "{answer}");
    let (status, answer) = put(json!({ "value": "AAEC/w==", "expectedVersion": "0" }));
    assert_eq!((status, &answer["version"]), (200, &"1".into()), "{answer}");
    let (status, answer) = put(json!({ "value": "", "expectedVersion": "0" }));
    assert_eq!((status, &answer["code"]), (409, &"SRV-030".into()), "{answer}");
    let (status, answer) = put(json!({ "value": "bmV3", "expectedVersion": "1", "ttlMs": "3600000" }));
    assert_eq!((status, &answer["version"]), (200, &"2".into()), "{answer}");
    assert_eq!(put(json!({ "value": "b2xk", "expectedVersion": "1" })).0, 409);

    // It is the key of the data plane.
    let mut connection = Connection::login(server.address()).unwrap();
    let get = Command::Get { key: "app/one ü".into() };
    assert_eq!(connection.call(&get).unwrap(), Ok(Reply::Value("new".into())));
    let (_, found) = call(&server, "GET", path, "");
    assert_eq!(found["entry"]["key"], "app/one ü");
    assert_eq!((&found["entry"]["value"], &found["entry"]["version"]), (&"bmV3".into(), &"2".into()));
    let ends_at: u64 = found["entry"]["expiresAtMs"].as_str().unwrap().parse().unwrap();

    let (_, kept) = put(json!({ "value": "bmV4dA==", "expectedVersion": "2", "keepTtl": true }));
    assert_eq!(kept["version"], "3", "{kept}");
    let (_, found) = call(&server, "GET", path, "");
    assert_eq!(found["entry"]["expiresAtMs"], ends_at.to_string());
    // Without a condition nobody is told what was met.
    let (status, answer) = put(json!({ "value": "bGFzdA==" }));
    assert_eq!((status, &answer["version"]), (200, &Value::Null));
    assert_eq!(call(&server, "GET", path, "").1["entry"].get("expiresAtMs"), None);
    assert_eq!(put(json!({ "value": "", "keepTtl": true, "ttlMs": "1" })).0, 400);

    let delete = |query: &str| call(&server, "DELETE", &format!("{path}{query}"), "").0;
    assert_eq!(delete("?expectedVersion=3"), 409);
    assert_eq!(delete("?expectedVersion=0"), 400);
    assert_eq!(connection.call(&get).unwrap(), Ok(Reply::Value("last".into())), "it is still there");
    assert_eq!(delete("?expectedVersion=4"), 200);
    assert_eq!(connection.call(&get).unwrap(), Ok(Reply::NotFound));
    assert_eq!(delete("?expectedVersion=4"), 409);
    assert_eq!(delete(""), 404);
    assert_eq!(put(json!({ "value": "eA==" })).0, 200);
    assert_eq!(delete(""), 200);
}

#[test]
fn a_key_gets_an_end_and_loses_it() {
    let server = Server::start(&[]).unwrap();
    assert_eq!(call(&server, "PUT", "/v1/keys/k", r#"{"value":"eA=="}"#).0, 200);
    let set = |ttl: &str| call(&server, "PUT", "/v1/keys/k/expiry", &format!(r#"{{"ttlMs":"{ttl}"}}"#));
    let ttl = || {
        let mut connection = Connection::login(server.address()).unwrap();
        connection.call(&Command::Ttl { key: "k".into() }).unwrap().unwrap()
    };
    assert_eq!(set("99001").1["changed"], true);
    assert!(matches!(ttl(), Reply::Integer(99..=100)), "rounded up to whole seconds");
    assert_eq!(call(&server, "GET", "/v1/keys/k", "").1["entry"]["version"], "1", "no new value");
    assert_eq!(set("0").1["changed"], true);
    assert_eq!(ttl(), Reply::Integer(-1));
    let (status, answer) = set("0");
    assert_eq!((status, answer.get("changed")), (200, None), "{answer}");
    let (status, answer) = call(&server, "PUT", "/v1/keys/other/expiry", r#"{"ttlMs":"5"}"#);
    assert_eq!((status, &answer["code"]), (404, &"SRV-030".into()));
}

#[test]
fn keys_are_listed_in_order_and_in_pages() {
    let server = Server::start(&[]).unwrap();
    let mut connection = Connection::login(server.address()).unwrap();
    let keys = ["a:1", "a:2", "a:3", "a*x", "b:1", ""];
    let pairs = keys.iter().map(|key| ((*key).into(), bytes::Bytes::from_static(b"12345"))).collect();
    assert_eq!(connection.call(&Command::MSet { pairs }).unwrap(), Ok(Reply::Ok));
    let list = |query: &str| {
        let (status, listed) = call(&server, "GET", &format!("/v1/keys?{query}"), "");
        assert_eq!(status, 200, "{query}: {listed}");
        listed
    };
    let all = list("");
    assert_eq!(names(&all), ["", "a*x", "a:1", "a:2", "a:3", "b:1"]);
    assert_eq!((&all["keys"][0]["version"], &all["keys"][0]["sizeBytes"]), (&"1".into(), &"5".into()));
    assert_eq!(names(&list("prefix=a:")), ["a:1", "a:2", "a:3"]);
    assert_eq!(names(&list("prefix=a*")), ["a*x"], "a prefix has no wildcards");
    assert_eq!(names(&list("glob=a*")), ["a*x", "a:1", "a:2", "a:3"]);
    assert_eq!(names(&list("glob=?:1")), ["a:1", "b:1"]);
    assert_eq!(names(&list("prefix=a&glob=*1")), ["a:1"]);
    assert_eq!(names(&list("prefix=b&glob=a*")), [""; 0]);
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let page = list(&format!("pageSize=1&pageToken={token}"));
        found.extend(names(&page));
        assert!(found.len() <= keys.len(), "it goes on for ever: {found:?}");
        match page["nextToken"].as_str() {
            Some(next) => token = next.replace('*', "%2A"),
            None => break,
        }
    }
    assert_eq!(found, names(&all));
    assert_eq!(call(&server, "GET", "/v1/keys?pageToken=a:1", "").0, 400);
    assert_eq!(call(&server, "GET", "/v1/keys?expectedVersion=1", "").0, 400, "it is for others");
}

/// What a user may do with keys is what the data plane lets that user do.
#[test]
fn rights_are_those_of_the_data_plane() {
    let server = Server::start(&[]).unwrap();
    user(&server, "al", &[("read", "app:*"), ("write", "app:w:*")]);
    for key in ["app:1", "app:w:1", "other"] {
        assert_eq!(call(&server, "PUT", &format!("/v1/keys/{key}"), r#"{"value":"eA=="}"#).0, 200);
    }
    let al = Some(("al", PASSWORD));
    let ask = |method: &str, path: &str, body: &str| {
        let (status, answer) = call_as(&server, al, method, path, body);
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let denied = (403, "SRV-017".to_owned());
    let fine = (200, String::new());
    assert_eq!(ask("GET", "/v1/keys/app:1", ""), fine);
    assert_eq!(ask("GET", "/v1/keys/other", ""), denied);
    assert_eq!(ask("GET", "/v1/keys/nothing", ""), denied, "nor whether it is there");
    let value = r#"{"value":"eQ=="}"#;
    assert_eq!(ask("PUT", "/v1/keys/app:w:1", value), fine);
    assert_eq!(ask("PUT", "/v1/keys/app:1", value), denied);
    assert_eq!(ask("PUT", "/v1/keys/app:1", r#"{"value":"eQ==","expectedVersion":"9"}"#), denied);
    assert_eq!(ask("PUT", "/v1/keys/app:1/expiry", r#"{"ttlMs":"1"}"#), denied);
    assert_eq!(ask("PUT", "/v1/keys/app:1/expiry", "{}"), denied);
    assert_eq!(ask("DELETE", "/v1/keys/app:1", ""), denied);
    assert_eq!(ask("DELETE", "/v1/keys/app:1?expectedVersion=1", ""), denied);
    assert_eq!(ask("DELETE", "/v1/keys/app:w:1?expectedVersion=2", ""), fine);
    for covered in ["prefix=app:", "prefix=app:w", "glob=app:*", "prefix=app:&glob=*"] {
        let (status, listed) = call_as(&server, al, "GET", &format!("/v1/keys?{covered}"), "");
        assert_eq!(status, 200, "{covered}: {listed}");
        assert!(names(&listed).iter().all(|key| key.starts_with("app:")), "{covered}: {listed}");
    }
    for uncovered in ["", "prefix=a", "glob=*", "glob=app*", "prefix=other"] {
        assert_eq!(ask("GET", &format!("/v1/keys?{uncovered}"), ""), denied, "{uncovered}");
    }
    let (_, rights) = call(&server, "GET", "/v1/users/al/rights", "");
    let right = |permission: &str, pattern: &str| json!({ "permission": permission, "pattern": pattern, "roles": ["al"] });
    assert_eq!(rights["rights"], json!([right("read", "app:*"), right("write", "app:w:*")]));
    assert_eq!(rights.get("allowed"), None);
    for (asked, allowed) in [
        ("permission=read&key=app:1", true),
        ("permission=write&key=app:1", false),
        ("permission=WRITE&key=app:w:1", true),
        ("permission=read", false),
        ("permission=metrics&key=app:1", false),
    ] {
        let (status, found) = call(&server, "GET", &format!("/v1/users/al/rights?{asked}"), "");
        assert_eq!((status, &found["allowed"]), (200, &allowed.into()), "{asked}: {found}");
    }
    let (_, found) = call(&server, "GET", "/v1/users/vaylix/rights?permission=write&key=x", "");
    assert_eq!(found["allowed"], true, "admin is everything: {found}");
    assert_eq!(call(&server, "GET", "/v1/users/nobody/rights", "").0, 404);
    for wrong in ["permission=fly", "key=a"] {
        assert_eq!(call(&server, "GET", &format!("/v1/users/al/rights?{wrong}"), "").0, 400, "{wrong}");
    }
}

#[test]
fn keys_are_told_in_the_audit_log_as_on_the_data_plane() {
    let mut server = Server::start(&["--audit-commands"]).unwrap();
    let path = server.data_dir().join("audit.log");
    assert_eq!(call(&server, "PUT", "/v1/keys/secret", r#"{"value":"c2VjcmV0"}"#).0, 200);
    assert_eq!(call(&server, "GET", "/v1/keys/none", "").0, 404);
    assert_eq!(call(&server, "GET", "/v1/keys", "").0, 200);
    server.stop("TERM").unwrap();
    let log = std::fs::read_to_string(path).unwrap();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (opcode, status) in [("SET", "ok"), ("GET", "not_found"), ("SCAN", "ok")] {
        let is_it = |event: &&Value| event["opcode"] == opcode && event["event_type"] == "command";
        let event = events.iter().find(is_it).unwrap_or_else(|| panic!("no {opcode}: {log}"));
        assert_eq!((&event["status"], &event["username"]), (&status.into(), &ADMIN.0.into()), "{event}");
    }
    assert!(!log.contains("secret"), "neither keys nor values are told");
}

#[test]
fn maintenance_mode_and_bounds_hold_for_keys() {
    let server = Server::start(&[]).unwrap();
    assert_eq!(call(&server, "PUT", "/v1/keys/k", r#"{"value":"eA=="}"#).0, 200);
    let long = format!("/v1/keys/{}", "k".repeat(2000));
    let code =
        |(status, answer): (u16, Value)| (status, answer["code"].as_str().unwrap_or_default().to_owned());
    assert_eq!(code(call(&server, "PUT", &long, r#"{"value":""}"#)), (400, "SRV-013".to_owned()));
    // The longest value of the data plane fits, and one byte more does not.
    let value = |bytes: usize| {
        json!({ "value": "AAAA".repeat(bytes / 3) + &"AA=="[..(bytes % 3).min(1) * 4] }).to_string()
    };
    assert_eq!(262_144 % 3, 1);
    assert_eq!(code(call(&server, "PUT", "/v1/keys/large", &value(262_144))).0, 200);
    let (_, large) = call(&server, "GET", "/v1/keys?prefix=large", "");
    assert_eq!(large["keys"][0]["sizeBytes"], "262144");
    assert_eq!(call(&server, "GET", "/v1/keys/large", "").0, 200);
    assert_eq!(code(call(&server, "PUT", "/v1/keys/large", &value(262_147))), (400, "SRV-013".to_owned()));
    assert_eq!(code(call(&server, "PUT", "/v1/keys/large", &value(900_000))).0, 413);
    assert_eq!(call(&server, "PUT", "/v1/maintenance", r#"{"enabled":true}"#).0, 200);
    assert_eq!(call(&server, "GET", "/v1/keys/k", "").0, 200);
    for (method, path) in [("PUT", "/v1/keys/k"), ("DELETE", "/v1/keys/k"), ("PUT", "/v1/keys/k/expiry")] {
        let body = if method == "PUT" && path == "/v1/keys/k" {
            r#"{"value":""}"#
        } else if method == "PUT" {
            "{}"
        } else {
            ""
        };
        assert_eq!(code(call(&server, method, path, body)), (400, "SRV-033".to_owned()), "{method} {path}");
    }
}

/// A program is sent on; a page is told, because its cookie does not go along.
#[test]
fn a_follower_reads_keys_and_names_the_leader_for_changes() {
    let cluster = Cluster::start(3, &[]).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    let (leader, follower) =
        (cluster.admin_address(leader).unwrap(), cluster.admin_address((leader + 1) % 3).unwrap());
    let basic = http::basic(ADMIN.0, ADMIN.1);
    let headers = [("authorization", basic.as_str())];
    let value = br#"{"value":"eA=="}"#;
    let refused = http::request(follower, "PUT", "/v1/keys/a%2Fb", &headers, value).unwrap();
    assert_eq!(refused.status, 307, "{}", refused.text());
    assert_eq!(refused.header("location"), format!("http://{leader}/v1/keys/a%2Fb"));
    assert_eq!(http::request(leader, "PUT", "/v1/keys/a%2Fb", &headers, value).unwrap().status, 200);
    wait::until("the follower has it", || {
        let found = http::request(follower, "GET", "/v1/keys/a%2Fb", &headers, b"").unwrap();
        (found.status == 200).then_some(())
    });

    let login = json!({ "user": ADMIN.0, "password": ADMIN.1, "cookie": true }).to_string();
    let session = http::request(follower, "POST", "/v1/login", &[], login.as_bytes()).unwrap();
    let cookie = session.header("set-cookie").split(';').next().unwrap().to_owned();
    let answer: Value = serde_json::from_slice(&session.body).unwrap();
    let headers = [("cookie", cookie.as_str()), ("x-csrf-token", answer["csrfToken"].as_str().unwrap())];
    let refused = http::request(follower, "PUT", "/v1/keys/a%2Fb", &headers, value).unwrap();
    let problem: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!((refused.status, &problem["code"]), (503, &"SRV-037".into()), "{problem}");
    assert_eq!(problem["leaderAdminAddress"], leader.to_string());
}
