//! Every command against many sets of grants, compared with a table that was written down apart from the code.
//!
//! Columns: a command; the permissions it needs (`-` for none beyond the login, `free` for not even that);
//! whether a grant on the pattern `k*` is enough for it (`k*`) or only one on `*`; and what becomes of it in an
//! open transaction: queued, refused, or done at once.

use vaylix_access::Admission;
use vaylix_proto::Code;

use crate::support::{Server, Session, parse, required, root, run};

const TABLE: &str = "
ping                                     | free       | -  | queued
auth root rootpw                         | free       | -  | done
get k1                                   | read       | k* | queued
get x1                                   | read       | *  | queued
mget k1 k2                               | read       | k* | queued
mget k1 x1                               | read       | *  | queued
exists k1                                | read       | k* | queued
exists x1                                | read       | *  | queued
ttl k1                                   | read       | k* | queued
ttl x1                                   | read       | *  | queued
scan 0 match k*                          | read       | k* | queued
scan 0 match k?1* count 5                | read       | k* | queued
scan 7 match k1                          | read       | k* | queued
scan 0 match *                           | read       | *  | queued
scan 0 match ?1                          | read       | *  | queued
scan 0                                   | read       | *  | queued
dbsize                                   | read       | *  | queued
count                                    | read       | *  | queued
list                                     | read       | *  | queued
set k1 v                                 | write      | k* | queued
set x1 v                                 | write      | *  | queued
set k1 v nx                              | write      | k* | queued
set k1 v get                             | read write | k* | queued
set x1 v get                             | read write | *  | queued
setnx k1 v                               | write      | k* | queued
setnx x1 v                               | write      | *  | queued
getdel k1                                | read write | k* | queued
getdel x1                                | read write | *  | queued
getex k1                                 | read write | k* | queued
getex x1                                 | read write | *  | queued
getex k1 ex 5                            | read write | k* | queued
getex x1 persist                         | read write | *  | queued
del k1                                   | write      | k* | queued
del k1 x1                                | write      | *  | queued
mset k1 1 k2 2                           | write      | k* | queued
mset k1 1 x1 2                           | write      | *  | queued
incr k1                                  | write      | k* | queued
incr x1                                  | write      | *  | queued
decr k1                                  | write      | k* | queued
decr x1                                  | write      | *  | queued
expire k1 5                              | write      | k* | queued
expire x1 5                              | write      | *  | queued
persist k1                               | write      | k* | queued
persist x1                               | write      | *  | queued
rename k1 k2                             | write      | k* | queued
rename k1 x1                             | write      | *  | queued
rename x1 k1                             | write      | *  | queued
renamenx k1 k2                           | write      | k* | queued
renamenx k1 x1                           | write      | *  | queued
flushdb                                  | clear      | *  | queued
info                                     | metrics    | *  | refused
metrics                                  | metrics    | *  | refused
metrics prom                             | metrics    | *  | refused
save                                     | snapshot   | *  | refused
snapshot                                 | snapshot   | *  | refused
backup                                   | backup     | *  | refused
backup to f                              | backup     | *  | refused
backup verify {}                         | backup     | *  | refused
backup verify from f                     | backup     | *  | refused
restore {}                               | restore    | *  | refused
restore from f                           | restore    | *  | refused
restore check {}                         | restore    | *  | refused
restore check from f                     | restore    | *  | refused
create user u password abcdefghijk1      | user_admin | *  | refused
alter user u password abcdefghijk1       | user_admin | *  | refused
drop user u                              | user_admin | *  | refused
show users                               | user_admin | *  | refused
show grants for user nobody              | user_admin | *  | refused
create role r                            | role_admin | *  | refused
drop role r                              | role_admin | *  | refused
grant role r to u                        | role_admin | *  | refused
revoke role r from u                     | role_admin | *  | refused
grant permission read on k* to r         | role_admin | *  | refused
revoke permission read on k* from r      | role_admin | *  | refused
show roles                               | role_admin | *  | refused
show grants for role r                   | role_admin | *  | refused
show grants                              | -          | -  | refused
whoami                                   | -          | -  | refused
health                                   | -          | -  | refused
maintenance status                       | -          | -  | refused
maintenance on                           | admin      | *  | refused
maintenance off                          | admin      | *  | refused
show cluster                             | admin      | *  | refused
show replication                         | admin      | *  | refused
cluster join n h:1                       | admin      | *  | refused
cluster remove n                         | admin      | *  | refused
promote follower                         | admin      | *  | refused
pause replication                        | admin      | *  | refused
resume replication                       | admin      | *  | refused
";

const PERMISSIONS: [&str; 10] = [
    "read",
    "write",
    "admin",
    "backup",
    "restore",
    "metrics",
    "snapshot",
    "clear",
    "user_admin",
    "role_admin",
];

struct Row {
    line: &'static str,
    needs: Vec<&'static str>,
    free: bool,
    scoped: bool,
    in_transaction: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.is_empty());
    let row = |line: &'static str| {
        let [line, needs, scope, in_transaction] =
            line.split('|').map(str::trim).collect::<Vec<_>>().try_into().unwrap();
        let free = needs == "free";
        let needs = if free || needs == "-" { vec![] } else { needs.split(' ').collect() };
        Row { line, needs, free, scoped: scope == "k*", in_transaction }
    };
    lines.map(row).collect()
}

/// What the table says about somebody with these grants.
fn is_expected(row: &Row, grants: &[(&str, &str)]) -> bool {
    let has = |permission: &str, pattern: &str| grants.contains(&(permission, pattern));
    has("admin", "*") || row.needs.iter().all(|needed| has(needed, "*") || (row.scoped && has(needed, "k*")))
}

fn decision(session: &mut Session, line: &str) -> Result<(), Code> {
    session.admit(parse(line)).map(drop).map_err(|refusal| refusal.known_code().unwrap())
}

#[test]
fn every_command_with_every_kind_of_grants() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        // Nothing; one permission, everywhere and in scope; all permissions but one; and mixtures.
        let mut kinds: Vec<Vec<(&str, &str)>> = vec![vec![]];
        for permission in PERMISSIONS {
            kinds.push(vec![(permission, "*")]);
            kinds.push(vec![(permission, "k*")]);
            let others = PERMISSIONS.iter().filter(|other| **other != permission && **other != "admin");
            kinds.push(others.map(|other| (*other, "*")).collect());
        }
        kinds.push(vec![("read", "k*"), ("write", "k*")]);
        kinds.push(vec![("read", "*"), ("write", "k*")]);
        kinds.push(vec![("read", "k*"), ("write", "*")]);
        for (n, grants) in kinds.iter().enumerate() {
            let mut session = server.user_with(&mut main, &format!("u{n}"), grants).await;
            for row in rows() {
                let expected = if is_expected(&row, grants) { Ok(()) } else { Err(Code::PermissionDenied) };
                assert_eq!(decision(&mut session, row.line), expected, "{} with {grants:?}", row.line);
            }
        }
    });
}

#[test]
fn every_command_without_a_login() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut nobody = server.connect();
        for row in rows() {
            let expected = if row.free { Ok(()) } else { Err(Code::AuthenticationRequired) };
            assert_eq!(decision(&mut nobody, row.line), expected, "{}", row.line);
        }
        for line in ["multi", "exec", "discard"] {
            assert_eq!(decision(&mut nobody, line), Err(Code::AuthenticationRequired), "{line}");
        }
    });
}

#[test]
fn every_command_in_a_transaction() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        assert_eq!(main.line("multi").await, "OK");
        for row in rows() {
            let became = match main.admit(parse(row.line)) {
                Ok(Admission::Queue(_)) => "queued",
                Ok(Admission::Login { .. }) => "done",
                Err(refusal) if refusal.known_code() == Some(Code::UnsupportedRemoteCommand) => "refused",
                other => panic!("{}: {other:?}", row.line),
            };
            assert_eq!(became, row.in_transaction, "{}", row.line);
        }
    });
}

#[test]
fn a_list_command_that_names_no_key_needs_the_permission_everywhere() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let mut scoped = server.user_with(&mut main, "scoped", &[("read", "k*"), ("write", "k*")]).await;
        for (session, expected) in [(&mut main, Ok(())), (&mut scoped, Err(Code::PermissionDenied))] {
            for command in [
                vaylix_proto::Command::MGet { keys: vec![] },
                vaylix_proto::Command::Del { keys: vec![] },
                vaylix_proto::Command::MSet { pairs: vec![] },
            ] {
                let decision = session.admit(command.clone()).map(drop);
                assert_eq!(
                    decision.map_err(|refusal| refusal.known_code().unwrap()),
                    expected,
                    "{command:?}"
                );
            }
        }
    });
}
