//! The network does to bytes what it is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use vaylix_testkit::{Link, Network, Party};

/// Long enough that what has not arrived will not.
const SILENCE: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_secs(20);

/// Node 0 is this process, node 1 a server that sends everything back; no process of ours, so it cannot be told from
/// clients by what it opens.
struct Stage {
    network: Network,
}

impl Stage {
    fn set() -> Self {
        let network = Network::start(2).unwrap();
        network.attach(0, SocketAddr::from(([127, 0, 0, 1], 1)), std::process::id());
        network.attach(1, echo(), 0);
        Self { network }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.network.address(1)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn set_link(&self, there: Link, back: Link) {
        self.network.set(Party::Node(0), Party::Node(1), there);
        self.network.set(Party::Node(1), Party::Node(0), back);
    }
}

fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut out = stream.try_clone().unwrap();
                // It ends when either side breaks off, which is what some of the tests are about.
                let _ = std::io::copy(&mut stream, &mut out);
            });
        }
    });
    address
}

fn arrives(stream: &mut TcpStream, text: &str) {
    let mut read = vec![0; text.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(String::from_utf8(read).unwrap(), text);
}

fn nothing_arrives(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

fn is_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn bytes_pass_in_both_directions() {
    let stage = Stage::set();
    let mut stream = stage.connect();
    stream.write_all(b"hello").unwrap();
    arrives(&mut stream, "hello");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the end is passed on as well");
}

#[test]
fn a_dropped_direction_is_silent_until_it_heals() {
    for (there, back) in [(Link::Drop, Link::Pass), (Link::Pass, Link::Drop)] {
        let stage = Stage::set();
        let mut old = stage.connect();
        old.write_all(b"1").unwrap();
        arrives(&mut old, "1");
        stage.set_link(there, back);
        old.write_all(b"2").unwrap();
        let mut new = stage.connect();
        new.write_all(b"3").unwrap();
        nothing_arrives(&mut old);
        nothing_arrives(&mut new);
        stage.network.heal();
        arrives(&mut old, "2");
        arrives(&mut new, "3");
    }
}

#[test]
fn a_reset_link_breaks_old_connections_and_new_ones() {
    let stage = Stage::set();
    let mut old = stage.connect();
    old.write_all(b"1").unwrap();
    arrives(&mut old, "1");
    stage.set_link(Link::Pass, Link::Reset);
    is_reset(&mut old);
    stage.set_link(Link::Reset, Link::Pass);
    is_reset(&mut stage.connect());
    stage.network.heal();
    stage.network.detach(1);
    is_reset(&mut stage.connect());
}

#[test]
fn a_reset_that_is_over_at_once_is_not_missed() {
    let stage = Stage::set();
    let mut stream = stage.connect();
    stream.write_all(b"1").unwrap();
    arrives(&mut stream, "1");
    stage.set_link(Link::Reset, Link::Pass);
    stage.network.heal();
    is_reset(&mut stream);
    stage.connect().write_all(b"2").unwrap();
}

#[test]
fn only_the_link_between_these_two_is_cut() {
    let stage = Stage::set();
    stage.network.set_both(Party::Outside, Party::Node(1), Link::Drop);
    let mut stream = stage.connect();
    stream.write_all(b"from node 0").unwrap();
    arrives(&mut stream, "from node 0");

    // The same process, but no longer a node.
    stage.network.detach(0);
    let mut stream = stage.connect();
    stream.write_all(b"from outside").unwrap();
    nothing_arrives(&mut stream);
    stage.network.heal();
    arrives(&mut stream, "from outside");
}

#[test]
fn slow_links_are_slow() {
    let stage = Stage::set();
    let took = |there, bytes: usize| {
        stage.set_link(there, Link::Pass);
        let mut stream = stage.connect();
        let start = Instant::now();
        stream.write_all(&vec![b'x'; bytes]).unwrap();
        stream.read_exact(&mut vec![0; bytes]).unwrap();
        start.elapsed()
    };
    let delay = Duration::from_millis(80);
    assert!(took(Link::Delay(delay), 5) >= delay);
    // A delay is no limit: a megabyte takes not much longer than a byte.
    assert!(took(Link::Delay(delay), 1 << 20) < 20 * delay);
    assert!(took(Link::Bandwidth(100_000), 20_000) >= Duration::from_millis(190));
    assert!(took(Link::Lossy { one_in: 1, stall: delay }, 5) >= delay);
}
