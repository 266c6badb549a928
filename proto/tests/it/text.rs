//! Lines of text: what they mean, and what a client says about those that mean nothing.

use bytes::Bytes;
use vaylix_proto::text::{Line, TextError, USAGES, parse_line};
use vaylix_proto::{Command, Condition, Dump, Expiration, Opcode, SetOptions};

fn said(line: &str) -> String {
    let error = parse_line(line).expect_err(line);
    format!("[{}] {}: {error}", error.code(), error.code().name())
}

fn command(line: &str) -> Command {
    match parse_line(line) {
        Ok(Line::Command(command)) => command,
        other => panic!("{line}: {other:?}"),
    }
}

fn set(key: &str, value: &str, options: SetOptions) -> Command {
    Command::Set { key: key.into(), value: Bytes::copy_from_slice(value.as_bytes()), options }
}

fn get(key: &str) -> Command {
    Command::Get { key: key.into() }
}

#[test]
fn every_mistake_has_its_message() {
    let mut lines = include_str!("../data/text-errors.txt").lines().filter(|line| !line.starts_with('#'));
    let mut ran = 0;
    while let Some(line) = lines.next() {
        let Some(typed) = line.strip_prefix("> ") else { continue };
        assert_eq!(said(typed), lines.next().unwrap(), "{typed}");
        ran += 1;
    }
    assert_eq!(ran, CASES);
}

const CASES: usize = 123;

#[test]
fn a_line_without_words_is_empty() {
    for line in ["", "  ", "\t\r\n"] {
        assert_eq!(parse_line(line), Err(TextError::Empty));
        assert_eq!(said(line), "[CMD-001] Empty Command: empty command");
    }
}

#[test]
fn quotes_and_escapes() {
    let plain = SetOptions::default();
    let nx = SetOptions { condition: Condition::IfMissing, ..plain };
    let xx = SetOptions { condition: Condition::IfPresent, ..plain };
    let cases = [
        ("set plain value", set("plain", "value", plain)),
        (r#"set "key with spaces" "value with spaces""#, set("key with spaces", "value with spaces", plain)),
        (r#"get "key with spaces""#, get("key with spaces")),
        (
            r#"set esc "quote \" backslash \\ newline \n tab \t end""#,
            set("esc", "quote \" backslash \\ newline \n tab \t end", plain),
        ),
        (r#"set esc2 "\q\r\0\x41""#, set("esc2", "qr0x41", plain)),
        (r"set raw a\nb\\c", set("raw", r"a\nb\\c", plain)),
        ("set sq 'x'", set("sq", "'x'", plain)),
        (r#"set joined "v"nx"#, set("joined", "v", nx)),
        (r#"set "" empty-key"#, set("", "empty-key", plain)),
        (r#"get """#, get("")),
        (r#"set ev """#, set("ev", "", plain)),
        (r#"SeT Case V "NX""#, set("Case", "V", nx)),
        ("sEt Case W Xx", set("Case", "W", xx)),
        ("GET Case", get("Case")),
        ("set ключ héllo→🎉", set("ключ", "héllo→🎉", plain)),
        (r#"set "e\u0301" combining"#, set("eu0301", "combining", plain)),
        ("set\ttab\tsep", set("tab", "sep", plain)),
        ("   get tab   ", get("tab")),
        ("get a\u{a0}b", get("a\u{a0}b")),
        ("get \u{a0}", get("\u{a0}")),
        (r#""get"a"#, get("a")),
        ("get #", get("#")),
    ];
    for (line, expected) in cases {
        assert_eq!(command(line), expected, "{line}");
    }
}

#[test]
fn options_of_set_in_any_order() {
    let options = SetOptions {
        condition: Condition::Always,
        expiration: Some(Expiration::Millis(1500)),
        keep_ttl: false,
        return_previous: true,
        if_version: Some(7),
    };
    assert_eq!(command("set k v if version 7 px 1500 get"), set("k", "v", options));
    assert_eq!(command("SET k v GET PX +01500 IF VERSION 007"), set("k", "v", options));
    let keep = SetOptions { keep_ttl: true, ..SetOptions::default() };
    assert_eq!(command("set k v keepttl"), set("k", "v", keep));
}

#[test]
fn arguments_find_their_place() {
    let cases = [
        ("auth u p", Command::Auth { user: "u".into(), password: "p".into() }),
        ("ping", Command::Ping { message: None }),
        ("ping \"a b\"", Command::Ping { message: Some("a b".into()) }),
        ("getex k", Command::GetEx { key: "k".into(), expiration: None, persist: false }),
        (
            "getex k EX 5",
            Command::GetEx { key: "k".into(), expiration: Some(Expiration::Seconds(5)), persist: false },
        ),
        (
            "getex k px 5",
            Command::GetEx { key: "k".into(), expiration: Some(Expiration::Millis(5)), persist: false },
        ),
        ("getex k persist", Command::GetEx { key: "k".into(), expiration: None, persist: true }),
        ("setnx k v", Command::SetNx { key: "k".into(), value: "v".into() }),
        ("mget a b", Command::MGet { keys: vec!["a".into(), "b".into()] }),
        ("delete a", Command::Del { keys: vec!["a".into()] }),
        ("mset a 1 b 2", Command::MSet { pairs: vec![("a".into(), "1".into()), ("b".into(), "2".into())] }),
        ("expire k 60", Command::Expire { key: "k".into(), seconds: 60 }),
        ("rename a b", Command::Rename { source: "a".into(), destination: "b".into() }),
        ("renamenx a b", Command::RenameNx { source: "a".into(), destination: "b".into() }),
        ("scan 0", Command::Scan { cursor: 0, pattern: None, count: None }),
        (
            "scan 3 COUNT 65535 match u:*",
            Command::Scan { cursor: 3, pattern: Some("u:*".into()), count: Some(65535) },
        ),
        ("metrics PROM", Command::MetricsProm),
        ("backup to a", Command::BackupTo { path: "a".into() }),
        ("backup verify {}", Command::BackupVerify(Dump::Inline("{}".into()))),
        ("backup verify from a", Command::BackupVerify(Dump::File("a".into()))),
        ("restore {}", Command::Restore(Dump::Inline("{}".into()))),
        ("restore from a", Command::Restore(Dump::File("a".into()))),
        ("restore check {}", Command::RestoreCheck(Dump::Inline("{}".into()))),
        ("restore check from a", Command::RestoreCheck(Dump::File("a".into()))),
        ("alter user u password p", Command::AlterUserPassword { user: "u".into(), password: "p".into() }),
        ("create user u password p", Command::CreateUser { user: "u".into(), password: "p".into() }),
        ("create role r", Command::CreateRole { role: "r".into() }),
        ("drop user u", Command::DropUser { user: "u".into() }),
        ("drop role r", Command::DropRole { role: "r".into() }),
        ("grant role r to u", Command::GrantRole { role: "r".into(), user: "u".into() }),
        ("revoke role r from u", Command::RevokeRole { role: "r".into(), user: "u".into() }),
        (
            "grant permission read to r",
            Command::GrantPermission { permission: "read".into(), pattern: "*".into(), role: "r".into() },
        ),
        (
            "revoke permission Write on a:* from r",
            Command::RevokePermission { permission: "Write".into(), pattern: "a:*".into(), role: "r".into() },
        ),
        ("show grants for user u", Command::ShowGrantsForUser { user: "u".into() }),
        ("show grants FOR role r", Command::ShowGrantsForRole { role: "r".into() }),
        ("cluster join n h:1", Command::ClusterJoin { node: "n".into(), address: "h:1".into() }),
        ("cluster remove n", Command::ClusterRemove { node: "n".into() }),
    ];
    for (line, expected) in cases {
        assert_eq!(command(line), expected, "{line}");
    }
}

#[test]
fn every_help_row_leads_somewhere() {
    assert_eq!(USAGES.len(), 70);
    let mut reached = Vec::new();
    for row in USAGES {
        // The usage with its optional parts left out and its blanks filled in.
        let words: Vec<_> = without_brackets(row.usage)
            .split_whitespace()
            .map(|word| match word {
                "<seconds>" | "<cursor>" => "1".to_owned(),
                blank if blank.starts_with('<') => "x".to_owned(),
                fixed => fixed.to_owned(),
            })
            .collect();
        let line = words.join(" ");
        assert!(line.starts_with(row.phrase), "{line} is not about {}", row.phrase);
        match parse_line(&line).unwrap_or_else(|error| panic!("{line}: {error}")) {
            Line::Command(command) => reached.push(command.opcode()),
            Line::Help => assert_eq!(row.phrase, "help"),
            Line::Exit => assert!(matches!(row.phrase, "exit" | "quit")),
        }
    }
    for opcode in Opcode::ALL {
        assert_eq!(reached.contains(opcode), !opcode.is_internal(), "{}", opcode.name());
    }
}

fn without_brackets(line: &str) -> String {
    let mut depth = 0;
    line.chars()
        .filter(|c| {
            depth += i32::from(*c == '[');
            let keep = depth == 0;
            depth -= i32::from(*c == ']');
            keep
        })
        .collect()
}
