//! From options, URL, environment and defaults to one set of settings that cannot contradict itself.
//!
//! For each setting the first source that says something wins: option, URL (from `--url` or else `VAYLIX_URL`),
//! environment, default.

use vaylix_dataplane::client::{
    ClientIdentity, ClusterConfig, Config, Credentials, DEFAULT_HOST, DEFAULT_PORT, Endpoint, Error,
    TlsOptions, Url,
};

use crate::environment::Environment;
use crate::flags::{Consistency, Flags, Output};

/// User and password when nobody says otherwise; a server accepts them on loopback addresses only.
const DEFAULT_CREDENTIAL: &str = "vaylix";

/// What the client works with.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where to connect and how. `credentials` is `None` when not to log in.
    pub cluster: ClusterConfig,
    /// How lists of named values are shown.
    pub output: Output,
    /// What the person should know about what was given.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Merges the sources. `password`, when present, was read from a prompt or from standard input and counts
    /// like `--password`.
    pub(crate) fn resolve(
        flags: &Flags,
        environment: &Environment,
        password: Option<String>,
    ) -> Result<Self, Error> {
        let url = match flags.url.as_ref().or(environment.url.as_ref()) {
            Some(text) => Url::parse(text)?,
            None => Url::default(),
        };
        let environment = environment.clone();

        let ssl = flags.ssl.or(url.ssl).or(environment.ssl).unwrap_or(false);
        let ca_cert = flags.tls_ca_cert.clone().or(url.ca_cert).or(environment.tls_ca_cert);
        let cert = flags.tls_client_cert.clone().or(url.client_cert).or(environment.tls_client_cert);
        let key = flags.tls_client_key.clone().or(url.client_key).or(environment.tls_client_key);

        let log_in = !flags.disable_auth && url.auth.unwrap_or(true);
        let credentials = log_in.then(|| {
            let default = || DEFAULT_CREDENTIAL.to_owned();
            let user = flags.user.clone().or(url.user).or(environment.user).unwrap_or_else(default);
            let password = password
                .or_else(|| flags.password.clone())
                .or(url.password)
                .or(environment.password)
                .unwrap_or_else(default);
            Credentials::new(user, password)
        });

        let url_output = match url.output.as_deref() {
            Some("plain") => Some(Output::Plain),
            Some("table") => Some(Output::Table),
            Some("json") => Some(Output::Json),
            _ => None,
        };

        if !url.further.is_empty() && (flags.host.is_some() || flags.port.is_some()) {
            let message = "--host and --port name one server, the URL names several";
            return Err(Error::Configuration(message.to_owned()));
        }
        let default_port = environment.port.unwrap_or(DEFAULT_PORT);
        let host =
            flags.host.clone().or(url.host).or(environment.host).unwrap_or_else(|| DEFAULT_HOST.to_owned());
        let mut seeds = vec![Endpoint::new(host, flags.port.or(url.port).unwrap_or(default_port))];
        seeds.extend(
            url.further.into_iter().map(|(host, port)| Endpoint::new(host, port.unwrap_or(default_port))),
        );
        let consistency = flags.consistency.or(environment.consistency).unwrap_or_default();

        Ok(Self {
            cluster: ClusterConfig::new(
                seeds,
                Config {
                    linearizable_reads: consistency == Consistency::Linearizable,
                    tls: tls(ssl, ca_cert, cert, key)?,
                    credentials,
                    compression: !flags.disable_compression && url.compression.unwrap_or(true),
                    ..Config::default()
                },
            ),
            output: flags.output.or(url_output).or(environment.output).unwrap_or_default(),
            warnings: url.warnings,
        })
    }
}

fn tls(
    ssl: bool,
    ca_cert: Option<std::path::PathBuf>,
    cert: Option<std::path::PathBuf>,
    key: Option<std::path::PathBuf>,
) -> Result<Option<TlsOptions>, Error> {
    let wrong = |message: &str| Err(Error::Configuration(message.to_owned()));
    if !ssl {
        return match (ca_cert, cert, key) {
            (None, None, None) => Ok(None),
            (Some(_), _, _) => wrong("tls_ca_cert requires --ssl"),
            _ => wrong("tls_client_cert and tls_client_key require --ssl"),
        };
    }
    let identity = match (cert, key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(ClientIdentity { cert, key }),
        _ => return wrong("tls_client_cert and tls_client_key must be given together"),
    };
    Ok(Some(TlsOptions { ca_cert, identity, trusts_anybody: false }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn resolve(arguments: &[&str], environment: Environment) -> Result<Settings, String> {
        let flags = Flags::try_parse_from([&["vaylix-client"], arguments].concat()).unwrap();
        Settings::resolve(&flags, &environment, None).map_err(|error| error.to_string())
    }

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    fn summary(settings: &Settings) -> (String, String) {
        let login =
            settings.cluster.connection.credentials.as_ref().map_or("nobody".to_owned(), |credentials| {
                format!("{}/{}", credentials.user, credentials.password)
            });
        let seeds: Vec<_> = settings.cluster.seeds.iter().map(Endpoint::to_string).collect();
        (seeds.join(" "), login)
    }

    fn check(arguments: &[&str], environment: Environment, address: &str, login: &str) {
        let settings = resolve(arguments, environment).unwrap();
        assert_eq!(summary(&settings), (address.to_owned(), login.to_owned()), "{arguments:?}");
    }

    #[test]
    fn the_nearest_source_wins() {
        let environment = || Environment {
            host: text("env"),
            port: Some(3),
            user: text("eu"),
            password: text("ep"),
            ..Environment::default()
        };
        let url = "vaylix://uu:up@url:2";
        check(&[], Environment::default(), "127.0.0.1:9173", "vaylix/vaylix");
        check(&[], environment(), "env:3", "eu/ep");
        check(&["--url", url], environment(), "url:2", "uu/up");
        check(&["--url", "vaylix://"], environment(), "env:3", "eu/ep");
        check(&["--url", url, "--port", "1", "--user", "fu"], environment(), "url:1", "fu/up");
        check(&["--url", url, "--host", "::1", "--password", "fp"], environment(), "[::1]:2", "uu/fp");
        check(&["--url", "vaylix://bob:@h"], environment(), "h:3", "bob/");
        check(&[], Environment { url: text(url), ..environment() }, "url:2", "uu/up");
        check(
            &["--url", "vaylix://other"],
            Environment { url: text(url), ..environment() },
            "other:3",
            "eu/ep",
        );
    }

    #[test]
    fn a_url_may_name_several_servers() {
        let environment = || Environment { host: text("env"), port: Some(3), ..Environment::default() };
        let url = "vaylix://u:p@a:1,b,[::1]:2";
        check(&["--url", url], Environment::default(), "a:1 b:9173 [::1]:2", "u/p");
        check(&["--url", url], environment(), "a:1 b:3 [::1]:2", "u/p");
        for option in ["--host", "--port"] {
            assert_eq!(
                resolve(&["--url", url, option, "7"], Environment::default()).unwrap_err(),
                "invalid client configuration: --host and --port name one server, the URL names several"
            );
        }
    }

    #[test]
    fn reads_are_local_unless_asked_otherwise() {
        let linearizable = |arguments: &[&str], environment| {
            resolve(arguments, environment).unwrap().cluster.connection.linearizable_reads
        };
        let asked = || Environment { consistency: Some(Consistency::Linearizable), ..Environment::default() };
        assert!(!linearizable(&[], Environment::default()));
        assert!(linearizable(&["--consistency", "linearizable"], Environment::default()));
        assert!(linearizable(&[], asked()));
        assert!(!linearizable(&["--consistency", "local"], asked()));
    }

    #[test]
    fn logging_in_and_compression_can_be_switched_off() {
        check(&["--disable-auth"], Environment::default(), "127.0.0.1:9173", "nobody");
        check(&["--url", "vaylix://u:p@h?auth=false"], Environment::default(), "h:9173", "nobody");
        assert!(resolve(&[], Environment::default()).unwrap().cluster.connection.compression);
        for arguments in [&["--disable-compression"][..], &["--url", "vaylix://?compression=none"]] {
            assert!(!resolve(arguments, Environment::default()).unwrap().cluster.connection.compression);
        }
    }

    #[test]
    fn output_follows_the_same_order() {
        let output = |arguments: &[&str], environment| resolve(arguments, environment).unwrap().output;
        let table = || Environment { output: Some(Output::Table), ..Environment::default() };
        assert_eq!(output(&[], Environment::default()), Output::Plain);
        assert_eq!(output(&[], table()), Output::Table);
        assert_eq!(output(&["--url", "vaylix://h?output=json"], table()), Output::Json);
        assert_eq!(output(&["--url", "vaylix://h?output=json", "--output", "plain"], table()), Output::Plain);
    }

    #[test]
    fn tls_settings_must_fit_together() {
        let refused = |arguments: &[&str], message: &str| {
            assert_eq!(
                resolve(arguments, Environment::default()).unwrap_err(),
                format!("invalid client configuration: {message}")
            );
        };
        refused(&["--tls-ca-cert", "ca.pem"], "tls_ca_cert requires --ssl");
        refused(&["--url", "vaylix://?ca_cert=ca.pem"], "tls_ca_cert requires --ssl");
        refused(
            &["--tls-client-cert", "c", "--tls-client-key", "k"],
            "tls_client_cert and tls_client_key require --ssl",
        );
        refused(
            &["--ssl", "--tls-client-key", "k"],
            "tls_client_cert and tls_client_key must be given together",
        );
        refused(&["--url", "http://x"], "unsupported URL scheme");

        let settings = resolve(
            &["--url", "vaylix://?ssl=true&ca_cert=ca.pem", "--tls-client-cert=c", "--tls-client-key=k"],
            Environment::default(),
        )
        .unwrap();
        let identity = ClientIdentity { cert: "c".into(), key: "k".into() };
        assert_eq!(
            settings.cluster.connection.tls,
            Some(TlsOptions {
                ca_cert: Some("ca.pem".into()),
                identity: Some(identity),
                trusts_anybody: false
            })
        );
        let settings = resolve(&["--url", "vaylix://?ssl=true", "--ssl=false"], Environment::default());
        assert_eq!(settings.unwrap().cluster.connection.tls, None);
    }

    #[test]
    fn warnings_of_the_url_are_passed_on() {
        let settings = resolve(&["--url", "vaylix://h?tls=1"], Environment::default()).unwrap();
        assert_eq!(settings.warnings, ["unknown URL parameter: tls"]);
    }
}
