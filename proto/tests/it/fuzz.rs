//! The properties of the fuzz targets over a bounded, repeatable set of inputs: the vectors, the lines of the text
//! tests, and mutations of both.

use serde_json::Value;

#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the file is a library of its own for cargo-fuzz")]
mod properties;

/// Mutated inputs per seed.
const MUTATIONS: usize = 40;
/// Longer seeds are cut: what lies behind is more of the same.
const SEED_LEN_MAX: usize = 2048;

#[test]
fn frames() {
    run(properties::frame, &frames_of_vectors());
}

#[test]
fn requests() {
    run(properties::request, &bodies_of_vectors());
}

#[test]
fn replies() {
    let seeds: Vec<_> = bodies_of_vectors()
        .into_iter()
        .flat_map(|body| (0..9).map(move |shape| [&[shape], &body[..]].concat()))
        .collect();
    run(properties::reply, &seeds);
}

#[test]
fn hellos() {
    run(properties::hello, &bodies_of_vectors());
}

#[test]
fn lines_of_text() {
    let lines: Vec<_> = include_str!("../data/text-errors.txt")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("> ")?.as_bytes().to_vec()))
        .chain(vaylix_proto::text::USAGES.iter().map(|row| row.usage.as_bytes().to_vec()))
        .collect();
    run(properties::command_text, &lines);
}

fn run(property: fn(&[u8]), seeds: &[Vec<u8>]) {
    assert!(seeds.len() > 100);
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    for seed in seeds {
        let seed = &seed[..seed.len().min(SEED_LEN_MAX)];
        property(seed);
        for _ in 0..MUTATIONS {
            let other = &seeds[random.below(seeds.len())];
            property(&mutated(seed, other, &mut random));
        }
    }
}

fn frames_of_vectors() -> Vec<Vec<u8>> {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../data/vtp2-vectors.json")).unwrap();
    vectors
        .iter()
        .map(|vector| {
            let hex = vector["hex"].as_str().unwrap();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (0..hex.len()).step_by(2).map(byte).collect()
        })
        .collect()
}

fn bodies_of_vectors() -> Vec<Vec<u8>> {
    frames_of_vectors().iter().filter_map(|frame| Some(frame.get(14..)?.to_vec())).collect()
}

/// One to three changes: a flipped or replaced byte, a cut, a repeated piece, or a piece of another seed.
fn mutated(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(data.len() + 1);
        match random.below(5) {
            0 if at < data.len() => data[at] ^= 1 << random.below(8),
            1 if at < data.len() => data[at] = [0, 1, 2, 0x7F, 0xFF, b'"'][random.below(6)],
            2 => data.truncate(at),
            3 => {
                let piece = data[at..].iter().take(random.below(20)).copied().collect::<Vec<_>>();
                data.splice(at..at, piece);
            }
            _ => {
                let from = random.below(other.len() + 1);
                data.splice(at.., other[from..].iter().take(SEED_LEN_MAX).copied());
            }
        }
    }
    data
}

/// xorshift64*: the same sequence in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}
