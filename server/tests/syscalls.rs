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

    let trace = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Process::new("strace")
        .args(["-f", "-y", "-e", "trace=fdatasync,fsync,sendto,sendmsg,write,writev", "-o"])
        .arg(trace.path())
        .args(["-p", &server.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace, a Debian package named in the README");
    wait_until_attached(&mut strace);
    for n in 0..WRITES {
        assert_eq!(connection.call(&set_command("k", n.to_string())).unwrap(), Ok(Reply::Ok));
    }
    Process::new("kill").args(["-s", "INT", &strace.id().to_string()]).status().unwrap();
    strace.wait().unwrap();

    let text = std::fs::read_to_string(trace.path()).unwrap();
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
