//! The ten permissions, and sets of them as bits.

use std::fmt;

macro_rules! permissions {
    ($($variant:ident, $name:literal, $what:literal;)+) => {
        /// One thing a role can allow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Permission { $(#[doc = $what] $variant,)+ }

        impl Permission {
            /// Every permission, in the order `WHOAMI` lists them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name used on the wire and in stored roles.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

permissions! {
    Read, "read", "Reading values, keys and counts.";
    Write, "write", "Changing values and expiries.";
    Admin, "admin", "Everything: on pattern `*` it implies every other permission.";
    Backup, "backup", "Logical backups.";
    Restore, "restore", "Replacing the keyspace from a logical backup.";
    Metrics, "metrics", "INFO and METRICS.";
    Snapshot, "snapshot", "Physical snapshots on demand.";
    Clear, "clear", "Removing all keys at once.";
    UserAdmin, "user_admin", "Creating, changing, dropping and listing users.";
    RoleAdmin, "role_admin", "Creating, changing, dropping, granting and listing roles.";
}

impl Permission {
    /// The permission of this name, in any ASCII case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|permission| permission.name().eq_ignore_ascii_case(name))
    }

    /// Whether it is held on some keys rather than everywhere or nowhere.
    #[must_use]
    pub const fn is_about_keys(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of permissions. Copying and comparing it costs one machine word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u16);

impl Permissions {
    /// No permission.
    pub const NONE: Self = Self(0);
    /// Every permission.
    pub const ALL: Self = Self((1 << Permission::ALL.len()) - 1);

    /// The set of exactly these.
    #[must_use]
    pub const fn of(permissions: &[Permission]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < permissions.len() {
            bits |= permissions[at].bit();
            at += 1;
        }
        Self(bits)
    }

    /// This set and `permission`.
    #[must_use]
    pub const fn with(self, permission: Permission) -> Self {
        Self(self.0 | permission.bit())
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether `permission` is in this set.
    #[must_use]
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members, in the order of [`Permission::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.contains(*permission))
    }
}

impl From<Permission> for Permissions {
    fn from(permission: Permission) -> Self {
        Self(permission.bit())
    }
}

impl fmt::Display for Permissions {
    /// The comma list that `WHOAMI` shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, permission) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{permission}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Permission, Permissions};

    #[test]
    fn names_parse_in_any_case_and_nothing_else_does() {
        for permission in Permission::ALL {
            assert_eq!(Permission::parse(&permission.name().to_uppercase()), Some(*permission));
        }
        for other in ["", "fly", "reads", "user-admin", " read"] {
            assert_eq!(Permission::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_full_set_lists_every_name_in_order() {
        assert_eq!(
            Permissions::ALL.to_string(),
            "read,write,admin,backup,restore,metrics,snapshot,clear,user_admin,role_admin"
        );
        assert_eq!(Permissions::NONE.to_string(), "");
    }

    #[test]
    fn sets_subtract() {
        let set = Permissions::of(&[Permission::Read, Permission::Clear]);
        let rest = set.without(Permissions::of(&[Permission::Read]));
        assert!(rest.contains(Permission::Clear) && !rest.contains(Permission::Read));
        assert!(rest.without(set).is_empty());
    }
}
