//! Waiting for something that others bring about.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::PATIENCE;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until there is something, and returns it.
///
/// # Panics
/// When there is nothing within [`PATIENCE`]; `what` says what was waited for.
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(what, PATIENCE, look).unwrap_or_else(|error| panic!("{error}"))
}

/// The same with a patience of the caller's.
///
/// # Errors
/// When there is nothing within it; `what` says what was waited for.
pub fn within<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("not within {patience:?}: {what}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
