//! Who may try a password now.
//!
//! # The rule
//! - Failures are counted by user name and *address*: the peer's IP address without its port, for IPv6 the /64
//!   network it is in, which is what one household or attacker holds. A count begins with its first failure and is
//!   forgotten when the window has passed or the login succeeds.
//! - Reaching the limit locks this name for this address for the lockout time. The failure that does it is still
//!   answered as one; further attempts are refused, right or wrong, without any hashing. When the lock ends, the
//!   count begins anew.
//! - Failures for one name from all addresses together are counted too. When there are [`BRAKE_FACTOR`] times the
//!   limit within a window, the name is under attack from many addresses, and until that has been over for the
//!   lockout time, one failure locks an address instead of the limit's number. Nobody is refused who has not failed
//!   from their own address: a stranger somewhere else cannot lock anybody out. An address from which the name has
//!   logged in within [`TRUST`] keeps the full limit.
//! - An attempt counts as a failure while it is being checked, so that many at once cannot get more tries than one
//!   after the other. Who finds no try left because of that waits for the others to end.
//! - There is no lock for an address as a whole: behind a proxy or a network address translation it would shut out
//!   everybody else.
//!
//! Attackers with *n* addresses get at most limit × *n* tries before the brake, and *n* in each lockout time after it.
//!
//! # Memory
//! Records have a fixed size: names are kept as keyed hashes. At most [`RECORDS_MAX`] of each kind are kept. When
//! there are more, those that mean nothing any more go first, then those that lock nobody, the oldest first. To
//! have one lock forgotten takes tens of thousands of failed logins, each of which costs a password hash, so it
//! buys fewer tries than it costs.
//!
//! Everything is in memory of this node and forgotten when it stops. Looking at the figures changes nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many times the limit one name may fail from all addresses before the brake is put on.
const BRAKE_FACTOR: u32 = 3;
/// How long an address keeps the full limit after a login of the name from it.
const TRUST: Duration = Duration::from_secs(24 * 60 * 60);
/// Most records of (name, address), and most of names.
const RECORDS_MAX: usize = 65_536;
/// Records that are left after making room, so that it is not made for each one.
const RECORDS_LEFT: usize = RECORDS_MAX / 8 * 7;

/// When logins are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockout {
    /// Failed logins of one user from one address before the lock.
    pub failures_max: u32,
    /// How long failures are added up.
    pub window: Duration,
    /// How long the lock lasts.
    pub duration: Duration,
}

impl Default for Lockout {
    fn default() -> Self {
        Self { failures_max: 5, window: Duration::from_secs(300), duration: Duration::from_secs(900) }
    }
}

/// The failed logins of this node.
pub(crate) struct Failures {
    rule: Lockout,
    hashers: [RandomState; 2],
    tables: Mutex<Tables>,
    /// Told whenever an attempt has ended.
    ended: Notify,
    records_max: usize,
    records_left: usize,
}

#[derive(Default)]
struct Tables {
    pairs: HashMap<Pair, Record>,
    names: HashMap<Name, Attack>,
}

/// A user name, hashed.
type Name = [u64; 2];

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Pair {
    name: Name,
    address: IpAddr,
}

/// One name at one address.
#[derive(Clone, Copy, Default)]
struct Record {
    failures: u32,
    /// Attempts being checked.
    in_flight: u32,
    /// When the first of the failures was.
    since: Option<Instant>,
    locked_until: Option<Instant>,
    trusted_until: Option<Instant>,
}

/// One name at all addresses.
#[derive(Clone, Copy, Default)]
struct Attack {
    failures: u32,
    since: Option<Instant>,
    braked_until: Option<Instant>,
}

/// Whether a password may be tried.
pub(crate) enum Begin {
    /// Yes.
    Go(Attempt),
    /// Perhaps, when an attempt that is being checked has ended.
    Wait,
    /// No, for so long.
    Locked(Duration),
}

/// A password that is being checked. Dropped without a result, it counts as nothing.
#[must_use]
pub(crate) struct Attempt {
    failures: Arc<Failures>,
    pair: Pair,
    is_over: bool,
}

impl Failures {
    pub(crate) fn new(rule: Lockout) -> Arc<Self> {
        Self::bounded(rule, RECORDS_MAX, RECORDS_LEFT)
    }

    fn bounded(rule: Lockout, records_max: usize, records_left: usize) -> Arc<Self> {
        Arc::new(Self {
            rule,
            hashers: [RandomState::new(), RandomState::new()],
            tables: Mutex::default(),
            ended: Notify::new(),
            records_max,
            records_left,
        })
    }

    pub(crate) fn rule(&self) -> Lockout {
        self.rule
    }

    /// Waits for a turn to try a password.
    ///
    /// # Errors
    /// How long the name stays locked for this address.
    pub(crate) async fn attempt(self: &Arc<Self>, user: &str, peer: IpAddr) -> Result<Attempt, Duration> {
        loop {
            // Before the look, so that no end is missed after it.
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            match self.begin(user, peer, Instant::now()) {
                Begin::Go(attempt) => return Ok(attempt),
                Begin::Locked(left) => return Err(left),
                Begin::Wait => ended.await,
            }
        }
    }

    /// Whether a password may be tried at `now`.
    pub(crate) fn begin(self: &Arc<Self>, user: &str, peer: IpAddr, now: Instant) -> Begin {
        let pair = self.pair(user, peer);
        let mut tables = self.tables.lock();
        let is_braked = tables.names.get(&pair.name).is_some_and(|attack| attack.is_braked(now));
        self.make_room(&mut tables, now);
        let record = tables.pairs.entry(pair).or_default();
        record.forget(now, self.rule.window);
        if let Some(left) = record.locked_for(now) {
            return Begin::Locked(left);
        }
        let failures_max = self.failures_max(record, is_braked, now);
        if record.failures >= failures_max {
            // The brake has been put on since the last failure.
            record.locked_until = now.checked_add(self.rule.duration);
            return Begin::Locked(self.rule.duration);
        }
        if record.failures.saturating_add(record.in_flight) >= failures_max {
            return Begin::Wait;
        }
        record.in_flight += 1;
        drop(tables);
        Begin::Go(Attempt { failures: Arc::clone(self), pair, is_over: false })
    }

    /// How long the name stays locked for this address, if it is.
    pub(crate) fn locked_for(&self, user: &str, peer: IpAddr, now: Instant) -> Option<Duration> {
        self.tables.lock().pairs.get(&self.pair(user, peer))?.locked_for(now)
    }

    /// How many names are locked for some address at `now`.
    pub(crate) fn locked_count(&self, now: Instant) -> usize {
        self.tables.lock().pairs.values().filter(|record| record.is_locked(now)).count()
    }

    fn failures_max(&self, record: &Record, is_braked: bool, now: Instant) -> u32 {
        let is_trusted = record.trusted_until.is_some_and(|until| now < until);
        if is_braked && !is_trusted { 1 } else { self.rule.failures_max }
    }

    fn pair(&self, user: &str, peer: IpAddr) -> Pair {
        let name = [self.hashers[0].hash_one(user), self.hashers[1].hash_one(user)];
        Pair { name, address: network(peer) }
    }

    /// Forgets records when there are too many.
    fn make_room(&self, tables: &mut Tables, now: Instant) {
        if tables.pairs.len() >= self.records_max {
            tables.pairs.retain(|_, record| {
                record.forget(now, self.rule.window);
                !record.is_meaningless(now)
            });
            // Those that lock nobody go first, the oldest of them before the others.
            let weight = |record: &Record| (record.in_flight > 0, record.is_locked(now), record.since);
            shrink(&mut tables.pairs, self.records_left, weight);
        }
        if tables.names.len() >= self.records_max {
            tables.names.retain(|_, attack| {
                attack.forget(now, self.rule.window);
                attack.failures > 0 || attack.is_braked(now)
            });
            shrink(&mut tables.names, self.records_left, |attack: &Attack| {
                (attack.is_braked(now), attack.since)
            });
        }
    }
}

/// Removes those of the least weight until so many are left.
fn shrink<K: Copy + Eq + std::hash::Hash, V, W: Ord>(
    records: &mut HashMap<K, V>,
    left: usize,
    weight: impl Fn(&V) -> W,
) {
    let surplus = records.len().saturating_sub(left);
    if surplus == 0 {
        return;
    }
    let mut order: Vec<(W, K)> = records.iter().map(|(key, record)| (weight(record), *key)).collect();
    order.select_nth_unstable_by(surplus - 1, |a, b| a.0.cmp(&b.0));
    for (_, key) in order.into_iter().take(surplus) {
        records.remove(&key);
    }
}

impl Record {
    /// Forgets what is over.
    fn forget(&mut self, now: Instant, window: Duration) {
        if self.locked_until.is_some_and(|until| until <= now) {
            (self.locked_until, self.failures, self.since) = (None, 0, None);
        }
        if self.locked_until.is_none() && is_over(self.since, now, window) {
            (self.failures, self.since) = (0, None);
        }
        self.trusted_until = self.trusted_until.filter(|until| now < *until);
    }

    fn is_locked(&self, now: Instant) -> bool {
        self.locked_for(now).is_some()
    }

    /// How long the lock goes on; `None` without one.
    fn locked_for(&self, now: Instant) -> Option<Duration> {
        self.locked_until?.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    fn is_meaningless(&self, now: Instant) -> bool {
        self.failures == 0 && self.in_flight == 0 && !self.is_locked(now) && self.trusted_until.is_none()
    }
}

impl Attack {
    fn forget(&mut self, now: Instant, window: Duration) {
        if is_over(self.since, now, window) {
            (self.failures, self.since) = (0, None);
        }
    }

    fn is_braked(&self, now: Instant) -> bool {
        self.braked_until.is_some_and(|until| now < until)
    }
}

/// Whether a window that began then has passed.
fn is_over(since: Option<Instant>, now: Instant, window: Duration) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) > window)
}

/// The address that failures are counted for.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

impl Attempt {
    /// The password was wrong, or nobody of that name may log in. True when this has locked the name.
    pub(crate) fn failed(mut self, now: Instant) -> bool {
        let failures = &self.failures;
        let rule = failures.rule;
        let mut tables = failures.tables.lock();
        let attack = tables.names.entry(self.pair.name).or_default();
        attack.forget(now, rule.window);
        attack.failures = attack.failures.saturating_add(1);
        attack.since.get_or_insert(now);
        if attack.failures >= rule.failures_max.saturating_mul(BRAKE_FACTOR) {
            attack.braked_until = now.checked_add(rule.duration);
        }
        let is_braked = attack.is_braked(now);
        let record = tables.pairs.entry(self.pair).or_default();
        record.in_flight = record.in_flight.saturating_sub(1);
        record.forget(now, rule.window);
        record.failures = record.failures.saturating_add(1);
        record.since.get_or_insert(now);
        let is_reached = record.failures >= failures.failures_max(record, is_braked, now);
        if is_reached {
            record.locked_until = now.checked_add(rule.duration);
        }
        drop(tables);
        self.is_over = true;
        is_reached
    }

    /// The login succeeded: what failed before from this address is forgotten.
    pub(crate) fn succeeded(mut self, now: Instant) {
        let mut tables = self.failures.tables.lock();
        let record = tables.pairs.entry(self.pair).or_default();
        let forgotten = std::mem::take(&mut record.failures);
        record.since = None;
        record.in_flight = record.in_flight.saturating_sub(1);
        record.trusted_until = now.checked_add(TRUST);
        if let Some(attack) = tables.names.get_mut(&self.pair.name) {
            attack.failures = attack.failures.saturating_sub(forgotten);
        }
        drop(tables);
        self.is_over = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(record) = self.failures.tables.lock().pairs.get_mut(&self.pair)
        {
            record.in_flight = record.in_flight.saturating_sub(1);
        }
        self.failures.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
