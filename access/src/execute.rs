//! Carrying out what has been admitted.

use std::ops::ControlFlow;
use std::time::Instant;

use bytes::Bytes;
use tracing::Span;
use vaylix_consensus::{NODE_ITSELF, Payload, Proposal, ProposeError, ReadError, View};
use vaylix_engine::state::{Allowance, Exceeded, Root};
use vaylix_proto::{Code, Command, Dump, ErrorReply, Reply, ScanPage, Text};

use crate::admission::{Admitted, Pass, Queued, Way};
use crate::counters::Metric;
use crate::door::Door;
use crate::identity::Identity;
use crate::limits::{ADMISSIONS_MAX, LOOKS_INLINE_MAX};
use crate::permission::Permission;
use crate::refusal;
use crate::subject::Subject;
use crate::ticket::{Answer, Ticket};

/// What the answer to a transaction takes besides its results, and each result besides itself.
const EXEC_ANSWER_BYTES: usize = 4;
const EXEC_TAG_BYTES: usize = 1;

/// A write under way. Dropping it cancels nothing: the write happens or not as if one had waited.
#[must_use = "the answer says whether the write happened"]
pub struct Pending {
    pass: Pass,
    /// None once it is answered.
    ticket: Option<Ticket>,
    stage: Stage,
    admissions: usize,
}

enum Stage {
    /// In the queue or in the log.
    Proposed(vaylix_consensus::Pending),
    /// Has to be proposed anew.
    Refused,
}

impl Door {
    /// Answers a read at once, if that is possible without waiting and without looking at many keys; gives
    /// everything else back.
    pub fn read_now(&self, admitted: Admitted) -> ControlFlow<Answer, Admitted> {
        match self.look_now(&admitted.pass) {
            Some(result) => ControlFlow::Break(admitted.ticket.answer_at_once(result)),
            None => ControlFlow::Continue(admitted),
        }
    }

    fn look_now(&self, pass: &Pass) -> Option<Result<Reply, ErrorReply>> {
        if pass.way != Way::Read {
            return None;
        }
        if let Command::Ping { message } = &pass.command {
            return Some(Ok(pong(message.as_ref())));
        }
        let view = self.view_now(pass.fresh)?;
        if is_point_read(&pass.command) {
            self.0.counters.increment(Metric::FastReads);
        }
        let mut allowance = Allowance::bytes(self.0.report.frame_len_max);
        let answer = if looks_around(&pass.command) {
            let root = view.reader.try_root()?;
            look(&root, pass, view.now_ms, &mut allowance.with_looks(LOOKS_INLINE_MAX))
        } else {
            view.reader.query(&pass.command, view.now_ms, &mut allowance)
        };
        (answer != Err(Exceeded::Looks)).then(|| answered(answer, self.0.report.frame_len_max))
    }

    /// What a read sees, if that is known without waiting.
    pub(crate) fn view_now(&self, fresh: bool) -> Option<View> {
        let node = &self.0.node;
        if fresh || !node.is_informed() {
            return node.try_read();
        }
        if self.0.report.local_reads {
            return Some(node.local());
        }
        node.try_read().or_else(|| node.follows().then(|| node.local()))
    }

    /// What a read sees.
    ///
    /// # Errors
    /// `SRV-036` or `SRV-037` when this node cannot vouch for it, `SRV-005` while it stops.
    pub(crate) async fn view(&self, fresh: bool) -> Result<View, ErrorReply> {
        match self.view_now(fresh) {
            Some(view) => Ok(view),
            None if fresh => self.0.node.read_anywhere().await.map_err(unreadable),
            None => self.0.node.read_here().await.map_err(unreadable),
        }
    }

    /// The length of the value that a write answers because it replaces or removes it, as the keys are now; none
    /// for what answers no such value.
    #[must_use]
    pub fn told_value_len(&self, admitted: &Admitted) -> Option<usize> {
        let key = match admitted.command() {
            Command::GetDel { key } | Command::GetEx { key, .. } => key,
            Command::Set { key, options, .. } if options.return_previous => key,
            _ => return None,
        };
        let view = self.0.node.local();
        Some(view.reader.get(key, view.now_ms).map_or(0, |value| value.len()))
    }

    /// Puts a write ([`Admitted::is_write`]) in the queue, behind those submitted before; the answer comes
    /// from [`Door::finish`]. Waits only while the queue is full, and not beyond `deadline`: then nothing was
    /// submitted, and the answer is `TRN-016`.
    pub async fn submit(
        &self,
        admitted: Admitted,
        deadline: Option<Instant>,
    ) -> ControlFlow<Answer, Pending> {
        let Admitted { pass, ticket } = admitted;
        let submit = self.0.node.submit(proposal(&pass, ticket.span()));
        let answer = match deadline {
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), submit).await {
                Ok(answer) => answer,
                Err(_) => return ControlFlow::Break(ticket.refuse(refusal::too_late())),
            },
            None => submit.await,
        };
        let stage = Stage::Proposed(answer);
        ControlFlow::Continue(Pending { pass, ticket: Some(ticket), stage, admissions: 1 })
    }

    /// Waits for the answer of a submitted write. Call it in the order of submission, until it has returned
    /// once; a call that is dropped before can be repeated.
    ///
    /// A write that was admitted under rules that have changed is admitted anew, a bounded number of times. The
    /// answer is `ENG-*` when it failed as a command, `SRV-036` when nobody can say whether it happened.
    ///
    /// # Panics
    /// If it has returned before.
    pub async fn finish(&self, pending: &mut Pending) -> Answer {
        let result = self.outcome(pending).await;
        let ticket = pending.ticket.take().expect("a write is answered once");
        ticket.answer(result)
    }

    async fn outcome(&self, pending: &mut Pending) -> Result<Reply, ErrorReply> {
        loop {
            let answer = match &mut pending.stage {
                Stage::Proposed(answer) => answer.await,
                Stage::Refused => {
                    self.readmit(&mut pending.pass)?;
                    let span = pending.ticket.as_ref().map_or_else(Span::none, Ticket::span);
                    let answer = self.0.node.submit(proposal(&pending.pass, span)).await;
                    pending.stage = Stage::Proposed(answer);
                    pending.admissions += 1;
                    continue;
                }
            };
            if matches!(answer, Err(ProposeError::Stale)) && pending.admissions < ADMISSIONS_MAX {
                pending.stage = Stage::Refused;
            } else {
                return answer.map_err(refused);
            }
        }
    }

    /// Carries out an admitted command and waits for its answer.
    pub async fn execute(&self, admitted: Admitted) -> Answer {
        let Admitted { pass, ticket } = admitted;
        match pass.way {
            Way::Read => ticket.answer(self.read(pass).await),
            Way::Write => match self.submit(Admitted { pass, ticket }, None).await {
                ControlFlow::Continue(mut pending) => self.finish(&mut pending).await,
                ControlFlow::Break(answer) => answer,
            },
            Way::Other => ticket.answer(self.administer(pass).await),
        }
    }

    /// Carries out a transaction: all of its commands or none, at one point in time. The permissions that
    /// admitted the commands must still hold.
    ///
    /// The answer is `SRV-007`, `SRV-017` or `SRV-033` when they do not hold any more, `TRN-006` when it would take
    /// more than `answer_bytes_max` bytes as the payload of a response, otherwise what failed the first command.
    pub async fn commit(&self, mut ticket: Ticket, queue: Vec<Queued>, answer_bytes_max: usize) -> Answer {
        if let Some(clear) = queue.iter().find_map(|queued| Subject::of(&queued.0.command))
            && let Err(refusal) = ticket.watch(clear).await
        {
            return ticket.refuse(refusal);
        }
        let result = self.carry_out(ticket.span(), queue, answer_bytes_max).await;
        if result.is_ok() {
            self.0.counters.increment(Metric::TransactionsCommitted);
        }
        ticket.answer(result)
    }

    async fn carry_out(
        &self,
        span: Span,
        queue: Vec<Queued>,
        answer_bytes_max: usize,
    ) -> Result<Reply, ErrorReply> {
        let mut queue: Vec<Pass> = queue.into_iter().map(|Queued(pass)| pass).collect();
        let caller = queue.first().map_or(NODE_ITSELF, |pass| pass.caller);
        let is_read_only = queue.iter().all(|pass| pass.way == Way::Read);
        for _ in 0..ADMISSIONS_MAX {
            let revision = self.policy()?.revision();
            for pass in &mut queue {
                self.readmit(pass)?;
            }
            if queue.iter().any(|pass| pass.revision != revision) {
                continue;
            }
            if is_read_only {
                return self.read_together(queue, answer_bytes_max).await;
            }
            let commands = queue.iter().map(|pass| pass.command.clone()).collect();
            let payload = Payload::Transaction { commands, answer_bytes_max };
            let proposal = Proposal { span: span.clone(), caller, access_revision: revision, payload };
            match self.0.node.propose(proposal).await {
                Err(ProposeError::Stale) => {}
                answer => return answer.map_err(refused),
            }
        }
        Err(refusal::contended())
    }

    async fn read(&self, pass: Pass) -> Result<Reply, ErrorReply> {
        let looks_around = looks_around(&pass.command);
        if !looks_around && let Some(answer) = self.look_now(&pass) {
            return answer;
        }
        let view = self.view(pass.fresh).await?;
        if is_point_read(&pass.command) {
            self.0.counters.increment(Metric::SlowReads);
        }
        let bytes_max = self.0.report.frame_len_max;
        let mut allowance = Allowance::bytes(bytes_max);
        let answer = if looks_around {
            let look = move || look(&view.reader.root(), &pass, view.now_ms, &mut allowance);
            self.0.long_reads.run(look).await?
        } else {
            view.reader.query(&pass.command, view.now_ms, &mut allowance)
        };
        answered(answer, bytes_max)
    }

    /// Answers a queue of reads from one state of the keys.
    async fn read_together(&self, queue: Vec<Pass>, bytes_max: usize) -> Result<Reply, ErrorReply> {
        let view = self.view(queue.iter().any(|pass| pass.fresh)).await?;
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
    async fn administer(&self, pass: Pass) -> Result<Reply, ErrorReply> {
        let who = pass.who.clone().ok_or_else(refusal::login_required)?;
        match &pass.command {
            Command::Info => self.info(&self.root().await?),
            Command::Metrics => Ok(Reply::Entries(self.metrics().entries())),
            Command::MetricsProm => Ok(Reply::Value(self.metrics().prometheus().into())),
            Command::Health => self.health(),
            Command::WhoAmI => Ok(Self::who_am_i(&who)),
            Command::ShowUsers => self.show_users(),
            Command::ShowRoles => self.show_roles(),
            Command::ShowGrants => self.show_own_grants(&who),
            Command::ShowGrantsForUser { user } => self.show_grants_for_user(user),
            Command::ShowGrantsForRole { role } => self.show_grants_for_role(role),
            Command::ShowCluster => Ok(self.show_cluster()),
            Command::ShowReplication => Ok(self.show_replication()),
            Command::MaintenanceStatus => self.maintenance_status(&who),
            Command::Save | Command::Snapshot => self.snapshot().await,
            Command::Backup => self.backup(pass.fresh).await,
            Command::BackupTo { path } => self.backup_to(path, pass.fresh).await,
            Command::BackupVerify(Dump::Inline(document)) => self.verify_backup(document).await,
            Command::BackupVerify(Dump::File(path)) => self.verify_backup_from(path).await,
            Command::RestoreCheck(Dump::Inline(document)) => self.check_restore(document).await,
            Command::RestoreCheck(Dump::File(path)) => self.check_restore_from(path).await,
            Command::Restore(Dump::Inline(document)) => {
                let document = document.clone();
                self.restore(pass, &document).await
            }
            Command::Restore(Dump::File(path)) => {
                let path = path.clone();
                self.restore_from(pass, &path).await
            }
            Command::CreateUser { .. }
            | Command::AlterUserPassword { .. }
            | Command::DropUser { .. }
            | Command::CreateRole { .. }
            | Command::DropRole { .. }
            | Command::GrantRole { .. }
            | Command::RevokeRole { .. }
            | Command::GrantPermission { .. }
            | Command::RevokePermission { .. } => self.change(pass).await,
            Command::ClusterJoin { .. }
            | Command::ClusterRemove { .. }
            | Command::PromoteFollower
            | Command::PauseReplication
            | Command::ResumeReplication => self.change_cluster(&pass.command).await,
            Command::MaintenanceOn => self.set_maintenance(pass, true).await,
            Command::MaintenanceOff => self.set_maintenance(pass, false).await,
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
fn look(root: &Root, pass: &Pass, now_ms: u64, allowance: &mut Allowance) -> Result<Option<Reply>, Exceeded> {
    match (&pass.command, &pass.who) {
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
    queue: &[Pass],
    now_ms: u64,
    mut allowance: Allowance,
) -> Result<Option<Reply>, Exceeded> {
    let mut replies = Vec::with_capacity(queue.len());
    allowance.take_bytes(EXEC_ANSWER_BYTES)?;
    for pass in queue {
        allowance.take_bytes(EXEC_TAG_BYTES)?;
        let reply = match &pass.command {
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

fn proposal(pass: &Pass, span: Span) -> Proposal {
    let Pass { caller, revision, .. } = *pass;
    Proposal { span, caller, access_revision: revision, payload: Payload::Command(pass.command.clone()) }
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
        ProposeError::NotLeader { leader } => refusal::not_leader(leader.as_ref()),
        ProposeError::Closed => refusal::closed(),
        ProposeError::TooLarge { .. } => refusal::quota_exceeded(),
        ProposeError::NoRoom(_) => refusal::engine(error.code(), error),
        ProposeError::OutcomeUnknown => refusal::outcome_unknown(),
        ProposeError::NoQuorum => refusal::no_quorum(),
        ProposeError::NotOnAll { sequence } => refusal::not_on_all(sequence),
    }
}

fn unreadable(error: ReadError) -> ErrorReply {
    match error {
        ReadError::NotLeader { leader } => refusal::not_leader(leader.as_ref()),
        ReadError::Unconfirmed => refusal::unconfirmed(),
        ReadError::Quarantined => refusal::quarantined(),
        ReadError::Closed => refusal::closed(),
    }
}
