//! The stream of a link: a Unix or TCP socket, or rings in shared memory. It never blocks once the
//! link is open.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::base::limits::LINK_OPEN_TIMEOUT_US;
use crate::base::readiness::Readiness;
use crate::tier::shm::{Client, Name};

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port, usually of this host.
    Tcp(SocketAddr),
    /// Rings in shared memory, of the daemon with this name.
    Shm(Name),
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

    /// What listens there; `otherwise` unless the address says.
    pub(super) fn server_name(&self, otherwise: &'static str) -> &'static str {
        if matches!(self, Address::Shm(_)) { "sunder l1d" } else { otherwise }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Shm(name) => write!(f, "shm:{name}"),
        }
    }
}

/// A connected or connecting socket.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(mio::net::UnixStream),
    Tcp(mio::net::TcpStream),
    Shm(Box<Client>),
}

impl Stream {
    /// Starts connecting.
    pub(super) fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Unix(path) => mio::net::UnixStream::connect(path).map(Stream::Unix),
            Address::Tcp(address) => mio::net::TcpStream::connect(*address).map(Stream::Tcp),
            Address::Shm(name) => Client::connect(name).map(|it| Stream::Shm(Box::new(it))),
        }
    }

    /// Whether it is connected now; `readiness` is what [`Stream::watch`] was given.
    pub(super) fn is_connected(&mut self, readiness: &Readiness) -> io::Result<bool> {
        match self {
            Stream::Unix(_) => Ok(true),
            Stream::Shm(client) => {
                let is_attached = client.is_attached()?;
                if is_attached {
                    // Its doorbell did not exist before.
                    readiness.watch(&mut **client)?;
                }
                Ok(is_attached)
            }
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
            Stream::Shm(client) => readiness.watch(&mut **client),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8], now_us: u64) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Shm(client) => client.read(buffer, now_us),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], now_us: u64) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Shm(client) => client.write(bytes, now_us),
        }
    }

    /// Whether the worker may sleep until its epoll set wakes it; it waits for answers if
    /// `is_expecting`, and for room if `is_blocked`. A socket always wakes it.
    pub(super) fn may_sleep(&mut self, is_expecting: bool, is_blocked: bool, now_us: u64) -> bool {
        match self {
            Stream::Unix(_) | Stream::Tcp(_) => true,
            Stream::Shm(client) => client.may_sleep(is_expecting, is_blocked, now_us),
        }
    }

    /// The worker is awake.
    #[inline]
    pub(super) fn rise(&mut self) {
        if let Stream::Shm(client) = self {
            client.rise();
        }
    }

    /// Makes the kernel discard unsent data when this is dropped.
    pub(super) fn reset_when_closed(&self) {
        if let Stream::Tcp(stream) = self {
            // It fails only if the connection has ended already.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Identifies the store behind it, if that is known: with another number it began empty.
    pub(super) fn generation(&self) -> Option<u64> {
        match self {
            Stream::Unix(_) | Stream::Tcp(_) => None,
            Stream::Shm(client) => client.generation(),
        }
    }

    /// Whether the server drops what is left of this stream before it accepts another.
    pub(super) fn is_dropped_before_the_next(&self) -> bool {
        matches!(self, Stream::Shm(_))
    }

    /// Shuts down the output; the other side still reads everything sent.
    pub(super) fn end_output(&mut self) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Shm(client) => client.finish(),
        }
    }
}

/// A blocking stream, for the greeting at start.
#[derive(Debug)]
pub(super) enum Opening {
    Unix(Socket),
    Tcp(Socket),
    Shm(Box<Client>),
}

impl Opening {
    /// Connects; each further operation takes at most [`LINK_OPEN_TIMEOUT_US`].
    pub(super) fn connect(address: &Address) -> io::Result<Opening> {
        let patience = Duration::from_micros(LINK_OPEN_TIMEOUT_US);
        let open = |domain| -> io::Result<Socket> {
            let socket = Socket::new(domain, Type::STREAM, None)?;
            socket.set_write_timeout(Some(patience))?;
            socket.set_read_timeout(Some(patience))?;
            Ok(socket)
        };
        match address {
            Address::Unix(path) => {
                let socket = open(Domain::UNIX)?;
                socket.connect(&SockAddr::unix(path)?)?;
                Ok(Opening::Unix(socket))
            }
            Address::Tcp(address) => {
                let socket = open(Domain::for_address(*address))?;
                socket.connect_timeout(&SockAddr::from(*address), patience)?;
                socket.set_tcp_nodelay(true)?;
                Ok(Opening::Tcp(socket))
            }
            Address::Shm(name) => Ok(Opening::Shm(Box::new(Client::open(name)?))),
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Opening::Unix(socket) | Opening::Tcp(socket) => socket.write_all(bytes),
            // New rings are empty, and longer than a greeting.
            Opening::Shm(client) => client.write(bytes, 0).map(|_| ()),
        }
    }

    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let client = match self {
            Opening::Unix(socket) | Opening::Tcp(socket) => return socket.read(buffer),
            Opening::Shm(client) => client,
        };
        // The look at its end is due each time.
        match client.read(buffer, u64::MAX / 2) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        client.wait(LINK_OPEN_TIMEOUT_US)?;
        client.read(buffer, u64::MAX / 2)
    }

    /// The same stream, non-blocking.
    pub(super) fn into_stream(self) -> io::Result<Stream> {
        match self {
            Opening::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Ok(Stream::Unix(mio::net::UnixStream::from_std(socket.into())))
            }
            Opening::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Ok(Stream::Tcp(mio::net::TcpStream::from_std(socket.into())))
            }
            Opening::Shm(client) => Ok(Stream::Shm(client)),
        }
    }
}
