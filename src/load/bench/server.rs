//! What a server says it is, asked once before a run, on a connection of its own.
//!
//! It never ends a run: a server that does not say what it is is measured all the same.

use std::io::{Read, Write};
use std::time::Duration;

use super::plan::Place;
use crate::clock::Clock;
use crate::load::stream::{Target, Waiting};
use crate::load::wire::Dialect;

/// How long the server may take for all it is asked here.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest answer that is read, and the longest version that is shown.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const SHOWN_BYTES_MAX: usize = 80;

/// Bytes of a header of the binary protocol, its operation for the version, and what it begins
/// with in an answer.
const HEADER_BYTES: usize = 24;
const BINARY_VERSION: u8 = 0x0b;
const BINARY_ANSWER: u8 = 0x81;

/// The version that the server at `place` tells, with sunder's own behind it if it is one; None if
/// it does not tell within the shorter of `timeout` and a moment.
pub fn ask(place: &Place, dialect: Dialect, timeout: Duration) -> Option<String> {
    let target = match place {
        Place::Tcp(address) => Target::Tcp(address.ip().to_string(), address.port()),
        Place::Unix(path) => Target::Unix(path.clone()),
    };
    let timeout = timeout.min(PATIENCE);
    let mut line = Line { stream: Waiting::connect(&target, timeout).ok()?, clock: Clock::start() };
    let limit_ns = line.clock.read_ns() + timeout.as_nanos() as u64;
    if dialect == Dialect::Binary {
        let mut request = [0; HEADER_BYTES];
        request[..2].copy_from_slice(&[0x80, BINARY_VERSION]);
        let answer = line.ask(&request, limit_ns, |answer| binary_body(answer).is_some())?;
        return binary_body(&answer)?.ok().map(shown);
    }
    let answer = line.ask(b"version\r\n", limit_ns, |answer| answer.ends_with(b"\n"))?;
    let version = shown(text_version(&answer)?);
    let is_end = |answer: &[u8]| answer.ends_with(b"END\r\n") || answer.ends_with(b"ERROR\r\n");
    let own = line.ask(b"stats\r\n", limit_ns, is_end);
    Some(match own.as_deref().and_then(own_version) {
        Some(own) => format!("{version}, sunder {}", shown(own)),
        None => version,
    })
}

struct Line {
    stream: Waiting,
    clock: Clock,
}

impl Line {
    /// Asks, and reads until the answer `is_whole`; None if that does not happen in time.
    fn ask(
        &mut self,
        request: &[u8],
        limit_ns: u64,
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        let left = |clock: Clock| limit_ns.checked_sub(clock.read_ns()).map(Duration::from_nanos);
        self.stream.set_timeout(left(self.clock)?).ok()?;
        self.stream.write_all(request).ok()?;
        while !is_whole(&answer) {
            self.stream.set_timeout(left(self.clock)?).ok()?;
            let taken = self.stream.read(&mut piece).ok().filter(|&taken| taken > 0)?;
            answer.extend_from_slice(&piece[..taken]);
            if answer.len() > ANSWER_BYTES_MAX {
                return None;
            }
        }
        Some(answer)
    }
}

/// What a line of text tells.
fn text_version(answer: &[u8]) -> Option<&[u8]> {
    answer.strip_prefix(b"VERSION ").map(<[u8]>::trim_ascii).filter(|version| !version.is_empty())
}

/// sunder's own version, if `stats` tells one.
fn own_version(stats: &[u8]) -> Option<&[u8]> {
    let mut lines = stats.split(|&byte| byte == b'\n');
    lines.find_map(|line| line.strip_prefix(b"STAT sunder_version ")).map(<[u8]>::trim_ascii)
}

/// What a binary answer tells, once it is whole: Err if it is none.
fn binary_body(answer: &[u8]) -> Option<Result<&[u8], ()>> {
    let header = answer.get(..HEADER_BYTES)?;
    let is_answer = header[..2] == [BINARY_ANSWER, BINARY_VERSION] && header[6..8] == [0, 0];
    let bytes = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    if !is_answer || bytes == 0 || bytes > ANSWER_BYTES_MAX {
        return Some(Err(()));
    }
    answer[HEADER_BYTES..].get(..bytes).map(Ok)
}

/// A server's bytes as short plain text.
fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_nothing_else_is_taken_for_one() {
        assert_eq!(text_version(b"VERSION 1.6.18\r\n"), Some(&b"1.6.18"[..]));
        for not in [&b"VERSION \r\n"[..], b"ERROR\r\n", b"END\r\n", b"<html>\n"] {
            assert_eq!(text_version(not), None);
        }
        let stats = b"STAT version 1.6.9\r\nSTAT sunder_version 0.1.0\r\nEND\r\n";
        assert_eq!(own_version(stats), Some(&b"0.1.0"[..]));
        assert_eq!(own_version(b"STAT version 1.6.9\r\nEND\r\n"), None);
        assert_eq!(shown(b"1.6\x1b[31m"), "1.6\\x1b[31m");
        assert_eq!(shown(&[b'x'; 500]).len(), SHOWN_BYTES_MAX);
    }

    #[test]
    fn a_binary_answer_is_bounded_and_whole() {
        let mut answer = vec![0; HEADER_BYTES];
        answer[..2].copy_from_slice(&[BINARY_ANSWER, BINARY_VERSION]);
        answer[11] = 3;
        answer.extend_from_slice(b"1.");
        assert_eq!(binary_body(&answer[..9]), None);
        assert_eq!(binary_body(&answer), None);
        answer.push(b'6');
        assert_eq!(binary_body(&answer), Some(Ok(&b"1.6"[..])));
        answer[8] = 0xff;
        assert_eq!(binary_body(&answer), Some(Err(())));
        assert_eq!(binary_body(&[b'E'; HEADER_BYTES]), Some(Err(())));
    }
}
