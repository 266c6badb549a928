//! Long work beside the serving of requests, which it must not take the processor from.

use std::io;
use std::thread;

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::sync::oneshot;

/// Where all cores are busy, a thread of usual priority gets three times the time of one that is this nice.
const NICENESS: i32 = 5;
/// What comes closest to [`Priority::Idle`] where the system does not allow it.
const NICENESS_MAX: i32 = 19;

/// How much of the processor the work gets where others want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Hardly any, and whoever else wakes up runs at once: the latency of others does not notice the work. Where all cores
    /// are busy all the time it may take very long.
    Idle,
    /// A lesser share, so that the work ends in time.
    Low,
}

/// Runs `work` on a thread of its own that gives way to others.
///
/// # Errors
/// When there is no thread to be had, or the work panicked.
pub async fn run<T: Send + 'static>(
    name: &str,
    priority: Priority,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = give_way(priority) {
            tracing::debug!(%error, "background work goes on at usual priority");
        }
        // Nobody waits any more when the node is being dropped.
        _ = done.send(work());
    })?;
    result.await.map_err(|_dropped| io::Error::other(format!("{name} panicked")))
}

/// Lowers the priority of the current thread.
fn give_way(priority: Priority) -> io::Result<()> {
    let niceness = match priority {
        Priority::Low => NICENESS,
        Priority::Idle => {
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            match set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(%error, "idle scheduling is not allowed here");
                    NICENESS_MAX
                }
            }
        }
    };
    Ok(setpriority_process(Some(gettid()), niceness)?)
}

#[cfg(test)]
mod tests {
    use thread_priority::thread_schedule_policy;

    use super::*;

    fn niceness() -> i32 {
        rustix::process::getpriority_process(Some(gettid())).unwrap()
    }

    #[tokio::test]
    async fn the_work_gives_way_and_the_caller_does_not() {
        let (nice, policy) = (niceness(), thread_schedule_policy().unwrap());
        assert!(run("nice", Priority::Low, niceness).await.unwrap() >= NICENESS);
        let idle =
            run("idle", Priority::Idle, || (thread_schedule_policy().unwrap(), niceness())).await.unwrap();
        let is_idle = idle.0 == ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        assert!(is_idle || idle.1 == NICENESS_MAX, "{idle:?}");
        assert_eq!((niceness(), thread_schedule_policy().unwrap()), (nice, policy));
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let error = run("clumsy", Priority::Low, || panic!("on purpose")).await.unwrap_err();
        assert_eq!(error.to_string(), "clumsy panicked");
    }
}
