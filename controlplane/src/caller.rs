//! Who asks, and the way through the door.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};
use parking_lot::Mutex;
use tracing::Span;
use uuid::Uuid;
use vaylix_access::{
    Admission, Admitted, AdmittedTask, Answer, Door, Outcome, Standing, Task, Ticket, Token, Visitor, Vitals,
};
use vaylix_admin_proto::v1::ResponseHeader;
use vaylix_proto::{Code, Command, Reply};

use crate::caps::AUTHORIZATION_BYTES_MAX;
use crate::cookie::{self, Jar};
use crate::fault::Fault;
use crate::listener::{Guest, Shown};
use crate::metrics::Surface;
use crate::stage::Stage;

/// Where a request comes from and what it brings to prove who it is from. Put on every request before its handler.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) stage: Stage,
    pub(crate) peer: SocketAddr,
    pub(crate) connection_id: u64,
    pub(crate) request_id: Uuid,
    /// Of the request; disabled if nobody follows it.
    span: Span,
    proof: Proof,
    /// Whether the connection is encrypted.
    is_encrypted: bool,
    /// Where a browser keeps a token of this server; none where browsers do not ask, and before the server is ready.
    jar: Option<Jar>,
    /// What the answer has the browser do with it.
    kept: Arc<Mutex<Option<HeaderValue>>>,
}

/// What a request brings.
#[derive(Clone)]
enum Proof {
    Nothing,
    Password {
        user: String,
        password: String,
    },
    Token(String),
    /// A token that a browser sent by itself. Whether the page that it belongs to has confirmed the request, or it is one that
    /// changes nothing.
    Cookie {
        token: String,
        is_confirmed: bool,
    },
    Certificate(Arc<Shown>),
    Unreadable,
}

impl Proof {
    fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Self::Nothing };
        // Of two nobody knows which is meant.
        if values.next().is_some() {
            return Self::Unreadable;
        }
        let readable = value.to_str().ok().filter(|text| text.len() <= AUTHORIZATION_BYTES_MAX);
        let Some((scheme, rest)) = readable.and_then(|text| text.split_once(' ')) else {
            return Self::Unreadable;
        };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
            return Self::Token(rest.to_owned());
        }
        let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(rest).ok()).flatten();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|text| text.split_once(':')) {
            Some((user, password)) => Self::Password { user: user.to_owned(), password: password.to_owned() },
            None => Self::Unreadable,
        }
    }
}

impl Origin {
    pub(crate) fn new(
        stage: Stage,
        guest: Guest,
        request_id: Uuid,
        span: Span,
        surface: Surface,
        (method, headers): (&Method, &HeaderMap),
    ) -> Self {
        let Guest { peer, id: connection_id, is_encrypted, shown, .. } = guest;
        let jar = if surface == Surface::Http { stage.jar(is_encrypted) } else { None };
        let token = jar.as_ref().and_then(|jar| jar.token(headers));
        // The header decides alone: what it proves, or fails to prove, is never mixed with anything else. So does a cookie
        // where there is no header.
        let proof = match (Proof::of(headers), token, shown) {
            (Proof::Nothing, Some(token), _) => {
                let changes_nothing = [Method::GET, Method::HEAD].contains(method);
                let is_confirmed = changes_nothing || cookie::is_confirmed(&token, headers);
                Proof::Cookie { token, is_confirmed }
            }
            (Proof::Nothing, None, Some(shown)) => Proof::Certificate(shown),
            (proof, ..) => proof,
        };
        let kept = Arc::default();
        Self { stage, peer, connection_id, request_id, span, proof, is_encrypted, jar, kept }
    }

    /// Has the browser keep this token.
    ///
    /// # Errors
    /// `SRV-030` where no browser asks.
    pub(crate) fn keep(&self, token: &str) -> Result<(), Fault> {
        let line = self.jar.as_ref().and_then(|jar| jar.keep(token));
        let line = line.ok_or_else(|| Fault::field("cookie", "only requests over HTTP get one"))?;
        *self.kept.lock() = Some(line);
        Ok(())
    }

    /// Has the browser throw its token away, if it sent one that the page has confirmed.
    pub(crate) fn throw_away(&self) {
        if let (Proof::Cookie { is_confirmed: true, .. }, Some(jar)) = (&self.proof, &self.jar) {
            *self.kept.lock() = jar.empty();
        }
    }

    /// What the answer has the browser do with its token.
    pub(crate) fn kept(&self) -> Arc<Mutex<Option<HeaderValue>>> {
        Arc::clone(&self.kept)
    }

    /// Whether a browser sent a token by itself.
    pub(crate) fn is_by_cookie(&self) -> bool {
        matches!(self.proof, Proof::Cookie { .. })
    }

    /// Whether it is a change by a cookie alone, which might be anybody's page.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        matches!(self.proof, Proof::Cookie { is_confirmed: false, .. })
    }

    /// Whoever the request proves to be from; nobody without a proof.
    ///
    /// # Errors
    /// `SRV-005` before the server is ready, `SRV-007` for a proof that cannot be read, a token that is not in force or a
    /// certificate that names nobody, `SRV-008` and `SRV-031` as AUTH refuses, `SRV-017` for a change by cookie alone.
    pub(crate) async fn identify(&self) -> Result<Caller, Fault> {
        let door = self.stage.door().ok_or_else(Fault::starting)?;
        match &self.proof {
            Proof::Nothing => Ok(self.caller(&door, door.arrival(self.connection_id, self.peer))),
            Proof::Cookie { is_confirmed: false, .. } => Err(Fault::unconfirmed()),
            Proof::Token(token) | Proof::Cookie { token, is_confirmed: true } => {
                let visitor = door.arrival_with_token(self.connection_id, self.peer, token)?;
                Ok(self.caller(&door, visitor))
            }
            Proof::Password { user, password } => {
                let mut caller = self.caller(&door, door.arrival(self.connection_id, self.peer));
                caller.log_in(user, password).await?;
                Ok(caller)
            }
            Proof::Certificate(shown) => self.identify_by(&door, shown).await,
            Proof::Unreadable => Err(Fault::new(
                Code::AuthenticationRequired,
                "client authentication is required: the authorization header is neither Basic nor Bearer, or there is more than \
                 one",
            )),
        }
    }

    async fn identify_by(&self, door: &Door, shown: &Shown) -> Result<Caller, Fault> {
        let Some(user) = &shown.user else {
            return Err(Fault::new(
                Code::AuthenticationRequired,
                "client authentication is required: the client certificate names no user, or more than one",
            ));
        };
        if !shown.is_in_force() {
            return Err(certificate_over());
        }
        let is_new = !shown.is_known.load(Ordering::Acquire);
        let named = (user.as_str(), shown.fingerprint.as_str());
        let id = self.request_id.into_bytes();
        let visitor = door.arrival_with_certificate(self.connection_id, self.peer, id, named, is_new).await?;
        shown.is_known.store(true, Ordering::Release);
        Ok(self.caller(door, visitor))
    }

    /// Nobody yet, whatever the request brings.
    ///
    /// # Errors
    /// `SRV-005` before the server is ready.
    pub(crate) fn nobody(&self) -> Result<Caller, Fault> {
        let door = self.stage.door().ok_or_else(Fault::starting)?;
        Ok(self.caller(&door, door.arrival(self.connection_id, self.peer)))
    }

    /// What addresses of other nodes begin with: they serve as this one does.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.is_encrypted { "https" } else { "http" }
    }

    /// The token the request came with.
    pub(crate) fn token(&self) -> Option<&str> {
        match &self.proof {
            Proof::Token(token) | Proof::Cookie { token, .. } => Some(token),
            Proof::Nothing | Proof::Password { .. } | Proof::Certificate(_) | Proof::Unreadable => None,
        }
    }

    fn caller(&self, door: &Door, visitor: Visitor) -> Caller {
        Caller {
            door: door.clone(),
            visitor,
            token: self.token().map(str::to_owned),
            shown: match &self.proof {
                Proof::Certificate(shown) => Some(Arc::clone(shown)),
                _ => None,
            },
            peer: self.peer,
            request_id: self.request_id,
            span: self.span.clone(),
        }
    }
}

fn certificate_over() -> Fault {
    Fault::new(
        Code::AuthenticationRequired,
        "client authentication is required: the client certificate has expired, or no authority in force vouches for it",
    )
}

/// Somebody at the door.
pub(crate) struct Caller {
    door: Door,
    visitor: Visitor,
    /// What it was let in by, if by a token.
    token: Option<String>,
    /// The same for a certificate.
    shown: Option<Arc<Shown>>,
    peer: SocketAddr,
    request_id: Uuid,
    span: Span,
}

impl Caller {
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// Proves to be a user.
    ///
    /// # Errors
    /// As AUTH refuses.
    pub(crate) async fn log_in(&mut self, user: &str, password: &str) -> Result<(), Fault> {
        let command = Command::Auth { user: user.into(), password: password.into() };
        match self.ask(command).await? {
            Admission::Login(login) => {
                let refused = match self.door.login(&mut self.visitor, login).await.give() {
                    Ok(_) => return Ok(()),
                    Err(refused) => Fault::from(refused),
                };
                let is_locked = refused.code() == Some(Code::AuthenticationLocked);
                let wait = is_locked.then(|| self.door.locked_for(user, self.peer)).flatten();
                Err(refused.after(wait))
            }
            other => Err(refused(other)),
        }
    }

    /// A token for whoever this is; one that a browser keeps can be renewed.
    ///
    /// # Errors
    /// As the door refuses.
    pub(crate) fn token(&self, for_browser: bool) -> Result<Token, Fault> {
        Ok(self.door.issue_token(&self.visitor, for_browser)?)
    }

    /// Has a command let in.
    ///
    /// # Errors
    /// As the door refuses; what only the leader can do names the leader.
    pub(crate) async fn admit(&mut self, command: Command) -> Result<Admitted, Fault> {
        let fault = match self.ask(command).await? {
            Admission::Run(admitted) => return Ok(admitted),
            other => refused(other),
        };
        Err(self.with_leader(fault).await)
    }

    /// Has a command let in and carried out.
    ///
    /// # Errors
    /// As the door refuses, or why it failed.
    pub(crate) async fn run(&mut self, command: Command) -> Result<Reply, Fault> {
        let admitted = self.admit(command).await?;
        match self.door.execute(admitted).await.give() {
            Ok(reply) => Ok(reply),
            Err(refusal) => Err(self.with_leader(refusal.into()).await),
        }
    }

    /// Has a task let in.
    ///
    /// # Errors
    /// As the door refuses; what only the leader can do names the leader.
    pub(crate) async fn admit_task(&mut self, task: Task) -> Result<AdmittedTask, Fault> {
        let ticket = self.visitor.task_ticket(self.request_id.into_bytes(), &task, Instant::now()).await;
        let admitted = match ticket {
            ControlFlow::Continue(ticket) => {
                self.door.admit_task(&mut self.visitor, task, ticket.within(self.span.clone()))
            }
            ControlFlow::Break(answer) => Err(Box::new(answer)),
        };
        match admitted {
            Ok(admitted) => Ok(admitted),
            Err(answer) => Err(self.with_leader(given(*answer)).await),
        }
    }

    /// Has a task let in and carried out.
    ///
    /// # Errors
    /// As the door refuses, or why it failed.
    pub(crate) async fn perform(&mut self, task: Task) -> Result<Outcome, Fault> {
        let admitted = self.admit_task(task).await?;
        match self.door.perform(admitted).await {
            Ok(outcome) => Ok(outcome),
            Err(refusal) => Err(self.with_leader(refusal.into()).await),
        }
    }

    /// Whether the right to a task that was let in still holds, and the token too, if it was let in by one: what was opened
    /// with it ends with it.
    ///
    /// # Errors
    /// As the door would refuse now.
    pub(crate) fn check_right(&mut self, task: &Task) -> Result<(), Fault> {
        self.check_token()?;
        Ok(self.door.check_right(&mut self.visitor, task)?)
    }

    /// Whether the token or the certificate is still in force, if there was one.
    ///
    /// # Errors
    /// `SRV-007` when it is not.
    pub(crate) fn check_token(&self) -> Result<(), Fault> {
        if self.shown.as_ref().is_some_and(|shown| !shown.is_in_force()) {
            return Err(certificate_over());
        }
        match &self.token {
            Some(token) => Ok(self.door.check_token(token)?),
            None => Ok(()),
        }
    }

    /// The header of an answer, as things are now.
    pub(crate) fn header(&self) -> Option<ResponseHeader> {
        Some(header(&self.door.vitals()))
    }

    async fn ask(&mut self, command: Command) -> Result<Admission, Fault> {
        let ticket = self.ticket(&command).await?;
        Ok(self.door.admit(&mut self.visitor, Standing::default(), command, ticket))
    }

    async fn ticket(&self, command: &Command) -> Result<Ticket, Fault> {
        let (id, opcode, now) = (self.request_id.into_bytes(), Some(command.opcode()), Instant::now());
        if let Some(ticket) = self.visitor.ticket(id, opcode, now) {
            return Ok(ticket.within(self.span.clone()));
        }
        match self.visitor.wait_for_ticket(id, opcode, now).await {
            ControlFlow::Continue(ticket) => Ok(ticket.within(self.span.clone())),
            ControlFlow::Break(answer) => Err(given(answer)),
        }
    }

    /// Where the control plane of the leader is, if it has one and answers.
    pub(crate) async fn leader_admin_address(&self) -> Option<String> {
        self.door.leader_admin_address().await
    }

    async fn with_leader(&self, fault: Fault) -> Fault {
        if fault.code() == Some(Code::FollowerWriteRejected) {
            let address = self.leader_admin_address().await;
            return fault.at_leader(address);
        }
        fault
    }
}

/// Where an answer comes from.
pub(crate) fn header(vitals: &Vitals) -> ResponseHeader {
    ResponseHeader {
        cluster_id: vitals.cluster_id.clone(),
        node_id: vitals.node_id.clone(),
        node_name: vitals.node_name.clone(),
        term: vitals.term,
        applied_index: vitals.applied_index,
    }
}

/// Why a command was not let in. What belongs to sessions with transactions is never asked for here.
fn refused(admission: Admission) -> Fault {
    match admission {
        Admission::Refused(answer) | Admission::Expired(answer) => given(answer),
        _ => Fault::new(
            Code::UnsupportedRemoteCommand,
            "unsupported remote command: the control plane knows no transactions",
        ),
    }
}

fn given(answer: Answer) -> Fault {
    match answer.give() {
        Err(refusal) => refusal.into(),
        Ok(_) => Fault::new(Code::UnsupportedRemoteCommand, "unsupported remote command"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(value: &str) -> Proof {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        Proof::of(&headers)
    }

    #[test]
    fn what_proves_who_somebody_is() {
        assert!(matches!(Proof::of(&HeaderMap::new()), Proof::Nothing));
        assert!(matches!(proof("Bearer abc"), Proof::Token(token) if token == "abc"));
        let basic = proof(&format!("basic {}", STANDARD.encode("al:pa:ss")));
        assert!(matches!(basic, Proof::Password { user, password } if user == "al" && password == "pa:ss"));
    }

    #[test]
    fn what_cannot_be_read_is_never_taken_for_nobody() {
        for value in
            ["Basic", "Basic !", "Basic YWI=", "Basic /w==", "Digest x", "Bearer ", &"x".repeat(5000)]
        {
            assert!(matches!(proof(value), Proof::Unreadable), "{value}");
        }
        let mut twice = HeaderMap::new();
        twice.append(AUTHORIZATION, "Bearer a".parse().unwrap());
        twice.append(AUTHORIZATION, "Bearer b".parse().unwrap());
        assert!(matches!(Proof::of(&twice), Proof::Unreadable));
    }
}
