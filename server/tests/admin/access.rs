//! Who may do what: the rules of the data plane, asked for through gRPC.

use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use vaylix_admin_proto::v1::access_service_client::AccessServiceClient;
use vaylix_admin_proto::v1::audit_service_client::AuditServiceClient;
use vaylix_admin_proto::v1::backup_service_client::BackupServiceClient;
use vaylix_admin_proto::v1::cluster_service_client::ClusterServiceClient;
use vaylix_admin_proto::v1::key_service_client::KeyServiceClient;
use vaylix_admin_proto::v1::maintenance_service_client::MaintenanceServiceClient;
use vaylix_admin_proto::v1::*;
use vaylix_proto::{Command, Reply};
use vaylix_testkit::Server;
use vaylix_testkit::wire::{Connection, DEFAULT_LOGIN};

use crate::support::{admin, by_admin, call, call_as, channel, run, with_authorization};

const PERMISSIONS: [&str; 10] = [
    "read",
    "write",
    "admin",
    "backup",
    "restore",
    "metrics",
    "snapshot",
    "clear",
    "user_admin",
    "role_admin",
];
const PASSWORD: &str = "correct horse 7 battery";

/// The methods, and the permission on `*` that each needs; none: a login is enough. Written down apart from the code, in the
/// words of the data plane's table.
const TABLE: [(&str, Option<&str>); 45] = [
    ("GetStatus", Some("admin")),
    ("ListMembers", Some("admin")),
    ("AddMember", Some("admin")),
    ("RemoveMember", Some("admin")),
    ("WatchStatus", Some("admin")),
    ("TransferLeadership", Some("admin")),
    ("RotateStorageKey", Some("admin")),
    ("VerifyStorage", Some("admin")),
    ("Drain", Some("admin")),
    ("ListBackups", Some("backup")),
    ("CreateBackup", Some("backup")),
    ("VerifyBackup", Some("backup")),
    ("DeleteBackup", Some("backup")),
    ("DownloadBackup", Some("backup")),
    ("UploadBackup", Some("restore")),
    ("RestoreBackup", Some("restore")),
    ("ReadEvents", Some("admin")),
    ("TailEvents", Some("admin")),
    ("VerifyAudit", Some("admin")),
    ("ListSessions", Some("user_admin")),
    ("EndSessions", Some("user_admin")),
    ("GetMaintenanceMode", None),
    ("SetMaintenanceMode", Some("admin")),
    ("TakeSnapshot", Some("snapshot")),
    ("ListSettings", Some("admin")),
    ("ListKeys", Some("read")),
    ("GetKey", Some("read")),
    ("PutKey", Some("write")),
    ("DeleteKey", Some("write")),
    ("SetExpiry", Some("write")),
    ("WhoAmI", None),
    ("GetSession", None),
    ("RenewSession", None),
    ("GetRights", Some("user_admin")),
    ("ListUsers", Some("user_admin")),
    ("CreateUser", Some("user_admin")),
    ("SetPassword", Some("user_admin")),
    ("DropUser", Some("user_admin")),
    ("ListRoles", Some("role_admin")),
    ("CreateRole", Some("role_admin")),
    ("DropRole", Some("role_admin")),
    ("GrantRole", Some("role_admin")),
    ("RevokeRole", Some("role_admin")),
    ("GrantPermission", Some("role_admin")),
    ("RevokePermission", Some("role_admin")),
];

/// Calls a method as the bearer of `token`, with arguments that change nothing where that can be had.
async fn ask(channel: &Channel, token: Option<&str>, method: &str) -> Result<(), Status> {
    fn as_bearer<T>(token: Option<&str>, message: T) -> Request<T> {
        match token {
            Some(token) => with_authorization(&format!("Bearer {token}"), message),
            None => Request::new(message),
        }
    }
    let mut cluster = ClusterServiceClient::new(channel.clone());
    let mut maintenance = MaintenanceServiceClient::new(channel.clone());
    let mut access = AccessServiceClient::new(channel.clone());
    let mut backup = BackupServiceClient::new(channel.clone());
    let mut audit = AuditServiceClient::new(channel.clone());
    let mut keys = KeyServiceClient::new(channel.clone());
    macro_rules! call {
        ($client:ident.$rpc:ident($message:expr)) => {
            $client.$rpc(as_bearer(token, $message)).await.map(drop)
        };
    }
    let name = || "nobody-there".to_owned();
    let grant = || Some(Grant { permission: "read".to_owned(), pattern: "x".to_owned() });
    match method {
        "GetStatus" => call!(cluster.get_status(GetStatusRequest {})),
        "ListMembers" => call!(cluster.list_members(ListMembersRequest::default())),
        "AddMember" => call!(cluster.add_member(AddMemberRequest {
            name: name(),
            address: "127.0.0.1:1".to_owned(),
            validate_only: true,
            ..Default::default()
        })),
        "RemoveMember" => call!(cluster.remove_member(RemoveMemberRequest {
            name: name(),
            validate_only: true,
            ..Default::default()
        })),
        "WatchStatus" => {
            let request = as_bearer(token, WatchStatusRequest {});
            cluster.watch_status(request).await?.into_inner().message().await.map(drop)
        }
        "TransferLeadership" => call!(
            cluster
                .transfer_leadership(TransferLeadershipRequest { validate_only: true, ..Default::default() })
        ),
        "RotateStorageKey" => call!(maintenance.rotate_storage_key(RotateStorageKeyRequest {})),
        "VerifyStorage" => {
            let request = as_bearer(token, VerifyStorageRequest {});
            maintenance.verify_storage(request).await?.into_inner().message().await.map(drop)
        }
        "Drain" => call!(maintenance.drain(DrainRequest { draining: Some(false) })),
        "ListBackups" => call!(backup.list_backups(ListBackupsRequest::default())),
        "CreateBackup" => call!(backup.create_backup(CreateBackupRequest { name: name() })),
        "VerifyBackup" => call!(backup.verify_backup(VerifyBackupRequest { name: name() })),
        "DeleteBackup" => call!(backup.delete_backup(DeleteBackupRequest { name: name() })),
        "DownloadBackup" => call!(backup.download_backup(DownloadBackupRequest { name: name() })),
        "UploadBackup" => {
            let parts = tokio_stream::once(UploadBackupRequest { name: name(), chunk: b"{}".to_vec() });
            call!(backup.upload_backup(parts))
        }
        "RestoreBackup" => {
            call!(backup.restore_backup(RestoreBackupRequest { name: name(), validate_only: true }))
        }
        "ReadEvents" => call!(audit.read_events(ReadEventsRequest::default())),
        "TailEvents" => {
            let request = as_bearer(token, TailEventsRequest { last: 1, filter: None, after_sequence: 0 });
            audit.tail_events(request).await?.into_inner().message().await.map(drop)
        }
        "VerifyAudit" => call!(audit.verify_audit(VerifyAuditRequest {})),
        "ListSessions" => call!(access.list_sessions(ListSessionsRequest::default())),
        "EndSessions" => {
            call!(access.end_sessions(EndSessionsRequest { user: name(), id: String::new() }))
        }
        "GetMaintenanceMode" => call!(maintenance.get_maintenance_mode(GetMaintenanceModeRequest {})),
        "SetMaintenanceMode" => {
            call!(maintenance.set_maintenance_mode(SetMaintenanceModeRequest { enabled: Some(false) }))
        }
        "TakeSnapshot" => call!(maintenance.take_snapshot(TakeSnapshotRequest {})),
        "ListSettings" => call!(maintenance.list_settings(ListSettingsRequest {})),
        "ListKeys" => call!(keys.list_keys(ListKeysRequest::default())),
        "GetKey" => call!(keys.get_key(GetKeyRequest { key: name() })),
        // On condition that the key is there, which it is not.
        "PutKey" => {
            let put = PutKeyRequest {
                key: name(),
                value: Some(Vec::new()),
                expected_version: Some(7),
                ..Default::default()
            };
            call!(keys.put_key(put))
        }
        "DeleteKey" => call!(keys.delete_key(DeleteKeyRequest { key: name(), expected_version: None })),
        "SetExpiry" => call!(keys.set_expiry(SetExpiryRequest { key: name(), ttl_ms: 1 })),
        "WhoAmI" => call!(access.who_am_i(WhoAmIRequest {})),
        "GetSession" => call!(access.get_session(GetSessionRequest {})),
        "RenewSession" => call!(access.renew_session(RenewSessionRequest {})),
        "GetRights" => call!(access.get_rights(GetRightsRequest { name: name(), ..Default::default() })),
        "ListUsers" => call!(access.list_users(ListUsersRequest::default())),
        "CreateUser" => {
            call!(access.create_user(CreateUserRequest { name: name(), password: "weak".to_owned() }))
        }
        "SetPassword" => {
            call!(access.set_password(SetPasswordRequest { name: name(), password: PASSWORD.to_owned() }))
        }
        "DropUser" => call!(access.drop_user(DropUserRequest { name: name() })),
        "ListRoles" => call!(access.list_roles(ListRolesRequest::default())),
        // It exists.
        "CreateRole" => call!(access.create_role(CreateRoleRequest { name: "r-read".to_owned() })),
        "DropRole" => call!(access.drop_role(DropRoleRequest { name: name() })),
        "GrantRole" => call!(access.grant_role(GrantRoleRequest { role: name(), user: name() })),
        "RevokeRole" => call!(access.revoke_role(RevokeRoleRequest { role: name(), user: name() })),
        "GrantPermission" => {
            call!(access.grant_permission(GrantPermissionRequest { role: name(), grant: grant() }))
        }
        "RevokePermission" => {
            call!(access.revoke_permission(RevokePermissionRequest { role: name(), grant: grant() }))
        }
        other => panic!("no such method: {other}"),
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

async fn log_in(channel: &Channel, user: &str, password: &str) -> String {
    let request = LoginRequest { user: user.to_owned(), password: password.to_owned(), cookie: false };
    AccessServiceClient::new(channel.clone()).login(request).await.unwrap().into_inner().token
}

#[test]
fn every_method_needs_what_the_data_plane_needs_for_it() {
    let server = Server::start(&[]).unwrap();
    for permission in PERMISSIONS {
        let user = format!(r#"{{"name":"u-{permission}","password":"{PASSWORD}"}}"#);
        assert_eq!(call(&server, "POST", "/v1/users", &user).0, 200);
        assert_eq!(call(&server, "POST", "/v1/roles", &format!(r#"{{"name":"r-{permission}"}}"#)).0, 200);
        let grant = format!(r#"{{"grant":{{"permission":"{permission}","pattern":"*"}}}}"#);
        assert_eq!(call(&server, "POST", &format!("/v1/roles/r-{permission}/grants"), &grant).0, 200);
        let path = format!("/v1/users/u-{permission}/roles/r-{permission}");
        assert_eq!(call(&server, "PUT", &path, "").0, 200);
    }
    run(async {
        let channel = channel(admin(&server)).await;
        for (method, _) in TABLE {
            let refused = ask(&channel, None, method).await.unwrap_err();
            assert_eq!(
                (refused.code(), reason(&refused).as_str()),
                (Code::Unauthenticated, "SRV-007"),
                "{method}"
            );
        }
        for permission in PERMISSIONS {
            let token = log_in(&channel, &format!("u-{permission}"), PASSWORD).await;
            for (method, needed) in TABLE {
                let answer = ask(&channel, Some(&token), method).await;
                let is_denied = answer.as_ref().is_err_and(|status| status.code() == Code::PermissionDenied);
                let is_allowed = needed.is_none_or(|needed| needed == permission || permission == "admin");
                assert_eq!(is_denied, !is_allowed, "{method} with {permission}: {answer:?}");
                let is_known = answer.as_ref().is_err_and(|status| status.code() == Code::Unauthenticated);
                assert!(!is_known, "{method} with {permission}: {answer:?}");
            }
        }
    });
}

/// No method is there that the table above does not know.
#[test]
fn the_table_of_rights_knows_every_method() {
    let server = Server::start(&[]).unwrap();
    let response = vaylix_testkit::http::get(admin(&server), "/v1/openapi.json").unwrap();
    let document: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    let known: std::collections::BTreeSet<String> = TABLE
        .iter()
        .map(|(method, _)| plain(method))
        // Who may log in or out is told elsewhere; the streams of HTTP are those of gRPC.
        .chain(["login", "logout", "statusevents", "auditevents"].map(str::to_owned))
        .collect();
    let mut count = 0;
    for path in document["paths"].as_object().unwrap().values() {
        for described in path.as_object().unwrap().values() {
            let id = described["operationId"].as_str().unwrap();
            assert!(known.contains(&plain(id)), "{id}");
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}

#[test]
fn tokens_end_with_logout_with_the_password_and_with_the_user() {
    let server = Server::start(&[]).unwrap();
    let user = format!(r#"{{"name":"al","password":"{PASSWORD}"}}"#);
    assert_eq!(call(&server, "POST", "/v1/users", &user).0, 200);
    run(async {
        let channel = channel(admin(&server)).await;
        let mut access = AccessServiceClient::new(channel.clone());
        let is_in_force =
            async |token: &str| ask(&channel, Some(token), "WhoAmI").await.map_err(|status| reason(&status));
        let (first, second) =
            (log_in(&channel, "al", PASSWORD).await, log_in(&channel, "al", PASSWORD).await);
        assert_ne!(first, second);
        let logout = with_authorization(&format!("Bearer {first}"), LogoutRequest {});
        access.logout(logout).await.unwrap();
        assert_eq!(is_in_force(&first).await, Err("SRV-007".to_owned()));
        assert_eq!(is_in_force(&second).await, Ok(()));
        let changed =
            SetPasswordRequest { name: "al".to_owned(), password: "another horse 8 battery".to_owned() };
        access.set_password(by_admin(changed)).await.unwrap();
        assert_eq!(is_in_force(&second).await, Err("SRV-007".to_owned()));
        let third = log_in(&channel, "al", "another horse 8 battery").await;
        access.drop_user(by_admin(DropUserRequest { name: "al".to_owned() })).await.unwrap();
        assert_eq!(is_in_force(&third).await, Err("SRV-007".to_owned()));
        assert_eq!(is_in_force("").await, Err("SRV-007".to_owned()));
        assert_eq!(is_in_force(&"0".repeat(64)).await, Err("SRV-007".to_owned()));
    });
}

/// What was opened with a token goes on no longer than the token.
#[test]
fn streams_end_with_the_token_that_opened_them() {
    let server = Server::start(&[]).unwrap();
    run(async {
        let channel = channel(admin(&server)).await;
        let mut access = AccessServiceClient::new(channel.clone());
        for ends in ["logout", "sessions"] {
            let token = log_in(&channel, DEFAULT_LOGIN.0, DEFAULT_LOGIN.1).await;
            let bearer = format!("Bearer {token}");
            let mut audit = AuditServiceClient::new(channel.clone());
            let request =
                with_authorization(&bearer, TailEventsRequest { last: 1, filter: None, after_sequence: 0 });
            let mut tail = audit.tail_events(request).await.unwrap().into_inner();
            let mut cluster = ClusterServiceClient::new(channel.clone());
            let request = with_authorization(&bearer, WatchStatusRequest {});
            let mut status = cluster.watch_status(request).await.unwrap().into_inner();
            status.message().await.unwrap().unwrap();
            tail.message().await.unwrap().unwrap();
            if ends == "logout" {
                access.logout(with_authorization(&bearer, LogoutRequest {})).await.unwrap();
            } else {
                let request = EndSessionsRequest { user: DEFAULT_LOGIN.0.to_owned(), id: String::new() };
                access.end_sessions(by_admin(request)).await.unwrap();
            }
            let ended = loop {
                if let Err(ended) = tail.message().await {
                    break ended;
                }
            };
            assert_eq!(reason(&ended), "SRV-007", "{ends}: {ended:?}");
            let ended = loop {
                if let Err(ended) = status.message().await {
                    break ended;
                }
            };
            assert_eq!(reason(&ended), "SRV-007", "{ends}: {ended:?}");
        }
    });
}

#[test]
fn sessions_are_listed_and_ended() {
    let server = Server::start(&[]).unwrap();
    let user = format!(r#"{{"name":"al","password":"{PASSWORD}"}}"#);
    assert_eq!(call(&server, "POST", "/v1/users", &user).0, 200);
    let mut connection = Connection::open(server.address()).unwrap();
    let log_in = Command::Auth { user: "al".into(), password: PASSWORD.into() };
    assert_eq!(connection.call(&log_in).unwrap(), Ok(Reply::Ok));
    let mut other = Connection::login(server.address()).unwrap();
    let login = format!(r#"{{"user":"al","password":"{PASSWORD}"}}"#);
    assert_eq!(call_as(&server, None, "POST", "/v1/login", &login).0, 200);
    let (_, listed) = call(&server, "GET", "/v1/sessions", "");
    let of_al = |listed: &serde_json::Value| {
        let sessions = listed["sessions"].as_array().cloned().unwrap_or_default();
        sessions.into_iter().filter(|session| session["user"] == "al").collect::<Vec<_>>()
    };
    let sessions = of_al(&listed);
    assert_eq!(sessions.len(), 2, "a connection and a token: {listed}");
    assert!(
        sessions
            .iter()
            .any(|session| session["peer"].as_str().is_some_and(|peer| peer.contains("127.0.0.1")))
    );
    let (_, ended) = call(&server, "POST", "/v1/sessions/end", r#"{"user":"al"}"#);
    assert_eq!(ended["endedCount"], "2", "{ended}");
    assert_eq!(connection.call(&Command::WhoAmI).unwrap().unwrap_err().code, "SRV-007");
    assert!(other.call(&Command::WhoAmI).unwrap().is_ok(), "others stay");
    // Whoever knows the password may come again.
    assert_eq!(connection.call(&log_in).unwrap(), Ok(Reply::Ok));
    assert!(connection.call(&Command::WhoAmI).unwrap().is_ok());
    let listed = of_al(&call(&server, "GET", "/v1/sessions", "").1);
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    let (_, ended) = call(&server, "POST", "/v1/sessions/end", &format!(r#"{{"id":"{id}"}}"#));
    assert_eq!(ended["endedCount"], "1", "{ended}");
    assert_eq!(connection.call(&Command::WhoAmI).unwrap().unwrap_err().code, "SRV-007");
    drop(connection);
    assert_eq!(call(&server, "POST", "/v1/sessions/end", "{}").0, 400);

    // Who looks after users does not reach administrators.
    for (method, path, body) in [
        ("POST", "/v1/roles", r#"{"name":"keeper"}"#),
        ("POST", "/v1/roles/keeper/grants", r#"{"grant":{"permission":"user_admin","pattern":"*"}}"#),
        ("PUT", "/v1/users/al/roles/keeper", ""),
    ] {
        let (status, answer) = call(&server, method, path, body);
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let al = Some(("al", PASSWORD));
    let listed = call_as(&server, al, "GET", "/v1/sessions", "").1;
    let mut sessions = listed["sessions"].as_array().unwrap().iter();
    let id = &sessions.find(|session| session["user"] == "vaylix").unwrap()["id"];
    for body in [r#"{"user":"vaylix"}"#.to_owned(), format!(r#"{{"id":{id}}}"#)] {
        let (status, answer) = call_as(&server, al, "POST", "/v1/sessions/end", &body);
        assert_eq!((status, &answer["code"]), (403, &"SRV-017".into()), "{body}");
    }
    assert!(other.call(&Command::WhoAmI).unwrap().is_ok(), "it goes on");
    assert_eq!(call_as(&server, al, "POST", "/v1/sessions/end", r#"{"user":"al"}"#).0, 200);
}

/// A browser sends certificates, and requests to servers without login, for any page that asks it to.
#[test]
fn pages_of_other_sites_change_nothing() {
    let server = Server::start(&["--disable-auth"]).unwrap();
    let host = admin(&server).to_string();
    let post = |headers: &[(&str, &str)]| {
        vaylix_testkit::http::request(admin(&server), "POST", "/v1/snapshots", headers, b"").unwrap().status
    };
    let own = format!("http://{host}");
    for foreign in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site"), ("origin", &own)],
        &[("origin", "https://elsewhere.example")],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1:1")],
    ] {
        assert_eq!(post(foreign), 403, "{foreign:?}");
    }
    for ours in [&[][..], &[("origin", &*own)], &[("sec-fetch-site", "same-origin"), ("origin", &own)]] {
        assert_eq!(post(ours), 200, "{ours:?}");
    }
    let get = vaylix_testkit::http::request(
        admin(&server),
        "GET",
        "/v1/cluster/status",
        &[("sec-fetch-site", "cross-site")],
        b"",
    );
    assert_eq!(get.unwrap().status, 200, "what only looks may be linked to");
}

#[test]
fn wrong_passwords_lock_both_planes() {
    let server = Server::start(&["--auth-failure-limit", "3"]).unwrap();
    let wrong = Some(("vaylix", "guess"));
    let code = |(_, answer): (u16, serde_json::Value)| answer["code"].as_str().unwrap_or_default().to_owned();
    for _ in 0..3 {
        assert_eq!(code(call_as(&server, wrong, "GET", "/v1/whoami", "")), "SRV-008");
    }
    assert_eq!(call_as(&server, wrong, "GET", "/v1/whoami", "").0, 429);
    let mut connection = Connection::open(server.address()).unwrap();
    let (user, password) = DEFAULT_LOGIN;
    let auth = Command::Auth { user: user.into(), password: password.into() };
    assert_eq!(connection.call(&auth).unwrap().unwrap_err().code, "SRV-031");
}

#[test]
fn what_is_done_here_is_in_the_audit_log() {
    let mut server = Server::start(&[]).unwrap();
    let path = server.data_dir().join("audit.log");
    assert_eq!(call(&server, "POST", "/v1/roles", r#"{"name":"readers"}"#).0, 200);
    assert_eq!(call_as(&server, Some(("vaylix", "guess")), "GET", "/v1/whoami", "").0, 401);
    let added = r#"{"name":"n2","address":"127.0.0.1:1","validateOnly":true}"#;
    assert_eq!(call(&server, "POST", "/v1/cluster/members", added).0, 200);
    server.stop("TERM").unwrap();
    let log = std::fs::read_to_string(path).unwrap();
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |kind: &str, result: &str| {
        events.iter().find(|event| event["event_type"] == kind && event["details"]["result"] == result)
    };
    let created = find("rbac_create_role", "ok").unwrap();
    assert_eq!(created["details"]["role"], "readers");
    assert_eq!(created["username"], "vaylix");
    assert!(created["connection_id"].as_u64().unwrap() > 1 << 48, "{created}");
    assert_eq!(find("auth", "error").unwrap()["error_code"], "SRV-008");
    assert!(find("cluster_join", "error").is_some(), "what was only validated was not done: {log}");
}

#[test]
fn users_and_roles_are_the_same_on_both_planes() {
    let server = Server::start(&[]).unwrap();
    let user = format!(r#"{{"name":"al","password":"{PASSWORD}"}}"#);
    assert_eq!(call(&server, "POST", "/v1/users", &user).0, 200);
    assert_eq!(call(&server, "POST", "/v1/users", &user).0, 409);
    assert_eq!(call(&server, "PUT", "/v1/users/al/roles/admin", "").0, 200);
    let (_, answer) = call(&server, "GET", "/v1/users", "");
    assert_eq!(answer["users"][0]["name"], "al");
    assert_eq!(answer["users"][0]["roles"][0], "admin");
    assert_eq!(answer["users"][0]["enabled"], true);
    let mut connection = Connection::login(server.address()).unwrap();
    let Reply::Entries(entries) = connection.call(&Command::ShowUsers).unwrap().unwrap() else { panic!() };
    assert_eq!(entries[0].name, "al");
    let (_, who) = call_as(&server, Some(("al", PASSWORD)), "GET", "/v1/whoami", "");
    assert_eq!(who["user"], "al");
    assert!(who["permissions"].as_array().unwrap().contains(&"admin".into()), "{who}");
    assert_eq!(call(&server, "DELETE", "/v1/users/al/roles/admin", "").0, 200);
    assert_eq!(call(&server, "DELETE", "/v1/users/al", "").0, 200);
    assert_eq!(call(&server, "DELETE", "/v1/users/al", "").0, 404);
}
