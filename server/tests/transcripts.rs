//! Recorded sessions of another implementation of the protocol, replayed against our server and client.
//! Every difference is deliberate and listed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use vaylix_testkit::transcript::{differences, replay};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn check(name: &str) {
    let file = format!("{name}.txt");
    let list = differences(&read(&data("differences.txt"))).unwrap();
    if let Err(error) = replay(&file, &read(&data("transcripts").join(&file)), &list) {
        panic!("{error:#}");
    }
}

macro_rules! transcripts {
    ($($test:ident: $name:literal,)+) => {
        $(#[test] fn $test() { check($name); })+

        #[test]
        fn every_transcript_is_replayed() {
            let mut replayed = vec![$(concat!($name, ".txt").to_owned(),)+];
            // Has a layout, and a test, of its own.
            replayed.push("piped.txt".to_owned());
            replayed.sort();
            let mut present: Vec<String> = std::fs::read_dir(data("transcripts"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            present.sort();
            assert_eq!(present, replayed);
        }
    };
}

transcripts! {
    strings: "strings",
    counters: "counters",
    expiry: "ttl",
    compare_and_set: "cas",
    scan: "scan",
    transactions: "transactions",
    binary_values: "binary",
    quoting: "quoting",
    parser_errors: "errors",
    json_mode: "json-mode",
    table_mode: "table-mode",
    limits: "limits",
    restart: "restart",
    authentication: "auth",
    access_control: "rbac",
    maintenance: "maintenance",
    rate_limit: "ratelimit",
    backup: "backup",
}

#[test]
fn every_difference_is_explained_to_users() {
    let list = differences(&read(&data("differences.txt"))).unwrap();
    let explained = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md"));
    for difference in &list {
        assert!(data("transcripts").join(&difference.file).exists(), "{difference:?}");
        assert!(explained.contains(&format!("`{}`", difference.because)), "not explained: {difference:?}");
    }
}
