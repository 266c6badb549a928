//! Commands that change the cluster: who belongs to it, and who leads it.

use vaylix_consensus::MembershipError;
use vaylix_proto::{Command, ErrorReply, Reply};

use crate::door::Door;
use crate::refusal;

impl Door {
    /// CLUSTER JOIN, CLUSTER REMOVE, PROMOTE FOLLOWER, PAUSE and RESUME REPLICATION.
    ///
    /// # Errors
    /// `SRV-016` on a node that is alone, and for pausing; `SRV-037` where only the leader can do it; `SRV-038` for a
    /// promotion that is refused; `SRV-030` for any other change that cannot be made.
    pub(crate) async fn change_cluster(&self, command: &Command) -> Result<Reply, ErrorReply> {
        let node = &self.0.node;
        if matches!(command, Command::PauseReplication | Command::ResumeReplication) {
            return Err(refusal::not_pausable());
        }
        if node.desk().is_none() {
            return Err(refusal::alone());
        }
        let done = match command {
            Command::ClusterJoin { node: name, address } => {
                check_name(name)?;
                check_address(address)?;
                node.join(name, address).await
            }
            Command::ClusterRemove { node: name } => node.remove(name).await,
            Command::PromoteFollower => return self.promote().await,
            _ => return Err(refusal::unavailable()),
        };
        done.map(|()| Reply::Ok).map_err(|error| match error {
            MembershipError::Alone => refusal::alone(),
            MembershipError::NotLeader { leader } => refusal::not_leader(leader.as_ref()),
            MembershipError::Refused(reason) => refusal::membership(reason),
        })
    }

    /// Gives the office of the leader to this node.
    async fn promote(&self) -> Result<Reply, ErrorReply> {
        if !self.0.node.follows() {
            return Err(refusal::promotion("only followers may be promoted"));
        }
        if !self.policy()?.in_maintenance() {
            return Err(refusal::promotion("promotion requires maintenance mode"));
        }
        self.0.node.take_over().await.map(|()| Reply::Ok).map_err(refusal::promotion)
    }
}

/// Whether a node may be called that: what `--cluster-peers` can say.
///
/// # Errors
/// `SRV-030` with what a name is.
pub fn check_name(name: &str) -> Result<(), ErrorReply> {
    if name.is_empty() || name.contains(['@', ',', ' ', '=', ';']) {
        return Err(refusal::membership("a node id is not empty and holds no blank and none of @ , ; ="));
    }
    Ok(())
}

/// Whether it has the form `host:port`.
///
/// # Errors
/// `SRV-030` with the address.
pub fn check_address(address: &str) -> Result<(), ErrorReply> {
    match address.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty()
                && !host.contains([' ', ',', ';', '='])
                && port.parse::<u16>().is_ok_and(|port| port > 0) =>
        {
            Ok(())
        }
        _ => Err(refusal::membership(format_args!("{address:?} is no address of the form host:port"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_what_the_list_of_nodes_can_hold() {
        assert!(check_name("n1").is_ok() && check_name("db-1.example").is_ok());
        for name in ["", "a b", "a@b", "a,b", "a=b", "a;b"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_address("10.0.0.1:9173").is_ok() && check_address("[::1]:9173").is_ok());
        for address in ["", "host", "host:", ":9173", "host:0", "host:70000", "host:x", "a b:1"] {
            assert!(check_address(address).is_err(), "{address:?}");
        }
    }
}
