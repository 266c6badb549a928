//! Every page in every look: that it fits, that it can be operated without seeing it, and pictures for people.

use serde_json::{Value, json};

use crate::browser::{Browser, Look};
use crate::{PASSWORD, Scene};

const PAGES: [(&str, &str, &str); 10] = [
    ("overview", "#/overview", ".tiles"),
    ("keys", "#/keys", "main tbody tr"),
    ("key", "#/keys?prefix=app%3A&key=app%3Alimits", "#key-value"),
    ("cluster", "#/cluster", "#drain"),
    ("backups", "#/backups", "main tbody tr"),
    ("users", "#/access?tab=users", "main tbody tr"),
    ("roles", "#/access?tab=roles", "main tbody tr"),
    ("rights", "#/access?tab=rights&user=reporter", "main tbody tr"),
    ("audit", "#/audit", "main tbody tr"),
    ("config", "#/config", "main tbody tr"),
];

/// What a screen reader operates and finds no name for.
fn nameless(browser: &Browser) -> Vec<String> {
    let tree = browser.chromium("Accessibility.getFullAXTree", &json!({}));
    let operated = [
        "button",
        "link",
        "textbox",
        "searchbox",
        "combobox",
        "checkbox",
        "radio",
        "table",
        "dialog",
        "image",
    ];
    let is_nameless = |node: &&Value| {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        node["ignored"] == false
            && operated.contains(&role)
            && node["name"]["value"].as_str().unwrap_or_default().is_empty()
    };
    tree["nodes"].as_array().unwrap().iter().filter(is_nameless).map(ToString::to_string).collect()
}

/// Texts whose contrast with what is behind them is below 4.5, or 3 for large ones.
const PALE: &str = r"
const channels = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
const light = ([r, g, b]) => [r, g, b]
  .map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
const behind = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const colour = channels(getComputedStyle(one).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
  if (element.closest('svg, noscript, :disabled, label:has(:disabled), .toast, .skip, .visually-hidden')) continue;
  const style = getComputedStyle(element);
  const pair = [light(channels(style.color)), light(behind(element))].sort((a, b) => b - a);
  const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
  if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) {
    found.push(`${walker.currentNode.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
}
return [...new Set(found)];
";

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn every_page_in_every_look() {
    let scene = Scene::start();
    let browser = &scene.browser;
    scene.user("reporter", &[("read", "report:*"), ("write", "report:draft:*")]);
    scene.set(
        "app:limits",
        br#"{"perMinute":600,"burst":[10,20],"owner":"payments","id":12345678901234567890}"#,
    );
    for number in 0..40 {
        scene.set(&format!("app:flag-{number}"), b"on");
        scene.set(&format!("lease:worker-{number}"), b"busy");
    }
    scene.call("PUT", "/v1/keys/lease%3Aworker-1/expiry", r#"{"ttlMs":"600000"}"#);
    scene.call("POST", "/v1/backups", r#"{"name":"daily.json"}"#);
    scene.open(scene.leader);
    browser.await_element("#login-user");
    for look in [Look::LIGHT, Look::DARK, Look::NARROW] {
        browser.looks(look);
        browser.keep(&format!("login-{}", look.name));
        assert_eq!(nameless(browser), Vec::<String>::new());
    }
    crate::log_in(browser, crate::ADMIN);
    for look in [Look::LIGHT, Look::DARK, Look::NARROW] {
        browser.looks(look);
        for (name, route, sign) in PAGES {
            browser.route(route);
            browser.await_element(sign);
            browser.await_none("main .loading");
            let place = format!("{name}-{}", look.name);
            browser.keep(&place);
            let over = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.script(&format!("return {over}"), &[]), 0, "{place} fits into its window");
            assert_eq!(nameless(browser), Vec::<String>::new(), "{place}");
            assert_eq!(browser.script(PALE, &[]), json!([]), "{place} can be read");
        }
    }
    let errors: Vec<_> =
        browser.complaints().into_iter().filter(|told| !told.contains("status of 401")).collect();
    assert_eq!(errors, Vec::<String>::new());
    assert!(!browser.text("body").contains(PASSWORD));
}

/// Tab and Enter are enough, and the focus can be seen.
#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn keys_are_enough() {
    let scene = Scene::at_leader();
    let browser = &scene.browser;
    scene.set("app:flag", b"on");
    browser.await_text("#pulse", "Live");
    browser.script("document.activeElement.blur()", &[]);
    let press = |key: &str, code: u32| {
        for kind in ["rawKeyDown", "char", "keyUp"] {
            let text = if key == "Enter" && kind == "char" { "\r" } else { "" };
            if kind == "char" && text.is_empty() {
                continue;
            }
            let event =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            browser.chromium("Input.dispatchKeyEvent", &event);
        }
    };
    let focused = |what: &str| {
        let expression = format!("document.activeElement?.matches({})", json!(what));
        browser.script(&format!("return Boolean({expression})"), &[]) == true
    };
    let walk = |what: &str| {
        for _ in 0..60 {
            if focused(what) {
                return;
            }
            press("Tab", 9);
        }
        panic!("the focus never comes to {what}");
    };
    // The first stop leads past the navigation.
    walk(".skip");
    walk("#nav-keys");
    let outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle", &[]);
    assert_eq!(outline, "solid", "the focus is seen");
    press("Enter", 13);
    browser.until("the title has the focus", "document.activeElement.id === 'page-title'");
    browser.await_element("main .key-link");
    walk("main .key-link");
    press("Enter", 13);
    browser.await_text("#key-value", "on");
    walk("#key-delete");
    press("Enter", 13);
    browser.until(
        "the dialog has the focus",
        "document.querySelector('dialog')?.contains(document.activeElement)",
    );
    press("Escape", 27);
    browser.await_none("dialog");
    browser.until("the focus is back", "document.activeElement.id === 'key-delete'");
    // The theme that was chosen stays.
    walk("#theme");
    press("Enter", 13);
    assert_eq!(browser.script("return document.documentElement.dataset.theme", &[]), "dark");
    browser.script("location.reload()", &[]);
    browser.await_element("#theme");
    assert_eq!(browser.script("return document.documentElement.dataset.theme", &[]), "dark");
}
