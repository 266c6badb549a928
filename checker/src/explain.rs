//! From "there is no order" to the few operations a person should look at.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Instant;

use crate::history::{Input, Operation, Outcome, Output};
use crate::search::{Answer, Search};

/// How many operations before the one that cannot be explained are shown.
const SHOWN_MAX: usize = 16;

/// How many states are listed that the key may have had.
const STATES_MAX: usize = 8;

/// Why the history of a key is not linearizable.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The key.
    pub key: String,
    /// Operations that have no order among them, by invocation. Observations that are not needed for that are left
    /// out.
    pub operations: Vec<Operation>,
    /// The first answer that nothing explains: everything that returned before it can be put in order.
    pub culprit: Operation,
    /// What the key may have held, by everything else that is known when the culprit returned.
    pub possible: BTreeSet<String>,
    /// What is known about the value that the culprit saw.
    pub remarks: Vec<String>,
}

impl Violation {
    /// Narrows down `operations`, of which is known that there is no order. Takes no longer than `deadline`; what
    /// cannot be left out by then stays.
    pub(crate) fn explain(key: &str, operations: &[Operation], deadline: Instant) -> Self {
        let mut returns: Vec<u64> = operations.iter().filter_map(returned).collect();
        returns.sort_unstable();
        returns.dedup();
        // What held at one moment held at all moments before it.
        let failing =
            returns.partition_point(|&at| violates(&known_at(operations, at), deadline) != Some(true));
        let at = returns.get(failing).or(returns.last()).copied().unwrap_or(u64::MAX);
        let mut left = known_at(operations, at);
        left.sort_by_key(|operation| operation.invoked);
        let culprit = left
            .iter()
            .find(|operation| returned(operation) == Some(at))
            .or(operations.first())
            .copied()
            .expect("a history without operations has an order");

        let others: Vec<_> = left.iter().filter(|operation| **operation != culprit).copied().collect();
        let possible = Search::new(&others).final_states(deadline, STATES_MAX);
        leave_out_observations(&mut left, &culprit, deadline);
        Self {
            key: key.to_owned(),
            remarks: remarks(operations, &culprit),
            operations: left,
            culprit,
            possible,
        }
    }
}

/// What is known at a moment: later invocations are not, and what has not returned is unknown.
fn known_at(operations: &[Operation], at: u64) -> Vec<Operation> {
    let known = operations.iter().filter(|operation| operation.invoked <= at);
    known
        .map(|operation| match operation.outcome {
            Outcome::Acknowledged { returned, .. } if returned > at => {
                Operation { outcome: Outcome::Unknown, ..*operation }
            }
            _ => *operation,
        })
        .filter(|operation| {
            !(operation.outcome == Outcome::Refused
                || operation.outcome == Outcome::Unknown && operation.input.is_read())
        })
        .collect()
}

fn violates(operations: &[Operation], deadline: Instant) -> Option<bool> {
    match Search::new(operations).run(deadline) {
        Answer::Found => Some(false),
        Answer::None => Some(true),
        Answer::OutOfTime => None,
    }
}

/// Drops operations that changed nothing, in ever smaller groups, as long as no order appears.
fn leave_out_observations(operations: &mut Vec<Operation>, culprit: &Operation, deadline: Instant) {
    let mut group = operations.len();
    while group > 0 {
        let mut at = 0;
        while at < operations.len() {
            let end = (at + group).min(operations.len());
            let shorter: Vec<_> = operations
                .iter()
                .enumerate()
                .filter(|(index, operation)| {
                    !(at..end).contains(index) || !only_observes(operation) || *operation == culprit
                })
                .map(|(_, operation)| *operation)
                .collect();
            if shorter.len() < operations.len() && violates(&shorter, deadline) == Some(true) {
                *operations = shorter;
            } else {
                at = end;
            }
            if Instant::now() >= deadline {
                return;
            }
        }
        group /= 2;
    }
}

/// Whether an operation, by its own answer, changed nothing.
fn only_observes(operation: &Operation) -> bool {
    let unchanged = matches!(operation.outcome, Outcome::Acknowledged { output: Output::Applied(false), .. });
    operation.input.is_read() || unchanged
}

fn returned(operation: &Operation) -> Option<u64> {
    match operation.outcome {
        Outcome::Acknowledged { returned, .. } => Some(returned),
        _ => None,
    }
}

/// Where the value that the culprit saw comes from.
fn remarks(operations: &[Operation], culprit: &Operation) -> Vec<String> {
    let Outcome::Acknowledged { output, .. } = culprit.outcome else { return Vec::new() };
    let (Output::Value(Some(seen)) | Output::Versioned(Some((seen, _)))) = output else { return Vec::new() };
    if operations.iter().any(|operation| matches!(operation.input, Input::Add(_))) {
        return Vec::new();
    }
    let writers: Vec<_> =
        operations.iter().filter(|operation| writes(operation.input) == Some(seen)).collect();
    if writers.is_empty() {
        return vec![format!("{seen} was never written to this key")];
    }
    writers
        .iter()
        .map(|writer| match writer.outcome {
            Outcome::Refused => format!("the write of {seen} was refused: {writer}"),
            Outcome::Acknowledged { output: Output::Applied(false), .. } => {
                format!("the write of {seen} was answered with no: {writer}")
            }
            _ if writer.invoked > returned(culprit).unwrap_or(u64::MAX) => {
                format!("{seen} was written only later: {writer}")
            }
            Outcome::Acknowledged { .. } => format!("{seen} comes from: {writer}"),
            Outcome::Unknown => format!("{seen} may come from: {writer}"),
        })
        .collect()
}

fn writes(input: Input) -> Option<i64> {
    match input {
        Input::Write(value)
        | Input::Exchange(value)
        | Input::WriteIfAbsent(value)
        | Input::WriteIfVersion { value, .. } => Some(value),
        Input::Read | Input::ReadVersion | Input::Delete | Input::Take | Input::Add(_) => None,
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "key {}: no order of these operations explains every answer", self.key)?;
        let elided = self.operations.len().saturating_sub(SHOWN_MAX);
        if elided > 0 {
            writeln!(f, "      ({elided} earlier operations, which fit together, are not shown)")?;
        }
        for operation in &self.operations[elided..] {
            let mark = if *operation == self.culprit { "  >>" } else { "    " };
            writeln!(f, "{mark}  {operation}")?;
        }
        let possible: Vec<_> = self.possible.iter().map(String::as_str).collect();
        if !possible.is_empty() {
            writeln!(f, "    without >> the key may hold: {}", possible.join("; "))?;
        }
        for remark in &self.remarks {
            writeln!(f, "    {remark}")?;
        }
        Ok(())
    }
}
