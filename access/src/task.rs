//! What only the control plane asks for: administration for which the data plane has no command.
//!
//! It comes through the same door: the same checks in the same order, a ticket for every request, and the same audit log.

use std::io::Read as _;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use vaylix_consensus::{MembershipError, RotationError};
use vaylix_engine::backups::{BackupDir, BackupFile, GoOn};
use vaylix_engine::dump::{Checked, Purpose, Summary};
use vaylix_proto::{ErrorReply, Reply, Text};

use crate::audit::{self, AuditCursor, AuditEvent, AuditPage};
use crate::counters::Metric;
use crate::door::Door;
use crate::permission::Permission;
use crate::policy::Policy;
use crate::refusal;
use crate::session::SessionView;
use crate::subject::Subject;
use crate::ticket::{Answer, Ticket, Visitor};

/// Bytes of a backup that are handed over at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that are read ahead of whoever takes them.
const CHUNKS_AHEAD_MAX: usize = 4;

/// Work that the control plane asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Have another member lead.
    TransferLeadership {
        /// The member's name; none for whoever is best prepared.
        to: Option<String>,
    },
    /// Leave the office to others, or not any more.
    Drain {
        /// Whether to.
        draining: bool,
    },
    /// Seal what is written from now on under a new storage key.
    RotateStorageKey,
    /// Say which backups there are.
    ListBackups,
    /// Write a backup into the backup directory.
    CreateBackup {
        /// Its path there.
        path: Text,
    },
    /// Hand out a backup.
    ReadBackup {
        /// Its path in the backup directory.
        path: Text,
    },
    /// Take a backup in.
    WriteBackup {
        /// Its path in the backup directory.
        path: Text,
    },
    /// Read a backup and say whether it is whole.
    VerifyBackup {
        /// Its path in the backup directory.
        path: Text,
    },
    /// Remove a backup.
    DeleteBackup {
        /// Its path in the backup directory.
        path: Text,
    },
    /// Read the audit log.
    ReadAudit,
    /// Verify the chain of the audit log.
    VerifyAudit,
    /// Read everything that the node has on disk and judge it.
    VerifyStorage,
    /// Say what the server was started with.
    ShowSettings,
    /// Say who is connected or holds a token.
    ListSessions,
    /// Have sessions log in anew.
    EndSessions {
        /// Whose.
        who: SessionChoice,
    },
}

/// Some sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChoice {
    /// The one of this id.
    Id(String),
    /// All of this user.
    User(String),
}

/// What a task needs.
struct Rule {
    permission: Permission,
    leader_only: bool,
    in_maintenance: bool,
}

impl Task {
    /// What the audit log calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::TransferLeadership { .. } => "TRANSFER_LEADERSHIP",
            Self::Drain { .. } => "DRAIN",
            Self::RotateStorageKey => "ROTATE_STORAGE_KEY",
            Self::ListBackups => "LIST_BACKUPS",
            Self::CreateBackup { .. } => "CREATE_BACKUP",
            Self::ReadBackup { .. } => "READ_BACKUP",
            Self::WriteBackup { .. } => "WRITE_BACKUP",
            Self::VerifyBackup { .. } => "VERIFY_BACKUP",
            Self::DeleteBackup { .. } => "DELETE_BACKUP",
            Self::ReadAudit => "READ_AUDIT",
            Self::VerifyAudit => "VERIFY_AUDIT",
            Self::VerifyStorage => "VERIFY_STORAGE",
            Self::ShowSettings => "SHOW_SETTINGS",
            Self::ListSessions => "LIST_SESSIONS",
            Self::EndSessions { .. } => "END_SESSIONS",
        }
    }

    fn rule(&self) -> Rule {
        let rule = |permission, leader_only, in_maintenance| Rule { permission, leader_only, in_maintenance };
        match self {
            Self::TransferLeadership { .. } => rule(Permission::Admin, true, true),
            Self::Drain { .. }
            | Self::ReadAudit
            | Self::VerifyAudit
            | Self::VerifyStorage
            | Self::ShowSettings => rule(Permission::Admin, false, true),
            Self::RotateStorageKey => rule(Permission::Admin, false, false),
            Self::ListBackups | Self::ReadBackup { .. } | Self::VerifyBackup { .. } => {
                rule(Permission::Backup, false, true)
            }
            // These change files of the server.
            Self::CreateBackup { .. } | Self::DeleteBackup { .. } => rule(Permission::Backup, false, false),
            Self::WriteBackup { .. } => rule(Permission::Restore, false, false),
            Self::ListSessions | Self::EndSessions { .. } => rule(Permission::UserAdmin, false, true),
        }
    }

    /// What the audit log says about it, always; none for what only looks.
    pub(crate) fn subject(&self) -> Option<Subject> {
        let text = |text: &str| Text::from(text);
        Some(match self {
            Self::TransferLeadership { to } => {
                Subject::new("leadership_transfer", &[("to", &text(to.as_deref().unwrap_or("")))])
            }
            Self::Drain { draining } => Subject::new("drain", &[("draining", &text(&draining.to_string()))]),
            Self::RotateStorageKey => Subject::new("storage_key_rotation", &[]),
            Self::CreateBackup { path } => Subject::new("backup", &[("path", path)]),
            Self::ReadBackup { path } => Subject::new("backup_download", &[("path", path)]),
            Self::WriteBackup { path } => Subject::new("backup_upload", &[("path", path)]),
            Self::DeleteBackup { path } => Subject::new("backup_delete", &[("path", path)]),
            Self::ReadAudit => Subject::new("audit_read", &[]),
            Self::VerifyStorage => Subject::new("storage_verification", &[]),
            Self::EndSessions { who: SessionChoice::Id(id) } => {
                Subject::new("session_end", &[("session", &text(id))])
            }
            Self::EndSessions { who: SessionChoice::User(user) } => {
                Subject::new("session_end", &[("target_user", &text(user))])
            }
            Self::ListBackups
            | Self::VerifyBackup { .. }
            | Self::VerifyAudit
            | Self::ShowSettings
            | Self::ListSessions => return None,
        })
    }
}

/// A task that was let in, and the ticket of its request. Only [`Door::admit_task`] makes one.
#[derive(Debug)]
pub struct AdmittedTask {
    task: Task,
    ticket: Ticket,
}

impl AdmittedTask {
    pub(crate) fn into_parts(self) -> (Task, Ticket) {
        (self.task, self.ticket)
    }

    /// Answers with a refusal after all.
    pub fn refuse(self, refusal: ErrorReply) -> Answer {
        self.ticket.refuse(refusal)
    }
}

/// What became of a task.
#[derive(Debug)]
pub enum Outcome {
    /// It was done.
    Done,
    /// Another member leads; what it is called.
    Elected(String),
    /// The id of the new storage key, a UUID.
    KeyRotated(String),
    /// The backups, by path.
    Backups(Vec<BackupFile>),
    /// What was written into a backup.
    Written(Summary),
    /// What is in a backup.
    Verified(Checked),
    /// The chain of the audit log.
    Chain(audit::Summary),
    /// The sessions, by id.
    Sessions(Vec<SessionView>),
    /// How many sessions were ended.
    Ended(usize),
}

/// A backup on its way out.
#[derive(Debug)]
pub struct Download {
    /// Its length, in bytes.
    pub size_bytes: u64,
    /// Its bytes in pieces; what fails ends them.
    pub chunks: mpsc::Receiver<Result<Vec<u8>, ErrorReply>>,
}

/// The way in for a backup.
#[derive(Debug)]
pub struct Upload {
    /// Takes its bytes in pieces. Dropped, it ends the document.
    pub chunks: mpsc::Sender<Vec<u8>>,
    done: tokio::task::JoinHandle<Result<Checked, ErrorReply>>,
    ticket: Option<Ticket>,
}

impl Door {
    /// Lets a task in or refuses it, in the order of checks that holds for commands.
    ///
    /// # Errors
    /// `SRV-007` for nobody, `SRV-033` in maintenance mode, `SRV-037` where only the leader can do it, `SRV-017` without the
    /// permission.
    pub fn admit_task(
        &self,
        visitor: &mut Visitor,
        task: Task,
        mut ticket: Ticket,
    ) -> Result<AdmittedTask, Box<Answer>> {
        ticket.set_subject(task.subject());
        match self.judge(visitor, &task) {
            Ok(()) => Ok(AdmittedTask { task, ticket }),
            Err(refusal) => Err(Box::new(ticket.refuse(refusal))),
        }
    }

    /// Whether the right to a task still holds, for work that goes on after its request was answered.
    ///
    /// # Errors
    /// As [`admit_task`](Self::admit_task).
    pub fn check_right(&self, visitor: &mut Visitor, task: &Task) -> Result<(), ErrorReply> {
        self.judge(visitor, task)
    }

    fn judge(&self, visitor: &mut Visitor, task: &Task) -> Result<(), ErrorReply> {
        let policy = self.policy()?;
        visitor.renew(&policy);
        let Some(who) = visitor.identity() else {
            self.counters().increment(Metric::LoginsFailed);
            return Err(refusal::login_required());
        };
        let rule = task.rule();
        if policy.in_maintenance() && !rule.in_maintenance {
            return Err(refusal::in_maintenance());
        }
        if rule.leader_only && !self.leads() {
            return Err(refusal::not_leader(self.0.node.leader().as_ref()));
        }
        let needed = match task {
            // As for every other change that touches administrators.
            Task::EndSessions { who } if self.are_of_administrators(who, &policy) => Permission::Admin,
            _ => rule.permission,
        };
        if !who.rights().allow_everywhere(needed.into()) {
            return Err(refusal::denied());
        }
        Ok(())
    }

    /// Whether one of these sessions is that of somebody who may administer everything.
    fn are_of_administrators(&self, choice: &SessionChoice, policy: &Policy) -> bool {
        match choice {
            SessionChoice::User(user) => policy.is_privileged(user),
            SessionChoice::Id(id) => {
                let meant = self.sessions().into_iter().find(|session| session.id == *id);
                meant.and_then(|session| session.user).is_some_and(|user| policy.is_privileged(&user))
            }
        }
    }

    /// Carries out a task that was let in. Those that hand out or take in bytes, or read the audit log, have functions of their
    /// own.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn perform(&self, admitted: AdmittedTask) -> Result<Outcome, ErrorReply> {
        let AdmittedTask { task, ticket } = admitted;
        let outcome = self.carry_out_task(task).await;
        let told = match &outcome {
            Ok(_) => Ok(Reply::Ok),
            Err(refusal) => Err(refusal.clone()),
        };
        ticket.answer(told).give()?;
        outcome
    }

    /// Leaves clients and the office to others, or not any more. Whether it did before.
    fn drain(&self, draining: bool) -> bool {
        let was_draining = self.0.draining.swap(draining, Ordering::AcqRel);
        self.0.node.rest(draining);
        was_draining
    }

    async fn carry_out_task(&self, task: Task) -> Result<Outcome, ErrorReply> {
        match task {
            Task::TransferLeadership { to } => {
                let heir = self.0.node.transfer(to.as_deref()).await.map_err(membership)?;
                Ok(Outcome::Elected(heir))
            }
            Task::Drain { draining } => {
                let was_draining = self.drain(draining);
                if draining
                    && self.0.node.desk().is_some()
                    && let Err(error) = self.0.node.hand_over().await
                {
                    // A leader that nobody relieves must not look as if it had gone.
                    self.drain(was_draining);
                    return Err(membership(error));
                }
                Ok(Outcome::Done)
            }
            Task::RotateStorageKey => match self.0.node.rotate_storage_key().await {
                Ok(id) => Ok(Outcome::KeyRotated(id)),
                Err(RotationError::Storage(error)) => Err(refusal::engine(error.code(), error)),
                Err(RotationError::Closed) => Err(refusal::closed()),
            },
            Task::ListBackups => {
                let list = |dir: &BackupDir, _: GoOn<'_>| Ok(dir.list()?);
                Ok(Outcome::Backups(self.with_backups(&Text::new(), Purpose::Verify, list).await?))
            }
            Task::CreateBackup { path } => Ok(Outcome::Written(self.write_backup(&path, false).await?)),
            Task::VerifyBackup { path } => {
                Ok(Outcome::Verified(self.check_backup(&path, Purpose::Verify).await?))
            }
            Task::DeleteBackup { path } => {
                let name = path.clone();
                let remove = move |dir: &BackupDir, _: GoOn<'_>| dir.remove(&name);
                self.with_backups(&path, Purpose::Verify, remove).await?;
                Ok(Outcome::Done)
            }
            Task::VerifyAudit => {
                let path = self.0.audit.settings().path.clone();
                let verified =
                    self.0.audit_reads.run_in_background("audit", move |_| audit::verify(&path)).await?;
                verified.map(Outcome::Chain).map_err(|error| ErrorReply::new(error.code(), error.to_string()))
            }
            // Whoever put the server together has them; what is asked here is whether they may be seen.
            Task::ShowSettings => Ok(Outcome::Done),
            Task::ListSessions => Ok(Outcome::Sessions(self.sessions())),
            Task::EndSessions { who } => Ok(Outcome::Ended(self.end_sessions(&who))),
            Task::ReadBackup { .. } | Task::WriteBackup { .. } | Task::ReadAudit | Task::VerifyStorage => {
                Err(refusal::unsupported())
            }
        }
    }

    /// Begins to hand out a backup, for an admitted [`Task::ReadBackup`].
    ///
    /// # Errors
    /// `SRV-016` for any other task, or why it cannot be read.
    pub async fn download(&self, admitted: AdmittedTask) -> Result<Download, ErrorReply> {
        let AdmittedTask { task, ticket } = admitted;
        let Task::ReadBackup { path } = task else {
            return Err(told(ticket, refusal::unsupported()));
        };
        let (chunks, received) = mpsc::channel(CHUNKS_AHEAD_MAX);
        let (opened, length) = tokio::sync::oneshot::channel();
        let (door, failed) = (self.clone(), chunks.clone());
        tokio::spawn(async move {
            let name = path.clone();
            let read = move |dir: &BackupDir, go_on: GoOn<'_>| {
                let pair = dir.open(&name)?;
                _ = opened.send(pair.len()?);
                let mut content = pair.content(go_on);
                loop {
                    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                    (&mut content).take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
                    // Nobody takes them any more, or that was all.
                    if chunk.is_empty() || chunks.blocking_send(Ok(chunk)).is_err() {
                        return Ok(());
                    }
                }
            };
            if let Err(refusal) = door.with_transfer(&path, read).await {
                _ = failed.send(Err(refusal)).await;
            }
        });
        let mut received = received;
        match length.await {
            Ok(size_bytes) => {
                ticket.answer(Ok(Reply::Ok)).give()?;
                Ok(Download { size_bytes, chunks: received })
            }
            Err(_failed) => {
                let refusal = match received.recv().await {
                    Some(Err(refusal)) => refusal,
                    _ => refusal::closed(),
                };
                Err(told(ticket, refusal))
            }
        }
    }

    /// Begins to take a backup in, for an admitted [`Task::WriteBackup`].
    ///
    /// # Errors
    /// `SRV-016` for any other task.
    pub fn upload(&self, admitted: AdmittedTask) -> Result<Upload, ErrorReply> {
        let AdmittedTask { task, ticket } = admitted;
        let Task::WriteBackup { path } = task else {
            return Err(told(ticket, refusal::unsupported()));
        };
        let (chunks, received) = mpsc::channel(CHUNKS_AHEAD_MAX);
        let door = self.clone();
        let now_ms = self.0.node.local().now_ms;
        let done = tokio::spawn(async move {
            let name = path.clone();
            let receive = move |dir: &BackupDir, go_on: GoOn<'_>| {
                dir.receive(&name, &mut Incoming { received, rest: Vec::new(), at: 0 }, now_ms, go_on)
            };
            door.with_transfer(&path, receive).await
        });
        Ok(Upload { chunks, done, ticket: Some(ticket) })
    }

    /// Reads the audit log on from `cursor`, for an admitted [`Task::ReadAudit`] or on behalf of one that was answered. A page
    /// of at most `count_max` events that are `wanted`.
    ///
    /// # Errors
    /// `SRV-004` when it cannot be read.
    pub async fn read_audit(
        &self,
        mut cursor: AuditCursor,
        count_max: usize,
        wanted: impl Fn(&AuditEvent) -> bool + Send + 'static,
    ) -> Result<(AuditCursor, AuditPage), ErrorReply> {
        let read = move |_: &vaylix_consensus::background::Pace| {
            let page = cursor.next(count_max, wanted);
            page.map(|page| (cursor, page))
        };
        let read = self.0.audit_reads.run_in_background("audit", read).await?;
        read.map_err(|error| {
            ErrorReply::new(
                vaylix_proto::Code::ServerFilesystemIoFailure,
                format!("filesystem I/O failed: the audit log cannot be read: {error}"),
            )
        })
    }

    /// A place in the audit log: behind event `sequence`.
    #[must_use]
    pub fn audit_cursor(&self, sequence: u64) -> AuditCursor {
        AuditCursor::behind(&self.0.audit.settings().path, sequence)
    }

    /// Answers an admitted [`Task::ReadAudit`]: it may be read now.
    ///
    /// # Errors
    /// `SRV-016` for any other task.
    pub fn begin_audit(&self, admitted: AdmittedTask) -> Result<(), ErrorReply> {
        let AdmittedTask { task, ticket } = admitted;
        let told = if task == Task::ReadAudit { Ok(Reply::Ok) } else { Err(refusal::unsupported()) };
        ticket.answer(told).give().map(drop)
    }

    /// Whether this node leaves the office, and clients, to others.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }
}

impl Upload {
    /// Ends the document, and waits until it is checked and durable.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn finish(mut self) -> Result<Checked, ErrorReply> {
        let (nobody, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.chunks, nobody));
        let checked = (&mut self.done).await.unwrap_or_else(|_| Err(refusal::closed()));
        let told = match &checked {
            Ok(_) => Ok(Reply::Ok),
            Err(refusal) => Err(refusal.clone()),
        };
        if let Some(ticket) = self.ticket.take() {
            ticket.answer(told).give()?;
        }
        checked
    }
}

impl Drop for Upload {
    /// What has not come to its end is no backup.
    fn drop(&mut self) {
        self.done.abort();
    }
}

/// The pieces of a document as one stream.
struct Incoming {
    received: mpsc::Receiver<Vec<u8>>,
    rest: Vec<u8>,
    at: usize,
}

impl std::io::Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at >= self.rest.len() {
            match self.received.blocking_recv() {
                Some(chunk) => (self.rest, self.at) = (chunk, 0),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len() - self.at);
        buffer[..count].copy_from_slice(&self.rest[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Answers with a refusal, and returns it.
fn told(ticket: Ticket, refusal: ErrorReply) -> ErrorReply {
    match ticket.refuse(refusal.clone()).give() {
        Err(refusal) => refusal,
        Ok(_) => refusal,
    }
}

fn membership(error: MembershipError) -> ErrorReply {
    match error {
        MembershipError::Alone => refusal::alone(),
        MembershipError::NotLeader { leader } => refusal::not_leader(leader.as_ref()),
        MembershipError::Refused(reason) => refusal::promotion(reason),
    }
}
