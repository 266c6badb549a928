//! What an answer may cost before whoever asked is told that it is too much.

/// How many bytes an answer may still take, and how many keys may still be looked at for it.
///
/// Whoever gathers an answer takes from it before each step, so that no more is ever built than was allowed.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    bytes: usize,
    looks: usize,
}

/// Which part of an [`Allowance`] did not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// The answer would take more bytes on the wire than it may.
    Bytes,
    /// More keys have to be looked at than may be.
    Looks,
}

impl Allowance {
    /// An answer of at most this many bytes, however many keys it takes to find it.
    #[must_use]
    pub fn bytes(bytes_max: usize) -> Self {
        Self { bytes: bytes_max, looks: usize::MAX }
    }

    /// The same, when at most this many keys may be looked at.
    #[must_use]
    pub fn with_looks(self, looks_max: usize) -> Self {
        Self { looks: looks_max, ..self }
    }

    /// Takes bytes of the answer.
    ///
    /// # Errors
    /// [`Exceeded::Bytes`].
    pub fn take_bytes(&mut self, bytes: usize) -> Result<(), Exceeded> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Exceeded::Bytes)?;
        Ok(())
    }

    /// Takes looks at keys.
    ///
    /// # Errors
    /// [`Exceeded::Looks`].
    pub fn take_looks(&mut self, looks: usize) -> Result<(), Exceeded> {
        self.looks = self.looks.checked_sub(looks).ok_or(Exceeded::Looks)?;
        Ok(())
    }
}
