//! Passwords: Argon2id, off the threads that serve connections, a few at a time.
//!
//! One hash takes [`MEMORY_KIB`] of memory and some 20 ms of a core, on purpose. At most [`Hasher::new`]'s number of logins
//! are hashed at once: the others wait their turn, and a flood of logins cannot take more memory or more cores than that.
//!
//! A thread that computes for 20 ms keeps others waiting for milliseconds. So a hash is computed at the lowest priority, in time that
//! hardly anybody else wants. Where that is not done in [`LEISURE`], for the machine is busy, the same is computed once more on a
//! thread that takes its share; the first attempt ends some time, and until it does, no other is begun in its place.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error, PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use vaylix_consensus::background;
use vaylix_proto::ErrorReply;

use crate::refusal;
use crate::secret::Secret;

/// Memory of one hash.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over that memory.
const PASSES: u32 = 2;
/// Lanes, that is threads, of one hash.
const LANES: u32 = 1;
/// Most hashes at once, however many cores there are.
const CONCURRENCY_MAX: usize = 4;

/// How long a hash may take where only the processor's spare time is used. Several times what it takes on an idle machine.
const LEISURE: Duration = Duration::from_millis(250);

/// Shortest password of CREATE USER and ALTER USER, in bytes.
pub(crate) const LEN_MIN: usize = 12;

/// The password policy of CREATE USER and ALTER USER: long enough, with an ASCII letter and an ASCII digit. Every rule that
/// the password breaks, in words; none for one that is accepted.
pub(crate) fn weakness(password: &str) -> Option<String> {
    let bytes = password.as_bytes();
    let rules = [
        (bytes.len() >= LEN_MIN, format!("at least {LEN_MIN} bytes")),
        (bytes.iter().any(u8::is_ascii_alphabetic), "a letter from a to z".to_owned()),
        (bytes.iter().any(u8::is_ascii_digit), "a digit".to_owned()),
    ];
    let broken: Vec<_> = rules.into_iter().filter(|(holds, _)| !holds).map(|(_, rule)| rule).collect();
    (!broken.is_empty()).then(|| broken.join(" and "))
}

/// Makes and checks password hashes.
pub(crate) struct Hasher {
    turns: Arc<Semaphore>,
    /// Places for hashes that are computed in spare time.
    spare: Arc<Semaphore>,
    /// What the passwords of unknown users are compared with, so that the work is the same.
    decoy: String,
}

impl Hasher {
    /// A hasher that leaves one core to everything else, if there is more than one.
    ///
    /// # Errors
    /// `SRV-009` when the system gives no random salt.
    pub(crate) async fn new() -> Result<Self, ErrorReply> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let concurrency = cores.saturating_sub(1).clamp(1, CONCURRENCY_MAX);
        let places = || Arc::new(Semaphore::new(concurrency));
        let mut hasher = Self { turns: places(), spare: places(), decoy: String::new() };
        hasher.decoy = hasher.hash(Secret::from("")).await?;
        Ok(hasher)
    }

    /// The PHC string of `password` with a fresh salt.
    ///
    /// # Errors
    /// `SRV-009` when the system gives no random salt.
    pub(crate) async fn hash(&self, password: Secret) -> Result<String, ErrorReply> {
        self.work(move || {
            argon2().hash_password(password.expose().as_bytes()).map(|hash: PasswordHash| hash.to_string())
        })
        .await
    }

    /// Whether `password` has this hash. Without a hash (nobody of that name may log in) the answer is no,
    /// after the same work.
    ///
    /// # Errors
    /// `SRV-009` when the stored hash is unreadable.
    pub(crate) async fn verify(&self, password: Secret, hash: Option<String>) -> Result<bool, ErrorReply> {
        let is_known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let is_right = self
            .work(move || match argon2().verify_password(password.expose().as_bytes(), hash.as_str()) {
                Ok(()) => Ok(true),
                Err(Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(error),
            })
            .await?;
        Ok(is_known && is_right)
    }

    /// Has `job` done when its turn comes. The turn is held until it is done, even if nobody waits for it any more.
    async fn work<T: Send + 'static>(
        &self,
        job: impl Fn() -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<T, ErrorReply> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| refusal::closed())?;
        let (job, spare) = (Arc::new(job), Arc::clone(&self.spare));
        let done = tokio::spawn(async move {
            let result = match in_spare_time(spare, Arc::clone(&job)).await {
                Some(result) => Ok(result),
                None => tokio::task::spawn_blocking(move || job()).await,
            };
            drop(turn);
            result
        });
        done.await.map_err(|_| refusal::closed())?.map_err(|_| refusal::closed())?.map_err(|error| {
            tracing::error!(%error, "password hashing failed");
            refusal::hashing_failed()
        })
    }
}

/// What `job` makes, if the processor has the time for it.
async fn in_spare_time<T: Send + 'static>(
    places: Arc<Semaphore>,
    job: Arc<impl Fn() -> T + Send + Sync + 'static>,
) -> Option<T> {
    let place = places.try_acquire_owned().ok()?;
    let (done, result) = oneshot::channel();
    let started = background::spawn_nicest("password", move || {
        let result = job();
        // Before whoever waits goes on to the next one.
        drop(place);
        // Nobody waits any more when it took too long.
        _ = done.send(result);
    });
    if let Err(error) = started {
        tracing::debug!(%error, "no thread for a password");
        return None;
    }
    timeout(LEISURE, result).await.ok()?.ok()
}

fn argon2() -> Argon2<'static> {
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the constants are within Argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Hasher, weakness};
    use crate::secret::Secret;
    use vaylix_proto::Code;

    #[test]
    fn the_policy_counts_bytes_and_wants_letter_and_digit() {
        for strong in ["abcdefghijk1", "1éééééa", "            a1"] {
            assert_eq!(weakness(strong), None, "{strong:?}");
        }
        for (weak, broken) in [
            ("short1", "at least 12 bytes"),
            ("nodigitsinhere", "a digit"),
            ("123456789012", "a letter from a to z"),
            ("abcdefghij1", "at least 12 bytes"),
            ("éééééé1", "a letter from a to z"),
            ("weak", "at least 12 bytes and a digit"),
            ("", "at least 12 bytes and a letter from a to z and a digit"),
        ] {
            assert_eq!(weakness(weak).as_deref(), Some(broken), "{weak:?}");
        }
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_verifies() {
        let hasher = Hasher::new().await.unwrap();
        let hash = hasher.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, hasher.hash("correct horse".into()).await.unwrap(), "salted");
        assert!(hasher.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!hasher.verify("correct hors".into(), Some(hash)).await.unwrap());
        assert!(!hasher.verify("".into(), None).await.unwrap(), "not even with the decoy's password");
    }

    #[tokio::test]
    async fn an_unreadable_hash_is_an_error_and_not_a_refusal() {
        let hasher = Hasher::new().await.unwrap();
        let refusal = hasher.verify("x".into(), Some("not a hash".into())).await.unwrap_err();
        assert_eq!(refusal.known_code(), Some(Code::AuthenticationConfigurationInvalid));
    }

    /// Where spare time does not come, the work is done all the same, and once only for the caller.
    #[tokio::test]
    async fn a_machine_without_spare_time_hashes_too() {
        let hasher = Hasher::new().await.unwrap();
        let (begun, begins) = std::sync::mpsc::channel();
        let (go_on, gate) = std::sync::mpsc::channel::<()>();
        let gate = parking_lot::Mutex::new(gate);
        let attempts = AtomicUsize::new(0);
        let job = move || {
            let attempt = attempts.fetch_add(1, Ordering::SeqCst);
            begun.send(attempt).unwrap();
            if attempt == 0 {
                // Starved.
                gate.lock().recv().unwrap();
            }
            Ok(attempt)
        };
        assert_eq!(hasher.work(job).await.unwrap(), 1);
        assert_eq!(begins.try_iter().collect::<Vec<_>>(), [0, 1]);
        let concurrency = hasher.turns.available_permits();
        assert_eq!(
            hasher.spare.available_permits(),
            concurrency - 1,
            "the turn is over, the place is not free"
        );
        assert!(hasher.verify("x".into(), None).await.is_ok());
        go_on.send(()).unwrap();
    }

    /// On a runtime with a single thread, other tasks go on while a password is hashed.
    #[tokio::test(flavor = "current_thread")]
    async fn hashing_never_occupies_a_thread_of_the_runtime() {
        let hasher = Hasher::new().await.unwrap();
        let mut turns = 0_u64;
        let hashing = hasher.hash(Secret::from("x"));
        let counting = async {
            loop {
                turns += 1;
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            hash = hashing => assert!(hash.is_ok()),
            () = counting => {}
        }
        assert!(turns > 10, "{turns}");
    }
}
