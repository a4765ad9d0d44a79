//! Listening sockets: bound once, before any worker starts, so that what is wrong with an address
//! is said in one line; then given to the workers.
//!
//! Each worker has a TCP listener of its own (`SO_REUSEPORT`: the kernel spreads connections by a
//! hash of their addresses). A Unix socket has one queue of connections that all workers take from.
//! Nothing here ever removes a file that is not a socket, or a socket that somebody answers on.

use std::fmt;
use std::fs;
use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mio::event::Source;
use mio::{Interest, Poll, Registry, Token};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

use super::waker::Waker;
use super::{WAKER_TOKEN, listener_token, stream::Socket};
use crate::base::limits::{ACCEPTS_PER_TURN, ACCEPTS_PER_TURN_SHARED, LISTEN_BACKLOG};
use crate::net::{Admission, Remedies};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IPv4 or IPv6 address and a port. `::` takes IPv4 connections as well, unless an IPv4
    /// address has a listener of its own on the same port.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix {
        /// Its file.
        path: PathBuf,
        /// The file's permission bits, such as 0o700.
        mode: u32,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// One listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where to listen.
    pub address: Address,
    /// What [`Handler::opened`](crate::net::Handler::opened) gets; several listeners may have the
    /// same.
    pub number: usize,
}

/// What all workers' kernel sockets have in common.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listeners: Vec<Listener>,
    /// Most connections that may live at once, all workers together.
    pub connections_max: usize,
    /// What the operator can do about connections that are refused.
    pub remedies: Remedies,
}

/// Why a listener could not be had.
#[derive(Debug)]
pub enum BindError {
    /// The address, or the socket's path, does not let us listen.
    Listen {
        /// Where it was tried.
        listener: Listener,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Nobody listens on the port: a connection that this host made itself has it.
    Outgoing(Listener),
    /// The path of a Unix socket names something that is not a socket.
    NotASocket(Listener),
    /// The kernel has no epoll instance or descriptor left.
    Poll(io::Error),
}

/// What is wrong, without what can be done about it.
impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Poll(source) => write!(f, "cannot wait for connections: {source}"),
            BindError::Outgoing(Listener { address, .. }) => write!(
                f,
                "cannot listen on {address}: a connection that this host made has the port"
            ),
            BindError::NotASocket(Listener { address, .. }) => {
                write!(f, "cannot listen on {address}: a file that is not a socket is there")
            }
            BindError::Listen { listener: Listener { address, .. }, source } => {
                let is_tcp = matches!(address, Address::Tcp(_));
                write!(f, "cannot listen on {address}: ")?;
                match source.kind() {
                    io::ErrorKind::AddrInUse => f.write_str("another server is there"),
                    io::ErrorKind::AddrNotAvailable => f.write_str("this host has no such address"),
                    io::ErrorKind::PermissionDenied if is_tcp => f.write_str("not permitted"),
                    _ => write!(f, "{source}"),
                }
            }
        }
    }
}

impl BindError {
    /// Whether it is worth trying again later: whoever is there now may go.
    pub fn may_pass(&self) -> bool {
        match self {
            BindError::Listen { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            BindError::Outgoing(_) => true,
            BindError::NotASocket(_) | BindError::Poll(_) => false,
        }
    }
}

impl std::error::Error for BindError {}

/// One worker's listeners, bound and ready to be taken to its thread.
#[derive(Debug)]
pub struct KernelSockets {
    pub(super) poll: Poll,
    pub(super) waker: Waker,
    pub(super) acceptors: Vec<Acceptor>,
    pub(super) admission: Arc<Admission>,
}

impl KernelSockets {
    /// Wakes the worker that will own these sockets.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The address of the TCP listener number `listener`, with the port that the kernel chose where
    /// port 0 was asked for. None for a Unix socket.
    #[cfg(feature = "internals")]
    pub fn local_address(&self, listener: usize) -> Option<SocketAddr> {
        match &self.acceptors.get(listener)?.socket {
            Listening::Tcp(socket) => socket.local_addr().ok(),
            Listening::Unix { .. } => None,
        }
    }
}

/// Binds all listeners for `workers` workers; the result has one entry for each.
///
/// # Errors
/// The first listener that cannot be had, and why.
pub fn bind(config: &Config, workers: usize) -> Result<Vec<KernelSockets>, BindError> {
    let admission = Arc::new(Admission::new(config.connections_max, config.remedies));
    let mut all = Vec::with_capacity(workers);
    for _ in 0..workers {
        let poll = Poll::new().map_err(BindError::Poll)?;
        let waker = Waker::new(poll.registry(), WAKER_TOKEN).map_err(BindError::Poll)?;
        let acceptors = Vec::with_capacity(config.listeners.len());
        all.push(KernelSockets { poll, waker, acceptors, admission: Arc::clone(&admission) });
    }
    for (place, listener) in config.listeners.iter().enumerate() {
        let sockets = match &listener.address {
            Address::Tcp(address) => {
                bind_tcp(*address, workers, takes_ipv4(address, &config.listeners))
            }
            Address::Unix { path, mode } => {
                if is_something_else(path) {
                    return Err(BindError::NotASocket(listener.clone()));
                }
                bind_unix(path, *mode, workers)
            }
        };
        let sockets = sockets.map_err(|source| match listener.address {
            Address::Tcp(address)
                if source.kind() == io::ErrorKind::AddrInUse
                    && is_without_listener(address.port()) =>
            {
                BindError::Outgoing(listener.clone())
            }
            _ => BindError::Listen { listener: listener.clone(), source },
        })?;
        for (worker, socket) in all.iter_mut().zip(sockets) {
            let number = listener.number;
            let mut acceptor = Acceptor { socket, number, is_ready: false, paused_until_us: 0 };
            worker
                .poll
                .registry()
                .register(&mut acceptor.socket, listener_token(place), Interest::READABLE)
                .map_err(BindError::Poll)?;
            worker.acceptors.push(acceptor);
        }
    }
    Ok(all)
}

/// Whether a listener on `address` takes the host's IPv4 addresses in: it is `::`, and no other
/// listener has one of them.
fn takes_ipv4(address: &SocketAddr, all: &[Listener]) -> bool {
    let is_of_ipv4 = |listener: &Listener| match listener.address {
        Address::Tcp(SocketAddr::V4(it)) => it.port() == address.port(),
        _ => false,
    };
    address.is_ipv6() && address.ip().is_unspecified() && !all.iter().any(is_of_ipv4)
}

/// Whether nobody listens on `port`, which cannot be had all the same. The kernel's tables are
/// asked: a connection would count as a client of the server that is there.
fn is_without_listener(port: u16) -> bool {
    let listens = |table: &str| -> io::Result<bool> {
        let table = fs::File::open(format!("/proc/thread-self/net/{table}"))?;
        for row in io::BufReader::new(table).lines() {
            if is_listener(&row?, port) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    // Where they cannot be read, the likelier is said. A host may be without IPv6.
    !listens("tcp").unwrap_or(true) && !listens("tcp6").unwrap_or(false)
}

/// Whether this row of `/proc/net/tcp` is of a socket that listens on `port` (proc(5)).
fn is_listener(row: &str, port: u16) -> bool {
    let mut words = row.split_ascii_whitespace().skip(1);
    let local = words.next().and_then(|local| local.rsplit_once(':'));
    let is_there = local.is_some_and(|(_, text)| u16::from_str_radix(text, 16) == Ok(port));
    is_there && words.nth(1) == Some("0A")
}

fn bind_tcp(
    mut address: SocketAddr,
    workers: usize,
    takes_ipv4: bool,
) -> io::Result<Vec<Listening>> {
    if workers > 1 && address.port() != 0 {
        // With SO_REUSEPORT set, binding succeeds beside another server of the same user that set
        // it too, and each would get half of the connections. Without it the kernel says so.
        tcp_socket(address, false, takes_ipv4)?;
    }
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = tcp_socket(address, workers > 1, takes_ipv4)?;
        socket.listen(LISTEN_BACKLOG)?;
        let listener = std::net::TcpListener::from(socket);
        // Port 0 is chosen by the first worker's socket for all of them.
        address = listener.local_addr()?;
        sockets.push(Listening::Tcp(mio::net::TcpListener::from_std(listener)));
    }
    Ok(sockets)
}

fn tcp_socket(address: SocketAddr, share_port: bool, takes_ipv4: bool) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(!takes_ipv4)?;
    }
    // Connections inherit both of these (tcp(7)), which spares two calls for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn is_something_else(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket())
}

fn bind_unix(path: &Path, mode: u32, workers: usize) -> io::Result<Vec<Listening>> {
    let address = SockAddr::unix(path)?;
    // A server that is about to listen refuses as one that has gone does, so that two starts at
    // once would each take the other's file for left behind.
    let _lock = lock_folder(path)?;
    if path.exists() {
        match unix_socket()?.connect(&address) {
            // Nobody listens: a server that was killed left it behind.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?;
            }
            // Somebody answers, or would if its queue were not full.
            Ok(()) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            Err(error) => return Err(error),
        }
    }
    let socket = unix_socket()?;
    socket.bind(&address)?;
    let file = Arc::new(SocketFile::new(path)?);
    // Before it listens nobody can connect, so nobody slips in under looser permissions.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(LISTEN_BACKLOG)?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = mio::net::UnixListener::from_std(listener.try_clone()?);
        sockets.push(Listening::Unix { socket, _file: Arc::clone(&file) });
    }
    Ok(sockets)
}

/// How often, and how long each time, another start that makes a socket in the same folder is
/// waited for: two seconds in all.
const LOCK_TRIES: usize = 200;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// Keeps other starts from making a socket in the folder of `path` while the result lives.
fn lock_folder(path: &Path) -> io::Result<fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = fs::File::open(folder.unwrap_or(Path::new(".")))?;
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(LOCK_WAIT),
            // A file system without locks has one start at a time, as it had.
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOLCK) => {
                return Ok(folder);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn unix_socket() -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A Unix socket's file: removed when the last worker stops listening on it, unless somebody
/// replaced it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<SocketFile> {
        let file = fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.into(), device_and_inode: (file.dev(), file.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.device_and_inode);
        if is_ours {
            // Nobody is left to tell; the next start replaces a file that nobody answers on.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket that connections are accepted from.
#[derive(Debug)]
pub(super) enum Listening {
    Tcp(mio::net::TcpListener),
    Unix { socket: mio::net::UnixListener, _file: Arc<SocketFile> },
}

impl Listening {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Listening::Tcp(socket) => socket,
            Listening::Unix { socket, .. } => socket,
        }
    }
}

impl Source for Listening {
    fn register(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        self.source().register(registry, token, what)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, what)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

/// One listener of one worker, and whether it pays to ask it for connections.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) socket: Listening,
    /// What the handler is told.
    pub(super) number: usize,
    /// The kernel announced connections, and has not yet said that there are no more.
    pub(super) is_ready: bool,
    /// Accepting failed for want of something; not before this time, in microseconds of uptime.
    pub(super) paused_until_us: u64,
}

impl Acceptor {
    pub(super) fn accept(&self) -> io::Result<Socket> {
        match &self.socket {
            Listening::Tcp(socket) => Ok(Socket::Tcp(socket.accept()?.0)),
            Listening::Unix { socket, .. } => Ok(Socket::Unix(socket.accept()?.0)),
        }
    }

    /// Connections to accept in one turn.
    pub(super) fn budget(&self) -> usize {
        match &self.socket {
            Listening::Tcp(_) => ACCEPTS_PER_TURN,
            Listening::Unix { .. } => ACCEPTS_PER_TURN_SHARED,
        }
    }

    /// Stops the announcements. The socket of a shared listener lives on in the other workers, so
    /// that closing this one's would not.
    pub(super) fn close(mut self, registry: &Registry) {
        // Failing means that it is not registered any more.
        let _ = self.socket.deregister(registry);
    }
}
