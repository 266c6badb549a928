//! Whatever an atomic register does is accepted; on small histories the checker agrees with the definition.

use proptest::prelude::*;

use super::atomic::{self, Dice};
use super::*;

/// Changes one answer, or moves one operation in time, so that the history may be one that no register has.
fn mutate(dice: &mut Dice, operations: &mut [Operation]) {
    let at = usize::try_from(dice.roll(operations.len() as u64)).unwrap();
    let operation = &mut operations[at];
    let Outcome::Acknowledged { returned, output } = &mut operation.outcome else {
        if operation.outcome == Outcome::Unknown {
            operation.outcome = Outcome::Refused;
        }
        return;
    };
    if dice.one_in(3) {
        // Shorter, so that it must be placed where it may not have been.
        let length = *returned - operation.invoked;
        if dice.one_in(2) {
            operation.invoked += dice.roll(length + 1);
        } else {
            *returned -= dice.roll(length + 1);
        }
        return;
    }
    let value = i64::try_from(dice.roll(4)).unwrap();
    *output = match *output {
        Output::Done => Output::Done,
        Output::Value(_) => Output::Value((!dice.one_in(4)).then_some(value)),
        Output::Versioned(_) => Output::Versioned((!dice.one_in(4)).then_some((value, 1 + dice.roll(3)))),
        Output::Applied(applied) => Output::Applied(!applied),
        Output::Integer(number) => Output::Integer(number + if dice.one_in(2) { 1 } else { -1 }),
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn an_atomic_register_is_accepted(seed: u64, clients in 1_u32..8, operations in 1_usize..120) {
        let history = atomic::history(&mut Dice(seed), clients, operations, 12);
        let report = judge(&history);
        prop_assert!(report.is_linearizable(), "{report}");
    }

    #[test]
    fn the_checker_agrees_with_the_definition(seed: u64, clients in 1_u32..5, operations in 1_usize..8, changes in 0..4) {
        let mut dice = Dice(seed);
        let mut history = atomic::history(&mut dice, clients, operations, 6);
        for _ in 0..changes {
            mutate(&mut dice, &mut history);
        }
        let report = judge(&history);
        prop_assert_eq!(report.is_linearizable(), brute_force::is_linearizable(&history), "{}", report);
    }
}

/// The comparison above means something only if mutations lead to both answers.
#[test]
fn mutations_lead_to_violations_and_to_legal_histories() {
    let verdicts: Vec<bool> = (0..500)
        .map(|seed| {
            let mut dice = Dice(seed);
            let mut history = atomic::history(&mut dice, 3, 6, 6);
            mutate(&mut dice, &mut history);
            judge(&history).is_linearizable()
        })
        .collect();
    let legal = verdicts.iter().filter(|legal| **legal).count();
    assert!((50..450).contains(&legal), "{legal} of 500 are legal");
}

/// Threads and a lock instead of a simulation: real clocks, real races.
#[test]
fn threads_around_a_lock_are_accepted() {
    use std::sync::Mutex;
    use std::time::Instant;
    use vaylix_checker::State;

    let register = Mutex::new(State::default());
    let epoch = Instant::now();
    let now = || u64::try_from(epoch.elapsed().as_nanos()).unwrap();
    let histories = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (register, now) = (&register, &now);
                scope.spawn(move || {
                    let mut dice = Dice(u64::from(client));
                    let mut recorded = Vec::new();
                    for _ in 0..500 {
                        let input = dice.input();
                        let invoked = now();
                        let output = {
                            let mut state = register.lock().unwrap();
                            let (after, output) = state.apply(input).unwrap();
                            *state = after;
                            output
                        };
                        recorded.push(ok(client, invoked, now(), input, output));
                    }
                    recorded
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let report = judge(&histories);
    assert!(report.is_linearizable(), "{report}");
}
