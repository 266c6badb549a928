//! Every command against many sets of grants, compared with a table that was written down apart from the code.
//!
//! Columns: a command; the permissions it needs (`-` for none beyond the login, `free` for not even that);
//! whether a grant on the pattern `k*` is enough for it (`k*`) or only one on `*`; what becomes of it in an
//! open transaction: queued, refused, or done at once; and whether maintenance mode lets it through.

use std::time::Duration;

use vaylix_access::{Admission, Standing, Transaction};
use vaylix_proto::Code;

use crate::support::{Server, Session, parse, required, root, run};

const TABLE: &str = "
ping                                     | free       | -  | queued      | yes
auth root rootpw                         | free       | -  | done        | yes
get k1                                   | read       | k* | queued      | yes
get x1                                   | read       | *  | queued      | yes
mget k1 k2                               | read       | k* | queued      | yes
mget k1 x1                               | read       | *  | queued      | yes
exists k1                                | read       | k* | queued      | yes
exists x1                                | read       | *  | queued      | yes
ttl k1                                   | read       | k* | queued      | yes
ttl x1                                   | read       | *  | queued      | yes
scan 0 match k*                          | read       | k* | queued      | yes
scan 0 match k?1* count 5                | read       | k* | queued      | yes
scan 7 match k1                          | read       | k* | queued      | yes
scan 0 match *                           | read       | *  | queued      | yes
scan 0 match ?1                          | read       | *  | queued      | yes
scan 0                                   | read       | *  | queued      | yes
dbsize                                   | read       | *  | queued      | yes
count                                    | read       | *  | queued      | yes
list                                     | read       | *  | queued      | yes
set k1 v                                 | write      | k* | queued      | no
set x1 v                                 | write      | *  | queued      | no
set k1 v nx                              | write      | k* | queued      | no
set k1 v get                             | read write | k* | queued      | no
set x1 v get                             | read write | *  | queued      | no
setnx k1 v                               | write      | k* | queued      | no
setnx x1 v                               | write      | *  | queued      | no
getdel k1                                | read write | k* | queued      | no
getdel x1                                | read write | *  | queued      | no
getex k1                                 | read write | k* | queued      | yes
getex x1                                 | read write | *  | queued      | yes
getex k1 ex 5                            | read write | k* | queued      | no
getex x1 persist                         | read write | *  | queued      | no
del k1                                   | write      | k* | queued      | no
del k1 x1                                | write      | *  | queued      | no
mset k1 1 k2 2                           | write      | k* | queued      | no
mset k1 1 x1 2                           | write      | *  | queued      | no
incr k1                                  | write      | k* | queued      | no
incr x1                                  | write      | *  | queued      | no
decr k1                                  | write      | k* | queued      | no
decr x1                                  | write      | *  | queued      | no
expire k1 5                              | write      | k* | queued      | no
expire x1 5                              | write      | *  | queued      | no
persist k1                               | write      | k* | queued      | no
persist x1                               | write      | *  | queued      | no
rename k1 k2                             | write      | k* | queued      | no
rename k1 x1                             | write      | *  | queued      | no
rename x1 k1                             | write      | *  | queued      | no
renamenx k1 k2                           | write      | k* | queued      | no
renamenx k1 x1                           | write      | *  | queued      | no
flushdb                                  | clear      | *  | queued      | no
info                                     | metrics    | *  | refused     | yes
metrics                                  | metrics    | *  | refused     | yes
metrics prom                             | metrics    | *  | refused     | yes
save                                     | snapshot   | *  | refused     | no
snapshot                                 | snapshot   | *  | refused     | no
backup                                   | backup     | *  | refused     | yes
backup to f                              | backup     | *  | refused     | no
backup verify {}                         | backup     | *  | refused     | yes
backup verify from f                     | backup     | *  | refused     | yes
restore {}                               | restore    | *  | refused     | no
restore from f                           | restore    | *  | refused     | no
restore check {}                         | restore    | *  | refused     | yes
restore check from f                     | restore    | *  | refused     | yes
create user u password abcdefghijk1      | user_admin | *  | refused     | no
alter user u password abcdefghijk1       | user_admin | *  | refused     | no
drop user u                              | user_admin | *  | refused     | no
show users                               | user_admin | *  | refused     | yes
show grants for user nobody              | user_admin | *  | refused     | yes
create role r                            | role_admin | *  | refused     | no
drop role r                              | role_admin | *  | refused     | no
grant role r to u                        | role_admin | *  | refused     | no
revoke role r from u                     | role_admin | *  | refused     | no
grant permission read on k* to r         | role_admin | *  | refused     | no
revoke permission read on k* from r      | role_admin | *  | refused     | no
show roles                               | role_admin | *  | refused     | yes
show grants for role r                   | role_admin | *  | refused     | yes
show grants                              | -          | -  | refused     | yes
whoami                                   | -          | -  | refused     | yes
health                                   | -          | -  | refused     | yes
maintenance status                       | -          | -  | refused     | yes
maintenance on                           | admin      | *  | refused     | yes
maintenance off                          | admin      | *  | refused     | yes
show cluster                             | admin      | *  | refused     | yes
show replication                         | admin      | *  | refused     | yes
cluster join n h:1                       | admin      | *  | refused     | no
cluster remove n                         | admin      | *  | refused     | no
promote follower                         | admin      | *  | refused     | yes
pause replication                        | admin      | *  | refused     | no
resume replication                       | admin      | *  | refused     | no
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
    in_maintenance: bool,
}

/// The commands.
pub(crate) fn lines() -> impl Iterator<Item = &'static str> {
    rows().into_iter().map(|row| row.line)
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.is_empty());
    let row = |line: &'static str| {
        let [line, needs, scope, in_transaction, in_maintenance] =
            line.split('|').map(str::trim).collect::<Vec<_>>().try_into().unwrap();
        let free = needs == "free";
        let needs = if free || needs == "-" { vec![] } else { needs.split(' ').collect() };
        let in_maintenance = match in_maintenance {
            "yes" => true,
            "no" => false,
            other => panic!("{line}: {other}"),
        };
        Row { line, needs, free, scoped: scope == "k*", in_transaction, in_maintenance }
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

/// Nothing; one permission, everywhere and in scope; all permissions but one; and mixtures.
fn kinds() -> Vec<Vec<(&'static str, &'static str)>> {
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
    kinds
}

/// What the table says about a command of somebody with these grants, who has a transaction open or not, while
/// maintenance mode is on or off.
fn oracle(
    row: &Row,
    grants: &[(&str, &str)],
    is_open: bool,
    in_maintenance: bool,
) -> Result<&'static str, Code> {
    if row.line.starts_with("auth ") {
        return Ok("done");
    }
    if in_maintenance && !row.in_maintenance {
        return Err(Code::MaintenanceModeEnabled);
    }
    if is_open && row.in_transaction == "refused" {
        return Err(Code::UnsupportedRemoteCommand);
    }
    if !row.free && !is_expected(row, grants) {
        return Err(Code::PermissionDenied);
    }
    Ok(if is_open { "queued" } else { "run" })
}

/// Every command × every kind of grants × in and out of a transaction × in and out of maintenance mode.
#[test]
fn every_command_with_every_kind_of_grants() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let open = Transaction::Open { queued: 0, age: Duration::ZERO };
        let mut sessions = Vec::new();
        for (n, grants) in kinds().into_iter().enumerate() {
            sessions.push((server.user_with(&mut main, &format!("u{n}"), &grants).await, grants));
        }
        let mut checked = 0;
        for in_maintenance in [false, true] {
            if in_maintenance {
                assert_eq!(main.line("maintenance on").await, "OK");
            }
            for (session, grants) in &mut sessions {
                for (row, transaction) in
                    rows().iter().flat_map(|row| [(row, Transaction::Closed), (row, open)])
                {
                    let is_open = matches!(transaction, Transaction::Open { .. });
                    let standing = Standing { transaction, writes_in_flight: false };
                    let decision = match session.ask(standing, parse(row.line)) {
                        Ok(Admission::Run(_)) => Ok("run"),
                        Ok(Admission::Queue(_)) => Ok("queued"),
                        Ok(Admission::Login(_)) => Ok("done"),
                        Ok(other) => panic!("{}: {other:?}", row.line),
                        Err(refusal) => Err(refusal.known_code().unwrap()),
                    };
                    let expected = oracle(row, grants, is_open, in_maintenance);
                    assert_eq!(decision, expected, "{} with {grants:?}, {standing:?}", row.line);
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, rows().len() * kinds().len() * 4);
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
                Ok(Admission::Login(_)) => "done",
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
