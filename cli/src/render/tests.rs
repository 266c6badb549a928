//! The texts that scripts rely on, and the JSON documents.

use bytes::Bytes;
use vaylix_proto::ScanPage;
use vaylix_proto::reply::QUEUED;

use super::*;

const PIPE: Renderer = Renderer { output: Output::Plain, json_replies: false, terminal: false };

fn value(text: &'static str) -> Reply {
    Reply::Value(Bytes::from_static(text.as_bytes()))
}

fn binary() -> Bytes {
    Bytes::from_static(&[0xff, 0x41, 0xfe])
}

fn entry(name: &'static str, value: impl Into<Bytes>) -> NamedValue {
    NamedValue { name: name.into(), value: value.into() }
}

fn health() -> Reply {
    Reply::Entries(vec![
        entry("status", "ready"),
        entry("ready", "true"),
        entry("reason", "none"),
        entry("role", "standalone"),
        entry("maintenance_mode", "false"),
    ])
}

#[track_caller]
fn check(renderer: Renderer, reply: Reply, expected: &str) {
    assert_eq!(renderer.answer(&Command::Info, &Ok(reply), false), expected);
}

#[track_caller]
fn check_json(reply: Reply, expected: &str) {
    check(Renderer { json_replies: true, ..PIPE }, reply, expected);
}

#[test]
fn scalars() {
    check(PIPE, Reply::Ok, "OK");
    check(PIPE, Reply::NotFound, "NOT_FOUND");
    check(PIPE, value("hello"), "hello");
    check(PIPE, value(""), "");
    check(PIPE, value("say \"hi\"\n\\ é"), "say \"hi\"\n\\ é");
    check(PIPE, Reply::Value(binary()), "0xff41fe");
    check(PIPE, Reply::Bool(true), "true");
    check(PIPE, Reply::Count(u64::MAX), "18446744073709551615");
    check(PIPE, Reply::Integer(-2), "-2");
}

#[test]
fn lists_and_pages() {
    let slots = || vec![Some("one".into()), None, Some(binary())];
    check(PIPE, Reply::Strings(slots()), "one, (nil), 0xff41fe");
    check(PIPE, Reply::Strings(vec![]), "");
    let page = |next_cursor, keys: &[&'static str]| {
        Reply::Scan(ScanPage { next_cursor, keys: keys.iter().map(|&key| key.into()).collect() })
    };
    check(PIPE, page(3, &["a", "b", "c"]), "cursor=3, keys=[a, b, c]");
    check(PIPE, page(0, &[]), "cursor=0, keys=[(empty)]");
    check(PIPE, Reply::Exec(vec![page(0, &[])]), "cursor=0, keys=[]");
}

#[test]
fn transactions_know_one_form_for_entries() {
    let results = || {
        Reply::Exec(vec![
            Reply::Ok,
            Reply::NotFound,
            Reply::Entries(vec![entry("b", binary()), entry("a", "1")]),
            Reply::Strings(vec![None]),
        ])
    };
    for output in [Output::Plain, Output::Table, Output::Json] {
        check(Renderer { output, ..PIPE }, results(), "OK\nNOT_FOUND\nb=0xff41fe, a=1\n(nil)");
    }
    check(PIPE, Reply::Exec(vec![]), "");
}

#[test]
fn entries_plain() {
    check(PIPE, health(), "maintenance_mode=false, ready=true, reason=none, role=standalone, status=ready");
    check(PIPE, Reply::Entries(vec![]), "");
    check(PIPE, Reply::Entries(vec![entry("k", binary())]), "k=0xff41fe");
}

#[test]
fn entries_as_table() {
    let table = Renderer { output: Output::Table, ..PIPE };
    check(
        table,
        health(),
        concat!(
            "key              | value     \n",
            "-----------------+-----------\n",
            "maintenance_mode | false     \n",
            "ready            | true      \n",
            "reason           | none      \n",
            "role             | standalone\n",
            "status           | ready     ",
        ),
    );
    check(table, Reply::Entries(vec![]), "key | value\n----+------");
    check(table, Reply::Strings(vec![None]), "(nil)");
}

#[test]
fn entries_as_json() {
    let json = Renderer { output: Output::Json, ..PIPE };
    check(
        json,
        Reply::Entries(vec![entry("quote", "say \"hi\"\n\\ é"), entry("bin", binary())]),
        r#"[
  {
    "key": "bin",
    "value": "0xff41fe"
  },
  {
    "key": "quote",
    "value": "say \"hi\"\n\\ é"
  }
]"#,
    );
    check(json, Reply::Entries(vec![]), "[]");
    check(json, Reply::Integer(1), "1");
}

#[test]
fn errors() {
    let refusal = Err(ErrorReply::new(Code::PermissionDenied, "permission denied"));
    assert_eq!(
        PIPE.answer(&Command::Info, &refusal, false),
        "ERROR [SRV-017] Permission Denied: permission denied"
    );
    assert_eq!(
        PIPE.failure(Code::InvalidCommandArity, "usage: get <key>"),
        "[CMD-003] Invalid Command Arity: usage: get <key>"
    );
    let json = Renderer { json_replies: true, ..PIPE };
    let document =
        r#"{"status":"error","code":"SRV-017","name":"Permission Denied","message":"permission denied"}"#;
    assert_eq!(json.answer(&Command::Info, &refusal, false), document);
    assert_eq!(json.failure(Code::PermissionDenied, "permission denied"), document);
}

#[test]
fn queued_is_a_status_of_its_own_in_json() {
    let answer = Ok(Reply::Value(QUEUED.into()));
    let json = Renderer { json_replies: true, ..PIPE };
    assert_eq!(PIPE.answer(&Command::List, &answer, true), "QUEUED");
    assert_eq!(json.answer(&Command::List, &answer, true), r#"{"status":"queued"}"#);
    assert_eq!(
        json.answer(&Command::List, &answer, false),
        r#"{"status":"ok","type":"value","value":"QUEUED"}"#
    );
}

#[test]
fn json_documents() {
    check_json(Reply::Ok, r#"{"status":"ok"}"#);
    check_json(Reply::NotFound, r#"{"status":"not_found"}"#);
    check_json(value("a\nb"), r#"{"status":"ok","type":"value","value":"a\nb"}"#);
    check_json(Reply::Value(binary()), r#"{"status":"ok","type":"value","value":{"base64":"/0H+"}}"#);
    check_json(Reply::Bool(false), r#"{"status":"ok","type":"boolean","value":false}"#);
    check_json(Reply::Count(u64::MAX), r#"{"status":"ok","type":"count","value":18446744073709551615}"#);
    check_json(Reply::Integer(-1), r#"{"status":"ok","type":"integer","value":-1}"#);
    check_json(
        Reply::Strings(vec![Some("a".into()), None]),
        r#"{"status":"ok","type":"list","value":["a",null]}"#,
    );
    check_json(
        Reply::Entries(vec![entry("b", binary()), entry("a", "1")]),
        r#"{"status":"ok","type":"entries","value":[{"key":"a","value":"1"},{"key":"b","value":{"base64":"/0H+"}}]}"#,
    );
    check_json(
        Reply::Scan(ScanPage { next_cursor: 7, keys: vec!["k".into()] }),
        r#"{"status":"ok","type":"scan","value":{"cursor":7,"keys":["k"]}}"#,
    );
    check_json(
        Reply::Exec(vec![Reply::Ok, Reply::NotFound, Reply::Integer(2)]),
        r#"{"status":"ok","type":"exec","value":[{"status":"ok"},{"status":"not_found"},{"status":"ok","type":"integer","value":2}]}"#,
    );
}

#[test]
fn a_terminal_is_never_obeyed() {
    let hostile = "\x1b[2J\r\n\u{9b}";
    let terminal = Renderer { terminal: true, ..PIPE };
    let replies = [
        Reply::Value(hostile.into()),
        Reply::Strings(vec![Some(hostile.into())]),
        Reply::Entries(vec![entry(hostile, hostile)]),
        Reply::Scan(ScanPage { next_cursor: 0, keys: vec![hostile.into()] }),
        Reply::Exec(vec![Reply::Value(hostile.into())]),
    ];
    for reply in replies {
        for output in [Output::Plain, Output::Table, Output::Json] {
            for json_replies in [false, true] {
                let renderer = Renderer { output, json_replies, terminal: true };
                let text = renderer.answer(&Command::Info, &Ok(reply.clone()), false);
                assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
            }
        }
    }
    let refusal = Err(ErrorReply { code: hostile.into(), name: hostile.into(), message: hostile.into() });
    assert!(!terminal.answer(&Command::Info, &refusal, false).contains(char::is_control));
    assert!(!terminal.failure(Code::UnknownCommand, hostile).contains(char::is_control));
}

#[test]
fn metrics_keep_their_lines_on_a_terminal() {
    let terminal = Renderer { terminal: true, ..PIPE };
    let answer = Ok(value("# HELP a\na 1\x1b"));
    assert_eq!(terminal.answer(&Command::MetricsProm, &answer, false), "# HELP a\na 1\\u{1b}");
}

#[test]
fn help_is_a_table() {
    let rows = [Usage { phrase: "ping", usage: "ping [message]" }, Usage { phrase: "exit", usage: "exit" }];
    assert_eq!(
        PIPE.help(&rows),
        concat!(
            "Vaylix command help\n\n",
            "command | usage         \n",
            "--------+---------------\n",
            "ping    | ping [message]\n",
            "exit    | exit          ",
        )
    );
    assert_eq!(
        Renderer { json_replies: true, ..PIPE }.help(&rows),
        r#"{"status":"ok","type":"help","value":[{"command":"ping","usage":"ping [message]"},{"command":"exit","usage":"exit"}]}"#
    );
}
