//! Who is connected to the data plane or holds a token of the control plane, for those who look after users.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::door::Door;
use crate::task::SessionChoice;
use crate::ticket::{Origin, Visitor};

/// How many entries of connections that are gone are kept at most, before they are cleared away.
const SWEEP_AT_MIN: usize = 64;

/// The connections of the data plane.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<Listed>);

#[derive(Default)]
struct Listed {
    by_id: HashMap<u64, Weak<Origin>>,
    /// The number of entries at which those that are gone are cleared away.
    sweep_at: usize,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// What it is ended by: the number of a connection, as the audit log has it, or `token-` and the beginning of a
    /// digest.
    pub id: String,
    /// Who it is; none before a login.
    pub user: Option<String>,
    /// Where a connection comes from; none for a token.
    pub peer: Option<SocketAddr>,
    /// When it began, in unix milliseconds.
    pub since_ms: u64,
    /// When it ends by itself, in unix milliseconds; none for a connection.
    pub ends_at_ms: Option<u64>,
}

impl Sessions {
    pub(crate) fn add(&self, visitor: &Visitor) {
        let mut listed = self.0.lock();
        if listed.by_id.len() >= listed.sweep_at.max(SWEEP_AT_MIN) {
            listed.by_id.retain(|_, origin| origin.strong_count() > 0);
            listed.sweep_at = listed.by_id.len() * 2;
        }
        listed.by_id.insert(visitor.connection_id(), Arc::downgrade(visitor.origin()));
    }

    fn open(&self) -> Vec<Arc<Origin>> {
        self.0.lock().by_id.values().filter_map(Weak::upgrade).collect()
    }
}

impl Door {
    /// The sessions, by the time they began.
    pub(crate) fn sessions(&self) -> Vec<SessionView> {
        let connection = |origin: &Arc<Origin>| SessionView {
            id: origin.connection_id().to_string(),
            user: origin.user().map(|user| user.to_string()),
            peer: Some(origin.peer()),
            since_ms: millis(origin.since()),
            ends_at_ms: None,
        };
        let mut views: Vec<_> = self.0.sessions.open().iter().map(connection).collect();
        views.extend(self.0.tokens.views());
        views.sort_by(|a, b| a.since_ms.cmp(&b.since_ms).then_with(|| a.id.cmp(&b.id)));
        views
    }

    /// Has these sessions log in anew, and says how many they are.
    pub(crate) fn end_sessions(&self, who: &SessionChoice) -> usize {
        let is_meant = |id: &str, user: Option<&str>| match who {
            SessionChoice::Id(wanted) => id == wanted,
            SessionChoice::User(wanted) => user == Some(wanted),
        };
        let mut ended = self.0.tokens.end_all(|view| is_meant(&view.id, view.user.as_deref()));
        for origin in self.0.sessions.open() {
            let user = origin.user();
            if user.is_some() && is_meant(&origin.connection_id().to_string(), user.as_deref()) {
                origin.end();
                ended += 1;
            }
        }
        ended
    }
}

pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
