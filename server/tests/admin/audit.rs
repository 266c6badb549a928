//! The audit log through the control plane.

use tonic::Code;
use vaylix_admin_proto::v1::audit_service_client::AuditServiceClient;
use vaylix_admin_proto::v1::*;
use vaylix_testkit::Server;

use crate::support::{admin, by_admin, call, channel, run, with_authorization};

fn role(server: &Server, name: &str) {
    assert_eq!(call(server, "POST", "/v1/roles", &format!(r#"{{"name":"{name}"}}"#)).0, 200);
}

#[test]
fn events_are_read_in_pages_and_by_what_they_are() {
    let server = Server::start(&[]).unwrap();
    for name in ["one", "two", "three"] {
        role(&server, name);
    }
    run(async {
        let mut client = AuditServiceClient::new(channel(admin(&server)).await);
        let (mut after, mut sequences, mut found) = (0, Vec::new(), Vec::new());
        loop {
            let page = ReadEventsRequest { after_sequence: after, size: 2, filter: None };
            let page = client.read_events(by_admin(page)).await.unwrap().into_inner();
            for event in &page.events {
                sequences.push(event.sequence);
                if event.event_type == "rbac_create_role" {
                    found.push(event.details["role"].clone());
                }
            }
            after = page.next_sequence;
            if found.len() == 3 {
                break;
            }
            assert!(page.more || !page.events.is_empty(), "there are three: {found:?}");
        }
        assert_eq!(found, ["one", "two", "three"]);
        assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "without gaps: {sequences:?}");

        let filter = AuditFilter { event_type: "rbac_create_role".to_owned(), ..Default::default() };
        let chosen = ReadEventsRequest { filter: Some(filter), ..Default::default() };
        let chosen = client.read_events(by_admin(chosen)).await.unwrap().into_inner().events;
        assert_eq!(chosen.len(), 3, "{chosen:?}");
        assert!(chosen.iter().all(|event| event.user == "vaylix" && event.status == "ok"), "{chosen:?}");

        let chain = client.verify_audit(by_admin(VerifyAuditRequest {})).await.unwrap().into_inner();
        assert_eq!((chain.file_count, chain.first_sequence), (1, 1));
        assert_eq!(chain.event_count, chain.last_sequence);
    });
}

#[test]
fn the_tail_goes_on_across_files_until_the_right_is_gone() {
    // Files so small that a few events fill one.
    let server = Server::start(&["--audit-max-bytes", "4096", "--audit-retain-files", "100"]).unwrap();
    role(&server, "before");
    assert_eq!(call(&server, "POST", "/v1/users", r#"{"name":"al","password":"correct horse 7"}"#).0, 200);
    assert_eq!(call(&server, "PUT", "/v1/users/al/roles/admin", "").0, 200);
    let token =
        call(&server, "POST", "/v1/login", r#"{"user":"al","password":"correct horse 7"}"#).1["token"]
            .as_str()
            .unwrap()
            .to_owned();
    run(async {
        let mut client = AuditServiceClient::new(channel(admin(&server)).await);
        let filter = AuditFilter { event_type: "rbac_create_role".to_owned(), ..Default::default() };
        let request = TailEventsRequest { last: 1, filter: Some(filter), after_sequence: 0 };
        let request = with_authorization(&format!("Bearer {token}"), request);
        let mut tail = client.tail_events(request).await.unwrap().into_inner();
        let mut next = async || tail.message().await.map(|told| told.unwrap().event.unwrap());
        assert_eq!(next().await.unwrap().details["role"], "before");
        for number in 0..40 {
            let name = format!("role-{number}");
            role(&server, &name);
            assert_eq!(next().await.unwrap().details["role"], name);
        }
        assert_eq!(call(&server, "DELETE", "/v1/users/al/roles/admin", "").0, 200);
        assert_eq!(next().await.unwrap_err().code(), Code::PermissionDenied);
    });
    let (status, chain) = call(&server, "POST", "/v1/audit/verify", "");
    assert_eq!(status, 200, "{chain}");
    assert!(chain["fileCount"].as_str().unwrap().parse::<u64>().unwrap() > 2, "{chain}");
}
