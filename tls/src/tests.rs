//! Files of every kind of badness, and handshakes with what is good.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::error::Error;
use crate::files::Files;
use crate::material::Material;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NOW_MS: u64 = 1_800_000_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(NOW_MS)
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str, from: SystemTime, to: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["node.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = from.into();
    params.not_after = to.into();
    params
}

fn authority(from: SystemTime, to: SystemTime) -> Authority {
    let mut params = params("authority", from, to);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An authority and the files of a server that it vouches for.
struct Fixture {
    dir: TempDir,
    authority: Authority,
}

impl Fixture {
    fn new() -> Self {
        let fixture =
            Self { dir: TempDir::new().unwrap(), authority: authority(now() - DAY, now() + 365 * DAY) };
        fixture.issue(now() - DAY, now() + DAY);
        fixture.put("ca.pem", &fixture.authority.pem());
        fixture
    }

    fn issue(&self, from: SystemTime, to: SystemTime) {
        let key = KeyPair::generate().unwrap();
        let certificate = params("node", from, to).signed_by(&key, &self.authority).unwrap();
        self.put("server.pem", &certificate.pem());
        self.put("server.key", &key.serialize_pem());
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    fn files(&self, client_ca: Option<&str>) -> Files {
        let path = |name: &str| self.dir.path().join(name);
        Files { cert: path("server.pem"), key: path("server.key"), client_ca: client_ca.map(path) }
    }

    fn check(&self, client_ca: Option<&str>) -> Result<Material, Error> {
        let files = self.files(client_ca);
        let contents = files.read()?;
        Material::check(&files, contents, NOW_MS)
    }

    fn refusal(&self, client_ca: Option<&str>) -> String {
        let error = self.check(client_ca).unwrap_err();
        assert_eq!(error.code().code(), "SRV-010");
        error.to_string()
    }
}

#[test]
fn good_files_say_what_they_are() {
    let fixture = Fixture::new();
    let material = fixture.check(Some("ca.pem")).unwrap();
    let certificate = material.certificate();
    assert!(certificate.subject.contains("node"), "{certificate:?}");
    assert_eq!(certificate.not_after_ms, NOW_MS + 86_400_000);
    assert_eq!(certificate.not_before_ms, NOW_MS - 86_400_000);
    assert_eq!(certificate.fingerprint.len(), 64);
    assert!(material.warnings.is_empty());
    assert_eq!(material.authorities().unwrap().len(), 1);
    assert!(fixture.check(None).unwrap().authorities().is_none());
}

#[test]
fn the_last_moment_of_a_certificate_is_its_last_second() {
    let fixture = Fixture::new();
    fixture.issue(now() - 2 * DAY, now());
    assert!(fixture.check(None).is_ok(), "valid up to and including this second");
    fixture.issue(now() - 2 * DAY, now() - Duration::from_secs(1));
    assert!(fixture.refusal(None).contains("server.pem expired at 2027-01-15T07:59:59Z: renew it"));
    fixture.issue(now(), now() + DAY);
    assert!(fixture.check(None).is_ok(), "valid from this second on");
    fixture.issue(now() + Duration::from_secs(1), now() + DAY);
    assert!(fixture.refusal(None).contains("server.pem is not valid before 2027-01-15T08:00:01Z"));
}

#[test]
fn what_is_wrong_with_a_file_is_said_and_which_file_it_is() {
    let fixture = Fixture::new();
    let (cert, key) = (fixture.text("server.pem"), fixture.text("server.key"));
    for (name, text, message) in [
        ("server.pem", "", "server.pem contains no certificate"),
        ("server.pem", &key, "server.pem contains no certificate"),
        ("server.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n", "server.pem is not a PEM file"),
        (
            "server.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "server.pem contains a certificate that cannot be used",
        ),
        ("server.key", "", "server.key contains no private key"),
        ("server.key", &cert, "server.key contains no private key"),
        (
            "server.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "server.key is encrypted",
        ),
        (
            "server.key",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
            "server.key is encrypted",
        ),
        (
            "server.key",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "server.key contains a private key that cannot be used",
        ),
        (
            "server.key",
            &KeyPair::generate().unwrap().serialize_pem(),
            "does not belong to the first certificate",
        ),
        ("ca.pem", "", "ca.pem contains no certificate"),
        ("ca.pem", &cert, "is no certificate authority"),
        ("ca.pem", &authority(now() - 2 * DAY, now() - DAY).pem(), "no certificate authority in"),
    ] {
        let before = fixture.text(name);
        fixture.put(name, text);
        let refusal = fixture.refusal(Some("ca.pem"));
        assert!(refusal.contains(message), "{refusal}");
        fixture.put(name, &before);
    }
    fixture.check(Some("ca.pem")).unwrap();
    assert!(fixture.refusal(Some("gone.pem")).contains("gone.pem cannot be read"));
    assert!(fixture.refusal(Some(".")).contains("is no file"));
    fixture.put("ca.pem", &"x".repeat(1024 * 1024 + 1));
    assert!(fixture.refusal(Some("ca.pem")).contains("is larger than 1048576 bytes"));
}

#[test]
fn a_certificate_for_clients_alone_is_none_for_a_server() {
    let fixture = Fixture::new();
    let mut params = params("node", now() - DAY, now() + DAY);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    fixture.put("server.pem", &params.signed_by(&key, &fixture.authority).unwrap().pem());
    fixture.put("server.key", &key.serialize_pem());
    assert!(fixture.refusal(None).contains("is not for servers"), "{}", fixture.refusal(None));
}

#[test]
fn an_authority_that_is_over_is_not_trusted_and_said_so() {
    let fixture = Fixture::new();
    let over = authority(now() - 2 * DAY, now() - DAY).pem();
    fixture.put("ca.pem", &(fixture.authority.pem() + &over));
    let material = fixture.check(Some("ca.pem")).unwrap();
    assert_eq!(material.authorities().unwrap().len(), 1);
    assert!(material.warnings[0].contains("is not trusted"), "{:?}", material.warnings);
    // Behind the leaf it is only useless.
    fixture.put("server.pem", &(fixture.text("server.pem") + &over));
    assert_eq!(fixture.check(None).unwrap().warnings.len(), 1);
}

#[test]
fn contents_differ_when_bytes_wander_between_files() {
    let fixture = Fixture::new();
    let digest = || fixture.files(None).read().unwrap().digest();
    fixture.put("server.pem", "ab");
    fixture.put("server.key", "c");
    let first = digest();
    fixture.put("server.pem", "a");
    fixture.put("server.key", "bc");
    assert_ne!(digest(), first);
}

/// A node that opens a connection to another one with what it accepts with itself: each sees the other's certificate.
#[test]
fn nodes_prove_themselves_to_each_other() {
    let fixture = Fixture::new();
    let here = fixture.check(Some("ca.pem")).unwrap();
    fixture.issue(now() - DAY, now() + DAY);
    let there = fixture.check(Some("ca.pem")).unwrap();
    let (client, server) = shake_hands(&as_client(&here), &there);
    assert_eq!(fingerprint(server.peer_certificates()), here.certificate().fingerprint);
    assert_eq!(fingerprint(client.peer_certificates()), there.certificate().fingerprint);
}

/// An authority that is taken away counts at once: nobody gets in on what it was good for earlier.
#[test]
fn sessions_are_resumed_only_where_clients_prove_nothing() {
    let fixture = Fixture::new();
    for (client_ca, kind) in [(None, HandshakeKind::Resumed), (Some("ca.pem"), HandshakeKind::Full)] {
        let server = fixture.check(client_ca).unwrap();
        let client = as_client(&fixture.check(Some("ca.pem")).unwrap());
        assert_eq!(shake_hands(&client, &server).0.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(shake_hands(&client, &server).0.handshake_kind(), Some(kind), "{client_ca:?}");
    }
}

fn as_client(material: &Material) -> Arc<ClientConfig> {
    let roots = Arc::clone(material.authorities().unwrap());
    let mut config = material.client_config(roots).unwrap();
    // The library judges by its own clock.
    config.time_provider = Arc::new(AtNow);
    Arc::new(config)
}

fn fingerprint(certificates: Option<&[CertificateDer<'_>]>) -> String {
    let digest = Sha256::digest(&certificates.unwrap()[0]);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Debug)]
struct AtNow;

impl rustls::time_provider::TimeProvider for AtNow {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(NOW_MS)))
    }
}

/// Carries bytes between the two until neither has anything to say.
fn shake_hands(config: &Arc<ClientConfig>, material: &Material) -> (ClientConnection, ServerConnection) {
    let name = ServerName::try_from("node.example").unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut config = ServerConfig::clone(material.server_config());
    config.time_provider = Arc::new(AtNow);
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    (client, server)
}
