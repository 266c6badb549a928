//! The system part, and operations admitted under an older access revision.

use super::*;

fn put(key: &'static str, value: &'static [u8]) -> SystemChange<'static> {
    SystemChange::Put { key: key.into(), value: value.into() }
}

fn system(expect_revision: u64, changes: Vec<SystemChange<'_>>) -> Op<'_> {
    Op::System { expect_revision, changes }
}

const DONE: Outcome = Outcome::Reply(Reply::Ok);

#[test]
fn records_are_kept_apart_from_keys() {
    let mut bench = Bench::new();
    bench.run(&set("user/a", "key"));
    assert_eq!(
        bench.apply(vec![system(0, vec![put("user/a", b"1"), put("user/b", b"2"), put("z", b"3")])]),
        [DONE]
    );
    let delete = SystemChange::Delete { key: "user/b".into() };
    assert_eq!(bench.apply(vec![system(1, vec![delete, put("user/c", b"4")])]), [DONE]);
    bench.run(&Command::Clear);
    let root = bench.state.root();
    let records: Vec<_> = root.system_iter("user/").map(|(key, value)| (key, &value[..])).collect();
    assert_eq!(records, [("user/a", &b"1"[..]), ("user/c", b"4")]);
    assert_eq!(bench.state.reader().system_get("z"), Some("3".into()));
    assert_eq!((root.access_revision(), bench.state.reader().access_revision()), (2, 2));
    assert!(root.is_empty());
}

#[test]
fn a_change_derived_from_an_older_revision_is_stale() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.apply(vec![system(0, vec![put("a", b"1")]), system(0, vec![put("a", b"2")])]),
        [DONE, Outcome::Stale]
    );
    assert_eq!(bench.apply(vec![system(2, vec![put("a", b"3")])]), [Outcome::Stale]);
    assert_eq!(bench.state.root().system_get("a").unwrap(), "1");
    assert_eq!(bench.state.access_revision(), 1);
}

#[test]
fn operations_admitted_under_an_older_revision_are_stale() {
    let mut bench = Bench::new();
    bench.run(&set_px("old", "1", 1));
    bench.run(&set("k", "1"));
    bench.now_ms += 1;
    let batch = Batch {
        time_ms: bench.now_ms,
        access_revision: 0,
        ops: vec![
            Op::Incr { key: "k" },
            system(0, vec![put("a", b"1")]),
            Op::Incr { key: "k" },
            Op::Exec(vec![Op::Incr { key: "k" }]),
            Op::Restore { entries: vec![] },
            Op::Clear,
            Op::Sweep { limit: 9 },
        ],
    };
    let done = |reply| Outcome::Reply(reply);
    let stale = || Outcome::Stale;
    let expected =
        vec![done(Reply::Integer(2)), DONE, stale(), stale(), stale(), stale(), done(Reply::Count(1))];
    assert_eq!(bench.apply_batch(&batch), expected);
    assert_eq!(bench.run(&get("k")), value("2"));
}
