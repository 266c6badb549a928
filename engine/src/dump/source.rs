//! The bytes of a document on their way to the parser: measured, checked to be text, bounded.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use super::hex;

/// Bytes that the parser may read for one entry, or beside the entries. It keeps them in memory, and a document that
/// needs more is not one that a backup has written.
const BYTES_AT_ONCE_MAX: u64 = 256 << 20;

/// A reader that measures what goes through it and refuses what is not UTF-8.
pub(super) struct Source<R> {
    inner: R,
    hash: Sha256,
    byte_len: u64,
    /// The first bytes of a character whose others have not come yet.
    begun: Vec<u8>,
    budget: Budget,
}

/// What may still be read before the parser must have come to the end of something. Clones share it.
#[derive(Clone)]
pub(super) struct Budget(Rc<Cell<u64>>);

impl Budget {
    /// Something was complete.
    pub(super) fn renew(&self) {
        self.0.set(BYTES_AT_ONCE_MAX);
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.ok_or_else(|| io::Error::other("an entry of the document is far too large"))?);
        Ok(())
    }
}

impl<R: Read> Source<R> {
    pub(super) fn new(inner: R) -> Self {
        let budget = Budget(Rc::new(Cell::new(BYTES_AT_ONCE_MAX)));
        Self { inner, hash: Sha256::new(), byte_len: 0, begun: Vec::new(), budget }
    }

    pub(super) fn budget(&self) -> Budget {
        self.budget.clone()
    }

    /// The number of bytes and their SHA-256 in lower-case hexadecimal.
    pub(super) fn finish(self) -> (u64, String) {
        (self.byte_len, hex(&self.hash.finalize()))
    }

    /// Checks that what has not been read is text as well.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        self.budget.renew();
        while self.read(&mut buffer)? > 0 {
            self.budget.renew();
        }
        Ok(())
    }

    fn check_text(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let no_text = || io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8");
        // A character that was cut: add bytes until it is whole or wrong.
        while let (false, Some((&next, rest))) = (self.begun.is_empty(), bytes.split_first()) {
            self.begun.push(next);
            bytes = rest;
            match std::str::from_utf8(&self.begun) {
                Ok(_) => self.begun.clear(),
                Err(error) if error.error_len().is_some() => return Err(no_text()),
                Err(_) => {}
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(no_text()),
            Err(error) => {
                self.begun.extend_from_slice(&bytes[error.valid_up_to()..]);
                Ok(())
            }
        }
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let bytes = &buffer[..count];
        self.hash.update(bytes);
        self.byte_len += count as u64;
        self.check_text(bytes)?;
        if count == 0 && !self.begun.is_empty() && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"));
        }
        self.budget.take(count as u64)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out one byte at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    #[test]
    fn text_is_text_however_it_is_cut() {
        let good = "a\u{e9}\u{20ac}\u{1f469}z".as_bytes();
        Source::new(Trickle(good)).drain().unwrap();
        Source::new(good).drain().unwrap();
        for bad in [&b"a\xff"[..], b"\xe2\x82", b"\xe2\x28\xa1", b"\xed\xa0\x80", b"ok\xf0\x9f\x91"] {
            for error in [Source::new(Trickle(bad)).drain(), Source::new(bad).drain()] {
                assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData, "{bad:?}");
            }
        }
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let mut source = Source::new(io::repeat(b'x').take(BYTES_AT_ONCE_MAX + 1));
        let read = io::copy(&mut source, &mut io::sink());
        assert!(read.is_err());
    }
}
