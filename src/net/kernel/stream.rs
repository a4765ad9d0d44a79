//! One connection over a kernel socket, or over rings in shared memory, and the stream that a
//! handler sees.
//!
//! Input is read into a buffer that all connections of a worker share; bytes that the handler does
//! not consume move to the connection's own queue. Output gathers in another shared buffer and is
//! written when the handler returns, when the buffer is full, or together with a long value that is
//! sent without copying; gathered bytes that the kernel does not accept move to the connection's
//! own queue. Nothing here calls a handler.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::path::Path;
use std::time::Duration;

use arrayvec::ArrayVec;
use mio::event::Source;
use socket2::SockRef;

use super::queue::{Pool, Queue};
use crate::base::limits::{
    KERNEL_BUFFER_BYTES, KERNEL_HEAD_READ_BYTES, KERNEL_OUTPUT_ROOM_BYTES,
    KERNEL_RECEIVE_BYTES_PER_VISIT, KERNEL_SEND_BYTES_PER_VISIT, KERNEL_SEND_PIECES,
    KERNEL_SMALL_BUFFER_BYTES, RECEIVE_PIECES,
};
use crate::base::stats::{Counter, WorkerStats};
use crate::net::{EndAddress, Stream};
use crate::tier::shm::End;
use crate::tier::shm::ring::Sleep;

/// A connected socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
    /// Not a socket: see [`super::attach`].
    Rings(Box<End>),
}

impl Socket {
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(socket) => socket,
            Socket::Unix(socket) => socket,
            Socket::Rings(end) => &mut **end,
        }
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(out),
            Socket::Unix(socket) => socket.read(out),
            Socket::Rings(end) => end.read(out),
        }
    }

    fn read_vectored(&mut self, pieces: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read_vectored(pieces),
            Socket::Unix(socket) => socket.read_vectored(pieces),
            Socket::Rings(end) => {
                let pieces = pieces.iter_mut();
                in_turn(pieces, |piece| end.read(piece), |piece| piece.len())
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
            Socket::Rings(end) => end.write(bytes),
        }
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write_vectored(pieces),
            Socket::Unix(socket) => socket.write_vectored(pieces),
            Socket::Rings(end) => {
                in_turn(pieces.iter(), |piece| end.write(piece), |piece| piece.len())
            }
        }
    }

    /// The peer, for a list.
    fn peer_end(&self) -> EndAddress {
        match self {
            Socket::Tcp(socket) => tcp_end(socket.peer_addr()),
            // The peer's own has no name.
            Socket::Unix(_) | Socket::Rings(_) => self.local_end(),
        }
    }

    /// What the peer connected to, for a list.
    pub(super) fn local_end(&self) -> EndAddress {
        match self {
            Socket::Tcp(socket) => tcp_end(socket.local_addr()),
            Socket::Unix(socket) => {
                let address = socket.local_addr().ok();
                EndAddress::Unix(address.and_then(|it| it.as_pathname().map(Path::to_owned)))
            }
            Socket::Rings(_) => EndAddress::Rings,
        }
    }

    /// Sends FIN after everything written.
    pub(super) fn finish(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
            Socket::Rings(end) => end.finish(),
        }
    }

    /// Closes by RST. A Unix socket has none: its peer reads everything sent, then the end.
    pub(super) fn reset(self) {
        if let Socket::Tcp(socket) = &self {
            // It fails if the connection has already ended.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
    }
}

/// An address of a TCP socket; an IPv4 one also where the socket is for IPv6.
fn tcp_end(address: io::Result<SocketAddr>) -> EndAddress {
    address.map_or(EndAddress::Unknown, |address| EndAddress::Tcp(canonical(address)))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Moves pieces one after another until one is not moved completely. An error counts if nothing was
/// moved before it.
fn in_turn<P>(
    pieces: impl Iterator<Item = P>,
    mut step: impl FnMut(&mut P) -> io::Result<usize>,
    length: impl Fn(&P) -> usize,
) -> io::Result<usize> {
    let mut moved = 0;
    for mut piece in pieces {
        let bytes = length(&piece);
        if bytes == 0 {
            continue;
        }
        match step(&mut piece) {
            Ok(n) => {
                moved += n;
                if n < bytes {
                    break;
                }
            }
            Err(error) if moved == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(moved)
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A load balancer has to say first whose it is; see [`super::proxy`].
    Introducing,
    /// The handler reads and writes.
    Open,
    /// The handler closed it; output is still queued.
    Closing,
    /// FIN was sent; input is dropped until the peer sends FIN too.
    Lingering,
    /// The handler aborted it: RST.
    Aborted,
    /// The kernel reported its end.
    Dead,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Nothing new.
    Nothing,
    /// New bytes, or the end; [`Shared::input`] has all unconsumed bytes, this many.
    Gathered(usize),
    /// New bytes, or the end; all unconsumed bytes are in the connection's queue.
    Queued,
}

/// The buffers that the connections of one worker share.
#[derive(Debug)]
pub(super) struct Shared {
    input: Box<[u8]>,
    output: Box<[u8]>,
    output_bytes: usize,
    pool: Pool,
    /// Further input is not passed to the handler.
    pub(super) is_draining: bool,
}

impl Shared {
    pub(super) fn new() -> Shared {
        Shared {
            input: vec![0; KERNEL_BUFFER_BYTES].into_boxed_slice(),
            output: vec![0; KERNEL_BUFFER_BYTES].into_boxed_slice(),
            output_bytes: 0,
            pool: Pool::new(),
            is_draining: false,
        }
    }

    #[cfg(test)]
    pub(super) fn free_buffers(&self) -> (usize, usize) {
        self.pool.free_buffers()
    }
}

/// The transport's own part of one connection.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) socket: Socket,
    /// Input that the handler did not consume.
    input: Queue,
    /// Output that the kernel did not accept.
    output: Queue,
    pub(super) phase: Phase,
    /// The kernel may have more to read. It reports an arrival only once; only a short read shows
    /// that nothing is left.
    is_readable: bool,
    /// FIN or RST was reported. Reading must continue to the end, because no more events follow.
    is_hung_up: bool,
    /// The peer's FIN was read.
    is_finished: bool,
    /// An event when writable was requested.
    pub(super) is_writable_armed: bool,
    /// The connection is in the list of connections to visit again.
    pub(super) is_pending: bool,
    /// Bytes that the kernel accepted in this visit, or in the last one.
    sent_in_visit: usize,
    /// The next visit receives by itself.
    is_expecting: bool,
    /// Values were received directly into their place since a read last found only requests.
    has_long_values: bool,
    /// When queued output last moved, while lingering FIN was sent, or while introducing it was
    /// accepted; microseconds of uptime.
    pub(super) progress_us: u64,
    /// Where it was accepted, if it has to be introduced.
    acceptor: u16,
    /// Whose it is, if it is or has to be introduced.
    source: Option<Box<SocketAddr>>,
}

impl Endpoint {
    pub(super) fn new(socket: Socket) -> Endpoint {
        Endpoint {
            socket,
            input: Queue::default(),
            output: Queue::default(),
            phase: Phase::Open,
            is_readable: false,
            is_hung_up: false,
            is_finished: false,
            is_writable_armed: false,
            is_pending: false,
            sent_in_visit: 0,
            is_expecting: false,
            has_long_values: false,
            progress_us: 0,
            acceptor: 0,
            source: None,
        }
    }

    /// It comes from `peer`, was accepted at place `acceptor`, and has to be introduced.
    pub(super) fn await_introduction(&mut self, acceptor: usize, peer: SocketAddr, now_us: u64) {
        self.phase = Phase::Introducing;
        // The kernel does not say it any more when the peer has gone.
        self.source = Some(Box::new(canonical(peer)));
        self.acceptor = acceptor as u16;
        self.progress_us = now_us;
    }

    /// The peer, for a list.
    pub(super) fn peer_end(&self) -> EndAddress {
        match &self.source {
            Some(source) => EndAddress::Tcp(**source),
            None => self.socket.peer_end(),
        }
    }

    /// Who has connected, whoever that is for.
    pub(super) fn socket_ip(&self) -> IpAddr {
        match self.socket.peer_end() {
            EndAddress::Tcp(address) => address.ip(),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// As [`Stream::peer`].
    fn peer_ip(&self) -> Option<IpAddr> {
        match self.peer_end() {
            EndAddress::Tcp(address) => Some(address.ip()),
            // It has gone.
            EndAddress::Unknown => Some(Ipv4Addr::UNSPECIFIED.into()),
            EndAddress::Unix(_) | EndAddress::Rings => None,
        }
    }

    /// Notes an event that something can be read.
    pub(super) fn announce_readable(&mut self, is_hung_up: bool) {
        self.is_readable = true;
        self.is_hung_up |= is_hung_up;
    }

    /// Whether there is something to read and room for it.
    pub(super) fn can_receive(&self) -> bool {
        self.is_readable && !self.is_finished && self.input.room_bytes() > 0
    }

    /// Whether the peer's FIN was read.
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether output waits for the kernel to accept it.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether the last visit ended because it had sent its share, not because the kernel accepted
    /// no more: then no event will report that there is room.
    pub(super) fn is_cut_short(&self) -> bool {
        self.has_sent_its_share() && self.phase == Phase::Open && !self.has_output()
    }

    fn has_sent_its_share(&self) -> bool {
        self.sent_in_visit >= KERNEL_SEND_BYTES_PER_VISIT
    }

    /// Whether the visit itself receives, so that nothing must be received before it.
    pub(super) fn is_expecting(&self) -> bool {
        self.is_expecting && self.input.is_empty()
    }

    /// Reads once.
    pub(super) fn receive(&mut self, shared: &mut Shared, stats: &WorkerStats) -> Received {
        // A short remainder is copied in front of the new input, so that it does not shorten the
        // read; a long one is extended in place.
        let is_gathered = self.input.len() <= KERNEL_SMALL_BUFFER_BYTES;
        let before = self.input.len();
        let room = if is_gathered {
            shared.input[..before].copy_from_slice(self.input.as_slice());
            let end = match self.has_long_values {
                true => before + KERNEL_HEAD_READ_BYTES,
                false => KERNEL_BUFFER_BYTES,
            };
            &mut shared.input[before..end.min(KERNEL_BUFFER_BYTES)]
        } else {
            self.input.room(&mut shared.pool)
        };
        let room_bytes = room.len();
        let n = match self.socket.read(room) {
            Ok(n) => n,
            Err(error) => {
                self.read_failed(&error);
                self.input.filled(0, &mut shared.pool);
                return Received::Nothing;
            }
        };
        self.has_received(n, room_bytes, stats);
        // With this much input that is not a long value, the next read may be a normal one.
        self.has_long_values &= n < room_bytes;
        if is_gathered {
            self.input.release(&mut shared.pool);
            Received::Gathered(before + n)
        } else {
            self.input.filled(n, &mut shared.pool);
            Received::Queued
        }
    }

    /// Notes `n` bytes from a read of up to `room_bytes`.
    fn has_received(&mut self, n: usize, room_bytes: usize, stats: &WorkerStats) {
        stats.add(Counter::BytesRead, n as u64);
        if n == 0 {
            self.is_finished = true;
        }
        if n == 0 || (n < room_bytes && !self.is_hung_up) {
            self.is_readable = false;
        }
    }

    /// Reads once, into `pieces` and then into [`Shared::input`]. Returns how much was read.
    fn receive_into(
        &mut self,
        pieces: &mut [IoSliceMut<'_>],
        shared: &mut Shared,
        stats: &WorkerStats,
    ) -> usize {
        let mut slices = ArrayVec::<IoSliceMut<'_>, { RECEIVE_PIECES + 1 }>::new();
        slices.extend(pieces.iter_mut().map(|piece| IoSliceMut::new(piece)));
        slices.push(IoSliceMut::new(&mut shared.input[..KERNEL_HEAD_READ_BYTES]));
        let room_bytes = slices.iter().map(|slice| slice.len()).sum();
        match self.socket.read_vectored(&mut slices) {
            Ok(n) => {
                self.has_received(n, room_bytes, stats);
                self.has_long_values = true;
                n
            }
            Err(error) => {
                self.read_failed(&error);
                0
            }
        }
    }

    fn read_failed(&mut self, error: &io::Error) {
        match error.kind() {
            ErrorKind::WouldBlock => self.is_readable = false,
            ErrorKind::Interrupted => {}
            _ => self.phase = Phase::Dead,
        }
    }

    /// Drops input after our FIN. Bounded: one read.
    pub(super) fn discard(&mut self, shared: &mut Shared) {
        self.input.release(&mut shared.pool);
        match self.socket.read(&mut shared.input) {
            Ok(0) => self.is_finished = true,
            Ok(n) => self.is_readable = n == shared.input.len() || self.is_hung_up,
            Err(error) => self.read_failed(&error),
        }
    }

    /// Sends queued output. True if some of it was sent.
    pub(super) fn drain(&mut self, shared: &mut Shared, now_us: u64, stats: &WorkerStats) -> bool {
        match self.socket.write(self.output.as_slice()) {
            Ok(n) => {
                stats.add(Counter::BytesWritten, n as u64);
                self.output.consume(n, &mut shared.pool);
                self.progress_us = now_us;
                n > 0
            }
            Err(error) => {
                self.write_failed(&error);
                false
            }
        }
    }

    fn write_failed(&mut self, error: &io::Error) {
        if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
            self.phase = Phase::Dead;
        }
    }

    /// Sends the output gathered in the shared buffer, and queues what the kernel does not accept.
    fn send_gathered(&mut self, shared: &mut Shared, now_us: u64, stats: &WorkerStats) {
        let gathered = std::mem::take(&mut shared.output_bytes);
        if gathered == 0 || self.phase == Phase::Dead {
            return;
        }
        let result = self.socket.write(&shared.output[..gathered]);
        self.has_sent(result, gathered, shared, now_us, stats);
    }

    /// The same, followed by as much of `pieces` as the kernel accepts; returns how much of them.
    fn send_gathered_and<'p>(
        &mut self,
        pieces: impl Iterator<Item = &'p [u8]>,
        shared: &mut Shared,
        now_us: u64,
        stats: &WorkerStats,
    ) -> usize {
        let gathered = std::mem::take(&mut shared.output_bytes);
        let mut slices = ArrayVec::<IoSlice<'_>, KERNEL_SEND_PIECES>::new();
        slices.push(IoSlice::new(&shared.output[..gathered]));
        for piece in pieces.take(KERNEL_SEND_PIECES - 1) {
            slices.push(IoSlice::new(piece));
        }
        let result = self.socket.write_vectored(&slices);
        drop(slices);
        self.has_sent(result, gathered, shared, now_us, stats)
    }

    /// Queues the part of the `gathered` bytes that the kernel did not accept. Returns how much
    /// more it accepted.
    fn has_sent(
        &mut self,
        result: io::Result<usize>,
        gathered: usize,
        shared: &mut Shared,
        now_us: u64,
        stats: &WorkerStats,
    ) -> usize {
        let sent = result.unwrap_or_else(|error| {
            self.write_failed(&error);
            0
        });
        stats.add(Counter::BytesWritten, sent as u64);
        self.sent_in_visit += sent;
        if sent < gathered && self.phase != Phase::Dead {
            self.output.append(&shared.output[sent..gathered], &mut shared.pool);
            self.progress_us = now_us;
        }
        sent.saturating_sub(gathered)
    }

    /// Whether this is a connection over rings, and not over a socket.
    pub(super) fn is_rings(&self) -> bool {
        matches!(self.socket, Socket::Rings(_))
    }

    /// Whether the rings have input that can be received, and room for queued output.
    #[inline]
    pub(super) fn ring_news(&mut self) -> (bool, bool) {
        let Socket::Rings(end) = &mut self.socket else { return (false, false) };
        let has_input = end.has_input();
        let has_room = !self.output.is_empty() && end.has_room();
        self.is_readable |= has_input;
        (has_input && self.can_receive(), has_room)
    }

    /// Whether the other side has broken the rings.
    pub(super) fn is_broken_ring(&self) -> bool {
        matches!(&self.socket, Socket::Rings(end) if end.is_broken())
    }

    /// Whether the other side of the rings is gone.
    pub(super) fn is_hung_up_ring(&self) -> bool {
        matches!(&self.socket, Socket::Rings(end) if end.is_hung_up())
    }

    /// Announces that the worker is about to sleep. False if it must not.
    pub(super) fn ring_falls_asleep(&mut self) -> bool {
        let (has_input, has_room) = self.ring_news();
        if has_input || has_room {
            return false;
        }
        // Input for which the connection has no room waits for something else than the client.
        let sleep = match (self.is_readable, self.has_output()) {
            (false, false) => Sleep::Input,
            (false, true) => Sleep::Room,
            (true, true) => Sleep::RoomAlone,
            (true, false) => return true,
        };
        let Socket::Rings(end) = &mut self.socket else { return true };
        end.fall_asleep(sleep)
    }

    /// Announces that the worker is awake.
    pub(super) fn ring_rises(&mut self) {
        if let Socket::Rings(end) = &mut self.socket {
            end.rise();
        }
    }

    /// Returns the buffers.
    pub(super) fn release(&mut self, shared: &mut Shared) {
        self.input.release(&mut shared.pool);
        self.output.release(&mut shared.pool);
    }
}

/// One connection during one visit of its handler.
pub(super) struct KernelStream<'a> {
    endpoint: &'a mut Endpoint,
    shared: &'a mut Shared,
    stats: &'a WorkerStats,
    now_us: u64,
    /// Length of the input in [`Shared::input`], if it is there.
    gathered: Option<usize>,
    /// How much of it was consumed.
    consumed: usize,
    /// Bytes that the handler received directly.
    received_into: usize,
}

impl<'a> KernelStream<'a> {
    pub(super) fn new(
        endpoint: &'a mut Endpoint,
        shared: &'a mut Shared,
        stats: &'a WorkerStats,
        now_us: u64,
        received: Received,
    ) -> KernelStream<'a> {
        let gathered = match received {
            Received::Gathered(bytes) => Some(bytes),
            Received::Nothing | Received::Queued => None,
        };
        endpoint.sent_in_visit = 0;
        endpoint.is_expecting = false;
        KernelStream { endpoint, shared, stats, now_us, gathered, consumed: 0, received_into: 0 }
    }

    /// Ends the visit: sends what was written and keeps unconsumed input.
    pub(super) fn leave(self) {
        if let Some(bytes) = self.gathered {
            let rest = &self.shared.input[self.consumed..bytes];
            self.endpoint.input.append(rest, &mut self.shared.pool);
        }
        self.endpoint.send_gathered(self.shared, self.now_us, self.stats);
    }

    fn waiting(&self) -> &[u8] {
        if self.endpoint.phase == Phase::Open { self.unconsumed() } else { &[] }
    }

    /// Whose connection it is was said. Returns the peer's address, and where it was accepted.
    pub(super) fn introduce(&mut self, source: Option<SocketAddr>) -> (Option<IpAddr>, usize) {
        self.endpoint.phase = Phase::Open;
        if let Some(source) = source {
            self.endpoint.source = Some(Box::new(source));
        }
        (self.endpoint.peer_ip(), usize::from(self.endpoint.acceptor))
    }

    /// The bytes that arrived and were not consumed, whatever the connection's state.
    pub(super) fn unconsumed(&self) -> &[u8] {
        match self.gathered {
            Some(bytes) => &self.shared.input[self.consumed..bytes],
            None => self.endpoint.input.as_slice(),
        }
    }
}

impl Stream for KernelStream<'_> {
    fn received(&mut self) -> &[u8] {
        self.waiting()
    }

    fn received_bytes(&self) -> usize {
        self.waiting().len()
    }

    fn receive_capacity_bytes(&self) -> usize {
        KERNEL_BUFFER_BYTES
    }

    fn peek(&mut self, out: &mut [u8]) -> usize {
        let waiting = self.waiting();
        let n = waiting.len().min(out.len());
        out[..n].copy_from_slice(&waiting[..n]);
        n
    }

    fn consume(&mut self, bytes: usize) {
        // A handler may consume the rest of a request after it closed the connection.
        assert!(bytes <= self.unconsumed().len(), "consumed at most what was received");
        match self.gathered {
            Some(_) => self.consumed += bytes,
            None => self.endpoint.input.consume(bytes, &mut self.shared.pool),
        }
    }

    fn is_peer_finished(&self) -> bool {
        self.endpoint.is_finished || self.shared.is_draining
    }

    fn peer(&self) -> Option<IpAddr> {
        self.endpoint.peer_ip()
    }

    fn room_bytes(&self) -> usize {
        if self.endpoint.phase != Phase::Open {
            0
        } else if self.endpoint.has_output() {
            self.endpoint.output.room_bytes()
        } else if self.endpoint.has_sent_its_share() {
            0
        } else {
            KERNEL_BUFFER_BYTES - self.shared.output_bytes
        }
    }

    fn write_with(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        if self.room_bytes() == 0 {
            return 0;
        }
        if self.endpoint.has_output() {
            let n = fill(self.endpoint.output.room(&mut self.shared.pool));
            self.endpoint.output.filled(n, &mut self.shared.pool);
            return n;
        }
        let n = fill(&mut self.shared.output[self.shared.output_bytes..]);
        self.shared.output_bytes += n;
        let room = KERNEL_BUFFER_BYTES.checked_sub(self.shared.output_bytes);
        if room.expect("filled within the piece") < KERNEL_OUTPUT_ROOM_BYTES {
            self.endpoint.send_gathered(self.shared, self.now_us, self.stats);
        }
        n
    }

    const SENDS_PIECES: bool = true;

    fn send_pieces<'p>(&mut self, pieces: impl Iterator<Item = &'p [u8]>) -> usize {
        // Behind queued output the kernel would accept nothing.
        if self.endpoint.has_output() || self.room_bytes() == 0 {
            return 0;
        }
        self.endpoint.send_gathered_and(pieces, self.shared, self.now_us, self.stats)
    }

    const RECEIVES_INTO: bool = true;

    fn receive_into(&mut self, pieces: &mut [IoSliceMut<'_>]) -> usize {
        let is_at_end = self.endpoint.phase == Phase::Open && self.unconsumed().is_empty();
        if !is_at_end
            || !self.endpoint.can_receive()
            || self.received_into >= KERNEL_RECEIVE_BYTES_PER_VISIT
        {
            return 0;
        }
        let wanted: usize = pieces.iter().map(|piece| piece.len()).sum();
        let n = self.endpoint.receive_into(pieces, self.shared, self.stats);
        self.received_into += n;
        self.consumed = 0;
        self.gathered = Some(n.saturating_sub(wanted));
        n.min(wanted)
    }

    fn expect_into(&mut self) {
        self.endpoint.is_expecting = true;
    }

    fn close(&mut self) {
        if self.endpoint.phase == Phase::Open {
            self.endpoint.phase = Phase::Closing;
        }
    }

    fn abort(&mut self) {
        if self.endpoint.phase != Phase::Dead {
            self.endpoint.phase = Phase::Aborted;
        }
        self.shared.output_bytes = 0;
    }
}
