//! INFO, METRICS, HEALTH and the status commands.

use std::collections::BTreeMap;

use vaylix_access::{Authentication, Metric};
use vaylix_proto::Reply;

use crate::support::{Server, Session, parse, report, required, root, run};

/// Every INFO field that is no metric, written down apart from the code.
const INFO: &str = "audit.commands
audit.failures
audit.last_sequence
audit.status
audit.suppressed_events
health.status
persistence.last_recovery_duration_ms
persistence.last_snapshot_at_ms
persistence.last_snapshot_duration_ms
persistence.last_snapshot_failure_at_ms
persistence.oldest_retained_sequence
persistence.snapshot_failure_count
persistence.wal_segment_count
persistence.wal_size_bytes
persistence.wal_sync_policy
replication.client.append.failure.count
replication.client.append.latency.avg.ms
replication.client.connection.opened.count
replication.client.heartbeat.failure.count
replication.client.reconnect.count
replication.commit_sequence
replication.group_id
replication.health
replication.leader_node_id
replication.node_id
replication.paused
replication.reason
replication.retention_floor_sequence
replication.role
replication.upstream
replication.write_ack_mode
runtime.auth_failure_limit
runtime.auth_failure_window_seconds
runtime.auth_lockout_seconds
runtime.backup_dir
runtime.expiration_sweep_interval_seconds
runtime.handshake_timeout_ms
runtime.idle_timeout_seconds
runtime.key_rotation_days
runtime.locked_auth_records
runtime.maintenance_mode
runtime.max_connections
runtime.max_key_bytes
runtime.max_keys_per_batch
runtime.max_request_payload_bytes
runtime.max_transaction_queue_len
runtime.max_value_bytes
runtime.request_burst
runtime.requests_per_second
runtime.slow_command_threshold_ms
runtime.snapshot_interval_seconds
runtime.snapshot_log_bytes
runtime.transaction_max_seconds
runtime.wal_retain_segments
runtime.wal_segment_size_bytes
security.auth_mode
security.auth_required
security.cert_days_remaining
security.cert_fingerprint_sha256
security.cert_not_after_ms
security.cert_not_before_ms
security.cert_subject
security.insecure_auth_disabled
security.insecure_default_credentials
security.last_tls_reload_failure_at_ms
security.last_tls_reload_success_at_ms
security.mtls_enabled
security.rbac_enabled
security.storage_encryption
security.storage_key_age_seconds
security.storage_key_count
security.storage_key_id
security.storage_keyring_wrapped
security.tls_enabled
security.tls_mode
server.git_sha
server.mode
server.version
storage.engine_version
storage.key_count
storage.last_applied_sequence
transport.compression
transport.compression_mode
transport.compression_threshold_bytes
transport.max_decompressed_frame_len
transport.max_frame_len
transport.protocol_magic
transport.protocol_version";

async fn entries(session: &mut Session, line: &str) -> Vec<(String, String)> {
    let Ok(Reply::Entries(entries)) = session.call(parse(line)).await else { panic!("{line}") };
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    entries.iter().map(|entry| (entry.name.to_string(), text(&entry.value))).collect()
}

#[test]
fn info_has_every_field_in_order_with_true_values() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        main.says("> set a 1\nOK\n> set b 2\nOK\n> get a\n1").await;
        let info = entries(&mut main, "info").await;
        let names: Vec<&str> = info.iter().map(|(name, _)| &**name).collect();
        let metrics = Metric::ALL.iter().map(|metric| format!("metrics.{}", metric.name()));
        let mut expected: Vec<String> = INFO.lines().map(str::to_owned).chain(metrics).collect();
        expected.sort();
        assert_eq!(names, expected);

        let applied = server.node.status().applied_index.to_string();
        let key_id = server.node.status().keys.active_id;
        let info: BTreeMap<&str, &str> = info.iter().map(|(name, value)| (&**name, &**value)).collect();
        for (name, value) in [
            ("health.status", "ready"),
            ("metrics.vaylix.server.auth.success.count", "1"),
            ("metrics.vaylix.server.read.fastpath.hit.count", "1"),
            // The administrator and two values.
            ("metrics.vaylix.server.ha.write.coordinated.count", "3"),
            ("metrics.vaylix.server.read.index.lag", "0"),
            ("persistence.last_snapshot_at_ms", "none"),
            ("persistence.last_snapshot_failure_at_ms", "none"),
            ("persistence.snapshot_failure_count", "0"),
            ("persistence.oldest_retained_sequence", "1"),
            ("persistence.wal_segment_count", "1"),
            ("persistence.wal_sync_policy", "sync"),
            ("replication.commit_sequence", &applied),
            ("replication.leader_node_id", "none"),
            ("replication.node_id", "n1"),
            ("replication.role", "standalone"),
            ("replication.write_ack_mode", "majority"),
            ("audit.commands", "false"),
            ("audit.status", "ready"),
            ("runtime.auth_failure_limit", "5"),
            ("runtime.auth_failure_window_seconds", "300"),
            ("runtime.auth_lockout_seconds", "900"),
            ("runtime.locked_auth_records", "0"),
            ("runtime.slow_command_threshold_ms", "100"),
            ("runtime.maintenance_mode", "false"),
            ("runtime.max_connections", "256"),
            ("runtime.handshake_timeout_ms", "5000"),
            ("runtime.max_key_bytes", "1024"),
            ("runtime.max_value_bytes", "262144"),
            ("runtime.max_transaction_queue_len", "128"),
            ("runtime.requests_per_second", "250000"),
            ("runtime.request_burst", "500000"),
            ("runtime.idle_timeout_seconds", "disabled"),
            ("security.auth_mode", "password"),
            ("security.auth_required", "true"),
            ("security.insecure_default_credentials", "false"),
            ("security.rbac_enabled", "true"),
            ("runtime.key_rotation_days", "disabled"),
            ("runtime.snapshot_interval_seconds", "disabled"),
            ("runtime.snapshot_log_bytes", "268435456"),
            ("security.storage_encryption", "enabled"),
            ("security.storage_key_count", "1"),
            ("security.storage_key_id", &key_id),
            ("security.storage_keyring_wrapped", "false"),
            ("security.tls_mode", "plaintext"),
            ("server.mode", "single-node"),
            ("server.version", "0.9.0"),
            ("storage.engine_version", "3"),
            ("storage.key_count", "2"),
            ("storage.last_applied_sequence", &applied),
            ("transport.compression", "zstd"),
            ("transport.compression_threshold_bytes", "1024"),
            ("transport.max_frame_len", "8388608"),
            ("transport.protocol_magic", "VTP2"),
            ("transport.protocol_version", "2"),
        ] {
            assert_eq!(info[name], value, "{name}");
        }

        main.says("> save\nOK").await;
        let info: BTreeMap<String, String> = entries(&mut main, "info").await.into_iter().collect();
        assert_eq!(info["metrics.vaylix.persistence.snapshot.completed.count"], "1");
        assert!(info["persistence.last_snapshot_at_ms"].parse::<u64>().is_ok());
        assert!(info["persistence.last_snapshot_duration_ms"].parse::<u64>().is_ok());

        // Not only the snapshots that a client asked for: here it is the one that comes with a new key.
        assert_eq!(server.node.rotate_storage_key().await.unwrap(), server.node.status().keys.active_id);
        let later: BTreeMap<String, String> = entries(&mut main, "info").await.into_iter().collect();
        assert_eq!(later["metrics.vaylix.persistence.snapshot.completed.count"], "2");
        assert_ne!(later["security.storage_key_id"], info["security.storage_key_id"]);
        assert_eq!(later["security.storage_key_count"], "2");
        assert!(later["security.storage_key_age_seconds"].parse::<u64>().unwrap() < 60);

        // Nor only those of this process.
        drop(main);
        let server = server.restart(required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let info: BTreeMap<String, String> = entries(&mut main, "info").await.into_iter().collect();
        assert_eq!(info["persistence.last_snapshot_at_ms"], later["persistence.last_snapshot_at_ms"]);
        assert_eq!(info["persistence.last_snapshot_duration_ms"], "none");
    });
}

#[test]
fn info_of_an_open_server() {
    run(async |dir| {
        let server = Server::start(&dir, Authentication::Disabled).await;
        let info: BTreeMap<String, String> =
            entries(&mut server.connect(), "info").await.into_iter().collect();
        for (name, value) in [
            ("security.auth_mode", "disabled"),
            ("security.auth_required", "false"),
            ("security.insecure_auth_disabled", "true"),
            ("security.rbac_enabled", "false"),
        ] {
            assert_eq!(info[name], value, "{name}");
        }
    });
}

#[test]
fn metrics_count() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut nobody = server.connect();
        assert!(nobody.auth("root", "wrong").await.is_err());
        assert!(nobody.auth("ghost", "wrong").await.is_err());
        assert!(nobody.line("get a").await.starts_with("ERROR [SRV-007]"));
        let mut main = server.login("root", "rootpw").await;
        main.says("> get a\nNOT_FOUND\n> mget a b\n(nil), (nil)\n> exists a\nfalse\n> ttl a\n-2\n> count\n0")
            .await;
        let metrics = entries(&mut main, "metrics").await;
        let names: Vec<&str> = metrics.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, Metric::ALL.iter().map(|metric| metric.name()).collect::<Vec<_>>());
        let counters = server.door.counters();
        assert_eq!(counters.get(Metric::LoginsFailed), 3);
        assert_eq!(counters.get(Metric::LoginsSucceeded), 1);
        assert_eq!(counters.get(Metric::FastReads), 4);
        assert_eq!(counters.get(Metric::SlowReads), 0);
        let text = main.line("metrics prom").await;
        assert_eq!(text, counters.prometheus());
        assert!(text.contains("\nvaylix_server_auth_failure_count 3\n"));
    });
}

#[test]
fn status_of_a_node_of_one() {
    run(async |dir| {
        let server = Server::start(&dir, required(root(true))).await;
        let mut main = server.login("root", "rootpw").await;
        let health = [
            ("status", "ready"),
            ("ready", "true"),
            ("reason", "none"),
            ("role", "standalone"),
            ("maintenance_mode", "false"),
        ];
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        assert_eq!(entries(&mut main, "health").await, owned(&health));
        let path = report(&dir).data_dir.join("maintenance.mode");
        let maintenance = [("enabled", "false"), ("path", path.to_str().unwrap())];
        assert_eq!(entries(&mut main, "maintenance status").await, owned(&maintenance));

        let status = server.node.status();
        let (index, term) = (status.applied_index.to_string(), status.term.to_string());
        let cluster = [
            ("node_id", "n1"),
            ("group_id", "default"),
            ("role", "standalone"),
            ("current_term", &term),
            ("leader_node_id", "none"),
            ("leader_advertise_addr", "none"),
            ("commit_index", &index),
            ("last_applied_index", &index),
            ("quorum_size", "1"),
            ("member_count", "1"),
            ("sync_policy", "majority"),
            ("health", "ready"),
            ("member.n1.advertise_addr", "127.0.0.1:9173"),
            ("member.n1.voter", "true"),
        ];
        assert_eq!(entries(&mut main, "show cluster").await, owned(&cluster));
        let replication = [
            ("node_id", "n1"),
            ("group_id", "default"),
            ("role", "standalone"),
            ("advertise_addr", "127.0.0.1:9173"),
            ("leader_node_id", "none"),
            ("leader_advertise_addr", "none"),
            ("upstream", "none"),
            ("write_ack_mode", "majority"),
            ("current_term", &term),
            ("voted_for", "none"),
            ("quorum_size", "1"),
            ("paused", "false"),
            ("health", "ready"),
            ("reason", "none"),
            ("local_last_applied_sequence", &index),
            ("commit_sequence", &index),
            ("retention_floor_sequence", "1"),
            ("follower_phase", "none"),
            ("follower_lag_entries", "none"),
            ("follower_lag_ms", "none"),
            ("known_followers", "0"),
            ("member.n1.advertise_addr", "127.0.0.1:9173"),
            ("member.n1.voter", "true"),
        ];
        assert_eq!(entries(&mut main, "show replication").await, owned(&replication));
    });
}
