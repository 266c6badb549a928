//! The configured administrator, over several starts.

use vaylix_access::Administrator;

use crate::support::{Server, required, root, run};

fn named(user: &'static str, password: &str) -> Administrator {
    Administrator { user: user.into(), password: password.into(), explicit: true }
}

#[test]
fn the_default_pair_serves_the_first_start_only() {
    run(async |dir| {
        let server = Server::start(&dir, required(Administrator::default())).await;
        let mut main = server.login("vaylix", "vaylix").await;
        assert_eq!(main.line("alter user vaylix password changed-by-1").await, "OK");
        drop(main);
        let server = server.restart(required(Administrator::default())).await;
        assert!(server.connect().auth("vaylix", "vaylix").await.is_err());
        server.login("vaylix", "changed-by-1").await;
    });
}

#[test]
fn an_unchanged_pair_never_undoes_what_was_done_since() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        main.says(
            "> create user ops password abcdefghijk1
        OK
        > grant role admin to ops
        OK
        > alter user root password changed-by-1
        OK",
        )
        .await;
        drop(main);
        let server = server.restart(required(root(true))).await;
        assert!(server.connect().auth("root", "rootpw").await.is_err());
        let mut ops = server.login("ops", "abcdefghijk1").await;
        assert_eq!(ops.line("drop user root").await, "OK");
        drop(ops);
        let server = server.restart(required(root(true))).await;
        let mut ops = server.login("ops", "abcdefghijk1").await;
        assert_eq!(ops.line("show users").await, "ops=roles=admin disabled=false", "dropped stays dropped");
    });
}

#[test]
fn a_changed_pair_is_taken_over_once_and_touches_nobody_else() {
    run(async |dir| {
        let server = Server::start(&dir, required(Administrator::default())).await;
        let mut main = server.login("vaylix", "vaylix").await;
        assert_eq!(main.line("create user bob password abcdefghijk1").await, "OK");
        drop(main);
        // Another name.
        let server = server.restart(required(named("root", "one"))).await;
        let mut main = server.login("root", "one").await;
        let everybody =
            "bob=roles= disabled=false, root=roles=admin disabled=false, vaylix=roles=admin disabled=false";
        assert_eq!(main.line("show users").await, everybody);
        server.login("vaylix", "vaylix").await;
        drop(main);
        // Another password.
        let server = server.restart(required(named("root", "two"))).await;
        assert!(server.connect().auth("root", "one").await.is_err());
        server.login("root", "two").await;
        // A user who exists becomes an administrator and keeps its other roles.
        let server = server.restart(required(named("bob", "three"))).await;
        let mut bob = server.login("bob", "three").await;
        let everybody = "bob=roles=admin disabled=false, root=roles=admin disabled=false, vaylix=roles=admin disabled=false";
        assert_eq!(bob.line("show users").await, everybody);
        // No explicit pair any more: nothing changes.
        drop(bob);
        let server = server.restart(required(Administrator::default())).await;
        server.login("bob", "three").await;
        server.login("root", "two").await;
    });
}

#[test]
fn access_rules_survive_restarts_and_snapshots() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        server.user_with(&mut main, "bob", &[("read", "*")]).await;
        assert_eq!(main.line("save").await, "OK");
        assert_eq!(main.line("set k v").await, "OK");
        drop(main);
        let server = server.restart(required(root(true))).await;
        let mut bob = server.login("bob", "abcdefghijk1").await;
        bob.says(
            "> get k\nv\n> show grants\nuser.bob.grant.000=role=bob-role read on *, user.bob.roles=bob-role",
        )
        .await;
    });
}
