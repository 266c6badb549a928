//! gRPC: reflection, health, errors, streams.

use std::collections::BTreeSet;

use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt as _;
use vaylix_admin_proto::health::health_check_response::ServingStatus;
use vaylix_admin_proto::health::health_client::HealthClient;
use vaylix_admin_proto::health::{HealthCheckRequest, HealthListRequest};
use vaylix_admin_proto::v1::cluster_service_client::ClusterServiceClient;
use vaylix_admin_proto::v1::maintenance_service_client::MaintenanceServiceClient;
use vaylix_admin_proto::v1::{GetStatusRequest, Role, SetMaintenanceModeRequest, WatchStatusRequest};
use vaylix_testkit::Server;
use vaylix_testkit::process::PATIENCE;

use crate::support::{admin, by_admin, channel, run};

/// What both versions of the reflection protocol are asked: which services there are, and the file of one of them.
macro_rules! reflects {
    ($version:ident, $channel:expr) => {{
        use $version::server_reflection_client::ServerReflectionClient;
        use $version::server_reflection_request::MessageRequest;
        use $version::server_reflection_response::MessageResponse;
        let mut client = ServerReflectionClient::new($channel);
        let ask = |message| $version::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        let questions = vec![
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("vaylix.admin.v1.ClusterService".to_owned())),
        ];
        let mut answers =
            client.server_reflection_info(tokio_stream::iter(questions)).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(services)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("no list of services");
        };
        let Some(MessageResponse::FileDescriptorResponse(files)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("no file");
        };
        assert!(!files.file_descriptor_proto.is_empty());
        services.service.into_iter().map(|service| service.name).collect::<BTreeSet<String>>()
    }};
}

#[test]
fn reflection_lists_everything_in_both_versions() {
    let server = Server::start(&[]).unwrap();
    run(async {
        let channel = channel(admin(&server)).await;
        let (first, second) = (reflects!(v1, channel.clone()), reflects!(v1alpha, channel));
        for service in [
            "grpc.health.v1.Health",
            "vaylix.admin.v1.AccessService",
            "vaylix.admin.v1.AuditService",
            "vaylix.admin.v1.BackupService",
            "vaylix.admin.v1.ClusterService",
            "vaylix.admin.v1.KeyService",
            "vaylix.admin.v1.MaintenanceService",
        ] {
            assert!(first.contains(service) && second.contains(service), "{first:?} {second:?}");
        }
    });
}

#[test]
fn health_is_checked_listed_and_watched_to_the_end() {
    let server = Server::start(&[]).unwrap();
    run(async {
        let mut client = HealthClient::new(channel(admin(&server)).await);
        let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
        for service in ["", "vaylix.data", "vaylix.data.leader", "vaylix.admin"] {
            let status = client.check(check(service)).await.unwrap().into_inner().status();
            assert_eq!(status, ServingStatus::Serving, "{service:?}");
        }
        assert_eq!(client.check(check("else")).await.unwrap_err().code(), Code::NotFound);
        let listed = client.list(HealthListRequest {}).await.unwrap().into_inner().statuses;
        assert_eq!(listed.len(), 4);
        assert!(listed.values().all(|status| status.status() == ServingStatus::Serving));
        let mut unknown = client.watch(check("else")).await.unwrap().into_inner();
        assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
        drop(unknown);
        let mut watched = client.watch(check("vaylix.data")).await.unwrap().into_inner();
        assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        // Told to stop, it says so before it goes.
        server.signal("TERM").unwrap();
        let last = timeout(PATIENCE, watched.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(last.status(), ServingStatus::NotServing);
    });
}

#[test]
fn the_status_says_what_an_operator_asks_first() {
    let server = Server::start(&["--node-id", "here"]).unwrap();
    run(async {
        let mut client = ClusterServiceClient::new(channel(admin(&server)).await);
        let answer = client.get_status(by_admin(GetStatusRequest {})).await.unwrap().into_inner();
        let header = answer.header.unwrap();
        assert_eq!(header.node_name, "here");
        assert_eq!(header.cluster_id.len(), 32);
        assert!(header.applied_index > 0 && header.term > 0);
        let status = answer.status.unwrap();
        assert_eq!(status.role(), Role::Leader);
        assert!(status.ready && !status.clustered && !status.maintenance_mode);
        assert_eq!((status.voter_count, status.quorum_size, status.failure_tolerance), (1, 1, 0));
        assert_eq!(status.members.len(), 1);
        assert_eq!(status.members[0].address, server.address().to_string());
        assert!(status.members[0].leader && status.members[0].voter);
        let wal = status.wal.unwrap();
        assert_eq!(wal.sync_policy, "sync");
        assert!(wal.sync_count > 0 && wal.sync_p99_us > 0 && wal.sync_p99_us <= wal.sync_max_us);
        assert!(status.certificate.is_none());
        assert_eq!(status.storage_key.unwrap().count, 1);
    });
}

#[test]
fn refusals_carry_the_stable_code() {
    let server = Server::start(&[]).unwrap();
    run(async {
        let mut client = ClusterServiceClient::new(channel(admin(&server)).await);
        let refused = client.get_status(Request::new(GetStatusRequest {})).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let info = refused.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("SRV-007", "vaylix"));
        let refused = client
            .get_status(crate::support::by(("vaylix", "wrong"), GetStatusRequest {}))
            .await
            .unwrap_err();
        assert_eq!(refused.get_details_error_info().unwrap().reason, "SRV-008");
    });
}

#[test]
fn a_watched_status_tells_of_changes_as_they_come() {
    let server = Server::start(&[]).unwrap();
    run(async {
        let channel = channel(admin(&server)).await;
        let mut cluster = ClusterServiceClient::new(channel.clone());
        let mut watched = cluster.watch_status(by_admin(WatchStatusRequest {})).await.unwrap().into_inner();
        let first = timeout(PATIENCE, watched.next()).await.unwrap().unwrap().unwrap();
        assert!(!first.status.unwrap().maintenance_mode);
        let mut maintenance = MaintenanceServiceClient::new(channel);
        let on = SetMaintenanceModeRequest { enabled: Some(true) };
        maintenance.set_maintenance_mode(by_admin(on)).await.unwrap();
        let next = timeout(PATIENCE, watched.next()).await.unwrap().unwrap().unwrap();
        assert!(next.status.unwrap().maintenance_mode);
        let refused = cluster
            .watch_status(Request::new(WatchStatusRequest {}))
            .await
            .unwrap()
            .into_inner()
            .next()
            .await;
        assert_eq!(refused.unwrap().unwrap_err().code(), Code::Unauthenticated);
    });
}
