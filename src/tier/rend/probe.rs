//! Determines at start what a server behind this tier supports, on separate connections.
//!
//! A Rend closes the connection on unknown commands, and Rend-based servers interpret exptimes
//! differently, so a server is probed once, before anything depends on it. This does not run on a
//! worker: it blocks. It must leave nothing behind: it deletes what it stores.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::binary::{BinaryRequest, Exptimes, head};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::{LINK_OPEN_TIMEOUT_US, PROBE_REPLY_BYTES_MAX};
use crate::base::secret;
use crate::tier::link::{Address, Garbage, Head, Status};
use crate::tier::{Arithmetic, StoreMode};

/// What a server supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// All of memcached's binary protocol, and GETE: another sunder.
    Whole,
    /// What Rend supports, and no more: no cas, no arithmetic, no flush_all.
    Rend(Exptimes),
}

/// Why a server cannot be used for this tier.
#[derive(Debug)]
pub enum ProbeError {
    /// It is unreachable, closed the connection, or does not answer.
    Lost(io::Error),
    /// Its first answer is not in the binary protocol.
    NotBinary,
    /// It does not know GETE.
    NoGete,
    /// It does not keep a stored item.
    NotStored,
    /// Its GETE does not return an expiry.
    NoExpiry,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::Lost(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    write!(f, "no server listens there")
                }
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    write!(f, "it does not answer")
                }
                _ => write!(f, "no answer: {error}"),
            },
            ProbeError::NotBinary => write!(f, "it does not speak memcached's binary protocol"),
            ProbeError::NoGete => {
                write!(f, "it does not know GETE, Rend's extension; for a memcached use ")?;
                write!(f, "memcached,addr=.. instead")
            }
            ProbeError::NotStored => write!(f, "it does not keep stored items"),
            ProbeError::NoExpiry => write!(f, "its GETE does not return when an item expires"),
        }
    }
}

impl std::error::Error for ProbeError {}

impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> ProbeError {
        ProbeError::Lost(error)
    }
}

/// The expiry used for the probe: beyond memcached's 30 days, where servers differ.
const FAR_S: u32 = 60 * 24 * 60 * 60;

/// Two clocks on one host, plus the time that the requests take, differ by less than this.
const SLACK_S: u32 = 60 * 60;

/// Probes the server that `connect` connects to. Its streams have time-outs.
///
/// # Errors
/// It is not a server for this tier, or does not answer.
pub fn probe<S: Read + Write>(
    mut connect: impl FnMut() -> io::Result<S>,
    now: Now,
) -> Result<Server, ProbeError> {
    // Shorter than a header: see `try_gete`.
    let key = format!("sunder-{:016x}", u64::from_be_bytes(secret::random()));
    let mut talk = Talk { stream: connect()?, asked: 0, answered: 0, received: Vec::new() };
    match talk.request(&BinaryRequest::version(), b"") {
        Ok(head) if head.status == Status::Value => {}
        Ok(_) | Err(Fault::Garbage) => return Err(ProbeError::NotBinary),
        Err(Fault::Io(error)) => return Err(ProbeError::Lost(error)),
    }
    talk.try_gete(key.as_bytes())?;
    let (exptimes, has_cas) = talk.try_expiry(key.as_bytes(), now)?;
    if exptimes == Exptimes::Memcached && has_cas && can_count(connect()?, key.as_bytes(), now)? {
        return Ok(Server::Whole);
    }
    Ok(Server::Rend(exptimes))
}

/// Connects to a server, with a time-out of a second for each answer.
///
/// # Errors
/// The kernel's.
pub fn connect(address: &Address) -> io::Result<Socket> {
    let patience = Duration::from_micros(LINK_OPEN_TIMEOUT_US);
    let (domain, target) = match address {
        Address::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        Address::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        // What is reached through rings is known.
        Address::Shm(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    match address {
        Address::Unix(_) | Address::Shm(_) => socket.connect(&target)?,
        Address::Tcp(_) => socket.connect_timeout(&target, patience)?,
    }
    Ok(socket)
}

/// Whether the server knows incr. It may close the connection.
fn can_count<S: Read + Write>(stream: S, key: &[u8], now: Now) -> Result<bool, ProbeError> {
    let nothing = Arithmetic { decrement: false, delta: 0, initial: None, cas: 0 };
    let mut talk = Talk { stream, asked: 0, answered: 0, received: Vec::new() };
    match talk.request(&BinaryRequest::arithmetic(key, nothing, now), b"") {
        Ok(head) => Ok(head.status == Status::Miss),
        Err(Fault::Garbage) => Ok(false),
        Err(Fault::Io(error)) if hung_up(&error) => Ok(false),
        Err(Fault::Io(error)) => Err(ProbeError::Lost(error)),
    }
}

fn hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// Why a request has no answer.
enum Fault {
    Garbage,
    Io(io::Error),
}

impl From<Fault> for ProbeError {
    fn from(fault: Fault) -> ProbeError {
        match fault {
            Fault::Garbage => ProbeError::NotBinary,
            Fault::Io(error) => ProbeError::Lost(error),
        }
    }
}

/// A connection on which answers are in the order of their requests.
struct Talk<S> {
    stream: S,
    /// Requests sent; also the opaque of the last.
    asked: u32,
    answered: u32,
    /// Input after the last answer.
    received: Vec<u8>,
}

impl<S: Read + Write> Talk<S> {
    /// Requests a missing item with its expiry. memcached does not send its answer to an unknown
    /// command before it has read the length of its body once again, so bytes of that length
    /// follow.
    fn try_gete(&mut self, key: &[u8]) -> Result<(), ProbeError> {
        let asked = self
            .send(&BinaryRequest::get_with_expiry(key), b"")
            .and_then(|()| self.send(&BinaryRequest::noop(), b""))
            .and_then(|()| self.receive());
        match asked {
            Ok(head) if head.status == Status::Miss => {}
            Ok(_) | Err(Fault::Garbage) => return Err(ProbeError::NoGete),
            // So does a Rend that is older than GETE.
            Err(Fault::Io(error)) if hung_up(&error) => return Err(ProbeError::NoGete),
            Err(Fault::Io(error)) => return Err(ProbeError::Lost(error)),
        }
        self.receive()?;
        Ok(())
    }

    /// Stores an item that expires beyond 30 days and checks its expiry. Also returns whether items
    /// have a cas.
    fn try_expiry(&mut self, key: &[u8], now: Now) -> Result<(Exptimes, bool), ProbeError> {
        let far_unix_s = now.unix_s.saturating_add(FAR_S);
        let store = BinaryRequest::store(StoreMode::Set, key, 0, far_unix_s, 0, 1);
        let stored = self.request(&store, b"?")?;
        let found = self.request(&BinaryRequest::get_with_expiry(key), b"")?;
        self.request(&BinaryRequest::delete(key, 0), b"")?;
        if stored.status != Status::Done || found.status != Status::Value {
            return Err(ProbeError::NotStored);
        }
        let is_about = |unix_s: u32| found.expiry.unix_s().abs_diff(unix_s) < SLACK_S;
        let exptimes = if found.expiry == Expiry::from_unix_s(far_unix_s) {
            Exptimes::Memcached
        } else if is_about(now.unix_s.wrapping_add(far_unix_s)) {
            Exptimes::Distances
        } else {
            return Err(ProbeError::NoExpiry);
        };
        Ok((exptimes, stored.cas != 0))
    }

    fn request(&mut self, request: &BinaryRequest<'_>, value: &[u8]) -> Result<Head, Fault> {
        self.send(request, value)?;
        self.receive()
    }

    fn send(&mut self, request: &BinaryRequest<'_>, value: &[u8]) -> Result<(), Fault> {
        self.asked += 1;
        let mut bytes = request.head(self.asked).to_vec();
        bytes.extend(value);
        self.stream.write_all(&bytes).map_err(Fault::Io)
    }

    /// The next answer; its value is discarded.
    fn receive(&mut self) -> Result<Head, Fault> {
        self.answered += 1;
        loop {
            if let Some((head, consumed)) =
                head(&self.received).map_err(|Garbage| Fault::Garbage)?
            {
                let is_other = head.opaque.is_some_and(|opaque| opaque != self.answered);
                if is_other || head.value_bytes > PROBE_REPLY_BYTES_MAX {
                    return Err(Fault::Garbage);
                }
                let reply_bytes = consumed + head.value_bytes;
                if self.received.len() >= reply_bytes {
                    self.received.drain(..reply_bytes);
                    return Ok(head);
                }
            }
            let mut more = [0; 1024];
            match self.stream.read(&mut more) {
                Ok(0) => return Err(Fault::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => self.received.extend(&more[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
    }
}
