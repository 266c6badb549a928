//! What `vaylixctl` does without a server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn run(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vaylixctl"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VAYLIX") {
            command.env_remove(name);
        }
    }
    command.arg("--config").arg(config).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output, told: &str) {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{output:?}");
}

#[test]
fn contexts_are_kept() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("ctl.toml");
    let ctl = |arguments: &[&str]| run(&config, arguments);
    done(&ctl(&["context", "set", "west", "--endpoint", "w1,w2:1", "--user", "ops"]));
    done(&ctl(&["context", "set", "east", "--endpoint", "e1"]));
    assert!(done(&ctl(&["context", "list"])).contains("*  west"));
    done(&ctl(&["context", "use", "east"]));
    let listed = done(&ctl(&["context", "list"]));
    assert!(listed.contains("w1:9174,w2:1") && listed.contains("*  east"), "{listed}");
    done(&ctl(&["context", "remove", "east"]));
    refused(&ctl(&["context", "use", "east"]), "east");
    refused(&ctl(&["context", "set", "x", "--endpoint", "e", "--password", "p"]), "password");
    refused(&ctl(&["context", "set", "x"]), "--endpoint");
}

#[test]
fn shells_and_man_get_what_they_need() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("ctl.toml");
    assert!(done(&run(&config, &["completions", "bash"])).contains("vaylixctl"));
    let pages = folder.path().join("man");
    done(&run(&config, &["man", pages.to_str().unwrap()]));
    assert!(pages.join("vaylixctl.1").exists() && pages.join("vaylixctl-backup-restore.1").exists());
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    let config = Path::new("/nonexistent/ctl.toml");
    refused(&run(config, &["no-such-verb"]), "no-such-verb");
    refused(&run(config, &["status", "--context", "west"]), "west");
    refused(&run(config, &["status"]), "there is no such file of contexts");
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("ctl.toml");
    fs::write(&empty, "").unwrap();
    refused(&run(&empty, &["status"]), "VAYLIX_PASSWORD");
    refused(&run(&empty, &["status", "--password-file", "/nonexistent/password"]), "/nonexistent/password");
    refused(&run(&empty, &["drain", "on", "--password", "x"]), "--yes");
    let help = done(&run(config, &["--help"]));
    assert!(help.contains("Exit status: 0 done"), "{help}");
}
