//! Changes of the membership. All of them go through the log, one at a time, and only the leader makes them.
//!
//! - A new member is asked at its address who it is, with the cluster's secret on both sides, before anything is written.
//!   It comes in as a learner and gets a vote when it has caught up, so it never makes a majority harder to reach than it
//!   helps to.
//! - Nobody is taken out if the voters that answer now would not be a majority of those that stay.
//! - A leader that is to be taken out hands its office over first, and has its heir do it.
//! - A member that has lost its disk comes back under a new id, which takes the place of the old one in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::error::{ClientWriteError, RaftError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::Member;
use super::messages::{Ask, Told};
use super::{Cluster, founding, peer};
use crate::identity::ClusterId;
use crate::limits::CATCH_UP_TIME_MAX;
use crate::transport::PeerCall;

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A learner this many entries behind is as good as caught up: a vote's worth of writing.
const CAUGHT_UP_ENTRIES: u64 = 64;
/// A member that has answered within this time is not gone, and one that is asked has so long to answer.
const GONE_AFTER: Duration = Duration::from_secs(2);

impl Cluster {
    /// Makes the node called `name` at `address` a voter, or moves it there if it is one. Returns when it is.
    ///
    /// # Errors
    /// Why it is not; a node that has not caught up in time stays a learner and can be joined again.
    pub(crate) async fn join(&self, name: &str, address: &str) -> Result<(), String> {
        let found = founding::identify(self, address).await?;
        if found.name != name {
            return Err(format!("the node at {address} is called {}, not {name}", found.name));
        }
        let own = self.0.log_store.identity().cluster;
        let theirs = ClusterId::from_bytes(found.cluster);
        if theirs != ClusterId::NONE && theirs != own {
            return Err(format!("the node at {address} belongs to cluster {theirs}"));
        }
        let member = Member { addr: address.to_owned(), name: name.to_owned() };
        let same_name = self.members().into_iter().find(|listed| listed.member.name == name);
        match same_name {
            Some(listed) if listed.node != found.node => replace(self, found.node, member).await,
            _ => {
                let _turn = self.turn()?;
                self.admit_voter(found.node, member, &BTreeSet::new()).await
            }
        }
    }

    /// Takes the node called `name` out.
    ///
    /// # Errors
    /// Why it is still in.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), String> {
        let listed = self.members().into_iter().find(|listed| listed.member.name == name);
        let listed = listed.ok_or_else(|| format!("there is no member called {name}"))?;
        if listed.node != self.id() {
            return remove_id(self, listed.node).await;
        }
        self.require_majority_without(listed.node).await?;
        self.hand_over().await?;
        let Some(heir) =
            self.leader().and_then(|id| self.members().into_iter().find(|listed| listed.node == id))
        else {
            return Err("the office was handed over, but nobody has it: ask again".to_owned());
        };
        // The heir takes office with an entry of its own first.
        let deadline = Instant::now() + GONE_AFTER;
        loop {
            let question = Ask::Remove { node: listed.node };
            let answer = self.ask(&peer(heir.node, &heir.member), &question).await;
            match answer {
                Ok(Told::Done) => return Ok(()),
                Ok(Told::Not(_)) | Err(_) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
                Ok(Told::Not(reason)) => return Err(reason),
                Ok(_) => return Err("the heir answered something else".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Has the office given to this node by whoever has it.
    ///
    /// # Errors
    /// Why it was not.
    pub(crate) async fn take_over(&self) -> Result<(), String> {
        let leader = self.leader().ok_or("there is no leader to take over from")?;
        let listed = self.members().into_iter().find(|listed| listed.node == leader);
        let listed = listed.ok_or("the leader is not a member")?;
        match self.ask(&peer(leader, &listed.member), &Ask::HandOver { to: self.id() }).await {
            Ok(Told::Done) => Ok(()),
            Ok(Told::Not(reason)) => Err(reason),
            Ok(_) => Err("the leader answered something else".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Gives this node, if it is the only member, the name and address it goes by now.
    pub(crate) async fn introduce_itself(&self) -> Result<(), String> {
        let own = self.id();
        let listed = self.members();
        let wanted = self.as_member();
        if listed.len() != 1 || listed.iter().any(|listed| listed.node == own && listed.member == wanted) {
            return Ok(());
        }
        self.write(ChangeMembers::SetNodes(BTreeMap::from([(own, wanted)])), true).await
    }

    fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, String> {
        self.0.changing.try_lock().map_err(|_| "another change of the membership is under way".to_owned())
    }

    /// Has `node` catch up as a learner, then makes it a voter, in place of the voters `replaced`.
    async fn admit_voter(&self, node: u64, member: Member, replaced: &BTreeSet<u64>) -> Result<(), String> {
        let listed = self.members().into_iter().find(|listed| listed.node == node);
        if listed.as_ref().is_none_or(|listed| listed.member != member) {
            self.write(ChangeMembers::SetNodes(BTreeMap::from([(node, member.clone())])), true).await?;
        }
        if listed.is_some_and(|listed| listed.voter) {
            return Ok(());
        }
        self.catch_up(node, &member).await?;
        let mut voters: BTreeSet<u64> =
            self.members().into_iter().filter(|listed| listed.voter).map(|listed| listed.node).collect();
        voters.insert(node);
        voters.retain(|voter| !replaced.contains(voter));
        self.write(ChangeMembers::ReplaceAllVoters(voters), false).await
    }

    async fn catch_up(&self, node: u64, member: &Member) -> Result<(), String> {
        let deadline = Instant::now() + CATCH_UP_TIME_MAX;
        loop {
            let (last, matched) = {
                let metrics = self.0.raft.metrics();
                let metrics = metrics.borrow();
                let matched = metrics
                    .replication
                    .as_ref()
                    .and_then(|all| all.get(&node).copied().flatten())
                    .map(|id| id.index);
                (metrics.last_log_index.unwrap_or(0), matched)
            };
            if matched.is_some_and(|matched| matched + CAUGHT_UP_ENTRIES >= last) {
                return Ok(());
            }
            if !self.is_leader() {
                return Err("the office was lost meanwhile: ask the new leader".to_owned());
            }
            if Instant::now() >= deadline {
                let behind = matched.map_or(last, |matched| last - matched);
                return Err(format!(
                    "{} is a member without a vote, and still {behind} entries behind: ask again later",
                    member.name
                ));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Writes a membership and waits until it is committed. `retain` keeps voters that lose their vote as learners.
    async fn write(&self, change: ChangeMembers<u64, Member>, retain: bool) -> Result<(), String> {
        match self.0.raft.change_membership(change, retain).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err("this node does not lead".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the voters that answer, asked now, are a majority of those that are left without `node`.
    async fn require_majority_without(&self, node: u64) -> Result<(), String> {
        let own = self.id();
        let left: Vec<_> =
            self.members().into_iter().filter(|listed| listed.voter && listed.node != node).collect();
        if left.is_empty() {
            return Err("it is the only voter".to_owned());
        }
        let mut asked = JoinSet::new();
        for listed in left.iter().filter(|listed| listed.node != own) {
            let (cluster, at) = (self.clone(), peer(listed.node, &listed.member));
            asked.spawn(async move {
                cluster.call::<Told>(&at, PeerCall::Ask, &Ask::Who, GONE_AFTER).await.is_ok()
            });
        }
        let mut alive = usize::from(left.iter().any(|listed| listed.node == own));
        while let Some(answered) = asked.join_next().await {
            alive += usize::from(answered.unwrap_or(false));
        }
        if alive <= left.len() / 2 {
            return Err(format!(
                "of the {} voters that would be left only {alive} answer: the cluster would stand still",
                left.len()
            ));
        }
        Ok(())
    }
}

/// Takes a member out. Only the leader can, and not itself.
pub(super) async fn remove_id(cluster: &Cluster, node: u64) -> Result<(), String> {
    if node == cluster.id() {
        return Err("a leader does not take itself out: it hands its office over first".to_owned());
    }
    if cluster.0.gate.office().is_none() {
        return Err("this node does not lead".to_owned());
    }
    let _turn = cluster.turn()?;
    let Some(listed) = cluster.members().into_iter().find(|listed| listed.node == node) else {
        return Ok(());
    };
    if listed.voter {
        cluster.require_majority_without(node).await?;
        let voters = cluster.members().into_iter().filter(|other| other.voter && other.node != node);
        cluster
            .write(ChangeMembers::ReplaceAllVoters(voters.map(|listed| listed.node).collect()), false)
            .await
    } else {
        cluster.write(ChangeMembers::RemoveNodes(BTreeSet::from([node])), false).await
    }
}

/// Puts `node` in the place of the member of the same name, whose disk is lost.
pub(super) async fn replace(cluster: &Cluster, node: u64, member: Member) -> Result<(), String> {
    if cluster.0.gate.office().is_none() {
        return Err("this node does not lead".to_owned());
    }
    let _turn = cluster.turn()?;
    let former =
        cluster.members().into_iter().find(|listed| listed.member.name == member.name && listed.node != node);
    let former = former.ok_or_else(|| format!("there is no member called {}", member.name))?;
    if cluster.0.pulse.silence(former.node).is_none_or(|silence| silence < GONE_AFTER) {
        return Err(format!("the member called {} still answers, or did a moment ago", member.name));
    }
    // Nobody is taken in who cannot be reached there.
    let found = founding::identify(cluster, &member.addr).await?;
    if found.node != node || found.name != member.name {
        return Err(format!("at {} there is {} with another id", member.addr, found.name));
    }
    tracing::info!(
        name = %member.name, former = former.node, new = node,
        "a member comes back without its data: it is taken in under a new id"
    );
    cluster.admit_voter(node, member, &BTreeSet::from([former.node])).await
}
