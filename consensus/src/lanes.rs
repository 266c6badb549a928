//! The jobs that wait for a batch, in the order in which they get into one.
//!
//! Those of one caller stay in their order; callers take turns. So a caller that has sent little does not wait behind
//! another one that has sent a lot, and a flood delays nobody but its source by more than a batch.

use std::collections::{HashMap, VecDeque};

use crate::queue::Job;

/// Empty lanes that are kept for the next callers.
const SPARE_LANES_MAX: usize = 1_024;

/// Jobs by caller.
#[derive(Default)]
pub(crate) struct Lanes {
    lanes: HashMap<u64, VecDeque<Job>>,
    /// Callers with waiting jobs, those first whose turn is next.
    turns: VecDeque<u64>,
    len: usize,
    spare: Vec<VecDeque<Job>>,
}

impl Lanes {
    /// How many jobs wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a job behind the others of its caller.
    pub(crate) fn push(&mut self, job: Job) {
        let caller = job.caller;
        let lane = self.lanes.entry(caller).or_insert_with(|| self.spare.pop().unwrap_or_default());
        if lane.is_empty() {
            self.turns.push_back(caller);
        }
        lane.push_back(job);
        self.len += 1;
    }

    /// Takes the next job, if it is one that `takes` wants.
    pub(crate) fn pop_if(&mut self, takes: impl FnOnce(&Job) -> bool) -> Option<Job> {
        let caller = *self.turns.front()?;
        let lane = self.lanes.get_mut(&caller).expect("whoever has a turn has a lane");
        let job = lane.pop_front_if(|job| takes(job))?;
        self.len -= 1;
        self.turns.pop_front();
        if lane.is_empty() {
            let lane = self.lanes.remove(&caller).expect("it is there");
            if self.spare.len() < SPARE_LANES_MAX {
                self.spare.push(lane);
            }
        } else {
            self.turns.push_back(caller);
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use vaylix_proto::Command;

    use super::*;
    use crate::proposal::{Change, Payload};

    /// A job of this size, which stands for what it is in the tests.
    fn job(caller: u64, bytes: usize) -> Job {
        let change = Change::Proposed(Payload::Command(Command::Incr { key: "n".into() }));
        Job {
            caller,
            access_revision: None,
            change,
            bytes,
            span: tracing::Span::none(),
            answer: oneshot::channel().0,
        }
    }

    fn drain(lanes: &mut Lanes) -> Vec<(u64, usize)> {
        std::iter::from_fn(|| lanes.pop_if(|_| true)).map(|job| (job.caller, job.bytes)).collect()
    }

    #[test]
    fn callers_take_turns_and_each_keeps_its_order() {
        let mut lanes = Lanes::default();
        for bytes in 1..=4 {
            lanes.push(job(7, bytes));
        }
        lanes.push(job(8, 10));
        lanes.push(job(9, 20));
        lanes.push(job(9, 21));
        assert_eq!(lanes.len(), 7);
        let order = [(7, 1), (8, 10), (9, 20), (7, 2), (9, 21), (7, 3), (7, 4)];
        assert_eq!(drain(&mut lanes), order);
        assert!(lanes.is_empty());
        // An emptied lane is as good as a new one.
        lanes.push(job(8, 11));
        lanes.push(job(7, 5));
        assert_eq!(drain(&mut lanes), [(8, 11), (7, 5)]);
    }

    #[test]
    fn a_job_that_is_not_wanted_stays_the_next_one() {
        let mut lanes = Lanes::default();
        lanes.push(job(1, 100));
        lanes.push(job(2, 1));
        assert!(lanes.pop_if(|job| job.bytes < 100).is_none());
        assert_eq!(lanes.len(), 2);
        assert_eq!(drain(&mut lanes), [(1, 100), (2, 1)]);
    }
}
