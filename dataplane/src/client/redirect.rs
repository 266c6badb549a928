//! Where a node that is not the leader sends its clients.
//!
//! `SRV-037` ends with ` leader=<id> address=<host:port>` when the node knows the leader:
//! `writes are rejected on follower nodes; leader=n2 address=10.0.0.2:9173`. Older servers say nothing of the
//! kind, and a node may not know; then the other servers have to be tried.

use vaylix_proto::{Code, ErrorReply};

use super::endpoint::Endpoint;

/// What stands before the address.
const ADDRESS: &str = "address=";

/// The leader's address, if `refusal` is a node's "not here" and says so.
///
/// Everything about the message but the last word that starts with `address=` is left to the server.
#[must_use]
pub fn leader_address(refusal: &ErrorReply) -> Option<Endpoint> {
    if refusal.known_code() != Some(Code::FollowerWriteRejected) {
        return None;
    }
    let words = refusal.message.split(|c: char| c.is_whitespace() || matches!(c, ';' | ',' | '(' | ')'));
    let address = words.rev().find_map(|word| word.strip_prefix(ADDRESS))?;
    Endpoint::parse(address.trim_end_matches('.').trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expected: Option<&str>) {
        let refusal = ErrorReply::new(Code::FollowerWriteRejected, message.to_owned());
        assert_eq!(leader_address(&refusal).map(|at| at.to_string()).as_deref(), expected, "{message}");
    }

    #[test]
    fn the_address_is_found_wherever_the_message_has_it() {
        let rejected = "writes are rejected on follower nodes";
        check(&format!("{rejected}; leader=n2 address=10.0.0.2:9173"), Some("10.0.0.2:9173"));
        check(&format!("{rejected}; leader=address=x address=[::1]:9173"), Some("[::1]:9173"));
        check(&format!("{rejected} (address=db.example:1)."), Some("db.example:1"));
        check(&format!("{rejected}; address=a:1, leader=n1"), Some("a:1"));
        check(rejected, None);
        check(&format!("{rejected}; leader=none address=none"), None);
        check(&format!("{rejected}; leader=n2 address="), None);
        check(&format!("{rejected}; leader=n2 address=a:1:2"), None);
        check("", None);
    }

    #[test]
    fn only_a_node_that_is_not_the_leader_redirects() {
        let refusal = ErrorReply::new(Code::PermissionDenied, "no; leader=n2 address=10.0.0.2:9173");
        assert_eq!(leader_address(&refusal), None);
    }
}
