//! What a connection reads and writes through, whatever carries it.
//!
//! `kernel` carries connections over the host's own TCP and Unix sockets, `tcp` over our stack and
//! a DPDK device. Neither knows what the bytes mean, and neither shows a socket of its own.

pub mod kernel;
#[cfg(feature = "dpdk")]
pub mod nic;
pub mod tcp;

use std::io::{self, IoSliceMut};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::base::clock::Now;
#[cfg(doc)]
use crate::base::limits::RECEIVE_PIECES;
use crate::base::readiness::Readiness;
use crate::report::Topic;

/// Names one connection of one worker. A number is used again after its connection has closed; the
/// generation tells the two apart, so that a late result never reaches a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Place in the transport's table.
    pub index: u32,
    /// How often that place was used before.
    pub generation: u32,
}

/// The two byte streams of one connection.
pub trait Stream {
    /// Bytes that arrived and were not consumed: the first contiguous piece of them. Empty only if
    /// there are none. May be shorter than [`Stream::received_bytes`] where a ring wraps.
    fn received(&mut self) -> &[u8];

    /// How many bytes arrived and were not consumed.
    fn received_bytes(&self) -> usize;

    /// Most bytes that can wait here unconsumed. A request line longer than this never completes.
    fn receive_capacity_bytes(&self) -> usize;

    /// Copies up to `out.len()` waiting bytes, across a wrap, without consuming them.
    fn peek(&mut self, out: &mut [u8]) -> usize;

    /// Drops the first `bytes` waiting bytes; `bytes` is at most [`Stream::received_bytes`].
    fn consume(&mut self, bytes: usize);

    /// Whether nothing will arrive beyond what waits now: the peer has sent its last byte (FIN), or
    /// the transport drains ([`Transport::drain`]).
    fn is_peer_finished(&self) -> bool;

    /// Free bytes for output, in all pieces. 0 too when a visit has sent its share; the handler is
    /// called again when there is room, or in the next turn.
    fn room_bytes(&self) -> usize;

    /// Offers the next contiguous piece of free output to `fill`, which returns how much of it it
    /// filled. Returns that number; 0 if there is no room.
    fn write_with(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize;

    /// Whether [`Stream::send_pieces`] ever sends.
    const SENDS_PIECES: bool = false;

    /// Sends what was written and, behind it, as much of `pieces` as goes without a copy of ours;
    /// returns how much of them that was. 0 says nothing about the room there is.
    fn send_pieces<'p>(&mut self, _pieces: impl Iterator<Item = &'p [u8]>) -> usize {
        0
    }

    /// Whether [`Stream::receive_into`] ever receives.
    const RECEIVES_INTO: bool = false;

    /// Receives what comes next straight into `pieces`, of which there are at most
    /// [`RECEIVE_PIECES`], if nothing waits unconsumed; what comes behind them waits as usual.
    /// Returns how many bytes went into `pieces`; 0 if nothing is there, or the visit has received
    /// its share.
    fn receive_into(&mut self, _pieces: &mut [IoSliceMut<'_>]) -> usize {
        0
    }

    /// What comes next is wanted by [`Stream::receive_into`] in the next visit, which is to find it
    /// not received yet. Holds for one visit.
    fn expect_into(&mut self) {}

    /// Sends FIN once everything written has been sent. Nothing is read or written afterwards.
    fn close(&mut self);

    /// Drops the connection at once (RST), with what was not sent.
    fn abort(&mut self);

    /// Copies `bytes` out, as far as there is room; returns how many.
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

/// What a client over the connection limit is told before its connection is closed (memcached 1.6,
/// `maxconns_fast`).
pub const REFUSAL: &[u8] = b"ERROR Too many open connections\r\n";

/// What the operator can do about connections that are refused, in words that end a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remedies {
    /// As many are open as may be.
    pub full: &'static str,
    /// The host does not let them be accepted.
    pub not_accepted: &'static str,
}

/// How many connections live in all workers together, and how many may.
#[derive(Debug)]
pub struct Admission {
    live: AtomicUsize,
    max: usize,
    remedies: Remedies,
}

impl Admission {
    /// Admits up to `max` connections at once.
    pub fn new(max: usize, remedies: Remedies) -> Admission {
        Admission { live: AtomicUsize::new(0), max, remedies }
    }

    /// What the operator can do about connections that are refused.
    pub fn remedies(&self) -> Remedies {
        self.remedies
    }

    /// Counts one connection in. False, and counts nothing, if there are as many as may be.
    pub fn enter(&self) -> bool {
        if self.live.fetch_add(1, Relaxed) < self.max {
            return true;
        }
        self.leave(1);
        false
    }

    /// Tells the operator that somebody was not counted in.
    pub fn tell_full(&self, now: Now) {
        static FULL: Topic = Topic::new();
        let Admission { max, remedies: Remedies { full, .. }, .. } = self;
        FULL.report(now, || {
            format!("a connection was refused: {max} are open, as many as may be; {full}")
        });
    }

    /// Counts `connections` connections out.
    pub fn leave(&self, connections: usize) {
        self.live.fetch_sub(connections, Relaxed);
    }
}

/// What a transport tells about its connections: the worker.
pub trait Handler {
    /// State that the transport keeps beside each connection's own, so that both are in cache
    /// together.
    type Connection;

    /// A connection was established on the transport's listener number `listener`.
    fn opened(&mut self, id: ConnectionId, listener: usize, now: Now) -> Self::Connection;

    /// Bytes arrived, room appeared, the peer finished, or [`Transport::resume`] was called.
    /// The transport sends what was written when this returns.
    fn ready<S: Stream>(
        &mut self,
        id: ConnectionId,
        connection: &mut Self::Connection,
        stream: &mut S,
        now: Now,
    );

    /// Whether [`Handler::foresee`] is worth the while now.
    fn foresees(&self) -> bool {
        false
    }

    /// These bytes will be received in a moment, most likely: a hint, to bring close what answering
    /// them will touch first. Returns what [`Handler::foresee_more`] is to be called with. May
    /// never be called, or for bytes that never come.
    fn foresee(&self, _bytes: &[u8]) -> u32 {
        0
    }

    /// Brings close what lies behind that which [`Handler::foresee`] asked for, some time after it,
    /// so that it need not wait. Any number will do.
    fn foresee_more(&self, _foreseen: u32) {}

    /// Whether this connection has stalled in the middle of something for too long and shall be
    /// aborted. Asked every few seconds, not every turn.
    fn is_overdue(&self, connection: &Self::Connection, now: Now) -> bool;

    /// Whether this connection owes nothing and has asked for nothing for so long that it shall be
    /// closed as a client closes: by FIN. Asked as often as [`Handler::is_overdue`].
    fn is_idle(&self, _connection: &Self::Connection, _now: Now) -> bool {
        false
    }

    /// The connection is gone, whoever ended it. Its id is not used again in this generation.
    fn closed(&mut self, id: ConnectionId, connection: Self::Connection);
}

/// Something that carries the connections of one worker.
pub trait Transport<C> {
    /// One bounded pass: receives, calls [`Handler::opened`], [`Handler::ready`] and
    /// [`Handler::closed`] as needed, runs due timers. Returns how much was done (frames or events;
    /// 0 = idle).
    fn poll<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize;

    /// Calls [`Handler::ready`] for `id`, if it still lives, and sends what that wrote.
    fn resume<H: Handler<Connection = C>>(&mut self, id: ConnectionId, now: Now, handler: &mut H);

    /// Hands the turn's output to the device or the kernel. Bounded; what is not taken stays
    /// queued.
    fn flush(&mut self, now: Now);

    /// Where [`Transport::wait`] sleeps, for sockets of the tiers that are to end it.
    ///
    /// # Errors
    /// The kernel's, if it has no descriptor left.
    fn readiness(&self) -> io::Result<Readiness> {
        Ok(Readiness::none())
    }

    /// `us` microseconds were left out of all times so far (see [`crate::base::clock::Pace`]): what
    /// transports of several workers share counts them.
    fn leave_out(&mut self, us: u64);

    /// Sleeps until there may be something to do, at most `timeout_us` microseconds. A transport
    /// that cannot be woken by its peer returns at once if it has to be polled.
    fn wait(&mut self, timeout_us: u64);

    /// Stops accepting connections; those that live go on.
    fn stop_listening(&mut self);

    /// Takes every connection towards its end, as if its peer had sent its last byte: what was
    /// asked is answered, what is answered is sent, then FIN. To be called every turn until it
    /// returns 0: how many have not delivered everything. Those may be closed that have.
    fn drain<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize;

    /// Ends all connections at once: the process is about to go. What the clients were sent and
    /// did not get is lost, but what [`Transport::drain`] has seen to its end stays delivered.
    fn close_all<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H);

    /// Connections that live.
    fn connections(&self) -> usize;
}
