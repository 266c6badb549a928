//! Many requests under way: order, batches, backpressure, half-close.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use vaylix_access::Metric;
use vaylix_proto::request::Metadata;
use vaylix_proto::response::Shape;
use vaylix_proto::{Command, Reply, SetOptions};

use crate::support::{
    Client, Options, PASSWORD, Server, code, command, frame, hello_frame, id, plain_hello, quoted,
    request_frame, soon, value,
};

/// The frames of these commands, numbered from 1.
fn frames(commands: impl IntoIterator<Item = Command>) -> BytesMut {
    let mut out = BytesMut::new();
    for (command, number) in commands.into_iter().zip(1..) {
        out.extend_from_slice(&request_frame(id(number), &Metadata::default(), &command));
    }
    out
}

/// The next answer, which must be the one with this number.
async fn answer(client: &mut Client, number: u128, shape: Shape) -> Result<Reply, vaylix_proto::ErrorReply> {
    let response = client.response().await;
    assert_eq!(response.id, id(number), "answers come in the order of requests");
    response.reply(shape).unwrap()
}

#[tokio::test]
async fn answers_come_in_order_and_everybody_sees_their_own_writes() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    const ROUNDS: u128 = 200;
    let round = ["incr n", "get n", "incr n", "set n x nx", "exec", "ttl n", "ping"];
    let commands = (0..ROUNDS).flat_map(|_| round.map(command));
    client.send(&frames(commands)).await;
    let mut number = 0;
    for n in 1..=ROUNDS {
        let n = i64::try_from(n).unwrap();
        let expected = [
            (Shape::Integer, Ok(Reply::Integer(2 * n - 1))),
            (Shape::Value, Ok(Reply::Value(Bytes::from((2 * n - 1).to_string())))),
            (Shape::Integer, Ok(Reply::Integer(2 * n))),
            (Shape::Bool, Ok(Reply::Bool(false))),
            (Shape::Exec, Err("SRV-015")),
            (Shape::Integer, Ok(Reply::Integer(-1))),
            (Shape::Value, Ok(value("PONG"))),
        ];
        for (shape, expected) in expected {
            number += 1;
            let answer = answer(&mut client, number, shape).await;
            assert_eq!(answer.map_err(|refusal| refusal.code.to_string()), expected.map_err(str::to_owned));
        }
    }
    server.close().await;
}

#[tokio::test]
async fn writes_of_one_connection_share_batches() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    const WRITES: u128 = 2_000;
    client.send(&frames((0..WRITES).map(|_| command("incr n")))).await;
    for number in 1..=WRITES {
        let expected = i64::try_from(number).unwrap();
        assert_eq!(answer(&mut client, number, Shape::Integer).await, Ok(Reply::Integer(expected)));
    }
    assert_eq!(client.say("metrics").await.map(|_| ()), Ok(()), "figures of the node are read here");
    let largest = server.metric(Metric::LargestWriteBatch);
    assert!(largest > 10, "2000 writes in flight made batches of {largest} at most");
    server.close().await;
}

#[tokio::test]
async fn many_small_requests_in_one_segment_do_not_starve_others() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    const REQUESTS: u128 = 20_000;
    let flood = frames((0..REQUESTS).map(|_| command("ping")));
    let (mut reading, mut writing) = client.stream.split();
    let sending = async { tokio::io::AsyncWriteExt::write_all(&mut writing, &flood).await.unwrap() };
    let receiving = async {
        // 14 bytes of header, 17 of prefix, 4 of length and PONG.
        let mut left = usize::try_from(REQUESTS).unwrap() * (14 + 17 + 4 + 4);
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            left -= tokio::io::AsyncReadExt::read(&mut reading, &mut buffer).await.unwrap();
        }
    };
    soon(async { tokio::join!(sending, receiving, server.is_well()) }).await;
    server.close().await;
}

#[tokio::test]
async fn hello_and_requests_in_one_segment_and_byte_by_byte() {
    let server = Server::open().await;
    let mut everything = hello_frame(&plain_hello());
    everything.extend_from_slice(&frames(["set a 1", "get a"].map(command)));
    for step in [everything.len(), 1] {
        let mut client = Client::silent(server.address).await;
        for bytes in everything.chunks(step) {
            client.send(bytes).await;
        }
        assert!(client.hello().await.agreement().is_some());
        assert_eq!(answer(&mut client, 1, Shape::Empty).await, Ok(Reply::Ok));
        assert_eq!(answer(&mut client, 2, Shape::Value).await, Ok(value("1")));
    }
    server.close().await;
}

#[tokio::test]
async fn after_a_half_close_everything_complete_is_answered() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    let mut input = frames((0..100).map(|_| command("incr n")));
    input.extend_from_slice(&frame(b"cut")[..10]);
    client.send(&input).await;
    client.finish().await;
    for number in 1..=100 {
        let expected = i64::try_from(number).unwrap();
        assert_eq!(answer(&mut client, number, Shape::Integer).await, Ok(Reply::Integer(expected)));
    }
    client.is_closed().await;
    server.close().await;
}

#[tokio::test]
async fn what_precedes_a_broken_frame_is_answered() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    let mut input = frames((0..50).map(|_| command("incr n")));
    input.extend_from_slice(b"NOPE this is no frame at all, and more of it follows");
    client.send(&input).await;
    for number in 1..=50 {
        assert!(answer(&mut client, number, Shape::Integer).await.is_ok());
    }
    client.is_closed().await;
    server.is_well().await;
    server.close().await;
}

/// The client asks for gigabytes before it reads anything: the server must stop asking for more work, keep
/// serving others, and deliver everything once it is read.
#[tokio::test]
async fn a_slow_reader_gets_everything_and_costs_little() {
    let server = Server::open().await;
    let mut writer = server.connect().await;
    for key in 0..31 {
        let value = Bytes::from(vec![key; 256 * 1024]);
        let key = format!("k{key}").into();
        assert_eq!(
            writer.call(&Command::Set { key, value, options: SetOptions::default() }).await,
            Ok(Reply::Ok)
        );
    }
    let mut client = server.connect().await;
    const REQUESTS: u128 = 40;
    client.send(&frames((0..REQUESTS).map(|_| command("list")))).await;
    let handled = server.metric(Metric::Requests);
    for _ in 0..20 {
        server.is_well().await;
    }
    assert!(server.metric(Metric::Requests) - handled <= 20 + 8, "requests wait for the reader");
    for number in 1..=REQUESTS {
        let Ok(Reply::Entries(entries)) = answer(&mut client, number, Shape::Entries).await else {
            panic!("LIST answers entries")
        };
        assert_eq!(entries.len(), 31);
    }
    server.close().await;
}

#[tokio::test]
async fn what_each_connection_does_stays_in_order_beside_others() {
    let server = Arc::new(Server::open().await);
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let mut client = server.connect().await;
                let line = format!("incr n{task}");
                client.send(&frames((0..200).map(|_| command(&line)))).await;
                for number in 1..=200 {
                    let expected = i64::try_from(number).unwrap();
                    let answer = answer(&mut client, number, Shape::Integer).await;
                    assert_eq!(answer, Ok(Reply::Integer(expected)));
                }
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
    Arc::into_inner(server).unwrap().close().await;
}

/// Rules change while writes are under way: what follows is judged by the new ones, in order.
#[tokio::test]
async fn pipelined_writes_survive_a_change_of_rules() {
    let server = Server::start(Options { login: true, ..Options::default() }).await;
    let mut client = server.login().await;
    let lines = ["incr n", "create role app", "incr n", "incr n", "create role app2", "incr n", "get n"];
    client.send(&frames(lines.map(command))).await;
    for (number, expected) in [(1, 1), (3, 2), (4, 3), (6, 4)] {
        if number == 3 || number == 6 {
            assert_eq!(answer(&mut client, number - 1, Shape::Empty).await, Ok(Reply::Ok));
        }
        assert_eq!(answer(&mut client, number, Shape::Integer).await, Ok(Reply::Integer(expected)));
    }
    assert_eq!(answer(&mut client, 7, Shape::Value).await, Ok(value("4")));
    let mut both = frames([command(&format!("auth root {}", quoted(PASSWORD))), command("incr n")]);
    both.extend_from_slice(&request_frame(id(3), &Metadata::default(), &command("auth root wrong")));
    client.send(&both).await;
    assert_eq!(answer(&mut client, 1, Shape::Empty).await, Ok(Reply::Ok));
    assert_eq!(answer(&mut client, 2, Shape::Integer).await, Ok(Reply::Integer(5)));
    assert_eq!(code(&answer(&mut client, 3, Shape::Empty).await), "SRV-008");
    server.close().await;
}
