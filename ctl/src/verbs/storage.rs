//! What a node has on disk.

use vaylix_admin_proto::v1::maintenance_service_client::MaintenanceServiceClient;
use vaylix_admin_proto::v1::verify_storage_response::Event;
use vaylix_admin_proto::v1::*;

use super::Session;
use super::cluster::next;
use super::maintenance::node;
use crate::connection::Kind;
use crate::error::{Error, Miss};
use crate::output::{Progress, tell};
use crate::render::table::fields;
use crate::render::{bytes, or_none, time};

/// Shows each finding as it comes, and in the end what was read. Findings are a failure.
pub(super) async fn verify(mut session: Session) -> Result<(), Error> {
    let mut stream = session
        .client
        .call(Kind::READ, VerifyStorageRequest {}, async |channel, request| {
            MaintenanceServiceClient::new(channel).verify_storage(request).await
        })
        .await?;
    let address = session.client.place().await?.address;
    let mut progress = Progress::new("verifying".to_owned(), 0);
    while let Some(told) = next(&mut stream, &address).await? {
        match &told.event {
            Some(Event::Waiting(_)) => {
                tell(&format!(
                    "{} is at another verification; waiting for that",
                    node(told.header.as_ref())
                ))?;
            }
            Some(Event::Progress(StorageProgress { done_bytes, total_bytes })) => {
                progress.reach(*done_bytes, *total_bytes)?;
            }
            Some(Event::Finding(finding)) => {
                progress.interrupt()?;
                session.screen.show_next(&told, |_| line(finding))?;
            }
            Some(Event::Done(done)) => {
                progress.reach(done.byte_count, done.byte_count)?;
                drop(progress);
                session.screen.show_next(&told, |_| summary(done))?;
                return if done.finding_count == 0 { Ok(()) } else { Err(Error::Negative) };
            }
            // Of a later release.
            None => {}
        }
    }
    let reason = "the verification ended before its end".to_owned();
    Err(Error::Unreachable(vec![Miss { address, reason }]))
}

fn line(finding: &StorageFinding) -> String {
    let StorageFinding { code, message, file, offset, advice } = finding;
    let at = offset.map(|offset| format!(" at {offset}")).unwrap_or_default();
    format!("{code} {}{at}: {message}\n  {advice}", or_none(file))
}

fn summary(done: &StorageVerification) -> String {
    fields(&[
        ("Findings", done.finding_count.to_string()),
        ("Read", bytes(done.byte_count)),
        ("Snapshots", done.snapshot_count.to_string()),
        ("Segments", done.segment_count.to_string()),
        ("Entries", done.entry_count.to_string()),
        ("Audit events", done.audit_event_count.to_string()),
        ("Begun", time::moment(done.begun_at_ms)),
        ("Ended", time::moment(done.ended_at_ms)),
    ])
}
