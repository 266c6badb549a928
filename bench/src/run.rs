//! The phases of a run, on a few threads that each drive many connections.
//!
//! All threads pass from phase to phase together, so that nothing is measured while others still connect or
//! preload. A thread that failed goes on meeting the others, without connections.

use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use vaylix_dataplane::client;

use crate::connection::Connection;
use crate::flags::Flags;
use crate::load::{Budget, Load};
use crate::random::Random;
use crate::stats::Stats;

/// Requests in flight per connection while preloading.
const PRELOAD_DEPTH: u32 = 64;

/// Requests to measure when neither a number nor a time is given.
const REQUESTS_DEFAULT: u64 = 100_000;

/// What a run measured.
#[derive(Debug)]
pub(crate) struct Measurement {
    pub stats: Stats,
    /// From the common start to the last answer.
    pub elapsed: Duration,
}

struct Phase {
    load: Load,
    depth: u32,
    length: Length,
    budget: OnceLock<Budget>,
    /// Whether a refusal spoils everything that follows.
    all_must_succeed: bool,
}

#[derive(Clone, Copy)]
enum Length {
    Requests(u64),
    Time(Duration),
}

impl Phase {
    fn new(load: Load, depth: u32, length: Length) -> Self {
        Self { load, depth, length, budget: OnceLock::new(), all_must_succeed: false }
    }

    /// The budget; its time starts with the first call.
    fn budget(&self) -> &Budget {
        self.budget.get_or_init(|| match self.length {
            Length::Requests(count) => Budget::requests(count),
            Length::Time(duration) => Budget::Until(Instant::now() + duration),
        })
    }
}

/// Runs everything the options ask for. The last phase is the measured one.
pub(crate) fn run(flags: &Flags, config: &client::Config) -> anyhow::Result<Measurement> {
    let phases: Vec<_> = phases(flags).into_iter().map(Arc::new).collect();
    let threads = flags.threads.min(flags.connections);
    let barrier = Barrier::new(usize::try_from(threads)?);
    let mut total = Measurement { stats: Stats::default(), elapsed: Duration::ZERO };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let streams = (thread..flags.connections).step_by(threads as usize).collect();
                let (phases, barrier) = (&phases, &barrier);
                scope.spawn(move || work(flags, config, streams, phases, barrier))
            })
            .collect();
        for worker in workers {
            let part = worker.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??;
            total.stats.add(&part.stats);
            total.elapsed = total.elapsed.max(part.elapsed);
        }
        Ok(total)
    })
}

fn phases(flags: &Flags) -> Vec<Phase> {
    let mut phases = Vec::new();
    if flags.preload > 0 {
        let preload = Phase::new(Load::preload(flags), PRELOAD_DEPTH, Length::Requests(flags.preload));
        phases.push(Phase { all_must_succeed: true, ..preload });
    }
    if flags.warmup > 0 {
        let time = Duration::from_secs(flags.warmup);
        phases.push(Phase::new(Load::measured(flags), flags.depth, Length::Time(time)));
    }
    let length = match (flags.requests, flags.duration) {
        (Some(count), _) => Length::Requests(count),
        (None, Some(seconds)) => Length::Time(Duration::from_secs(seconds)),
        (None, None) => Length::Requests(REQUESTS_DEFAULT),
    };
    phases.push(Phase::new(Load::measured(flags), flags.depth, length));
    phases
}

/// One thread: opens its connections, then takes part in every phase. Answers what the last phase measured.
fn work(
    flags: &Flags,
    config: &client::Config,
    streams: Vec<u32>,
    phases: &[Arc<Phase>],
    barrier: &Barrier,
) -> anyhow::Result<Measurement> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut failure = None;
    let mut connections = Vec::new();
    match &runtime {
        Err(error) => failure = Some(anyhow::anyhow!("cannot start a runtime: {error}")),
        Ok(runtime) => match runtime.block_on(open(flags, config, &streams)) {
            Ok(opened) => connections = opened,
            Err(error) => failure = Some(error),
        },
    }
    let mut last = Measurement { stats: Stats::default(), elapsed: Duration::ZERO };
    for phase in phases {
        barrier.wait();
        let Ok(runtime) = &runtime else { continue };
        let start = Instant::now();
        match runtime.block_on(drive(std::mem::take(&mut connections), phase)) {
            Ok((stats, still_open)) => {
                last = Measurement { stats, elapsed: start.elapsed() };
                connections = still_open;
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(last), Err)
}

async fn open(flags: &Flags, config: &client::Config, streams: &[u32]) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(streams.len());
    for &stream in streams {
        connections.push(Connection::open(config, Random::new(flags.seed, u64::from(stream))).await?);
    }
    Ok(connections)
}

/// One phase on all connections of a thread.
async fn drive(connections: Vec<Connection>, phase: &Arc<Phase>) -> anyhow::Result<(Stats, Vec<Connection>)> {
    let stats = Arc::new(Mutex::new(Stats::default()));
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let (phase, stats) = (Arc::clone(phase), Arc::clone(&stats));
            tokio::spawn(async move {
                connection.run(&phase.load, phase.budget(), phase.depth, &stats).await?;
                anyhow::Ok(connection)
            })
        })
        .collect();
    let mut connections = Vec::with_capacity(tasks.len());
    for task in tasks {
        connections.push(task.await.context("a connection's task failed")??);
    }
    let stats = std::mem::take(&mut *stats.lock());
    if phase.all_must_succeed
        && let Some((code, count)) = stats.errors.first_key_value()
    {
        bail!("the server refused to be filled: {count} times {code}");
    }
    Ok((stats, connections))
}

#[cfg(test)]
mod tests;
