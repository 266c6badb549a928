//! Answers are built within what they may cost.

use super::*;

fn list_len(bench: &Bench) -> usize {
    let reply = bench.state.reader().query(&Command::List, bench.now_ms, &mut ample());
    reply.unwrap().expect("LIST is a read").encoded_len()
}

fn filled() -> Bench {
    let mut bench = Bench::new();
    for number in 0..100 {
        bench.run(&set(&format!("key{number:02}"), &"v".repeat(number * 30)));
    }
    bench
}

fn all_keys() -> Vec<Text> {
    (0..100).map(|number| text(&format!("key{number:02}"))).chain([text("none")]).collect()
}

#[test]
fn an_answer_takes_its_encoded_length_and_not_a_byte_more_is_allowed() {
    let bench = filled();
    let (reader, root) = (bench.state.reader(), bench.state.root());
    let everywhere = [Command::List, Command::MGet { keys: all_keys() }, scan(0, Some("key*"), Some(30))];
    for command in &everywhere {
        let reply = reader.query(command, bench.now_ms, &mut ample()).unwrap().unwrap();
        let len = reply.encoded_len();
        for (bytes_max, expected) in [(len, Ok(Some(reply))), (len - 1, Err(Exceeded::Bytes))] {
            let query = |allowance: &mut Allowance| reader.query(command, bench.now_ms, allowance);
            assert_eq!(query(&mut Allowance::bytes(bytes_max)), expected, "{command:?}");
            let from_root = root.query(command, bench.now_ms, &mut Allowance::bytes(bytes_max));
            assert_eq!(from_root, expected, "{command:?}");
        }
    }
}

#[test]
fn gathering_stops_where_the_allowance_ends() {
    let bench = filled();
    let mut allowance = Allowance::bytes(1000);
    let reply = bench.state.root().query(&Command::List, bench.now_ms, &mut allowance);
    assert_eq!(reply, Err(Exceeded::Bytes));
    // Eight entries and their count take 932 bytes, the ninth would take 251.
    assert_eq!(allowance.take_bytes(68), Ok(()), "what was refused was not taken");
    assert_eq!(allowance.take_bytes(1), Err(Exceeded::Bytes), "the eight before were");
}

#[test]
fn looks_are_counted_where_they_can_be_many() {
    let mut bench = filled();
    let looks = |bench: &Bench, command: &Command, looks_max: usize| {
        let mut allowance = ample().with_looks(looks_max);
        bench.state.root().query(command, bench.now_ms, &mut allowance).map(drop)
    };
    for (command, needed) in [
        (Command::List, 101),
        (scan(0, Some("*nothing*"), None), 101),
        (scan(90, None, Some(5)), 97),
        (scan(0, Some("key0?"), Some(100)), 12),
        (Command::MGet { keys: all_keys() }, 102),
        (Command::Count, 1),
        (get("key01"), 1),
    ] {
        assert_eq!(looks(&bench, &command, needed), Ok(()), "{command:?}");
        assert_eq!(looks(&bench, &command, needed - 1), Err(Exceeded::Looks), "{command:?}");
    }
    bench.run(&set_px("brief", "v", 5));
    assert_eq!(looks(&bench, &Command::Count, 1), Err(Exceeded::Looks), "deadlines may have to be counted");
}

#[test]
fn a_scan_that_is_cut_short_moves_no_cursor() {
    let bench = filled();
    let root = bench.state.root();
    let mut memory = ScanMemory::new(4);
    let mut scan = |cursor, allowance: Allowance| {
        root.scan(cursor, None, Some(10), bench.now_ms, &mut memory, &mut { allowance })
    };
    assert_eq!(scan(0, ample().with_looks(10)), Err(Exceeded::Looks));
    let first = scan(0, ample().with_looks(11)).unwrap();
    assert_eq!(first.next_cursor, 10);
    let second = scan(10, ample().with_looks(11)).unwrap();
    assert_eq!(second.keys[0], text("key10"), "a remembered cursor costs no looks");
}

#[test]
fn a_transaction_whose_answer_does_not_fit_did_not_happen() {
    let mut bench = filled();
    let listing = list_len(&bench);
    let steps = || {
        vec![
            Op::Del { keys: vec!["key00"] },
            Op::GetDel { key: "key99" },
            Op::Set {
                key: "key98",
                value: b"",
                ttl_ms: None,
                when: crate::op::When::Always,
                keep_ttl: false,
                return_previous: true,
                if_version: None,
            },
            Op::List,
            Op::Ttl { key: "key01" },
        ]
    };
    let key_and_value = |number: usize| 6 + 5 + 30 * number;
    let left = listing - key_and_value(0) - key_and_value(99) - 30 * 98;
    let len = 4 + 5 + 8 + (4 + 30 * 99) + (4 + 30 * 98) + left + 8;
    let exec = |bytes_max: usize| Op::ExecWithin {
        steps: steps(),
        answer_bytes_max: u64::try_from(bytes_max).unwrap(),
    };
    let before = bench.state.root();
    for (bytes_max, position) in [(len - 1, 5), (len - 10, 4), (4 + 9 + 100, 2), (12, 1)] {
        let error = ApplyError::AnswerTooLarge { bytes_max: u64::try_from(bytes_max).unwrap() };
        let failed = Outcome::Failed(ApplyError::Step { position, error: Box::new(error) });
        assert_eq!(bench.apply(vec![exec(bytes_max)]), [failed], "{bytes_max}");
        let after = bench.state.root();
        assert!(before.iter().zip(after.iter()).all(|(a, b)| a == b && a.value() == b.value()));
        assert_eq!(before.len(), after.len());
        assert_eq!(bench.state.reader().get("key99", 0).map(|value| value.len()), Some(30 * 99));
    }
    let outcome = bench.apply(vec![exec(len)]).remove(0);
    let Outcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reply.encoded_len(), len);
    assert_eq!(bench.state.reader().get("key99", 0), None);
}

#[test]
fn a_transaction_without_room_for_any_answer_fails_too() {
    let mut bench = Bench::new();
    let steps = vec![Op::Set {
        key: "k",
        value: b"1",
        ttl_ms: None,
        when: crate::op::When::Always,
        keep_ttl: false,
        return_previous: false,
        if_version: None,
    }];
    for answer_bytes_max in [0, 3, 4] {
        let exec = Op::ExecWithin { steps: steps.clone(), answer_bytes_max };
        let outcome = bench.apply(vec![exec]).remove(0);
        let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.code().code(), "TRN-006");
        assert_eq!(bench.state.reader().get("k", 0), None);
    }
    let exec = Op::ExecWithin { steps, answer_bytes_max: 5 };
    assert_eq!(bench.apply(vec![exec]), [Outcome::Reply(Reply::Exec(vec![Reply::Ok]))]);
}
