//! Violations that were planted, one of each kind, and their legal neighbours.

use vaylix_checker::Input::{
    Add, Delete, Exchange, Read, ReadVersion, Take, Write, WriteIfAbsent, WriteIfVersion,
};
use vaylix_checker::Output::{Applied, Done, Integer, Value, Versioned};

use super::*;

fn accepts(operations: &[Operation]) {
    let report = judge(operations);
    assert!(report.is_linearizable(), "{report}");
}

/// There must be a violation at `operations[culprit]`; the explanation as text.
fn catches(operations: &[Operation], culprit: usize) -> String {
    let report = judge(operations);
    assert_eq!(report.violations.len(), 1, "{report}");
    assert_eq!(report.violations[0].culprit, operations[culprit], "{report}");
    report.to_string()
}

#[test]
fn a_lost_acknowledged_write() {
    let text = catches(
        &[ok(1, 0, 10, Write(7), Done), ok(1, 20, 30, Write(8), Done), ok(2, 40, 50, Read, Value(Some(7)))],
        2,
    );
    assert!(text.contains("may hold: 8 in version 2"), "{text}");
    assert!(text.contains("7 comes from: client 1"), "{text}");
    catches(&[ok(1, 0, 10, Write(7), Done), ok(2, 20, 30, Read, Value(None))], 1);
    // While the write is under way, both are right.
    accepts(&[ok(1, 0, 30, Write(7), Done), ok(2, 20, 30, Read, Value(None))]);
    accepts(&[ok(1, 0, 30, Write(7), Done), ok(2, 20, 30, Read, Value(Some(7)))]);
}

#[test]
fn a_stale_read() {
    // Once somebody has seen the new value, nobody may see the old one, although the write is still under way.
    catches(
        &[
            ok(1, 0, 10, Write(1), Done),
            ok(1, 20, 90, Write(2), Done),
            ok(2, 30, 40, Read, Value(Some(2))),
            ok(3, 50, 60, Read, Value(Some(1))),
        ],
        3,
    );
    accepts(&[
        ok(1, 0, 10, Write(1), Done),
        ok(1, 20, 90, Write(2), Done),
        ok(2, 30, 55, Read, Value(Some(2))),
        ok(3, 50, 60, Read, Value(Some(1))),
    ]);
}

#[test]
fn a_read_of_a_refused_write() {
    let text = catches(
        &[ok(1, 0, 10, Write(1), Done), refused(1, 20, Write(2)), ok(2, 40, 50, Read, Value(Some(2)))],
        2,
    );
    assert!(text.contains("the write of 2 was refused: client 1"), "{text}");
    let text = catches(&[ok(2, 40, 50, Read, Value(Some(9)))], 0);
    assert!(text.contains("9 was never written"), "{text}");
    let text = catches(
        &[
            ok(1, 0, 10, Write(1), Done),
            ok(1, 20, 30, WriteIfAbsent(2), Applied(false)),
            ok(2, 40, 50, Read, Value(Some(2))),
        ],
        2,
    );
    assert!(text.contains("the write of 2 was answered with no"), "{text}");
}

#[test]
fn an_increment_that_is_applied_twice() {
    catches(&[ok(1, 0, 10, Add(1), Integer(1)), ok(1, 20, 30, Add(1), Integer(3))], 1);
    catches(&[ok(1, 0, 10, Add(1), Integer(1)), ok(2, 5, 15, Add(1), Integer(1))], 1);
    // An unknown one explains a jump by one, once.
    let jump = [ok(1, 0, 10, Add(1), Integer(1)), unknown(2, 5, Add(1)), ok(1, 20, 30, Add(1), Integer(3))];
    accepts(&jump);
    let [first, lost, _] = jump;
    catches(&[first, lost, ok(1, 20, 30, Add(1), Integer(4))], 2);
    catches(&[first, lost, ok(1, 20, 30, Add(1), Integer(3)), ok(1, 40, 50, Add(1), Integer(5))], 3);
}

#[test]
fn a_version_that_goes_back() {
    catches(
        &[
            ok(1, 0, 10, Write(5), Done),
            ok(1, 20, 30, WriteIfVersion { value: 6, version: 1 }, Applied(true)),
            ok(2, 40, 50, WriteIfVersion { value: 7, version: 1 }, Applied(true)),
        ],
        2,
    );
    catches(
        &[
            ok(1, 0, 10, Write(5), Done),
            ok(1, 20, 30, Write(5), Done),
            ok(2, 40, 50, ReadVersion, Versioned(Some((5, 1)))),
        ],
        2,
    );
    // A deleted key starts again at 1.
    accepts(&[
        ok(1, 0, 10, Write(5), Done),
        ok(1, 20, 30, Write(5), Done),
        ok(1, 40, 50, Delete, Applied(true)),
        ok(1, 60, 70, Write(5), Done),
        ok(2, 80, 90, ReadVersion, Versioned(Some((5, 1)))),
    ]);
    // Two winners of one version.
    let race = |second| {
        [
            ok(1, 0, 10, Write(5), Done),
            ok(1, 20, 40, WriteIfVersion { value: 6, version: 1 }, Applied(true)),
            ok(2, 20, 40, WriteIfVersion { value: 7, version: 1 }, Applied(second)),
        ]
    };
    accepts(&race(false));
    assert_eq!(judge(&race(true)).violations.len(), 1);
}

#[test]
fn a_value_that_comes_back_after_its_deletion() {
    catches(
        &[
            ok(1, 0, 10, Write(5), Done),
            ok(1, 20, 30, Delete, Applied(true)),
            ok(2, 40, 50, Read, Value(Some(5))),
        ],
        2,
    );
    catches(
        &[
            ok(1, 0, 10, Write(5), Done),
            ok(1, 20, 30, Take, Value(Some(5))),
            ok(2, 40, 50, Delete, Applied(true)),
        ],
        2,
    );
    accepts(&[
        ok(1, 0, 10, Write(5), Done),
        ok(1, 20, 60, Delete, Applied(true)),
        ok(2, 40, 50, Read, Value(Some(5))),
    ]);
}

#[test]
fn a_lost_update_behind_an_exchange() {
    catches(
        &[
            ok(1, 0, 10, Write(1), Done),
            ok(1, 20, 30, Exchange(2), Value(Some(1))),
            ok(2, 40, 50, Exchange(3), Value(Some(1))),
        ],
        2,
    );
}

#[test]
fn unknown_writes_may_happen_late_or_never() {
    let write = unknown(1, 0, Write(7));
    accepts(&[write, ok(2, 10, 20, Read, Value(None))]);
    accepts(&[write, ok(2, 10, 20, Read, Value(Some(7)))]);
    // Late: after another write that was invoked long after it.
    accepts(&[
        write,
        ok(2, 10, 20, Write(8), Done),
        ok(2, 30, 40, Read, Value(Some(8))),
        ok(2, 50, 60, Read, Value(Some(7))),
    ]);
    // But only once.
    catches(
        &[
            write,
            ok(2, 10, 20, Read, Value(Some(7))),
            ok(2, 30, 40, Write(8), Done),
            ok(2, 50, 60, Read, Value(Some(7))),
        ],
        3,
    );
    // And never before its invocation.
    catches(&[ok(2, 0, 10, Read, Value(Some(7))), unknown(1, 20, Write(7))], 0);
    // An unknown deletion explains a missing key.
    accepts(&[ok(1, 0, 10, Write(1), Done), unknown(1, 20, Delete), ok(2, 30, 40, Read, Value(None))]);
}

#[test]
fn an_explanation_shows_what_matters() {
    let mut operations = Vec::new();
    for round in 0..200 {
        let at = u64::try_from(round).unwrap() * 100;
        operations.push(ok(1, at, at + 10, Write(round), Done));
        operations.push(ok(2, at + 20, at + 30, Read, Value(Some(round))));
    }
    operations.push(ok(3, 20_000, 20_010, Read, Value(Some(198))));
    operations.push(ok(2, 20_020, 20_030, Read, Value(Some(199))));
    let text = catches(&operations, 400);
    assert!(text.lines().count() < 25, "{text}");
    assert!(text.contains(">>  client 3"), "{text}");
    assert!(text.contains("may hold: 199 in version 200"), "{text}");
    assert!(!text.contains("client 2"), "reads that fit are left out:\n{text}");
}

#[test]
fn other_keys_do_not_matter() {
    let mut history = History::new();
    history.record("a", ok(1, 0, 10, Write(1), Done));
    history.record("b", ok(2, 20, 30, Read, Value(None)));
    assert!(check(&history, LIMIT).is_linearizable());
    history.record("b", ok(2, 40, 50, Read, Value(Some(1))));
    let report = check(&history, LIMIT);
    assert_eq!(report.violations[0].key, "b");
    assert_eq!((report.keys, report.outcomes), (2, (3, 0, 0)));
}
