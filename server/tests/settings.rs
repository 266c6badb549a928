//! Settings from a file, from the environment and from the command line, and what the program says of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use vaylix_proto::{Command as Request, Reply};
use vaylix_testkit::wire::{Connection, set_command};
use vaylix_testkit::{Server, server};

/// The program with these arguments alone.
fn vaylix(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let like = server::command(Path::new("unused"), &[]).unwrap();
    let mut command = Command::new(like.get_program());
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn file(dir: &TempDir, content: &str) -> String {
    let path = dir.path().join("vaylix.toml");
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let dir = TempDir::new().unwrap();
    let path = file(
        &dir,
        "port = 7001\nmax-key-bytes = 7002\nmax-value-bytes = 7003\npassword = 'from a file 1'\nlog-requests = true\n\
         cluster-peers = ['a@h:1', 'b@h:2']\nnode-id = '1'\n",
    );
    let arguments = ["--config", &path, "--port", "8001", "--print-config"];
    let environment = [("VAYLIX_PORT", "9001"), ("VAYLIX_MAX_KEY_BYTES", "9002")];
    let output = vaylix(&arguments, &environment);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for line in [
        "port = 8001 # the command line".to_owned(),
        "max-key-bytes = 9002 # VAYLIX_MAX_KEY_BYTES".to_owned(),
        format!("max-value-bytes = 7003 # {path}"),
        format!("log-requests = true # {path}"),
        format!(r#"cluster-peers = ["a@h:1", "b@h:2"] # {path}"#),
        format!(r#"node-id = "1" # {path}"#),
        format!("# password is set by {path}, and not shown"),
        "# replication-password is not set".to_owned(),
        "# idle-timeout-seconds is not set".to_owned(),
        "request-burst = 500000 # default".to_owned(),
        r#"data-dir = "./default.vaylix" # default"#.to_owned(),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in:\n{shown}");
    }
    assert!(!shown.contains("from a file"), "{shown}");

    // What is printed is a settings file, and says the same again.
    let printed = file(&dir, &shown);
    let again = text(&vaylix(&["--config", &printed, "--print-config"], &[]).stdout);
    let without_origin = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split(" # ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(without_origin(&again), without_origin(&shown));
    assert!(without_origin(&again).len() > 40, "{again}");
}

#[test]
fn a_server_takes_its_settings_from_a_file() {
    let dir = TempDir::new().unwrap();
    let path = file(&dir, "max-key-bytes = 8\nuser = 'operator'\npassword = 'a long password 1'\n");
    let server = Server::start(&["--config", &path]).unwrap();
    let mut connection = Connection::open(server.address()).unwrap();
    let login = Request::Auth { user: "operator".into(), password: "a long password 1".into() };
    assert!(connection.call(&login).unwrap().is_ok(), "the credentials count as configured");
    assert_eq!(connection.call(&set_command("abcdefgh", "v")).unwrap(), Ok(Reply::Ok));
    assert_eq!(connection.call(&set_command("abcdefghi", "v")).unwrap().unwrap_err().code, "SRV-013");
}

#[test]
fn a_file_that_cannot_be_used_ends_with_status_2_and_says_where() {
    let dir = TempDir::new().unwrap();
    for (content, expected) in [
        ("\nprot = 1", "vaylix.toml:2: there is no setting `prot`"),
        ("node_id = 'x'", "the one that is like it is `node-id`"),
        ("port = 70000", "port in "),
        ("wal-sync = 'never'", "wal-sync in "),
    ] {
        let path = file(&dir, content);
        let output = vaylix(&["--config", &path], &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{content}: {said}");
        assert!(said.contains(expected), "{content}: {said}");
    }
    let output = vaylix(&[], &[("VAYLIX_CONFIG", "/nonexistent.toml")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nonexistent.toml cannot be read"));
}

#[test]
fn the_version_names_the_commit() {
    let version = text(&vaylix(&["--version"], &[]).stdout);
    let expected = format!("vaylix {} (", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&expected) && version.trim_end().ends_with(')'), "{version}");
}
