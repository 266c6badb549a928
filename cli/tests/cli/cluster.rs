//! Several servers in one URL.

use vaylix_proto::{Code, Command, ErrorReply, Reply};

use crate::peer::{Act, Peer};
use crate::process::client;

/// A node that is not the leader and knows who is, or not.
fn follower(leader: Option<u16>) -> u16 {
    let hint = leader.map_or_else(String::new, |port| format!("; leader=n2 address=127.0.0.1:{port}"));
    Peer::serving(move |command| {
        Act::Answer(match command {
            Command::Set { .. } | Command::Multi => Err(ErrorReply::new(
                Code::FollowerWriteRejected,
                format!("writes are rejected on follower nodes{hint}"),
            )),
            Command::Get { .. } => Ok(Reply::Value("old".into())),
            _ => Ok(Reply::Ok),
        })
    })
}

fn leader() -> u16 {
    Peer::serving(|command| {
        Act::Answer(Ok(match command {
            Command::Get { .. } => Reply::Value("new".into()),
            _ => Reply::Ok,
        }))
    })
}

#[test]
fn writes_find_the_leader_and_later_commands_stay_there() {
    let leader = leader();
    for hint in [Some(leader), None] {
        let follower = follower(hint);
        let url = format!("vaylix://127.0.0.1:{follower},127.0.0.1:{leader}");
        let run = client(&["--url", &url], &[], "get k\nset k new\nget k\n");
        assert_eq!(
            run.stdout,
            format!(
                "[INFO] [client.startup] connecting to 127.0.0.1:{follower},127.0.0.1:{leader} ssl=false\n\
                 [INFO] [client.startup] connection established to 127.0.0.1:{follower}\n\
                 OK\nold\n\
                 [INFO] [client.session] now connected to 127.0.0.1:{leader}\n\
                 OK\nnew\n\
                 [INFO] [client.session] reached end of input\nExiting...\n"
            )
        );
        assert_eq!((run.stderr.as_str(), run.status), ("", Some(0)));

        let run = client(&["--url", &url, "--", "set", "k", "new"], &[], "");
        assert_eq!((run.stdout.as_str(), run.stderr.as_str(), run.status), ("OK\n", "", Some(0)));
    }
}

#[test]
fn one_server_is_taken_at_its_word() {
    let leader = leader();
    let port = follower(Some(leader)).to_string();
    let run = client(&["--port", &port, "--", "set", "k", "new"], &[], "");
    assert_eq!(
        run.stderr,
        format!(
            "ERROR [SRV-037] Follower Write Rejected: writes are rejected on follower nodes; leader=n2 \
             address=127.0.0.1:{leader}\n"
        )
    );
    assert_eq!(run.status, Some(1));
}

#[test]
fn a_lost_write_ends_a_script_and_is_not_repeated() {
    let dying = Peer::start(|command| match command {
        Command::Set { .. } => Act::HangUp,
        _ => Act::Answer(Ok(Reply::Ok)),
    });
    let other = Peer::serving(|command| panic!("{command:?} was sent to another server"));
    let url = format!("vaylix://127.0.0.1:{},127.0.0.1:{other}", dying.port());
    let run = client(&["--url", &url], &[], "set k v\nget k\n");
    assert!(
        run.stderr.starts_with("[TRN-013] Transport I/O Failure: transport failure: i/o error: "),
        "{run:?}"
    );
    assert_eq!(run.status, Some(1));
}

#[test]
fn linearizable_reads_are_promised_or_refused() {
    let port = leader().to_string();
    for environment in [&[][..], &[("VAYLIX_CONSISTENCY", "linearizable")]] {
        let flags: &[&str] = if environment.is_empty() { &["--consistency", "linearizable"] } else { &[] };
        let run = client(&[&["--port", &port], flags, &["--", "get", "k"]].concat(), environment, "");
        assert_eq!(
            run.stderr,
            "[TRN-015] Transport Capability Mismatch: transport failure: transport capability mismatch: this \
             server does not offer linearizable reads on followers\n"
        );
        assert_eq!((run.stdout.as_str(), run.status), ("", Some(1)));
    }
    let run = client(&["--port", &port, "--consistency", "local", "--", "get", "k"], &[], "");
    assert_eq!((run.stdout.as_str(), run.status), ("new\n", Some(0)));
}
