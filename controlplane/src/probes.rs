//! What supervisors and load balancers ask. None of it needs a login, names anybody, waits for anything or changes anything.
//!
//! | Path | 200 when |
//! |---|---|
//! | `/livez` | the process answers: no disk, no other node is asked |
//! | `/startupz` | the start is over; until then the body says how far it is |
//! | `/readyz` | every check passes; `?verbose` lists them, `?exclude=name` leaves one out |
//! | `/leader` | this node takes writes |
//! | `/follower` | this node follows a leader and has what it needs to serve reads |
//! | `/read-write` | this node takes writes, and neither maintenance mode nor the disk keeps it from them |
//! | `/read-only` | this node serves reads; `?max_lag=` bounds the entries it may be behind |
//!
//! Everything else answers 503. GET, HEAD and OPTIONS are the same to all of them.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use serde_json::json;
use vaylix_access::Vitals;

use crate::fault::Fault;
use crate::stage::Stage;

/// The paths, which are never made to wait for a place.
pub(crate) const PATHS: [&str; 7] =
    ["/livez", "/startupz", "/readyz", "/leader", "/follower", "/read-write", "/read-only"];

pub(crate) fn router() -> Router<Stage> {
    let [live, start, ready, leader, follower, read_write, read_only] = PATHS;
    Router::new()
        .route(live, get(alive).options(alive))
        .route(start, get(started).options(started))
        .route(ready, get(is_ready).options(is_ready))
        .route(leader, get(leads).options(leads))
        .route(follower, get(follows).options(follows))
        .route(read_write, get(writes).options(writes))
        .route(read_only, get(reads).options(reads))
}

async fn alive() -> Response {
    text(true, "ok\n".to_owned())
}

async fn started(State(stage): State<Stage>) -> Response {
    let body = match (stage.door(), stage.replay()) {
        (Some(_), _) => json!({ "started": true }),
        (None, Some(replay)) => json!({
            "started": false, "step": replay.what, "unit": replay.unit, "done": replay.done, "total": replay.total,
        }),
        (None, None) => json!({ "started": false }),
    };
    answer(stage.door().is_some(), &body)
}

/// One thing that must be so for a server to be ready.
struct Check {
    name: &'static str,
    /// Why it is not so.
    failure: Option<&'static str>,
}

/// The checks, in the order they are shown.
fn checks(stage: &Stage) -> Vec<Check> {
    let check = |name, failure| Check { name, failure };
    let vitals = stage.vitals();
    let known = vitals.as_ref();
    vec![
        check("started", stage.door().is_none().then_some("the data is being recovered")),
        check("not-stopping", stage.is_stopping().then_some("the server has been told to stop")),
        check(
            "cluster",
            match known {
                None => Some("the node has not started"),
                // What the disk says has a check of its own.
                Some(vitals) if vitals.reason != vitals.disk && vitals.reason != "none" => {
                    Some(vitals.reason)
                }
                Some(_) => None,
            },
        ),
        check("draining", known.filter(|vitals| vitals.draining).map(|_| "it leaves clients to others")),
        check("disk", known.map(|vitals| vitals.disk).filter(|reason| *reason != "none")),
        check("audit-log", known.filter(|vitals| !vitals.audit_works).map(|_| "it cannot be written")),
    ]
}

async fn is_ready(State(stage): State<Stage>, RawQuery(query): RawQuery) -> Response {
    let query = Query(query.unwrap_or_default());
    let checks = checks(&stage);
    let excluded: Vec<_> = query.all("exclude").collect();
    if let Some(unknown) = excluded.iter().find(|name| !checks.iter().any(|check| check.name == **name)) {
        return Fault::field("exclude", format!("there is no check called {unknown:?}")).into_http(None);
    }
    let is_excluded = |check: &Check| excluded.contains(&check.name);
    let is_ready = checks.iter().all(|check| check.failure.is_none() || is_excluded(check));
    let mut body = String::new();
    if query.has("verbose") || !is_ready {
        for check in &checks {
            let line = match check.failure {
                _ if is_excluded(check) => format!("[+]{} excluded\n", check.name),
                None => format!("[+]{} ok\n", check.name),
                Some(failure) => format!("[-]{} failed: {failure}\n", check.name),
            };
            body.push_str(&line);
        }
    }
    body.push_str(if is_ready { "ok\n" } else { "not ready\n" });
    text(is_ready, body)
}

async fn leads(State(stage): State<Stage>) -> Response {
    role(&stage, |vitals| vitals.leads)
}

async fn follows(State(stage): State<Stage>) -> Response {
    role(&stage, |vitals| vitals.clustered && !vitals.leads && vitals.ready && !vitals.draining)
}

async fn writes(State(stage): State<Stage>) -> Response {
    role(&stage, |vitals| {
        vitals.leads && vitals.ready && vitals.in_maintenance == Some(false) && !vitals.draining
    })
}

async fn reads(State(stage): State<Stage>, RawQuery(query): RawQuery) -> Response {
    let query = Query(query.unwrap_or_default());
    let max_lag = match query.all("max_lag").last().map(str::parse::<u64>) {
        None => None,
        Some(Ok(max_lag)) => Some(max_lag),
        Some(Err(_)) => {
            return Fault::field("max_lag", "it is a number of log entries").into_http(None);
        }
    };
    role(&stage, |vitals| {
        // A full disk refuses writes only.
        let serves = vitals.ready || (vitals.disk != "none" && vitals.reason == vitals.disk);
        serves
            && !vitals.draining
            && vitals.informed
            && max_lag.is_none_or(|max_lag| vitals.leads || vitals.lag_entries <= max_lag)
    })
}

/// Whether the node is what was asked for, and what it is.
fn role(stage: &Stage, is_it: impl FnOnce(&Vitals) -> bool) -> Response {
    let Some(vitals) = stage.vitals() else {
        return answer(false, &json!({ "role": "starting" }));
    };
    let role = match vitals.role {
        vaylix_access::Role::Leader => "leader",
        vaylix_access::Role::Candidate => "candidate",
        vaylix_access::Role::Follower => "follower",
        vaylix_access::Role::Learner => "learner",
        vaylix_access::Role::Stopped => "stopped",
    };
    let body = json!({
        "role": role, "term": vitals.term, "reason": vitals.reason, "lagEntries": vitals.lag_entries,
    });
    answer(is_it(&vitals) && !stage.is_stopping(), &body)
}

fn status(is_so: bool) -> StatusCode {
    if is_so { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn text(is_so: bool, body: String) -> Response {
    (status(is_so), [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

fn answer(is_so: bool, body: &serde_json::Value) -> Response {
    (status(is_so), [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

/// The part of an address behind the `?`. The names and values that are known here need no escapes.
struct Query(String);

impl Query {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.pairs().filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }

    fn has(&self, name: &str) -> bool {
        self.pairs().any(|(found, _)| found == name)
    }
}
