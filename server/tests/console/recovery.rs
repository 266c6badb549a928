//! Nodes go away and come back.

use std::net::TcpListener;

use vaylix_testkit::Server;
use vaylix_testkit::process::PATIENCE;

use crate::browser::Browser;
use crate::{ADMIN, Scene, log_in, turn};

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn the_page_of_a_follower_goes_on_when_the_leader_dies() {
    let mut scene = Scene::start();
    let follower = (scene.leader + 1) % 3;
    scene.open(follower);
    log_in(&scene.browser, ADMIN);
    scene.browser.await_text("#tile-leader", &format!("n{}", scene.leader + 1));
    // To notice that the page is still the same one.
    scene.browser.script("window.same = true", &[]);
    scene.cluster.kill(scene.leader).unwrap();
    let leader = scene.cluster.await_other_leader(scene.leader, PATIENCE).unwrap();
    scene.browser.await_text("#tile-leader", &format!("n{}", leader + 1));
    scene.browser.await_none("[data-notice=no-quorum]");
    scene.browser.await_text("main .changes", &format!("n{}", leader + 1));
    // Without a majority it says so, and that the leader is gone.
    let other = 3 - scene.leader - follower;
    scene.cluster.kill(other).unwrap();
    scene.browser.await_element("[data-notice=no-quorum]");
    scene.browser.keep("no quorum");
    scene.cluster.start_node(other).unwrap();
    scene.cluster.await_leader(PATIENCE).unwrap();
    scene.browser.await_none("[data-notice=no-quorum], [data-notice=not-ready]");
    assert_eq!(scene.browser.script("return window.same", &[]), true);
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn the_page_of_a_node_that_dies_waits_for_it() {
    let _turn = turn();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut server = Server::start(&["--admin-port", &port]).unwrap();
    let browser = Browser::start();
    browser.open(&format!("http://127.0.0.1:{port}/"));
    log_in(&browser, ADMIN);
    vaylix_testkit::wire::set(server.address(), "key", b"written").unwrap();
    browser.route("#/keys?key=key");
    browser.await_text("#key-value", "written");
    browser.click("#key-edit");
    browser.type_into("#key-text", "typed");
    browser.script("window.same = true", &[]);
    server.kill().unwrap();
    browser.await_element("[data-notice=away]");
    browser.await_text("#pulse", "Away");
    // What cannot be sent now is refused with what to do, and kept.
    browser.click("#key-save");
    browser.await_element("#key-detail .problem[data-code='TRN-013']");
    browser.keep("away");
    server.restart().unwrap();
    // Its sessions ended with it: one login, and the page is where it was, with what was typed.
    browser.await_text("main", "The session is over");
    log_in(&browser, ADMIN);
    browser.await_text("#key-save", "Save over version 1");
    browser.click("#key-save");
    browser.await_text("#key-value", "typed");
    assert_eq!(browser.script("return window.same", &[]), true);
    // A node that is frozen says nothing: that is told too, and is over when it is.
    server.signal("STOP").unwrap();
    browser.await_text("#pulse", "Silent");
    server.signal("CONT").unwrap();
    browser.await_text("#pulse", "Live");
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn changes_are_made_where_the_leader_is() {
    let scene = Scene::start();
    let browser = &scene.browser;
    scene.set("key", b"value");
    let follower = (scene.leader + 1) % 3;
    scene.cluster.await_caught_up(PATIENCE).unwrap();
    scene.open(follower);
    log_in(browser, ADMIN);
    browser.route("#/keys?key=key");
    browser.await_text("#key-value", "value");
    browser.await_element("[data-notice=not-leader] a");
    browser.click("#key-edit");
    browser.type_into("#key-text", "other");
    browser.click("#key-save");
    browser.await_element("#key-detail .problem[data-code='SRV-037'] a");
    browser.keep("not leader");
    browser.click("#key-detail .problem a");
    log_in(browser, ADMIN);
    // The same key, where it can be changed; both sessions live on beside each other.
    browser.await_text("#key-value", "value");
    browser.click("#key-edit");
    browser.type_into("#key-text", "other");
    browser.click("#key-save");
    browser.await_text("#key-value", "other");
    assert_eq!(scene.get("key").unwrap(), b"other");
    scene.open(follower);
    browser.await_element("#nav-keys");
}
