//! The interface through which connections read and write, whatever the transport.
//!
//! `kernel` transports connections over the host's own TCP and Unix sockets, `tcp` over our stack
//! and a DPDK device. Neither interprets the bytes, and neither exposes a socket.

pub mod kernel;
#[cfg(feature = "dpdk")]
pub mod nic;
pub mod several;
pub mod tcp;

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::base::clock::Now;
#[cfg(doc)]
use crate::base::limits::RECEIVE_PIECES;
use crate::base::readiness::Readiness;
use crate::report::{Event, Topic};

/// What a header of the PROXY protocol, version 2, begins with (proxy-protocol.txt, section 2.2).
pub const PROXY_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Identifies one connection of one worker. An index is reused after its connection has closed; the
/// generation tells the two apart, so that a late result never reaches another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Index in the transport's table.
    pub index: u32,
    /// How often that index was used before.
    pub generation: u32,
}

/// An end of a connection, as `stats conns` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket, with its path if that is known. That of its peer is the one it connected to.
    Unix(Option<PathBuf>),
    /// Rings in shared memory.
    Rings,
    /// The kernel does not say: the connection has ended.
    Unknown,
}

impl fmt::Display for EndAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndAddress::Tcp(address @ SocketAddr::V4(_)) => write!(f, "tcp:{address}"),
            EndAddress::Tcp(address) => write!(f, "tcp6:{address}"),
            // Nothing that ends a line.
            EndAddress::Unix(path) => match path {
                Some(path) => write!(f, "unix:{}", path.to_string_lossy().escape_debug()),
                None => f.write_str("unix:"),
            },
            EndAddress::Rings => f.write_str("rings"),
            EndAddress::Unknown => f.write_str("?"),
        }
    }
}

/// An open connection, for a list.
#[derive(Debug)]
pub struct Listed<'c, C> {
    /// Where it is in the transport's table.
    pub index: usize,
    /// Its peer.
    pub peer: EndAddress,
    /// What its peer connected to.
    pub local: EndAddress,
    /// It is being closed, and its handler is not called any more.
    pub is_closing: bool,
    /// What the handler keeps of it.
    pub state: &'c C,
}

/// The two byte streams of one connection.
pub trait Stream {
    /// The first contiguous piece of the bytes that arrived and were not consumed. Empty only if
    /// there are none. May be shorter than [`Stream::received_bytes`] where a ring wraps.
    fn received(&mut self) -> &[u8];

    /// Number of bytes that arrived and were not consumed.
    fn received_bytes(&self) -> usize;

    /// Most bytes that can wait here unconsumed. A longer request line never completes.
    fn receive_capacity_bytes(&self) -> usize;

    /// Copies up to `out.len()` unconsumed bytes, across a wrap, without consuming them.
    fn peek(&mut self, out: &mut [u8]) -> usize;

    /// Drops the first `bytes` unconsumed bytes; `bytes` is at most [`Stream::received_bytes`].
    fn consume(&mut self, bytes: usize);

    /// Whether nothing will arrive after the unconsumed bytes: the peer has sent its last byte
    /// (FIN), or the transport drains ([`Transport::drain`]).
    fn is_peer_finished(&self) -> bool;

    /// The peer's address; None if it is of this host and has none (a Unix socket). That of a peer
    /// that has gone may be unspecified. May take a system call.
    fn peer(&self) -> Option<IpAddr> {
        None
    }

    /// Free bytes for output, in all pieces. Also 0 when the visit has sent its share; the handler
    /// is called again when there is room, or in the next turn.
    fn room_bytes(&self) -> usize;

    /// Passes the next contiguous piece of free output to `fill`, which returns how many bytes it
    /// wrote. Returns that number; 0 if there is no room.
    fn write_with(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize;

    /// Whether [`Stream::send_pieces`] ever sends.
    const SENDS_PIECES: bool = false;

    /// Sends what was written, followed by as much of `pieces` as can be sent without copying;
    /// returns how much of `pieces` that was. 0 does not mean that there is no room.
    fn send_pieces<'p>(&mut self, _pieces: impl Iterator<Item = &'p [u8]>) -> usize {
        0
    }

    /// Whether [`Stream::receive_into`] ever receives.
    const RECEIVES_INTO: bool = false;

    /// Receives directly into `pieces`, at most [`RECEIVE_PIECES`] of them, if there are no
    /// unconsumed bytes; what exceeds them is received as usual. Returns how many bytes went into
    /// `pieces`; 0 if nothing has arrived, or the visit has received its share.
    fn receive_into(&mut self, _pieces: &mut [IoSliceMut<'_>]) -> usize {
        0
    }

    /// Asks the transport not to receive before the next visit, which calls
    /// [`Stream::receive_into`]. Applies to one visit.
    fn expect_into(&mut self) {}

    /// Sends FIN once everything written has been sent. Nothing is read or written afterwards.
    fn close(&mut self);

    /// Drops the connection immediately (RST), with all unsent output.
    fn abort(&mut self);

    /// Copies as much of `bytes` to the output as there is room for; returns how many.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let n = self.write_with(|out| {
                let n = out.len().min(bytes.len() - done);
                out[..n].copy_from_slice(&bytes[done..done + n]);
                n
            });
            if n == 0 {
                break;
            }
            done += n;
        }
        done
    }
}

/// The reply to a client over the connection limit before its connection is closed (memcached 1.6,
/// `maxconns_fast`).
pub const REFUSAL: &[u8] = b"ERROR Too many open connections\r\n";

/// What the operator can do about connections that are refused, in words that end a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remedies {
    /// The limit of open connections is reached.
    pub full: &'static str,
    /// Their addresses are not among those that may connect.
    pub not_allowed: &'static str,
    /// A load balancer sends no usable header of the PROXY protocol.
    pub bad_header: &'static str,
    /// A header of it comes from an address that may not send one; the rest of that sentence.
    pub unnamed_proxy: &'static str,
    /// The host cannot accept them.
    pub not_accepted: &'static str,
}

/// The number of open connections of all workers together, and its limit.
#[derive(Debug)]
pub struct Admission {
    live: AtomicUsize,
    max: AtomicUsize,
    remedies: Remedies,
}

impl Admission {
    /// Admits up to `max` connections at the same time.
    pub fn new(max: usize, remedies: Remedies) -> Admission {
        Admission { live: AtomicUsize::new(0), max: AtomicUsize::new(max), remedies }
    }

    /// Most connections at the same time.
    pub fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// Admits up to `max` connections from now on. Open ones stay open.
    pub fn limit(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// What the operator can do about connections that are refused.
    pub fn remedies(&self) -> Remedies {
        self.remedies
    }

    /// Counts a new connection. Returns false, and does not count it, if the limit is reached.
    pub fn enter(&self) -> bool {
        if self.live.fetch_add(1, Relaxed) < self.max() {
            return true;
        }
        self.leave(1);
        false
    }

    /// Reports to the operator that a connection was refused.
    pub fn report_full(&self, now: Now) {
        static FULL: Topic = Topic::new();
        let (max, Remedies { full, .. }) = (self.max(), self.remedies);
        FULL.report(now, || {
            let text =
                format_args!("a connection was refused: {max} are open, the maximum; {full}");
            Event::ConnectionRefused.line(text).reason("limit")
        });
    }

    /// Reports to the operator that a connection was refused for its peer's address.
    pub fn report_not_allowed(&self, peer: IpAddr, now: Now) {
        static NOT_ALLOWED: Topic = Topic::new();
        let Remedies { not_allowed, .. } = self.remedies;
        NOT_ALLOWED.report(now, || {
            let text = format_args!(
                "a connection from {peer} was refused: it may not connect; {not_allowed}"
            );
            Event::ConnectionRefused.line(text).reason("not_allowed").address(peer)
        });
    }

    /// The same for the client that a load balancer names.
    pub fn report_not_allowed_behind(&self, proxy: IpAddr, peer: IpAddr, now: Now) {
        static NOT_ALLOWED: Topic = Topic::new();
        let Remedies { not_allowed, .. } = self.remedies;
        NOT_ALLOWED.report(now, || {
            let text = format_args!(
                "a connection from {peer} through {proxy} was refused: it may not connect; \
                 {not_allowed}"
            );
            Event::ConnectionRefused.line(text).reason("not_allowed").address(peer)
        });
    }

    /// Reports to the operator that a PROXY header came from who may not send one.
    pub fn report_unnamed_proxy(&self, peer: IpAddr, now: Now) {
        static UNNAMED: Topic = Topic::new();
        let Remedies { unnamed_proxy, .. } = self.remedies;
        UNNAMED.report(now, || {
            let text = format_args!("a PROXY header from {peer}, {unnamed_proxy}");
            Event::ConnectionRefused.line(text).reason("proxy_header").address(peer)
        });
    }

    /// Subtracts `connections` closed connections.
    pub fn leave(&self, connections: usize) {
        self.live.fetch_sub(connections, Relaxed);
    }
}

/// The receiver of a transport's connection events: the worker.
pub trait Handler {
    /// State that the transport stores beside each connection's own, so that both are in the same
    /// cache lines.
    type Connection;

    /// A connection was established on the transport's listener number `listener`.
    fn opened(&mut self, id: ConnectionId, listener: usize, now: Now) -> Self::Connection;

    /// The same connection, with its peer, for who wants to know it; asking may take a system call.
    fn arrived(&mut self, _id: ConnectionId, _peer: &dyn Fn() -> EndAddress) {}

    /// A connection is about to be [`Handler::closed`]. `is_reset`: not in order. The kernel may
    /// not know its peer any more.
    fn departs(
        &mut self,
        _id: ConnectionId,
        _connection: &Self::Connection,
        _peer: &dyn Fn() -> EndAddress,
        _is_reset: bool,
    ) {
    }

    /// Bytes arrived, room appeared, the peer finished, or [`Transport::resume`] was called.
    /// The transport sends what was written when this returns.
    fn ready<S: Stream>(
        &mut self,
        id: ConnectionId,
        connection: &mut Self::Connection,
        stream: &mut S,
        now: Now,
    );

    /// Whether [`Handler::foresee`] pays off now.
    fn foresees(&self) -> bool {
        false
    }

    /// A hint that these bytes will probably be received soon: prefetches the memory that handling
    /// them accesses first. Returns the argument for [`Handler::foresee_more`]. May never be
    /// called, or for bytes that never arrive.
    fn foresee(&self, _bytes: &[u8]) -> u64 {
        0
    }

    /// Prefetches what [`Handler::foresee`]'s memory points to, some time later, when that has
    /// arrived. Any number is valid.
    fn foresee_more(&self, _foreseen: u64) {}

    /// Whether this connection has stalled in a request or reply for too long and must be aborted.
    /// Called every few seconds, not every turn.
    fn is_overdue(&self, connection: &Self::Connection, now: Now) -> bool;

    /// Whether this connection has been idle for so long, with nothing pending, that it must be
    /// closed with FIN, as a client would. Called as often as [`Handler::is_overdue`].
    fn is_idle(&self, _connection: &Self::Connection, _now: Now) -> bool {
        false
    }

    /// The connection has ended, whichever side closed it. Its id is not used again in this
    /// generation.
    fn closed(&mut self, id: ConnectionId, connection: Self::Connection);
}

/// The transport of one worker's connections.
pub trait Transport<C> {
    /// One bounded pass: receives, calls [`Handler::opened`], [`Handler::ready`] and
    /// [`Handler::closed`] as needed, runs due timers. Returns how many frames or events were
    /// processed (0 = idle).
    fn poll<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize;

    /// Calls [`Handler::ready`] for `id`, if it is still open, and sends what that wrote.
    fn resume<H: Handler<Connection = C>>(&mut self, id: ConnectionId, now: Now, handler: &mut H);

    /// Passes the turn's output to the device or the kernel. Bounded; what is not accepted stays
    /// queued.
    fn flush(&mut self, now: Now);

    /// The epoll set in which [`Transport::wait`] sleeps, for sockets of the tiers that must end
    /// the sleep.
    ///
    /// # Errors
    /// If there is no descriptor left.
    fn readiness(&self) -> io::Result<Readiness> {
        Ok(Readiness::none())
    }

    /// `us` microseconds were left out of all times so far (see [`crate::base::clock::Pace`]):
    /// state shared by transports of several workers includes them.
    fn leave_out(&mut self, us: u64);

    /// Sleeps until there may be something to do, at most `timeout_us` microseconds. A transport
    /// that its peer cannot wake and that must be polled returns immediately.
    fn wait(&mut self, timeout_us: u64);

    /// Stops accepting connections; open ones continue.
    fn stop_listening(&mut self);

    /// Ends every connection as if its peer had sent its last byte: requests are answered, replies
    /// are sent, then FIN. Must be called every turn until it returns 0, the number of connections
    /// that have not delivered everything. Connections that have may be closed.
    fn drain<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize;

    /// Ends all connections immediately: the process is about to exit. Replies that clients have
    /// not received are lost, but what [`Transport::drain`] has completed stays delivered.
    fn close_all<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H);

    /// Number of open connections.
    fn connections(&self) -> usize;

    /// Passes to `each` the connections in the next `places` places of the table, from place
    /// `from` on. Returns where the next call continues; 0 after the last.
    fn list(&self, from: usize, places: usize, each: &mut dyn FnMut(Listed<'_, C>)) -> usize;
}
