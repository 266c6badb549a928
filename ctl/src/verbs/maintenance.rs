//! Looking after a node.

use vaylix_admin_proto::v1::maintenance_service_client::MaintenanceServiceClient;
use vaylix_admin_proto::v1::*;

use super::Session;
use crate::connection::Kind;
use crate::error::Error;
use crate::flags::{MaintenanceAction, Switch};
use crate::output::tell;

pub(super) async fn mode(mut session: Session, action: MaintenanceAction) -> Result<(), Error> {
    let shown = |enabled: bool| format!("maintenance mode is {}", if enabled { "on" } else { "off" });
    if action == MaintenanceAction::Status {
        let answer = session
            .client
            .call(Kind::READ, GetMaintenanceModeRequest {}, async |channel, request| {
                MaintenanceServiceClient::new(channel).get_maintenance_mode(request).await
            })
            .await?;
        return session.screen.show(&answer, |answer| shown(answer.enabled));
    }
    let message = SetMaintenanceModeRequest { enabled: Some(action == MaintenanceAction::On) };
    let answer = session
        .client
        .call(Kind::CHANGE, message, async |channel, request| {
            MaintenanceServiceClient::new(channel).set_maintenance_mode(request).await
        })
        .await?;
    session.screen.show(&answer, |answer| shown(answer.enabled))
}

pub(super) async fn snapshot(mut session: Session) -> Result<(), Error> {
    let answer = session
        .client
        .call(Kind::LONG_CHANGE, TakeSnapshotRequest {}, async |channel, request| {
            MaintenanceServiceClient::new(channel).take_snapshot(request).await
        })
        .await?;
    session.screen.show(&answer, |answer| format!("{} has taken a snapshot", node(answer.header.as_ref())))
}

pub(super) async fn drain(mut session: Session, state: Switch) -> Result<(), Error> {
    let message = DrainRequest { draining: Some(state == Switch::On) };
    if state == Switch::On {
        let status = super::cluster::get_status(&mut session.client).await?;
        let name = node(status.header.as_ref());
        tell(&format!(
            "{name} leaves new clients to others, hands over if it leads, and does not stand for election"
        ))?;
        session.screen.confirm(&format!("Drain {name}"))?;
    }
    let answer = session
        .client
        .call(Kind::CHANGE, message, async |channel, request| {
            MaintenanceServiceClient::new(channel).drain(request).await
        })
        .await?;
    session.screen.show(&answer, |answer| {
        let state = if answer.draining { "is draining" } else { "is not draining" };
        format!("{} {state}", node(answer.header.as_ref()))
    })
}

pub(super) async fn rotate_key(mut session: Session) -> Result<(), Error> {
    let answer = session
        .client
        .call(Kind::CHANGE, RotateStorageKeyRequest {}, async |channel, request| {
            MaintenanceServiceClient::new(channel).rotate_storage_key(request).await
        })
        .await?;
    session.screen.show(&answer, |answer| {
        format!("{} writes under the key {}", node(answer.header.as_ref()), answer.key_id)
    })
}

/// What the node that answered is called.
pub(super) fn node(header: Option<&ResponseHeader>) -> String {
    header.map_or_else(|| "the node".to_owned(), |header| header.node_name.clone())
}
