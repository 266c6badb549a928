//! The recovery matrix: what a start says of a data directory in which something is missing, damaged, exchanged or
//! foreign. Each row states the code and the file; every refusal says what to do and leaves the directory as it was.
//!
//! Rows that start say why the loss cannot be seen, or why there is none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the table is for whoever wants to read it")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use vaylix_consensus::{Config, Node, Payload, Proposal, StartError};
use vaylix_engine::{DataDir, Keyring, wal};
use vaylix_proto::{Command, SetOptions};

const PATIENCE: Duration = Duration::from_secs(60);

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn config(root: &Path) -> Config {
    let wal = wal::Config {
        initial_size_bytes: 4 << 10,
        segment_size_bytes: 4 << 10,
        prezero: false,
        reserve_bytes: 0,
        ..wal::Config::default()
    };
    Config { wal, retained_segments: 2, snapshot_log_bytes: None, ..Config::new(root) }
}

fn life<T>(work: impl Future<Output = T>) -> T {
    let runtime = Runtime::new().expect("threads can be had");
    runtime.block_on(async { timeout(PATIENCE, work).await.expect("still not done") })
}

fn files(root: &Path) -> Files {
    let mut files = Files::new();
    for directory in [root.to_owned(), root.join("wal")] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    // It holds the name of the last process, for people only.
    files.remove(Path::new("LOCK"));
    files
}

fn restore(files: &Files) -> TempDir {
    let root = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| TempDir::new().unwrap());
    fs::create_dir(root.path().join("wal")).unwrap();
    for (name, content) in files {
        fs::write(root.path().join(name), content).unwrap();
    }
    root
}

async fn write(node: &Node, range: std::ops::Range<u32>) {
    for i in range {
        let command = Command::Set {
            key: format!("key:{i}").into(),
            value: vec![b'v'; 300].into(),
            options: SetOptions::default(),
        };
        let payload = Payload::Command(command);
        node.propose(Proposal { span: tracing::Span::none(), caller: 0, access_revision: 0, payload })
            .await
            .unwrap();
    }
}

/// A directory with everything in it, as a kill leaves it, and earlier and other states of it.
struct Lab {
    good: Files,
    /// The same directory before: another snapshot, manifest, keyring, vote, and a shorter active segment.
    earlier: Files,
    /// What became of `earlier` when it went on otherwise.
    fork: Files,
    foreign: Files,
}

impl Lab {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let path = root.path().to_owned();
        life(async {
            let node = Node::start(config(&path)).await.unwrap();
            write(&node, 0..30).await;
            node.snapshot().await.unwrap();
            write(&node, 0..32).await;
            node.shutdown().await.unwrap();
        });
        // Another life, so that the vote is another one; another key, so that the keyring is.
        let earlier = life(async {
            let node = Node::start(config(&path)).await.unwrap();
            write(&node, 0..2).await;
            files(&path)
        });
        let fork_root = restore(&earlier);
        let fork = life(async {
            let node = Node::start(config(fork_root.path())).await.unwrap();
            write(&node, 0..5).await;
            node.shutdown().await.unwrap();
            let node = Node::start(config(fork_root.path())).await.unwrap();
            write(&node, 0..30).await;
            files(fork_root.path())
        });
        {
            let dir = DataDir::open_or_create(&path).unwrap();
            Keyring::open_or_create(&dir, 1).unwrap().rotate(&dir, 2).unwrap();
        }
        let good = life(async {
            let node = Node::start(config(&path)).await.unwrap();
            write(&node, 0..30).await;
            node.snapshot().await.unwrap();
            write(&node, 0..36).await;
            // Several records behind the header of the active segment, of which some can go.
            while files(&path)[&Self::active(&files(&path))].len() < 2560 {
                write(&node, 0..1).await;
            }
            files(&path)
        });
        let other = TempDir::new().unwrap();
        let foreign = life(async {
            let node = Node::start(config(other.path())).await.unwrap();
            write(&node, 0..30).await;
            node.snapshot().await.unwrap();
            write(&node, 0..36).await;
            files(other.path())
        });
        Self { good, earlier, fork, foreign }
    }

    fn active(files: &Files) -> PathBuf {
        let mut names = files.keys().filter(|name| name.to_str().unwrap().contains("active"));
        names.next_back().expect("an active segment").clone()
    }

    /// The first and the last record of a sealed segment.
    fn ends(name: &Path) -> (u64, u64) {
        let name = name.file_stem().unwrap().to_str().unwrap();
        let (start, end) = name.split_once('-').unwrap();
        (start.parse().unwrap(), end.parse().unwrap())
    }

    /// The sealed segments in the order of the log.
    fn sealed(files: &Files) -> Vec<PathBuf> {
        let start = |name: &Path| {
            let name = name.file_name().unwrap().to_str().unwrap();
            name.split('-').next().unwrap().parse::<u64>().ok()
        };
        let mut names: Vec<_> = files
            .keys()
            .filter(|name| {
                name.extension().is_some_and(|extension| extension == "wal") && start(name).is_some()
            })
            .cloned()
            .collect();
        names.sort_by_key(|name| start(name));
        names
    }
}

/// What a row expects.
enum Expected {
    /// Refused with this code, naming a file of which this is a part, where there is no place in it to tell: it is
    /// missing, or in the wrong place as a whole.
    Refused(&'static str, &'static str),
    /// The same with the byte at which the trouble begins, which is one of these.
    RefusedAt(&'static str, &'static str, RangeInclusive<u64>),
    /// Starts; the reason why that is right, or cannot be otherwise.
    Starts(&'static str),
}
use Expected::{Refused, RefusedAt, Starts};

struct Row {
    what: String,
    files: Files,
    expected: Expected,
}

/// What is wrong with what a row does; empty when it does what it should.
fn check(row: &Row) -> Vec<String> {
    let Row { what, files: before, expected } = row;
    let root = restore(before);
    let started =
        life(async { Node::start(config(root.path())).await.map(|node| node.status().applied_index) });
    let mut wrong = Vec::new();
    let mut claim = |holds: bool, claim: &str| {
        if !holds {
            wrong.push(format!("{what}: {claim}"));
        }
    };
    match (expected, started) {
        (Starts(why), Ok(_)) => println!("{what}: starts, for {why}"),
        (Refused(code, file) | RefusedAt(code, file, _), Err(error)) => {
            println!("{what}: [{}] {error}", error.code());
            claim(error.code().code() == *code, &format!("expected {code}: [{}] {error}", error.code()));
            let named = error.file().map_or("", |file| file.to_str().unwrap());
            claim(named.contains(file), &format!("does not name {file}: {error}"));
            claim(!named.is_empty() && error.to_string().contains(named), "the message names no file");
            let (advice, offset) = match &error {
                StartError::Storage(storage) => (storage.advice().unwrap_or_default(), storage.offset()),
                _ => ("", None),
            };
            let expected = match expected {
                RefusedAt(_, _, within) => Some(within),
                Refused(..) | Starts(_) => None,
            };
            let right = match (expected, offset) {
                (None, None) => true,
                (Some(within), Some(at)) => {
                    within.contains(&at) && error.to_string().contains(&format!(" at byte {at} "))
                }
                _ => false,
            };
            claim(right, &format!("expected at {expected:?}, and the message to say so: {error}"));
            claim(advice.len() > 20, &format!("no advice: {error}"));
            claim(&files(root.path()) == before, "the directory was changed");
        }
        (Starts(_), Err(error)) => claim(false, &format!("refused: {error}")),
        (Refused(code, _) | RefusedAt(code, ..), Ok(applied)) => {
            claim(false, &format!("started with {applied} instead of {code}"))
        }
    }
    wrong
}

/// The CRC-32 of a file or header, made right again after a change.
fn mend(content: &mut [u8], checked: usize) {
    let checksum = crc32fast::hash(&content[..checked]).to_le_bytes();
    content[checked..checked + 4].copy_from_slice(&checksum);
}

#[test]
fn every_row_is_refused_with_code_file_and_advice_or_starts_for_a_reason() {
    let lab = Lab::new();
    let active = Lab::active(&lab.good);
    let sealed = Lab::sealed(&lab.good);
    assert!(sealed.len() >= 4, "{sealed:?}");
    let middle = sealed[sealed.len() / 2].clone();
    let kinds: [(&str, PathBuf); 7] = [
        ("keyring", "keyring.bin".into()),
        ("manifest", "manifest.bin".into()),
        ("snapshot", "snapshot.bin".into()),
        ("vote", "vote.bin".into()),
        ("origin of the log", "wal/origin.bin".into()),
        ("active segment", active.clone()),
        ("sealed segment", middle.clone()),
    ];
    let mut rows =
        vec![Row { what: "as it was".into(), files: lab.good.clone(), expected: Starts("nothing is wrong") }];
    let mut row = |what: &str, expected: Expected, change: &dyn Fn(&mut Files)| {
        let mut files = lab.good.clone();
        change(&mut files);
        assert!(files != lab.good, "{what}: nothing was changed");
        rows.push(Row { what: what.to_owned(), files, expected });
    };

    for (kind, name) in &kinds {
        let good = &lab.good[name];
        let is_active = *kind == "active segment";
        let change = |edit: &dyn Fn(&mut Vec<u8>)| {
            let (name, mut content) = (name.clone(), good.clone());
            edit(&mut content);
            move |files: &mut Files| drop(files.insert(name.clone(), content.clone()))
        };
        let missing = match *kind {
            "keyring" => Refused("ENG-009", "keyring.bin"),
            "manifest" => Starts(
                "a snapshot proves itself; the manifest is written after it, so a crash leaves the same",
            ),
            "snapshot" => Refused("ENG-007", "snapshot.bin"),
            "vote" => Refused("ENG-007", "vote.bin"),
            "origin of the log" => Refused("ENG-014", "origin.bin"),
            "active segment" => Refused("ENG-014", "newest-"),
            // The one behind it does not go on where the one before it ends.
            _ => RefusedAt("ENG-014", ".wal", 0..=0),
        };
        row(&format!("{kind}, missing"), missing, &|files| drop(files.remove(name)));

        let file: &'static str = name.file_name().unwrap().to_str().unwrap().to_owned().leak();
        let (middle_at, end_at) = (good.len() as u64 / 2, good.len() as u64);
        let truncated = match *kind {
            "active segment" => Starts("a write that never completed leaves the same"),
            "sealed segment" => RefusedAt("ENG-014", file, middle_at..=middle_at),
            // Known by its length alone.
            "snapshot" => Refused("ENG-007", file),
            _ => RefusedAt("ENG-007", file, middle_at - 4..=middle_at - 4),
        };
        row(
            &format!("{kind}, truncated"),
            truncated,
            &change(&|content| {
                let end = content.iter().rposition(|byte| *byte != 0).unwrap();
                // Within the last frame of the active one.
                let end = if is_active { end - 600 } else { content.len() / 2 };
                content.truncate(end);
            }),
        );
        row(
            &format!("{kind}, truncated to nothing"),
            match *kind {
                "active segment" | "sealed segment" => RefusedAt("ENG-014", file, 0..=0),
                "snapshot" => RefusedAt("ENG-004", file, 0..=0),
                _ => RefusedAt("ENG-009", file, 0..=0),
            },
            &change(&|content| content.clear()),
        );
        row(
            &format!("{kind}, zeroed"),
            RefusedAt("ENG-009", file, 0..=0),
            &change(&|content| content.fill(0)),
        );
        row(
            &format!("{kind}, a bit flipped"),
            match *kind {
                // Where the sealed piece begins that it is in.
                "snapshot" => RefusedAt("ENG-008", file, 104..=middle_at),
                "active segment" => RefusedAt("ENG-007", file, 512..=512),
                "sealed segment" => RefusedAt("ENG-007", file, middle_at / 512 * 512..=middle_at / 512 * 512),
                // Where the checksum is.
                _ => RefusedAt("ENG-007", file, end_at - 4..=end_at - 4),
            },
            &change(&|content| {
                let at = if is_active { 700 } else { content.len() / 2 };
                content[at] ^= 0x10;
            }),
        );
        row(
            &format!("{kind}, the first bit flipped"),
            RefusedAt("ENG-009", file, 0..=0),
            &change(&|content| content[0] ^= 1),
        );
        row(
            &format!("{kind}, foreign"),
            match *kind {
                // It opens nothing: the first file that is read names it.
                "keyring" => Refused("ENG-009", ".bin"),
                "snapshot" => RefusedAt("ENG-009", file, 12..=12),
                _ => Refused("ENG-009", file),
            },
            &|files| {
                let theirs = match *kind {
                    "active segment" => lab.foreign[&Lab::active(&lab.foreign)].clone(),
                    "sealed segment" => lab.foreign[&Lab::sealed(&lab.foreign)[1]].clone(),
                    _ => lab.foreign[name].clone(),
                };
                files.insert(name.clone(), theirs);
            },
        );
        row(
            &format!("{kind}, duplicated under a name of no meaning"),
            Starts("the copy is no part of the storage"),
            &|files| {
                let mut copy = name.clone().into_os_string();
                copy.push(".copy");
                files.insert(copy.into(), good.clone());
            },
        );
        let newer = RefusedAt("ENG-009", file, 8..=8);
        row(
            &format!("{kind}, of a newer format"),
            newer,
            &change(&|content| {
                content[8] = 99;
                let checked = match *kind {
                    "snapshot" => 104,
                    "active segment" | "sealed segment" => 504,
                    _ => content.len() - 4,
                };
                mend(content, checked);
            }),
        );
    }

    let moved = |files: &mut Files, from: &Path, to: &str| {
        let content = files.remove(from).unwrap();
        files.insert(to.into(), content);
    };
    // Exchanged with another of the same kind.
    row("keyring, an earlier one", Refused("ENG-009", ".bin"), &|files| {
        files.insert("keyring.bin".into(), lab.earlier[Path::new("keyring.bin")].clone());
    });
    row(
        "manifest, an earlier one",
        Starts("a crash between snapshot and manifest leaves the same; the snapshot proves itself"),
        &|files| {
            files.insert("manifest.bin".into(), lab.earlier[Path::new("manifest.bin")].clone());
        },
    );
    row("snapshot, an earlier one", Refused("ENG-006", "snapshot.bin"), &|files| {
        files.insert("snapshot.bin".into(), lab.earlier[Path::new("snapshot.bin")].clone());
    });
    row("snapshot and manifest, an earlier pair", Refused("ENG-014", "snapshot.bin"), &|files| {
        for name in ["snapshot.bin", "manifest.bin"] {
            files.insert(name.into(), lab.earlier[Path::new(name)].clone());
        }
    });
    row(
        "vote, an earlier one",
        Starts("it was whole and true once: only somebody else could know of the later one"),
        &|files| {
            files.insert("vote.bin".into(), lab.earlier[Path::new("vote.bin")].clone());
        },
    );
    row("manifest in place of the vote", RefusedAt("ENG-009", "vote.bin", 0..=0), &|files| {
        files.insert("vote.bin".into(), files[Path::new("manifest.bin")].clone());
    });
    row("two sealed segments exchanged", RefusedAt("ENG-014", ".wal", 0..=0), &|files| {
        let (one, two) = (files[&sealed[1]].clone(), files[&sealed[2]].clone());
        files.insert(sealed[1].clone(), two);
        files.insert(sealed[2].clone(), one);
    });
    row("active and sealed segment exchanged", RefusedAt("ENG-014", ".wal", 0..=0), &|files| {
        let (one, two) = (files[&middle].clone(), files[&active].clone());
        files.insert(middle.clone(), two);
        files.insert(active.clone(), one);
    });
    row(
        "active segment, as it was some writes before",
        Starts("zeros where nothing was written yet are no damage"),
        &|files| {
            let content = files.get_mut(&active).unwrap();
            content.truncate(1536);
        },
    );
    row("sealed segment, duplicated under another name", RefusedAt("ENG-014", ".wal", 0..=0), &|files| {
        let start = middle.file_name().unwrap().to_str().unwrap().split('-').next().unwrap().to_owned();
        files.insert(format!("wal/{start}-999999.wal").into(), files[&middle].clone());
    });
    row("active segment, duplicated under another name", RefusedAt("ENG-014", "active", 0..=0), &|files| {
        files.insert("wal/active-999999.wal".into(), files[&active].clone());
    });

    // The newest segment, and the mark by which its loss is noticed.
    let mark = lab.good.keys().find(|name| name.to_str().unwrap().contains("newest-")).unwrap().clone();
    let number: u64 = mark.to_str().unwrap().rsplit('-').next().unwrap().parse().unwrap();
    row("newest segments, the last two missing", Refused("ENG-014", "newest-"), &|files| {
        files.remove(&active);
        files.remove(sealed.last().unwrap());
    });
    row(
        "newest segment, not made yet",
        Starts("a crash in a rotation: the one before is finished, and the mark names it"),
        &|files| {
            files.remove(&active);
            moved(files, &mark, &format!("wal/newest-{}", number - 1));
        },
    );
    row("mark, missing", Starts("an earlier release made none; a loss of power may take it"), &|files| {
        drop(files.remove(&mark));
    });
    row("mark, an earlier one", Starts("a loss of power may leave it"), &|files| {
        moved(files, &mark, &format!("wal/newest-{}", number - 1));
    });
    row("mark, of a segment that was never made", Refused("ENG-014", "newest-"), &|files| {
        moved(files, &mark, &format!("wal/newest-{}", number + 1));
    });

    // Gap, overlap, order.
    row("a gap: the last sealed segment is missing", RefusedAt("ENG-014", ".wal", 0..=0), &|files| {
        drop(files.remove(sealed.last().unwrap()));
    });
    row("a gap: all segments are missing", Refused("ENG-014", ".bin"), &|files| {
        files.retain(|name, _| name.extension().is_none_or(|extension| extension != "wal"));
        files.remove(Path::new("wal/origin.bin"));
    });
    row(
        "two histories: a segment of the same log that went on otherwise",
        RefusedAt("ENG-014", ".wal", 0..=0),
        &|files| {
            let theirs = Lab::sealed(&lab.fork);
            let new = theirs.iter().rev().find(|name| !files.contains_key(*name)).expect("it differs");
            files.insert(new.clone(), lab.fork[new].clone());
        },
    );
    row(
        "an overlap: a segment that begins within the one before",
        RefusedAt("ENG-014", ".wal", 0..=0),
        &|files| {
            let (start, end) = Lab::ends(&middle);
            let mut content = files.remove(&middle).unwrap();
            // Its number stays its own; start, and the record before it.
            for (at, value) in [(24, start - 2), (48, start - 3)] {
                content[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            mend(&mut content, 504);
            files.insert(format!("wal/{}-{end}.wal", start - 2).into(), content);
        },
    );
    row(
        "a wrong order: a segment under the name of a later one",
        RefusedAt("ENG-014", ".wal", 0..=0),
        &|files| {
            moved(files, &sealed[1], "wal/999990-999999.wal");
        },
    );
    row("two active segments", RefusedAt("ENG-014", "active", 0..=0), &|files| {
        let last = sealed.last().unwrap();
        let start = last.file_name().unwrap().to_str().unwrap().split('-').next().unwrap().to_owned();
        moved(files, last, &format!("wal/active-{start}.wal"));
    });
    row("a sealed segment without a proper name", Refused("ENG-014", "no-name.wal"), &|files| {
        moved(files, &middle, "wal/no-name.wal");
    });

    let refused = rows.iter().filter(|row| !matches!(row.expected, Starts(_))).count();
    let wrong: Vec<_> = rows.iter().flat_map(check).collect();
    println!("{} rows, {refused} refused", rows.len());
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(rows.len() >= 75, "{}", rows.len());
}

#[test]
fn a_directory_that_is_held_is_refused_and_its_holder_goes_on() {
    let root = TempDir::new().unwrap();
    life(async {
        let node = Node::start(config(root.path())).await.unwrap();
        write(&node, 0..3).await;
        let before = files(root.path());
        let Err(error) = Node::start(config(root.path())).await else { panic!("a second holder") };
        assert_eq!(error.code().code(), "ENG-011");
        assert!(error.file().is_some_and(|file| file.ends_with("LOCK")), "{error}");
        assert!(error.to_string().contains("stop that server"), "{error}");
        assert_eq!(files(root.path()), before);
        write(&node, 3..6).await;
    });
}

/// Every restart begins a term and a segment, so a start has to know about many of them.
#[test]
fn damage_in_segments_behind_the_snapshot_keeps_no_node_from_starting_and_changes_no_answer() {
    let root = TempDir::new().unwrap();
    let config = |root: &Path| Config { retained_segments: 100, ..config(root) };
    for _ in 0..8 {
        life(async {
            let node = Node::start(config(root.path())).await.unwrap();
            write(&node, 0..4).await;
            node.shutdown().await.unwrap();
        });
    }
    let good = files(root.path());
    let sealed = Lab::sealed(&good);
    let (newest, old) = sealed.split_last().unwrap();
    assert!(old.len() >= 7, "{sealed:?}");
    let answers = |root: &Path| {
        life(async {
            let node = Node::start(config(root)).await.map_err(|error| error.to_string())?;
            write(&node, 10..12).await;
            let view = node.read().await.map_err(|error| error.to_string())?;
            let answers: Vec<_> =
                (0..14).map(|i| view.reader.get(&format!("key:{i}"), view.now_ms)).collect();
            write(&node, 12..14).await;
            node.shutdown().await.map_err(|error| error.to_string())?;
            Ok::<_, String>(answers)
        })
    };
    let first = answers(restore(&good).path()).unwrap();
    let second = {
        let root = restore(&good);
        answers(root.path()).unwrap();
        answers(root.path()).unwrap()
    };
    assert!(first[10] != first[12] && first != second, "{first:?} {second:?}");
    for name in old {
        for at in (600..good[name].len()).step_by(700) {
            let mut bad = good.clone();
            bad.get_mut(name).unwrap()[at] ^= 1;
            let root = restore(&bad);
            assert_eq!(answers(root.path()).as_ref(), Ok(&first), "{} at {at}", name.display());
            assert_eq!(answers(root.path()).as_ref(), Ok(&second), "{} at {at}, again", name.display());
            assert_eq!(fs::read(root.path().join(name)).unwrap(), bad[name], "the evidence stays");
        }
    }
    // The newest one is read, and refused.
    let mut bad = good.clone();
    bad.get_mut(newest).unwrap()[600] ^= 1;
    let row = Row {
        what: "the newest finished segment".into(),
        files: bad,
        expected: RefusedAt(
            "ENG-007",
            newest.file_name().unwrap().to_str().unwrap().to_owned().leak(),
            512..=512,
        ),
    };
    assert_eq!(check(&row), Vec::<String>::new());
}
