//! How nodes find each other, and who is kept out.

use vaylix_proto::frame::Compression;
use vaylix_proto::hello::{Capabilities, ClientHello};
use vaylix_proto::opcode::Opcode;
use vaylix_proto::response::Shape;
use vaylix_proto::{Command, Reply};
use vaylix_testkit::process::Process;
use vaylix_testkit::server;
use vaylix_testkit::wire::{Connection, set_command};

use crate::support::{Cluster, one_port_on_hosts, until};

#[test]
fn three_nodes_become_one_cluster_by_themselves() {
    let cluster = Cluster::start(3, &[]);
    let leader = &cluster.nodes[cluster.leader()];
    cluster.set("k", b"v");
    cluster.expect_everywhere("k", b"v");

    let follower = &cluster.nodes[cluster.followers()[0]];
    let refusal = follower.call(&set_command("k", "w")).unwrap_err();
    assert_eq!(refusal.code, "SRV-037");
    let hint =
        format!("writes are rejected on follower nodes; leader={} address={}", leader.name, leader.address);
    assert_eq!(refusal.message, hint);

    let seen = leader.entries(&Command::ShowCluster);
    assert_eq!(seen["quorum_size"], "2");
    assert_eq!(seen["member_count"], "3");
    for node in &cluster.nodes {
        assert_eq!(seen[&format!("member.{}.advertise_addr", node.name)], node.address.to_string());
        assert_eq!(seen[&format!("member.{}.voter", node.name)], "true");
        until("everybody ready", || (node.health().get("ready")? == "true").then_some(()));
        assert_eq!(node.entries(&Command::ShowCluster)["leader_advertise_addr"], leader.address.to_string());
    }
    let replication = leader.entries(&Command::ShowReplication);
    assert_eq!(replication["known_followers"], "2");
    assert_eq!(replication[&format!("follower.{}.stale", follower.name)], "false");
    assert_eq!(follower.entries(&Command::ShowReplication)["upstream"], leader.address.to_string());
}

#[test]
fn nodes_on_hosts_of_their_own_have_one_port_in_common() {
    let mut cluster = Cluster::prepare_at(one_port_on_hosts(3), &[]);
    for node in &mut cluster.nodes {
        node.start();
    }
    let leader = cluster.leader();
    let seen = cluster.nodes[leader].entries(&Command::ShowCluster);
    for node in &cluster.nodes {
        assert_eq!(seen[&format!("member.{}.advertise_addr", node.name)], node.address.to_string());
    }
    cluster.set("k", b"v");
    cluster.kill(leader);
    assert_ne!(cluster.leader(), leader);
    cluster.set("k", b"w");
    cluster.nodes[leader].start();
    cluster.expect_everywhere("k", b"w");
}

#[test]
fn users_made_on_the_leader_are_users_everywhere_and_after_its_death() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let create = Command::CreateUser { user: "mira".into(), password: "Correct-Horse-7".into() };
    cluster.nodes[leader].call(&create).unwrap();
    for node in &cluster.nodes {
        until("the login", || node.try_login_as("mira", "Correct-Horse-7"));
    }
    cluster.kill(leader);
    cluster.leader();
    for node in cluster.nodes.iter().filter(|node| node.server.is_some()) {
        until("the login", || node.try_login_as("mira", "Correct-Horse-7"));
    }
}

#[test]
fn a_cluster_waits_for_all_of_its_nodes_to_be_founded() {
    let mut cluster = Cluster::prepare(3, &[]);
    for node in &mut cluster.nodes[..2] {
        node.start();
    }
    for node in &cluster.nodes[..2] {
        // Nobody can log in yet: there are no users before there is a cluster.
        let mut connection = Connection::open(node.address).unwrap();
        let refusal = connection.call(&Command::Get { key: "k".into() }).unwrap().unwrap_err();
        assert_eq!(refusal.code, "SRV-007");
    }
    assert!(cluster.find_leader().is_none());
    cluster.nodes[2].start();
    cluster.leader();
    cluster.set("k", b"v");
    cluster.expect_everywhere("k", b"v");
}

#[test]
fn a_node_with_another_secret_is_refused() {
    let mut cluster = Cluster::prepare(3, &[]);
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), "not the secret of this cluster").unwrap();
    for node in &mut cluster.nodes[..2] {
        node.start();
    }
    let last = &mut cluster.nodes[2];
    last.replace_flag("--cluster-secret-file", other.path().to_str().unwrap());
    last.start();
    let said = last.server.as_mut().unwrap();
    until("the refusal in the log", || {
        said.next_line()
            .unwrap()
            .filter(|line| line.contains("SRV-008") || line.contains("same cluster secret"))
    });
    assert!(cluster.find_leader().is_none());
}

#[test]
fn strangers_get_nowhere_with_what_nodes_say_to_each_other() {
    let cluster = Cluster::start(3, &[]);
    let node = &cluster.nodes[cluster.leader()];
    for opcode in Opcode::ALL.iter().filter(|opcode| opcode.is_internal()) {
        let mut anonymous = Connection::open(node.address).unwrap();
        let refusal =
            anonymous.call_opaque(*opcode, b"\0").unwrap().reply(Shape::Empty).unwrap().unwrap_err();
        assert_eq!(refusal.code, "SRV-007", "{opcode:?}");
        let mut administrator = node.login();
        let refusal =
            administrator.call_opaque(*opcode, b"\0").unwrap().reply(Shape::Empty).unwrap().unwrap_err();
        assert_eq!(refusal.code, "SRV-016", "{opcode:?}");

        // Somebody who calls himself a node, and says something without having proved it.
        let offer =
            ClientHello { desired_compression: Compression::None, ..ClientHello::new("vaylix-peer", "0") };
        let mut impostor = Connection::open_as(node.address, &offer).unwrap();
        let refusal = impostor.call_opaque(*opcode, b"\0").unwrap().reply(Shape::Empty).unwrap().unwrap_err();
        let expected = if *opcode == Opcode::ReplicationStatus { "SRV-030" } else { "SRV-007" };
        assert_eq!(refusal.code, expected, "{opcode:?}");
        assert!(impostor.call_opaque(*opcode, b"\0").is_err(), "the connection is closed");
    }
    // A call that is well formed, and a proof that is not one.
    let offer =
        ClientHello { desired_compression: Compression::None, ..ClientHello::new("vaylix-peer", "0") };
    let mut impostor = Connection::open_as(node.address, &offer).unwrap();
    let call = [&[0, 1][..], &[7; 32], &[0; 8], &[0], b"card"].concat();
    let challenge = impostor.call_opaque(Opcode::ReplicationStatus, &call).unwrap();
    assert_eq!(challenge.payload.len(), 1 + 32);
    let proof = [&[0, 2][..], &[7; 32]].concat();
    let refusal = impostor.call_opaque(Opcode::ReplicationStatus, &proof).unwrap();
    assert_eq!(refusal.reply(Shape::Empty).unwrap().unwrap_err().code, "SRV-008");
}

#[test]
fn a_follower_reads_what_was_acknowledged_when_it_is_asked_to() {
    let cluster = Cluster::start(3, &[]);
    let mut writer = cluster.nodes[cluster.leader()].login();
    let offer = ClientHello {
        desired_compression: Compression::None,
        supported_capabilities: Capabilities(
            Capabilities::ALL.0 | Capabilities::LINEARIZABLE_FOLLOWER_READS.0,
        ),
        ..ClientHello::new("vaylix-test", "0")
    };
    let follower = &cluster.nodes[cluster.followers()[0]];
    follower.login();
    let mut reader = Connection::open_as(follower.address, &offer).unwrap();
    reader.call(&Command::Auth { user: "vaylix".into(), password: "vaylix".into() }).unwrap().unwrap();
    for round in 0..200 {
        let value = round.to_string();
        writer.call(&set_command("k", value.clone())).unwrap().unwrap();
        let read = reader.call(&Command::Get { key: "k".into() }).unwrap().unwrap();
        assert_eq!(read, Reply::Value(value.into()), "acknowledged before it was read");
    }
}

#[test]
fn a_cluster_without_a_secret_or_with_settings_that_lose_data_does_not_start() {
    let temp = tempfile::TempDir::new().unwrap();
    let run = |flags: &[&str]| {
        let mut all = vec!["--node-id", "a", "--cluster-peers", "a@127.0.0.1:9,b@127.0.0.1:10"];
        all.extend(flags);
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        let mut process = Process::spawn(server::command(temp.path(), &all).unwrap()).unwrap();
        let mut output = String::new();
        while let Some(line) = process.next_line().unwrap() {
            output.push_str(&line);
        }
        assert_eq!(process.wait().unwrap().code(), Some(1), "{output}");
        output
    };
    assert!(
        run(&[]).contains(
            "[SRV-030] Invalid Arguments: invalid command-line arguments: a cluster needs a secret"
        )
    );
    let password = ["--replication-password", "a long password"];
    assert!(run(&[&password[..], &["--write-ack-mode", "local"]].concat()).contains("[SRV-030]"));
    let open = run(&[&password[..], &["--bind", "0.0.0.0"]].concat());
    assert!(open.contains("--user and --password"), "{open}");
    assert!(
        run(&[&password[..], &["--replication-advertise-addr", "127.0.0.1:11"]].concat()).contains("says")
    );
}
