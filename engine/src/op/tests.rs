use std::fmt::Write as _;

use bytes::Bytes;
use proptest::prelude::*;
use vaylix_proto::{Expiration, SetOptions, Text};

use super::*;

/// One batch of every kind of operation.
fn every_op() -> Batch<'static> {
    let set = |ttl_ms, when, if_version| Op::Set {
        key: "k",
        value: b"\xff",
        ttl_ms,
        when,
        keep_ttl: true,
        return_previous: false,
        if_version,
    };
    Batch {
        time_ms: 0x0123_4567_89ab,
        access_revision: 3,
        ops: vec![
            set(Some(5), When::Always, None),
            set(None, When::Missing, Some(7)),
            set(None, When::Present, None),
            Op::GetDel { key: "k" },
            Op::GetEx { key: "k", ttl_ms: None, persist: true },
            Op::Del { keys: vec!["a", "b"] },
            Op::MSet { pairs: vec![Pair { key: "a", value: b"1" }] },
            Op::Incr { key: "n" },
            Op::Decr { key: "n" },
            Op::Expire { key: "k", ttl_ms: 9 },
            Op::Persist { key: "k" },
            Op::Rename { source: "a", destination: "b" },
            Op::RenameNx { source: "a", destination: "b" },
            Op::Clear,
            Op::Exec(vec![
                Op::Get { key: "k" },
                Op::MGet { keys: vec!["k"] },
                Op::Exists { key: "k" },
                Op::Ttl { key: "k" },
                Op::Scan { cursor: 1, pattern: Some("*"), count: None },
                Op::Count,
                Op::List,
                Op::Ping { message: None },
            ]),
            Op::Sweep { limit: 10 },
            Op::Restore {
                entries: vec![RestoreEntry {
                    key: "k".into(),
                    value: b"v"[..].into(),
                    expires_at_ms: Some(1),
                    version: 2,
                }],
            },
            Op::System {
                expect_revision: 4,
                changes: vec![
                    SystemChange::Put { key: "n".into(), value: b"c"[..].into() },
                    SystemChange::Delete { key: "n".into() },
                ],
            },
            Op::RestorePart { restore: 5, part: 0, entries: vec![] },
            Op::RestoreCommit { restore: 5, parts: 1 },
            Op::ExecWithin { steps: vec![Op::List], answer_bytes_max: 9 },
        ],
    }
}

#[test]
fn a_batch_comes_back_as_it_went() {
    let batch = every_op();
    let bytes = batch.encode();
    assert_eq!(Batch::decode(&bytes).unwrap(), batch);
}

/// What nodes have in their logs. These bytes may gain company, but never change.
#[test]
fn the_format_is_what_it_was() {
    let golden = include_str!("../../tests/data/batch-v1.hex");
    let hex = every_op().encode().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    assert_eq!(hex, golden.split_whitespace().collect::<String>());
}

/// Operations that came later than the batch of the golden file.
#[test]
fn the_format_of_marks_and_checks_is_what_it_was() {
    let ops = vec![Op::Mark, Op::Check { at: 300, digest: b"\x01\xff" }];
    let batch = Batch { time_ms: 5, access_revision: 3, ops };
    let golden = b"\x01\x93\x05\x03\x92\xa2MK\x81\xa2CK\x92\xcd\x01\x2c\xc4\x02\x01\xff";
    assert_eq!(batch.encode(), golden);
    assert_eq!(Batch::decode(golden).unwrap(), batch);
    assert!(batch.ops.iter().all(|op| !op.is_step() && !op.visits_many_keys()));
}

#[test]
fn keys_and_values_are_borrowed() {
    let bytes = every_op().encode();
    let inside = |part: &[u8]| bytes.as_ptr_range().contains(&part.as_ptr());
    for op in Batch::decode(&bytes).unwrap().ops {
        match op {
            Op::Set { key, value, .. } => assert!(inside(key.as_bytes()) && inside(value)),
            Op::Restore { entries } => {
                let RestoreEntry { key: Cow::Borrowed(key), value: Cow::Borrowed(value), .. } = entries[0]
                else {
                    panic!("copied");
                };
                assert!(inside(key.as_bytes()) && inside(value));
            }
            Op::System { changes, .. } => {
                let SystemChange::Put { value: Cow::Borrowed(value), .. } = changes[0] else {
                    panic!("copied")
                };
                assert!(inside(value));
            }
            _ => {}
        }
    }
}

#[test]
fn sizes_are_not_underestimated() {
    let batch = every_op();
    for op in &batch.ops {
        let alone = Batch { ops: vec![op.clone()], ..batch };
        let frame = Batch { ops: vec![], ..batch }.encode().len();
        let len = alone.encode().len() - frame;
        assert!(len <= op.size_estimate_bytes(), "{op:?}: {len}");
        assert!(op.size_estimate_bytes() <= len + 10 * OVERHEAD_BYTES, "{op:?}: {len}");
    }
    let (key, value) = ("k".repeat(70_000), vec![0; 70_000]);
    let op = Op::MSet { pairs: vec![Pair { key: &key, value: &value }; 20] };
    let batch = Batch { time_ms: u64::MAX, access_revision: u64::MAX, ops: vec![op.clone()] };
    assert!(batch.encode().len() <= op.size_estimate_bytes() + 32);
}

#[test]
fn foreign_bytes_are_refused() {
    let bytes = every_op().encode();
    assert!(matches!(Batch::decode(&[]), Err(DecodeError::Empty)));
    assert!(matches!(Batch::decode(&[2, 0x93]), Err(DecodeError::Format(2))));
    for len in 1..bytes.len() {
        assert!(matches!(Batch::decode(&bytes[..len]), Err(DecodeError::Malformed(_))), "cut at {len}");
    }
    for trailing in [0x00, 0x91, 0xc0, 0xc1, 0xc2] {
        let longer = [&bytes[..], &[trailing]].concat();
        assert!(matches!(Batch::decode(&longer), Err(DecodeError::Trailing)), "{trailing:x}");
    }
    let decode = |body: &[u8]| Batch::decode(&[&[FORMAT], body].concat()).map(|_| ());
    assert!(matches!(decode(b"\x93\0\0\x91\xa1Q"), Err(DecodeError::Malformed(_))), "an unknown tag");
    // A list of four thousand million operations that are not there.
    assert!(matches!(decode(b"\x93\0\0\xdd\xff\xff\xff\xff"), Err(DecodeError::Malformed(_))));
    assert!(matches!(
        decode(b"\x93\0\0\x91\x81\xa1I\x91\xdb\xff\xff\xff\xffx"),
        Err(DecodeError::Malformed(_))
    ));
}

#[test]
fn transactions_do_not_nest() {
    let batch = |op| Batch { time_ms: 0, access_revision: 0, ops: vec![op] }.encode();
    for op in [
        Op::Exec(vec![]),
        Op::ExecWithin { steps: vec![], answer_bytes_max: 0 },
        Op::Sweep { limit: 1 },
        Op::Restore { entries: vec![] },
        Op::RestorePart { restore: 0, part: 0, entries: vec![] },
        Op::RestoreCommit { restore: 0, parts: 0 },
        Op::System { expect_revision: 0, changes: vec![] },
    ] {
        let within = Op::ExecWithin { steps: vec![op.clone()], answer_bytes_max: 0 };
        for nesting in [Op::Exec(vec![op]), within] {
            assert!(matches!(Batch::decode(&batch(nesting)), Err(DecodeError::Nested)));
        }
    }
    // Far deeper than any stack would bear.
    let deep = [&[FORMAT, 0x93, 0, 0, 0x91][..], &b"\x81\xa1X\x91".repeat(100_000)].concat();
    assert!(matches!(Batch::decode(&deep), Err(DecodeError::Malformed(_))));
}

#[test]
fn commands_about_keys_are_operations_and_no_others() {
    let key = || Text::from("k");
    let options = SetOptions { expiration: Some(Expiration::Seconds(u64::MAX)), ..SetOptions::default() };
    let set = Command::Set { key: key(), value: Bytes::from_static(b"v"), options };
    assert!(matches!(
        Op::from_command(&set),
        Some(Op::Set { ttl_ms: Some(u64::MAX), when: When::Always, .. })
    ));
    let set_nx = Command::SetNx { key: key(), value: Bytes::new() };
    assert!(matches!(Op::from_command(&set_nx), Some(Op::Set { when: When::Missing, .. })));
    let expire = Command::Expire { key: key(), seconds: 2 };
    assert_eq!(Op::from_command(&expire), Some(Op::Expire { key: "k", ttl_ms: 2000 }));
    for command in
        [Command::Multi, Command::Exec, Command::Info, Command::Save, Command::WhoAmI, Command::Backup]
    {
        assert_eq!(Op::from_command(&command), None);
    }
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        _ = Batch::decode(&bytes);
        _ = Batch::decode(&[&[FORMAT], &bytes[..]].concat());
    }

    #[test]
    fn damaged_batches_never_panic(at in 0..400_usize, byte in any::<u8>()) {
        let mut bytes = every_op().encode();
        let at = at % bytes.len();
        bytes[at] = byte;
        _ = Batch::decode(&bytes);
    }
}
