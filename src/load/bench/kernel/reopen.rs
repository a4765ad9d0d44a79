//! Opens connections again that the server has ended, as soon as their `Backoff` allows.

use std::io::{self, ErrorKind};

use mio::Token;

use super::{Engine, Readable, SECOND_NS, ServerAddress, Socket, Sockets};
use crate::load::bench::backoff::{BEGUN_PER_TURN, Backoff};

/// Longest attempt, in nanoseconds.
const ATTEMPT_NS_MAX: u64 = 3 * SECOND_NS;

/// Whether a connection is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    Up,
    /// To be opened at this time.
    Down(u64),
    /// Being opened until this time.
    Opening(u64),
}

/// The state of a connection, and when it may be tried again.
#[derive(Debug)]
pub struct Line {
    state: LineState,
    backoff: Backoff,
}

impl Default for Line {
    fn default() -> Line {
        Line { state: LineState::Up, backoff: Backoff::default() }
    }
}

impl Line {
    /// Whether nothing can be sent.
    pub fn is_down(&self) -> bool {
        self.state != LineState::Up
    }

    /// To be tried again, later than the last time.
    fn fall(&mut self, now_ns: u64) {
        self.state = LineState::Down(self.backoff.next_ns(now_ns));
    }
}

impl Socket {
    /// Begins to connect.
    fn begin(address: &ServerAddress) -> io::Result<Socket> {
        match address {
            ServerAddress::Tcp(address) => mio::net::TcpStream::connect(*address).map(Socket::Tcp),
            ServerAddress::Unix(path) => mio::net::UnixStream::connect(path).map(Socket::Unix),
        }
    }

    /// Whether it is connected.
    fn is_open(&self) -> io::Result<bool> {
        let (error, peer) = match self {
            Socket::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            Socket::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Err(error)) if error.kind() == ErrorKind::NotConnected => Ok(false),
            (None, peer) => peer.map(|()| true),
        }
    }
}

impl Sockets {
    /// The server ended connection `number`, with an error or in peace.
    #[cold]
    pub(super) fn lose(&mut self, engine: &mut Engine, number: usize, error: Option<&io::Error>) {
        let peer = &mut self.peers[number];
        let mut why = engine.closed_words(&peer.conn);
        if let Some(error) = error {
            why += &format!(" ({error})");
        }
        engine.lost(&mut peer.conn, &why);
        let _ = peer.socket.deregister(self.poll.registry());
        peer.left.clear();
        peer.unsent.clear();
        peer.is_finished = false;
        let now_ns = self.clock.read_ns();
        peer.line.state = LineState::Down(peer.line.backoff.lost(now_ns));
        self.down.push(number);
    }

    /// Something happened to a connection that is down, or it is visited.
    #[cold]
    pub(super) fn serve_down(&mut self, engine: &mut Engine, number: usize, readable: Readable) {
        let now_ns = self.clock.read_ns();
        let peer = &mut self.peers[number];
        if let LineState::Opening(_) = peer.line.state {
            match peer.socket.is_open() {
                Ok(false) => {}
                Ok(true) => {
                    peer.line.state = LineState::Up;
                    peer.line.backoff.is_up(now_ns);
                    if let Socket::Tcp(stream) = &peer.socket {
                        let _ = stream.set_nodelay(true);
                    }
                    engine.set_now(now_ns);
                    engine.regained(&peer.conn);
                    self.down.retain(|&down| down != number);
                    return self.serve(engine, number, readable);
                }
                Err(error) => {
                    engine.refused_again(&error.to_string());
                    let _ = peer.socket.deregister(self.poll.registry());
                    peer.line.fall(now_ns);
                }
            }
        }
        engine.visit_lost(&peer.conn);
    }

    /// Begins to open what is due. Returns when to look again, `until_ns` at the latest.
    #[cold]
    pub(super) fn reopen(&mut self, engine: &mut Engine, mut until_ns: u64) -> u64 {
        let now_ns = self.clock.read_ns();
        let mut begun = 0;
        for &number in &self.down {
            let peer = &mut self.peers[number];
            match peer.line.state {
                LineState::Down(at_ns) if at_ns <= now_ns && begun < BEGUN_PER_TURN => {
                    begun += 1;
                    let opened = Socket::begin(&self.address).and_then(|mut socket| {
                        socket.register(self.poll.registry(), Token(number)).map(|()| socket)
                    });
                    match opened {
                        Ok(socket) => {
                            peer.socket = socket;
                            peer.line.state = LineState::Opening(now_ns + ATTEMPT_NS_MAX);
                        }
                        Err(error) => {
                            engine.refused_again(&error.to_string());
                            peer.line.fall(now_ns);
                        }
                    }
                }
                LineState::Opening(end_ns) if end_ns <= now_ns => {
                    let _ = peer.socket.deregister(self.poll.registry());
                    engine.refused_again("the server does not answer");
                    peer.line.fall(now_ns);
                }
                _ => {}
            }
            if let LineState::Down(at_ns) = peer.line.state {
                until_ns = until_ns.min(at_ns);
            }
        }
        until_ns
    }
}
