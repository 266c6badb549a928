//! How far the server is between its start and its end.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use vaylix_access::{Door, Vitals};

use crate::cookie::Jar;
use crate::live::Live;
use crate::metrics::Traffic;
use crate::settings::Setting;

/// What a start is doing: for `/startupz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// What is being done.
    pub what: &'static str,
    /// What is counted, `bytes` or `entries`; empty where nothing is.
    pub unit: &'static str,
    /// How many are done.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// Tells how far the start is; `None` before it has begun.
type Ask = dyn Fn() -> Option<Replay> + Send + Sync;

/// Where the server is. There is no way back.
#[derive(Clone)]
enum At {
    Starting,
    Serving(Door),
    Stopping(Option<Door>),
}

/// Where the server is, for everything that is asked of it. Clones are the same server.
#[derive(Clone)]
pub struct Stage {
    at: Arc<watch::Sender<At>>,
    ask: Arc<Ask>,
    traffic: Arc<Traffic>,
    settings: Arc<[Setting]>,
    live: Arc<Live>,
    /// Known once there is a door.
    node_id: Arc<OnceLock<String>>,
}

impl Stage {
    /// A server that has begun to start with these settings; `ask` tells how far it is.
    #[must_use]
    pub fn starting(
        settings: Vec<Setting>,
        ask: impl Fn() -> Option<Replay> + Send + Sync + 'static,
    ) -> Self {
        Self {
            at: Arc::new(watch::channel(At::Starting).0),
            ask: Arc::new(ask),
            traffic: Arc::default(),
            settings: settings.into(),
            live: Arc::default(),
            node_id: Arc::default(),
        }
    }

    /// It is ready: from now on requests are admitted by this door.
    pub fn serve(&self, door: Door) {
        self.node_id.get_or_init(|| door.vitals().node_id);
        self.at.send_if_modified(|at| {
            let is_next = matches!(at, At::Starting);
            if is_next {
                *at = At::Serving(door);
            }
            is_next
        });
    }

    /// It has been told to stop: from now on it says so to everybody who asks how it is.
    pub fn stop(&self) {
        self.at.send_modify(|at| {
            let door = match at {
                At::Starting => None,
                At::Serving(door) | At::Stopping(Some(door)) => Some(door.clone()),
                At::Stopping(None) => None,
            };
            *at = At::Stopping(door);
        });
    }

    /// The door, once there is one.
    pub(crate) fn door(&self) -> Option<Door> {
        match &*self.at.borrow() {
            At::Serving(door) | At::Stopping(Some(door)) => Some(door.clone()),
            At::Starting | At::Stopping(None) => None,
        }
    }

    /// What the server was started with.
    pub(crate) fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// What is remembered for those who watch.
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Where browsers keep tokens of this node; `None` before there is one.
    pub(crate) fn jar(&self, is_encrypted: bool) -> Option<Jar> {
        self.node_id.get().map(|id| Jar::of(id, is_encrypted))
    }

    /// What was asked of the control plane so far.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(crate) fn is_stopping(&self) -> bool {
        matches!(&*self.at.borrow(), At::Stopping(_))
    }

    /// How far the start is; `None` when it is over, or has not begun.
    pub(crate) fn replay(&self) -> Option<Replay> {
        if matches!(&*self.at.borrow(), At::Starting) { (self.ask)() } else { None }
    }

    /// The node as it is now; `None` before there is one.
    pub(crate) fn vitals(&self) -> Option<Vitals> {
        self.door().map(|door| door.vitals())
    }

    /// Returns when the server is somewhere else than at the last call.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.at.subscribe())
    }
}

/// Follows a [`Stage`].
pub(crate) struct Changes(watch::Receiver<At>);

impl Changes {
    /// Whether the server has been told to stop.
    pub(crate) fn are_over(&self) -> bool {
        matches!(&*self.0.borrow(), At::Stopping(_))
    }

    /// Returns when the server has been told to stop.
    pub(crate) async fn over(&mut self) {
        if self.0.wait_for(|at| matches!(at, At::Stopping(_))).await.is_err() {
            // The stage is gone with the server.
            std::future::pending::<()>().await;
        }
    }

    /// Returns at the next change.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The stage is gone with the server.
            std::future::pending::<()>().await;
        }
    }
}
