//! Tokens that stand for a login for a while, where connections do not.
//!
//! A token is 32 random bytes. Only its digest is kept, in memory, on the node that issued it: a restart ends all of them.
//! What its bearer may do is decided anew for every request, by the rules as they are then. It ends early when the user is
//! gone or disabled, or has got another password.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use vaylix_proto::{Code, ErrorReply};

use crate::counters::Metric;
use crate::door::Door;
use crate::identity::Identity;
use crate::refusal;
use crate::session::{SessionView, millis};
use crate::ticket::Visitor;

/// How long a token is good for.
pub const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// How long after its login a token that can be renewed ends for good.
pub const RENEWALS_TIME_MAX: Duration = Duration::from_secs(12 * 3600);

/// Most tokens at once. Whoever logs in beyond that is refused until one ends.
const TOKENS_MAX: usize = 4096;
/// Most of one user; the oldest makes room.
const TOKENS_PER_USER_MAX: usize = 64;
const TOKEN_BYTES: usize = 32;
/// Bytes of a token's digest that name it in lists.
const ID_BYTES: usize = 6;

type Fingerprint = [u8; 32];

/// The tokens in force.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Fingerprint, Held>>);

struct Held {
    identity: Identity,
    /// What the password was hashed to; none on a server without authentication.
    password_hash: Option<String>,
    ends_at: Instant,
    issued: SystemTime,
    /// Until when renewals can make it last; none for one that is never renewed.
    last_end: Option<Instant>,
}

impl Held {
    fn view(&self, print: &Fingerprint) -> SessionView {
        let digits: String = print.iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect();
        SessionView {
            id: format!("token-{digits}"),
            user: Some(self.identity.user().to_string()),
            peer: None,
            since_ms: millis(self.issued),
            ends_at_ms: Some(self.ends_at_ms()),
        }
    }

    fn ends_at_ms(&self) -> u64 {
        millis(SystemTime::now() + self.ends_at.saturating_duration_since(Instant::now()))
    }
}

impl Tokens {
    /// Those in force.
    pub(crate) fn views(&self) -> Vec<SessionView> {
        let now = Instant::now();
        let tokens = self.0.lock();
        tokens.iter().filter(|(_, held)| held.ends_at > now).map(|(print, held)| held.view(print)).collect()
    }

    /// Ends those that are meant, and says how many they were.
    pub(crate) fn end_all(&self, is_meant: impl Fn(&SessionView) -> bool) -> usize {
        let mut tokens = self.0.lock();
        let before = tokens.len();
        tokens.retain(|print, held| !is_meant(&held.view(print)));
        before - tokens.len()
    }
}

/// A token that was issued, in the form it is shown in. Has no `Debug`: it is a secret.
pub struct Token {
    /// 64 hexadecimal digits.
    pub text: String,
    /// When it ends, in unix milliseconds.
    pub ends_at_ms: u64,
}

impl Door {
    /// Issues a token for whoever the visitor is; a `renewable` one can be made to last longer by whoever uses it.
    ///
    /// # Errors
    /// `SRV-007` before a login, `SRV-012` when too many tokens are in force or the access rules have just changed, `SRV-009` when the system has no randomness.
    pub fn issue_token(&self, visitor: &Visitor, renewable: bool) -> Result<Token, ErrorReply> {
        let identity = visitor.identity().cloned().ok_or_else(refusal::login_required)?;
        let policy = self.policy()?;
        if identity.revision() != policy.revision() {
            // Perhaps the password that was just shown is not the right one any more.
            return Err(refusal::contended());
        }
        let password_hash = policy.password_hash(identity.user()).map(str::to_owned);
        drop(policy);
        let mut random = [0; TOKEN_BYTES];
        getrandom::fill(&mut random).map_err(|_| refusal::hashing_failed())?;
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = Instant::now();
        let mut tokens = self.0.tokens.0.lock();
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, held| held.ends_at > now);
        }
        let own = tokens.iter().filter(|(_, held)| held.identity.user() == identity.user());
        if own.clone().count() >= TOKENS_PER_USER_MAX
            && let Some(oldest) = own.min_by_key(|(_, held)| held.ends_at).map(|(print, _)| *print)
        {
            tokens.remove(&oldest);
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(ErrorReply::new(
                Code::RateLimitExceeded,
                "request rate limit exceeded: too many tokens are in force; try again later",
            ));
        }
        let held = Held {
            identity,
            password_hash,
            ends_at: now + TOKEN_LIFE,
            issued: SystemTime::now(),
            last_end: renewable.then(|| now + RENEWALS_TIME_MAX),
        };
        let ends_at_ms = held.ends_at_ms();
        tokens.insert(fingerprint(&text), held);
        Ok(Token { text, ends_at_ms })
    }

    /// Has a token last as long from now on as a new one would, and says when it ends then, in unix milliseconds.
    ///
    /// # Errors
    /// `SRV-007` when it is not in force, or has lasted as long as any may; `SRV-030` for one that is not renewed.
    pub fn renew_token(&self, token: &str) -> Result<u64, ErrorReply> {
        self.check_token(token)?;
        let now = Instant::now();
        let mut tokens = self.0.tokens.0.lock();
        let held = tokens.get_mut(&fingerprint(token)).ok_or_else(token_ended)?;
        let last_end = held.last_end.ok_or_else(|| {
            ErrorReply::new(
                Code::InvalidArguments,
                "invalid command-line arguments: only the token of a browser's cookie is renewed; log in again",
            )
        })?;
        held.ends_at = renewed(now, last_end).ok_or_else(token_ended)?;
        Ok(held.ends_at_ms())
    }

    /// When a token ends, in unix milliseconds; none for one that is not in force.
    #[must_use]
    pub fn token_ends_at_ms(&self, token: &str) -> Option<u64> {
        let tokens = self.0.tokens.0.lock();
        let held = tokens.get(&fingerprint(token)).filter(|held| held.ends_at > Instant::now());
        held.map(Held::ends_at_ms)
    }

    /// Somebody who brings a token.
    ///
    /// # Errors
    /// `SRV-007` when it is not in force, or not any more.
    pub fn arrival_with_token(
        &self,
        connection_id: u64,
        peer: SocketAddr,
        token: &str,
    ) -> Result<Visitor, ErrorReply> {
        match self.token_identity(token)? {
            Some(identity) => Ok(Visitor::new(self.clone(), connection_id, peer, Some(identity))),
            None => {
                self.0.counters.increment(Metric::LoginsFailed);
                Err(token_ended())
            }
        }
    }

    /// Whether a token is still in force.
    ///
    /// # Errors
    /// `SRV-007` when it is not.
    pub fn check_token(&self, token: &str) -> Result<(), ErrorReply> {
        self.token_identity(token)?.map(drop).ok_or_else(token_ended)
    }

    /// Who brings the token, if it is in force.
    fn token_identity(&self, token: &str) -> Result<Option<Identity>, ErrorReply> {
        let policy = self.policy()?;
        let identity = {
            let mut tokens = self.0.tokens.0.lock();
            let print = fingerprint(token);
            let held = tokens.get(&print).filter(|held| held.ends_at > Instant::now());
            let identity = held.and_then(|held| {
                let is_same = policy.password_hash(held.identity.user()) == held.password_hash.as_deref();
                policy.renew(&held.identity).filter(|_| is_same)
            });
            if identity.is_none() {
                tokens.remove(&print);
            }
            identity
        };
        Ok(identity)
    }

    /// Ends a token. One that is not in force is ended already.
    pub fn end_token(&self, token: &str) {
        self.0.tokens.0.lock().remove(&fingerprint(token));
    }
}

/// When a token ends that is renewed now and ends for good then; none when that is over.
fn renewed(now: Instant, last_end: Instant) -> Option<Instant> {
    (now < last_end).then(|| (now + TOKEN_LIFE).min(last_end))
}

fn token_ended() -> ErrorReply {
    ErrorReply::new(
        Code::AuthenticationRequired,
        "client authentication is required: the token is unknown or has ended; log in again",
    )
}

/// Tokens are found by their digest, so how long a search takes tells nothing of those in force.
fn fingerprint(token: &str) -> Fingerprint {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_end_some_time_after_the_login() {
        let login = Instant::now();
        let last_end = login + RENEWALS_TIME_MAX;
        assert_eq!(renewed(login, last_end), Some(login + TOKEN_LIFE));
        let late = last_end - TOKEN_LIFE / 3;
        assert_eq!(renewed(late, last_end), Some(last_end), "no further");
        assert_eq!(renewed(last_end, last_end), None);
    }
}
