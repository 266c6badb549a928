//! The console in a real browser, against real clusters. Needs Chromium and its driver (Debian: chromium, chromium-driver), so
//! `tests/slow` runs it. What the pages look like is left in `console/` of Cargo's target directory, in light, dark and narrow.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever runs it")]

mod browser;
mod cost;
mod hostile;
mod pages;
mod recovery;
mod work;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use vaylix_proto::{Command, Reply};
use vaylix_testkit::process::PATIENCE;
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Cluster, http, wait};

use crate::browser::Browser;

/// The administrator of a server that was started without credentials.
const ADMIN: (&str, &str) = ("vaylix", "vaylix");

/// The password of users that tests make.
const PASSWORD: &str = "correct horse 7 battery";

/// One browser and its cluster at a time: some of it is about time.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cluster of three with a browser in front of it.
struct Scene {
    browser: Browser,
    cluster: Cluster,
    leader: usize,
    /// To the data plane of the first leader.
    data: RefCell<Connection>,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    fn start() -> Self {
        let turn = turn();
        let cluster = Cluster::start(3, &[]).unwrap();
        let leader = cluster.await_leader(PATIENCE).unwrap();
        cluster.await_caught_up(PATIENCE).unwrap();
        let data = RefCell::new(Connection::login(cluster.addresses()[leader]).unwrap());
        Self { browser: Browser::start(), cluster, leader, data, _turn: turn }
    }

    /// The same, with the administrator logged in at the leader.
    fn at_leader() -> Self {
        let scene = Self::start();
        scene.open(scene.leader);
        log_in(&scene.browser, ADMIN);
        scene
    }

    fn admin(&self, node: usize) -> SocketAddr {
        self.cluster.admin_address(node).unwrap()
    }

    fn open(&self, node: usize) {
        self.browser.open(&format!("http://{}/", self.admin(node)));
    }

    /// A request to the leader by the administrator, past the browser.
    fn call(&self, method: &str, path: &str, body: &str) -> Value {
        call(self.admin(self.leader), method, path, body)
    }

    fn set(&self, key: &str, value: &[u8]) {
        let set = set_command(key, value.to_vec());
        assert_eq!(self.data.borrow_mut().call(&set).unwrap().unwrap(), Reply::Ok);
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.data.borrow_mut().call(&Command::Get { key: key.into() }).unwrap().unwrap() {
            Reply::Value(value) => Some(value.to_vec()),
            Reply::NotFound => None,
            other => panic!("{other:?}"),
        }
    }

    /// A user of this name with a role that grants these permissions.
    fn user(&self, name: &str, grants: &[(&str, &str)]) {
        let json = |value: Value| value.to_string();
        self.call("POST", "/v1/users", &json(serde_json::json!({ "name": name, "password": PASSWORD })));
        self.call("POST", "/v1/roles", r#"{"name":"some"}"#);
        for (permission, pattern) in grants {
            let grant = serde_json::json!({ "grant": { "permission": permission, "pattern": pattern } });
            self.call("POST", "/v1/roles/some/grants", &json(grant));
        }
        self.call("PUT", &format!("/v1/users/{}/roles/some", encoded(name)), "{}");
    }
}

/// A JSON operation by the administrator.
fn call(server: SocketAddr, method: &str, path: &str, body: &str) -> Value {
    let authorization = http::basic(ADMIN.0, ADMIN.1);
    let headers = [("authorization", authorization.as_str())];
    let answer = http::request(server, method, path, &headers, body.as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// A name as part of a path.
fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Logs in, from the login page to the first page behind it.
#[track_caller]
fn log_in(browser: &Browser, (user, password): (&str, &str)) {
    browser.type_into("#login-user", user);
    browser.type_into("#login-password", password);
    browser.click("#login-submit");
    browser.await_element("#nav-keys");
}

/// Waits for something that the cluster is to do.
fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait::until(what, look)
}
