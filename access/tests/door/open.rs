//! A server without authentication.

use vaylix_access::Authentication;

use crate::support::{Server, required, root, run};

#[test]
fn everybody_is_anonymous_and_may_do_everything_but_manage_users() {
    run(async |dir| {
        let server = Server::start(&dir, Authentication::Disabled).await;
        let mut session = server.connect();
        let all = "read,write,admin,backup,restore,metrics,snapshot,clear,user_admin,role_admin";
        session
            .says(&format!(
                "> whoami
            permissions={all}, username=anonymous
            > show grants
            grants={all}
            > set a 1
            OK
            > list
            a=1
            > flushdb
            OK
            > auth any thing
            OK
            > whoami
            permissions={all}, username=anonymous"
            ))
            .await;
        for line in [
            "create user bob password abcdefghijk1",
            "create user bob password weak",
            "alter user bob password abcdefghijk1",
            "drop user bob",
            "create role r",
            "drop role r",
            "grant role r to u",
            "revoke role r from u",
            "grant permission read to r",
            "revoke permission read from r",
            "show users",
            "show roles",
            "show grants for user u",
            "show grants for role r",
        ] {
            let unsupported = "ERROR [SRV-016] Unsupported Remote Command: unsupported remote command";
            assert_eq!(session.line(line).await, unsupported, "{line}");
        }
    });
}

#[test]
fn users_are_still_there_when_authentication_is_back() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let server = server.restart(Authentication::Disabled).await;
        let mut session = server.connect();
        assert_eq!(session.line("set a 1").await, "OK");
        drop(session);
        let server = server.restart(required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        assert_eq!(main.line("get a").await, "1");
    });
}
