//! Several scripted servers, one client.

use std::future::Future;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use vaylix_proto::SetOptions;
use vaylix_proto::hello::Capabilities;

use super::*;
use crate::client::scripted::{ERROR, HELLO_NONE, OK, Peer, error, value};

/// More than any test needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A scripted server that serves any number of connections, one after the other.
struct Fake {
    address: SocketAddr,
    listener: TcpListener,
}

impl Fake {
    async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    /// The next client, after the hellos.
    async fn next(&self) -> Peer {
        let mut peer = Peer::new(self.listener.accept().await.unwrap().0);
        peer.body().await;
        peer.hex(HELLO_NONE).await;
        peer
    }

    /// Answers every request of every client with `answer` until the test ends; says how many there were.
    fn answering(self, mut answer: impl FnMut(&Command) -> (u8, Vec<u8>) + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let mut peer = self.next().await;
                while let Some((id, command)) = peer.request_or_end().await {
                    let (status, payload) = answer(&command);
                    peer.respond(id, status, &payload).await;
                }
            }
        })
    }
}

fn follower(leader: Option<SocketAddr>) -> (u8, Vec<u8>) {
    let hint = leader.map_or_else(String::new, |address| format!("; leader=n2 address={address}"));
    let message = format!("writes are rejected on follower nodes{hint}");
    (ERROR, error("SRV-037", "Follower Write Rejected", &message))
}

fn set() -> Command {
    Command::Set { key: "k".into(), value: "v".into(), options: SetOptions::default() }
}

fn get() -> Command {
    Command::Get { key: "k".into() }
}

fn config(seeds: &[SocketAddr]) -> ClusterConfig {
    let seeds = seeds.iter().copied().map(Endpoint::from).collect();
    ClusterConfig { deadline: PATIENCE, ..ClusterConfig::new(seeds, Config::default()) }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nobody waits for ever")
}

#[tokio::test]
async fn a_write_follows_the_way_to_the_leader() {
    let (follower_at, leader) = (Fake::bind().await, Fake::bind().await);
    // The leader is no seed.
    let seeds = [follower_at.address, follower_at.address];
    let leader_address = leader.address;
    follower_at.answering(move |_| follower(Some(leader_address)));
    leader.answering(|command| {
        assert_eq!(command, &set());
        (OK, vec![])
    });
    let mut cluster = within(Cluster::connect(config(&seeds))).await.unwrap();
    assert_eq!(within(cluster.call(&set())).await.unwrap(), Ok(Reply::Ok));
    assert_eq!(cluster.at(), &Endpoint::from(leader_address));
    assert_eq!(within(cluster.call(&set())).await.unwrap(), Ok(Reply::Ok), "and it stays there");
}

#[tokio::test]
async fn without_a_hint_the_other_seeds_are_tried() {
    let fakes = [Fake::bind().await, Fake::bind().await, Fake::bind().await];
    let seeds = fakes.each_ref().map(|fake| fake.address);
    let [first, second, third] = fakes;
    first.answering(|_| follower(None));
    second.answering(|_| follower(None));
    third.answering(|_| (OK, vec![]));
    let mut cluster = within(Cluster::connect(config(&seeds))).await.unwrap();
    assert_eq!(within(cluster.call(&set())).await.unwrap(), Ok(Reply::Ok));
    assert_eq!(cluster.at(), &Endpoint::from(seeds[2]));
}

#[tokio::test]
async fn a_hint_that_leads_nowhere_is_not_the_end() {
    let gone = Fake::bind().await.address;
    let (confused, leader) = (Fake::bind().await, Fake::bind().await);
    let seeds = [confused.address, leader.address];
    confused.answering(move |_| follower(Some(gone)));
    leader.answering(|_| (OK, vec![]));
    let mut cluster = within(Cluster::connect(config(&seeds))).await.unwrap();
    assert_eq!(within(cluster.call(&set())).await.unwrap(), Ok(Reply::Ok));
}

#[tokio::test]
async fn nodes_that_point_at_each_other_end_at_the_deadline() {
    let (one, other) = (Fake::bind().await, Fake::bind().await);
    let addresses = [one.address, other.address];
    one.answering(move |_| follower(Some(addresses[1])));
    other.answering(move |_| follower(Some(addresses[0])));
    let settings = ClusterConfig { deadline: Duration::from_millis(300), ..config(&addresses) };
    let mut cluster = within(Cluster::connect(settings)).await.unwrap();
    let refusal = within(cluster.call(&set())).await.unwrap().unwrap_err();
    assert_eq!(refusal.known_code(), Some(Code::FollowerWriteRejected));
}

#[tokio::test]
async fn commands_about_a_node_stay_there() {
    let (one, other) = (Fake::bind().await, Fake::bind().await);
    let addresses = [one.address, other.address];
    one.answering(move |_| follower(Some(addresses[1])));
    other.answering(|command| panic!("{command:?} was sent to another node"));
    let mut cluster = within(Cluster::connect(config(&addresses))).await.unwrap();
    for command in [Command::PromoteFollower, Command::PauseReplication, Command::Save] {
        let refusal = within(cluster.call(&command)).await.unwrap().unwrap_err();
        assert_eq!(refusal.known_code(), Some(Code::FollowerWriteRejected));
    }
}

/// The first server takes one request and hangs up; the second answers whatever comes.
async fn cut_off(command: &Command) -> (Result<Answer, CallError>, Cluster) {
    let (dying, other) = (Fake::bind().await, Fake::bind().await);
    let seeds = [dying.address, other.address];
    other.answering(|command| match command {
        Command::Get { .. } => (OK, value(b"v")),
        _ => (OK, vec![]),
    });
    let cut = tokio::spawn(async move {
        dying.next().await.request().await;
    });
    let mut cluster = within(Cluster::connect(config(&seeds))).await.unwrap();
    let answer = within(cluster.call(command)).await;
    cut.await.unwrap();
    (answer, cluster)
}

#[tokio::test]
async fn a_read_that_got_no_answer_is_repeated_elsewhere() {
    let (answer, cluster) = cut_off(&get()).await;
    assert_eq!(answer.unwrap(), Ok(Reply::Value("v".into())));
    assert!(cluster.is_usable());
}

#[tokio::test]
async fn a_write_that_got_no_answer_is_not_repeated() {
    let (answer, mut cluster) = cut_off(&set()).await;
    assert!(matches!(answer, Err(CallError::Unanswered(_))), "{answer:?}");
    // The next call finds another server by itself.
    assert_eq!(within(cluster.call(&set())).await.unwrap(), Ok(Reply::Ok));
}

#[tokio::test]
async fn a_connection_that_ended_while_idle_costs_nothing() {
    let (stopping, other) = (Fake::bind().await, Fake::bind().await);
    let seeds = [stopping.address, other.address];
    other.answering(|_| (OK, vec![]));
    let (mut cluster, peer) = tokio::join!(within(Cluster::connect(config(&seeds))), stopping.next());
    drop(peer);
    let cluster = cluster.as_mut().unwrap();
    assert_eq!(within(cluster.call(&set())).await.unwrap(), Ok(Reply::Ok));
}

#[tokio::test]
async fn a_read_does_not_wait_for_a_silent_server() {
    let (silent, other) = (Fake::bind().await, Fake::bind().await);
    let settings = ClusterConfig {
        attempt_timeout: Duration::from_millis(50),
        ..config(&[silent.address, other.address])
    };
    other.answering(|_| (OK, value(b"v")));
    let quiet = tokio::spawn(async move {
        let mut peer = silent.next().await;
        peer.request().await;
        peer.gone().await;
    });
    let mut cluster = within(Cluster::connect(settings)).await.unwrap();
    assert_eq!(within(cluster.call(&get())).await.unwrap(), Ok(Reply::Value("v".into())));
    quiet.await.unwrap();
}

#[tokio::test]
async fn a_write_to_a_silent_server_ends_at_the_deadline_as_unknown() {
    let silent = Fake::bind().await;
    let settings =
        ClusterConfig { deadline: Duration::from_millis(100), ..config(&[silent.address, silent.address]) };
    let quiet = tokio::spawn(async move {
        let mut peer = silent.next().await;
        peer.request().await;
        peer.gone().await;
    });
    let mut cluster = within(Cluster::connect(settings)).await.unwrap();
    let answer = within(cluster.call(&set())).await;
    assert!(
        matches!(&answer, Err(CallError::Unanswered(Error::Io(e))) if e.kind() == io::ErrorKind::TimedOut),
        "{answer:?}"
    );
    quiet.await.unwrap();
}

#[tokio::test]
async fn a_new_connection_is_logged_in_as_the_one_before() {
    let (dying, other) = (Fake::bind().await, Fake::bind().await);
    let seeds = [dying.address, other.address];
    let first = tokio::spawn(async move {
        let mut peer = dying.next().await;
        for _ in 0..2 {
            let (id, _) = peer.request().await;
            peer.respond(id, OK, &[]).await;
        }
        peer.request().await;
    });
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    other.answering(move |command| {
        told.send(command.clone()).unwrap();
        if matches!(command, Command::Auth { .. }) { (OK, vec![]) } else { (OK, value(b"v")) }
    });
    let mut settings = config(&seeds);
    settings.connection.credentials = Some(Credentials::new("alice", "first"));
    let mut cluster = within(Cluster::connect(settings)).await.unwrap();
    within(cluster.log_in()).await.unwrap().unwrap();
    let bob = Command::Auth { user: "bob".into(), password: "second".into() };
    within(cluster.call(&bob)).await.unwrap().unwrap();
    within(cluster.call(&get())).await.unwrap().unwrap();
    first.await.unwrap();
    assert_eq!(heard.recv().await, Some(bob));
    assert_eq!(heard.recv().await, Some(get()));
}

#[tokio::test]
async fn a_transaction_does_not_move() {
    let (dying, other) = (Fake::bind().await, Fake::bind().await);
    let seeds = [dying.address, other.address];
    other.answering(|command| panic!("{command:?} was sent to another node"));
    let first = tokio::spawn(async move {
        let mut peer = dying.next().await;
        let (id, _) = peer.request().await;
        peer.respond(id, OK, &[]).await;
        let (id, _) = peer.request().await;
        let (status, payload) = follower(None);
        peer.respond(id, status, &payload).await;
        peer.request().await;
    });
    let mut cluster = within(Cluster::connect(config(&seeds))).await.unwrap();
    within(cluster.call(&Command::Multi)).await.unwrap().unwrap();
    let refusal = within(cluster.call(&set())).await.unwrap().unwrap_err();
    assert_eq!(refusal.known_code(), Some(Code::FollowerWriteRejected));
    // Even a read: in a transaction its answer would have been QUEUED.
    assert!(matches!(within(cluster.call(&get())).await, Err(CallError::Unanswered(_))));
    first.await.unwrap();
}

#[tokio::test]
async fn one_seed_is_one_server() {
    let only = Fake::bind().await;
    let settings = config(&[only.address]);
    let elsewhere = Fake::bind().await.address;
    let script = tokio::spawn(async move {
        let mut peer = only.next().await;
        let (id, _) = peer.request().await;
        let (status, payload) = follower(Some(elsewhere));
        peer.respond(id, status, &payload).await;
        peer.request().await;
    });
    let mut cluster = within(Cluster::connect(settings)).await.unwrap();
    let refusal = within(cluster.call(&set())).await.unwrap().unwrap_err();
    assert_eq!(refusal.known_code(), Some(Code::FollowerWriteRejected), "not followed");
    assert!(matches!(within(cluster.call(&get())).await, Err(CallError::Unanswered(_))), "not repeated");
    assert!(matches!(within(cluster.call(&get())).await, Err(CallError::NotSent(_))), "not reconnected");
    script.await.unwrap();
}

#[tokio::test]
async fn seeds_that_are_down_are_passed_over_until_the_deadline() {
    let down = Fake::bind().await.address;
    let up = Fake::bind().await;
    let seeds = [down, up.address];
    up.answering(|_| (OK, vec![]));
    let mut cluster = within(Cluster::connect(config(&seeds))).await.unwrap();
    assert_eq!(within(cluster.call(&set())).await.unwrap(), Ok(Reply::Ok));

    let settings = ClusterConfig { deadline: Duration::from_millis(100), ..config(&[down, down]) };
    let refused = within(Cluster::connect(settings)).await.unwrap_err();
    assert!(matches!(refused, Error::Connect { .. }), "{refused:?}");
    let none = Cluster::connect(config(&[])).await.unwrap_err();
    assert_eq!(none.code(), Code::InvalidClientConfiguration);
}

#[tokio::test]
async fn linearizable_reads_are_promised_or_the_server_is_refused() {
    let fake = Fake::bind().await;
    let mut settings = config(&[fake.address, fake.address]);
    settings.connection.linearizable_reads = true;
    let script = tokio::spawn(async move {
        let mut peer = Peer::new(fake.listener.accept().await.unwrap().0);
        let offer = vaylix_proto::hello::ClientHello::decode(&peer.body().await).unwrap();
        peer.hex(HELLO_NONE).await;
        offer.supported_capabilities
    });
    let refused = within(Cluster::connect(settings)).await.unwrap_err();
    assert_eq!(refused.code(), Code::TransportCapabilityMismatch, "{refused}");
    assert!(refused.to_string().contains("linearizable reads"), "{refused}");
    let offered = script.await.unwrap();
    assert!(offered.contains(Capabilities::LINEARIZABLE_FOLLOWER_READS.union(Capabilities::ALL)));
}

#[test]
fn calls_can_move_between_threads() {
    fn send<T: Send>(_: fn(&'static mut Cluster, &'static Command) -> T) {}
    send(|cluster, command| cluster.call(command));
}
