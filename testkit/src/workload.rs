//! Clients that read and write a few keys at once, through faults, and record what they saw.
//!
//! All of them work on the same keys, so that their operations meet. After so many operations they move on to fresh
//! keys: an operation with an unknown outcome haunts its key for ever, and too many of them would leave nothing to be
//! sure of.

mod class;
mod client;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use vaylix_checker::{History, Input, Operation, Outcome, Output};
use vaylix_dataplane::client::{Cluster, ClusterConfig, Config, Credentials, Endpoint};
use vaylix_proto::{Command, Reply};

use crate::wait;
use crate::wire::DEFAULT_LOGIN;

pub use class::{Class, classify};

/// Keys of each kind that are in use at a time.
const SLOTS: u64 = 4;

/// Operations after which the clients move on, for each key in use.
const OPERATIONS_PER_KEY: u64 = 100;

/// How long one operation may take before its outcome counts as unknown.
const CALL_PATIENCE: Duration = Duration::from_secs(5);

/// How long one attempt of a read may take.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(1);

/// The client that reads everything at the end.
const AUDITOR: u32 = u32::MAX;

/// What the clients shall do.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The nodes.
    pub addresses: Vec<SocketAddr>,
    /// Whether to ask for linearizable reads. Several nodes must be asked: their followers answer late otherwise, and that
    /// would be all the checker has to say.
    pub linearizable_reads: bool,
    /// How many clients work at once.
    pub clients: u32,
    /// How long each of them pauses between two operations, so that the machine has time for the servers.
    pub pause: Duration,
    /// Start of the random choices.
    pub seed: u64,
}

/// Clients at work.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    /// How the end is read.
    cluster: ClusterConfig,
    thread: JoinHandle<Result<Record>>,
}

/// What all clients share.
#[derive(Debug)]
struct Shared {
    epoch: Instant,
    stop: AtomicBool,
    /// Operations begun.
    begun: AtomicU64,
    /// Writes acknowledged.
    acknowledged: AtomicU64,
    /// Invocation and return of the acknowledged writes, in nanoseconds.
    writes: Mutex<Vec<(u64, u64)>>,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Record {
    /// All of it, for the checker.
    pub history: History,
    /// How often each refusal and failure was seen.
    pub refusals: BTreeMap<String, u64>,
}

impl Record {
    fn merge(&mut self, other: Self) {
        self.history.merge(other.history);
        for (reason, count) in other.refusals {
            *self.refusals.entry(reason).or_default() += count;
        }
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn note_write(&self, invoked: u64, returned: u64) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).push((invoked, returned));
    }
}

impl Workload {
    /// Eight clients of the cluster at `addresses`.
    #[must_use]
    pub fn new(addresses: &[SocketAddr]) -> Self {
        Self {
            addresses: addresses.to_vec(),
            linearizable_reads: addresses.len() > 1,
            clients: 8,
            pause: Duration::from_millis(2),
            seed: 1,
        }
    }

    /// Sets the clients to work.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(self) -> Result<Running> {
        let shared = Arc::new(Shared {
            epoch: Instant::now(),
            stop: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            writes: Mutex::new(Vec::new()),
        });
        let cluster = self.cluster_config();
        let work = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("workload".to_owned())
            .spawn(move || runtime()?.block_on(self.run(&work)))
            .context("no thread for the clients")?;
        Ok(Running { shared, cluster, thread })
    }

    /// How clients of this workload find the cluster.
    fn cluster_config(&self) -> ClusterConfig {
        let mut seeds: Vec<Endpoint> = self.addresses.iter().copied().map(Endpoint::from).collect();
        if seeds.len() == 1 {
            // A single seed is never tried again; a server that comes back has to be.
            seeds.push(seeds[0].clone());
        }
        let (user, password) = DEFAULT_LOGIN;
        let connection = Config {
            credentials: Some(Credentials::new(user, password)),
            compression: false,
            linearizable_reads: self.linearizable_reads,
            client_name: "vaylix-test".to_owned(),
            ..Config::default()
        };
        ClusterConfig {
            deadline: CALL_PATIENCE,
            attempt_timeout: ATTEMPT_PATIENCE,
            ..ClusterConfig::new(seeds, connection)
        }
    }

    async fn run(self, shared: &Arc<Shared>) -> Result<Record> {
        let clients: Vec<_> = (0..self.clients)
            .map(|number| {
                let client = client::Client::new(number, &self, Arc::clone(shared));
                tokio::spawn(client.work())
            })
            .collect();
        let mut record = Record::default();
        for client in clients {
            record.merge(client.await.context("a client panicked")?);
        }
        Ok(record)
    }
}

impl Running {
    /// How many writes were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// The present moment, on the clock of the record.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.shared.now()
    }

    /// Waits until `more` further writes are acknowledged.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn await_writes(&self, more: u64, patience: Duration) -> Result<()> {
        let goal = self.acknowledged() + more;
        wait::within(&format!("{more} more writes are acknowledged"), patience, || {
            (self.acknowledged() >= goal).then_some(())
        })
    }

    /// Waits for an acknowledged write that was invoked after `moment`; how long after it the first such
    /// acknowledgement came.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn await_write_after(&self, moment: u64, patience: Duration) -> Result<Duration> {
        wait::within("a write is acknowledged", patience, || {
            let writes = self.shared.writes.lock().unwrap_or_else(PoisonError::into_inner);
            let later = writes.iter().rev().filter(|(invoked, _)| *invoked >= moment);
            later.map(|(_, returned)| Duration::from_nanos(returned - moment)).min()
        })
    }

    /// Lets the clients end, and reads every key they wrote once more, from whoever leads.
    ///
    /// # Errors
    /// When a client panicked, or the keys cannot be read within `patience`.
    pub fn finish(self, patience: Duration) -> Result<Record> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut record = self.thread.join().map_err(|_| anyhow::anyhow!("the clients panicked"))??;
        let reads = runtime()?.block_on(read_all(
            &record.history,
            ClusterConfig { deadline: patience, ..self.cluster },
            &self.shared,
        ))?;
        record.history.merge(reads);
        Ok(record)
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime for the clients")
}

/// Reads every key of `history` through the leader.
async fn read_all(history: &History, config: ClusterConfig, shared: &Shared) -> Result<History> {
    let mut cluster = Cluster::connect(config).await.context("cannot read the end")?;
    cluster.log_in().await?.context("cannot log in to read the end")?;
    // A write ends at the leader, whose reads are linearizable.
    let end = Command::Del { keys: vec!["end".into()] };
    cluster.call(&end).await.context("no leader to read the end from")??;
    let mut reads = History::new();
    for (key, _) in history.keys() {
        let invoked = shared.now();
        let reply = cluster.call(&Command::Get { key: key.into() }).await??;
        let output = match reply {
            Reply::NotFound => Output::Value(None),
            Reply::Value(bytes) => Output::Value(Some(client::number(&bytes)?)),
            other => anyhow::bail!("GET answered {other:?}"),
        };
        let outcome = Outcome::Acknowledged { returned: shared.now(), output };
        reads.record(key, Operation { client: AUDITOR, invoked, input: Input::Read, outcome });
    }
    ensure!(reads.len() == history.keys().count(), "not every key was read");
    Ok(reads)
}
