//! What the page weighs, how soon it is there, and what it costs the node.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use vaylix_testkit::Server;

use crate::browser::Browser;
use crate::{ADMIN, log_in, turn};

/// All that is loaded, in bytes.
const WEIGHT_MAX: u64 = 200_000;

/// From the request to the first paint, in milliseconds.
const PAINT_MS_MAX: f64 = 200.0;

/// Of a core, by a page that is looked at and left alone.
const IDLE_MAX: f64 = 0.01;

/// For how long that is measured.
const IDLE_WINDOW: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn the_page_is_light_and_soon_there() {
    let _turn = turn();
    let server = Server::start(&[]).unwrap();
    let browser = Browser::start();
    let url = format!("http://{}/", server.admin_address().unwrap());
    let mut paints = Vec::new();
    for _ in 0..5 {
        // Nothing is kept from the time before.
        browser.chromium("Network.clearBrowserCache", &serde_json::json!({}));
        browser.open(&url);
        browser.await_element("#login-user");
        browser.until("the first paint", "performance.getEntriesByName('first-contentful-paint').length > 0");
        let paint =
            browser.script("return performance.getEntriesByName('first-contentful-paint')[0].startTime", &[]);
        paints.push(paint.as_f64().unwrap());
    }
    log_in(&browser, ADMIN);
    for page in ["overview", "keys", "cluster", "backups", "access", "audit", "config"] {
        browser.route(&format!("#/{page}"));
        browser.await_text("#page-title", "");
    }
    let files = browser.script(
        "return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))\
         .filter((one) => !new URL(one.name).pathname.startsWith('/v1/'))\
         .map((one) => [one.name, one.decodedBodySize])",
        &[],
    );
    let files = files.as_array().unwrap();
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        assert!(file[0].as_str().unwrap().starts_with(&url), "{file} is the node's own");
    }
    let weight: u64 = files.iter().map(|file| file[1].as_u64().unwrap()).sum();
    paints.sort_by(f64::total_cmp);
    println!("weight: {weight} bytes in {} files; first paint: {paints:.0?} ms", files.len());
    assert!(weight < WEIGHT_MAX, "{weight} bytes");
    // The best of them: others may be at work on this machine.
    assert!(paints[0] < PAINT_MS_MAX, "{paints:?} ms");
}

/// The processor time that a process has taken.
fn processor_time(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let behind = stat.rsplit_once(')').unwrap().1;
    let ticks: Vec<u64> =
        behind.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap()).collect();
    // A hundred in a second, on every Linux that there is.
    Duration::from_millis(ticks.iter().sum::<u64>() * 10)
}

/// The part of a core that a process takes.
fn load(id: u32, window: Duration) -> f64 {
    let (before, begun) = (processor_time(id), Instant::now());
    // The measurement is the waiting.
    thread::sleep(window);
    (processor_time(id) - before).as_secs_f64() / begun.elapsed().as_secs_f64()
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn a_page_that_is_left_alone_costs_the_node_next_to_nothing() {
    let _turn = turn();
    let server = Server::start(&[]).unwrap();
    let browser = Browser::start();
    browser.open(&format!("http://{}/", server.admin_address().unwrap()));
    log_in(&browser, ADMIN);
    let mut told = Vec::new();
    browser.open("about:blank");
    let alone = load(server.id(), IDLE_WINDOW);
    told.push(format!("nobody {:.2} %", alone * 100.0));
    browser.open(&format!("http://{}/#/overview", server.admin_address().unwrap()));
    browser.await_text("#pulse", "Live");
    let watched = load(server.id(), IDLE_WINDOW);
    told.push(format!("overview {:.2} %", watched * 100.0));
    browser.route("#/audit");
    browser.await_element("main table tbody tr");
    let audited = load(server.id(), IDLE_WINDOW);
    told.push(format!("audit {:.2} %", audited * 100.0));
    println!("processor time of the node: {}", told.join(", "));
    assert!(watched - alone < IDLE_MAX && audited - alone < IDLE_MAX, "{told:?}");
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn a_page_that_nobody_sees_rests() {
    let _turn = turn();
    let server = Server::start(&[]).unwrap();
    let browser = Browser::start();
    browser.open(&format!("http://{}/", server.admin_address().unwrap()));
    log_in(&browser, ADMIN);
    browser.await_text("#pulse", "Live");
    browser.minimize();
    browser.until("the page is hidden", "document.hidden");
    browser.await_text("#pulse", "Resting");
    browser.restore();
    browser.await_text("#pulse", "Live");
}
