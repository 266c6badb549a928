//! Removes expired keys, through the log like any other change.
//!
//! Reads hide what has expired at once; sweeping is about memory. Each entry removes a bounded number of keys,
//! so that a mass expiry never holds up other writes for long.

use std::sync::Arc;
use std::time::Duration;
use tracing::Span;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use vaylix_engine::state::Reader;
use vaylix_proto::Reply;

use crate::clock;
use crate::error::ProposeError;
use crate::gate::Gate;
use crate::limits::SWEEP_KEYS_MAX;
use crate::proposal::Change;
use crate::queue::{NODE_ITSELF, Queue};
use crate::status::Counters;

pub(crate) struct Sweeper {
    pub(crate) queue: Arc<Queue>,
    pub(crate) reader: Reader,
    pub(crate) gate: Arc<Gate>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) interval: Duration,
}

impl Sweeper {
    /// Looks for expired keys at every interval, for ever. Only a leader proposes.
    pub(crate) async fn run(self) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            while self.gate.office().is_some() && self.is_due().await {
                match self.sweep().await {
                    Ok(()) => {}
                    Err(ProposeError::Closed) => return,
                    Err(error) => {
                        tracing::debug!(%error, "sweep refused, trying again at the next interval");
                        break;
                    }
                }
            }
        }
    }

    async fn is_due(&self) -> bool {
        let now_ms = self.reader.now(clock::now_ms());
        let reader = self.reader.clone();
        let root = match reader.try_root() {
            Some(root) => Ok(root),
            // A batch that takes long is not waited for where connections are served.
            None => spawn_blocking(move || reader.root()).await,
        };
        let deadline_ms = root.ok().and_then(|root| root.first_deadline_ms());
        deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms)
    }

    async fn sweep(&self) -> Result<(), ProposeError> {
        let reply = self
            .queue
            .enqueue(&Span::none(), NODE_ITSELF, None, Change::Sweep { limit: SWEEP_KEYS_MAX })
            .await
            .await?;
        if let Reply::Count(keys) = reply {
            self.counters.sweeps.add(1);
            self.counters.swept_keys.add(keys);
        }
        Ok(())
    }
}
