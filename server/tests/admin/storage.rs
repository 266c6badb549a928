//! What a running node has on disk, verified through the control plane.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tonic::Streaming;
use tonic::transport::Channel;
use vaylix_admin_proto::v1::audit_service_client::AuditServiceClient;
use vaylix_admin_proto::v1::cluster_service_client::ClusterServiceClient;
use vaylix_admin_proto::v1::maintenance_service_client::MaintenanceServiceClient;
use vaylix_admin_proto::v1::verify_storage_response::Event;
use vaylix_admin_proto::v1::*;
use vaylix_testkit::process::PATIENCE;
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::workload::Workload;
use vaylix_testkit::{Server, http, wait};

use crate::support::{ADMIN, admin, by_admin, call, channel, run};

/// What was told of one verification.
#[derive(Debug)]
struct Told {
    findings: Vec<StorageFinding>,
    progress: Vec<StorageProgress>,
    done: StorageVerification,
}

async fn begin(channel: &Channel) -> Streaming<VerifyStorageResponse> {
    let mut client = MaintenanceServiceClient::new(channel.clone());
    client.verify_storage(by_admin(VerifyStorageRequest {})).await.unwrap().into_inner()
}

async fn to_its_end(mut stream: Streaming<VerifyStorageResponse>) -> Told {
    let (mut findings, mut progress, mut done) = (Vec::new(), Vec::new(), None);
    while let Some(told) = stream.message().await.unwrap() {
        assert!(done.is_none(), "nothing comes behind the end");
        assert!(told.header.is_some());
        match told.event.unwrap() {
            Event::Waiting(_) => {}
            Event::Progress(step) => progress.push(step),
            Event::Finding(finding) => findings.push(finding),
            Event::Done(summary) => done = Some(summary),
        }
    }
    Told { findings, progress, done: done.expect("it came to its end") }
}

fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(data_dir.join("wal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "wal"))
        .filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with("active"))
        .collect();
    found.sort();
    found
}

fn metrics(server: &Server) -> String {
    let authorization = http::basic(ADMIN.0, ADMIN.1);
    let response =
        http::request(admin(server), "GET", "/metrics", &[("authorization", &authorization)], b"").unwrap();
    response.text().to_string()
}

#[test]
fn a_finding_is_told_logged_audited_and_counted() {
    // Segments of a few writes each.
    let server = Server::start(&["--wal-segment-size-bytes", "65536"]).unwrap();
    let mut data = Connection::login(server.address()).unwrap();
    for number in 0..200 {
        data.call(&set_command(&format!("k{number}"), "v".repeat(2000))).unwrap().unwrap();
    }
    assert_eq!(call(&server, "POST", "/v1/snapshots", "").0, 200);
    run(async {
        let channel = channel(admin(&server)).await;
        let status = async || {
            let mut client = ClusterServiceClient::new(channel.clone());
            client.get_status(by_admin(GetStatusRequest {})).await.unwrap().into_inner().status.unwrap()
        };
        assert_eq!(status().await.last_verification, None);
        // The help of another figure names it, too.
        assert!(!metrics(&server).contains("\nvaylix_storage_verified_timestamp_seconds "));

        let told = to_its_end(begin(&channel).await).await;
        assert_eq!(told.findings, [], "nothing is wrong");
        assert_eq!(told.done.finding_count, 0);
        assert!(told.done.byte_count > 200 * 2000 && told.done.entry_count >= 200, "{told:?}");
        assert!(told.done.segment_count > 2 && told.done.snapshot_count == 1, "{told:?}");
        assert!(told.done.audit_event_count > 0, "{told:?}");
        assert_eq!(status().await.last_verification, Some(told.done));
        let page = metrics(&server);
        assert!(page.contains("\nvaylix_storage_findings 0\n"), "{page}");
        assert!(page.contains("\nvaylix_storage_verified_timestamp_seconds "), "{page}");

        // A bit that the disk has turned in a record that is not read until somebody restores.
        let segment = &segments(server.data_dir())[0];
        let file = fs::OpenOptions::new().read(true).write(true).open(segment).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 700).unwrap();
        file.write_all_at(&[byte[0] ^ 4], 700).unwrap();

        let told = to_its_end(begin(&channel).await).await;
        assert_eq!((told.findings.len(), told.done.finding_count), (1, 1), "{told:?}");
        let finding = &told.findings[0];
        assert_eq!(finding.code, "ENG-007");
        assert_eq!(finding.file, segment.display().to_string());
        assert_eq!(finding.offset, Some(512), "{finding:?}");
        assert!(!finding.message.is_empty() && finding.advice.contains("restore"), "{finding:?}");
        assert_eq!(status().await.last_verification.unwrap().finding_count, 1);
        assert!(metrics(&server).contains("\nvaylix_storage_findings 1\n"));
        assert!(server.logs("damage on disk").unwrap().contains("ENG-007"));

        let mut audit = AuditServiceClient::new(channel.clone());
        let mut events = async |event_type: &str| {
            let filter = AuditFilter { event_type: event_type.to_owned(), ..Default::default() };
            let request = ReadEventsRequest { size: 1000, filter: Some(filter), ..Default::default() };
            audit.read_events(by_admin(request)).await.unwrap().into_inner().events
        };
        let asked = events("storage_verification").await;
        assert_eq!(asked.len(), 2);
        assert!(asked.iter().all(|event| event.user == "vaylix" && event.status == "ok"), "{asked:?}");
        let damage = events("storage_damage").await;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!(damage[0].details["error_code"], "ENG-007");
        assert_eq!(damage[0].details["file"], finding.file);
        let ended = events("storage_verified").await;
        let counts: Vec<_> = ended.iter().map(|event| event.details["findings"].as_str()).collect();
        assert_eq!(counts, ["0", "1"]);
        assert!(ended.iter().all(|event| event.details["result"] == "complete"), "{ended:?}");
    });
}

/// While clients write, snapshots are taken and the log behind them goes.
#[test]
fn a_server_at_work_is_never_suspected() {
    let server = Server::start(&[
        "--wal-segment-size-bytes",
        "65536",
        "--wal-retain-segments",
        "1",
        "--pitr-retain-bytes",
        "400000",
        "--audit-max-bytes",
        "4096",
    ])
    .unwrap();
    let workload = Workload::new(&[server.address()]).start().unwrap();
    run(async {
        let channel = channel(admin(&server)).await;
        let mut segments_before = segments(server.data_dir());
        let mut gone = 0;
        for _ in 0..8 {
            workload.await_writes(200, PATIENCE).unwrap();
            let stream = begin(&channel).await;
            assert_eq!(call(&server, "POST", "/v1/snapshots", "").0, 200);
            let told = to_its_end(stream).await;
            assert_eq!(told.findings, [], "nothing is wrong");
            let segments = segments(server.data_dir());
            gone += segments_before.iter().filter(|segment| !segments.contains(segment)).count();
            segments_before = segments;
        }
        assert!(gone > 0, "the log behind the snapshots went");
    });
    workload.finish(PATIENCE).unwrap();
}

#[test]
fn one_at_a_time_and_gone_with_whoever_asked() {
    const AT_ONCE: usize = 8;
    let server = Server::start(&["--wal-segment-size-bytes", "1048576"]).unwrap();
    let mut data = Connection::login(server.address()).unwrap();
    for number in 0..40 {
        data.call(&set_command(&format!("k{number}"), "v".repeat(200_000))).unwrap().unwrap();
    }
    let results = || {
        let filter = r#"{"size":1000,"filter":{"eventType":"storage_verified"}}"#;
        let events = call(&server, "POST", "/v1/audit/events", filter).1;
        let result = |event: &serde_json::Value| event["details"]["result"].as_str().unwrap().to_owned();
        events["events"].as_array().map(|events| events.iter().map(result).collect()).unwrap_or_default()
    };
    run(async {
        let channel = channel(admin(&server)).await;
        let mut streams = Vec::new();
        for _ in 0..AT_ONCE {
            streams.push(begin(&channel).await);
        }
        let mut waited = 0;
        for stream in &mut streams {
            let told = stream.message().await.unwrap().unwrap().event.unwrap();
            match told {
                Event::Waiting(_) => waited += 1,
                Event::Progress(StorageProgress { done_bytes: 0, .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(waited > 0, "one at a time");
        for stream in streams {
            let told = to_its_end(stream).await;
            assert_eq!(told.findings, []);
            assert!(
                told.progress.windows(2).all(|pair| pair[0].done_bytes <= pair[1].done_bytes),
                "{told:?}"
            );
            assert!(told.progress.iter().all(|step| step.done_bytes <= step.total_bytes), "{told:?}");
        }
        let ended: Vec<String> = results();
        assert_eq!(ended, vec!["complete"; AT_ONCE]);
    });
    let _busy = Workload::new(&[server.address()]).start().unwrap();
    wait::within("one was cancelled", PATIENCE, || {
        run(async {
            let mut stream = begin(&channel(admin(&server)).await).await;
            stream.message().await.unwrap().unwrap();
        });
        let ended: Vec<String> = results();
        ended.iter().any(|result| result == "cancelled").then_some(())
    })
    .unwrap();
}
