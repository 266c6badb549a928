//! Prometheus and Grafana.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command as Process, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use vaylix_testkit::process::PATIENCE;
use vaylix_testkit::{Cluster, http, wait};

use crate::{Program, deployed, free_port};

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !is_part(letter))
        .filter(|word| word.starts_with("vaylix_"))
        .map(str::to_owned)
        .collect()
}

fn metrics(cluster: &Cluster, node: usize) -> SocketAddr {
    cluster.metrics_address(node).unwrap()
}

#[test]
fn every_figure_that_is_watched_exists() {
    let cluster = Cluster::start(3, &["--metrics-bind", "127.0.0.1:0"]).unwrap();
    let leader = cluster.await_leader(PATIENCE).unwrap();
    cluster.await_caught_up(PATIENCE).unwrap();
    let told = names(&http::get(metrics(&cluster, leader), "/metrics").unwrap().text());
    for file in ["prometheus/rules.yml", "grafana/vaylix.json"] {
        let text = fs::read_to_string(deployed(file)).unwrap();
        let watched = names(&text);
        assert!(watched.len() > 10, "{file}: {watched:?}");
        let unknown: Vec<_> = watched.difference(&told).collect();
        assert!(unknown.is_empty(), "{file} watches what is not there: {unknown:?}");
    }
}

#[test]
fn the_dashboard_is_one() {
    let text = fs::read_to_string(deployed("grafana/vaylix.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    for panel in panels {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty() && targets.iter().all(|target| target["expr"].is_string()), "{panel}");
    }
}

#[test]
#[ignore = "needs prometheus: tests/slow runs it"]
fn prometheus_takes_the_rules_and_scrapes_every_node() {
    let cluster = Cluster::start(3, &["--metrics-bind", "127.0.0.1:0"]).unwrap();
    cluster.await_leader(PATIENCE).unwrap();
    let dir = TempDir::new().unwrap();
    fs::copy(deployed("prometheus/rules.yml"), dir.path().join("rules.yml")).unwrap();
    let nodes: Vec<_> = (0..3).map(|node| format!("\"{}\"", metrics(&cluster, node))).collect();
    let config = fs::read_to_string(deployed("prometheus/prometheus.yml"))
        .unwrap()
        .replace(r#""n1:9176", "n2:9176", "n3:9176""#, &nodes.join(", "))
        .replace("15s", "1s");
    assert!(config.contains(&nodes[0]), "the targets are where they were: {config}");
    let path = dir.path().join("prometheus.yml");
    fs::write(&path, config).unwrap();
    let checked = Process::new("promtool").args(["check", "config"]).arg(&path).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut prometheus = Process::new("prometheus");
    prometheus
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"));
    let _prometheus = Program::start(prometheus.stdout(Stdio::null()).stderr(Stdio::null()));
    let ask = |path: &str| -> Option<Value> {
        let response = http::get(address, path).ok().filter(|response| response.status == 200)?;
        serde_json::from_slice(&response.body).ok()
    };
    let count = |query: &str| -> Option<String> {
        let answer = ask(&format!("/api/v1/query?query={query}"))?;
        Some(answer["data"]["result"].get(0)?["value"][1].as_str()?.to_owned())
    };
    for (query, expected) in [
        ("count(up==1)", "3"),
        ("sum(vaylix_node_leader)", "1"),
        ("count(vaylix_node_ready==1)", "3"),
        ("count(vaylix_peer_lag_entries)", "2"),
    ] {
        let is_so = wait::within(query, PATIENCE, || (count(query)? == expected).then_some(()));
        assert!(is_so.is_ok(), "{query}: {:?}", count(query));
    }
    // What is asked before the first scrape finds nobody, for an evaluation or two.
    let is_quiet =
        wait::within("all rules are evaluated, and a healthy cluster alerts nobody", PATIENCE, || {
            let answer = ask("/api/v1/rules")?;
            let rules = answer["data"]["groups"][0]["rules"].as_array()?;
            let is_quiet = rules.iter().all(|rule| rule["health"] == "ok" && rule["state"] == "inactive");
            (rules.len() > 10 && is_quiet).then_some(())
        });
    assert!(is_quiet.is_ok(), "{:?}", ask("/api/v1/rules"));
}
