//! Size limits, logical backups and what this release does not offer, over a real node.

use vaylix_access::Limits;

use crate::support::{Server, required, root, run};

#[test]
fn size_limits() {
    run(async |dir| {
        let limits = Limits { key_bytes_max: 8, value_bytes_max: 16, batch_keys_max: 3, ..Limits::default() };
        let server = Server::start_limited(&dir, required(root(true)), limits).await;
        let mut main = server.login("root", "rootpw").await;
        let quota = "ERROR [SRV-013] Quota Exceeded: request exceeds configured quotas";
        main.says(&format!(
            "> set 12345678 ok
            OK
            > set 123456789 no
            {quota}
            > set éééé ok
            OK
            > set ééééé no
            {quota}
            > set k 1234567890123456
            OK
            > set k 12345678901234567
            {quota}
            > set k ééééééééé
            {quota}
            > mget a b c
            (nil), (nil), (nil)
            > mget a b c d
            {quota}
            > mset a 1 b 2 c 3 d 4
            {quota}
            > del a b c d
            {quota}
            > scan 0 match 12345678*
            {quota}
            > create role 123456789
            {quota}
            > create user bob password aaaaaaaaaaaaaaaa1
            {quota}
            > multi
            OK
            > mget a b c d
            {quota}
            > get k
            QUEUED
            > exec
            1234567890123456
            > ping 123456789012345678901234567890
            123456789012345678901234567890"
        ))
        .await;
        // A document may be as long as a request, whatever the limit of values is.
        let refused = main.line("restore check 12345678901234567").await;
        assert!(refused.starts_with("ERROR [ENG-004] Snapshot Deserialization Failure: engine failure: snapshot deserialization failed: "), "{refused}");
    });
}

#[test]
fn logical_backups_inside_requests() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        main.says("> mset a 1 u é\nOK\n> set a 2\nOK\n> set b v\nOK\n> expire b 500\ntrue").await;
        let backup = main.line("backup").await;
        let entries = "\"entries\":[{\"key\":\"a\",\"value_base64\":\"Mg==\",\"expires_at_ms\":null,\"version\":2},\
{\"key\":\"b\",\"value_base64\":\"dg==\",\"expires_at_ms\":";
        assert!(backup.starts_with("{\"version\":2,\"created_at_ms\":"), "{backup}");
        assert!(
            backup.contains("\"source_engine_version\":3,\"source_sequence\":") && backup.contains(entries),
            "{backup}"
        );
        let verified = main.line(&format!("backup verify {backup}")).await;
        assert!(
            verified.starts_with("entries=3, entry_count=3, sha256=") && verified.ends_with(", status=ok"),
            "{verified}"
        );
        assert_eq!(main.line(&format!("restore check {backup}")).await, "3");
        main.says("> set a changed\nOK\n> set extra 1\nOK").await;
        assert_eq!(main.line(&format!("restore {backup}")).await, "3");
        assert_eq!(main.line("list").await, "a=2, b=v, u=é");

        let version_1 = "{\"version\":1,\"created_at_ms\":1,\"source_engine_version\":1,\"source_sequence\":1,\"entries\":[\
{\"key\":\"t\",\"value\":\"v\",\"expires_at_ms\":null},{\"key\":\"old\",\"value\":\"v\",\"expires_at_ms\":5}]}";
        let verified = main.line(&format!("backup verify {version_1}")).await;
        assert!(verified.starts_with("entries=1, entry_count=2, sha256="), "{verified}");
        assert_eq!(main.line(&format!("restore {version_1}")).await, "1");

        let broken = version_1.replace("\"version\":1,\"created", "\"version\":9,\"created");
        for (line, expected) in [
            (
                "restore nonsense".to_owned(),
                "ERROR [ENG-004] Snapshot Deserialization Failure: engine failure: snapshot deserialization failed: ",
            ),
            (
                "restore check {}".to_owned(),
                "ERROR [ENG-004] Snapshot Deserialization Failure: engine failure: snapshot deserialization failed: ",
            ),
            (
                format!("restore {broken}"),
                "ERROR [ENG-009] Unsupported Storage Format: engine failure: unsupported storage format for logical backup",
            ),
            (
                "backup verify {}".to_owned(),
                "ERROR [SRV-029] Backup Verification Failure: backup verification failed: ",
            ),
            (
                format!("backup verify {broken}"),
                "ERROR [SRV-029] Backup Verification Failure: backup verification failed: unsupported backup version 9",
            ),
        ] {
            let answer = main.line(&line).await;
            assert!(answer.starts_with(expected), "{line}: {answer}");
        }
        assert_eq!(main.line("list").await, "t=v", "refused documents leave the keys alone");
    });
}

#[test]
fn what_this_release_does_not_offer_is_refused_and_not_ignored() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        for (line, reason) in [
            ("promote follower", "this node was started alone"),
            ("cluster join n h:1", "this node was started alone"),
            ("cluster remove n", "this node was started alone"),
            ("pause replication", "replication is not paused"),
            ("resume replication", "replication is not paused"),
        ] {
            let refusal = "ERROR [SRV-016] Unsupported Remote Command: unsupported remote command: ";
            let answer = main.line(line).await;
            assert!(answer.starts_with(&format!("{refusal}{reason}")), "{line}: {answer}");
        }
        main.says(
            "> incr n
            1
            > set n text
            OK
            > incr n
            ERROR [ENG-015] Invalid Integer Value: engine failure: value for key 'n' is not a valid integer: text",
        )
        .await;
    });
}

#[test]
fn a_backup_that_fits_in_no_frame_is_refused() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let value = "x".repeat(262_144);
        for n in 0..25 {
            assert_eq!(main.line(&format!("set k{n} {value}")).await, "OK");
        }
        let refusal =
            "ERROR [TRN-006] Frame Too Large: frame too large: the backup exceeds maximum 8388608 bytes";
        assert_eq!(main.line("backup").await, refusal);
    });
}

#[test]
fn a_listing_that_fits_in_no_frame_is_refused_alone_and_in_transactions() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let value = "x".repeat(262_144);
        for n in 0..33 {
            assert_eq!(main.line(&format!("set k{n} {value}")).await, "OK");
        }
        let refusal = "ERROR [TRN-006] Frame Too Large: frame too large: the answer exceeds maximum 8388";
        assert_eq!(main.line("list").await, format!("{refusal}608 bytes"));
        let keys: Vec<String> = (0..33).map(|n| format!("k{n}")).collect();
        assert_eq!(main.line(&format!("mget {}", keys.join(" "))).await, format!("{refusal}608 bytes"));
        main.says("> multi\nOK\n> get k1\nQUEUED\n> list\nQUEUED").await;
        assert_eq!(main.line("exec").await, format!("{refusal}591 bytes"));
        main.says("> multi\nOK\n> set new 1\nQUEUED\n> del k0 k1 k2\nQUEUED\n> list\nQUEUED").await;
        assert!(main.line("exec").await.starts_with("OK | 3 | k10="), "what is left fits");
        main.says("> multi\nOK\n> del new\nQUEUED\n> list\nQUEUED\n> get k9\nQUEUED\n> list\nQUEUED").await;
        let failed = format!("{refusal}591 bytes (command 4 of the transaction)");
        assert_eq!(main.line("exec").await, failed);
        main.says("> get new\n1\n> exists k0\nfalse").await;
    });
}

#[test]
fn a_transaction_answers_what_its_session_can_receive_and_not_a_byte_more() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        main.says("> set k 12345\nOK").await;
        // The count of results, and for each its tag: a value with its length, nothing, a number.
        for (lines, len) in [
            (["get k", "ping", "ttl k"], 4 + 3 + 9 + 8 + 8),
            (["get k", "set new 1", "ttl k"], 4 + 3 + 9 + 8),
        ] {
            for (answer_bytes_max, fits) in [(len - 1, false), (len, true)] {
                main.answer_bytes_max = answer_bytes_max;
                main.says("> multi\nOK").await;
                for line in lines {
                    assert_eq!(main.line(line).await, "QUEUED");
                }
                let answer = main.line("exec").await;
                assert_eq!(!answer.starts_with("ERROR [TRN-006]"), fits, "{lines:?} {answer}");
                let is_written = if fits && lines[1] != "ping" { "true" } else { "false" };
                assert_eq!(main.line("exists new").await, is_written);
            }
        }
    });
}

/// Whether a page is found where connections are served or elsewhere, it is the same page.
#[test]
fn scans_of_many_keys_remember_their_places() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        for hundred in 0..20 {
            let pairs: Vec<String> = (0..100).map(|n| format!("k{hundred:02}{n:02} v")).collect();
            assert_eq!(main.line(&format!("mset {}", pairs.join(" "))).await, "OK");
        }
        main.says(
            "> scan 0 match *99 count 2
             cursor=2, keys=[k0099, k0199]
             > del k0099
             1
             > scan 2 match *99 count 2
             cursor=4, keys=[k0299, k0399]
             > scan 0 match *nothing*
             cursor=0, keys=[]
             > scan 0 match k1999*
             cursor=0, keys=[k1999]
             > count
             1999",
        )
        .await;
        let listed = main.line("list").await;
        assert_eq!(listed.matches("=v").count(), 1999);
    });
}
