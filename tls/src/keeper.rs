//! The material in force, and what replaces it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use vaylix_access::Door;

use crate::changes::{Changes, Seen, Step};
use crate::error::Error;
use crate::expiry::{Expiry, Notice};
use crate::files::{Contents, Digest, Files};
use crate::material::Material;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The material in force: each connection that begins takes what is there at that moment.
pub type Current = watch::Receiver<Arc<Material>>;

/// Keeps the material of a node up to date.
pub struct Keeper {
    files: Files,
    current: watch::Sender<Arc<Material>>,
}

/// Why contents were tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Asked,
    Changed,
    /// They failed before, and a failure has been told.
    Again,
}

/// What became of an attempt. What was tried is known unless reading failed.
struct Attempt {
    seen: Seen,
    result: Result<Material, Error>,
}

impl Keeper {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub async fn open(files: Files) -> Result<Self, Error> {
        let material = attempt(files.clone(), Files::read_settled).await.result?;
        warn_of(&material);
        let (current, _) = watch::channel(Arc::new(material));
        Ok(Self { files, current })
    }

    /// The material in force, now and later.
    #[must_use]
    pub fn current(&self) -> Current {
        self.current.subscribe()
    }

    /// Reads the files again whenever `asked` is notified, and when they have changed; what can be used comes into
    /// force, otherwise everything stays as it was. `door` is told of both, and the log too. Never ends.
    pub async fn follow(self, door: Door, asked: Arc<Notify>) {
        let mut changes = Changes::new(self.current.borrow().digest);
        let mut expiry = Expiry::default();
        let mut clock = tokio::time::interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let cause = tokio::select! {
                () = asked.notified() => Some(Cause::Asked),
                _ = clock.tick() => {
                    match changes.look(look(self.files.clone()).await, Instant::now()) {
                        Step::Wait => None,
                        Step::Try => Some(Cause::Changed),
                        Step::TryAgain => Some(Cause::Again),
                    }
                }
            };
            if let Some(cause) = cause {
                let attempt = attempt(self.files.clone(), Files::read_settled).await;
                self.conclude(attempt, cause, &mut changes, &door);
            }
            warn_of_expiry(&mut expiry, &self.current.borrow());
        }
    }

    fn conclude(&self, attempt: Attempt, cause: Cause, changes: &mut Changes, door: &Door) {
        let Attempt { seen, result } = attempt;
        match result {
            Ok(material) => {
                changes.succeeded(material.digest);
                warn_of(&material);
                let certificate = material.certificate().clone();
                tracing::info!(
                    target: "server.tls",
                    subject = certificate.subject,
                    fingerprint = certificate.fingerprint,
                    "certificate, key and client authorities were read again: new connections use them"
                );
                self.current.send_replace(Arc::new(material));
                door.tls_reloaded(Ok(certificate));
            }
            Err(error) => {
                changes.failed(seen, Instant::now());
                let code = error.code();
                if cause == Cause::Again {
                    tracing::debug!(target: "server.tls", %code, %error, "still not to be used");
                    return;
                }
                tracing::error!(
                    target: "server.tls",
                    %code,
                    "the certificate was not replaced, the one in force stays: {error}"
                );
                door.tls_reloaded(Err(code));
            }
        }
    }
}

fn warn_of(material: &Material) {
    for warning in &material.warnings {
        tracing::warn!(target: "server.tls", "{warning}");
    }
}

fn warn_of_expiry(expiry: &mut Expiry, material: &Material) {
    match expiry.look(material.certificate().over_from_ms(), now_ms()) {
        None => {}
        Some(Notice::Soon { days }) => {
            tracing::warn!(target: "server.tls", days, "the certificate expires soon: renew it");
        }
        Some(Notice::Over) => {
            let code = vaylix_proto::Code::TlsConfigurationInvalid;
            tracing::error!(target: "server.tls", %code, "the certificate has expired: clients refuse it");
        }
    }
}

/// What is in the files, for comparison.
async fn look(files: Files) -> Seen {
    blocking(move || match files.read() {
        Ok(contents) => Ok(contents.digest()),
        Err(error) => Err(error.to_string()),
    })
    .await
    .unwrap_or_else(Err)
}

async fn attempt(files: Files, read: fn(&Files) -> Result<Contents, Error>) -> Attempt {
    let work = move || match read(&files) {
        Ok(contents) => {
            let digest: Digest = contents.digest();
            Attempt { seen: Ok(digest), result: Material::check(&files, contents, now_ms()) }
        }
        Err(error) => Attempt { seen: Err(error.to_string()), result: Err(error) },
    };
    blocking(work)
        .await
        .unwrap_or_else(|error| Attempt { seen: Err(error.clone()), result: Err(Error::Refused(error)) })
}

/// Does what waits for a disk where that holds up nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}

/// Unix time in milliseconds.
fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
