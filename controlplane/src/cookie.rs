//! The cookie that a browser keeps a token in, and what proves that a page of this server sent it along.
//!
//! A browser sends cookies with requests that pages of others make it send, so a cookie alone changes nothing: a change must
//! bring the *confirmation* too, which only a page that has read an answer of this server can know. It is made of the token
//! itself, so nothing is kept for it.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

/// Where the confirmation is brought.
pub(crate) const CONFIRMATION: HeaderName = HeaderName::from_static("x-csrf-token");

/// What the names of our cookies begin with.
const NAME: &str = "vaylix_session";
/// With TLS, browsers hold a cookie of such a name to come from this very host and to be sent with TLS only.
const HOST_PREFIX: &str = "__Host-";
/// Digits of a node's id in the name of its cookie.
const ID_DIGITS: usize = 8;
/// What the confirmation is the authentication code of.
const LABEL: &[u8] = b"vaylix console confirmation";

/// A cookie by name. Cookies know no ports: nodes on one host have cookies of different names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Jar {
    name: String,
    is_encrypted: bool,
}

impl Jar {
    /// Where the node of this id keeps its tokens in browsers.
    pub(crate) fn of(node_id: &str, is_encrypted: bool) -> Self {
        let digits: String = node_id.chars().filter(char::is_ascii_alphanumeric).take(ID_DIGITS).collect();
        let prefix = if is_encrypted { HOST_PREFIX } else { "" };
        Self { name: format!("{prefix}{NAME}_{digits}"), is_encrypted }
    }

    /// The token that a request brings.
    pub(crate) fn token(&self, headers: &HeaderMap) -> Option<String> {
        let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, value)| *name == self.name && !value.is_empty()).map(|(_, value)| value.to_owned())
    }

    /// Has the browser keep a token until it is closed.
    pub(crate) fn keep(&self, token: &str) -> Option<HeaderValue> {
        self.line(token, "")
    }

    /// Has the browser throw the token away.
    pub(crate) fn empty(&self) -> Option<HeaderValue> {
        self.line("", "; Max-Age=0")
    }

    fn line(&self, value: &str, more: &str) -> Option<HeaderValue> {
        let secure = if self.is_encrypted { "; Secure" } else { "" };
        let line = format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{more}", self.name);
        HeaderValue::from_str(&line).ok()
    }
}

/// What a page confirms its changes with.
pub(crate) fn confirmation(token: &str) -> String {
    let mut text = String::new();
    for byte in code(token).finalize().into_bytes() {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

/// Whether the headers confirm that the page which has this token sent them. Takes the same time however wrong they are.
pub(crate) fn is_confirmed(token: &str, headers: &HeaderMap) -> bool {
    let Some(given) = headers.get(CONFIRMATION) else { return false };
    decode(given.as_bytes()).is_some_and(|given| code(token).verify_slice(&given).is_ok())
}

fn code(token: &str) -> Hmac<Sha256> {
    let mut code = Hmac::<Sha256>::new_from_slice(token.as_bytes()).expect("keys of any length are taken");
    code.update(LABEL);
    code
}

/// Bytes from pairs of hexadecimal digits.
fn decode(digits: &[u8]) -> Option<Vec<u8>> {
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_token_is_found_among_cookies_of_others() {
        let jar = Jar::of("0123456789abcdef", false);
        let found = |lines: &[(&'static str, &str)]| jar.token(&headers(lines));
        assert_eq!(found(&[("cookie", "a=b; vaylix_session_01234567=t1; c=d")]).as_deref(), Some("t1"));
        assert_eq!(
            found(&[("cookie", "a=b"), ("cookie", "vaylix_session_01234567=t1")]).as_deref(),
            Some("t1")
        );
        for other in ["vaylix_session=t", "xvaylix_session_01234567=t", "vaylix_session_01234567=", "t1", ""]
        {
            assert_eq!(found(&[("cookie", other)]), None, "{other:?}");
        }
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_cookie_is_for_this_host_and_for_no_script() {
        let line = |jar: &Jar| jar.keep("t").unwrap().to_str().unwrap().to_owned();
        let plain = line(&Jar::of("0123456789", false));
        assert_eq!(plain, "vaylix_session_01234567=t; Path=/; HttpOnly; SameSite=Strict");
        let encrypted = line(&Jar::of("0123456789", true));
        assert_eq!(encrypted, "__Host-vaylix_session_01234567=t; Path=/; HttpOnly; SameSite=Strict; Secure");
        let gone = Jar::of("0", true).empty().unwrap();
        assert!(gone.to_str().unwrap().ends_with("Secure; Max-Age=0"));
    }

    #[test]
    fn only_the_own_confirmation_confirms() {
        let right = confirmation("token");
        let confirms = |given: &str| is_confirmed("token", &headers(&[("x-csrf-token", given)]));
        assert!(confirms(&right) && confirms(&right.to_uppercase()));
        assert!(!is_confirmed("token", &HeaderMap::new()));
        let other = confirmation("other");
        for wrong in ["", "0", "zz", &other, &right[..62], &format!("{right}00"), "token"] {
            assert!(!confirms(wrong), "{wrong:?}");
        }
    }
}
