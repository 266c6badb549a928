//! Stands for election when no leader has been heard of for a while, after asking the others whether they would agree.
//!
//! openraft's own elections are off: it would raise its term first and ask then, and so disturb a leader that works
//! whenever a node comes back from where it heard nobody. The time of silence is drawn anew each time, so two nodes that
//! stood in each other's way do not do so again.

use std::time::Duration;

use openraft::ServerState;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::messages::Ballot;
use super::{Cluster, peer};
use crate::config::Timing;
use crate::transport::PeerCall;

/// Stands for election whenever it is due, for ever.
pub(super) async fn run(cluster: Cluster) {
    let inner = &*cluster.0;
    let mut tried = Instant::now();
    loop {
        let silence = draw(inner.timing);
        loop {
            let due = inner.contact.last().max(tried) + silence;
            if due <= Instant::now() {
                break;
            }
            sleep_until(due).await;
        }
        tried = Instant::now();
        let (state, is_voter) = {
            let metrics = inner.raft.server_metrics();
            let metrics = metrics.borrow();
            let own = cluster.id();
            (metrics.state, metrics.membership_config.membership().voter_ids().any(|id| id == own))
        };
        match state {
            ServerState::Leader => continue,
            ServerState::Shutdown => return,
            ServerState::Follower | ServerState::Candidate | ServerState::Learner if !is_voter => continue,
            ServerState::Follower | ServerState::Candidate | ServerState::Learner => {}
        }
        let stands_back = inner.gate.is_retiring() || cluster.is_quarantined() || cluster.is_resting();
        if !inner.gate.is_serving() || stands_back {
            sleep(inner.timing.heartbeat).await;
            continue;
        }
        if sound(&cluster).await {
            tracing::info!("no leader is heard of and a majority agrees: standing for election");
            if inner.raft.trigger().elect().await.is_err() {
                return;
            }
        }
        tried = Instant::now();
    }
}

/// Whether a majority would vote for this node.
async fn sound(cluster: &Cluster) -> bool {
    let inner = &*cluster.0;
    let own = cluster.id();
    let look = inner.raft.with_raft_state(|state| state.membership_state.effective().membership().clone());
    // Who waits for its disk would not lead well.
    let Ok(Ok(membership)) = timeout(inner.timing.election_min, look).await else { return false };
    let last_log = inner.raft.data_metrics().borrow().last_log;
    let mut asked = JoinSet::new();
    let voters: std::collections::BTreeSet<u64> = membership.voter_ids().collect();
    for (node, member) in membership.nodes().filter(|(node, _)| **node != own && voters.contains(node)) {
        let (cluster, peer, node) = (cluster.clone(), peer(*node, member), *node);
        asked.spawn(async move {
            let question = Ballot::Sounding { node: own, last_log };
            let wait = cluster.0.timing.election_min;
            (node, cluster.call::<bool>(&peer, PeerCall::Vote, &question, wait).await)
        });
    }
    let mut agreed = std::collections::BTreeSet::from([own]);
    loop {
        let is_majority = |config: &std::collections::BTreeSet<u64>| {
            config.intersection(&agreed).count() > config.len() / 2
        };
        if membership.get_joint_config().iter().all(is_majority) {
            return true;
        }
        match asked.join_next().await {
            Some(Ok((node, Ok(true)))) => {
                agreed.insert(node);
            }
            Some(Ok((node, Err(error)))) => tracing::debug!(node, %error, "not asked for its vote"),
            Some(_) => {}
            None => return false,
        }
    }
}

/// A time of silence after which to stand for election.
fn draw(timing: Timing) -> Duration {
    let spread = timing.election_max.saturating_sub(timing.election_min);
    // Without randomness all nodes wait equally long; they still take turns by chance.
    let part = getrandom::u32().unwrap_or_default();
    timing.election_min + spread.mul_f64(f64::from(part) / f64::from(u32::MAX))
}
