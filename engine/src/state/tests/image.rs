//! The bytes of a whole state.

use super::*;

fn encoded(root: &Root) -> Vec<u8> {
    let mut bytes = Vec::new();
    root.encode(&mut bytes).unwrap();
    bytes
}

fn sample() -> Bench {
    let mut bench = Bench::new();
    bench.run(&mset(&[("a", "1"), ("é", "two"), ("", "")]));
    bench.run(&set_px("soon", "3", 5));
    bench.apply(vec![Op::System {
        expect_revision: 0,
        changes: vec![SystemChange::Put { key: "user/a".into(), value: b"\0\xff"[..].into() }],
    }]);
    let entries =
        vec![RestoreEntry { key: "p".into(), value: b"q"[..].into(), expires_at_ms: None, version: 2 }];
    bench.apply(vec![Op::RestorePart { restore: 7, part: 0, entries }]);
    bench.now_ms += 5;
    bench.apply(vec![]);
    bench
}

#[test]
fn everything_survives_the_way_through_bytes() {
    let mut bench = sample();
    let bytes = encoded(&bench.state.root());
    let root = Root::decode(&bytes[..]).unwrap();
    assert_eq!(encoded(&root), bytes);
    assert_eq!(root.applied(), bench.state.applied());
    assert_eq!((root.time_ms(), root.access_revision()), (bench.now_ms, 1));
    assert_eq!((root.len(), root.live_count(bench.now_ms), root.expired_count(bench.now_ms)), (4, 3, 1));
    assert_eq!(root.system_get("user/a").unwrap(), &b"\0\xff"[..]);
    // And it goes on where it stopped.
    let mut other = Bench::from_root(root);
    for command in [incr("a"), Command::Count, set("soon", "4"), Command::List] {
        assert_eq!(other.run(&command), bench.run(&command), "{command:?}");
    }
    let commit = || vec![Op::RestoreCommit { restore: 7, parts: 1 }];
    assert_eq!(other.apply(commit()), [Outcome::Reply(Reply::Count(1))]);
    assert_eq!(bench.apply(commit()), [Outcome::Reply(Reply::Count(1))]);
    assert_eq!((other.run(&get("p")), bench.run(&get("p"))), (value("q"), value("q")));
    assert_eq!(encoded(&other.state.root()), encoded(&bench.state.root()));
}

#[test]
fn the_format_is_what_it_was() {
    let mut bench = Bench::new();
    bench.now_ms = 0x0102;
    bench.run(&set_px("k", "v", 1));
    bench.apply(vec![Op::System {
        expect_revision: 0,
        changes: vec![SystemChange::Put { key: "n".into(), value: b"c"[..].into() }],
    }]);
    let golden: &[u8] = b"VXSTATE\x02\
        \x02\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\
        \x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0nc\
        \x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\x03\x01\0\0\0\0\0\0kv\
        \0\0";
    let root = bench.state.root();
    assert_eq!(encoded(&root), [golden, root.digest().as_bytes(), b"END."].concat());
}

/// As releases wrote it that knew no digest.
#[test]
fn format_1_is_read_and_goes_on() {
    let mut bench = Bench::new();
    bench.now_ms = 0x0102;
    bench.run(&set_px("k", "v", 1));
    let golden: &[u8] = b"VXSTATE\x01\
        \x01\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
        \0\0\0\0\0\0\0\0\
        \x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\x03\x01\0\0\0\0\0\0kv\
        \0END.";
    let root = Root::decode(golden).unwrap();
    assert_eq!((root.digest(), root.mark()), (bench.state.root().digest(), None));
    assert_eq!(encoded(&root), encoded(&bench.state.root()));
}

#[test]
fn an_image_of_another_state_than_its_digest_says_is_refused() {
    let mut bench = Bench::new();
    bench.run(&set("key", "value"));
    bench.apply(vec![Op::Mark]);
    let bytes = encoded(&bench.state.root());
    let root = Root::decode(&bytes[..]).unwrap();
    assert_eq!(root.mark(), bench.state.root().mark());
    let at = bytes.windows(5).position(|window| window == b"value").unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 1;
    assert!(matches!(Root::decode(&damaged[..]), Err(DecodeError::Malformed(_))));
}

#[test]
fn damaged_bytes_are_refused() {
    let bytes = encoded(&sample().state.root());
    for len in 0..bytes.len() {
        assert!(matches!(Root::decode(&bytes[..len]), Err(DecodeError::Io(_))), "cut at {len}");
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Root::decode(&bytes[..]).map(|_| ()).unwrap_err()
    };
    assert!(matches!(with(0, b'x'), DecodeError::Magic));
    assert!(matches!(with(7, 3), DecodeError::Format(3)));
    assert!(matches!(with(bytes.len() - 1, 0), DecodeError::Malformed(_)));
    // Enormous lengths and counts cost nothing: the bytes are not there.
    for at in 8..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] = 0xff;
        _ = Root::decode(&bytes[..]);
    }
}

#[test]
fn order_text_and_versions_are_checked() {
    let mut head = b"VXSTATE\x01".to_vec();
    head.extend([0; 32]);
    let key = |key: &[u8], version: u64| {
        let mut bytes = u32::try_from(key.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(version.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(key);
        bytes
    };
    let image = |keys: &[Vec<u8>]| {
        let count = (keys.len() as u64).to_le_bytes();
        Root::decode(&[&head[..], &count, &keys.concat(), b"\0END."].concat()[..]).map(|root| root.len())
    };
    assert_eq!(image(&[key(b"a", 1), key(b"b", 1)]).unwrap(), 2);
    for wrong in [
        [key(b"b", 1), key(b"a", 1)],
        [key(b"a", 1), key(b"a", 1)],
        [key(b"a", 1), key(b"b", 0)],
        [key(b"a", 1), key(b"\xff", 1)],
    ] {
        assert!(matches!(image(&wrong), Err(DecodeError::Malformed(_))));
    }
}
