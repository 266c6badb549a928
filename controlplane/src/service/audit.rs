//! The audit log of the node.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;
use vaylix_access::audit::AuditEvent as Written;
use vaylix_access::{Outcome, Task};
use vaylix_admin_proto::v1::*;

use crate::caller::{Caller, Origin};
use crate::caps::{EVENTS_AHEAD_MAX, PAGE_DEFAULT, PAGE_MAX, WATCH_EVERY};
use crate::fault::Fault;
use crate::stage::Changes;

pub(crate) async fn read(origin: Origin, request: ReadEventsRequest) -> Result<ReadEventsResponse, Fault> {
    let mut caller = origin.identify().await?;
    let admitted = caller.admit_task(Task::ReadAudit).await?;
    caller.door().begin_audit(admitted)?;
    let size = match usize::try_from(request.size).unwrap_or(PAGE_MAX) {
        0 => PAGE_DEFAULT,
        size => size.min(PAGE_MAX),
    };
    let filter = request.filter.unwrap_or_default();
    let cursor = caller.door().audit_cursor(request.after_sequence);
    let (cursor, page) =
        caller.door().read_audit(cursor, size, move |event| is_wanted(&filter, event)).await?;
    Ok(ReadEventsResponse {
        header: caller.header(),
        events: page.events.into_iter().map(shown).collect(),
        next_sequence: cursor.sequence(),
        more: page.more,
    })
}

pub(crate) async fn verify(origin: Origin, _: VerifyAuditRequest) -> Result<VerifyAuditResponse, Fault> {
    let mut caller = origin.identify().await?;
    let Outcome::Chain(chain) = caller.perform(Task::VerifyAudit).await? else {
        return Err(Fault::nonsense());
    };
    Ok(VerifyAuditResponse {
        header: caller.header(),
        file_count: chain.files as u64,
        event_count: chain.events,
        first_sequence: chain.first_sequence.unwrap_or(0),
        last_sequence: chain.last_sequence,
        last_hash: chain.last_hash,
    })
}

pub(crate) type TailStream = Pin<Box<dyn Stream<Item = Result<TailEventsResponse, Status>> + Send>>;

pub(crate) async fn tail(
    origin: Origin,
    changes: Changes,
    request: TailEventsRequest,
) -> Result<TailStream, Fault> {
    let events = ReceiverStream::new(events(origin, changes, request).await?);
    Ok(Box::pin(events.map(|event| event.map_err(Status::from))))
}

/// The last events and then each new one. What ends them comes last.
pub(crate) async fn events(
    origin: Origin,
    changes: Changes,
    request: TailEventsRequest,
) -> Result<mpsc::Receiver<Result<TailEventsResponse, Fault>>, Fault> {
    let mut caller = origin.identify().await?;
    let admitted = caller.admit_task(Task::ReadAudit).await?;
    caller.door().begin_audit(admitted)?;
    let (sender, receiver) = mpsc::channel(EVENTS_AHEAD_MAX);
    tokio::spawn(async move {
        if let Err(fault) = follow(caller, changes, request, &sender).await {
            // Whoever followed may have gone; then nobody has to be told.
            drop(sender.send(Err(fault)).await);
        }
    });
    Ok(receiver)
}

async fn follow(
    mut caller: Caller,
    mut changes: Changes,
    request: TailEventsRequest,
    sender: &mpsc::Sender<Result<TailEventsResponse, Fault>>,
) -> Result<(), Fault> {
    let filter = request.filter.unwrap_or_default();
    let last = usize::try_from(request.last).unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let mut cursor = caller.door().audit_cursor(request.after_sequence);
    let mut recent = std::collections::VecDeque::with_capacity(last);
    // Everything that is there, of which the last few count.
    let mut is_past = request.after_sequence == 0;
    loop {
        let wanted = filter.clone();
        let (next, page) =
            caller.door().read_audit(cursor, PAGE_MAX, move |event| is_wanted(&wanted, event)).await?;
        cursor = next;
        for event in page.events {
            if is_past {
                if recent.len() >= last {
                    recent.pop_front();
                }
                if last > 0 {
                    recent.push_back(event);
                }
            } else {
                recent.push_back(event);
            }
        }
        if page.more {
            continue;
        }
        is_past = false;
        for event in recent.drain(..) {
            let told = TailEventsResponse { header: caller.header(), event: Some(shown(event)) };
            if sender.send(Ok(told)).await.is_err() {
                return Ok(());
            }
        }
        tokio::select! {
            () = sender.closed() => return Ok(()),
            () = changes.next() => {}
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
        if changes.are_over() {
            return Err(Fault::stopping());
        }
        // The right to it is asked for again, without an event each time.
        caller.check_right(&Task::ReadAudit)?;
    }
}

fn is_wanted(filter: &AuditFilter, event: &Written) -> bool {
    let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    is(&filter.user, event.username.as_deref().unwrap_or(""))
        && is(&filter.event_type, &event.event_type)
        && is(&filter.status, &event.status)
        && event.timestamp_ms >= filter.since_ms
        && (filter.until_ms == 0 || event.timestamp_ms < filter.until_ms)
}

fn shown(event: Written) -> AuditEvent {
    AuditEvent {
        sequence: event.sequence,
        timestamp_ms: event.timestamp_ms,
        connection_id: event.connection_id,
        peer: event.peer.unwrap_or_default(),
        user: event.username.unwrap_or_default(),
        request_id: event.request_id,
        opcode: event.opcode,
        status: event.status,
        error_code: event.error_code.unwrap_or_default(),
        latency_ms: event.latency_ms,
        event_type: event.event_type,
        details: event.details.into_iter().collect(),
        event_hash: event.event_hash,
    }
}
