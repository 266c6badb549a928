//! Backups through the control plane.

use serde_json::json;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_types::StatusExt as _;
use vaylix_admin_proto::v1::backup_service_client::BackupServiceClient;
use vaylix_admin_proto::v1::*;
use vaylix_proto::{Command, Reply};
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Server, http};

use crate::support::{ADMIN, admin, by_admin, call, channel, run};

/// Together larger than a chunk, and than what a request without a backup may bring.
const VALUE_BYTES: usize = 60_000;
const KEYS: [&str; 12] = ["a", "b", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9", "k10"];

fn filled() -> (Server, String) {
    let server = Server::start(&[]).unwrap();
    let value = "v".repeat(VALUE_BYTES);
    let mut connection = Connection::login(server.address()).unwrap();
    for key in KEYS {
        assert_eq!(connection.call(&set_command(key, value.clone())).unwrap(), Ok(Reply::Ok));
    }
    (server, value)
}

fn get(server: &Server, key: &str) -> Reply {
    Connection::login(server.address()).unwrap().call(&Command::Get { key: key.into() }).unwrap().unwrap()
}

#[test]
fn a_backup_is_made_listed_checked_and_restored() {
    let (server, value) = filled();
    let (status, made) = call(&server, "POST", "/v1/backups", r#"{"name":"daily/one.json"}"#);
    assert_eq!(status, 200, "{made}");
    assert_eq!(made["backup"]["entryCount"], "12");
    let (_, listed) = call(&server, "GET", "/v1/backups", "");
    assert_eq!(listed["backups"][0]["name"], "daily/one.json", "{listed}");
    assert_eq!(listed["backups"][0]["hasManifest"], true);
    assert_eq!(listed["backups"][0]["sizeBytes"], made["backup"]["sizeBytes"]);
    let name = "/v1/backups/daily%2Fone.json";
    let (status, checked) = call(&server, "POST", &format!("{name}/verify"), "");
    assert_eq!((status, &checked["backup"]["sha256"]), (200, &made["backup"]["sha256"]), "{checked}");
    assert!(call(&server, "GET", "/v1/cluster/status", "").1["status"]["lastBackupAtMs"].as_str().is_some());

    let mut connection = Connection::login(server.address()).unwrap();
    connection.call(&Command::Del { keys: vec!["a".into()] }).unwrap().unwrap();
    connection.call(&set_command("c", "new")).unwrap().unwrap();
    for unclear in ["TRUE", "yes", "1", "true&validateOnly=false"] {
        let (status, answer) = call(&server, "POST", &format!("{name}/restore?validateOnly={unclear}"), "");
        assert_eq!((status, &answer["code"]), (400, &"SRV-030".into()), "{unclear}: {answer}");
    }
    let (_, planned) = call(&server, "POST", &format!("{name}/restore"), r#"{"validateOnly":true}"#);
    assert_eq!((&planned["entryCount"], &planned["done"]), (&json!("12"), &json!(null)), "{planned}");
    assert_eq!(get(&server, "a"), Reply::NotFound, "it was only looked at");
    let (status, restored) = call(&server, "POST", &format!("{name}/restore"), "");
    assert_eq!((status, &restored["done"]), (200, &json!(true)), "{restored}");
    assert_eq!(get(&server, "a"), Reply::Value(value.clone().into()));
    assert_eq!(get(&server, "c"), Reply::NotFound);

    assert_eq!(call(&server, "DELETE", name, "").0, 200);
    assert_eq!(call(&server, "DELETE", name, "").0, 404, "there is none any more");
    for (method, path) in [("GET", "content"), ("POST", "verify"), ("POST", "restore")] {
        assert_eq!(call(&server, method, &format!("{name}/{path}"), "").0, 404, "{path}");
    }
    // A manifest goes with its document.
    let (status, problem) = call(&server, "DELETE", "/v1/backups/other.json.manifest.json", "");
    assert_eq!((status, &problem["code"]), (400, &json!("SRV-027")), "{problem}");
    assert!(call(&server, "GET", "/v1/backups", "").1["backups"].as_array().is_none_or(Vec::is_empty));
}

#[test]
fn a_backup_travels_over_both_protocols() {
    let (server, _) = filled();
    assert_eq!(call(&server, "POST", "/v1/backups", r#"{"name":"one.json"}"#).0, 200);
    let authorization = http::basic(ADMIN.0, ADMIN.1);
    let headers = [("authorization", authorization.as_str())];
    let at = |name: &str| format!("/v1/backups/{name}/content");
    let over_http = http::request(admin(&server), "GET", &at("one.json"), &headers, b"").unwrap();
    assert_eq!(over_http.status, 200, "{}", over_http.text());
    let document = over_http.body;
    assert!(document.len() > KEYS.len() * VALUE_BYTES);
    run(async {
        let mut client = BackupServiceClient::new(channel(admin(&server)).await);
        let wanted = DownloadBackupRequest { name: "one.json".to_owned() };
        let mut parts = client.download_backup(by_admin(wanted)).await.unwrap().into_inner();
        let first = parts.message().await.unwrap().unwrap();
        assert!(first.header.is_some());
        assert_eq!(usize::try_from(first.size_bytes).unwrap(), document.len());
        let mut bytes = Vec::new();
        while let Some(part) = parts.next().await {
            bytes.extend(part.unwrap().chunk);
        }
        assert!(bytes == document, "both hand out the same");

        let name = UploadBackupRequest { name: "two.json".to_owned(), chunk: Vec::new() };
        let chunks = document
            .chunks(60_000)
            .map(|chunk| UploadBackupRequest { chunk: chunk.to_vec(), ..Default::default() });
        let parts: Vec<_> = std::iter::once(name).chain(chunks).collect();
        let taken = client.upload_backup(by_admin(tokio_stream::iter(parts))).await.unwrap().into_inner();
        assert_eq!(taken.backup.unwrap().entry_count, 12);
    });
    let uploaded = http::request(admin(&server), "PUT", &at("three.json"), &headers, &document).unwrap();
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    for name in ["two.json", "three.json"] {
        let (status, checked) = call(&server, "POST", &format!("/v1/backups/{name}/verify"), "");
        assert_eq!(status, 200, "{checked}");
    }
    let answer = call(&server, "POST", "/v1/backups/three.json/restore", "");
    assert_eq!(answer.0, 200, "{}", answer.1);
}

#[test]
fn what_is_no_backup_does_not_become_one() {
    let (server, _) = filled();
    assert_eq!(call(&server, "POST", "/v1/backups", r#"{"name":"one.json"}"#).0, 200);
    let authorization = http::basic(ADMIN.0, ADMIN.1);
    let headers = [("authorization", authorization.as_str())];
    let document =
        http::request(admin(&server), "GET", "/v1/backups/one.json/content", &headers, b"").unwrap().body;
    let half = &document[..document.len() / 2];
    for (name, body) in [("half.json", half), ("text.json", b"no backup".as_slice())] {
        let path = format!("/v1/backups/{name}/content");
        let refused = http::request(admin(&server), "PUT", &path, &headers, body).unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!((refused.status, problem["code"].as_str()), (400, Some("SRV-029")), "{problem}");
    }
    for outside in ["..%2Fx.json", "%2Fetc%2Fpasswd", "a%2F..%2F..%2Fx"] {
        let path = format!("/v1/backups/{outside}/content");
        let refused = http::request(admin(&server), "GET", &path, &headers, b"").unwrap();
        assert!(refused.status >= 400, "{outside}: {}", refused.text());
        let refused = http::request(admin(&server), "PUT", &path, &headers, &document).unwrap();
        assert!(refused.status >= 400, "{outside}: {}", refused.text());
    }
    let (_, listed) = call(&server, "GET", "/v1/backups", "");
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1, "{listed}");
    run(async {
        let mut client = BackupServiceClient::new(channel(admin(&server)).await);
        let missing = DownloadBackupRequest { name: "missing.json".to_owned() };
        let refused = client.download_backup(by_admin(missing)).await.unwrap_err();
        assert_ne!(refused.code(), Code::Unknown, "{refused}");
        assert!(refused.get_details_error_info().is_some_and(|info| !info.reason.is_empty()), "{refused}");
    });
}
