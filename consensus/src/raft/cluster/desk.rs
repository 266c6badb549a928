//! Where peers are answered.

use bytes::Bytes;
use openraft::ServerState;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use vaylix_proto::ErrorReply;

use super::super::{Raft, TypeConfig};
use super::messages::{Ask, Ballot, Told, decode, encode};
use super::{Cluster, change, handover, relearn, shipment};
use crate::gate::Leadership;
use crate::identity::NodeId;
use crate::transport::{Card, PeerCall, refused};

/// A leader's heartbeat that was acknowledged and is still to be shown to openraft.
pub(super) type Touch = AppendEntriesRequest<TypeConfig>;

/// Answers the calls of peers that have proved to be some. Clones share it.
#[derive(Clone)]
pub struct Desk(Cluster);

impl Desk {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self(cluster)
    }

    /// Who this node is, for the other side of a connection.
    #[must_use]
    pub fn card(&self) -> Card {
        self.0.card()
    }

    /// Whether a caller that wants to reach `wanted`, or whoever is here, is right.
    ///
    /// # Errors
    /// `SRV-030` when it belongs to another cluster or looks for another node.
    pub fn admit(&self, caller: &Card, wanted: Option<NodeId>) -> Result<(), ErrorReply> {
        let own = self.card();
        own.check_other(caller)?;
        check_wanted(&own, wanted)
    }

    /// Whether whoever answers a call is who was called.
    ///
    /// # Errors
    /// As [`Desk::admit`].
    pub fn recognize(&self, callee: &Card, wanted: Option<NodeId>) -> Result<(), ErrorReply> {
        self.card().check_other(callee)?;
        check_wanted(callee, wanted)
    }

    /// Answers one call.
    ///
    /// # Errors
    /// `SRV-030` when it cannot be understood or comes from the wrong side; `SRV-036` when the node is stopping.
    pub async fn answer(&self, caller: &Card, call: PeerCall, body: Bytes) -> Result<Bytes, ErrorReply> {
        if call != PeerCall::Ask {
            self.belong(caller).await?;
        }
        match call {
            PeerCall::Ask => Ok(encode(&self.told(decode(&body)?).await)),
            PeerCall::Vote => self.vote(decode(&body)?).await,
            PeerCall::Heartbeat => self.heartbeat(decode(&body)?).await,
            PeerCall::Append => self.append(decode(&body)?).await,
            PeerCall::Snapshot => shipment::receive(&self.0, decode(&body)?).await,
        }
    }

    /// Makes sure that this node and the caller belong to the same cluster: a member that calls a node without one by
    /// its id says that its cluster has taken it in.
    async fn belong(&self, caller: &Card) -> Result<(), ErrorReply> {
        let own = self.card();
        own.check_other(caller)?;
        let Some(cluster) = caller.cluster() else {
            return Err(refused("the caller belongs to no cluster".to_owned()));
        };
        if own.cluster().is_some() {
            return Ok(());
        }
        let log_store = self.0.0.log_store.clone();
        let adopted = tokio::task::spawn_blocking(move || log_store.adopt(cluster)).await;
        match adopted {
            Ok(Ok(adopted)) if adopted == cluster => {
                tracing::info!(%cluster, by = %caller.name, "this node belongs to a cluster now");
                Ok(())
            }
            Ok(Ok(other)) => Err(refused(format!("this node has just joined cluster {other}"))),
            Ok(Err(error)) => Err(refused(format!("the cluster cannot be written down: {error}"))),
            Err(error) => Err(refused(format!("the cluster cannot be written down: {error}"))),
        }
    }

    async fn told(&self, ask: Ask) -> Told {
        let cluster = &self.0;
        match ask {
            Ask::Who => Told::Who(cluster.whereabouts()),
            Ask::ReadIndex => match cluster.confirm().await {
                Ok(()) => Told::ReadIndex(cluster.0.machine.applied_record_index()),
                Err(error) => Told::Not(error.to_string()),
            },
            Ask::Rejoin { node, member } => told(change::replace(cluster, node, member).await),
            Ask::Remove { node } => told(change::remove_id(cluster, node).await),
            Ask::HandOver { to } => told(handover::hand_over_to(cluster, to).await),
            Ask::Mark => match cluster.0.machine.quarantine.mark() {
                _ if cluster.is_quarantined() => Told::Not("its state is wrong".to_owned()),
                Some(mark) => Told::Mark { at: mark.at.get(), digest: mark.digest.as_bytes().to_vec() },
                None => Told::Not("no mark has been applied here".to_owned()),
            },
            Ask::Teach { node } => told(relearn::teach(cluster, node)),
            Ask::Elect { .. } if cluster.is_quarantined() => {
                Told::Not("its state is wrong: it does not lead".to_owned())
            }
            Ask::Elect { .. } if cluster.is_resting() => {
                Told::Not("it is drained: it does not lead".to_owned())
            }
            Ask::Elect { vote } => {
                let (term, leader) = {
                    let metrics = cluster.0.raft.metrics();
                    let metrics = metrics.borrow();
                    (metrics.current_term, metrics.current_leader)
                };
                // Without a leader it may be this node's own candidacy that made the term newer.
                if vote.leader_id.term < term && leader.is_some() {
                    return Told::Not("that office is over".to_owned());
                }
                match cluster.0.raft.trigger().elect().await {
                    Ok(()) => Told::Done,
                    Err(error) => Told::Not(error.to_string()),
                }
            }
        }
    }

    async fn vote(&self, ballot: Ballot) -> Result<Bytes, ErrorReply> {
        match ballot {
            Ballot::Sounding { node, last_log } => Ok(encode(&self.would_vote(node, last_log).await)),
            Ballot::Vote(request) => Ok(encode(&self.0.0.raft.vote(request).await)),
        }
    }

    /// Whether this node would vote for a candidate now: it has heard of no leader for a while, and the candidate has
    /// everything that it has itself.
    async fn would_vote(&self, node: u64, last_log: Option<openraft::LogId<u64>>) -> bool {
        let inner = &self.0.0;
        let hears_leader = inner.contact.silence().is_some_and(|silence| silence < inner.timing.election_min);
        if hears_leader || (self.0.is_leader() && inner.pulse.has_quorum(inner.timing.election_min)) {
            return false;
        }
        let look = inner.raft.with_raft_state(move |state| {
            let is_voter = state.membership_state.effective().membership().voter_ids().any(|id| id == node);
            (is_voter, state.server_state)
        });
        // Who is stuck could not vote either.
        let Ok(Ok((is_voter, state))) = timeout(inner.timing.election_min, look).await else { return false };
        let own = inner.raft.data_metrics().borrow().last_log;
        // A node that is no voter any more has learnt of that, or its log is shorter; a node that this one does not know
        // as a voter yet has a longer one.
        state != ServerState::Shutdown && (last_log > own || (last_log == own && is_voter))
    }

    /// A leader shows that it lives, or asks whether it still leads. Whoever has given its vote to nobody later says yes
    /// at once, without waiting for the disk.
    async fn heartbeat(&self, beat: Touch) -> Result<Bytes, ErrorReply> {
        let inner = &self.0.0;
        let leader = Leadership { term: beat.vote.leader_id.term, node: beat.vote.leader_id.node_id };
        if inner.gate.voted() == Some(leader) {
            inner.contact.heard();
            self.0.inform(beat.leader_commit);
            // If the one before is still waiting, this one has nothing to add.
            drop(inner.touch.try_send(beat));
            return Ok(encode(&Ok::<_, openraft::error::RaftError<u64>>(
                AppendEntriesResponse::<u64>::Success,
            )));
        }
        let committed = beat.leader_commit;
        let answer = inner.raft.append_entries(beat).await;
        if matches!(answer, Ok(AppendEntriesResponse::Success | AppendEntriesResponse::Conflict)) {
            inner.contact.heard();
            self.0.inform(committed);
        }
        Ok(encode(&answer))
    }

    async fn append(&self, request: AppendEntriesRequest<TypeConfig>) -> Result<Bytes, ErrorReply> {
        let inner = &self.0.0;
        if request.vote.leader_id.term >= inner.raft.metrics().borrow().current_term {
            inner.contact.heard();
        }
        let answer = inner.raft.append_entries(request).await;
        Ok(encode(&answer))
    }
}

fn told(done: Result<(), String>) -> Told {
    match done {
        Ok(()) => Told::Done,
        Err(reason) => Told::Not(reason),
    }
}

fn check_wanted(card: &Card, wanted: Option<NodeId>) -> Result<(), ErrorReply> {
    match wanted {
        Some(wanted) if card.node() != Some(wanted) => Err(refused(format!(
            "node {wanted} was called, but {} is node {} now: its data directory was lost or replaced",
            card.name,
            card.node().map_or(0, NodeId::get)
        ))),
        _ => Ok(()),
    }
}

/// Shows the heartbeats of the leader to openraft: it notes the time, and what is committed.
pub(super) async fn touch(raft: Raft, mut touched: mpsc::Receiver<Touch>) {
    while let Some(beat) = touched.recv().await {
        if let Err(error) = raft.append_entries(beat).await {
            tracing::debug!(%error, "a heartbeat was not taken in");
        }
    }
}
