//! Requests that differ only in key and request id are encoded once and patched for each use.
//!
//! A key is a prefix and twelve decimal digits, so every request made from a template has the same length. What
//! changes is the last half of the request id, the digits, and the checksum in the frame header.

use bytes::BytesMut;
use vaylix_proto::frame::{Compression, FrameEncoder, HEADER_LEN};
use vaylix_proto::request::{Metadata, Request};
use vaylix_proto::{Command, Text};

/// Stands for the digits until they are known.
const PLACEHOLDER: &str = "############";
const KEY_DIGITS: usize = PLACEHOLDER.len();

/// Where the request id ends in a request body: after one byte of flags and 16 of id.
const ID_END: usize = 17;

/// Where the checksum stands in a frame header.
const CHECKSUM: std::ops::Range<usize> = 10..14;

/// An encoded request with places for key and id.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    frame: Vec<u8>,
    digits_at: usize,
}

impl Template {
    /// A template of the request that `command` makes for a key that starts with `prefix`.
    ///
    /// # Panics
    /// When the command does not contain the key, or is larger than a frame can be.
    pub(crate) fn new(prefix: &str, command: impl FnOnce(Text) -> Command) -> Self {
        let key = format!("{prefix}{PLACEHOLDER}");
        let command = command(key.as_str().into());
        let mut frame = BytesMut::new();
        FrameEncoder::new(Compression::None, usize::MAX, vaylix_proto::frame::FRAME_LEN_MAX)
            .encode(&mut frame, |out| Request::encode([0; 16], &Metadata::default(), &command, out))
            .expect("value sizes are limited when options are read");
        let key_at = frame
            .windows(key.len())
            .position(|window| window == key.as_bytes())
            .expect("the command carries its key as text");
        Self { digits_at: key_at + prefix.len(), frame: frame.to_vec() }
    }

    /// Appends the request for key number `key` to `out`.
    pub(crate) fn write(&self, id: u64, key: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        let id_end = HEADER_LEN + ID_END;
        frame[id_end - 8..id_end].copy_from_slice(&id.to_be_bytes());
        let mut rest = key;
        for digit in frame[self.digits_at..self.digits_at + KEY_DIGITS].iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).expect("a digit is below ten");
            rest /= 10;
        }
        let checksum = crc32fast::hash(&frame[HEADER_LEN..]);
        frame[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use vaylix_proto::SetOptions;
    use vaylix_proto::frame::{FRAME_LEN_MAX, FrameDecoder};

    use super::*;

    #[test]
    fn patched_requests_decode() {
        let set = |key| Command::Set { key, value: "value".into(), options: SetOptions::default() };
        let template = Template::new("key:", set);
        let mut out = Vec::new();
        template.write(1, 0, &mut out);
        template.write(u64::MAX, 123_456_789_012, &mut out);

        let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
        let mut input = BytesMut::from(&out[..]);
        for (id, key) in [(1, "key:000000000000"), (u64::MAX, "key:123456789012")] {
            let body = decoder.decode(&mut input).unwrap().unwrap();
            let request = Request::decode(body).unwrap();
            assert_eq!(request.id[..8], [0; 8]);
            assert_eq!(request.id[8..], u64::to_be_bytes(id));
            assert_eq!(request.command().unwrap(), set(key.into()));
        }
        assert!(input.is_empty());
    }
}
