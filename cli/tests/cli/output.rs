//! What a client with a server prints, and how it ends.

use vaylix_proto::reply::QUEUED;
use vaylix_proto::{Code, Command, ErrorReply, NamedValue, Reply};

use crate::peer::{Act, Peer};
use crate::process::{Run, client};

/// A server with one key, `bin`, that knows transactions but executes nothing.
fn server() -> Peer {
    let mut in_transaction = false;
    Peer::start(move |command| {
        let refuse = |code, message: &'static str| Err(ErrorReply::new(code, message));
        Act::Answer(match command {
            Command::Auth { user, .. } if *user != "vaylix" => {
                refuse(Code::AuthenticationFailed, "client authentication failed")
            }
            Command::Auth { .. } => Ok(Reply::Ok),
            Command::Multi => {
                in_transaction = true;
                Ok(Reply::Ok)
            }
            Command::Exec => {
                in_transaction = false;
                Ok(Reply::Exec(vec![Reply::Ok, Reply::NotFound]))
            }
            _ if in_transaction => Ok(Reply::Value(QUEUED.into())),
            Command::Ping { message } => {
                Ok(Reply::Value(message.as_ref().map_or("PONG".into(), |message| message.as_bytes().clone())))
            }
            Command::Get { key } if *key == "bin" => Ok(Reply::Value(vec![0xff, 0x41].into())),
            Command::Get { .. } => Ok(Reply::NotFound),
            Command::List => {
                Ok(Reply::Entries(vec![NamedValue { name: "bin".into(), value: vec![0xff, 0x41].into() }]))
            }
            _ => refuse(Code::PermissionDenied, "permission denied"),
        })
    })
}

fn run(arguments: &[&str], input: &str) -> (Run, Vec<Command>) {
    let server = server();
    let port = server.port();
    let mut run = client(&[&["--port", &port], arguments].concat(), &[], input);
    for text in [&mut run.stdout, &mut run.stderr] {
        *text = text.replace(&port, "<port>");
    }
    (run, server.commands())
}

const STARTUP: &str = "[INFO] [client.startup] connecting to 127.0.0.1:<port> ssl=false\n\
                       [INFO] [client.startup] connection established\n";
const END: &str = "[INFO] [client.session] reached end of input\nExiting...\n";

#[track_caller]
fn check(arguments: &[&str], input: &str, stdout: &str, stderr: &str, status: i32) {
    let (run, _) = run(arguments, input);
    let expected = Run { stdout: stdout.to_owned(), stderr: stderr.to_owned(), status: Some(status) };
    assert_eq!(run, expected, "{arguments:?} {input:?}");
}

#[test]
fn a_script_prints_one_answer_per_line() {
    check(&[], "ping\r\n\r\n   \r\nget nope", &format!("{STARTUP}OK\nPONG\nNOT_FOUND\n{END}"), "", 0);
    check(&[], "", &format!("{STARTUP}OK\n{END}"), "", 0);
}

#[test]
fn exit_ends_a_script() {
    let (run, commands) = run(&[], "EXIT\nping never\n");
    assert_eq!(run.stdout, format!("{STARTUP}OK\n[INFO] [client.session] received local exit command\n"));
    assert_eq!(run.status, Some(0));
    assert_eq!(commands.len(), 1, "{commands:?}");
}

#[test]
fn an_unknown_word_does_not_swallow_the_rest() {
    check(
        &[],
        "ping one\nBogus x\n# comment\nset x \"open\nsave\nping two\n",
        &format!(
            "{STARTUP}OK\none\n\
             [CMD-002] Unknown Command: unknown command: bogus\n\
             [CMD-002] Unknown Command: unknown command: #\n\
             [CMD-008] Unterminated Quoted String: unterminated quoted string starting at byte 6\n\
             ERROR [SRV-017] Permission Denied: permission denied\n\
             two\n{END}"
        ),
        "",
        0,
    );
}

#[test]
fn the_first_error_can_end_a_script() {
    for (input, answer) in [
        ("ping one\nget\nping two\n", "[CMD-003] Invalid Command Arity: usage: get <key>"),
        ("ping one\nsave\nping two\n", "ERROR [SRV-017] Permission Denied: permission denied"),
    ] {
        check(&["--exit-on-error"], input, &format!("{STARTUP}OK\none\n{answer}\n"), "", 1);
    }
    let failed = "ERROR [SRV-008] Authentication Failed: client authentication failed\n";
    check(&["--exit-on-error", "--user", "bob"], "ping\n", &format!("{STARTUP}{failed}"), "", 1);
    check(&["--user", "bob"], "ping\n", &format!("{STARTUP}{failed}PONG\n{END}"), "", 0);
}

#[test]
fn without_auth_nothing_is_sent_by_itself() {
    let (run, commands) = run(&["--disable-auth"], "ping\n");
    assert_eq!(run.stdout, format!("{STARTUP}PONG\n{END}"));
    assert_eq!(commands, [Command::Ping { message: None }]);
}

#[test]
fn a_listing_with_binary_values_does_not_end_the_client() {
    check(&[], "list\nping\n", &format!("{STARTUP}OK\nbin=0xff41\nPONG\n{END}"), "", 0);
}

#[test]
fn json_output_has_its_log_beside_it() {
    let listing = "[\n  {\n    \"key\": \"bin\",\n    \"value\": \"0xff41\"\n  }\n]\n";
    check(
        &["--output", "json"],
        "list\nping\n",
        &format!("OK\n{listing}PONG\n"),
        &format!("{STARTUP}{END}"),
        0,
    );
}

#[test]
fn every_reply_can_be_a_document() {
    let documents = concat!(
        "{\"status\":\"ok\",\"type\":\"value\",\"value\":{\"base64\":\"/0E=\"}}\n",
        "{\"status\":\"ok\"}\n",
        "{\"status\":\"queued\"}\n",
        "{\"status\":\"queued\"}\n",
        "{\"status\":\"ok\",\"type\":\"exec\",\"value\":[{\"status\":\"ok\"},{\"status\":\"not_found\"}]}\n",
        "{\"status\":\"ok\",\"type\":\"value\",\"value\":\"QUEUED\"}\n",
        "{\"status\":\"error\",\"code\":\"CMD-002\",\"name\":\"Unknown Command\",\"message\":\"unknown command: bogus\"}\n",
    );
    let input = "get bin\nmulti\nlist\nget bin\nexec\nping QUEUED\nbogus\n";
    check(&["--json-replies"], input, documents, &format!("{STARTUP}{END}"), 0);
    check(
        &["--json-replies", "--user", "bob"],
        "",
        "",
        &format!("{}ERROR [SRV-008] Authentication Failed: client authentication failed\n{END}", STARTUP),
        0,
    );
}

#[test]
fn one_command_prints_its_answer_only() {
    check(&["--", "ping", "two words"], "", "two words\n", "", 0);
    check(&["--", "get", "nope"], "", "NOT_FOUND\n", "", 0);
    check(&["--", "save"], "", "", "ERROR [SRV-017] Permission Denied: permission denied\n", 1);
    check(
        &["--json-replies", "--", "save"],
        "",
        "{\"status\":\"error\",\"code\":\"SRV-017\",\"name\":\"Permission Denied\",\"message\":\"permission denied\"}\n",
        "",
        1,
    );
    check(
        &["--user", "bob", "--", "ping"],
        "",
        "",
        "ERROR [SRV-008] Authentication Failed: client authentication failed\n",
        1,
    );
}

#[test]
fn a_password_can_come_from_standard_input() {
    let (run, commands) = run(&["--password-stdin"], "s e\"cret\r\nping\n");
    assert_eq!(run.stdout, format!("{STARTUP}OK\nPONG\n{END}"));
    assert_eq!(commands[0], Command::Auth { user: "vaylix".into(), password: "s e\"cret".into() });
}

#[test]
fn a_lost_connection_ends_a_script() {
    let server = Peer::start(|command| match command {
        Command::Auth { .. } => Act::Answer(Ok(Reply::Ok)),
        _ => Act::HangUp,
    });
    let run = client(&["--port", &server.port()], &[], "ping\nping\n");
    assert_eq!(server.commands().len(), 2);
    let lost = "transport failure: i/o error: the server closed the connection";
    assert_eq!(run.stderr, format!("[TRN-013] Transport I/O Failure: {lost}\n"));
    assert_eq!(run.status, Some(1));
}

#[test]
fn a_url_that_is_not_understood_is_mentioned() {
    let server = server();
    let url = format!("vaylix://vaylix:x@127.0.0.1:{}?tls=on", server.port());
    let run = client(&["--url", &url, "--", "ping"], &[], "");
    assert_eq!(run.stderr, "[WARN] [client.config] unknown URL parameter: tls\n");
    assert_eq!((run.stdout.as_str(), run.status), ("PONG\n", Some(0)));
}
