//! `vaylixctl` against real servers and clusters.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use vaylix_proto::{Command as DataCommand, Reply};
use vaylix_testkit::certificates::{Authority, Directory, Validity};
use vaylix_testkit::process::{PATIENCE, Process};
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Cluster, Server, binary, cluster, wait};

/// The password of the administrator of a server that was started without credentials.
const PASSWORD: &str = "vaylix";

/// What an invocation left behind.
#[derive(Debug)]
struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.stdout
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    #[track_caller]
    fn failed(self, status: i32, told: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.stderr.contains(told), "{self:?}");
        self.stderr
    }
}

/// The program, with nothing of the surroundings of the test.
fn program(endpoints: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::CTL.path().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VAYLIX") {
            command.env_remove(name);
        }
    }
    command.env("XDG_CONFIG_HOME", "/nonexistent").env("VAYLIX_PASSWORD", PASSWORD);
    command.args(["--endpoint", endpoints]).args(arguments).stdin(Stdio::null());
    command
}

fn outcome(mut command: Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn ctl(endpoints: &str, arguments: &[&str]) -> Outcome {
    outcome(program(endpoints, arguments))
}

fn admin(server: &Server) -> String {
    server.admin_address().unwrap().to_string()
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_single_server_is_looked_after() {
    let server = Server::start(&[]).unwrap();
    let at = admin(&server);
    let status = ctl(&at, &["status"]).ok();
    assert!(status.contains("Role:") && status.contains("leader"), "{status}");
    let status = ctl(&at, &["--output", "json", "status"]).json();
    assert_eq!(status["status"]["role"], "ROLE_LEADER");
    assert_eq!(status["status"]["ready"], true);
    let yaml = ctl(&at, &["status", "--output", "yaml"]).ok();
    assert!(yaml.contains("role: ROLE_LEADER"), "{yaml}");
    assert!(ctl(&at, &["health"]).ok().contains("vaylix.data"));
    assert!(ctl(&at, &["members"]).ok().starts_with("NAME"));
    assert!(ctl(&at, &["whoami"]).ok().contains("vaylix"));
    assert!(ctl(&at, &["top", "--once"]).ok().contains("leader"));
    assert_eq!(ctl(&at, &["maintenance"]).ok(), "maintenance mode is off\n");
    assert_eq!(ctl(&at, &["maintenance", "on"]).ok(), "maintenance mode is on\n");
    assert_eq!(ctl(&at, &["maintenance", "off"]).ok(), "maintenance mode is off\n");
    ctl(&at, &["snapshot"]).ok();
    let key = ctl(&at, &["key", "rotate", "--output", "json"]).json();
    assert_eq!(key["keyId"].as_str().unwrap().len(), 36);
    assert!(ctl(&at, &["drain", "on", "--yes"]).ok().contains("is draining"));
    assert!(ctl(&at, &["status"]).ok().contains("Draining:        yes"));
    assert!(ctl(&at, &["drain", "off"]).ok().contains("is not draining"));
}

#[test]
fn refusals_have_their_exit_status_and_their_code() {
    let server = Server::start(&[]).unwrap();
    let at = admin(&server);
    let mut wrong = program(&at, &["whoami"]);
    wrong.env("VAYLIX_PASSWORD", "wrong");
    assert_eq!(outcome(wrong).failed(1, "vaylixctl: SRV-008 ").lines().count(), 1);
    let mut without = program(&at, &["whoami"]);
    without.env_remove("VAYLIX_PASSWORD");
    outcome(without).failed(2, "VAYLIX_PASSWORD");
    ctl(&at, &["no-such-verb"]).failed(2, "no-such-verb");
    ctl(&nobody().to_string(), &["status"]).failed(3, "cannot reach any endpoint");
    ctl("nonsense:x", &["status"]).failed(2, "HOST:PORT");
    for dangerous in [
        &["member", "remove", "n1"][..],
        &["leader", "transfer"],
        &["backup", "restore", "x"],
        &["backup", "delete", "x"],
        &["user", "drop", "x"],
        &["role", "drop", "x"],
        &["session", "end", "1"],
        &["drain", "on"],
    ] {
        ctl(&at, dangerous).failed(2, "--yes");
    }
    ctl(&at, &["user", "drop", "nobody", "--yes"]).failed(1, "vaylixctl: SRV-");
}

#[test]
fn users_roles_and_what_they_may_do() {
    let server = Server::start(&[]).unwrap();
    let at = admin(&server);
    let password = "correct horse 7 battery";
    ctl(&at, &["user", "create", "ann", "--new-password", password]).ok();
    ctl(&at, &["role", "create", "readers"]).ok();
    ctl(&at, &["grant", "add", "read", "app:*", "readers"]).ok();
    ctl(&at, &["role", "grant", "ann", "readers"]).ok();
    let users = ctl(&at, &["user", "list"]).ok();
    assert!(users.lines().any(|line| line.starts_with("ann") && line.ends_with("readers")), "{users}");
    let roles = ctl(&at, &["role", "list"]).ok();
    assert!(roles.contains("app:*"), "{roles}");
    let mut by_ann = program(&at, &["whoami", "--user", "ann", "--output", "json"]);
    by_ann.env("VAYLIX_PASSWORD", password);
    assert_eq!(outcome(by_ann).json()["user"], "ann");
    let mut by_ann = program(&at, &["user", "list", "--user", "ann"]);
    by_ann.env("VAYLIX_PASSWORD", password);
    outcome(by_ann).failed(1, "vaylixctl: SRV-017 ");
    assert!(ctl(&at, &["session", "list"]).ok().starts_with("ID"));
    ctl(&at, &["session", "end", "--of-user", "ann", "--yes"]).ok();
    ctl(&at, &["grant", "remove", "read", "app:*", "readers"]).ok();
    ctl(&at, &["role", "revoke", "ann", "readers"]).ok();
    ctl(&at, &["role", "drop", "readers", "--yes"]).ok();
    ctl(&at, &["user", "password", "ann", "--new-password", "another horse 8 battery"]).ok();
    ctl(&at, &["user", "drop", "ann", "--yes"]).ok();
    assert!(!ctl(&at, &["user", "list"]).ok().contains("ann"));
}

#[test]
fn the_audit_log_is_read_followed_and_verified() {
    let server = Server::start(&[]).unwrap();
    let at = admin(&server);
    for name in ["r1", "r2", "r3"] {
        ctl(&at, &["role", "create", name]).ok();
    }
    let created = |n: &str| {
        let lines =
            ctl(&at, &["audit", "tail", "-n", n, "--type", "rbac_create_role", "--output", "json"]).ok();
        let roles = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        roles.map(|event| event["details"]["role"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(created("2"), ["r2", "r3"]);
    assert_eq!(created("10"), ["r1", "r2", "r3"]);
    assert_eq!(ctl(&at, &["audit", "tail", "-n", "5"]).ok().lines().count(), 6);
    assert_eq!(ctl(&at, &["audit", "list", "--limit", "3"]).ok().lines().count(), 4);
    assert!(ctl(&at, &["audit", "verify"]).ok().contains("Last hash:"));

    let follow = ["audit", "tail", "-n", "0", "-f", "--type", "rbac_create_role"];
    let following = Process::spawn(program(&at, &follow)).unwrap();
    assert!(following.next_line().unwrap().unwrap().starts_with("TIME"));
    ctl(&at, &["role", "create", "r4"]).ok();
    assert!(following.next_line().unwrap().unwrap().contains("rbac_create_role"));
}

#[test]
fn backups_come_and_go() {
    let server = Server::start(&[]).unwrap();
    let at = admin(&server);
    let mut data = Connection::login(server.address()).unwrap();
    for key in ["a", "b", "c"] {
        data.call(&set_command(key, "before")).unwrap().unwrap();
    }
    let created = ctl(&at, &["backup", "create", "one.vdbk", "--output", "json"]).json();
    assert_eq!(created["backup"]["entryCount"], "3");
    assert!(ctl(&at, &["backup", "list"]).ok().contains("one.vdbk"));
    assert!(ctl(&at, &["backup", "verify", "one.vdbk"]).ok().contains("3 (3 live)"));
    let here = TempDir::new().unwrap();
    let file = here.path().join("copy");
    let file = file.to_str().unwrap();
    ctl(&at, &["backup", "download", "one.vdbk", file]).ok();
    ctl(&at, &["backup", "download", "one.vdbk", file]).failed(1, "is there already");
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 1, "a draft is left");

    let restored = |arguments: &[&str], data: &mut Connection| {
        data.call(&set_command("a", "after")).unwrap().unwrap();
        let outcome = ctl(&at, &[&["backup", "restore", "--yes"], arguments].concat());
        assert!(outcome.stderr.contains("replaced by the 3 entries"), "{outcome:?}");
        outcome.ok();
        let reply = data.call(&DataCommand::Get { key: "a".into() }).unwrap().unwrap();
        assert_eq!(reply, Reply::Value(b"before"[..].into()));
    };
    restored(&["one.vdbk"], &mut data);
    restored(&["--file", file], &mut data);
    ctl(&at, &["backup", "upload", file, "two.vdbk"]).ok();
    ctl(&at, &["backup", "delete", "one.vdbk", "--yes"]).ok();
    let left = ctl(&at, &["backup", "list", "--output", "json"]).json();
    let names: Vec<_> = left["backups"].as_array().unwrap().iter().map(|backup| &backup["name"]).collect();
    assert_eq!(names, ["two.vdbk"]);
    ctl(&at, &["backup", "verify", "three.vdbk"]).failed(1, "vaylixctl: ");
    ctl(&at, &["backup", "upload", "/nonexistent/file", "x"]).failed(1, "/nonexistent/file");
}

#[test]
fn damage_on_disk_is_shown_and_is_a_failure() {
    let server = Server::start(&["--wal-segment-size-bytes", "65536"]).unwrap();
    let at = admin(&server);
    let mut data = Connection::login(server.address()).unwrap();
    for number in 0..100 {
        data.call(&set_command(&format!("k{number}"), "v".repeat(2000))).unwrap().unwrap();
    }
    assert!(ctl(&at, &["status"]).ok().contains("Disk verified:   -"));
    let verified = ctl(&at, &["storage", "verify"]).ok();
    assert!(verified.contains("Findings:") && verified.contains("Segments:"), "{verified}");
    assert!(ctl(&at, &["status"]).ok().contains(", 0 findings"));

    let vote = server.data_dir().join("vote.bin");
    let whole = std::fs::read(&vote).unwrap();
    std::fs::write(&vote, &whole[..whole.len() - 1]).unwrap();
    let outcome = ctl(&at, &["storage", "verify"]);
    assert!(outcome.stdout.contains("ENG-007") && outcome.stdout.contains("vote.bin at "), "{outcome:?}");
    outcome.failed(1, "");
    let outcome = ctl(&at, &["storage", "verify", "--output", "json"]);
    let told: Vec<Value> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0]["finding"]["code"], "ENG-007");
    assert_eq!(told[1]["done"]["findingCount"], "1");
    std::fs::write(&vote, &whole).unwrap();
    ctl(&at, &["storage", "verify"]).ok();
}

#[test]
fn a_cluster_is_changed_as_planned_at_whoever_leads() {
    let mut cluster = Cluster::start(3, &[]).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    let at = |node: usize| cluster.admin_address(node).unwrap().to_string();
    let (second, third) = ((leader + 1) % 3, (leader + 2) % 3);

    // A follower sends it on, and an endpoint where nobody listens is passed over.
    ctl(&at(second), &["role", "create", "readers"]).ok();
    let all = format!("{},{},{}", nobody(), at(second), at(leader));
    let members = ctl(&all, &["members", "--output", "json"]).json();
    assert_eq!(members["members"].as_array().unwrap().len(), 3);
    let seen = ctl(&all, &["top", "--once"]).ok();
    assert!(seen.contains("follower") && seen.contains("leader") && seen.contains("cannot reach"), "{seen}");

    // A backup is restored by who leads, and from nowhere else.
    ctl(&at(leader), &["backup", "create", "all.vdbk"]).ok();
    ctl(&all, &["backup", "restore", "all.vdbk", "--yes"]).ok();
    ctl(&at(second), &["backup", "restore", "all.vdbk", "--yes"]).failed(1, "none of the endpoints leads");

    let transferred =
        ctl(&at(leader), &["leader", "transfer", &cluster::name(second), "--yes", "--output", "json"]).json();
    assert_eq!(transferred["done"], true);
    wait::within("it leads", PATIENCE, || cluster.leader().filter(|node| *node == second)).unwrap();

    let name = cluster::name(third);
    let plan = ctl(&at(second), &["member", "remove", &name, "--plan", "--output", "json"]).json();
    assert_eq!(plan["plan"]["after"]["voterCount"], 2);
    assert!(plan.get("done").is_none(), "{plan}");
    let removed = ctl(&at(leader), &["member", "remove", &name, "--yes"]);
    assert!(removed.stderr.contains("VOTERS") && removed.stderr.contains("warning: "), "{removed:?}");
    removed.ok();
    let members = ctl(&at(second), &["members", "--output", "json"]).json();
    let voters = members["members"].as_array().unwrap().iter().filter(|member| member["voter"] == true);
    assert_eq!(voters.count(), 2, "{members}");
    cluster.kill(third).unwrap();
}

#[test]
fn a_change_whose_answer_is_lost_is_not_repeated() {
    let server = Server::start(&[]).unwrap();
    let at = admin(&server);
    let other = Server::start(&[]).unwrap();
    server.signal("STOP").unwrap();
    let both = format!("{at},{}", admin(&other));
    ctl(&both, &["role", "create", "readers", "--timeout", "1"]).failed(4, "the outcome is unknown");
    assert!(!ctl(&admin(&other), &["role", "list"]).ok().contains("readers"));
    // What changes nothing may be asked elsewhere.
    ctl(&both, &["whoami", "--timeout", "1"]).ok();
    server.signal("CONT").unwrap();
}

#[test]
fn tls_is_spoken_to_who_proves_to_be_the_server() {
    let folder = TempDir::new().unwrap();
    let files = Directory::at(folder.path());
    let authority = Authority::new("the authority").unwrap();
    files.put(&authority.server("server", Validity::default()).unwrap()).unwrap();
    files.write("ca.pem", &authority.pem()).unwrap();
    files.write("other.pem", &Authority::new("another").unwrap().pem()).unwrap();
    let (cert, key) = (files.path("server.pem"), files.path("server.key"));
    let server = Server::start(&["--ssl", "--tls-cert", &cert, "--tls-key", &key]).unwrap();
    let at = admin(&server);
    assert!(
        ctl(&at, &["status", "--ssl", "--tls-ca-cert", &files.path("ca.pem")]).ok().contains("Certificate:")
    );
    ctl(&at, &["status", "--ssl", "--tls-ca-cert", &files.path("other.pem")]).failed(3, "ertificate");
    ctl(&at, &["status", "--tls-ca-cert", &files.path("ca.pem")]).failed(2, "--ssl");
}

#[test]
fn a_client_certificate_is_shown_and_says_who_we_are() {
    let folder = TempDir::new().unwrap();
    let files = Directory::at(folder.path());
    let authority = Authority::new("the authority").unwrap();
    files.put(&authority.server("server", Validity::default()).unwrap()).unwrap();
    files.write("ca.pem", &authority.pem()).unwrap();
    let client = authority.client_with_uri("somebody", "urn:vaylix:user:vaylix").unwrap();
    files.write("client.pem", &client.cert).unwrap();
    files.write("client.key", &client.key).unwrap();
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| files.path(name));
    let tls = ["--ssl", "--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let server = Server::start(&[&tls[..], &["--admin-cert-user", "uri"]].concat()).unwrap();
    let at = format!("localhost:{}", server.admin_address().unwrap().port());

    let trust = ["--ssl", "--tls-ca-cert", &ca];
    let (client_cert, client_key) = (files.path("client.pem"), files.path("client.key"));
    let show = ["--tls-cert", client_cert.as_str(), "--tls-key", client_key.as_str()];
    ctl(&at, &[&["status"], &trust[..]].concat()).failed(3, "cannot reach any endpoint");
    // Somebody who is named logs in with a password, whatever is shown.
    ctl(&at, &[&["whoami"], &trust[..], &show[..]].concat()).ok();
    let without_password = |arguments: &[&str]| {
        let mut command = program(&at, arguments);
        command.env_remove("VAYLIX_PASSWORD");
        command
    };
    let by_certificate = outcome(without_password(&[&["whoami"], &trust[..], &show[..]].concat())).ok();
    assert!(by_certificate.contains("vaylix"), "{by_certificate}");
    let seen = outcome(without_password(&[&["top", "--once"], &trust[..], &show[..]].concat())).ok();
    assert!(seen.contains("leader"), "{seen}");

    // The same from a context.
    let config = files.path("ctl.toml");
    let keep = [&["context", "set", "here", "--config", &config], &trust[..], &show[..]].concat();
    outcome(without_password(&keep)).ok();
    let mut command = Command::new(binary::CTL.path().unwrap());
    command.env_clear().args(["whoami", "--config", &config, "--output", "json"]).stdin(Stdio::null());
    assert_eq!(outcome(command).json()["user"], "vaylix");
}

#[test]
fn the_authorities_of_the_system_are_trusted_where_none_is_named() {
    let folder = TempDir::new().unwrap();
    let files = Directory::at(folder.path());
    let authority = Authority::new("the authority").unwrap();
    files.put(&authority.server("server", Validity::default()).unwrap()).unwrap();
    files.write("ca.pem", &authority.pem()).unwrap();
    let [cert, key] = ["server.pem", "server.key"].map(|name| files.path(name));
    let server = Server::start(&["--ssl", "--tls-cert", &cert, "--tls-key", &key]).unwrap();
    let at = format!("localhost:{}", server.admin_address().unwrap().port());
    ctl(&at, &["whoami", "--ssl"]).failed(3, "ertificate");
    let mut of_system = program(&at, &["whoami", "--ssl"]);
    of_system.env("SSL_CERT_FILE", files.path("ca.pem"));
    outcome(of_system).ok();
}

#[test]
fn a_status_that_is_watched_says_each_change_until_the_server_stops() {
    let mut server = Server::start(&[]).unwrap();
    let at = admin(&server);
    let mut watching = Process::spawn(program(&at, &["status", "--watch"])).unwrap();
    let next = |watching: &Process| watching.next_line().unwrap().unwrap();
    assert!(next(&watching).starts_with("TIME"));
    assert!(next(&watching).contains("leader"));
    ctl(&at, &["maintenance", "on"]).ok();
    assert!(next(&watching).contains("leader"), "one line for the change");
    assert!(server.stop("TERM").unwrap().success());
    let told = std::iter::from_fn(|| watching.next_line().unwrap()).collect::<Vec<_>>();
    assert_eq!(watching.wait().unwrap().code(), Some(1), "{told:?}");
    assert!(told.iter().any(|line| line.contains("vaylixctl: SRV-005 ")), "{told:?}");
}
