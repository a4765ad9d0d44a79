//! The socket of a link: Unix or TCP, never blocking once the link is open.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::base::limits::LINK_OPEN_TIMEOUT_US;
use crate::base::readiness::Readiness;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port, usually of this host.
    Tcp(SocketAddr),
}

impl Address {
    /// Parses `unix:PATH`, `/PATH` or `HOST:PORT`; None if it is none of them, or if the host has
    /// no address. A host name is resolved.
    pub fn parse(text: &str) -> Option<Address> {
        let path = text.strip_prefix("unix:").or(text.starts_with('/').then_some(text));
        match path {
            Some("") => None,
            Some(path) => Some(Address::Unix(Path::new(path).to_owned())),
            None => text.to_socket_addrs().ok()?.next().map(Address::Tcp),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// A connected or connecting socket.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(mio::net::UnixStream),
    Tcp(mio::net::TcpStream),
}

impl Stream {
    /// Starts connecting.
    pub(super) fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Unix(path) => mio::net::UnixStream::connect(path).map(Stream::Unix),
            Address::Tcp(address) => mio::net::TcpStream::connect(*address).map(Stream::Tcp),
        }
    }

    /// Whether it is connected now.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        match self {
            Stream::Unix(_) => Ok(true),
            Stream::Tcp(stream) => {
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                match stream.peer_addr() {
                    Ok(_) => stream.set_nodelay(true).map(|()| true),
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
                    Err(error) => Err(error),
                }
            }
        }
    }

    pub(super) fn watch(&mut self, readiness: &Readiness) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => readiness.watch(stream),
            Stream::Tcp(stream) => readiness.watch(stream),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    /// Makes the kernel discard unsent data when this is dropped.
    pub(super) fn reset_when_closed(&self) {
        if let Stream::Tcp(stream) = self {
            // It fails only if the connection has ended already.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Shuts down the output; the other side still reads everything sent.
    pub(super) fn end_output(&mut self) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

/// A blocking socket, for the greeting at start.
#[derive(Debug)]
pub(super) struct Opening {
    socket: Socket,
    is_unix: bool,
}

impl Opening {
    /// Connects; each further operation takes at most [`LINK_OPEN_TIMEOUT_US`].
    pub(super) fn connect(address: &Address) -> io::Result<Opening> {
        let patience = Duration::from_micros(LINK_OPEN_TIMEOUT_US);
        let (domain, target) = match address {
            Address::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
            Address::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_write_timeout(Some(patience))?;
        socket.set_read_timeout(Some(patience))?;
        let is_unix = matches!(address, Address::Unix(_));
        if is_unix {
            socket.connect(&target)?;
        } else {
            socket.connect_timeout(&target, patience)?;
            socket.set_tcp_nodelay(true)?;
        }
        Ok(Opening { socket, is_unix })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }

    /// The same socket, non-blocking.
    pub(super) fn into_stream(self) -> io::Result<Stream> {
        self.socket.set_nonblocking(true)?;
        Ok(if self.is_unix {
            Stream::Unix(mio::net::UnixStream::from_std(self.socket.into()))
        } else {
            Stream::Tcp(mio::net::TcpStream::from_std(self.socket.into()))
        })
    }
}
