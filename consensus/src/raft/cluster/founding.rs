//! How a node without a log comes to a cluster.
//!
//! It asks every node of its list who it is, again and again, until one of these is so:
//! - All of them are there, none has a log, all have the same list, and this node's name sorts first: it founds the cluster
//!   with all of them as voters. The others learn of it when it calls them.
//! - Somebody has a log. Then there is a cluster. If a member of it has this node's name but another id, this node was that
//!   member and has lost its disk: it asks the leader to take it in under its new id. Otherwise it waits until an operator
//!   joins it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::Member;
use super::messages::{Ask, Told, Whereabouts};
use super::{AskError, Cluster, peer};
use crate::config::Seed;
use crate::identity::{ClusterId, NodeId};
use crate::transport::Peer;

/// How often the others are asked.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How often a member looks whether the membership has it as it is.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(2);
/// What keeps the node from its cluster is said again after so many rounds.
const SAY_EVERY: u32 = 50;

/// Works until this node is a member, and then watches over its address.
pub(super) async fn run(cluster: Cluster) {
    let mut rounds = 0_u32;
    let mut said = String::new();
    while !cluster.is_initialized() {
        let obstacle = match look(&cluster).await {
            Ok(()) => String::new(),
            Err(obstacle) => obstacle,
        };
        if !obstacle.is_empty() && (obstacle != said || rounds.is_multiple_of(SAY_EVERY)) {
            tracing::info!("not part of a cluster yet: {obstacle}");
            said = obstacle;
        }
        rounds = rounds.wrapping_add(1);
        sleep(ASK_EVERY).await;
    }
    loop {
        if let Err(obstacle) = settle(&cluster).await {
            tracing::debug!("the membership is not yet as it is to be: {obstacle}");
        }
        cluster.0.machine.forget_old_offer();
        cluster.0.incoming.forget_old().await;
        sleep(LOOK_AGAIN_EVERY).await;
    }
}

/// Sees to it that the membership has this node as it is: under its name and address if it was alone so far, and in the
/// place of its former self, which the leader that took it in may not have come to.
async fn settle(cluster: &Cluster) -> Result<(), String> {
    if cluster.0.gate.office().is_some() {
        return cluster.introduce_itself().await;
    }
    let members = cluster.members();
    let own = cluster.id();
    let is_learner = members.iter().any(|listed| listed.node == own && !listed.voter);
    let is_replacing = members
        .iter()
        .any(|listed| listed.node != own && listed.voter && listed.member.name == cluster.0.config.name);
    if !is_learner || !is_replacing {
        return Ok(());
    }
    let leader = cluster.leader().and_then(|id| members.into_iter().find(|listed| listed.node == id));
    let leader = leader.ok_or("there is no leader")?;
    let question = Ask::Rejoin { node: own, member: cluster.as_member() };
    match cluster.ask(&peer(leader.node, &leader.member), &question).await {
        Ok(Told::Done) => Ok(()),
        Ok(Told::Not(reason)) => Err(reason),
        Ok(_) => Err(AskError::Nonsense.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// One round. Fails with what is missing.
async fn look(cluster: &Cluster) -> Result<(), String> {
    let seeds = &cluster.0.config.seeds;
    let mut asked = JoinSet::new();
    for seed in seeds.iter().filter(|seed| seed.name != cluster.0.config.name) {
        let (cluster, seed) = (cluster.clone(), seed.clone());
        asked.spawn(async move {
            let peer = Peer { node: None, address: seed.address.clone() };
            let answer = cluster.ask(&peer, &Ask::Who).await;
            (seed, answer)
        });
    }
    let mut present = Vec::new();
    let mut absent = Vec::new();
    while let Some(asked) = asked.join_next().await {
        match asked {
            Ok((seed, Ok(Told::Who(whereabouts)))) => present.push((seed, whereabouts)),
            Ok((seed, Ok(_))) => absent.push((seed, AskError::Nonsense)),
            Ok((seed, Err(error))) => absent.push((seed, error)),
            Err(error) => return Err(error.to_string()),
        }
    }
    if cluster.is_initialized() {
        return Ok(());
    }
    if present.iter().any(|(_, whereabouts)| whereabouts.initialized) {
        return rejoin(cluster, &present).await;
    }
    if let Some((seed, error)) = absent.first() {
        return Err(format!("waiting for {} at {}: {error}", seed.name, seed.address));
    }
    for (seed, whereabouts) in &present {
        check(cluster, seed, whereabouts)?;
    }
    if seeds.is_empty() {
        return Err(format!(
            "no list of nodes was given: add this node with CLUSTER JOIN {} {}",
            cluster.0.config.name, cluster.0.config.address
        ));
    }
    let first = seeds.iter().map(|seed| &seed.name).min();
    if first != Some(&cluster.0.config.name) {
        return Err("waiting for the first node of the list to found the cluster".to_owned());
    }
    found(cluster, &present).await
}

/// Whether a node that has no log agrees with this one on whom the cluster is to be founded of.
fn check(cluster: &Cluster, seed: &Seed, whereabouts: &Whereabouts) -> Result<(), String> {
    if whereabouts.name != seed.name {
        return Err(format!("{} is {}, not {}", seed.address, whereabouts.name, seed.name));
    }
    let own: Vec<_> = cluster.0.config.seeds.iter().map(|seed| (&seed.name, &seed.address)).collect();
    let theirs: Vec<_> = whereabouts.seeds.iter().map(|(name, address)| (name, address)).collect();
    if own != theirs {
        return Err(format!(
            "{} was started with another list of nodes ({theirs:?} instead of {own:?})",
            seed.name
        ));
    }
    let own_cluster = cluster.0.log_store.identity().cluster;
    let theirs = ClusterId::from_bytes(whereabouts.cluster);
    if theirs != ClusterId::NONE && theirs != own_cluster {
        return Err(format!("{} belongs to cluster {theirs} already", seed.name));
    }
    Ok(())
}

async fn found(cluster: &Cluster, others: &[(Seed, Whereabouts)]) -> Result<(), String> {
    let mut members = BTreeMap::from([(cluster.id(), cluster.as_member())]);
    for (seed, whereabouts) in others {
        members.insert(whereabouts.node, Member { addr: seed.address.clone(), name: seed.name.clone() });
    }
    if members.len() != others.len() + 1 {
        return Err(
            "two nodes have the same id: one of them has a copy of the other's data directory".to_owned()
        );
    }
    let log_store = cluster.0.log_store.clone();
    let adopted = tokio::task::spawn_blocking(move || {
        let id = ClusterId::draw().map_err(|error| error.to_string())?;
        log_store.adopt(id).map_err(|error| error.to_string())
    });
    let id = adopted.await.map_err(|error| error.to_string())??;
    cluster.0.raft.initialize(members).await.map_err(|error| error.to_string())?;
    tracing::info!(cluster = %id, nodes = others.len() + 1, "cluster founded");
    Ok(())
}

/// Comes back under a new id, if this node was a member that has lost its disk.
async fn rejoin(cluster: &Cluster, present: &[(Seed, Whereabouts)]) -> Result<(), String> {
    let name = &cluster.0.config.name;
    let known = present
        .iter()
        .map(|(_, whereabouts)| whereabouts)
        .filter(|whereabouts| !whereabouts.members.is_empty());
    let own = cluster.id();
    let mut is_listed = false;
    for whereabouts in known {
        if whereabouts.members.iter().any(|listed| listed.node == own) {
            return Err("taken in, waiting for the leader to send the log".to_owned());
        }
        is_listed |= whereabouts.members.iter().any(|listed| listed.member.name == *name);
        let Some(leader) = whereabouts.leader else { continue };
        let Some(leader) = whereabouts.members.iter().find(|listed| listed.node == leader) else { continue };
        if !is_listed {
            continue;
        }
        let question = Ask::Rejoin { node: own, member: cluster.as_member() };
        return match cluster.ask(&peer(leader.node, &leader.member), &question).await {
            Ok(Told::Done) => Ok(()),
            Ok(Told::Not(reason)) => {
                Err(format!("{} does not take this node back: {reason}", leader.member.name))
            }
            Ok(_) => Err(AskError::Nonsense.to_string()),
            Err(error) => Err(format!("{} does not take this node back: {error}", leader.member.name)),
        };
    }
    Err(if is_listed {
        format!("the cluster knows {name} under another id, and has no leader to take it back")
    } else {
        format!(
            "there is a cluster already: add this node with CLUSTER JOIN {name} {}",
            cluster.0.config.address
        )
    })
}

/// Whether `node` is who it is expected to be at `address`.
pub(super) async fn identify(cluster: &Cluster, address: &str) -> Result<Whereabouts, String> {
    let peer = Peer { node: None::<NodeId>, address: address.to_owned() };
    match cluster.ask(&peer, &Ask::Who).await {
        Ok(Told::Who(whereabouts)) => Ok(whereabouts),
        Ok(_) => Err(AskError::Nonsense.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
