//! Gives an office to another node, without an election time passing.
//!
//! The heir must have the whole log. It stands for election at once, on the word of the leader; the leader itself votes for
//! it, because it does not refuse votes on account of its own office. With three voters these two are a majority.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::{LogId, Vote};
use tokio::time::{Instant, sleep, timeout};

use super::messages::{Ask, Told};
use super::{Cluster, peer};

/// How long an heir may take to have the log, and then the office.
const TIME_MAX: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl Cluster {
    /// Gives the office, if this node has it, to the voter that is best prepared. Returns when somebody else has it.
    pub(crate) async fn hand_over(&self) -> Result<(), String> {
        if !self.is_leader() {
            return Ok(());
        }
        let heir = {
            let metrics = self.0.raft.metrics();
            let metrics = metrics.borrow();
            let own = self.id();
            let matched =
                |node: &u64| metrics.replication.as_ref().and_then(|all| all.get(node).copied().flatten());
            let voters = metrics.membership_config.membership().voter_ids().filter(|node| *node != own);
            // Who answers now comes first, then who has most.
            voters.max_by_key(|node| (std::cmp::Reverse(self.is_silent(*node)), matched(node)))
        };
        match heir {
            Some(heir) => hand_over_to(self, heir).await,
            None => Err("there is no other voter".to_owned()),
        }
    }

    fn is_silent(&self, node: u64) -> bool {
        self.0.pulse.silence(node).is_none_or(|silence| silence > self.0.timing.election_min)
    }
}

/// Gives the office to `heir`, a voter.
pub(super) async fn hand_over_to(cluster: &Cluster, heir: u64) -> Result<(), String> {
    let inner = &*cluster.0;
    let own = cluster.id();
    let Some(office) = inner.gate.office() else { return Err("this node does not lead".to_owned()) };
    let Some(listed) = cluster.members().into_iter().find(|listed| listed.node == heir && listed.voter)
    else {
        return Err("the heir is not a voter".to_owned());
    };
    if heir == own {
        return Ok(());
    }
    if cluster.is_silent(heir) {
        return Err(format!("{} does not answer", listed.member.name));
    }
    let prepared = async {
        loop {
            let (last, matched) = log_ends(cluster, heir);
            if matched.is_some() && matched >= last {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    if timeout(TIME_MAX, prepared).await.is_err() {
        return Err(format!("{} is too far behind", listed.member.name));
    }
    let question = Ask::Elect { vote: Vote::new_committed(office.term, office.node) };
    let _standing_back = StandingBack::begin(cluster);
    let deadline = Instant::now() + TIME_MAX;
    let mut metrics = inner.raft.server_metrics();
    while Instant::now() < deadline {
        match cluster.ask(&peer(heir, &listed.member), &question).await {
            Ok(Told::Done) => {}
            Ok(Told::Not(reason)) => return Err(reason),
            Ok(_) => return Err("it answered something else".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        let taken = metrics.wait_for(|metrics| metrics.current_leader.is_some_and(|leader| leader != own));
        match timeout(inner.timing.election_min / 2, taken).await {
            Ok(Ok(_)) => {
                tracing::info!(heir = %listed.member.name, "office handed over");
                return Ok(());
            }
            Ok(Err(_gone)) => return Err("the node is stopping".to_owned()),
            // With more than three voters it needs the votes of some that have heard of the leader just now: they refuse
            // until they have not for a while.
            Err(_elapsed) => {}
        }
    }
    Err(format!("{} was not elected", listed.member.name))
}

/// While it lives, this node does not stand for election.
struct StandingBack<'a>(&'a AtomicBool);

impl<'a> StandingBack<'a> {
    fn begin(cluster: &'a Cluster) -> Self {
        let flag = &cluster.0.handing_over;
        flag.store(true, Ordering::Release);
        Self(flag)
    }
}

impl Drop for StandingBack<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The last entry of the log, by index, and of what `node` has of it.
fn log_ends(cluster: &Cluster, node: u64) -> (Option<u64>, Option<u64>) {
    let metrics = cluster.0.raft.metrics();
    let metrics = metrics.borrow();
    let matched: Option<LogId<u64>> =
        metrics.replication.as_ref().and_then(|replication| replication.get(&node).copied().flatten());
    (metrics.last_log_index, matched.map(|id| id.index))
}
