//! One connection that asks one request at a time and waits for its answer, never longer than its
//! time-out for the whole of it.

mod spelt;

pub use spelt::MetaAnswer;

use super::login::{Login, LoginAnswer};
use super::stream::{Target, Waiting};
use super::wire::answer::{Sent, answer};
use super::wire::{ClientRequest, Dialect, Item, Reply, encode, meta};
use crate::base::clock::Clock;
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

/// Bytes of garbage that are shown.
const SHOWN_BYTES: usize = 60;

/// Bytes that one read takes at most.
const READ_BYTES: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// No connection could be made.
    Connect(Target, io::Error),
    /// The connection ended, or failed, before the answer.
    Closed(Option<io::Error>),
    /// No whole answer within the time-out.
    Slow(Duration),
    /// More than this many bytes, and not yet a complete answer.
    Long(usize),
    /// The server does not know meta commands.
    NoMeta,
    /// The server does not admit this user; its words.
    Login(String),
    /// Bytes that are no answer: why, and the bytes.
    Garbage(&'static str, String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Connect(target, error) => write!(f, "cannot connect to {target}: {error}"),
            Trouble::Closed(None) => f.write_str("the server closed the connection"),
            Trouble::Closed(Some(error)) => write!(f, "the connection failed: {error}"),
            Trouble::Slow(timeout) => {
                write!(f, "no whole answer within {} s (--timeout)", timeout.as_secs_f64())
            }
            Trouble::Long(bytes) => {
                write!(f, "an answer is longer than {bytes} bytes (--answer-bytes)")
            }
            Trouble::Login(words) => {
                write!(f, "the server refuses the login (--login): '{words}'")
            }
            Trouble::NoMeta => f.write_str(meta::LACKING),
            Trouble::Garbage(why, bytes) => write!(f, "the server answers '{bytes}': {why}"),
        }
    }
}

impl Trouble {
    /// Of bytes that are no answer.
    pub fn garbage(why: &'static str, bytes: &[u8]) -> Trouble {
        let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
        Trouble::Garbage(why, shown.escape_ascii().to_string())
    }
}

/// What one request was answered.
#[derive(Debug)]
pub struct Answered<'a> {
    /// The item, of a retrieval that found one.
    pub item: Option<Item<'a>>,
    /// Its value, which stays when the next request is sent.
    pub value: Bytes,
    /// [`Reply::End`] of a retrieval.
    pub reply: Reply<'a>,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    stream: Waiting,
    dialect: Dialect,
    timeout: Duration,
    answer_bytes: usize,
    clock: Clock,
    opaque: u32,
    output: Vec<u8>,
    input: BytesMut,
    /// The last answer.
    answer: Bytes,
    /// Where a read puts what comes.
    piece: Box<[u8]>,
}

impl Client {
    /// Connects, and logs in if `login` says how. No answer may take longer than `timeout`, or have
    /// more than `answer_bytes`.
    ///
    /// # Errors
    /// [`Trouble::Connect`], [`Trouble::Login`], or no answer to the login.
    pub fn connect(
        target: &Target,
        dialect: Dialect,
        login: Option<&Login>,
        timeout: Duration,
        answer_bytes: usize,
    ) -> Result<Client, Trouble> {
        let mut stream = Waiting::connect(target, timeout)
            .map_err(|error| Trouble::Connect(target.clone(), error))?;
        if let Some(login) = login {
            log_in(login, &mut stream, dialect, timeout)?;
        }
        let clock = Clock::start();
        Ok(Client {
            stream,
            dialect,
            timeout,
            answer_bytes,
            clock,
            opaque: 0,
            output: vec![],
            input: BytesMut::new(),
            answer: Bytes::new(),
            piece: vec![0; READ_BYTES].into(),
        })
    }

    /// Sends a request and waits for the answer. After an error the connection is of no use.
    ///
    /// # Errors
    /// There is no answer.
    pub fn send(&mut self, request: &ClientRequest<'_>) -> Result<Answered<'_>, Trouble> {
        self.opaque = self.opaque.wrapping_add(1);
        let request = ClientRequest { opaque: self.opaque, ..*request };
        self.output.clear();
        self.input.clear();
        // Its memory is used again, unless somebody holds a value of it.
        self.answer = Bytes::new();
        encode(self.dialect, &request, &mut self.output);
        let deadline_ns = self.clock.read_ns() + self.timeout.as_nanos() as u64;
        self.stream.set_timeout(self.timeout).map_err(|error| self.trouble(error))?;
        let written = self.stream.write_all(&self.output);
        // A server that refuses may answer before it has taken all, and close.
        let mut failed = written.err();
        let asked =
            Sent { dialect: self.dialect, verb: request.verb, many: 0, opaque: request.opaque };
        let bytes = loop {
            match self.whole(&asked)? {
                Some(bytes) => break bytes,
                None => self.read(deadline_ns, &mut failed)?,
            }
        };
        if self.dialect == Dialect::Meta && self.input[..bytes].trim_ascii_end() == meta::UNKNOWN {
            return Err(Trouble::NoMeta);
        }
        if bytes < self.input.len() {
            return Err(Trouble::garbage("more than the answer", &self.input[bytes..]));
        }
        self.answer = self.input.split().freeze();
        let mut items = vec![];
        let read = answer(&asked, &self.answer, &mut items);
        let Ok(Some((reply, _))) = read else { unreachable!("it was whole a moment ago") };
        let item = items.pop();
        let value = item.map_or_else(Bytes::new, |item| self.answer.slice_ref(item.value));
        Ok(Answered { item, value, reply })
    }

    /// How many bytes the answer has, if it is whole.
    fn whole(&self, asked: &Sent) -> Result<Option<usize>, Trouble> {
        if self.input.is_empty() {
            return Ok(None);
        }
        match answer(asked, &self.input, &mut vec![]) {
            Ok(whole) => Ok(whole.map(|(_, bytes)| bytes)),
            Err(garbage) => Err(Trouble::garbage(garbage.0, &self.input)),
        }
    }

    /// Reads more of the answer.
    fn read(&mut self, deadline_ns: u64, failed: &mut Option<io::Error>) -> Result<(), Trouble> {
        let left_ns = deadline_ns.saturating_sub(self.clock.read_ns());
        if left_ns == 0 {
            return Err(Trouble::Slow(self.timeout));
        }
        if self.input.len() > self.answer_bytes {
            return Err(Trouble::Long(self.answer_bytes));
        }
        let result = self
            .stream
            .set_timeout(Duration::from_nanos(left_ns))
            .and_then(|()| self.stream.read(&mut self.piece));
        self.input.extend_from_slice(&self.piece[..result.as_ref().copied().unwrap_or(0)]);
        match result {
            Ok(0) => Err(failed.take().map_or(Trouble::Closed(None), |error| self.trouble(error))),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(self.trouble(error)),
        }
    }

    fn trouble(&self, error: io::Error) -> Trouble {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Trouble::Slow(self.timeout),
            _ => Trouble::Closed(Some(error)),
        }
    }
}

/// Logs in on a connection, within `timeout`.
fn log_in(
    login: &Login,
    stream: &mut Waiting,
    dialect: Dialect,
    timeout: Duration,
) -> Result<(), Trouble> {
    let clock = Clock::start();
    let limit_ns = clock.read_ns() + timeout.as_nanos() as u64;
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Trouble::Slow(timeout),
        _ => Trouble::Closed(Some(error)),
    };
    stream.set_timeout(timeout).map_err(failed)?;
    stream.write_all(&login.request(dialect)).map_err(failed)?;
    let (mut input, mut piece) = (vec![], [0; 512]);
    loop {
        match Login::answer(dialect, &input) {
            LoginAnswer::Admitted => return Ok(()),
            LoginAnswer::Refused(words) => return Err(Trouble::Login(words)),
            LoginAnswer::NeedMore => {}
        }
        let left_ns = limit_ns.saturating_sub(clock.read_ns());
        if left_ns == 0 {
            return Err(Trouble::Slow(timeout));
        }
        stream.set_timeout(Duration::from_nanos(left_ns)).map_err(failed)?;
        match stream.read(&mut piece) {
            Ok(0) => return Err(Trouble::Closed(None)),
            Ok(bytes) => input.extend_from_slice(&piece[..bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
