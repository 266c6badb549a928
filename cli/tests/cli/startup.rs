//! Options, configuration errors and connections that do not come about. No server answers here.

use std::net::TcpListener;

use crate::process::{Run, client};

fn fails(arguments: &[&str], stderr: &str) {
    let run = client(arguments, &[], "ping\n");
    assert_eq!(
        run,
        Run { stdout: String::new(), stderr: format!("{stderr}\n"), status: Some(1) },
        "{arguments:?}"
    );
}

/// A port that refuses connections, as long as nobody else takes it.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn contradictory_settings() {
    let invalid = "[CLI-008] Invalid Client Configuration: invalid client configuration:";
    fails(&["--url", "http://x"], &format!("{invalid} unsupported URL scheme"));
    fails(&["--tls-ca-cert", "ca.pem"], &format!("{invalid} tls_ca_cert requires --ssl"));
    fails(&["--ask-password"], &format!("{invalid} --ask-password needs a terminal; use --password-stdin"));
    fails(
        &["--url", "vaylix://h:99999"],
        "[CLI-003] Filesystem I/O Failure: filesystem I/O failed: invalid port number",
    );
}

#[test]
fn wrong_options() {
    let run = client(&["--output", "xml"], &[], "");
    assert_eq!(run.stdout, "");
    assert_eq!(
        run.stderr,
        "error: invalid value 'xml' for '--output <OUTPUT>'\n  [possible values: plain, table, json]\n\n\
         For more information, try '--help'.\n"
    );
    assert_eq!(run.status, Some(2));
    assert_eq!(client(&["--frobnicate"], &[], "").status, Some(2));

    let run = client(&[], &[("VAYLIX_PORT", "many")], "");
    assert!(run.stderr.contains("invalid value 'many' for environment variable VAYLIX_PORT"), "{run:?}");
    assert_eq!(run.status, Some(2));
}

#[test]
fn help_and_version() {
    let run = client(&["--version"], &[], "");
    assert_eq!(run.stdout, format!("vaylix-client {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run.status, Some(0));
    let run = client(&["--help"], &[], "");
    assert!(run.stdout.contains("--tls-client-key <FILE>"), "{run:?}");
    assert_eq!(run.status, Some(0));
}

#[test]
fn nobody_listens() {
    let port = closed_port().to_string();
    for (arguments, environment) in
        [(vec!["--port", &port], vec![]), (vec![], vec![("VAYLIX_PORT", port.as_str())])]
    {
        let run = client(&arguments, &environment, "ping\n");
        assert_eq!(
            run,
            Run {
                stdout: format!("[INFO] [client.startup] connecting to 127.0.0.1:{port} ssl=false\n"),
                stderr: format!(
                    "[CLI-003] Filesystem I/O Failure: filesystem I/O failed: failed to connect to \
                     127.0.0.1:{port}: Connection refused (os error 111)\n"
                ),
                status: Some(1),
            }
        );
    }
}

#[test]
fn the_server_hangs_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Taking the greeting first makes this an orderly end instead of a reset.
        std::io::Read::read(&mut stream, &mut [0; 1024]).unwrap();
    });
    let run = client(&["--port", &port], &[], "ping\n");
    peer.join().unwrap();
    let lost = "transport failure: i/o error: the server closed the connection";
    assert_eq!(run.stderr, format!("[TRN-013] Transport I/O Failure: {lost}\n"));
    assert_eq!(run.status, Some(1));
}

#[test]
fn one_command_is_parsed_before_connecting() {
    let port = closed_port().to_string();
    let run = client(&["--port", &port, "--", "get"], &[], "");
    assert_eq!(run.stderr, "[CMD-003] Invalid Command Arity: usage: get <key>\n");
    assert_eq!((run.stdout.as_str(), run.status), ("", Some(1)));

    let run = client(&["--port", &port, "--json-replies", "--", "get"], &[], "");
    assert_eq!(
        run.stdout,
        "{\"status\":\"error\",\"code\":\"CMD-003\",\"name\":\"Invalid Command Arity\",\
         \"message\":\"usage: get <key>\"}\n"
    );
    assert_eq!((run.stderr.as_str(), run.status), ("", Some(1)));

    let run = client(&["--port", &port, "--", "help"], &[], "");
    assert!(run.stdout.starts_with("Vaylix command help\n\ncommand "), "{run:?}");
    assert_eq!(run.status, Some(0));

    let run = client(&["--port", &port, "--", "get", "k"], &[], "");
    assert_eq!((run.stdout.as_str(), run.status), ("", Some(1)));
    assert!(run.stderr.starts_with("[CLI-003]"), "{run:?}");
}
