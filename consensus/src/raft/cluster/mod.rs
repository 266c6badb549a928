//! What a node does as a member of a cluster, beyond what openraft does.
//!
//! | Module | Is |
//! |---|---|
//! | `desk` | answers what peers ask |
//! | `pulse` | a leader's heartbeats, its read index, and its stepping down when no majority answers |
//! | `elector` | stands for election, after asking whether it would be elected |
//! | `founding` | how a node without a cluster comes to one |
//! | `change` | changes of the membership |
//! | `handover` | gives an office to another node |
//! | `shipment` | snapshots on their way |
//! | `contact` | when a leader was heard of last |
//! | `agreement` | compares the states of the nodes |
//! | `relearn` | the way out for a node whose state is wrong |
//! | `messages` | what is said |
//!
//! # Why it is safe
//! Safety is Raft's, and openraft's to keep; what is here decides *when* it acts. These rules are what it relies on:
//!
//! - **A vote is on disk before it is given.** openraft runs `save_vote` and waits for it before it answers; the file is
//!   synced before `save_vote` returns.
//! - **An entry is on a follower's disk before the follower says so.** The log tells openraft "flushed" only after the
//!   sync, and openraft answers the leader after that.
//! - **A node that has lost its disk has lost its name.** Ids are drawn at random on the first start and kept in the same
//!   file as the vote. A connection is bound to the id it wants to reach, so nobody can reach an amnesiac under its old id:
//!   it can neither vote twice nor acknowledge what it does not have. Its old id counts as a voter that is down until the
//!   log replaces it by the new one.
//! - **A cluster is founded once.** The node whose name sorts first founds it, when *every* node of the list is there and
//!   says that it has no log and no vote. It alone writes the first entry. If any of them has a log already, there is a
//!   cluster, and nobody founds another one.
//! - **A node belongs to one cluster.** It adopts the cluster of the first member that calls it by its id, durably and
//!   before it votes; both sides of every connection compare.
//! - **A read is confirmed after it has arrived.** Whoever answers a heartbeat of a term says that it has not begun to give
//!   its vote to a later one. A majority of such answers, each to a heartbeat that was sent after the read came, proves that
//!   nobody else can have been elected before; so all that was acknowledged before is in this node's log. It is also
//!   applied, because an office begins with an applied entry of its own term.
//! - **Elections do not disturb a leader that works.** A node that hears none asks the others first; whoever has heard of
//!   a leader recently says no, and no term changes.
//! - **Who is wrong leads nobody.** A node whose state is not what a majority had answers no read and takes no office before
//!   it has learnt it anew, and what it has promised with its log and its vote holds all the while.
//! - **A heartbeat proves progress.** It is sent only while openraft, which waits for the disk, answers too.

mod agreement;
mod change;
mod contact;
mod desk;
mod elector;
mod founding;
mod handover;
mod messages;
mod pulse;
mod ready;
mod relearn;
mod shipment;
#[cfg(test)]
mod trials;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::ServerState;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::AbortHandle;

pub use desk::Desk;
pub(crate) use messages::Ballot;
pub(crate) use shipment::send as send_snapshot;

use self::contact::Contact;
use self::messages::{Listed, Whereabouts};
use self::pulse::Pulse;
use super::log_store::LogStore;
use super::machine::Machine;
use super::network::Appends;
use super::office::{Office, OfficeMember};
use super::{Member, Raft, codec};
use crate::config::{ClusterConfig, Timing};
use crate::error::ReadError;
use crate::fatal::no_panic_in_task;
use crate::gate::Gate;
use crate::identity::NodeId;
use crate::limits::ASK_TIME_MAX;
use crate::queue::Queue;
use crate::status::{ClusterStatus, MemberStatus, PeerCounts, Phase, Role};
use crate::transport::{Card, Peer, PeerCall, PeerTransport};

/// A follower that has so many entries in its log and not yet in its state is catching up.
const PHASE_LAG_ENTRIES: u64 = 1_000;

/// A node among others. Clones share it.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: ClusterConfig,
    pub(crate) timing: Timing,
    pub(crate) raft: Raft,
    pub(crate) machine: Arc<Machine>,
    pub(crate) gate: Arc<Gate>,
    log_store: LogStore,
    transport: Arc<dyn PeerTransport>,
    pub(crate) contact: Contact,
    pub(crate) pulse: Pulse,
    incoming: shipment::Incoming,
    /// Held while another node is sent the state of this one to learn it anew.
    teaching: Arc<tokio::sync::Mutex<()>>,
    queue: Arc<Queue>,
    appends: Arc<Appends>,
    /// Whether since the start everything has been applied here that a leader called committed.
    informed: AtomicBool,
    /// Whether the office is left to others.
    resting: AtomicBool,
    /// One change of the membership at a time.
    changing: tokio::sync::Mutex<()>,
    touch: tokio::sync::mpsc::Sender<desk::Touch>,
}

/// What a node is made of before it is one among others.
pub(crate) struct Parts {
    pub(crate) config: ClusterConfig,
    pub(crate) timing: Timing,
    pub(crate) raft: Raft,
    pub(crate) machine: Arc<Machine>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) log_store: LogStore,
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) appends: Arc<Appends>,
}

/// A peer did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("{0}")]
    Unreachable(String),
    #[error("it answered something else than it was asked")]
    Nonsense,
}

impl Cluster {
    /// Joins what is needed and starts the work that goes on by itself; that ends with the returned handles.
    pub(crate) fn start(parts: Parts) -> (Self, Vec<AbortHandle>) {
        let Parts { config, timing, raft, machine, gate, log_store, transport, queue, appends } = parts;
        let (touch, touched) = tokio::sync::mpsc::channel(1);
        let cluster = Self(Arc::new(Inner {
            config,
            timing,
            raft,
            machine,
            gate,
            log_store,
            transport,
            contact: Contact::new(),
            pulse: Pulse::default(),
            incoming: shipment::Incoming::default(),
            teaching: Arc::default(),
            queue,
            appends,
            informed: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            changing: tokio::sync::Mutex::default(),
            touch,
        }));
        cluster.0.transport.introduce(Desk::new(cluster.clone()));
        let spawn = |name: &'static str, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            tokio::spawn(no_panic_in_task(name, task)).abort_handle()
        };
        let tasks = vec![
            spawn("the heartbeats", Box::pin(pulse::run(cluster.clone()))),
            spawn("the connections", Box::pin(ready::run(cluster.clone()))),
            spawn("the elector", Box::pin(elector::run(cluster.clone()))),
            spawn("the founding", Box::pin(founding::run(cluster.clone()))),
            spawn("the comparing of states", Box::pin(agreement::run(cluster.clone()))),
            spawn("the learning anew", Box::pin(relearn::run(cluster.clone()))),
            spawn("the followed heartbeats", Box::pin(desk::touch(cluster.0.raft.clone(), touched))),
        ];
        (cluster, tasks)
    }

    /// What a peer's door needs.
    pub(crate) fn desk(&self) -> Desk {
        Desk::new(self.clone())
    }

    /// What there is to say about the node as a member.
    pub(crate) fn status(&self, office: &Office, leads: bool) -> ClusterStatus {
        let inner = &*self.0;
        let leads = leads || office.role == Role::Leader;
        let silence = inner.contact.silence().filter(|_| !leads);
        let is_stale = office.leader.is_none() || silence.is_some_and(|silence| silence > self.patience());
        let committed = self.committed_index();
        let phase = if !self.is_initialized() {
            Phase::Bootstrap
        } else if leads {
            Phase::Streaming
        } else if is_stale {
            Phase::Stale
        } else if self.is_quarantined()
            || !self.is_informed()
            || committed > inner.machine.applied_record_index() + PHASE_LAG_ENTRIES
        {
            Phase::CatchingUp
        } else {
            Phase::Streaming
        };
        let member = |listed: &OfficeMember| MemberStatus {
            node: NodeId::new(listed.node).unwrap_or(inner.log_store.identity().node),
            name: match &*listed.member.name {
                "" => listed.node.to_string(),
                name => name.to_owned(),
            },
            address: listed.member.addr.clone(),
            voter: listed.voter,
            matched_index: listed.matched_index,
            silence: inner.pulse.silence(listed.node),
        };
        ClusterStatus {
            members: office.members.iter().map(member).collect(),
            phase,
            is_informed: self.is_informed(),
            has_quorum: leads && inner.pulse.has_quorum(self.patience()),
            leader_silence: silence,
            calls: PeerCounts {
                heartbeats_failed: inner.pulse.counts.heartbeats_failed.load(Ordering::Relaxed),
                appends_failed: inner.appends.failed.load(Ordering::Relaxed),
                append_times: inner.appends.answered.get(),
                connections: inner.transport.connections(),
            },
            incoming_bytes: inner.incoming.bytes(),
            is_quarantined: self.is_quarantined(),
            agreement: inner.machine.quarantine.counts(),
        }
    }

    /// The last entry of the log here, by the log's count: what is behind it is at most as long as this.
    fn committed_index(&self) -> u64 {
        self.0.raft.metrics().borrow().last_log_index.map_or(0, |index| codec::sequence(index).get())
    }

    /// Returns when everything is applied here that was acknowledged by anybody before the call.
    pub(crate) async fn catch_up_with_leader(&self) -> Result<(), ReadError> {
        let leader = self.leader().and_then(|id| self.members().into_iter().find(|listed| listed.node == id));
        let Some(leader) = leader else { return Err(self.not_leader()) };
        let at = peer(leader.node, &leader.member);
        let told = self.call(&at, PeerCall::Ask, &messages::Ask::ReadIndex, self.patience());
        let Ok(messages::Told::ReadIndex(index)) = told.await else { return Err(ReadError::Unconfirmed) };
        let mut metrics = self.0.raft.metrics();
        let applied = metrics.wait_for(|metrics| {
            metrics.last_applied.is_some_and(|id| codec::sequence(id.index).get() >= index)
        });
        match tokio::time::timeout(self.patience(), applied).await {
            Ok(Ok(_)) if self.is_quarantined() => Err(ReadError::Quarantined),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_gone)) => Err(ReadError::Closed),
            Err(_elapsed) => Err(ReadError::Unconfirmed),
        }
    }

    /// This node's id.
    fn id(&self) -> u64 {
        self.0.log_store.identity().node.get()
    }

    fn card(&self) -> Card {
        Card::new(&self.0.config.name, self.0.log_store.identity())
    }

    /// As the membership is to name this node.
    fn as_member(&self) -> Member {
        Member { addr: self.0.config.address.clone(), name: self.0.config.name.clone() }
    }

    /// The members as the newest membership that this node has lists them.
    fn members(&self) -> Vec<Listed> {
        let metrics = self.0.raft.server_metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let voters: std::collections::BTreeSet<u64> = membership.voter_ids().collect();
        let listed = |(node, member): (&u64, &Member)| Listed {
            node: *node,
            member: member.clone(),
            voter: voters.contains(node),
        };
        membership.nodes().map(listed).collect()
    }

    /// The leader as this node knows it.
    fn leader(&self) -> Option<u64> {
        self.0.raft.server_metrics().borrow().current_leader
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.0.raft.server_metrics().borrow().state == ServerState::Leader
    }

    /// Whether the state of this node is known to be wrong.
    pub(crate) fn is_quarantined(&self) -> bool {
        self.0.machine.quarantine.is_imposed()
    }

    /// Whether this node has had everything since its start that was acknowledged before it. Until then its state may be
    /// much older than that of any node that has not been restarted: it has applied a snapshot at most.
    pub(crate) fn is_informed(&self) -> bool {
        !self.is_quarantined() && (self.0.informed.load(Ordering::Acquire) || self.0.gate.office().is_some())
    }

    /// A leader says that everything up to here is committed.
    fn inform(&self, committed: Option<openraft::LogId<u64>>) {
        let Some(committed) = committed else { return };
        if !self.0.informed.load(Ordering::Acquire)
            && self.0.machine.applied_record_index() >= codec::sequence(committed.index).get()
        {
            self.0.informed.store(true, Ordering::Release);
        }
    }

    /// Where the control plane of the leader is reached, as the leader says now; `None` without one, or when it does not
    /// answer soon.
    pub(crate) async fn leader_admin_address(&self) -> Option<String> {
        let leader = self.leader()?;
        if leader == self.id() {
            return self.0.config.admin_address.clone();
        }
        let listed = self.members().into_iter().find(|listed| listed.node == leader)?;
        let at = peer(leader, &listed.member);
        match self.call(&at, PeerCall::Ask, &messages::Ask::Who, self.patience()).await {
            Ok(messages::Told::Who(found)) if found.node == leader => found.admin,
            _ => None,
        }
    }

    /// Whether this node has a log or has ever voted.
    fn is_initialized(&self) -> bool {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow();
        metrics.last_log_index.is_some() || metrics.vote != openraft::Vote::default()
    }

    fn whereabouts(&self) -> Whereabouts {
        let identity = self.0.log_store.identity();
        Whereabouts {
            name: self.0.config.name.clone(),
            node: identity.node.get(),
            cluster: identity.cluster.to_bytes(),
            initialized: self.is_initialized(),
            seeds: self.0.config.seeds.iter().map(|seed| (seed.name.clone(), seed.address.clone())).collect(),
            leader: self.leader(),
            members: self.members(),
            admin: self.0.config.admin_address.clone(),
        }
    }

    /// Asks a peer something and understands its answer.
    async fn call<A: DeserializeOwned>(
        &self,
        peer: &Peer,
        call: PeerCall,
        question: &impl Serialize,
        timeout: Duration,
    ) -> Result<A, AskError> {
        let body = messages::encode(question);
        self.send(peer, call, body, timeout).await
    }

    async fn send<A: DeserializeOwned>(
        &self,
        peer: &Peer,
        call: PeerCall,
        body: Bytes,
        timeout: Duration,
    ) -> Result<A, AskError> {
        let answer = self.0.transport.call(peer, call, body, timeout).await;
        let answer = answer.map_err(|error| AskError::Unreachable(error.0))?;
        messages::decode(&answer).map_err(|_| AskError::Nonsense)
    }

    async fn ask(&self, peer: &Peer, question: &messages::Ask) -> Result<messages::Told, AskError> {
        self.call(peer, PeerCall::Ask, question, ASK_TIME_MAX).await
    }
}

fn peer(node: u64, member: &Member) -> Peer {
    Peer { node: NodeId::new(node), address: member.addr.clone() }
}
