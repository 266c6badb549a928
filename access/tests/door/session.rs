//! What one session meets: the order of checks, transactions, and writes under way while the rules change.

use std::ops::ControlFlow;
use std::time::Duration;

use vaylix_access::{Admission, Admitted, Limits, Pending, Standing, Transaction};
use vaylix_proto::{Code, Reply};

use crate::support::{Server, parse, required, root, run};

const IN_FLIGHT: Standing = Standing { transaction: Transaction::Closed, writes_in_flight: true };

fn open(queued: usize, age: Duration) -> Standing {
    Standing { transaction: Transaction::Open { queued, age }, writes_in_flight: false }
}

async fn submit(server: &Server, write: Admitted) -> Pending {
    match server.door.submit(write, None).await {
        ControlFlow::Continue(pending) => pending,
        ControlFlow::Break(answer) => panic!("{answer:?}"),
    }
}

#[test]
fn the_first_refusal_in_the_order_of_checks_answers() {
    run(async |dir| {
        let limits =
            Limits { key_bytes_max: 8, transaction_time_max: Duration::from_secs(3), ..Limits::default() };
        let server = Server::start_limited(&dir, required(root(true)), limits).await;
        let mut main = server.login("root", "rootpw").await;
        let mut bob = server.user_with(&mut main, "bob", &[("read", "k*")]).await;
        let old = open(0, Duration::from_millis(3001));
        let young = open(0, Duration::from_secs(3));
        let full = open(127, Duration::ZERO);
        let last = open(126, Duration::ZERO);
        let mut nobody = server.connect();
        for (is_bob, standing, line, expected) in [
            (false, old, "get 123456789", Err(Code::QuotaExceeded)),
            (false, old, "auth 123456789 x", Err(Code::QuotaExceeded)),
            (false, old, "auth root x", Ok(())),
            (false, old, "get k", Err(Code::AuthenticationRequired)),
            (false, old, "ping", Err(Code::TransactionExpired)),
            (true, old, "get x", Err(Code::TransactionExpired)),
            (true, old, "discard", Err(Code::TransactionExpired)),
            (true, young, "multi", Err(Code::TransactionAlreadyActive)),
            (true, full, "get x", Err(Code::QuotaExceeded)),
            (true, full, "info", Err(Code::QuotaExceeded)),
            (true, full, "exec", Ok(())),
            (true, last, "get k", Ok(())),
            (true, young, "info", Err(Code::UnsupportedRemoteCommand)),
            (true, young, "get x", Err(Code::PermissionDenied)),
            (true, young, "get k", Ok(())),
            (true, Standing::default(), "exec", Err(Code::NoActiveTransaction)),
            (true, Standing::default(), "discard", Err(Code::NoActiveTransaction)),
            (true, Standing::default(), "info", Err(Code::PermissionDenied)),
        ] {
            let session = if is_bob { &mut bob } else { &mut nobody };
            let decision = session.ask(standing, parse(line));
            let decision = decision.map(drop).map_err(|refusal| refusal.known_code().unwrap());
            assert_eq!(decision, expected, "{line} with {standing:?}");
        }
        let refusal = bob.ask(old, parse("get k")).unwrap_err();
        assert_eq!(refusal.message, "transaction expired after 3 seconds");
    });
}

#[test]
fn transactions_are_all_or_nothing_and_reads_alone_write_nothing() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        main.says(
            "> multi
            OK
            > set a 1
            QUEUED
            > incr a
            QUEUED
            > scan 0
            QUEUED
            > ping hi
            QUEUED
            > exec
            OK | 2 | cursor=0, keys=[a] | hi",
        )
        .await;
        let before = server.node.status().applied_index;
        main.says(
            "> multi
            OK
            > get a
            QUEUED
            > mget a b
            QUEUED
            > getex a
            QUEUED
            > count
            QUEUED
            > list
            QUEUED
            > ttl a
            QUEUED
            > ping
            QUEUED
            > exec
            2 | 2, (nil) | 2 | 1 | a=2 | -1 | PONG
            > multi
            OK",
        )
        .await;
        assert_eq!(main.line("exec").await, "", "an empty queue");
        assert_eq!(server.node.status().applied_index, before, "reads are not in the log");
        main.says("> multi\nOK\n> set b 1\nQUEUED\n> set a text\nQUEUED\n> incr a\nQUEUED").await;
        let failed = main.line("exec").await;
        assert!(
            failed.starts_with("ERROR [ENG-015] Invalid Integer Value: engine failure: value for key 'a'"),
            "{failed}"
        );
        main.says("> list\na=2\n> exec\nERROR [SRV-015] No Active Transaction: no active transaction for this session").await;
        main.says("> multi\nOK\n> set a 9\nQUEUED\n> discard\nOK\n> get a\n2").await;
    });
}

#[test]
fn pipelined_writes_keep_their_order_when_the_rules_change_between_them() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut bob = server.user_with(&mut main, "bob", &[("write", "*")]).await;
        // Two writes are admitted, the rules change, and only then the writes are submitted: both are stale.
        let mut admitted = Vec::new();
        for line in ["set k first", "set k second"] {
            match bob.admit(parse(line)).unwrap() {
                Admission::Run(write) => admitted.push(write),
                other => panic!("{other:?}"),
            }
        }
        assert!(admitted.iter().all(vaylix_access::Admitted::is_write));
        assert_eq!(main.line("create role other").await, "OK");
        let mut pending = Vec::new();
        for write in admitted {
            pending.push(submit(&server, write).await);
        }
        // A third one must not overtake them.
        let third = bob.ask(IN_FLIGHT, parse("set k third")).unwrap();
        let Admission::AfterWrites(third) = third else { panic!("{third:?}") };
        for pending in &mut pending {
            assert_eq!(server.door.finish(pending).await.give(), Ok(Reply::Ok));
        }
        assert_eq!(main.line("get k").await, "second");
        assert_eq!(bob.call(third.command.clone()).await, Ok(Reply::Ok));
        assert_eq!(main.line("get k").await, "third");
    });
}

#[test]
fn a_write_under_way_is_refused_when_its_permission_goes() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut bob = server.user_with(&mut main, "bob", &[("write", "*")]).await;
        let Admission::Run(write) = bob.admit(parse("set k v")).unwrap() else { panic!() };
        assert_eq!(main.line("drop role bob-role").await, "OK");
        let mut pending = submit(&server, write).await;
        let refusal = server.door.finish(&mut pending).await.give().unwrap_err();
        assert_eq!(refusal.known_code(), Some(Code::PermissionDenied));
        assert_eq!(main.line("get k").await, "NOT_FOUND");
    });
}

#[test]
fn point_reads_are_answered_at_once_and_nothing_else_is() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        assert_eq!(main.line("set k v").await, "OK");
        for (line, expected) in [
            ("get k", Some("v")),
            ("get nope", Some("NOT_FOUND")),
            ("exists k", Some("true")),
            ("ttl k", Some("-1")),
            ("mget k nope", Some("v, (nil)")),
            ("getex k", Some("v")),
            ("scan 0", Some("cursor=0, keys=[k]")),
            ("dbsize", Some("1")),
            ("ping", Some("PONG")),
            ("set k w", None),
            ("getex k persist", None),
            ("info", None),
            ("whoami", None),
        ] {
            let Admission::Run(admitted) = main.admit(parse(line)).unwrap() else { panic!("{line}") };
            let answer = match server.door.read_now(admitted) {
                ControlFlow::Break(answer) => Some(crate::support::shown(&answer.give().unwrap())),
                ControlFlow::Continue(_) => None,
            };
            assert_eq!(answer.as_deref(), expected, "{line}");
        }
    });
}

/// A scan goes on behind the last key it returned, whatever has changed before that key.
#[test]
fn scans_do_not_drift() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        main.says(
            "> mset a 1 b 1 c 1 d 1 e 1
            OK
            > scan 0 count 2
            cursor=2, keys=[a, b]
            > del a
            1
            > scan 2 count 2
            cursor=4, keys=[c, d]
            > scan 4 count 2
            cursor=0, keys=[e]",
        )
        .await;
        // Another session knows nothing of it: there the cursor is the offset.
        let mut other = server.login("root", "rootpw").await;
        assert_eq!(other.line("scan 2 count 2").await, "cursor=0, keys=[d, e]");
    });
}
