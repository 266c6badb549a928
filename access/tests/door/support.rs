//! A door, and sessions that speak to it as the data plane does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use vaylix_access::{
    Administrator, Admission, Answer, Authentication, Door, Limits, Lockout, Queued, Report, Settings,
    Standing, Ticket, Transaction, Visitor, audit,
};
use vaylix_consensus::{Config, Node};
use vaylix_engine::BackupDir;
use vaylix_proto::{Command, Condition, Dump, ErrorReply, Expiration, NamedValue, Reply, SetOptions, Text};

pub(crate) const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);

/// The administrator root/rootpw.
pub(crate) fn root(explicit: bool) -> Administrator {
    Administrator { user: "root".into(), password: "rootpw".into(), explicit }
}

pub(crate) fn required(administrator: Administrator) -> Authentication {
    Authentication::Required { administrator, accepts_well_known: true }
}

pub(crate) fn report(dir: &Path) -> Report {
    Report {
        version: "0.9.0".into(),
        git_sha: "unknown".into(),
        data_dir: dir.into(),
        backup_dir: dir.join("backups"),
        node_id: Some("n1".into()),
        group_id: "default".into(),
        write_ack_mode: "majority".into(),
        advertise_addr: "127.0.0.1:9173".into(),
        local_reads: false,
        stale_after: std::time::Duration::from_secs(15),
        wal_sync_policy: "sync".into(),
        wal_segment_size_bytes: 67_108_864,
        wal_retain_segments: 128,
        snapshot_interval: None,
        snapshot_log_bytes: Some(268_435_456),
        key_age_max: None,
        expiration_sweep_interval: None,
        idle_timeout: None,
        sessions_max: 256,
        hello_timeout: std::time::Duration::from_secs(5),
        tls: false,
        mtls: false,
        compression: true,
        compression_threshold_bytes: 1024,
        frame_len_max: 8_388_608,
    }
}

/// Everything as the defaults have it.
pub(crate) fn settings(node: &Node, dir: &Path, authentication: Authentication) -> Settings {
    Settings {
        authentication,
        lockout: Lockout::default(),
        limits: Limits::default(),
        backups: BackupDir::open_or_create(&dir.join("backups"), node.data_dir()).unwrap(),
        audit: audit::Settings::new(dir.join("audit.log")),
        report: report(dir),
    }
}

/// The id of every request.
pub(crate) const ID: [u8; 16] = [0xab; 16];

/// A decision, with the refusals apart.
fn decided(admission: Admission) -> Result<Admission, ErrorReply> {
    match admission {
        Admission::Refused(answer) | Admission::Expired(answer) => Err(answer.give().unwrap_err()),
        admission => Ok(admission),
    }
}

/// Runs a test in a directory of its own. When it ends, however it does, everything on the runtime ends
/// before the directory is removed.
pub(crate) fn run(test: impl AsyncFnOnce(PathBuf)) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test(dir.path().into()));
}

/// A server without a network.
pub(crate) struct Server {
    pub(crate) door: Door,
    pub(crate) node: Node,
    dir: PathBuf,
}

impl Server {
    pub(crate) async fn start(dir: &Path, authentication: Authentication) -> Self {
        Self::start_limited(dir, authentication, Limits::default()).await
    }

    pub(crate) async fn start_limited(dir: &Path, authentication: Authentication, limits: Limits) -> Self {
        Self::start_with(dir, authentication, |settings| settings.limits = limits).await
    }

    pub(crate) async fn start_with(
        dir: &Path,
        authentication: Authentication,
        adjust: impl FnOnce(&mut Settings),
    ) -> Self {
        let node = Node::start(Config::new(dir)).await.unwrap();
        let mut settings = settings(&node, dir, authentication);
        adjust(&mut settings);
        Self { door: Door::open(node.clone(), settings).await.unwrap(), node, dir: dir.into() }
    }

    /// Stops cleanly. The audit log is complete.
    pub(crate) async fn stop(self) {
        self.door.close().await;
        self.node.shutdown().await.unwrap();
    }

    /// Stops cleanly and starts again on the same files.
    pub(crate) async fn restart(self, authentication: Authentication) -> Self {
        let dir = self.dir.clone();
        self.stop().await;
        Self::start(&dir, authentication).await
    }

    /// A session of nobody yet.
    pub(crate) fn connect(&self) -> Session {
        self.connect_from(PEER)
    }

    /// A session of nobody yet, from somewhere.
    pub(crate) fn connect_from(&self, peer: SocketAddr) -> Session {
        Session {
            door: self.door.clone(),
            visitor: self.door.arrival(7, peer),
            transaction: None,
            answer_bytes_max: 8_388_591,
        }
    }

    pub(crate) async fn login(&self, user: &str, password: &str) -> Session {
        let mut session = self.connect();
        session.auth(user, password).await.unwrap();
        session
    }

    /// A user with exactly these grants, logged in.
    pub(crate) async fn user_with(&self, root: &mut Session, name: &str, grants: &[(&str, &str)]) -> Session {
        let mut lines = vec![
            format!("create user {name} password abcdefghijk1"),
            format!("create role {name}-role"),
            format!("grant role {name}-role to {name}"),
        ];
        let grant =
            |(permission, pattern)| format!("grant permission {permission} on {pattern} to {name}-role");
        lines.extend(grants.iter().map(|(permission, pattern)| grant((permission, pattern))));
        for line in lines {
            assert_eq!(root.line(&line).await, "OK", "{line}");
        }
        self.login(name, "abcdefghijk1").await
    }
}

/// One connection.
pub(crate) struct Session {
    pub(crate) door: Door,
    pub(crate) visitor: Visitor,
    transaction: Option<Vec<Queued>>,
    /// Bytes of a transaction's answer that it can receive.
    pub(crate) answer_bytes_max: usize,
}

impl Session {
    /// The ticket of a request for `command`. Waits while the audit log is behind.
    async fn ticket(&self, command: &Command) -> ControlFlow<Answer, Ticket> {
        let (opcode, now) = (Some(command.opcode()), Instant::now());
        match self.visitor.ticket(ID, opcode, now) {
            Some(ticket) => ControlFlow::Continue(ticket),
            None => self.visitor.wait_for_ticket(ID, opcode, now).await,
        }
    }

    pub(crate) fn admit(&mut self, command: Command) -> Result<Admission, ErrorReply> {
        let ticket = self.visitor.ticket(ID, Some(command.opcode()), Instant::now()).expect("there is room");
        decided(self.decide(command, ticket))
    }

    fn decide(&mut self, command: Command, ticket: Ticket) -> Admission {
        let transaction = match &self.transaction {
            None => Transaction::Closed,
            Some(queue) => Transaction::Open { queued: queue.len(), age: std::time::Duration::ZERO },
        };
        let standing = Standing { transaction, writes_in_flight: false };
        self.door.admit(&mut self.visitor, standing, command, ticket)
    }

    /// Asks the door about a command as a session with this standing.
    pub(crate) fn ask(&mut self, standing: Standing, command: Command) -> Result<Admission, ErrorReply> {
        let ticket = self.visitor.ticket(ID, Some(command.opcode()), Instant::now()).expect("there is room");
        decided(self.door.admit(&mut self.visitor, standing, command, ticket))
    }

    pub(crate) async fn call(&mut self, command: Command) -> Result<Reply, ErrorReply> {
        let ticket = match self.ticket(&command).await {
            ControlFlow::Continue(ticket) => ticket,
            ControlFlow::Break(answer) => return answer.give(),
        };
        let answer = match self.decide(command, ticket) {
            Admission::Run(admitted) => self.door.execute(admitted).await,
            Admission::Queue(admitted) => {
                let (queued, answer) = admitted.queue();
                self.transaction.as_mut().expect("open").push(queued);
                answer
            }
            Admission::Login(login) => self.door.login(&mut self.visitor, login).await,
            Admission::Begin(answer) => {
                self.transaction = Some(Vec::new());
                answer
            }
            Admission::Commit(ticket) => {
                let queue = self.transaction.take().expect("open");
                self.door.commit(ticket, queue, self.answer_bytes_max).await
            }
            Admission::Discard(answer) | Admission::Expired(answer) => {
                self.transaction = None;
                answer
            }
            Admission::Refused(answer) => answer,
            Admission::AfterWrites(postponed) => panic!("no writes are under way: {postponed:?}"),
        };
        answer.give()
    }

    pub(crate) async fn auth(&mut self, user: &str, password: &str) -> Result<(), ErrorReply> {
        let command = Command::Auth { user: user.into(), password: password.into() };
        self.call(command).await.map(|reply| assert_eq!(reply, Reply::Ok))
    }

    /// Carries out a line of text, and answers as the REPL shows it.
    pub(crate) async fn line(&mut self, line: &str) -> String {
        let command = parse(line);
        match self.call(command).await {
            Ok(reply) => shown(&reply),
            Err(refusal) => format!("ERROR [{}] {}: {}", refusal.code, refusal.name, refusal.message),
        }
    }

    /// Checks a conversation: lines that begin with `>` are typed, the others are the answers.
    pub(crate) async fn says(&mut self, conversation: &str) {
        let mut lines = conversation.lines().map(str::trim).filter(|line| !line.is_empty());
        while let Some(line) = lines.next() {
            let typed = line.strip_prefix("> ").expect("a typed line");
            let expected = lines.next().expect("an answer");
            assert_eq!(self.line(typed).await, expected, "{typed}");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An answer as the REPL shows it: entries sorted by name.
pub(crate) fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Ok => "OK".into(),
        Reply::NotFound => "NOT_FOUND".into(),
        Reply::Value(value) => text(value),
        Reply::Bool(value) => value.to_string(),
        Reply::Count(count) => count.to_string(),
        Reply::Integer(number) => number.to_string(),
        Reply::Entries(entries) => {
            let mut shown: Vec<String> =
                entries.iter().map(|NamedValue { name, value }| format!("{name}={}", text(value))).collect();
            shown.sort();
            shown.join(", ")
        }
        Reply::Strings(values) => {
            let shown: Vec<String> = values
                .iter()
                .map(|value| value.as_ref().map_or("(nil)".into(), |value| text(value)))
                .collect();
            shown.join(", ")
        }
        Reply::Scan(page) => {
            let keys: Vec<&str> = page.keys.iter().map(|key| &**key).collect();
            format!("cursor={}, keys=[{}]", page.next_cursor, keys.join(", "))
        }
        Reply::Exec(replies) => replies.iter().map(shown).collect::<Vec<_>>().join(" | "),
    }
}

/// A command from plain words: as much of the text grammar as these tests use, without quotes.
pub(crate) fn parse(line: &str) -> Command {
    use Command as C;
    let words: Vec<&str> = line.split(' ').collect();
    let text = |word: &str| Text::from(word);
    let texts = |words: &[&str]| words.iter().map(|word| Text::from(*word)).collect();
    let bytes = |word: &str| Bytes::copy_from_slice(word.as_bytes());
    match *words.as_slice() {
        ["ping"] => C::Ping { message: None },
        ["ping", message] => C::Ping { message: Some(text(message)) },
        ["get", key] => C::Get { key: text(key) },
        ["getdel", key] => C::GetDel { key: text(key) },
        ["getex", key] => C::GetEx { key: text(key), expiration: None, persist: false },
        ["getex", key, "persist"] => C::GetEx { key: text(key), expiration: None, persist: true },
        ["getex", key, "ex", n] => {
            let expiration = Some(Expiration::Seconds(n.parse().unwrap()));
            C::GetEx { key: text(key), expiration, persist: false }
        }
        ["set", key, value] => set(key, value, SetOptions::default()),
        ["set", key, value, "get"] => {
            set(key, value, SetOptions { return_previous: true, ..SetOptions::default() })
        }
        ["set", key, value, "nx"] => {
            set(key, value, SetOptions { condition: Condition::IfMissing, ..SetOptions::default() })
        }
        ["setnx", key, value] => C::SetNx { key: text(key), value: bytes(value) },
        ["del", ref keys @ ..] => C::Del { keys: texts(keys) },
        ["exists", key] => C::Exists { key: text(key) },
        ["mget", ref keys @ ..] => C::MGet { keys: texts(keys) },
        ["mset", ref pairs @ ..] => {
            C::MSet { pairs: pairs.chunks(2).map(|pair| (text(pair[0]), bytes(pair[1]))).collect() }
        }
        ["incr", key] => C::Incr { key: text(key) },
        ["decr", key] => C::Decr { key: text(key) },
        ["expire", key, n] => C::Expire { key: text(key), seconds: n.parse().unwrap() },
        ["ttl", key] => C::Ttl { key: text(key) },
        ["persist", key] => C::Persist { key: text(key) },
        ["rename", source, destination] => C::Rename { source: text(source), destination: text(destination) },
        ["renamenx", source, destination] => {
            C::RenameNx { source: text(source), destination: text(destination) }
        }
        ["scan", cursor, ref options @ ..] => {
            let (mut pattern, mut count) = (None, None);
            for option in options.chunks(2) {
                match option {
                    ["match", word] => pattern = Some(text(word)),
                    ["count", n] => count = Some(n.parse().unwrap()),
                    other => panic!("scan {other:?}"),
                }
            }
            C::Scan { cursor: cursor.parse().unwrap(), pattern, count }
        }
        ["dbsize"] => C::DbSize,
        ["count"] => C::Count,
        ["list"] => C::List,
        ["flushdb"] => C::Clear,
        ["info"] => C::Info,
        ["metrics"] => C::Metrics,
        ["metrics", "prom"] => C::MetricsProm,
        ["save"] => C::Save,
        ["snapshot"] => C::Snapshot,
        ["multi"] => C::Multi,
        ["exec"] => C::Exec,
        ["discard"] => C::Discard,
        ["backup"] => C::Backup,
        ["backup", "to", path] => C::BackupTo { path: text(path) },
        ["backup", "verify", "from", path] => C::BackupVerify(Dump::File(text(path))),
        ["backup", "verify", document] => C::BackupVerify(Dump::Inline(text(document))),
        ["restore", "check", "from", path] => C::RestoreCheck(Dump::File(text(path))),
        ["restore", "check", document] => C::RestoreCheck(Dump::Inline(text(document))),
        ["restore", "from", path] => C::Restore(Dump::File(text(path))),
        ["restore", document] => C::Restore(Dump::Inline(text(document))),
        ["create", "user", user, "password", password] => {
            C::CreateUser { user: text(user), password: text(password) }
        }
        ["alter", "user", user, "password", password] => {
            C::AlterUserPassword { user: text(user), password: text(password) }
        }
        ["drop", "user", user] => C::DropUser { user: text(user) },
        ["create", "role", role] => C::CreateRole { role: text(role) },
        ["drop", "role", role] => C::DropRole { role: text(role) },
        ["grant", "role", role, "to", user] => C::GrantRole { role: text(role), user: text(user) },
        ["revoke", "role", role, "from", user] => C::RevokeRole { role: text(role), user: text(user) },
        ["grant", "permission", permission, "on", pattern, "to", role] => {
            let (permission, pattern) = (text(permission), text(pattern));
            C::GrantPermission { permission, pattern, role: text(role) }
        }
        ["grant", "permission", permission, "to", role] => {
            C::GrantPermission { permission: text(permission), pattern: text("*"), role: text(role) }
        }
        ["revoke", "permission", permission, "on", pattern, "from", role] => {
            let (permission, pattern) = (text(permission), text(pattern));
            C::RevokePermission { permission, pattern, role: text(role) }
        }
        ["revoke", "permission", permission, "from", role] => {
            C::RevokePermission { permission: text(permission), pattern: text("*"), role: text(role) }
        }
        ["show", "users"] => C::ShowUsers,
        ["show", "roles"] => C::ShowRoles,
        ["show", "grants"] => C::ShowGrants,
        ["show", "grants", "for", "user", user] => C::ShowGrantsForUser { user: text(user) },
        ["show", "grants", "for", "role", role] => C::ShowGrantsForRole { role: text(role) },
        ["show", "cluster"] => C::ShowCluster,
        ["show", "replication"] => C::ShowReplication,
        ["whoami"] => C::WhoAmI,
        ["health"] => C::Health,
        ["maintenance", "on"] => C::MaintenanceOn,
        ["maintenance", "off"] => C::MaintenanceOff,
        ["maintenance", "status"] => C::MaintenanceStatus,
        ["cluster", "join", node, address] => C::ClusterJoin { node: text(node), address: text(address) },
        ["cluster", "remove", node] => C::ClusterRemove { node: text(node) },
        ["promote", "follower"] => C::PromoteFollower,
        ["pause", "replication"] => C::PauseReplication,
        ["resume", "replication"] => C::ResumeReplication,
        ["auth", user, password] => C::Auth { user: text(user), password: text(password) },
        _ => panic!("not in the grammar of the tests: {line}"),
    }
}

fn set(key: &str, value: &str, options: SetOptions) -> Command {
    Command::Set { key: key.into(), value: Bytes::copy_from_slice(value.as_bytes()), options }
}
