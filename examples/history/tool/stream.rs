//! A connection's socket: TCP or Unix, never waiting; and one that waits, to prepare a run.

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::ToSocketAddrs;
use std::time::Duration;

/// See the module.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Begins to connect to HOST:PORT or unix:PATH. The first write tells whether it worked.
    pub fn connect(address: &str) -> io::Result<Stream> {
        if let Some(path) = address.strip_prefix("unix:") {
            return UnixStream::connect(path).map(Stream::Unix);
        }
        let resolved = address.to_socket_addrs()?.next();
        let resolved = resolved.ok_or_else(|| io::Error::other("no such address"))?;
        TcpStream::connect(resolved).map(Stream::Tcp)
    }

    /// Tells the poll of all events under this token.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Stream::Tcp(stream) => stream.register(registry, token, both),
            Stream::Unix(stream) => stream.register(registry, token, both),
        }
    }

    /// Whether it is connected; an error if it never will be.
    pub fn is_connected(&self) -> io::Result<bool> {
        let (error, peer) = match self {
            Stream::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
            Stream::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
        };
        if let Some(error) = error {
            return Err(error);
        }
        match peer {
            Ok(()) => {
                if let Stream::Tcp(stream) = self {
                    stream.set_nodelay(true)?;
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }
}

/// Deletes keys, one after another, over a connection that waits.
///
/// # Errors
/// The server cannot be reached, or gives another answer than that the key is gone.
pub fn delete_keys(address: &str, names: &[String], silence: Duration) -> io::Result<()> {
    if let Some(path) = address.strip_prefix("unix:") {
        let stream = std::os::unix::net::UnixStream::connect(path)?;
        stream.set_read_timeout(Some(silence))?;
        return delete_over(stream, names);
    }
    let stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(silence))?;
    delete_over(stream, names)
}

fn delete_over(stream: impl Read + Write, names: &[String]) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    for name in names {
        stream.get_mut().write_all(format!("delete {name}\r\n").as_bytes())?;
        line.clear();
        stream.read_line(&mut line)?;
        if !["DELETED\r\n", "NOT_FOUND\r\n"].contains(&&line[..]) {
            return Err(io::Error::other(format!("delete {name}: '{}'", line.escape_debug())));
        }
    }
    Ok(())
}
