//! The checker catches what it is for, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod atomic;
mod brute_force;
mod planted;
mod properties;
mod speed;

use std::time::Duration;

use vaylix_checker::{History, Input, Operation, Outcome, Output, Report, check};

/// More than any test needs.
const LIMIT: Duration = Duration::from_secs(60);

/// An acknowledged operation of `client`.
fn ok(client: u32, invoked: u64, returned: u64, input: Input, output: Output) -> Operation {
    Operation { client, invoked, input, outcome: Outcome::Acknowledged { returned, output } }
}

fn unknown(client: u32, invoked: u64, input: Input) -> Operation {
    Operation { client, invoked, input, outcome: Outcome::Unknown }
}

fn refused(client: u32, invoked: u64, input: Input) -> Operation {
    Operation { client, invoked, input, outcome: Outcome::Refused }
}

fn judge(operations: &[Operation]) -> Report {
    let mut history = History::new();
    for operation in operations {
        history.record("k", *operation);
    }
    let report = check(&history, LIMIT);
    assert_eq!(report.undecided, Vec::<String>::new());
    report
}
