//! Long work beside the serving of requests, which it must not take the processor from.

use std::io;
use std::thread;

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::sync::oneshot;

/// Where all cores are busy, a thread of usual priority gets three times the time of one that is this nice.
const NICENESS: i32 = 5;

/// Runs `work` on a thread of its own that gives way to others.
///
/// # Errors
/// When there is no thread to be had, or the work panicked.
pub async fn run<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = setpriority_process(Some(gettid()), NICENESS) {
            tracing::debug!(%error, "background work goes on at usual priority");
        }
        // Nobody waits any more when the node is being dropped.
        _ = done.send(work());
    })?;
    result.await.map_err(|_dropped| io::Error::other(format!("{name} panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_work_gives_way_and_the_caller_does_not() {
        let niceness = || rustix::process::getpriority_process(Some(gettid())).unwrap();
        let before = niceness();
        assert!(run("nice", niceness).await.unwrap() >= NICENESS);
        assert_eq!(niceness(), before);
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let error = run("clumsy", || panic!("on purpose")).await.unwrap_err();
        assert_eq!(error.to_string(), "clumsy panicked");
    }
}
