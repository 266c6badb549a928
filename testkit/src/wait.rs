//! Waiting for something to become true.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks at `condition` until it gives something.
///
/// # Errors
/// When it has not within `patience`; the message says that `what` did not happen.
pub fn until<T>(what: &str, patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = condition() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {patience:?}");
        }
        std::thread::sleep(INTERVAL);
    }
}
