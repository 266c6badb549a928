//! The chain, its files, and what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::chain::Link;
use super::event::Event;
use super::log::Log;
use super::writer::Medium;
use super::{Noise, OpenError, Settings, Torn, VerifyError, files, verify};

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/audit").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn expected() -> Value {
    serde_json::from_slice(&fixture("expected-audit.json")).unwrap()
}

/// A directory with an audit log of these bytes.
fn placed(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn event(n: usize) -> Event {
    Event::runtime(1_795_220_453_609, "test", &[("n", &n.to_string())])
}

/// Writes so many events to the log and closes it.
fn write(settings: Settings, count: usize) {
    let log = Log::open(settings).unwrap();
    for n in 0..count {
        let mut places = loop {
            match log.try_places(1) {
                Some(places) => break places,
                None => std::thread::yield_now(),
            }
        };
        log.write(event(n), Some(&mut places), Noise::Command);
    }
    log.close();
}

/// Files so small that every few events fill one.
fn rotating(path: &Path) -> Settings {
    Settings { file_bytes_max: 2000, ..Settings::new(path.into()) }
}

/// What is said about a log that does not verify.
fn complaint(path: &Path) -> String {
    let VerifyError::Broken { .. } = verify(path).unwrap_err() else { panic!("not broken, but unreadable") };
    let error = verify(path).unwrap_err();
    let refused = Log::open(Settings::new(path.into())).err().expect("a broken log is not opened");
    assert_eq!(refused.to_string(), error.to_string());
    assert_eq!(refused.code().code(), "SRV-028");
    error.to_string()
}

#[test]
fn the_fixtures_verify_or_are_refused_as_the_reference_says() {
    let expected = expected();
    let (_dir, path) = placed(&fixture("audit-valid.log"));
    let summary = verify(&path).unwrap();
    assert_eq!(Some(summary.events), expected["valid_lines"].as_u64());
    assert_eq!((summary.files, summary.first_sequence, summary.last_sequence), (1, Some(1), 81));
    assert_eq!(summary.torn, None);
    for name in ["audit-tampered-field.log", "audit-tampered-deleted-line.log"] {
        let (_dir, path) = placed(&fixture(name));
        let said = expected["reference_startup_result"][name].as_str().unwrap();
        let message = said.strip_prefix("[SRV-028] Audit Chain Verification Failure: ").unwrap();
        assert_eq!(complaint(&path), message);
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_told_of() {
    let bytes = fixture("audit-torn-tail.log");
    let complete = bytes.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let (_dir, path) = placed(&bytes);
    let torn = Torn { line: 81, offset: complete as u64, bytes: (bytes.len() - complete) as u64 };
    assert_eq!(verify(&path).unwrap().torn, Some(torn));
    assert_eq!(fs::read(&path).unwrap(), bytes, "verifying changes nothing");
    write(Settings::new(path.clone()), 1);
    let after = fs::read(&path).unwrap();
    assert_eq!(after[..complete], bytes[..complete]);
    let lines: Vec<Value> = after[complete..]
        .split_inclusive(|b| *b == b'\n')
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["event_type"], "audit_repaired");
    assert_eq!(lines[0]["sequence"], 81);
    assert_eq!(lines[0]["details"]["line"], "81");
    assert_eq!(lines[1]["event_type"], "test");
    assert_eq!(verify(&path).unwrap().last_sequence, 82);
}

/// Cut anywhere, a log opens and keeps every complete line.
#[test]
fn a_log_cut_at_any_byte_opens_with_its_complete_lines() {
    let bytes = fixture("audit-valid.log");
    let from = bytes.len() - 500;
    for len in from..bytes.len() {
        let (_dir, path) = placed(&bytes[..len]);
        let complete = bytes[..len].iter().filter(|byte| **byte == b'\n').count() as u64;
        // A line that lacks nothing but its line feed is complete.
        let has_whole_tail = bytes[len] == b'\n';
        let summary = verify(&path).unwrap();
        assert_eq!(summary.events, complete + u64::from(has_whole_tail), "cut at {len}");
        write(Settings::new(path.clone()), 1);
        let repaired = u64::from(!has_whole_tail && bytes[len - 1] != b'\n');
        let summary = verify(&path).unwrap();
        assert_eq!(summary.events, complete + u64::from(has_whole_tail) + repaired + 1, "cut at {len}");
    }
}

#[test]
fn the_worked_examples_hash_and_are_written_alike() {
    for example in expected()["hash_examples"].as_array().unwrap() {
        let line = example["line"].as_str().unwrap();
        let value: Value = serde_json::from_str(line).unwrap();
        let before = Link {
            sequence: value["sequence"].as_u64().unwrap() - 1,
            hash: value["previous_hash"].as_str().unwrap().to_owned(),
        };
        let mut link = before.clone();
        assert_eq!(link.follow(line.as_bytes()), Ok(()));
        assert_eq!(link.hash, example["sha256"].as_str().unwrap());
        // The body is what stands behind the fields of the chain.
        let hashed = example["hashed_bytes_utf8"].as_str().unwrap();
        let body = format!("{{{}", &hashed[hashed.find(r#""hash_algorithm""#).unwrap()..]);
        let (mut link, mut written) = (before, Vec::new());
        link.append(&body, &mut written);
        assert_eq!(String::from_utf8(written).unwrap(), format!("{line}\n"));
    }
}

#[test]
fn text_of_every_kind_survives_and_only_what_must_be_is_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let log = Log::open(Settings::new(path.clone())).unwrap();
    let odd = "\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f}\u{7f}\"\\/é漢🦀\u{2028}";
    log.write(
        Event::runtime(1, "test", &[("z", "last"), ("odd", odd), ("Z", "first")]),
        None,
        Noise::Command,
    );
    log.write(Event::runtime(1, "test", &[("long", &"é".repeat(5000))]), None, Noise::Command);
    log.close();
    assert_eq!(verify(&path).unwrap().events, 2);
    let text = fs::read_to_string(&path).unwrap();
    let escaped =
        r#"{"Z":"first","odd":"\u0000\b\t\n\u000b\f\r\u001f"#.to_owned() + "\u{7f}" + r#"\"\\/é漢🦀"#;
    assert!(text.contains(&escaped), "{text}");
    let cut = format!(r#""long":"{}…""#, "é".repeat(512));
    assert!(text.contains(&cut), "details are bounded");
}

/// Fields that may be changed without changing what is said are none.
#[test]
fn every_field_of_every_kind_of_line_counts() {
    let bytes = fixture("audit-valid.log");
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let mut checked = BTreeSet::new();
    for (at, line) in lines.iter().enumerate() {
        let original: Value = serde_json::from_slice(line).unwrap();
        let kind = original["event_type"].as_str().unwrap().to_owned();
        for (name, value) in original.as_object().unwrap() {
            if !checked.insert((kind.clone(), name.clone())) {
                continue;
            }
            let mut changes = Vec::new();
            match value {
                Value::Number(number) => changes.push(Value::from(number.as_u64().unwrap() + 1)),
                Value::String(text) => {
                    let mut text = text.clone();
                    let last = text.pop().unwrap();
                    text.push(if last == '0' { '1' } else { '0' });
                    changes.push(text.into());
                }
                Value::Null => changes.push("x".into()),
                Value::Object(details) => {
                    for detail in details.keys() {
                        let mut other = details.clone();
                        other.insert(detail.clone(), "other".into());
                        changes.push(other.into());
                        let mut fewer = details.clone();
                        fewer.remove(detail);
                        changes.push(fewer.into());
                    }
                    let mut more = details.clone();
                    more.insert("more".into(), "x".into());
                    changes.push(more.into());
                }
                other => panic!("{other}"),
            }
            for change in changes {
                let mut tampered = original.clone();
                tampered[name] = change;
                let mut copy: Vec<Vec<u8>> = lines.iter().map(|line| line.to_vec()).collect();
                copy[at] = format!("{tampered}\n").into_bytes();
                let (_dir, path) = placed(&copy.concat());
                let reason = match name.as_str() {
                    "audit_version" => "unsupported audit version 2".to_owned(),
                    "hash_algorithm" => "unsupported hash algorithm sha250".to_owned(),
                    "sequence" => format!("expected sequence {}, found {}", at + 1, at + 2),
                    "previous_hash" => "previous hash mismatch".to_owned(),
                    _ => "event hash mismatch".to_owned(),
                };
                let expected = format!("audit log hash chain verification failed: line {}: {reason}", at + 1);
                assert_eq!(complaint(&path), expected, "{name} of {kind}");
            }
        }
    }
    assert!(checked.len() >= 14 * 16, "{}", checked.len());
}

#[test]
fn the_form_of_a_line_does_not_count() {
    let bytes = fixture("audit-valid.log");
    let mut reformed = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        // Other order (by name), spaces, and a field that nobody knows.
        let mut value: Value = serde_json::from_slice(line).unwrap();
        value["aaa"] = "ignored".into();
        let text = value.to_string().replace("\":", "\" : ");
        reformed.extend_from_slice(format!("  {text} \n").as_bytes());
    }
    let (_dir, path) = placed(&reformed);
    // A colon inside of a text would have been changed too: there is none.
    assert_eq!(verify(&path).unwrap().events, 81);
}

#[test]
fn lines_cannot_be_removed_moved_repeated_or_invented() {
    let bytes = fixture("audit-valid.log");
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let join = |order: &[usize]| order.iter().flat_map(|at| lines[*at].to_vec()).collect::<Vec<u8>>();
    let all: Vec<usize> = (0..81).collect();
    let edit = |change: &dyn Fn(&mut Vec<usize>)| {
        let mut order = all.clone();
        change(&mut order);
        join(&order)
    };
    for (bytes, said) in [
        (edit(&|o| o.retain(|at| *at != 0)), "line 1: expected sequence 1, found 2"),
        (edit(&|o| o.retain(|at| *at != 40)), "line 41: expected sequence 41, found 42"),
        (edit(&|o| o.swap(10, 11)), "line 11: expected sequence 11, found 12"),
        (edit(&|o| o.insert(5, 4)), "line 6: expected sequence 6, found 5"),
        (edit(&|o| o.push(80)), "line 82: expected sequence 82, found 81"),
        ([join(&all[..3]), b"\n".to_vec(), join(&all[3..])].concat(), "line 4: empty audit log line"),
        (
            [join(&all[..3]), b"nonsense\n".to_vec(), join(&all[3..])].concat(),
            "line 4: expected ident at line 1 column 2",
        ),
        (
            [join(&all), vec![b'{'; 3], vec![b'\n']].concat(),
            "line 82: key must be a string at line 1 column 2",
        ),
        ([join(&all), vec![0; 10], vec![b'\n']].concat(), "line 82: expected value at line 1 column 1"),
        ([join(&all), vec![b' '; 2 << 20]].concat(), "line 82: longer than 1048576 bytes"),
    ] {
        let (_dir, path) = placed(&bytes);
        assert_eq!(complaint(&path), format!("audit log hash chain verification failed: {said}"));
    }
    // What only an anchor elsewhere can show.
    let (_dir, path) = placed(&join(&all[..50]));
    assert_eq!(verify(&path).unwrap().last_sequence, 50);
    // Nulls behind the last line are what some file systems leave after a power failure.
    let (_dir, path) = placed(&[join(&all), vec![0; 300]].concat());
    assert_eq!(verify(&path).unwrap().torn.unwrap().bytes, 300);
}

#[test]
fn a_name_twice_in_a_line_is_refused() {
    let text = String::from_utf8(fixture("audit-valid.log")).unwrap();
    for (name, doubled) in [
        ("\"details\":{", "\"details\":{\"result\":\"error\","),
        ("\"audit_version\":1,", "\"audit_version\":1,\"status\":\"error\","),
    ] {
        let (_dir, path) = placed(text.replacen(name, doubled, 1).as_bytes());
        assert!(complaint(&path).contains("line 1: duplicate"), "{}", complaint(&path));
    }
}

#[test]
fn the_chain_goes_on_through_closed_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    for _ in 0..12 {
        write(rotating(&path), 5);
    }
    // Something in the newest file: what is missing at the very end shows only elsewhere.
    write(rotating(&path), 1);
    let closed = files::closed(&path).unwrap();
    assert!(closed.len() > 5, "{closed:?}");
    let summary = verify(&path).unwrap();
    assert_eq!((summary.events, summary.first_sequence, summary.last_sequence), (61, Some(1), 61));
    assert_eq!(summary.files, closed.len() + 1);
    for file in &closed {
        let len = fs::metadata(&file.path).unwrap().len();
        assert!((2000..2000 + 64 * 1024).contains(&len), "{len}");
    }

    // Each closed file counts as much as the one being written.
    let tampered = &closed[2].path;
    let original = fs::read(tampered).unwrap();
    let text = String::from_utf8(original.clone()).unwrap();
    fs::write(tampered, text.replacen("\"event_type\":\"test\"", "\"event_type\":\"tent\"", 1)).unwrap();
    let name = tampered.display();
    assert_eq!(
        complaint(&path),
        format!("audit log hash chain verification failed: {name}: line 1: event hash mismatch")
    );
    // Not even the last line of a closed file may be torn.
    fs::write(tampered, &original[..original.len() - 5]).unwrap();
    assert!(complaint(&path).ends_with(": unfinished line"), "{}", complaint(&path));
    fs::write(tampered, &original).unwrap();
    assert_eq!(verify(&path).unwrap().events, 61);

    // A file that is missing, at the beginning, in the middle, or at the end of the closed ones.
    for at in [0, 2, closed.len() - 1] {
        let away = dir.path().join("away");
        fs::rename(&closed[at].path, &away).unwrap();
        assert!(complaint(&path).contains("line 1: expected sequence"), "{}", complaint(&path));
        fs::rename(&away, &closed[at].path).unwrap();
    }
    // Two files that have changed places.
    fs::rename(&closed[1].path, dir.path().join("away")).unwrap();
    fs::rename(&closed[2].path, &closed[1].path).unwrap();
    fs::rename(dir.path().join("away"), &closed[2].path).unwrap();
    assert!(complaint(&path).contains("line 1: expected sequence"), "{}", complaint(&path));
}

#[test]
fn old_files_go_and_the_rest_still_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let settings = Settings { closed_files_max: 2, ..rotating(&path) };
    for _ in 0..30 {
        write(settings.clone(), 5);
    }
    let closed = files::closed(&path).unwrap();
    assert_eq!(closed.len(), 2);
    let summary = verify(&path).unwrap();
    assert_eq!(summary.last_sequence, 150);
    assert_eq!(summary.first_sequence, Some(closed[0].first));
    let anchor = files::read_anchor(&path).unwrap().unwrap();
    assert_eq!(anchor.sequence + 1, closed[0].first);

    // Without the note, or with another one, the beginning is in doubt.
    let note = files::anchor_path(&path);
    let original = fs::read(&note).unwrap();
    fs::remove_file(&note).unwrap();
    assert!(complaint(&path).contains("line 1: expected sequence 1, found"), "{}", complaint(&path));
    let forged = Link { hash: "f".repeat(64), ..anchor.clone() };
    fs::write(&note, serde_json::to_vec(&forged).unwrap()).unwrap();
    assert!(complaint(&path).ends_with("line 1: previous hash mismatch"), "{}", complaint(&path));
    fs::write(&note, "{").unwrap();
    assert!(matches!(verify(&path), Err(VerifyError::Broken { file: Some(file), .. }) if file == note));
    fs::write(&note, &original).unwrap();

    // A deletion that was interrupted is brought to its end.
    let leftover = files::closed_path(&path, anchor.sequence);
    fs::write(&leftover, "anything").unwrap();
    assert_eq!(verify(&path).unwrap().last_sequence, 150);
    write(settings, 1);
    assert!(!leftover.exists());
    assert_eq!(verify(&path).unwrap().last_sequence, 151);
}

/// A crash between closing a file and beginning the next one leaves no file to write.
#[test]
fn a_missing_newest_file_is_begun_where_the_closed_ones_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    write(Settings::new(path.clone()), 5);
    fs::rename(&path, files::closed_path(&path, 1)).unwrap();
    assert_eq!(verify(&path).unwrap().last_sequence, 5);
    write(Settings::new(path.clone()), 1);
    assert_eq!(verify(&path).unwrap().last_sequence, 6);
    assert!(fs::read_to_string(&path).unwrap().starts_with(r#"{"audit_version":1,"sequence":6,"#));
}

#[test]
fn what_is_not_there_cannot_be_verified_but_can_be_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/audit.log");
    let Err(VerifyError::Missing { .. }) = verify(&path) else { panic!("nothing is not a log") };
    write(Settings::new(path.clone()), 2);
    assert_eq!(verify(&path).unwrap().events, 2);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // A directory is no log.
    let Err(OpenError::Io { .. }) = Log::open(Settings::new(dir.path().join("deep"))) else {
        panic!("a directory was opened")
    };
}

#[test]
fn only_one_server_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let first = Log::open(Settings::new(path.clone())).unwrap();
    let second = Log::open(Settings::new(path.clone())).err().unwrap();
    assert!(second.to_string().contains("in use by another running server"), "{second}");
    first.close();
    Log::open(Settings::new(path)).unwrap().close();
}

#[test]
fn what_was_verified_ahead_counts_only_while_nobody_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let nothing = rotating(&path).verified().unwrap();
    assert!(!path.exists(), "verifying makes no file");
    write(nothing.clone(), 3);
    let three = rotating(&path).verified().unwrap();
    write(three.clone(), 20);
    assert!(!files::closed(&path).unwrap().is_empty(), "a file was closed meanwhile");
    // Each of them is out of date by now.
    for (stale, expected) in [(nothing, 25), (three, 27)] {
        write(stale, 2);
        assert_eq!(verify(&path).unwrap().last_sequence, expected);
    }
    let broken = fs::read_to_string(&path).unwrap().replace("test", "tset");
    fs::write(&path, &broken).unwrap();
    assert_eq!(rotating(&path).verified().unwrap_err().code().code(), "SRV-028");
    assert_eq!(fs::read_to_string(&path).unwrap(), broken);
}

/// A disk that refuses a number of operations, one after some that succeed.
struct Flaky {
    disk: Box<dyn Medium>,
    succeeds: Arc<AtomicUsize>,
    fails: Arc<AtomicUsize>,
}

impl Flaky {
    fn may(&self) -> io::Result<()> {
        let take = |count: &AtomicUsize| {
            count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        };
        if take(&self.succeeds) || !take(&self.fails) {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
}

impl Medium for Flaky {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.may() {
            // As much as fits.
            self.disk.append(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.disk.append(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.may()?;
        self.disk.cut(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.may()?;
        self.disk.sync()
    }
}

/// Whatever fails first, and however often: nothing is lost, the chain is whole, and the failure was seen.
#[test]
fn a_failing_disk_loses_nothing_and_is_counted() {
    for succeeds in 0..6 {
        for fails in [1, 2, 3] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("audit.log");
            let counts = (Arc::new(AtomicUsize::new(succeeds)), Arc::new(AtomicUsize::new(fails)));
            let settings = Settings { sync_interval: Duration::ZERO, ..Settings::new(path.clone()) };
            let log = Log::open_with(settings, |writer| {
                writer.replace_file(|disk| {
                    Box::new(Flaky { disk, succeeds: Arc::clone(&counts.0), fails: Arc::clone(&counts.1) })
                });
            })
            .unwrap();
            let mut written = 0;
            // Until the disk has failed as often as it will, and works again.
            while counts.1.load(Ordering::SeqCst) > 0 || log.is_failing() {
                if let Some(mut places) = log.try_places(1) {
                    log.write(event(written), Some(&mut places), Noise::Command);
                    written += 1;
                }
                std::thread::yield_now();
            }
            log.close();
            assert!(log.failures() > 0, "{succeeds} {fails}");
            assert_eq!(verify(&path).unwrap().events, written as u64, "{succeeds} {fails}");
            assert_eq!(log.suppressed(), 0);
        }
    }
}

#[test]
fn a_disk_that_never_works_is_said_to_and_does_not_hold_up_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let counts = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
    let log = Log::open_with(Settings::new(path), |writer| {
        writer.replace_file(|disk| {
            Box::new(Flaky { disk, succeeds: Arc::clone(&counts.0), fails: Arc::clone(&counts.1) })
        });
    })
    .unwrap();
    log.write(event(0), None, Noise::Command);
    while !log.is_failing() {
        std::thread::yield_now();
    }
    // The queue fills, and then there is no place any more: nothing is lost, those who need one wait.
    while let Some(mut places) = log.try_places(1) {
        log.write(event(1), Some(&mut places), Noise::Command);
    }
    log.write(event(2), None, Noise::Slow);
    assert_eq!(log.suppressed(), 1);
    log.close();
}

#[test]
fn what_was_suppressed_is_told_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let log = Log::open(Settings::new(path.clone())).unwrap();
    log.suppress(Noise::Quota);
    log.suppress(Noise::Quota);
    log.suppress(Noise::Locked);
    log.close();
    let text = fs::read_to_string(&path).unwrap();
    let told = r#""opcode":"RUNTIME","status":"ok","error_code":null,"latency_ms":0,"event_type":"suppressed","details":{"locked":"1","quota":"2"}}"#;
    assert!(text.contains(told), "{text}");
    assert_eq!(verify(&path).unwrap().events, 1);
}
