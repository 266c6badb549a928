//! A cluster of real servers, each with its own directory, behind a [`Network`] that can be broken.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use vaylix_proto::{Command, Reply};

use crate::network::Network;
use crate::server::Server;
use crate::stall::Stall;
use crate::wait;
use crate::wire::Connection;

/// How long a node may take to say how it is; one that is stuck may never do.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);

/// How long it may take to log in for that: passwords are dear, above all when many are checked at once.
const LOGIN_PATIENCE: Duration = Duration::from_secs(5);

/// How many lines of a log are printed when a test fails.
const LOG_LINES_SHOWN: usize = 40;

/// What nodes of one cluster prove to each other.
const SECRET: &str = "vaylix-testkit-cluster-secret-0123456789abcdef\n";

/// Running servers that know each other. Stopped, by their process ids, when dropped; when the test panicked, the
/// ends of their logs are printed and the logs kept.
#[derive(Debug)]
pub struct Cluster {
    network: Network,
    nodes: Vec<Node>,
    dir: TempDir,
}

#[derive(Debug)]
struct Node {
    data_dir: PathBuf,
    flags: Vec<String>,
    server: Option<Server>,
    /// Frozen, so that it is not asked anything.
    frozen: bool,
    /// How the node is asked how it is: a login for every look would keep it from its work.
    inquiry: Mutex<Option<Connection>>,
    log: Vec<String>,
}

/// What a node says about itself.
#[derive(Clone, Debug)]
pub struct Status(BTreeMap<String, String>);

impl Status {
    /// One of the fields of `HEALTH` and `SHOW CLUSTER`; empty when there is none of this name.
    #[must_use]
    pub fn get(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }

    fn leads(&self) -> bool {
        matches!(self.get("role"), "leader" | "standalone") && self.get("ready") == "true"
    }

    fn term(&self) -> u64 {
        self.get("current_term").parse().unwrap_or(0)
    }
}

impl Cluster {
    /// Starts `nodes` servers with these flags besides those that make them a cluster. One node is a standalone
    /// server.
    ///
    /// # Errors
    /// When a server cannot be started.
    pub fn start(nodes: usize, flags: &[&str]) -> Result<Self> {
        let dir = TempDir::new().context("no temporary directory")?;
        let network = Network::start(nodes)?;
        let secret = dir.path().join("secret");
        std::fs::write(&secret, SECRET).context("cannot write the cluster's secret")?;
        let peers: Vec<_> =
            (0..nodes).map(|node| format!("{}@{}", name(node), network.address(node))).collect();
        let nodes = (0..nodes)
            .map(|node| {
                let mut own: Vec<String> = flags.iter().map(ToString::to_string).collect();
                own.extend(["--node-id".to_owned(), name(node)]);
                if peers.len() > 1 {
                    let role = if node == 0 { "leader" } else { "follower" };
                    own.extend(["--replication-role".to_owned(), role.to_owned()]);
                    own.extend([
                        "--replication-advertise-addr".to_owned(),
                        network.address(node).to_string(),
                    ]);
                    own.extend(["--cluster-peers".to_owned(), peers.join(",")]);
                    own.extend(["--cluster-secret-file".to_owned(), secret.display().to_string()]);
                }
                Node {
                    data_dir: dir.path().join(name(node)),
                    flags: own,
                    server: None,
                    frozen: false,
                    inquiry: Mutex::default(),
                    log: Vec::new(),
                }
            })
            .collect();
        let mut cluster = Self { network, nodes, dir };
        for node in 0..cluster.len() {
            cluster.start_node(node)?;
        }
        Ok(cluster)
    }

    /// How many nodes there are, running or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: a cluster has nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The network between the nodes, and between them and clients.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where clients find the nodes.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.network.addresses()
    }

    /// The directory of a node.
    #[must_use]
    pub fn data_dir(&self, node: usize) -> &Path {
        &self.nodes[node].data_dir
    }

    /// Where the control plane of a running node is: past the network, which carries what nodes and clients say.
    #[must_use]
    pub fn admin_address(&self, node: usize) -> Option<SocketAddr> {
        self.nodes[node].server.as_ref()?.admin_address()
    }

    /// Where the figures of a running node are, if it was started with `--metrics-bind`.
    #[must_use]
    pub fn metrics_address(&self, node: usize) -> Option<SocketAddr> {
        self.nodes[node].server.as_ref()?.metrics_address()
    }

    /// Whether it was started and not stopped since.
    #[must_use]
    pub fn is_running(&self, node: usize) -> bool {
        self.nodes[node].server.is_some()
    }

    /// Starts a node that does not run.
    ///
    /// # Errors
    /// When it runs, or does not become ready for connections.
    pub fn start_node(&mut self, node: usize) -> Result<()> {
        let this = &mut self.nodes[node];
        ensure!(this.server.is_none(), "{} runs already", name(node));
        let flags: Vec<&str> = this.flags.iter().map(String::as_str).collect();
        let server = Server::start_in(&this.data_dir, &flags).with_context(|| name(node))?;
        this.log.push(format!("--- started as process {}", server.id()));
        this.log.extend_from_slice(server.startup_log());
        self.network.attach(node, server.address(), server.id());
        this.server = Some(server);
        Ok(())
    }

    /// Kills a node outright, as a crash would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        let mut server = self.take(node)?;
        server.kill()?;
        self.nodes[node].log.extend(server.take_log());
        self.nodes[node].log.push("--- killed".to_owned());
        Ok(())
    }

    /// Asks a node to stop (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it does not run or does not end in time.
    pub fn stop(&mut self, node: usize) -> Result<ExitStatus> {
        self.ask_to_stop(node)?;
        self.await_stopped(node)
    }

    /// Asks a node to stop (SIGTERM).
    ///
    /// # Errors
    /// When it does not run.
    pub fn ask_to_stop(&mut self, node: usize) -> Result<()> {
        self.signal(node, "TERM")
    }

    /// Waits until a node that was asked to stop has.
    ///
    /// # Errors
    /// When it does not run or does not end in time.
    pub fn await_stopped(&mut self, node: usize) -> Result<ExitStatus> {
        // It may still talk to its peers while it stops.
        let server =
            self.nodes[node].server.as_mut().with_context(|| format!("{} does not run", name(node)))?;
        let status = server.wait()?;
        let server = self.take(node)?;
        self.nodes[node].log.extend(server.take_log());
        self.nodes[node].log.push(format!("--- stopped: {status}"));
        Ok(status)
    }

    /// Freezes a node (SIGSTOP).
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&mut self, node: usize) -> Result<()> {
        self.signal(node, "STOP")?;
        self.nodes[node].frozen = true;
        Ok(())
    }

    /// Lets a frozen node go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&mut self, node: usize) -> Result<()> {
        self.signal(node, "CONT")?;
        self.nodes[node].frozen = false;
        Ok(())
    }

    /// Lets the disk of a node hang, until the result is dropped.
    ///
    /// # Errors
    /// When it does not run, or as [`Stall::begin`].
    pub fn stall(&mut self, node: usize) -> Result<Stall> {
        let this = &mut self.nodes[node];
        this.log.push("--- the disk hangs".to_owned());
        Stall::begin(this.server.as_ref().with_context(|| format!("{} does not run", name(node)))?.id())
    }

    /// Has `node` lead, as an operator would: in maintenance mode, which is off again when this returns.
    ///
    /// # Errors
    /// When it does not within `patience`.
    pub fn promote(&self, node: usize, patience: Duration) -> Result<()> {
        let at_leader = |command: &Command| {
            wait::within(&format!("the leader does {command:?}"), patience, || {
                let server = self.nodes[self.leader()?].server.as_ref()?;
                let mut connection = Connection::login_within(server.address(), LOGIN_PATIENCE).ok()?;
                connection.call(command).ok()?.ok()
            })
        };
        at_leader(&Command::MaintenanceOn)?;
        let promoted = wait::within(&format!("{} leads", name(node)), patience, || {
            if self.leader()? == node {
                return Some(());
            }
            let server = self.nodes[node].server.as_ref()?;
            let mut connection = Connection::login_within(server.address(), LOGIN_PATIENCE).ok()?;
            // Refused until it has heard of the maintenance; the next look tells.
            drop(connection.call(&Command::PromoteFollower));
            None
        });
        at_leader(&Command::MaintenanceOff)?;
        promoted
    }

    /// Removes everything that a node which does not run has on disk.
    ///
    /// # Errors
    /// When it runs, or its directory cannot be removed.
    pub fn wipe(&mut self, node: usize) -> Result<()> {
        ensure!(!self.is_running(node), "{} still runs", name(node));
        std::fs::remove_dir_all(&self.nodes[node].data_dir)
            .with_context(|| format!("cannot wipe {}", name(node)))
    }

    /// What a node says about itself; `None` when it does not answer.
    #[must_use]
    pub fn status(&self, node: usize) -> Option<Status> {
        let this = &self.nodes[node];
        let server = this.server.as_ref().filter(|_| !this.frozen)?;
        let mut inquiry = this.inquiry.lock().unwrap_or_else(PoisonError::into_inner);
        // Not through the network: this is about the node, whoever can reach it.
        let mut connection = match inquiry.take() {
            Some(connection) => connection,
            None => {
                let connection = Connection::login_within(server.address(), LOGIN_PATIENCE).ok()?;
                connection.socket().ok()?.set_read_timeout(Some(STATUS_PATIENCE)).ok()?;
                connection
            }
        };
        let status = ask(&mut connection).ok()?;
        *inquiry = Some(connection);
        Some(status)
    }

    /// The node that leads: of those that say so and are ready, the one with the highest term.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let leading = (0..self.len()).filter_map(|node| Some((self.status(node)?, node)));
        leading
            .filter(|(status, _)| status.leads())
            .max_by_key(|(status, _)| status.term())
            .map(|(_, node)| node)
    }

    /// Waits for a node to lead.
    ///
    /// # Errors
    /// When none does in time.
    pub fn await_leader(&self, patience: Duration) -> Result<usize> {
        wait::within("a node leads", patience, || self.leader())
    }

    /// Waits for a node other than `not` to lead.
    ///
    /// # Errors
    /// When none does in time.
    pub fn await_other_leader(&self, not: usize, patience: Duration) -> Result<usize> {
        wait::within("another node leads", patience, || self.leader().filter(|node| *node != not))
    }

    /// Waits until every running node has applied as much as the leader had when this was called.
    ///
    /// # Errors
    /// When there is no leader, or a node is still behind, in time.
    pub fn await_caught_up(&self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        let leader = self.await_leader(patience)?;
        let applied = |node| self.status(node)?.get("last_applied_index").parse::<u64>().ok();
        let goal = wait::within("the leader says how far it is", patience, || applied(leader))?;
        for node in (0..self.len()).filter(|node| self.is_running(*node)) {
            let left = patience.saturating_sub(start.elapsed());
            wait::within(&format!("{} has caught up with entry {goal}", name(node)), left, || {
                applied(node).filter(|index| *index >= goal)
            })?;
        }
        Ok(())
    }

    fn signal(&mut self, node: usize, signal: &str) -> Result<()> {
        let this = &mut self.nodes[node];
        this.log.push(format!("--- SIG{signal}"));
        this.server.as_ref().with_context(|| format!("{} does not run", name(node)))?.signal(signal)
    }

    fn take(&mut self, node: usize) -> Result<Server> {
        self.network.detach(node);
        self.nodes[node].frozen = false;
        self.nodes[node].inquiry = Mutex::default();
        self.nodes[node].server.take().with_context(|| format!("{} does not run", name(node)))
    }

    /// Writes the logs where they outlive the cluster, and prints how they end.
    #[expect(clippy::print_stderr, reason = "whoever reads the failure of a test needs it")]
    fn keep_logs(&mut self) {
        let kept = std::env::temp_dir().join(format!(
            "vaylix-logs-{}",
            self.dir.path().file_name().unwrap_or_default().to_string_lossy().trim_start_matches('.')
        ));
        let made = std::fs::create_dir_all(&kept);
        for (node, this) in self.nodes.iter_mut().enumerate() {
            this.log.extend(this.server.iter().flat_map(Server::take_log));
            let shown = this.log.len().saturating_sub(LOG_LINES_SHOWN);
            eprintln!("--- the end of the log of {}:", name(node));
            for line in &this.log[shown..] {
                eprintln!("{line}");
            }
            let file = kept.join(format!("{}.log", name(node)));
            match made
                .as_ref()
                .map_err(ToString::to_string)
                .and_then(|()| std::fs::write(&file, this.log.join("\n")).map_err(|error| error.to_string()))
            {
                Ok(()) => eprintln!("--- all of it: {}", file.display()),
                Err(error) => eprintln!("--- it cannot be kept: {error}"),
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs();
        }
    }
}

/// Asks a node how it is.
fn ask(connection: &mut Connection) -> Result<Status> {
    let mut fields = BTreeMap::new();
    for command in [Command::ShowCluster, Command::Health] {
        let Reply::Entries(entries) = connection.call(&command)?? else { bail!("no entries") };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.extend(entries.iter().map(|entry| (entry.name.to_string(), text(&entry.value))));
    }
    Ok(Status(fields))
}

/// A node's id: `n1` is the first.
#[must_use]
pub fn name(node: usize) -> String {
    format!("n{}", node + 1)
}
