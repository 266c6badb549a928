//! The client library and several real servers that come and go. They are not a cluster: each has its own data, which is
//! how a test can tell them apart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use vaylix_dataplane::client::{CallError, Cluster, ClusterConfig, Config, Credentials, Endpoint};
use vaylix_proto::{Command, Reply};
use vaylix_testkit::Server;
use vaylix_testkit::wire::{self, set_command};

const PATIENCE: Duration = Duration::from_secs(60);

fn config(servers: &[&Server]) -> ClusterConfig {
    let seeds = servers.iter().map(|server| Endpoint::from(server.address())).collect();
    let connection = Config { credentials: Some(Credentials::new("vaylix", "vaylix")), ..Config::default() };
    ClusterConfig { deadline: PATIENCE, ..ClusterConfig::new(seeds, connection) }
}

fn get() -> Command {
    Command::Get { key: "who".into() }
}

#[tokio::test]
async fn the_next_server_takes_over_and_everybody_is_logged_in() {
    let mut servers = [Server::start(&[]).unwrap(), Server::start(&[]).unwrap(), Server::start(&[]).unwrap()];
    for (number, server) in servers.iter().enumerate() {
        wire::set(server.address(), "who", number.to_string().as_bytes()).unwrap();
    }
    let mut cluster = Cluster::connect(config(&servers.each_ref())).await.unwrap();
    cluster.log_in().await.unwrap().unwrap();
    for (number, server) in servers.iter_mut().enumerate() {
        assert_eq!(cluster.at(), &Endpoint::from(server.address()));
        let answer = cluster.call(&get()).await.unwrap();
        assert_eq!(answer, Ok(Reply::Value(number.to_string().into())));
        server.kill().unwrap();
        if number < 2 {
            // It is a read: however the end of the connection shows, the next server answers it.
            let answer = cluster.call(&get()).await.unwrap();
            assert_eq!(answer, Ok(Reply::Value((number + 1).to_string().into())));
        }
    }
}

#[tokio::test]
async fn a_write_to_a_frozen_server_is_unknown_and_the_next_goes_elsewhere() {
    let servers = [Server::start(&[]).unwrap(), Server::start(&[]).unwrap()];
    let settings = ClusterConfig { deadline: Duration::from_millis(500), ..config(&servers.each_ref()) };
    let mut cluster = Cluster::connect(settings).await.unwrap();
    cluster.log_in().await.unwrap().unwrap();
    servers[0].signal("STOP").unwrap();
    let write = set_command("who", "written");
    let answer = cluster.call(&write).await;
    assert!(matches!(answer, Err(CallError::Unanswered(_))), "{answer:?}");
    assert_eq!(cluster.call(&write).await.unwrap(), Ok(Reply::Ok));
    assert_eq!(cluster.at(), &Endpoint::from(servers[1].address()));

    // Unknown means unknown: the frozen server had the request all along.
    servers[0].signal("CONT").unwrap();
    let written = vaylix_testkit::wait::within("the write is executed", PATIENCE, || {
        let mut connection = wire::Connection::login(servers[0].address()).unwrap();
        (connection.call(&get()).unwrap() == Ok(Reply::Value("written".into()))).then_some(())
    });
    written.unwrap();
}
