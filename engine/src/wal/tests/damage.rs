//! A write that never completed is cut off; every other change of a byte is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::*;

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Everything in the directory, as a kill leaves it.
fn image(root: &Path) -> Files {
    let mut files = Files::new();
    for directory in [root.to_owned(), root.join("wal")] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn restore(root: &Path, files: &Files) {
    for name in image(root).keys().filter(|name| !files.contains_key(*name)) {
        fs::remove_file(root.join(name)).unwrap();
    }
    for (name, content) in files {
        if fs::read(root.join(name)).ok().as_ref() != Some(content) {
            fs::write(root.join(name), content).unwrap();
        }
    }
}

/// A directory that is changed and opened over and over.
struct Lab {
    bench: Bench,
    good: Files,
    active: PathBuf,
}

impl Lab {
    /// The image of a log with a zero-filled active segment that holds these appends, taken while it is open.
    fn new(appends: &[Vec<Record>]) -> Self {
        Self::with_policy(SyncPolicy::Sync, appends)
    }

    fn with_policy(sync: SyncPolicy, appends: &[Vec<Record>]) -> Self {
        Self::with(sync, true, appends)
    }

    fn with(sync: SyncPolicy, prezero: bool, appends: &[Vec<Record>]) -> Self {
        let mut bench = Bench::new();
        bench.config.sync = sync;
        bench.config.prezero = prezero;
        bench.config.initial_size_bytes = 8192;
        bench.config.segment_size_bytes = 16384;
        fs::create_dir(bench.path().join("wal")).unwrap();
        let log = bench.open();
        appends.iter().for_each(|records| log.append(records.clone()));
        let mut good = image(bench.path());
        good.remove(Path::new("wal/spare.tmp"));
        drop(log);
        let active = good.keys().find(|name| name.to_str().unwrap().contains("active")).unwrap().clone();
        Self { bench, good, active }
    }

    fn segment(&self) -> &Vec<u8> {
        &self.good[&self.active]
    }

    /// Where the frames of the active segment end.
    fn end(&self) -> usize {
        let last = self.segment().iter().rposition(|byte| *byte != 0).unwrap();
        assert_eq!((last + 1) % 512, 0);
        last + 1
    }

    fn but(&self, name: &Path, content: Vec<u8>) -> Files {
        let mut files = self.good.clone();
        files.insert(name.to_owned(), content);
        files
    }

    fn opens(&self, files: &Files, what: &str) -> (Vec<Record>, Recovery) {
        restore(self.bench.path(), files);
        // What the log does after opening is not of interest here.
        let config = Config { prezero: false, ..self.bench.config.clone() };
        let log = open(DataDir::open_or_create(self.bench.path()).unwrap(), &config);
        let log = log.unwrap_or_else(|error| panic!("{what}: {error}"));
        (log.all(), log.recovery.clone())
    }

    /// The refusal, which names the file and leaves everything as it was.
    fn refused(&self, files: &Files, what: &str) -> StorageError {
        restore(self.bench.path(), files);
        let result = open(DataDir::open_or_create(self.bench.path()).unwrap(), &self.bench.config);
        let Err(error) = result else { panic!("{what}: opened") };
        let mut after = image(self.bench.path());
        after.insert("LOCK".into(), files[Path::new("LOCK")].clone());
        assert_eq!(&after, files, "{what}: changed the directory");
        assert!(error.file().is_some() && error.advice().is_some(), "{what}: {error}");
        error
    }
}

/// Cuts the last frame at every byte, by the end of the file and by zeros.
#[track_caller]
fn check_cuts(before: &[Vec<Record>], last: Vec<Record>) {
    let begin = Lab::new(before).end();
    let appends = [before, &[last]].concat();
    let lab = Lab::new(&appends);
    let grown = Lab::with(SyncPolicy::Sync, false, &appends);
    let kept = before.concat();
    let good = lab.segment();
    for at in begin..lab.end() {
        let mut zeroed = good.clone();
        zeroed[at..].fill(0);
        // A segment that was begun without room grows with its frames, and a crash may leave less of it.
        let cut = grown.segment()[..at].to_vec();
        for (how, lab, content) in [("zeroed", &lab, zeroed), ("cut", &grown, cut)] {
            let what = format!("{how} at {at}");
            let (found, recovery) = lab.opens(&lab.but(&lab.active, content), &what);
            assert_eq!(found, kept, "{what}");
            assert_eq!(recovery.torn_tail.is_some(), at > begin, "{what}");
        }
        // One that had room from the beginning never becomes shorter.
        let error = lab.refused(&lab.but(&lab.active, good[..at].to_vec()), "cut");
        let code = Code::WalDeserializationFailure;
        assert_eq!((error.code(), error.offset()), (code, Some(at as u64)), "{error}");
    }
}

#[test]
fn a_last_frame_of_one_record_is_cut_off_wherever_it_ends() {
    check_cuts(&[records(1..=2), vec![record(3, 700)]], vec![record(4, 5)]);
}

#[test]
fn a_last_frame_of_many_records_over_sectors_is_cut_off_wherever_it_ends() {
    check_cuts(&[records(1..=1)], (2..=7).map(|index| record(index, 150)).collect());
}

#[test]
fn a_first_frame_is_cut_off_too() {
    check_cuts(&[], vec![record(1, 5)]);
}

#[test]
fn a_last_frame_whose_sectors_arrived_in_any_order_is_cut_off() {
    let before = [records(1..=2)];
    let begin = Lab::new(&before).end();
    let lab = Lab::new(&[before[0].clone(), vec![record(3, 1800)]]);
    let sectors = (lab.end() - begin) / 512;
    assert_eq!(sectors, 4);
    for present in 0..(1 << sectors) - 1 {
        let mut content = lab.segment().clone();
        for sector in (0..sectors).filter(|sector| present & (1 << sector) == 0) {
            content[begin + sector * 512..begin + (sector + 1) * 512].fill(0);
        }
        let what = format!("sectors {present:b}");
        let (found, recovery) = lab.opens(&lab.but(&lab.active, content), &what);
        assert_eq!(found, before[0], "{what}");
        assert_eq!(recovery.torn_tail.is_some(), present != 0, "{what}");
    }
}

#[test]
fn missing_sectors_before_a_frame_written_after_their_sync_are_refused() {
    let lab = Lab::new(&[records(1..=2), vec![record(3, 1800)], records(4..=4)]);
    for sector in (1..lab.end() / 512).rev().skip(1) {
        let mut content = lab.segment().clone();
        content[sector * 512..(sector + 1) * 512].fill(0);
        lab.refused(&lab.but(&lab.active, content), &format!("sector {sector}"));
    }
}

#[test]
fn without_syncs_several_frames_may_be_incomplete() {
    let lab =
        Lab::with_policy(SyncPolicy::Buffered, &[records(1..=2), vec![record(3, 1800)], records(4..=4)]);
    for sector in 1..lab.end() / 512 {
        let mut content = lab.segment().clone();
        content[sector * 512..(sector + 1) * 512].fill(0);
        let (found, _) = lab.opens(&lab.but(&lab.active, content.clone()), &format!("sector {sector}"));
        let kept = match sector {
            1 => vec![],
            2..=5 => records(1..=2),
            _ => vec![record(1, 40), record(2, 40), record(3, 1800)],
        };
        assert_eq!(found, kept, "sector {sector}");
        if sector < 6 {
            // A change is a change all the same.
            content[6 * 512 + 30] ^= 1;
            lab.refused(&lab.but(&lab.active, content), &format!("sector {sector} and a flip"));
        }
    }
}

#[test]
fn every_flipped_byte_of_every_file_is_refused() {
    let mut bench = Bench::new();
    bench.config.segment_size_bytes = 1536;
    let log = bench.open();
    log.append(records(1..=2));
    log.append(vec![record(3, 500)]);
    log.append(records(4..=4));
    log.wal.truncate_from(4).unwrap();
    log.append(vec![record_of(2, 4, 10)]);
    log.wal.purge_to(id(1, 1)).unwrap();
    crate::vote::store(&log.dir, &Keyring::open_or_create(&log.dir, 1).unwrap(), b"vote").unwrap();
    let mut good = image(bench.path());
    drop(log);
    let active = good.keys().find(|name| name.to_str().unwrap().contains("active")).unwrap().clone();
    // As if filled with zeros ahead of use.
    let zeros = vec![0; 1024];
    good.get_mut(&active).unwrap().extend_from_slice(&zeros);
    let lab = Lab { bench, good, active };
    assert_eq!(lab.good.len(), 8, "{:?}", lab.good.keys());
    let (found, _) = lab.opens(&lab.good, "good");
    assert_eq!(found, [record(2, 40), record(3, 500), record_of(2, 4, 10)]);

    let mut flips = 0;
    for (name, content) in lab.good.iter().filter(|(name, _)| name.to_str() != Some("LOCK")) {
        for at in 0..content.len() {
            let mask = [0x01, 0xFF, 0x80][at % 3];
            let mut bad = content.clone();
            bad[at] ^= mask;
            let what = format!("{} byte {at} ^ {mask:#x}", name.display());
            if name.to_str() == Some("vote.bin") {
                restore(lab.bench.path(), &lab.but(name, bad));
                let dir = DataDir::open_or_create(lab.bench.path()).unwrap();
                let error =
                    crate::vote::load(&dir, &Keyring::open_or_create(&dir, 1).unwrap()).expect_err(&what);
                assert!(error.file().is_some() && error.offset().is_some());
            } else {
                let error = lab.refused(&lab.but(name, bad), &what);
                assert!(error.offset().is_some(), "{what}: {error}");
            }
            flips += 1;
        }
    }
    assert!(flips > 4000, "{flips}");
}

#[test]
fn segments_that_are_missing_renamed_or_mixed_are_refused() {
    let bench = Bench::new();
    let log = bench.open();
    for index in 1..=25 {
        log.append(vec![record(index, 100)]);
    }
    let good = image(bench.path());
    drop(log);
    let lab = Lab { bench, good, active: "wal/active-22.wal".into() };
    let check = |what: &str, code: Code, change: &dyn Fn(&mut Files)| {
        let mut files = lab.good.clone();
        change(&mut files);
        assert_ne!(files, lab.good);
        let error = lab.refused(&files, what);
        assert_eq!(error.code(), code, "{what}: {error}");
    };
    let moved = |files: &mut Files, from: &str, to: &str| {
        let content = files.remove(Path::new(from)).unwrap();
        files.insert(to.into(), content);
    };
    let disorder = Code::WalDeserializationFailure;
    check("first missing", disorder, &|files| drop(files.remove(Path::new("wal/1-7.wal"))));
    check("middle missing", disorder, &|files| drop(files.remove(Path::new("wal/8-14.wal"))));
    check("last sealed missing", disorder, &|files| drop(files.remove(Path::new("wal/15-21.wal"))));
    check("origin missing", disorder, &|files| drop(files.remove(Path::new("wal/origin.bin"))));
    check("all missing", disorder, &|files| {
        files.retain(|name, _| !name.starts_with("wal"));
        files.insert("vote.bin".into(), b"a vote".to_vec());
    });
    check("every segment missing", disorder, &|files| {
        files.retain(|name, _| name.extension().is_none_or(|extension| extension != "wal"));
        files.insert("vote.bin".into(), b"a vote".to_vec());
    });
    check("keyring missing", Code::UnsupportedStorageFormat, &|files| {
        drop(files.remove(Path::new("keyring.bin")))
    });
    check("other start", disorder, &|files| moved(files, "wal/8-14.wal", "wal/9-14.wal"));
    check("other end", disorder, &|files| moved(files, "wal/8-14.wal", "wal/8-13.wal"));
    check("no name", disorder, &|files| moved(files, "wal/8-14.wal", "wal/eight.wal"));
    check("two active", disorder, &|files| moved(files, "wal/15-21.wal", "wal/active-15.wal"));
    check("an old active", disorder, &|files| moved(files, "wal/8-14.wal", "wal/active-8.wal"));
    check("one number twice", disorder, &|files| {
        let copy = files[Path::new("wal/8-14.wal")].clone();
        files.insert("wal/8-15.wal".into(), copy);
    });
    check("sealed too long", disorder, &|files| {
        files.get_mut(Path::new("wal/8-14.wal")).unwrap().extend_from_slice(&[0; 512]);
    });
    check("sealed too short", disorder, &|files| {
        let content = files.get_mut(Path::new("wal/8-14.wal")).unwrap();
        content.truncate(content.len() - 512);
    });
    check("sealed without records", disorder, &|files| {
        files.get_mut(Path::new("wal/8-14.wal")).unwrap().truncate(512);
    });
    check("frames swapped", Code::WalDeserializationFailure, &|files| {
        let content = files.get_mut(Path::new("wal/8-14.wal")).unwrap();
        let (left, right) = content.split_at_mut(1024);
        left[512..].swap_with_slice(&mut right[..512]);
    });
    let foreign = Bench::new();
    let log = foreign.open();
    for index in 1..=25 {
        log.append(vec![record(index, 100)]);
    }
    let theirs = image(foreign.path());
    check("segment of another log", Code::UnsupportedStorageFormat, &|files| {
        let name = PathBuf::from("wal/8-14.wal");
        files.insert(name.clone(), theirs[&name].clone());
    });
    check("keyring of another log", Code::UnsupportedStorageFormat, &|files| {
        let name = PathBuf::from("keyring.bin");
        files.insert(name.clone(), theirs[&name].clone());
    });
}

/// The newest segment names none behind it, so only the mark tells that it is gone.
#[test]
fn a_log_without_its_newest_segment_is_refused_and_one_before_that_segment_was_made_is_not() {
    for stopped in [false, true] {
        let bench = Bench::new();
        let log = bench.open();
        for index in 1..=16 {
            log.append(vec![record(index, 100)]);
        }
        if stopped {
            log.wal.clone().close().unwrap();
        }
        let good = image(bench.path());
        drop(log);
        let newest = PathBuf::from(if stopped { "wal/15-16.wal" } else { "wal/active-15.wal" });
        let mark = PathBuf::from("wal/newest-3");
        assert!(good.contains_key(&newest) && good.contains_key(&mark), "{:?}", good.keys());
        let lab = Lab { bench, good, active: newest.clone() };
        assert_eq!(lab.opens(&lab.good, "as it was").0.len(), 16);

        let mut files = lab.good.clone();
        files.remove(&newest);
        let error = lab.refused(&files, "the newest segment");
        assert_eq!(error.code(), Code::WalDeserializationFailure);
        assert!(error.to_string().contains("number 3, the newest one found is 8-14.wal"), "{error}");
        files.remove(Path::new("wal/8-14.wal"));
        assert!(lab.refused(&files, "two segments").to_string().contains("1-7.wal"));
        files.remove(Path::new("wal/1-7.wal"));
        assert!(lab.refused(&files, "all segments").to_string().contains("none is found"));

        // A kill in a rotation: the segment before is sealed, its successor has no name yet.
        let mut files = lab.good.clone();
        files.remove(&newest);
        files.remove(&mark);
        for mark in [None, Some("wal/newest-2"), Some("wal/newest-1")] {
            let mut files = files.clone();
            files.extend(mark.map(|mark| (PathBuf::from(mark), Vec::new())));
            assert_eq!(lab.opens(&files, "in a rotation").0.len(), 14);
            let marks = image(lab.bench.path()).into_keys().filter(|name| name.starts_with("wal"));
            let marks: Vec<_> = marks.filter(|name| name.to_str().unwrap().contains("newest")).collect();
            assert_eq!(marks, [mark_of(3)]);
        }
        // What a loss of power left of two names.
        let mut files = lab.good.clone();
        files.insert(mark_of(2), Vec::new());
        lab.opens(&files, "two marks");
        assert!(!lab.bench.path().join(mark_of(2)).exists());
    }
}

fn mark_of(number: u64) -> PathBuf {
    format!("wal/newest-{number}").into()
}

#[test]
fn records_damaged_after_the_start_are_not_handed_out() {
    let mut bench = Bench::new();
    bench.config.tail_bytes_max = 0;
    let log = bench.open();
    for index in 1..=10 {
        log.append(vec![record(index, 100)]);
    }
    let path = bench.path().join("wal/1-7.wal");
    let mut content = fs::read(&path).unwrap();
    content[1024 + 100] ^= 1;
    fs::write(&path, content).unwrap();
    assert_eq!(log.wal.read(1, 2, 0).unwrap(), [record(1, 100)]);
    let error = log.wal.read(2, 3, 0).unwrap_err();
    assert_eq!((error.code(), error.offset()), (Code::ChecksumValidationFailure, Some(1024)));
    assert_eq!(log.wal.read(8, 9, 0).unwrap(), [record(8, 100)]);
}
