//! Looking after a node.

use vaylix_admin_proto::v1::{
    GetMaintenanceModeRequest, GetMaintenanceModeResponse, SetMaintenanceModeRequest,
    SetMaintenanceModeResponse, TakeSnapshotRequest, TakeSnapshotResponse,
};
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
