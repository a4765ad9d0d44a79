//! Runs one case once: sends the bytes, and reads until the server closes the connection.
//!
//! No waiting for silence: the client's FIN, sent after the sentinel, makes a correct server answer
//! everything and close. If a case splits its input, the second part is written only when the
//! server has certainly read the first.

use crate::normal::{HEADER_BYTES, normalise, sentinel_answer};
use crate::table::{CAS_BINARY, CAS_TEXT, Case, Protocol};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// A server that sends nothing for this long hangs. Reached only on a fault.
const SILENCE: Duration = Duration::from_secs(10);

/// Longer inputs are written by a separate thread, so that a server which answers before it has
/// read everything never waits for a client that does the same.
const WRITE_BYTES_MAX: usize = 16 * 1024;

/// The address of a server.
#[derive(Clone, Debug)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => write!(f, "{address}"),
            Target::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How to ensure that the first part was read before the second is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The first part follows a sentinel in one write; its answer shows that both were read. For
    /// any server that answers complete requests while the rest of a body is missing, which
    /// memcached does not.
    Prefix,
    /// Another connection to the same single thread is answered afterwards. Sends nothing on the
    /// split connection, so it can be split even after its first byte. Only for servers with one
    /// thread.
    Ping,
}

/// Why a run has no answer to compare.
#[derive(Debug)]
pub struct Stuck(String);

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Stuck {
    fn new(doing: &str, error: impl fmt::Display) -> Stuck {
        Stuck(format!("{doing}: {error}"))
    }
}

/// A client's connection, of either family.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(target: &Target) -> Result<Stream, Stuck> {
        let connect = || match target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, SILENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(SILENCE))?;
                stream.set_write_timeout(Some(SILENCE))?;
                Ok(Stream::Tcp(stream))
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(SILENCE))?;
                stream.set_write_timeout(Some(SILENCE))?;
                Ok(Stream::Unix(stream))
            }
        };
        connect().map_err(|error: std::io::Error| Stuck::new("connect", error))
    }

    /// Writes everything. If the server has closed the connection, the rest is dropped; that is a
    /// valid answer and is noticed when reading.
    fn write(&self, bytes: &[u8]) -> Result<(), Stuck> {
        let written = match self {
            Stream::Tcp(stream) => (&*stream).write_all(bytes),
            Stream::Unix(stream) => (&*stream).write_all(bytes),
        };
        match written {
            Ok(()) => Ok(()),
            Err(error) if is_closed(error.kind()) => Ok(()),
            Err(error) => Err(Stuck::new("the server does not read", error)),
        }
    }

    /// Tells the server that nothing more will be sent.
    fn finish(&self) -> Result<(), Stuck> {
        let done = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        match done {
            Ok(()) => Ok(()),
            Err(error) if is_closed(error.kind()) => Ok(()),
            Err(error) => Err(Stuck::new("shutdown", error)),
        }
    }

    /// Reads some; 0 at the end of the connection, however it was closed.
    fn read(&self, to: &mut Vec<u8>) -> Result<usize, Stuck> {
        let mut buffer = [0; 16 * 1024];
        let read = match self {
            Stream::Tcp(stream) => (&*stream).read(&mut buffer),
            Stream::Unix(stream) => (&*stream).read(&mut buffer),
        };
        match read {
            Ok(n) => {
                to.extend_from_slice(&buffer[..n]);
                Ok(n)
            }
            Err(error) if is_closed(error.kind()) => Ok(0),
            Err(error) => Err(Stuck(format!("no end after {} bytes: {error}", to.len()))),
        }
    }

    fn read_to_end(&self, to: &mut Vec<u8>) -> Result<(), Stuck> {
        while self.read(to)? > 0 {}
        Ok(())
    }

    /// Reads until `is_enough`; an error if the connection ends before.
    fn read_until(&self, to: &mut Vec<u8>, is_enough: impl Fn(&[u8]) -> bool) -> Result<(), Stuck> {
        while !is_enough(to) {
            if self.read(to)? == 0 {
                return Err(Stuck(format!(
                    "closed early, after {:?}",
                    to.escape_ascii().to_string()
                )));
            }
        }
        Ok(())
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected)
}

/// A second connection to the server: deletes all items before each run, and paces.
pub struct Control {
    target: Target,
    /// Runs so far without an answer.
    pub stuck: usize,
    /// Interval of the tried cuts of a case.
    pub every: usize,
    stream: Option<Stream>,
}

impl Control {
    pub fn new(target: Target) -> Control {
        Control { target, stuck: 0, every: 1, stream: None }
    }

    fn request(&mut self, line: &[u8], answer: &[u8]) -> Result<(), Stuck> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => Stream::connect(&self.target)?,
        };
        stream.write(line)?;
        let mut got = vec![];
        stream.read_until(&mut got, |got| got.ends_with(b"\r\n"))?;
        if !got.starts_with(answer) {
            let got = got.escape_ascii().to_string();
            return Err(Stuck::new("the control connection was answered", got));
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// Removes all items, including those that a delayed flush would remove.
    fn empty(&mut self) -> Result<(), Stuck> {
        self.request(b"flush_all\r\n", b"OK\r\n")
    }

    fn ping(&mut self) -> Result<(), Stuck> {
        self.request(b"version\r\n", b"VERSION ")
    }
}

/// Runs `case`, with its input and the sentinel split after `cut` bytes; returns the normalised
/// answer.
pub fn run(
    control: &mut Control,
    case: &Case,
    cut: Option<usize>,
    pace: Pace,
) -> Result<Vec<u8>, Stuck> {
    control.empty()?;
    let stream = Stream::connect(&control.target)?;
    let mut answer = vec![];
    if !case.setup.is_empty() {
        stream.write(&[case.setup.clone(), case.sentinel()].concat())?;
        stream.read_until(&mut answer, |got| sentinel_answer(case.protocol, got).is_some())?;
    }
    let last_cas = normalise(case.protocol, &answer).last_cas;
    let mut input = with_cas(case, last_cas.unwrap_or_default());
    if case.with_sentinel {
        input.extend(case.sentinel());
    }
    let (mut first, rest) = input.split_at(cut.unwrap_or(0).min(input.len()));
    let prefixed = [case.sentinel(), first.to_vec()].concat();
    if pace == Pace::Prefix && cut.is_some() {
        first = &prefixed;
    }
    let mut after = vec![];
    std::thread::scope(|scope| {
        let write_all = |answer: &mut Vec<u8>, control: &mut Control| {
            if cut.is_some() {
                stream.write(first)?;
                read_by_server(&stream, case, answer, control, pace)?;
            }
            Ok(())
        };
        write_all(&mut after, control)?;
        let send_rest = || stream.write(rest).and_then(|()| stream.finish());
        if rest.len() <= WRITE_BYTES_MAX {
            send_rest()?;
            return stream.read_to_end(&mut after);
        }
        let sender = scope.spawn(send_rest);
        let read = stream.read_to_end(&mut after);
        sender.join().expect("the sender does not panic")?;
        read
    })?;
    answer.extend(after);
    Ok(normalise(case.protocol, &answer).bytes)
}

/// Waits until the server has read everything written so far. With [`Pace::Prefix`] input after the
/// answer to the prefix is kept in `answer`.
fn read_by_server(
    stream: &Stream,
    case: &Case,
    answer: &mut Vec<u8>,
    control: &mut Control,
    pace: Pace,
) -> Result<(), Stuck> {
    match pace {
        // A separate thread accepts: if a later connection is answered, ours has been passed on.
        // Then one turn to read, and one in which that has certainly finished.
        Pace::Ping => {
            control.stream = None;
            (0..3).try_for_each(|_| control.ping())
        }
        Pace::Prefix => {
            let prefix_bytes = |got: &[u8]| match case.protocol {
                Protocol::Text => got.iter().position(|&byte| byte == b'\n').map(|at| at + 1),
                Protocol::Binary => (got.len() >= HEADER_BYTES).then_some(HEADER_BYTES),
            };
            stream.read_until(answer, |got| prefix_bytes(got).is_some())?;
            answer.drain(..prefix_bytes(answer).expect("it was just read"));
            Ok(())
        }
    }
}

/// The input with the cas tokens replaced.
fn with_cas(case: &Case, cas: u64) -> Vec<u8> {
    let (token, value) = match case.protocol {
        Protocol::Text => (CAS_TEXT.to_vec(), cas.to_string().into_bytes()),
        Protocol::Binary => (CAS_BINARY.to_be_bytes().to_vec(), cas.to_be_bytes().to_vec()),
    };
    let mut out = vec![];
    let mut rest = &case.input[..];
    while let Some(at) = rest.windows(token.len()).position(|window| window == token) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&value);
        rest = &rest[at + token.len()..];
    }
    out.extend_from_slice(rest);
    out
}
