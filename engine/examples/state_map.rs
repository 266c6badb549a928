//! Measures the state's maps against the alternatives that were considered; `docs/state-map.md` discusses the
//! figures.
//!
//! ```text
//! cargo run --release -p vaylix-engine --example state_map -- [keys, default 1000000] [candidate]
//! ```
#![allow(clippy::print_stdout, reason = "a measurement is printed")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of known size")]

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use imbl::OrdSet;
use parking_lot::RwLock;
use triomphe::ThinArc;
use vaylix_engine::op::{Batch, Op, When};
use vaylix_engine::sequence::Sequence;
use vaylix_engine::state::{Reader, Root, State};

const VALUE: [u8; 64] = [b'v'; 64];
const MEASURED_WRITES: u64 = 200_000;

fn main() {
    let mut args = std::env::args().skip(1);
    let keys =
        args.next().map_or(1_000_000, |text| text.parse().expect("the first argument is a number of keys"));
    let wanted = args.next();
    let wants = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    println!(
        "candidate     keys     load B/key | batch  write us  +reader us  read p50 us  p99 us  p99.9 us  alone p50"
    );
    if wants("engine") {
        measure_image(measure("engine", keys, Engine::new()));
    }
    if wants("rwlock") {
        measure("rwlock", keys, Sharded::new(1));
    }
    if wants("sharded") {
        measure("sharded", keys, Sharded::new(16));
    }
    if wants("arc-swap") {
        measure("arc-swap", keys, Swapped::default());
    }
}

/// Reads one key.
type Read = Box<dyn Fn(&str) -> Option<Bytes> + Send>;

trait Candidate {
    fn write(&mut self, keys: &[String]);
    fn reader(&self) -> Read;
}

fn measure<C: Candidate>(name: &str, keys: u64, mut candidate: C) -> C {
    let key = |number: u64| format!("key:{number:012}");
    let before = resident_bytes();
    let loading = Instant::now();
    let mut order = Order(keys);
    let mut numbers: Vec<u64> = (0..keys).collect();
    for at in (1..numbers.len()).rev() {
        numbers.swap(at, order.below(at as u64 + 1) as usize);
    }
    for chunk in numbers.chunks(1024) {
        candidate.write(&chunk.iter().copied().map(key).collect::<Vec<_>>());
    }
    let load = loading.elapsed().as_micros() as f64 / keys as f64;
    drop(numbers);
    let bytes_per_key = (resident_bytes() - before) / keys;
    for batch in [64_usize, 1024] {
        let batches: Vec<Vec<String>> = (0..MEASURED_WRITES / batch as u64)
            .map(|_| (0..batch).map(|_| key(order.below(keys))).collect())
            .collect();
        let alone = time_writes(&mut candidate, &batches);
        let reader = candidate.reader();
        let done = Arc::new(AtomicBool::new(false));
        let reading = {
            let done = Arc::clone(&done);
            std::thread::spawn(move || read_until(&done, keys, &reader))
        };
        let beside = time_writes(&mut candidate, &batches);
        done.store(true, Relaxed);
        let times = reading.join().expect("the reader only reads");
        let done = Arc::new(AtomicBool::new(false));
        let reader = candidate.reader();
        let quiet = {
            let done = Arc::clone(&done);
            std::thread::spawn(move || read_until(&done, keys, &reader))
        };
        std::thread::sleep(Duration::from_millis(300));
        done.store(true, Relaxed);
        let quiet = quiet.join().expect("the reader only reads");
        let at = |times: &[u32], share: f64| f64::from(times[(times.len() as f64 * share) as usize]) / 1000.0;
        println!(
            "{name:<9} {keys:>8} {load:>6.2}us {bytes_per_key:>5} | {batch:>5} {alone:>8.2} {beside:>10.2} {:>12.2} {:>8.2} {:>8.2} {:>9.2}",
            at(&times, 0.5),
            at(&times, 0.99),
            at(&times, 0.999),
            at(&quiet, 0.5),
        );
    }
    candidate
}

/// How fast a whole state goes to bytes and comes back to life.
fn measure_image(engine: Engine) {
    let rate = |bytes: &[u8], since: Instant| bytes.len() as f64 / since.elapsed().as_secs_f64() / 1e6;
    let root = engine.state.root();
    let (start, mut image) = (Instant::now(), Vec::new());
    root.encode(&mut image).expect("a vector takes every write");
    let encode = rate(&image, start);
    let start = Instant::now();
    let root = Root::decode(&image[..]).expect("its own image");
    let decode = rate(&image, start);
    let start = Instant::now();
    let state = State::from_root(root);
    let index = rate(&image, start);
    println!(
        "image of {:.0} MB: encode {encode:.0} MB/s, decode {decode:.0} MB/s, index {index:.0} MB/s",
        image.len() as f64 / 1e6
    );
    let start = Instant::now();
    drop(state);
    println!("dropped in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
}

/// Microseconds per write.
fn time_writes(candidate: &mut impl Candidate, batches: &[Vec<String>]) -> f64 {
    let start = Instant::now();
    for batch in batches {
        candidate.write(batch);
    }
    start.elapsed().as_nanos() as f64 / 1000.0 / MEASURED_WRITES as f64
}

fn read_until(done: &AtomicBool, keys: u64, read: &impl Fn(&str) -> Option<Bytes>) -> Vec<u32> {
    let mut order = Order(4711);
    let mut times = Vec::new();
    while !done.load(Relaxed) {
        let key = format!("key:{:012}", order.below(keys));
        let start = Instant::now();
        black_box(read(&key));
        times.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    times.sort_unstable();
    times
}

/// A cheap, repeatable order of keys.
struct Order(u64);

impl Order {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 24) % end
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("measured on Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
}

/// What the engine does.
struct Engine {
    state: State,
    at: Sequence,
}

impl Engine {
    fn new() -> Self {
        Self { state: State::new(), at: Sequence::FIRST }
    }
}

impl Candidate for Engine {
    fn write(&mut self, keys: &[String]) {
        let set = |key| Op::Set {
            key,
            value: &VALUE,
            ttl_ms: None,
            when: When::Always,
            keep_ttl: false,
            return_previous: false,
            if_version: None,
        };
        let ops = keys.iter().map(|key| set(key)).collect();
        black_box(self.state.apply(self.at, &Batch { time_ms: 1, access_revision: 0, ops }));
        self.at = self.at.next();
    }

    fn reader(&self) -> Read {
        let reader: Reader = self.state.reader();
        Box::new(move |key| reader.get(key, 1))
    }
}

/// An entry like the engine's: one allocation for version, key and value.
#[derive(Clone)]
struct Entry(ThinArc<(u64, u64, u32), u8>);

impl Entry {
    fn new(key: &str, version: u64) -> Self {
        let mut bytes = [0; 256];
        bytes[..key.len()].copy_from_slice(key.as_bytes());
        bytes[key.len()..key.len() + VALUE.len()].copy_from_slice(&VALUE);
        Self(ThinArc::from_header_and_slice(
            (version, 0, key.len() as u32),
            &bytes[..key.len() + VALUE.len()],
        ))
    }

    fn key(&self) -> &[u8] {
        &self.0.slice[..self.0.header.header.2 as usize]
    }

    fn value(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0.slice[self.0.header.header.2 as usize..])
    }
}

impl Borrow<[u8]> for Entry {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

fn overwrite(map: &mut OrdSet<Entry>, key: &str) {
    let version = map.get(key.as_bytes()).map_or(1, |held| held.0.header.header.0 + 1);
    map.insert(Entry::new(key, version));
}

/// Ordered maps behind read-write locks, locked once per write.
struct Sharded {
    hasher: RandomState,
    shards: Arc<Vec<RwLock<OrdSet<Entry>>>>,
}

impl Sharded {
    fn new(shards: usize) -> Self {
        let shards = (0..shards).map(|_| RwLock::new(OrdSet::new())).collect();
        Self { hasher: RandomState::new(), shards: Arc::new(shards) }
    }
}

impl Candidate for Sharded {
    fn write(&mut self, keys: &[String]) {
        for key in keys {
            let shard = self.hasher.hash_one(key) as usize % self.shards.len();
            overwrite(&mut self.shards[shard].write(), key);
        }
    }

    fn reader(&self) -> Read {
        let (hasher, shards) = (self.hasher.clone(), Arc::clone(&self.shards));
        Box::new(move |key| {
            let shard = hasher.hash_one(key) as usize % shards.len();
            shards[shard].read().get(key.as_bytes()).map(Entry::value)
        })
    }
}

/// One ordered map, published after each batch.
#[derive(Default)]
struct Swapped {
    map: Mutex<OrdSet<Entry>>,
    published: Arc<ArcSwap<OrdSet<Entry>>>,
}

impl Candidate for Swapped {
    fn write(&mut self, keys: &[String]) {
        let map = self.map.get_mut().expect("nobody panics");
        for key in keys {
            overwrite(map, key);
        }
        self.published.store(Arc::new(map.clone()));
    }

    fn reader(&self) -> Read {
        let published = Arc::clone(&self.published);
        Box::new(move |key| published.load().get(key.as_bytes()).map(Entry::value))
    }
}
