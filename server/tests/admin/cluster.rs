//! The control planes of a cluster.

use tonic_types::StatusExt as _;
use vaylix_admin_proto::v1::access_service_client::AccessServiceClient;
use vaylix_admin_proto::v1::cluster_service_client::ClusterServiceClient;
use vaylix_admin_proto::v1::{
    CreateRoleRequest, GetStatusRequest, ListMembersRequest, RemoveMemberRequest, Role,
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
