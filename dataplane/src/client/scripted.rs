//! The other end of a connection, as a script plays it.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vaylix_proto::Command;
use vaylix_proto::frame::{Compression, FRAME_LEN_MAX, FrameDecoder, FrameEncoder};
use vaylix_proto::request::{Request, RequestId};

/// A complete server hello frame.
pub(crate) const HELLO_NONE: &str =
    "565450320200000000234dcbd625f102000000000000001e0000800000018f0f6f758d70c9b2de2b9f1cb3c99900000000";
pub(crate) const OK: u8 = 0;
pub(crate) const ERROR: u8 = 1;

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The other end of a connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) input: BytesMut,
    decoder: FrameDecoder,
    encoder: FrameEncoder,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            input: BytesMut::new(),
            decoder: FrameDecoder::new(FRAME_LEN_MAX),
            encoder: FrameEncoder::new(Compression::None, usize::MAX, FRAME_LEN_MAX),
        }
    }

    pub(crate) async fn body(&mut self) -> Bytes {
        loop {
            if let Some(body) = self.decoder.decode(&mut self.input).unwrap() {
                return body;
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "the client hung up");
        }
    }

    pub(crate) async fn request(&mut self) -> (RequestId, Command) {
        let request = Request::decode(self.body().await).unwrap();
        (request.id, request.command().unwrap())
    }

    /// The next request, or `None` when the client has gone.
    pub(crate) async fn request_or_end(&mut self) -> Option<(RequestId, Command)> {
        loop {
            if let Some(body) = self.decoder.decode(&mut self.input).unwrap() {
                let request = Request::decode(body).unwrap();
                return Some((request.id, request.command().unwrap()));
            }
            if !self.stream.read_buf(&mut self.input).await.is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }

    pub(crate) async fn hex(&mut self, hex: &str) {
        self.stream.write_all(&unhex(hex)).await.unwrap();
    }

    /// A response as it stands in the protocol: id, status, payload.
    pub(crate) fn frame(&mut self, id: RequestId, status: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        self.encoder
            .encode(&mut out, |out| {
                out.extend_from_slice(&id);
                out.extend_from_slice(&[status]);
                out.extend_from_slice(payload);
                Ok(())
            })
            .unwrap();
        out.to_vec()
    }

    pub(crate) async fn respond(&mut self, id: RequestId, status: u8, payload: &[u8]) {
        let frame = self.frame(id, status, payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Waits until the client has gone.
    pub(crate) async fn gone(mut self) {
        while self.stream.read_buf(&mut self.input).await.is_ok_and(|read| read > 0) {}
    }
}

pub(crate) fn value(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

pub(crate) fn error(code: &str, name: &str, message: &str) -> Vec<u8> {
    let short = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    [short(code), short(name), value(message.as_bytes())].concat()
}
