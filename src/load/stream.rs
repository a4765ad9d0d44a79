//! Where the server is, and a socket to it: TCP or Unix, one that waits or one that never does.

use mio::event::Source;
use mio::{Interest, Registry, Token};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// Where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A host, by name or address, and a port.
    Tcp(String, u16),
    /// A path.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Target::Tcp(host, port) => write!(f, "{host}:{port}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Target {
    /// Reads `HOST:PORT` or `unix:PATH`.
    #[cfg(feature = "internals")]
    pub fn parse(text: &str) -> Option<Target> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Target::Unix(path.into()));
        }
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|&port| port > 0)?;
        (!host.is_empty()).then(|| Target::Tcp(host.to_owned(), port))
    }

    fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
        let mut addresses = (host, port).to_socket_addrs()?;
        addresses.next().ok_or_else(|| io::Error::other("no such address"))
    }
}

/// A socket that waits, each time at most so long.
#[derive(Debug)]
pub enum Waiting {
    /// A TCP connection.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Waiting {
    /// Connects within `timeout`.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn connect(target: &Target, timeout: Duration) -> io::Result<Waiting> {
        match target {
            Target::Tcp(host, port) => {
                let address = Target::resolve(host, *port)?;
                let stream = std::net::TcpStream::connect_timeout(&address, timeout)?;
                stream.set_nodelay(true)?;
                Ok(Waiting::Tcp(stream))
            }
            Target::Unix(path) => std::os::unix::net::UnixStream::connect(path).map(Waiting::Unix),
        }
    }

    /// Lets the next reads and writes wait so long at most.
    ///
    /// # Errors
    /// The socket's.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match self {
            Waiting::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
            Waiting::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
        }
    }
}

impl Read for Waiting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Waiting::Tcp(stream) => stream.read(buffer),
            Waiting::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Waiting::Tcp(stream) => stream.write(bytes),
            Waiting::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that never waits.
#[derive(Debug)]
pub enum Stream {
    /// A TCP connection.
    Tcp(mio::net::TcpStream),
    /// A Unix socket.
    Unix(mio::net::UnixStream),
}

impl Stream {
    /// Begins to connect. [`Stream::is_connected`] tells whether it worked.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn connect(target: &Target) -> io::Result<Stream> {
        match target {
            Target::Tcp(host, port) => {
                mio::net::TcpStream::connect(Target::resolve(host, *port)?).map(Stream::Tcp)
            }
            Target::Unix(path) => mio::net::UnixStream::connect(path).map(Stream::Unix),
        }
    }

    /// Tells the poll of all events under this token.
    ///
    /// # Errors
    /// The poll's.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Stream::Tcp(stream) => stream.register(registry, token, both),
            Stream::Unix(stream) => stream.register(registry, token, both),
        }
    }

    /// Whether it is connected by now.
    ///
    /// # Errors
    /// It never will be.
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

    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// `WouldBlock`: there is none.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }
}
