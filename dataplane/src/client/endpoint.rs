//! Where a server is.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use super::error::Error;

/// The longest host name of DNS, in bytes.
const HOST_LEN_MAX: usize = 253;

/// Host and port of a server. `Display` gives `host:port`, with brackets around an IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name, IPv4 or IPv6 address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// The server at `host` and `port`.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host:port` or `[IPv6]:port`. The port must be given and not be 0.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = split(text).ok()?;
        let port = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
        let plausible = !host.is_empty()
            && host.len() <= HOST_LEN_MAX
            && host.chars().all(|c| !c.is_control() && !c.is_whitespace());
        (plausible && port != 0).then(|| Self::new(host, port))
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip().to_string(), address.port())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Divides `host`, `host:port`, `[IPv6]` or `[IPv6]:port`; the port is not looked at.
///
/// # Errors
/// [`Error::MalformedUrl`] for brackets that hold no IPv6 address or are followed by something else than a port.
pub(super) fn split(text: &str) -> Result<(&str, Option<&str>), Error> {
    let Some(rest) = text.strip_prefix('[') else {
        return Ok(match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        });
    };
    let (host, after) = rest.split_once(']').ok_or(Error::MalformedUrl("invalid IPv6 address"))?;
    host.parse::<Ipv6Addr>().map_err(|_| Error::MalformedUrl("invalid IPv6 address"))?;
    match after.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if after.is_empty() => Ok((host, None)),
        None => Err(Error::MalformedUrl("invalid port number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        for text in ["10.0.0.1:9173", "db-1.example:1", "[::1]:65535"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        let long = format!("{}:1", "a".repeat(HOST_LEN_MAX + 1));
        for text in [
            "", ":1", "db", "db:", "db:0", "db:+1", "db:65536", "[::1]", "[x]:1", "::1", "a b:1", "none",
            &long,
        ] {
            assert_eq!(Endpoint::parse(text), None, "{text}");
        }
        assert_eq!(Endpoint::from(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 5))), Endpoint::new("::1", 5));
    }
}
