//! Whatever can be said survives the wire: arbitrary commands and replies.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use vaylix_proto::{
    Command, Compression, Condition, Dump, ErrorReply, Expiration, FrameDecoder, FrameEncoder, Metadata,
    NamedValue, Opcode, Reply, Request, Response, ScanPage, SetOptions, Shape, Text, WireError, encode_reply,
};

/// The same cases in every run.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x5641_594C_4958),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn commands(id: [u8; 16], metadata in metadata(), command in command(), zstd: bool) {
        let body = through_a_frame(zstd, |out| Request::encode(id, &metadata, &command, out));
        let request = Request::decode(body).unwrap();
        prop_assert_eq!((request.id, request.metadata), (id, metadata));
        prop_assert_eq!(request.command(), Ok(command));
    }

    #[test]
    fn replies(id: [u8; 16], reply in reply(), zstd: bool) {
        let body = through_a_frame(zstd, |out| encode_reply(id, &reply, out));
        let response = Response::decode(body).unwrap();
        prop_assert_eq!(response.id, id);
        prop_assert_eq!(response.reply(shape(&reply)), Ok(reply));
    }
}

fn through_a_frame(zstd: bool, body: impl FnOnce(&mut BytesMut) -> Result<(), WireError>) -> Bytes {
    let compression = if zstd { Compression::Zstd } else { Compression::None };
    let mut out = BytesMut::new();
    FrameEncoder::new(compression, 0, 1 << 20).encode(&mut out, body).unwrap();
    FrameDecoder::new(1 << 20).decode_exact(&out).unwrap()
}

fn text() -> impl Strategy<Value = Text> {
    any::<String>().prop_map(Text::from)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from)
}

fn metadata() -> impl Strategy<Value = Metadata> {
    any::<(Option<u64>, Option<[u8; 16]>, Option<u64>)>()
        .prop_map(|(deadline_ms, trace_id, sequence)| Metadata { deadline_ms, trace_id, sequence })
}

fn expiration() -> impl Strategy<Value = Option<Expiration>> {
    prop_oneof![
        Just(None),
        any::<u64>().prop_map(|n| Some(Expiration::Seconds(n))),
        any::<u64>().prop_map(|n| Some(Expiration::Millis(n))),
    ]
}

fn options() -> impl Strategy<Value = SetOptions> {
    let condition = prop::sample::select(vec![Condition::Always, Condition::IfMissing, Condition::IfPresent]);
    (condition, expiration(), any::<(bool, bool, Option<u64>)>()).prop_map(
        |(condition, expiration, (keep_ttl, return_previous, if_version))| SetOptions {
            condition,
            expiration,
            keep_ttl,
            return_previous,
            if_version,
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    let public: Vec<Opcode> = Opcode::ALL.iter().copied().filter(|opcode| !opcode.is_internal()).collect();
    (
        prop::sample::select(public),
        (text(), text(), text()),
        prop::option::of(text()),
        prop::collection::vec((text(), bytes()), 0..5),
        options(),
        any::<(u64, Option<u16>, bool)>(),
    )
        .prop_map(|(opcode, (a, b, c), optional, pairs, options, (n, count, flag))| {
            let keys = pairs.iter().map(|(key, _)| key.clone()).collect();
            let value = pairs.first().map(|(_, value)| value.clone()).unwrap_or_default();
            match opcode {
                Opcode::Auth => Command::Auth { user: a, password: b },
                Opcode::Ping => Command::Ping { message: optional },
                Opcode::Get => Command::Get { key: a },
                Opcode::GetDel => Command::GetDel { key: a },
                Opcode::GetEx => Command::GetEx { key: a, expiration: options.expiration, persist: flag },
                Opcode::Set => Command::Set { key: a, value, options },
                Opcode::SetNx => Command::SetNx { key: a, value },
                Opcode::Del => Command::Del { keys },
                Opcode::Exists => Command::Exists { key: a },
                Opcode::MGet => Command::MGet { keys },
                Opcode::MSet => Command::MSet { pairs },
                Opcode::Incr => Command::Incr { key: a },
                Opcode::Decr => Command::Decr { key: a },
                Opcode::Expire => Command::Expire { key: a, seconds: n },
                Opcode::Ttl => Command::Ttl { key: a },
                Opcode::Persist => Command::Persist { key: a },
                Opcode::Rename => Command::Rename { source: a, destination: b },
                Opcode::RenameNx => Command::RenameNx { source: a, destination: b },
                Opcode::Scan => Command::Scan { cursor: n, pattern: optional, count },
                Opcode::BackupTo => Command::BackupTo { path: a },
                Opcode::BackupVerify => Command::BackupVerify(Dump::Inline(a)),
                Opcode::BackupVerifyFrom => Command::BackupVerify(Dump::File(a)),
                Opcode::Restore => Command::Restore(Dump::Inline(a)),
                Opcode::RestoreFrom => Command::Restore(Dump::File(a)),
                Opcode::RestoreCheck => Command::RestoreCheck(Dump::Inline(a)),
                Opcode::RestoreCheckFrom => Command::RestoreCheck(Dump::File(a)),
                Opcode::CreateUser => Command::CreateUser { user: a, password: b },
                Opcode::AlterUserPassword => Command::AlterUserPassword { user: a, password: b },
                Opcode::DropUser => Command::DropUser { user: a },
                Opcode::CreateRole => Command::CreateRole { role: a },
                Opcode::DropRole => Command::DropRole { role: a },
                Opcode::GrantRole => Command::GrantRole { role: a, user: b },
                Opcode::RevokeRole => Command::RevokeRole { role: a, user: b },
                Opcode::GrantPermission => Command::GrantPermission { permission: a, pattern: b, role: c },
                Opcode::RevokePermission => Command::RevokePermission { permission: a, pattern: b, role: c },
                Opcode::ShowGrantsForUser => Command::ShowGrantsForUser { user: a },
                Opcode::ShowGrantsForRole => Command::ShowGrantsForRole { role: a },
                Opcode::ClusterJoin => Command::ClusterJoin { node: a, address: b },
                Opcode::ClusterRemove => Command::ClusterRemove { node: a },
                bare => Command::decode(bare, &Bytes::new()).unwrap(),
            }
        })
}

fn plain_reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        Just(Reply::Ok),
        Just(Reply::NotFound),
        bytes().prop_map(Reply::Value),
        any::<bool>().prop_map(Reply::Bool),
        any::<u64>().prop_map(Reply::Count),
        any::<i64>().prop_map(Reply::Integer),
        prop::collection::vec((text(), bytes()), 0..5).prop_map(|entries| {
            Reply::Entries(entries.into_iter().map(|(name, value)| NamedValue { name, value }).collect())
        }),
        prop::collection::vec(prop::option::of(bytes()), 0..5).prop_map(Reply::Strings),
        (any::<u64>(), prop::collection::vec(text(), 0..5))
            .prop_map(|(next_cursor, keys)| Reply::Scan(ScanPage { next_cursor, keys })),
    ]
}

fn reply() -> impl Strategy<Value = Result<Reply, ErrorReply>> {
    prop_oneof![
        4 => plain_reply().prop_map(Ok),
        1 => prop::collection::vec(plain_reply(), 0..8).prop_map(|results| Ok(Reply::Exec(results))),
        1 => (text(), text(), text())
            .prop_map(|(code, name, message)| Err(ErrorReply { code, name, message })),
    ]
}

fn shape(reply: &Result<Reply, ErrorReply>) -> Shape {
    match reply {
        Err(_) | Ok(Reply::Ok | Reply::NotFound) => Shape::Empty,
        Ok(Reply::Value(_)) => Shape::Value,
        Ok(Reply::Bool(_)) => Shape::Bool,
        Ok(Reply::Count(_)) => Shape::Count,
        Ok(Reply::Integer(_)) => Shape::Integer,
        Ok(Reply::Entries(_)) => Shape::Entries,
        Ok(Reply::Strings(_)) => Shape::Strings,
        Ok(Reply::Scan(_)) => Shape::Scan,
        Ok(Reply::Exec(_)) => Shape::Exec,
    }
}
