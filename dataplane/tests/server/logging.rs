//! What the log says of connections, and what it never says.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use vaylix_access::Metric;
use vaylix_dataplane::server::Settings;
use vaylix_proto::Reply;
use vaylix_proto::hello::ClientHello;

use crate::support::{Client, Options, Server, plain_hello, value};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn connections_and_requests_without_keys_and_values() {
    let settings = Settings { log_requests: true, ..Settings::default() };
    let server = Server::start(Options { settings, ..Options::default() }).await;
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let mut client = server.connect().await;
    assert_eq!(client.say("set secretkey secretvalue").await, Ok(Reply::Ok));
    drop(client);
    server.metric_becomes(Metric::ConnectionsActive, 0).await;
    let lines = log.take();
    for expected in
        ["accepted client", "negotiated", "max_frame_len=8388608", "opcode=\"SET\"", "client disconnected"]
    {
        assert!(lines.contains(expected), "{expected} is missing in\n{lines}");
    }
    assert_eq!(lines.matches("connection_id=1").count(), lines.lines().count(), "{lines}");
    assert!(!lines.contains("secret"), "{lines}");

    let hello = ClientHello { client_name: "vaylix-healthcheck".into(), ..plain_hello() };
    let (mut probe, _) = Client::greet(server.address, &hello).await;
    assert_eq!(probe.say("ping").await, Ok(value("PONG")));
    drop(probe);
    server.metric_becomes(Metric::ConnectionsActive, 0).await;
    let lines = log.take();
    assert_eq!(lines.lines().count(), 1, "only the request itself: {lines}");
    server.close().await;
}
