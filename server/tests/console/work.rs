//! What people do there.

use serde_json::json;
use vaylix_testkit::process::PATIENCE;

use crate::{ADMIN, PASSWORD, Scene, log_in, until};

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn logging_in_and_out() {
    let scene = Scene::start();
    let browser = &scene.browser;
    scene.open(scene.leader);
    browser.await_element("#login-user");
    browser.type_into("#login-user", ADMIN.0);
    browser.type_into("#login-password", "wrong");
    browser.click("#login-submit");
    browser.await_element(".problem[data-code='SRV-008']");
    log_in(browser, ADMIN);
    // The members come with the first event.
    browser.until("three members", "document.querySelectorAll('main tbody tr').length === 3");
    browser.await_text("#tile-leader", &format!("n{}", scene.leader + 1));
    browser.await_text("#pulse", "Live");
    // No script of the page can read the token.
    assert_eq!(browser.script("return document.cookie", &[]), "");
    // It outlives a reload.
    browser.script("location.reload()", &[]);
    browser.await_text("#pulse", "Live");
    browser.click("#logout");
    browser.await_element("#login-user");
    browser.script("location.reload()", &[]);
    browser.await_element("#login-user");
    let refused = browser.script("return fetch('/v1/users').then((answer) => answer.status)", &[]);
    assert_eq!(refused, 401);
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn an_edit_meets_another_one() {
    let scene = Scene::at_leader();
    let browser = &scene.browser;
    scene.set("app:limits", b"{\"perMinute\":600,\n\"burst\":10}");
    browser.route("#/keys?prefix=app%3A");
    browser.await_text("#keys-count", "1 key");
    browser.click("main .key-link");
    browser.await_text("#key-version", "1");
    browser.await_text("#key-value", "\"perMinute\": 600");
    browser.click("#key-edit");
    browser.type_into("#key-text", "{\"perMinute\":601,\n\"burst\":10}");
    scene.set("app:limits", b"{\"perMinute\":700,\n\"burst\":10}");
    browser.click("#key-save");
    browser.await_element("#key-conflict");
    // Both sides, and what differs.
    browser.await_text("#conflict-mine mark", "601");
    browser.await_text("#conflict-theirs mark", "700");
    assert_eq!(scene.get("app:limits").unwrap(), b"{\"perMinute\":700,\n\"burst\":10}");
    browser.keep("conflict");
    browser.click("#conflict-again");
    browser.await_text("#key-save", "Save over version 2");
    browser.click("#key-save");
    browser.await_text("#key-version", "3");
    assert_eq!(scene.get("app:limits").unwrap(), b"{\"perMinute\":601,\n\"burst\":10}");
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn a_key_is_made_given_an_end_and_deleted() {
    let scene = Scene::at_leader();
    let browser = &scene.browser;
    browser.route("#/keys");
    browser.await_text("main", "No keys yet");
    browser.click("#key-new");
    browser.type_into("#new-key", "a/b?c d%e");
    browser.type_into("dialog textarea", "worth");
    browser.click("dialog button[type=submit]");
    browser.await_text("#key-value", "worth");
    assert_eq!(scene.get("a/b?c d%e").unwrap(), b"worth");
    browser.click("#key-expiry");
    browser.type_into("#expiry-span", "2 h");
    browser.click("dialog button[type=submit]");
    browser.await_text("#key-detail .facts", "in 1 h 59 min");
    // An edit keeps it, unless it is told not to.
    browser.click("#key-edit");
    browser.type_into("#key-text", "more");
    browser.click("#key-save");
    browser.await_text("#key-value", "more");
    browser.await_text("#key-detail .facts", "in 1 h 59 min");
    // What is no text is shown as bytes, and as bytes it is edited.
    scene.set("a/b?c d%e", b"\x00\xff\xfe");
    browser.click("#keys-refresh");
    browser.await_text("#key-value", "00 ff fe");
    browser.click("#key-edit");
    browser.type_into("#key-text", "00 fg");
    browser.click("#key-save");
    browser.await_text("#key-detail .problem", "hexadecimal");
    browser.type_into("#key-text", "01 02");
    browser.click("#key-save");
    browser.await_text("#key-value", "01 02");
    assert_eq!(scene.get("a/b?c d%e").unwrap(), b"\x01\x02");
    browser.click("#key-delete");
    browser.click("dialog button.danger");
    browser.await_text("main", "No keys yet");
    assert_eq!(scene.get("a/b?c d%e"), None);
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn many_keys_come_in_pages() {
    let scene = Scene::at_leader();
    let browser = &scene.browser;
    for number in 0..250 {
        scene.set(&format!("many:{number:03}"), b"x");
    }
    scene.set("other", b"x");
    browser.route("#/keys");
    browser.await_text("#keys-count", "Page 1, 100 keys");
    browser.click("#keys-next");
    browser.await_text("main tbody tr:first-child", "many:100");
    browser.click("#keys-next");
    browser.await_text("#keys-count", "Page 3, 51 keys");
    browser.click("#keys-previous");
    browser.await_text("main tbody tr:first-child", "many:100");
    browser.type_into("#keys-glob", "*:24?");
    browser.click("#keys-search");
    browser.await_text("#keys-count", "10 keys");
    browser.type_into("#keys-prefix", "nothing");
    browser.click("#keys-search");
    browser.await_text("main", "No key matches");
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn a_member_leaves_and_comes_back_as_planned() {
    let mut scene = Scene::at_leader();
    let follower = (scene.leader + 1) % 3;
    let name = format!("n{}", follower + 1);
    let browser = &scene.browser;
    browser.route("#/cluster");
    browser.click(&format!("[aria-label='Remove {name}']"));
    // Three voters, four while both memberships count, two after: nothing has happened yet.
    browser.await_element("#plan");
    assert_eq!(scene.call("GET", "/v1/cluster/members", "")["members"].as_array().unwrap().len(), 3);
    browser.keep("plan");
    browser.click("#plan-go");
    browser.await_text("#outcome", &format!("{name} is no member any more"));
    browser.click("dialog .primary");
    browser.until("two members", "document.querySelectorAll('main tbody tr').length === 2");
    // With an empty disk it waits to be added.
    scene.cluster.kill(follower).unwrap();
    scene.cluster.wipe(follower).unwrap();
    scene.cluster.start_node(follower).unwrap();
    let browser = &scene.browser;
    browser.click("#member-new");
    browser.type_into("#member-name", &name);
    browser.type_into("#member-address", &scene.cluster.addresses()[follower].to_string());
    browser.click("#member-plan");
    browser.await_element("#plan");
    browser.click("#member-add");
    browser.await_text("#outcome", &format!("{name} is a member"));
    browser.click("dialog .primary");
    browser.until("three members", "document.querySelectorAll('main tbody tr').length === 3");
    let members = scene.call("GET", "/v1/cluster/members", "");
    let voters = members["members"].as_array().unwrap().iter().filter(|member| member["voter"] == true);
    assert_eq!(voters.count(), 3, "{members}");
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn the_office_is_handed_over_and_maintenance_is_turned_on() {
    let scene = Scene::at_leader();
    let heir = format!("n{}", (scene.leader + 1) % 3 + 1);
    let browser = &scene.browser;
    browser.route("#/cluster");
    browser.click("#maintenance");
    browser.click("dialog button.danger");
    browser.await_element("[data-notice=maintenance]");
    assert_eq!(scene.call("GET", "/v1/maintenance", "")["enabled"], true);
    browser.click("#maintenance");
    browser.click("dialog button.primary");
    browser.await_none("[data-notice=maintenance]");
    browser.click("#snapshot");
    browser.click("#snapshot-go");
    browser.await_text("#outcome", "on disk");
    browser.click("dialog .primary");
    browser.click("#drain");
    browser.click("dialog button.danger");
    browser.await_element("[data-notice=draining]");
    browser.await_element("[data-notice=not-leader]");
    browser.click("#drain");
    browser.click("dialog button.primary");
    browser.await_none("[data-notice=draining]");
    // On the node that leads now it goes on.
    browser.await_element("[data-notice=not-leader] a");
    browser.click("[data-notice=not-leader] a");
    log_in(browser, ADMIN);
    browser.await_text("#tile-leader, main .facts", "n");
    let leader = until("a leader", || scene.cluster.leader());
    let target = if format!("n{}", leader + 1) == heir { scene.leader } else { (scene.leader + 1) % 3 };
    let target = format!("n{}", target + 1);
    browser.click(&format!("[aria-label='Have {target} lead']"));
    browser.click("#plan-go");
    browser.await_text("#outcome", &format!("{target} leads now"));
    scene.cluster.await_other_leader(leader, PATIENCE).unwrap();
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn a_backup_is_taken_away_brought_back_and_restored() {
    let scene = Scene::at_leader();
    let browser = &scene.browser;
    scene.set("kept", b"before");
    browser.route("#/backups");
    browser.await_text("main", "No backups");
    browser.click("#backup-new");
    browser.type_into("#backup-name", "daily.json");
    browser.click("dialog button[type=submit]");
    browser.click("[aria-label='Verify daily.json']");
    browser.await_text("#outcome", "whole");
    browser.click("dialog .primary");
    browser.click("[aria-label='Download daily.json']");
    let file = browser.downloaded("daily.json");
    let there = std::fs::read(scene.cluster.data_dir(scene.leader).join("backups/daily.json")).unwrap();
    assert!(std::fs::read(&file).unwrap() == there, "what was downloaded is what is there");
    // Under another name it comes back, byte by byte.
    browser.click("#backup-upload");
    browser.choose_file("#upload-file", &file);
    browser.type_into("#upload-name", "again.json");
    browser.click("#upload-go");
    browser.await_text("#outcome", "arrived whole");
    browser.click("dialog .primary");
    let uploaded = std::fs::read(scene.cluster.data_dir(scene.leader).join("backups/again.json")).unwrap();
    assert!(uploaded == there);
    scene.set("kept", b"after");
    scene.set("new", b"after");
    browser.click("[aria-label='Restore again.json']");
    browser.await_text("#restore-count", "1");
    // Not by mistake: the name has to be typed.
    assert_eq!(browser.script("return document.querySelector('dialog .danger').disabled", &[]), true);
    browser.keep("restore");
    browser.type_into("dialog input", "again");
    assert_eq!(browser.script("return document.querySelector('dialog .danger').disabled", &[]), true);
    assert_eq!(scene.get("kept").unwrap(), b"after");
    browser.type_into("dialog input", "again.json");
    browser.click("dialog button.danger");
    browser.await_text("#toast", "Restored: 1 entry");
    assert_eq!((scene.get("kept").unwrap(), scene.get("new")), (b"before".to_vec(), None));
    // A name that leaves the directory is refused with its code and what to do.
    browser.click("#backup-new");
    browser.type_into("#backup-name", "../outside.json");
    browser.click("dialog button[type=submit]");
    browser.await_element("dialog .problem[data-code='SRV-027']");
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn whoever_may_little_is_told_so() {
    let scene = Scene::start();
    let browser = &scene.browser;
    scene.user("reader", &[("read", "app:*")]);
    scene.set("app:flag", b"on");
    scene.set("secret:flag", b"hidden value");
    scene.open(scene.leader);
    log_in(browser, ("reader", PASSWORD));
    // Keys are what may be of use; without a prefix they are not for this user.
    browser.await_element("main [data-code='SRV-017']");
    browser.click("main .chip");
    browser.await_text("#keys-count", "1 key");
    browser.click("main .key-link");
    browser.await_text("#key-value", "on");
    browser.click("#key-edit");
    browser.type_into("#key-text", "off");
    browser.click("#key-save");
    browser.await_element("#key-detail .problem[data-code='SRV-017']");
    assert_eq!(scene.get("app:flag").unwrap(), b"on");
    browser.keep("not permitted");
    for page in [
        "overview",
        "cluster",
        "backups",
        "access",
        "access?tab=roles",
        "access?tab=sessions",
        "audit",
        "config",
    ] {
        browser.route(&format!("#/{page}"));
        browser.await_element("main [data-code='SRV-017']");
    }
    browser.route(&format!("#/keys?key={}", crate::encoded("secret:flag")));
    browser.await_element("#key-detail [data-code='SRV-017']");
    assert!(!browser.text("body").contains("hidden value"));
    // With the right it works at once: what may be done is decided for each request.
    let grant = json!({ "grant": { "permission": "write", "pattern": "app:*" } });
    scene.call("POST", "/v1/roles/some/grants", &grant.to_string());
    browser.route("#/keys?prefix=app%3A&key=app%3Aflag");
    // What was typed is still there.
    browser.await_text("#key-save", "Save over version 1");
    browser.click("#key-save");
    browser.await_text("#key-version", "2");
    assert_eq!(scene.get("app:flag").unwrap(), b"off");
}

#[test]
#[ignore = "needs chromium: tests/slow runs it"]
fn users_roles_and_what_they_may_do() {
    let scene = Scene::at_leader();
    let browser = &scene.browser;
    browser.route("#/access");
    browser.click("#user-new");
    browser.type_into("#user-name", "reporter");
    browser.type_into("#user-password", "short");
    browser.click("dialog button[type=submit]");
    browser.await_element("dialog .problem[data-code='SRV-032']");
    browser.type_into("#user-password", PASSWORD);
    browser.click("dialog button[type=submit]");
    browser.await_element("[aria-label='Drop reporter']");
    browser.click("#tab-roles");
    browser.click("#role-new");
    browser.type_into("dialog input", "reports");
    browser.click("dialog button[type=submit]");
    browser.click("[aria-label='Grant a permission to reports']");
    browser.type_into("dialog input", "report:*");
    browser.click("dialog button[type=submit]");
    browser.await_element("[aria-label='Revoke read on report:* from reports']");
    browser.click("#tab-users");
    browser.click("[aria-label='Grant a role to reporter']");
    // The roles are asked for before the dialog opens.
    browser.await_element("dialog select option[value='reports']");
    browser.script("document.querySelector('dialog select').value = 'reports'", &[]);
    browser.click("dialog button[type=submit]");
    browser.await_element("[aria-label='Take the role reports from reporter']");
    browser.click("[aria-label='What may reporter do?']");
    browser.await_text("main", "report:*");
    browser.type_into("#rights-key", "report:1");
    browser.click("#rights-ask");
    browser.await_text("#rights-verdict", "reporter may read");
    browser.type_into("#rights-key", "other");
    browser.click("#rights-ask");
    browser.await_text("#rights-verdict", "reporter may not read");
    // Whoever is logged in is seen, and can be sent away.
    browser.click("#tab-sessions");
    browser.await_text("main", "token");
    // The audit log has all of it, and its chain holds.
    browser.route("#/audit");
    browser.await_text("main", "rbac_create_user");
    browser.click("#audit-verify");
    browser.await_text("#audit-verdict", "holds");
    // What happens now appears by itself.
    scene.call("POST", "/v1/roles", r#"{"name":"while-watching"}"#);
    browser.await_text("main", "role=while-watching");
    browser.route("#/config");
    browser.type_into("#config-search", "--node-id");
    browser.await_text("main", &format!("n{}", scene.leader + 1));
    // The last administrator stays.
    browser.route("#/access?tab=users");
    browser.click("[aria-label='Drop vaylix']");
    browser.click("dialog button.danger");
    browser.await_element("dialog .problem[data-code='SRV-024']");
}
