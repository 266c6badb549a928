//! How a node whose state is wrong comes to the right one, by itself.
//!
//! It asks the leader to be *taught*: the leader sends its state as it is, as it would send a snapshot to a node that is too
//! far behind for the log. The node waits until it has applied the entry with which that state ends, applies to it what its
//! own log has behind that, puts it in the place of its own, and replaces what it has on disk. openraft knows nothing of it,
//! and need not: nothing that the node has promised changes. It keeps its vote; it keeps every entry that it has said is on
//! its disk; what it has applied stays applied, with another result. A crash at any moment leads back to the quarantine,
//! because the check that imposed it is still in the log behind the snapshot.

use std::sync::Arc;
use std::time::Duration;

use openraft::Vote;
use tokio::time::{Instant, sleep, timeout};
use vaylix_engine::sequence::Sequence;
use vaylix_engine::state::Root;

use super::messages::{Ask, Told};
use super::{Cluster, peer, shipment};
use crate::limits::{ASK_TIME_MAX, RELEARN_SILENCE_MAX};

/// The pause before the leader is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often the progress of what was asked for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Ends every quarantine, for ever.
pub(super) async fn run(cluster: Cluster) {
    let mut imposed = cluster.0.machine.quarantine.watch();
    loop {
        if imposed.wait_for(Option::is_some).await.is_err() {
            return;
        }
        if let Err(obstacle) = ask_to_be_taught(&cluster).await {
            tracing::warn!("this node has not learnt its state anew yet: {obstacle}");
        }
        sleep(ASK_AGAIN_AFTER).await;
    }
}

/// Asks the leader for its state, and waits for as long as it comes.
async fn ask_to_be_taught(cluster: &Cluster) -> Result<(), String> {
    let own = cluster.id();
    let leader = cluster.leader().filter(|leader| *leader != own);
    let leader = leader.ok_or("there is no leader to learn it from")?;
    let listed = cluster.members().into_iter().find(|listed| listed.node == leader);
    let listed = listed.ok_or("the leader is not a member")?;
    match cluster.ask(&peer(leader, &listed.member), &Ask::Teach { node: own }).await {
        Ok(Told::Done) => {}
        Ok(Told::Not(reason)) => return Err(reason),
        Ok(_) => return Err("the leader answered something else".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    let asked = Instant::now();
    let mut imposed = cluster.0.machine.quarantine.watch();
    loop {
        if let Ok(lifted) = timeout(LOOK_EVERY, imposed.wait_for(Option::is_none)).await {
            return lifted.map(drop).map_err(|_gone| "the node is stopping".to_owned());
        }
        if cluster.0.incoming.silence().min(asked.elapsed()) > RELEARN_SILENCE_MAX {
            return Err("what the leader sends has stopped coming".to_owned());
        }
    }
}

/// Sends the state of this node, which leads, to a member that asks for it. Returns when that has begun.
pub(super) fn teach(cluster: &Cluster, node: u64) -> Result<(), String> {
    let inner = &*cluster.0;
    let Some(office) = inner.gate.office() else { return Err("this node does not lead".to_owned()) };
    let listed = cluster.members().into_iter().find(|listed| listed.node == node);
    let listed = listed.ok_or("the one who asks is not a member")?;
    let turn = Arc::clone(&inner.teaching).try_lock_owned();
    let turn = turn.map_err(|_taken| "the leader is teaching another node".to_owned())?;
    let snapshot = inner.machine.view().ok_or("the leader has nothing to teach yet")?.into_snapshot();
    let (transport, peer) = (Arc::clone(&inner.transport), peer(node, &listed.member));
    let vote = Vote::new_committed(office.term, office.node);
    tracing::warn!(name = %listed.member.name, "a member learns its state anew: sending it");
    tokio::spawn(async move {
        let _turn = turn;
        if let Err(error) = shipment::teach(&transport, &peer, vote, snapshot).await {
            tracing::warn!(to = %peer.address, %error, "the state did not arrive");
        }
    });
    Ok(())
}

/// Takes in the state that the leader has sent.
pub(super) async fn take_in(cluster: &Cluster, root: Root) -> Result<(), String> {
    let inner = &*cluster.0;
    let last = root.applied().map_or(0, Sequence::get);
    let mut metrics = inner.raft.metrics();
    // What it has in its log goes on being applied, for nobody to see.
    let applied = metrics.wait_for(|_| inner.machine.applied_record_index() >= last);
    match timeout(ASK_TIME_MAX, applied).await {
        Ok(Ok(_)) => {}
        Ok(Err(_gone)) => return Err("the node is stopping".to_owned()),
        Err(_elapsed) => return Err(format!("entry {last} is not applied here yet")),
    }
    let (machine, log_store) = (inner.machine.clone(), inner.log_store.clone());
    tracing::info!(index = last, "putting the state of the leader in the place of this node's own");
    let learnt =
        tokio::task::spawn_blocking(move || machine.relearn(root, |from, to| log_store.entries(from, to)));
    match learnt.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
