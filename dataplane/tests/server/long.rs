//! What takes long holds nobody up.

use std::sync::mpsc;

use bytes::Bytes;
use tokio::sync::oneshot;
use vaylix_access::Metric;
use vaylix_proto::response::Shape;
use vaylix_proto::{Command, Reply};

use crate::support::{Client, Server, command, value};

const KEYS: usize = 2_000;

/// Nothing has been answered to this client, although others have been since.
fn has_no_answer(client: &Client) -> bool {
    let read = client.stream.try_read(&mut [0]);
    matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Sends a command and a GET behind it, and returns when the server is at the first of them.
async fn begin(server: &Server, client: &mut Client, line: &str) {
    let handled = server.metric(Metric::Requests);
    client.ask(&command(line)).await;
    client.ask(&command("get k0000")).await;
    server.metric_becomes(Metric::Requests, handled + 1).await;
}

/// There is one thread for connections, and the one for work that takes long is taken: whoever needs it waits,
/// and nobody else.
#[test]
fn reads_and_entries_that_take_long_leave_the_thread_to_others() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::open().await;
        let mut other = server.connect().await;
        for first in (0..KEYS).step_by(250) {
            let pair = |number| (format!("k{number:04}").into(), Bytes::from_static(b"v"));
            let pairs = (first..first + 250).map(pair).collect();
            assert_eq!(other.call(&Command::MSet { pairs }).await, Ok(Reply::Ok));
        }
        let mut queued = server.connect().await;
        for line in ["multi", "set new 1", "scan 0 match *none*"] {
            assert!(queued.say(line).await.is_ok());
        }
        let mut reading = server.connect().await;
        for line in ["multi", "get k0000", "list"] {
            assert!(reading.say(line).await.is_ok());
        }
        let (mut lister, mut scanner) = (server.connect().await, server.connect().await);

        let (release, held) = mpsc::channel();
        let (taken, is_taken) = oneshot::channel();
        let holder = tokio::task::spawn_blocking(move || {
            taken.send(()).unwrap();
            held.recv().unwrap();
        });
        is_taken.await.unwrap();

        begin(&server, &mut lister, "list").await;
        begin(&server, &mut scanner, "scan 0 match *none*").await;
        begin(&server, &mut reading, "exec").await;
        for (line, answer) in [
            ("ping", value("PONG")),
            ("get k0000", value("v")),
            ("set k0000 2", Reply::Ok),
            ("count", Reply::Count(KEYS as u64)),
        ] {
            assert_eq!(other.say(line).await, Ok(answer), "{line}");
        }
        for line in ["scan 0 count 5", "scan 1 match k0* count 100", "health", "info", "metrics"] {
            assert!(other.say(line).await.is_ok(), "{line}");
        }
        // An entry that visits many keys keeps later writes waiting, but no reads.
        let durable = server.node.status().durable_index;
        begin(&server, &mut queued, "exec").await;
        while server.node.status().durable_index == durable {
            assert_eq!(other.say("get new").await, Ok(Reply::NotFound));
        }
        for _ in 0..20 {
            assert_eq!(other.say("get new").await, Ok(Reply::NotFound), "durable, but not applied");
        }
        assert_eq!(other.say("get k0000").await, Ok(value("2")));
        for client in [&lister, &scanner, &reading, &queued] {
            assert!(has_no_answer(client), "answered where connections are served");
        }

        release.send(()).unwrap();
        holder.await.unwrap();
        for (client, shape) in [
            (&mut lister, Shape::Entries),
            (&mut scanner, Shape::Scan),
            (&mut reading, Shape::Exec),
            (&mut queued, Shape::Exec),
        ] {
            match client.response().await.reply(shape).unwrap().unwrap() {
                Reply::Entries(entries) => assert!(entries.len() >= KEYS),
                Reply::Scan(page) => assert!(page.keys.is_empty()),
                Reply::Exec(results) => assert_eq!(results.len(), 2),
                other => panic!("{other:?}"),
            }
            let behind = client.response().await.reply(Shape::Value).unwrap();
            assert_eq!(behind, Ok(value("2")), "in the order of requests");
        }
        assert_eq!(other.say("get new").await, Ok(value("1")));
        server.close().await;
    });
}
