//! What readers see while the writer is at work.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn readers_never_see_half_an_operation() {
    const ROUNDS: u64 = 2000;
    let mut bench = Bench::new();
    let both = |number: u64| {
        let number = number.to_string();
        [set("left", &number), set("right", &number)]
    };
    bench.exec(&both(0));
    let reader = bench.state.reader();
    let done = AtomicBool::new(false);
    let mget = Command::MGet { keys: vec![text("left"), text("right")] };
    std::thread::scope(|scope| {
        let together = scope.spawn(|| {
            let mut seen = 0_usize;
            while !done.load(Ordering::Acquire) || seen == 0 {
                let Ok(Some(Reply::Strings(values))) = reader.query(&mget, 0, &mut ample()) else {
                    panic!("MGET is a read")
                };
                assert!(values[0].is_some() && values[0] == values[1], "{values:?}");
                // One after the other: the second may be newer, never older.
                let number = |key| {
                    let value = reader.get(key, 0).expect("always there");
                    std::str::from_utf8(&value).unwrap().parse::<u64>().unwrap()
                };
                let first = number("left");
                assert!(number("right") >= first);
                let root = reader.root();
                assert_eq!(root.get("left", 0).unwrap().value(), root.get("right", 0).unwrap().value());
                seen += 1;
            }
        });
        for number in 1..=ROUNDS {
            match number % 3 {
                0 => bench.exec(&both(number)),
                1 => bench.outcome(&mset(&[("left", &number.to_string()), ("right", &number.to_string())])),
                _ => {
                    // A transaction that fails half way leaves no trace either.
                    bench.exec(&[set("left", "x"), incr("left"), set("right", "x")]);
                    bench.exec(&[Command::Clear, both(number)[0].clone(), both(number)[1].clone()])
                }
            };
        }
        done.store(true, Ordering::Release);
        together.join().expect("the reader saw nothing wrong");
    });
}

#[test]
fn a_root_stays_as_it_was() {
    let mut bench = Bench::new();
    bench.run(&set("k", "1"));
    let root = bench.state.reader().root();
    bench.run(&set("k", "2"));
    bench.run(&Command::Clear);
    assert_eq!(root.get("k", 0).unwrap().value(), b"1");
    assert_eq!(root.applied(), Some(Sequence::FIRST));
}

#[test]
fn a_replaced_state_reaches_readers_made_before() {
    let mut old = Bench::new();
    old.run(&set("old", "1"));
    let reader = old.state.reader();
    let mut new = Bench::new();
    new.now_ms += 77;
    new.run(&set("new", "1"));
    new.run(&set("new", "2"));
    old.state.replace(new.state.root());
    assert_eq!((reader.get("old", 0), reader.get("new", 0)), (None, Some("2".into())));
    assert_eq!(reader.now(0), new.now_ms);
    assert_eq!(old.state.applied(), Sequence::new(2));
    old.state.skip(Sequence::new(3).unwrap());
    assert_eq!(reader.root().applied(), Sequence::new(3));
}

#[test]
#[should_panic(expected = "log position 3 where 2 must follow")]
fn a_gap_in_the_log_is_fatal() {
    let mut bench = Bench::new();
    bench.run(&set("k", "1"));
    bench.state.skip(Sequence::new(3).unwrap());
}

#[test]
fn commands_that_are_not_reads_have_no_answer_here() {
    let reader = State::new().reader();
    for command in [incr("k"), get_ex("k", None, true), Command::Clear, Command::Info] {
        assert_eq!(reader.query(&command, 0, &mut ample()), Ok(None));
    }
}
