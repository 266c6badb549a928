//! Many faults in one run, and what they cost.

use std::time::{Duration, Instant};

use crate::trial::{PATIENCE, Trial, percentile, setting};

/// What operators are told to expect, judged only where many faults make it a figure and the build is a release.
const P50_MAX: Duration = Duration::from_secs(1);
const P99_MAX: Duration = Duration::from_secs(2);

/// So many faults are a sample.
const SAMPLE_MIN: usize = 20;

/// Kills and freezes leader after leader.
#[test]
#[ignore = "long: tests/slow runs it"]
fn many_leaders_are_killed_and_frozen() {
    let kills = setting("VAYLIX_FAULT_KILLS", 2);
    let pauses = setting("VAYLIX_FAULT_PAUSES", 1);
    let mut trial = Trial::start("many leaders killed and frozen", 3);
    let begun = Instant::now();
    for fault in 0..kills + pauses {
        let leader = trial.leader();
        // Evenly spread over the run.
        let is_pause = fault * pauses / (kills + pauses) != (fault + 1) * pauses / (kills + pauses);
        if is_pause {
            trial.interrupt(|cluster| cluster.freeze(leader).unwrap());
            trial.cluster.thaw(leader).unwrap();
        } else {
            trial.interrupt(|cluster| cluster.kill(leader).unwrap());
            trial.cluster.start_node(leader).unwrap();
        }
        trial.cluster.await_caught_up(PATIENCE).unwrap();
    }
    println!("{kills} leaders killed, {pauses} frozen, in {:.0?}", begun.elapsed());
    let mut interruptions = trial.interruptions.clone();
    trial.judge();
    interruptions.sort_unstable();
    if interruptions.len() >= SAMPLE_MIN && !cfg!(debug_assertions) {
        let (p50, p99) = (percentile(&interruptions, 50).unwrap(), percentile(&interruptions, 99).unwrap());
        assert!(p50 <= P50_MAX && p99 <= P99_MAX, "p50 {p50:?}, p99 {p99:?}: {interruptions:?}");
    }
}
