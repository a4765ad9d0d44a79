//! Kernel sockets over loopback, with real clients on the same thread: turns of the worker and the
//! client alternate until the expected state is reached or a number of turns is used up.

mod allow;
mod pieces;
mod proxy;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::limits::{
    KERNEL_BUFFER_BYTES, KERNEL_BUFFERS_KEPT, KERNEL_SEND_BYTES_PER_VISIT, KERNEL_SEND_PIECES,
};
use crate::base::networks::Networks;
use crate::net::{Remedies, Stream};

/// Turns after which a test fails. Each waits for the kernel at most a few milliseconds.
const TURNS_MAX: usize = 20_000;

/// The behaviour of the handler under test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Behaviour {
    /// Echoes its input, then sends FIN when the peer has finished.
    #[default]
    Echo,
    /// Reads nothing.
    Ignore,
    /// Writes as much as there is room for and closes.
    FillAndClose,
    /// Sends this many bytes for the first byte received, as room allows.
    Send(usize),
    /// The same in pieces of all lengths, after some bytes that are copied.
    SendPieces(usize),
    /// Answers and closes with bytes still unread.
    AnswerAndClose,
    /// RST.
    Abort,
}

#[derive(Debug, Default)]
struct Peer {
    behaviour: Behaviour,
    opened: Vec<(ConnectionId, usize)>,
    closed: Vec<ConnectionId>,
    readies: usize,
    written: usize,
    overdue: bool,
    /// The peer of the last call.
    address: Option<IpAddr>,
}

impl Handler for Peer {
    type Connection = usize;

    fn opened(&mut self, id: ConnectionId, listener: usize, _now: Now) -> usize {
        self.opened.push((id, listener));
        0
    }

    fn ready<S: Stream>(&mut self, _: ConnectionId, sent: &mut usize, stream: &mut S, _: Now) {
        self.readies += 1;
        self.address = stream.peer();
        match self.behaviour {
            Behaviour::Ignore => {}
            Behaviour::Echo => {
                loop {
                    let n = stream.received().len().min(stream.room_bytes());
                    if n == 0 {
                        break;
                    }
                    let bytes = stream.received()[..n].to_vec();
                    assert_eq!(stream.write(&bytes), n);
                    stream.consume(n);
                    self.written += n;
                }
                if stream.is_peer_finished() && stream.received_bytes() == 0 {
                    stream.close();
                    assert_eq!(stream.room_bytes(), 0);
                }
            }
            Behaviour::FillAndClose => {
                while stream.room_bytes() > 0 {
                    self.written += stream.write(&[b'f'; 4096]);
                }
                stream.close();
            }
            Behaviour::Send(total) => {
                while *sent < total && stream.room_bytes() > 0 {
                    *sent += stream.write_with(|out| {
                        let n = out.len().min(total - *sent);
                        for (i, byte) in out[..n].iter_mut().enumerate() {
                            *byte = pattern(*sent + i);
                        }
                        n
                    });
                }
                self.written = *sent;
            }
            Behaviour::SendPieces(total) => {
                while *sent < total && stream.room_bytes() > 0 {
                    *sent += stream.write(&piece(*sent, total, 100));
                    let mut end = *sent;
                    let pieces: Vec<_> = (0..2 * KERNEL_SEND_PIECES)
                        .map(|n| {
                            let piece = piece(end, total, [4080, 1, 0, 4096][n % 4]);
                            end += piece.len();
                            piece
                        })
                        .collect();
                    *sent += stream.send_pieces(pieces.iter().map(Vec::as_slice));
                }
                if stream.is_peer_finished() {
                    stream.close();
                }
                self.written = *sent;
            }
            Behaviour::AnswerAndClose => {
                stream.write(b"ERROR\r\n");
                stream.close();
                assert!(stream.received().is_empty());
                assert_eq!(stream.write(b"more"), 0);
            }
            Behaviour::Abort => stream.abort(),
        }
    }

    fn is_overdue(&self, _: &usize, _: Now) -> bool {
        self.overdue
    }

    fn closed(&mut self, id: ConnectionId, _: usize) {
        self.closed.push(id);
    }
}

fn pattern(at: usize) -> u8 {
    (at * 31 % 251) as u8
}

/// Up to `bytes` bytes of the first `total` of the pattern, from `start` on.
fn piece(start: usize, total: usize, bytes: usize) -> Vec<u8> {
    (start..total.min(start + bytes)).map(pattern).collect()
}

fn patterned(bytes: usize) -> Vec<u8> {
    (0..bytes).map(pattern).collect()
}

// Bound on one thread, used on another.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<KernelSockets>();
    const fn is_shared<T: Send + Sync + Clone>() {}
    is_shared::<Waker>();
};

/// A worker's transport, its handler and a clock that advances 10 us per turn.
struct Rig {
    kernel: Kernel<usize>,
    peer: Peer,
    stats: Arc<WorkerStats>,
    address: Option<SocketAddr>,
    now: Now,
}

impl Rig {
    fn of(sockets: KernelSockets, behaviour: Behaviour) -> Rig {
        let stats = Arc::new(WorkerStats::default());
        let address = sockets.local_address(0);
        Rig {
            kernel: Kernel::new(sockets, Arc::clone(&stats)),
            peer: Peer { behaviour, ..Peer::default() },
            stats,
            address,
            now: Now::default(),
        }
    }

    fn new(behaviour: Behaviour) -> Rig {
        Rig::limited(behaviour, 100_000)
    }

    fn limited(behaviour: Behaviour, connections_max: usize) -> Rig {
        let config = config(vec![tcp("127.0.0.1:0")], connections_max);
        Rig::of(bind(&config, 1).unwrap().remove(0), behaviour)
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address.unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    fn turn(&mut self) -> usize {
        self.kernel.wait(2000);
        self.now.uptime_us += 10;
        self.kernel.poll(self.now, &mut self.peer)
    }

    fn until(&mut self, what: &str, mut is_true: impl FnMut(&mut Rig) -> bool) {
        for _ in 0..TURNS_MAX {
            if is_true(self) {
                return;
            }
            self.turn();
        }
        panic!("never: {what}");
    }

    /// Turns until nothing has happened for a while.
    fn settle(&mut self) {
        let mut idle = 0;
        for _ in 0..TURNS_MAX {
            idle = if self.turn() == 0 { idle + 1 } else { 0 };
            if idle == 8 {
                return;
            }
        }
        panic!("never idle");
    }

    fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }
}

fn config(listeners: Vec<Listener>, connections_max: usize) -> KernelConfig {
    let admission = Arc::new(Admission::new(connections_max, Remedies::default()));
    KernelConfig { listeners, admission }
}

fn tcp(address: &str) -> Listener {
    let address = Address::Tcp(address.parse().unwrap());
    Listener { address, number: 0, allow: Networks::default(), proxies: None }
}

fn unix(path: &std::path::Path) -> KernelConfig {
    let address = Address::Unix { path: path.into(), mode: 0o600 };
    let listeners =
        vec![Listener { address, number: 0, allow: Networks::default(), proxies: None }];
    config(listeners, 100)
}

/// Appends available input to `got`. True at the end of the stream.
fn read_some(client: &mut impl Read, got: &mut Vec<u8>) -> bool {
    let mut buffer = vec![0; 256 * 1024];
    match client.read(&mut buffer) {
        Ok(0) => true,
        Ok(n) => {
            got.extend_from_slice(&buffer[..n]);
            false
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("read: {error}"),
    }
}

/// Writes as much as possible; returns how much.
fn write_some(client: &mut impl Write, bytes: &[u8]) -> usize {
    match client.write(bytes) {
        Ok(n) => n,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("write: {error}"),
    }
}

/// Sends `bytes` through an echoing worker and checks that they are returned.
fn check_echo(rig: &mut Rig, client: &mut (impl Read + Write), bytes: &[u8]) {
    let (mut sent, mut got) = (0, Vec::new());
    rig.until("everything was echoed", |_| {
        sent += write_some(client, &bytes[sent..]);
        assert!(!read_some(client, &mut got), "closed early");
        got.len() >= bytes.len()
    });
    assert!(got == bytes, "the echo differs");
}

/// Raises the limit of descriptors to the maximum for this process.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

fn scratch_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("sunder-kernel-{}-{name}", std::process::id()))
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut rig = Rig::new(Behaviour::Echo);
    let mut client = rig.connect();
    let requests: String = (0..1000).map(|i| format!("get key{i}\r\n")).collect();
    check_echo(&mut rig, &mut client, requests.as_bytes());
    check_echo(&mut rig, &mut client, b"x");
    assert_eq!(rig.count(Counter::BytesRead), requests.len() as u64 + 1);
    assert_eq!(rig.count(Counter::BytesWritten), requests.len() as u64 + 1);
    assert_eq!(rig.peer.opened[0].1, 0);
}

#[test]
fn values_larger_than_every_buffer_pass_both_ways() {
    let mut rig = Rig::new(Behaviour::Echo);
    let mut client = rig.connect();
    check_echo(&mut rig, &mut client, &patterned(24 * 1024 * 1024));
}

#[test]
fn a_large_reply_is_sent_as_room_appears() {
    let total = 24 * 1024 * 1024;
    let mut rig = Rig::new(Behaviour::Send(total));
    let mut client = rig.connect();
    client.write_all(b"?").unwrap();
    rig.settle();
    assert!(rig.peer.written < total, "the kernel accepted everything at once");
    let mut got = Vec::new();
    rig.until("all of it arrived", |_| {
        read_some(&mut client, &mut got);
        got.len() == total
    });
    assert!(got == patterned(total));
}

#[test]
fn a_client_that_does_not_read_is_not_read() {
    let mut rig = Rig::new(Behaviour::Echo);
    let mut client = rig.connect();
    let bytes = patterned(64 * 1024 * 1024);
    let mut sent = 0;
    let mut still = 0;
    while still < 20 {
        let n = write_some(&mut client, &bytes[sent..]);
        let done = rig.turn();
        sent += n;
        still = if n == 0 && done == 0 { still + 1 } else { 0 };
    }
    assert!(sent < bytes.len(), "there was no backpressure");
    let held = rig.count(Counter::BytesRead) - rig.count(Counter::BytesWritten);
    assert_eq!(held, 2 * KERNEL_BUFFER_BYTES as u64);
    let mut got = Vec::new();
    rig.until("the rest arrived", |_| {
        read_some(&mut client, &mut got);
        got.len() == sent
    });
    assert!(got == bytes[..sent]);
    check_echo(&mut rig, &mut client, b"still works");
}

#[test]
fn unread_input_waits_and_is_complete_when_resumed() {
    let mut rig = Rig::new(Behaviour::Ignore);
    let mut client = rig.connect();
    let bytes = patterned(300_000);
    let mut sent = 0;
    for _ in 0..50 {
        sent += write_some(&mut client, &bytes[sent..]);
        rig.turn();
    }
    assert_eq!(rig.count(Counter::BytesRead), KERNEL_BUFFER_BYTES as u64);
    rig.peer.behaviour = Behaviour::Echo;
    let id = rig.peer.opened[0].0;
    let stranger = ConnectionId { generation: id.generation + 1, ..id };
    let readies = rig.peer.readies;
    rig.kernel.resume(stranger, rig.now, &mut rig.peer);
    assert_eq!(rig.peer.readies, readies);
    rig.kernel.resume(id, rig.now, &mut rig.peer);
    assert_eq!(rig.peer.readies, readies + 1);
    let mut got = Vec::new();
    rig.until("all of it was echoed", |_| {
        sent += write_some(&mut client, &bytes[sent..]);
        read_some(&mut client, &mut got);
        got.len() == bytes.len()
    });
    assert!(got == bytes);
}

#[test]
fn a_client_that_has_finished_sending_gets_its_replies_and_the_end() {
    let mut rig = Rig::new(Behaviour::Echo);
    let mut client = rig.connect();
    let bytes = patterned(100_000);
    client.set_nonblocking(false).unwrap();
    client.write_all(&bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut got = Vec::new();
    rig.until("the end", |_| read_some(&mut client, &mut got));
    assert!(got == bytes);
    rig.until("closed", |rig| rig.peer.closed.len() == 1);
    assert_eq!(rig.kernel.connections(), 0);
    assert_eq!(rig.count(Counter::CurrConnections), 0);
}

#[test]
fn a_client_that_vanishes_closes_its_connection() {
    for behaviour in [Behaviour::Echo, Behaviour::Send(32 * 1024 * 1024)] {
        let mut rig = Rig::new(behaviour);
        let mut client = rig.connect();
        client.write_all(b"x").unwrap();
        rig.until("answered", |rig| rig.peer.written > 0);
        // Its unread bytes turn the close into a reset.
        drop(client);
        rig.until("closed", |rig| rig.peer.closed.len() == 1);
    }
}

#[test]
fn closing_sends_what_is_queued_first() {
    // Visit by visit until the kernel's buffer is full, and then another one.
    let mut rig = Rig::new(Behaviour::Send(24 * 1024 * 1024));
    let mut client = rig.connect();
    client.write_all(b"x").unwrap();
    rig.settle();
    rig.peer.behaviour = Behaviour::FillAndClose;
    client.write_all(b"x").unwrap();
    rig.settle();
    assert!(rig.count(Counter::BytesWritten) < rig.peer.written as u64);
    let mut got = Vec::new();
    rig.until("the end", |_| read_some(&mut client, &mut got));
    assert_eq!(got.len(), rig.peer.written);
    drop(client);
    rig.until("closed", |rig| rig.peer.closed.len() == 1);
}

#[test]
fn the_last_reply_reaches_a_client_that_is_still_sending() {
    let mut rig = Rig::new(Behaviour::AnswerAndClose);
    let mut client = rig.connect();
    let flood = vec![b'x'; 1024 * 1024];
    let mut got = Vec::new();
    rig.until("the end", |_| {
        write_some(&mut client, &flood);
        read_some(&mut client, &mut got)
    });
    assert_eq!(got, b"ERROR\r\n");
    assert_eq!(rig.peer.readies, 1);
    // It never closes its side: that is waited for, but not for ever.
    assert_eq!(rig.kernel.connections(), 1);
    rig.now.uptime_us += LINGER_US + SWEEP_INTERVAL_US;
    rig.until("closed", |rig| rig.kernel.connections() == 0);
    assert_eq!(rig.count(Counter::IdleKicks), 0);
}

#[test]
fn aborting_resets() {
    let mut rig = Rig::new(Behaviour::Abort);
    let mut client = rig.connect();
    client.write_all(b"x").unwrap();
    rig.until("closed", |rig| rig.peer.closed.len() == 1);
    let error = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reply_that_is_not_read_for_too_long_closes_its_connection() {
    let mut rig = Rig::new(Behaviour::Send(64 * 1024 * 1024));
    let mut client = rig.connect();
    client.write_all(b"x").unwrap();
    rig.settle();
    rig.now.uptime_us += STALL_TIMEOUT_US - 1000;
    rig.settle();
    assert_eq!(rig.kernel.connections(), 1);
    rig.now.uptime_us += SWEEP_INTERVAL_US + 2000;
    rig.until("closed", |rig| rig.peer.closed.len() == 1);
    assert_eq!(rig.count(Counter::IdleKicks), 1);
}

#[test]
fn an_overdue_connection_is_aborted_and_an_idle_one_is_not() {
    let mut rig = Rig::new(Behaviour::Echo);
    let clients: Vec<_> = (0..200).map(|_| rig.connect()).collect();
    rig.until("all are connected", |rig| rig.kernel.connections() == clients.len());
    rig.now.uptime_us += 10 * STALL_TIMEOUT_US;
    rig.settle();
    assert_eq!(rig.kernel.connections(), clients.len());
    rig.peer.overdue = true;
    rig.now.uptime_us += SWEEP_INTERVAL_US;
    rig.until("all are closed", |rig| rig.kernel.connections() == 0);
    assert_eq!(rig.count(Counter::IdleKicks), clients.len() as u64);
}

#[test]
fn two_thousand_connections_open_and_close() {
    const CONNECTIONS: usize = 2000;
    raise_descriptor_limit();
    let mut rig = Rig::new(Behaviour::Echo);
    for round in 1..=2 {
        let mut clients = Vec::new();
        while clients.len() < CONNECTIONS {
            clients.extend((0..100).map(|_| rig.connect()));
            let count = clients.len();
            rig.until("accepted", |rig| rig.kernel.connections() == count);
        }
        for (i, client) in clients.iter_mut().enumerate() {
            client.write_all(&i.to_be_bytes()).unwrap();
        }
        for (i, client) in clients.iter_mut().enumerate() {
            let mut got = Vec::new();
            rig.until("echoed", |_| {
                read_some(client, &mut got);
                got.len() == 8
            });
            assert_eq!(got, i.to_be_bytes());
        }
        drop(clients);
        rig.until("closed", |rig| rig.kernel.connections() == 0);
        assert_eq!(rig.count(Counter::TotalConnections), (round * CONNECTIONS) as u64);
    }
    assert_eq!(rig.kernel.entries.len(), CONNECTIONS);
    let mut ids: Vec<_> = rig.peer.closed.iter().map(|id| (id.index, id.generation)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2 * CONNECTIONS, "an id was used twice");
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    let mut rig = Rig::new(Behaviour::Echo);
    let mut clients: Vec<_> = (0..KERNEL_BUFFERS_KEPT).map(|_| rig.connect()).collect();
    for client in &mut clients {
        check_echo(&mut rig, client, &patterned(100_000));
    }
    let free = rig.kernel.shared.free_buffers();
    assert_eq!(free, Shared::new().free_buffers());
}

#[test]
fn a_client_over_the_limit_gets_an_error() {
    let mut rig = Rig::limited(Behaviour::Echo, 2);
    let mut first = rig.connect();
    let mut second = rig.connect();
    check_echo(&mut rig, &mut first, b"1");
    check_echo(&mut rig, &mut second, b"2");
    let mut third = rig.connect();
    third.write_all(b"get x\r\n").unwrap();
    let mut got = Vec::new();
    rig.until("the end", |_| read_some(&mut third, &mut got));
    assert_eq!(got, REFUSAL);
    assert_eq!(rig.count(Counter::RejectedConnections), 1);
    assert_eq!(rig.count(Counter::TotalConnections), 2);
    drop(first);
    rig.until("closed", |rig| rig.kernel.connections() == 1);
    let mut fourth = rig.connect();
    check_echo(&mut rig, &mut fourth, b"4");
}

/// Runs in its own process, whose descriptors it uses up.
#[test]
fn without_descriptors_accepting_pauses_and_resumes() {
    const CHILD: &str = "SUNDER_TEST_WITHOUT_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "net::kernel::tests::without_descriptors_accepting_pauses_and_resumes",
            ])
            .args(["--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let mut rig = Rig::new(Behaviour::Echo);
    let mut first = rig.connect();
    check_echo(&mut rig, &mut first, b"1");
    let mut second = rig.connect();
    // The next descriptor is the limit: no lower number is free.
    let next = io::stderr().lock();
    let free = rustix::io::dup(next).unwrap();
    let limit = rustix::process::Rlimit {
        current: Some(std::os::fd::AsRawFd::as_raw_fd(&free) as u64),
        maximum: Some(1024),
    };
    drop(free);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    for _ in 0..50 {
        rig.turn();
    }
    assert_eq!(rig.kernel.connections(), 1);
    assert_eq!(rig.count(Counter::ListenDisabled), 1, "it must not retry in a loop");
    check_echo(&mut rig, &mut first, b"others are served meanwhile");
    rig.now.uptime_us += ACCEPT_PAUSE_US;
    rig.until("it retried", |rig| rig.count(Counter::ListenDisabled) == 2);
    drop(first);
    let freed_us = rig.now.uptime_us;
    check_echo(&mut rig, &mut second, b"2");
    assert!(rig.now.uptime_us < freed_us + ACCEPT_PAUSE_US / 2, "a close does not end the pause");
}

#[test]
fn a_unix_socket_replaces_only_a_stale_file() {
    let path = scratch_path("socket");
    // The file that a killed server leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut rig = Rig::of(bind(&unix(&path), 1).unwrap().remove(0), Behaviour::Echo);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_nonblocking(true).unwrap();
    check_echo(&mut rig, &mut client, &patterned(3_000_000));

    let error = bind(&unix(&path), 1).unwrap_err().to_string();
    assert!(error.contains("another server is there"), "{error}");
    rig.kernel.stop_listening();
    assert!(!path.exists());
    check_echo(&mut rig, &mut client, b"connections continue");

    std::fs::write(&path, "precious").unwrap();
    let error = bind(&unix(&path), 1).unwrap_err();
    assert!(matches!(error, BindError::NotASocket(_)));
    drop(rig);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn of_several_starts_on_a_stale_socket_one_gets_it_and_keeps_it() {
    let path = scratch_path("raced");
    for _ in 0..100 {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let start = std::sync::Barrier::new(4);
        let all = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                bind(&unix(&path), 1)
            };
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(all.iter().filter(|result| result.is_ok()).count(), 1);
        UnixStream::connect(&path).expect("the server that got it listens");
    }
}

#[test]
fn workers_share_a_unix_socket_whose_file_stays_until_the_last_stops() {
    let path = scratch_path("shared");
    let sockets = bind(&unix(&path), 2).unwrap();
    let mut rigs: Vec<_> = sockets.into_iter().map(|s| Rig::of(s, Behaviour::Echo)).collect();
    rigs[0].kernel.stop_listening();
    rigs[0].turn();
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_nonblocking(true).unwrap();
    check_echo(&mut rigs[1], &mut client, b"hello");
    drop(rigs);
    assert!(!path.exists());
}

#[test]
fn workers_share_a_port_and_the_connection_limit() {
    const CONNECTIONS: usize = 64;
    let listeners = vec![tcp("127.0.0.1:0")];
    let sockets = bind(&config(listeners, CONNECTIONS), 2).unwrap();
    let mut rigs: Vec<_> = sockets.into_iter().map(|s| Rig::of(s, Behaviour::Echo)).collect();
    assert_eq!(rigs[0].address, rigs[1].address);
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| rigs[0].connect()).collect();
    rigs[0].settle();
    rigs[1].settle();
    let shares = rigs.iter().map(|rig| rig.kernel.connections()).collect::<Vec<_>>();
    assert_eq!(shares.iter().sum::<usize>(), CONNECTIONS);
    assert!(shares.iter().all(|&share| share > 0), "{shares:?}");
    for client in &mut clients {
        client.write_all(b"ping").unwrap();
        let mut got = Vec::new();
        for _ in 0..TURNS_MAX {
            for rig in &mut rigs {
                rig.turn();
            }
            assert!(!read_some(client, &mut got));
            if got.len() == 4 {
                break;
            }
        }
        assert_eq!(got, b"ping");
    }
    let _one_more = rigs[0].connect();
    rigs.iter_mut().for_each(Rig::settle);
    let rejected: u64 = rigs.iter().map(|rig| rig.count(Counter::RejectedConnections)).sum();
    assert_eq!(rejected, 1);
    // A worker that stops returns its share of the limit.
    drop(rigs.remove(0));
    assert_eq!(rigs[0].kernel.connections(), shares[1]);
    assert!(rigs[0].kernel.admission.enter());
}

#[test]
fn a_taken_port_is_said_to_be_taken() {
    let taken = bind(&config(vec![tcp("127.0.0.1:0")], 1), 2);
    let taken = taken.unwrap();
    let address = taken[0].local_address(0).unwrap();
    for workers in [1, 2] {
        let listeners = vec![tcp(&address.to_string())];
        let error = bind(&config(listeners, 1), workers).unwrap_err();
        let expected = format!("cannot listen on {address}: another server is there");
        assert_eq!(error.to_string(), expected);
    }
    for worker in &taken {
        let asked = worker.acceptors[0].accept().map_err(|error| error.kind());
        assert_eq!(asked.err(), Some(io::ErrorKind::WouldBlock), "the server was connected to");
    }
    let listeners = vec![tcp("192.0.2.1:0")];
    let error = bind(&config(listeners, 1), 1).unwrap_err().to_string();
    assert!(error.contains("no such address"), "{error}");
}

#[test]
fn a_port_of_an_outgoing_connection_is_not_reported_as_a_server() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let outgoing = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let listeners = vec![tcp(&outgoing.local_addr().unwrap().to_string())];
    let error = bind(&config(listeners, 1), 2).unwrap_err();
    assert!(error.may_pass());
    assert!(error.to_string().contains("an outgoing connection of this host"), "{error}");
}

#[test]
fn ipv4_and_ipv6_listeners_are_told_apart() {
    let listeners = vec![tcp("127.0.0.1:0"), Listener { number: 1, ..tcp("[::1]:0") }];
    let mut sockets = bind(&config(listeners, 10), 1).unwrap();
    let addresses = [0, 1].map(|number| sockets[0].local_address(number).unwrap());
    let mut rig = Rig::of(sockets.remove(0), Behaviour::Echo);
    for (number, address) in addresses.into_iter().enumerate() {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_nonblocking(true).unwrap();
        check_echo(&mut rig, &mut client, b"hello");
        assert_eq!(rig.peer.opened[number].1, number);
    }
}

#[test]
fn accepted_sockets_have_nodelay_and_keepalive() {
    let config = config(vec![tcp("127.0.0.1:0")], 1);
    let sockets = bind(&config, 1).unwrap().remove(0);
    let _client = TcpStream::connect(sockets.local_address(0).unwrap()).unwrap();
    let Ok((Socket::Tcp(socket), Comer::Client)) = sockets.acceptors[0].accept() else {
        panic!("not accepted")
    };
    let options = socket2::SockRef::from(&socket);
    assert!(options.tcp_nodelay().unwrap());
    assert!(options.keepalive().unwrap());
}

#[test]
fn a_wake_up_ends_a_sleep_whether_it_comes_before_or_during_it() {
    const LONG_US: u64 = 600_000_000;
    let mut rig = Rig::new(Behaviour::Echo);
    let waker = rig.kernel.waker();
    waker.wake();
    rig.kernel.wait(LONG_US);
    assert_eq!(rig.kernel.poll(rig.now, &mut rig.peer), 0);

    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for round in 0..1000 {
                rig.kernel.wait(LONG_US);
                rig.kernel.poll(rig.now, &mut rig.peer);
                sender.send(round).unwrap();
            }
        });
        for round in 0..1000 {
            waker.wake();
            assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok(round));
        }
    });
}

#[test]
fn tokens_identify_their_targets() {
    for index in [0, 1, LISTENER_INDEX_BASE - 1] {
        for generation in [0, 1, u32::MAX] {
            let id = ConnectionId { index, generation };
            assert!(matches!(target(connection_token(id)), Target::Connection(to) if to == id));
        }
    }
    for number in [0, 1, 0xfffe] {
        assert!(matches!(target(listener_token(number)), Target::Listener(to) if to == number));
    }
    assert!(matches!(target(WAKER_TOKEN), Target::Waker));
}
