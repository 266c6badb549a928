//! HAProxy in front of a cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use vaylix_proto::{Command, Reply};
use vaylix_testkit::process::PATIENCE;
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Cluster, wait};

use crate::{Program, deployed, free_port};

/// How long writes may be interrupted by a leader that is killed: a failover, a check, and a login.
const INTERRUPTION_MAX: Duration = Duration::from_secs(10);
const WRITES: usize = 50;

/// A cluster, and HAProxy in front of it with the addresses of its two listeners.
fn balanced() -> (Cluster, Program, SocketAddr, SocketAddr) {
    let cluster = Cluster::start(3, &[]).unwrap();
    cluster.await_leader(PATIENCE).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (writes, reads) = (local(free_port()), local(free_port()));
    let mut haproxy = Process::new("haproxy");
    haproxy.arg("-db").arg("-f").arg(deployed("haproxy/haproxy.cfg"));
    haproxy.env("VAYLIX_WRITES", writes.to_string()).env("VAYLIX_READS", reads.to_string());
    for node in 0..3 {
        let admin = cluster.admin_address(node).unwrap();
        haproxy.env(format!("VAYLIX_N{}", node + 1), cluster.addresses()[node].to_string());
        haproxy.env(format!("VAYLIX_N{}_ADMIN_PORT", node + 1), admin.port().to_string());
    }
    let haproxy = Program::start(haproxy.stdout(Stdio::null()).stderr(Stdio::null()));
    (cluster, haproxy, writes, reads)
}

/// Writes until it is acknowledged; what fails is done again over a new connection.
fn write(connection: &mut Option<Connection>, address: SocketAddr, key: &str, patience: Duration) {
    let written = wait::within(&format!("{key} is written"), patience, || {
        let mut usable = match connection.take() {
            Some(usable) => usable,
            None => Connection::login(address).ok()?,
        };
        match usable.call(&set_command(key, "x")) {
            Ok(Ok(Reply::Ok)) => {
                *connection = Some(usable);
                Some(())
            }
            // It was not the leader any more: the balancer knows another one.
            Ok(_) | Err(_) => None,
        }
    });
    written.unwrap();
}

#[test]
#[ignore = "needs haproxy: tests/slow runs it"]
fn writes_find_the_leader_through_its_death() {
    let (mut cluster, _haproxy, writes, reads) = balanced();
    let mut connection = None;
    for number in 0..WRITES {
        write(&mut connection, writes, &format!("before:{number}"), PATIENCE);
    }
    let leader = cluster.leader().unwrap();
    cluster.kill(leader).unwrap();
    write(&mut connection, writes, "first", INTERRUPTION_MAX);
    for number in 0..WRITES {
        write(&mut connection, writes, &format!("after:{number}"), PATIENCE);
    }
    cluster.start_node(leader).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    // Everything that was acknowledged is read through the other listener.
    let keys: Vec<_> = ["before", "after"]
        .iter()
        .flat_map(|part| (0..WRITES).map(move |number| format!("{part}:{number}").into()))
        .collect();
    let found = wait::within("reads are balanced", PATIENCE, || {
        let mut reader = Connection::login(reads).ok()?;
        match reader.call(&Command::MGet { keys: keys.clone() }).ok()? {
            Ok(Reply::Strings(values)) => Some(values),
            _ => None,
        }
    });
    assert!(found.unwrap().iter().all(Option::is_some));
}

#[test]
#[ignore = "needs haproxy: tests/slow runs it"]
fn a_leader_that_is_told_to_stop_is_left_before_it_is_missed() {
    let (mut cluster, _haproxy, writes, _) = balanced();
    let mut connection = None;
    write(&mut connection, writes, "before", PATIENCE);
    let leader = cluster.leader().unwrap();
    assert!(cluster.stop(leader).unwrap().success());
    write(&mut connection, writes, "after", INTERRUPTION_MAX);
    assert_ne!(cluster.await_leader(PATIENCE).unwrap(), leader);
}
