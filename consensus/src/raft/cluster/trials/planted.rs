//! Promises, kept and broken. What acknowledging a write before it is on disk leads to is shown where disks are: in the
//! engine's own tests.

use std::time::Duration;

use openraft::Vote;
use openraft::raft::{VoteRequest, VoteResponse};
use tokio::time::{Instant, timeout};
use vaylix_checker::{History, Input, Operation, Outcome, Output, Report};
use vaylix_proto::{Command, Expiration, Reply, SetOptions};

use super::super::messages::{Ballot, decode, encode};
use super::trio::{CALM, HASTY, PATIENCE, PLACID, Trio, until};
use crate::planted::Bug;
use crate::raft::codec;
use crate::transport::PeerCall;

/// How long a leader that must not answer is given to do so.
const SILENCE: Duration = Duration::from_secs(1);

/// How far a clock goes wrong.
const AHEAD_MS: u64 = 60 * 60 * 1000;

/// What a client saw of the key `k`, one operation after the other.
struct Client {
    epoch: Instant,
    history: History,
}

impl Client {
    fn new() -> Self {
        Self { epoch: Instant::now(), history: History::new() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap()
    }

    fn saw(&mut self, invoked: u64, input: Input, output: Output) {
        let outcome = Outcome::Acknowledged { returned: self.now(), output };
        self.history.record("k", Operation { client: 0, invoked, input, outcome });
    }

    async fn write(&mut self, trio: &Trio, at: usize, value: i64, expiration: Option<Expiration>) {
        let invoked = self.now();
        let options = SetOptions { expiration, ..SetOptions::default() };
        let set = Command::Set { key: "k".into(), value: value.to_string().into(), options };
        assert_eq!(trio.propose(at, set).await, Ok(Reply::Ok));
        self.saw(invoked, Input::Write(value), Output::Done);
    }

    async fn add_one(&mut self, trio: &Trio, at: usize) {
        let invoked = self.now();
        let Ok(Reply::Integer(sum)) = trio.propose(at, Command::Incr { key: "k".into() }).await else {
            panic!("no sum")
        };
        self.saw(invoked, Input::Add(1), Output::Integer(sum));
    }

    /// Reads, if there is an answer within this time.
    async fn read(&mut self, trio: &Trio, at: usize, within: Duration) {
        let invoked = self.now();
        let Ok(Ok(view)) = timeout(within, trio.node(at).read()).await else { return };
        let value = view.reader.get("k", view.now_ms);
        let value = value.map(|value| std::str::from_utf8(&value).unwrap().parse().unwrap());
        self.saw(invoked, Input::Read, Output::Value(value));
    }

    fn judged(&self) -> Report {
        vaylix_checker::check(&self.history, PATIENCE)
    }
}

/// Whether a voter that has promised itself to one candidate, and crashed since, gives its vote to a candidate of an
/// earlier term.
async fn breaks_its_promise(bug: Option<Bug>) -> bool {
    let mut trio = Trio::start([CALM; 3]).await;
    let leader = trio.leader().await;
    let (voter, candidate) = ((leader + 1) % 3, (leader + 2) % 3);
    trio.await_applied(leader).await;
    // Whom it hears of decides, and nobody else.
    trio.cut_off(voter);
    if let Some(bug) = bug {
        trio.node(voter).plant(bug);
    }
    let status = trio.node(leader).status();
    let last_log_id = Some(codec::log_id(&vaylix_engine::wal::RecordId {
        term: status.term + 100,
        leader: status.identity.node.get(),
        index: status.last_index + 100,
    }));
    let later = Vote::new(status.term + 10, trio.node(candidate).identity().node.get());
    let earlier = Vote::new(status.term + 9, trio.node(leader).identity().node.get());

    let begun = Instant::now();
    // While it still counts on the leader that it heard a moment ago it refuses.
    while !asked(&trio, voter, candidate, VoteRequest::new(later, last_log_id)).await {
        assert!(begun.elapsed() < PATIENCE, "it never gives its vote");
        tokio::task::yield_now().await;
    }
    trio.restart(voter).await;
    // Again it may count on the leader that it knew for as long as an election takes at most.
    let begun = Instant::now();
    let gave = || asked(&trio, voter, leader, VoteRequest::new(earlier, last_log_id));
    while begun.elapsed() < 2 * CALM.election_max {
        if gave().await {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// Whether the voter gives its vote.
async fn asked(trio: &Trio, voter: usize, candidate: usize, request: VoteRequest<u64>) -> bool {
    type Answer = Result<VoteResponse<u64>, openraft::error::RaftError<u64>>;
    let (voter, caller) = (trio.desk(voter), trio.desk(candidate).card());
    let answer = voter.answer(&caller, PeerCall::Vote, encode(&Ballot::Vote(request))).await.unwrap();
    decode::<Answer>(&answer).unwrap().unwrap().vote_granted
}

#[tokio::test]
async fn a_vote_outlives_a_crash() {
    assert!(!breaks_its_promise(None).await);
}

#[tokio::test]
async fn a_vote_that_is_not_stored_is_noticed() {
    assert!(breaks_its_promise(Some(Bug::VoteNotStored)).await);
}

/// What a client sees that reads from a leader which has been replaced and does not know.
async fn reads_from_a_replaced_leader(bug: Option<Bug>) -> Report {
    let trio = Trio::start([PLACID, HASTY, HASTY]).await;
    // The others are hastier.
    if trio.leader().await != 0 {
        until("the first node has what the others have", || trio.node(0).is_informed().then_some(())).await;
        trio.node(0).take_over().await.unwrap();
    }
    if let Some(bug) = bug {
        trio.node(0).plant(bug);
    }
    let mut client = Client::new();
    client.write(&trio, 0, 1, None).await;
    trio.await_applied(0).await;
    trio.cut_off(0);
    let next = trio.leader_among(&[1, 2]).await;
    client.write(&trio, next, 2, None).await;
    assert!(trio.node(0).leads(), "it must not know, or this shows nothing");
    client.read(&trio, 0, SILENCE).await;
    trio.heal();
    client.read(&trio, next, PATIENCE).await;
    client.judged()
}

#[tokio::test]
async fn a_replaced_leader_does_not_answer_from_the_past() {
    let report = reads_from_a_replaced_leader(None).await;
    assert!(report.is_linearizable(), "{report}");
    assert_eq!(report.outcomes.0, 3, "it says nothing: {report}");
}

#[tokio::test]
async fn reads_that_nobody_confirmed_are_noticed() {
    let report = reads_from_a_replaced_leader(Some(Bug::ReadsUnconfirmed)).await;
    assert!(!report.violations.is_empty(), "{report}");
}

/// What a client sees that counts, and then reads from another node, which leads by then.
async fn counts_on_another_node(bug: Option<Bug>) -> Report {
    let trio = Trio::start([CALM; 3]).await;
    let leader = trio.leader().await;
    let other = (leader + 1) % 3;
    let mut client = Client::new();
    client.write(&trio, leader, 10, Some(Expiration::Millis(AHEAD_MS / 2))).await;
    trio.await_applied(leader).await;
    // Its clock jumps.
    if let Some(bug) = bug {
        trio.node(other).plant(bug);
    }
    client.add_one(&trio, leader).await;
    trio.await_applied(leader).await;
    trio.node(other).take_over().await.unwrap();
    client.read(&trio, other, PATIENCE).await;
    client.judged()
}

#[tokio::test]
async fn what_expires_does_so_by_the_time_in_the_log() {
    let report = counts_on_another_node(None).await;
    assert!(report.is_linearizable() && report.outcomes.0 == 3, "{report}");
}

#[tokio::test]
async fn expiry_by_a_nodes_own_clock_is_noticed() {
    let report = counts_on_another_node(Some(Bug::ExpiryByOwnClock { ahead_ms: AHEAD_MS })).await;
    assert!(!report.violations.is_empty(), "{report}");
}
