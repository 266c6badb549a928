//! The connection URL: `vaylix://user:password@host:port,host:port?param=value&…`.
//!
//! Every part but the scheme may be missing. More servers of the same cluster may follow the first, each with a host. Path and fragment are ignored. User and password are
//! percent-decoded, parameters are form-encoded (`+` is a blank). Parameters:
//!
//! | Name | Values |
//! | --- | --- |
//! | `ssl` | `true`, `false` (any case) |
//! | `output` | `plain`, `table`, `json` |
//! | `ca_cert`, `client_cert`, `client_key` | file paths |
//! | `auth` | `true`, `false` (any case) |
//! | `compression` | `zstd`, `none` (any case) |
//!
//! What is not understood is left out and listed in [`Url::warnings`], so that a misspelt `ssl` does not pass
//! unnoticed. A URL says only what it says: defaults are the reader's business.

use std::fmt;
use std::path::PathBuf;

use super::endpoint;
use super::error::Error;

/// How many servers a URL may name.
const SERVERS_MAX: usize = 64;

/// A parsed connection URL; `None` means "not said". Its `Debug` form hides the password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Url {
    /// User name; an empty one counts as not said.
    pub user: Option<String>,
    /// Password; `user:@host` says an empty one.
    pub password: Option<String>,
    /// Host name or address, without brackets.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Further servers of the same cluster, as host and port.
    pub further: Vec<(String, Option<u16>)>,
    /// `ssl`.
    pub ssl: Option<bool>,
    /// `output`, one of `plain`, `table`, `json`.
    pub output: Option<String>,
    /// `ca_cert`.
    pub ca_cert: Option<PathBuf>,
    /// `client_cert`.
    pub client_cert: Option<PathBuf>,
    /// `client_key`.
    pub client_key: Option<PathBuf>,
    /// `auth`: whether to log in.
    pub auth: Option<bool>,
    /// `compression`: whether to ask for zstd.
    pub compression: Option<bool>,
    /// One sentence for each thing that was not understood.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Url")
            .field("user", &self.user)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl Url {
    /// Parses a connection URL.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a scheme other than `vaylix`, [`Error::MalformedUrl`] for text that is no
    /// URL.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (scheme, rest) =
            text.trim().split_once("://").ok_or(Error::MalformedUrl("relative URL without a base"))?;
        if !scheme.eq_ignore_ascii_case("vaylix") {
            return Err(Error::Configuration("unsupported URL scheme".to_owned()));
        }
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = location.split_once('/').map_or(location, |(authority, _)| authority);

        let mut url = Self::default();
        // A password may hold a bare `@`, a host may not.
        let server = match authority.rsplit_once('@') {
            Some((user_info, server)) => {
                url.read_user_info(user_info)?;
                server
            }
            None => authority,
        };
        url.read_server(server)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            url.read_parameter(&form_decoded(name)?, form_decoded(value)?);
        }
        Ok(url)
    }

    fn read_user_info(&mut self, user_info: &str) -> Result<(), Error> {
        let (user, password) = match user_info.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (user_info, None),
        };
        self.user = Some(percent_decoded(user)?).filter(|user| !user.is_empty());
        self.password = password.map(percent_decoded).transpose()?;
        Ok(())
    }

    fn read_server(&mut self, server: &str) -> Result<(), Error> {
        let mut servers = server.split(',');
        (self.host, self.port) = read_host(servers.next().unwrap_or_default())?;
        for server in servers {
            let (Some(host), port) = read_host(server)? else {
                return Err(Error::MalformedUrl("empty host in a list of servers"));
            };
            self.further.push((host, port));
        }
        if !self.further.is_empty() && self.host.is_none() {
            return Err(Error::MalformedUrl("empty host in a list of servers"));
        }
        if self.further.len() >= SERVERS_MAX {
            return Err(Error::MalformedUrl("too many servers"));
        }
        Ok(())
    }

    fn read_parameter(&mut self, name: &str, value: String) {
        let understood = match name {
            "ssl" => first(&mut self.ssl, boolean(&value)),
            "auth" => first(&mut self.auth, boolean(&value)),
            "compression" => first(
                &mut self.compression,
                match value.to_ascii_lowercase().as_str() {
                    "none" => Some(false),
                    "zstd" => Some(true),
                    _ => None,
                },
            ),
            "output" => {
                let known = matches!(value.as_str(), "plain" | "table" | "json");
                first(&mut self.output, known.then(|| value.clone()))
            }
            "ca_cert" => first(&mut self.ca_cert, path(&value)),
            "client_cert" => first(&mut self.client_cert, path(&value)),
            "client_key" => first(&mut self.client_key, path(&value)),
            _ => {
                self.warnings.push(format!("unknown URL parameter: {name}"));
                return;
            }
        };
        match understood {
            Understood::Yes => {}
            Understood::BadValue => {
                self.warnings.push(format!("invalid value for URL parameter {name}: {value}"))
            }
            Understood::Repeated => self.warnings.push(format!("URL parameter given more than once: {name}")),
        }
    }
}

/// Host and port of one server.
fn read_host(server: &str) -> Result<(Option<String>, Option<u16>), Error> {
    let (host, port) = endpoint::split(server)?;
    if host.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Error::MalformedUrl("invalid domain character"));
    }
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| Error::MalformedUrl("invalid port number"))?)
        }
        Some(_) => return Err(Error::MalformedUrl("invalid port number")),
    };
    Ok((Some(percent_decoded(host)?).filter(|host| !host.is_empty()), port))
}

enum Understood {
    Yes,
    BadValue,
    Repeated,
}

/// The first occurrence of a parameter counts.
fn first<T>(slot: &mut Option<T>, value: Option<T>) -> Understood {
    match (slot.is_some(), value) {
        (true, _) => Understood::Repeated,
        (false, None) => Understood::BadValue,
        (false, value) => {
            *slot = value;
            Understood::Yes
        }
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn path(value: &str) -> Option<PathBuf> {
    (!value.is_empty()).then(|| PathBuf::from(value))
}

fn form_decoded(text: &str) -> Result<String, Error> {
    percent_decoded(&text.replace('+', " "))
}

/// Decodes `%XX`; a percent sign that starts no escape stands for itself.
fn percent_decoded(text: &str) -> Result<String, Error> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escaped = (byte == b'%').then_some(tail).and_then(|tail| match tail {
            [high, low, ..] => Some((hex_digit(*high)? << 4) | hex_digit(*low)?),
            _ => None,
        });
        match escaped {
            Some(value) => {
                decoded.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).map_err(|_| Error::MalformedUrl("percent escapes are not UTF-8"))
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use vaylix_proto::Code;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn check_server(text: &str, host: Option<&str>, port: Option<u16>) {
        let url = url(text);
        assert_eq!((url.host.as_deref(), url.port), (host, port), "{text}");
    }

    #[test]
    fn finds_the_server() {
        check_server("vaylix://", None, None);
        check_server("VAYLIX://db.Example", Some("db.Example"), None);
        check_server("vaylix://10.0.0.1:9999/0?ssl=true", Some("10.0.0.1"), Some(9999));
        check_server("vaylix://:7000", None, Some(7000));
        check_server("vaylix://db:", Some("db"), None);
        check_server("vaylix://[::1]:9174", Some("::1"), Some(9174));
        check_server("vaylix://[fe80::1]", Some("fe80::1"), None);
        check_server("vaylix://u:p@h:1#fragment?ssl=true", Some("h"), Some(1));
        check_server("vaylix://h?ca_cert=/a/b", Some("h"), None);
    }

    #[test]
    fn finds_several_servers() {
        let url = url("vaylix://u:p,q@a:1,b,[::1]:3/?ssl=true");
        assert_eq!((url.host.as_deref(), url.port), (Some("a"), Some(1)));
        assert_eq!(url.further, [("b".to_owned(), None), ("::1".to_owned(), Some(3))]);
        assert_eq!(url.password.as_deref(), Some("p,q"));
        assert_eq!(url.ssl, Some(true));
        let io = Code::ClientFilesystemIoFailure;
        for text in ["vaylix://a,,b", "vaylix://a,", "vaylix://,b", "vaylix://a,:1"] {
            check_error(text, io, "filesystem I/O failed: empty host in a list of servers");
        }
        check_error("vaylix://a,b:x", io, "filesystem I/O failed: invalid port number");
        let many = format!("vaylix://a{}", ",b".repeat(64));
        check_error(&many, io, "filesystem I/O failed: too many servers");
    }

    fn check_credentials(text: &str, user: Option<&str>, password: Option<&str>) {
        let url = url(text);
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (user, password), "{text}");
    }

    #[test]
    fn decodes_credentials() {
        check_credentials("vaylix://h", None, None);
        check_credentials("vaylix://bob@h", Some("bob"), None);
        check_credentials("vaylix://bob:@h", Some("bob"), Some(""));
        check_credentials("vaylix://:secret@h", None, Some("secret"));
        check_credentials("vaylix://b%40b:p%3A%2f%25@h", Some("b@b"), Some("p:/%"));
        check_credentials("vaylix://bob:a@b:c@h", Some("bob"), Some("a@b:c"));
        check_credentials("vaylix://bob:100%@h", Some("bob"), Some("100%"));
        check_credentials("vaylix://bob:%zz+%4@h", Some("bob"), Some("%zz+%4"));
        check_credentials("vaylix://bo%C3%A9:x@h", Some("boé"), Some("x"));
    }

    #[test]
    fn reads_parameters() {
        let url =
            url("vaylix://h?ssl=TRUE&output=table&ca_cert=%2Fetc%2Fmy+ca.pem&client_cert=c&client_key=k\
                       &auth=False&compression=NONE");
        assert_eq!(url.ssl, Some(true));
        assert_eq!(url.output.as_deref(), Some("table"));
        assert_eq!(url.ca_cert, Some(PathBuf::from("/etc/my ca.pem")));
        assert_eq!(url.client_cert, Some(PathBuf::from("c")));
        assert_eq!(url.client_key, Some(PathBuf::from("k")));
        assert_eq!(url.auth, Some(false));
        assert_eq!(url.compression, Some(false));
        assert_eq!(url.warnings, Vec::<String>::new());
    }

    #[test]
    fn warns_about_what_it_does_not_understand() {
        let url = url("vaylix://h?tls=true&ssl=yes&output=Table&compression=gzip&auth=true&auth=false");
        assert_eq!(
            url.warnings,
            [
                "unknown URL parameter: tls",
                "invalid value for URL parameter ssl: yes",
                "invalid value for URL parameter output: Table",
                "invalid value for URL parameter compression: gzip",
                "URL parameter given more than once: auth",
            ]
        );
        assert_eq!((url.ssl, url.output, url.compression, url.auth), (None, None, None, Some(true)));
    }

    fn check_error(text: &str, code: Code, message: &str) {
        let error = Url::parse(text).unwrap_err();
        assert_eq!((error.code(), error.to_string()), (code, message.to_owned()), "{text}");
    }

    #[test]
    fn refuses_what_is_no_url() {
        let io = Code::ClientFilesystemIoFailure;
        check_error(
            "http://x",
            Code::InvalidClientConfiguration,
            "invalid client configuration: unsupported URL scheme",
        );
        check_error("localhost:9173", io, "filesystem I/O failed: relative URL without a base");
        check_error("vaylix://h:65536", io, "filesystem I/O failed: invalid port number");
        check_error("vaylix://h:+1", io, "filesystem I/O failed: invalid port number");
        check_error("vaylix://[::1]9173", io, "filesystem I/O failed: invalid port number");
        check_error("vaylix://[::1", io, "filesystem I/O failed: invalid IPv6 address");
        check_error("vaylix://[nope]", io, "filesystem I/O failed: invalid IPv6 address");
        check_error("vaylix://a b", io, "filesystem I/O failed: invalid domain character");
        check_error("vaylix://%ff@h", io, "filesystem I/O failed: percent escapes are not UTF-8");
    }

    #[test]
    fn debug_hides_the_password() {
        assert!(!format!("{:?}", url("vaylix://bob:secret@h")).contains("secret"));
    }
}
