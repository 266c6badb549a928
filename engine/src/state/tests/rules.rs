//! The rules of each command, by example.

use super::*;

const TRUE: Reply = Reply::Bool(true);
const FALSE: Reply = Reply::Bool(false);

#[test]
fn versions_move_as_documented() {
    let mut bench = Bench::new();
    for command in [
        set("set", "1"),
        Command::SetNx { key: text("setnx"), value: Bytes::new() },
        mset(&[("mset", "1")]),
        incr("incr"),
        decr("decr"),
    ] {
        bench.run(&command);
    }
    bench.run(&set("source", "1"));
    bench.run(&rename("source", "renamed"));
    for key in ["set", "setnx", "mset", "incr", "decr", "renamed"] {
        assert_eq!(bench.version(key), Some(1), "{key}");
    }
    bench.run(&set("set", "2"));
    bench.run(&mset(&[("set", "3")]));
    assert_eq!(bench.version("set"), Some(3));
    bench.run(&mset(&[("set", "4"), ("set", "5"), ("new", "1"), ("new", "2")]));
    assert_eq!((bench.version("set"), bench.version("new")), (Some(5), Some(2)));
    bench.run(&incr("incr"));
    bench.run(&decr("incr"));
    assert_eq!(bench.version("incr"), Some(3));
    // The destination's version counts on; the source's is forgotten.
    bench.run(&rename("set", "incr"));
    assert_eq!((bench.version("incr"), bench.version("set")), (Some(4), None));
    assert_eq!(bench.run(&rename("incr", "incr")), TRUE);
    assert_eq!(bench.version("incr"), Some(4));
    for command in [
        expire("incr", 9),
        persist("incr"),
        get_ex("incr", Some(Expiration::Seconds(5)), false),
        get_ex("incr", None, true),
        get_ex("incr", None, false),
        set_with("incr", "x", when(Condition::IfMissing)),
        set_with("incr", "x", if_version(9)),
        set_with("gone", "x", when(Condition::IfPresent)),
    ] {
        bench.run(&command);
        assert_eq!((bench.version("incr"), bench.version("gone")), (Some(4), None), "{command:?}");
    }
    bench.run(&del(&["incr"]));
    bench.run(&set("incr", "1"));
    assert_eq!(bench.version("incr"), Some(1));
    bench.run(&set("incr", "2"));
    bench.run(&Command::Clear);
    bench.run(&set("incr", "1"));
    assert_eq!(bench.version("incr"), Some(1));
    bench.run(&set_px("incr", "2", 10));
    bench.now_ms += 10;
    bench.run(&set("incr", "3"));
    assert_eq!(bench.version("incr"), Some(1));
}

#[test]
fn versions_saturate() {
    let mut bench = Bench::new();
    let entry =
        RestoreEntry { key: "k".into(), value: b"1"[..].into(), expires_at_ms: None, version: u64::MAX };
    bench.apply(vec![Op::Restore { entries: vec![entry] }]);
    bench.run(&incr("k"));
    assert_eq!(bench.version("k"), Some(u64::MAX));
    assert_eq!(bench.run(&set_with("k", "3", if_version(u64::MAX))), TRUE);
}

#[test]
fn deadlines_move_as_documented() {
    let mut bench = Bench::new();
    // Plain writes of a value leave the key without a deadline; counters keep it.
    for (command, expected) in [
        (set("k", "2"), -1),
        (mset(&[("k", "2")]), -1),
        (incr("k"), 100),
        (decr("k"), 100),
        (set_with("k", "2", SetOptions { keep_ttl: true, ..SetOptions::default() }), 100),
        (persist("k"), -1),
        (expire("k", 7), 7),
        (get_ex("k", Some(Expiration::Millis(2500)), false), 3),
        (get_ex("k", None, true), -1),
        (get_ex("k", None, false), 100),
        // A duration wins over both ways of keeping or removing the deadline.
        (get_ex("k", Some(Expiration::Seconds(4)), true), 4),
        (
            set_with(
                "k",
                "2",
                SetOptions {
                    keep_ttl: true,
                    expiration: Some(Expiration::Seconds(4)),
                    ..SetOptions::default()
                },
            ),
            4,
        ),
    ] {
        bench.run(&set_px("k", "1", 100_000));
        bench.run(&command);
        assert_eq!(bench.run(&ttl("k")), Reply::Integer(expected), "{command:?}");
    }
    bench.run(&set_with("new", "1", SetOptions { keep_ttl: true, ..SetOptions::default() }));
    assert_eq!(bench.run(&ttl("new")), Reply::Integer(-1));
    // A rename carries the source's deadline, or its absence.
    bench.run(&set_px("k", "1", 100_000));
    bench.run(&rename("k", "new"));
    assert_eq!(bench.run(&ttl("new")), Reply::Integer(100));
    bench.run(&set("k", "1"));
    bench.run(&rename("k", "new"));
    assert_eq!(bench.run(&ttl("new")), Reply::Integer(-1));
}

#[test]
fn remaining_time_is_rounded_up() {
    let mut bench = Bench::new();
    for (millis, seconds) in [(1, 1), (999, 1), (1000, 1), (1001, 2), (u64::MAX, 18_446_744_073_708_552)] {
        bench.run(&set_px("k", "1", millis));
        assert_eq!(bench.run(&ttl("k")), Reply::Integer(seconds), "{millis}");
    }
    assert_eq!(bench.run(&ttl("missing")), Reply::Integer(-2));
    bench.run(&expire("k", u64::MAX));
    assert_eq!(bench.run(&ttl("k")), Reply::Integer(18_446_744_073_708_552));
}

#[test]
fn a_duration_of_zero_removes_the_key_and_counts_as_done() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(&set_px("new", "1", 0)), Reply::Ok);
    bench.run(&set("k", "1"));
    assert_eq!(bench.run(&set_px("k", "2", 0)), Reply::Ok);
    assert_eq!(bench.run(&get("k")), Reply::NotFound);
    let options = SetOptions { expiration: Some(Expiration::Seconds(0)), ..when(Condition::IfMissing) };
    assert_eq!(bench.run(&set_with("k", "1", options)), TRUE);
    bench.run(&set("k", "1"));
    let options = SetOptions { return_previous: true, ..options };
    assert_eq!(bench.run(&set_with("k", "2", options)), value("1"));
    assert_eq!(bench.run(&get("k")), value("1"));
    assert_eq!(bench.run(&expire("k", 0)), TRUE);
    assert_eq!(bench.run(&expire("k", 0)), FALSE);
    bench.run(&set("k", "1"));
    assert_eq!(bench.run(&get_ex("k", Some(Expiration::Seconds(0)), false)), value("1"));
    assert_eq!(bench.run(&get_ex("k", Some(Expiration::Seconds(5)), false)), Reply::NotFound);
    assert_eq!(bench.run(&Command::Count), Reply::Count(0));
}

#[test]
fn an_expired_key_is_missing_for_every_command() {
    let expectations: Vec<(Command, Reply)> = vec![
        (get("k"), Reply::NotFound),
        (Command::GetDel { key: text("k") }, Reply::NotFound),
        (get_ex("k", None, false), Reply::NotFound),
        (get_ex("k", Some(Expiration::Seconds(9)), false), Reply::NotFound),
        (get_ex("k", None, true), Reply::NotFound),
        (set_with("k", "1", when(Condition::IfPresent)), FALSE),
        (set_with("k", "1", when(Condition::IfMissing)), TRUE),
        (set_with("k", "1", if_version(1)), FALSE),
        (set_with("k", "1", SetOptions { return_previous: true, ..SetOptions::default() }), Reply::NotFound),
        (Command::SetNx { key: text("k"), value: Bytes::new() }, TRUE),
        (del(&["k"]), Reply::Count(0)),
        (exists("k"), FALSE),
        (Command::MGet { keys: vec![text("k"), text("l")] }, Reply::Strings(vec![None, Some("l".into())])),
        (incr("k"), Reply::Integer(1)),
        (decr("k"), Reply::Integer(-1)),
        (expire("k", 9), FALSE),
        (ttl("k"), Reply::Integer(-2)),
        (persist("k"), FALSE),
        (rename("k", "x"), FALSE),
        (rename_nx("k", "x"), FALSE),
        (rename_nx("l", "k"), TRUE),
        (scan(0, None, None), Reply::Scan(vaylix_proto::ScanPage { next_cursor: 0, keys: vec![text("l")] })),
        (Command::Count, Reply::Count(1)),
        (Command::DbSize, Reply::Count(1)),
        (
            Command::List,
            Reply::Entries(vec![vaylix_proto::NamedValue { name: text("l"), value: "l".into() }]),
        ),
    ];
    for (command, expected) in expectations {
        let mut bench = Bench::new();
        bench.run(&set_px("k", "5", 40));
        bench.run(&set("l", "l"));
        bench.now_ms += 40;
        assert_eq!(bench.run(&command), expected, "{command:?}");
    }
}

#[test]
fn time_never_goes_back() {
    let mut bench = Bench::new();
    bench.run(&set_px("k", "1", 10));
    bench.now_ms += 10;
    assert_eq!(bench.run(&get("k")), Reply::NotFound);
    let late = bench.now_ms;
    bench.now_ms -= 1000;
    assert_eq!(bench.run(&get("k")), Reply::NotFound);
    assert_eq!(bench.state.time_ms(), late);
    // New deadlines are counted from the time of the state.
    bench.run(&set_px("k", "1", 5));
    assert_eq!(bench.state.root().get("k", 0).unwrap().expires_at_ms(), Some(late + 5));
}

#[test]
fn set_conditions_and_replies() {
    let mut bench = Bench::new();
    let with_get = |options| SetOptions { return_previous: true, ..options };
    assert_eq!(bench.run(&set("a", "0")), Reply::Ok);
    assert_eq!(bench.run(&del(&["a"])), Reply::Count(1));
    for (options, expected) in [
        (when(Condition::IfPresent), FALSE),
        (if_version(0), FALSE),
        (if_version(1), FALSE),
        (with_get(when(Condition::IfPresent)), Reply::NotFound),
        (when(Condition::IfMissing), TRUE),
        (when(Condition::IfMissing), FALSE),
        (with_get(when(Condition::IfMissing)), value("1")),
        (when(Condition::IfPresent), TRUE),
        (if_version(1), FALSE),
        (if_version(2), TRUE),
        (with_get(if_version(2)), value("1")),
        (with_get(if_version(3)), value("1")),
        (with_get(SetOptions::default()), value("1")),
        // Both kinds of condition must hold.
        (SetOptions { if_version: Some(5), ..when(Condition::IfMissing) }, FALSE),
        (SetOptions { if_version: Some(4), ..when(Condition::IfPresent) }, FALSE),
        (SetOptions { if_version: Some(5), ..when(Condition::IfPresent) }, TRUE),
    ] {
        assert_eq!(bench.run(&set_with("a", "1", options)), expected, "{options:?}");
    }
    assert_eq!(bench.version("a"), Some(6));
}

#[test]
fn several_keys_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(&mset(&[])), Reply::Ok);
    assert_eq!(
        bench.run(&mset(&[("k1", "one"), ("k2", "two"), ("dup", "first"), ("dup", "second")])),
        Reply::Ok
    );
    let mget = |keys: &[&str]| Command::MGet { keys: keys.iter().copied().map(text).collect() };
    assert_eq!(bench.run(&mget(&[])), Reply::Strings(vec![]));
    assert_eq!(
        bench.run(&mget(&["k1", "no", "k1", "dup"])),
        Reply::Strings(vec![Some("one".into()), None, Some("one".into()), Some("second".into())])
    );
    assert_eq!(bench.run(&del(&["k1", "no", "k1", "k2"])), Reply::Count(2));
    assert_eq!(bench.run(&del(&[])), Reply::Count(0));
    assert_eq!(bench.run(&Command::Count), Reply::Count(1));
}

#[test]
fn renaming() {
    let mut bench = Bench::new();
    bench.run(&set("a", "1"));
    bench.run(&set("b", "2"));
    assert_eq!(bench.run(&rename("ghost", "a")), FALSE);
    assert_eq!(bench.run(&get("a")), value("1"));
    assert_eq!(bench.run(&rename_nx("a", "b")), FALSE);
    assert_eq!(bench.run(&rename_nx("a", "a")), FALSE);
    assert_eq!(bench.run(&rename_nx("ghost", "c")), FALSE);
    assert_eq!(bench.run(&rename_nx("a", "c")), TRUE);
    assert_eq!(bench.run(&rename("c", "b")), TRUE);
    assert_eq!(bench.run(&Command::Count), Reply::Count(1));
    assert_eq!(bench.run(&get("b")), value("1"));
}

#[test]
fn counters_take_the_documented_spellings() {
    let mut bench = Bench::new();
    for (spelling, next) in [
        ("+5", 6),
        ("007", 8),
        ("-0", 1),
        ("-9223372036854775808", i64::MIN + 1),
        ("9223372036854775806", i64::MAX),
    ] {
        bench.run(&set("n", spelling));
        assert_eq!(bench.run(&incr("n")), Reply::Integer(next), "{spelling}");
        assert_eq!(bench.run(&get("n")), value(&next.to_string()));
    }
    for wrong in [" 5", "5 ", "", "+", "-", "5.0", "0x10", "1e3", "９", "9223372036854775808", "--1"] {
        bench.run(&set("n", wrong));
        let error = bench.fails(&incr("n"));
        assert_eq!(error.code().code(), "ENG-015", "{wrong}");
        assert_eq!(error.to_string(), format!("value for key 'n' is not a valid integer: {wrong}"));
        assert_eq!(bench.run(&get("n")), value(wrong));
    }
    bench.run(&Command::Set {
        key: text("n"),
        value: Bytes::from_static(b"\xff1"),
        options: SetOptions::default(),
    });
    assert_eq!(bench.fails(&decr("n")).to_string(), "value for key 'n' is not a valid integer: \u{fffd}1");
    bench.run(&set("n", "9223372036854775807"));
    let error = bench.fails(&incr("n"));
    assert_eq!((error.code().code(), &*error.to_string()), ("ENG-016", "numeric overflow for key 'n'"));
    bench.run(&set("n", "-9223372036854775808"));
    assert_eq!(bench.fails(&decr("n")).code().code(), "ENG-016");
    let (written, counted) = (5 + 11 + 1 + 2, 5);
    assert_eq!(bench.version("n"), Some(written + counted), "what failed left no trace");
}

#[test]
fn large_values_are_shared_and_small_ones_copied_alike() {
    let mut bench = Bench::new();
    for len in [0, 1, 239, 240, 241, 1023, 1024, 262_144] {
        let large = "x".repeat(len);
        bench.run(&set("k", &large));
        assert_eq!(bench.run(&get("k")), value(&large));
    }
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let mut bench = Bench::new();
    bench.run(&set("keep", "1"));
    let before = bench.state.root();
    let outcome = bench.exec(&[set("s", "abc"), del(&["keep"]), incr("s"), set("t", "1")]);
    let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.code().code(), "ENG-015");
    assert_eq!(
        error.to_string(),
        "value for key 's' is not a valid integer: abc (command 3 of the transaction)"
    );
    let (held, kept) = (bench.state.root(), bench.state.reader());
    assert!(held.iter().map(Entry::key).eq(before.iter().map(Entry::key)));
    assert_eq!((kept.get("keep", bench.now_ms), kept.get("s", bench.now_ms)), (Some("1".into()), None));

    let outcome = bench.exec(&[Command::Clear, incr("n"), set("bad", "x"), incr("bad")]);
    assert!(matches!(outcome, Outcome::Failed(_)));
    assert_eq!(bench.run(&get("keep")), value("1"));
    assert_eq!(bench.run(&Command::Count), Reply::Count(1));
}

#[test]
fn a_transaction_sees_itself_at_one_moment() {
    let mut bench = Bench::new();
    bench.run(&set("old", "1"));
    let outcome = bench.exec(&[
        set_px("c", "1", 100_000),
        ttl("c"),
        incr("c"),
        set_with("c", "2", when(Condition::IfMissing)),
        set_with("c", "3", if_version(2)),
        get("nope"),
        Command::MGet { keys: vec![text("c"), text("nope")] },
        scan(0, None, Some(1)),
        Command::Count,
        Command::List,
        Command::Ping { message: None },
        Command::Ping { message: Some(text("hi")) },
        Command::GetDel { key: text("c") },
        exists("c"),
        Command::Clear,
        Command::Count,
        set("after", "1"),
    ]);
    let list = vec![
        vaylix_proto::NamedValue { name: text("c"), value: "3".into() },
        vaylix_proto::NamedValue { name: text("old"), value: "1".into() },
    ];
    let expected = vec![
        Reply::Ok,
        Reply::Integer(100),
        Reply::Integer(2),
        FALSE,
        TRUE,
        Reply::NotFound,
        Reply::Strings(vec![Some("3".into()), None]),
        Reply::Scan(vaylix_proto::ScanPage { next_cursor: 1, keys: vec![text("c")] }),
        Reply::Count(2),
        Reply::Entries(list),
        value("PONG"),
        value("hi"),
        value("3"),
        FALSE,
        Reply::Ok,
        Reply::Count(0),
        Reply::Ok,
    ];
    assert_eq!(outcome, Outcome::Reply(Reply::Exec(expected)));
    assert_eq!(bench.run(&Command::Count), Reply::Count(1));
    assert_eq!(bench.run(&get("after")), value("1"));
    assert_eq!(bench.exec(&[]), Outcome::Reply(Reply::Exec(vec![])));
}

#[test]
fn sweeping_removes_the_earliest_deadlines_first_and_only_those_that_are_over() {
    let mut bench = Bench::new();
    for (key, millis) in [("c", 30), ("a", 10), ("b", 20), ("later", 1000)] {
        bench.run(&set_px(key, "1", millis));
    }
    bench.run(&set("stays", "1"));
    assert_eq!(bench.apply(vec![Op::Sweep { limit: 10 }]), [Outcome::Reply(Reply::Count(0))]);
    assert_eq!(bench.state.root().first_deadline_ms(), Some(bench.now_ms + 10));
    bench.now_ms += 30;
    assert_eq!(bench.state.root().expired_count(bench.now_ms), 3);
    assert_eq!(bench.state.root().live_count(bench.now_ms), 2);
    assert_eq!(bench.apply(vec![Op::Sweep { limit: 2 }]), [Outcome::Reply(Reply::Count(2))]);
    assert_eq!(bench.state.root().iter().map(Entry::key).collect::<Vec<_>>(), ["c", "later", "stays"]);
    assert_eq!(bench.apply(vec![Op::Sweep { limit: 2 }]), [Outcome::Reply(Reply::Count(1))]);
    assert_eq!(bench.state.root().expired_count(bench.now_ms), 0);
    assert_eq!(bench.run(&Command::Count), Reply::Count(2));
}

#[test]
fn a_restore_replaces_everything() {
    let mut bench = Bench::new();
    bench.run(&set("old", "1"));
    let entry = |key: &'static str, value: &'static [u8], expires_at_ms, version| RestoreEntry {
        key: key.into(),
        value: value.into(),
        expires_at_ms,
        version,
    };
    let entries = vec![
        entry("dup", b"first", None, 4),
        entry("dup", b"second", None, 9),
        entry("zero", b"", None, 0),
        entry("gone", b"", Some(bench.now_ms), 1),
        entry("soon", b"", Some(bench.now_ms + 1), u64::MAX),
    ];
    assert_eq!(bench.apply(vec![Op::Restore { entries }]), [Outcome::Reply(Reply::Count(4))]);
    assert_eq!(bench.run(&get("dup")), value("second"));
    assert_eq!(
        ["dup", "zero", "soon", "old", "gone"].map(|key| bench.version(key)),
        [Some(9), Some(1), Some(u64::MAX), None, None]
    );
    bench.now_ms += 1;
    assert_eq!(bench.run(&Command::Count), Reply::Count(2));
}
