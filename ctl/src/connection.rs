//! Endpoints: which of them is asked, how it is reached, and where a request goes when it is refused there.
//!
//! The first endpoint that answers is kept, so that all requests of one invocation see the same node. Another one is
//! tried only while nothing has been asked for that changes anything.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status};
use vaylix_admin_proto::health::HealthCheckRequest;
use vaylix_admin_proto::health::health_check_response::ServingStatus;
use vaylix_admin_proto::health::health_client::HealthClient;

use crate::error::{Effect, Error, Miss, Verdict, root};
use crate::settings::{Login, Settings, Tls};

/// How long a connection may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take, unless the person says otherwise: a little longer than a server takes at most.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(65);
/// The same for what takes its time: the membership, snapshots and backups.
const LONG_ANSWER_TIME_MAX: Duration = Duration::from_secs(610);
/// How often a connection is asked whether it is still there, and how long that may take.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIME_MAX: Duration = Duration::from_secs(20);
/// The service that is served by a node that takes writes.
const LEADER_SERVICE: &str = "vaylix.data.leader";

/// What kind of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) effect: Effect,
    is_long: bool,
    /// Whether it means this node, and no other one even if that leads.
    stays: bool,
}

impl Kind {
    /// Changes nothing.
    pub(crate) const READ: Self = Self { effect: Effect::Nothing, is_long: false, stays: false };
    /// Changes nothing, and reads much for it.
    pub(crate) const LONG_READ: Self = Self { effect: Effect::Nothing, is_long: true, stays: false };
    /// Changes something.
    pub(crate) const CHANGE: Self = Self { effect: Effect::Change, is_long: false, stays: false };
    /// Changes something, which takes its time.
    pub(crate) const LONG_CHANGE: Self = Self { effect: Effect::Change, is_long: true, stays: false };
    /// The same with something that only this node has.
    pub(crate) const LONG_CHANGE_HERE: Self = Self { effect: Effect::Change, is_long: true, stays: true };
}

/// A node that is connected.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) address: String,
    pub(crate) channel: Channel,
}

/// The way to the control planes.
pub(crate) struct Client {
    endpoints: Vec<String>,
    tls: Option<ClientTlsConfig>,
    authorization: Option<MetadataValue<Ascii>>,
    timeout: Option<Duration>,
    here: Option<Place>,
}

impl Client {
    /// A client that has connected to nobody yet. Without a login, it only gets what everybody gets.
    pub(crate) fn new(settings: &Settings, login: Option<&Login>) -> Result<Self, Error> {
        Ok(Self {
            endpoints: settings.endpoints.clone(),
            tls: settings.tls.as_ref().map(tls).transpose()?,
            authorization: login.map(basic).transpose()?,
            timeout: settings.timeout,
            here: None,
        })
    }

    /// A client of one of the endpoints alone.
    pub(crate) fn of_one(&self, endpoint: &str) -> Self {
        Self {
            endpoints: vec![endpoint.to_owned()],
            tls: self.tls.clone(),
            authorization: self.authorization.clone(),
            timeout: self.timeout,
            here: None,
        }
    }

    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// From now on proves who it is with a token.
    pub(crate) fn use_token(&mut self, token: &str) -> Result<(), Error> {
        self.authorization = Some(sensitive(&format!("Bearer {token}"))?);
        Ok(())
    }

    /// Forgets the connection: the next request makes a new one.
    pub(crate) fn disconnect(&mut self) {
        self.here = None;
    }

    /// Asks, and returns the answer.
    ///
    /// A node that cannot be reached is passed over; so is one whose answer is lost, unless that may have been a change.
    /// What only the leader does is asked once more where a follower says that the leader is.
    pub(crate) async fn call<M: Clone, R>(
        &mut self,
        kind: Kind,
        message: M,
        method: impl AsyncFn(Channel, Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, Error> {
        let mut candidates: VecDeque<String> = match &self.here {
            Some(place) => VecDeque::from([place.address.clone()]),
            None => self.endpoints.iter().cloned().collect(),
        };
        let (mut misses, mut refused) = (Vec::new(), None);
        let mut has_followed = false;
        while let Some(address) = candidates.pop_front() {
            let place = match self.reach(&address).await {
                Ok(place) => place,
                Err(miss) => {
                    misses.push(miss);
                    continue;
                }
            };
            let mut request = self.request(message.clone());
            if let Some(timeout) = self.timeout {
                request.set_timeout(timeout);
            }
            let answer = method(place.channel.clone(), request);
            let status = match tokio::time::timeout(self.patience(kind), answer).await {
                Ok(Ok(response)) => {
                    self.here = Some(place);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            match Verdict::of(&status, kind.effect) {
                Verdict::Refused(refusal) if refusal.is_for_leader() && !has_followed && !kind.stays => {
                    match refusal.leader.clone() {
                        Some(leader) => {
                            has_followed = true;
                            candidates = VecDeque::from([leader]);
                        }
                        // Another endpoint may lead, or know who does.
                        None if !candidates.is_empty() => refused = Some(refusal),
                        None => return Err(Error::Refused(Box::new(refusal))),
                    }
                }
                Verdict::Refused(refusal) => return Err(Error::Refused(Box::new(refusal))),
                Verdict::Lost(reason) if kind.effect == Effect::Change => {
                    return Err(Error::OutcomeUnknown(Miss { address, reason }));
                }
                Verdict::Lost(reason) => misses.push(Miss { address, reason }),
            }
        }
        // Who was reached and said no tells more than those who were not.
        Err(refused.map_or(Error::Unreachable(misses), |refusal| Error::Refused(Box::new(refusal))))
    }

    /// A request by whoever logs in.
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }

    /// The node that all requests go to: the first endpoint that can be reached, unless one has answered before.
    pub(crate) async fn place(&mut self) -> Result<Place, Error> {
        if let Some(place) = &self.here {
            return Ok(place.clone());
        }
        let mut misses = Vec::new();
        for address in self.endpoints.clone() {
            match self.reach(&address).await {
                Ok(place) => {
                    self.here = Some(place.clone());
                    return Ok(place);
                }
                Err(miss) => misses.push(miss),
            }
        }
        Err(Error::Unreachable(misses))
    }

    /// Has all further requests go to the endpoint that leads.
    pub(crate) async fn go_to_leader(&mut self) -> Result<(), Error> {
        let mut misses = Vec::new();
        for address in self.endpoints.clone() {
            let mut one = self.of_one(&address);
            let question = HealthCheckRequest { service: LEADER_SERVICE.to_owned() };
            let health = one
                .call(Kind::READ, question, async |channel, request| {
                    HealthClient::new(channel).check(request).await
                })
                .await;
            match health {
                Ok(answer) if answer.status() == ServingStatus::Serving => {
                    self.here = one.here;
                    return Ok(());
                }
                Err(Error::Unreachable(more)) => misses.extend(more),
                Ok(_) | Err(_) => {}
            }
        }
        if misses.len() == self.endpoints.len() {
            return Err(Error::Unreachable(misses));
        }
        let message = "none of the endpoints leads; name the control plane of the leader with --endpoint";
        Err(Error::Here(message.to_owned()))
    }

    /// What the end of a stream or of an upload at `address` means.
    pub(crate) fn judge(address: &str, status: &Status, effect: Effect) -> Error {
        match Verdict::of(status, effect) {
            Verdict::Refused(refusal) => Error::Refused(Box::new(refusal)),
            Verdict::Lost(reason) => {
                let miss = Miss { address: address.to_owned(), reason };
                match effect {
                    Effect::Change => Error::OutcomeUnknown(miss),
                    Effect::Nothing => Error::Unreachable(vec![miss]),
                }
            }
        }
    }

    /// How long an answer of this kind is waited for.
    fn patience(&self, kind: Kind) -> Duration {
        let usual = if kind.is_long { LONG_ANSWER_TIME_MAX } else { ANSWER_TIME_MAX };
        self.timeout.unwrap_or(usual)
    }

    async fn reach(&self, address: &str) -> Result<Place, Miss> {
        if let Some(place) = self.here.as_ref().filter(|place| place.address == address) {
            return Ok(place.clone());
        }
        let miss = |reason: String| Miss { address: address.to_owned(), reason };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| miss(root(&error)))?
            .connect_timeout(self.timeout.unwrap_or(CONNECT_TIME_MAX).min(CONNECT_TIME_MAX))
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIME_MAX);
        if let Some(tls) = &self.tls {
            endpoint = endpoint.tls_config(tls.clone()).map_err(|error| miss(root(&error)))?;
        }
        // The handshake of TLS has no bound of its own.
        let channel = tokio::time::timeout(CONNECT_TIME_MAX * 2, endpoint.connect())
            .await
            .map_err(|_| miss("no connection in time".to_owned()))?
            .map_err(|error| miss(root(&error)))?;
        Ok(Place { address: address.to_owned(), channel })
    }
}

/// The header that logs in with each request.
fn basic(login: &Login) -> Result<MetadataValue<Ascii>, Error> {
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{}:{}", login.user, login.password))))
}

fn sensitive(text: &str) -> Result<MetadataValue<Ascii>, Error> {
    let mut value: MetadataValue<Ascii> =
        text.parse().map_err(|_| Error::Usage("the login cannot be sent in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn tls(options: &Tls) -> Result<ClientTlsConfig, Error> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
    };
    let mut config = match &options.ca_cert {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((cert, key)) = &options.identity {
        config = config.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(config)
}
