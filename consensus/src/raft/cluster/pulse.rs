//! A leader's heartbeats, and what their answers prove.
//!
//! One task per peer sends a heartbeat at every interval, and at once when a read waits to be confirmed. Reads do not send
//! anything: each draws a ticket, and a heartbeat carries the newest ticket that was drawn when it left. When a majority
//! has answered heartbeats with a ticket or later ones, all reads up to it are confirmed. However many wait, one round
//! serves them.
//!
//! Heartbeats go on only while openraft answers (see `prove`): it waits for the log to be on disk, so a leader whose disk
//! is stuck for as long as others bear silence falls silent, and asks one of them to lead. A leader that no majority has
//! answered for a while steps down: it gives its vote in the next term to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use openraft::{CommittedLeaderId, LogId, ServerState, Vote};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::super::{Member, TypeConfig};
use super::{Cluster, peer};
use crate::error::ReadError;
use crate::gate::Leadership;
use crate::transport::PeerCall;

/// How many of the longest election times a leader may go without a majority.
const PATIENCE_ELECTIONS: u32 = 3;
const PATIENCE_PARTS: u32 = 2;

/// The heartbeats of this node while it leads.
pub(crate) struct Pulse {
    beats: Mutex<Beats>,
    /// The last ticket that a read has drawn.
    drawn: watch::Sender<u64>,
    /// Up to where a majority has confirmed the leadership.
    confirmed: watch::Sender<Confirmed>,
    pub(crate) counts: Counts,
}

/// What is counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Heartbeats that were not answered.
    pub(crate) heartbeats_failed: AtomicU64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Confirmed {
    leadership: Option<Leadership>,
    ticket: u64,
}

#[derive(Default)]
struct Beats {
    leadership: Option<Leadership>,
    /// When it was noticed that this node leads.
    begun: Option<Instant>,
    voters: Vec<BTreeSet<u64>>,
    peers: BTreeMap<u64, Beat>,
    proof: Option<Proof>,
}

#[derive(Clone, Copy)]
struct Beat {
    /// The newest ticket that it has answered.
    ticket: u64,
    /// When the last heartbeat that it has answered was sent.
    heard: Instant,
}

/// Openraft answered, so the disk does.
#[derive(Clone, Copy)]
struct Proof {
    at: Instant,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            beats: Mutex::default(),
            drawn: watch::Sender::new(0),
            confirmed: watch::Sender::new(Confirmed::default()),
            counts: Counts::default(),
        }
    }
}

impl Pulse {
    /// Whether a majority has answered heartbeats within this time.
    pub(crate) fn has_quorum(&self, within: Duration) -> bool {
        let beats = self.beats.lock();
        let now = Instant::now();
        beats.quorum_heard(now).is_some_and(|heard| now.duration_since(heard) < within)
    }

    /// How long a member has not answered; `None` for one that is not sent anything.
    pub(crate) fn silence(&self, node: u64) -> Option<Duration> {
        self.beats.lock().peers.get(&node).map(|beat| beat.heard.elapsed())
    }

    /// For how long this node has led, without a break; `None` when it does not.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.beats.lock().begun.map(|begun| begun.elapsed())
    }

    fn begin(&self, leadership: Option<Leadership>, voters: Vec<BTreeSet<u64>>, peers: &BTreeSet<u64>) {
        let mut beats = self.beats.lock();
        let now = Instant::now();
        if beats.leadership != leadership {
            *beats = Beats {
                leadership,
                begun: leadership.map(|_| now),
                proof: leadership.map(|_| Proof { at: now }),
                ..Beats::default()
            };
        }
        beats.voters = voters;
        beats.peers.retain(|node, _| peers.contains(node));
        for node in peers {
            beats.peers.entry(*node).or_insert(Beat { ticket: 0, heard: now });
        }
    }

    fn proved(&self, leadership: Leadership) {
        let mut beats = self.beats.lock();
        if beats.leadership == Some(leadership) {
            beats.proof = Some(Proof { at: Instant::now() });
        }
    }

    fn is_proved(&self, leadership: Leadership, within: Duration) -> bool {
        let beats = self.beats.lock();
        beats.leadership == Some(leadership) && beats.proof.is_some_and(|proof| proof.at.elapsed() < within)
    }

    fn answered(&self, leadership: Leadership, own: u64, node: u64, ticket: u64, sent: Instant) {
        let mut beats = self.beats.lock();
        if beats.leadership != Some(leadership) {
            return;
        }
        if let Some(beat) = beats.peers.get_mut(&node) {
            beat.ticket = beat.ticket.max(ticket);
            beat.heard = beat.heard.max(sent);
        }
        let ticket = beats
            .quorum_of(|id| if id == own { Some(u64::MAX) } else { beats.peers.get(&id).map(|b| b.ticket) });
        drop(beats);
        let next = Confirmed { leadership: Some(leadership), ticket: ticket.unwrap_or(0) };
        self.confirmed.send_if_modified(|was| {
            let is_news = was.leadership != next.leadership || was.ticket < next.ticket;
            if is_news {
                *was = next;
            }
            is_news
        });
    }
}

impl Beats {
    /// When the last heartbeats left that a majority has answered; `None` when this node does not lead.
    fn quorum_heard(&self, now: Instant) -> Option<Instant> {
        let own = self.leadership?.node;
        self.quorum_of(|id| if id == own { Some(now) } else { self.peers.get(&id).map(|beat| beat.heard) })
    }

    /// The highest value that a majority of each of the configurations in force has reached.
    fn quorum_of<T: Ord + Copy>(&self, value: impl Fn(u64) -> Option<T>) -> Option<T> {
        let reached = |voters: &BTreeSet<u64>| {
            let mut values: Vec<Option<T>> = voters.iter().map(|id| value(*id)).collect();
            values.sort_unstable_by(|a, b| b.cmp(a));
            values.get(voters.len() / 2).copied().flatten()
        };
        self.voters.iter().map(reached).min().flatten()
    }
}

impl Cluster {
    /// Returns when this node has proved to a majority that it leads, after the call, and everything that was committed
    /// before the call is applied here.
    pub(crate) async fn confirm(&self) -> Result<(), ReadError> {
        let inner = &*self.0;
        let Some(office) = self.office().await else { return Err(self.not_leader()) };
        if inner.gate.is_open() {
            return Ok(());
        }
        #[cfg(test)]
        if inner.gate.planted.is(crate::planted::Bug::ReadsUnconfirmed) {
            return Ok(());
        }
        let mut confirmed = inner.pulse.confirmed.subscribe();
        let mut ticket = 0;
        inner.pulse.drawn.send_modify(|drawn| {
            *drawn += 1;
            ticket = *drawn;
        });
        let is_done =
            |confirmed: &Confirmed| confirmed.leadership == Some(office) && confirmed.ticket >= ticket;
        let mut office_held = inner.gate.watch_office();
        tokio::select! {
            done = timeout(self.patience(), confirmed.wait_for(is_done)) => {
                if done.is_err() {
                    return Err(ReadError::Unconfirmed);
                }
            }
            _ = office_held.wait_for(|held| *held != Some(office)) => {}
        }
        if inner.gate.office() == Some(office) { Ok(()) } else { Err(self.not_leader()) }
    }

    /// The office of this node. One that has just been elected waits until it knows what was acknowledged before.
    async fn office(&self) -> Option<Leadership> {
        let inner = &*self.0;
        // One that gives its vote to another node just now is leader for openraft until the vote is on disk.
        let is_elected = || self.is_leader() && inner.gate.voted().is_some_and(|vote| vote.node == self.id());
        if inner.gate.office().is_none() && is_elected() {
            let mut office = inner.gate.watch_office();
            let mut metrics = inner.raft.server_metrics();
            let known = async {
                tokio::select! {
                    _ = office.wait_for(Option::is_some) => {}
                    _ = metrics.wait_for(|metrics| metrics.state != ServerState::Leader) => {}
                }
            };
            // Whether it has become so shows in what is looked at next.
            _ = timeout(self.patience(), known).await;
        }
        inner.gate.office()
    }

    /// How long a leader may go without an answer of a majority.
    pub(crate) fn patience(&self) -> Duration {
        self.0.timing.election_max * PATIENCE_ELECTIONS / PATIENCE_PARTS
    }

    pub(crate) fn not_leader(&self) -> ReadError {
        ReadError::NotLeader { leader: super::super::office::leader_hint_of(&self.0.raft) }
    }

    /// Gives up the office without an heir: nobody gets this node's vote in the next term. Tries again until it is dropped or
    /// has done it: openraft refuses while it holds its lease.
    pub(super) async fn step_down(&self, leadership: Leadership, why: &'static str) {
        tracing::warn!(term = leadership.term, "{why}: stepping down");
        let vote = Vote::new(leadership.term + 1, 0);
        // Whatever is in the log.
        let last_log_id = Some(LogId::new(CommittedLeaderId::new(u64::MAX, u64::MAX), u64::MAX));
        loop {
            match self.0.raft.vote(VoteRequest::new(vote, last_log_id)).await {
                Ok(response) if response.vote >= vote => return,
                Ok(response) => tracing::debug!(vote = %response.vote, "not stepped down yet"),
                Err(error) => tracing::debug!(%error, "not stepped down yet"),
            }
            sleep(self.0.timing.heartbeat).await;
        }
    }
}

/// Keeps one task per peer while this node leads, for ever.
pub(super) async fn run(cluster: Cluster) {
    let inner = &*cluster.0;
    let own = cluster.id();
    let mut metrics = inner.raft.server_metrics();
    let mut tasks = Tasks::default();
    let mut said = None;
    let mut ticks = interval(inner.timing.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = metrics.borrow_and_update().clone();
        let leadership = (now.state == ServerState::Leader)
            .then_some(Leadership { term: now.vote.leader_id.term, node: now.vote.leader_id.node_id });
        if said != Some((now.current_leader, now.vote.leader_id.term)) {
            said = Some((now.current_leader, now.vote.leader_id.term));
            announce(&cluster, now.current_leader, now.vote.leader_id.term);
        }
        let membership = now.membership_config.membership();
        let members: BTreeMap<u64, Member> = match leadership {
            Some(_) => {
                membership.nodes().filter(|(id, _)| **id != own).map(|(id, m)| (*id, m.clone())).collect()
            }
            None => BTreeMap::new(),
        };
        let peers = members.keys().copied().collect();
        inner.pulse.begin(leadership, membership.get_joint_config().clone(), &peers);
        tasks.keep(&cluster, leadership, members);
        let mut stepping_down = None;
        let mut surrendering = None;
        loop {
            tokio::select! {
                changed = metrics.changed() => match changed {
                    Ok(()) => break,
                    Err(_gone) => return,
                },
                _ = ticks.tick() => {
                    let Some(leadership) = leadership else { continue };
                    if inner.gate.office().is_some() {
                        inner.informed.store(true, std::sync::atomic::Ordering::Release);
                    }
                    prove(&cluster, leadership);
                    if inner.pulse.is_proved(leadership, inner.timing.election_min) {
                        surrendering = None;
                    } else if surrendering.is_none() {
                        let cluster = cluster.clone();
                        surrendering =
                            Some(AbortOnDrop(tokio::spawn(async move { cluster.surrender(leadership).await })));
                    }
                    let why = if cluster.is_quarantined() {
                        Some("the state of this node is wrong")
                    } else if inner.pulse.has_quorum(cluster.patience()) {
                        None
                    } else {
                        Some("no majority answers")
                    };
                    if let Some(why) = why.filter(|_| stepping_down.is_none()) {
                        let cluster = cluster.clone();
                        let step_down = async move { cluster.step_down(leadership, why).await };
                        stepping_down = Some(AbortOnDrop(tokio::spawn(step_down)));
                    }
                }
            }
        }
    }
}

/// A task that ends when this is dropped.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells the log who leads.
fn announce(cluster: &Cluster, leader: Option<u64>, term: u64) {
    let member = leader.and_then(|id| cluster.members().into_iter().find(|listed| listed.node == id));
    match (leader, member) {
        (Some(leader), _) if leader == cluster.id() => tracing::info!(term, "this node leads the cluster"),
        (Some(_), Some(listed)) => tracing::info!(term, leader = %listed.member.name, "following a leader"),
        // The membership that names it has not arrived yet.
        (Some(leader), None) => tracing::info!(term, leader, "following a leader"),
        (None, _) => tracing::info!(term, "no leader is known"),
    }
}

/// Asks openraft for a sign of life, without waiting for it.
fn prove(cluster: &Cluster, leadership: Leadership) {
    let witness = cluster.clone();
    cluster.0.raft.external_request(move |state| {
        if state.server_state == ServerState::Leader && state.vote_ref().leader_id.term == leadership.term {
            witness.0.pulse.proved(leadership);
        }
    });
}

/// The running tasks, one per peer. Dropped, they end.
#[derive(Default)]
struct Tasks {
    running: BTreeMap<u64, (Leadership, Member, JoinHandle<()>)>,
}

impl Tasks {
    fn keep(&mut self, cluster: &Cluster, leadership: Option<Leadership>, members: BTreeMap<u64, Member>) {
        self.running.retain(|node, (under, member, task)| {
            let stays = Some(*under) == leadership && members.get(node) == Some(&*member);
            if !stays {
                task.abort();
            }
            stays
        });
        let Some(leadership) = leadership else { return };
        for (node, member) in members {
            self.running.entry(node).or_insert_with(|| {
                let task = tokio::spawn(beat(cluster.clone(), leadership, node, member.clone()));
                (leadership, member, task)
            });
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for (_, _, task) in self.running.values() {
            task.abort();
        }
    }
}

/// Sends heartbeats to one peer, for ever.
async fn beat(cluster: Cluster, leadership: Leadership, node: u64, member: Member) {
    use std::sync::atomic::Ordering::Relaxed;
    let inner = &*cluster.0;
    let peer = peer(node, &member);
    let mut drawn = inner.pulse.drawn.subscribe();
    loop {
        let ticket = *drawn.borrow_and_update();
        let sent = Instant::now();
        if inner.pulse.is_proved(leadership, inner.timing.election_min) {
            let (matched, applied) = {
                let metrics = inner.raft.metrics();
                let metrics = metrics.borrow();
                let replication = metrics.replication.as_ref().filter(|_| {
                    metrics.vote.leader_id.term == leadership.term && metrics.state == ServerState::Leader
                });
                let matched = replication.and_then(|replication| replication.get(&node).copied().flatten());
                (matched, metrics.last_applied)
            };
            let request = AppendEntriesRequest::<TypeConfig> {
                vote: Vote::new_committed(leadership.term, leadership.node),
                prev_log_id: matched,
                entries: Vec::new(),
                leader_commit: applied,
            };
            type Answer = Result<AppendEntriesResponse<u64>, openraft::error::RaftError<u64>>;
            let answer =
                cluster.call::<Answer>(&peer, PeerCall::Heartbeat, &request, inner.timing.election_max).await;
            match answer {
                Ok(Ok(AppendEntriesResponse::HigherVote(_))) => {
                    // Openraft is to learn of it too: its own message gets the same answer.
                    if inner.raft.trigger().heartbeat().await.is_err() {
                        return;
                    }
                }
                Ok(Ok(_)) => inner.pulse.answered(leadership, leadership.node, node, ticket, sent),
                Ok(Err(error)) => {
                    tracing::debug!(node, %error, "heartbeat refused");
                    inner.pulse.counts.heartbeats_failed.fetch_add(1, Relaxed);
                }
                Err(error) => {
                    tracing::debug!(node, %error, "heartbeat unanswered");
                    inner.pulse.counts.heartbeats_failed.fetch_add(1, Relaxed);
                    // A read that waits must not make this task spin.
                    sleep_until(sent + inner.timing.heartbeat).await;
                    continue;
                }
            }
        }
        tokio::select! {
            () = sleep_until(sent + inner.timing.heartbeat) => {}
            changed = drawn.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Leadership = Leadership { term: 3, node: 1 };

    fn led(voters: &[&[u64]], peers: &[u64]) -> Pulse {
        let pulse = Pulse::default();
        let voters = voters.iter().map(|config| config.iter().copied().collect()).collect();
        pulse.begin(Some(ME), voters, &peers.iter().copied().collect());
        pulse
    }

    fn confirmed(pulse: &Pulse) -> u64 {
        pulse.confirmed.borrow().ticket
    }

    #[tokio::test]
    async fn a_ticket_is_confirmed_by_a_majority_and_not_before() {
        let pulse = led(&[&[1, 2, 3, 4, 5]], &[2, 3, 4, 5]);
        let now = Instant::now();
        pulse.answered(ME, 1, 2, 7, now);
        assert_eq!(confirmed(&pulse), 0, "two of five");
        pulse.answered(ME, 1, 3, 5, now);
        assert_eq!(confirmed(&pulse), 5, "three of five have seen the fifth, two the seventh");
        pulse.answered(ME, 1, 4, 9, now);
        assert_eq!(confirmed(&pulse), 7);
    }

    #[tokio::test]
    async fn both_configurations_of_a_change_must_agree() {
        let pulse = led(&[&[1, 2, 3], &[1, 4, 5]], &[2, 3, 4, 5]);
        let now = Instant::now();
        pulse.answered(ME, 1, 2, 4, now);
        pulse.answered(ME, 1, 3, 4, now);
        assert_eq!(confirmed(&pulse), 0, "all of the one are none of the other");
        pulse.answered(ME, 1, 5, 3, now);
        assert_eq!(confirmed(&pulse), 3);
    }

    #[tokio::test]
    async fn answers_to_another_leadership_and_of_those_without_a_vote_prove_nothing() {
        let pulse = led(&[&[1, 2, 3]], &[2, 3, 9]);
        let now = Instant::now();
        pulse.answered(Leadership { term: 2, node: 1 }, 1, 2, 4, now);
        pulse.answered(ME, 1, 9, 4, now);
        assert_eq!(confirmed(&pulse), 0);
        pulse.answered(ME, 1, 2, 4, now);
        assert_eq!(confirmed(&pulse), 4);
        pulse.begin(
            Some(Leadership { term: 4, node: 1 }),
            vec![BTreeSet::from([1, 2, 3])],
            &BTreeSet::from([2, 3]),
        );
        assert!(!pulse.is_proved(ME, Duration::from_secs(60)));
        pulse.answered(ME, 1, 3, 8, now);
        assert_eq!(confirmed(&pulse), 4, "late, for an office that is over");
    }
}
