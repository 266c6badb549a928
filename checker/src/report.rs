//! All keys of a history, one after the other.

use std::fmt;
use std::time::{Duration, Instant};

use crate::explain::Violation;
use crate::history::History;
use crate::search::{Answer, Search};

/// Least time for explaining a violation, in case finding it took all there was.
const EXPLAIN_TIME_MIN: Duration = Duration::from_secs(5);

/// What the check of a history came to.
#[derive(Debug)]
pub struct Report {
    /// How many keys the history has.
    pub keys: usize,
    /// How many operations were acknowledged, refused, and left unknown.
    pub outcomes: (usize, usize, usize),
    /// What cannot be explained; empty for a linearizable history.
    pub violations: Vec<Violation>,
    /// Keys about which the time limit left nothing to say.
    pub undecided: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Report {
    /// Whether every key was checked and is linearizable.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        self.violations.is_empty() && self.undecided.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (acknowledged, refused, unknown) = self.outcomes;
        writeln!(
            f,
            "{} operations ({acknowledged} acknowledged, {refused} refused, {unknown} unknown) on {} keys, \
             checked in {:.1?}: {} violations, {} keys undecided",
            acknowledged + refused + unknown,
            self.keys,
            self.elapsed,
            self.violations.len(),
            self.undecided.len(),
        )?;
        for violation in &self.violations {
            write!(f, "{violation}")?;
        }
        if !self.undecided.is_empty() {
            writeln!(f, "undecided: {}", self.undecided.join(", "))?;
        }
        Ok(())
    }
}

/// Checks every key of `history`, for `limit` altogether.
#[must_use]
pub fn check(history: &History, limit: Duration) -> Report {
    let start = Instant::now();
    let deadline = start + limit;
    let mut report = Report {
        keys: history.keys.len(),
        outcomes: history.outcomes(),
        violations: Vec::new(),
        undecided: Vec::new(),
        elapsed: Duration::ZERO,
    };
    for (key, operations) in &history.keys {
        match Search::new(operations).run(deadline) {
            Answer::Found => {}
            Answer::None => {
                let deadline = deadline.max(Instant::now() + EXPLAIN_TIME_MIN);
                report.violations.push(Violation::explain(key, operations, deadline));
            }
            Answer::OutOfTime => report.undecided.push(key.clone()),
        }
    }
    report.elapsed = start.elapsed();
    report
}
