//! What a node that does not lead answers, command by command.

use std::collections::BTreeSet;

use serde_json::Value;
use vaylix_proto::text::{Line, parse_line};
use vaylix_proto::{Code, Command, Dump, Opcode, Reply};
use vaylix_testkit::wire::{Connection, set_command};

use crate::support::{Cluster, Node, until};

/// Every command, and what a follower makes of it: `same` is the answer of the leader, `own` an answer of the follower's
/// own, anything else the code of its refusal. `DOCUMENT` stands for a logical backup. In this order: what is written to a
/// file is looked at afterwards.
const TABLE: &str = "
auth vaylix vaylix                          | own
ping                                        | same
get k                                       | same
get missing                                 | same
mget k missing n                            | same
exists k                                    | same
ttl lasting                                 | same
getex k                                     | same
scan 0 match k* count 5                     | same
list                                        | same
count                                       | same
dbsize                                      | same
info                                        | own
metrics                                     | own
metrics prom                                | own
health                                      | own
show cluster                                | own
show replication                            | own
maintenance status                          | own
whoami                                      | same
show users                                  | same
show roles                                  | same
show grants                                 | same
show grants for user vaylix                 | same
show grants for role admin                  | same
backup                                      | own
backup to follower.json                     | own
backup verify DOCUMENT                      | same
backup verify from follower.json            | own
restore check DOCUMENT                      | same
restore check from follower.json            | own
backup verify from missing.json             | SRV-004
set k v                                     | SRV-037
setnx k v                                   | SRV-037
mset k v                                    | SRV-037
del k                                       | SRV-037
getdel k                                    | SRV-037
getex k ex 5                                | SRV-037
getex k px 5                                | SRV-037
getex k persist                             | SRV-037
incr n                                      | SRV-037
decr n                                      | SRV-037
expire k 5                                  | SRV-037
persist k                                   | SRV-037
rename k l                                  | SRV-037
renamenx k l                                | SRV-037
clear                                       | SRV-037
multi                                       | SRV-037
exec                                        | SRV-037
discard                                     | SRV-037
save                                        | SRV-037
snapshot                                    | SRV-037
restore DOCUMENT                            | SRV-037
restore from follower.json                  | SRV-037
create user u password Correct-Horse-7      | SRV-037
alter user vaylix password Correct-Horse-7  | SRV-037
drop user u                                 | SRV-037
create role r                               | SRV-037
drop role r                                 | SRV-037
grant role admin to vaylix                  | SRV-037
revoke role admin from vaylix               | SRV-037
grant permission read on k* to admin        | SRV-037
revoke permission read on k* from admin     | SRV-037
maintenance on                              | SRV-037
maintenance off                             | SRV-037
cluster join n4 127.0.0.1:1                 | SRV-037
cluster remove n1                           | SRV-037
promote follower                            | SRV-038
pause replication                           | SRV-016
resume replication                          | SRV-016
";

fn parse(line: &str, document: &str) -> Command {
    let Line::Command(command) = parse_line(line).unwrap_or_else(|error| panic!("{line}: {error}")) else {
        panic!("{line} is no command")
    };
    let inline = |dump: &Dump| matches!(dump, Dump::Inline(text) if &**text == "DOCUMENT");
    match command {
        Command::BackupVerify(dump) if inline(&dump) => Command::BackupVerify(Dump::Inline(document.into())),
        Command::RestoreCheck(dump) if inline(&dump) => Command::RestoreCheck(Dump::Inline(document.into())),
        Command::Restore(dump) if inline(&dump) => Command::Restore(Dump::Inline(document.into())),
        command => command,
    }
}

/// Keys of every kind: replaced, counted, moved, lasting and removed ones.
fn fill(leader: &mut Connection) {
    let lines = [
        "set k v1",
        "set k v2",
        "incr n",
        "incr n",
        "set lasting v ex 100000",
        "expire n 200000",
        "set moved v",
        "rename moved there",
        "set gone v",
        "del gone",
        "set short v px 1",
        "mset m1 1 m2 2 k v3",
    ];
    for line in lines {
        leader.call(&parse(line, "")).unwrap().unwrap_or_else(|refusal| panic!("{line}: {refusal}"));
    }
    leader.call(&set_command("bytes", (0..=255).collect::<Vec<u8>>())).unwrap().unwrap();
}

/// None while the node cannot be asked, or asks to be asked again.
fn backup(node: &Node) -> Option<Value> {
    match node.try_login()?.call(&Command::Backup).unwrap() {
        Ok(Reply::Value(document)) => Some(serde_json::from_slice(&document).unwrap()),
        Err(refusal) if refusal.known_code() == Some(Code::ReplicationAcknowledgementUnavailable) => None,
        other => panic!("BACKUP answered {other:?}"),
    }
}

/// A backup of each node, all of them of the same log entry.
fn backups_of_one_moment(cluster: &Cluster) -> Vec<Value> {
    until("all nodes are at the same entry", || {
        let backups: Vec<_> = cluster.nodes.iter().map(backup).collect::<Option<_>>()?;
        let sequences: BTreeSet<_> =
            backups.iter().map(|backup| backup["source_sequence"].as_u64()).collect();
        (sequences.len() == 1).then_some(backups)
    })
}

#[test]
fn a_follower_answers_reads_and_backups_and_refuses_what_changes_anything() {
    let cluster = Cluster::start(3, &[]);
    let mut leader = cluster.nodes[cluster.leader()].login();
    fill(&mut leader);
    let node = &cluster.nodes[cluster.followers()[0]];
    node.expect("bytes", &(0..=255).collect::<Vec<u8>>());
    let document = backup(node).unwrap().to_string();

    let mut follower = node.login();
    let mut seen = BTreeSet::new();
    for row in TABLE.lines().filter(|row| !row.is_empty()) {
        let (line, expected) = row.split_once('|').unwrap();
        let (line, expected) = (line.trim(), expected.trim());
        let command = parse(line, &document);
        seen.insert(command.opcode().as_u8());
        let answer = follower.call(&command).unwrap();
        match (expected, answer) {
            ("own", answer) => assert!(answer.is_ok(), "{line}: {answer:?}"),
            ("same", answer) => assert_eq!(answer, leader.call(&command).unwrap(), "{line}"),
            (code, answer) => assert_eq!(answer.unwrap_err().code, code, "{line}"),
        }
    }
    let missing: Vec<_> = Opcode::ALL
        .iter()
        .filter(|opcode| !opcode.is_internal() && !seen.contains(&opcode.as_u8()))
        .map(|opcode| opcode.name())
        .collect();
    assert!(missing.is_empty(), "the table lacks {missing:?}");
    // The file is the follower's own.
    let verify = Command::BackupVerify(Dump::File("follower.json".into()));
    assert_eq!(leader.call(&verify).unwrap().unwrap_err().code, "SRV-004");
}

#[test]
fn backups_of_all_nodes_at_one_entry_hold_the_same() {
    let mut cluster = Cluster::start(3, &[]);
    fill(&mut cluster.nodes[cluster.leader()].login());
    let backups = backups_of_one_moment(&cluster);
    let entries = backups[0]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 7, "{entries:?}");
    assert!(backups.iter().all(|backup| backup["entries"] == backups[0]["entries"]), "{backups:#?}");

    // Also after another one has taken over, and the first has come back.
    let former = cluster.leader();
    cluster.kill(former);
    cluster.set("k", b"v4");
    cluster.set("more", b"1");
    cluster.nodes[former].start();
    let again = backups_of_one_moment(&cluster);
    assert!(again.iter().all(|backup| backup["entries"] == again[0]["entries"]), "{again:#?}");
    assert!(again[0]["source_sequence"].as_u64() > backups[0]["source_sequence"].as_u64());
}
