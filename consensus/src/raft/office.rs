//! What the rest of the crate asks of a running openraft node.

use std::time::Duration;

use openraft::error::{CheckIsLeaderError, ClientWriteError, Fatal, ForwardToLeader, RaftError};
use openraft::{BasicNode, ServerState};
use tokio::time::timeout;
use vaylix_engine::state::Outcome;

use super::{EntryBody, Raft, codec};
use crate::error::{LeaderHint, ProposeError, ReadError};
use crate::identity::NodeId;
use crate::status::Role;

/// How long openraft may take to notice a snapshot before it is told again.
const ANNOUNCE_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How long a purge is waited for. openraft puts it off while it sends the entries to a peer.
const PURGE_TIME_MAX: Duration = Duration::from_secs(5);

/// Term, role and log positions, as openraft last reported them. Positions count from 1, 0 is "none yet".
pub(crate) struct Office {
    pub(crate) role: Role,
    pub(crate) term: u64,
    pub(crate) leader: Option<NodeId>,
    pub(crate) last_index: u64,
    pub(crate) applied_index: u64,
    pub(crate) voters: usize,
}

pub(crate) fn office(raft: &Raft) -> Office {
    let metrics = raft.metrics();
    let metrics = metrics.borrow();
    Office {
        role: match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Follower => Role::Follower,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        },
        term: metrics.current_term,
        leader: metrics.current_leader.and_then(NodeId::new),
        last_index: metrics.last_log_index.map_or(0, |index| codec::sequence(index).get()),
        applied_index: metrics.last_applied.map_or(0, |id| codec::sequence(id.index).get()),
        voters: metrics.membership_config.membership().voter_ids().count(),
    }
}

/// Writes one entry and waits until it is durable on a quorum and applied here.
pub(crate) async fn propose(raft: &Raft, body: EntryBody) -> Result<Vec<Outcome>, ProposeError> {
    let written = raft.client_write_ff(body).await.map_err(|_stopped| ProposeError::Closed)?;
    match written.await {
        Ok(Ok(response)) => Ok(response.data.0),
        // Either it was never appended, or it was cut off the log by a new leader: it did not happen.
        Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
            Err(ProposeError::NotLeader { leader: leader_hint(forward) })
        }
        Ok(Err(ClientWriteError::ChangeMembershipError(_))) | Err(_) => Err(ProposeError::OutcomeUnknown),
    }
}

/// Returns when this node has proved to a quorum that it leads, and has applied everything that was committed
/// when it did.
pub(crate) async fn confirm_leadership(raft: &Raft) -> Result<(), ReadError> {
    match raft.ensure_linearizable().await {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward))) => {
            Err(ReadError::NotLeader { leader: leader_hint(forward) })
        }
        Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => Err(ReadError::Unconfirmed),
        Err(RaftError::Fatal(_)) => Err(ReadError::Closed),
    }
}

fn leader_hint(forward: ForwardToLeader<u64, BasicNode>) -> Option<LeaderHint> {
    let node = NodeId::new(forward.leader_id?)?;
    Some(LeaderHint { node, address: forward.leader_node.map(|node| node.addr).unwrap_or_default() })
}

/// Lets openraft know of a snapshot that has been stored, and waits until it does. `false` when it has stopped.
pub(crate) async fn announce_snapshot(raft: &Raft, record_index: u64) -> bool {
    let index = codec::raft_index(record_index);
    let mut metrics = raft.metrics();
    // A snapshot that only took the place of one of the same extent is no news.
    if metrics.borrow().snapshot.is_some_and(|id| id.index >= index) {
        return true;
    }
    loop {
        if raft.trigger().snapshot().await.is_err() {
            return false;
        }
        let known = metrics.wait_for(|metrics| metrics.snapshot.is_some_and(|id| id.index >= index));
        // openraft ignores the trigger while it is busy with an earlier one, which may know less.
        if let Ok(known) = timeout(ANNOUNCE_AGAIN_AFTER, known).await {
            return known.is_ok();
        }
    }
}

/// Lets go of the log up to `record_index` as far as a snapshot covers it, and waits until it is gone, unless a peer
/// still needs it. `false` when openraft has stopped.
pub(crate) async fn purge(raft: &Raft, record_index: u64) -> bool {
    let index = codec::raft_index(record_index);
    if raft.trigger().purge_log(index).await.is_err() {
        return false;
    }
    let mut metrics = raft.metrics();
    let gone = metrics.wait_for(|metrics| metrics.purged.is_some_and(|id| id.index >= index));
    match timeout(PURGE_TIME_MAX, gone).await {
        Ok(gone) => gone.is_ok(),
        Err(_elapsed) => true,
    }
}

/// Resolves when openraft has stopped, with the reason unless it was told to.
pub(crate) async fn stopped(raft: &Raft) -> Option<String> {
    let mut metrics = raft.metrics();
    let state = metrics.wait_for(|metrics| metrics.running_state.is_err()).await;
    let state = state.map(|metrics| metrics.running_state.clone());
    match state {
        Ok(Ok(()) | Err(Fatal::Stopped)) => None,
        Ok(Err(fatal)) => Some(fatal.to_string()),
        // Gone without a word: it panicked, or the runtime is being torn down.
        Err(_gone) => match raft.is_initialized().await {
            Ok(_) | Err(Fatal::Stopped) => None,
            Err(fatal) => Some(fatal.to_string()),
        },
    }
}
