//! Clients that send too much, too slowly, or nothing at all.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use vaylix_admin_proto::health::HealthCheckRequest;
use vaylix_admin_proto::health::health_client::HealthClient;
use vaylix_testkit::{Server, http};

use crate::support::{admin, call, channel, run};

/// Memory that a flood of refused requests may cost at most.
const GROWTH_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// What a server says until it closes; none if it says nothing.
fn last_words(stream: &mut TcpStream) -> Option<u16> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    drop(stream.read_to_end(&mut bytes));
    http::parse(&bytes, "GET").ok().map(|response| response.status)
}

fn send(address: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut stream = http::connect(address).unwrap();
    // It may be refused before it is taken.
    drop(stream.write_all(bytes));
    last_words(&mut stream)
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let server = Server::start(&[]).unwrap();
    let address = admin(&server);
    let many: String = (0..200).map(|at| format!("x-{at}: y\r\n")).collect();
    assert_eq!(send(address, format!("GET /livez HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()), Some(431));
    let long = "y".repeat(64 * 1024);
    assert_eq!(
        send(address, format!("GET /livez HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n").as_bytes()),
        Some(431)
    );
    let status = send(address, format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
    assert!(matches!(status, Some(414 | 431)), "{status:?}");
    let long = "y".repeat(5000);
    let response =
        http::request(address, "GET", "/v1/whoami", &[("authorization", &format!("Bearer {long}"))], b"")
            .unwrap();
    assert_eq!(response.status, 401);
}

#[test]
fn bodies_that_are_too_large_are_refused_before_they_are_taken() {
    let server = Server::start(&[]).unwrap();
    let address = admin(&server);
    let head = "POST /v1/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    // Announced, and never sent: the answer does not wait for it.
    let announced = format!("{head}content-length: 1000000000\r\n\r\n");
    assert_eq!(send(address, announced.as_bytes()), Some(413));
    // Not announced, and sent for as long as it is taken.
    let before = server.resident_bytes().unwrap();
    let mut stream = http::connect(address).unwrap();
    stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut taken = 0;
    while taken < 4096 && stream.write_all(chunk.as_bytes()).is_ok() {
        taken += 1;
    }
    assert!(taken < 4096, "256 MiB were taken");
    assert!(server.resident_bytes().unwrap() < before + GROWTH_BYTES_MAX);
    assert_eq!(call(&server, "GET", "/v1/whoami", "").0, 200, "others are served");
}

#[test]
fn who_says_nothing_or_hardly_anything_is_let_go() {
    let server = Server::start(&[]).unwrap();
    let address = admin(&server);
    let begun = Instant::now();
    let silent: Vec<_> = [
        &b""[..],
        b"G",
        b"PRI * HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\n",
        b"\x16\x03\x01",
    ]
    .into_iter()
    .map(|bytes| {
        let mut stream = http::connect(address).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    })
    .collect();
    // One drop at a time, for as long as it is taken.
    let mut dripping = http::connect(address).unwrap();
    let drip = std::thread::spawn(move || {
        dripping.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
        dripping.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut byte = [0; 1];
        loop {
            let is_open = match dripping.read(&mut byte) {
                Ok(read) => read > 0,
                Err(error) => {
                    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
                }
            };
            if !is_open || dripping.write_all(b"a: b\r\n").is_err() {
                return begun.elapsed();
            }
        }
    });
    for mut stream in silent {
        last_words(&mut stream);
    }
    let all = begun.elapsed().max(drip.join().unwrap());
    assert!(all < Duration::from_secs(30), "{all:?}");
    assert_eq!(http::get(address, "/livez").unwrap().status, 200);
}

#[test]
fn a_crowd_of_silent_connections_keeps_nobody_out() {
    let server = Server::start(&[]).unwrap();
    let address = admin(&server);
    let crowd: Vec<_> = (0..600).map(|_| http::connect(address).unwrap()).collect();
    for _ in 0..20 {
        assert_eq!(http::get(address, "/livez").unwrap().status, 200);
    }
    drop(crowd);
}

#[test]
fn strangers_who_watch_keep_no_administrator_out() {
    let server = Server::start(&[]).unwrap();
    let mut watching = Vec::new();
    run(async {
        for _ in 0..3 {
            let channel = channel(admin(&server)).await;
            for _ in 0..30 {
                let request = HealthCheckRequest { service: "vaylix.data".to_owned() };
                watching.extend(HealthClient::new(channel.clone()).watch(request).await);
            }
        }
        assert_eq!(watching.len(), 64, "the others are told to come again");
        assert_eq!(call(&server, "GET", "/v1/whoami", "").0, 200);
        assert_eq!(http::get(admin(&server), "/readyz").unwrap().status, 200);
    });
}
