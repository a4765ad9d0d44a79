//! A client's way to an attachment, and the stream that it then is.
//!
//! It never blocks after [`Client::open`], and never reads or writes before the daemon has
//! answered.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockAddr, Socket, Type};

use super::end::End;
use super::handshake::{self, Refusal};
use super::place::Name;
use super::ring::Sleep;
use crate::base::limits::{RING_HANDSHAKE_US, RING_HANGUP_US, RING_SPIN_US};

/// A client of a daemon.
#[derive(Debug)]
pub struct Client {
    state: State,
    /// When to look next whether the daemon is still there.
    look_at_us: u64,
    /// When bytes last moved.
    moved_us: u64,
    /// The socket is in an epoll set.
    is_socket_watched: bool,
}

#[derive(Debug)]
enum State {
    /// The daemon has not answered.
    Asking(UnixStream),
    Attached(End),
    /// Nothing leads on from here.
    Lost,
}

impl Client {
    /// Begins to attach.
    ///
    /// # Errors
    /// No daemon listens there, or it is another user's.
    pub fn connect(name: &Name) -> io::Result<Client> {
        let socket = connect(&name.find())?;
        let refused = |Refusal(reason)| io::Error::new(io::ErrorKind::PermissionDenied, reason);
        handshake::check_daemon(&socket).map_err(refused)?;
        handshake::ask(&socket)?;
        Ok(Client::new(State::Asking(socket)))
    }

    /// Attaches; waits for the daemon's answer.
    ///
    /// # Errors
    /// As [`Client::connect`], or the daemon refuses.
    pub fn open(name: &Name) -> io::Result<Client> {
        let mut client = Client::connect(name)?;
        let State::Asking(socket) = &client.state else { unreachable!("it has just asked") };
        let mut events = [PollFd::new(socket, PollFlags::IN)];
        poll(&mut events, Some(&time_out(RING_HANDSHAKE_US)))?;
        match client.is_attached() {
            Ok(true) => Ok(client),
            Ok(false) => Err(io::ErrorKind::TimedOut.into()),
            Err(error) => Err(error),
        }
    }

    fn new(state: State) -> Client {
        Client { state, look_at_us: 0, moved_us: 0, is_socket_watched: false }
    }

    /// Whether the daemon has answered.
    ///
    /// # Errors
    /// It refused; the reason.
    pub fn is_attached(&mut self) -> io::Result<bool> {
        let socket = match std::mem::replace(&mut self.state, State::Lost) {
            State::Asking(socket) => socket,
            attached => {
                self.state = attached;
                return Ok(true);
            }
        };
        let answer = handshake::receive_answer(&socket).map_err(refused)?;
        self.state = match answer {
            None => State::Asking(socket),
            Some(given) => State::Attached(End::attach(socket, given).map_err(refused)?),
        };
        Ok(matches!(self.state, State::Attached(_)))
    }

    fn end(&mut self) -> io::Result<&mut End> {
        match &mut self.state {
            State::Attached(end) => Ok(end),
            State::Asking(_) => Err(io::ErrorKind::WouldBlock.into()),
            State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Reads; 0 if the daemon is gone and everything that it wrote was read.
    ///
    /// # Errors
    /// As [`End::read`].
    pub fn read(&mut self, out: &mut [u8], now_us: u64) -> io::Result<usize> {
        let end = self.end()?;
        let read = end.read(out);
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => {
                self.moved_us = now_us;
                return read;
            }
        }
        if now_us < self.look_at_us {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.look_at_us = now_us + RING_HANGUP_US;
        let end = self.end()?;
        if !end.is_hung_up() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // What it wrote before.
        match end.read(out) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            read => read,
        }
    }

    /// Writes.
    ///
    /// # Errors
    /// As [`End::write`].
    pub fn write(&mut self, bytes: &[u8], now_us: u64) -> io::Result<usize> {
        self.moved_us = now_us;
        self.end()?.write(bytes)
    }

    /// Whether the caller, which waits for answers if `is_expecting` and for room if `is_blocked`,
    /// may sleep until the sources in its epoll set wake it.
    pub fn may_sleep(&mut self, is_expecting: bool, is_blocked: bool, now_us: u64) -> bool {
        if is_expecting && now_us < self.moved_us + RING_SPIN_US {
            return false;
        }
        let sleep = if is_blocked { Sleep::Room } else { Sleep::Input };
        self.end().map_or(true, |end| end.fall_asleep(sleep))
    }

    /// The caller is awake.
    #[inline]
    pub fn rise(&mut self) {
        if self.end().is_ok_and(End::rise) {
            // What woke it may have been the end of the daemon.
            self.look_at_us = 0;
        }
    }

    /// Identifies the daemon's store, once it is attached.
    pub fn generation(&self) -> Option<u64> {
        match &self.state {
            State::Attached(end) => Some(end.generation()),
            State::Asking(_) | State::Lost => None,
        }
    }

    /// Writes no more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn finish(&mut self) -> io::Result<()> {
        self.end()?.finish()
    }

    /// Waits until something may have arrived, for the greeting at start.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self, timeout_us: u64) -> io::Result<()> {
        let end = self.end()?;
        if end.fall_asleep(Sleep::Input) {
            let (bell, socket) = (end.bell(), end.socket());
            let mut events = [PollFd::new(bell, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
            poll(&mut events, Some(&time_out(timeout_us)))?;
            // Empties it; otherwise the next wait would end at once.
            let _ = rustix::io::read(bell, &mut [0; 8]);
        }
        self.rise();
        Ok(())
    }
}

/// Called when it begins to attach and again when it is attached.
impl Source for Client {
    fn register(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        let (bell, socket) = match &self.state {
            State::Attached(end) => (Some(end.bell()), end.socket()),
            State::Asking(socket) => (None, socket),
            State::Lost => return Ok(()),
        };
        if !std::mem::replace(&mut self.is_socket_watched, true) {
            SourceFd(&socket.as_raw_fd()).register(registry, token, Interest::READABLE)?;
        }
        bell.map_or(Ok(()), |bell| SourceFd(&bell.as_raw_fd()).register(registry, token, what))
    }

    fn reregister(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        self.end()?.reregister(registry, token, what)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.end()?.deregister(registry)
    }
}

fn refused(Refusal(reason): Refusal) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, reason)
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

fn time_out(us: u64) -> Timespec {
    Timespec { tv_sec: (us / 1_000_000) as i64, tv_nsec: (us % 1_000_000 * 1000) as i64 }
}
