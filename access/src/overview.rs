//! What the status commands say, as data: for the plane that has messages of its own rather than named values.
//!
//! Each of these takes an admitted command and answers its ticket, so nothing is looked at past the door or off the
//! record.

use std::collections::BTreeMap;

use vaylix_consensus::{MemberStatus, NodeId, Status};
use vaylix_proto::{Command, ErrorReply, Reply};

use crate::admission::Admitted;
use crate::door::Door;
use crate::grant::{EVERYWHERE, Grant};
use crate::identity::Identity;
use crate::latency::RequestTimes;
use crate::permission::Permission;
use crate::policy::{Policy, User};
use crate::refusal;
use crate::report::Report;
use crate::scrub::Verified;
use crate::show::grants_by_role;
use crate::status::Health;
use crate::tls::Certificate;

/// What SHOW CLUSTER and SHOW REPLICATION are made from.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The figures of the node.
    pub status: Status,
    /// What its operator calls it, or else its id.
    pub node_name: String,
    /// Its members by name; a node that is alone lists itself.
    pub members: Vec<MemberStatus>,
    /// Whether clients are served.
    pub ready: bool,
    /// Why not.
    pub reason: &'static str,
    /// Whether only what changes nothing is let in.
    pub in_maintenance: bool,
    /// Whether it leaves clients and the office to others.
    pub draining: bool,
    /// When this process took its last backup, in milliseconds since 1970; 0 before.
    pub last_backup_ms: u64,
    /// How the last verification of its disk went that came to its end in this process.
    pub last_verification: Option<Verified>,
    /// The certificate of its listeners, if they have one.
    pub certificate: Option<Certificate>,
    /// How the server was set up.
    pub report: Report,
    /// The node's time, in milliseconds since 1970.
    pub now_ms: u64,
}

impl Overview {
    /// The member that leads, if one is known.
    #[must_use]
    pub fn leader(&self) -> Option<&MemberStatus> {
        let leader: NodeId = self.status.leader?;
        self.members.iter().find(|member| member.node == leader)
    }
}

/// What METRICS PROM says, and what more can be counted.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The text of METRICS PROM.
    pub contract: String,
    /// How long requests took, by their class.
    pub requests: Vec<RequestTimes>,
    /// The state of the node.
    pub overview: Overview,
}

/// A user, as SHOW USERS tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserView {
    /// The name.
    pub name: String,
    /// Whether the user may log in.
    pub enabled: bool,
    /// The roles, by name.
    pub roles: Vec<String>,
}

/// A role, as SHOW ROLES tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleView {
    /// The name.
    pub name: String,
    /// Permissions, each with the pattern of keys it holds on.
    pub grants: Vec<(String, String)>,
}

/// Who somebody is, as WHOAMI tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhoView {
    /// The name; `anonymous` on a server without authentication.
    pub user: String,
    /// The roles, by name.
    pub roles: Vec<String>,
    /// Permissions held on every key.
    pub permissions: Vec<String>,
    /// What the roles grant; without authentication everything.
    pub rights: Vec<RightView>,
}

/// A permission on some keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RightView {
    /// The permission.
    pub permission: String,
    /// The pattern of keys it holds on.
    pub pattern: String,
    /// The roles that grant it, by name.
    pub roles: Vec<String>,
}

/// What a user may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RightsView {
    /// What the roles of the user grant.
    pub rights: Vec<RightView>,
    /// Whether that allows what was asked about; none when nothing was.
    pub allowed: Option<bool>,
}

impl Door {
    /// Answers an admitted SHOW CLUSTER.
    ///
    /// # Errors
    /// `SRV-016` for any other command, `SRV-026` when the access records are unreadable.
    pub fn overview(&self, admitted: Admitted) -> Result<Overview, ErrorReply> {
        answer(admitted, |command| matches!(command, Command::ShowCluster), || self.look())
    }

    /// Answers an admitted METRICS PROM.
    ///
    /// # Errors
    /// `SRV-016` for any other command, `SRV-026` when the access records are unreadable.
    pub fn figures(&self, admitted: Admitted) -> Result<Figures, ErrorReply> {
        answer(admitted, |command| matches!(command, Command::MetricsProm), || self.count())
    }

    /// The same without login, for a listener that the operator opened for whoever collects figures.
    ///
    /// # Errors
    /// `SRV-026` when the access records are unreadable.
    pub fn figures_for_collectors(&self) -> Result<Figures, ErrorReply> {
        self.count()
    }

    fn count(&self) -> Result<Figures, ErrorReply> {
        let requests = self.0.latencies.get();
        Ok(Figures { contract: self.metrics().prometheus(), requests, overview: self.look()? })
    }

    /// Answers an admitted SHOW USERS: the users, by name.
    ///
    /// # Errors
    /// `SRV-016` for any other command and without authentication.
    pub fn users(&self, admitted: Admitted) -> Result<Vec<UserView>, ErrorReply> {
        answer(
            admitted,
            |command| matches!(command, Command::ShowUsers),
            || {
                let policy = self.rules()?;
                let view = |(name, user): (&vaylix_proto::Text, &crate::policy::User)| UserView {
                    name: name.to_string(),
                    enabled: !user.disabled,
                    roles: user.roles.iter().map(ToString::to_string).collect(),
                };
                Ok(policy.users().iter().map(view).collect())
            },
        )
    }

    /// Answers an admitted SHOW ROLES: the roles, by name.
    ///
    /// # Errors
    /// `SRV-016` for any other command and without authentication.
    pub fn roles(&self, admitted: Admitted) -> Result<Vec<RoleView>, ErrorReply> {
        answer(
            admitted,
            |command| matches!(command, Command::ShowRoles),
            || {
                let policy = self.rules()?;
                let roles = policy.roles().iter().map(|(name, grants)| RoleView {
                    name: name.to_string(),
                    grants: grants
                        .iter()
                        .map(|grant| (grant.permission().name().to_owned(), grant.pattern().to_string()))
                        .collect(),
                });
                Ok(roles.collect())
            },
        )
    }

    /// Answers an admitted WHOAMI.
    ///
    /// # Errors
    /// `SRV-016` for any other command, `SRV-007` without a login.
    pub fn who(&self, admitted: Admitted) -> Result<WhoView, ErrorReply> {
        let who = admitted.pass.who.clone();
        answer(
            admitted,
            |command| matches!(command, Command::WhoAmI),
            || {
                let who = who.ok_or_else(refusal::login_required)?;
                let policy = self.policy()?;
                let user = policy.users().get(who.user()).filter(|_| who.created_revision().is_some());
                Ok(WhoView {
                    user: who.user().to_string(),
                    roles: user
                        .map_or_else(Vec::new, |user| user.roles.iter().map(ToString::to_string).collect()),
                    permissions: who.rights().held().iter().map(|held| held.name().to_owned()).collect(),
                    rights: match user {
                        Some(user) => rights(&policy, user),
                        None => everything(&who),
                    },
                })
            },
        )
    }

    /// Answers an admitted SHOW GRANTS FOR USER: what the user may do, and whether that allows `asked`, a permission on a key;
    /// without a key, or for a permission that is not about keys: everywhere. Nothing is allowed to one who may not log in.
    ///
    /// # Errors
    /// `SRV-016` for any other command and without authentication, `SRV-020` when there is no such user.
    pub fn rights(
        &self,
        admitted: Admitted,
        asked: Option<(Permission, Option<&str>)>,
    ) -> Result<RightsView, ErrorReply> {
        let command = admitted.pass.command.clone();
        answer(
            admitted,
            |command| matches!(command, Command::ShowGrantsForUser { .. }),
            || {
                let Command::ShowGrantsForUser { user: name } = &command else {
                    return Err(refusal::unsupported());
                };
                let policy = self.rules()?;
                let user = policy.users().get(name).ok_or_else(|| refusal::no_such_user(name))?;
                let identity = policy.identify(name);
                let may = |(permission, key): (Permission, Option<&str>)| {
                    let key = key.filter(|_| permission.is_about_keys());
                    identity.as_ref().is_some_and(|who| match key {
                        Some(key) => who.rights().allow_key(permission.into(), key),
                        None => who.rights().allow_everywhere(permission.into()),
                    })
                };
                Ok(RightsView { rights: rights(&policy, user), allowed: asked.map(may) })
            },
        )
    }

    fn look(&self) -> Result<Overview, ErrorReply> {
        let status = self.0.node.status();
        let health = Health::of(&status);
        let (ready, reason) = (health.is_ready(), health.reason);
        let members = match &status.cluster {
            Some(cluster) => {
                let mut members = cluster.members.clone();
                members.sort_by(|a, b| a.name.cmp(&b.name).then(a.node.cmp(&b.node)));
                members
            }
            None => vec![MemberStatus {
                node: status.identity.node,
                name: self.node_id(&status),
                address: self.0.report.advertise_addr.clone(),
                voter: status.voters > 0,
                matched_index: None,
                silence: None,
            }],
        };
        Ok(Overview {
            node_name: self.node_id(&status),
            members,
            ready,
            reason,
            in_maintenance: self.policy()?.in_maintenance(),
            draining: self.is_draining(),
            last_backup_ms: self.0.last_backup_ms.load(std::sync::atomic::Ordering::Relaxed),
            last_verification: self.last_verification(),
            certificate: self.0.tls.certificate(),
            report: self.0.report.clone(),
            now_ms: self.0.node.local().now_ms,
            status,
        })
    }
}

/// What the roles of a user grant, each right once.
fn rights(policy: &Policy, user: &User) -> Vec<RightView> {
    let mut rights: BTreeMap<&Grant, Vec<String>> = BTreeMap::new();
    for (role, grant) in grants_by_role(policy, user) {
        rights.entry(grant).or_default().push(role.to_string());
    }
    let view = |(grant, roles): (&Grant, Vec<String>)| RightView {
        permission: grant.permission().name().to_owned(),
        pattern: grant.pattern().to_string(),
        roles,
    };
    rights.into_iter().map(view).collect()
}

/// What somebody may do who has no roles.
fn everything(who: &Identity) -> Vec<RightView> {
    let view = |held: Permission| RightView {
        permission: held.name().to_owned(),
        pattern: EVERYWHERE.to_owned(),
        roles: Vec::new(),
    };
    who.rights().held().iter().map(view).collect()
}

/// Looks at what was asked for, if that is what was admitted, and has it written down.
fn answer<T>(
    admitted: Admitted,
    is_meant: impl FnOnce(&Command) -> bool,
    look: impl FnOnce() -> Result<T, ErrorReply>,
) -> Result<T, ErrorReply> {
    let Admitted { pass, ticket } = admitted;
    let found = if is_meant(&pass.command) { look() } else { Err(refusal::unsupported()) };
    let told = match &found {
        Ok(_) => Ok(Reply::Ok),
        Err(refusal) => Err(refusal.clone()),
    };
    ticket.answer(told).give()?;
    found
}
