//! Messages in parts: each part is the payload of one request or response.
//!
//! A part begins with one byte, 1 when another part of the same message follows and 0 when it is the last. What is behind
//! it is the message's next bytes. The parts of a message carry the same id and follow each other.

use bytes::{BufMut, Bytes, BytesMut};
use vaylix_proto::error::WireError;
use vaylix_proto::frame::{Compression, FRAME_LEN_MAX, FrameEncoder};
use vaylix_proto::opcode::Opcode;
use vaylix_proto::request::{Metadata, Request, RequestId};
use vaylix_proto::response::Status;
use vaylix_proto::{ErrorReply, response};

use super::MESSAGE_BYTES_MAX;

/// Bytes of a message in one part.
const PART_BYTES: usize = 1 << 20;
/// Parts below this are not worth compressing between machines that are near each other.
const COMPRESSION_THRESHOLD_BYTES: usize = 256 << 10;

const LAST: u8 = 0;
const MORE: u8 = 1;

const _: () = assert!(PART_BYTES + 64 < FRAME_LEN_MAX as usize, "a part fits in a frame");

/// An encoder for parts.
pub(super) fn encoder(compression: Compression) -> FrameEncoder {
    FrameEncoder::new(compression, COMPRESSION_THRESHOLD_BYTES, FRAME_LEN_MAX)
}

/// Cuts a message.
pub(super) fn cut(mut message: Bytes) -> impl Iterator<Item = (u8, Bytes)> {
    let mut is_done = false;
    std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let part = message.split_to(message.len().min(PART_BYTES));
        is_done = message.is_empty();
        Some((if is_done { LAST } else { MORE }, part))
    })
}

/// Appends a request's part as a frame.
pub(super) fn put_request(
    encoder: &mut FrameEncoder,
    out: &mut BytesMut,
    id: RequestId,
    opcode: Opcode,
    (flag, part): &(u8, Bytes),
) -> Result<(), WireError> {
    encoder.encode(out, |body| {
        Request::encode_opaque(id, &Metadata::default(), opcode, &[*flag], body);
        body.put_slice(part);
        Ok(())
    })
}

/// Appends an answer's part as a frame.
pub(super) fn put_answer(
    encoder: &mut FrameEncoder,
    out: &mut BytesMut,
    id: RequestId,
    (flag, part): &(u8, Bytes),
) -> Result<(), WireError> {
    encoder.encode(out, |body| {
        body.put_slice(&id);
        body.put_u8(Status::Ok.as_u8());
        body.put_u8(*flag);
        body.put_slice(part);
        Ok(())
    })
}

/// Appends a refusal as a frame.
pub(super) fn put_refusal(
    encoder: &mut FrameEncoder,
    out: &mut BytesMut,
    id: RequestId,
    refusal: ErrorReply,
) -> Result<(), WireError> {
    let refusal = Err(refusal);
    encoder.encode(out, |body| response::encode_reply(id, &refusal, body))
}

/// Puts messages together again.
#[derive(Default)]
pub(super) struct Assembly {
    begun: Option<(RequestId, BytesMut)>,
}

/// The parts do not make a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPart {
    #[error("a part without its first byte, or with an unknown one")]
    Flag,
    #[error("a part of another message in between")]
    Mixed,
    #[error("the message is longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
}

impl Assembly {
    /// Takes the payload of a frame in. Returns the message that is complete with it.
    pub(super) fn add(&mut self, id: RequestId, mut payload: Bytes) -> Result<Option<Bytes>, BadPart> {
        let flag = *payload.first().ok_or(BadPart::Flag)?;
        drop(payload.split_to(1));
        let message = match self.begun.take() {
            None if flag == LAST => return Ok(Some(payload)),
            None => BytesMut::from(&*payload),
            Some((begun, _)) if begun != id => return Err(BadPart::Mixed),
            Some((_, mut message)) => {
                if message.len() + payload.len() > MESSAGE_BYTES_MAX {
                    return Err(BadPart::TooLong);
                }
                message.put_slice(&payload);
                message
            }
        };
        match flag {
            LAST => Ok(Some(message.freeze())),
            MORE => {
                self.begun = Some((id, message));
                Ok(None)
            }
            _ => Err(BadPart::Flag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload((flag, part): (u8, Bytes)) -> Bytes {
        [&[flag][..], &part].concat().into()
    }

    #[test]
    fn a_message_of_any_length_comes_together_again() {
        for len in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 7] {
            let message: Bytes = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let mut assembly = Assembly::default();
            let parts: Vec<_> = cut(message.clone()).collect();
            assert_eq!(parts.len(), len.div_ceil(PART_BYTES).max(1));
            let mut whole = None;
            for part in parts {
                assert!(whole.is_none(), "complete before the last part");
                assert!(part.1.len() <= PART_BYTES);
                whole = assembly.add([7; 16], payload(part)).unwrap();
            }
            assert_eq!(whole, Some(message));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.add([0; 16], Bytes::new()), Err(BadPart::Flag));
        assert_eq!(assembly.add([0; 16], Bytes::from_static(&[MORE, 1])), Ok(None));
        assert_eq!(assembly.add([1; 16], Bytes::from_static(&[LAST, 1])), Err(BadPart::Mixed));
        assert_eq!(assembly.add([0; 16], Bytes::from_static(&[9, 1])), Err(BadPart::Flag));
        let part = payload((MORE, vec![0; PART_BYTES].into()));
        let mut assembly = Assembly::default();
        let refused =
            (0..=MESSAGE_BYTES_MAX / PART_BYTES).find_map(|_| assembly.add([0; 16], part.clone()).err());
        assert_eq!(refused, Some(BadPart::TooLong));
    }
}
