//! A small blocking speaker of HTTP/1.1 for tests that need bytes rather than a client.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};

use crate::process::PATIENCE;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The fields of the head, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// One field of the head; empty when there is none of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Gets a path.
///
/// # Errors
/// When there is no whole answer.
pub fn get(server: SocketAddr, path: &str) -> Result<Response> {
    request(server, "GET", path, &[], b"")
}

/// Sends a request on a connection of its own, and reads the answer.
///
/// # Errors
/// When there is no whole answer.
pub fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let mut stream = connect(server)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    // Whoever is refused early does not see all of a large body taken.
    let sent = stream.write_all(body);
    let answer = read(&mut stream);
    if answer.is_err() {
        sent.context("the body was not taken")?;
    }
    parse(&answer?, method)
}

/// A stream of events (Server-Sent Events) as a browser reads it.
#[derive(Debug)]
pub struct Events {
    lines: std::io::Lines<std::io::BufReader<TcpStream>>,
    /// The answer without its body.
    pub head: Response,
    last_id: String,
}

impl Events {
    /// Asks for the stream at a path. An answer that is none has its body in `head`.
    ///
    /// # Errors
    /// When there is no whole head.
    pub fn open(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self> {
        use std::io::BufRead as _;
        let mut stream = connect(server)?;
        // Without chunks: what is sent is what is read.
        let mut head = format!("GET {path} HTTP/1.0\r\nhost: {server}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        let mut reader = std::io::BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(reader.read_until(b'\n', &mut head)? > 0, "no end of the head");
        }
        let mut head = parse(&head, "HEAD")?;
        if head.status != 200 {
            reader.read_to_end(&mut head.body)?;
        }
        Ok(Self { lines: reader.lines(), head, last_id: String::new() })
    }

    /// The id of the last event that had one; what a browser that comes again says.
    #[must_use]
    pub fn last_id(&self) -> &str {
        &self.last_id
    }

    /// The next event, its name and its data; none at the end of the stream.
    ///
    /// # Errors
    /// When nothing comes for too long.
    pub fn next_event(&mut self) -> Result<Option<(String, String)>> {
        let (mut name, mut data) = (String::new(), String::new());
        for line in self.lines.by_ref() {
            let line = line.context("no event in time")?;
            if line.is_empty() && !name.is_empty() {
                return Ok(Some((name, data)));
            }
            if let Some(found) = line.strip_prefix("event: ") {
                found.clone_into(&mut name);
            } else if let Some(found) = line.strip_prefix("data: ") {
                data.push_str(found);
            } else if let Some(found) = line.strip_prefix("id: ") {
                found.clone_into(&mut self.last_id);
            }
        }
        Ok(None)
    }

    /// The data of the next event of this name.
    ///
    /// # Errors
    /// When the stream ends or nothing comes before there is one.
    pub fn await_event(&mut self, wanted: &str) -> Result<String> {
        loop {
            let (name, data) =
                self.next_event()?.with_context(|| format!("the stream ended before {wanted}"))?;
            if name == wanted {
                return Ok(data);
            }
        }
    }
}

/// A connection that does not wait for ever.
///
/// # Errors
/// When the server cannot be reached.
pub fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Everything until the answer says that it is over, or the other side closes; a reset after the answer is no failure.
fn read(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut part = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(read) => bytes.extend_from_slice(&part[..read]),
            Err(error) if bytes.is_empty() => return Err(error).context("no answer"),
            Err(_reset) => return Ok(bytes),
        }
        // Not everybody closes a connection that was asked to be closed.
        if announced(&bytes).is_some_and(|length| bytes.len() >= length) {
            return Ok(bytes);
        }
    }
}

/// How long an answer is that tells the length of its body, head included.
fn announced(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let length = head.split("\r\n").filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    Some(end + 4 + length)
}

/// Understands an answer.
///
/// # Errors
/// When it is none.
pub fn parse(bytes: &[u8], method: &str) -> Result<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").context("no end of the head")?;
    let head = std::str::from_utf8(&bytes[..end]).context("the head is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?;
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &bytes[end + 4..];
    let body = match (headers.get("transfer-encoding"), headers.get("content-length")) {
        (Some(coding), _) if coding == "chunked" => unchunk(rest)?,
        (_, Some(length)) if method != "HEAD" => {
            let length: usize = length.parse()?;
            ensure!(rest.len() >= length, "the body ends after {} of {length} bytes", rest.len());
            rest[..length].to_vec()
        }
        _ => rest.to_vec(),
    };
    Ok(Response { status: status.parse()?, headers, body })
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end =
            rest.windows(2).position(|window| window == b"\r\n").context("no end of a chunk's length")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end])?, 16)?;
        rest = &rest[end + 2..];
        if length == 0 {
            return Ok(body);
        }
        ensure!(rest.len() >= length + 2, "a chunk is incomplete");
        body.extend_from_slice(&rest[..length]);
        rest = &rest[length + 2..];
    }
}

/// The value of an `authorization` with a name and a password.
#[must_use]
pub fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("Basic ");
    for group in format!("{user}:{password}").as_bytes().chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_base64() {
        assert_eq!(basic("a", ""), "Basic YTo=");
        assert_eq!(basic("a", "b"), "Basic YTpi");
        assert_eq!(basic("vaylix", "vaylix"), "Basic dmF5bGl4OnZheWxpeA==");
    }

    #[test]
    fn chunks_are_joined() {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        let response = parse(answer, "GET").unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "abcd"));
    }
}
