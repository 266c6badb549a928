//! Whole runs against a stand-in for a server that keeps nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::BytesMut;
use clap::Parser;
use vaylix_proto::frame::{Compression, FRAME_LEN_MAX, FrameDecoder, FrameEncoder};
use vaylix_proto::hello::{ClientHello, ServerPolicy, negotiate};
use vaylix_proto::{Code, Command, ErrorReply, Reply, Request, encode_reply};

use super::*;

/// Serves until everybody is gone; every command but AUTH is reported.
fn serve() -> (u16, Receiver<Command>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (report, commands) = channel();
    std::thread::spawn(move || {
        // The listener dies with the last run that could use it, at the end of the test process.
        for stream in listener.incoming() {
            let report = report.clone();
            std::thread::spawn(move || converse(stream.unwrap(), &report));
        }
    });
    (port, commands)
}

fn converse(mut stream: TcpStream, report: &Sender<Command>) {
    let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
    let mut encoder = FrameEncoder::new(Compression::None, usize::MAX, FRAME_LEN_MAX);
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let mut greeted = false;
    loop {
        let mut chunk = [0; 8192];
        let Ok(read @ 1..) = stream.read(&mut chunk) else { return };
        input.extend_from_slice(&chunk[..read]);
        output.clear();
        while let Some(body) = decoder.decode(&mut input).unwrap() {
            if !greeted {
                greeted = true;
                let policy = ServerPolicy { compression: Compression::None, max_frame_len: FRAME_LEN_MAX };
                let hello = negotiate(&ClientHello::decode(&body).unwrap(), &policy, [0; 16]);
                encoder.encode(&mut output, |out| hello.encode(out)).unwrap();
                continue;
            }
            let request = Request::decode(body).unwrap();
            let command = request.command().unwrap();
            let answer = match &command {
                Command::Get { key } if key.ends_with('1') => Ok(Reply::NotFound),
                Command::Get { .. } => Ok(Reply::Value("value".into())),
                Command::Incr { .. } => Err(ErrorReply::new(Code::InvalidIntegerValue, "no")),
                _ => Ok(Reply::Ok),
            };
            encoder.encode(&mut output, |out| encode_reply(request.id, &answer, out)).unwrap();
            if !matches!(command, Command::Auth { .. }) {
                // Nobody may be interested.
                report.send(command).unwrap_or_default();
            }
        }
        if stream.write_all(&output).is_err() {
            return;
        }
    }
}

fn measure(arguments: &[&str]) -> (anyhow::Result<Measurement>, Vec<Command>) {
    let (port, commands) = serve();
    let flags = Flags::try_parse_from([&["vaylix-bench"], arguments].concat()).unwrap();
    let credentials = Some(client::Credentials::new("u", "p"));
    let config = client::Config { port, credentials, ..client::Config::default() };
    let result = run(&flags, &config);
    (result, commands.try_iter().collect())
}

#[test]
fn every_request_is_answered_and_counted() {
    let (measurement, commands) = measure(&[
        "--workload=get",
        "--requests=1003",
        "--connections=5",
        "--depth=8",
        "--threads=2",
        "--keys=2",
    ]);
    let measurement = measurement.unwrap();
    let missing = commands
        .iter()
        .filter(|command| matches!(command, Command::Get { key } if *key == "key:000000000001"));
    assert_eq!(measurement.stats.answered, 1003);
    assert_eq!(measurement.stats.not_found, u64::try_from(missing.count()).unwrap());
    assert!((400..600).contains(&measurement.stats.not_found), "{}", measurement.stats.not_found);
    assert_eq!(commands.len(), 1003);
    assert!(measurement.stats.errors.is_empty());
    assert!(measurement.elapsed > Duration::ZERO);
}

#[test]
fn preloading_writes_each_key_once_and_is_not_counted() {
    let (measurement, commands) =
        measure(&["--preload=500", "--requests=10", "--workload=get", "--connections=3", "--value-size=7"]);
    assert_eq!(measurement.unwrap().stats.answered, 10);
    let mut keys: Vec<_> = commands
        .iter()
        .filter_map(|command| match command {
            Command::Set { key, value, .. } => {
                assert_eq!(value.len(), 7);
                Some(key.to_string())
            }
            _ => None,
        })
        .collect();
    keys.sort();
    assert_eq!(keys, (0..500).map(|key| format!("key:{key:012}")).collect::<Vec<_>>());
}

#[test]
fn refusals_are_counted_by_code() {
    let (measurement, _) = measure(&["--workload=incr", "--requests=20", "--connections=2"]);
    let stats = measurement.unwrap().stats;
    assert_eq!(stats.answered, 20);
    assert_eq!(stats.errors.into_iter().collect::<Vec<_>>(), [("ENG-015".to_owned(), 20)]);
}

#[test]
fn a_run_without_a_server_fails_on_every_thread() {
    let flags = Flags::try_parse_from(["vaylix-bench", "--threads=4", "--preload=1"]).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = run(&flags, &client::Config { port, ..client::Config::default() }).unwrap_err();
    assert!(error.to_string().contains(&format!("cannot connect to 127.0.0.1:{port}")), "{error:#}");
}
