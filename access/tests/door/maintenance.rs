//! Maintenance mode.

use vaylix_access::{Admission, Standing, Transaction};
use vaylix_proto::Code;

use crate::support::{Server, parse, required, root, run};

const REFUSED: &str = "ERROR [SRV-033] Maintenance Mode Enabled: maintenance mode is enabled";

#[test]
fn it_is_part_of_the_state_and_survives_a_restart_and_a_snapshot() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let path = dir.join("maintenance.mode");
        main.says(&format!(
            "> maintenance on
            OK
            > maintenance on
            OK
            > maintenance status
            enabled=true, path={}
            > health
            maintenance_mode=true, ready=true, reason=none, role=standalone, status=ready
            > set a 1
            {REFUSED}",
            path.display()
        ))
        .await;
        assert!(main.line("info").await.contains("runtime.maintenance_mode=true,"));
        let applied = server.node.status().applied_index;
        assert_eq!(main.line("maintenance on").await, "OK");
        assert_eq!(server.node.status().applied_index, applied, "what is so already is not written again");
        server.node.snapshot().await.unwrap();
        drop(main);
        let server = server.restart(required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        main.says(&format!(
            "> set a 1\n{REFUSED}\n> maintenance off\nOK\n> maintenance off\nOK\n> set a 1\nOK"
        ))
        .await;
        drop(main);
        let server = server.restart(required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        main.says("> set a 2\nOK").await;
        assert!(main.line("health").await.starts_with("maintenance_mode=false,"));
        // Paths of the server are for administrators.
        let mut bob = server.user_with(&mut main, "bob", &[("read", "*")]).await;
        bob.says("> maintenance status\nenabled=false, path=none").await;
        assert_eq!(bob.line("maintenance on").await, "ERROR [SRV-017] Permission Denied: permission denied");
        assert!(!path.exists());
    });
}

#[test]
fn open_transactions_can_be_dropped_and_not_carried_out() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut other = server.login("root", "rootpw").await;
        other.says("> multi\nOK\n> set a 1\nQUEUED").await;
        assert_eq!(main.line("maintenance on").await, "OK");
        other
            .says(&format!(
                "> get a\nQUEUED\n> set a 2\n{REFUSED}\n> exec\n{REFUSED}\n> discard\nOK\n> multi\n{REFUSED}\n> get a\nNOT_FOUND"
            ))
            .await;
    });
}

/// What was admitted before is not applied after: the answer to MAINTENANCE ON is the point from which on nothing
/// changes.
#[test]
fn writes_under_way_are_refused() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut other = server.login("root", "rootpw").await;
        let Admission::Run(write) = other.admit(parse("set a 1")).unwrap() else { panic!() };
        let Admission::Run(create) = other.admit(parse("create role r")).unwrap() else { panic!() };
        let Admission::Run(getex) = other.admit(parse("getex a ex 5")).unwrap() else { panic!() };
        assert_eq!(main.line("maintenance on").await, "OK");
        let applied = server.node.status().applied_index;
        for late in [write, create, getex] {
            let refusal = server.door.execute(late).await.give().unwrap_err();
            assert_eq!(refusal.known_code(), Some(Code::MaintenanceModeEnabled));
        }
        // Refused entries are in the log, but nothing is in the state.
        assert!(server.node.status().applied_index >= applied);
        main.says("> get a\nNOT_FOUND").await;
        assert!(!main.line("show roles").await.contains("r="));
    });
}

#[test]
fn it_comes_after_login_and_time_and_before_everything_else() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut bob = server.user_with(&mut main, "bob", &[("read", "k*")]).await;
        assert_eq!(main.line("maintenance on").await, "OK");
        let open = |seconds| Standing {
            transaction: Transaction::Open { queued: 0, age: std::time::Duration::from_secs(seconds) },
            writes_in_flight: false,
        };
        let mut nobody = server.connect();
        for (is_bob, standing, line, expected) in [
            (false, Standing::default(), "set x 1", Code::AuthenticationRequired),
            (true, open(31), "set x 1", Code::TransactionExpired),
            (true, open(0), "multi", Code::MaintenanceModeEnabled),
            (true, open(0), "save", Code::MaintenanceModeEnabled),
            (true, Standing::default(), "exec", Code::MaintenanceModeEnabled),
            (true, Standing::default(), "set x 1", Code::MaintenanceModeEnabled),
            (true, Standing::default(), "get x", Code::PermissionDenied),
        ] {
            let session = if is_bob { &mut bob } else { &mut nobody };
            let refusal = session.ask(standing, parse(line)).unwrap_err();
            assert_eq!(refusal.known_code(), Some(expected), "{line}");
        }
    });
}
