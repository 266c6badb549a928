//! A cluster under load that is broken, repaired, and judged.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use vaylix_proto::{Command, Reply};
use vaylix_testkit::wire::Connection;
use vaylix_testkit::workload::Running;
use vaylix_testkit::{Cluster, Watch, Workload, wait};

/// For everything that has to happen at all; debug builds on a busy machine are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Writes that must be acknowledged before the next thing is broken.
pub(crate) const WRITES_BETWEEN: u64 = 100;

/// How long the checker may take.
pub(crate) const CHECK_LIMIT: Duration = Duration::from_secs(120);

/// One cluster at a time: elections are about time, and several clusters under load would have little of it.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for the turn of a cluster.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that a variable of the environment sets.
pub(crate) fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

pub(crate) fn rounds() -> u32 {
    setting("VAYLIX_FAULT_ROUNDS", 1)
}

/// A cluster under load, and how long each fault kept writers waiting.
pub(crate) struct Trial {
    name: &'static str,
    pub(crate) cluster: Cluster,
    pub(crate) load: Running,
    watch: Watch,
    pub(crate) interruptions: Vec<Duration>,
    _turn: MutexGuard<'static, ()>,
}

impl Trial {
    pub(crate) fn start(name: &'static str, nodes: usize) -> Self {
        Self::start_with(name, nodes, &[])
    }

    pub(crate) fn start_with(name: &'static str, nodes: usize, flags: &[&str]) -> Self {
        let turn = turn();
        let cluster = Cluster::start(nodes, flags).unwrap();
        cluster.await_leader(PATIENCE).unwrap();
        let load = Workload::new(cluster.addresses()).start().unwrap();
        let watch = Watch::start(cluster.addresses());
        load.await_writes(WRITES_BETWEEN, PATIENCE).unwrap();
        Self { name, cluster, load, watch, interruptions: Vec::new(), _turn: turn }
    }

    pub(crate) fn leader(&self) -> usize {
        self.cluster.await_leader(PATIENCE).unwrap()
    }

    /// Breaks something and waits until some node acknowledges a write that began when it was broken. The interruption
    /// counts from when the breaking began.
    pub(crate) fn interrupt<T>(&mut self, fault: impl FnOnce(&mut Cluster) -> T) -> T {
        let begun = Instant::now();
        let result = fault(&mut self.cluster);
        let acknowledged = self.watch.await_write_after(Instant::now(), PATIENCE).unwrap();
        self.interruptions.push(acknowledged - begun);
        result
    }

    /// Waits until everything works as if nothing had happened.
    pub(crate) fn settle(&self) {
        self.cluster.await_caught_up(PATIENCE).unwrap();
        self.load.await_writes(WRITES_BETWEEN, PATIENCE).unwrap();
    }

    /// Ends the load and judges it.
    pub(crate) fn judge(self) {
        let Self { name, cluster, load, watch, mut interruptions, _turn } = self;
        let record = load.finish(PATIENCE).unwrap();
        let leader = cluster.await_leader(PATIENCE).unwrap();
        let (watched, lost) = watch.finish(cluster.addresses()[leader]).unwrap();
        let report = vaylix_checker::check(&record.history, CHECK_LIMIT);
        print!("{name}: {report}");
        println!("  not acknowledged: {:?}", record.refusals);
        println!("  {watched} acknowledged writes of their own keys, {} of them lost", lost.len());
        interruptions.sort_unstable();
        if let (Some(p50), Some(p99)) = (percentile(&interruptions, 50), percentile(&interruptions, 99)) {
            let all = interruptions.len();
            let longest = interruptions.last().copied().unwrap_or_default();
            println!("  {all} interruptions: p50 {p50:.0?}, p99 {p99:.0?}, longest {longest:.0?}");
        }
        assert!(report.is_linearizable(), "{name}: {report}");
        assert!(watched > 0 && lost.is_empty(), "{name}: lost {lost:?}");
        same_everywhere(&cluster);
    }
}

/// The nearest rank in a sorted list.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

/// After everything has settled, all nodes hold the same keys, values, versions and expiries.
pub(crate) fn same_everywhere(cluster: &Cluster) {
    cluster.await_caught_up(PATIENCE).unwrap();
    let first = entries(cluster, 0);
    assert!(!first.as_array().unwrap().is_empty());
    for node in 1..cluster.len() {
        let other = entries(cluster, node);
        assert!(other == first, "node {node} differs from the first: {}", differences(&first, &other));
    }
}

/// What a node holds, in its own words: it leads while it is asked.
pub(crate) fn entries(cluster: &Cluster, node: usize) -> Value {
    if cluster.len() > 1 {
        cluster.promote(node, PATIENCE).unwrap();
    }
    let dump = wait::within("a backup", PATIENCE, || {
        let mut connection = Connection::login(cluster.addresses()[node]).ok()?;
        match connection.call(&Command::Backup).ok()? {
            Ok(Reply::Value(dump)) => Some(dump),
            _ => None,
        }
    });
    serde_json::from_slice::<Value>(&dump.unwrap()).unwrap()["entries"].take()
}

/// The first few entries that only one of the two has.
fn differences(one: &Value, other: &Value) -> String {
    let (one, other) = (one.as_array().unwrap(), other.as_array().unwrap());
    let only = |these: &[Value], those: &[Value]| {
        these.iter().filter(|entry| !those.contains(entry)).take(5).map(Value::to_string).collect::<Vec<_>>()
    };
    format!("only on the first: {:?}; only on the other: {:?}", only(one, other), only(other, one))
}
