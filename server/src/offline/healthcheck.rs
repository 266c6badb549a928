//! `vaylix healthcheck`: asks a running server, for whoever supervises it.
//!
//! Liveness is a `PING`, which needs no login. Readiness is what `HEALTH` says, which needs one unless authentication is
//! off.

use std::net::IpAddr;
use std::time::Duration;

use vaylix_dataplane::client::{ClientIdentity, Config, Connection, Credentials, Error, TlsOptions};
use vaylix_proto::{Code, Command, Reply};

use crate::error::ServerError;
use crate::flags::{Flags, Given, Healthcheck, HealthcheckKind};

/// The name by which a server knows that no client has come.
const CLIENT_NAME: &str = "vaylix-healthcheck";

pub(crate) fn run(wanted: &Healthcheck, given: &Given) -> Result<(), ServerError> {
    let config = config(wanted, given)?;
    let timeout = Duration::from_millis(wanted.timeout_ms);
    let kind = wanted.kind;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::Runtime)?
        .block_on(async move {
            tokio::time::timeout(timeout, probe(kind, &config)).await.unwrap_or_else(|_| {
                let address = config.address();
                Err(failed(format!("no answer from {address} within {} ms", timeout.as_millis())))
            })
        })
}

fn config(wanted: &Healthcheck, given: &Given) -> Result<Config, ServerError> {
    let flags = &given.flags;
    let user = wanted.user.clone().or_else(|| given.user_configured.then(|| flags.user.clone()));
    let password =
        wanted.password.clone().or_else(|| given.password_configured.then(|| flags.password.clone()));
    let credentials = match (wanted.kind, user, password) {
        (HealthcheckKind::Liveness, ..) | (_, None, None) => None,
        (HealthcheckKind::Readiness, Some(user), Some(password)) => Some(Credentials::new(user, password)),
        (HealthcheckKind::Readiness, ..) => {
            let message = "healthcheck authentication requires both username and password";
            return Err(ServerError::Arguments(message.to_owned()));
        }
    };
    Ok(Config {
        tls: tls(wanted, flags),
        host: wanted.host.clone(),
        port: wanted.port.unwrap_or(flags.port),
        credentials,
        compression: false,
        client_name: CLIENT_NAME.to_owned(),
        // The time for all of it comes first.
        connect_timeout: Duration::from_millis(wanted.timeout_ms).saturating_mul(2),
        ..Config::default()
    })
}

/// TLS as the server beside us would be told to use it. Who asks about a server on the same machine need not have the
/// authority of a certificate that names other addresses, nor depend on files that are being replaced; whoever
/// could answer in the server's place there could do so without TLS too.
fn tls(wanted: &Healthcheck, flags: &Flags) -> Option<TlsOptions> {
    if !wanted.ssl.or(flags.ssl).unwrap_or(false) {
        return None;
    }
    let own = flags.tls_client_ca.as_ref().and_then(|_| flags.tls_cert.as_ref().zip(flags.tls_key.as_ref()));
    let identity = wanted.tls_client_cert.as_ref().zip(wanted.tls_client_key.as_ref()).or(own);
    let is_here =
        wanted.host == "localhost" || wanted.host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    Some(TlsOptions {
        ca_cert: wanted.tls_ca_cert.clone(),
        identity: identity.map(|(cert, key)| ClientIdentity { cert: cert.clone(), key: key.clone() }),
        trusts_anybody: is_here && wanted.tls_ca_cert.is_none(),
    })
}

async fn probe(kind: HealthcheckKind, config: &Config) -> Result<(), ServerError> {
    let address = config.address();
    if let Err(error) = tokio::net::lookup_host((config.host.as_str(), config.port)).await {
        return Err(failed(format!("failed to resolve {address}: {error}")));
    }
    let mut connection = match Connection::connect(config).await {
        Err(Error::Connect { address, source }) => {
            return Err(failed(format!("failed to connect to {address}: {source}")));
        }
        result => result.map_err(ServerError::Probe)?,
    };
    match kind {
        HealthcheckKind::Liveness => match connection.call(&Command::Ping { message: None }).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(failed("liveness probe returned status Error".to_owned())),
            Err(error) => Err(ServerError::Probe(error)),
        },
        HealthcheckKind::Readiness => readiness(&mut connection, config).await,
    }
}

async fn readiness(connection: &mut Connection, config: &Config) -> Result<(), ServerError> {
    if connection.log_in(config).await.map_err(ServerError::Probe)?.is_err() {
        return Err(failed("authentication probe returned status Error".to_owned()));
    }
    let reply = connection.call(&Command::Health).await.map_err(ServerError::Probe)?;
    let entries = match reply {
        Ok(Reply::Entries(entries)) => entries,
        Err(refused) if refused.known_code() == Some(Code::AuthenticationRequired) => {
            let message = "readiness probe returned status Error: this server wants a login; give --user and --password \
                           (VAYLIX_HEALTHCHECK_USER, VAYLIX_HEALTHCHECK_PASSWORD)";
            return Err(failed(message.to_owned()));
        }
        Ok(_) | Err(_) => return Err(failed("readiness probe returned status Error".to_owned())),
    };
    let ready = entries.iter().find(|entry| entry.name == "ready").map(|entry| &entry.value);
    match ready {
        Some(value) if value.as_ref() == b"true" => Ok(()),
        Some(value) => {
            Err(failed(format!("readiness probe returned ready={}", String::from_utf8_lossy(value))))
        }
        None => Err(failed("readiness probe returned no field ready".to_owned())),
    }
}

fn failed(detail: String) -> ServerError {
    ServerError::Healthcheck(detail)
}
