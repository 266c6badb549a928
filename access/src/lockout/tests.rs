//! The rule, case by case, with a clock of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Attempt, Begin, Failures, Lockout, RECORDS_MAX};

const SECOND: Duration = Duration::from_secs(1);

fn rule() -> Lockout {
    Lockout { failures_max: 3, window: 100 * SECOND, duration: 300 * SECOND }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn begin(failures: &Arc<Failures>, user: &str, peer: &str, now: Instant) -> Attempt {
    match failures.begin(user, ip(peer), now) {
        Begin::Go(attempt) => attempt,
        Begin::Wait => panic!("{user} from {peer} has to wait"),
        Begin::Locked(_) => panic!("{user} from {peer} is locked"),
    }
}

fn fail(failures: &Arc<Failures>, user: &str, peer: &str, now: Instant) -> bool {
    begin(failures, user, peer, now).failed(now)
}

fn is_locked(failures: &Arc<Failures>, user: &str, peer: &str, now: Instant) -> bool {
    matches!(failures.begin(user, ip(peer), now), Begin::Locked(_))
}

#[test]
fn the_limit_locks_one_name_for_one_address_for_a_while() {
    let failures = Failures::new(rule());
    let now = Instant::now();
    assert!(!fail(&failures, "a", "10.0.0.1", now));
    assert!(!fail(&failures, "a", "10.0.0.1", now));
    assert!(fail(&failures, "a", "10.0.0.1", now), "the third one locks");
    assert!(is_locked(&failures, "a", "10.0.0.1", now + 299 * SECOND));
    let Begin::Locked(left) = failures.begin("a", ip("10.0.0.1"), now + 290 * SECOND) else {
        panic!("no lock")
    };
    assert_eq!(left, 10 * SECOND, "until the next try");
    assert!(!is_locked(&failures, "a", "10.0.0.2", now), "not from elsewhere");
    assert!(!is_locked(&failures, "b", "10.0.0.1", now), "not somebody else");
    // Afterwards the count begins anew.
    let later = now + 300 * SECOND;
    assert!(!fail(&failures, "a", "10.0.0.1", later));
    assert!(!fail(&failures, "a", "10.0.0.1", later));
    assert!(fail(&failures, "a", "10.0.0.1", later));
}

#[test]
fn failures_are_forgotten_after_the_window_and_by_a_login() {
    let failures = Failures::new(rule());
    let now = Instant::now();
    for _ in 0..2 {
        fail(&failures, "a", "10.0.0.1", now);
    }
    let later = now + 101 * SECOND;
    assert!(!fail(&failures, "a", "10.0.0.1", later));
    assert!(!fail(&failures, "a", "10.0.0.1", later));
    begin(&failures, "a", "10.0.0.1", later).succeeded(later);
    assert!(!fail(&failures, "a", "10.0.0.1", later));
    assert!(!fail(&failures, "a", "10.0.0.1", later));
    assert!(fail(&failures, "a", "10.0.0.1", later));
}

#[test]
fn an_address_is_a_v4_address_or_a_v6_network() {
    let failures = Failures::new(rule());
    let now = Instant::now();
    for n in 1..=3 {
        fail(&failures, "a", &format!("2001:db8:1:2::{n}"), now);
    }
    assert!(is_locked(&failures, "a", "2001:db8:1:2:ffff::1", now));
    assert!(!is_locked(&failures, "a", "2001:db8:1:3::1", now));
    for peer in ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1"] {
        fail(&failures, "b", peer, now);
    }
    assert!(is_locked(&failures, "b", "::ffff:10.0.0.1", now));
    assert!(!is_locked(&failures, "b", "::ffff:10.0.0.2", now));
}

/// Attempts that are being checked count, so that many at once get no more tries.
#[test]
fn parallel_attempts_get_no_extra_tries() {
    let failures = Failures::new(rule());
    let now = Instant::now();
    let attempts: Vec<Attempt> = (0..3).map(|_| begin(&failures, "a", "10.0.0.1", now)).collect();
    assert!(matches!(failures.begin("a", ip("10.0.0.1"), now), Begin::Wait));
    assert!(matches!(failures.begin("a", ip("10.0.0.2"), now), Begin::Go(_)), "others do not wait");
    for (at, attempt) in attempts.into_iter().enumerate() {
        assert_eq!(attempt.failed(now), at == 2);
    }
    assert!(is_locked(&failures, "a", "10.0.0.1", now));
    // An attempt that came to nothing counts as nothing.
    drop(begin(&failures, "b", "10.0.0.1", now));
    assert!(!fail(&failures, "b", "10.0.0.1", now));
    assert!(!fail(&failures, "b", "10.0.0.1", now));
}

#[tokio::test]
async fn those_who_wait_go_on_when_an_attempt_has_ended() {
    let failures = Failures::new(rule());
    let now = Instant::now();
    let attempts: Vec<Attempt> = (0..3).map(|_| begin(&failures, "a", "10.0.0.1", now)).collect();
    let waiting = {
        let failures = Arc::clone(&failures);
        tokio::spawn(async move {
            let attempt = failures.attempt("a", ip("10.0.0.1")).await;
            attempt.map(|attempt| attempt.succeeded(Instant::now())).is_ok()
        })
    };
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let mut attempts = attempts.into_iter();
    attempts.next().unwrap().succeeded(now);
    assert!(waiting.await.unwrap(), "one has ended, so there is a try left");
    drop(attempts);

    let attempts: Vec<Attempt> = (0..3).map(|_| begin(&failures, "b", "10.0.0.1", now)).collect();
    let waiting = {
        let failures = Arc::clone(&failures);
        tokio::spawn(async move { failures.attempt("b", ip("10.0.0.1")).await.is_err() })
    };
    tokio::task::yield_now().await;
    for attempt in attempts {
        attempt.failed(Instant::now());
    }
    assert!(waiting.await.unwrap(), "locked by those before");
}

/// Attackers at many addresses get one try from each once they are noticed, and shut nobody out.
#[test]
fn the_brake_hits_addresses_that_fail_and_nobody_else() {
    let failures = Failures::new(rule());
    let now = Instant::now();
    let home = "192.0.2.1";
    begin(&failures, "a", home, now).succeeded(now);
    let mut tries = 0;
    for n in 0..200 {
        let peer = format!("10.0.{}.{}", n / 100, n % 100);
        while !is_locked(&failures, "a", &peer, now) {
            tries += 1;
            fail(&failures, "a", &peer, now);
        }
    }
    // Nine failures put the brake on: three addresses with three tries, then one each.
    assert_eq!(tries, 3 * 3 + 197);
    // The user is let in from an address that has not failed, ...
    assert!(!is_locked(&failures, "a", "198.51.100.7", now));
    begin(&failures, "a", "198.51.100.7", now).succeeded(now);
    // ... may mistype there, and at home, as often as ever, ...
    for peer in ["198.51.100.7", home] {
        assert!(!fail(&failures, "a", peer, now));
        assert!(!fail(&failures, "a", peer, now));
        begin(&failures, "a", peer, now).succeeded(now);
    }
    // ... and other users notice nothing.
    assert!(!fail(&failures, "b", "10.0.0.1", now));
    assert!(!fail(&failures, "b", "10.0.0.1", now));

    // The brake ends a lockout time after the last of these failures.
    let later = now + 301 * SECOND;
    assert!(!fail(&failures, "a", "203.0.113.1", later));
    assert!(!is_locked(&failures, "a", "203.0.113.1", later));
}

#[test]
fn the_brake_locks_who_has_failed_before_it() {
    let failures = Failures::new(rule());
    let now = Instant::now();
    fail(&failures, "a", "10.0.9.9", now);
    for n in 1..=3 {
        for _ in 0..3 {
            if !is_locked(&failures, "a", &format!("10.0.0.{n}"), now) {
                fail(&failures, "a", &format!("10.0.0.{n}"), now);
            }
        }
    }
    assert!(is_locked(&failures, "a", "10.0.9.9", now));
}

#[test]
fn showing_changes_nothing() {
    let failures = Failures::new(rule());
    let now = Instant::now();
    fail(&failures, "a", "10.0.0.1", now);
    fail(&failures, "a", "10.0.0.1", now);
    for _ in 0..10 {
        assert_eq!(failures.locked_count(now), 0);
    }
    assert!(fail(&failures, "a", "10.0.0.1", now), "the two are still counted");
    for _ in 0..10 {
        assert_eq!(failures.locked_count(now), 1);
        assert_eq!(failures.locked_count(now + 300 * SECOND), 0);
    }
    assert!(is_locked(&failures, "a", "10.0.0.1", now));
}

/// A flood of names and addresses is forgotten before locks are.
#[test]
fn memory_is_bounded_and_locks_go_last() {
    let failures = Failures::bounded(rule(), 100, 80);
    let now = Instant::now();
    for _ in 0..3 {
        fail(&failures, "victim", "10.0.0.1", now);
    }
    for n in 0..5000_u32 {
        let now = now + n * Duration::from_millis(10);
        let peer = IpAddr::from(n.to_be_bytes());
        let Begin::Go(attempt) = failures.begin(&format!("made up {n}"), peer, now) else { panic!("{n}") };
        attempt.failed(now);
        let tables = failures.tables.lock();
        assert!(tables.pairs.len() <= 100 && tables.names.len() <= 101, "{n}");
    }
    assert!(is_locked(&failures, "victim", "10.0.0.1", now + 60 * SECOND));
    assert_eq!(failures.locked_count(now + 60 * SECOND), 1);
}

/// What a record costs, so that the bound on their number is one on memory.
#[test]
fn records_are_small() {
    let pair = size_of::<super::Pair>() + size_of::<super::Record>();
    let name = size_of::<super::Name>() + size_of::<super::Attack>();
    assert!(RECORDS_MAX * (pair + name) <= 16 << 20, "{pair} {name}");
}
