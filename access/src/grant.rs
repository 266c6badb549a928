//! Grants: a permission on the keys that match a pattern.
//!
//! The pattern language is the one of `SCAN … MATCH` (`*` any run, `?` one character, everything else
//! literal), so what a grant allows to read one by one is exactly what it allows to list. A `SCAN` is allowed
//! only when the grant provably covers the requested pattern, see [`covers`].

use std::fmt;
use std::str::Chars;

use vaylix_engine::glob::Pattern;
use vaylix_proto::Text;

use crate::permission::{Permission, Permissions};

/// The pattern of a grant that holds everywhere.
pub(crate) const EVERYWHERE: &str = "*";

/// One permission on one pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grant {
    /// By name: grants sort as they are shown.
    name: &'static str,
    pattern: Text,
}

impl Grant {
    pub(crate) fn new(permission: Permission, pattern: Text) -> Self {
        Self { name: permission.name(), pattern }
    }

    pub(crate) fn permission(&self) -> Permission {
        Permission::parse(self.name).expect("the name was taken from a permission")
    }

    pub(crate) fn pattern(&self) -> &Text {
        &self.pattern
    }

    /// Whether the grant holds on every key, and for commands that name none.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.pattern == EVERYWHERE
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name, self.pattern)
    }
}

/// What somebody may do: the union of the grants of all their roles, arranged for fast decisions.
///
/// A user whose permissions hold everywhere is decided by bits alone; scoped grants are looked at only for
/// what the bits leave open. No decision allocates.
#[derive(Debug, Default)]
pub(crate) struct Rights {
    /// Granted on `*`, as `WHOAMI` shows it.
    held: Permissions,
    /// The same with what `admin` implies.
    everywhere: Permissions,
    /// Grants on narrower patterns that `everywhere` does not already include.
    scoped: Vec<Scoped>,
}

#[derive(Debug)]
struct Scoped {
    permission: Permission,
    pattern: Text,
}

impl Rights {
    /// Everything, for a server without authentication.
    pub(crate) fn all() -> Self {
        Self { held: Permissions::ALL, everywhere: Permissions::ALL, scoped: Vec::new() }
    }

    /// The union of `grants`.
    pub(crate) fn of<'a>(grants: impl Iterator<Item = &'a Grant> + Clone) -> Self {
        let held = grants
            .clone()
            .filter(|grant| grant.is_everywhere())
            .fold(Permissions::NONE, |set, grant| set.with(grant.permission()));
        let everywhere = if held.contains(Permission::Admin) { Permissions::ALL } else { held };
        let scoped = grants
            .filter(|grant| !everywhere.contains(grant.permission()))
            .map(|grant| Scoped { permission: grant.permission(), pattern: grant.pattern.clone() })
            .collect();
        Self { held, everywhere, scoped }
    }

    /// The permissions granted on `*` by name.
    pub(crate) fn held(&self) -> Permissions {
        self.held
    }

    /// Whether all of `needed` hold everywhere.
    pub(crate) fn allow_everywhere(&self, needed: Permissions) -> bool {
        needed.without(self.everywhere).is_empty()
    }

    /// Whether all of `needed` hold on `key`.
    pub(crate) fn allow_key(&self, needed: Permissions, key: &str) -> bool {
        needed.without(self.everywhere).iter().all(|permission| {
            self.scoped
                .iter()
                .any(|grant| grant.permission == permission && Pattern::new(&grant.pattern).matches(key))
        })
    }

    /// Whether all of `needed` hold on every key that `requested` can match, as far as can be proven.
    pub(crate) fn allow_pattern(&self, needed: Permissions, requested: &str) -> bool {
        needed.without(self.everywhere).iter().all(|permission| {
            self.scoped
                .iter()
                .any(|grant| grant.permission == permission && covers(&grant.pattern, requested))
        })
    }
}

/// Whether every key matched by `requested` is provably matched by `granted`.
///
/// The granted pattern is matched against the *text* of the requested one, where a requested `*` can be
/// taken only by a granted `*`, and a requested `?` only by a granted `?` or `*`. Whatever the requested
/// wildcards stand for, the granted wildcards that took them can then take it too, so a "yes" is always
/// right. Some true inclusions (`*?` in `?*`) are not seen and count as "no".
///
/// Time is bounded by the product of the lengths, both bounded by the key limit; nothing is allocated.
fn covers(granted: &str, requested: &str) -> bool {
    let (mut grant, mut request) = (granted.chars(), requested.chars());
    // Behind the last granted star, and what it has not taken yet.
    let mut star: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let (mut grant_rest, mut request_rest) = (grant.clone(), request.clone());
        match (grant_rest.next(), request_rest.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((grant_rest.clone(), request.clone()));
                grant = grant_rest;
            }
            (Some(allowed), Some(asked)) if asked != '*' && (allowed == '?' || allowed == asked) => {
                (grant, request) = (grant_rest, request_rest);
            }
            _ => {
                let Some((behind, left)) = &mut star else { return false };
                if left.next().is_none() {
                    return false;
                }
                (grant, request) = (behind.clone(), left.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Grant, Rights, covers};
    use crate::permission::{Permission, Permissions};
    use vaylix_engine::glob::Pattern;

    const READ: Permissions = Permissions::of(&[Permission::Read]);
    const READ_WRITE: Permissions = Permissions::of(&[Permission::Read, Permission::Write]);

    fn rights(grants: &[(Permission, &str)]) -> Rights {
        let grants: Vec<Grant> =
            grants.iter().map(|(permission, pattern)| Grant::new(*permission, (*pattern).into())).collect();
        Rights::of(grants.iter())
    }

    #[test]
    fn coverage_that_can_be_proven() {
        for (granted, requested) in [
            ("*", ""),
            ("*", "*"),
            ("*", "?x*"),
            ("app:*", "app:*"),
            ("app:*", "app:1*"),
            ("app:*", "app:"),
            ("app:*", "app:?"),
            ("a*c*e", "a*c*e"),
            ("a*c*e", "abcde"),
            ("a*c*e", "a?c?e*e"),
            ("ab*ba", "abba"),
            ("?", "?"),
            ("?", "x"),
            ("?*", "??"),
            ("**", "*"),
            ("", ""),
            ("*é", "?é"),
        ] {
            assert!(covers(granted, requested), "{granted:?} covers {requested:?}");
        }
    }

    #[test]
    fn coverage_that_does_not_hold() {
        for (granted, requested) in [
            ("app:*", "*"),
            ("app:*", "a*"),
            ("app:*", "?pp:*"),
            ("app:*", "app"),
            ("ab*ba", "aba"),
            ("a*c*e", "a*e"),
            ("?", "*"),
            ("?", ""),
            ("?", "??"),
            ("x", "?"),
            ("", "*"),
            ("", "a"),
            ("a", ""),
            ("?*", "*"),
        ] {
            assert!(!covers(granted, requested), "{granted:?} does not cover {requested:?}");
        }
    }

    /// Over a small alphabet, every "yes" is checked against the matcher on every short key.
    #[test]
    fn covered_patterns_never_match_more() {
        fn texts(alphabet: &[char], len_max: usize) -> Vec<String> {
            let mut all = vec![String::new()];
            let mut last = all.clone();
            for _ in 0..len_max {
                last = last
                    .iter()
                    .flat_map(|text| alphabet.iter().map(move |letter| format!("{text}{letter}")))
                    .collect();
                all.extend(last.iter().cloned());
            }
            all
        }
        let patterns = texts(&['a', 'b', '*', '?'], 3);
        let keys = texts(&['a', 'b', '*', '?'], 4);
        let mut proven = 0;
        for granted in &patterns {
            let granted_pattern = Pattern::new(granted);
            for requested in patterns.iter().filter(|requested| covers(granted, requested)) {
                proven += 1;
                let requested_pattern = Pattern::new(requested);
                for key in keys.iter().filter(|key| requested_pattern.matches(key)) {
                    assert!(granted_pattern.matches(key), "{granted} covers {requested} but not {key}");
                }
            }
        }
        assert!(proven > 500, "{proven}");
    }

    #[test]
    fn admin_everywhere_is_everything_and_admin_elsewhere_is_nothing() {
        let everywhere = rights(&[(Permission::Admin, "*")]);
        assert!(everywhere.allow_everywhere(Permissions::ALL) && everywhere.allow_key(READ_WRITE, "k"));
        assert_eq!(everywhere.held().to_string(), "admin");
        let scoped = rights(&[(Permission::Admin, "k*")]);
        assert!(!scoped.allow_key(READ, "k") && !scoped.allow_everywhere(READ));
    }

    #[test]
    fn each_needed_permission_must_hold_on_the_key_by_some_grant() {
        let mixed = rights(&[(Permission::Read, "*"), (Permission::Write, "a*"), (Permission::Write, "?")]);
        assert!(mixed.allow_key(READ_WRITE, "abc") && mixed.allow_key(READ_WRITE, "x"));
        assert!(!mixed.allow_key(READ_WRITE, "xy") && mixed.allow_key(READ, "xy"));
        assert!(mixed.allow_everywhere(READ) && !mixed.allow_everywhere(READ_WRITE));
        assert!(mixed.allow_pattern(READ, "*") && mixed.allow_pattern(READ_WRITE, "ab*"));
        assert!(!mixed.allow_pattern(READ_WRITE, "*"));
    }

    #[test]
    fn one_pattern_language() {
        let odd = rights(&[(Permission::Read, "a*c*e"), (Permission::Read, "ab*ba")]);
        assert!(odd.allow_key(READ, "abcde"), "every star is a wildcard");
        assert!(!odd.allow_key(READ, "aba"), "prefix and suffix do not overlap");
    }
}
