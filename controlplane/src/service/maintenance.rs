//! Looking after a node.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;
use vaylix_access::{Finding, Outcome, Task, Verification, Verified};
use vaylix_admin_proto::v1::*;
use vaylix_proto::{Command, ErrorReply};

use crate::caller::{Caller, Origin};
use crate::fault::Fault;
use crate::settings::{Setting as Known, SettingSource as KnownSource};
use crate::stage::Changes;

pub(crate) async fn get_mode(
    origin: Origin,
    _: GetMaintenanceModeRequest,
) -> Result<GetMaintenanceModeResponse, Fault> {
    let mut caller = origin.identify().await?;
    caller.run(Command::MaintenanceStatus).await?;
    let enabled = caller.door().vitals().in_maintenance.ok_or_else(Fault::rules_unreadable)?;
    Ok(GetMaintenanceModeResponse { header: caller.header(), enabled })
}

pub(crate) async fn set_mode(
    origin: Origin,
    request: SetMaintenanceModeRequest,
) -> Result<SetMaintenanceModeResponse, Fault> {
    let mut caller = origin.identify().await?;
    let enabled = request.enabled.ok_or_else(|| Fault::field("enabled", "it is missing"))?;
    caller.run(if enabled { Command::MaintenanceOn } else { Command::MaintenanceOff }).await?;
    Ok(SetMaintenanceModeResponse { header: caller.header(), enabled })
}

pub(crate) async fn take_snapshot(
    origin: Origin,
    _: TakeSnapshotRequest,
) -> Result<TakeSnapshotResponse, Fault> {
    let mut caller = origin.identify().await?;
    caller.run(Command::Snapshot).await?;
    Ok(TakeSnapshotResponse { header: caller.header() })
}

pub(crate) async fn rotate_storage_key(
    origin: Origin,
    _: RotateStorageKeyRequest,
) -> Result<RotateStorageKeyResponse, Fault> {
    let mut caller = origin.identify().await?;
    let Outcome::KeyRotated(key_id) = caller.perform(Task::RotateStorageKey).await? else {
        return Err(Fault::nonsense());
    };
    Ok(RotateStorageKeyResponse { header: caller.header(), key_id })
}

pub(crate) async fn drain(origin: Origin, request: DrainRequest) -> Result<DrainResponse, Fault> {
    let mut caller = origin.identify().await?;
    let draining = request.draining.ok_or_else(|| Fault::field("draining", "it is missing"))?;
    caller.perform(Task::Drain { draining }).await?;
    Ok(DrainResponse { header: caller.header(), draining })
}

pub(crate) async fn list_settings(
    origin: Origin,
    _: ListSettingsRequest,
) -> Result<ListSettingsResponse, Fault> {
    let mut caller = origin.identify().await?;
    let Outcome::Done = caller.perform(Task::ShowSettings).await? else { return Err(Fault::nonsense()) };
    let shown = |setting: &Known| Setting {
        name: setting.name.clone(),
        value: setting.value.clone(),
        source: match setting.source {
            KnownSource::Default => SettingSource::Default,
            KnownSource::Flag => SettingSource::Flag,
            KnownSource::Environment => SettingSource::Environment,
            KnownSource::File => SettingSource::File,
        }
        .into(),
        description: setting.description.clone(),
        group: setting.group.clone(),
        origin: setting.origin.clone(),
    };
    let settings = origin.stage.settings().iter().map(shown).collect();
    Ok(ListSettingsResponse { header: caller.header(), settings })
}

/// What is told of a verification and waits for whoever follows it.
const TOLD_AHEAD_MAX: usize = 16;

pub(crate) type VerifyStream = Pin<Box<dyn Stream<Item = Result<VerifyStorageResponse, Status>> + Send>>;

pub(crate) async fn verify_storage(
    origin: Origin,
    changes: Changes,
    _: VerifyStorageRequest,
) -> Result<VerifyStream, Fault> {
    let mut caller = origin.identify().await?;
    let admitted = caller.admit_task(Task::VerifyStorage).await?;
    let told = caller.door().verify_storage(admitted)?;
    let (sender, receiver) = mpsc::channel(TOLD_AHEAD_MAX);
    tokio::spawn(follow(caller, changes, told, sender));
    Ok(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver)))
}

/// Hands on what is told, as long as somebody takes it who has the right to it. What ends this ends the verification.
async fn follow(
    mut caller: Caller,
    mut changes: Changes,
    mut told: mpsc::Receiver<Result<Verification, ErrorReply>>,
    sender: mpsc::Sender<Result<VerifyStorageResponse, Status>>,
) {
    loop {
        let next = tokio::select! {
            biased;
            () = sender.closed() => return,
            () = changes.over() => {
                // Whoever listened may have gone; then nobody has to be told.
                drop(sender.send(Err(Fault::stopping().into())).await);
                return;
            }
            next = told.recv() => next,
        };
        let Some(next) = next else { return };
        let right = caller.check_right(&Task::VerifyStorage);
        let next = right.and_then(|()| next.map_err(Fault::from));
        let is_last = next.is_err();
        let next =
            next.map(|event| VerifyStorageResponse { header: caller.header(), event: Some(shown(event)) });
        if sender.send(next.map_err(Status::from)).await.is_err() || is_last {
            return;
        }
    }
}

fn shown(event: Verification) -> verify_storage_response::Event {
    use verify_storage_response::Event;
    match event {
        Verification::Waiting => Event::Waiting(StorageWaiting {}),
        Verification::Progress { done_bytes, total_bytes } => {
            Event::Progress(StorageProgress { done_bytes, total_bytes })
        }
        Verification::Finding(Finding { code, message, file, offset, advice }) => {
            Event::Finding(StorageFinding { code: code.to_owned(), message, file, offset, advice })
        }
        Verification::Done(verified) => Event::Done(verification(verified)),
    }
}

/// What a verification came to.
pub(crate) fn verification(verified: Verified) -> StorageVerification {
    let Verified { begun_at_ms, ended_at_ms, bytes, snapshots, segments, entries, audit_events, findings } =
        verified;
    StorageVerification {
        begun_at_ms,
        ended_at_ms,
        byte_count: bytes,
        snapshot_count: snapshots,
        segment_count: segments,
        entry_count: entries,
        audit_event_count: audit_events,
        finding_count: findings,
    }
}
