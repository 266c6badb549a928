//! The door itself: opening it, logging in, and the one place where a command is let in or refused.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tracing::Span;
use vaylix_consensus::{NODE_ITSELF, Node, Payload, Proposal, ProposeError};
use vaylix_engine::BackupDir;
use vaylix_engine::state::{Reader, Root};
use vaylix_proto::opcode::Opcode;
use vaylix_proto::request::RequestId;
use vaylix_proto::{Code, Command, ErrorReply, Reply, Text};

use crate::admission::{Admission, Admitted, Login, Pass, Postponed, Standing, Transaction, Way};
use crate::audit::{self, Event, Noise};
use crate::change::{self, Edit};
use crate::counters::{Counters, Metric};
use crate::identity::Identity;
use crate::latency::Latencies;
use crate::limits::{
    ADMISSIONS_MAX, AUDIT_READS_AT_ONCE_MAX, BACKUP_FILES_AT_ONCE_MAX, DOCUMENTS_AT_ONCE_MAX,
    LONG_READS_AT_ONCE_MAX, TRANSFERS_AT_ONCE_MAX,
};
use crate::lockout::Failures;
use crate::password::Hasher;
use crate::policy::Policy;
use crate::quota;
use crate::record::{self, MAINTENANCE_KEY};
use crate::refusal;
use crate::report::Report;
use crate::rule::{self, InTransaction, Need, Rule};
use crate::scrub::Verified;
use crate::secret::Secret;
use crate::session::Sessions;
use crate::settings::{Administrator, Authentication, Limits, Settings, is_well_known};
use crate::subject::Subject;
use crate::ticket::{Answer, Ticket, Visitor};
use crate::tls::Tls;
use crate::token::Tokens;
use crate::turns::Turns;

/// The pause after the administrator could not be stored.
const BOOTSTRAP_RETRY_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// The one door to a node. Cloning gives another handle to the same door.
#[derive(Clone)]
pub struct Door(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) node: Node,
    /// The state behind the node.
    pub(crate) reader: Reader,
    pub(crate) limits: Limits,
    pub(crate) report: Report,
    /// Whether clients must log in.
    pub(crate) requires_login: bool,
    /// Whether the documented default pair is let in.
    accepts_well_known: bool,
    /// Whether the configured administrator is the documented default.
    pub(crate) has_default_credentials: bool,
    pub(crate) counters: Counters,
    pub(crate) latencies: Latencies,
    pub(crate) hasher: Hasher,
    /// The work on logical backups.
    pub(crate) documents: Turns,
    /// Where backup files live, and the work on them.
    pub(crate) backups: BackupDir,
    pub(crate) backup_files: Turns,
    /// Backups on their way to and from clients of the control plane.
    pub(crate) transfers: Turns,
    /// Reads of the audit log, which those of keys do not wait for.
    pub(crate) audit_reads: Turns,
    /// Verifying what is on disk, one at a time.
    pub(crate) scrubs: Turns,
    /// How the last verification went that came to its end.
    pub(crate) last_verified: Mutex<Option<Verified>>,
    /// The reads of many keys.
    pub(crate) long_reads: Turns,
    pub(crate) failures: Arc<Failures>,
    pub(crate) audit: audit::Log,
    pub(crate) tls: Tls,
    /// Who is connected to the data plane.
    pub(crate) sessions: Sessions,
    /// When the last backup of this process was taken, in unix milliseconds; 0 before.
    pub(crate) last_backup_ms: AtomicU64,
    /// Whether clients and the office are left to other nodes.
    pub(crate) draining: AtomicBool,
    /// The logins of those who have no connection to keep them.
    pub(crate) tokens: Tokens,
    policy: ArcSwap<Policy>,
    /// The work that waits for this node to lead.
    bootstrapping: Mutex<Option<tokio::task::AbortHandle>>,
    /// The work that writes down when this node's state is found wrong.
    watching: Mutex<Option<tokio::task::AbortHandle>>,
    /// Whether opening the door created the configured administrator, or gave it the configured password.
    administrator_taken_over: AtomicBool,
    /// Held while the policy is read anew, so that it only moves forward.
    reading: Mutex<()>,
    /// Held while access rules are changed here, so that changes of this node do not defeat each other.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

/// Why a door does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The access records cannot be understood, or a password cannot be hashed.
    #[error(transparent)]
    Refused(#[from] ErrorReply),
    /// The audit log was changed by somebody, or cannot be written.
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// The administrator could not be made durable.
    #[error("the configured administrator could not be stored: {0}")]
    Node(#[from] ProposeError),
}

impl Door {
    /// Opens the door to `node`.
    ///
    /// Where login is required and this node leads, the configured administrator is taken over: on the first
    /// start, and later only when an explicit pair differs from the one that was last taken over. Then the
    /// named user is created or gets that password, holds the role `admin` and is enabled. Nobody else is
    /// touched, and a password changed by ALTER USER stays as long as the configuration does.
    ///
    /// # Errors
    /// `SRV-028` when the audit log does not verify, `SRV-004` when it cannot be written, `SRV-026` when access records are unreadable, `SRV-009` when hashing fails, or why the administrator
    /// could not be stored.
    pub async fn open(node: Node, settings: Settings) -> Result<Self, OpenError> {
        let audit = settings.audit.clone();
        let audit = tokio::task::spawn_blocking(move || audit::Log::open(audit));
        let audit = audit.await.map_err(|_| refusal::closed())??;
        Self::open_with(node, settings, audit).await
    }

    /// Opens the door over an audit log that is open.
    pub(crate) async fn open_with(
        node: Node,
        settings: Settings,
        audit: audit::Log,
    ) -> Result<Self, OpenError> {
        let Settings { authentication, lockout, limits, backups, report, .. } = settings;
        let (administrator, accepts_well_known) = match authentication {
            Authentication::Required { administrator, accepts_well_known } => {
                (Some(administrator), accepts_well_known)
            }
            Authentication::Disabled => (None, true),
        };
        let door = Self(Arc::new(Inner {
            limits,
            report,
            requires_login: administrator.is_some(),
            accepts_well_known,
            has_default_credentials: administrator.as_ref().is_some_and(Administrator::is_well_known),
            counters: Counters::default(),
            latencies: Latencies::default(),
            hasher: Hasher::new().await?,
            documents: Turns::new(DOCUMENTS_AT_ONCE_MAX),
            backups,
            backup_files: Turns::new(BACKUP_FILES_AT_ONCE_MAX),
            transfers: Turns::new(TRANSFERS_AT_ONCE_MAX),
            audit_reads: Turns::new(AUDIT_READS_AT_ONCE_MAX),
            scrubs: Turns::new(1),
            last_verified: Mutex::default(),
            long_reads: Turns::new(LONG_READS_AT_ONCE_MAX),
            failures: Failures::new(lockout),
            audit,
            tls: Tls::default(),
            sessions: Sessions::default(),
            last_backup_ms: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            tokens: Tokens::default(),
            policy: ArcSwap::default(),
            bootstrapping: Mutex::default(),
            watching: Mutex::default(),
            administrator_taken_over: AtomicBool::new(false),
            reading: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            reader: node.local().reader,
            node,
        }));
        door.read_policy()?;
        if door.0.node.desk().is_some() {
            *door.0.watching.lock() = Some(tokio::spawn(door.clone().watch_quarantine()).abort_handle());
        }
        match administrator {
            Some(administrator) if door.0.node.desk().is_some() => door.bootstrap_in_office(administrator),
            Some(administrator) => door.bootstrap(&administrator).await?,
            None => {}
        }
        Ok(door)
    }

    /// Whether opening the door made the configured credentials valid, rather than finding them taken over.
    #[must_use]
    pub fn administrator_taken_over(&self) -> bool {
        self.0.administrator_taken_over.load(Ordering::Relaxed)
    }

    /// Whether anybody could log in with the documented default pair now.
    ///
    /// # Errors
    /// `SRV-009` when the stored hash is unreadable, `SRV-026` when access records are.
    pub async fn lets_the_default_pair_in(&self) -> Result<bool, ErrorReply> {
        if !self.0.requires_login || !self.0.accepts_well_known {
            return Ok(false);
        }
        let Administrator { user, password, .. } = Administrator::default();
        let Some(hash) = self.policy()?.password_hash(&user).map(str::to_owned) else { return Ok(false) };
        self.0.hasher.verify(password, Some(hash)).await
    }

    /// Writes the rest of the audit log and closes it. Call it when nobody is served any more.
    pub async fn close(&self) {
        for task in [self.0.bootstrapping.lock().take(), self.0.watching.lock().take()].into_iter().flatten()
        {
            task.abort();
        }
        let audit = self.0.audit.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || audit.close()).await {
            tracing::error!(%error, "the audit log was not closed");
        }
    }

    /// The size limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The metrics of this server.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Somebody new: nobody yet, or `anonymous` on a server without authentication. `connection_id` names the
    /// connection in the audit log; 0 is the server itself.
    #[must_use]
    pub fn arrival(&self, connection_id: u64, peer: SocketAddr) -> Visitor {
        let identity = (!self.0.requires_login).then(|| Identity::anonymous(self.0.policy.load().revision()));
        Visitor::new(self.clone(), connection_id, peer, identity)
    }

    /// The same for a connection that lasts: it is listed among the sessions until it is dropped.
    #[must_use]
    pub fn session(&self, connection_id: u64, peer: SocketAddr) -> Visitor {
        let visitor = self.arrival(connection_id, peer);
        self.0.sessions.add(&visitor);
        visitor
    }

    /// Somebody whose certificate, which the listener has verified, names `user`: they are that user if that user may log in now.
    /// Nothing counts for the lockout, for nobody can guess a certificate. With `is_new` a success is an event as a login is; a
    /// failure always is.
    ///
    /// # Errors
    /// `SRV-008` for a user who is unknown or disabled, `SRV-004` when that cannot be written down, `SRV-005` while no users are
    /// known.
    pub async fn arrival_with_certificate(
        &self,
        connection_id: u64,
        peer: SocketAddr,
        request: RequestId,
        (user, fingerprint): (&str, &str),
        is_new: bool,
    ) -> Result<Visitor, ErrorReply> {
        let mut visitor = self.arrival(connection_id, peer);
        if !self.0.requires_login {
            return Ok(visitor);
        }
        let is_informed = self.0.node.is_informed();
        let identity = {
            let policy = self.policy()?;
            match policy.identify(user) {
                Some(identity) => Ok(identity),
                None if is_informed && !policy.users().is_empty() => Err(refusal::login_failed()),
                None => Err(refusal::uninformed()),
            }
        };
        if identity.is_ok() && !is_new {
            visitor.become_(identity.ok());
            return Ok(visitor);
        }
        let ticket = visitor.wait_for_ticket(request, Some(Opcode::Auth), Instant::now()).await;
        let mut ticket = match ticket {
            ControlFlow::Continue(ticket) => ticket,
            ControlFlow::Break(answer) => return Err(refused(answer)),
        };
        let text = |text: &str| Text::from(text);
        let details = [
            ("certificate", &text(fingerprint)),
            ("method", &text("certificate")),
            ("username", &text(user)),
        ];
        ticket.set_subject(Some(Subject::new("auth", &details)));
        match identity {
            Ok(identity) => {
                visitor.become_(Some(identity));
                self.0.counters.increment(Metric::LoginsSucceeded);
                ticket.answer(Ok(Reply::Ok)).give()?;
                Ok(visitor)
            }
            Err(refusal) => {
                self.0.counters.increment(Metric::LoginsFailed);
                tracing::warn!(peer = %peer.ip(), "login by certificate failed");
                Err(refused(ticket.refuse(refusal)))
            }
        }
    }

    /// Checks a password; on success the visitor is that user. On a server without authentication everybody is
    /// `anonymous`.
    ///
    /// A wrong password and an unknown or disabled user take the same time and get the same answer (`SRV-008`).
    /// Too many of them, and the answer is `SRV-031` for a while, without any work; see [`Lockout`]. Hashing runs
    /// elsewhere, a few at a time, so this waits under load.
    pub async fn login(&self, visitor: &mut Visitor, login: Login) -> Answer {
        let Login { user, password, ticket } = login;
        match self.authenticate(&user, &password, visitor.peer()).await {
            Ok(identity) => {
                visitor.become_(Some(identity));
                ticket.answer(Ok(Reply::Ok))
            }
            Err(refusal) => ticket.refuse(refusal),
        }
    }

    /// How long logins of this user from this address are refused, if they are (`SRV-031`).
    #[must_use]
    pub fn locked_for(&self, user: &str, peer: SocketAddr) -> Option<std::time::Duration> {
        self.0.failures.locked_for(user, peer.ip(), Instant::now())
    }

    async fn authenticate(
        &self,
        user: &str,
        password: &str,
        peer: SocketAddr,
    ) -> Result<Identity, ErrorReply> {
        if !self.0.requires_login {
            return Ok(Identity::anonymous(self.policy()?.revision()));
        }
        let attempt = self.0.failures.attempt(user, peer.ip()).await.map_err(|left| {
            self.0.counters.increment(Metric::LoginsLocked);
            refusal::locked(user, left)
        })?;
        // Judged when the user is looked up: what comes while the password is hashed comes too late for this attempt.
        let is_informed = self.0.node.is_informed();
        let policy = self.policy()?;
        let knows_users = is_informed && !policy.users().is_empty();
        let hash = policy.password_hash(user).map(str::to_owned);
        drop(policy);
        let is_right = self.0.hasher.verify(Secret::from(password), hash.clone()).await?;
        let is_acceptable = self.0.accepts_well_known || !is_well_known(user, password);
        // The rules may have moved on meanwhile: the same hash must still be the one that counts.
        let policy = self.policy()?;
        let identity = policy.identify(user).filter(|_| policy.password_hash(user) == hash.as_deref());
        let now = Instant::now();
        match identity {
            Some(identity) if is_right && is_acceptable => {
                attempt.succeeded(now);
                self.0.counters.increment(Metric::LoginsSucceeded);
                Ok(identity)
            }
            _ if hash.is_none() && !knows_users => {
                // Perhaps the user is only not known here yet: no reason to count it against anybody.
                Err(refusal::uninformed())
            }
            _ => {
                let has_locked = attempt.failed(now);
                self.0.counters.increment(Metric::LoginsFailed);
                tracing::warn!(peer = %peer.ip(), locked = has_locked, "login failed");
                Err(refusal::login_failed())
            }
        }
    }

    /// Lets a command in or refuses it; see the order of checks in the [crate's documentation](crate).
    ///
    /// The visitor is brought up to date when the access rules have changed, and is nobody when that user is gone.
    pub fn admit(
        &self,
        visitor: &mut Visitor,
        standing: Standing,
        command: Command,
        ticket: Ticket,
    ) -> Admission {
        match self.decide(visitor, standing, command, ticket) {
            Ok(admission) => admission,
            Err(refused) => {
                let Refused { ticket, refusal } = *refused;
                let is_expired = refusal.known_code() == Some(Code::TransactionExpired);
                let answer = ticket.refuse(refusal);
                if is_expired { Admission::Expired(answer) } else { Admission::Refused(answer) }
            }
        }
    }

    fn decide(
        &self,
        visitor: &mut Visitor,
        standing: Standing,
        command: Command,
        mut ticket: Ticket,
    ) -> Result<Admission, Box<Refused>> {
        macro_rules! check {
            ($decision:expr) => {
                match $decision {
                    Ok(decided) => decided,
                    Err(refusal) => return Err(Box::new(Refused { ticket, refusal })),
                }
            };
        }
        check!(quota::check(&command, self.limits()));
        ticket.set_subject(Subject::of(&command));
        let command = match command {
            Command::Auth { user, password } => {
                return Ok(Admission::Login(Login { user, password, ticket }));
            }
            other => other,
        };
        visitor.end_if_told();
        let policy = check!(self.policy());
        let revision = policy.revision();
        if visitor.identity().is_some_and(|who| who.revision() != revision) {
            if standing.writes_in_flight {
                return Ok(Admission::AfterWrites(Postponed { command, ticket }));
            }
            visitor.renew(&policy);
        }
        let in_maintenance = policy.in_maintenance();
        drop(policy);
        let who = visitor.identity();
        let rule = Rule::of(&command);
        if who.is_none() && rule.need != Need::Nothing {
            self.0.counters.increment(Metric::LoginsFailed);
            check!(Err(refusal::login_required()));
        }
        let queued = check!(self.check_transaction_time(standing.transaction));
        if in_maintenance && !rule.in_maintenance {
            check!(Err(refusal::in_maintenance()));
        }
        // DISCARD of an open transaction writes nothing: it needs no leader.
        let is_discarding = queued.is_some() && command == Command::Discard;
        if rule.leader_only && !is_discarding && !self.leads() {
            check!(Err(refusal::not_leader(self.0.node.leader().as_ref())));
        }
        if self.0.node.is_quarantined() && !is_discarding && !Rule::needs_no_state(&command) {
            check!(Err(refusal::quarantined()));
        }
        match (&command, queued) {
            (Command::Multi, None) => return Ok(Admission::Begin(ticket.answer_at_once(Ok(Reply::Ok)))),
            (Command::Multi, Some(_)) => check!(Err(refusal::transaction_active())),
            (Command::Exec | Command::Discard, None) => check!(Err(refusal::no_transaction())),
            (Command::Exec, Some(_)) => return Ok(Admission::Commit(ticket)),
            (Command::Discard, Some(_)) => {
                return Ok(Admission::Discard(ticket.answer_at_once(Ok(Reply::Ok))));
            }
            // MULTI takes one of the places.
            (_, Some(queued)) if queued + 1 >= self.limits().transaction_commands_max => {
                check!(Err(refusal::quota_exceeded()));
            }
            (_, Some(_)) if rule.in_transaction == InTransaction::Refused => {
                check!(Err(refusal::not_in_transaction()));
            }
            _ => {}
        }
        check!(check_permission(rule.need, who, &command));
        let way = match rule.in_transaction {
            InTransaction::Queued if rule.leader_only => Way::Write,
            InTransaction::Queued => Way::Read,
            InTransaction::Immediate | InTransaction::Refused => Way::Other,
        };
        let (caller, fresh) = (visitor.connection_id(), visitor.reads_fresh());
        let pass = Pass { command, caller, who: who.cloned(), revision, way, fresh };
        let admitted = Admitted { pass, ticket };
        Ok(if queued.is_some() { Admission::Queue(admitted) } else { Admission::Run(admitted) })
    }

    /// How many commands an open transaction holds.
    fn check_transaction_time(&self, transaction: Transaction) -> Result<Option<usize>, ErrorReply> {
        match transaction {
            Transaction::Closed => Ok(None),
            Transaction::Open { age, .. } if age > self.limits().transaction_time_max => {
                Err(refusal::transaction_expired(self.limits().transaction_time_max.as_secs()))
            }
            Transaction::Open { queued, .. } => Ok(Some(queued)),
        }
    }

    /// Admits once more under the rules as they are now: those that admitted it first have changed.
    ///
    /// # Errors
    /// `SRV-007` when the user is gone, `SRV-033` when maintenance mode has been turned on, `SRV-017` when the
    /// permission is gone.
    pub(crate) fn readmit(&self, pass: &mut Pass) -> Result<(), ErrorReply> {
        let policy = self.policy()?;
        if pass.revision == policy.revision() {
            return Ok(());
        }
        if let Some(who) = &pass.who {
            pass.who = Some(policy.renew(who).ok_or_else(refusal::login_required)?);
        }
        let rule = Rule::of(&pass.command);
        if policy.in_maintenance() && !rule.in_maintenance {
            return Err(refusal::in_maintenance());
        }
        check_permission(rule.need, pass.who.as_ref(), &pass.command)?;
        pass.revision = policy.revision();
        Ok(())
    }

    /// The access rules of the state as it is now. Costs two loads while they do not change.
    pub(crate) fn policy(&self) -> Result<Guard<Arc<Policy>>, ErrorReply> {
        let policy = self.0.policy.load();
        if policy.revision() == self.0.reader.access_revision() {
            return Ok(policy);
        }
        drop(policy);
        self.read_policy()?;
        Ok(self.0.policy.load())
    }

    /// Reads the access rules anew if the state's are newer.
    fn read_policy(&self) -> Result<(), ErrorReply> {
        let _reading = self.0.reading.lock();
        let root = self.0.reader.root();
        let revision = root.access_revision();
        if self.0.policy.load().revision() != revision {
            let policy = if self.0.requires_login {
                Policy::decode(revision, records(&root))?
            } else {
                Policy::without_users(revision, root.system_get(MAINTENANCE_KEY).map(|bytes| &**bytes))?
            };
            self.0.policy.store(Arc::new(policy));
        }
        Ok(())
    }

    /// Writes down when the state of this node is found to be wrong, and when it has been learnt anew, for ever.
    async fn watch_quarantine(self) {
        let mut imposed = false;
        loop {
            self.0.node.quarantine_changed(imposed).await;
            imposed = !imposed;
            let event_type = if imposed { "state_diverged" } else { "state_relearned" };
            let index = self.0.node.status().applied_index.to_string();
            let event = audit::Event::runtime(audit::now_ms(), event_type, &[("applied_index", &index)]);
            self.0.audit.write(event, None, audit::Noise::Command);
        }
    }

    /// Takes the administrator over as soon as this node leads its cluster, which need not ever be.
    fn bootstrap_in_office(&self, administrator: Administrator) {
        let door = self.clone();
        let task = tokio::spawn(async move {
            loop {
                door.0.node.led().await;
                match door.bootstrap(&administrator).await {
                    Ok(()) if door.leads() => return,
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(%error, "the configured administrator was not taken over; trying again");
                        tokio::time::sleep(BOOTSTRAP_RETRY_EVERY).await;
                    }
                }
            }
        });
        *self.0.bootstrapping.lock() = Some(task.abort_handle());
    }

    async fn bootstrap(&self, administrator: &Administrator) -> Result<(), OpenError> {
        if !self.leads() || !self.is_bootstrap_due(administrator).await? {
            return Ok(());
        }
        let hash = self.0.hasher.hash(administrator.password.clone()).await?;
        let _changing = self.0.changing.lock().await;
        for _ in 0..ADMISSIONS_MAX {
            let (revision, edits) = {
                let policy = self.policy()?;
                (policy.revision(), change::bootstrap(&policy, &administrator.user, &hash)?)
            };
            match self.propose_edits(revision, edits).await {
                Ok(()) => {
                    self.0.administrator_taken_over.store(true, Ordering::Relaxed);
                    let user = &administrator.user;
                    tracing::info!(%user, "the configured administrator was taken over: it was made, or got that password");
                    let event =
                        Event::runtime(audit::now_ms(), "administrator_configured", &[("target_user", user)]);
                    let mut place = self.0.audit.places(1).await;
                    self.0.audit.write(event, place.as_mut(), Noise::Command);
                    return Ok(());
                }
                Err(ProposeError::Stale) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(refusal::contended().into())
    }

    /// Whether the configured pair has to be taken over.
    async fn is_bootstrap_due(&self, administrator: &Administrator) -> Result<bool, ErrorReply> {
        let Some(applied) = self.policy()?.bootstrap().cloned() else { return Ok(true) };
        if !administrator.explicit {
            return Ok(false);
        }
        let is_same = administrator.user == applied.user
            && self.0.hasher.verify(administrator.password.clone(), Some(applied.password_hash)).await?;
        Ok(!is_same)
    }

    /// Whether this node takes writes. A lone node proves it without looking further.
    pub(crate) fn leads(&self) -> bool {
        self.0.node.try_read().is_some() || self.0.node.leads()
    }

    /// Proposes edits that were computed at `revision`.
    pub(crate) async fn propose_edits(&self, revision: u64, edits: Vec<Edit>) -> Result<(), ProposeError> {
        let changes = edits.into_iter().map(Edit::into_change).collect();
        let payload = Payload::System { expect_revision: revision, changes };
        self.0
            .node
            .propose(Proposal { span: Span::none(), caller: NODE_ITSELF, access_revision: revision, payload })
            .await
            .map(drop)
    }
}

/// A request that is not let in.
struct Refused {
    ticket: Ticket,
    refusal: ErrorReply,
}

fn records(root: &Root) -> impl Iterator<Item = (&str, &[u8])> {
    root.system_iter(record::PREFIX).map(|(key, bytes)| (key, &**bytes))
}

fn check_permission(need: Need, who: Option<&Identity>, command: &Command) -> Result<(), ErrorReply> {
    let is_allowed = match (need, who) {
        (Need::Nothing, _) | (Need::Login, Some(_)) => true,
        (_, None) => return Err(refusal::login_required()),
        (Need::Everywhere(permission), Some(who)) => who.rights().allow_everywhere(permission.into()),
        (Need::Keys(needed), Some(who)) => {
            let rights = who.rights();
            let everywhere = rights.allow_everywhere(needed);
            everywhere || rule::every_key(command, |key| rights.allow_key(needed, key))
        }
        (Need::Pattern(needed), Some(who)) => {
            let pattern = match command {
                Command::Scan { pattern: Some(pattern), .. } => pattern,
                _ => crate::grant::EVERYWHERE,
            };
            who.rights().allow_pattern(needed, pattern)
        }
    };
    if is_allowed { Ok(()) } else { Err(refusal::denied()) }
}

/// What a refusing answer says.
fn refused(answer: Answer) -> ErrorReply {
    match answer.give() {
        Err(refusal) => refusal,
        Ok(_) => refusal::closed(),
    }
}
