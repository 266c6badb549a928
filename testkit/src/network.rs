//! A network of proxies in front of the nodes of a cluster, to cut and slow it down while it runs.
//!
//! Every node has one address here that everybody uses for it: the other nodes and clients. Who connects is found
//! out from the operating system: the process that owns the other end of the connection. So each *directed* link
//! between two nodes, and between a node and everybody outside, can be treated apart, whoever opened the connection
//! its bytes travel on.
//!
//! A node may listen anywhere; after a restart the network is told where ([`Network::attach`]).

mod owner;
mod pump;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// A node, by its place in the cluster.
    Node(usize),
    /// Everybody else: clients.
    Outside,
}

/// What happens to the bytes that one party sends to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// They arrive.
    #[default]
    Pass,
    /// They do not arrive. Connections stay open, as when packets are dropped; what was sent arrives once the link
    /// passes again.
    Drop,
    /// Connections are reset, existing and new ones.
    Reset,
    /// They arrive so much later.
    Delay(Duration),
    /// So many arrive in a second.
    Bandwidth(u32),
    /// About one write in `one_in` stalls, and everything behind it, as when a lost packet has to be sent again.
    Lossy {
        /// How rare a loss is.
        one_in: u32,
        /// How long it takes to be noticed and repaired.
        stall: Duration,
    },
}

/// The proxies of one cluster.
#[derive(Debug)]
pub struct Network {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    /// Taken when dropped.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    nodes: Mutex<Vec<Option<Attached>>>,
    /// `from * parties + to`; the last party is the outside.
    links: Vec<watch::Sender<Setting>>,
    parties: usize,
}

/// What is decided about a link.
#[derive(Clone, Copy, Debug, Default)]
struct Setting {
    link: Link,
    /// How often it was decided that connections are reset: those that are open notice even when the link passes again
    /// before they have looked.
    resets: u64,
}

/// A running node.
#[derive(Clone, Copy, Debug)]
struct Attached {
    address: SocketAddr,
    process: u32,
}

impl Network {
    /// Opens an address for each of `nodes` nodes. All links pass; no node is attached yet.
    ///
    /// # Errors
    /// When no sockets or threads can be had.
    pub fn start(nodes: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()
            .context("no runtime for the network")?;
        let parties = nodes + 1;
        let shared = Arc::new(Shared {
            nodes: Mutex::new(vec![None; nodes]),
            links: (0..parties * parties).map(|_| watch::Sender::new(Setting::default())).collect(),
            parties,
        });
        let mut addresses = Vec::new();
        for node in 0..nodes {
            let listener = runtime
                .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
                .context("no address for a node")?;
            addresses.push(listener.local_addr()?);
            runtime.spawn(Arc::clone(&shared).serve(node, listener));
        }
        Ok(Self { shared, addresses, runtime: Some(runtime) })
    }

    /// Where everybody finds this node.
    #[must_use]
    pub fn address(&self, node: usize) -> SocketAddr {
        self.addresses[node]
    }

    /// All of them, in order.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The node runs as `process` and listens on `address`.
    pub fn attach(&self, node: usize, address: SocketAddr, process: u32) {
        self.shared.nodes()[node] = Some(Attached { address, process });
    }

    /// The node does not run: connections to it are reset.
    pub fn detach(&self, node: usize) {
        self.shared.nodes()[node] = None;
    }

    /// Decides about what `from` sends to `to`.
    pub fn set(&self, from: Party, to: Party, link: Link) {
        self.shared.link(from, to).send_modify(|setting| {
            setting.link = link;
            setting.resets += u64::from(link == Link::Reset);
        });
    }

    /// Decides about both directions.
    pub fn set_both(&self, one: Party, other: Party, link: Link) {
        self.set(one, other, link);
        self.set(other, one, link);
    }

    /// Decides about everything between `node` and the other nodes; clients still reach it.
    pub fn isolate(&self, node: usize, link: Link) {
        for other in (0..self.addresses.len()).filter(|other| *other != node) {
            self.set_both(Party::Node(node), Party::Node(other), link);
        }
    }

    /// Decides about everything between the nodes.
    pub fn set_between_nodes(&self, link: Link) {
        for node in 0..self.addresses.len() {
            self.isolate(node, link);
        }
    }

    /// Everything passes again.
    pub fn heal(&self) {
        for link in &self.shared.links {
            link.send_modify(|setting| setting.link = Link::Pass);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn nodes(&self) -> MutexGuard<'_, Vec<Option<Attached>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, from: Party, to: Party) -> &watch::Sender<Setting> {
        let index = |party| match party {
            Party::Node(node) => node,
            Party::Outside => self.parties - 1,
        };
        &self.links[index(from) * self.parties + index(to)]
    }

    async fn serve(self: Arc<Self>, node: usize, listener: TcpListener) {
        // A failed accept says nothing about the next one; the tests notice when nothing gets through any more.
        loop {
            if let Ok((stream, peer)) = listener.accept().await {
                tokio::spawn(Arc::clone(&self).carry(node, stream, peer));
            }
        }
    }

    /// One connection to `node`, from its beginning to its end.
    async fn carry(self: Arc<Self>, node: usize, mut near: TcpStream, peer: SocketAddr) {
        let from = self.who_connected(&near, peer).await;
        let mut there = self.link(from, Party::Node(node)).subscribe();
        let mut back = self.link(Party::Node(node), from).subscribe();
        let resets = (is_reset(there.clone()), is_reset(back.clone()));
        // The first packet of a connection gets through, or not, like any other.
        let passable = async { there.wait_for(|now| now.link != Link::Drop).await.map(|now| now.link) };
        let target = match passable.await {
            Ok(Link::Reset) | Err(_) => None,
            Ok(_) => self.nodes()[node].map(|attached| attached.address),
        };
        let far = match target {
            Some(address) => TcpStream::connect(address).await.ok(),
            None => None,
        };
        let Some(mut far) = far else { return reset(&near) };
        for stream in [&near, &far] {
            // Only the timing of small writes depends on it.
            let _ = stream.set_nodelay(true);
        }
        let carried = async {
            let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
            tokio::try_join!(pump::run(near_in, far_out, &mut there), pump::run(far_in, near_out, &mut back))
        };
        let ended = tokio::select! {
            ended = carried => ended.is_ok(),
            () = resets.0 => false,
            () = resets.1 => false,
        };
        if !ended {
            reset(&near);
            reset(&far);
        }
    }

    async fn who_connected(&self, near: &TcpStream, peer: SocketAddr) -> Party {
        let nodes: Vec<_> = self.nodes().iter().map(|node| node.map(|attached| attached.process)).collect();
        let Ok(here) = near.local_addr() else { return Party::Outside };
        // It takes milliseconds, which those that are connected must not wait for.
        let owner = tokio::task::spawn_blocking(move || owner::among(&nodes, peer, here)).await;
        owner.ok().flatten().map_or(Party::Outside, Party::Node)
    }
}

/// Waits until connections over this link are reset, counted from this call.
fn is_reset(mut link: watch::Receiver<Setting>) -> impl Future<Output = ()> {
    let before = link.borrow().resets;
    async move {
        if link.wait_for(|now| now.resets != before).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Makes the end of this connection abrupt.
fn reset(stream: &TcpStream) {
    // It fails only for a connection that has ended already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
