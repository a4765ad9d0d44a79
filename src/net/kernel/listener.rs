//! Listening sockets: bound once, before any worker starts, so that a wrong address is reported in
//! one line; then passed to the workers.
//!
//! Each worker has its own TCP listener (`SO_REUSEPORT`: the kernel distributes connections by a
//! hash of their addresses). A Unix socket has one queue of connections from which all workers
//! accept. Nothing here ever removes a file that is not a socket, or a socket on which a server
//! answers.

use std::fmt;
use std::fs;
use std::io::{self, BufRead};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mio::event::Source;
use mio::{Interest, Poll, Registry, Token};
use rustix::fs::{Access, AtFlags, CWD, FlockOperation, accessat};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

use super::attach::Inbox;
use super::handover::{self, Inherited, Spares};
use super::waker::Waker;
use super::{WAKER_TOKEN, listener_token, stream::Socket};
use crate::base::limits::{ACCEPTS_PER_TURN, ACCEPTS_PER_TURN_SHARED, LISTEN_BACKLOG};
use crate::base::networks::Networks;
use crate::net::Admission;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IPv4 or IPv6 address and a port. `::` also accepts IPv4 connections, unless an IPv4
    /// address has its own listener on the same port.
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
    /// The address to listen on.
    pub address: Address,
    /// The number passed to [`Handler::opened`](crate::net::Handler::opened); several listeners may
    /// have the same.
    pub number: usize,
    /// The peers that may connect to a TCP listener.
    pub allow: Networks,
    /// Load balancers that say whose connections they pass on: each of theirs begins with a header
    /// of the PROXY protocol, and `allow` is for whom that names. None: there are none.
    pub proxies: Option<Networks>,
}

/// Settings shared by all workers' kernel sockets.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// The limit of open connections, all workers together.
    pub admission: Arc<Admission>,
}

/// Why a listener could not be bound.
#[derive(Debug)]
pub enum BindError {
    /// The address, or the socket's path, cannot be listened on.
    Listen {
        /// The listener.
        listener: Listener,
        /// The kernel's reason.
        source: io::Error,
    },
    /// No process listens on the port: an outgoing connection of this host uses it.
    Outgoing(Listener),
    /// The path of a Unix socket names something that is not a socket.
    NotASocket(Listener),
    /// The folder of a Unix socket does not exist.
    NoFolder(Listener),
    /// The kernel has no epoll instance or descriptor left.
    Poll(io::Error),
}

/// The error, without its remedy.
impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Poll(source) => write!(f, "cannot wait for connections: {source}"),
            BindError::Outgoing(Listener { address, .. }) => write!(
                f,
                "cannot listen on {address}: an outgoing connection of this host uses the port"
            ),
            BindError::NotASocket(Listener { address, .. }) => {
                write!(f, "cannot listen on {address}: a file that is not a socket is there")
            }
            BindError::NoFolder(Listener { address, .. }) => {
                write!(f, "cannot listen on {address}: its folder does not exist")
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
    /// Whether trying again later may succeed: the current owner may exit, an address may come (by
    /// DHCP or VRRP, or once it is known to be unique), a folder may be mounted.
    pub fn may_pass(&self) -> bool {
        use io::ErrorKind::{AddrInUse, AddrNotAvailable};
        match self {
            BindError::Listen { source, .. } => {
                matches!(source.kind(), AddrInUse | AddrNotAvailable)
            }
            BindError::Outgoing(_) | BindError::NoFolder(_) => true,
            BindError::NotASocket(_) | BindError::Poll(_) => false,
        }
    }
}

impl std::error::Error for BindError {}

/// One worker's listeners, bound and ready to be moved to its thread.
#[derive(Debug)]
pub struct KernelSockets {
    pub(super) poll: Poll,
    pub(super) waker: Waker,
    pub(super) acceptors: Vec<Acceptor>,
    pub(super) admission: Arc<Admission>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) spares: Arc<Spares>,
}

impl KernelSockets {
    /// Where attachments for the worker that will own these sockets are passed to it.
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    fn add(&mut self, socket: Listening, listener: &Listener) -> io::Result<()> {
        if let Listening::Tcp { socket, .. } = &socket {
            self.spares.keep(socket.as_fd())?;
        }
        let (allow, proxies) = (listener.allow.clone(), listener.proxies.clone());
        let number = listener.number;
        let mut acceptor =
            Acceptor { socket, number, allow, proxies, is_ready: false, paused_until_us: 0 };
        let token = listener_token(self.acceptors.len());
        self.poll.registry().register(&mut acceptor.socket, token, Interest::READABLE)?;
        self.acceptors.push(acceptor);
        Ok(())
    }

    /// Second descriptors of all workers' listeners.
    pub fn spares(&self) -> &Arc<Spares> {
        &self.spares
    }

    /// Wakes the worker that will own these sockets.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The address of the TCP listener number `listener`, with the port that the kernel chose if
    /// port 0 was requested. None for a Unix socket.
    #[cfg(feature = "internals")]
    pub fn local_address(&self, listener: usize) -> Option<SocketAddr> {
        match &self.acceptors.get(listener)?.socket {
            Listening::Tcp { socket, .. } => socket.local_addr().ok(),
            Listening::Unix { .. } => None,
        }
    }
}

/// Binds all listeners for `workers` workers; the result has one entry for each.
///
/// # Errors
/// The first listener that cannot be bound, and why.
#[cfg(any(test, feature = "internals"))]
pub fn bind(config: &KernelConfig, workers: usize) -> Result<Vec<KernelSockets>, BindError> {
    bind_or_inherit(config, workers, &mut Inherited::default())
}

/// The same, but those that another process listened on are taken from `inherited`.
///
/// # Errors
/// As [`bind`].
pub fn bind_or_inherit(
    config: &KernelConfig,
    workers: usize,
    inherited: &mut Inherited,
) -> Result<Vec<KernelSockets>, BindError> {
    let admission = &config.admission;
    let spares = Arc::new(Spares::default());
    let mut all = Vec::with_capacity(workers);
    for _ in 0..workers {
        let poll = Poll::new().map_err(BindError::Poll)?;
        let waker = Waker::new(poll.registry(), WAKER_TOKEN).map_err(BindError::Poll)?;
        let acceptors = Vec::with_capacity(config.listeners.len());
        let (admission, inbox, spares) =
            (Arc::clone(admission), Arc::default(), Arc::clone(&spares));
        all.push(KernelSockets { poll, waker, acceptors, admission, inbox, spares });
    }
    for listener in &config.listeners {
        let sockets = match &listener.address {
            Address::Tcp(address) => {
                let takes_ipv4 = takes_ipv4(address, &config.listeners);
                match inherited.take_tcp(*address) {
                    sockets if sockets.is_empty() => bind_tcp(*address, workers, takes_ipv4),
                    sockets => inherit_tcp(sockets, workers),
                }
            }
            Address::Unix { path, mode } => {
                check_place(listener, path)?;
                bind_unix(path, *mode, workers, inherited, &spares)
            }
        };
        let sockets = sockets.map_err(|source| refused(listener, source))?;
        for (worker, sockets) in all.iter_mut().zip(sockets) {
            for socket in sockets {
                worker.add(socket, listener).map_err(BindError::Poll)?;
            }
        }
    }
    Ok(all)
}

/// Finds what [`bind_or_inherit`] would refuse. It listens on nothing and makes no file: no client
/// can connect meanwhile.
///
/// # Errors
/// As [`bind_or_inherit`].
pub fn try_bind(listeners: &[Listener], inherited: &Inherited) -> Result<(), BindError> {
    let mut held = Vec::with_capacity(listeners.len());
    let is_new = |address: &Address| match address {
        Address::Tcp(address) => !inherited.has_tcp(*address),
        Address::Unix { path, .. } => !inherited.has_unix(path),
    };
    for listener in listeners.iter().filter(|listener| is_new(&listener.address)) {
        let tried = match &listener.address {
            Address::Tcp(address) => tcp_socket(*address, false, takes_ipv4(address, listeners))
                .map(|socket| held.push(socket)),
            Address::Unix { path, .. } => {
                check_place(listener, path)?;
                try_unix(path)
            }
        };
        tried.map_err(|source| refused(listener, source))?;
    }
    Ok(())
}

/// Whether `address` can be listened on. Nobody can connect to it meanwhile.
///
/// # Errors
/// The kernel's.
pub fn try_tcp(address: SocketAddr) -> io::Result<()> {
    tcp_socket(address, false, true).map(|_| ())
}

/// Why a listener's socket was refused.
fn refused(listener: &Listener, source: io::Error) -> BindError {
    match listener.address {
        Address::Tcp(address)
            if source.kind() == io::ErrorKind::AddrInUse && is_without_listener(address.port()) =>
        {
            BindError::Outgoing(listener.clone())
        }
        _ => BindError::Listen { listener: listener.clone(), source },
    }
}

/// Refuses a path at which there can be no Unix socket.
fn check_place(listener: &Listener, path: &Path) -> Result<(), BindError> {
    if is_something_else(path) {
        return Err(BindError::NotASocket(listener.clone()));
    }
    let folder = fs::metadata(folder_of(path));
    if folder.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Err(BindError::NoFolder(listener.clone()));
    }
    Ok(())
}

/// Whether a listener on `address` also accepts connections to the host's IPv4 addresses: it is
/// `::`, and no other listener has one of them.
fn takes_ipv4(address: &SocketAddr, all: &[Listener]) -> bool {
    let is_of_ipv4 = |listener: &Listener| match listener.address {
        Address::Tcp(SocketAddr::V4(it)) => it.port() == address.port(),
        _ => false,
    };
    address.is_ipv6() && address.ip().is_unspecified() && !all.iter().any(is_of_ipv4)
}

/// Whether no process listens on `port`, although binding it failed. Read from the kernel's tables:
/// a connection would count as a client of the server there.
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
    // If they cannot be read, the likelier cause is reported. A host may be without IPv6.
    !listens("tcp").unwrap_or(true) && !listens("tcp6").unwrap_or(false)
}

/// Whether this row of `/proc/net/tcp` is a socket that listens on `port` (proc(5)).
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
) -> io::Result<Vec<Vec<Listening>>> {
    if workers > 1 && address.port() != 0 {
        // With SO_REUSEPORT set, binding succeeds beside another server of the same user that also
        // set it, and each would get half of the connections. Without it the kernel reports the
        // conflict.
        tcp_socket(address, false, takes_ipv4)?;
    }
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = tcp_socket(address, workers > 1, takes_ipv4)?;
        socket.listen(LISTEN_BACKLOG)?;
        let listener = std::net::TcpListener::from(socket);
        // The first worker's socket chooses port 0 for all of them.
        address = listener.local_addr()?;
        let socket = mio::net::TcpListener::from_std(listener);
        sockets.push(vec![Listening::Tcp { socket, is_shared: false }]);
    }
    Ok(sockets)
}

/// The same with the sockets of another process.
fn inherit_tcp(sockets: Vec<RawSocket>, workers: usize) -> io::Result<Vec<Vec<Listening>>> {
    let is_shared = sockets.len() < workers;
    let listening = |socket: RawSocket| {
        let socket = mio::net::TcpListener::from_std(socket.into());
        Listening::Tcp { socket, is_shared }
    };
    let dealt = handover::deal(sockets, workers)?.into_iter();
    Ok(dealt.map(|own| own.into_iter().map(listening).collect()).collect())
}

fn tcp_socket(address: SocketAddr, share_port: bool, takes_ipv4: bool) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(!takes_ipv4)?;
    }
    // Connections inherit both of these (tcp(7)), which saves two calls for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn is_something_else(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket())
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn bind_unix(
    path: &Path,
    mode: u32,
    workers: usize,
    inherited: &mut Inherited,
    spares: &Arc<Spares>,
) -> io::Result<Vec<Vec<Listening>>> {
    let listener: UnixListener = match inherited.take_unix(path.to_owned()).pop() {
        Some(socket) if path.exists() => {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            socket.into()
        }
        _ => listen_unix(path, mode)?.into(),
    };
    spares.keep(listener.as_fd())?;
    let mut file = SocketFile::new(path)?;
    file.spares = Some(Arc::clone(spares));
    let file = Arc::new(file);
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = mio::net::UnixListener::from_std(listener.try_clone()?);
        sockets.push(vec![Listening::Unix { socket, _file: Arc::clone(&file) }]);
    }
    Ok(sockets)
}

/// A Unix socket that another thread than a worker accepts from, with its file.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] if another server is there, [`io::ErrorKind::AlreadyExists`] if
/// something that is not a socket is, and the kernel's.
pub fn bind_beside(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    if is_something_else(path) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    Ok((listen_unix(path, mode)?.into(), SocketFile::new(path)?))
}

fn listen_unix(path: &Path, mode: u32) -> io::Result<RawSocket> {
    let address = SockAddr::unix(path)?;
    // A server that is about to listen refuses connections like one that has exited, so two servers
    // starting at the same time would each take the other's file for a stale one.
    let _lock = lock_folder(path)?;
    if is_left_behind(path, &address)? {
        fs::remove_file(path)?;
    }
    let socket = unix_socket()?;
    socket.bind(&address)?;
    // Clients can connect only after listen, so none can connect while permissions are looser.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket)
}

/// Whether a killed server has left its socket at `path`; false: nothing is there.
fn is_left_behind(path: &Path, address: &SockAddr) -> io::Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    match unix_socket()?.connect(address) {
        // No server listens.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        // A server answers, or would if its queue were not full.
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        Err(error) => Err(error),
    }
}

/// Whether a Unix socket could be made at `path`.
fn try_unix(path: &Path) -> io::Result<()> {
    is_left_behind(path, &SockAddr::unix(path)?)?;
    let may = Access::WRITE_OK | Access::EXEC_OK;
    Ok(accessat(CWD, folder_of(path), may, AtFlags::EACCESS)?)
}

/// How often, and how long each time, to wait for another start that creates a socket in the same
/// folder: two seconds in total.
const LOCK_TRIES: usize = 200;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// Prevents other starts from creating a socket in the folder of `path` while the result lives.
fn lock_folder(path: &Path) -> io::Result<fs::File> {
    let folder = fs::File::open(folder_of(path))?;
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(LOCK_WAIT),
            // A file system without locks: starts are not serialized.
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

/// A Unix socket's file: removed when the last worker stops listening on it, unless it was
/// replaced.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
    /// Whether another process has it.
    spares: Option<Arc<Spares>>,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<SocketFile> {
        let file = fs::symlink_metadata(path)?;
        Ok(SocketFile {
            path: path.into(),
            device_and_inode: (file.dev(), file.ino()),
            spares: None,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.spares.as_ref().is_some_and(|spares| spares.is_sent()) {
            return;
        }
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.device_and_inode);
        if is_ours {
            // A failure cannot be reported any more; the next start replaces a stale file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket from which connections are accepted.
#[derive(Debug)]
pub(super) enum Listening {
    /// Shared: with other workers.
    Tcp {
        socket: mio::net::TcpListener,
        is_shared: bool,
    },
    Unix {
        socket: mio::net::UnixListener,
        _file: Arc<SocketFile>,
    },
}

impl Listening {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Listening::Tcp { socket, .. } => socket,
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

/// One listener of one worker, and whether it has connections to accept.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) socket: Listening,
    /// The number passed to the handler.
    pub(super) number: usize,
    /// The peers that may connect.
    pub(super) allow: Networks,
    /// The peers that say whose connections they pass on.
    pub(super) proxies: Option<Networks>,
    /// The kernel reported connections, and has not yet reported that there are no more.
    pub(super) is_ready: bool,
    /// Accepting failed for lack of resources; not before this time, in microseconds of uptime.
    pub(super) paused_until_us: u64,
}

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comer {
    /// A client that may.
    Client,
    /// A load balancer with this address, which has to say for whom.
    Proxy(SocketAddr),
    /// Somebody from this address, who may not.
    Stranger(IpAddr),
}

impl Acceptor {
    /// The next connection, and whose it is.
    pub(super) fn accept(&self) -> io::Result<(Socket, Comer)> {
        match &self.socket {
            Listening::Tcp { socket, .. } => {
                let (socket, peer) = socket.accept()?;
                Ok((Socket::Tcp(socket), self.comer(peer)))
            }
            Listening::Unix { socket, .. } => Ok((Socket::Unix(socket.accept()?.0), Comer::Client)),
        }
    }

    fn comer(&self, peer: SocketAddr) -> Comer {
        if self.proxies.as_ref().is_some_and(|proxies| proxies.contains(peer.ip())) {
            Comer::Proxy(peer)
        } else if self.allow.contains(peer.ip()) {
            Comer::Client
        } else {
            Comer::Stranger(peer.ip())
        }
    }

    /// Most connections to accept in one turn.
    pub(super) fn budget(&self) -> usize {
        match &self.socket {
            Listening::Tcp { is_shared: false, .. } => ACCEPTS_PER_TURN,
            Listening::Tcp { .. } | Listening::Unix { .. } => ACCEPTS_PER_TURN_SHARED,
        }
    }

    /// Stops the events. The socket of a shared listener stays open in the other workers, so that
    /// closing this one's descriptor would not stop them.
    pub(super) fn close(mut self, registry: &Registry) {
        // It fails if the socket is not registered any more.
        let _ = self.socket.deregister(registry);
    }
}
