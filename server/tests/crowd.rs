//! Many who want something at once, and one ordinary session beside them: idle connections, arrivals, logins.
//!
//! By default a small crowd, which shows that it works. The long version is for figures; `docs/benchmarking.md` has the
//! command. Its settings: `VAYLIX_CROWD_CONNECTIONS` (default 200; 10000), `VAYLIX_CROWD_ARRIVALS` per second (default 100;
//! 1000), `VAYLIX_CROWD_SECONDS` (default 1; 10), `VAYLIX_CROWD_ROUNDS` (default 1; 5), and `VAYLIX_CROWD_STRICT=1`, with
//! which a p99 beside a flood of logins above three times that without one is a failure, in the median of the rounds: on a
//! quiet machine only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever runs the long version")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vaylix_proto::{Command, Reply};
use vaylix_testkit::Server;
use vaylix_testkit::wire::{Connection, set_command};

/// Memory that an idle session may take of the server.
const IDLE_BYTES_MAX: u64 = 32 * 1024;
/// What else the server may take meanwhile.
const REST_BYTES_MAX: u64 = 32 << 20;
/// Longest that one request of the ordinary session may take, whatever others do.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// How much later the p99 of the ordinary session may be beside a flood of logins.
const LOGIN_FLOOD_RATIO_MAX: f64 = 3.0;
/// Threads that arrive and log in.
const THREADS: u64 = 16;
/// Names that were tried to log in with so far.
static NAMES: AtomicU64 = AtomicU64::new(0);
/// Pause of the ordinary session between two requests: it is no load itself.
const PACE: Duration = Duration::from_micros(500);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn time() -> Duration {
    Duration::from_secs(setting("VAYLIX_CROWD_SECONDS", 1))
}

/// Latencies of an ordinary session, smallest first.
struct Latencies(Vec<Duration>);

impl Latencies {
    /// Asks for `time`, now and then.
    fn measure(client: &mut Connection, command: &Command, time: Duration) -> Self {
        let begun = Instant::now();
        let mut taken = Vec::new();
        while begun.elapsed() < time {
            let asked = Instant::now();
            assert!(client.call(command).unwrap().is_ok());
            taken.push(asked.elapsed());
            thread::sleep(PACE);
        }
        taken.sort_unstable();
        assert!(taken.last().is_some_and(|worst| *worst < ANSWER_TIME_MAX), "{:?}", taken.last());
        Self(taken)
    }

    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    fn print(&self, name: &str) {
        let (count, worst) = (self.0.len(), self.at(100));
        println!("{name}: p50 {:?}, p99 {:?}, worst {worst:?} of {count}", self.at(50), self.at(99));
    }
}

fn raise_file_limit() {
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
}

fn ping() -> Command {
    Command::Ping { message: None }
}

/// Comes, says something and goes, so many times a second. How often it was answered.
fn arrive(server: SocketAddr, per_second: u64, time: Duration, answered: &AtomicU64) {
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let pause = Duration::from_secs(1) * u32::try_from(THREADS).unwrap()
                    / u32::try_from(per_second.max(1)).unwrap();
                let begun = Instant::now();
                let mut next = begun;
                while begun.elapsed() < time {
                    assert!(Connection::open(server).unwrap().call(&ping()).unwrap().is_ok());
                    answered.fetch_add(1, Ordering::Relaxed);
                    next += pause;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
    });
}

#[test]
fn idle_connections_are_cheap_and_arrivals_hold_up_nobody() {
    raise_file_limit();
    let connections = setting("VAYLIX_CROWD_CONNECTIONS", 200);
    let arrivals = setting("VAYLIX_CROWD_ARRIVALS", 100);
    let places = (connections + 1000).to_string();
    let server = Server::start(&["--max-connections", &places, "--disable-auth"]).unwrap();
    let mut ordinary = Connection::open(server.address()).unwrap();
    Latencies::measure(&mut ordinary, &ping(), time()).print("PING, nobody else");

    let before = server.resident_bytes().unwrap();
    let begun = Instant::now();
    let mut crowd: Vec<Connection> =
        (0..connections).map(|_| Connection::open(server.address()).unwrap()).collect();
    let took = begun.elapsed();
    let after = server.resident_bytes().unwrap();
    let each = after.saturating_sub(before) / connections.max(1);
    println!(
        "{connections} connections opened one after the other in {took:?}: {} MiB, {each} bytes each",
        after >> 20
    );
    assert!(after < before + connections * IDLE_BYTES_MAX + REST_BYTES_MAX, "{before} before, {after} after");
    Latencies::measure(&mut ordinary, &ping(), time()).print("PING beside them");

    let answered = AtomicU64::new(0);
    let latencies = thread::scope(|scope| {
        scope.spawn(|| arrive(server.address(), arrivals, time(), &answered));
        Latencies::measure(&mut ordinary, &ping(), time())
    });
    latencies.print("PING beside arrivals");
    let answered = answered.into_inner();
    println!("{answered} arrivals in {:?}, each answered", time());
    assert!(answered > 0);
    // Everybody is still there.
    for idle in crowd.iter_mut().step_by(97) {
        assert_eq!(idle.call(&ping()).unwrap(), Ok(Reply::Value("PONG".into())));
    }
}

#[test]
fn logins_hold_up_nobody_who_is_in() {
    let server = Server::start(&[]).unwrap();
    let mut ordinary = Connection::login(server.address()).unwrap();
    assert_eq!(ordinary.call(&set_command("k", "v")).unwrap(), Ok(Reply::Ok));
    let get = Command::Get { key: "k".into() };
    let refused = AtomicU64::new(0);
    let mut ratios = Vec::new();
    for _ in 0..setting("VAYLIX_CROWD_ROUNDS", 1) {
        let quiet = Latencies::measure(&mut ordinary, &get, time());
        quiet.print("GET, nobody else");
        let beside =
            beside_logins(server.address(), &refused, || Latencies::measure(&mut ordinary, &get, time()));
        beside.print("GET beside a flood of logins");
        ratios.push(beside.at(99).as_secs_f64() / quiet.at(99).as_secs_f64());
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("{} logins refused; p99 is {ratios:.2?} times as late", refused.load(Ordering::Relaxed));
    assert!(refused.into_inner() > 0, "there was a flood");
    if setting("VAYLIX_CROWD_STRICT", 0) == 1 {
        assert!(median <= LOGIN_FLOOD_RATIO_MAX, "{ratios:.2?}");
    }
}

/// Does something while others try to log in as fast as they can.
fn beside_logins<T>(server: SocketAddr, refused: &AtomicU64, act: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut guesser = Connection::open(server).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    // A name of its own each time, in later rounds too, so that no lockout spares the work.
                    let number = NAMES.fetch_add(1, Ordering::Relaxed);
                    let login = Command::Auth {
                        user: format!("nobody-{number}").into(),
                        password: "a guess 1234".into(),
                    };
                    assert_eq!(guesser.call(&login).unwrap().unwrap_err().code, "SRV-008");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let result = act();
        is_over.store(true, Ordering::Relaxed);
        result
    })
}
