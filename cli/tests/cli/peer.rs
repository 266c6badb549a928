//! A stand-in for a server: it answers each command as a function says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use bytes::BytesMut;
use vaylix_proto::frame::{Compression, FRAME_LEN_MAX, FrameDecoder, FrameEncoder};
use vaylix_proto::request::Request;
use vaylix_proto::response::encode_reply;
use vaylix_proto::{Command, ErrorReply, Reply};

/// An accepted server hello: version 2, all capabilities but zstd, no compression, frames up to 8 MiB.
const HELLO: &str = "f102000000000000001e0000800000018f0f6f758d70c9b2de2b9f1cb3c99900000000";

/// What the stand-in does with a command.
pub(crate) enum Act {
    Answer(Result<Reply, ErrorReply>),
    HangUp,
}

/// A stand-in that serves one connection.
pub(crate) struct Peer {
    port: u16,
    thread: JoinHandle<Vec<Command>>,
}

impl Peer {
    pub(crate) fn start(mut act: impl FnMut(&Command) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || serve(listener.accept().unwrap().0, &mut act));
        Self { port, thread }
    }

    /// A stand-in that serves one connection after the other, until the test ends.
    pub(crate) fn serving(mut act: impl FnMut(&Command) -> Act + Send + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &mut act);
            }
        });
        port
    }

    pub(crate) fn port(&self) -> String {
        self.port.to_string()
    }

    /// The commands it got, once the client is gone.
    pub(crate) fn commands(self) -> Vec<Command> {
        self.thread.join().unwrap()
    }
}

fn serve(mut stream: TcpStream, act: &mut dyn FnMut(&Command) -> Act) -> Vec<Command> {
    let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
    let mut encoder = FrameEncoder::new(Compression::None, usize::MAX, FRAME_LEN_MAX);
    let mut input = BytesMut::new();
    let mut output = BytesMut::new();
    let mut commands = Vec::new();
    let mut greeted = false;
    loop {
        while let Some(body) = decoder.decode(&mut input).unwrap() {
            output.clear();
            if greeted {
                let request = Request::decode(body).unwrap();
                let command = request.command().unwrap();
                let act = act(&command);
                commands.push(command);
                match act {
                    Act::HangUp => return commands,
                    Act::Answer(answer) => {
                        encoder.encode(&mut output, |out| encode_reply(request.id, &answer, out)).unwrap();
                    }
                }
            } else {
                greeted = true;
                encoder
                    .encode(&mut output, |out| {
                        out.extend_from_slice(&unhex(HELLO));
                        Ok(())
                    })
                    .unwrap();
            }
            stream.write_all(&output).unwrap();
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).unwrap() {
            0 => return commands,
            read => input.extend_from_slice(&chunk[..read]),
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
