//! A place with certificates, and clients that trust its authority.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;
use vaylix_dataplane::client::{ClientIdentity, Config, Connection, Credentials, TlsOptions};
use vaylix_proto::frame::{Compression, FRAME_LEN_MAX, FrameEncoder};
use vaylix_proto::request::{Metadata, Request};
use vaylix_proto::{Command, ErrorReply, Reply};
use vaylix_testkit::certificates::{Authority, Directory, Pair, Validity};
use vaylix_testkit::wire::{DEFAULT_LOGIN, set_command};
use vaylix_testkit::{Server, wait};

/// An authority and a directory with the files of a server that it vouches for.
pub(crate) struct Site {
    pub(crate) authority: Authority,
    files: Directory,
    dir: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let site = Self { authority: Authority::new("site").unwrap(), files: Directory::at(dir.path()), dir };
        site.write("ca.pem", &site.authority.pem());
        site.put(&site.authority.server("first", Validity::default()).unwrap());
        site
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.files.path(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        self.files.write(name, text).unwrap();
    }

    /// Replaces the server's pair.
    pub(crate) fn put(&self, pair: &Pair) {
        self.files.put(pair).unwrap();
    }

    /// The server's pair as it is in the files.
    pub(crate) fn pair(&self) -> Pair {
        let text = |name: &str| std::fs::read_to_string(self.path(name)).unwrap();
        Pair { cert: text("server.pem"), key: text("server.key") }
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        let (cert, key) = (self.path("server.pem"), self.path("server.key"));
        ["--ssl", "--tls-cert", &cert, "--tls-key", &key].map(str::to_owned).into()
    }

    /// Starts a server with the pair and these flags.
    pub(crate) fn start(&self, flags: &[&str]) -> Server {
        let tls = self.flags();
        let all: Vec<&str> = tls.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        Server::start(&all).unwrap()
    }
}

/// A connection over TLS, used one request at a time.
pub(crate) struct Client {
    runtime: Runtime,
    connection: Connection,
}

impl Client {
    /// Connects without logging in; `identity` is a client certificate and its key.
    pub(crate) fn connect(server: &Server, site: &Site, identity: Option<(String, String)>) -> Self {
        Self::open(&config(server, site, identity)).unwrap()
    }

    /// Connects and logs in as the default administrator.
    pub(crate) fn login(server: &Server, site: &Site, identity: Option<(String, String)>) -> Self {
        let mut client = Self::connect(server, site, identity);
        client.authenticate().unwrap();
        client
    }

    fn open(config: &Config) -> Result<Self, vaylix_dataplane::client::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(Connection::connect(config))?;
        Ok(Self { runtime, connection })
    }

    fn authenticate(&mut self) -> Result<Reply, ErrorReply> {
        let (user, password) = DEFAULT_LOGIN;
        self.call(&Command::Auth { user: user.into(), password: password.into() })
    }

    pub(crate) fn call(&mut self, command: &Command) -> Result<Reply, ErrorReply> {
        self.runtime.block_on(self.connection.call(command)).unwrap()
    }

    fn entry(&mut self, command: &Command, name: &str) -> String {
        let Reply::Entries(entries) = self.call(command).unwrap() else { panic!("no entries") };
        let entry = entries.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no {name}"));
        String::from_utf8(entry.value.to_vec()).unwrap()
    }

    pub(crate) fn info(&mut self, name: &str) -> String {
        self.entry(&Command::Info, name)
    }

    pub(crate) fn metric(&mut self, name: &str) -> u64 {
        self.entry(&Command::Metrics, name).parse().unwrap()
    }
}

fn config(server: &Server, site: &Site, identity: Option<(String, String)>) -> Config {
    let (user, password) = DEFAULT_LOGIN;
    Config {
        port: server.address().port(),
        tls: Some(TlsOptions {
            ca_cert: Some(site.path("ca.pem").into()),
            identity: identity
                .map(|(cert, key)| ClientIdentity { cert: PathBuf::from(cert), key: PathBuf::from(key) }),
            ..TlsOptions::default()
        }),
        credentials: Some(Credentials::new(user, password)),
        ..Config::default()
    }
}

/// Writers on connections that stay, and one who connects anew all the time.
pub(crate) struct Load {
    end: Arc<AtomicBool>,
    counts: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(server: &Server, site: &Site, writers: usize) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let counts: Vec<_> = (0..=writers).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let mut threads = Vec::new();
        for (writer, count) in counts.iter().enumerate() {
            let (config, end, count) = (config(server, site, None), Arc::clone(&end), Arc::clone(count));
            let is_visitor = writer == writers;
            threads.push(std::thread::spawn(move || {
                let mut kept = (!is_visitor).then(|| {
                    let mut client = Client::open(&config).unwrap();
                    client.authenticate().unwrap();
                    client
                });
                while !end.load(Ordering::Relaxed) {
                    let next = count.load(Ordering::Relaxed) + 1;
                    match &mut kept {
                        Some(client) => {
                            let command = set_command(&format!("w{writer}"), next.to_string());
                            assert_eq!(client.call(&command), Ok(Reply::Ok));
                        }
                        // Logins would measure the hashing of passwords.
                        None => {
                            let mut client = Client::open(&config).unwrap();
                            assert!(client.call(&Command::Ping { message: None }).is_ok());
                        }
                    }
                    count.store(next, Ordering::Relaxed);
                }
            }));
        }
        Self { end, counts, threads }
    }

    /// Waits until everybody has got on.
    pub(crate) fn advances(&self) {
        let before: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        wait::until("everybody gets on", || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a client failed");
            let now = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
            now.zip(&before).all(|(now, before)| now > *before + 2).then_some(())
        });
    }

    /// Ends; the number that each writer wrote last.
    pub(crate) fn stop(self) -> Vec<u64> {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let writers = self.counts.len() - 1;
        self.counts[..writers].iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// Connections over TLS that ask and never read.
pub(crate) struct SlowReaders {
    sent: Arc<AtomicU64>,
    /// What had been sent when it was last looked at and had grown, and when that was.
    last: Cell<(u64, Instant)>,
    _runtime: Runtime,
}

impl SlowReaders {
    pub(crate) fn start(server: &Server, site: &Site, count: u64, request: &Command) -> Self {
        /// Requests that are written at once.
        const BATCH: u64 = 100;
        let runtime = Runtime::new().unwrap();
        let mut bytes = BytesMut::new();
        let mut encoder = FrameEncoder::new(Compression::None, 0, FRAME_LEN_MAX);
        for number in 0..BATCH {
            let id = u128::from(number).to_be_bytes();
            encoder
                .encode(&mut bytes, |body| Request::encode(id, &Metadata::default(), request, body))
                .unwrap();
        }
        let sent = Arc::new(AtomicU64::new(0));
        for _ in 0..count {
            let config = Config { compression: false, ..config(server, site, None) };
            let mut stream = runtime.block_on(Connection::connect(&config)).unwrap().into_parts().stream;
            let (bytes, sent) = (bytes.clone(), Arc::clone(&sent));
            runtime.spawn(async move {
                while stream.write_all(&bytes).await.is_ok() {
                    sent.fetch_add(BATCH, Ordering::Relaxed);
                }
            });
        }
        Self { sent, last: Cell::new((0, Instant::now())), _runtime: runtime }
    }

    /// How much was sent, once nothing more could be for a while.
    pub(crate) fn held_up(&self) -> Option<u64> {
        let sent = self.sent.load(Ordering::Relaxed);
        let (last, since) = self.last.get();
        if sent != last {
            self.last.set((sent, Instant::now()));
            return None;
        }
        (since.elapsed() > Duration::from_secs(2)).then_some(sent)
    }
}
