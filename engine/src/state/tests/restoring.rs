//! Restores that are too large for one log entry.

use super::*;

fn entry(key: &'static str, expires_at_ms: Option<u64>) -> RestoreEntry<'static> {
    RestoreEntry { key: key.into(), value: b"restored"[..].into(), expires_at_ms, version: 3 }
}

fn part<'a>(restore: u64, part: u32, entries: Vec<RestoreEntry<'a>>) -> Op<'a> {
    Op::RestorePart { restore, part, entries }
}

fn commit(restore: u64, parts: u32) -> Op<'static> {
    Op::RestoreCommit { restore, parts }
}

const INTERRUPTED: Outcome = Outcome::Failed(ApplyError::RestoreInterrupted);

fn counted(count: u64) -> Outcome {
    Outcome::Reply(Reply::Count(count))
}

#[test]
fn nothing_changes_before_the_last_part_and_everything_with_it() {
    let mut bench = Bench::new();
    bench.run(&set("old", "1"));
    let (over, soon) = (bench.now_ms, bench.now_ms + 1);
    let entries = vec![entry("a", None), entry("over", Some(over))];
    assert_eq!(bench.apply(vec![part(1, 0, entries)]), [counted(1)]);
    let entries = vec![entry("a", None), entry("soon", Some(soon)), entry("z", Some(soon + 1))];
    assert_eq!(bench.apply(vec![part(1, 1, entries)]), [counted(4)]);
    assert_eq!(bench.run(&Command::Count), Reply::Count(1));
    bench.run(&set("old", "2"));
    bench.now_ms = soon;
    assert_eq!(bench.apply(vec![commit(1, 2)]), [counted(4)]);
    assert_eq!(bench.run(&Command::Count), Reply::Count(2));
    assert_eq!(bench.run(&get("old")), Reply::NotFound);
    assert_eq!((bench.run(&get("a")), bench.version("a")), (value("restored"), Some(3)));
    assert_eq!(bench.apply(vec![commit(1, 2)]), [INTERRUPTED]);
    assert_eq!(bench.apply(vec![Op::Sweep { limit: 9 }]), [counted(1)]);
}

#[test]
fn a_restore_with_missing_parts_changes_nothing() {
    let mut bench = Bench::new();
    bench.run(&set("old", "1"));
    let outcomes = bench.apply(vec![
        commit(1, 0),
        part(1, 1, vec![]),
        part(1, 0, vec![entry("a", None)]),
        part(1, 2, vec![]),
        part(2, 1, vec![]),
        commit(1, 2),
        commit(2, 1),
        // Another restore takes the place of this one.
        part(2, 0, vec![entry("b", None)]),
        commit(1, 1),
        commit(2, 1),
    ]);
    let expected = [
        INTERRUPTED,
        INTERRUPTED,
        counted(1),
        INTERRUPTED,
        INTERRUPTED,
        INTERRUPTED,
        INTERRUPTED,
        counted(1),
        INTERRUPTED,
        counted(1),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(bench.run(&Command::List), {
        let name = text("b");
        Reply::Entries(vec![vaylix_proto::NamedValue { name, value: "restored".into() }])
    });
}

#[test]
fn an_idle_restore_is_forgotten() {
    let mut bench = Bench::new();
    bench.apply(vec![part(1, 0, vec![entry("a", None)])]);
    bench.now_ms += 10 * 60 * 1000;
    assert_eq!(bench.apply(vec![part(1, 1, vec![])]), [counted(1)]);
    bench.now_ms += 10 * 60 * 1000 + 1;
    assert_eq!(bench.apply(vec![commit(1, 2)]), [INTERRUPTED]);
}
