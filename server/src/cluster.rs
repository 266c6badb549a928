//! From the settings of a cluster to what the node and its connections are told.

use std::net::SocketAddr;
use std::time::Duration;

use vaylix_consensus::{Acknowledge, ClusterConfig, Seed, Timing};
use vaylix_dataplane::peers::ClusterSecret;
use zeroize::Zeroizing;

use crate::control::Bound;
use crate::error::ServerError;
use crate::flags::{AckMode, Flags, Role};

/// The environment variable that holds the secret itself.
const SECRET_VARIABLE: &str = "VAYLIX_CLUSTER_SECRET";

/// Settings of a cluster that can be used.
pub(crate) struct Cluster {
    seeds: Vec<Seed>,
    name: Option<String>,
    pub(crate) secret: ClusterSecret,
}

fn refuse<T>(detail: impl Into<String>) -> Result<T, ServerError> {
    Err(ServerError::Arguments(detail.into()))
}

impl Cluster {
    /// `None` for a node that is to be alone.
    ///
    /// # Errors
    /// [`ServerError::Arguments`] for settings that contradict each other, or leave the nodes without a secret.
    pub(crate) fn check(flags: &Flags, role_configured: bool) -> Result<Option<Self>, ServerError> {
        let has_peers = !flags.cluster_peers.is_empty();
        if !has_peers && flags.replication_role == Role::Standalone {
            return Ok(None);
        }
        if has_peers && role_configured && flags.replication_role == Role::Standalone {
            return refuse("--replication-role standalone and --cluster-peers contradict each other");
        }
        if flags.write_ack_mode == AckMode::Local {
            return refuse(
                "--write-ack-mode local would acknowledge what the cluster loses with its leader: use replica or all",
            );
        }
        let (min, max) =
            (flags.replication_election_timeout_min_ms, flags.replication_election_timeout_max_ms);
        if max < min || min < flags.replication_heartbeat_interval_ms.saturating_mul(2) {
            return refuse(
                "--replication-election-timeout-min-ms must be at least twice --replication-heartbeat-interval-ms, and \
                 not above --replication-election-timeout-max-ms",
            );
        }
        let mut seeds = Vec::new();
        for peer in &flags.cluster_peers {
            seeds.push(seed(peer.trim())?);
        }
        seeds.sort();
        seeds.dedup();
        if let Some(pair) = seeds.windows(2).find(|pair| matches!(pair, [a, b] if a.name == b.name)) {
            return refuse(format!(
                "--cluster-peers names {} twice",
                pair.first().map_or("", |seed| &seed.name)
            ));
        }
        Ok(Some(Self { seeds, name: flags.node_id.clone(), secret: secret(flags)? }))
    }

    /// What the node is told; `address` is where it listens.
    ///
    /// # Errors
    /// [`ServerError::Arguments`] when it is not clear which of the nodes this one is, or where it is reached.
    pub(crate) fn config(
        &self,
        flags: &Flags,
        address: SocketAddr,
        control: &Bound,
    ) -> Result<ClusterConfig, ServerError> {
        let advertised = flags.replication_advertise_addr.as_deref();
        if let Some(advertised) = advertised {
            check_address(advertised)?;
        }
        let bound = (!address.ip().is_unspecified()).then(|| address.to_string());
        let by_address = || {
            let wanted = advertised.or(bound.as_deref())?;
            self.seeds.iter().find(|seed| seed.address == wanted).map(|seed| seed.name.clone())
        };
        let Some(name) = self.name.clone().or_else(by_address) else {
            return refuse("--cluster-peers needs --node-id: which of the nodes is this?");
        };
        check_name(&name)?;
        let listed = self.seeds.iter().find(|seed| seed.name == name).map(|seed| seed.address.clone());
        let own = match (listed, advertised) {
            (Some(listed), Some(advertised)) if listed != advertised => {
                return refuse(format!(
                    "--cluster-peers says that {name} is at {listed}, --replication-advertise-addr says {advertised}"
                ));
            }
            (Some(listed), _) => listed,
            (None, Some(advertised)) => advertised.to_owned(),
            (None, None) => match bound {
                Some(bound) => bound,
                None => {
                    return refuse(
                        "--replication-advertise-addr is needed: the address that is listened on is none to be reached at",
                    );
                }
            },
        };
        let mut seeds = self.seeds.clone();
        let founds = !seeds.is_empty() || flags.replication_role == Role::Leader;
        if founds && !seeds.iter().any(|seed| seed.name == name) {
            seeds.push(Seed { name: name.clone(), address: own.clone() });
            seeds.sort();
        }
        Ok(ClusterConfig {
            name,
            admin_address: control.advertised(flags, &own),
            address: own,
            seeds,
            acknowledge: match flags.write_ack_mode {
                AckMode::All => Acknowledge::All,
                AckMode::Replica | AckMode::Local => Acknowledge::Majority,
            },
            acknowledge_timeout: Duration::from_millis(flags.replication_ack_timeout_ms),
            agreement_entries: flags.replication_state_check_entries,
        })
    }
}

/// The times of elections.
pub(crate) fn timing(flags: &Flags) -> Timing {
    Timing {
        heartbeat: Duration::from_millis(flags.replication_heartbeat_interval_ms),
        election_min: Duration::from_millis(flags.replication_election_timeout_min_ms),
        election_max: Duration::from_millis(flags.replication_election_timeout_max_ms),
    }
}

fn seed(text: &str) -> Result<Seed, ServerError> {
    let Some((name, address)) = text.split_once('@') else {
        return refuse(format!("--cluster-peers: {text:?} is not of the form node_id@host:port"));
    };
    check_name(name)?;
    check_address(address)?;
    Ok(Seed { name: name.to_owned(), address: address.to_owned() })
}

fn check_name(name: &str) -> Result<(), ServerError> {
    if name.is_empty() || name.contains(['@', ',', ' ', '=', ';']) {
        return refuse(format!(
            "{name:?} is no node id: it is not empty and holds no blank and none of @ , ; ="
        ));
    }
    Ok(())
}

fn check_address(address: &str) -> Result<(), ServerError> {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(()),
        _ => refuse(format!("{address:?} is no address of the form host:port")),
    }
}

/// The secret, from the first of these that is given: file, environment, replication password.
fn secret(flags: &Flags) -> Result<ClusterSecret, ServerError> {
    let text = std::env::var_os(SECRET_VARIABLE);
    let (place, bytes) = match (&flags.cluster_secret_file, text) {
        (Some(_), Some(_)) => {
            return refuse(format!("give --cluster-secret-file or {SECRET_VARIABLE}, not both"));
        }
        (Some(path), None) => {
            let bytes = std::fs::read(path).map(Zeroizing::new);
            let bytes = bytes.or_else(|error| refuse(format!("{}: {error}", path.display())))?;
            (path.display().to_string(), bytes)
        }
        (None, Some(text)) => (SECRET_VARIABLE.to_owned(), Zeroizing::new(text.into_encoded_bytes())),
        (None, None) => return from_password(flags),
    };
    ClusterSecret::new(bytes.trim_ascii_end())
        .or_else(|error| refuse(format!("{place} holds no secret: {error}")))
}

fn from_password(flags: &Flags) -> Result<ClusterSecret, ServerError> {
    let Some(password) = flags.replication_password.as_deref().filter(|password| !password.is_empty()) else {
        return refuse(format!(
            "a cluster needs a secret that its nodes prove to each other: write 32 random bytes to a file, give it to every \
             node, and name it with --cluster-secret-file (or put the secret into {SECRET_VARIABLE})"
        ));
    };
    let user = flags.replication_user.as_deref().unwrap_or(&flags.user);
    ClusterSecret::from_password(user, password)
        .or_else(|error| refuse(format!("no secret can be derived from --replication-password: {error}")))
}
