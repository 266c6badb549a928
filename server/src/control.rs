//! The listeners of the control plane: bound before anything else, served on threads of their own.
//!
//! They have a runtime to themselves, so that administration and the data plane wait for each other only where the machine
//! does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};
use vaylix_controlplane::{Replay, Scope, Server, Settings, Socket, Stage};
use vaylix_engine::progress::Board;
use vaylix_tls::{Current, UserRule};

use crate::error::ServerError;
use crate::flags::Flags;

const ADVICE: &str = "give another --admin-port, or --disable-admin to do without the control plane";
const METRICS_ADVICE: &str = "give another --metrics-bind";

/// The addresses that were asked for, bound.
pub(crate) struct Bound {
    admin: Option<Socket>,
    metrics: Option<Socket>,
}

impl Bound {
    /// Binds them. Clients may connect; they wait in the system's queue.
    ///
    /// # Errors
    /// The first address that cannot be bound (`SRV-001`), or is none (`SRV-030`).
    pub(crate) fn bind(flags: &Flags) -> Result<Self, ServerError> {
        let admin = match flags.disable_admin {
            false => Some(Socket::bind(&flags.admin_bind, flags.admin_port, ADVICE)?),
            true => None,
        };
        let metrics = match &flags.metrics_bind {
            Some(address) => {
                let (host, port) = host_and_port("--metrics-bind", address)?;
                Some(Socket::bind(host, port, METRICS_ADVICE)?)
            }
            None => None,
        };
        Ok(Self { admin, metrics })
    }

    /// Where the other nodes find the control plane of this one, which they reach at `advertised`: what the operator says, or
    /// else the same host, unless nobody there could get in.
    pub(crate) fn advertised(&self, flags: &Flags, advertised: &str) -> Option<String> {
        let bound = self.admin.as_ref()?.local_addr();
        if let Some(given) = &flags.admin_advertise_addr {
            return Some(given.clone());
        }
        let (host, _) = advertised.rsplit_once(':')?;
        let is_here = is_loopback(host.trim_matches(['[', ']']));
        (is_here || !bound.ip().is_loopback()).then(|| format!("{host}:{}", bound.port()))
    }

    /// Serves them on `runtime` from now on, also while the data is being recovered.
    pub(crate) fn serve(
        self,
        runtime: &Handle,
        stage: &Stage,
        tls: Option<&Current>,
        user_rule: Option<UserRule>,
        console: bool,
    ) -> Serving {
        let (stop, _) = watch::channel(false);
        let mut tasks = Vec::new();
        for (socket, scope) in [(self.admin, Scope::Everything { console }), (self.metrics, Scope::Watching)]
        {
            let Some(socket) = socket else { continue };
            announce(socket.local_addr(), scope, tls.is_some());
            let server = Server::new(socket, Settings { scope, tls: tls.cloned(), user_rule }, stage.clone());
            let mut stopping = stop.subscribe();
            tasks.push(runtime.spawn(async move {
                // The sender lives until it has said so.
                let shutdown = async { drop(stopping.wait_for(|stop| *stop).await) };
                if let Err(error) = server.serve(shutdown).await {
                    error!(%error, "the control plane is not served");
                }
            }));
        }
        Serving { stop, tasks }
    }
}

fn announce(address: SocketAddr, scope: Scope, encrypted: bool) {
    let scheme = if encrypted { "https" } else { "http" };
    match scope {
        Scope::Everything { console } => {
            if !encrypted && !address.ip().is_loopback() {
                warn!(
                    "the control plane on {address} has no TLS: passwords and tokens cross the network readable"
                );
            }
            info!("control plane listens on {address} (gRPC and {scheme})");
            if console {
                // An unspecified address is no place to connect to.
                let ip = address.ip();
                let host = if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip };
                info!("console for browsers: {scheme}://{}/", SocketAddr::new(host, address.port()));
            }
        }
        Scope::Watching => info!("probes and metrics listen on {address} ({scheme}, without login)"),
    }
}

/// Listeners that are being served.
pub(crate) struct Serving {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Serving {
    /// Takes nobody in any more and finishes what is in progress, for a short while.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                error!(%error, "the control plane failed");
            }
        }
    }
}

/// How far a start is, as the control plane tells it.
pub(crate) fn replay(board: &Board) -> Option<Replay> {
    let step = board.step()?;
    Some(Replay { what: step.what, unit: step.unit, done: step.done, total: step.total })
}

/// Whether only this machine reaches the listeners that let clients log in.
pub(crate) fn is_local(flags: &Flags) -> bool {
    is_loopback(&flags.bind) && (flags.disable_admin || is_loopback(&flags.admin_bind))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn host_and_port<'a>(option: &str, address: &'a str) -> Result<(&'a str, u16), ServerError> {
    let split = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match split {
        Some((host, port)) if !host.is_empty() => Ok((host.trim_matches(['[', ']']), port)),
        _ => {
            Err(ServerError::Arguments(format!("{option}: {address:?} is no address of the form host:port")))
        }
    }
}

/// Checks what can be checked without the system.
///
/// # Errors
/// [`ServerError::Arguments`] for an address that is none.
pub(crate) fn check(flags: &Flags) -> Result<(), ServerError> {
    for (option, address) in
        [("--metrics-bind", &flags.metrics_bind), ("--admin-advertise-addr", &flags.admin_advertise_addr)]
    {
        if let Some(address) = address {
            host_and_port(option, address)?;
        }
    }
    Ok(())
}
