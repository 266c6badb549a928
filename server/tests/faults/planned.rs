//! A leader is told to stop. That is no fault, and hardly anybody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vaylix_dataplane::client::{self, ClusterConfig, Config, Credentials, Endpoint};
use vaylix_proto::Reply;
use vaylix_testkit::wire::{DEFAULT_LOGIN, set_command};
use vaylix_testkit::{Cluster, Watch, wait};

use crate::trial::{PATIENCE, rounds, same_everywhere, turn};

/// Most that a planned move may interrupt writes. Unoptimised it is only certain that nobody had to miss the leader first:
/// the shortest election time.
const MOVE_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 100 });

/// Writers, and writes that must be acknowledged to them before and after each move.
const WRITERS: usize = 4;
const WRITES_AROUND: u64 = 100;

/// What writers have come by.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    repeated: AtomicU64,
    failed: AtomicU64,
}

/// Writes until it is told to stop. A write that fails is made once more; one that fails again has failed.
async fn write(config: ClusterConfig, number: usize, tally: Arc<Tally>) {
    let mut cluster = client::Cluster::connect(config).await.unwrap();
    cluster.log_in().await.unwrap().unwrap();
    let mut count = 0_u64;
    while !tally.stop.load(Ordering::Relaxed) {
        count += 1;
        let set = set_command(&format!("planned:{number}:{count}"), "x");
        let mut is_written = matches!(cluster.call(&set).await, Ok(Ok(Reply::Ok)));
        if !is_written {
            tally.repeated.fetch_add(1, Ordering::Relaxed);
            is_written = matches!(cluster.call(&set).await, Ok(Ok(Reply::Ok)));
        }
        let counter = if is_written { &tally.acknowledged } else { &tally.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Tally {
    fn await_more(&self) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + WRITES_AROUND;
        wait::within("more writes are acknowledged", PATIENCE, || {
            (self.acknowledged.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .unwrap();
    }
}

#[test]
fn a_leader_that_is_told_to_stop_moves_its_office_in_no_time() {
    let _turn = turn();
    let mut cluster = Cluster::start(3, &[]).unwrap();
    cluster.await_leader(PATIENCE).unwrap();
    let (user, password) = DEFAULT_LOGIN;
    let connection = Config { credentials: Some(Credentials::new(user, password)), ..Config::default() };
    let seeds = cluster.addresses().iter().copied().map(Endpoint::from).collect();
    let config = ClusterConfig::new(seeds, connection);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tally = Arc::new(Tally::default());
    let writers: Vec<_> =
        (0..WRITERS).map(|number| runtime.spawn(write(config.clone(), number, Arc::clone(&tally)))).collect();
    let watch = Watch::start(cluster.addresses());
    let mut gaps = Vec::new();
    for _ in 0..rounds() {
        tally.await_more();
        let leader = cluster.await_leader(PATIENCE).unwrap();
        let told = Instant::now();
        cluster.ask_to_stop(leader).unwrap();
        cluster.await_other_leader(leader, PATIENCE).unwrap();
        assert!(cluster.await_stopped(leader).unwrap().success());
        tally.await_more();
        gaps.push(watch.longest_gap_since(told));
        cluster.start_node(leader).unwrap();
        cluster.await_caught_up(PATIENCE).unwrap();
    }
    tally.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        runtime.block_on(writer).unwrap();
    }
    let [acknowledged, repeated, failed] =
        [&tally.acknowledged, &tally.repeated, &tally.failed].map(|count| count.load(Ordering::Relaxed));
    println!("planned moves: nobody took writes for {gaps:.0?}");
    println!(
        "  {acknowledged} writes acknowledged, {repeated} of them or of the failed made twice, {failed} failed"
    );
    let leader = cluster.await_leader(PATIENCE).unwrap();
    let (_, lost) = watch.finish(cluster.addresses()[leader]).unwrap();
    assert!(lost.is_empty(), "lost {lost:?}");
    assert_eq!(failed, 0);
    same_everywhere(&cluster);
    assert!(gaps.iter().all(|gap| *gap <= MOVE_MAX), "{gaps:?}");
}
