//! The answers about users, roles and grants.

use vaylix_proto::{ErrorReply, Reply, Text};

use crate::door::Door;
use crate::entries::{Entries, comma_list};
use crate::grant::{Grant, Rights};
use crate::identity::Identity;
use crate::policy::{Policy, User};
use crate::refusal;

impl Door {
    /// WHOAMI: the name, and the permissions that hold everywhere.
    pub(crate) fn who_am_i(who: &Identity) -> Reply {
        Entries::default().add("username", who.user()).add("permissions", who.rights().held()).reply()
    }

    /// SHOW USERS.
    pub(crate) fn show_users(&self) -> Result<Reply, ErrorReply> {
        let policy = self.rules()?;
        let mut entries = Entries::default();
        for (name, user) in policy.users() {
            let (roles, disabled) = (comma_list(user.roles.iter()), user.disabled);
            entries.add(name.clone(), format_args!("roles={roles} disabled={disabled}"));
        }
        Ok(entries.reply())
    }

    /// SHOW ROLES.
    pub(crate) fn show_roles(&self) -> Result<Reply, ErrorReply> {
        let policy = self.rules()?;
        let mut entries = Entries::default();
        for (name, grants) in policy.roles() {
            entries.add(name.clone(), comma_list(grants.iter()));
        }
        Ok(entries.reply())
    }

    /// SHOW GRANTS: the caller's own.
    pub(crate) fn show_own_grants(&self, who: &Identity) -> Result<Reply, ErrorReply> {
        if who.created_revision().is_none() {
            return Ok(Entries::default().add("grants", Rights::all().held()).reply());
        }
        self.show_grants_for_user(who.user())
    }

    /// SHOW GRANTS FOR USER.
    pub(crate) fn show_grants_for_user(&self, name: &Text) -> Result<Reply, ErrorReply> {
        let policy = self.rules()?;
        let user = policy.users().get(name).ok_or_else(|| refusal::no_such_user(name))?;
        let mut entries = Entries::default();
        for (at, (role, grant)) in grants_by_role(&policy, user).enumerate() {
            entries.add(format!("user.{name}.grant.{at:03}"), format_args!("role={role} {grant}"));
        }
        entries.add(format!("user.{name}.roles"), comma_list(user.roles.iter()));
        Ok(entries.sort().reply())
    }

    /// SHOW GRANTS FOR ROLE.
    pub(crate) fn show_grants_for_role(&self, name: &Text) -> Result<Reply, ErrorReply> {
        let policy = self.rules()?;
        let grants = policy.roles().get(name).ok_or_else(|| refusal::no_such_role(name))?;
        let mut entries = Entries::default();
        for (at, grant) in grants.iter().enumerate() {
            entries.add(format!("role.{name}.grant.{at:03}"), grant);
        }
        Ok(entries.reply())
    }
}

/// What each role of a user grants.
pub(crate) fn grants_by_role<'a>(
    policy: &'a Policy,
    user: &'a User,
) -> impl Iterator<Item = (&'a Text, &'a Grant)> {
    user.roles
        .iter()
        .flat_map(move |role| policy.roles().get(role).into_iter().flatten().map(move |grant| (role, grant)))
}
