//! Listening sockets passed from one process to the next, so that no client is refused meanwhile:
//! connections that arrive wait in the sockets' queues.
//!
//! The process that serves holds a second descriptor of each of its listeners, in [`Spares`]. It
//! sends them over a Unix socket (unix(7), SCM_RIGHTS) to the next, which finds in [`Inherited`]
//! what it is to listen on. Nothing here decides who may have them.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use socket2::Socket;

use crate::base::limits::{HANDOVER_DESCRIPTORS_MAX, WORKERS_MAX};

/// Descriptors in one message: the kernel takes 253 at most (SCM_MAX_FD).
const IN_A_MESSAGE: usize = 64;

/// Begins the first message; the number of descriptors follows, little-endian.
const GREETING: &[u8; 12] = b"sunder-take1";

/// The second descriptors of a process's listeners. Closed when it stops listening, unless they
/// have been sent.
#[derive(Debug, Default)]
pub struct Spares {
    listeners: Mutex<Vec<OwnedFd>>,
    is_sent: AtomicBool,
}

impl Spares {
    /// Keeps a second descriptor of a listener.
    ///
    /// # Errors
    /// The kernel's.
    pub fn keep(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        let spare = listener.try_clone_to_owned()?;
        self.listeners().push(spare);
        Ok(())
    }

    /// The process stops listening.
    pub(super) fn close(&self) {
        if !self.is_sent() {
            self.listeners().clear();
        }
    }

    /// Another process has the listeners: they, and the files of Unix sockets, are left to it.
    pub fn are_sent(&self) {
        self.is_sent.store(true, Ordering::Release);
    }

    pub(super) fn is_sent(&self) -> bool {
        self.is_sent.load(Ordering::Acquire)
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<OwnedFd>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends all of them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, to: &UnixStream) -> io::Result<()> {
        let listeners = self.listeners();
        let mut head = GREETING.to_vec();
        head.extend((listeners.len() as u32).to_le_bytes());
        let mut message = &head[..];
        for some in listeners.chunks(IN_A_MESSAGE) {
            let some: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(IN_A_MESSAGE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&some));
            let sent = sendmsg(to, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
            if sent != message.len() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            message = b"+";
        }
        Ok(())
    }
}

/// Where a listener that was received listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Listeners that another process has sent.
#[derive(Debug, Default)]
pub struct Inherited {
    listeners: Vec<(Place, Socket)>,
}

impl Inherited {
    /// Receives what [`Spares::send`] sends. Whatever is no listening socket is closed.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if it is something else, and the kernel's.
    pub fn receive(from: &UnixStream) -> io::Result<Inherited> {
        let mut head = [0; GREETING.len() + 4];
        let (bytes, mut received) = receive_some(from, &mut head)?;
        if bytes < head.len() {
            let mut rest = from;
            rest.read_exact(&mut head[bytes..])?;
        }
        let Some((GREETING, count)) = head.split_first_chunk() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let count = count.try_into().map_or(0, u32::from_le_bytes) as usize;
        if count == 0 || count > HANDOVER_DESCRIPTORS_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        while received.len() < count {
            let (bytes, more) = receive_some(from, &mut [0])?;
            if bytes == 0 || more.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received.extend(more);
        }
        let listeners = received.into_iter().map(Socket::from).filter_map(place_of).collect();
        Ok(Inherited { listeners })
    }

    /// Whether it has a listener of a TCP port.
    pub fn has_tcp(&self, address: SocketAddr) -> bool {
        self.listeners.iter().any(|(place, _)| *place == Place::Tcp(address))
    }

    /// Whether it has the listener of a Unix socket.
    pub(super) fn has_unix(&self, path: &Path) -> bool {
        let is_it = |place: &Place| matches!(place, Place::Unix(own) if own == path);
        self.listeners.iter().any(|(place, _)| is_it(place))
    }

    /// Takes the listeners of a TCP port.
    pub fn take_tcp(&mut self, address: SocketAddr) -> Vec<Socket> {
        self.take(&Place::Tcp(address))
    }

    /// Takes the listener of a Unix socket.
    pub(super) fn take_unix(&mut self, path: PathBuf) -> Vec<Socket> {
        self.take(&Place::Unix(path))
    }

    fn take(&mut self, place: &Place) -> Vec<Socket> {
        let is_it = |(at, _): &mut (Place, Socket)| at == place;
        self.listeners.extract_if(.., is_it).map(|(_, socket)| socket).collect()
    }
}

/// A socket, if it listens, and where.
fn place_of(socket: Socket) -> Option<(Place, Socket)> {
    if !sockopt::socket_acceptconn(&socket).unwrap_or(false) {
        return None;
    }
    let address = socket.local_addr().ok()?;
    let place = match address.as_socket() {
        Some(address) => Place::Tcp(address),
        None => Place::Unix(address.as_pathname()?.to_owned()),
    };
    socket.set_nonblocking(true).ok()?;
    Some((place, socket))
}

fn receive_some(from: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(IN_A_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(from, &mut [IoSliceMut::new(bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    Ok((received.bytes, descriptors))
}

/// For each of `workers` workers, sockets that together are all of `sockets`: several of a worker's
/// own if there are more than workers, else some that it shares with others.
pub(super) fn deal(sockets: Vec<Socket>, workers: usize) -> io::Result<Vec<Vec<Socket>>> {
    debug_assert!(workers <= WORKERS_MAX);
    let mut dealt: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::new()).collect();
    for worker in sockets.len()..workers {
        dealt[worker].push(sockets[worker % sockets.len()].try_clone()?);
    }
    for (n, socket) in sockets.into_iter().enumerate() {
        dealt[n % workers].push(socket);
    }
    Ok(dealt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().expect("two sockets")
    }

    #[test]
    fn listeners_arrive_and_nothing_else_does() {
        let (old, new) = pair();
        let listeners: Vec<_> =
            (0..150).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a port")).collect();
        let spares = Spares::default();
        listeners.iter().for_each(|it| spares.keep(it.as_fd()).expect("a descriptor"));
        let other = pair();
        spares.keep(other.0.as_fd()).expect("a descriptor");
        spares.send(&old).expect("sent");
        let mut inherited = Inherited::receive(&new).expect("received");
        for listener in &listeners {
            let address = listener.local_addr().expect("bound");
            assert_eq!(inherited.take_tcp(address).len(), 1);
            assert_eq!(inherited.take_tcp(address).len(), 0);
        }
        assert!(inherited.listeners.is_empty(), "a socket that does not listen is closed");
    }

    #[test]
    fn what_is_no_handover_is_an_error() {
        use std::io::Write;
        for bytes in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"sunder-take1\xff\xff\xff\xff", b"sun", b""]
        {
            let (mut old, new) = pair();
            old.write_all(bytes).expect("sent");
            drop(old);
            assert!(Inherited::receive(&new).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn every_worker_has_a_socket_and_every_socket_a_worker() {
        for (sockets, workers) in [(1, 1), (1, 4), (2, 3), (5, 2), (4, 4)] {
            let listeners: Vec<_> = (0..sockets)
                .map(|_| Socket::from(TcpListener::bind(("127.0.0.1", 0)).expect("a port")))
                .collect();
            let mut ports: Vec<_> = listeners.iter().map(port).collect();
            let dealt = deal(listeners, workers).expect("descriptors");
            assert!(dealt.iter().all(|own| !own.is_empty()));
            let mut found: Vec<_> = dealt.iter().flatten().map(port).collect();
            found.sort_unstable();
            found.dedup();
            ports.sort_unstable();
            assert_eq!(found, ports);
        }
    }

    fn port(socket: &Socket) -> u16 {
        let address = socket.local_addr().expect("bound").as_socket();
        address.expect("TCP").port()
    }
}
