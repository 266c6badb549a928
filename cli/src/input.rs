//! Where lines come from: a prompt, or standard input as it is.

use std::io::{self, BufRead, Read};

use rustyline::error::ReadlineError;

use crate::error::Error;

/// The longest line that is read, in bytes: enough for the largest request with every byte escaped.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What happened at the input.
#[derive(Debug)]
pub(crate) enum Event {
    /// A line, without its end. `trouble`: it could not be recorded in the history.
    Line { line: String, trouble: Option<Error> },
    /// A line that cannot be read as text; the next one may be fine.
    Unreadable(Error),
    /// The interrupt key.
    Interrupted,
    /// End of input.
    End,
}

/// Reads the next line of a script.
///
/// # Errors
/// [`Error::Io`] when the input itself fails.
pub(crate) fn next_line(input: &mut impl BufRead) -> Result<Event, Error> {
    let mut bytes = Vec::new();
    if input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(Event::End);
    }
    let complete = bytes.last() == Some(&b'\n');
    if !complete && bytes.len() as u64 == LINE_BYTES_MAX && skip_line(input)? {
        return Ok(unreadable(format!("line is longer than {LINE_BYTES_MAX} bytes")));
    }
    if complete {
        bytes.pop();
    }
    Ok(match String::from_utf8(bytes) {
        Ok(line) => Event::Line { line, trouble: None },
        Err(_) => unreadable("stream did not contain valid UTF-8".to_owned()),
    })
}

fn unreadable(message: String) -> Event {
    Event::Unreadable(ReadlineError::Io(io::Error::new(io::ErrorKind::InvalidData, message)).into())
}

/// Drops the rest of a line; whether there was any.
fn skip_line(input: &mut impl BufRead) -> Result<bool, Error> {
    let mut skipped = false;
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        input.consume(length);
        skipped |= length > 0;
        if end.is_some() || length == 0 {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut input: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match next_line(&mut input).unwrap() {
                Event::Line { line, .. } => lines.push(line),
                Event::Unreadable(error) => lines.push(error.line()),
                Event::End => return lines,
                Event::Interrupted => unreachable!("scripts have no interrupt key"),
            }
        }
    }

    #[test]
    fn lines_end_with_a_line_feed_or_the_input() {
        assert_eq!(read_all(b"a\r\n\nb"), ["a\r", "", "b"]);
        assert_eq!(read_all(b""), Vec::<String>::new());
    }

    #[test]
    fn a_line_that_is_no_text_does_not_end_the_script() {
        assert_eq!(
            read_all(b"\xff\xfe\nping\n"),
            ["[CLI-004] Readline Failure: line editor failure: stream did not contain valid UTF-8", "ping"]
        );
    }

    #[test]
    fn an_endless_line_is_not_kept_in_memory() {
        let limit = usize::try_from(LINE_BYTES_MAX).unwrap();
        let mut input = vec![b'a'; limit + 5];
        input.extend(b"\nping\n");
        let lines = read_all(&input);
        assert!(lines[0].ends_with("line is longer than 16777216 bytes"), "{}", lines[0]);
        assert_eq!(lines[1..], ["ping"]);
        let mut exact = vec![b'a'; limit];
        exact.extend(b"\nping\n");
        assert_eq!(read_all(&exact).len(), 2);
    }
}
