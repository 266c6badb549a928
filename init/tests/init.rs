//! `vaylix-init` as a process: what it leaves behind, and what the command it starts is.
//!
//! Root gives away directories and changes into another user; anybody else only creates directories. Both are looked at,
//! depending on who runs the tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A user that is nobody's.
const UID: u32 = 65_531;
const GID: u32 = 65_530;

fn init(data_dir: &Path) -> Command {
    let mut init = Command::new(env!("CARGO_BIN_EXE_vaylix-init"));
    init.env_clear().env("PATH", "/usr/bin:/bin").env("VAYLIX_DATA_DIR", data_dir);
    init.env("VAYLIX_RUNTIME_UID", UID.to_string()).env("VAYLIX_RUNTIME_GID", GID.to_string());
    init
}

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

#[test]
fn directories_are_created_and_the_command_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backups) = (folder.path().join("a/data"), folder.path().join("b/backups"));
    let child = init(&data)
        .env("VAYLIX_BACKUP_DIR", &backups)
        .args(["sh", "-c", "echo $$; grep -E '^(Uid|Gid|Groups|SigBlk|SigIgn):' /proc/self/status"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), id.to_string(), "the same process");
    let status: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    let (uid, gid) = if is_root() {
        (UID, GID)
    } else {
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    };
    assert_eq!(status[0][1..], [uid.to_string().as_str(); 4]);
    assert_eq!(status[1][1..], [gid.to_string().as_str(); 4]);
    if is_root() {
        assert_eq!(status[2], ["Groups:"], "no other group");
    }
    // Bits count from signal 1. A closed pipe and being told to stop are neither held back nor ignored.
    const PIPE_AND_TERM: u64 = 1 << 12 | 1 << 14;
    for signals in &status[3..5] {
        let set = u64::from_str_radix(signals[1], 16).unwrap();
        assert_eq!(set & PIPE_AND_TERM, 0, "{signals:?}");
    }
    for path in [&data, &backups] {
        assert_eq!(owner(path), (uid, gid), "{}", path.display());
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700);
    }
}

#[test]
fn what_others_left_in_the_directories_is_given_to_the_server_and_links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (data, outside) = (folder.path().join("data"), folder.path().join("outside"));
    fs::create_dir_all(data.join("wal/deep")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "x").unwrap();
    fs::write(data.join("wal/deep/file"), "x").unwrap();
    symlink(&outside, data.join("link")).unwrap();
    symlink(outside.join("file"), data.join("wal/link")).unwrap();
    let before = owner(&outside);
    let output = init(&data).arg("true").output().unwrap();
    assert_eq!(said(&output), (Some(0), String::new()));
    assert!(data.join("backups").is_dir());
    assert_eq!(owner(&outside), before);
    assert_eq!(owner(&outside.join("file")), before);
    let expected = if is_root() { (UID, GID) } else { before };
    for name in ["", "wal", "wal/deep", "wal/deep/file", "link", "wal/link", "backups"] {
        assert_eq!(owner(&data.join(name)), expected, "{name}");
    }
    // Once more, when everything is as it should be.
    assert_eq!(said(&init(&data).arg("true").output().unwrap()), (Some(0), String::new()));
}

#[test]
fn failures_are_one_line_and_nothing_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let refused = "[vaylix-init] no command was given: name the program to start, as in `vaylix-init vaylix`";
    assert_eq!(said(&init(&data).output().unwrap()), (Some(1), refused.to_owned()));

    let output = init(&data).env("VAYLIX_RUNTIME_UID", "root").arg("true").output().unwrap();
    let refused = "[vaylix-init] VAYLIX_RUNTIME_UID is not the number of a user or group: \"root\"";
    assert_eq!(said(&output), (Some(1), refused.to_owned()));
    assert!(!data.exists(), "nothing was touched");

    let output = init(&data).arg("no-such-program").output().unwrap();
    let refused = "[vaylix-init] cannot start \"no-such-program\": No such file or directory (os error 2)";
    assert_eq!(said(&output), (Some(1), refused.to_owned()));

    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let output = init(&file.join("data")).arg("true").output().unwrap();
    if is_root() {
        let refused = format!(
            "[vaylix-init] cannot create the directory {}/data: Not a directory (os error 20)",
            file.display()
        );
        assert_eq!(said(&output), (Some(1), refused));
    } else {
        assert_eq!(said(&output), (Some(0), String::new()), "left to the server");
    }
}

#[test]
fn signals_end_the_command_and_its_status_is_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert_eq!(init(&data).args(["sh", "-c", "exit 7"]).status().unwrap().code(), Some(7));
    let output = init(&data).args(["sh", "-c", "kill -TERM $$"]).process_group(0).output().unwrap();
    assert_eq!(output.status.signal(), Some(15));
}
