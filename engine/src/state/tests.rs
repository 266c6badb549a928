use super::*;

#[test]
fn a_write_is_visible_to_readers() {
    let mut state = State::new();
    let reader = state.reader();
    let batch = Batch {
        time_ms: 1,
        access_revision: 0,
        ops: vec![Op::Incr { key: "n" }, Op::Exec(vec![Op::Incr { key: "n" }, Op::Get { key: "n" }])],
    };
    let outcomes = state.apply(Sequence::FIRST, &batch);
    assert_eq!(outcomes[0], Outcome::Reply(Reply::Integer(1)));
    assert_eq!(
        outcomes[1],
        Outcome::Reply(Reply::Exec(vec![Reply::Integer(2), Reply::Value(Bytes::from_static(b"2"))]))
    );
    assert_eq!(reader.get("n", 1), Some(Bytes::from_static(b"2")));
    assert_eq!(reader.root().applied(), Some(Sequence::FIRST));
}
