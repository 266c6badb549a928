//! TLS and mTLS with real programs: ours, and OpenSSL's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod tls_support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;
use vaylix_proto::{Command as Request, Reply};
use vaylix_testkit::certificates::{Authority, DAY, Pair, Validity};
use vaylix_testkit::process::Process;
use vaylix_testkit::wire::set_command;
use vaylix_testkit::{Server, binary, server, session, wait};

use tls_support::{Client, Site};

/// What a program said, both ways, and its exit status.
fn run(mut command: Command) -> (String, Option<i32>) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.code())
}

/// Runs our client for one command.
fn client(server: &Server, flags: &[&str], words: &[&str]) -> (String, Option<i32>) {
    let mut command = session::command(flags).unwrap();
    command.arg("--port").arg(server.address().port().to_string()).arg("--").args(words);
    run(command)
}

fn healthcheck(server: &Server, flags: &[&str], environment: &[(&str, &str)]) -> (String, Option<i32>) {
    let mut command = Command::new(binary::SERVER.path().unwrap());
    command.args(["healthcheck", "--port", &server.address().port().to_string()]).args(flags);
    command.envs(environment.iter().copied());
    run(command)
}

/// A TLS connection by OpenSSL, with these flags more. What it says of the connection, and its exit status.
fn openssl(server: &Server, flags: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.address().to_string(), "-verify_return_error"]).args(flags);
    run(command)
}

/// Whether this is the certificate in what OpenSSL said.
fn shows(said: &str, pair: &Pair) -> bool {
    let body = |pem: &str| -> Option<String> {
        let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
        Some(rest.split_once("-----END CERTIFICATE-----")?.0.split_whitespace().collect())
    };
    body(said).is_some() && body(said) == body(&pair.cert)
}

fn reloads(server: &Server) -> Vec<Value> {
    let text = fs::read_to_string(server.data_dir().join("audit.log")).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event_type"] == "tls_reload").collect()
}

#[test]
fn our_client_speaks_tls_and_says_what_to_do_when_the_other_side_does_not() {
    let site = Site::new();
    let server = site.start(&[]);
    let log = server.startup_log().join("\n");
    assert!(log.contains("--ssl"), "the command to connect with: {log}");
    let ca = site.path("ca.pem");
    let trusting = ["--ssl", "--tls-ca-cert", &ca];
    assert_eq!(client(&server, &trusting, &["set", "k", "v"]), ("OK\n".to_owned(), Some(0)));
    assert_eq!(client(&server, &trusting, &["get", "k"]), ("v\n".to_owned(), Some(0)));

    let (said, status) = client(&server, &[], &["get", "k"]);
    assert!(status == Some(1) && said.starts_with("[TRN-014] ") && said.contains("--ssl"), "{said}");
    let (said, status) = client(&server, &["--ssl"], &["get", "k"]);
    assert!(status == Some(1) && said.contains("--tls-ca-cert"), "an authority nobody knows: {said}");
    let plain = Server::start(&[]).unwrap();
    let (said, status) = client(&plain, &trusting, &["get", "k"]);
    assert!(status == Some(1) && said.starts_with("[TRN-013] "), "{said}");
    assert!(said.contains("connect without --ssl"), "{said}");
    // Another server on the port.
    let (said, status) = client(&server, &["--ssl", "--tls-ca-cert", &ca, "--host", "127.0.0.2"], &["ping"]);
    assert!(status == Some(1), "{said}");
}

#[test]
fn versions_are_1_2_and_1_3() {
    let site = Site::new();
    let server = site.start(&[]);
    let ca = site.path("ca.pem");
    for (flag, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (said, status) = openssl(&server, &["-CAfile", &ca, flag]);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("Verify return code: 0 (ok)") && said.contains(name), "{said}");
        assert!(shows(&said, &site.pair()), "{said}");
    }
    for flag in ["-tls1_1", "-tls1"] {
        // OpenSSL would not even offer them by itself.
        let (said, status) = openssl(&server, &["-CAfile", &ca, flag, "-cipher", "DEFAULT@SECLEVEL=0"]);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("SSL alert number"), "{said}");
    }
}

#[test]
fn clients_prove_themselves_where_they_must() {
    let site = Site::new();
    let clients = Authority::new("clients").unwrap();
    site.write("clients.pem", &clients.pem());
    let server = site.start(&["--tls-client-ca", &site.path("clients.pem")]);
    let put = |name: &str, pair: &Pair| {
        site.write(&format!("{name}.pem"), &pair.cert);
        site.write(&format!("{name}.key"), &pair.key);
    };
    put("good", &clients.client("good", Validity::default()).unwrap());
    put("stranger", &Authority::new("clients").unwrap().client("stranger", Validity::default()).unwrap());
    let over = Validity { from: SystemTime::now() - 2 * DAY, to: SystemTime::now() - DAY };
    put("expired", &clients.client("expired", over).unwrap());
    let coming = Validity { from: SystemTime::now() + DAY, to: SystemTime::now() + 2 * DAY };
    put("coming", &clients.client("coming", coming).unwrap());

    let (ca, cert) = (site.path("ca.pem"), |name: &str| site.path(name));
    let with = |name: &str| {
        let (pem, key) = (cert(&format!("{name}.pem")), cert(&format!("{name}.key")));
        let flags = ["--ssl", "--tls-ca-cert", &ca, "--tls-client-cert", &pem, "--tls-client-key", &key];
        client(&server, &flags, &["set", "k", "v"])
    };
    assert_eq!(with("good"), ("OK\n".to_owned(), Some(0)));
    for name in ["stranger", "expired", "coming"] {
        let (said, status) = with(name);
        assert!(status == Some(1) && said.contains("a certificate it trusts"), "{name}: {said}");
        server.logs("SRV-011").unwrap();
    }
    let (said, status) = client(&server, &["--ssl", "--tls-ca-cert", &ca], &["ping"]);
    assert!(status == Some(1) && said.contains("a certificate it trusts"), "{said}");
    server.logs("SRV-011").unwrap();
    // With TLS 1.3 a client is done before the server has judged it, and OpenSSL may be gone by then: our client
    // above waits for the verdict.
    for (version, hears) in [("-tls1_2", true), ("-tls1_3", false)] {
        let (said, _) = openssl(&server, &["-CAfile", &ca, version]);
        assert!(!hears || said.contains("SSL alert number"), "{said}");
        server.logs("SRV-011").unwrap();
    }

    // The certificate opens the door to the door: who it is, only the login says.
    let identity = (site.path("good.pem"), site.path("good.key"));
    let mut visitor = Client::connect(&server, &site, Some(identity.clone()));
    assert_eq!(visitor.call(&Request::DbSize).unwrap_err().code, "SRV-007");
    let mut user = Client::login(&server, &site, Some(identity));
    assert_eq!(user.metric("vaylix.server.tls.handshake.failure.count"), 6);
    assert_eq!(user.info("security.mtls_enabled"), "true");
}

#[test]
fn what_cannot_be_used_is_refused_at_the_start_and_touches_nothing() {
    let site = Site::new();
    let now = SystemTime::now();
    let parent = TempDir::new().unwrap();
    let data_dir = parent.path().join("data");
    let start = |flags: &[&str]| {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        run(server::command(&data_dir, &flags).unwrap())
    };
    let (cert, key) = (site.path("server.pem"), site.path("server.key"));
    let refused = |flags: &[&str], message: &str| {
        let (said, status) = start(flags);
        assert_eq!(status, Some(1), "{said}");
        let name = "[SRV-010] TLS Configuration Invalid: TLS configuration is invalid: ";
        assert!(said.starts_with(name) && said.contains(message), "{message}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!data_dir.exists());
    };
    let whole = ["--ssl", "--tls-cert", &cert, "--tls-key", &key];
    refused(&["--ssl"], "--ssl needs --tls-cert and --tls-key");
    refused(&["--ssl", "--tls-cert", &cert], "--ssl needs --tls-cert and --tls-key");
    refused(&["--ssl", "false", "--tls-cert", &cert], "need --ssl");
    assert_eq!(start(&["--tls-cert", &cert]).1, Some(2), "a usage error");
    let of_a_server = |arguments: &[&str]| {
        let mut command = Command::new(binary::SERVER.path().unwrap());
        command.args(arguments).env("VAYLIX_TLS_CERT", &cert).env_remove("VAYLIX_SSL");
        run(command)
    };
    let (said, status) = of_a_server(&["--port", "0", "--data-dir", data_dir.to_str().unwrap()]);
    assert!(status == Some(1) && said.contains("[SRV-010]") && said.contains("need --ssl"), "{said}");
    let (said, status) = of_a_server(&["audit", "verify", "--data-dir", data_dir.to_str().unwrap()]);
    assert!(status == Some(1) && !said.contains("--ssl"), "the tools do not serve: {said}");
    refused(&["--ssl", "--tls-cert", &site.path("gone.pem"), "--tls-key", &key], "gone.pem cannot be read");
    refused(&["--ssl", "--tls-cert", &key, "--tls-key", &key], "server.key contains no certificate");
    refused(&["--ssl", "--tls-cert", &cert, "--tls-key", &cert], "server.pem contains no private key");
    let other = site.authority.server("other", Validity::default()).unwrap();
    site.write("other.key", &other.key);
    refused(&["--ssl", "--tls-cert", &cert, "--tls-key", &site.path("other.key")], "does not belong to");
    let empty = [&whole[..], &["--tls-client-ca", &key]].concat();
    refused(&empty, "server.key contains no certificate");
    for (from, to, message) in [
        (now - 2 * DAY, now - Duration::from_secs(2), "expired at "),
        (now + Duration::from_secs(60), now + DAY, "is not valid before "),
    ] {
        site.put(&site.authority.server("times", Validity { from, to }).unwrap());
        refused(&whole, message);
    }
}

#[test]
fn default_credentials_serve_no_network_with_tls_either() {
    let site = Site::new();
    let server = site.start(&["--bind", "0.0.0.0"]);
    let log = server.startup_log().join("\n");
    assert!(log.contains("generated"), "{log}");
    let mut visitor = Client::connect(&server, &site, None);
    let login = Request::Auth { user: "vaylix".into(), password: "vaylix".into() };
    assert_eq!(visitor.call(&login).unwrap_err().code, "SRV-008");
}

#[test]
fn a_new_certificate_is_shown_after_a_signal_and_old_connections_stay() {
    let site = Site::new();
    let server = site.start(&[]);
    let mut early = Client::login(&server, &site, None);
    let before = site.pair();
    assert_eq!(early.info("security.cert_days_remaining"), "364");
    assert_eq!(early.info("security.last_tls_reload_success_at_ms"), "none");
    assert_eq!(early.info("security.tls_mode"), "tls");

    let after =
        site.authority.server("after", Validity::for_another(20 * DAY - Duration::from_secs(60))).unwrap();
    site.put(&after);
    server.signal("HUP").unwrap();
    server.logs("were read again").unwrap();
    let (said, _) = openssl(&server, &["-CAfile", &site.path("ca.pem")]);
    assert!(shows(&said, &after) && !shows(&said, &before), "{said}");
    // So few days are told of.
    let warning = server.logs("expires soon").unwrap();
    assert!(warning.contains("days=19"), "{warning}");
    assert_eq!(early.call(&set_command("k", "v")).unwrap(), Reply::Ok);
    assert_eq!(early.info("security.cert_days_remaining"), "19");
    assert!(early.info("security.cert_subject").contains("CN=after"));
    assert_ne!(early.info("security.last_tls_reload_success_at_ms"), "none");
    assert_eq!(early.info("security.last_tls_reload_failure_at_ms"), "none");
    let not_after_s = early.info("security.cert_not_after_ms").parse::<u64>().unwrap() / 1000;
    assert_eq!(early.metric("vaylix.server.tls.certificate.not.after"), not_after_s);
    let remaining = early.metric("vaylix.server.tls.certificate.remaining");
    assert!((19 * DAY.as_secs()..20 * DAY.as_secs()).contains(&remaining), "{remaining}");
    let Reply::Value(prom) = early.call(&Request::MetricsProm).unwrap() else { panic!("no text") };
    let line = format!("\nvaylix_server_tls_certificate_not_after {not_after_s}\n");
    assert!(String::from_utf8(prom.to_vec()).unwrap().contains(&line));
    let event = wait::until("the event", || reloads(&server).pop());
    assert_eq!(event["details"], serde_json::json!({"result": "ok"}));
    assert_eq!((&event["opcode"], &event["status"]), (&"RUNTIME".into(), &"ok".into()));
}

#[test]
fn what_cannot_be_used_later_leaves_everything_as_it_is() {
    let site = Site::new();
    let server = site.start(&["--tls-client-ca", &site.path("ca.pem")]);
    let identity = (site.path("server.pem"), site.path("server.key"));
    site.write("mine.pem", &site.pair().cert);
    site.write("mine.key", &site.pair().key);
    let identity_kept = (site.path("mine.pem"), site.path("mine.key"));
    let mut client = Client::login(&server, &site, Some(identity));
    let first = site.pair();
    let shown = |pair: &Pair| {
        let (cert, key) = (&identity_kept.0, &identity_kept.1);
        let (said, _) = openssl(&server, &["-CAfile", &site.path("ca.pem"), "-cert", cert, "-key", key]);
        shows(&said, pair)
    };
    // By a signal, a key that does not belong to the certificate.
    let second = site.authority.server("second", Validity::default()).unwrap();
    site.write("server.key", &second.key);
    server.signal("HUP").unwrap();
    let line = server.logs("the certificate was not replaced").unwrap();
    assert!(line.contains("SRV-010") && line.contains("does not belong to"), "{line}");
    assert!(shown(&first));
    assert_eq!(client.metric("vaylix.server.tls.reload.failure.count"), 1);
    assert_ne!(client.info("security.last_tls_reload_failure_at_ms"), "none");

    // With the rest of the pair everything is there, and nobody has to say so.
    site.write("server.pem", &second.cert);
    server.logs("were read again").unwrap();
    assert!(shown(&second));
    // A file that goes away is a failure of the three together, told of once.
    fs::remove_file(site.path("ca.pem")).unwrap();
    let line = server.logs("the certificate was not replaced").unwrap();
    assert!(line.contains("ca.pem cannot be read"), "{line}");
    site.write("ca.pem", &site.authority.pem());
    let expired = Validity { from: SystemTime::now() - 2 * DAY, to: SystemTime::now() - DAY };
    site.put(&site.authority.server("expired", expired).unwrap());
    let line = server.logs("the certificate was not replaced").unwrap();
    assert!(line.contains("expired at"), "{line}");
    assert!(shown(&second));
    assert_eq!(client.call(&Request::Ping { message: None }).unwrap(), Reply::Value("PONG".into()));
    assert_eq!(client.metric("vaylix.server.tls.reload.failure.count"), 3);
    assert_eq!(client.metric("vaylix.server.tls.reload.success.count"), 1);
    let events = wait::until("four events", || Some(reloads(&server)).filter(|events| events.len() == 4));
    for (event, result) in events.iter().zip(["error", "ok", "error", "error"]) {
        assert_eq!(event["details"]["result"], result);
        let code = if result == "error" { Value::from("SRV-010") } else { Value::Null };
        assert_eq!(event["details"]["error_code"], code);
    }
}

/// A secret that an orchestrator mounts: the names are links into a directory that is a link itself, and only that
/// one changes.
#[test]
fn a_mounted_secret_that_is_swapped_is_noticed() {
    let site = Site::new();
    let mount = site.dir().join("mount");
    let version = |name: &str, pair: &Pair| {
        let directory = mount.join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("tls.crt"), &pair.cert).unwrap();
        fs::write(directory.join("tls.key"), &pair.key).unwrap();
    };
    version("..1", &site.pair());
    std::os::unix::fs::symlink("..1", mount.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), mount.join(name)).unwrap();
    }
    let (cert, key) = (mount.join("tls.crt"), mount.join("tls.key"));
    let flags = ["--ssl", "--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let server = Server::start(&flags).unwrap();
    let second = site.authority.server("second", Validity::default()).unwrap();
    version("..2", &second);
    std::os::unix::fs::symlink("..2", mount.join("..new")).unwrap();
    fs::rename(mount.join("..new"), mount.join("..data")).unwrap();
    server.logs("were read again").unwrap();
    let (said, _) = openssl(&server, &["-CAfile", &site.path("ca.pem")]);
    assert!(shows(&said, &second), "{said}");
}

#[test]
fn health_is_asked_for_over_tls() {
    let site = Site::new();
    let server = site.start(&[]);
    let fine = (String::new(), Some(0));
    let ca = site.path("ca.pem");
    assert_eq!(healthcheck(&server, &["--ssl"], &[]), fine, "on the same machine");
    // As in a container, where the environment configures the server.
    assert_eq!(healthcheck(&server, &[], &[("VAYLIX_SSL", "true")]), fine);
    let login = ["--kind", "readiness", "--user", "vaylix", "--password", "vaylix"];
    let all = [&["--ssl", "--tls-ca-cert", &ca], &login[..]].concat();
    assert_eq!(healthcheck(&server, &all, &[]), fine);
    let stranger = Authority::new("stranger").unwrap();
    site.write("stranger.pem", &stranger.pem());
    let (said, status) = healthcheck(&server, &["--ssl", "--tls-ca-cert", &site.path("stranger.pem")], &[]);
    assert!(status == Some(1) && said.starts_with("[TRN-013] "), "{said}");
    let (said, status) = healthcheck(&server, &[], &[]);
    assert!(status == Some(1) && said.contains("--ssl"), "{said}");

    let demanding = site.start(&["--tls-client-ca", &ca]);
    let (said, status) = healthcheck(&demanding, &["--ssl"], &[]);
    assert!(status == Some(1) && said.contains("a certificate it trusts"), "{said}");
    let (cert, key) = (site.path("server.pem"), site.path("server.key"));
    let identity = ["--ssl", "--tls-client-cert", &cert, "--tls-client-key", &key];
    assert_eq!(healthcheck(&demanding, &identity, &[]), fine);
    let surroundings = [
        ("VAYLIX_SSL", "true"),
        ("VAYLIX_TLS_CERT", &cert),
        ("VAYLIX_TLS_KEY", &key),
        ("VAYLIX_TLS_CLIENT_CA", &ca),
    ];
    assert_eq!(healthcheck(&demanding, &[], &surroundings), fine);
}

/// Twenty reloads, by signal and by change, while many write and others come and go: nobody notices.
#[test]
fn reloads_under_load_lose_no_connection() {
    const WRITERS: usize = 8;
    const RELOADS: u64 = 20;
    let site = Site::new();
    let server = site.start(&[]);
    let load = tls_support::Load::start(&server, &site, WRITERS);
    load.advances();
    let mut watcher = Client::login(&server, &site, None);
    for number in 1..=RELOADS {
        let pair = site.authority.server(&format!("number {number}"), Validity::default()).unwrap();
        site.put(&pair);
        if number % 2 == 0 {
            server.signal("HUP").unwrap();
        }
        wait::until("the new certificate in INFO", || {
            watcher.info("security.cert_subject").contains(&format!("number {number}")).then_some(())
        });
        load.advances();
    }
    assert!(watcher.metric("vaylix.server.tls.reload.success.count") >= RELOADS);
    assert_eq!(watcher.metric("vaylix.server.tls.reload.failure.count"), 0);
    assert_eq!(watcher.metric("vaylix.server.tls.handshake.failure.count"), 0);
    let written = load.stop();
    assert_eq!(written.len(), WRITERS);
    for (writer, count) in written.into_iter().enumerate() {
        let value = watcher.call(&Request::Get { key: format!("w{writer}").into() }).unwrap();
        assert_eq!(value, Reply::Value(count.to_string().into()), "the last acknowledged write of {writer}");
    }
}

/// What TLS holds back for a client that does not read is bounded like what the server itself does.
#[test]
fn slow_readers_over_tls_are_bounded() {
    const READERS: u64 = 16;
    /// Answers up to the mark of 256 KiB and one of 200,000 bytes, the same encrypted, and the buffers for reading.
    const HELD_BYTES_MAX: u64 = 2 << 20;
    let site = Site::new();
    let server = site.start(&["--disable-auth"]);
    let mut ordinary = Client::connect(&server, &site, None);
    assert_eq!(ordinary.call(&set_command("large", vec![7; 200_000])), Ok(Reply::Ok));
    let before = server.resident_bytes().unwrap();
    let readers =
        tls_support::SlowReaders::start(&server, &site, READERS, &Request::Get { key: "large".into() });
    let mut largest = 0;
    // Until nobody can send any more, because nothing is taken any more.
    let sent = wait::until("the readers are held up", || {
        assert_eq!(ordinary.call(&Request::Ping { message: None }), Ok(Reply::Value("PONG".into())));
        largest = largest.max(server.resident_bytes().unwrap());
        readers.held_up()
    });
    assert!(sent > 1000 * READERS, "{sent} requests");
    let bound = before + 2 * READERS * HELD_BYTES_MAX + (16 << 20);
    assert!(largest < bound, "{} MiB resident, {} before", largest >> 20, before >> 20);
}

#[test]
fn a_certificate_that_ends_is_told_of() {
    let site = Site::new();
    site.put(&site.authority.server("short", Validity::for_another(Duration::from_secs(8))).unwrap());
    let server = site.start(&[]);
    let warning = server.logs("expires soon").unwrap();
    assert!(warning.contains("days=0"), "{warning}");
    let line = server.logs("the certificate has expired").unwrap();
    assert!(line.contains("SRV-010"), "{line}");
    // Whoever looks at certificates refuses it; the server goes on.
    let (said, status) = client(&server, &["--ssl", "--tls-ca-cert", &site.path("ca.pem")], &["ping"]);
    assert!(status == Some(1) && said.contains("xpired"), "{said}");
    site.put(&site.authority.server("long", Validity::default()).unwrap());
    server.logs("were read again").unwrap();
    let (said, status) = client(&server, &["--ssl", "--tls-ca-cert", &site.path("ca.pem")], &["ping"]);
    assert_eq!((&*said, status), ("PONG\n", Some(0)));
}

#[test]
fn a_hangup_during_a_start_is_not_lost_and_not_the_end() {
    let site = Site::new();
    let mut process =
        Process::spawn(server::command(&site.dir().join("data"), &site.flags()).unwrap()).unwrap();
    // The first line comes before the files are followed.
    let first = process.next_line().unwrap().expect("a line");
    process.signal("HUP").unwrap();
    let mut log = vec![first];
    while !log.last().unwrap().contains("were read again") {
        log.push(process.next_line().unwrap().unwrap_or_else(|| panic!("the server ended: {log:?}")));
    }
    process.signal("TERM").unwrap();
    assert!(process.wait().unwrap().success());
}
