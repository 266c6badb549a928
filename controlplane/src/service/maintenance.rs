//! Looking after a node.

use vaylix_access::{Outcome, Task};
use vaylix_admin_proto::v1::*;
use vaylix_proto::Command;

use crate::caller::Origin;
use crate::fault::Fault;

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
    let enabled = request.enabled;
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
    let DrainRequest { draining } = request;
    let mut caller = origin.identify().await?;
    caller.perform(Task::Drain { draining }).await?;
    Ok(DrainResponse { header: caller.header(), draining })
}
