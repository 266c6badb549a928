//! Changes of users, roles and grants: which are allowed, and which records they write.
//!
//! A change is computed on one [`Policy`] and is only valid against that revision: the state refuses it when
//! the rules have moved on, and it is computed again. Nothing here waits, hashes or knows a node.

use std::collections::BTreeSet;

use vaylix_engine::op::SystemChange;
use vaylix_proto::{Command, ErrorReply, Text};

use crate::grant::{EVERYWHERE, Grant, Rights};
use crate::permission::Permission;
use crate::policy::{ADMIN_ROLE, Policy, User, role_record};
use crate::record::{self, BOOTSTRAP_KEY, Bootstrap, ROLE_PREFIX, USER_PREFIX};
use crate::refusal;

/// What is to become of one system record.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) key: String,
    /// The record's new bytes; none removes it.
    pub(crate) record: Option<Vec<u8>>,
}

impl Edit {
    pub(crate) fn into_change(self) -> SystemChange<'static> {
        let key = self.key.into();
        match self.record {
            Some(record) => SystemChange::Put { key, value: record.into() },
            None => SystemChange::Delete { key },
        }
    }
}

/// A change of the access rules.
pub(crate) enum Change {
    CreateUser { user: Text, password_hash: String },
    SetPassword { user: Text, password_hash: String },
    DropUser { user: Text },
    CreateRole { role: Text },
    DropRole { role: Text },
    GrantRole { role: Text, user: Text },
    RevokeRole { role: Text, user: Text },
    GrantPermission { permission: Text, pattern: Text, role: Text },
    RevokePermission { permission: Text, pattern: Text, role: Text },
}

impl Change {
    /// The change a command asks for; none when it asks for no change. `password_hash` is the hash of the
    /// command's password, if it carries one.
    pub(crate) fn of(command: &Command, password_hash: &str) -> Option<Self> {
        let password_hash = || password_hash.to_owned();
        Some(match command.clone() {
            Command::CreateUser { user, .. } => Self::CreateUser { user, password_hash: password_hash() },
            Command::AlterUserPassword { user, .. } => {
                Self::SetPassword { user, password_hash: password_hash() }
            }
            Command::DropUser { user } => Self::DropUser { user },
            Command::CreateRole { role } => Self::CreateRole { role },
            Command::DropRole { role } => Self::DropRole { role },
            Command::GrantRole { role, user } => Self::GrantRole { role, user },
            Command::RevokeRole { role, user } => Self::RevokeRole { role, user },
            Command::GrantPermission { permission, pattern, role } => {
                Self::GrantPermission { permission, pattern, role }
            }
            Command::RevokePermission { permission, pattern, role } => {
                Self::RevokePermission { permission, pattern, role }
            }
            _ => return None,
        })
    }

    /// The edits that carry the change out on `policy`; none when it is so already.
    ///
    /// # Errors
    /// `SRV-017` when the change touches administrators and `actor` is none; then what is wrong with the
    /// change itself; and `SRV-024` when it would leave nobody to administer the server.
    pub(crate) fn plan(&self, policy: &Policy, actor: &Rights) -> Result<Vec<Edit>, ErrorReply> {
        if self.touches_administrators(policy) && !actor.allow_everywhere(Permission::Admin.into()) {
            return Err(refusal::denied());
        }
        let mut draft = Draft::new(policy);
        self.apply(&mut draft)?;
        if policy.has_administrator() && !draft.next.has_administrator() {
            return Err(refusal::last_admin());
        }
        draft.edits()
    }

    /// Whether the change concerns the role `admin`, another role with the admin permission, that permission,
    /// or a user who holds such a role. Without this check, user and role administrators could make
    /// themselves administrators.
    fn touches_administrators(&self, policy: &Policy) -> bool {
        match self {
            Self::CreateUser { .. } | Self::CreateRole { .. } => false,
            Self::SetPassword { user, .. } | Self::DropUser { user } => policy.is_privileged(user),
            Self::DropRole { role } => policy.is_admin_role(role),
            Self::GrantRole { role, user } | Self::RevokeRole { role, user } => {
                policy.is_admin_role(role) || policy.is_privileged(user)
            }
            Self::GrantPermission { permission, role, .. }
            | Self::RevokePermission { permission, role, .. } => {
                policy.is_admin_role(role) || Permission::parse(permission) == Some(Permission::Admin)
            }
        }
    }

    fn apply(&self, draft: &mut Draft<'_>) -> Result<(), ErrorReply> {
        match self {
            Self::CreateUser { user, password_hash } => {
                check_name(user)?;
                draft.create_user(user, password_hash)
            }
            Self::SetPassword { user, password_hash } => {
                draft.user(user)?.password_hash.clone_from(password_hash);
                Ok(())
            }
            Self::DropUser { user } => {
                draft.user(user)?;
                draft.next.users_mut().remove(user);
                Ok(())
            }
            Self::CreateRole { role } => {
                check_name(role)?;
                if draft.next.roles().contains_key(role) {
                    return Err(refusal::role_exists(role));
                }
                draft.touch_role(role).clear();
                Ok(())
            }
            Self::DropRole { role } => draft.drop_role(role),
            Self::GrantRole { role, user } => {
                draft.role(role)?;
                draft.user(user)?.roles.insert(role.clone());
                Ok(())
            }
            Self::RevokeRole { role, user } => {
                draft.user(user)?.roles.remove(role);
                Ok(())
            }
            Self::GrantPermission { permission, pattern, role } => {
                let permission = parse(permission)?;
                draft.role(role)?.insert(Grant::new(permission, pattern.clone()));
                Ok(())
            }
            Self::RevokePermission { permission, pattern, role } => {
                let permission = parse(permission)?;
                if role == ADMIN_ROLE && permission == Permission::Admin && pattern == EVERYWHERE {
                    return Err(refusal::protected_role());
                }
                draft.role(role)?.remove(&Grant::new(permission, pattern.clone()));
                Ok(())
            }
        }
    }
}

/// The edits that take over configured credentials: the role `admin` exists, the named user exists, has this
/// password and that role and may log in, and the credentials are remembered. Nobody else is touched.
///
/// # Errors
/// `SRV-025` when a record cannot be written.
pub(crate) fn bootstrap(policy: &Policy, user: &Text, password_hash: &str) -> Result<Vec<Edit>, ErrorReply> {
    let mut draft = Draft::new(policy);
    if !policy.roles().contains_key(ADMIN_ROLE) {
        let everything =
            Permission::ALL.iter().map(|permission| Grant::new(*permission, Text::from_static(EVERYWHERE)));
        draft.touch_role(&Text::from_static(ADMIN_ROLE)).extend(everything);
    }
    if !policy.users().contains_key(user) {
        draft.create_user(user, password_hash)?;
    }
    let administrator = draft.user(user)?;
    password_hash.clone_into(&mut administrator.password_hash);
    administrator.roles.insert(Text::from_static(ADMIN_ROLE));
    administrator.disabled = false;
    let bootstrap = Bootstrap { user: user.to_string(), password_hash: password_hash.to_owned() };
    let mut edits = draft.edits()?;
    edits.push(Edit { key: BOOTSTRAP_KEY.to_owned(), record: Some(record::encode(&bootstrap)?) });
    Ok(edits)
}

/// Longest name of a new user or role, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// What a new user or role may be called: something that people can read in logs and lists. Names from before stay.
fn check_name(name: &str) -> Result<(), ErrorReply> {
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.contains(char::is_control)
        || name.trim() != name
    {
        return Err(refusal::membership(format_args!(
            "a name has 1 to {NAME_BYTES_MAX} bytes, no control characters, and no blanks at its ends"
        )));
    }
    Ok(())
}

fn parse(name: &Text) -> Result<Permission, ErrorReply> {
    Permission::parse(name).ok_or_else(|| refusal::unknown_permission(name))
}

/// The policy as it is to be, and which of its records were touched on the way.
struct Draft<'a> {
    policy: &'a Policy,
    next: Policy,
    users: BTreeSet<Text>,
    roles: BTreeSet<Text>,
}

impl<'a> Draft<'a> {
    fn new(policy: &'a Policy) -> Self {
        Self { policy, next: policy.clone(), users: BTreeSet::new(), roles: BTreeSet::new() }
    }

    /// An existing user, to be changed.
    fn user(&mut self, name: &Text) -> Result<&mut User, ErrorReply> {
        let user = self.next.users_mut().get_mut(name).ok_or_else(|| refusal::no_such_user(name))?;
        self.users.insert(name.clone());
        Ok(user)
    }

    /// The grants of an existing role, to be changed.
    fn role(&mut self, name: &Text) -> Result<&mut BTreeSet<Grant>, ErrorReply> {
        if self.next.roles().contains_key(name) {
            Ok(self.touch_role(name))
        } else {
            Err(refusal::no_such_role(name))
        }
    }

    /// The grants of a role that may be new, to be changed.
    fn touch_role(&mut self, name: &Text) -> &mut BTreeSet<Grant> {
        self.roles.insert(name.clone());
        self.next.roles_mut().entry(name.clone()).or_default()
    }

    fn create_user(&mut self, name: &Text, password_hash: &str) -> Result<(), ErrorReply> {
        if self.next.users().contains_key(name) {
            return Err(refusal::user_exists(name));
        }
        // The revision that this change makes: no two users of one name are created by the same one.
        let created_revision = self.policy.revision() + 1;
        let user = User {
            created_revision,
            password_hash: password_hash.to_owned(),
            roles: BTreeSet::new(),
            disabled: false,
        };
        self.next.users_mut().insert(name.clone(), user);
        self.users.insert(name.clone());
        Ok(())
    }

    fn drop_role(&mut self, name: &Text) -> Result<(), ErrorReply> {
        if name == ADMIN_ROLE {
            return Err(refusal::protected_role());
        }
        self.role(name)?;
        self.next.roles_mut().remove(name);
        for (user, record) in self.next.users_mut() {
            if record.roles.remove(name) {
                self.users.insert(user.clone());
            }
        }
        Ok(())
    }

    /// The touched records whose bytes differ from what they were.
    fn edits(self) -> Result<Vec<Edit>, ErrorReply> {
        let user = |policy: &Policy, name: &Text| {
            policy.users().get(name).map(|user| record::encode(&user.to_record())).transpose()
        };
        let role = |policy: &Policy, name: &Text| {
            policy.roles().get(name).map(|grants| record::encode(&role_record(grants))).transpose()
        };
        let mut edits = Vec::new();
        for name in &self.users {
            push_changed(&mut edits, USER_PREFIX, name, user(self.policy, name)?, user(&self.next, name)?);
        }
        for name in &self.roles {
            push_changed(&mut edits, ROLE_PREFIX, name, role(self.policy, name)?, role(&self.next, name)?);
        }
        Ok(edits)
    }
}

fn push_changed(
    edits: &mut Vec<Edit>,
    prefix: &str,
    name: &Text,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
) {
    if before != after {
        edits.push(Edit { key: format!("{prefix}{name}"), record: after });
    }
}

#[cfg(test)]
mod tests;
