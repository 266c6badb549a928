//! Finished segments that a snapshot covers are not read at a start; whoever needs their records gets them proved.

use std::fs;

use super::*;

/// A log of many finished segments, with frames of all sizes; its records.
fn long(bench: &Bench) -> Vec<Record> {
    let log = bench.open();
    let (mut written, mut frame) = (Vec::new(), Vec::new());
    for index in 1..=400_u64 {
        let len = match (index % 50, index % 7) {
            (5, _) => 90_000,
            (_, 0) => 3_000,
            (_, other) => usize::try_from(other).unwrap() * 100,
        };
        written.push(record(index, len));
        frame.push(record(index, len));
        // Frames of one record and of several.
        if index % 3 != 1 {
            log.append(std::mem::take(&mut frame));
        }
    }
    log.append(frame);
    log.wal.close().unwrap();
    written
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.config.segment_size_bytes = 200 << 10;
    bench.config.tail_bytes_max = 0;
    bench
}

fn behind(bench: &Bench, covered: u64) -> Result<(Wal, Recovery), StorageError> {
    let dir = DataDir::open_or_create(bench.path())?;
    let keyring = Arc::new(Keyring::open_or_create(&dir, 1)?);
    Wal::open_behind(&dir, bench.config.clone(), keyring, covered)
}

#[test]
fn records_of_segments_that_were_not_read_are_found_from_anywhere() {
    let bench = bench();
    let written = long(&bench);
    assert!(segment_names(bench.path()).len() > 3);
    let (wal, recovery) = behind(&bench, u64::MAX).unwrap();
    assert_eq!((recovery.records, recovery.last), (400, Some(id(1, 400))));
    assert_eq!(wal.read(0, u64::MAX, usize::MAX).unwrap(), written);
    for from in 1..=400_u64 {
        let at = usize::try_from(from).unwrap() - 1;
        assert_eq!(wal.read(from, from + 1, 0).unwrap(), written[at..=at], "from {from}");
    }
}

#[test]
fn a_log_goes_on_behind_segments_that_were_not_read() {
    let bench = bench();
    let mut written = long(&bench);
    let (wal, _) = behind(&bench, 400).unwrap();
    append(&wal, vec![record_of(2, 401, 50)]).unwrap();
    written.push(record_of(2, 401, 50));
    wal.truncate_from(300).unwrap();
    written.truncate(299);
    append(&wal, vec![record_of(3, 300, 50)]).unwrap();
    written.push(record_of(3, 300, 50));
    wal.purge_to(id(1, 150)).unwrap();
    assert_eq!(wal.read(0, u64::MAX, usize::MAX).unwrap(), written[150..]);
    wal.close().unwrap();
    for covered in [0, 200, 299, 300, u64::MAX] {
        let (wal, _) = behind(&bench, covered).unwrap();
        assert_eq!(wal.read(0, u64::MAX, usize::MAX).unwrap(), written[150..], "covered {covered}");
    }
}

#[test]
fn damage_is_found_where_records_are_needed() {
    let bench = bench();
    long(&bench);
    let names = segment_names(bench.path());
    let first = names.iter().find(|name| name.starts_with("1-")).unwrap();
    let end: u64 = first.trim_end_matches(".wal").split_once('-').unwrap().1.parse().unwrap();
    let path = bench.path().join("wal").join(first);
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    let at = good.len() / 2;
    bad[at] ^= 1;
    fs::write(&path, &bad).unwrap();

    let error = behind(&bench, end - 1).err().expect("one record of it is needed");
    assert_eq!(error.file(), Some(path.as_path()));
    let (wal, _) = behind(&bench, end).unwrap();
    let error = wal.read(1, end + 1, usize::MAX).expect_err("read all of it");
    assert_eq!(error.file(), Some(path.as_path()));
    assert!(error.offset().is_some_and(|offset| offset <= at as u64), "{error}");
    drop(wal);
    let dir = DataDir::read_only(bench.path(), crate::lock::Hold::Shared).unwrap();
    let keyring = Keyring::open_or_create(&dir, 1).unwrap();
    assert!(History::open(&dir, &keyring, 0, &mut |_| Ok(())).is_err());
    let history = History::open(&dir, &keyring, u64::MAX, &mut |_| Ok(())).unwrap();
    assert_eq!(history.last_id(), Some(id(1, 400)));
}

#[test]
fn names_headers_and_lengths_of_covered_segments_are_judged() {
    let bench = bench();
    long(&bench);
    let second = segment_names(bench.path())
        .into_iter()
        .filter_map(|name| {
            name.split_once('-').and_then(|(start, _)| start.parse::<u64>().ok()).zip(Some(name))
        })
        .filter(|(start, _)| *start > 1)
        .min()
        .unwrap()
        .1;
    let path = bench.path().join("wal").join(&second);
    let good = fs::read(&path).unwrap();
    let check = |what: &str, change: &dyn Fn()| {
        change();
        let error = behind(&bench, u64::MAX).err().unwrap_or_else(|| panic!("{what}: opened"));
        assert!(error.file().is_some(), "{what}: {error}");
        fs::write(&path, &good).unwrap();
    };
    check("missing", &|| fs::remove_file(&path).unwrap());
    check("header", &|| {
        let mut bad = good.clone();
        bad[20] ^= 1;
        fs::write(&path, bad).unwrap();
    });
    check("cut within a sector", &|| fs::write(&path, &good[..good.len() - 1]).unwrap());
    check("without records", &|| fs::write(&path, &good[..512]).unwrap());
    let other = path.with_file_name("2-3.wal");
    check("renamed", &|| fs::rename(&path, &other).unwrap());
    fs::remove_file(&other).unwrap();
    behind(&bench, u64::MAX).unwrap();
}

#[test]
fn a_history_reads_what_a_start_would_and_changes_nothing() {
    let mut bench = Bench::new();
    bench.config.prezero = true;
    bench.config.initial_size_bytes = 8192;
    let log = bench.open();
    for index in 1..=30 {
        log.append(vec![record(index, 300)]);
    }
    log.wal.truncate_from(28).unwrap();
    log.append(vec![record_of(2, 28, 10)]);
    let expected = log.all();
    // As a kill leaves it: the active segment with a torn frame.
    let copy = crate::crash::scratch();
    fs::create_dir(copy.path().join("wal")).unwrap();
    for name in fs::read_dir(bench.path().join("wal")).unwrap() {
        let path = name.unwrap().path();
        if path.extension().is_some_and(|extension| extension != "tmp") {
            fs::copy(&path, copy.path().join("wal").join(path.file_name().unwrap())).unwrap();
        }
    }
    fs::copy(bench.path().join("keyring.bin"), copy.path().join("keyring.bin")).unwrap();
    let active = copy.path().join("wal").join("active-28.wal");
    let mut content = fs::read(&active).unwrap();
    let end = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert_eq!(end % 512, 0);
    let mut torn = content[end - 512..end].to_vec();
    torn[4..8].copy_from_slice(&2_u32.to_le_bytes());
    torn[300..].fill(0);
    content.truncate(end);
    content.extend_from_slice(&torn);
    fs::write(&active, &content).unwrap();

    let files = || {
        let mut files: Vec<_> = fs::read_dir(copy.path().join("wal"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files();
    let dir = DataDir::read_only(copy.path(), crate::lock::Hold::Shared).unwrap();
    let keyring = Keyring::open_or_create(&dir, 1).unwrap();
    let mut visited = Vec::new();
    let history = History::open(&dir, &keyring, 0, &mut |record| {
        visited.push(record.clone());
        Ok(())
    })
    .unwrap();
    assert_eq!(visited, expected);
    assert_eq!(history.read(1, u64::MAX, usize::MAX).unwrap(), expected);
    assert_eq!(history.torn_tail().map(|torn| torn.offset), Some(end as u64));
    assert_eq!(
        history.segments().last().map(|segment| (segment.start, segment.sealed_end)),
        Some((28, None))
    );
    assert_eq!(files(), before);
    assert!(!copy.path().join("LOCK").exists());
}

/// A log in which terms begin within segments and with them; its records.
fn of_many_terms(bench: &Bench) -> Vec<Record> {
    let mut written = Vec::new();
    let mut term = 1;
    for life in 0..6_u64 {
        let log = bench.open();
        for step in 0..40_u64 {
            // In some lives nobody else leads, in others several do.
            if step == 0 || (life % 3 == 1 && step % 17 == 5) || (life == 4 && step > 30) {
                term += 1 + step % 2;
            }
            let one = record_of(term, written.len() as u64 + 1, 300);
            log.append(vec![one.clone()]);
            written.push(one);
        }
        log.wal.close().unwrap();
    }
    written
}

/// What is known of the records that were not read, which may be none.
fn known(recovery: &Recovery, count: u64) -> Vec<RecordId> {
    (1..=count).filter_map(|index| recovery.unread.id_of(index)).collect()
}

#[test]
fn who_led_when_is_known_of_segments_that_were_not_read() {
    let bench = bench();
    let ids: Vec<_> = of_many_terms(&bench).iter().map(|record| record.id).collect();
    let count = ids.len() as u64;
    let finished = segment_names(bench.path()).len();
    assert!(finished >= 6, "{finished} segments");

    let (wal, recovery) = behind(&bench, 0).unwrap();
    assert_eq!(known(&recovery, count), [], "all was read");
    drop(wal);
    for purged in [0, 1, 39, 40, 41, 90, 100] {
        let (wal, recovery) = behind(&bench, count).unwrap();
        assert_eq!(recovery.unknown_up_to, None);
        let known = known(&recovery, count);
        assert!(known.len() >= 120, "only {} are known", known.len());
        let first = usize::try_from(known[0].index).unwrap() - 1;
        assert!(known[0].index <= recovery.purged.map_or(1, |purged| purged.index));
        assert_eq!(known, ids[first..first + known.len()]);
        if let Some(at) = usize::try_from(purged).unwrap().checked_sub(1) {
            wal.purge_to(ids[at]).unwrap();
        }
        wal.close().unwrap();
    }
}

#[test]
fn damage_hides_who_led_before_it_and_nothing_else() {
    let bench = bench();
    let ids: Vec<_> = of_many_terms(&bench).iter().map(|record| record.id).collect();
    let count = ids.len() as u64;
    let mut met = 0;
    for name in segment_names(bench.path()) {
        let path = bench.path().join("wal").join(&name);
        let good = fs::read(&path).unwrap();
        for at in (600..good.len()).step_by(2500) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            let dir = DataDir::read_only(bench.path(), crate::lock::Hold::Shared).unwrap();
            let keyring = Keyring::open_or_create(&dir, 1).unwrap();
            let examined = recovery::examine(&dir, &keyring, count, recovery::Extent::Whole, &mut |_| Ok(()));
            // The newest segment is always read.
            let Ok(examined) = examined else { continue };
            let (terms, damage) = Terms::find(None, &examined.judged.live);
            let known: Vec<_> = (1..=count).filter_map(|index| terms.id_of(index)).collect();
            let first = usize::try_from(known[0].index).unwrap() - 1;
            assert_eq!(known, ids[first..first + known.len()], "{name} at {at}");
            match damage {
                Some(terms::Damage { up_to, error }) => {
                    met += 1;
                    assert_eq!((up_to.index, error.file()), (known[0].index, Some(path.as_path())));
                    assert_eq!(error.code(), Code::ChecksumValidationFailure, "{error}");
                }
                None => assert_eq!(first, 0, "{name} at {at}"),
            }
        }
        fs::write(&path, good).unwrap();
    }
    assert!(met > 5, "damage was met {met} times");
}

#[test]
fn a_covered_segment_that_was_cut_at_a_frame_is_noticed() {
    let bench = bench();
    let ids: Vec<_> = of_many_terms(&bench).iter().map(|record| record.id).collect();
    let count = ids.len() as u64;
    let path = bench.path().join("wal/41-80.wal");
    let good = fs::read(&path).unwrap();
    // Each record has a frame of its own there.
    fs::write(&path, &good[..good.len() - 512]).unwrap();
    let (wal, recovery) = behind(&bench, count).unwrap();
    assert_eq!(recovery.unknown_up_to, Some(ids[79]));
    let error = wal.read(80, 82, 1).unwrap_err();
    assert_eq!((error.code(), error.file()), (Code::WalDeserializationFailure, Some(&*path)), "{error}");
    assert!(error.to_string().contains("ends before its record 80"), "{error}");
    assert_eq!(wal.read(79, 80, 1).unwrap()[0].id, ids[78]);
    assert_eq!(wal.read(81, 82, 1).unwrap()[0].id, ids[80]);
}
