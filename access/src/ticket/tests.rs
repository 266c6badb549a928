//! A door whose audit log cannot be written.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use vaylix_consensus::{Config, Node};
use vaylix_proto::{Code, Command, ErrorReply, Reply};

use super::Visitor;
use crate::admission::{Admission, Standing};
use crate::audit::{self, Log, Medium, verify};
use crate::door::Door;
use crate::lockout::Lockout;
use crate::report::Report;
use crate::settings::{Authentication, Limits, Settings};

/// A disk that is full while it is.
struct Full {
    disk: Box<dyn Medium>,
    is_full: Arc<AtomicBool>,
}

impl Full {
    fn check(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Medium for Full {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        self.disk.append(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.check()?;
        self.disk.cut(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.check()?;
        self.disk.sync()
    }
}

fn settings(node: &Node, dir: &Path) -> Settings {
    let report = Report {
        version: "0.9.0".into(),
        git_sha: "unknown".into(),
        data_dir: dir.into(),
        backup_dir: dir.join("backups"),
        node_id: None,
        group_id: "default".into(),
        write_ack_mode: "majority".into(),
        advertise_addr: "127.0.0.1:9173".into(),
        local_reads: false,
        stale_after: std::time::Duration::from_secs(15),
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
        frame_len_max: 8_388_608,
    };
    Settings {
        authentication: Authentication::Disabled,
        lockout: Lockout::default(),
        limits: Limits::default(),
        backups: vaylix_engine::BackupDir::open_or_create(&dir.join("backups"), node.data_dir()).unwrap(),
        audit: audit::Settings::new(dir.join("audit.log")),
        report,
    }
}

async fn call(door: &Door, visitor: &mut Visitor, command: Command) -> Result<Reply, ErrorReply> {
    let (opcode, now) = (Some(command.opcode()), Instant::now());
    let ticket = match visitor.ticket([1; 16], opcode, now) {
        Some(ticket) => ticket,
        None => match visitor.wait_for_ticket([1; 16], opcode, now).await {
            ControlFlow::Continue(ticket) => ticket,
            ControlFlow::Break(answer) => return answer.give(),
        },
    };
    match door.admit(visitor, Standing::default(), command, ticket) {
        Admission::Run(admitted) => door.execute(admitted).await,
        Admission::Login(login) => door.login(visitor, login).await,
        Admission::Refused(answer) => answer,
        other => panic!("{other:?}"),
    }
    .give()
}

/// What cannot be written down does not happen; everything else goes on; and nothing that happened is lost.
#[tokio::test]
async fn while_the_log_cannot_be_written_nothing_is_administered_and_everything_else_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let is_full = Arc::new(AtomicBool::new(false));
    let node = Node::start(Config::new(dir.path())).await.unwrap();
    let settings = settings(&node, dir.path());
    let log = Log::open_with(settings.audit.clone(), |writer| {
        writer.replace_file(|disk| Box::new(Full { disk, is_full: Arc::clone(&is_full) }));
    })
    .unwrap();
    let door = Door::open_with(node.clone(), settings, log.clone()).await.unwrap();
    let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let mut visitor = door.arrival(1, peer);
    let auth = || Command::Auth { user: "a".into(), password: "b".into() };
    let set = || Command::Set { key: "k".into(), value: "v".into(), options: Default::default() };
    assert_eq!(call(&door, &mut visitor, auth()).await, Ok(Reply::Ok));

    is_full.store(true, Ordering::SeqCst);
    // This one is answered before the disk has refused it: it is kept.
    assert_eq!(call(&door, &mut visitor, auth()).await, Ok(Reply::Ok));
    while !log.is_failing() {
        tokio::task::yield_now().await;
    }
    for command in [auth(), Command::Clear, Command::MaintenanceOn, Command::Backup] {
        let refusal = call(&door, &mut visitor, command).await.unwrap_err();
        assert_eq!(refusal.known_code(), Some(Code::ServerFilesystemIoFailure));
    }
    assert_eq!(call(&door, &mut visitor, set()).await, Ok(Reply::Ok));
    assert_eq!(
        call(&door, &mut visitor, Command::Get { key: "k".into() }).await,
        Ok(Reply::Value("v".into())),
        "CLEAR has not happened"
    );
    assert!(log.failures() > 0);
    assert_eq!(log.suppressed(), 4);

    is_full.store(false, Ordering::SeqCst);
    while log.is_failing() {
        tokio::task::yield_now().await;
    }
    assert_eq!(call(&door, &mut visitor, Command::Clear).await, Ok(Reply::Ok));
    door.close().await;
    drop((visitor, door));
    node.shutdown().await.unwrap();
    let path = dir.path().join("audit.log");
    verify(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches(r#""event_type":"auth""#).count(), 2);
    assert_eq!(text.matches(r#""event_type":"clear""#).count(), 1);
    assert!(text.contains(r#""details":{"unwritable":"4"}"#), "{text}");
}
