//! Histories of a register that really is atomic: a simulation of clients whose steps are interleaved at random.

use vaylix_checker::State;

use super::*;

/// A generator of random numbers with a seed (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ bits >> 31) % below
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }

    /// An operation on few values and versions, so that operations meet.
    pub(crate) fn input(&mut self) -> Input {
        let value = i64::try_from(self.roll(4)).unwrap();
        match self.roll(11) {
            0 | 1 => Input::Read,
            2 => Input::ReadVersion,
            3 | 4 => Input::Write(value),
            5 => Input::Exchange(value),
            6 => Input::WriteIfAbsent(value),
            7 => Input::WriteIfVersion { value, version: 1 + self.roll(3) },
            8 => Input::Delete,
            9 => Input::Take,
            _ => Input::Add(1),
        }
    }
}

/// What a simulated client is about.
enum Client {
    Idle,
    /// Asked; not done yet.
    Asked {
        invoked: u64,
        input: Input,
    },
    /// Done; the answer is on its way.
    Answered {
        invoked: u64,
        input: Input,
        output: Output,
    },
}

/// `operations` operations by `clients` clients of one atomic register. One operation in `losses` loses its answer:
/// half of those before they are done, which they then are later or never.
pub(crate) fn history(dice: &mut Dice, clients: u32, operations: usize, losses: u64) -> Vec<Operation> {
    let mut state = State::default();
    let mut recorded = Vec::new();
    let mut stray: Vec<Input> = Vec::new();
    let mut now = 0;
    let mut at_work: Vec<Client> = (0..clients).map(|_| Client::Idle).collect();
    let apply = |state: &mut State, input: Input| {
        let (after, output) = state.apply(input).unwrap();
        *state = after;
        output
    };
    while recorded.len() < operations {
        now += 1 + dice.roll(3);
        if !stray.is_empty() && dice.one_in(8) {
            let late = stray.swap_remove(usize::try_from(dice.roll(stray.len() as u64)).unwrap());
            apply(&mut state, late);
        }
        let client = u32::try_from(dice.roll(u64::from(clients))).unwrap();
        let slot = &mut at_work[client as usize];
        *slot = match std::mem::replace(slot, Client::Idle) {
            Client::Idle => Client::Asked { invoked: now, input: dice.input() },
            Client::Asked { invoked, input } if dice.one_in(losses * 2) => {
                recorded.push(unknown(client, invoked, input));
                stray.push(input);
                Client::Idle
            }
            Client::Asked { invoked, input } if dice.one_in(20) => {
                recorded.push(refused(client, invoked, input));
                Client::Idle
            }
            Client::Asked { invoked, input } => {
                Client::Answered { invoked, input, output: apply(&mut state, input) }
            }
            Client::Answered { invoked, input, .. } if dice.one_in(losses * 2) => {
                recorded.push(unknown(client, invoked, input));
                Client::Idle
            }
            Client::Answered { invoked, input, output } => {
                recorded.push(ok(client, invoked, now, input, output));
                Client::Idle
            }
        };
    }
    // What was done but not answered by now has an unknown outcome as well.
    for (client, slot) in at_work.into_iter().enumerate() {
        if let Client::Answered { invoked, input, .. } = slot {
            recorded.push(unknown(u32::try_from(client).unwrap(), invoked, input));
        }
    }
    recorded
}
