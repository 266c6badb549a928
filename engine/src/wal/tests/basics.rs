//! What a log promises while nothing goes wrong.

use super::*;

#[test]
fn what_was_appended_is_read_back_before_and_after_a_restart() {
    let bench = Bench::new();
    let log = bench.open();
    assert_eq!(log.recovery, Recovery::default());
    assert_eq!((log.wal.first_index(), log.wal.last_id(), log.wal.durable_index()), (None, None, None));
    log.append(records(1..=3));
    log.append(vec![record(4, 3000), record(5, 0)]);
    let expected: Vec<_> = records(1..=3).into_iter().chain([record(4, 3000), record(5, 0)]).collect();
    assert_eq!(log.all(), expected);
    assert_eq!(log.wal.durable_index(), Some(5));
    log.wal.close().unwrap();
    drop(log.dir);

    let log = bench.open();
    assert_eq!(log.recovery.records, 5);
    assert_eq!(log.recovery.last, Some(id(1, 5)));
    assert_eq!(log.recovery.torn_tail, None);
    assert_eq!(log.all(), expected);
    assert_eq!(log.wal.read(2, 4, usize::MAX).unwrap(), expected[1..3]);
    assert_eq!(log.wal.read(3, 9, 1).unwrap(), expected[2..3], "at least one");
    assert_eq!(log.wal.read(6, 9, 1).unwrap(), []);
}

#[test]
fn segments_are_sealed_by_size_and_read_across() {
    let bench = Bench::new();
    let log = bench.open();
    for index in 1..=40 {
        log.append(vec![record(index, 100)]);
    }
    assert_eq!(
        segment_names(bench.path()),
        ["1-7.wal", "15-21.wal", "22-28.wal", "29-35.wal", "8-14.wal", "active-36.wal"]
    );
    assert_eq!(log.wal.stats().segment_count, 6);
    let expected: Vec<_> = (1..=40).map(|index| record(index, 100)).collect();
    assert_eq!(log.all(), expected);
    log.wal.close().unwrap();
    drop(log.dir);
    assert_eq!(bench.open().all(), expected);
}

#[test]
fn old_records_leave_memory_and_are_read_from_disk() {
    let mut bench = Bench::new();
    bench.config.tail_bytes_max = 1000;
    bench.config.segment_size_bytes = 1 << 20;
    let log = bench.open();
    let expected: Vec<_> = (1..=500).map(|index| record(index, 300)).collect();
    for batch in expected.chunks(7) {
        log.append(batch.to_vec());
    }
    assert_eq!(log.all(), expected);
    for from in 1..=500 {
        assert_eq!(log.wal.read(from, from + 1, 0).unwrap(), [record(from, 300)]);
    }
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let bench = Bench::new();
    let log = bench.open();
    log.append(records(1..=1));
    log.append(vec![record(2, 1 << 20)]);
    log.append(records(3..=3));
    log.wal.close().unwrap();
    drop(log.dir);
    assert_eq!(segment_names(bench.path()), ["1-1.wal", "2-2.wal", "3-3.wal"]);
    assert_eq!(bench.open().all(), [record(1, 40), record(2, 1 << 20), record(3, 40)]);
}

#[test]
fn truncation_removes_the_end_for_good() {
    let bench = Bench::new();
    let log = bench.open();
    log.append(records(1..=30));
    log.append(records(31..=60));
    log.wal.truncate_from(20).unwrap();
    assert_eq!(log.wal.last_id(), Some(id(1, 19)));
    assert_eq!(log.all(), records(1..=19));
    log.append(vec![record_of(2, 20, 9)]);
    log.wal.truncate_from(20).unwrap();
    log.wal.truncate_from(10).unwrap();
    log.wal.truncate_from(10).unwrap();
    log.append(vec![record_of(3, 10, 9)]);
    let expected: Vec<_> = records(1..=9).into_iter().chain([record_of(3, 10, 9)]).collect();
    assert_eq!(log.all(), expected);
    drop(log);
    let log = bench.open();
    assert_eq!(log.all(), expected);
    log.wal.truncate_from(1).unwrap();
    assert_eq!((log.wal.first_index(), log.wal.last_id()), (None, None));
    drop(log);
    let log = bench.open();
    assert_eq!(log.all(), []);
    log.append(records(0..=1));
    assert_eq!(log.all(), records(0..=1));
}

#[test]
fn purging_forgets_the_beginning_and_remembers_where_it_ended() {
    let bench = Bench::new();
    let log = bench.open();
    for index in 1..=40 {
        log.append(vec![record(index, 100)]);
    }
    log.wal.purge_to(id(1, 10)).unwrap();
    assert_eq!((log.wal.first_index(), log.wal.purged()), (Some(11), Some(id(1, 10))));
    assert_eq!(
        segment_names(bench.path()),
        ["15-21.wal", "22-28.wal", "29-35.wal", "8-14.wal", "active-36.wal"]
    );
    log.wal.purge_to(id(1, 5)).unwrap();
    assert_eq!(log.wal.purged(), Some(id(1, 10)), "never backwards");
    assert!(log.wal.truncate_from(10).is_err());
    drop(log);
    let log = bench.open();
    assert_eq!(log.recovery.purged, Some(id(1, 10)));
    assert_eq!(log.recovery.records, 30);
    assert_eq!(log.all(), (11..=40).map(|index| record(index, 100)).collect::<Vec<_>>());

    log.wal.purge_to(id(2, 1000)).unwrap();
    assert_eq!((log.wal.first_index(), log.wal.last_id()), (None, Some(id(2, 1000))));
    assert_eq!(log.wal.durable_index(), Some(1000));
    drop(log);
    let log = bench.open();
    assert_eq!((log.wal.first_index(), log.wal.last_id()), (None, Some(id(2, 1000))));
    log.append(vec![record_of(2, 1001, 5)]);
    assert_eq!(log.all(), [record_of(2, 1001, 5)]);
}

#[test]
fn spare_segments_are_zeroed_ahead_and_used() {
    let mut bench = Bench::new();
    bench.config.prezero = true;
    bench.config.segment_size_bytes = 64 << 10;
    let log = bench.open();
    let mut index = 0;
    // Writes until a whole zeroed spare has been taken into use: the first segment grows until one is ready.
    let spare_in_use = || {
        segment_names(bench.path()).iter().any(|name| {
            let len = std::fs::metadata(bench.path().join("wal").join(name)).unwrap().len();
            name.starts_with("active") && !name.ends_with("-1.wal") && len == 64 << 10
        })
    };
    while !spare_in_use() {
        index += 1;
        log.append(vec![record(index, 100)]);
    }
    log.wal.close().unwrap();
    drop(log.dir);
    assert!(!bench.path().join("wal/spare.tmp").exists());
    assert_eq!(bench.open().recovery.records, index);
}

#[test]
#[should_panic(expected = "gap in the log")]
fn a_gap_is_a_bug_of_the_caller() {
    let bench = Bench::new();
    let log = bench.open();
    log.append(records(1..=1));
    log.append(records(3..=3));
}

#[test]
fn a_body_that_no_frame_can_hold_is_refused() {
    let bench = Bench::new();
    let log = bench.open();
    // Zeros that nobody touches take no memory.
    let body = Bytes::from(vec![0; BODY_BYTES_MAX + 1]);
    let outcome = append(&log.wal, vec![Record { id: id(1, 1), time_ms: 0, body }]);
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(log.all(), []);
    log.append(records(1..=1));
}

#[test]
fn a_closed_log_refuses() {
    let bench = Bench::new();
    let log = bench.open();
    let other = log.wal.clone();
    log.wal.close().unwrap();
    assert_eq!(append(&other, records(1..=1)).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(other.purge_to(id(1, 1)).is_err());
}

#[test]
fn a_directory_has_one_holder() {
    let bench = Bench::new();
    let _held = bench.open();
    let error = DataDir::open_or_create(bench.path()).err().unwrap();
    assert_eq!(error.code(), Code::InvalidStorageOperation);
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
}

#[test]
fn records_that_wait_behind_a_renewal_are_kept() {
    let bench = Bench::new();
    let log = bench.open();
    log.append(records(1..=4));
    log.wal.truncate_from(3).unwrap();
    // The active segment is empty and supersedes records 3 and 4. While the thread is held up in a completion,
    // a renewal and an append queue up behind it.
    let (hold, held) = channel::<()>();
    let (tell, told) = channel();
    log.wal.append(Vec::new(), Box::new(move |_| held.recv().unwrap()));
    std::thread::scope(|scope| {
        let renewal = scope.spawn(|| log.wal.renew());
        while !log.wal.0.shared.state.lock().queue.iter().any(|work| matches!(work, Work::Renew(_))) {
            std::thread::yield_now();
        }
        log.wal.append(records(3..=5), Box::new(move |outcome| tell.send(outcome).unwrap()));
        hold.send(()).unwrap();
        renewal.join().unwrap().unwrap();
    });
    told.recv().unwrap().unwrap();
    assert_eq!(log.all(), records(1..=5));
    drop(log);
    assert_eq!(bench.open().all(), records(1..=5));
}

#[test]
fn a_segment_that_was_begun_before_a_rotation_of_the_key_stays_readable() {
    let bench = Bench::new();
    let log = bench.open();
    log.append(records(1..=4));
    let (first, second) = (log.keyring.active().id(), log.keyring.rotate(&log.dir, 2).unwrap().id());
    log.wal.renew().unwrap();
    log.append(records(5..=6));
    assert_eq!(key_ids(bench.path()), [first, second]);
    assert_eq!(log.all(), records(1..=6));
    drop(log);
    assert_eq!(bench.open().all(), records(1..=6));
}
