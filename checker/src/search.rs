//! The search for an order of one key's operations.
//!
//! *Required* operations were acknowledged: all of them must find a place. *Optional* ones have an unknown outcome and
//! are placed only where that changes something. Required ones stand in a linked list of their invocations and
//! returns, by time; whatever is invoked before the first return in the list may be next. Placing an operation
//! takes its two events out, going back puts them in again, so that each step costs what is concurrent, not what
//! there is.
//!
//! A configuration (which operations are placed, and the state) that failed once fails always. It is remembered as
//! a 128-bit fingerprint: should two ever be the same, the worst that can come of it is a violation that is none,
//! never one that goes unseen.

use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use crate::history::{Input, Operation, Outcome, Output};
use crate::register::State;

/// How many configurations are remembered before the search gives up: 16 bytes each, and as much again for the table.
const CONFIGURATIONS_MAX: usize = 20_000_000;

/// How many steps are made between two looks at the clock.
const STEPS_PER_LOOK: u32 = 1024;

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There is an order.
    Found,
    /// There is none.
    None,
    /// Time or memory ran out first.
    OutOfTime,
}

/// An acknowledged operation.
struct Required {
    input: Input,
    output: Output,
    fingerprint: u128,
}

/// An operation with an unknown outcome.
struct Optional {
    input: Input,
    invoked: u64,
    fingerprint: u128,
    /// The one before it that asks the same: of two alike, the earlier is placed first.
    alike: Option<usize>,
    placed: bool,
}

/// One end of a required operation.
#[derive(Clone, Copy)]
struct Event {
    time: u64,
    returns: bool,
    operation: usize,
}

/// What to try next at the present configuration.
#[derive(Clone, Copy)]
enum Cursor {
    /// The required operation at this place of the list, and what follows.
    Required(usize),
    /// Optional operations from this one on, invoked no later than `horizon`.
    Optional { from: usize, horizon: u64 },
}

/// One placed operation, and how to go back.
struct Step {
    required: Option<usize>,
    optional: Option<usize>,
    before: State,
    resume: Cursor,
}

pub(crate) struct Search {
    required: Vec<Required>,
    optional: Vec<Optional>,
    events: Vec<Event>,
    /// Neighbours in the list; the last index is the anchor before the first and after the last event.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where the two events of a required operation are.
    places: Vec<(usize, usize)>,
}

impl Search {
    /// Prepares a search through `operations`, which may be in any order.
    pub(crate) fn new(operations: &[Operation]) -> Self {
        let mut fingerprints = Fingerprints(0);
        let mut sorted: Vec<&Operation> = operations.iter().collect();
        sorted.sort_by_key(|operation| operation.invoked);
        let (mut required, mut optional, mut events) = (Vec::new(), Vec::<Optional>::new(), Vec::new());
        for operation in sorted {
            let (input, invoked) = (operation.input, operation.invoked);
            match operation.outcome {
                Outcome::Acknowledged { returned, output } => {
                    let index = required.len();
                    events.push(Event { time: invoked, returns: false, operation: index });
                    events.push(Event { time: returned, returns: true, operation: index });
                    required.push(Required { input, output, fingerprint: fingerprints.next() });
                }
                Outcome::Unknown if !input.is_read() => {
                    let alike = optional.iter().rposition(|other| other.input == input);
                    let fingerprint = fingerprints.next();
                    optional.push(Optional { input, invoked, fingerprint, alike, placed: false });
                }
                Outcome::Unknown | Outcome::Refused => {}
            }
        }
        // Where a return and an invocation fall together, nothing says which came first: both orders are allowed.
        events.sort_by_key(|event| (event.time, event.returns));
        let anchor = events.len();
        let mut places = vec![(0, 0); required.len()];
        for (at, event) in events.iter().enumerate() {
            let place = &mut places[event.operation];
            *(if event.returns { &mut place.1 } else { &mut place.0 }) = at;
        }
        let next = (0..=anchor).map(|at| if at == anchor { 0 } else { at + 1 }).collect();
        let previous = (0..=anchor).map(|at| if at == 0 { anchor } else { at - 1 }).collect();
        Self { required, optional, events, next, previous, places }
    }

    /// Whether there is an order.
    pub(crate) fn run(self, deadline: Instant) -> Answer {
        self.explore(deadline, |_| true)
    }

    /// The states the key may hold at the end; at most `most` of them.
    pub(crate) fn final_states(self, deadline: Instant, most: usize) -> BTreeSet<String> {
        let mut states = BTreeSet::new();
        self.explore(deadline, |state| {
            states.insert(state.to_string());
            states.len() >= most
        });
        states
    }

    /// Walks through all configurations. `done` is told the state each time every required operation is placed, and
    /// says whether that was enough.
    fn explore(mut self, deadline: Instant, mut done: impl FnMut(State) -> bool) -> Answer {
        let mut seen = HashSet::new();
        let mut steps: Vec<Step> = Vec::new();
        let mut state = State::default();
        let mut placed = 0_u128;
        let mut missing = self.required.len();
        if missing == 0 && done(state) {
            return Answer::Found;
        }
        let anchor = self.events.len();
        let mut cursor = self.start();
        let mut until_look = STEPS_PER_LOOK;
        loop {
            until_look -= 1;
            if until_look == 0 {
                until_look = STEPS_PER_LOOK;
                if Instant::now() >= deadline || seen.len() > CONFIGURATIONS_MAX {
                    return Answer::OutOfTime;
                }
            }
            // The next operation that may come now, and where to go on if nothing comes of it.
            let (choice, resume) = match cursor {
                Cursor::Required(at) if at == anchor => {
                    cursor = Cursor::Optional { from: 0, horizon: u64::MAX };
                    continue;
                }
                Cursor::Required(at) if self.events[at].returns => {
                    cursor = Cursor::Optional { from: 0, horizon: self.events[at].time };
                    continue;
                }
                Cursor::Required(at) => {
                    let operation = self.events[at].operation;
                    (Some((Some(operation), None)), Cursor::Required(self.next[at]))
                }
                Cursor::Optional { from, horizon } => match self.optional.get(from) {
                    Some(candidate) if candidate.invoked <= horizon => {
                        (Some((None, Some(from))), Cursor::Optional { from: from + 1, horizon })
                    }
                    _ => (None, cursor),
                },
            };
            let Some((required, optional)) = choice else {
                let Some(step) = steps.pop() else { return Answer::None };
                (state, cursor) = (step.before, step.resume);
                if let Some(operation) = step.required {
                    self.put_back(operation);
                    placed ^= self.required[operation].fingerprint;
                    missing += 1;
                }
                if let Some(operation) = step.optional {
                    self.optional[operation].placed = false;
                    placed ^= self.optional[operation].fingerprint;
                }
                continue;
            };
            let (after, fingerprint) = match (required, optional) {
                (Some(operation), _) => {
                    let Required { input, output, fingerprint } = self.required[operation];
                    (state.apply(input).filter(|(_, answer)| *answer == output), fingerprint)
                }
                (None, Some(operation)) => {
                    let candidate = &self.optional[operation];
                    let free =
                        !candidate.placed && candidate.alike.is_none_or(|other| self.optional[other].placed);
                    let after = state.apply(candidate.input).filter(|(after, _)| free && *after != state);
                    (after, candidate.fingerprint)
                }
                (None, None) => (None, 0),
            };
            let Some((after, _)) = after else {
                cursor = resume;
                continue;
            };
            if !seen.insert(placed ^ fingerprint ^ state_fingerprint(after)) {
                cursor = resume;
                continue;
            }
            steps.push(Step { required, optional, before: state, resume });
            placed ^= fingerprint;
            state = after;
            if let Some(operation) = required {
                self.take_out(operation);
                missing -= 1;
            }
            if let Some(operation) = optional {
                self.optional[operation].placed = true;
            }
            if missing == 0 && done(state) {
                return Answer::Found;
            }
            cursor = self.start();
        }
    }

    fn start(&self) -> Cursor {
        Cursor::Required(self.next[self.events.len()])
    }

    fn take_out(&mut self, operation: usize) {
        let (invocation, returning) = self.places[operation];
        for at in [invocation, returning] {
            let (before, after) = (self.previous[at], self.next[at]);
            self.next[before] = after;
            self.previous[after] = before;
        }
    }

    /// Undoes the last [`Search::take_out`] that is not undone yet.
    fn put_back(&mut self, operation: usize) {
        let (invocation, returning) = self.places[operation];
        for at in [returning, invocation] {
            let (before, after) = (self.previous[at], self.next[at]);
            self.next[before] = at;
            self.previous[after] = at;
        }
    }
}

/// A sequence of numbers that look random and are the same in every run (SplitMix64, two at a time).
struct Fingerprints(u64);

impl Fingerprints {
    fn next(&mut self) -> u128 {
        let mut half = || {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            u128::from(mixed(self.0))
        };
        half() << 64 | half()
    }
}

fn state_fingerprint(state: State) -> u128 {
    let (value, version) = match state {
        State::Absent => (0, 0),
        State::Present { value, version } => (value.cast_unsigned(), version),
    };
    let low = mixed(value ^ mixed(version.wrapping_add(0xD1B5_4A32_D192_ED03)));
    let high = mixed(version ^ mixed(value.wrapping_add(0x8CB9_2BA7_2F3D_8DD7)));
    u128::from(high) << 64 | u128::from(low)
}

fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}
