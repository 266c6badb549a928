//! The audit log of a node.

use std::collections::VecDeque;

use vaylix_admin_proto::v1::audit_service_client::AuditServiceClient;
use vaylix_admin_proto::v1::*;

use super::Session;
use super::cluster::{PAGE_SIZE, next};
use crate::connection::{Client, Kind};
use crate::error::Error;
use crate::flags::{AuditVerb, EventFilter};
use crate::output::{print, tell};
use crate::render::table::{fields, line};
use crate::render::{or_none, time};

/// Heads and widths: events come one after the other, so none can wait for the widest.
const HEADS: [&str; 8] = ["TIME", "SEQUENCE", "TYPE", "USER", "STATUS", "CODE", "COMMAND", "PEER"];
const WIDTHS: [usize; 8] = [24, 8, 16, 10, 6, 7, 18, 0];

/// How far back the last events are looked for at first, and how much further each time.
const LOOK_BACK: u64 = 1000;
const FURTHER: u64 = 4;

pub(super) async fn run(session: Session, verb: &AuditVerb) -> Result<(), Error> {
    match verb {
        AuditVerb::Tail { lines, follow: true, filter } => follow(session, *lines, wanted(filter)).await,
        AuditVerb::Tail { lines, follow: false, filter } => tail(session, *lines, wanted(filter)).await,
        AuditVerb::List { after, limit, since, until, filter } => {
            let filter =
                AuditFilter { since_ms: since.unwrap_or(0), until_ms: until.unwrap_or(0), ..wanted(filter) };
            list(session, *after, *limit, filter).await
        }
        AuditVerb::Verify => verify(session).await,
    }
}

fn wanted(filter: &EventFilter) -> AuditFilter {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    AuditFilter {
        user: text(&filter.of_user),
        event_type: text(&filter.event_type),
        status: text(&filter.status),
        since_ms: 0,
        until_ms: 0,
    }
}

fn heads(session: &Session) -> Result<(), Error> {
    if session.screen.is_for_people() { print(&line(&WIDTHS, HEADS.into_iter())) } else { Ok(()) }
}

fn show(session: &Session, event: &AuditEvent) -> Result<(), Error> {
    session.screen.show_next(event, |event| {
        let cells = [
            time::precise(event.timestamp_ms),
            event.sequence.to_string(),
            event.event_type.clone(),
            or_none(&event.user),
            event.status.clone(),
            or_none(&event.error_code),
            or_none(&event.opcode),
            or_none(&event.peer),
        ];
        line(&WIDTHS, cells.iter().map(String::as_str))
    })
}

/// The last events, and then each new one.
async fn follow(mut session: Session, last: u32, filter: AuditFilter) -> Result<(), Error> {
    let mut stream = begin(&mut session.client, last, filter).await?;
    let place = session.client.place().await?;
    heads(&session)?;
    while let Some(told) = next(&mut stream, &place.address).await? {
        if let Some(event) = &told.event {
            show(&session, event)?;
        }
    }
    Ok(())
}

async fn begin(
    client: &mut Client,
    last: u32,
    filter: AuditFilter,
) -> Result<tonic::Streaming<TailEventsResponse>, Error> {
    let message = TailEventsRequest { last, filter: Some(filter), after_sequence: 0 };
    client
        .call(Kind::READ, message, async |channel, request| {
            AuditServiceClient::new(channel).tail_events(request).await
        })
        .await
}

/// The last events that there are now. The server only has a stream for that, which does not say where now is: so it is
/// asked for the very last event, and then for what came before it, further and further back.
async fn tail(mut session: Session, lines: u32, filter: AuditFilter) -> Result<(), Error> {
    let mut stream = begin(&mut session.client, 1, AuditFilter::default()).await?;
    let place = session.client.place().await?;
    let newest = next(&mut stream, &place.address).await?.and_then(|told| told.event);
    drop(stream);
    let newest = newest.map_or(0, |event| event.sequence);
    let count = usize::try_from(lines).unwrap_or(usize::MAX);
    let mut look_back = LOOK_BACK;
    let found = loop {
        let start = newest.saturating_sub(look_back);
        let mut found = VecDeque::new();
        let mut after = start;
        loop {
            let page = read(&mut session.client, after, PAGE_SIZE, filter.clone()).await?;
            for event in page.events.into_iter().filter(|event| event.sequence <= newest) {
                found.push_back(event);
                if found.len() > count {
                    found.pop_front();
                }
            }
            after = page.next_sequence;
            if !page.more || after >= newest {
                break;
            }
        }
        if found.len() >= count || start == 0 {
            break found;
        }
        look_back = look_back.saturating_mul(FURTHER);
    };
    heads(&session)?;
    found.iter().try_for_each(|event| show(&session, event))
}

async fn read(
    client: &mut Client,
    after_sequence: u64,
    size: u32,
    filter: AuditFilter,
) -> Result<ReadEventsResponse, Error> {
    let message = ReadEventsRequest { after_sequence, size, filter: Some(filter) };
    client
        .call(Kind::READ, message, async |channel, request| {
            AuditServiceClient::new(channel).read_events(request).await
        })
        .await
}

async fn list(mut session: Session, after: u64, limit: u64, filter: AuditFilter) -> Result<(), Error> {
    let (mut after, mut left) = (after, limit);
    let mut has_heads = false;
    while left > 0 {
        let size = u32::try_from(left).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
        let page = read(&mut session.client, after, size, filter.clone()).await?;
        // A refusal has none.
        if !std::mem::replace(&mut has_heads, true) {
            heads(&session)?;
        }
        for event in &page.events {
            show(&session, event)?;
        }
        left = left.saturating_sub(page.events.len() as u64);
        after = page.next_sequence;
        if !page.more {
            return Ok(());
        }
    }
    tell(&format!("there are more events: go on with --after {after}, or raise --limit"))?;
    Ok(())
}

async fn verify(mut session: Session) -> Result<(), Error> {
    let answer = session
        .client
        .call(Kind::LONG_READ, VerifyAuditRequest {}, async |channel, request| {
            AuditServiceClient::new(channel).verify_audit(request).await
        })
        .await?;
    session.screen.show(&answer, |answer| {
        fields(&[
            ("Files", answer.file_count.to_string()),
            ("Events", answer.event_count.to_string()),
            ("First", answer.first_sequence.to_string()),
            ("Last", answer.last_sequence.to_string()),
            ("Last hash", answer.last_hash.clone()),
        ])
    })
}
