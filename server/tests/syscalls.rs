//! What the operating system sees: no reply leaves before the write it answers is on disk.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command as Process, Stdio};

use vaylix_proto::Reply;
use vaylix_testkit::Server;
use vaylix_testkit::wire::{Connection, set_command};

const WRITES: usize = 40;

/// One system call of interest, in the order they completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// A data sync that succeeded.
    Sync,
    /// Bytes handed to a socket.
    Reply,
}

#[test]
fn every_write_is_synced_once_and_before_its_reply() {
    let server = Server::start(&[]).unwrap();
    let mut connection = Connection::login(server.address()).unwrap();
    // Whatever the first write sets in motion is over when it is answered.
    assert_eq!(connection.call(&set_command("warm", "up")).unwrap(), Ok(Reply::Ok));

    let trace = Trace::of(&server, "fdatasync,fsync,sendto,sendmsg,write,writev");
    for n in 0..WRITES {
        assert_eq!(connection.call(&set_command("k", n.to_string())).unwrap(), Ok(Reply::Ok));
    }
    let text = trace.finish();
    let calls: Vec<Call> = text.lines().filter_map(classify).collect();
    let replies = calls.iter().filter(|call| **call == Call::Reply).count();
    assert_eq!(replies, WRITES, "{text}");
    let mut synced = 0;
    let mut seen = 0;
    for call in &calls {
        match call {
            Call::Sync => synced += 1,
            Call::Reply => {
                seen += 1;
                assert!(synced >= seen, "reply {seen} left after {synced} syncs:\n{text}");
            }
        }
    }
    // One sync per commit; a rotation or the like may add a few of its own.
    assert!(synced <= WRITES + 5, "{synced} syncs for {WRITES} writes:\n{text}");
}

/// Connections that write at once, requests that each sends before it reads an answer, and how often they do so.
const CONNECTIONS: usize = 16;
const DEPTH: usize = 8;
const ROUNDS: usize = 5;
/// So large that the length of a write tells how many of them are in it.
const VALUE_BYTES: usize = 4096;

#[test]
fn many_writers_share_a_sync_and_none_is_answered_before_it() {
    let server = Server::start(&["--requests-per-second", "1000000", "--request-burst", "1000000"]).unwrap();
    let mut connections: Vec<Connection> =
        (0..CONNECTIONS).map(|_| Connection::login(server.address()).unwrap()).collect();
    let set = set_command("key", vec![b'v'; VALUE_BYTES]);
    assert_eq!(connections[0].call(&set).unwrap(), Ok(Reply::Ok));

    let trace = Trace::of(&server, "fdatasync,fsync,pwrite64,pwritev,sendto,sendmsg,write,writev");
    for _ in 0..ROUNDS {
        for connection in &mut connections {
            (0..DEPTH).for_each(|_| connection.send(&set).unwrap());
            connection.flush().unwrap();
        }
        for connection in &mut connections {
            (0..DEPTH).for_each(|_| assert_eq!(connection.receive(&set).unwrap(), Ok(Reply::Ok)));
        }
    }
    let text = trace.finish();

    let writes = CONNECTIONS * DEPTH * ROUNDS;
    let events = batched_events(&text);
    let reply_bytes: usize =
        events.iter().map(|event| if let Event::Reply(bytes) = event { *bytes } else { 0 }).sum();
    assert_eq!(reply_bytes % writes, 0, "{reply_bytes} bytes for {writes} equal answers:\n{text}");
    let answer_bytes = reply_bytes / writes;
    let (mut logged, mut on_disk, mut answered, mut batches) = (0, 0, 0, 0);
    let mut is_synced = true;
    for event in events {
        match event {
            Event::Logged(bytes) => {
                assert!(is_synced, "two writes to the log without a sync between them:\n{text}");
                logged += bytes / VALUE_BYTES;
                is_synced = false;
                batches += 1;
            }
            Event::Synced => {
                assert!(!is_synced, "a sync of the log for nothing:\n{text}");
                is_synced = true;
                on_disk = logged;
            }
            Event::Reply(bytes) => {
                answered += bytes / answer_bytes;
                assert!(answered <= on_disk, "{answered} answered with {on_disk} on disk:\n{text}");
            }
        }
    }
    assert_eq!(answered, writes);
    assert!(batches * 2 <= writes, "{batches} batches for {writes} writes");
}

/// What happens to the log and to the clients, in order.
enum Event {
    /// So many bytes were written to the log's segment.
    Logged(usize),
    /// A sync of the segment has succeeded.
    Synced,
    /// So many bytes begin to leave to a client.
    Reply(usize),
}

/// Calls of several threads overlap: a sync counts from its end, a reply from its beginning.
fn batched_events(text: &str) -> Vec<Event> {
    let mut begun = std::collections::HashMap::new();
    let mut events = Vec::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if ["<TCP:", "<socket:"].iter().any(|kind| call.contains(kind)) && !call.starts_with("<...") {
            events.push(Event::Reply(announced_len(call)));
            continue;
        }
        let whole = match call.split_once(" resumed>") {
            Some((_, end)) => begun.remove(thread).map(|start: String| start + end),
            None => Some(call.to_owned()),
        };
        let Some(whole) = whole.filter(|whole| whole.contains(".wal>")) else { continue };
        if let Some(start) = whole.strip_suffix(" <unfinished ...>") {
            begun.insert(thread.to_owned(), start.to_owned());
        } else if whole.starts_with("fdatasync(") || whole.starts_with("fsync(") {
            assert!(whole.ends_with("= 0"), "{whole}");
            events.push(Event::Synced);
        } else {
            let len = whole.rsplit("= ").next().and_then(|len| len.trim().parse().ok());
            events.push(Event::Logged(len.unwrap_or_else(|| panic!("a write that failed: {whole}"))));
        }
    }
    events
}

/// The length of a `sendto` or `write`, which follows the text of what is sent.
fn announced_len(call: &str) -> usize {
    let rest =
        call.rsplit_once('"').expect("a traced buffer").1.trim_start_matches('.').trim_start_matches(',');
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no length in {call}"))
}

/// A trace of some system calls of a running server.
struct Trace {
    strace: std::process::Child,
    file: tempfile::NamedTempFile,
}

impl Trace {
    fn of(server: &Server, calls: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut strace = Process::new("strace")
            .args(["-f", "-y", "-e", &format!("trace={calls}"), "-o"])
            .arg(file.path())
            .args(["-p", &server.id().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace, a Debian package named in the README");
        wait_until_attached(&mut strace);
        Self { strace, file }
    }

    /// Detaches and returns what was seen.
    fn finish(mut self) -> String {
        Process::new("kill").args(["-s", "INT", &self.strace.id().to_string()]).status().unwrap();
        self.strace.wait().unwrap();
        std::fs::read_to_string(self.file.path()).unwrap()
    }
}

/// Syncs of log segments and writes to TCP sockets; everything else is of no interest here.
fn classify(line: &str) -> Option<Call> {
    let call = line.split_whitespace().nth(1)?;
    let done = |call: &str| line.contains(&format!("{call}(")) || line.contains(&format!("{call} resumed"));
    if (done("fdatasync") || done("fsync")) && line.ends_with("= 0") {
        // A resumed call does not name its file again.
        return (line.contains(".wal>") || line.contains("resumed")).then_some(Call::Sync);
    }
    (line.contains("<TCP:") || line.contains("<socket:")).then_some(())?;
    let starts = |name: &str| call.starts_with(&format!("{name}("));
    ["sendto", "sendmsg", "write", "writev"].into_iter().any(starts).then_some(Call::Reply)
}

fn wait_until_attached(strace: &mut std::process::Child) {
    use std::io::BufRead;
    let mut stderr = std::io::BufReader::new(strace.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("attached") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "strace could not attach");
    }
    // Nobody reads the rest; without a reader strace would block on a full pipe.
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
}
