//! Carrying out what has been admitted.

use bytes::Bytes;
use vaylix_consensus::{Payload, Proposal, ProposeError, ReadError};
use vaylix_engine::state::{Allowance, Exceeded, Root};
use vaylix_proto::{Code, Command, Dump, ErrorReply, Reply, ScanPage, Text};

use crate::admission::{Admitted, Way};
use crate::counters::Metric;
use crate::door::Door;
use crate::identity::Identity;
use crate::limits::{ADMISSIONS_MAX, LOOKS_INLINE_MAX};
use crate::permission::Permission;
use crate::refusal;

/// What the answer to a transaction takes besides its results, and each result besides itself.
const EXEC_ANSWER_BYTES: usize = 4;
const EXEC_TAG_BYTES: usize = 1;

/// A write under way. Dropping it cancels nothing: the write happens or not as if one had waited.
#[must_use = "the answer says whether the write happened"]
pub struct Pending {
    admitted: Admitted,
    stage: Stage,
    admissions: usize,
}

enum Stage {
    /// In the queue or in the log.
    Proposed(vaylix_consensus::Pending),
    /// Has to be proposed anew.
    Refused,
    /// Answered.
    Finished,
}

impl Door {
    /// Answers a read at once, if that is possible without waiting and without looking at many keys; none for
    /// everything else.
    #[must_use]
    pub fn read_now(&self, admitted: &Admitted) -> Option<Result<Reply, ErrorReply>> {
        if admitted.way != Way::Read {
            return None;
        }
        if let Command::Ping { message } = &admitted.command {
            return Some(Ok(pong(message.as_ref())));
        }
        let view = self.0.node.try_read()?;
        if is_point_read(&admitted.command) {
            self.0.counters.increment(Metric::FastReads);
        }
        let mut allowance = Allowance::bytes(self.0.report.frame_len_max);
        let answer = if looks_around(&admitted.command) {
            let root = view.reader.try_root()?;
            look(&root, admitted, view.now_ms, &mut allowance.with_looks(LOOKS_INLINE_MAX))
        } else {
            view.reader.query(&admitted.command, view.now_ms, &mut allowance)
        };
        (answer != Err(Exceeded::Looks)).then(|| answered(answer, self.0.report.frame_len_max))
    }

    /// The length of the value that a write answers because it replaces or removes it, as the keys are now; none
    /// for what answers no such value.
    #[must_use]
    pub fn told_value_len(&self, admitted: &Admitted) -> Option<usize> {
        let key = match &admitted.command {
            Command::GetDel { key } | Command::GetEx { key, .. } => key,
            Command::Set { key, options, .. } if options.return_previous => key,
            _ => return None,
        };
        let view = self.0.node.local();
        Some(view.reader.get(key, view.now_ms).map_or(0, |value| value.len()))
    }

    /// Puts a write ([`Admitted::is_write`]) in the queue, behind those submitted before; the answer comes
    /// from [`Door::finish`]. Waits only while the queue is full. Dropped before it returns, nothing was
    /// submitted.
    pub async fn submit(&self, admitted: Admitted) -> Pending {
        let answer = self.0.node.submit(proposal(&admitted)).await;
        Pending { admitted, stage: Stage::Proposed(answer), admissions: 1 }
    }

    /// Waits for the answer of a submitted write. Call it in the order of submission, until it has returned
    /// once; a call that is dropped before can be repeated.
    ///
    /// A write that was admitted under rules that have changed is admitted anew, a bounded number of times.
    ///
    /// # Errors
    /// What refused the write, `ENG-*` when it failed as a command, `SRV-036` when nobody can say whether it
    /// happened.
    pub async fn finish(&self, pending: &mut Pending) -> Result<Reply, ErrorReply> {
        loop {
            let answer = match &mut pending.stage {
                Stage::Proposed(answer) => answer.await,
                Stage::Refused => {
                    self.readmit(&mut pending.admitted)?;
                    let answer = self.0.node.submit(proposal(&pending.admitted)).await;
                    pending.stage = Stage::Proposed(answer);
                    pending.admissions += 1;
                    continue;
                }
                Stage::Finished => return Err(refusal::outcome_unknown()),
            };
            if matches!(answer, Err(ProposeError::Stale)) && pending.admissions < ADMISSIONS_MAX {
                pending.stage = Stage::Refused;
            } else {
                pending.stage = Stage::Finished;
                return answer.map_err(refused);
            }
        }
    }

    /// Carries out an admitted command and waits for its answer.
    ///
    /// # Errors
    /// What refused or failed the command.
    pub async fn execute(&self, admitted: Admitted) -> Result<Reply, ErrorReply> {
        match admitted.way {
            Way::Read => self.read(admitted).await,
            Way::Write => {
                let mut pending = self.submit(admitted).await;
                self.finish(&mut pending).await
            }
            Way::Other => self.administer(admitted).await,
        }
    }

    /// Carries out a transaction: all of its commands or none, at one point in time. The permissions that
    /// admitted the commands must still hold.
    ///
    /// # Errors
    /// `SRV-007` or `SRV-017` when they do not hold any more, `TRN-006` when the answer would take more than
    /// `answer_bytes_max` bytes as the payload of a response, otherwise what failed the first command.
    pub async fn commit(
        &self,
        mut queue: Vec<Admitted>,
        answer_bytes_max: usize,
    ) -> Result<Reply, ErrorReply> {
        let is_read_only = queue.iter().all(|admitted| admitted.way == Way::Read);
        for _ in 0..ADMISSIONS_MAX {
            let revision = self.policy()?.revision();
            for admitted in &mut queue {
                self.readmit(admitted)?;
            }
            if queue.iter().any(|admitted| admitted.revision != revision) {
                continue;
            }
            if is_read_only {
                return self.read_together(queue, answer_bytes_max).await;
            }
            let commands = queue.iter().map(|admitted| admitted.command.clone()).collect();
            let payload = Payload::Transaction { commands, answer_bytes_max };
            match self.0.node.propose(Proposal { access_revision: revision, payload }).await {
                Err(ProposeError::Stale) => {}
                answer => return answer.map_err(refused),
            }
        }
        Err(refusal::contended())
    }

    async fn read(&self, admitted: Admitted) -> Result<Reply, ErrorReply> {
        let looks_around = looks_around(&admitted.command);
        if !looks_around && let Some(answer) = self.read_now(&admitted) {
            return answer;
        }
        let view = self.0.node.read().await.map_err(unreadable)?;
        if is_point_read(&admitted.command) {
            self.0.counters.increment(Metric::SlowReads);
        }
        let bytes_max = self.0.report.frame_len_max;
        let mut allowance = Allowance::bytes(bytes_max);
        let answer = if looks_around {
            let look = move || look(&view.reader.root(), &admitted, view.now_ms, &mut allowance);
            self.0.long_reads.run(look).await?
        } else {
            view.reader.query(&admitted.command, view.now_ms, &mut allowance)
        };
        answered(answer, bytes_max)
    }

    /// Answers a queue of reads from one state of the keys.
    async fn read_together(&self, queue: Vec<Admitted>, bytes_max: usize) -> Result<Reply, ErrorReply> {
        let view = self.0.node.read().await.map_err(unreadable)?;
        let allowance = Allowance::bytes(bytes_max);
        if let Some(root) = view.reader.try_root() {
            let answer = look_together(&root, &queue, view.now_ms, allowance.with_looks(LOOKS_INLINE_MAX));
            if answer != Err(Exceeded::Looks) {
                return answered(answer, bytes_max);
            }
        }
        let look = move || look_together(&view.reader.root(), &queue, view.now_ms, allowance);
        answered(self.0.long_reads.run(look).await?, bytes_max)
    }

    /// The state between two log entries. Waits elsewhere for one that is being applied.
    async fn root(&self) -> Result<Root, ErrorReply> {
        let reader = self.0.reader.clone();
        match reader.try_root() {
            Some(root) => Ok(root),
            None => self.0.long_reads.run(move || reader.root()).await,
        }
    }

    /// The commands that neither read nor change keys one by one.
    async fn administer(&self, admitted: Admitted) -> Result<Reply, ErrorReply> {
        let who = admitted.who.clone().ok_or_else(refusal::login_required)?;
        match &admitted.command {
            Command::Info => Ok(self.info(&self.root().await?)),
            Command::Metrics => Ok(Reply::Entries(self.metrics().entries())),
            Command::MetricsProm => Ok(Reply::Value(self.metrics().prometheus().into())),
            Command::Health => Ok(self.health()),
            Command::WhoAmI => Ok(Self::who_am_i(&who)),
            Command::ShowUsers => self.show_users(),
            Command::ShowRoles => self.show_roles(),
            Command::ShowGrants => self.show_own_grants(&who),
            Command::ShowGrantsForUser { user } => self.show_grants_for_user(user),
            Command::ShowGrantsForRole { role } => self.show_grants_for_role(role),
            Command::ShowCluster => Ok(self.show_cluster()),
            Command::ShowReplication => Ok(self.show_replication()),
            Command::MaintenanceStatus => Ok(self.maintenance_status()),
            Command::Save | Command::Snapshot => self.snapshot().await,
            Command::Backup => self.backup().await,
            Command::BackupTo { path } => self.backup_to(path).await,
            Command::BackupVerify(Dump::Inline(document)) => self.verify_backup(document).await,
            Command::BackupVerify(Dump::File(path)) => self.verify_backup_from(path).await,
            Command::RestoreCheck(Dump::Inline(document)) => self.check_restore(document).await,
            Command::RestoreCheck(Dump::File(path)) => self.check_restore_from(path).await,
            Command::Restore(Dump::Inline(document)) => {
                let document = document.clone();
                self.restore(admitted, &document).await
            }
            Command::Restore(Dump::File(path)) => {
                let path = path.clone();
                self.restore_from(admitted, &path).await
            }
            Command::CreateUser { .. }
            | Command::AlterUserPassword { .. }
            | Command::DropUser { .. }
            | Command::CreateRole { .. }
            | Command::DropRole { .. }
            | Command::GrantRole { .. }
            | Command::RevokeRole { .. }
            | Command::GrantPermission { .. }
            | Command::RevokePermission { .. } => self.change(admitted).await,
            _ => Err(refusal::unavailable()),
        }
    }
}

/// Whether the command reads named keys only.
fn is_point_read(command: &Command) -> bool {
    matches!(
        command,
        Command::Get { .. } | Command::MGet { .. } | Command::Exists { .. } | Command::Ttl { .. }
    )
}

/// Whether the command may look at any number of keys.
fn looks_around(command: &Command) -> bool {
    matches!(command, Command::List | Command::Scan { .. } | Command::Count | Command::DbSize)
}

/// The answer to a read, from one state of the keys; none for what is no read.
fn look(
    root: &Root,
    admitted: &Admitted,
    now_ms: u64,
    allowance: &mut Allowance,
) -> Result<Option<Reply>, Exceeded> {
    match (&admitted.command, &admitted.who) {
        (Command::Scan { cursor, pattern, count }, Some(who)) => {
            let places = &mut who.scans().lock();
            let page = root.scan(*cursor, pattern.as_ref(), *count, now_ms, places, allowance)?;
            Ok(Some(Reply::Scan(only_readable(page, who))))
        }
        (command, _) => root.query(command, now_ms, allowance),
    }
}

/// The answers to a queue of reads.
fn look_together(
    root: &Root,
    queue: &[Admitted],
    now_ms: u64,
    mut allowance: Allowance,
) -> Result<Option<Reply>, Exceeded> {
    let mut replies = Vec::with_capacity(queue.len());
    allowance.take_bytes(EXEC_ANSWER_BYTES)?;
    for admitted in queue {
        allowance.take_bytes(EXEC_TAG_BYTES)?;
        let reply = match &admitted.command {
            Command::Ping { message } => {
                let reply = pong(message.as_ref());
                allowance.take_bytes(reply.encoded_len())?;
                Some(reply)
            }
            command => root.query(command, now_ms, &mut allowance)?,
        };
        match reply {
            Some(reply) => replies.push(reply),
            None => return Ok(None),
        }
    }
    Ok(Some(Reply::Exec(replies)))
}

/// What a client is told of a read.
fn answered(answer: Result<Option<Reply>, Exceeded>, bytes_max: usize) -> Result<Reply, ErrorReply> {
    match answer {
        Ok(reply) => reply.ok_or_else(refusal::unsupported),
        Err(Exceeded::Bytes | Exceeded::Looks) => Err(refusal::answer_too_large(bytes_max)),
    }
}

/// The keys of a page that its reader may read. The requested pattern is covered by a grant already, so this
/// drops nothing unless that proof were wrong.
fn only_readable(mut page: ScanPage, who: &Identity) -> ScanPage {
    page.keys.retain(|key| who.rights().allow_key(Permission::Read.into(), key));
    page
}

fn proposal(admitted: &Admitted) -> Proposal {
    Proposal { access_revision: admitted.revision, payload: Payload::Command(admitted.command.clone()) }
}

fn pong(message: Option<&Text>) -> Reply {
    Reply::Value(message.map_or(Bytes::from_static(b"PONG"), |message| message.clone().into_bytes()))
}

/// What a client is told when a proposal was not carried out.
pub(crate) fn refused(error: ProposeError) -> ErrorReply {
    match error {
        ProposeError::Failed(failure) if failure.code() == Code::FrameTooLarge => {
            ErrorReply::new(failure.code(), failure.to_string())
        }
        ProposeError::Failed(failure) => refusal::engine(failure.code(), failure),
        ProposeError::Stale => refusal::contended(),
        ProposeError::NotLeader { .. } => refusal::not_leader(),
        ProposeError::Closed => refusal::closed(),
        ProposeError::TooLarge { .. } => refusal::quota_exceeded(),
        ProposeError::NoRoom(_) => refusal::engine(error.code(), error),
        ProposeError::OutcomeUnknown => refusal::outcome_unknown(),
    }
}

pub(crate) fn unreadable(error: ReadError) -> ErrorReply {
    match error {
        ReadError::NotLeader { .. } => refusal::not_leader(),
        ReadError::Unconfirmed | ReadError::Closed => refusal::closed(),
    }
}
