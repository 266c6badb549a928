//! Fast enough for long runs.

use std::time::Instant;

use super::atomic::{self, Dice};
use super::*;

#[test]
fn a_hundred_thousand_operations_take_seconds() {
    let mut dice = Dice(1);
    let mut history = History::new();
    for key in 0..500 {
        for operation in atomic::history(&mut dice, 8, 200, 50) {
            history.record(&format!("key {key}"), operation);
        }
    }
    assert!(history.len() >= 100_000);
    let start = Instant::now();
    let report = check(&history, LIMIT);
    assert!(report.is_linearizable(), "{report}");
    assert!(start.elapsed().as_secs() < 10, "{report}");
}

#[test]
fn one_long_key_is_no_trouble() {
    let mut history = History::new();
    for operation in atomic::history(&mut Dice(2), 8, 50_000, 2_000) {
        history.record("k", operation);
    }
    let report = check(&history, LIMIT);
    assert!(report.is_linearizable(), "{report}");
    assert!(report.elapsed.as_secs() < 10, "{report}");
}

#[test]
fn the_time_limit_holds_and_is_not_mistaken_for_a_verdict() {
    // Many unknown writes of different values, and an answer that only a full search can refute.
    let mut operations: Vec<_> = (0..40).map(|value| unknown(1, 0, Input::Write(value))).collect();
    operations.push(ok(2, 10, 20, Input::ReadVersion, Output::Versioned(Some((1, 99)))));
    let mut history = History::new();
    for operation in operations {
        history.record("k", operation);
    }
    let report = check(&history, Duration::from_millis(50));
    assert_eq!(report.undecided, ["k"]);
    assert!(!report.is_linearizable());
    assert!(report.elapsed.as_secs() < 5, "{report}");
}
