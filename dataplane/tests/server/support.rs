//! A server on a free port and a client that speaks frames.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vaylix_access::{Administrator, Authentication, Door, Limits, Metric, Rate, Report};
use vaylix_consensus::{Config, Node};
use vaylix_dataplane::server::{Drained, Listener, Settings};
use vaylix_proto::frame::{Compression, FRAME_LEN_MAX, FrameDecoder, FrameEncoder};
use vaylix_proto::hello::{ClientHello, ServerHello};
use vaylix_proto::request::{Metadata, Request, RequestId};
use vaylix_proto::response::Response;
use vaylix_proto::text::{Line, parse_line};
use vaylix_proto::{Command, ErrorReply, Reply};

pub(crate) const PASSWORD: &str = "correct horse 1";

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a test wants to be different.
pub(crate) struct Options {
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    pub(crate) login: bool,
}

impl Default for Options {
    fn default() -> Self {
        let rate = Rate { per_second: 10_000_000, burst: 10_000_000 };
        let limits = Limits { request_rate: rate, ..Limits::default() };
        Self { settings: Settings::default(), limits, login: false }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) door: Door,
    pub(crate) node: Node,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<Drained>>,
    dir: Option<tempfile::TempDir>,
}

/// A node must not outlive its files: those of a failed test are left behind.
impl Drop for Server {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take() {
            let _ = dir.keep();
        }
    }
}

impl Server {
    /// A server on which everybody may do everything.
    pub(crate) async fn open() -> Self {
        Self::start(Options::default()).await
    }

    pub(crate) async fn start(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(Config::new(dir.path())).await.unwrap();
        let authentication = if options.login {
            let administrator =
                Administrator { user: "root".into(), password: PASSWORD.into(), explicit: true };
            Authentication::Required { administrator, accepts_well_known: true }
        } else {
            Authentication::Disabled
        };
        let report = Report {
            version: "0.9.0".into(),
            git_sha: "unknown".into(),
            data_dir: dir.path().into(),
            backup_dir: dir.path().join("backups"),
            node_id: None,
            group_id: "default".into(),
            write_ack_mode: "majority".into(),
            advertise_addr: "127.0.0.1:9173".into(),
            local_reads: false,
            stale_after: Duration::from_secs(15),
            wal_sync_policy: "sync".into(),
            wal_segment_size_bytes: 67_108_864,
            wal_retain_segments: 128,
            snapshot_interval: None,
            expiration_sweep_interval: None,
            idle_timeout: None,
            sessions_max: 256,
            hello_timeout: std::time::Duration::from_secs(5),
            snapshot_log_bytes: None,
            key_age_max: None,
            tls: false,
            mtls: false,
            compression: true,
            compression_threshold_bytes: 1024,
            frame_len_max: FRAME_LEN_MAX as usize,
        };
        let backups = vaylix_engine::BackupDir::open_or_create(&report.backup_dir, node.data_dir()).unwrap();
        let settings = vaylix_access::Settings {
            authentication,
            lockout: vaylix_access::Lockout::default(),
            limits: options.limits,
            backups,
            audit: vaylix_access::audit::Settings::new(dir.path().join("audit.log")),
            report,
        };
        let door = Door::open(node.clone(), settings).await.unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(any, door.clone(), options.settings).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(listener.serve(async {
            // A dropped server stops, too.
            let _ = stopped.await;
        }));
        Self { address, door, node, stop: Some(stop), serving: Some(serving), dir: Some(dir) }
    }

    /// Asks the server to stop, without waiting.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the server has stopped.
    pub(crate) async fn stopped(&mut self) -> Drained {
        soon(self.serving.take().unwrap()).await.unwrap()
    }

    /// Stops everything that is still running.
    pub(crate) async fn close(mut self) {
        if self.stop.is_some() {
            self.stop();
            assert_eq!(self.stopped().await, Drained { aborted: 0 });
        }
        soon(self.node.clone().shutdown()).await.unwrap();
        drop(self.dir.take());
    }

    pub(crate) fn metric(&self, metric: Metric) -> u64 {
        self.door.counters().get(metric)
    }

    /// Waits until a metric has a value.
    pub(crate) async fn metric_becomes(&self, metric: Metric, value: u64) {
        soon(async {
            while self.metric(metric) != value {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    pub(crate) async fn login(&self) -> Client {
        let mut client = self.connect().await;
        assert_eq!(client.say(&format!("auth root {}", quoted(PASSWORD))).await, Ok(Reply::Ok));
        client
    }

    /// A new client is served.
    pub(crate) async fn is_well(&self) {
        assert_eq!(self.connect().await.say("ping").await, Ok(value("PONG")));
    }
}

pub(crate) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// What happens within the patience of a test.
pub(crate) async fn soon<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("took too long")
}

pub(crate) fn command(line: &str) -> Command {
    match parse_line(line) {
        Ok(Line::Command(command)) => command,
        other => panic!("{line:?} is no command: {other:?}"),
    }
}

pub(crate) fn value(text: &'static str) -> Reply {
    Reply::Value(Bytes::from_static(text.as_bytes()))
}

/// The code of a refusal.
pub(crate) fn code(answer: &Result<Reply, ErrorReply>) -> &str {
    match answer {
        Ok(reply) => panic!("a refusal was expected, not {reply:?}"),
        Err(refusal) => &refusal.code,
    }
}

/// A hello that asks for no compression.
pub(crate) fn plain_hello() -> ClientHello {
    ClientHello { desired_compression: Compression::None, ..ClientHello::new("test", "1.0") }
}

pub(crate) fn frame(body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let append = |out: &mut BytesMut| {
        out.extend_from_slice(body);
        Ok(())
    };
    FrameEncoder::new(Compression::None, 0, FRAME_LEN_MAX).encode(&mut out, append).unwrap();
    out
}

pub(crate) fn hello_frame(hello: &ClientHello) -> BytesMut {
    let mut body = BytesMut::new();
    hello.encode(&mut body).unwrap();
    frame(&body)
}

pub(crate) fn request_frame(id: RequestId, metadata: &Metadata, command: &Command) -> BytesMut {
    let mut body = BytesMut::new();
    Request::encode(id, metadata, command, &mut body).unwrap();
    frame(&body)
}

pub(crate) fn id(number: u128) -> RequestId {
    number.to_be_bytes()
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: BytesMut,
    decoder: FrameDecoder,
    sent: u128,
    in_transaction: bool,
}

impl Client {
    /// A connection that has not said anything.
    pub(crate) async fn silent(address: SocketAddr) -> Self {
        let stream = soon(TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let decoder = FrameDecoder::new(FRAME_LEN_MAX);
        Self { stream, input: BytesMut::new(), decoder, sent: 0, in_transaction: false }
    }

    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let (client, hello) = Self::greet(address, &plain_hello()).await;
        assert!(hello.agreement().is_some(), "{hello:?}");
        client
    }

    pub(crate) async fn greet(address: SocketAddr, hello: &ClientHello) -> (Self, ServerHello) {
        let mut client = Self::silent(address).await;
        client.send(&hello_frame(hello)).await;
        let answer = client.hello().await;
        (client, answer)
    }

    /// A connection with this limit on frames.
    pub(crate) async fn with_frames_of(address: SocketAddr, max_frame_len: u32) -> Self {
        let (client, hello) = Self::greet(address, &ClientHello { max_frame_len, ..plain_hello() }).await;
        assert_eq!(hello.agreement().unwrap().max_frame_len, max_frame_len);
        client
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
    }

    /// Closes the sending side.
    pub(crate) async fn finish(&mut self) {
        soon(self.stream.shutdown()).await.unwrap();
    }

    pub(crate) async fn hello(&mut self) -> ServerHello {
        ServerHello::decode(&self.body().await.expect("a hello")).unwrap()
    }

    /// The next frame's body; none when the server has closed.
    pub(crate) async fn body(&mut self) -> Option<Bytes> {
        loop {
            if let Some(body) = self.decoder.decode(&mut self.input).unwrap() {
                return Some(body);
            }
            self.input.reserve(64 * 1024);
            match soon(self.stream.read_buf(&mut self.input)).await {
                Ok(0) | Err(_) => {
                    assert!(self.input.is_empty(), "closed inside a frame");
                    return None;
                }
                Ok(_) => {}
            }
        }
    }

    pub(crate) async fn response(&mut self) -> Response {
        Response::decode(self.body().await.expect("the server has closed")).unwrap()
    }

    /// The server closes without another byte.
    pub(crate) async fn is_closed(&mut self) {
        assert_eq!(self.body().await, None);
    }

    /// Sends a request without waiting for its answer.
    pub(crate) async fn ask(&mut self, command: &Command) -> RequestId {
        self.ask_with(&Metadata::default(), command).await
    }

    pub(crate) async fn ask_with(&mut self, metadata: &Metadata, command: &Command) -> RequestId {
        self.sent += 1;
        let id = id(self.sent);
        self.send(&request_frame(id, metadata, command)).await;
        id
    }

    pub(crate) async fn call(&mut self, command: &Command) -> Result<Reply, ErrorReply> {
        self.call_with(&Metadata::default(), command).await
    }

    pub(crate) async fn call_with(
        &mut self,
        metadata: &Metadata,
        command: &Command,
    ) -> Result<Reply, ErrorReply> {
        let id = self.ask_with(metadata, command).await;
        let response = self.response().await;
        assert_eq!(response.id, id);
        let answer = response.reply(command.reply_shape(self.in_transaction)).unwrap();
        self.in_transaction = match (command, &answer) {
            (Command::Multi, Ok(_)) => true,
            (Command::Exec | Command::Discard, _) => false,
            (_, Err(refusal)) if refusal.code == "SRV-034" => false,
            _ => self.in_transaction,
        };
        answer
    }

    /// Calls the command that a line of text stands for.
    pub(crate) async fn say(&mut self, line: &str) -> Result<Reply, ErrorReply> {
        self.call(&command(line)).await
    }
}
