//! Keys, values and names that others choose, to have the page of an administrator do their will.

use serde_json::json;

use crate::{ADMIN, PASSWORD, Scene, encoded, log_in};

/// Each of them runs a script where it is taken for markup, a link or a program.
const ATTACKS: [&str; 6] = [
    "<img src=x onerror=window.broken=1>",
    "<script>window.broken=1</script>",
    "\"><svg onload=window.broken=1>",
    "javascript:window.broken=1",
    "{{constructor.constructor('window.broken=1')()}}",
    "'-(window.broken=1)-'",
];

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn what_others_write_stays_text() {
    let scene = Scene::start();
    let browser = &scene.browser;
    for attack in ATTACKS {
        scene.set(attack, attack.as_bytes());
        scene.set(&format!("nested:{attack}:x"), json!({ "a": attack }).to_string().as_bytes());
        let user = json!({ "name": attack, "password": PASSWORD });
        scene.call("POST", "/v1/users", &user.to_string());
        scene.call("POST", "/v1/roles", &json!({ "name": attack }).to_string());
        let grant = json!({ "grant": { "permission": "read", "pattern": attack } });
        scene.call("POST", &format!("/v1/roles/{}/grants", encoded(attack)), &grant.to_string());
        scene.call("PUT", &format!("/v1/users/{}/roles/{}", encoded(attack), encoded(attack)), "{}");
    }
    scene.open(scene.leader);
    log_in(browser, ADMIN);
    browser.complaints();
    // Counts what no page of the console has.
    let strange = "return [...document.querySelectorAll('script, img, iframe, object, embed, link, base, form[action]')]\
                   .filter((found) => !found.closest('head') && !found.matches('img[src=\"/console/icon.svg\"]')).length \
                   + [...document.querySelectorAll('*')].filter((found) => [...found.attributes]\
                   .some(({ name, value }) => name.startsWith('on') || name === 'style' \
                   || /^javascript:/i.test(value) && name === 'href')).length";
    let check = |place: &str| {
        assert_eq!(browser.script("return window.broken ?? 0", &[]), 0, "{place}");
        assert_eq!(browser.script(strange, &[]), 0, "{place}");
    };
    for attack in ATTACKS {
        let key = encoded(attack);
        for place in [
            format!("#/keys?key={key}"),
            format!("#/keys?prefix={key}"),
            format!("#/keys?glob={key}"),
            format!("#/keys?key={}", encoded(&format!("nested:{attack}:x"))),
            format!("#/access?tab=rights&user={key}"),
            format!("#/access?tab={key}"),
            format!("#/{key}"),
        ] {
            browser.route(&place);
            browser.await_none("main .loading");
            check(&place);
        }
        // The value is shown as it was written.
        browser.route(&format!("#/keys?key={key}"));
        browser.await_text("#key-value", attack);
    }
    for (place, sign) in [
        ("#/access?tab=users", "users"),
        ("#/access?tab=roles", "roles"),
        ("#/audit", "audit"),
        ("#/keys", "keys"),
    ] {
        browser.route(place);
        for attack in ATTACKS {
            browser.await_text("main", attack);
        }
        check(sign);
    }
    // A conflict and a dialog about such a key.
    let key = ATTACKS[0];
    browser.route(&format!("#/keys?key={}", encoded(key)));
    browser.click("#key-edit");
    browser.type_into("#key-text", ATTACKS[1]);
    scene.set(key, ATTACKS[2].as_bytes());
    browser.click("#key-save");
    browser.await_text("#conflict-theirs", ATTACKS[2]);
    check("conflict");
    browser.click("#conflict-discard");
    browser.click("#key-delete");
    browser.await_text("dialog", key);
    check("dialog");
    browser.click("dialog .icon-button");
    // A user of such a name at work.
    browser.click("#logout");
    browser.await_element("#login-user");
    log_in(browser, (key, PASSWORD));
    browser.await_text(".user-name", key);
    check("user");
    // The policy had nothing to refuse.
    let refused: Vec<_> =
        browser.complaints().into_iter().filter(|told| told.contains("Content Security Policy")).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn what_cannot_be_seen_is_spelt_out() {
    let scene = Scene::at_leader();
    let browser = &scene.browser;
    scene.set("pay:\u{202e}gnp.exe", b"x");
    scene.set("zero\u{200b}width", b"x");
    browser.route("#/keys");
    browser.await_text("main", "pay:\\u{202e}gnp.exe");
    browser.await_text("main", "zero\\u{200b}width");
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn scripts_that_get_in_all_the_same_do_not_run() {
    let scene = Scene::at_leader();
    let browser = &scene.browser;
    browser.complaints();
    // What a defect of the page could do at worst.
    let body = "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.broken=1><a id=trap \
                href=\"javascript:window.broken=1\">x</a>'); const script = document.createElement('script'); \
                script.textContent = 'window.broken=1'; document.body.append(script); \
                document.getElementById('trap').click()";
    browser.script(body, &[]);
    browser.until("the image has failed", "document.querySelector('img[src=x]').complete");
    assert_eq!(browser.script("return window.broken ?? 0", &[]), 0);
    let refused =
        browser.complaints().into_iter().filter(|told| told.contains("Content Security Policy")).count();
    assert!(refused > 0, "the policy refuses them");
    // Nothing is sent elsewhere either.
    let sent =
        browser.script("return fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => error.name)", &[]);
    assert_eq!(sent, "TypeError");
    // And no page of another origin shows this one in a frame or sends changes in its name.
    let answer = vaylix_testkit::http::get(scene.admin(scene.leader), "/").unwrap();
    assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
}
