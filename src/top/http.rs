//! A GET over HTTP, with a limit to its time and to the answer's length. It follows nothing and
//! keeps no connection.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::base::clock::Clock;

/// Longest time for all of it, in seconds.
const SECONDS_MAX: u64 = 5;

/// Longest answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why there is no answer, for a line that begins with the address.
#[derive(Debug)]
pub enum Failure {
    /// The name has no address.
    Name(io::Error),
    /// Nobody accepts there.
    Connect(io::Error),
    /// The answer broke off, or took too long.
    Broken(io::Error),
    /// What answers does not speak HTTP, or not as sunder does.
    Foreign(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_late =
            |error: &io::Error| matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock);
        match self {
            Failure::Name(error) => write!(f, "no address of that name: {error}"),
            Failure::Connect(error) if error.kind() == ErrorKind::ConnectionRefused => {
                f.write_str("nothing listens there; the server needs --admin with that address")
            }
            Failure::Connect(error) | Failure::Broken(error) if is_late(error) => {
                write!(f, "no answer within {SECONDS_MAX} s")
            }
            Failure::Connect(error) => write!(f, "cannot connect: {error}"),
            Failure::Broken(error) => write!(f, "the answer broke off: {error}"),
            Failure::Foreign(what) => {
                write!(f, "not the admin address of a sunder: it answered {what}")
            }
        }
    }
}

/// The body of what `address`, HOST:PORT, answers to a request for `path`.
///
/// # Errors
/// There is none, or not with status 200.
pub fn get(address: &str, path: &str) -> Result<Vec<u8>, Failure> {
    let clock = Clock::start();
    let left = || {
        let left_us = (SECONDS_MAX * 1_000_000).saturating_sub(clock.read().uptime_us);
        match left_us {
            0 => Err(io::Error::from(ErrorKind::TimedOut)),
            us => Ok(Duration::from_micros(us)),
        }
    };
    let mut stream = connect(address, &left)?;
    let peer = stream.peer_addr().map_err(Failure::Broken)?;
    // The address, not the name: on loopback sunder answers to no other.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {peer}\r\nConnection: close\r\n\r\n");
    let answer = exchange(&mut stream, request.as_bytes(), &left).map_err(Failure::Broken)?;
    body_of(answer)
}

fn connect(address: &str, left: &dyn Fn() -> io::Result<Duration>) -> Result<TcpStream, Failure> {
    let all: Vec<SocketAddr> = address.to_socket_addrs().map_err(Failure::Name)?.collect();
    let mut last = io::Error::from(ErrorKind::NotFound);
    for one in all {
        match left().and_then(|left| TcpStream::connect_timeout(&one, left)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(Failure::Connect(last))
}

fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    left: &dyn Fn() -> io::Result<Duration>,
) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 * 1024];
    while answer.len() < ANSWER_BYTES_MAX {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(ErrorKind::InvalidData, "it is too long"))
}

/// The body behind the head, if that says that all is well and how long it is.
fn body_of(mut answer: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let foreign = |what: &str| Failure::Foreign(what.to_owned());
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end.filter(|_| answer.starts_with(b"HTTP/1.")) else {
        return Err(foreign(if answer.is_empty() { "nothing" } else { "something else" }));
    };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    if status != "200" {
        let status: String = status.chars().filter(char::is_ascii_digit).take(3).collect();
        return Err(foreign(&format!("with status {status}")));
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_it = name.eq_ignore_ascii_case("content-length");
        is_it.then(|| value.trim().parse::<usize>().ok())?
    });
    let Some(length) = length else { return Err(foreign("without a length")) };
    answer.drain(..end + 4);
    if answer.len() < length {
        return Err(Failure::Broken(ErrorKind::UnexpectedEof.into()));
    }
    answer.truncate(length);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(answer: &[u8]) -> String {
        match body_of(answer.to_vec()) {
            Ok(body) => String::from_utf8(body).expect("text"),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn a_body_is_taken_only_whole_and_from_a_success() {
        assert_eq!(told(b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 2\r\n\r\n{}more"), "{}");
        for (answer, expected) in [
            (&b""[..], "it answered nothing"),
            (b"ERROR\r\n", "it answered something else"),
            (b"ERROR\r\n\r\n", "it answered something else"),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", "it answered with status 404"),
            (b"HTTP/1.1\r\n\r\n", "it answered with status "),
            (b"HTTP/1.1 200 OK\r\n\r\n{}", "it answered without a length"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", "it answered without a length"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", "the answer broke off"),
        ] {
            let told = told(answer);
            assert!(told.contains(expected), "{answer:?}: {told}");
            assert!(!told.contains('\n'));
        }
    }
}
