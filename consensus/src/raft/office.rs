//! What the rest of the crate asks of a running openraft node.

use std::time::Duration;

use openraft::ServerState;
#[cfg(test)]
use openraft::error::ForwardToLeader;
use openraft::error::{ClientWriteError, Fatal};
use tokio::time::timeout;
use vaylix_engine::state::Outcome;

use super::{EntryBody, Member, Raft, codec};
use crate::error::{LeaderHint, ProposeError};
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
    /// The entry that the newest membership came with.
    pub(crate) membership_index: u64,
    pub(crate) members: Vec<OfficeMember>,
    /// Whom the last vote was given to.
    pub(crate) voted_for: Option<NodeId>,
}

/// A member as the newest membership has it.
pub(crate) struct OfficeMember {
    pub(crate) node: u64,
    pub(crate) member: Member,
    pub(crate) voter: bool,
    /// On a leader, the last entry that it is known to have on disk.
    pub(crate) matched_index: Option<u64>,
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
        membership_index: metrics.membership_config.log_id().map_or(0, |id| codec::sequence(id.index).get()),
        members: members(&metrics),
        voted_for: NodeId::new(metrics.vote.leader_id.node_id),
    }
}

fn members(metrics: &openraft::RaftMetrics<u64, Member>) -> Vec<OfficeMember> {
    let membership = metrics.membership_config.membership();
    let voters: std::collections::BTreeSet<u64> = membership.voter_ids().collect();
    let matched = |node: &u64| {
        let id = metrics.replication.as_ref()?.get(node).copied().flatten()?;
        Some(codec::sequence(id.index).get())
    };
    let member = |(node, member): (&u64, &Member)| OfficeMember {
        node: *node,
        member: member.clone(),
        voter: voters.contains(node),
        matched_index: matched(node),
    };
    membership.nodes().map(member).collect()
}

/// Waits until every voter has the entry on disk, as far as this leader has heard. Returns early when it leads no more.
pub(crate) async fn on_all_voters(raft: &Raft, record_index: u64) {
    let mut metrics = raft.metrics();
    let everywhere = metrics.wait_for(|metrics| {
        metrics.state != ServerState::Leader
            || members(metrics)
                .iter()
                .filter(|member| member.voter)
                .all(|member| member.matched_index.is_some_and(|matched| matched >= record_index))
    });
    // Gone without a word: the caller finds out by itself.
    drop(everywhere.await);
}

/// Writes one entry and waits until it is durable on a quorum and applied here. Returns its number too.
pub(crate) async fn propose(raft: &Raft, body: EntryBody) -> Result<(u64, Vec<Outcome>), ProposeError> {
    let written = raft.client_write_ff(body).await.map_err(|_stopped| ProposeError::Closed)?;
    match written.await {
        Ok(Ok(response)) => Ok((codec::sequence(response.log_id.index).get(), response.data.0)),
        // Perhaps it was never appended. But perhaps a new leader has cut it off the log here while another node still has
        // it: should that one lead next, the entry is committed after all.
        Ok(Err(ClientWriteError::ForwardToLeader(_) | ClientWriteError::ChangeMembershipError(_)))
        | Err(_) => Err(ProposeError::OutcomeUnknown),
    }
}

/// Returns when this node has proved to a quorum that it leads, and has applied everything that was committed
/// when it did.
#[cfg(test)]
pub(crate) async fn confirm_leadership(raft: &Raft) -> Result<(), crate::error::ReadError> {
    use openraft::error::{CheckIsLeaderError, RaftError};

    use crate::error::ReadError;
    match raft.ensure_linearizable().await {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward))) => {
            Err(ReadError::NotLeader { leader: leader_hint(forward) })
        }
        Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => Err(ReadError::Unconfirmed),
        Err(RaftError::Fatal(_)) => Err(ReadError::Closed),
    }
}

#[cfg(test)]
fn leader_hint(forward: ForwardToLeader<u64, Member>) -> Option<LeaderHint> {
    hint(forward.leader_id?, forward.leader_node)
}

/// The leader as openraft last reported it.
pub(crate) fn leader_hint_of(raft: &Raft) -> Option<LeaderHint> {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow();
    let leader = metrics.current_leader?;
    hint(leader, metrics.membership_config.membership().get_node(&leader).cloned())
}

fn hint(leader: u64, member: Option<Member>) -> Option<LeaderHint> {
    let node = NodeId::new(leader)?;
    let Member { addr, name } = member.unwrap_or_default();
    let name = if name.is_empty() { node.to_string() } else { name };
    Some(LeaderHint { node, name, address: addr })
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
