//! MULTI, EXEC, DISCARD over a connection.

use std::time::Duration;

use vaylix_access::{Limits, Metric};
use vaylix_proto::request::Metadata;
use vaylix_proto::{Command, Reply};

use crate::support::{Client, Options, PASSWORD, Server, code, command, quoted, value};

async fn begin(client: &mut Client) {
    assert_eq!(client.say("multi").await, Ok(Reply::Ok));
}

async fn queue(client: &mut Client, line: &str) {
    assert_eq!(client.say(line).await, Ok(value("QUEUED")), "{line}");
}

#[tokio::test]
async fn all_or_nothing_and_invisible_before() {
    let server = Server::open().await;
    let (mut client, mut other) = (server.connect().await, server.connect().await);
    begin(&mut client).await;
    queue(&mut client, "set a 1").await;
    queue(&mut client, "incr a").await;
    queue(&mut client, "get a").await;
    queue(&mut client, "ping").await;
    assert_eq!(other.say("get a").await, Ok(Reply::NotFound));
    let results = vec![Reply::Ok, Reply::Integer(2), value("2"), value("PONG")];
    assert_eq!(client.say("exec").await, Ok(Reply::Exec(results)));
    assert_eq!(other.say("get a").await, Ok(value("2")));

    begin(&mut client).await;
    queue(&mut client, "set b text").await;
    queue(&mut client, "incr b").await;
    assert_eq!(code(&client.say("exec").await), "ENG-015");
    assert_eq!(client.say("get b").await, Ok(Reply::NotFound));
    assert_eq!(code(&client.say("exec").await), "SRV-015", "the transaction is gone");

    begin(&mut client).await;
    assert_eq!(client.say("exec").await, Ok(Reply::Exec(vec![])));
    assert_eq!(server.metric(Metric::TransactionsBegun), 3);
    assert_eq!(server.metric(Metric::TransactionsCommitted), 2);
    server.close().await;
}

#[tokio::test]
async fn refusals_leave_it_open() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    let numbered = Metadata { sequence: Some(5), ..Metadata::default() };
    let late = Metadata { deadline_ms: Some(0), ..Metadata::default() };
    assert_eq!(client.call_with(&numbered, &Command::Multi).await, Ok(Reply::Ok), "MULTI may be numbered");
    for line in ["get a", "exec", "discard"] {
        let id = client.ask_with(&numbered, &command(line)).await;
        let response = client.response().await;
        assert_eq!(response.id, id);
        let refusal = response.reply(vaylix_proto::response::Shape::Empty).unwrap().unwrap_err();
        assert_eq!(refusal.code, "TRN-018");
        assert_eq!(
            refusal.message,
            "protocol state violation: pipelined requests are not supported inside transactions"
        );
    }
    assert_eq!(code(&client.call_with(&late, &command("get a")).await), "TRN-016");
    assert_eq!(code(&client.say("multi").await), "SRV-014");
    for line in ["health", "info", "cluster join n 127.0.0.1:1", "cluster remove n"] {
        assert_eq!(code(&client.say(line).await), "SRV-016", "{line}");
    }
    assert_eq!(code(&client.call(&Command::Get { key: "k".repeat(1025).into() }).await), "SRV-013");
    queue(&mut client, "get a").await;
    assert_eq!(client.say("exec").await, Ok(Reply::Exec(vec![Reply::NotFound])));
    for sequence in [5, 3, 3] {
        let numbered = Metadata { sequence: Some(sequence), ..Metadata::default() };
        assert_eq!(client.call_with(&numbered, &command("get a")).await, Ok(Reply::NotFound));
    }
    server.close().await;
}

#[tokio::test]
async fn the_queue_is_bounded_and_counts_multi() {
    let limits = Limits { transaction_commands_max: 4, ..Options::default().limits };
    let server = Server::start(Options { limits, ..Options::default() }).await;
    let mut client = server.connect().await;
    begin(&mut client).await;
    for _ in 0..3 {
        queue(&mut client, "incr n").await;
    }
    assert_eq!(code(&client.say("incr n").await), "SRV-013");
    let results = vec![Reply::Integer(1), Reply::Integer(2), Reply::Integer(3)];
    assert_eq!(client.say("exec").await, Ok(Reply::Exec(results)));
    server.close().await;
}

#[tokio::test]
async fn it_expires_and_what_follows_runs_outside() {
    let limits = Limits { transaction_time_max: Duration::ZERO, ..Options::default().limits };
    let server = Server::start(Options { limits, ..Options::default() }).await;
    let mut client = server.connect().await;
    begin(&mut client).await;
    let expired = client.say("set a 1").await.unwrap_err();
    assert_eq!((&*expired.code, &*expired.message), ("SRV-034", "transaction expired after 0 seconds"));
    assert_eq!(client.say("set a 2").await, Ok(Reply::Ok));
    assert_eq!(client.say("get a").await, Ok(value("2")));
    begin(&mut client).await;
    assert_eq!(code(&client.say("exec").await), "SRV-034");
    assert_eq!(code(&client.say("exec").await), "SRV-015");
    assert_eq!(server.metric(Metric::TransactionsExpired), 2);
    server.close().await;
}

/// What one user has queued, another neither carries out nor gets to see.
#[tokio::test]
async fn login_as_somebody_else_drops_the_queue() {
    let server = Server::start(Options { login: true, ..Options::default() }).await;
    let mut client = server.login().await;
    assert_eq!(client.say("create user other password \"abcdefghijk1\"").await, Ok(Reply::Ok));
    assert_eq!(client.say("set secret 1").await, Ok(Reply::Ok));
    begin(&mut client).await;
    queue(&mut client, "get secret").await;
    queue(&mut client, "clear").await;
    assert_eq!(client.say("auth other \"abcdefghijk1\"").await, Ok(Reply::Ok));
    assert_eq!(code(&client.say("exec").await), "SRV-015");
    assert_eq!(server.metric(Metric::TransactionsDiscarded), 1);
    assert_eq!(server.login().await.say("get secret").await, Ok(value("1")));
    server.close().await;
}

#[tokio::test]
async fn login_inside_keeps_the_queue_and_leaving_drops_it() {
    let server = Server::start(Options { login: true, ..Options::default() }).await;
    let mut client = server.login().await;
    begin(&mut client).await;
    queue(&mut client, "set a 1").await;
    assert_eq!(code(&client.say("auth root wrong").await), "SRV-008");
    assert_eq!(client.say(&format!("auth root {}", quoted(PASSWORD))).await, Ok(Reply::Ok));
    assert!(matches!(client.say("exec").await, Ok(Reply::Exec(results)) if results == [Reply::Ok]));
    begin(&mut client).await;
    queue(&mut client, "set a 2").await;
    drop(client);
    server.metric_becomes(Metric::TransactionsDiscarded, 1).await;
    assert_eq!(server.login().await.say("get a").await, Ok(value("1")));
    server.close().await;
}
