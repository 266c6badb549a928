//! What the operating system tells a running server.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::info;

/// The signals, registered before the server is ready so that none is missed.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// Who reads the certificates again, where there are any.
    reload: Option<Arc<Notify>>,
}

impl Signals {
    /// Registers them.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(crate) fn register() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            reload: None,
        })
    }

    /// Has `reload` notified of each SIGHUP from now on.
    pub(crate) fn reload_with(&mut self, reload: Arc<Notify>) {
        self.reload = Some(reload);
    }

    /// Resolves when the server shall stop: SIGINT and SIGTERM mean the same. SIGHUP means "read the certificates
    /// again", which is done elsewhere meanwhile.
    pub(crate) async fn stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.hangup.recv() => match &self.reload {
                    Some(reload) => reload.notify_one(),
                    None => info!("SIGHUP ignored: there are no certificates to reload"),
                },
            }
        }
    }
}
