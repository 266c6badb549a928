//! Which user a client's certificate stands for, by a rule that an operator has chosen.

use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};

use crate::certificate::hexadecimal;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// What a URI that names a user begins with.
const URN: &str = "urn:vaylix:user:";

/// The part of a certificate that names a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRule {
    /// The subject alternative name `urn:vaylix:user:NAME`.
    Uri,
    /// The DNS name among the subject alternative names.
    Dns,
    /// The common name of the subject.
    CommonName,
}

/// SHA-256 of a certificate, in hexadecimal digits, as tools show it.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    hexadecimal(&Sha256::digest(der))
}

impl UserRule {
    /// The user that the certificate names. None unless it names exactly one: of two nobody knows which is meant. The
    /// certificate must have been verified by whoever asks.
    #[must_use]
    pub fn user_of(self, der: &[u8]) -> Option<String> {
        let certificate = Certificate::from_der(der).ok()?;
        let mut named = match self {
            Self::CommonName => common_names(&certificate)?,
            Self::Uri | Self::Dns => self.alternative_names(&certificate)?,
        };
        let user = named.pop().filter(|user| !user.is_empty())?;
        named.is_empty().then_some(user)
    }

    fn alternative_names(self, certificate: &Certificate) -> Option<Vec<String>> {
        let (_, SubjectAltName(names)) = certificate.tbs_certificate().get_extension().ok()??;
        let named = |name: &GeneralName| match (self, name) {
            (Self::Uri, GeneralName::UniformResourceIdentifier(uri)) => {
                uri.as_str().strip_prefix(URN).map(str::to_owned)
            }
            (Self::Dns, GeneralName::DnsName(name)) => Some(name.as_str().to_owned()),
            _ => None,
        };
        Some(names.iter().filter_map(named).collect())
    }
}

/// None when one of them cannot be read.
fn common_names(certificate: &Certificate) -> Option<Vec<String>> {
    let names = certificate.tbs_certificate().subject().iter().filter(|part| part.oid == COMMON_NAME);
    names.map(|part| Some(part.value.decode_as::<DirectoryString>().ok()?.value().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn der(common_names: &[&str], alternatives: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common_names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.subject_alt_names = alternatives;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn each_rule_looks_at_its_part_alone() {
        let all =
            der(&["ann"], vec![uri("urn:vaylix:user:bob"), uri("spiffe://x/y"), dns("cid.example.com")]);
        assert_eq!(UserRule::CommonName.user_of(&all).as_deref(), Some("ann"));
        assert_eq!(UserRule::Uri.user_of(&all).as_deref(), Some("bob"));
        assert_eq!(UserRule::Dns.user_of(&all).as_deref(), Some("cid.example.com"));
    }

    #[test]
    fn who_is_not_named_or_not_alone_is_nobody() {
        let none = der(&[], Vec::new());
        let foreign = der(&["ann"], vec![uri("urn:vaylix:role:admin"), uri("URN:vaylix:user:ann")]);
        let empty = der(&[""], vec![uri("urn:vaylix:user:")]);
        let two =
            der(&["ann"], vec![uri("urn:vaylix:user:ann"), uri("urn:vaylix:user:bob"), dns("a"), dns("b")]);
        for (certificate, rules) in [
            (&none, &[UserRule::Uri, UserRule::Dns, UserRule::CommonName][..]),
            (&foreign, &[UserRule::Uri, UserRule::Dns]),
            (&empty, &[UserRule::Uri, UserRule::CommonName]),
            (&two, &[UserRule::Uri, UserRule::Dns]),
        ] {
            for rule in rules {
                assert_eq!(rule.user_of(certificate), None, "{rule:?}");
            }
        }
        for cut in [0, 1, none.len() / 2, none.len() - 1] {
            assert_eq!(UserRule::CommonName.user_of(&none[..cut]), None);
        }
    }
}
