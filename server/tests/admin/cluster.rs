//! The control planes of a cluster.

use tonic_types::StatusExt as _;
use vaylix_admin_proto::health::HealthCheckRequest;
use vaylix_admin_proto::health::health_check_response::ServingStatus;
use vaylix_admin_proto::health::health_client::HealthClient;
use vaylix_admin_proto::v1::access_service_client::AccessServiceClient;
use vaylix_admin_proto::v1::cluster_service_client::ClusterServiceClient;
use vaylix_admin_proto::v1::maintenance_service_client::MaintenanceServiceClient;
use vaylix_admin_proto::v1::{
    CreateRoleRequest, DrainRequest, GetStatusRequest, ListMembersRequest, RemoveMemberRequest, Role,
    TransferLeadershipRequest,
};
use vaylix_testkit::process::PATIENCE;
use vaylix_testkit::{Cluster, http, wait};

use crate::support::{ADMIN, by_admin, channel, run};

#[test]
fn every_node_knows_the_members_and_sends_changes_to_the_leader() {
    let cluster = Cluster::start(3, &[]).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    let at = |node: usize| cluster.admin_address(node).unwrap();
    let follower = (leader + 1) % 3;
    run(async {
        let mut asked = ClusterServiceClient::new(channel(at(leader)).await);
        let status =
            asked.get_status(by_admin(GetStatusRequest {})).await.unwrap().into_inner().status.unwrap();
        assert_eq!(status.role(), Role::Leader);
        assert_eq!((status.voter_count, status.quorum_size, status.failure_tolerance), (3, 2, 1));
        assert!(status.members.iter().all(|member| member.match_index.is_some()));

        let mut asked = ClusterServiceClient::new(channel(at(follower)).await);
        let status =
            asked.get_status(by_admin(GetStatusRequest {})).await.unwrap().into_inner().status.unwrap();
        assert_eq!(status.role(), Role::Follower);
        assert_eq!(status.leader.unwrap().name, vaylix_testkit::cluster::name(leader));
        let listed = asked.list_members(by_admin(ListMembersRequest::default())).await.unwrap().into_inner();
        let names: Vec<_> = listed.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "n3"]);
        assert!(listed.config_version > 0);

        let create = CreateRoleRequest { name: "readers".to_owned() };
        let mut access = AccessServiceClient::new(channel(at(follower)).await);
        let refused = access.create_role(by_admin(create.clone())).await.unwrap_err();
        let info = refused.get_details_error_info().unwrap();
        assert_eq!(info.reason, "SRV-037");
        assert_eq!(info.metadata["leader_admin_address"], at(leader).to_string());
        AccessServiceClient::new(channel(at(leader)).await).create_role(by_admin(create)).await.unwrap();
    });
    // The same over HTTP is a redirect.
    let authorization = http::basic(ADMIN.0, ADMIN.1);
    let headers = [("authorization", authorization.as_str())];
    let response =
        http::request(at(follower), "POST", "/v1/roles", &headers, br#"{"name":"writers"}"#).unwrap();
    assert_eq!(response.status, 307, "{}", response.text());
    assert_eq!(response.header("location"), format!("http://{}/v1/roles", at(leader)));
}

#[test]
fn a_member_is_taken_out_as_planned_and_only_by_who_knows_the_membership() {
    let mut cluster = Cluster::start(3, &[]).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    let gone = (leader + 1) % 3;
    let name = vaylix_testkit::cluster::name(gone);
    let address = cluster.admin_address(leader).unwrap();
    run(async {
        let mut client = ClusterServiceClient::new(channel(address).await);
        let plan =
            RemoveMemberRequest { name: name.clone(), validate_only: true, expected_config_version: 0 };
        let planned = client.remove_member(by_admin(plan)).await.unwrap().into_inner();
        assert!(!planned.done);
        let plan = planned.plan.unwrap();
        let quorum = |view: Option<vaylix_admin_proto::v1::QuorumView>| {
            let view = view.unwrap();
            (view.voter_count, view.quorum_size, view.failure_tolerance)
        };
        assert_eq!((quorum(plan.before), quorum(plan.after)), ((3, 2, 1), (2, 2, 0)));
        assert!(!plan.warnings.is_empty());
        let stale = RemoveMemberRequest {
            name: name.clone(),
            validate_only: false,
            expected_config_version: plan.config_version + 1,
        };
        let refused = client.remove_member(by_admin(stale)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Aborted);
        let right = RemoveMemberRequest {
            name: name.clone(),
            validate_only: false,
            expected_config_version: plan.config_version,
        };
        assert!(client.remove_member(by_admin(right)).await.unwrap().into_inner().done);
        let listed = client.list_members(by_admin(ListMembersRequest::default())).await.unwrap().into_inner();
        assert!(listed.members.iter().all(|member| !(member.voter && member.name == name)), "{listed:?}");
    });
    cluster.kill(gone).unwrap();
}

#[test]
fn health_follows_the_leader() {
    let mut cluster = Cluster::start(3, &[]).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    cluster.kill(leader).unwrap();
    let leads =
        |node: usize| http::get(cluster.admin_address(node)?, "/leader").ok().filter(|r| r.status == 200);
    let next = wait::within("another node leads", PATIENCE, || {
        (0..3).filter(|node| *node != leader).find(|node| leads(*node).is_some())
    })
    .unwrap();
    assert_ne!(next, leader);
}

#[test]
fn the_office_goes_to_who_is_named_and_not_to_who_is_drained() {
    let cluster = Cluster::start(3, &[]).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    let at = |node: usize| cluster.admin_address(node).unwrap();
    let name = vaylix_testkit::cluster::name;
    let next = (leader + 1) % 3;
    let transfer =
        |to: String, validate_only| TransferLeadershipRequest { to, validate_only, ..Default::default() };
    run(async {
        let mut client = ClusterServiceClient::new(channel(at(leader)).await);
        let judged =
            client.transfer_leadership(by_admin(transfer(name(next), true))).await.unwrap().into_inner();
        assert!(!judged.done);
        let nobody =
            client.transfer_leadership(by_admin(transfer("nobody".to_owned(), false))).await.unwrap_err();
        assert_eq!(nobody.code(), tonic::Code::InvalidArgument);
        let done =
            client.transfer_leadership(by_admin(transfer(name(next), false))).await.unwrap().into_inner();
        assert_eq!((done.done, done.leader), (true, name(next)));
        let refused = client.transfer_leadership(by_admin(transfer(name(leader), false))).await.unwrap_err();
        let info = refused.get_details_error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.metadata["leader_admin_address"].as_str()),
            ("SRV-037", at(next).to_string().as_str())
        );

        // A node that leaves the office to others gives it up, is nobody's heir, and says that it is not ready.
        let mut maintenance = MaintenanceServiceClient::new(channel(at(next)).await);
        maintenance.drain(by_admin(DrainRequest { draining: Some(true) })).await.unwrap();
    });
    let drained = next;
    let heir =
        wait::within("another node leads", PATIENCE, || cluster.leader().filter(|node| *node != drained))
            .unwrap();
    let ready = http::get(at(drained), "/readyz").unwrap();
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("[-]draining"), "{}", ready.text());
    assert_eq!(http::get(at(drained), "/read-only").unwrap().status, 503);
    run(async {
        let mut health = HealthClient::new(channel(at(drained)).await);
        let data = HealthCheckRequest { service: "vaylix.data".to_owned() };
        assert_eq!(health.check(data).await.unwrap().into_inner().status(), ServingStatus::NotServing);
        let mut client = ClusterServiceClient::new(channel(at(heir)).await);
        let refused = client.transfer_leadership(by_admin(transfer(name(drained), false))).await.unwrap_err();
        assert!(refused.message().contains("drained"), "{refused}");
        let mut maintenance = MaintenanceServiceClient::new(channel(at(drained)).await);
        maintenance.drain(by_admin(DrainRequest { draining: Some(false) })).await.unwrap();
        client.transfer_leadership(by_admin(transfer(name(drained), false))).await.unwrap();
    });
    assert_eq!(cluster.await_leader(PATIENCE).unwrap(), drained);
    let ready = wait::within("it is ready", PATIENCE, || {
        http::get(at(drained), "/readyz").ok().filter(|r| r.status == 200)
    });
    assert!(ready.is_ok());
}

#[test]
fn a_new_storage_key_is_the_active_one() {
    let server = vaylix_testkit::Server::start(&[]).unwrap();
    let key = |server: &vaylix_testkit::Server| {
        let (_, answer) = crate::support::call(server, "GET", "/v1/cluster/status", "");
        (answer["status"]["storageKey"]["activeId"].clone(), answer["status"]["storageKey"]["count"].clone())
    };
    let before = key(&server);
    let (status, answer) = crate::support::call(&server, "POST", "/v1/storage-keys", "");
    assert_eq!(status, 200, "{answer}");
    let after = key(&server);
    assert_eq!(after.0, answer["keyId"]);
    assert_ne!(before.0, after.0);
}
