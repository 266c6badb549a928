//! The definition of linearizability, written down without any cleverness, for histories of a few operations.

use vaylix_checker::State;

use super::*;

/// Whether some order of all acknowledged and some unknown operations explains every answer.
pub(crate) fn is_linearizable(operations: &[Operation]) -> bool {
    let asked: Vec<Operation> =
        operations.iter().filter(|operation| operation.outcome != Outcome::Refused).copied().collect();
    extend(&asked, &mut vec![false; asked.len()], State::default())
}

fn extend(operations: &[Operation], placed: &mut [bool], state: State) -> bool {
    let open: Vec<usize> = (0..operations.len()).filter(|&index| !placed[index]).collect();
    if open.iter().all(|&index| operations[index].outcome == Outcome::Unknown) {
        return true;
    }
    open.iter().any(|&candidate| {
        // Nothing that is still to be placed may have returned before the candidate was invoked.
        let too_early = open.iter().any(|&other| match operations[other].outcome {
            Outcome::Acknowledged { returned, .. } => returned < operations[candidate].invoked,
            _ => false,
        });
        let Some((after, answer)) = state.apply(operations[candidate].input) else { return false };
        let fits = match operations[candidate].outcome {
            Outcome::Acknowledged { output, .. } => output == answer,
            _ => true,
        };
        if too_early || !fits {
            return false;
        }
        placed[candidate] = true;
        let found = extend(operations, placed, after);
        placed[candidate] = false;
        found
    })
}
