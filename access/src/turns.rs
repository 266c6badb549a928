//! Heavy work on threads that serve no connections, a bounded number of jobs at once.

use std::sync::Arc;

use tokio::sync::Semaphore;
use vaylix_consensus::background::{self, Pace};
use vaylix_proto::ErrorReply;

use crate::refusal;

/// Lets jobs of one kind have their turn in the order in which they came.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    /// At most this many jobs at once.
    pub(crate) fn new(at_once_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once_max)))
    }

    /// Whether a job that came now would have to wait.
    pub(crate) fn are_taken(&self) -> bool {
        self.0.available_permits() == 0
    }

    /// Runs `job` off the threads that serve connections when its turn comes. The turn is held until the job is
    /// over, even if nobody waits for it any more.
    ///
    /// # Errors
    /// `SRV-005` when the runtime is shutting down.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ErrorReply> {
        let turn = Arc::clone(&self.0).acquire_owned().await.map_err(|_| refusal::closed())?;
        let done = tokio::task::spawn_blocking(move || {
            let result = job();
            drop(turn);
            result
        });
        done.await.map_err(|_| refusal::closed())
    }

    /// The same on a thread that gives way to those who serve, for work that takes long. A server that ends does not
    /// wait for it.
    ///
    /// # Errors
    /// `SRV-005` when there is no thread to be had, or the job panicked.
    pub(crate) async fn run_in_background<T: Send + 'static>(
        &self,
        name: &str,
        job: impl FnOnce(&Pace) -> T + Send + 'static,
    ) -> Result<T, ErrorReply> {
        let turn = Arc::clone(&self.0).acquire_owned().await.map_err(|_| refusal::closed())?;
        let done = background::run(name, move |pace| {
            let result = job(pace);
            drop(turn);
            result
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "background work was not done");
            refusal::closed()
        })
    }
}
