//! The access rules as they stand at one revision, decoded and immutable.

use std::collections::{BTreeMap, BTreeSet};

use vaylix_proto::{ErrorReply, Text};

use crate::grant::{Grant, Rights};
use crate::identity::Identity;
use crate::permission::Permission;
use crate::record::{self, BOOTSTRAP_KEY, Bootstrap, MAINTENANCE_KEY, Maintenance, ROLE_PREFIX, USER_PREFIX};
use crate::refusal;

/// The built-in role: it always exists and always holds `admin` on `*`.
pub(crate) const ADMIN_ROLE: &str = "admin";

/// Users, roles and what they may do.
#[derive(Clone, Default)]
pub(crate) struct Policy {
    revision: u64,
    users: BTreeMap<Text, User>,
    roles: BTreeMap<Text, BTreeSet<Grant>>,
    bootstrap: Option<Bootstrap>,
    in_maintenance: bool,
}

/// A user.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) created_revision: u64,
    pub(crate) password_hash: String,
    pub(crate) roles: BTreeSet<Text>,
    pub(crate) disabled: bool,
}

impl Policy {
    /// The rules of a server that asks nobody who they are: no users and no roles. Maintenance mode is as it is.
    ///
    /// # Errors
    /// `SRV-026` when the maintenance record cannot be understood.
    pub(crate) fn without_users(revision: u64, maintenance: Option<&[u8]>) -> Result<Self, ErrorReply> {
        let in_maintenance = match maintenance {
            Some(bytes) => record::decode::<Maintenance>(MAINTENANCE_KEY, bytes)?.enabled,
            None => false,
        };
        Ok(Self { revision, in_maintenance, ..Self::default() })
    }

    /// Reads the access records of the state; other system records are none of its business.
    ///
    /// # Errors
    /// `SRV-026` when an access record cannot be understood. Then nothing is: half a policy is worse than none.
    pub(crate) fn decode<'a>(
        revision: u64,
        records: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, ErrorReply> {
        let mut policy = Self { revision, ..Self::default() };
        for (key, bytes) in records {
            if let Some(name) = key.strip_prefix(USER_PREFIX) {
                policy.users.insert(name.into(), User::from_record(record::decode(key, bytes)?));
            } else if let Some(name) = key.strip_prefix(ROLE_PREFIX) {
                policy.roles.insert(name.into(), grants_of(key, record::decode(key, bytes)?)?);
            } else if key == BOOTSTRAP_KEY {
                policy.bootstrap = Some(record::decode(key, bytes)?);
            } else if key == MAINTENANCE_KEY {
                policy.in_maintenance = record::decode::<Maintenance>(key, bytes)?.enabled;
            }
        }
        Ok(policy)
    }

    /// The access revision these rules belong to.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether only what changes nothing is let in.
    pub(crate) fn in_maintenance(&self) -> bool {
        self.in_maintenance
    }

    pub(crate) fn users(&self) -> &BTreeMap<Text, User> {
        &self.users
    }

    pub(crate) fn roles(&self) -> &BTreeMap<Text, BTreeSet<Grant>> {
        &self.roles
    }

    pub(crate) fn bootstrap(&self) -> Option<&Bootstrap> {
        self.bootstrap.as_ref()
    }

    /// The hash to compare a password with, if this user may log in at all.
    pub(crate) fn password_hash(&self, user: &str) -> Option<&str> {
        self.enabled(user).map(|(_, user)| user.password_hash.as_str())
    }

    /// A new login of a user who may log in.
    pub(crate) fn identify(&self, name: &str) -> Option<Identity> {
        let (name, user) = self.enabled(name)?;
        let rights = Rights::of(self.grants(user));
        Some(Identity::of_user(name.clone(), user.created_revision, self.revision, rights))
    }

    /// The same login under these rules; none when its user is gone, disabled, or another one of the same name.
    pub(crate) fn renew(&self, identity: &Identity) -> Option<Identity> {
        let Some(created_revision) = identity.created_revision() else {
            return Some(identity.renewed(self.revision, Rights::all()));
        };
        let (_, user) = self.enabled(identity.user())?;
        let is_same = user.created_revision == created_revision;
        is_same.then(|| identity.renewed(self.revision, Rights::of(self.grants(user))))
    }

    fn enabled(&self, name: &str) -> Option<(&Text, &User)> {
        self.users.get_key_value(name).filter(|(_, user)| !user.disabled)
    }

    /// Whether the role is `admin` or grants the admin permission on anything: changing it takes an
    /// administrator.
    pub(crate) fn is_admin_role(&self, role: &str) -> bool {
        role == ADMIN_ROLE
            || self
                .roles
                .get(role)
                .is_some_and(|grants| grants.iter().any(|grant| grant.permission() == Permission::Admin))
    }

    /// Whether the user holds such a role.
    pub(crate) fn is_privileged(&self, user: &str) -> bool {
        self.users.get(user).is_some_and(|user| user.roles.iter().any(|role| self.is_admin_role(role)))
    }

    /// Whether somebody can log in and holds `admin` on `*`.
    pub(crate) fn has_administrator(&self) -> bool {
        self.users.values().any(|user| {
            !user.disabled
                && self
                    .grants(user)
                    .any(|grant| grant.permission() == Permission::Admin && grant.is_everywhere())
        })
    }

    /// The grants of all roles of a user; a role that does not exist grants nothing.
    fn grants<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Grant> + Clone {
        user.roles.iter().filter_map(|role| self.roles.get(role)).flatten()
    }
}

/// Changes, for drafting the next policy. See [`change`](crate::change).
impl Policy {
    pub(crate) fn users_mut(&mut self) -> &mut BTreeMap<Text, User> {
        &mut self.users
    }

    pub(crate) fn roles_mut(&mut self) -> &mut BTreeMap<Text, BTreeSet<Grant>> {
        &mut self.roles
    }
}

impl User {
    fn from_record(record: record::User) -> Self {
        Self {
            created_revision: record.created_revision,
            password_hash: record.password_hash,
            roles: record.roles.into_iter().map(Text::from).collect(),
            disabled: record.disabled,
        }
    }

    pub(crate) fn to_record(&self) -> record::User {
        record::User {
            created_revision: self.created_revision,
            password_hash: self.password_hash.clone(),
            roles: self.roles.iter().map(Text::to_string).collect(),
            disabled: self.disabled,
        }
    }
}

fn grants_of(key: &str, record: record::Role) -> Result<BTreeSet<Grant>, ErrorReply> {
    record
        .grants
        .into_iter()
        .map(|(name, pattern)| {
            let permission = Permission::parse(&name).ok_or_else(|| {
                refusal::record_unreadable(format_args!("{key}: unknown permission {name}"))
            })?;
            Ok(Grant::new(permission, pattern.into()))
        })
        .collect()
}

/// The record of a role with these grants.
pub(crate) fn role_record(grants: &BTreeSet<Grant>) -> record::Role {
    record::Role {
        grants: grants
            .iter()
            .map(|grant| (grant.permission().name().to_owned(), grant.pattern().to_string()))
            .collect(),
    }
}
