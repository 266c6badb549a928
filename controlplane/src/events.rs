//! Event streams over HTTP (Server-Sent Events), for pages that watch.
//!
//! A stream goes on while its reader takes what is sent, has the right to it, and the server is not told to stop; the last two are
//! said in an event `end`. Whoever does not read is cut off.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use vaylix_admin_proto::v1::{Figures, LiveStatus, NodeStatus, Role, StreamEnd, TailEventsRequest};

use crate::caller::{Caller, Origin};
use crate::caps::{EVENT_SILENCE_MAX, EVENT_STALL_MAX, EVENTS_AHEAD_MAX};
use crate::fault::Fault;
use crate::service::{audit, cluster};
use crate::stage::Stage;

/// A leader that did not say where its control plane is, is asked again after so many looks.
const GUIDE_LOOKS: u32 = 10;

/// What has been, and then the node and its figures each second.
pub(crate) async fn status(stage: Stage, origin: Origin) -> Result<Response, Fault> {
    let mut caller = origin.identify().await?;
    let first = look(&mut caller).await?;
    let (events, response) = open(stage.live().place()?);
    tokio::spawn(async move {
        if let Err(Ended::Because(fault)) = watch(&stage, &mut caller, first, &events).await {
            events.end(&fault).await;
        }
    });
    Ok(response)
}

async fn watch(stage: &Stage, caller: &mut Caller, first: NodeStatus, events: &Events) -> Result<(), Ended> {
    let mut changes = stage.changes();
    let mut figures = stage.live().figures();
    events.send("history", &stage.live().history()).await?;
    let mut guide = Guide::default();
    let newest = *figures.borrow_and_update();
    let leader = guide.look(caller, &first).await;
    events.send("status", &told(first, newest, leader)).await?;
    loop {
        tokio::select! {
            () = events.closed() => return Err(Ended::Gone),
            () = changes.over() => return Err(Ended::Because(Fault::stopping())),
            changed = figures.changed() => {
                // The sender lives as long as the stage.
                changed.map_err(|_| Ended::Because(Fault::stopping()))?;
            }
        }
        let newest = *figures.borrow_and_update();
        caller.check_token()?;
        let status = look(caller).await?;
        let leader = guide.look(caller, &status).await;
        events.send("status", &told(status, newest, leader)).await?;
    }
}

/// Knows where the control plane of the leader is, without asking it for each event.
#[derive(Default)]
struct Guide {
    /// The leader that was asked last, and in which term.
    asked: Option<(String, u64)>,
    /// What it said; empty where it did not.
    address: String,
    /// Looks since then.
    looks: u32,
}

impl Guide {
    /// Where to go for changes; empty where this node takes them, and while it is not known.
    async fn look(&mut self, caller: &Caller, status: &NodeStatus) -> String {
        let leader = status.leader.as_ref().filter(|_| Role::Leader != status.role());
        let Some(leader) = leader else {
            *self = Self::default();
            return String::new();
        };
        let leader = Some((leader.node_id.clone(), status.term));
        self.looks += 1;
        let again = self.address.is_empty() && self.looks >= GUIDE_LOOKS;
        if self.asked != leader || again {
            let address = caller.leader_admin_address().await.unwrap_or_default();
            *self = Self { asked: leader, address, looks: 0 };
        }
        self.address.clone()
    }
}

/// The node now. Who asks must have the right to it at each look.
async fn look(caller: &mut Caller) -> Result<NodeStatus, Fault> {
    Ok(cluster::status(&cluster::overview(caller).await?))
}

fn told(status: NodeStatus, figures: Option<Figures>, leader_admin_address: String) -> LiveStatus {
    LiveStatus { status: Some(status), figures, leader_admin_address }
}

/// The events of the audit log as they come.
pub(crate) async fn audit(
    stage: Stage,
    origin: Origin,
    request: TailEventsRequest,
) -> Result<Response, Fault> {
    let mut found = audit::events(origin, stage.changes(), request).await?;
    let (events, response) = open(stage.live().place()?);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                () = events.closed() => return,
                next = timeout(EVENT_SILENCE_MAX, found.recv()) => next,
            };
            let sent = match next {
                Ok(Some(Ok(told))) => {
                    // A browser that comes again says which one it had last.
                    let sequence = told.event.as_ref().map(|event| event.sequence);
                    events.send_numbered("audit", sequence, &told).await
                }
                Ok(Some(Err(fault))) => return events.end(&fault).await,
                Ok(None) => return,
                Err(_silence) => events.put(Bytes::from_static(b": nothing new\n\n")).await,
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Ok(response)
}

/// Why a stream does not go on.
enum Ended {
    /// Nobody reads it.
    Gone,
    Because(Fault),
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Because(fault)
    }
}

/// The sending side of a stream.
struct Events {
    sender: mpsc::Sender<Bytes>,
    /// For how long what is sent may wait to be read.
    patience: Duration,
    _place: OwnedSemaphorePermit,
}

fn open(place: OwnedSemaphorePermit) -> (Events, Response) {
    let (sender, receiver) = mpsc::channel(EVENTS_AHEAD_MAX);
    let body = Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, Infallible>));
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    let events = Events { sender, patience: EVENT_STALL_MAX, _place: place };
    (events, (headers, body).into_response())
}

impl Events {
    /// Tells an event.
    async fn send(&self, name: &str, data: &impl Serialize) -> Result<(), Ended> {
        self.send_numbered(name, None, data).await
    }

    async fn send_numbered(&self, name: &str, id: Option<u64>, data: &impl Serialize) -> Result<(), Ended> {
        let event = event(name, id, data)?;
        self.put(event).await
    }

    /// Tells why nothing more follows.
    async fn end(&self, fault: &Fault) {
        let (code, detail) = fault.told();
        let end = StreamEnd { code: code.to_owned(), detail: detail.to_owned() };
        // Whoever watched may have gone; then nobody has to be told.
        drop(self.send("end", &end).await);
    }

    async fn put(&self, bytes: Bytes) -> Result<(), Ended> {
        match timeout(self.patience, self.sender.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(Ended::Gone),
            Err(_elapsed) => {
                tracing::debug!(target: "admin.events", "a stream that nobody reads was cut off");
                Err(Ended::Gone)
            }
        }
    }

    async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// An event as it is sent. JSON without line breaks between its parts has none at all.
fn event(name: &str, id: Option<u64>, data: &impl Serialize) -> Result<Bytes, Fault> {
    let data = serde_json::to_string(data).map_err(|_| Fault::nonsense())?;
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    Ok(Bytes::from(format!("event: {name}\n{id}data: {data}\n\n")))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn whatever_an_event_says_stays_in_its_line() {
        let end = StreamEnd { code: "SRV-005".to_owned(), detail: "a\n\nevent: b\r\ndata: c".to_owned() };
        let sent = event("end", None, &end).unwrap();
        let lines: Vec<&str> = std::str::from_utf8(&sent).unwrap().split('\n').collect();
        assert_eq!((lines.len(), lines[0], &lines[2..]), (4, "event: end", &["", ""][..]));
        assert!(lines[1].starts_with("data: {\"code\":\"SRV-005\"") && !lines[1].contains('\r'));
    }

    #[tokio::test]
    async fn who_does_not_read_is_cut_off() {
        let live = crate::live::Live::default();
        let (mut events, response) = open(live.place().unwrap());
        events.patience = Duration::from_millis(50);
        let end = StreamEnd::default();
        for _ in 0..EVENTS_AHEAD_MAX {
            assert!(events.send("x", &end).await.is_ok());
        }
        let begun = Instant::now();
        assert!(matches!(events.send("x", &end).await, Err(Ended::Gone)));
        assert!(begun.elapsed() >= events.patience);
        drop(response);
        assert!(matches!(events.send("x", &end).await, Err(Ended::Gone)));
    }
}
