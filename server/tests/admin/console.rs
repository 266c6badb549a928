//! What a page in a browser needs: its files, a session by cookie, streams of events.

use std::net::SocketAddr;

use serde_json::{Value, json};
use vaylix_proto::Command;
use vaylix_testkit::http::{self, Events, Response};
use vaylix_testkit::process::PATIENCE;
use vaylix_testkit::wire::Connection;
use vaylix_testkit::{Cluster, Server, wait};

use crate::support::{ADMIN, admin, call};

const PASSWORD: &str = "correct horse 7 battery";

/// A browser that has logged in.
struct Browser {
    server: SocketAddr,
    cookie: String,
    csrf: String,
}

impl Browser {
    fn log_in(server: &Server, (user, password): (&str, &str)) -> Self {
        let login = json!({ "user": user, "password": password, "cookie": true }).to_string();
        let response = http::request(admin(server), "POST", "/v1/login", &[], login.as_bytes()).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        let answer = json_of(&response);
        assert_eq!(answer.get("token"), None, "no script gets it: {answer}");
        let cookie = response.header("set-cookie").split(';').next().unwrap().to_owned();
        Self { server: admin(server), cookie, csrf: answer["csrfToken"].as_str().unwrap().to_owned() }
    }

    /// Asks with the cookie and what else is given.
    fn send(&self, method: &str, path: &str, more: &[(&str, &str)], body: &str) -> Response {
        let headers = [&[("cookie", self.cookie.as_str())], more].concat();
        http::request(self.server, method, path, &headers, body.as_bytes()).unwrap()
    }

    /// Asks as the page does.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let response = self.send(method, path, &[("x-csrf-token", &self.csrf)], body);
        (response.status, json_of(&response))
    }

    fn events(&self, path: &str) -> Events {
        let events = Events::open(self.server, path, &[("cookie", &self.cookie)]).unwrap();
        assert_eq!(events.head.status, 200, "{}", events.head.text());
        events
    }
}

fn json_of(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.text()))
}

fn user(server: &Server, name: &str, permission: &str) {
    for (method, path, body) in [
        ("POST", "/v1/users".to_owned(), json!({ "name": name, "password": PASSWORD })),
        ("POST", "/v1/roles".to_owned(), json!({ "name": name })),
        (
            "POST",
            format!("/v1/roles/{name}/grants"),
            json!({ "grant": { "permission": permission, "pattern": "*" } }),
        ),
        ("PUT", format!("/v1/users/{name}/roles/{name}"), json!({})),
    ] {
        let (status, answer) = call(server, method, &path, &body.to_string());
        assert_eq!(status, 200, "{path}: {answer}");
    }
}

#[test]
fn a_cookie_is_a_session_until_it_is_ended() {
    let server = Server::start(&[]).unwrap();
    let login = json!({ "user": ADMIN.0, "password": ADMIN.1, "cookie": true }).to_string();
    let response = http::request(admin(&server), "POST", "/v1/login", &[], login.as_bytes()).unwrap();
    let line = response.header("set-cookie");
    assert!(line.starts_with("vaylix_session_"), "{line}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict"] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(response.header("cache-control"), "no-store");

    let browser = Browser::log_in(&server, ADMIN);
    let session = browser.send("GET", "/v1/session", &[], "");
    assert_eq!(session.status, 200, "{}", session.text());
    let told = json_of(&session);
    assert_eq!((&told["user"], &told["csrfToken"]), (&ADMIN.0.into(), &browser.csrf.as_str().into()));
    assert!(told["permissions"].as_array().unwrap().contains(&"admin".into()), "{told}");
    assert!(told["rights"].as_array().unwrap().iter().any(|right| right["pattern"] == "*"), "{told}");
    let ends_at = |answer: &Value| answer["expiresAtMs"].as_str().unwrap().parse::<u64>().unwrap();

    let (status, renewed) = browser.ask("POST", "/v1/session/renew", "");
    assert_eq!((status, &renewed["csrfToken"]), (200, &browser.csrf.as_str().into()), "{renewed}");
    assert!(ends_at(&renewed) >= ends_at(&told), "{told} {renewed}");
    assert_eq!(browser.ask("POST", "/v1/roles", r#"{"name":"made"}"#).0, 200);

    let response = browser.send("POST", "/v1/logout", &[("x-csrf-token", &browser.csrf)], "");
    assert_eq!(response.status, 200);
    assert!(response.header("set-cookie").ends_with("; Max-Age=0"), "{}", response.header("set-cookie"));
    let after = browser.send("GET", "/v1/session", &[], "");
    assert_eq!((after.status, &json_of(&after)["code"]), (401, &"SRV-007".into()));
    // Again: there is nothing to end, but the browser is rid of it.
    let again = browser.send("POST", "/v1/logout", &[("x-csrf-token", &browser.csrf)], "");
    assert_eq!(again.status, 401);
    assert!(again.header("set-cookie").ends_with("; Max-Age=0"));
    assert_eq!(http::get(admin(&server), "/v1/session").unwrap().status, 401);
}

/// The whole table of what changes something, by a cookie without what shows that a page of ours sent it.
#[test]
fn a_cookie_alone_changes_nothing() {
    let server = Server::start(&[]).unwrap();
    let browser = Browser::log_in(&server, ADMIN);
    let other = Browser::log_in(&server, ADMIN);
    assert_ne!(browser.csrf, other.csrf);
    let document = json_of(&http::get(admin(&server), "/v1/openapi.json").unwrap());
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path =
            path.replace("{name}", "x").replace("{user}", "x").replace("{role}", "x").replace("{key}", "x");
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            if method == "GET" || path == "/v1/login" {
                continue;
            }
            count += 1;
            for proof in [&[][..], &[("x-csrf-token", "")], &[("x-csrf-token", &other.csrf)]] {
                let response = browser.send(&method, &path, proof, "");
                let code = &json_of(&response)["code"];
                assert_eq!((response.status, code), (403, &"SRV-017".into()), "{method} {path} {proof:?}");
            }
        }
    }
    assert!(count > 25, "{count}");
    assert_eq!(browser.send("GET", "/v1/session", &[], "").status, 200, "nor was it logged out");

    // With it, a page of somebody else still changes nothing.
    for foreign in [("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:1")] {
        let headers = [("x-csrf-token", browser.csrf.as_str()), foreign];
        assert_eq!(browser.send("POST", "/v1/roles", &headers, r#"{"name":"x"}"#).status, 403, "{foreign:?}");
    }
    let (_, roles) = call(&server, "GET", "/v1/roles", "");
    assert_eq!(roles["roles"].as_array().unwrap().len(), 1, "{roles}");

    // Whoever knows a password may log in whatever cookie the browser has left.
    let login = json!({ "user": ADMIN.0, "password": ADMIN.1, "cookie": true }).to_string();
    assert_eq!(browser.send("POST", "/v1/login", &[], &login).status, 200);
}

#[test]
fn a_header_decides_alone() {
    let server = Server::start(&[]).unwrap();
    user(&server, "al", "metrics");
    let browser = Browser::log_in(&server, ADMIN);
    let al = http::basic("al", PASSWORD);
    let both = [("authorization", al.as_str()), ("x-csrf-token", &browser.csrf)];
    assert_eq!(json_of(&browser.send("GET", "/v1/whoami", &both, ""))["user"], "al");
    assert_eq!(browser.send("POST", "/v1/roles", &both, r#"{"name":"x"}"#).status, 403);
    for wrong in ["Bearer 00", "Basic !", "Nonsense"] {
        let response = browser.send("GET", "/v1/whoami", &[("authorization", wrong)], "");
        assert_eq!(response.status, 401, "{wrong}");
    }
    // A token of a header is not renewed, and is no cookie.
    let login = json!({ "user": "al", "password": PASSWORD }).to_string();
    let answer = json_of(&http::request(admin(&server), "POST", "/v1/login", &[], login.as_bytes()).unwrap());
    assert_eq!(answer.get("csrfToken"), None);
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let session = http::request(admin(&server), "GET", "/v1/session", &headers, b"").unwrap();
    assert_eq!((session.status, json_of(&session).get("csrfToken")), (200, None));
    let renewed = http::request(admin(&server), "POST", "/v1/session/renew", &headers, b"").unwrap();
    assert_eq!((renewed.status, &json_of(&renewed)["code"]), (400, &"SRV-030".into()));
}

/// A page has a form for it; a browser that goes to an address by itself has not.
#[test]
fn no_dialog_asks_for_a_password_where_a_page_does() {
    let server = Server::start(&[]).unwrap();
    let challenge = |headers: &[(&str, &str)]| {
        let response = http::request(admin(&server), "GET", "/v1/whoami", headers, b"").unwrap();
        assert_eq!(response.status, 401);
        response.header("www-authenticate").to_owned()
    };
    let navigates = ("sec-fetch-mode", "navigate");
    for by_hand in [&[][..], &[navigates]] {
        assert!(challenge(by_hand).starts_with("Basic"), "{by_hand:?}");
    }
    for by_page in [("x-csrf-token", ""), ("sec-fetch-mode", "cors"), ("accept", "text/event-stream")] {
        assert_eq!(challenge(&[by_page]), "Bearer", "{by_page:?}");
    }
}

#[test]
fn without_authentication_the_page_needs_no_login() {
    let server = Server::start(&["--disable-auth"]).unwrap();
    let session = http::get(admin(&server), "/v1/session").unwrap();
    let told = json_of(&session);
    assert_eq!((session.status, &told["user"]), (200, &"anonymous".into()), "{told}");
    assert_eq!((told.get("csrfToken"), told.get("expiresAtMs")), (None, None));
    assert!(told["rights"].as_array().unwrap().iter().any(|right| right["permission"] == "admin"));
    let put = http::request(admin(&server), "PUT", "/v1/keys/k", &[], br#"{"value":"eA=="}"#).unwrap();
    assert_eq!(put.status, 200, "{}", put.text());
}

#[test]
fn the_page_is_served_with_what_keeps_others_out_of_it() {
    let server = Server::start(&[]).unwrap();
    let page = http::get(admin(&server), "/").unwrap();
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-cache"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(page.header(name), value);
    }
    let same = http::get(admin(&server), "/console/index.html").unwrap();
    assert_eq!((same.status, same.header("etag")), (200, page.header("etag")));
    let known = [("if-none-match", page.header("etag"))];
    let known = http::request(admin(&server), "GET", "/", &known, b"").unwrap();
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(http::request(admin(&server), "HEAD", "/", &[], b"").unwrap().status, 200);
    assert_eq!(http::request(admin(&server), "POST", "/", &[], b"").unwrap().status, 405);
    for path in ["/console/", "/console/nothing.js", "/console/..%2FCargo.toml", "/console/a/b"] {
        assert_eq!(http::get(admin(&server), path).unwrap().status, 404, "{path}");
    }

    // Whatever a value holds, a browser that is sent to it shows text of a kind that runs nothing.
    let value = json!({ "value": "PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==" }).to_string();
    assert_eq!(call(&server, "PUT", "/v1/keys/%3Cscript%3E", &value).0, 200);
    let basic = http::basic(ADMIN.0, ADMIN.1);
    for path in ["/v1/keys/%3Cscript%3E", "/v1/keys", "/v1/keys/%3Cb%3E", "/v1/none", "/metrics"] {
        let headers = [("authorization", basic.as_str())];
        let answer = http::request(admin(&server), "GET", path, &headers, b"").unwrap();
        let kind = answer.header("content-type");
        assert!(
            ["application/json", "application/problem+json", "text/plain"]
                .iter()
                .any(|k| kind.starts_with(k))
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{path}");
    }
}

#[test]
fn a_server_does_without_the_page_when_told_to() {
    let server = Server::start(&["--disable-console"]).unwrap();
    for path in ["/", "/console/index.html"] {
        assert_eq!(http::get(admin(&server), path).unwrap().status, 404, "{path}");
    }
    assert_eq!(call(&server, "GET", "/v1/session", "").0, 200, "the API is there");
    let (_, settings) = call(&server, "GET", "/v1/settings", "");
    let found = settings["settings"].as_array().unwrap().iter().find(|s| s["name"] == "--disable-console");
    assert_eq!(found.unwrap()["value"], "true");
}

#[test]
fn settings_are_told_with_their_origins_and_without_secrets() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("vaylix.toml");
    std::fs::write(&file, "max-key-bytes = 777\npassword = \"hunter2 but longer\"\n").unwrap();
    let file = file.to_str().unwrap();
    let server = Server::start(&["--config", file, "--user", "root"]).unwrap();
    let basic = http::basic("root", "hunter2 but longer");
    let headers = [("authorization", basic.as_str())];
    let response = http::request(admin(&server), "GET", "/v1/settings", &headers, b"").unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(!response.text().contains("hunter2"), "{}", response.text());
    let answer = json_of(&response);
    let of = |name: &str| {
        let settings = answer["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    assert_eq!(
        (&of("--user")["value"], &of("--user")["source"]),
        (&"root".into(), &"SETTING_SOURCE_FLAG".into())
    );
    assert_eq!(of("--password")["value"], "(hidden)");
    let key = of("--max-key-bytes");
    assert_eq!((&key["value"], &key["source"]), (&"777".into(), &"SETTING_SOURCE_FILE".into()));
    assert_eq!(key["origin"], file);
    let batch = of("--max-keys-per-batch");
    assert_eq!(batch["source"], "SETTING_SOURCE_DEFAULT");
    assert!(batch["description"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(of("--idle-timeout-seconds").get("value"), None, "it is not set");
}

#[test]
fn events_tell_what_the_node_does() {
    let server = Server::start(&[]).unwrap();
    let browser = Browser::log_in(&server, ADMIN);
    let mut events = browser.events("/v1/events");
    assert_eq!(events.head.header("content-type"), "text/event-stream");
    assert_eq!(events.head.header("cache-control"), "no-store");
    let (first, history) = events.next_event().unwrap().unwrap();
    assert_eq!(first, "history");
    let history: Value = serde_json::from_str(&history).unwrap();
    assert!(history["leaders"][0]["term"].as_str().is_some(), "{history}");
    assert!(history["leaders"][0]["leaderName"].as_str().is_some_and(|name| !name.is_empty()), "{history}");

    let figures = |events: &mut Events| -> Value {
        let told: Value = serde_json::from_str(&events.await_event("status").unwrap()).unwrap();
        assert_eq!(told["status"]["role"], "ROLE_LEADER", "{told}");
        told["figures"].clone()
    };
    let number =
        |figures: &Value, name: &str| figures[name].as_str().map_or(0, |text| text.parse::<u64>().unwrap());
    let mut connection = Connection::login(server.address()).unwrap();
    let set = Command::Set { key: "k".into(), value: "v".into(), options: Default::default() };
    for _ in 0..5 {
        assert!(connection.call(&set).unwrap().is_ok());
        assert!(connection.call(&Command::Get { key: "k".into() }).unwrap().is_ok());
    }
    let busy = wait::until("the writes are counted", || {
        let told = figures(&mut events);
        (number(&told, "writesTotal") >= 5 && told.get("writeP99Us").is_some()).then_some(told)
    });
    assert!(number(&busy, "readsTotal") >= 5, "{busy}");
    assert!(number(&busy, "writeP50Us") <= number(&busy, "writeP99Us"), "{busy}");
    assert!(busy.get("walSyncP99Us").is_some(), "{busy}");
    for name in ["atMs", "memoryBytes", "diskFreeBytes", "diskTotalBytes", "connections"] {
        assert!(number(&busy, name) > 0, "{name}: {busy}");
    }
    let idle = wait::until("a second without writes", || {
        let told = figures(&mut events);
        (told.get("writeP99Us").is_none() && told.get("atMs").is_some()).then_some(told)
    });
    assert_eq!(number(&idle, "writesTotal"), number(&busy, "writesTotal"));
    // Whoever comes later is told what has been.
    let mut later = browser.events("/v1/events");
    let history: Value = serde_json::from_str(&later.await_event("history").unwrap()).unwrap();
    let kept = history["figures"].as_array().unwrap();
    assert!(kept.iter().any(|point| point["atMs"] == busy["atMs"]), "{history}");
}

#[test]
fn events_of_the_audit_log_come_as_they_are_written() {
    let server = Server::start(&[]).unwrap();
    let browser = Browser::log_in(&server, ADMIN);
    let mut events = browser.events("/v1/audit/tail?eventType=rbac_create_role&status=ok");
    assert_eq!(browser.ask("POST", "/v1/roles", r#"{"name":"first"}"#).0, 200);
    assert_eq!(
        browser.ask("POST", "/v1/users", &json!({ "name": "al", "password": PASSWORD }).to_string()).0,
        200
    );
    assert_eq!(browser.ask("POST", "/v1/roles", r#"{"name":"first"}"#).0, 409);
    assert_eq!(browser.ask("POST", "/v1/roles", r#"{"name":"second"}"#).0, 200);
    for role in ["first", "second"] {
        let told: Value = serde_json::from_str(&events.await_event("audit").unwrap()).unwrap();
        assert_eq!(
            (&told["event"]["details"]["role"], &told["event"]["user"]),
            (&role.into(), &ADMIN.0.into())
        );
    }
    let mut past = browser.events("/v1/audit/tail?eventType=rbac_create_role&last=1");
    assert!(past.await_event("audit").unwrap().contains("second"));
    for wrong in ["last=many", "since=1"] {
        let path = format!("/v1/audit/tail?{wrong}");
        assert_eq!(browser.send("GET", &path, &[], "").status, 400, "{wrong}");
    }
}

/// A stream goes on no longer than the session it was opened in, the right to it, and the server.
#[test]
fn events_end_with_the_session_the_right_and_the_server() {
    let mut server = Server::start(&[]).unwrap();
    user(&server, "al", "admin");
    let paths = ["/v1/events", "/v1/audit/tail"];
    let end = |events: &mut Events| -> String {
        let told: Value = serde_json::from_str(&events.await_event("end").unwrap()).unwrap();
        assert_eq!(events.next_event().unwrap(), None, "nothing follows");
        assert!(told["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{told}");
        told["code"].as_str().unwrap().to_owned()
    };
    let browser = Browser::log_in(&server, ("al", PASSWORD));
    let mut streams = paths.map(|path| browser.events(path));
    // A renewal ends nothing.
    assert_eq!(browser.ask("POST", "/v1/session/renew", "").0, 200);
    assert_eq!(browser.ask("POST", "/v1/logout", "").0, 200);
    assert_eq!(streams.each_mut().map(end), ["SRV-007", "SRV-007"]);

    let browser = Browser::log_in(&server, ("al", PASSWORD));
    let mut streams = paths.map(|path| browser.events(path));
    assert_eq!(call(&server, "DELETE", "/v1/users/al/roles/al", "").0, 200);
    assert_eq!(streams.each_mut().map(end), ["SRV-017", "SRV-017"]);
    for path in paths {
        assert_eq!(browser.send("GET", path, &[], "").status, 403, "{path}");
        assert_eq!(http::get(admin(&server), path).unwrap().status, 401, "{path}");
    }

    let browser = Browser::log_in(&server, ADMIN);
    let mut streams = paths.map(|path| browser.events(path));
    server.signal("TERM").unwrap();
    assert_eq!(streams.each_mut().map(end), ["SRV-005", "SRV-005"]);
    assert!(server.wait().unwrap().success());
}

/// Those who watch leave places for those who act, and give theirs back.
#[test]
fn event_streams_are_bounded() {
    let server = Server::start(&[]).unwrap();
    let browser = Browser::log_in(&server, ADMIN);
    let mut streams = Vec::new();
    let refused = loop {
        let events = Events::open(admin(&server), "/v1/events", &[("cookie", &browser.cookie)]).unwrap();
        if events.head.status != 200 {
            break events.head;
        }
        streams.push(events);
        assert!(streams.len() < 100, "there is no bound");
    };
    assert_eq!((refused.status, &json_of(&refused)["code"]), (429, &"SRV-012".into()));
    assert_eq!(browser.ask("POST", "/v1/roles", r#"{"name":"x"}"#).0, 200, "there is a place to act");
    drop(streams);
    wait::until("places are given back", || {
        let events = Events::open(admin(&server), "/v1/events", &[("cookie", &browser.cookie)]).unwrap();
        (events.head.status == 200).then_some(())
    });
}

#[test]
fn events_tell_who_led() {
    let cluster = Cluster::start(3, &[]).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    let (heir, watched) = ((leader + 1) % 3, (leader + 2) % 3);
    let name = vaylix_testkit::cluster::name;
    let basic = http::basic(ADMIN.0, ADMIN.1);
    let headers = [("authorization", basic.as_str())];
    let leaders = || {
        let mut events =
            Events::open(cluster.admin_address(watched).unwrap(), "/v1/events", &headers).unwrap();
        let history: Value = serde_json::from_str(&events.await_event("history").unwrap()).unwrap();
        let leaders = history["leaders"].as_array().cloned().unwrap_or_default();
        let told = leaders.iter().filter_map(|change| {
            let name = change["leaderName"].as_str()?.to_owned();
            Some((name, change["term"].as_str()?.parse::<u64>().unwrap()))
        });
        told.collect::<Vec<_>>()
    };
    let before = wait::until("the first leader is remembered", || {
        leaders().last().filter(|(leads, _)| *leads == name(leader)).cloned()
    });
    let to = json!({ "to": name(heir) }).to_string();
    let at = cluster.admin_address(leader).unwrap();
    assert_eq!(http::request(at, "POST", "/v1/cluster/leader", &headers, to.as_bytes()).unwrap().status, 200);
    let after = wait::until("the next one is", || {
        let told = leaders();
        let at = told.iter().position(|change| *change == before)?;
        told[at + 1..].iter().find(|(leads, _)| *leads == name(heir)).cloned()
    });
    assert!(after.1 > before.1, "{before:?} {after:?}");
}

/// A browser whose connection was cut says what it had last, and misses nothing.
#[test]
fn events_of_the_audit_log_go_on_where_they_were_cut() {
    let server = Server::start(&[]).unwrap();
    let browser = Browser::log_in(&server, ADMIN);
    let path = "/v1/audit/tail?eventType=rbac_create_role";
    let mut events = browser.events(path);
    assert_eq!(browser.ask("POST", "/v1/roles", r#"{"name":"first"}"#).0, 200);
    let told: Value = serde_json::from_str(&events.await_event("audit").unwrap()).unwrap();
    let sequence = told["event"]["sequence"].as_str().unwrap();
    assert_eq!(events.last_id(), sequence);
    drop(events);
    for name in ["second", "third"] {
        assert_eq!(browser.ask("POST", "/v1/roles", &json!({ "name": name }).to_string()).0, 200);
    }
    let headers = [("cookie", browser.cookie.as_str()), ("last-event-id", sequence)];
    let mut events = Events::open(admin(&server), path, &headers).unwrap();
    for name in ["second", "third"] {
        assert!(events.await_event("audit").unwrap().contains(name), "{name}");
    }
}
