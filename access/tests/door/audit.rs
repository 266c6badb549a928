//! What is written down, and what is not.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use vaylix_access::{Admission, Authentication, Metric, Standing, audit};
use vaylix_proto::error::WireError;
use vaylix_proto::opcode::Opcode;
use vaylix_proto::{Code, Command, Reply};

use crate::support::{ID, PEER, Server, parse, required, root, run, settings};

/// The events of a log that has been closed and verifies.
fn events(dir: &Path) -> Vec<Value> {
    let path = dir.join("audit.log");
    audit::verify(&path).unwrap();
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Opcode, status, code, user, type and details of each event but the slow ones and that of the start, in short.
fn told(dir: &Path) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    events(dir)
        .iter()
        .filter(|event| {
            event["event_type"] != "slow_command" && event["event_type"] != "administrator_configured"
        })
        .map(|event| {
            let fields = ["opcode", "status", "error_code", "username", "event_type"];
            let fields: Vec<String> = fields.iter().map(|name| text(&event[*name])).collect();
            format!("{} {}", fields.join(" "), event["details"])
        })
        .collect()
}

#[test]
fn security_events_are_always_told_and_nothing_else_is() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.connect();
        assert!(main.auth("root", "wrong").await.is_err());
        main.auth("root", "rootpw").await.unwrap();
        for line in [
            "set a 1",
            "get a",
            "get b",
            "incr a",
            "create user bob password abcdefghijk1",
            "create user bob password abcdefghijk1",
            "alter user bob password secretword22",
            "create role r",
            "grant permission read on k* to r",
            "revoke permission read on k* from r",
            "grant permission fly to r",
            "grant role r to bob",
            "revoke role r from bob",
            "drop role r",
            "drop user bob",
            "show users",
            "info",
            "backup",
            "backup to f.json",
            "restore {}",
            "restore from f.json",
            "restore check {}",
            "flushdb",
            "maintenance on",
            "flushdb",
            "maintenance off",
            "cluster join n2 h:1",
            "cluster remove n2",
            "promote follower",
            "pause replication",
            "resume replication",
        ] {
            main.line(line).await;
        }
        server.stop().await;
        let expected = r#"
AUTH error SRV-008 - auth {"result":"error","username":"root"}
AUTH ok - root auth {"result":"ok","username":"root"}
CREATE_USER ok - root rbac_create_user {"result":"ok","target_user":"bob"}
CREATE_USER error SRV-019 root rbac_create_user {"result":"error","target_user":"bob"}
ALTER_USER_PASSWORD ok - root rbac_alter_user_password {"result":"ok","target_user":"bob"}
CREATE_ROLE ok - root rbac_create_role {"result":"ok","role":"r"}
GRANT_PERMISSION ok - root rbac_grant_permission {"pattern":"k*","permission":"read","result":"ok","role":"r"}
REVOKE_PERMISSION ok - root rbac_revoke_permission {"pattern":"k*","permission":"read","result":"ok","role":"r"}
GRANT_PERMISSION error SRV-018 root rbac_grant_permission {"pattern":"*","permission":"fly","result":"error","role":"r"}
GRANT_ROLE ok - root rbac_grant_role {"result":"ok","role":"r","target_user":"bob"}
REVOKE_ROLE ok - root rbac_revoke_role {"result":"ok","role":"r","target_user":"bob"}
DROP_ROLE ok - root rbac_drop_role {"result":"ok","role":"r"}
DROP_USER ok - root rbac_drop_user {"result":"ok","target_user":"bob"}
BACKUP ok - root backup {"result":"ok"}
BACKUP_TO ok - root backup {"path":"f.json","result":"ok"}
RESTORE error ENG-004 root restore {"result":"error"}
RESTORE_FROM ok - root restore {"path":"f.json","result":"ok"}
CLEAR ok - root clear {"result":"ok"}
MAINTENANCE_ON ok - root maintenance_mode {"enabled":"true","result":"ok"}
CLEAR error SRV-033 root clear {"result":"error"}
MAINTENANCE_OFF ok - root maintenance_mode {"enabled":"false","result":"ok"}
CLUSTER_JOIN error SRV-016 root cluster_join {"address":"h:1","node_id":"n2","result":"error"}
CLUSTER_REMOVE error SRV-016 root cluster_remove {"node_id":"n2","result":"error"}
PROMOTE_FOLLOWER error SRV-016 root replication_promote {"result":"error"}
PAUSE_REPLICATION error SRV-016 root replication_pause {"paused":"true","result":"error"}
RESUME_REPLICATION error SRV-016 root replication_pause {"paused":"false","result":"error"}"#;
        assert_eq!(told(&dir), expected.trim().lines().collect::<Vec<_>>());
        // Behind that of the start.
        let first = &events(&dir)[1];
        assert_eq!(first["peer"], PEER.to_string());
        assert_eq!(first["connection_id"], 7);
        assert_eq!(first["request_id"], "abababab-abab-abab-abab-abababababab");
        let text = fs::read_to_string(dir.join("audit.log")).unwrap();
        for secret in ["rootpw", "wrong", "abcdefghijk1", "secretword22"] {
            assert!(!text.contains(secret), "{secret}");
        }
    });
}

#[test]
fn with_commands_every_answer_is_told_before_what_it_means() {
    run(async |dir| {
        let server = Server::start_with(&dir, required(root(true)), |settings| {
            settings.audit.commands = true;
            settings.audit.slow_command_threshold = Some(Duration::ZERO);
        })
        .await;
        let mut main = server.login("root", "rootpw").await;
        for line in ["set a 1", "get a", "get b", "multi", "incr a", "flushdb", "exec", "exec"] {
            main.line(line).await;
        }
        assert_eq!(server.door.counters().get(Metric::SlowCommands), 9);
        server.stop().await;
        let expected = r#"
AUTH ok - root command {}
AUTH ok - root auth {"result":"ok","username":"root"}
SET ok - root command {}
GET ok - root command {}
GET not_found - root command {}
MULTI ok - root command {}
INCR ok - root command {}
CLEAR ok - root command {}
EXEC ok - root command {}
EXEC ok - root clear {"result":"ok"}
EXEC error SRV-015 root command {}"#;
        assert_eq!(told(&dir), expected.trim().lines().collect::<Vec<_>>());
        // One for each request, after its other events, never with a code.
        let all = events(&dir).split_off(1);
        let slow: Vec<&Value> = all.iter().filter(|event| event["event_type"] == "slow_command").collect();
        assert_eq!(slow.len(), 9);
        assert_eq!(all[2]["event_type"], "slow_command");
        assert_eq!(all[2]["details"]["opcode"], "AUTH");
        assert_eq!(all[2]["details"]["threshold_ms"], "0");
        assert_eq!(all[2]["details"]["latency_ms"], all[0]["latency_ms"].to_string());
        let last = slow.last().unwrap();
        assert_eq!((last["status"].as_str(), last["error_code"].is_null()), (Some("error"), true));
    });
}

#[test]
fn refusals_before_the_door_are_told() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut nobody = server.connect();
        let ticket = |opcode| nobody.visitor.ticket(ID, opcode, Instant::now()).unwrap();
        let rate = ticket(Some(Opcode::Get)).refuse_rate().give().unwrap_err();
        assert_eq!(rate.known_code(), Some(Code::RateLimitExceeded));
        let decode = ticket(Some(Opcode::Set)).refuse_undecodable(WireError::UnexpectedEnd).give();
        assert_eq!(decode.unwrap_err().known_code(), Some(Code::UnexpectedEndOfFrame));
        drop(ticket(None).refuse_undecodable(WireError::UnknownOpcode(0x7f)));
        let long = "x".repeat(2000);
        assert!(nobody.line(&format!("get {long}")).await.contains("SRV-013"));
        assert!(nobody.line(&format!("auth {long} x")).await.contains("SRV-013"));
        assert!(nobody.line("get a").await.contains("SRV-007"));
        let mut main = server.login("root", "rootpw").await;
        let mut bob = server.user_with(&mut main, "bob", &[]).await;
        assert!(bob.line("get a").await.contains("SRV-017"));
        assert!(bob.line("drop user root").await.contains("SRV-017"));
        server.stop().await;
        let told = told(&dir);
        let refused = [&told[..5], &told[told.len() - 2..]].concat();
        let expected = r#"
RATE_LIMIT error SRV-012 - command {}
DECODE error TRN-007 - command {}
DECODE error TRN-002 - command {}
GET error SRV-013 - command {}
AUTH error SRV-013 - command {}
GET error SRV-017 bob command {}
DROP_USER error SRV-017 bob rbac_drop_user {"result":"error","target_user":"root"}"#;
        assert_eq!(refused, expected.trim().lines().collect::<Vec<_>>());
    });
}

/// No way off the record: not for a reply that was only looked at, nor for a request whose connection is gone.
#[test]
fn what_is_dropped_is_told() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        // Admitted, and then nobody is there any more.
        drop(main.admit(parse("create role never")).unwrap());
        // Submitted: it happens, although nobody waits for it.
        let Admission::Run(clear) = main.admit(parse("flushdb")).unwrap() else { panic!() };
        drop(server.door.submit(clear, None).await);
        // Answered, looked at, not given.
        let Admission::Run(create) = main.admit(parse("create role r")).unwrap() else { panic!() };
        let answer = server.door.execute(create).await;
        assert_eq!(answer.result(), &Ok(Reply::Ok));
        drop(answer);
        server.stop().await;
        assert_eq!(
            told(&dir)[1..],
            [
                r#"CREATE_ROLE error SRV-036 root rbac_create_role {"result":"error","role":"never"}"#,
                r#"CLEAR error SRV-036 root clear {"result":"error"}"#,
                r#"CREATE_ROLE ok - root rbac_create_role {"result":"ok","role":"r"}"#,
            ]
        );
    });
}

/// A flood of refusals is counted, and what matters is told all the same.
#[test]
fn floods_are_counted_and_do_not_drown_what_matters() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut nobody = server.connect();
        for _ in 0..5000 {
            drop(nobody.visitor.ticket(ID, Some(Opcode::Get), Instant::now()).unwrap().refuse_rate());
        }
        let long = "x".repeat(2000);
        for _ in 0..10 {
            nobody.line(&format!("get {long}")).await;
        }
        for n in 0..300 {
            assert_eq!(main.line(&format!("create role r{n}")).await, "OK");
        }
        server.stop().await;
        let told = told(&dir);
        let count = |what: &str| told.iter().filter(|line| line.contains(what)).count();
        assert_eq!(count("rbac_create_role"), 300);
        let (rate, quota) = (count("RATE_LIMIT"), count("GET error SRV-013"));
        assert!((200..500).contains(&rate), "{rate}");
        let all = events(&dir);
        let suppressed = |kind: &str| -> usize {
            let reports = all.iter().filter(|event| event["event_type"] == "suppressed");
            reports.filter_map(|event| event["details"][kind].as_str()?.parse::<usize>().ok()).sum()
        };
        assert_eq!(rate + suppressed("rate_limit"), 5000);
        assert_eq!(quota + suppressed("quota"), 10);
    });
}

#[test]
fn a_locked_login_is_refused_at_once_and_told() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut guesser = server.connect_from("10.0.0.1:1".parse().unwrap());
        for _ in 0..5 {
            assert!(guesser.line("auth root guess").await.contains("SRV-008"));
        }
        let locked =
            "ERROR [SRV-031] Authentication Locked: authentication lockout active for root; try again in ";
        // Another connection from there, and the right password, change nothing.
        let mut again = server.connect_from("10.0.0.1:2".parse().unwrap());
        for _ in 0..3 {
            let told = again.line("auth root rootpw").await;
            assert!(told.starts_with(locked) && told.ends_with(" s"), "{told}");
        }
        assert_eq!(server.door.counters().get(Metric::LoginsLocked), 3);
        assert_eq!(server.door.counters().get(Metric::LoginsFailed), 5);
        for _ in 0..3 {
            assert!(main.line("info").await.contains("runtime.locked_auth_records=1,"));
        }
        // Unknown users are locked alike, and nobody else is.
        for _ in 0..5 {
            assert!(guesser.line("auth ghost guess").await.contains("SRV-008"));
        }
        assert!(guesser.line("auth ghost guess").await.contains("SRV-031"));
        let mut elsewhere = server.connect_from("10.0.0.2:1".parse().unwrap());
        elsewhere.auth("root", "rootpw").await.unwrap();
        server.stop().await;
        let told = told(&dir);
        let count = |what: &str| told.iter().filter(|line| line.contains(what)).count();
        assert_eq!(count(r#"AUTH error SRV-031 - auth {"result":"error","username":"root"}"#), 3);
        assert_eq!(count(r#"AUTH error SRV-008 - auth {"result":"error","username":"root"}"#), 5);
    });
}

#[test]
fn without_authentication_it_is_told_too() {
    run(async |dir| {
        let server = Server::start(&dir, Authentication::Disabled).await;
        let mut session = server.connect();
        session.says("> auth some one\nOK\n> flushdb\nOK\n> maintenance on\nOK").await;
        assert!(session.line("set a 1").await.contains("SRV-033"));
        session.says("> maintenance off\nOK\n> set a 1\nOK").await;
        server.stop().await;
        assert_eq!(
            told(&dir),
            [
                r#"AUTH ok - anonymous auth {"result":"ok","username":"some"}"#,
                r#"CLEAR ok - anonymous clear {"result":"ok"}"#,
                r#"MAINTENANCE_ON ok - anonymous maintenance_mode {"enabled":"true","result":"ok"}"#,
                r#"MAINTENANCE_OFF ok - anonymous maintenance_mode {"enabled":"false","result":"ok"}"#,
            ]
        );
    });
}

/// What is always written down has its place before it begins; the list of opcodes and what is said agree.
#[test]
fn every_watched_command_has_an_event() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let old = Standing {
            transaction: vaylix_access::Transaction::Open { queued: 0, age: Duration::from_secs(3600) },
            writes_in_flight: false,
        };
        let mut requests = 0;
        for row in crate::matrix::lines() {
            let command: Command = parse(row);
            if command == parse("auth root rootpw") {
                continue;
            }
            // Refused at an early check, whatever it is.
            assert!(main.ask(old, command).is_err(), "{row}");
            requests += 1;
        }
        assert!(requests > 80);
        server.stop().await;
        let told = told(&dir);
        let watched = told[1..].iter().filter(|line| line.contains("SRV-034")).count();
        // flushdb, 2 backups, 2 restores, 3 of users, 6 of roles, 2 of maintenance, 2 of members, 3 of replication.
        assert_eq!(watched, 1 + 2 + 2 + 3 + 6 + 2 + 2 + 3, "{told:#?}");
    });
}

#[test]
fn a_tampered_log_keeps_the_door_shut() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        server.login("root", "rootpw").await;
        server.stop().await;
        let path = dir.join("audit.log");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"root\"", "\"toor\"")).unwrap();
        let node = vaylix_consensus::Node::start(vaylix_consensus::Config::new(&dir)).await.unwrap();
        let settings = settings(&node, &dir, required(root(true)));
        let refused = vaylix_access::Door::open(node.clone(), settings).await.err().unwrap();
        assert_eq!(
            refused.to_string(),
            "audit log hash chain verification failed: line 1: event hash mismatch"
        );
        node.shutdown().await.unwrap();
    });
}

#[test]
fn who_is_made_an_administrator_at_a_start_is_told_once() {
    run(async |dir| {
        for _ in 0..2 {
            Server::start(&dir, required(root(true))).await.stop().await;
        }
        let events = events(&dir);
        let configured = events.iter().filter(|event| event["event_type"] == "administrator_configured");
        let users: Vec<_> =
            configured.map(|event| event["details"]["target_user"].as_str().unwrap()).collect();
        assert_eq!(users, ["root"], "{events:?}");
    });
}
