//! From options, contexts, environment and defaults to one set of settings that cannot contradict itself.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::contexts::{Context, Contexts};
use crate::error::Error;
use crate::flags::Global;
use crate::password;

/// Where the control plane of a server listens unless it is told otherwise.
const DEFAULT_ENDPOINT: &str = "127.0.0.1:9174";
/// The port of an endpoint that names none.
const DEFAULT_PORT: u16 = 9174;
/// The user when nobody says otherwise.
const DEFAULT_USER: &str = "vaylix";

/// What the program works with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Control planes, in the order in which they are tried. Never empty.
    pub(crate) endpoints: Vec<String>,
    pub(crate) tls: Option<Tls>,
    pub(crate) timeout: Option<Duration>,
    user: String,
    password: Password,
    /// Whether anybody said who logs in.
    names_somebody: bool,
}

/// How to trust a server and how to prove who we are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// PEM bundle that is trusted instead of the system's roots.
    pub(crate) ca_cert: Option<PathBuf>,
    /// Client certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// Where the password comes from.
#[derive(PartialEq, Eq)]
enum Password {
    Given(String),
    File(PathBuf),
    Unknown,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

/// Name and password.
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Settings {
    /// Merges the sources; `variable` answers the text of an environment variable.
    pub(crate) fn resolve(flags: &Global, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let text = |name| variable(name).filter(|value| !value.is_empty());
        let named = match &flags.context {
            Some(name) => Some(Contexts::read(&config_path(flags, &variable)?)?.named(name)?.clone()),
            None => None,
        };
        // The current context is looked at last, and only without a named one.
        let current = match &named {
            Some(_) => Context::default(),
            None => current(flags, &variable)?,
        };
        let named = named.unwrap_or_default();

        let from_environment: Vec<String> = text("VAYLIXCTL_ENDPOINTS")
            .map(|list| list.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
        let lists = [&flags.endpoint, &named.endpoints, &from_environment, &current.endpoints];
        let endpoints = match lists.into_iter().find(|list| !list.is_empty()) {
            Some(list) => list.iter().map(|endpoint| checked(endpoint)).collect::<Result<_, _>>()?,
            None => vec![DEFAULT_ENDPOINT.to_owned()],
        };

        let user = flags.user.clone().or(named.user).or(text("VAYLIX_USER")).or(current.user);
        let password = match (&flags.password, &flags.password_file) {
            (Some(password), _) => Password::Given(password.clone()),
            (None, Some(file)) => Password::File(file.clone()),
            (None, None) => match (named.password_file, text("VAYLIX_PASSWORD"), current.password_file) {
                (Some(file), _, _) | (None, None, Some(file)) => Password::File(file),
                (None, Some(password), _) => Password::Given(password),
                (None, None, None) => Password::Unknown,
            },
        };

        let names_somebody = user.is_some() || password != Password::Unknown;
        let ca_cert = flags.tls_ca_cert.clone().or(named.tls_ca_cert).or(current.tls_ca_cert);
        let cert = flags.tls_cert.clone().or(named.tls_cert).or(current.tls_cert);
        let key = flags.tls_key.clone().or(named.tls_key).or(current.tls_key);
        Ok(Self {
            endpoints,
            tls: tls(flags.ssl || named.ssl || current.ssl, ca_cert, cert, key)?,
            timeout: flags.timeout.map(Duration::from_secs),
            user: user.unwrap_or_else(|| DEFAULT_USER.to_owned()),
            password,
            names_somebody,
        })
    }

    /// Who logs in; asks for the password, if nobody said it and there is a terminal. None where a client certificate is all
    /// that was given: it has to say who we are.
    pub(crate) fn login(&self) -> Result<Option<Login>, Error> {
        let shows_certificate = self.tls.as_ref().is_some_and(|tls| tls.identity.is_some());
        if shows_certificate && !self.names_somebody {
            return Ok(None);
        }
        let password = match &self.password {
            Password::Given(password) => password.clone(),
            Password::File(file) => first_line(file)?,
            Password::Unknown if std::io::stdin().is_terminal() => {
                password::ask(&format!("Password of {}: ", self.user))?
            }
            Password::Unknown => {
                let message =
                    "a password is needed: set VAYLIX_PASSWORD, or name a file with --password-file";
                return Err(Error::Usage(message.to_owned()));
            }
        };
        Ok(Some(Login { user: self.user.clone(), password }))
    }
}

/// Where the contexts are kept.
pub(crate) fn config_path(
    flags: &Global,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<PathBuf, Error> {
    if let Some(path) = &flags.config {
        return Ok(path.clone());
    }
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    folder.map(|folder| folder.join("vaylix/ctl.toml")).ok_or_else(|| {
        Error::Usage("there is no home directory; name the contexts file with --config".to_owned())
    })
}

/// The current context; an empty one, if there is none or no place where it could be.
fn current(flags: &Global, variable: &impl Fn(&str) -> Option<String>) -> Result<Context, Error> {
    let Ok(path) = config_path(flags, variable) else { return Ok(Context::default()) };
    // A file that was named is meant to be there; the usual one may be missing.
    if flags.config.is_some() && !path.exists() {
        return Err(Error::Usage(format!("{}: there is no such file of contexts", path.display())));
    }
    let contexts = Contexts::read(&path)?;
    contexts.current.as_deref().map_or(Ok(Context::default()), |name| contexts.named(name).cloned())
}

/// `host:port`, with the default port behind a host alone.
pub(crate) fn checked(endpoint: &str) -> Result<String, Error> {
    let endpoint = endpoint.trim();
    let wrong = || Error::Usage(format!("{endpoint:?} is no endpoint, which is HOST:PORT"));
    if endpoint.is_empty() || endpoint.contains(|c: char| c.is_whitespace() || "/@?#,".contains(c)) {
        return Err(wrong());
    }
    // An IPv6 address stands in brackets, which may be all there is.
    let has_port = endpoint.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    match has_port {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
            Ok(endpoint.to_owned())
        }
        None if !endpoint.contains(':') || endpoint.ends_with(']') => {
            Ok(format!("{endpoint}:{DEFAULT_PORT}"))
        }
        _ => Err(wrong()),
    }
}

fn tls(
    ssl: bool,
    ca_cert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<Tls>, Error> {
    let wrong = |message: &str| Err(Error::Usage(message.to_owned()));
    if !ssl {
        return match (ca_cert, cert, key) {
            (None, None, None) => Ok(None),
            _ => wrong("--tls-ca-cert, --tls-cert and --tls-key require --ssl"),
        };
    }
    let identity = match (cert, key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some((cert, key)),
        _ => return wrong("--tls-cert and --tls-key must be given together"),
    };
    Ok(Some(Tls { ca_cert, identity }))
}

fn first_line(path: &Path) -> Result<String, Error> {
    let unusable = |problem: &dyn std::fmt::Display| Error::Usage(format!("{}: {problem}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(unusable(&"no password on the first line")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: &Global, variables: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::resolve(flags, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn endpoints_have_a_port() {
        for (given, expected) in
            [("db", "db:9174"), ("db:1", "db:1"), ("[::1]:5", "[::1]:5"), ("[::1]", "[::1]:9174")]
        {
            assert_eq!(checked(given).unwrap(), expected);
        }
        for wrong in ["", "db:", "db:x", ":9", "a b", "http://db:1", "db:0", "::1", "db:99999"] {
            assert!(checked(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_win_over_the_environment() {
        let flags = Global { endpoint: vec!["a:1".to_owned()], ..Global::default() };
        let environment =
            [("VAYLIXCTL_ENDPOINTS", "b:2,c:3"), ("VAYLIX_USER", "ops"), ("VAYLIX_PASSWORD", "x")];
        let settings = resolve(&flags, &environment).unwrap();
        assert_eq!(settings.endpoints, ["a:1"]);
        assert_eq!((settings.user.as_str(), &settings.password), ("ops", &Password::Given("x".to_owned())));
        assert_eq!(resolve(&Global::default(), &environment).unwrap().endpoints, ["b:2", "c:3"]);
        let bare = resolve(&Global::default(), &[]).unwrap();
        assert_eq!((bare.endpoints, bare.user.as_str()), (vec![DEFAULT_ENDPOINT.to_owned()], DEFAULT_USER));
    }

    #[test]
    fn a_context_that_is_named_wins_over_the_environment_and_the_current_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctl.toml");
        std::fs::write(&path, "current = \"a\"\n[contexts.a]\nendpoints = [\"ctx:1\"]\n").unwrap();
        let mut flags = Global { config: Some(path), ..Global::default() };
        let environment = [("VAYLIXCTL_ENDPOINTS", "env:1")];
        assert_eq!(resolve(&flags, &[]).unwrap().endpoints, ["ctx:1"]);
        assert_eq!(resolve(&flags, &environment).unwrap().endpoints, ["env:1"]);
        flags.context = Some("a".to_owned());
        assert_eq!(resolve(&flags, &environment).unwrap().endpoints, ["ctx:1"]);
        flags.context = Some("b".to_owned());
        assert_eq!(resolve(&flags, &environment).unwrap_err().exit_status(), 2);
    }

    #[test]
    fn a_certificate_alone_is_a_login_and_a_name_beside_it_decides() {
        let with = |variables: &[(&str, &str)]| {
            let (cert, key) = (Some(PathBuf::from("c.pem")), Some(PathBuf::from("c.key")));
            let flags = Global { ssl: true, tls_cert: cert, tls_key: key, ..Global::default() };
            resolve(&flags, variables).unwrap().login().unwrap().map(|login| (login.user, login.password))
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("VAYLIX_PASSWORD", "x")]), Some((DEFAULT_USER.to_owned(), "x".to_owned())));
        let both = with(&[("VAYLIX_USER", "ops"), ("VAYLIX_PASSWORD", "x")]);
        assert_eq!(both, Some(("ops".to_owned(), "x".to_owned())));
    }

    #[test]
    fn files_of_tls_need_tls() {
        let flags = Global { tls_ca_cert: Some(PathBuf::from("ca.pem")), ..Global::default() };
        assert_eq!(resolve(&flags, &[]).unwrap_err().exit_status(), 2);
        let flags = Global { ssl: true, tls_cert: Some(PathBuf::from("c.pem")), ..Global::default() };
        assert_eq!(resolve(&flags, &[]).unwrap_err().exit_status(), 2);
    }
}
