//! The environment variables the client reads.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;

use crate::flags::{Consistency, Output};

/// The settings found in the environment. Empty variables count as unset.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    pub url: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub ssl: Option<bool>,
    pub tls_ca_cert: Option<PathBuf>,
    pub tls_client_cert: Option<PathBuf>,
    pub tls_client_key: Option<PathBuf>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub output: Option<Output>,
    pub consistency: Option<Consistency>,
}

/// A variable whose value cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value '{value}' for environment variable {name}")]
pub(crate) struct InvalidVariable {
    name: &'static str,
    value: String,
}

impl Environment {
    /// Reads the variables through `get`, which answers the text of a variable.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidVariable> {
        let text = |name| get(name).filter(|value| !value.is_empty());
        Ok(Self {
            url: text("VAYLIX_URL"),
            host: text("VAYLIX_HOST"),
            // Container platforms set <SERVICE>_PORT=tcp://… for a service of our name: that is no port.
            port: parsed("VAYLIX_PORT", text("VAYLIX_PORT").filter(|value| !value.contains("://")))?,
            ssl: parsed("VAYLIX_SSL", text("VAYLIX_SSL"))?,
            tls_ca_cert: text("VAYLIX_TLS_CA_CERT").map(PathBuf::from),
            tls_client_cert: text("VAYLIX_TLS_CLIENT_CERT").map(PathBuf::from),
            tls_client_key: text("VAYLIX_TLS_CLIENT_KEY").map(PathBuf::from),
            user: text("VAYLIX_USER"),
            password: text("VAYLIX_PASSWORD"),
            output: chosen("VAYLIX_OUTPUT", text("VAYLIX_OUTPUT"))?,
            consistency: chosen("VAYLIX_CONSISTENCY", text("VAYLIX_CONSISTENCY"))?,
        })
    }
}

fn parsed<T: FromStr>(name: &'static str, value: Option<String>) -> Result<Option<T>, InvalidVariable> {
    value.map(|value| value.parse().map_err(|_| InvalidVariable { name, value })).transpose()
}

fn chosen<T: ValueEnum>(name: &'static str, value: Option<String>) -> Result<Option<T>, InvalidVariable> {
    value.map(|value| T::from_str(&value, false).map_err(|_| InvalidVariable { name, value })).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, String> {
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Environment::read(get).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_what_is_set() {
        let environment = read(&[
            ("VAYLIX_PORT", "9999"),
            ("VAYLIX_SSL", "true"),
            ("VAYLIX_OUTPUT", "table"),
            ("VAYLIX_CONSISTENCY", "linearizable"),
            ("VAYLIX_USER", ""),
        ])
        .unwrap();
        assert_eq!(environment.port, Some(9999));
        assert_eq!(environment.ssl, Some(true));
        assert_eq!(environment.output, Some(Output::Table));
        assert_eq!(environment.consistency, Some(Consistency::Linearizable));
        assert_eq!(environment.user, None);
    }

    #[test]
    fn a_service_link_is_no_port() {
        assert_eq!(read(&[("VAYLIX_PORT", "tcp://10.0.0.1:9173")]).unwrap().port, None);
    }

    #[test]
    fn names_the_variable_it_cannot_use() {
        for (name, value) in [
            ("VAYLIX_PORT", "x"),
            ("VAYLIX_SSL", "1"),
            ("VAYLIX_OUTPUT", "xml"),
            ("VAYLIX_CONSISTENCY", "strong"),
        ] {
            assert_eq!(
                read(&[(name, value)]).err().unwrap(),
                format!("invalid value '{value}' for environment variable {name}")
            );
        }
    }
}
