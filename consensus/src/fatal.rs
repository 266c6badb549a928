//! Ending the process when going on could acknowledge what is not so, or leave callers waiting for ever.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Says why, then ends the process at once.
pub(crate) fn end_process(reason: &str) -> ! {
    tracing::error!(reason, "fatal: ending the process");
    std::process::abort()
}

/// Runs `work`, in which a panic ends the process: what it interrupts must not be left half done behind a node
/// that seems to live.
pub(crate) fn no_panic<T>(name: &str, work: impl FnOnce() -> T) -> T {
    // Nothing outlives a panic here, so nothing can see what it left behind.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| end_process(&format!("{name} panicked")))
}

/// The same for a task.
pub(crate) async fn no_panic_in_task<T>(name: &str, task: impl Future<Output = T>) -> T {
    let mut task = Box::pin(task);
    poll_fn(|context| no_panic(name, || task.as_mut().poll(context))).await
}
