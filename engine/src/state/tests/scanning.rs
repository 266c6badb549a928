//! Pages and cursors.

use super::*;
use vaylix_proto::ScanPage;

fn page(next_cursor: u64, keys: &[&str]) -> ScanPage {
    ScanPage { next_cursor, keys: keys.iter().copied().map(text).collect() }
}

fn filled(keys: &[&str]) -> Bench {
    let mut bench = Bench::new();
    bench.run(&mset(&keys.iter().map(|&key| (key, "1")).collect::<Vec<_>>()));
    bench
}

#[test]
fn pages_of_an_unchanged_keyspace() {
    let users = ["user:1", "user:2", "user:3", "user:10", "order:1", "order:2", "Zed", "é"];
    let mut bench = filled(&users);
    let all = ["Zed", "order:1", "order:2", "user:1", "user:10", "user:2", "user:3", "é"];
    let max = u64::MAX;
    for (cursor, pattern, count, expected) in [
        (0, None, None, page(0, &all)),
        (0, None, Some(3), page(3, &all[..3])),
        (3, None, Some(3), page(6, &all[3..6])),
        (6, None, Some(3), page(0, &all[6..])),
        (0, Some("user:*"), None, page(0, &all[3..7])),
        (0, Some("user:*"), Some(2), page(2, &all[3..5])),
        (2, Some("user:*"), Some(2), page(0, &all[5..7])),
        (0, Some("user:?"), None, page(0, &["user:1", "user:2", "user:3"])),
        (0, Some("user:1"), None, page(0, &["user:1"])),
        (0, Some("*:1"), None, page(0, &["order:1", "user:1"])),
        (0, Some("*er*1*"), None, page(0, &["order:1", "user:1", "user:10"])),
        (0, Some("?"), None, page(0, &["é"])),
        (0, Some("???"), None, page(0, &["Zed"])),
        (0, Some("USER:*"), None, page(0, &[])),
        (0, Some(""), None, page(0, &[])),
        (0, Some("**"), None, page(0, &all)),
        (100, None, None, page(0, &[])),
        (max, None, None, page(0, &[])),
        (0, None, Some(0), page(1, &all[..1])),
        (0, None, Some(u16::MAX), page(0, &all)),
    ] {
        let expected = Reply::Scan(expected);
        assert_eq!(bench.run(&scan(cursor, pattern, count)), expected, "{cursor} {pattern:?} {count:?}");
    }
    assert_eq!(Bench::new().run(&scan(0, None, None)), Reply::Scan(page(0, &[])));
}

#[test]
fn ten_keys_make_a_page_by_default() {
    let keys: Vec<String> = (1..=11).map(|number| format!("p{number:02}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut bench = filled(&keys);
    assert_eq!(bench.run(&scan(0, Some("p*"), None)), Reply::Scan(page(10, &keys[..10])));
    assert_eq!(bench.run(&scan(10, Some("p*"), None)), Reply::Scan(page(0, &keys[10..])));
}

#[test]
fn the_empty_pattern_matches_the_empty_key() {
    let mut bench = filled(&["", "a"]);
    assert_eq!(bench.run(&scan(0, Some(""), None)), Reply::Scan(page(0, &[""])));
}

#[test]
fn a_remembered_cursor_does_not_drift() {
    let mut bench = filled(&["a", "b", "c", "d", "e"]);
    let mut memory = ScanMemory::new(4);
    let scan = |bench: &Bench, memory: &mut ScanMemory, cursor| {
        bench.state.root().scan(cursor, None, Some(2), bench.now_ms, memory, &mut ample()).unwrap()
    };
    assert_eq!(scan(&bench, &mut memory, 0), page(2, &["a", "b"]));
    bench.run(&del(&["a"]));
    assert_eq!(scan(&bench, &mut memory, 2), page(4, &["c", "d"]));
    bench.run(&mset(&[("a", "1"), ("aa", "1")]));
    bench.run(&del(&["d"]));
    assert_eq!(scan(&bench, &mut memory, 4), page(0, &["e"]));
    // Asking again answers the same.
    assert_eq!(scan(&bench, &mut memory, 4), page(0, &["e"]));
    // Without a memory the cursor is an offset.
    assert_eq!(scan(&bench, &mut ScanMemory::new(4), 2), page(4, &["b", "c"]));
    // A cursor of another pattern is another cursor.
    let other =
        bench.state.root().scan(2, Some(&text("?*")), Some(2), bench.now_ms, &mut memory, &mut ample());
    assert_eq!(other, Ok(page(4, &["b", "c"])));
}

#[test]
fn remembered_and_plain_cursors_give_the_same_pages_while_nothing_changes() {
    let keys: Vec<String> =
        (0..60).map(|number| format!("{}{number}", ["k", "key:", "z"][number % 3])).collect();
    let bench = filled(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let root = bench.state.root();
    for pattern in [None, Some(text("key:*")), Some(text("*1*")), Some(text("k?")), Some(text("nothing*"))] {
        for count in [1, 3, 7, 100] {
            let mut memory = ScanMemory::new(8);
            let mut cursor = 0;
            loop {
                let plain = root.query(
                    &Command::Scan { cursor, pattern: pattern.clone(), count: Some(count) },
                    bench.now_ms,
                    &mut ample(),
                );
                let now_ms = bench.now_ms;
                let page =
                    root.scan(cursor, pattern.as_ref(), Some(count), now_ms, &mut memory, &mut ample());
                let page = page.unwrap();
                assert_eq!(plain, Ok(Some(Reply::Scan(page.clone()))));
                cursor = page.next_cursor;
                if cursor == 0 {
                    break;
                }
            }
        }
    }
}

#[test]
fn the_memory_is_bounded_and_forgets_the_oldest() {
    let mut bench = filled(&["a", "b", "c", "d", "e"]);
    let mut memory = ScanMemory::new(2);
    for cursor in 0..4 {
        bench.state.root().scan(cursor, None, Some(1), bench.now_ms, &mut memory, &mut ample()).unwrap();
    }
    bench.run(&del(&["a"]));
    let root = bench.state.root();
    let mut next =
        |cursor| root.scan(cursor, None, Some(1), bench.now_ms, &mut memory, &mut ample()).unwrap().keys;
    assert_eq!(next(4), [text("e")]);
    assert_eq!(next(1), [text("c")], "forgotten, so an offset again");
    let mut none = ScanMemory::new(0);
    assert_eq!(root.scan(0, None, Some(1), bench.now_ms, &mut none, &mut ample()), Ok(page(1, &["b"])));
    assert_eq!(root.scan(1, None, Some(1), bench.now_ms, &mut none, &mut ample()), Ok(page(2, &["c"])));
}
