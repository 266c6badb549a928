//! Who is connected: two bounded populations, and who has to leave when one of them is full.
//!
//! - **Arrivals** have not completed their hello. They cost a socket and little else, so many are let in; when
//!   even that bound is reached, the one that has been hesitating longest leaves. Silent sockets can therefore
//!   never keep a client out.
//! - **Sessions** have. When all places are taken, the session that has been idle longest *without ever having
//!   logged in* leaves; if every session has logged in or is busy, the newcomer is refused.
//!
//! **Peers**, other nodes that have proved to be some, are counted apart from both.
//!
//! A connection that has to leave learns it through [`Member::dismissed`]; its place is free at once.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::caps::PEERS_MAX;

/// Number of a connection since the start of the server, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// All places are taken by sessions that may not be sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The connections of one listener.
pub(crate) struct Registry {
    sessions_max: usize,
    arrivals_max: usize,
    /// Origin of the milliseconds in [`Idle`].
    opened_at: Instant,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    last: u64,
    is_closing: bool,
    arrivals: BTreeMap<ConnectionId, oneshot::Sender<()>>,
    sessions: HashMap<ConnectionId, Seat>,
    peers: HashMap<ConnectionId, oneshot::Sender<()>>,
}

/// A session's place. Dropping it dismisses the session.
struct Seat {
    idle: Arc<Idle>,
    _dismissal: oneshot::Sender<()>,
}

/// Since when a session may be sent away, in milliseconds since the registry was opened.
struct Idle(AtomicU64);

/// The session is busy or has logged in.
const PROTECTED: u64 = u64::MAX;

impl Registry {
    /// An empty registry with these bounds.
    pub(crate) fn new(sessions_max: usize, arrivals_max: usize, now: Instant) -> Arc<Self> {
        Arc::new(Self { sessions_max, arrivals_max, opened_at: now, members: Mutex::default() })
    }

    /// Takes in a new connection as an arrival.
    pub(crate) fn arrive(self: &Arc<Self>) -> Member {
        let (dismissal, dismissed) = oneshot::channel();
        let mut members = self.members.lock();
        members.last += 1;
        let id = ConnectionId(members.last);
        if members.arrivals.len() >= self.arrivals_max {
            members.arrivals.pop_first();
        }
        if !members.is_closing {
            members.arrivals.insert(id, dismissal);
        }
        Member {
            id,
            idle: Arc::new(Idle(AtomicU64::new(PROTECTED))),
            is_protected: false,
            dismissed: Some(dismissed),
            registry: Arc::clone(self),
        }
    }

    /// Dismisses the oldest arrival, if there is one, to give its file descriptor back.
    pub(crate) fn dismiss_oldest_arrival(&self) {
        self.members.lock().arrivals.pop_first();
    }

    /// Dismisses everybody, now and from now on, but the peers that are there: what clients still wait for may need them.
    pub(crate) fn close(&self) {
        let mut members = self.members.lock();
        members.is_closing = true;
        members.arrivals.clear();
        members.sessions.clear();
    }

    /// Dismisses the peers.
    pub(crate) fn dismiss_peers(&self) {
        self.members.lock().peers.clear();
    }

    /// How many peers there are.
    pub(crate) fn peer_count(&self) -> usize {
        self.members.lock().peers.len()
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.opened_at).as_millis()).unwrap_or(PROTECTED - 1)
    }
}

/// One connection's membership; dropping it gives the place back.
pub(crate) struct Member {
    id: ConnectionId,
    idle: Arc<Idle>,
    /// Whether it has logged in.
    is_protected: bool,
    /// Taken when it has fired.
    dismissed: Option<oneshot::Receiver<()>>,
    registry: Arc<Registry>,
}

impl Member {
    /// The connection's number.
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Turns the arrival into a session, at the expense of an idle stranger if need be.
    ///
    /// # Errors
    /// [`Full`] when nobody may be sent away; the connection stays an arrival.
    pub(crate) fn take_seat(&mut self, now: Instant) -> Result<(), Full> {
        let mut members = self.registry.members.lock();
        if members.is_closing || !members.arrivals.contains_key(&self.id) {
            // Dismissed already; `dismissed` tells.
            return Ok(());
        }
        if members.sessions.len() >= self.registry.sessions_max {
            let stranger = members
                .sessions
                .iter()
                .map(|(id, seat)| (seat.idle.0.load(Ordering::Relaxed), *id))
                .filter(|(since, _)| *since != PROTECTED)
                .min();
            let Some((_, stranger)) = stranger else { return Err(Full) };
            members.sessions.remove(&stranger);
        }
        let Some(dismissal) = members.arrivals.remove(&self.id) else { return Ok(()) };
        self.idle.0.store(self.registry.millis(now), Ordering::Relaxed);
        members.sessions.insert(self.id, Seat { idle: Arc::clone(&self.idle), _dismissal: dismissal });
        Ok(())
    }

    /// Turns the arrival into a peer, which takes no session's place. `false` when there are too many, or it has to leave.
    pub(crate) fn become_peer(&mut self) -> bool {
        let mut members = self.registry.members.lock();
        if members.is_closing || members.peers.len() >= PEERS_MAX {
            return false;
        }
        let Some(dismissal) = members.arrivals.remove(&self.id) else { return false };
        members.peers.insert(self.id, dismissal);
        true
    }

    /// The session has logged in: it will not be sent away to make room.
    pub(crate) fn protect(&mut self) {
        self.is_protected = true;
        self.idle.0.store(PROTECTED, Ordering::Relaxed);
    }

    /// The session handles requests.
    pub(crate) fn busy(&self) {
        if !self.is_protected {
            self.idle.0.store(PROTECTED, Ordering::Relaxed);
        }
    }

    /// The session waits for requests.
    pub(crate) fn idle(&self, now: Instant) {
        if !self.is_protected {
            self.idle.0.store(self.registry.millis(now), Ordering::Relaxed);
        }
    }

    /// Whether everybody has to leave, and not this one to make room.
    pub(crate) fn is_closing(&self) -> bool {
        self.registry.members.lock().is_closing
    }

    /// Completes when the connection has to leave, and stays complete.
    pub(crate) fn poll_dismissed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(dismissed) = &mut self.dismissed else { return Poll::Ready(()) };
        // Nothing is ever sent: the dropped sender is the message.
        let poll = Pin::new(dismissed).poll(context).map(|_| ());
        if poll.is_ready() {
            self.dismissed = None;
        }
        poll
    }

    /// Waits until the connection has to leave.
    pub(crate) async fn dismissed(&mut self) {
        std::future::poll_fn(|context| self.poll_dismissed(context)).await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut members = self.registry.members.lock();
        members.arrivals.remove(&self.id);
        members.sessions.remove(&self.id);
        members.peers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Member, Registry};
    use std::sync::Arc;
    use std::task::{Context, Waker};
    use std::time::{Duration, Instant};

    fn is_dismissed(member: &mut Member) -> bool {
        member.poll_dismissed(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn seat(registry: &Arc<Registry>, at: Instant) -> Member {
        let mut member = registry.arrive();
        assert_eq!(member.take_seat(at), Ok(()));
        member
    }

    #[test]
    fn the_longest_idle_stranger_makes_room() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let registry = Registry::new(3, 10, start);
        let mut user = seat(&registry, start);
        user.protect();
        user.idle(start);
        let mut older = seat(&registry, start + second);
        let mut newer = seat(&registry, start + 2 * second);
        older.busy();
        older.idle(start + 3 * second);
        let mut fourth = seat(&registry, start + 4 * second);
        assert!(is_dismissed(&mut newer), "it had been idle longest");
        assert!(!is_dismissed(&mut older) && !is_dismissed(&mut user) && !is_dismissed(&mut fourth));
    }

    #[test]
    fn the_busy_and_the_logged_in_are_never_sent_away() {
        let start = Instant::now();
        let registry = Registry::new(2, 10, start);
        let mut user = seat(&registry, start);
        user.protect();
        let busy = seat(&registry, start);
        busy.busy();
        let mut newcomer = registry.arrive();
        assert_eq!(newcomer.take_seat(start), Err(Full));
        drop(busy);
        assert_eq!(newcomer.take_seat(start), Ok(()));
        assert!(!is_dismissed(&mut user) && !is_dismissed(&mut newcomer));
    }

    #[test]
    fn arrivals_are_counted_apart_and_the_oldest_leaves() {
        let start = Instant::now();
        let registry = Registry::new(1, 2, start);
        let mut silent: Vec<Member> = (0..3).map(|_| registry.arrive()).collect();
        assert!(is_dismissed(&mut silent[0]) && is_dismissed(&mut silent[0]), "and stays dismissed");
        assert!(!is_dismissed(&mut silent[1]) && !is_dismissed(&mut silent[2]));
        assert_eq!(silent[0].take_seat(start), Ok(()));
        assert_eq!(silent[1].take_seat(start), Ok(()), "the dismissed one took no seat");
        registry.dismiss_oldest_arrival();
        assert!(is_dismissed(&mut silent[2]) && !is_dismissed(&mut silent[1]));
        registry.dismiss_oldest_arrival();
        assert!(!is_dismissed(&mut silent[1]), "sessions are not concerned");
    }

    #[test]
    fn closing_dismisses_everybody_now_and_later() {
        let start = Instant::now();
        let registry = Registry::new(2, 2, start);
        let (mut session, mut arrival) = (seat(&registry, start), registry.arrive());
        registry.close();
        let mut late = registry.arrive();
        assert!(is_dismissed(&mut session) && is_dismissed(&mut arrival) && is_dismissed(&mut late));
    }
}
