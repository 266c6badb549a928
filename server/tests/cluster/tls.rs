//! A cluster whose nodes speak TLS to each other and to clients, both with certificates.

use std::time::Instant;

use tempfile::TempDir;
use vaylix_dataplane::client::{
    self, ClientIdentity, ClusterConfig, Config, Credentials, Endpoint, TlsOptions,
};
use vaylix_proto::{Command, Reply};
use vaylix_testkit::certificates::{Authority, Directory, Validity};
use vaylix_testkit::wire::{DEFAULT_LOGIN, set_command};

use crate::support::{Cluster, LOOK_EVERY, PATIENCE};

fn client(cluster: &Cluster, files: &Directory) -> ClusterConfig {
    let seeds = cluster.nodes.iter().map(|node| Endpoint::from(node.address)).collect();
    let (user, password) = DEFAULT_LOGIN;
    let tls = TlsOptions {
        ca_cert: Some(files.path("ca.pem").into()),
        identity: Some(ClientIdentity {
            cert: files.path("server.pem").into(),
            key: files.path("server.key").into(),
        }),
        ..TlsOptions::default()
    };
    let connection =
        Config { tls: Some(tls), credentials: Some(Credentials::new(user, password)), ..Config::default() };
    ClusterConfig { deadline: PATIENCE, ..ClusterConfig::new(seeds, connection) }
}

#[tokio::test]
async fn nodes_with_certificates_of_one_authority_form_a_cluster_and_outlive_their_leader() {
    let temp = TempDir::new().unwrap();
    let files = Directory::at(temp.path());
    let authority = Authority::new("nodes").unwrap();
    files.write("ca.pem", &authority.pem()).unwrap();
    files.put(&authority.server("node", Validity::default()).unwrap()).unwrap();
    let (cert, key, ca) = (files.path("server.pem"), files.path("server.key"), files.path("ca.pem"));
    let flags = ["--ssl", "--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let mut cluster = Cluster::prepare(3, &flags);
    for node in &mut cluster.nodes {
        node.start();
    }
    let mut client = client::Cluster::connect(client(&cluster, &files)).await.unwrap();
    let begun = Instant::now();
    while let Err(refusal) = client.log_in().await.unwrap() {
        assert_eq!(refusal.code, "SRV-005", "the cluster is still being founded: {refusal:?}");
        assert!(begun.elapsed() < PATIENCE, "{refusal:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // The client goes from node to node until one leads.
    assert_eq!(client.call(&set_command("k", "v")).await.unwrap(), Ok(Reply::Ok));
    let at = client.at().clone();
    let leader = cluster.nodes.iter().position(|node| Endpoint::from(node.address) == at).unwrap();
    cluster.nodes[leader].kill();
    let get = Command::Get { key: "k".into() };
    let begun = Instant::now();
    // A follower may not have heard yet that it was committed.
    while client.call(&get).await.unwrap() != Ok(Reply::Value("v".into())) {
        assert!(begun.elapsed() < PATIENCE, "what was acknowledged is gone");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    assert_ne!(*client.at(), at);
}
