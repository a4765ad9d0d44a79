//! One end of an attachment: its side of the rings, both doorbells, and the socket by which each
//! side notices that the other is gone.
//!
//! To its user it is a stream of bytes that never blocks. What the other side has written but this
//! one has not read is lost with the attachment, so that no request is executed after its client
//! has been told that it failed and was attached again.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::RecvFlags;

use super::handshake::{Given, Refusal};
use super::ring::{Lie, Rings, Side, Sleep};
use super::segment::Segment;

/// One end of an attachment.
#[derive(Debug)]
pub struct End {
    rings: Rings<Segment>,
    /// Of the daemon's store.
    generation: u64,
    socket: UnixStream,
    /// Wakes this side.
    bell: OwnedFd,
    /// Wakes the other.
    other_bell: OwnedFd,
    is_asleep: bool,
    is_broken: bool,
}

impl End {
    /// Creates an attachment: the daemon's end, and what its client needs.
    ///
    /// # Errors
    /// The kernel's, such as no descriptor or memory left.
    pub fn create(socket: UnixStream, generation: u64) -> io::Result<(End, Given)> {
        let (segment, file) = Segment::create(generation)?;
        let bell = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let given = Given { segment: file, client_bell: bell()?, daemon_bell: bell()? };
        let (bell, other_bell) = (given.daemon_bell.try_clone()?, given.client_bell.try_clone()?);
        socket.set_nonblocking(true)?;
        Ok((End::new(Side::Daemon, segment, socket, bell, other_bell), given))
    }

    /// The client's end of an attachment.
    ///
    /// # Errors
    /// What was given is no attachment.
    pub fn attach(socket: UnixStream, given: Given) -> Result<End, Refusal> {
        let Given { segment, client_bell, daemon_bell } = given;
        let segment = Segment::open(&segment).map_err(|error| Refusal(error.to_string()))?;
        socket.set_nonblocking(true).map_err(|error| Refusal(error.to_string()))?;
        Ok(End::new(Side::Client, segment, socket, client_bell, daemon_bell))
    }

    fn new(
        side: Side,
        segment: Segment,
        socket: UnixStream,
        bell: OwnedFd,
        other_bell: OwnedFd,
    ) -> End {
        let (ring_bytes, generation) = (segment.ring_bytes(), segment.generation());
        let rings = Rings::new(segment, side, ring_bytes);
        End { rings, generation, socket, bell, other_bell, is_asleep: false, is_broken: false }
    }

    /// Reads as a socket does that never blocks, but does not see its end: [`End::is_hung_up`]
    /// does.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is nothing; [`io::ErrorKind::InvalidData`] if the
    /// other side broke the rings.
    #[inline]
    pub fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.rings.read(out).map_err(|lie| self.broken(lie))? {
            0 if !out.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            n => {
                self.wake_for(Sleep::Room);
                Ok(n)
            }
        }
    }

    /// Writes as a socket does that never blocks.
    ///
    /// # Errors
    /// As [`End::read`].
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.rings.write(bytes).map_err(|lie| self.broken(lie))? {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            n => {
                self.wake_for(Sleep::Input);
                Ok(n)
            }
        }
    }

    /// Identifies the daemon's store: another number is another store, which was empty.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a read would return something, an error included.
    #[inline]
    pub fn has_input(&mut self) -> bool {
        self.rings.has_input().unwrap_or(true)
    }

    /// Whether a write would do something, an error included.
    pub fn has_room(&mut self) -> bool {
        self.rings.has_room().unwrap_or(true)
    }

    /// Whether the other side has closed the attachment, or has ended. Asks the kernel.
    pub fn is_hung_up(&self) -> bool {
        let mut byte = [0];
        match rustix::net::recv(&self.socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((n, _)) => n == 0,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            Err(_) => true,
        }
    }

    /// Announces that this side is about to sleep, and for what. False if it must not.
    pub fn fall_asleep(&mut self, sleep: Sleep) -> bool {
        self.is_asleep = self.rings.fall_asleep(sleep).unwrap_or(false);
        self.is_asleep
    }

    /// Announces that this side is awake. Returns whether it had announced a sleep.
    #[inline]
    pub fn rise(&mut self) -> bool {
        if self.is_asleep {
            self.rings.rise();
        }
        std::mem::take(&mut self.is_asleep)
    }

    /// Whether the other side has broken the rings, which must not be used any more.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    #[cold]
    fn broken(&mut self, Lie: Lie) -> io::Error {
        self.is_broken = true;
        io::ErrorKind::InvalidData.into()
    }

    /// Tells the other side that this one writes no more. The attachment ends when the other side
    /// notices.
    ///
    /// # Errors
    /// The kernel's.
    pub fn finish(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// What wakes this side.
    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// What shows the end of the other.
    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    #[inline]
    fn wake_for(&mut self, news: Sleep) {
        if self.rings.must_wake(news) {
            // It fails if the other side has filled the counter, which harms nobody else.
            let _ = rustix::io::write(&self.other_bell, &1u64.to_ne_bytes());
        }
    }
}

/// The doorbell and the socket; the former is always writable, so only what is readable counts.
impl Source for End {
    fn register(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        SourceFd(&self.bell.as_raw_fd()).register(registry, token, what)?;
        SourceFd(&self.socket.as_raw_fd()).register(registry, token, Interest::READABLE)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        SourceFd(&self.bell.as_raw_fd()).reregister(registry, token, what)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.bell.as_raw_fd()).deregister(registry)?;
        SourceFd(&self.socket.as_raw_fd()).deregister(registry)
    }
}

#[cfg(test)]
mod tests;
