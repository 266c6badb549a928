//! Long work beside the serving of requests, which it must not take the processor from.
//!
//! Such work has a thread of its own, which is nice to others and, while the process serves, does a little at a time: a
//! thread of lower priority still takes the processor from the latency of whoever comes next, for as long as it may run in
//! one go. Work that cannot pause is as nice as can be ([`spawn_nicest`]). The scheduler's idle class would do better, but work
//! in it comes to a standstill where the machine is never idle, cannot be taken out of it again, and takes along whoever waits
//! for a lock that it holds, if only in the allocator or the kernel.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

/// Where all cores are busy, a thread of usual priority gets three times the time of one that is this nice.
const NICENESS: i32 = 5;

/// The lowest priority there is but for the idle class.
const NICENESS_MAX: i32 = 19;

/// How long work goes on in one go.
const BURST: Duration = Duration::from_millis(1);

/// How many times as long as it has worked it pauses, while the process serves others.
const PAUSE_FACTOR: f64 = 7.0;

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How often it looks whether the process serves others.
const WINDOW: Duration = Duration::from_millis(20);

/// The process serves others when everything but background work takes this part of a core.
const SERVING_MIN: f64 = 0.1;

/// The processor's time that background work of this process has taken, in nanoseconds.
static TAKEN_NS: AtomicU64 = AtomicU64::new(0);

/// Runs `work` on a thread of its own that gives way to others.
///
/// # Errors
/// When there is no thread to be had, or the work panicked.
pub async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(&Pace) -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = setpriority_process(Some(gettid()), NICENESS) {
            tracing::debug!(%error, "background work goes on at usual priority");
        }
        let pace = Pace::begin();
        let result = work(&pace);
        pace.account();
        // Nobody waits any more when the node is being dropped.
        _ = done.send(result);
    })?;
    result.await.map_err(|_dropped| io::Error::other(format!("{name} panicked")))
}

/// Runs `work` on a thread of its own that takes next to nothing from others: short work that can be done anew by whoever
/// cannot wait for it.
///
/// # Errors
/// When there is no thread to be had.
pub fn spawn_nicest(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if let Err(error) = setpriority_process(Some(gettid()), NICENESS_MAX) {
                tracing::debug!(%error, "work goes on at usual priority");
            }
            work();
        })
        .map(drop)
}

/// Lets long work pause as often as those whom the process serves need it to.
pub struct Pace {
    burst_begun: Cell<Instant>,
    /// The processor's time of this thread that is in [`TAKEN_NS`].
    accounted: Cell<Duration>,
    window: Cell<Reading>,
    is_serving: Cell<bool>,
}

/// What the clocks say.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    /// The processor's time of everything but background work.
    serving: Duration,
}

impl Reading {
    fn take() -> Self {
        let background = Duration::from_nanos(TAKEN_NS.load(Ordering::Relaxed));
        Self { at: Instant::now(), serving: taken(ClockId::ProcessCPUTime).saturating_sub(background) }
    }

    fn is_serving_since(&self, earlier: &Self) -> bool {
        let serving = self.serving.saturating_sub(earlier.serving);
        serving.as_secs_f64() >= (self.at - earlier.at).as_secs_f64() * SERVING_MIN
    }
}

impl Pace {
    fn begin() -> Self {
        Self {
            burst_begun: Cell::new(Instant::now()),
            accounted: Cell::new(taken(ClockId::ThreadCPUTime)),
            window: Cell::new(Reading::take()),
            // Not known yet, and a few pauses do no harm.
            is_serving: Cell::new(true),
        }
    }

    /// To be called after every small piece of the work, the smaller the better: pauses when it is time to. `leisure`,
    /// from 0 to 1, says how long the pauses may be: 0 when the work must come to its end.
    pub fn breathe(&self, leisure: f64) {
        if self.burst_begun.get().elapsed() < BURST {
            return;
        }
        let worked = self.account();
        let (now, before) = (Reading::take(), self.window.get());
        if now.at - before.at >= WINDOW {
            self.is_serving.set(now.is_serving_since(&before));
            self.window.set(now);
        }
        let pause = worked.mul_f64(PAUSE_FACTOR * leisure.clamp(0.0, 1.0)).min(PAUSE_MAX);
        if self.is_serving.get() && !pause.is_zero() {
            thread::sleep(pause);
        }
        self.burst_begun.set(Instant::now());
    }

    /// Counts what this thread has worked since the last time, and tells how much that is.
    fn account(&self) -> Duration {
        let taken = taken(ClockId::ThreadCPUTime);
        let worked = taken.saturating_sub(self.accounted.replace(taken));
        TAKEN_NS.fetch_add(u64::try_from(worked.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        worked
    }
}

/// The processor's time by one of its clocks.
fn taken(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn niceness() -> i32 {
        rustix::process::getpriority_process(Some(gettid())).unwrap()
    }

    /// Works for so much of the processor's time and tells how long it took.
    fn work(pace: &Pace, time: Duration, leisure: f64) -> Duration {
        let (begun, end) = (Instant::now(), taken(ClockId::ThreadCPUTime) + time);
        while taken(ClockId::ThreadCPUTime) < end {
            pace.breathe(leisure);
        }
        begun.elapsed()
    }

    #[tokio::test]
    async fn the_work_gives_way_and_the_caller_does_not() {
        let nice = niceness();
        assert!(run("nice", |_| niceness()).await.unwrap() >= NICENESS);
        assert_eq!(niceness(), nice);
    }

    #[test]
    fn the_nicest_work_is_as_nice_as_can_be_and_its_caller_is_not() {
        let before = niceness();
        let (tell, told) = std::sync::mpsc::channel();
        spawn_nicest("nicest", move || tell.send(niceness()).unwrap()).unwrap();
        assert_eq!(told.recv().unwrap(), NICENESS_MAX);
        assert_eq!(niceness(), before);
    }

    #[tokio::test]
    async fn work_pauses_while_the_process_serves_unless_it_has_no_leisure() {
        let done = AtomicBool::new(false);
        let (leisurely, hasty) = thread::scope(|scope| {
            let serving = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let timed = |leisure| {
                let pace = Pace::begin();
                work(&pace, Duration::from_millis(40), leisure)
            };
            let times = (timed(1.0), timed(0.0));
            done.store(true, Ordering::Relaxed);
            serving.join().unwrap();
            times
        });
        // It cannot be quicker than its pauses allow, however fast the machine.
        assert!(leisurely >= Duration::from_millis(200), "{leisurely:?}");
        assert!(hasty < leisurely, "{hasty:?} of {leisurely:?}");
    }

    #[test]
    fn who_serves_is_told_from_who_does_not() {
        let begin = Reading { at: Instant::now(), serving: Duration::from_secs(5) };
        let after = |serving_ms| Reading {
            at: begin.at + Duration::from_millis(20),
            serving: begin.serving + Duration::from_millis(serving_ms),
        };
        assert!(!after(0).is_serving_since(&begin));
        assert!(!after(1).is_serving_since(&begin));
        assert!(after(2).is_serving_since(&begin));
        assert!(after(30).is_serving_since(&begin));
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let error = run("clumsy", |_| panic!("on purpose")).await.unwrap_err();
        assert_eq!(error.to_string(), "clumsy panicked");
    }
}
