//! What a server says it is, asked once before a run, on a connection of its own: here through the
//! host, by `device::version` through a device.
//!
//! It never ends a run: a server that does not say what it is is measured all the same.

use std::io::{Read, Write};
use std::time::Duration;

use bytes::Buf;

use super::plan::{Plan, ServerAddress};
use crate::base::clock::Clock;
use crate::load::login::{Login, LoginAnswer};
use crate::load::stream::{Target, Waiting};
use crate::load::wire::Dialect;

/// How long the server may take for all it is asked here.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest answer that is read, and the longest version that is shown.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const SHOWN_BYTES_MAX: usize = 80;

/// Bytes of a header of the binary protocol, its operation for the version, and what it begins
/// with in a question and in an answer.
const HEADER_BYTES: usize = 24;
const BINARY_VERSION: u8 = 0x0b;
const BINARY_REQUEST: u8 = 0x80;
const BINARY_ANSWER: u8 = 0x81;

/// The question for the version in the binary protocol.
const BINARY_QUESTION: [u8; HEADER_BYTES] = {
    let mut request = [0; HEADER_BYTES];
    (request[0], request[1]) = (BINARY_REQUEST, BINARY_VERSION);
    request
};

/// The version that the server at `address` tells; None if it does not tell within [`patience`].
pub fn fetch_version(address: &ServerAddress, plan: &Plan) -> Option<String> {
    let target = match address {
        ServerAddress::Tcp(address) => Target::Tcp(address.ip().to_string(), address.port()),
        ServerAddress::Unix(path) => Target::Unix(path.clone()),
    };
    let timeout = patience(plan.timeout);
    let (clock, mut inquiry) = (Clock::start(), Inquiry::new(plan));
    let mut stream = Waiting::connect(&target, timeout).ok()?;
    let limit_ns = clock.read_ns() + timeout.as_nanos() as u64;
    // What was received before a failure counts.
    let _ = converse(&mut stream, &mut inquiry, clock, limit_ns);
    inquiry.version()
}

/// How long a server may take that is given `timeout` for an answer.
pub fn patience(timeout: Duration) -> Duration {
    timeout.min(PATIENCE)
}

/// Asks all there is to ask, until `limit_ns`; None if it ends before.
fn converse(
    stream: &mut Waiting,
    inquiry: &mut Inquiry,
    clock: Clock,
    limit_ns: u64,
) -> Option<()> {
    let left = || limit_ns.checked_sub(clock.read_ns()).map(Duration::from_nanos);
    let mut piece = [0; 4096];
    while let Some(question) = inquiry.question() {
        stream.set_timeout(left()?).ok()?;
        stream.write_all(question).ok()?;
        let mut is_whole = false;
        while !is_whole {
            stream.set_timeout(left()?).ok()?;
            let taken = stream.read(&mut piece).ok().filter(|&taken| taken > 0)?;
            is_whole = inquiry.take(&piece[..taken]);
        }
    }
    Some(())
}

/// What may be asked.
#[derive(Clone, Copy, Debug)]
enum Question {
    /// No question: whoever is asked wants a login first.
    Login,
    Version,
    /// Where a sunder tells its own version, which its `version` does not.
    Statistics,
}

/// All that a server is asked, and what it told, whatever carries that.
#[derive(Debug)]
pub struct Inquiry {
    dialect: Dialect,
    /// What a login sends.
    login: Vec<u8>,
    /// None when there is nothing more to ask.
    question: Option<Question>,
    /// What came of the answer.
    answer: Vec<u8>,
    version: Option<String>,
}

impl Inquiry {
    /// Nothing asked yet.
    pub fn new(plan: &Plan) -> Inquiry {
        let dialect = plan.dialect;
        let login = plan.login.as_ref().map(|login| login.request(dialect));
        let question = Some(login.as_ref().map_or(Question::Version, |_| Question::Login));
        let login = login.unwrap_or_default();
        Inquiry { dialect, login, question, answer: Vec::new(), version: None }
    }

    /// What is to be sent, once; None when there is nothing more to ask.
    pub fn question(&self) -> Option<&[u8]> {
        self.question.map(|question| match (question, self.dialect) {
            (Question::Login, _) => &self.login[..],
            (Question::Version, Dialect::Binary) => &BINARY_QUESTION,
            (Question::Version, _) => b"version\r\n",
            (Question::Statistics, _) => b"stats\r\n",
        })
    }

    /// Takes what came of the answer to the question. Returns whether that is all of it, or more
    /// than is read: there may be another question now.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        let Some(question) = self.question else { return true };
        self.answer.extend_from_slice(bytes);
        let answer = &self.answer[..];
        let is_too_long = answer.len() > ANSWER_BYTES_MAX;
        let next = match (question, self.dialect) {
            (Question::Login, dialect) => match Login::answer(dialect, answer) {
                LoginAnswer::NeedMore => return false,
                LoginAnswer::Admitted => Some(Question::Version),
                // The run's own connections say so.
                LoginAnswer::Refused(_) => None,
            },
            (Question::Version, Dialect::Binary) => match binary_body(answer) {
                None if !is_too_long => return false,
                body => {
                    self.version = body.and_then(Result::ok).map(shown);
                    None
                }
            },
            (Question::Version, _) => {
                if !answer.ends_with(b"\n") && !is_too_long {
                    return false;
                }
                self.version = text_version(answer).filter(|_| !is_too_long).map(shown);
                self.version.as_ref().map(|_| Question::Statistics)
            }
            (Question::Statistics, _) => {
                let is_end = answer.ends_with(b"END\r\n") || answer.ends_with(b"ERROR\r\n");
                if !is_end && !is_too_long {
                    return false;
                }
                if let (Some(version), Some(own)) = (&mut self.version, own_version(answer)) {
                    *version += &format!(", sunder {}", shown(own));
                }
                None
            }
        };
        self.question = next;
        self.answer.clear();
        true
    }

    /// What it told: the version, with sunder's own behind it if it is one.
    pub fn version(self) -> Option<String> {
        self.version
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
    let (mut header, body) = answer.split_at_checked(HEADER_BYTES)?;
    let (magic, opcode) = (header.get_u8(), header.get_u8());
    // Lengths of key and extras, and the type of the data.
    header.advance(4);
    let (status, bytes) = (header.get_u16(), header.get_u32() as usize);
    let is_answer = (magic, opcode, status) == (BINARY_ANSWER, BINARY_VERSION, 0);
    if !is_answer || bytes == 0 || bytes > ANSWER_BYTES_MAX {
        return Some(Err(()));
    }
    body.get(..bytes).map(Ok)
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

    /// What a server tells of itself, a byte at a time, and how often it was asked.
    fn told(dialect: Dialect, answers: &[&[u8]]) -> (Option<String>, usize) {
        told_to(None, dialect, answers)
    }

    fn told_to(user: Option<&str>, dialect: Dialect, answers: &[&[u8]]) -> (Option<String>, usize) {
        let mut plan = Plan::new(Target::Tcp("127.0.0.1".to_owned(), 11211));
        plan.dialect = dialect;
        plan.login = user.and_then(Login::parse);
        let mut inquiry = Inquiry::new(&plan);
        let mut asked = 0;
        while inquiry.question().is_some() {
            let answer = answers[asked];
            let at = (0..answer.len()).find(|&at| inquiry.take(&answer[at..=at]));
            if at.is_none() {
                break;
            }
            asked += 1;
        }
        (inquiry.version(), asked)
    }

    #[test]
    fn a_server_is_asked_until_it_has_told_or_will_not() {
        let version = &b"VERSION 1.6.9\r\n"[..];
        let own = &b"STAT pid 1\r\nSTAT sunder_version 0.1.0\r\nEND\r\n"[..];
        let both = Some("1.6.9, sunder 0.1.0".to_owned());
        let plain = Some("1.6.9".to_owned());
        assert_eq!(told(Dialect::Text, &[version, own]), (both.clone(), 2));
        assert_eq!(told(Dialect::Meta, &[version, own]), (both, 2));
        assert_eq!(told(Dialect::Text, &[version, b"ERROR\r\n"]), (plain.clone(), 2));
        // It does not finish, or never stops.
        assert_eq!(told(Dialect::Text, &[version, b"STAT pid"]), (plain.clone(), 1));
        let endless = vec![b'x'; ANSWER_BYTES_MAX + 1];
        assert_eq!(told(Dialect::Text, &[version, &endless]), (plain.clone(), 2));
        assert_eq!(told(Dialect::Text, &[&endless]), (None, 1));
        assert_eq!(told(Dialect::Text, &[b"ERROR\r\n"]), (None, 1));
        let mut binary = [0; HEADER_BYTES].to_vec();
        (binary[0], binary[1], binary[11]) = (BINARY_ANSWER, BINARY_VERSION, 5);
        binary.extend_from_slice(b"1.6.9");
        assert_eq!(told(Dialect::Binary, &[&binary]), (plain.clone(), 1));
        // A server that wants a login is asked behind it.
        let user = Some("alice:secret");
        let answers = [&b"STORED\r\n"[..], version, b"ERROR\r\n"];
        assert_eq!(told_to(user, Dialect::Text, &answers), (plain.clone(), 3));
        let mut admitted = [0; HEADER_BYTES];
        admitted[..2].copy_from_slice(&[BINARY_ANSWER, 0x21]);
        assert_eq!(told_to(user, Dialect::Binary, &[&admitted, &binary]), (plain, 2));
        let refusal = &b"CLIENT_ERROR authentication failure\r\n"[..];
        assert_eq!(told_to(user, Dialect::Text, &[refusal]), (None, 1));
        assert_eq!(told(Dialect::Binary, &[&[b'E'; HEADER_BYTES]]), (None, 1));
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
