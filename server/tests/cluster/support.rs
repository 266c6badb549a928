//! A few real servers that form a cluster on loopback.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vaylix_proto::{Command, ErrorReply, Reply};
use vaylix_testkit::Server;
use vaylix_testkit::wire::{Connection, set_command};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One cluster at a time: elections are about time, and a few dozen servers would have little of it.
static TURN: Mutex<()> = Mutex::new(());

/// Short times, so that tests are; long enough not to elect anew whenever the machine is busy.
const TIMES: [&str; 6] = [
    "--replication-heartbeat-interval-ms",
    "50",
    "--replication-election-timeout-min-ms",
    "400",
    "--replication-election-timeout-max-ms",
    "800",
];

pub(crate) struct Cluster {
    temp: TempDir,
    pub(crate) nodes: Vec<Node>,
    flags: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) server: Option<Server>,
    dir: PathBuf,
    flags: Vec<String>,
}

/// Ports that nobody uses now.
fn free_ports(count: usize) -> Vec<SocketAddr> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// One port that nobody uses now on any of the first few loopback addresses, as if each were a host.
pub(crate) fn one_port_on_hosts(count: u8) -> Vec<SocketAddr> {
    until("a port that is free everywhere", || {
        let [first] = free_ports(1)[..] else { unreachable!("one was asked for") };
        let hosts = (1..=count).map(|host| SocketAddr::from(([127, 0, 0, host], first.port())));
        let listeners: Result<Vec<_>, _> = hosts.map(TcpListener::bind).collect();
        Some(listeners.ok()?.iter().map(|listener| listener.local_addr().unwrap()).collect())
    })
}

/// Waits until `condition` yields something; `what` says what did not happen.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Cluster {
    /// Starts `count` nodes with these flags beside the usual ones; returns when they have a leader.
    pub(crate) fn start(count: usize, flags: &[&str]) -> Self {
        let mut cluster = Self::prepare(count, flags);
        for node in &mut cluster.nodes {
            node.start();
        }
        cluster.leader();
        cluster
    }

    /// The same, without starting any of them.
    pub(crate) fn prepare(count: usize, flags: &[&str]) -> Self {
        Self::prepare_at(free_ports(count), flags)
    }

    /// The same for nodes that listen here.
    pub(crate) fn prepare_at(addresses: Vec<SocketAddr>, flags: &[&str]) -> Self {
        let temp = TempDir::new().unwrap();
        std::fs::write(temp.path().join("secret"), "the secret of this test cluster\n").unwrap();
        let mut cluster = Self {
            temp,
            nodes: Vec::new(),
            _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner),
            flags: flags.iter().map(ToString::to_string).collect(),
        };
        let peers: Vec<_> =
            addresses.iter().enumerate().map(|(at, address)| format!("n{}@{address}", at + 1)).collect();
        let peers = peers.join(",");
        for (at, address) in addresses.into_iter().enumerate() {
            cluster.add(&format!("n{}", at + 1), address, &peers);
        }
        cluster
    }

    /// Another node with the same list, which names it not.
    pub(crate) fn add_stranger(&mut self, name: &str) -> usize {
        let [address] = free_ports(1)[..] else { unreachable!("one was asked for") };
        let peers: Vec<_> = self.nodes.iter().map(|node| format!("{}@{}", node.name, node.address)).collect();
        self.add(name, address, &peers.join(","));
        self.nodes.len() - 1
    }

    /// A node with the same secret that founds a cluster of its own.
    pub(crate) fn add_foreigner(&mut self, name: &str) -> usize {
        let [address] = free_ports(1)[..] else { unreachable!("one was asked for") };
        self.add(name, address, &format!("{name}@{address}"));
        self.nodes.len() - 1
    }

    fn add(&mut self, name: &str, address: SocketAddr, peers: &str) {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let secret = self.temp.path().join("secret").display().to_string();
        let mut flags: Vec<String> = TIMES.iter().map(ToString::to_string).collect();
        let own = ["--bind", &host, "--port", &port, "--node-id", name, "--cluster-peers", peers];
        flags.extend(own.iter().map(ToString::to_string));
        flags.extend(["--cluster-secret-file".to_owned(), secret]);
        flags.extend(self.flags.iter().cloned());
        let dir = self.temp.path().join(name);
        self.nodes.push(Node { name: name.to_owned(), address, server: None, dir, flags });
    }

    /// The index of the node that leads and takes writes.
    pub(crate) fn leader(&self) -> usize {
        until("a leader", || self.find_leader())
    }

    pub(crate) fn find_leader(&self) -> Option<usize> {
        let leads = |node: &&Node| {
            let health = node.health();
            health.get("role").is_some_and(|role| role == "leader")
                && health.get("ready").is_some_and(|ready| ready == "true")
        };
        let leader = self.nodes.iter().filter(|node| node.server.is_some()).find(leads)?;
        self.nodes.iter().position(|node| node.name == leader.name)
    }

    /// Nodes that run and do not lead.
    pub(crate) fn followers(&self) -> Vec<usize> {
        let leader = self.leader();
        (0..self.nodes.len()).filter(|at| *at != leader && self.nodes[*at].server.is_some()).collect()
    }

    /// Writes at whoever leads, again and again until it is acknowledged.
    pub(crate) fn set(&self, key: &str, value: &[u8]) {
        until("an acknowledged write", || {
            let leader = self.find_leader()?;
            let mut connection = self.nodes[leader].try_login()?;
            matches!(connection.call(&set_command(key, value.to_vec())), Ok(Ok(Reply::Ok))).then_some(())
        });
    }

    /// Waits until every running node answers this value.
    pub(crate) fn expect_everywhere(&self, key: &str, value: &[u8]) {
        for node in self.nodes.iter().filter(|node| node.server.is_some()) {
            node.expect(key, value);
        }
    }

    pub(crate) fn kill(&mut self, at: usize) {
        self.nodes[at].kill();
    }
}

/// What the servers said is of use only when a test fails.
impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in &mut self.nodes {
            let Some(mut server) = node.server.take() else { continue };
            drop(server.kill());
            println!("--- {} at {}", node.name, node.address);
            while let Ok(Some(line)) = server.next_line() {
                // Sessions come and go by the hundred.
                if !line.contains("server.connection") {
                    println!("{line}");
                }
            }
        }
    }
}

impl Node {
    pub(crate) fn start(&mut self) {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        self.server = Some(Server::start_in(&self.dir, &flags).unwrap());
    }

    /// Gives a flag that is there another value.
    pub(crate) fn replace_flag(&mut self, name: &str, value: &str) {
        let at = self.flags.iter().position(|flag| flag == name).expect("the flag is there");
        self.flags[at + 1] = value.to_owned();
    }

    /// Waits for its end, which a signal has begun.
    pub(crate) fn wait(&mut self) {
        let mut server = self.server.take().expect("it runs");
        assert!(server.stop("CONT").unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.kill().unwrap();
    }

    /// Has it stop cleanly.
    pub(crate) fn stop(&mut self) {
        let mut server = self.server.take().expect("it runs");
        assert!(server.stop("TERM").unwrap().success());
    }

    /// Its data directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn signal(&self, name: &str) {
        self.server.as_ref().expect("it runs").signal(name).unwrap();
    }

    /// Its disk is gone.
    pub(crate) fn wipe(&mut self) {
        assert!(self.server.is_none());
        std::fs::remove_dir_all(&self.dir).unwrap();
    }

    pub(crate) fn try_login(&self) -> Option<Connection> {
        self.try_login_as("vaylix", "vaylix")
    }

    pub(crate) fn try_login_as(&self, user: &str, password: &str) -> Option<Connection> {
        let mut connection = Connection::open(self.address).ok()?;
        let auth = Command::Auth { user: user.into(), password: password.into() };
        connection.call(&auth).ok()?.ok()?;
        Some(connection)
    }

    pub(crate) fn login(&self) -> Connection {
        until("a login", || self.try_login())
    }

    pub(crate) fn call(&self, command: &Command) -> Result<Reply, ErrorReply> {
        self.login().call(command).unwrap()
    }

    pub(crate) fn entries(&self, command: &Command) -> BTreeMap<String, String> {
        let Some(Ok(Ok(Reply::Entries(entries)))) = self.try_login().map(|mut login| login.call(command))
        else {
            return BTreeMap::new();
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        entries.iter().map(|entry| (entry.name.to_string(), text(&entry.value))).collect()
    }

    pub(crate) fn health(&self) -> BTreeMap<String, String> {
        self.entries(&Command::Health)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Reply> {
        self.try_login()?.call(&Command::Get { key: key.into() }).ok()?.ok()
    }

    pub(crate) fn expect(&self, key: &str, value: &[u8]) {
        until(&format!("{key} on {}", self.name), || {
            (self.get(key)? == Reply::Value(value.to_vec().into())).then_some(())
        });
    }
}
