//! Keeps connections to the other voters open, also while this node follows.
//!
//! To open one takes several round trips: the connection itself, TLS, the hellos, the proofs. A candidate that begins
//! with that is elected so much later, and its first entry is committed so much later again.

use tokio::time::{MissedTickBehavior, interval};

use super::{Cluster, peer};
use crate::transport::Peer;

/// Opens what is missing, for ever.
pub(super) async fn run(cluster: Cluster) {
    let inner = &*cluster.0;
    let mut ticks = interval(inner.timing.election_min);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let peers: Vec<Peer> = {
            let metrics = inner.raft.server_metrics();
            let metrics = metrics.borrow();
            let membership = metrics.membership_config.membership();
            let own = cluster.id();
            let voters: Vec<u64> = membership.voter_ids().collect();
            // Who has no vote needs no connection of its own: the leader comes to it.
            if !voters.contains(&own) {
                continue;
            }
            let others = membership.nodes().filter(|(node, _)| **node != own && voters.contains(node));
            others.map(|(node, member)| peer(*node, member)).collect()
        };
        // A peer that does not answer keeps nobody waiting but itself.
        let mut opening = tokio::task::JoinSet::new();
        for peer in peers {
            let cluster = cluster.clone();
            opening.spawn(async move { cluster.0.transport.prepare(&peer).await });
        }
        opening.join_all().await;
    }
}
