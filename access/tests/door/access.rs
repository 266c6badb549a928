//! Users, roles and grants as an administrator and a user meet them.

use vaylix_proto::Code;

use crate::support::{Server, required, root, run};

const ADMIN_ROLE: &str = "admin=admin on *,backup on *,clear on *,metrics on *,read on *,restore on *,\
role_admin on *,snapshot on *,user_admin on *,write on *";

#[test]
fn users_roles_and_grants() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let weak =
            "ERROR [SRV-032] Password Policy Violation: password does not satisfy the configured policy";
        let denied = "ERROR [SRV-017] Permission Denied: permission denied";
        main.says(&format!(
        "> whoami
        permissions=read,write,admin,backup,restore,metrics,snapshot,clear,user_admin,role_admin, username=root
        > show users
        root=roles=admin disabled=false
        > show roles
        {ADMIN_ROLE}
        > create user bob password short1
        {weak}: it needs at least 12 bytes
        > create user bob password nodigitsinhere
        {weak}: it needs a digit
        > create user bob password 123456789012
        {weak}: it needs a letter from a to z
        > create user bob password abcdefghijk1
        OK
        > create user bob password abcdefghijk1
        ERROR [SRV-019] User Already Exists: user already exists: bob
        > create user bob password weak
        {weak}: it needs at least 12 bytes and a digit
        > create role app
        OK
        > create role app
        ERROR [SRV-021] Role Already Exists: role already exists: app
        > grant permission read on app:* to app
        OK
        > grant permission WRITE on app:* to app
        OK
        > grant permission WRITE on app:* to app
        OK
        > grant permission fly to app
        ERROR [SRV-018] Invalid Permission: unknown permission: fly
        > grant permission fly to nosuchrole
        ERROR [SRV-018] Invalid Permission: unknown permission: fly
        > grant permission read to nosuchrole
        ERROR [SRV-022] Role Not Found: role not found: nosuchrole
        > revoke permission Fly from app
        ERROR [SRV-018] Invalid Permission: unknown permission: Fly
        > revoke permission read from nosuchrole
        ERROR [SRV-022] Role Not Found: role not found: nosuchrole
        > grant role app to bob
        OK
        > grant role app to bob
        OK
        > grant role app to nobody
        ERROR [SRV-020] User Not Found: user not found: nobody
        > grant role ghost to nobody
        ERROR [SRV-022] Role Not Found: role not found: ghost
        > grant role ghost to bob
        ERROR [SRV-022] Role Not Found: role not found: ghost
        > show users
        bob=roles=app disabled=false, root=roles=admin disabled=false
        > show roles
        {ADMIN_ROLE}, app=read on app:*,write on app:*
        > show grants for user bob
        user.bob.grant.000=role=app read on app:*, user.bob.grant.001=role=app write on app:*, user.bob.roles=app
        > show grants for role app
        role.app.grant.000=read on app:*, role.app.grant.001=write on app:*
        > show grants for user nobody
        ERROR [SRV-020] User Not Found: user not found: nobody
        > show grants for role ghost
        ERROR [SRV-022] Role Not Found: role not found: ghost
        > mset app:1 one app:2 two other:1 three
        OK"
    ))
    .await;

        let mut bob = server.login("bob", "abcdefghijk1").await;
        bob.says(&format!(
        "> whoami
        permissions=, username=bob
        > show grants
        user.bob.grant.000=role=app read on app:*, user.bob.grant.001=role=app write on app:*, user.bob.roles=app
        > get app:1
        one
        > get other:1
        {denied}
        > mget app:1 app:2
        one, two
        > mget app:1 other:1
        {denied}
        > set app:3 three
        OK
        > set other:2 x
        {denied}
        > rename app:3 app:4
        true
        > rename app:4 other:9
        {denied}
        > del app:4 other:1
        {denied}
        > incr app:n
        1
        > scan 0 match app:*
        cursor=0, keys=[app:1, app:2, app:4, app:n]
        > scan 0 match app:1*
        cursor=0, keys=[app:1]
        > scan 0 match a*
        {denied}
        > scan 0
        {denied}
        > show grants for user bob
        {denied}
        > health
        maintenance_mode=false, ready=true, reason=none, role=standalone, status=ready
        > ping
        PONG
        > multi
        OK
        > get other:1
        {denied}
        > get app:1
        QUEUED
        > exec
        one"
    ))
    .await;

        // A new grant reaches the open session at once.
        assert_eq!(main.line("grant permission read to app").await, "OK");
        bob.says(
            "> whoami
        permissions=read, username=bob
        > get other:1
        three
        > list
        app:1=one, app:2=two, app:4=three, app:n=1, other:1=three
        > scan 0 count 2
        cursor=2, keys=[app:1, app:2]
        > auth bob wrong
        ERROR [SRV-008] Authentication Failed: client authentication failed
        > whoami
        permissions=read, username=bob",
        )
        .await;

        // A new password keeps open sessions and changes logins.
        main.says(&format!(
            "> alter user bob password newpassword9
        OK
        > alter user nobody password newpassword9
        ERROR [SRV-020] User Not Found: user not found: nobody
        > alter user bob password weak
        {weak}: it needs at least 12 bytes and a digit"
        ))
        .await;
        bob.says(
            "> get app:1
        one
        > auth bob abcdefghijk1
        ERROR [SRV-008] Authentication Failed: client authentication failed
        > auth bob newpassword9
        OK",
        )
        .await;

        main.says(
            "> revoke permission read from app
        OK
        > show grants for role app
        role.app.grant.000=read on app:*, role.app.grant.001=write on app:*
        > drop role app
        OK
        > drop role app
        ERROR [SRV-022] Role Not Found: role not found: app
        > show users
        bob=roles= disabled=false, root=roles=admin disabled=false
        > revoke role app from bob
        OK
        > revoke role app from nobody
        ERROR [SRV-020] User Not Found: user not found: nobody
        > drop role admin
        ERROR [SRV-023] Protected Role: role is protected: admin
        > create role admin
        ERROR [SRV-021] Role Already Exists: role already exists: admin
        > revoke permission admin from admin
        ERROR [SRV-023] Protected Role: role is protected: admin
        > revoke role admin from root
        ERROR [SRV-024] Last Admin User: cannot remove the last admin user
        > drop user root
        ERROR [SRV-024] Last Admin User: cannot remove the last admin user
        > drop user nobody
        ERROR [SRV-020] User Not Found: user not found: nobody
        > grant role admin to bob
        OK
        > revoke role admin from root
        OK
        > whoami
        permissions=, username=root",
        )
        .await;
        bob.says(
            "> grant role admin to root
        OK
        > drop user bob
        OK
        > whoami
        ERROR [SRV-007] Authentication Required: client authentication is required",
        )
        .await;
        assert_eq!(main.line("show users").await, "root=roles=admin disabled=false");
    });
}

#[test]
fn dropping_a_role_does_not_leave_it_to_its_next_owner() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut bob = server.user_with(&mut main, "bob", &[("read", "*")]).await;
        assert_eq!(bob.line("count").await, "0");
        for line in ["drop role bob-role", "create role bob-role", "grant permission read to bob-role"] {
            assert_eq!(main.line(line).await, "OK");
        }
        assert!(bob.line("count").await.starts_with("ERROR [SRV-017]"));
    });
}

#[test]
fn a_user_of_the_same_name_is_somebody_else() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut bob = server.user_with(&mut main, "bob", &[("read", "*")]).await;
        let mut queued = server.login("bob", "abcdefghijk1").await;
        assert_eq!(queued.line("multi").await, "OK");
        assert_eq!(queued.line("get k").await, "QUEUED");
        assert_eq!(main.line("drop user bob").await, "OK");
        assert_eq!(main.line("create user bob password abcdefghijk1").await, "OK");
        assert!(bob.line("get k").await.starts_with("ERROR [SRV-007]"));
        assert!(bob.visitor.identity().is_none());
        assert!(queued.line("exec").await.starts_with("ERROR [SRV-007]"));
        // Login gives the session the new identity.
        bob.auth("bob", "abcdefghijk1").await.unwrap();
        assert!(bob.line("get k").await.starts_with("ERROR [SRV-017]"));
    });
}

#[test]
fn a_permission_taken_away_is_gone_inside_an_open_transaction() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut bob = server.user_with(&mut main, "bob", &[("write", "*")]).await;
        bob.says("> multi\nOK\n> set a 1\nQUEUED\n> set b 2\nQUEUED").await;
        assert_eq!(main.line("revoke permission write from bob-role").await, "OK");
        assert!(bob.line("exec").await.starts_with("ERROR [SRV-017]"));
        assert_eq!(main.line("count").await, "0");
        assert!(bob.line("exec").await.starts_with("ERROR [SRV-015]"), "the transaction is over");
    });
}

/// Role and user administrators cannot make themselves administrators, nor take over one.
#[test]
fn no_escalation() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        main.says(
            "> create role custom
        OK
        > grant permission admin to custom
        OK
        > create role scoped
        OK
        > grant permission admin on app:* to scoped
        OK
        > create role plain
        OK
        > create user second password abcdefghijk1
        OK
        > grant role custom to second
        OK
        > create user victim password abcdefghijk1
        OK",
        )
        .await;
        let mut roles = server.user_with(&mut main, "roles", &[("role_admin", "*")]).await;
        for line in [
            "grant role admin to roles",
            "grant role custom to roles",
            "grant role scoped to roles",
            "grant permission admin to plain",
            "grant permission ADMIN on x to plain",
            "grant permission admin to roles-role",
            "grant permission read to custom",
            "grant permission read to admin",
            "revoke permission admin from custom",
            "revoke permission read from admin",
            "revoke permission admin on app:* from scoped",
            "revoke permission admin from plain",
            "revoke role admin from root",
            "revoke role custom from second",
            "revoke role plain from root",
            "grant role plain to root",
            "drop role custom",
            "drop role scoped",
            "drop role admin",
            // Not theirs at all.
            "create user eve password abcdefghijk1",
            "alter user victim password abcdefghijk2",
        ] {
            let refusal = roles.call(crate::support::parse(line)).await.unwrap_err();
            assert_eq!(refusal.known_code(), Some(Code::PermissionDenied), "{line}");
        }
        let mut users = server.user_with(&mut main, "users", &[("user_admin", "*")]).await;
        for line in [
            "alter user root password abcdefghijk2",
            "alter user second password abcdefghijk2",
            "drop user root",
            "drop user second",
            "grant role plain to users",
            "create role mine",
        ] {
            let refusal = users.call(crate::support::parse(line)).await.unwrap_err();
            assert_eq!(refusal.known_code(), Some(Code::PermissionDenied), "{line}");
        }
        // What remains theirs.
        assert_eq!(roles.line("grant permission read to plain").await, "OK");
        assert_eq!(users.line("alter user victim password abcdefghijk2").await, "OK");
        assert_eq!(users.line("drop user victim").await, "OK");
        assert_eq!(
            roles.line("create role admin").await,
            "ERROR [SRV-021] Role Already Exists: role already exists: admin"
        );
    });
}

/// It is the permission that counts, by whatever role it is held.
#[test]
fn the_last_effective_administrator_stays() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut second = server.user_with(&mut main, "second", &[("admin", "*")]).await;
        // There is another administrator, so root may go; then second is the last.
        assert_eq!(second.line("drop user root").await, "OK");
        let last = "ERROR [SRV-024] Last Admin User: cannot remove the last admin user";
        second
            .says(&format!(
                "> drop user second
            {last}
            > drop role second-role
            {last}
            > revoke role second-role from second
            {last}
            > revoke permission admin from second-role
            {last}
            > revoke permission admin on x* from second-role
            OK
            > grant role admin to second
            OK
            > drop role second-role
            OK
            > revoke role admin from second
            {last}"
            ))
            .await;
    });
}

#[test]
fn concurrent_changes_all_take_effect() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let root = server.login("root", "rootpw").await;
        let changes = (0..20).map(|n| {
            let mut session = server.connect();
            async move {
                session.auth("root", "rootpw").await.unwrap();
                assert_eq!(session.line(&format!("create role r{n:02}")).await, "OK");
                assert_eq!(session.line(&format!("grant permission read on {n} to r{n:02}")).await, "OK");
                assert_eq!(session.line(&format!("set k{n} 1")).await, "OK");
            }
        });
        let tasks: Vec<_> = changes.map(tokio::spawn).collect();
        for task in tasks {
            task.await.unwrap();
        }
        let mut root = root;
        let roles = root.line("show roles").await;
        for n in 0..20 {
            assert!(roles.contains(&format!("r{n:02}=read on {n}")), "{roles}");
        }
        assert_eq!(root.line("count").await, "20");
    });
}
