//! Checked reading of the primitives: nothing here can panic or allocate ahead of the data.
//!
//! All numbers are big-endian. `str16`, `str32` and `bytes32` are a length of 2 or 4 bytes followed by that many
//! bytes. What is read shares the memory of what it is read from.

use bytes::Bytes;

use crate::command::Text;
use crate::error::WireError;

/// A position inside a buffer of untrusted bytes.
///
/// Every method fails with [`WireError::UnexpectedEnd`] when the buffer ends too early.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    source: &'a Bytes,
    at: usize,
}

#[allow(missing_docs, reason = "each method is named after the primitive it reads")]
impl<'a> Reader<'a> {
    /// Starts at the first byte of `source`.
    #[must_use]
    pub const fn new(source: &'a Bytes) -> Self {
        Self { source, at: 0 }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.source.len().saturating_sub(self.at)
    }

    /// Whether everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// A capacity for `count` announced items of at least `item_size_min` bytes each: never more than what the
    /// remaining bytes can hold.
    #[must_use]
    pub fn capacity(&self, count: usize, item_size_min: usize) -> usize {
        count.min(self.remaining().checked_div(item_size_min).unwrap_or(0))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`WireError::CorruptedPayload`] when bytes are left over.
    pub fn finish(&self) -> Result<(), WireError> {
        if self.is_empty() { Ok(()) } else { Err(WireError::CorruptedPayload) }
    }

    /// The bytes that are left.
    #[must_use]
    pub fn tail(&self) -> Bytes {
        self.source.slice(self.at.min(self.source.len())..)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, _) =
            self.source.get(self.at..).and_then(<[u8]>::split_first_chunk).ok_or(WireError::UnexpectedEnd)?;
        self.at = self.at.saturating_add(N);
        Ok(*head)
    }

    pub fn bytes(&mut self, len: usize) -> Result<Bytes, WireError> {
        if len > self.remaining() {
            return Err(WireError::UnexpectedEnd);
        }
        let end = self.at.saturating_add(len);
        let bytes = self.source.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A count of items or bytes: a `u32` that is used as a size.
    pub fn count32(&mut self) -> Result<usize, WireError> {
        usize::try_from(self.u32()?).map_err(|_| WireError::CorruptedPayload)
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::CorruptedPayload),
        }
    }

    /// A presence byte, then the value it announces.
    pub fn opt<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    pub fn bytes32(&mut self) -> Result<Bytes, WireError> {
        let len = self.count32()?;
        self.bytes(len)
    }

    pub fn str16(&mut self) -> Result<Text, WireError> {
        let len = self.u16()?;
        text(self.bytes(usize::from(len))?)
    }

    pub fn str32(&mut self) -> Result<Text, WireError> {
        text(self.bytes32()?)
    }
}

/// Bytes as text, in place.
///
/// # Errors
/// [`WireError::InvalidUtf8`].
pub fn text(bytes: Bytes) -> Result<Text, WireError> {
    Text::try_from(bytes).map_err(|_| WireError::InvalidUtf8)
}
