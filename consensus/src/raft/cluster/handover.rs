//! Gives an office to another node, without an election time passing.
//!
//! The heir must have the whole log. It stands for election at once, on the word of the leader; the leader itself votes for
//! it, because it does not refuse votes on account of its own office. With three voters these two are a majority.
//!
//! Nothing new enters the log meanwhile, and what has entered it is answered before: a write that meets a change of office
//! on purpose is not left with an unknown end. Those that come wait for the change, and are sent to the heir.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::{LogId, Vote};
use tokio::time::{Instant, sleep, timeout};

use super::messages::{Ask, Told};
use super::{Cluster, peer};
use crate::gate::Leadership;

/// How long an heir may take to have the log, and then the office.
const TIME_MAX: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// It has come by the log when no more than this is missing; the rest is sent while nothing new is added.
const LAG_ENTRIES_MAX: u64 = 16;
/// How long that may take.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(1);
/// Time between two attempts to reach an heir whose connection breaks.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// Who has answered none of so many heartbeats is the last to be asked.
const HEARTBEATS_MISSED: u32 = 3;

impl Cluster {
    /// Gives the office, if this node has it, to the voter that is best prepared, or else to the next. Returns what the one is
    /// called that has it then, as far as that is known.
    pub(crate) async fn hand_over(&self) -> Result<String, String> {
        let name = |node| {
            let listed = self.members().into_iter().find(|listed| Some(listed.node) == node);
            listed.map_or_else(String::new, |listed| listed.member.name)
        };
        let mut why = "there is no other voter".to_owned();
        for heir in self.heirs() {
            if !self.is_leader() {
                break;
            }
            match hand_over_to(self, heir).await {
                Ok(()) => return Ok(name(Some(heir))),
                Err(error) => why = error,
            }
        }
        if self.is_leader() { Err(why) } else { Ok(name(self.leader())) }
    }

    /// Gives the office, if this node has it, to the voter called `name`.
    pub(crate) async fn hand_over_to(&self, name: &str) -> Result<(), String> {
        let listed = self.members().into_iter().find(|listed| listed.member.name == name);
        match listed {
            Some(listed) => hand_over_to(self, listed.node).await,
            None => Err(format!("there is no member called {name}")),
        }
    }

    /// Leaves the office to others, or not any more.
    pub(crate) fn rest(&self, resting: bool) {
        self.0.resting.store(resting, Ordering::Release);
    }

    /// Whether this node leaves the office to others.
    pub(super) fn is_resting(&self) -> bool {
        self.0.resting.load(Ordering::Acquire)
    }

    /// The other voters, those first that are best prepared to lead: who answers now, then who has most.
    fn heirs(&self) -> Vec<u64> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow();
        let own = self.id();
        let matched =
            |node: &u64| metrics.replication.as_ref().and_then(|all| all.get(node).copied().flatten());
        let silence_max = self.0.timing.heartbeat * HEARTBEATS_MISSED;
        let voters = metrics.membership_config.membership().voter_ids().filter(|node| *node != own);
        let mut heirs: Vec<_> = voters.collect();
        heirs.sort_by_key(|node| (self.is_silent(*node, silence_max), std::cmp::Reverse(matched(node))));
        heirs
    }

    /// Asks another node to take the office, for a leader that cannot do anything else: it waits for its disk and has
    /// fallen silent. The others would notice by themselves, but later. Goes on until it is dropped.
    pub(super) async fn surrender(&self, leadership: Leadership) {
        tracing::warn!(term = leadership.term, "the disk does not answer: asking another node to lead");
        // Until then those that have heard of this leader vote for nobody else; its last heartbeat is perhaps on its way.
        sleep(self.0.timing.lease() + self.0.timing.heartbeat / 4).await;
        let question = Ask::Elect { vote: Vote::new_committed(leadership.term, leadership.node) };
        // Not always the same one: who looks best may be unable too.
        let mut asked = Vec::new();
        loop {
            let members = self.members();
            let voters = members.iter().filter(|listed| listed.voter && listed.node != leadership.node);
            let heir = match asked.len() {
                0 => self.heirs().first().copied(),
                _ => voters.clone().map(|listed| listed.node).find(|node| !asked.contains(node)),
            };
            match heir.and_then(|heir| members.iter().find(|listed| listed.node == heir)) {
                Some(heir) => {
                    asked.push(heir.node);
                    match self.ask(&peer(heir.node, &heir.member), &question).await {
                        Ok(told) => tracing::debug!(heir = %heir.member.name, ?told, "asked to lead"),
                        Err(error) => tracing::debug!(heir = %heir.member.name, %error, "not asked to lead"),
                    }
                }
                None => asked.clear(),
            }
            sleep(self.0.timing.election_min).await;
        }
    }

    fn is_silent(&self, node: u64, silence_max: Duration) -> bool {
        self.0.pulse.silence(node).is_none_or(|silence| silence > silence_max)
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
    if cluster.is_silent(heir, inner.timing.election_min) {
        return Err(format!("{} does not answer", listed.member.name));
    }
    if timeout(TIME_MAX, catches_up(cluster, heir)).await.is_err() {
        return Err(format!("{} is too far behind", listed.member.name));
    }
    // The one vote that the heir can count on is refused while the office is as new as that: openraft holds whoever was
    // elected just now to be heard of just now.
    if let Some(age) = inner.pulse.age() {
        sleep(inner.timing.lease().saturating_sub(age)).await;
    }
    // Also: this node does not stand against its heir.
    let _retiring = inner.gate.retire();
    if timeout(SETTLE_TIME_MAX, has_all(cluster, heir)).await.is_err() {
        return Err(format!("{} falls behind", listed.member.name));
    }
    let question = Ask::Elect { vote: Vote::new_committed(office.term, office.node) };
    let begun = Instant::now();
    let mut metrics = inner.raft.server_metrics();
    while begun.elapsed() < TIME_MAX {
        match cluster.ask(&peer(heir, &listed.member), &question).await {
            Ok(Told::Done) => {}
            Ok(Told::Not(reason)) => return Err(format!("{} refuses: {reason}", listed.member.name)),
            Ok(_) => return Err(format!("{} answered something else", listed.member.name)),
            // A connection may be the one to the heir's last life. To ask twice does no harm.
            Err(_) if begun.elapsed() < inner.timing.election_min / 2 => {
                sleep(ASK_AGAIN_AFTER).await;
                continue;
            }
            Err(error) => return Err(format!("{}: {error}", listed.member.name)),
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

/// Returns when `heir` has the log but for the last few entries.
async fn catches_up(cluster: &Cluster, heir: u64) {
    loop {
        let Ends { last, matched, .. } = ends(cluster, heir);
        if matched.is_some_and(|matched| last.is_none_or(|last| last <= matched + LAG_ENTRIES_MAX)) {
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Returns when `heir` has the whole log, and all of it is applied here.
async fn has_all(cluster: &Cluster, heir: u64) {
    loop {
        // First of all: what was on its way into the log arrives there.
        sleep(LOOK_EVERY).await;
        let Ends { last, applied, matched } = ends(cluster, heir);
        if matched.is_some() && matched >= last && applied >= last {
            return;
        }
    }
}

/// Where the log ends, by openraft's count.
struct Ends {
    last: Option<u64>,
    applied: Option<u64>,
    /// Of what the heir has.
    matched: Option<u64>,
}

fn ends(cluster: &Cluster, heir: u64) -> Ends {
    let metrics = cluster.0.raft.metrics();
    let metrics = metrics.borrow();
    let matched: Option<LogId<u64>> =
        metrics.replication.as_ref().and_then(|replication| replication.get(&heir).copied().flatten());
    Ends {
        last: metrics.last_log_index,
        applied: metrics.last_applied.map(|id| id.index),
        matched: matched.map(|id| id.index),
    }
}
