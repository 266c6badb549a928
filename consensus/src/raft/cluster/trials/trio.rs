//! Three nodes in one process: calls between them are function calls, and any of them can be cut off from the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use vaylix_proto::{Command, Reply};

use super::super::Desk;
use crate::config::{Acknowledge, ClusterConfig, Seed, Timing};
use crate::error::ProposeError;
use crate::transport::{Peer, PeerAnswer, PeerCall, PeerTransport, Unreachable};
use crate::{Config, Node, Payload, Proposal, StartError};

/// Longer than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

const NODES: usize = 3;

/// Short times, for a test that waits for an election.
pub(super) const HASTY: Timing = Timing {
    heartbeat: Duration::from_millis(50),
    election_min: Duration::from_millis(500),
    election_max: Duration::from_millis(1_000),
};

/// Longer ones, for a test in which nobody shall lose his patience.
pub(super) const CALM: Timing = Timing {
    heartbeat: Duration::from_millis(50),
    election_min: Duration::from_secs(3),
    election_max: Duration::from_secs(6),
};

/// Times so long that a leader does not notice within a test that it has been replaced.
pub(super) const PLACID: Timing = Timing {
    heartbeat: Duration::from_millis(50),
    election_min: Duration::from_secs(40),
    election_max: Duration::from_secs(80),
};

pub(super) struct Trio {
    lines: Arc<Lines>,
    nodes: Vec<Option<Node>>,
    dirs: Vec<TempDir>,
    timing: [Timing; NODES],
}

/// What is between the nodes.
#[derive(Default)]
struct Lines {
    desks: Mutex<[Option<Desk>; NODES]>,
    cut_off: Mutex<BTreeSet<usize>>,
}

/// One node's end of the lines.
struct Line {
    own: usize,
    lines: Arc<Lines>,
}

impl Trio {
    /// Founds a cluster; the first node leads it, unless it loses its office at once.
    pub(super) async fn start(timing: [Timing; NODES]) -> Self {
        let lines = Arc::new(Lines::default());
        let dirs = (0..NODES).map(|_| TempDir::new().unwrap()).collect();
        let mut trio = Self { lines, nodes: vec![None; NODES], dirs, timing };
        for node in 0..NODES {
            trio.start_node(node).await;
        }
        trio.leader().await;
        trio
    }

    pub(super) fn node(&self, node: usize) -> &Node {
        self.nodes[node].as_ref().expect("it runs")
    }

    pub(super) fn desk(&self, node: usize) -> Desk {
        self.node(node).desk().expect("it is one of several")
    }

    /// The node that takes writes.
    pub(super) async fn leader(&self) -> usize {
        self.leader_among(&[0, 1, 2]).await
    }

    pub(super) async fn leader_among(&self, nodes: &[usize]) -> usize {
        until("a leader", || nodes.iter().copied().find(|node| self.node(*node).leads())).await
    }

    /// Nothing gets from the node to the others or back.
    pub(super) fn cut_off(&self, node: usize) {
        self.lines.cut_off.lock().insert(node);
    }

    pub(super) fn heal(&self) {
        self.lines.cut_off.lock().clear();
    }

    /// Ends a node as a crash would, and starts it again.
    pub(super) async fn restart(&mut self, node: usize) {
        self.nodes[node] = None;
        self.lines.desks.lock()[node] = None;
        self.start_node(node).await;
    }

    async fn start_node(&mut self, own: usize) {
        let seeds = (0..NODES).map(|at| Seed { name: format!("n{at}"), address: at.to_string() });
        let mut config = Config {
            timing: self.timing[own],
            cluster: Some(ClusterConfig {
                name: format!("n{own}"),
                address: own.to_string(),
                seeds: seeds.collect(),
                acknowledge: Acknowledge::Majority,
                acknowledge_timeout: PATIENCE,
                agreement_entries: 1024,
                admin_address: None,
            }),
            ..Config::new(self.dirs[own].path())
        };
        config.wal.prezero = false;
        let begun = Instant::now();
        let node = loop {
            let line = Line { own, lines: Arc::clone(&self.lines) };
            match Node::start_among(config.clone(), Arc::new(line)).await {
                Ok(node) => break node,
                // What is left of its last life still holds the directory.
                Err(StartError::Storage(error)) if begun.elapsed() < PATIENCE => {
                    assert!(error.to_string().contains("process"), "{error}");
                    sleep(LOOK_EVERY).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        self.nodes[own] = Some(node);
    }

    pub(super) async fn propose(&self, node: usize, command: Command) -> Result<Reply, ProposeError> {
        let node = self.node(node);
        let access_revision = node.status().access_revision;
        timeout(
            PATIENCE,
            node.propose(Proposal {
                span: tracing::Span::none(),
                caller: 0,
                access_revision,
                payload: Payload::Command(command),
            }),
        )
        .await
        .expect("still not answered")
    }

    /// Waits until every node has applied what this one has now.
    pub(super) async fn await_applied(&self, by: usize) {
        let goal = self.node(by).status().applied_index;
        until("everybody has applied it", || {
            let nodes = self.nodes.iter().flatten();
            nodes.clone().all(|node| node.status().applied_index >= goal).then_some(())
        })
        .await;
    }
}

pub(super) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        sleep(LOOK_EVERY).await;
    }
}

impl Lines {
    /// Waits while one of the two is cut off.
    async fn pass(&self, one: usize, other: usize) {
        loop {
            {
                let cut_off = self.cut_off.lock();
                if !cut_off.contains(&one) && !cut_off.contains(&other) {
                    return;
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn desk(&self, node: usize) -> Result<Desk, Unreachable> {
        self.desks.lock()[node].clone().ok_or_else(|| Unreachable("it does not run".to_owned()))
    }

    async fn deliver(
        &self,
        own: usize,
        peer: &Peer,
        call: PeerCall,
        body: Bytes,
    ) -> Result<Bytes, Unreachable> {
        let to: usize =
            peer.address.parse().map_err(|_| Unreachable(format!("{} is no node", peer.address)))?;
        self.pass(own, to).await;
        let (caller, callee) = (self.desk(own)?, self.desk(to)?);
        let refused = |error: vaylix_proto::ErrorReply| Unreachable(error.to_string());
        callee.admit(&caller.card(), peer.node).map_err(refused)?;
        caller.recognize(&callee.card(), peer.node).map_err(refused)?;
        let answer = callee.answer(&caller.card(), call, body).await.map_err(refused)?;
        self.pass(own, to).await;
        Ok(answer)
    }
}

impl PeerTransport for Line {
    fn call<'a>(&'a self, peer: &'a Peer, call: PeerCall, body: Bytes, within: Duration) -> PeerAnswer<'a> {
        Box::pin(async move {
            let answer = timeout(within, self.lines.deliver(self.own, peer, call, body));
            answer.await.unwrap_or_else(|_| Err(Unreachable("too late".to_owned())))
        })
    }

    fn introduce(&self, desk: Desk) {
        self.lines.desks.lock()[self.own] = Some(desk);
    }
}
