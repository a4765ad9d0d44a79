//! Connections over the host's own sockets: TCP or Unix, non-blocking, one epoll a thread.
//!
//! What was read goes to the engine in one piece from a buffer that all connections share; only
//! what is left of a cut answer, or was not taken by the kernel, is kept with its connection.

mod reopen;

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::drive::Carrier;
use super::engine::{Conn, Engine};
use super::plan::ServerAddress;
use super::schedule::SECOND_NS;
use crate::base::clock::Clock;
use crate::net::Stream;
use reopen::Line;

/// Bytes of one read, and the longest answer that is taken in place.
const INPUT_BYTES: usize = 256 * 1024;

/// Bytes that may wait in a connection until the kernel takes them.
const OUTPUT_BYTES: usize = 256 * 1024;

/// Readiness events taken in one turn: few, so that arrivals that are due do not wait long.
const EVENTS_PER_TURN: usize = 64;

/// Waking takes time: so long before an arrival is due the thread is up, and asks without sleeping.
const AWAKE_NS: u64 = 100_000;

/// The timer's token; connections have smaller ones.
const TIMER: Token = Token(usize::MAX);

/// Wakes epoll to the microsecond.
struct Timer(OwnedFd);

impl Timer {
    fn new(registry: &Registry) -> io::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let fd = timer.as_raw_fd();
        registry.register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
        Ok(Timer(timer))
    }

    /// Once, from now; in place of what was asked before. Below a second.
    fn wake_in(&self, ns: u64) -> io::Result<()> {
        let it_value = Timespec { tv_sec: 0, tv_nsec: ns.clamp(1, SECOND_NS - 1) as i64 };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}

enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Socket {
    fn open(address: &ServerAddress, timeout: Duration) -> io::Result<Socket> {
        match address {
            ServerAddress::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, timeout)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(Socket::Tcp(mio::net::TcpStream::from_std(stream)))
            }
            ServerAddress::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Ok(Socket::Unix(mio::net::UnixStream::from_std(stream)))
            }
        }
    }

    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Socket::Tcp(stream) => registry.register(stream, token, both),
            Socket::Unix(stream) => registry.register(stream, token, both),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => registry.deregister(stream),
            Socket::Unix(stream) => registry.deregister(stream),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(into),
            Socket::Unix(stream) => stream.read(into),
        }
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(from),
            Socket::Unix(stream) => stream.write(from),
        }
    }
}

struct Peer {
    socket: Socket,
    conn: Conn,
    /// What was read and belongs to an answer that is cut.
    left: Vec<u8>,
    /// What the kernel did not take.
    unsent: Vec<u8>,
    is_finished: bool,
    line: Line,
}

/// What a visit writes. Its bytes are never cleared: that would take longer than all else that a
/// request needs.
struct Output {
    bytes: Box<[u8]>,
    len: usize,
}

impl Output {
    /// Appends `bytes`, for which there is room.
    fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The connections of one thread.
pub struct Sockets {
    clock: Clock,
    poll: Poll,
    timer: Timer,
    events: Events,
    peers: Vec<Peer>,
    input: Box<[u8]>,
    output: Output,
    ready: Vec<(usize, Readable)>,
    address: ServerAddress,
    /// Connections that the server ended, until they are there again.
    down: Vec<usize>,
}

/// What there may be to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readable {
    Nothing,
    Bytes,
    /// The peer has closed; behind the bytes is the end, of which no other event will tell.
    BytesAndEnd,
}

impl Readable {
    fn of(event: &mio::event::Event) -> Readable {
        match (event.is_readable(), event.is_read_closed() || event.is_error()) {
            (_, true) => Readable::BytesAndEnd,
            (true, false) => Readable::Bytes,
            (false, false) => Readable::Nothing,
        }
    }
}

/// One connection while the engine looks at it.
struct View<'a> {
    input: &'a [u8],
    output: &'a mut Output,
    is_finished: bool,
}

impl Stream for View<'_> {
    fn received(&mut self) -> &[u8] {
        self.input
    }

    fn received_bytes(&self) -> usize {
        self.input.len()
    }

    fn receive_capacity_bytes(&self) -> usize {
        INPUT_BYTES
    }

    fn peek(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.input.len());
        out[..n].copy_from_slice(&self.input[..n]);
        n
    }

    fn consume(&mut self, bytes: usize) {
        self.input = &self.input[bytes..];
    }

    fn is_peer_finished(&self) -> bool {
        self.is_finished
    }

    fn room_bytes(&self) -> usize {
        OUTPUT_BYTES - self.output.len
    }

    fn write_with(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let filled = fill(&mut self.output.bytes[self.output.len..]);
        self.output.len += filled;
        filled
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room_bytes());
        self.output.append(&bytes[..taken]);
        taken
    }

    fn close(&mut self) {}

    fn abort(&mut self) {}
}

impl Sockets {
    /// Opens `connections` connections to `place`.
    ///
    /// # Errors
    /// The kernel's, with the number of connections that were opened.
    pub fn open(
        address: &ServerAddress,
        connections: usize,
        clock: Clock,
        timeout: Duration,
    ) -> Result<Sockets, (usize, io::Error)> {
        let poll = Poll::new().map_err(|error| (0, error))?;
        let timer = Timer::new(poll.registry()).map_err(|error| (0, error))?;
        let mut peers = Vec::with_capacity(connections);
        for number in 0..connections {
            let open = || {
                let mut socket = Socket::open(address, timeout)?;
                socket.register(poll.registry(), Token(number))?;
                Ok(socket)
            };
            let socket = open().map_err(|error| (number, error))?;
            let conn = Conn::new(number);
            let (left, unsent) = (Vec::new(), Vec::new());
            let line = Line::default();
            peers.push(Peer { socket, conn, left, unsent, is_finished: false, line });
        }
        Ok(Sockets {
            clock,
            poll,
            timer,
            events: Events::with_capacity(EVENTS_PER_TURN),
            peers,
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            output: Output { bytes: vec![0; OUTPUT_BYTES].into_boxed_slice(), len: 0 },
            ready: Vec::with_capacity(EVENTS_PER_TURN),
            address: address.clone(),
            down: Vec::new(),
        })
    }

    /// Reads what there is of connection `number`, lets the engine at it, and writes.
    fn serve(&mut self, engine: &mut Engine, number: usize, readable: Readable) {
        if self.peers[number].line.is_down() {
            return self.serve_down(engine, number, readable);
        }
        let peer = &mut self.peers[number];
        loop {
            let left = peer.left.len();
            self.input[..left].copy_from_slice(&peer.left);
            let mut filled = left;
            let mut is_drained = readable == Readable::Nothing || peer.is_finished;
            if !is_drained {
                match peer.socket.read(&mut self.input[left..]) {
                    Ok(0) => {
                        peer.is_finished = true;
                        is_drained = true;
                    }
                    Ok(n) => {
                        filled += n;
                        // A read that did not fill its room has taken all bytes.
                        is_drained = readable == Readable::Bytes && filled < INPUT_BYTES;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => is_drained = true,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return self.lose(engine, number, Some(&error)),
                }
            }
            engine.set_now(self.clock.read_ns());
            self.output.len = 0;
            self.output.append(&peer.unsent);
            peer.unsent.clear();
            let mut view = View {
                input: &self.input[..filled],
                output: &mut self.output,
                is_finished: peer.is_finished && is_drained,
            };
            engine.visit(&mut peer.conn, &mut view);
            let rest = view.input.len();
            peer.left.clear();
            peer.left.extend_from_slice(&self.input[filled - rest..filled]);
            let is_ended = peer.is_finished && is_drained;
            let sent = if is_ended { Ok(()) } else { Sockets::send(peer, self.output.written()) };
            if is_ended || sent.is_err() {
                return self.lose(engine, number, sent.err().as_ref());
            }
            // The kernel took all of a full buffer: no event will ask for the rest of a request.
            let is_cut = self.output.len == OUTPUT_BYTES && peer.unsent.is_empty();
            if is_drained && !is_cut {
                return;
            }
        }
    }

    /// Writes `output`; what the kernel does not take waits.
    fn send(peer: &mut Peer, output: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < output.len() {
            match peer.socket.write(&output[sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    peer.unsent.extend_from_slice(&output[sent..]);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Carrier for Sockets {
    fn begin_turn(&mut self, engine: &mut Engine, until_ns: u64) {
        let until_ns = if self.down.is_empty() { until_ns } else { self.reopen(engine, until_ns) };
        let now_ns = self.clock.read_ns();
        let rest_ns = until_ns.saturating_sub(now_ns);
        // epoll's own time-out counts in milliseconds.
        let timeout = if rest_ns > AWAKE_NS {
            if let Err(error) = self.timer.wake_in(rest_ns - AWAKE_NS) {
                return engine.fail(format!("timerfd: {error}"));
            }
            None
        } else {
            Some(Duration::ZERO)
        };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            Err(error) => return engine.fail(format!("epoll: {error}")),
        }
        engine.tick(self.clock.read_ns());
        self.ready.clear();
        let each = |event: &mio::event::Event| (event.token().0, Readable::of(event));
        self.ready.extend(self.events.iter().filter(|event| event.token() != TIMER).map(each));
        for n in 0..self.ready.len() {
            let (number, readable) = self.ready[n];
            self.serve(engine, number, readable);
        }
    }

    fn visit(&mut self, engine: &mut Engine, number: usize) {
        self.serve(engine, number, Readable::Nothing);
    }

    fn end_turn(&mut self) {}

    fn close(&mut self, engine: &mut Engine) {
        engine.end();
        self.peers.clear();
    }
}
