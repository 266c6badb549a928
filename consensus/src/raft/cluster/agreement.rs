//! Whether the nodes have the same state, found out through the log.
//!
//! Every so many entries the leader puts a *mark* in the log. Whoever applies it notes the digest of its state there. The
//! leader asks the voters for what they noted, and when a majority noted the same it puts that in the log as a *check*.
//! Whoever applies that and noted something else is wrong, be it the leader itself, and be it much later, when a node that
//! was down comes to that place of the log: see [`Quarantine`](super::super::quarantine::Quarantine).
//!
//! A majority has to agree before anybody is accused, so at most a minority can be, and a leader whose own state is the wrong
//! one accuses itself. Without a majority of one opinion nobody is accused, and the log says so.

use std::collections::BTreeMap;
use std::time::Duration;
use tracing::Span;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use vaylix_engine::sequence::Sequence;
use vaylix_engine::state::{Mark, StateDigest};

use super::messages::{Ask, Told};
use super::{Cluster, Listed, peer};
use crate::error::ProposeError;
use crate::limits::{AGREEMENT_ANSWER_TIME_MAX, AGREEMENT_TIME_MAX};
use crate::proposal::Change;
use crate::queue::NODE_ITSELF;
use crate::transport::PeerCall;

/// How often the leader looks whether a comparison is due.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The pause before a node is asked again that has not come to the mark yet.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Compares the nodes whenever it is due while this node leads, for ever.
pub(super) async fn run(cluster: Cluster) {
    let inner = &*cluster.0;
    let mut office = inner.gate.watch_office();
    // Where the last comparison ended.
    let mut compared = 0;
    let mut at = Instant::now();
    loop {
        if office.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let marked = inner.machine.quarantine.mark().map_or(0, |mark| mark.at.get());
        let behind = inner.machine.applied_record_index().saturating_sub(compared.max(marked));
        let is_due = behind >= inner.config.agreement_entries
            || behind > 0 && compared > 0 && at.elapsed() >= AGREEMENT_TIME_MAX
            || behind > 0 && compared == 0;
        if is_due && voters(&cluster).len() > 1 {
            match compare(&cluster).await {
                Ok(()) => {}
                Err(ProposeError::Closed) => return,
                Err(error) => tracing::debug!(%error, "the states of the nodes were not compared"),
            }
            compared = inner.machine.applied_record_index();
            at = Instant::now();
        }
        sleep(LOOK_EVERY).await;
    }
}

/// One comparison.
async fn compare(cluster: &Cluster) -> Result<(), ProposeError> {
    let inner = &*cluster.0;
    inner.queue.enqueue(&Span::none(), NODE_ITSELF, None, Change::Mark).await.await?;
    let Some(mark) = inner.machine.quarantine.mark() else { return Ok(()) };
    match opinion_of_majority(cluster, mark).await {
        Some(agreed) => {
            inner.queue.enqueue(&Span::none(), NODE_ITSELF, None, Change::Check(agreed)).await.await.map(drop)
        }
        None => Ok(()),
    }
}

fn voters(cluster: &Cluster) -> Vec<Listed> {
    cluster.members().into_iter().filter(|listed| listed.voter).collect()
}

/// What a majority of the voters noted at the entry of `own`, as soon as that is known.
async fn opinion_of_majority(cluster: &Cluster, own: Mark) -> Option<Mark> {
    let voters = voters(cluster);
    let majority = voters.len() / 2 + 1;
    let mut asked = JoinSet::new();
    for listed in voters.iter().filter(|listed| listed.node != cluster.id()) {
        asked.spawn(ask(cluster.clone(), listed.clone(), own.at));
    }
    let mut opinions = Opinions::default();
    opinions.add(own.digest);
    loop {
        if let Some(digest) = opinions.held_by(majority) {
            return Some(Mark { at: own.at, digest });
        }
        match asked.join_next().await {
            Some(Ok(Some(digest))) => opinions.add(digest),
            Some(_) => {}
            None => break,
        }
    }
    if opinions.0.len() > 1 {
        cluster.0.machine.quarantine.undecided();
        tracing::error!(
            marked_index = own.at.get(),
            opinions = opinions.0.len(),
            voters = voters.len(),
            "the states of the nodes differ, and no majority has the same: it cannot be told which is right"
        );
    }
    None
}

/// What a voter noted at an entry; `None` when it does not say so in time, or cannot.
async fn ask(cluster: Cluster, listed: Listed, at: Sequence) -> Option<StateDigest> {
    let deadline = Instant::now() + AGREEMENT_ANSWER_TIME_MAX;
    let peer = peer(listed.node, &listed.member);
    loop {
        let question = Ask::Mark;
        let told =
            cluster.call::<Told>(&peer, PeerCall::Ask, &question, AGREEMENT_ANSWER_TIME_MAX).await.ok();
        match told {
            Some(Told::Mark { at: noted, digest }) if noted == at.get() => {
                return StateDigest::from_bytes(&digest);
            }
            Some(Told::Mark { at: noted, .. }) if noted > at.get() => return None,
            _ if Instant::now() >= deadline => return None,
            _ => sleep(ASK_AGAIN_AFTER).await,
        }
    }
}

/// How many hold which.
#[derive(Default)]
struct Opinions(BTreeMap<StateDigest, usize>);

impl Opinions {
    fn add(&mut self, digest: StateDigest) {
        *self.0.entry(digest).or_default() += 1;
    }

    fn held_by(&self, majority: usize) -> Option<StateDigest> {
        self.0.iter().find(|(_, count)| **count >= majority).map(|(digest, _)| *digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> StateDigest {
        StateDigest::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn nobody_is_right_without_a_majority() {
        let mut opinions = Opinions::default();
        assert_eq!(opinions.held_by(2), None);
        opinions.add(digest(1));
        opinions.add(digest(2));
        assert_eq!(opinions.held_by(2), None, "one against one of three");
        opinions.add(digest(2));
        assert_eq!(opinions.held_by(2), Some(digest(2)), "also against the one that asks");
        assert_eq!(opinions.held_by(3), None);
    }
}
