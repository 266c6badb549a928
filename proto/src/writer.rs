//! Writing of the primitives that [`crate::reader`] reads. A length that does not fit its field is an error,
//! never a truncation.

use bytes::{BufMut, BytesMut};

use crate::error::WireError;

pub(crate) fn bool(out: &mut BytesMut, value: bool) {
    out.put_u8(u8::from(value));
}

pub(crate) fn count16(out: &mut BytesMut, count: usize) -> Result<(), WireError> {
    out.put_u16(u16::try_from(count).map_err(|_| WireError::CorruptedPayload)?);
    Ok(())
}

pub(crate) fn count32(out: &mut BytesMut, count: usize) -> Result<(), WireError> {
    out.put_u32(u32::try_from(count).map_err(|_| WireError::CorruptedPayload)?);
    Ok(())
}

pub(crate) fn str16(out: &mut BytesMut, text: &str) -> Result<(), WireError> {
    count16(out, text.len())?;
    out.put_slice(text.as_bytes());
    Ok(())
}

pub(crate) fn str32(out: &mut BytesMut, text: &str) -> Result<(), WireError> {
    bytes32(out, text.as_bytes())
}

pub(crate) fn bytes32(out: &mut BytesMut, bytes: &[u8]) -> Result<(), WireError> {
    count32(out, bytes.len())?;
    out.put_slice(bytes);
    Ok(())
}

/// A presence byte, then the value if there is one.
pub(crate) fn opt<T>(
    out: &mut BytesMut,
    value: Option<T>,
    write: impl FnOnce(&mut BytesMut, T) -> Result<(), WireError>,
) -> Result<(), WireError> {
    bool(out, value.is_some());
    value.map_or(Ok(()), |value| write(out, value))
}
