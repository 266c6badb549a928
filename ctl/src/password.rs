//! Passwords from a terminal, without showing them.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::Error;
use crate::flags::NewPassword;

/// What Ctrl-C, Ctrl-D, Ctrl-U and the two keys for going back send.
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const KILL: u8 = 0x15;
const BACKSPACE: [u8; 2] = [0x08, 0x7f];

/// A terminal that shows nothing and interprets nothing, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> Result<Self, Error> {
        let before = tcgetattr(io::stdin()).map_err(io::Error::from)?;
        let mut quiet = before.clone();
        // With signals on, Ctrl-C would leave the terminal mute.
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet).map_err(io::Error::from)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that has gone needs no settings.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Asks the person at the terminal.
pub(crate) fn ask(question: &str) -> Result<String, Error> {
    let mut screen = io::stderr().lock();
    // Before the question: whoever sees it may type at once.
    let quiet = Quiet::begin()?;
    write!(screen, "{question}")?;
    screen.flush()?;
    let line = read_line(io::stdin().lock().bytes());
    drop(quiet);
    writeln!(screen)?;
    line
}

fn read_line(keys: impl Iterator<Item = io::Result<u8>>) -> Result<String, Error> {
    let interrupted = || Error::Here("interrupted".to_owned());
    let mut line = Vec::new();
    for key in keys {
        match key? {
            b'\n' | b'\r' => break,
            INTERRUPT => return Err(interrupted()),
            END if line.is_empty() => return Err(interrupted()),
            KILL => line.clear(),
            key if BACKSPACE.contains(&key) => {
                // A character may be several bytes, all but the first of which look like this.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            key => line.push(key),
        }
    }
    String::from_utf8(line).map_err(|_| Error::Here("the password is no UTF-8".to_owned()))
}

/// The password that a user is to get: as given, or asked for twice.
pub(crate) fn new_password(given: &NewPassword, user: &str) -> Result<String, Error> {
    if let Some(password) = &given.new_password {
        return Ok(password.clone());
    }
    if given.new_password_stdin {
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        return match line.trim_end_matches(['\r', '\n']) {
            "" => Err(Error::Usage("no password on standard input".to_owned())),
            password => Ok(password.to_owned()),
        };
    }
    if !io::stdin().is_terminal() {
        let message = "a new password is needed: use --new-password-stdin where there is no terminal";
        return Err(Error::Usage(message.to_owned()));
    }
    let password = ask(&format!("New password of {user}: "))?;
    if ask("The same again: ")? == password {
        Ok(password)
    } else {
        Err(Error::Here("the two passwords differ".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> Result<String, Error> {
        read_line(keys.iter().map(|key| Ok(*key)))
    }

    #[test]
    fn keys_make_a_line() {
        assert_eq!(typed(b"secret\nmore").unwrap(), "secret");
        assert_eq!(typed("ab\u{e9}\u{7f}c\n".as_bytes()).unwrap(), "abc");
        assert_eq!(typed(b"wrong\x15right\n").unwrap(), "right");
        assert_eq!(typed(b"\x7f\n").unwrap(), "");
        assert!(typed(b"sec\x03").is_err());
        assert!(typed(b"\x04").is_err());
    }
}
