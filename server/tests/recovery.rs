//! A sample of the recovery matrix with the real program: exit status 1, one line with the code and the file on standard
//! error, and a directory that is as it was. The whole matrix is a test of the node.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vaylix_proto::{Command, Reply};
use vaylix_testkit::process::Process;
use vaylix_testkit::wire::{Connection, set};
use vaylix_testkit::{Server, server};

type Files = BTreeMap<PathBuf, Vec<u8>>;
type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

fn files(root: &Path) -> Files {
    let mut files = Files::new();
    for directory in [root.to_owned(), root.join("wal"), root.join("snapshots")] {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            // The lock names the last process, for people only; temporary files are no part of the data.
            if path.is_file() && !path.ends_with("LOCK") && path.extension().is_none_or(|e| e != "tmp") {
                files.insert(path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn what_is_missing_or_damaged_ends_a_start_with_status_1_and_its_code_and_changes_nothing() {
    let parent = TempDir::new().unwrap();
    let data_dir = parent.path().join("data");
    let flags = ["--wal-segment-size-bytes", "65536", "--wal-retain-segments", "2"];
    let mut running = Server::start_in(&data_dir, &flags).unwrap();
    for number in 0..20 {
        set(running.address(), &format!("k{number}"), &[b'v'; 10_000]).unwrap();
    }
    let mut connection = Connection::login(running.address()).unwrap();
    assert_eq!(connection.call(&Command::Save).unwrap(), Ok(Reply::Ok));
    set(running.address(), "after", &[b'v'; 70_000]).unwrap();
    // A clean stop might take a snapshot, and what that covers is not read.
    running.kill().unwrap();
    let good = files(&data_dir);
    let segments: Vec<_> = good.keys().filter(|name| name.extension().is_some_and(|e| e == "wal")).collect();
    assert!(segments.len() >= 3, "{segments:?}");
    let flip = |content: &mut Vec<u8>| {
        let middle = content.len() / 2;
        content[middle] ^= 1;
    };
    let last = segments[segments.len() - 1].to_str().unwrap();
    let rows: [(&str, &str, Option<Change<'_>>); 10] = [
        ("keyring.bin", "ENG-009", None),
        ("keyring.bin", "ENG-007", Some(&flip)),
        ("manifest.bin", "ENG-007", Some(&flip)),
        ("snapshot.bin", "ENG-007", None),
        ("snapshot.bin", "ENG-009", Some(&|content| content.fill(0))),
        ("vote.bin", "ENG-007", None),
        ("wal/origin.bin", "ENG-014", None),
        (last, "ENG-007", Some(&flip)),
        (last, "ENG-014", Some(&|content| content.truncate(4096))),
        // Before the node starts, which would change the directory.
        ("audit.log", "SRV-028", Some(&flip)),
    ];
    for (name, code, change) in rows {
        for (file, content) in &good {
            std::fs::write(data_dir.join(file), content).unwrap();
        }
        match change {
            None => std::fs::remove_file(data_dir.join(name)).unwrap(),
            Some(change) => {
                let mut content = good[Path::new(name)].clone();
                change(&mut content);
                std::fs::write(data_dir.join(name), content).unwrap();
            }
        }
        let before = files(&data_dir);
        let flags = flags.map(str::to_owned);
        let mut process = Process::spawn(server::command(&data_dir, &flags).unwrap()).unwrap();
        let mut output = Vec::new();
        while let Some(line) = process.next_line().unwrap() {
            output.push(line);
        }
        assert_eq!(process.wait().unwrap().code(), Some(1), "{name}: {output:?}");
        let refusal = output.iter().find(|line| line.starts_with(&format!("[{code}] ")));
        let refusal = refusal.unwrap_or_else(|| panic!("{name}: no {code} in {output:?}"));
        // The refusal of an audit log has a form of its own, and a warning before it names the file.
        let named = if code == "SRV-028" { output.join("\n") } else { refusal.clone() };
        assert!(named.contains(Path::new(name).file_name().unwrap().to_str().unwrap()), "{named}");
        assert!(files(&data_dir) == before, "{name}: the directory was changed");
    }
}

/// Starts a server that does not start. What it says, and that it ends with status 1.
fn refused(data_dir: &Path, flags: &[&str]) -> String {
    let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let mut process = Process::spawn(server::command(data_dir, &flags).unwrap()).unwrap();
    let mut output = Vec::new();
    while let Some(line) = process.next_line().unwrap() {
        output.push(line);
    }
    assert_eq!(process.wait().unwrap().code(), Some(1), "{output:?}");
    output.join("\n")
}

#[test]
fn a_start_that_other_places_refuse_changes_nothing_either() {
    let parent = TempDir::new().unwrap();
    let data_dir = parent.path().join("data");
    let mut running = Server::start_in(&data_dir, &[]).unwrap();
    set(running.address(), "k", b"v").unwrap();
    running.kill().unwrap();
    let before = files(&data_dir);
    let plain_file = parent.path().join("file");
    std::fs::write(&plain_file, "").unwrap();
    let wal = data_dir.join("wal");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    for (flag, value, expected) in [
        ("--backup-dir", text(&data_dir), "ENG-011"),
        ("--backup-dir", text(&wal), "ENG-011"),
        ("--backup-dir", text(&plain_file), "ENG-002"),
        ("--audit-log-path", text(&plain_file.join("audit.log")), "SRV-004"),
        ("--audit-log-path", text(&data_dir), "SRV-004"),
    ] {
        let said = refused(&data_dir, &[flag, &value]);
        assert!(said.contains(&format!("[{expected}]")) && said.contains(&value), "{flag} {value}: {said}");
        assert!(files(&data_dir) == before, "{flag} {value}: the directory was changed");
    }
    std::fs::remove_dir_all(&wal).unwrap();
    let said = refused(&data_dir, &[]);
    assert!(said.contains("[ENG-014]") && said.contains("the log was lost"), "{said}");
    assert!(!wal.exists(), "it is not made anew");
}
