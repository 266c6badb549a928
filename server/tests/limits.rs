//! Every limit of a real server: what it is set to is in INFO, what is exactly at it passes, and what is one beyond it
//! has its code and harms nobody.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever asks for them")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use vaylix_proto::request::{Metadata, Request};
use vaylix_proto::{Command, ErrorReply, Reply, Text};
use vaylix_testkit::process::PATIENCE;
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Server, wait};

const MIB: u64 = 1 << 20;

/// How long a flood lasts: much longer than it takes to fill every buffer.
const FLOOD: Duration = Duration::from_secs(4);

fn info(server: &Server) -> BTreeMap<String, String> {
    let Ok(Reply::Entries(entries)) =
        Connection::login(server.address()).unwrap().call(&Command::Info).unwrap()
    else {
        panic!("no entries")
    };
    let pair = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    entries.iter().map(|entry| (entry.name.to_string(), pair(&entry.value))).collect()
}

fn ping() -> Command {
    Command::Ping { message: None }
}

fn get(key: impl Into<Text>) -> Command {
    Command::Get { key: key.into() }
}

fn pong() -> Result<Reply, ErrorReply> {
    Ok(Reply::Value("PONG".into()))
}

fn code(answer: Result<Reply, ErrorReply>) -> String {
    answer.expect_err("a refusal").code.to_string()
}

/// Waits for the server to close; how long it took, and whatever came before.
fn closed(stream: &mut TcpStream) -> Instant {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    Instant::now()
}

#[test]
fn sizes_hold_at_their_boundaries_and_are_in_info() {
    const KEY: usize = 64;
    const VALUE: usize = 512;
    const BATCH: usize = 4;
    const PAYLOAD: usize = 4096;
    let numbers = [KEY, VALUE, BATCH, PAYLOAD].map(|number| number.to_string());
    let server = Server::start(&[
        "--max-key-bytes",
        &numbers[0],
        "--max-value-bytes",
        &numbers[1],
        "--max-keys-per-batch",
        &numbers[2],
        "--max-request-payload-bytes",
        &numbers[3],
    ])
    .unwrap();
    let shown = info(&server);
    for (name, number) in [
        ("runtime.max_key_bytes", KEY),
        ("runtime.max_value_bytes", VALUE),
        ("runtime.max_keys_per_batch", BATCH),
        ("runtime.max_request_payload_bytes", PAYLOAD),
    ] {
        assert_eq!(shown[name], number.to_string(), "{name}");
    }

    let mut client = Connection::login(server.address()).unwrap();
    let mut call = |command: &Command| client.call(command).unwrap();
    let text = |len: usize| "x".repeat(len);
    let keys = |count: usize| (0..count).map(|n| Text::from(n.to_string())).collect::<Vec<_>>();
    assert_eq!(call(&set_command(&text(KEY), "v")), Ok(Reply::Ok));
    assert_eq!(code(call(&set_command(&text(KEY + 1), "v"))), "SRV-013");
    assert_eq!(call(&set_command("k", text(VALUE))), Ok(Reply::Ok));
    assert_eq!(code(call(&set_command("k", text(VALUE + 1)))), "SRV-013");
    assert!(call(&Command::MGet { keys: keys(BATCH) }).is_ok());
    assert_eq!(code(call(&Command::MGet { keys: keys(BATCH + 1) })), "SRV-013");
    assert!(call(&Command::Del { keys: keys(BATCH) }).is_ok());
    assert_eq!(code(call(&Command::Del { keys: keys(BATCH + 1) })), "SRV-013");
    let pairs = |count: usize| keys(count).into_iter().map(|key| (key, "v".into())).collect();
    assert_eq!(call(&Command::MSet { pairs: pairs(BATCH) }), Ok(Reply::Ok));
    assert_eq!(code(call(&Command::MSet { pairs: pairs(BATCH + 1) })), "SRV-013");

    // PING takes a text of any length, so that only the payload is limited.
    let say = |len: usize| Command::Ping { message: Some(text(len).into()) };
    let payload = |command: &Command| {
        let mut body = BytesMut::new();
        Request::encode([0; 16], &Metadata::default(), command, &mut body).unwrap();
        Request::decode(body.freeze()).unwrap().payload.len()
    };
    let most = PAYLOAD - payload(&say(0));
    assert_eq!((payload(&say(most)), payload(&say(most + 1))), (PAYLOAD, PAYLOAD + 1));
    assert_eq!(call(&say(most)), Ok(Reply::Value(text(most).into())));
    assert_eq!(code(call(&say(most + 1))), "SRV-013");
    assert_eq!(call(&ping()), pong(), "the session stays");
}

#[test]
fn transactions_are_bounded_in_length_and_time() {
    let server =
        Server::start(&["--max-transaction-queue-len", "4", "--transaction-max-seconds", "1"]).unwrap();
    let shown = info(&server);
    assert_eq!(shown["runtime.max_transaction_queue_len"], "4");
    assert_eq!(shown["runtime.transaction_max_seconds"], "1");
    let mut client = Connection::login(server.address()).unwrap();
    assert_eq!(client.call(&Command::Multi).unwrap(), Ok(Reply::Ok));
    let begun = Instant::now();
    // Inside a transaction the answer to anything that is queued is a text.
    for n in 0..3 {
        assert!(client.call(&get(format!("k{n}"))).unwrap().is_ok(), "MULTI counts as one");
    }
    assert_eq!(code(client.call(&get("k3")).unwrap()), "SRV-013");
    let results = client.call(&Command::Exec).unwrap();
    if begun.elapsed() < Duration::from_millis(900) {
        assert!(results.is_ok(), "{results:?}");
    }

    assert_eq!(client.call(&Command::Multi).unwrap(), Ok(Reply::Ok));
    let begun = Instant::now();
    // Looking at it does not prolong it.
    let refusal = wait::until("the end of the transaction", || {
        Some(code(client.call(&Command::Multi).unwrap())).filter(|code| code != "SRV-014")
    });
    assert_eq!(refusal, "SRV-034");
    let age = begun.elapsed();
    assert!(age >= Duration::from_millis(950), "not cut short: {age:?}");
    assert_eq!(client.call(&ping()).unwrap(), pong());
    assert_eq!(code(client.call(&Command::Exec).unwrap()), "SRV-015");
    assert_eq!(info(&server)["metrics.vaylix.server.transaction.timeout.count"], "1");
}

#[test]
fn the_rate_is_that_of_each_connection() {
    // The next token comes after ten seconds.
    let server = Server::start(&["--request-burst", "5", "--requests-per-second", "1"]).unwrap();
    let shown = info(&server);
    assert_eq!(shown["runtime.request_burst"], "5");
    assert_eq!(shown["runtime.requests_per_second"], "1");
    let mut client = Connection::open(server.address()).unwrap();
    let begun = Instant::now();
    for _ in 0..20 {
        client.send(&ping()).unwrap();
    }
    client.flush().unwrap();
    let answers: Vec<_> = (0..20).map(|_| client.receive(&ping()).unwrap()).collect();
    let earned = usize::try_from(begun.elapsed().as_secs()).unwrap();
    let passed = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!((5..=5 + earned).contains(&passed), "{passed} of 20, {earned} earned");
    assert!(answers[..5].iter().all(Result::is_ok));
    assert_eq!(code(answers[5].clone()), "SRV-012");
    // Others have buckets of their own, and this one fills up again.
    assert_eq!(Connection::open(server.address()).unwrap().call(&ping()).unwrap(), pong());
    wait::until("a token", || client.call(&ping()).unwrap().ok());
}

#[test]
fn places_are_bounded_and_given_back() {
    let server = Server::start(&["--max-connections", "3"]).unwrap();
    assert_eq!(info(&server)["runtime.max_connections"], "3");
    // The session that INFO came by has left, or will.
    let mut users: Vec<_> =
        (0..3).map(|_| wait::until("a place", || Connection::login(server.address()).ok())).collect();
    let refused = Connection::open(server.address()).expect_err("no place is left");
    assert!(refused.to_string().contains("SRV-013"), "{refused:?}");
    for user in &mut users {
        assert_eq!(user.call(&ping()).unwrap(), pong());
    }
    drop(users.pop());
    let mut next = wait::until("the place", || Connection::login(server.address()).ok());
    assert_eq!(next.call(&ping()).unwrap(), pong());
}

#[test]
fn silence_ends_before_the_hello_and_after_it() {
    const HELLO: Duration = Duration::from_millis(700);
    const IDLE: Duration = Duration::from_secs(2);
    let server = Server::start(&["--handshake-timeout-ms", "700", "--idle-timeout-seconds", "2"]).unwrap();
    let shown = info(&server);
    assert_eq!(shown["runtime.handshake_timeout_ms"], "700");
    assert_eq!(shown["runtime.idle_timeout_seconds"], "2");

    let mut silent = TcpStream::connect(server.address()).unwrap();
    let begun = Instant::now();
    let took = closed(&mut silent) - begun;
    // The server's clock starts after ours, when it accepts.
    assert!(took >= HELLO - Duration::from_millis(20), "{took:?}");
    assert!(took < HELLO + PATIENCE / 4, "{took:?}");

    let mut idle = Connection::open(server.address()).unwrap();
    let mut busy = Connection::open(server.address()).unwrap();
    let begun = Instant::now();
    assert_eq!(idle.call(&ping()).unwrap(), pong());
    let watcher = thread::spawn({
        let mut socket = idle.socket().unwrap();
        move || closed(&mut socket)
    });
    // Whoever asks now and then stays, for longer than the others may be silent.
    wait::until("twice the idle time", || {
        assert_eq!(busy.call(&ping()).unwrap(), pong());
        (begun.elapsed() > 2 * IDLE).then_some(())
    });
    let took = watcher.join().unwrap() - begun;
    assert!(took >= IDLE && took < IDLE + PATIENCE / 4, "{took:?}");
    assert_eq!(busy.call(&ping()).unwrap(), pong());
    // `info` logs in anew each time and leaves at once; only the silent one was sent away.
    let count = wait::until("the count", || {
        Some(info(&server)["metrics.vaylix.server.connection.idle.disconnect.count"].clone())
    });
    assert_eq!(count, "1");
}

/// Sockets that are shut down however a test ends, so that nobody waits for them for ever.
struct Flood(Vec<TcpStream>);

impl Drop for Flood {
    fn drop(&mut self) {
        for socket in &self.0 {
            // One that the server has closed is shut down already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Clients that ask for as much as they can and take nothing: each costs a bounded amount of memory, and somebody
/// else's requests are answered as if they were not there.
///
/// `held_bytes_max` is what one of them may make the server hold, `answer_time_max` how long two requests of the other one
/// may take.
fn nobody_else_notices(
    connections: u64,
    held_bytes_max: u64,
    answer_time_max: Duration,
    request: impl Fn(u64) -> Command + Send + Sync,
) {
    let server = Server::start(&["--disable-auth"]).unwrap();
    let mut ordinary = Connection::open(server.address()).unwrap();
    let value = vec![7; 200_000];
    assert_eq!(ordinary.call(&set_command("large", value)).unwrap(), Ok(Reply::Ok));
    let before = server.resident_bytes().unwrap();
    // Everything twice, because blocks of the allocator are not full; and some for what else the server does meanwhile.
    let bound = before + 2 * connections * held_bytes_max + 16 * MIB;
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        let mut flood = Flood(Vec::new());
        for _ in 0..connections {
            let mut flooder = Connection::open(server.address()).unwrap();
            flood.0.push(flooder.socket().unwrap());
            let (sent, request) = (&sent, &request);
            scope.spawn(move || {
                // Ends with an error when the socket is shut down.
                while flooder.flush().is_ok() {
                    for _ in 0..50 {
                        flooder.send(&request(sent.fetch_add(1, Ordering::Relaxed))).unwrap();
                    }
                }
            });
        }
        let begun = Instant::now();
        let (mut slowest, mut largest) = (Duration::ZERO, 0);
        while begun.elapsed() < FLOOD {
            let asked = Instant::now();
            assert_eq!(ordinary.call(&ping()).unwrap(), pong());
            assert_eq!(ordinary.call(&set_command("own", "v")).unwrap(), Ok(Reply::Ok));
            slowest = slowest.max(asked.elapsed());
            largest = largest.max(server.resident_bytes().unwrap());
        }
        println!(
            "{} requests sent, {} MiB resident at most after {}, slowest answer {slowest:?}",
            sent.load(Ordering::Relaxed),
            largest / MIB,
            before / MIB
        );
        assert!(largest < bound, "{} MiB resident, {} before", largest / MIB, before / MIB);
        assert!(slowest < answer_time_max, "ordinary requests took {slowest:?}");
    });
    assert!(sent.into_inner() > 50 * connections, "there was a flood");
    assert_eq!(ordinary.call(&ping()).unwrap(), pong());
}

/// Each request, of some forty bytes, asks for 200,000: the answers up to the mark of 256 KiB, one more, and the
/// buffers for reading.
#[test]
fn slow_readers_are_bounded() {
    nobody_else_notices(24, MIB, Duration::from_secs(5), |_| get("large"));
}

/// Writes up to 4 MiB of each connection are under way, and 32 MiB of the newest entries stay in the memory of the log. An
/// ordinary write waits for those that came before it: here that is for the disk.
#[test]
fn floods_of_large_writes_are_bounded() {
    let held = 4 * MIB + 32 * MIB / 8;
    nobody_else_notices(8, held, PATIENCE, |n| set_command(&format!("k{}", n % 64), vec![1; 20_000]));
}

/// Small writes are many to a batch, so that there is little to wait for.
#[test]
fn floods_of_small_writes_delay_nobody() {
    let held = 4 * MIB + 32 * MIB / 8;
    nobody_else_notices(8, held, Duration::from_secs(5), |n| set_command(&format!("k{}", n % 64), "v"));
}
