use std::collections::BTreeMap;

use vaylix_proto::Code;

use super::{Change, Edit, bootstrap};
use crate::grant::Rights;
use crate::permission::Permissions;
use crate::policy::Policy;
use crate::record;

/// The system records, as the state would hold them.
#[derive(Default)]
struct Records {
    revision: u64,
    records: BTreeMap<String, Vec<u8>>,
}

impl Records {
    /// A server with the administrator root.
    fn new() -> Self {
        let mut records = Self::default();
        records.write(bootstrap(&records.policy(), &"root".into(), "hash of root").unwrap());
        records
    }

    fn policy(&self) -> Policy {
        Policy::decode(self.revision, self.records.iter().map(|(key, record)| (&**key, &**record))).unwrap()
    }

    fn write(&mut self, edits: Vec<Edit>) {
        for Edit { key, record } in edits {
            match record {
                Some(record) => self.records.insert(key, record),
                None => self.records.remove(&key),
            };
        }
        self.revision += 1;
    }

    /// Carries out a change in the name of an administrator, and says which records it wrote.
    fn change(&mut self, change: &Change) -> Vec<String> {
        let edits = change.plan(&self.policy(), &Rights::all()).unwrap();
        let keys = edits.iter().map(|edit| edit.key.clone()).collect();
        self.write(edits);
        keys
    }
}

fn create_user(user: &str) -> Change {
    Change::CreateUser { user: user.into(), password_hash: format!("hash of {user}") }
}

fn create_role(role: &str) -> Change {
    Change::CreateRole { role: role.into() }
}

fn grant_role(role: &str, user: &str) -> Change {
    Change::GrantRole { role: role.into(), user: user.into() }
}

fn grant(permission: &str, pattern: &str, role: &str) -> Change {
    Change::GrantPermission { permission: permission.into(), pattern: pattern.into(), role: role.into() }
}

fn revoke(permission: &str, pattern: &str, role: &str) -> Change {
    Change::RevokePermission { permission: permission.into(), pattern: pattern.into(), role: role.into() }
}

#[test]
fn the_first_start_writes_the_administrator_and_its_role() {
    let records = Records::new();
    let keys: Vec<&String> = records.records.keys().collect();
    assert_eq!(keys, ["access/bootstrap", "access/role/admin", "access/user/root"]);
    let root = records.policy().identify("root").unwrap();
    assert_eq!(root.rights().held(), Permissions::ALL);
    assert!(records.policy().has_administrator());
}

#[test]
fn a_change_writes_only_what_it_changes_and_nothing_twice() {
    let mut records = Records::new();
    for (change, keys) in [
        (create_user("bob"), vec!["access/user/bob"]),
        (create_user("eve"), vec!["access/user/eve"]),
        (create_role("app"), vec!["access/role/app"]),
        (grant("read", "app:*", "app"), vec!["access/role/app"]),
        (grant("READ", "app:*", "app"), vec![]),
        (grant_role("app", "bob"), vec!["access/user/bob"]),
        (grant_role("app", "bob"), vec![]),
        (revoke("read", "*", "app"), vec![]),
        (Change::RevokeRole { role: "app".into(), user: "eve".into() }, vec![]),
        (Change::RevokeRole { role: "no such role".into(), user: "eve".into() }, vec![]),
        (Change::DropRole { role: "app".into() }, vec!["access/user/bob", "access/role/app"]),
        (Change::DropUser { user: "bob".into() }, vec!["access/user/bob"]),
    ] {
        assert_eq!(records.change(&change), keys);
    }
    assert_eq!(records.records.len(), 4, "eve, root, the role admin and the bootstrap record");
}

#[test]
fn an_identity_follows_its_user_and_not_its_name() {
    let mut records = Records::new();
    records.change(&create_user("bob"));
    let bob = records.policy().identify("bob").unwrap();
    records.change(&create_role("app"));
    records.change(&grant("read", "*", "app"));
    records.change(&grant_role("app", "bob"));
    assert!(bob.rights().held().is_empty());
    let renewed = records.policy().renew(&bob).unwrap();
    assert_eq!(renewed.rights().held().to_string(), "read");
    assert_eq!(renewed.revision(), records.revision);
    records.change(&Change::DropUser { user: "bob".into() });
    assert!(records.policy().renew(&bob).is_none());
    records.change(&create_user("bob"));
    assert!(records.policy().renew(&bob).is_none());
    assert!(records.policy().identify("bob").is_some());
}

#[test]
fn a_disabled_user_cannot_log_in_and_is_no_administrator() {
    let mut records = Records::new();
    records.change(&create_user("second"));
    records.change(&grant_role("admin", "second"));
    let second = records.policy().identify("second").unwrap();
    let mut user = records.policy().users()["second"].to_record();
    user.disabled = true;
    records.records.insert("access/user/second".into(), record::encode(&user).unwrap());
    let policy = records.policy();
    assert!(policy.identify("second").is_none() && policy.renew(&second).is_none());
    assert_eq!(policy.password_hash("second"), None);
    let refusal = Change::DropUser { user: "root".into() }.plan(&policy, &Rights::all()).err().unwrap();
    assert_eq!(refusal.known_code(), Some(Code::LastAdminUser));
}

#[test]
fn credentials_that_are_taken_over_touch_one_user() {
    let mut records = Records::new();
    records.change(&create_user("bob"));
    records.change(&create_role("app"));
    records.change(&grant_role("app", "bob"));
    let created = records.policy().users()["bob"].created_revision;
    let before = records.records.clone();
    records.write(bootstrap(&records.policy(), &"bob".into(), "another hash").unwrap());
    let changed: Vec<&String> =
        records.records.keys().filter(|key| records.records.get(*key) != before.get(*key)).collect();
    assert_eq!(changed, ["access/bootstrap", "access/user/bob"]);
    let policy = records.policy();
    let bob = &policy.users()["bob"];
    assert_eq!(bob.created_revision, created, "the same user as before");
    assert_eq!(bob.password_hash, "another hash");
    assert!(bob.roles.contains("app") && bob.roles.contains("admin"));
}

#[test]
fn a_record_that_is_not_understood_spoils_the_policy() {
    let mut records = Records::new();
    records.change(&create_role("app"));
    let role = record::Role { grants: vec![("fly".into(), "*".into())] };
    records.records.insert("access/role/app".into(), record::encode(&role).unwrap());
    let decoded = Policy::decode(1, records.records.iter().map(|(key, record)| (&**key, &**record)));
    assert_eq!(decoded.err().unwrap().known_code(), Some(Code::AuthStoreDeserializationFailure));
}
