//! Whatever is interrupted, wherever it is: the next start finds the log before or after it, and goes on.

use proptest::prelude::*;

use super::*;
use crate::crash::Crashes;

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    origin: Option<RecordId>,
    records: Vec<Record>,
}

impl Model {
    fn last(&self) -> Option<RecordId> {
        self.records.last().map(|record| record.id).or(self.origin)
    }

    fn of(log: &Open) -> Self {
        Self { origin: log.wal.purged(), records: log.all() }
    }

    fn append(&mut self, term: u64, count: u64, body_len: usize) -> Vec<Record> {
        let first = self.last().map_or(1, |last| last.index + 1);
        let added: Vec<_> = (first..first + count).map(|index| record_of(term, index, body_len)).collect();
        self.records.extend(added.iter().cloned());
        added
    }

    fn truncate(&mut self, index: u64) {
        self.records.retain(|record| record.id.index < index);
    }

    fn purge(&mut self, up_to: RecordId) {
        self.records.retain(|record| record.id.index > up_to.index);
        if self.origin.is_none_or(|origin| origin.index < up_to.index) {
            self.origin = Some(up_to);
        }
    }
}

/// What is done to a log; places are fractions of what is there.
#[derive(Clone, Debug)]
enum Step {
    Append {
        count: u64,
        body_len: usize,
    },
    Truncate(u64),
    Purge(u64),
    PurgeBeyond(u64),
    /// A new storage key, and a new segment under it.
    Renew,
    Reopen,
}

/// Does something to an open log; may drop it and open it again.
type Act = Box<dyn FnOnce(Open, &dyn Fn() -> Open) -> Open>;

/// Performs the step on the model and returns how to perform it on a log.
fn perform(step: &Step, term: u64, model: &mut Model) -> Act {
    let place = |fraction: u64| match (model.records.first(), model.records.last()) {
        (Some(first), Some(last)) => Some(first.id.index + (last.id.index - first.id.index) * fraction / 100),
        _ => None,
    };
    match *step {
        Step::Append { count, body_len } => {
            let added = model.append(term, count, body_len);
            Box::new(move |log, _| {
                log.append(added);
                log
            })
        }
        Step::Truncate(fraction) => {
            let index = place(fraction);
            index.inspect(|index| model.truncate(*index));
            Box::new(move |log, _| {
                index.inspect(|index| log.wal.truncate_from(*index).unwrap());
                log
            })
        }
        Step::Purge(fraction) => {
            let up_to = place(fraction);
            let up_to = up_to.and_then(|index| model.records.iter().find(|record| record.id.index == index));
            let up_to = up_to.map(|record| record.id);
            up_to.inspect(|up_to| model.purge(*up_to));
            Box::new(move |log, _| {
                up_to.inspect(|up_to| log.wal.purge_to(*up_to).unwrap());
                log
            })
        }
        Step::PurgeBeyond(by) => {
            let up_to = id(term, model.last().map_or(0, |last| last.index) + by);
            model.purge(up_to);
            Box::new(move |log, _| {
                log.wal.purge_to(up_to).unwrap();
                log
            })
        }
        Step::Renew => Box::new(|log, _| {
            let key = log.keyring.rotate(&log.dir, 2).unwrap();
            log.wal.renew().unwrap();
            assert_eq!(key_ids(log.dir.root()).last(), Some(&key.id()), "active-… comes last");
            log
        }),
        Step::Reopen => Box::new(|log, reopen| {
            drop(log);
            reopen()
        }),
    }
}

/// Performs the steps while watching every change of the file system; then starts from every image and compares.
fn check(bench: &Bench, steps: &[Step]) -> usize {
    // The keyring is there already: what matters here is the log.
    drop(Keyring::open_or_create(&DataDir::open_or_create(bench.path()).unwrap(), 1).unwrap());
    let crashes = Crashes::<Vec<Model>>::watch(bench.path());
    crashes.note(vec![Model::default()]);
    let reopen = || {
        let dir = DataDir::with_probe(bench.path(), Arc::clone(&crashes) as _).unwrap();
        open(dir, &bench.config).unwrap()
    };
    let mut model = Model::default();
    let mut log = reopen();
    for (step, term) in steps.iter().zip(1..) {
        let before = model.clone();
        let act = perform(step, term, &mut model);
        crashes.note(vec![before, model.clone()]);
        log = act(log, &reopen);
        assert_eq!(Model::of(&log), model, "after {step:?}");
        crashes.note(vec![model.clone()]);
    }
    drop(log);
    let images = crashes.taken();
    for image in &images {
        let root = image.restore();
        let restart = || {
            let dir = DataDir::open_or_create(root.path()).unwrap();
            let config = Config { prezero: false, ..bench.config.clone() };
            open(dir, &config).unwrap_or_else(|error| panic!("{}: {error}\n{steps:?}", image.what))
        };
        let mut log = restart();
        let mut found = Model::of(&log);
        assert!(image.note.contains(&found), "{}: {found:?}\nof {:?}\n{steps:?}", image.what, image.note);
        assert_eq!(log.wal.last_id(), found.last(), "{}", image.what);
        // It goes on, and what is added stays.
        log.append(found.append(1000, 2, 10));
        drop(log);
        log = restart();
        assert_eq!(Model::of(&log), found, "{}", image.what);
    }
    images.len()
}

fn append(count: u64) -> Step {
    Step::Append { count, body_len: 100 }
}

#[test]
fn a_crash_anywhere_in_rotation() {
    let bench = Bench::new();
    let steps: Vec<_> = std::iter::repeat_n(append(2), 16).collect();
    assert!(check(&bench, &steps) > 100);
}

#[test]
fn a_crash_anywhere_in_rotation_to_a_spare() {
    let mut bench = Bench::new();
    bench.config.prezero = true;
    let steps: Vec<_> = std::iter::repeat_n(append(2), 16).collect();
    assert!(check(&bench, &steps) > 100);
}

#[test]
fn a_crash_anywhere_in_truncation() {
    let bench = Bench::new();
    let (all, half) = (Step::Truncate(0), Step::Truncate(50));
    let steps = [
        append(9),
        append(9),
        append(9),
        half.clone(),
        half.clone(),
        append(3),
        Step::Truncate(100),
        Step::Reopen,
        half.clone(),
        Step::Reopen,
        append(30),
        append(1),
        half,
        append(1),
        Step::Reopen,
        all.clone(),
        append(2),
        all,
        Step::Reopen,
        append(1),
    ];
    assert!(check(&bench, &steps) > 100);
}

#[test]
fn a_crash_anywhere_in_purge() {
    let bench = Bench::new();
    let steps = [
        append(9),
        append(9),
        append(9),
        append(9),
        Step::Purge(60),
        append(9),
        append(9),
        Step::Truncate(30),
        Step::Purge(50),
        Step::Reopen,
        Step::Truncate(60),
        Step::PurgeBeyond(4),
        append(3),
        append(30),
        append(30),
        Step::Truncate(20),
        append(9),
        Step::Purge(40),
        Step::Purge(100),
        Step::Purge(100),
        Step::Reopen,
        append(9),
        Step::PurgeBeyond(0),
        Step::PurgeBeyond(1),
        append(1),
    ];
    assert!(check(&bench, &steps) > 100);
}

#[test]
fn a_crash_anywhere_in_a_rotation_of_the_key() {
    let bench = Bench::new();
    let steps = [
        Step::Renew,
        append(3),
        Step::Renew,
        Step::Renew,
        append(30),
        Step::Truncate(50),
        // The empty segment supersedes what was truncated, and so must the one that takes its place.
        Step::Renew,
        Step::Reopen,
        Step::Renew,
        append(2),
        Step::Purge(50),
        Step::Renew,
        Step::PurgeBeyond(3),
        Step::Renew,
        Step::Reopen,
        append(1),
    ];
    assert!(check(&bench, &steps) > 100);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..12_u64, 0..900_usize).prop_map(|(count, body_len)| Step::Append { count, body_len }),
        2 => (0..=100_u64).prop_map(Step::Truncate),
        2 => (0..=100_u64).prop_map(Step::Purge),
        1 => (0..3_u64).prop_map(Step::PurgeBeyond),
        1 => Just(Step::Renew),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_changes_leaves_what_the_model_holds_and_survives_crashes(steps in steps()) {
        check(&Bench::new(), &steps);
    }
}

#[test]
fn a_crash_anywhere_in_the_first_start() {
    let mut bench = Bench::new();
    bench.config.prezero = true;
    let crashes = Crashes::<Vec<Record>>::watch(bench.path());
    let log =
        open(DataDir::with_probe(bench.path(), Arc::clone(&crashes) as _).unwrap(), &bench.config).unwrap();
    let keyring = Keyring::open_or_create(&log.dir, 1).unwrap();
    crate::vote::store(&log.dir, &keyring, b"a vote").unwrap();
    log.append(records(1..=3));
    crashes.note(records(1..=3));
    log.append(records(4..=4));
    drop(log);
    let images = crashes.taken();
    assert!(images.len() > 40, "{}", images.len());
    for image in images {
        let root = image.restore();
        let reopened = open(DataDir::open_or_create(root.path()).unwrap(), &bench.config)
            .unwrap_or_else(|error| panic!("{}: {error:?}", image.what));
        let found = reopened.all();
        assert!(found.starts_with(&image.note), "{}: {} records", image.what, found.len());
    }
}
