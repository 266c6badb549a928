use super::*;

#[test]
fn a_batch_comes_back_as_it_went() {
    let batch = Batch {
        time_ms: 7,
        access_revision: 3,
        ops: vec![
            Op::Set {
                key: "k",
                value: b"\xff",
                ttl_ms: Some(5),
                when: When::Missing,
                keep_ttl: false,
                return_previous: true,
                if_version: None,
            },
            Op::Exec(vec![Op::Clear, Op::Incr { key: "n" }]),
        ],
    };
    assert_eq!(Batch::decode(&batch.encode()).unwrap(), batch);
}
