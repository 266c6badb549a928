//! The engine worker: turns many commands into few log entries.
//!
//! One entry is in flight at a time, because one entry costs one sync of the disk whatever it holds: the
//! commands that arrive meanwhile form the next, larger one. Callers that were just answered are likely to have
//! something next: before it closes a batch the worker lets other tasks run, a few times at most, until as many
//! commands are there as were answered and as were waiting. A single caller never waits for anybody.
//!
//! A node cannot take back an entry that its log has agreed to hold. So the worker asks the log for room before it
//! proposes one, and where there is none it refuses, one by one, the commands that do not free any.
//!
//! Invariants
//! - Commands of one caller enter the log in the order in which they were enqueued; callers take turns.
//! - Every waiter of a batch is answered before the next batch is closed.
//! - Stamps never go back: each is at least the clock, the last stamp and the time of the state.
//! - A command admitted under another access revision than the current one never enters the log.
//! - No entry is proposed that the log has no room for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{sleep, timeout};
use tracing::Span;
use vaylix_engine::op::Batch;
use vaylix_engine::state::{Outcome, Reader};
use vaylix_engine::wal::{Purpose, Wal, size_alone_bytes};

use crate::clock;
use crate::config::{Acknowledge, ClusterConfig};
use crate::error::ProposeError;
use crate::followed::LINKS_MAX;
use crate::gate::Gate;
use crate::lanes::Lanes;
use crate::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, ENTRY_BYTES_MAX};
use crate::queue::{Answer, Job, Jobs};
use crate::raft::codec::KIND_BATCH;
use crate::raft::machine::Machine;
use crate::raft::office::{leader_hint_of, on_all_voters};
use crate::raft::{self, EntryBody, Raft};
use crate::status::Counters;

pub(crate) struct Worker {
    pub(crate) jobs: Jobs,
    pub(crate) raft: Raft,
    pub(crate) reader: Reader,
    pub(crate) wal: Wal,
    pub(crate) machine: Arc<Machine>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) gate: Arc<Gate>,
    /// What a write waits for in a cluster; `None` for a node that is alone.
    pub(crate) cluster: Option<ClusterConfig>,
    /// How often others may run before a batch is closed.
    pub(crate) gather_yields: u32,
    /// How long the disk may keep a write waiting before its callers are told that nobody knows how it will end. Then, and
    /// as often again, the worker looks whether it is the disk that they wait for.
    pub(crate) stuck_patience: Duration,
}

impl Worker {
    /// Serves until `stop` resolves, then what is still enqueued, then ends.
    pub(crate) async fn run(mut self, mut stop: tokio::sync::oneshot::Receiver<()>) {
        let mut waiting = Lanes::default();
        let mut answered = 0;
        let mut last_stamp_ms = 0;
        let mut stopping = false;
        loop {
            // Also while there is always something to do, or a stop would wait for a pause of the callers.
            if !stopping && !matches!(stop.try_recv(), Err(TryRecvError::Empty)) {
                self.jobs.close();
                stopping = true;
            }
            // Those who wait already, and those who were just answered and may come back.
            let expected = waiting.len() + self.jobs.len() + answered;
            if waiting.is_empty() {
                tokio::select! {
                    biased;
                    _ = &mut stop, if !stopping => {
                        self.jobs.close();
                        stopping = true;
                        continue;
                    }
                    job = self.jobs.next() => match job {
                        Some(job) => waiting.push(job),
                        None => return,
                    },
                }
            }
            self.gather(&mut waiting, expected).await;
            let revision = self.reader.access_revision();
            let batch = self.close(&mut waiting, revision);
            answered = batch.len();
            if answered > 0 {
                last_stamp_ms = self.reader.now(clock::now_ms()).max(last_stamp_ms);
                let committed = self.commit(batch, last_stamp_ms, revision, &mut stop).await;
                if committed == Committed::Abandoned {
                    return self.refuse_rest(waiting);
                }
            }
        }
    }

    /// Moves what has arrived into `waiting`, letting others run in between until as many are there as can be
    /// expected.
    async fn gather(&mut self, waiting: &mut Lanes, expected: usize) {
        let enough = expected.min(BATCH_COMMANDS_MAX);
        for round in 0..=self.gather_yields {
            // Everything: whose turn is next may have come last.
            while let Some(job) = self.jobs.take() {
                waiting.push(job);
            }
            if waiting.len() >= enough || round == self.gather_yields {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes as many commands in turn as fit in one entry; those admitted under another revision are answered
    /// on the way.
    fn close(&self, waiting: &mut Lanes, revision: u64) -> Vec<Job> {
        let mut batch = Vec::with_capacity(waiting.len().min(BATCH_COMMANDS_MAX));
        let mut bytes = 0;
        let fits = |job: &Job, bytes: usize, count: usize| {
            count == 0 || bytes + job.bytes <= BATCH_BYTES_MAX && count < BATCH_COMMANDS_MAX
        };
        while let Some(job) = waiting.pop_if(|job| fits(job, bytes, batch.len())) {
            if job.access_revision.is_some_and(|admitted| admitted != revision) {
                self.answer(std::iter::once((job, Err(ProposeError::Stale))));
                continue;
            }
            bytes += job.bytes;
            batch.push(job);
        }
        batch
    }

    /// Makes the batch durable and applied, and answers it.
    async fn commit(
        &mut self,
        jobs: Vec<Job>,
        time_ms: u64,
        revision: u64,
        stop: &mut oneshot::Receiver<()>,
    ) -> Committed {
        // Before an office has begun, the state may be older than the log, and stamps and admissions are judged by it.
        let Some(office) = self.gate.office() else {
            let error = ProposeError::NotLeader { leader: leader_hint_of(&self.raft) };
            self.fail(jobs, &error);
            return Committed::Answered;
        };
        let bytes = encode(&jobs, time_ms, revision);
        if bytes.len() > ENTRY_BYTES_MAX {
            let error = ProposeError::TooLarge { bytes: bytes.len(), bytes_max: ENTRY_BYTES_MAX };
            self.fail(jobs, &error);
            return Committed::Answered;
        }
        let (jobs, bytes) = match self.find_room(bytes.len(), Purpose::Write).await {
            Ok(()) => (jobs, bytes),
            Err(error) => {
                // Perhaps a snapshot makes room.
                self.machine.snapshot_due.notify_one();
                let (freeing, others) = jobs.into_iter().partition(|job: &Job| job.change.frees());
                self.fail(others, &error);
                if freeing.is_empty() {
                    return Committed::Answered;
                }
                let bytes = encode(&freeing, time_ms, revision);
                if let Err(error) = self.find_room(bytes.len(), Purpose::Free).await {
                    self.fail(freeing, &error);
                    return Committed::Answered;
                }
                (freeing, bytes)
            }
        };
        // What comes while the office is given away is for the heir.
        self.gate.not_retiring().await;
        if self.gate.office() != Some(office) {
            let error = ProposeError::NotLeader { leader: leader_hint_of(&self.raft) };
            self.fail(jobs, &error);
            return Committed::Answered;
        }
        self.counters.batch(jobs.len(), bytes.len());
        let lead = lead(&jobs);
        self.gate.followed.begin(&bytes, &lead);
        let _followed = Following(&self.gate);
        let proposed_at = Instant::now();
        let raft = self.raft.clone();
        let mut proposed = std::pin::pin!(raft::propose(&raft, EntryBody { time_ms, bytes }));
        let mut jobs = Some(jobs);
        let patience =
            self.cluster.as_ref().map_or(self.stuck_patience, |cluster| cluster.acknowledge_timeout);
        let mut held = self.gate.watch_office();
        let mut deposed = std::pin::pin!(async {
            // The sender lives as long as the worker.
            drop(held.wait_for(|held| *held != Some(office)).await);
        });
        loop {
            tokio::select! {
                biased;
                outcome = &mut proposed => {
                    let jobs = jobs.unwrap_or_default();
                    if outcome.is_ok() {
                        self.counters.until_applied.count(proposed_at.elapsed());
                    }
                    match outcome {
                        // Nobody waits for it any more.
                        _ if jobs.is_empty() => {}
                        // What became of it here is not what became of it elsewhere.
                        Ok(_) if self.machine.quarantine.is_imposed() => {
                            self.fail(jobs, &ProposeError::OutcomeUnknown);
                        }
                        Ok((sequence, _)) if !self.is_everywhere(sequence).await => {
                            self.fail(jobs, &ProposeError::NotOnAll { sequence });
                        }
                        Ok((sequence, outcomes)) => {
                            mark(&jobs, sequence);
                            assert_eq!(outcomes.len(), jobs.len(), "one outcome per operation of the entry");
                            self.answer(jobs.into_iter().zip(outcomes.into_iter().map(answer)));
                        }
                        Err(error) => self.fail(jobs, &error),
                    }
                    return Committed::Answered;
                }
                // Another leader decides what becomes of it.
                _ = &mut deposed, if self.cluster.is_some() => {
                    self.fail(jobs.unwrap_or_default(), &ProposeError::OutcomeUnknown);
                    return Committed::Answered;
                }
                // While an entry is stuck, those who come are refused: what they want did not happen.
                Some(job) = self.jobs.next(), if jobs.is_none() => {
                    if self.cluster.is_some() && !self.wal.is_stuck() {
                        self.fail(vec![job], &ProposeError::NoQuorum);
                        continue;
                    }
                    let error = self.find_room(job.bytes, Purpose::Free).await.err();
                    let error = error.unwrap_or_else(|| {
                        ProposeError::NoRoom("an earlier write was waiting for the disk: try again".to_owned())
                    });
                    self.fail(vec![job], &error);
                }
                _ = &mut *stop, if jobs.is_none() => return Committed::Abandoned,
                () = sleep(patience) => {
                    if (self.wal.is_stuck() || self.cluster.is_some()) && let Some(jobs) = jobs.take() {
                        self.fail(jobs, &ProposeError::OutcomeUnknown);
                    }
                }
            }
        }
    }

    /// Whether every voter has the entry, where that is asked for, as soon as it is so or the time for it is over.
    async fn is_everywhere(&self, sequence: u64) -> bool {
        match &self.cluster {
            Some(ClusterConfig { acknowledge: Acknowledge::All, acknowledge_timeout, .. }) => {
                timeout(*acknowledge_timeout, on_all_voters(&self.raft, sequence)).await.is_ok()
                    && self.gate.office().is_some()
            }
            _ => true,
        }
    }

    /// Makes sure that the log has room for an entry of this size.
    async fn find_room(&self, body_len: usize, purpose: Purpose) -> Result<(), ProposeError> {
        let bytes = size_alone_bytes(body_len);
        if self.wal.has_room(bytes, purpose) {
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        // Nobody to tell means that the worker was torn down.
        self.wal.want_room(bytes, purpose, Box::new(move |found| drop(tell.send(found))));
        match told.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ProposeError::NoRoom(error.to_string())),
            Err(_gone) => Err(ProposeError::Closed),
        }
    }

    /// Refuses what has not been begun.
    fn refuse_rest(&mut self, mut waiting: Lanes) {
        self.jobs.close();
        while let Some(job) = waiting.pop_if(|_| true) {
            self.fail(vec![job], &ProposeError::Closed);
        }
        while let Some(job) = self.jobs.take() {
            self.fail(vec![job], &ProposeError::Closed);
        }
    }

    fn fail(&self, jobs: Vec<Job>, error: &ProposeError) {
        self.answer(jobs.into_iter().map(|job| (job, Err(error.clone()))));
    }

    fn answer(&self, answers: impl Iterator<Item = (Job, Answer)>) {
        self.jobs.answered(answers.map(|(job, answer)| {
            if answer == Err(ProposeError::Stale) {
                self.counters.stale.add(1);
            }
            if !job.span.is_disabled() {
                finish(&job.span, &answer);
            }
            // A caller that no longer listens does not mind.
            drop(job.answer.send(answer));
            job.bytes
        }));
    }
}

/// The span that stands for a batch: that of its first proposal that is followed. The others have links to it.
fn lead(jobs: &[Job]) -> Span {
    let mut followed = jobs.iter().map(|job| &job.span).filter(|span| !span.is_disabled());
    let Some(lead) = followed.next() else { return Span::none() };
    for other in followed.take(LINKS_MAX) {
        other.follows_from(lead);
    }
    lead.clone()
}

/// Says in the spans of a batch where in the log it is.
fn mark(jobs: &[Job], sequence: u64) {
    for job in jobs.iter().filter(|job| !job.span.is_disabled()) {
        job.span.record("batch.commands", jobs.len());
        job.span.record("log.index", sequence);
    }
}

/// A proposal is over, also if others still hold on to its span. They are told when it was left last.
fn finish(span: &Span, answer: &Answer) {
    if answer.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    span.in_scope(|| ());
}

/// Ends that an entry is followed.
struct Following<'a>(&'a Gate);

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.followed.end();
    }
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Committed {
    /// Its callers know as much as there is to know, and the log is ready for the next one.
    Answered,
    /// The log is not, and the node is to stop.
    Abandoned,
}

fn answer(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Reply(reply) => Ok(reply),
        Outcome::Failed(error) => Err(ProposeError::Failed(error)),
        Outcome::Stale => Err(ProposeError::Stale),
    }
}

fn encode(jobs: &[Job], time_ms: u64, access_revision: u64) -> Bytes {
    let ops = jobs.iter().map(|job| job.change.op()).collect();
    let mut bytes = Batch { time_ms, access_revision, ops }.encode();
    bytes.insert(0, KIND_BATCH);
    // The log keeps it in memory for a while, and counts what it holds, not what was reserved.
    bytes.shrink_to_fit();
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use vaylix_proto::Command;

    use super::*;
    use crate::proposal::{Change, Payload};
    use crate::queue::NODE_ITSELF;

    #[test]
    fn an_entry_in_memory_is_not_larger_than_its_bytes() {
        let job = || {
            let change = Change::Proposed(Payload::Command(Command::Incr { key: "n".into() }));
            Job {
                caller: NODE_ITSELF,
                access_revision: None,
                bytes: change.bytes(),
                span: Span::none(),
                change,
                answer: oneshot::channel().0,
            }
        };
        let jobs: Vec<_> = std::iter::repeat_with(job).take(BATCH_COMMANDS_MAX).collect();
        let bytes = encode(&jobs, 1, 0);
        let len = bytes.len();
        let capacity = bytes.try_into_mut().expect("nobody else holds it").capacity();
        assert!(capacity < len + len / 8, "{capacity} bytes hold {len}");
    }
}
