//! Who a session is.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use vaylix_engine::state::ScanMemory;
use vaylix_proto::Text;

use crate::grant::Rights;
use crate::limits::SCAN_PLACES_MAX;

/// Somebody who has logged in, with what they may do under one revision of the access rules.
///
/// A session keeps one and lends it to every [`Door::admit`](crate::Door::admit), which brings it up to date
/// when the rules have changed. Cloning is cheap; clones are the same login.
#[derive(Clone)]
pub struct Identity(Arc<Resolved>);

struct Resolved {
    user: Text,
    /// The access revision that created the user; none for `anonymous`, who is no user.
    created_revision: Option<u64>,
    revision: u64,
    rights: Rights,
    /// Where the scans of this login are: kept apart from those of others, whose keys may have changed
    /// between two pages.
    scans: Arc<Mutex<ScanMemory>>,
}

/// The name of everybody on a server without authentication.
const ANONYMOUS: &str = "anonymous";

impl Identity {
    /// A new login of a user.
    pub(crate) fn of_user(user: Text, created_revision: u64, revision: u64, rights: Rights) -> Self {
        let scans = Arc::new(Mutex::new(ScanMemory::new(SCAN_PLACES_MAX)));
        Self(Arc::new(Resolved { user, created_revision: Some(created_revision), revision, rights, scans }))
    }

    /// A new session of nobody in particular, who may do everything.
    pub(crate) fn anonymous(revision: u64) -> Self {
        let user = Text::from_static(ANONYMOUS);
        let scans = Arc::new(Mutex::new(ScanMemory::new(SCAN_PLACES_MAX)));
        Self(Arc::new(Resolved { user, created_revision: None, revision, rights: Rights::all(), scans }))
    }

    /// The same login under other rules.
    pub(crate) fn renewed(&self, revision: u64, rights: Rights) -> Self {
        let Resolved { user, created_revision, scans, .. } = &*self.0;
        let (user, created_revision, scans) = (user.clone(), *created_revision, Arc::clone(scans));
        Self(Arc::new(Resolved { user, created_revision, revision, rights, scans }))
    }

    /// The user's name; `anonymous` on a server without authentication.
    #[must_use]
    pub fn user(&self) -> &Text {
        &self.0.user
    }

    /// Whether both are logins of one user. A user who was dropped and created again is another one.
    #[must_use]
    pub fn is_of_user_of(&self, other: &Self) -> bool {
        self.0.user == other.0.user && self.0.created_revision == other.0.created_revision
    }

    pub(crate) fn created_revision(&self) -> Option<u64> {
        self.0.created_revision
    }

    /// The revision of the access rules that the rights belong to.
    pub(crate) fn revision(&self) -> u64 {
        self.0.revision
    }

    pub(crate) fn rights(&self) -> &Rights {
        &self.0.rights
    }

    pub(crate) fn scans(&self) -> &Mutex<ScanMemory> {
        &self.0.scans
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("user", self.user()).field("revision", &self.revision()).finish()
    }
}
