//! The key-encryption key: a secret from outside the data directory, under which the [keyring](crate::keyring) is
//! wrapped.
//!
//! It is 32 random bytes, given as they are or as text: 64 hexadecimal digits, or base64 of either alphabet with or
//! without padding. White space around text does not count. A file of exactly 32 bytes holds the key itself, unless
//! all of them are printable: then it is a pass phrase, or a key of half the size in hexadecimal, and refused. There is
//! no stretching here: what can be guessed is no key.
//!
//! The key is never shown. Its *id* is: 8 bytes derived from it, by which an operator tells keys apart.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::StorageError;

const KEY_BYTES: usize = 32;
/// Room for the longest text form and a generous end of line.
const FILE_BYTES_MAX: u64 = 256;
const ID_PURPOSE: &[u8] = b"vaylix id of a key-encryption key";
/// Mode bits that let others than the owner read or write.
const OTHERS: u32 = 0o077;

/// A key-encryption key. Has no `Debug`, and is wiped when dropped.
#[derive(Clone)]
pub struct Kek(Zeroizing<[u8; KEY_BYTES]>);

/// Tells key-encryption keys apart without telling them. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KekId(pub(crate) [u8; 8]);

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why something is no key-encryption key. Never says what it is instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKek {
    /// Nothing, or white space.
    #[error("it is empty")]
    Empty,
    /// Neither 32 bytes nor a text form of 32 bytes.
    #[error("it must be 32 random bytes, or their text: 64 hexadecimal digits or base64")]
    Form,
    /// 32 printable characters.
    #[error(
        "it is 32 characters of text, and a pass phrase is no key: it must be 32 random bytes, or their text: 64 \
         hexadecimal digits or base64"
    )]
    Text,
    /// All bytes are the same.
    #[error("all its bytes are the same: it must be random")]
    Constant,
}

/// Why a file gave no key-encryption key.
#[derive(Debug, thiserror::Error)]
pub enum KekFileError {
    /// It cannot be read.
    #[error(transparent)]
    Io(StorageError),
    /// It holds no key.
    #[error(transparent)]
    NoKek(#[from] NoKek),
}

impl Kek {
    /// Reads a key from its text form.
    ///
    /// # Errors
    /// [`NoKek`].
    pub fn from_text(text: &str) -> Result<Self, NoKek> {
        let text = text.trim();
        if text.is_empty() {
            return Err(NoKek::Empty);
        }
        Self::random(unhex(text).or_else(|| unbase64(text)).ok_or(NoKek::Form)?)
    }

    /// Reads a key from the content of a file: the bytes themselves or a text form.
    ///
    /// # Errors
    /// [`NoKek`].
    pub fn from_content(content: &[u8]) -> Result<Self, NoKek> {
        if let Ok(bytes) = <[u8; KEY_BYTES]>::try_from(content) {
            let bytes = Zeroizing::new(bytes);
            let is_text = bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
            return if is_text { Err(NoKek::Text) } else { Self::random(bytes) };
        }
        Self::from_text(std::str::from_utf8(content).map_err(|_| NoKek::Form)?)
    }

    /// Reads a key from a file, which may be a pipe. Warns in the log when others than its owner may use the file.
    ///
    /// # Errors
    /// [`KekFileError`].
    pub fn from_file(path: &Path) -> Result<Self, KekFileError> {
        let failed = |source| {
            KekFileError::Io(
                StorageError::io("read the key-encryption key", path, source)
                    .advise("the file must exist and be readable by the user that runs this program"),
            )
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_file() && metadata.mode() & OTHERS != 0 {
            tracing::warn!(
                file = %path.display(), mode = format_args!("{:04o}", metadata.mode() & 0o7777),
                "the key-encryption key can be used by others than the owner of its file: set its mode to 0400"
            );
        }
        // Room for all there can be, so that nothing is left behind in a smaller buffer that was outgrown.
        let mut content =
            Zeroizing::new(Vec::with_capacity(usize::try_from(FILE_BYTES_MAX + 2).unwrap_or(0)));
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(NoKek::Form.into());
        }
        Ok(Self::from_content(&content)?)
    }

    fn random(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Result<Self, NoKek> {
        if bytes.iter().all(|byte| *byte == bytes[0]) { Err(NoKek::Constant) } else { Ok(Self(bytes)) }
    }

    /// Names the key.
    #[must_use]
    pub fn id(&self) -> KekId {
        let mut id = [0; 8];
        Hkdf::<Sha256>::new(None, &*self.0)
            .expand(ID_PURPOSE, &mut id)
            .expect("8 bytes are within what HKDF-SHA256 can give");
        KekId(id)
    }

    pub(crate) fn secret(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

fn unhex(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(bytes)
}

fn unbase64(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&alphabet::STANDARD, &alphabet::URL_SAFE].into_iter().find_map(|alphabet| {
        let engine = GeneralPurpose::new(alphabet, config);
        // Three bytes of every four characters, as the decoder estimates.
        let mut out = Zeroizing::new([0; KEY_BYTES + 4]);
        let len = engine.decode_slice(text, &mut *out).ok()?;
        let bytes = out.first_chunk().filter(|_| len == KEY_BYTES)?;
        Some(Zeroizing::new(*bytes))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// 32 bytes whose base64 needs what the two alphabets differ in.
    fn bytes() -> [u8; KEY_BYTES] {
        std::array::from_fn(|at| u8::try_from(at * 37 % 256).unwrap() | 0xF8)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_form_of_a_key_is_the_same_key() {
        let expected = Kek::from_content(&bytes()).unwrap();
        assert_eq!(expected.secret(), &bytes());
        let standard = base64::engine::general_purpose::STANDARD.encode(bytes());
        let url_safe = base64::engine::general_purpose::URL_SAFE.encode(bytes());
        assert_ne!(standard, url_safe);
        let hex = hex(&bytes());
        for text in [
            &standard,
            &url_safe,
            standard.trim_end_matches('='),
            url_safe.trim_end_matches('='),
            &hex,
            &hex.to_uppercase(),
            &format!("  {hex}\r\n"),
        ] {
            for kek in [Kek::from_text(text).unwrap(), Kek::from_content(text.as_bytes()).unwrap()] {
                assert_eq!(kek.secret(), &bytes(), "{text}");
                assert_eq!(kek.id(), expected.id());
            }
        }
        let mut other = bytes();
        other[0] ^= 1;
        assert_ne!(Kek::from_content(&other).unwrap().id(), expected.id());
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        let check = |content: &[u8], expected: NoKek| {
            let found = Kek::from_content(content).err();
            assert_eq!(found, Some(expected), "{content:?}");
        };
        check(b"", NoKek::Empty);
        check(b" \n", NoKek::Empty);
        check(b"correct horse battery staple", NoKek::Form);
        check(b"0123456789abcdef0123456789abcdef", NoKek::Text);
        check(&[0; 32], NoKek::Constant);
        check(hex(&[7; 32]).as_bytes(), NoKek::Constant);
        check(hex(&bytes()[1..]).as_bytes(), NoKek::Form);
        check(hex(&bytes()).replace('f', "g").as_bytes(), NoKek::Form);
        check(&[&bytes()[..], b"\n"].concat(), NoKek::Form);
        check(&[0xFF; 300], NoKek::Form);
        check(&b"A".repeat(1000), NoKek::Form);
        for error in [NoKek::Form, NoKek::Text] {
            assert!(error.to_string().contains("64 hexadecimal digits"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_missing_or_too_long_gives_no_key() {
        let root = crate::crash::scratch();
        let path = root.path().join("kek");
        assert!(matches!(Kek::from_file(&path), Err(KekFileError::Io(error)) if error.file() == Some(&path)));
        fs::write(&path, bytes()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(Kek::from_file(&path).unwrap().secret(), &bytes());
        fs::remove_file(&path).unwrap();
        fs::write(&path, format!("{}{}", hex(&bytes()), " ".repeat(300))).unwrap();
        assert!(matches!(Kek::from_file(&path), Err(KekFileError::NoKek(NoKek::Form))));
    }
}
