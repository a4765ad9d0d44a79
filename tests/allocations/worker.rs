//! After start a worker allocates nothing for a get that hits, a get that misses, and a set: the
//! whole worker, text and binary, short values and long ones, over pipes and over the TCP stack,
//! alone and with a second worker that owns half of the keys.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::alone;
use crate::common::pipe::Pipes;
use crate::common::wire::{PORT, SERVER, WireClient, WirePort, wire};
use crate::counting::CALLS;
use sunder::base::buffer;
use sunder::base::clock::{Clock, Now};
use sunder::base::stats::Counter;
use sunder::connection::Connection;
use sunder::mailbox::Mailbox;
use sunder::net::tcp::{Cidr, Stack, StackConfig};
use sunder::net::{Admission, Remedies, Transport};
use sunder::orchestrator::Orchestrator;
use sunder::orchestrator::l1_only::L1Only;
use sunder::protocol::Limits;
use sunder::tier::memory::{self, Memory};
use sunder::worker::{Settings, Shared, Worker};

const LIMITS: Limits = Limits::DEFAULT;

/// Connections of each worker.
const CONNECTIONS: usize = 4;

/// Keys of each kind that a worker's clients use.
const KEYS: usize = 16;

/// Lengths of values, rounds over all keys with each, and how many keys' requests are in flight
/// together: few of long ones, so that values crossing workers fit into the prepared blocks.
const VALUES: [(usize, usize, usize); 3] = [(100, 40, KEYS), (10_000, 10, KEYS), (500_000, 2, 1)];

/// The clients of one worker.
trait Clients {
    type Transport: Transport<Connection>;

    fn new(shared: &Shared, worker: usize) -> (Self::Transport, Self);

    fn send(&mut self, transport: &mut Self::Transport, index: usize, bytes: &[u8]) -> usize;

    fn receive(&mut self, transport: &mut Self::Transport, index: usize, into: &mut Vec<u8>);

    /// Moves data in flight.
    fn turn(&mut self, now: Now);
}

struct PipeClients;

impl Clients for PipeClients {
    type Transport = Pipes<Connection>;

    fn new(_shared: &Shared, _worker: usize) -> (Pipes<Connection>, PipeClients) {
        let mut pipes = Pipes::new();
        for _ in 0..CONNECTIONS {
            pipes.connect(16 << 10, 16 << 10, 5000);
        }
        (pipes, PipeClients)
    }

    fn send(&mut self, pipes: &mut Pipes<Connection>, index: usize, bytes: &[u8]) -> usize {
        pipes.send(index, bytes)
    }

    fn receive(&mut self, pipes: &mut Pipes<Connection>, index: usize, into: &mut Vec<u8>) {
        // Copied, so that the pipe keeps its buffer.
        pipes.receive(index, into);
    }

    fn turn(&mut self, _now: Now) {}
}

impl Clients for WireClient {
    type Transport = Stack<WirePort, Connection>;

    fn new(shared: &Shared, worker: usize) -> (Self::Transport, WireClient) {
        let (port, client) = wire(CONNECTIONS);
        let config = StackConfig {
            addresses: vec![Cidr { address: SERVER.into(), prefix_bits: 24 }],
            gateways: Vec::new(),
            ports: vec![PORT],
            allow: Vec::new(),
            connections_max: 100,
            admission: Arc::new(Admission::new(100, Remedies::default())),
            board: Arc::default(),
            idle_timeout_us: 0,
            secret: std::array::from_fn(|i| i as u8),
        };
        let stats = Arc::clone(&shared.stats[worker]);
        let stack = Stack::new(port, &config, stats, shared.clock.read()).expect("right");
        (stack, client)
    }

    fn send(&mut self, _: &mut Self::Transport, index: usize, bytes: &[u8]) -> usize {
        WireClient::send(self, index, bytes)
    }

    fn receive(&mut self, _: &mut Self::Transport, index: usize, into: &mut Vec<u8>) {
        WireClient::receive(self, index, into);
    }

    fn turn(&mut self, now: Now) {
        WireClient::turn(self, now);
    }
}

/// What clients send, and the expected answers.
struct Script {
    request: Vec<u8>,
    reply: Vec<u8>,
    requests: usize,
}

fn value(key: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (key * 31 + at * 7 + at / 251) as u8).collect()
}

/// Sets all keys, gets them, and gets as many missing ones; text.
fn text_script(worker: usize, bytes: usize, keys: Range<usize>) -> Script {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    let requests = keys.len() * 5;
    for i in keys {
        let (key, value) = (format!("text-{worker}-{bytes}-{i}"), value(i, bytes));
        for noreply in ["", " noreply"] {
            request.extend(format!("set {key} {i} 0 {bytes}{noreply}\r\n").into_bytes());
            request.extend_from_slice(&value);
            request.extend(b"\r\n");
        }
        request.extend(format!("get {key}\r\nget {key}-not {key}\r\n").into_bytes());
        reply.extend(b"STORED\r\n");
        for _ in 0..2 {
            reply.extend(format!("VALUE {key} {i} {bytes}\r\n").into_bytes());
            reply.extend_from_slice(&value);
            reply.extend(b"\r\nEND\r\n");
        }
    }
    Script { request, reply, requests }
}

/// A binary packet.
fn packet(magic: u8, opcode: u8, status: u16, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![magic, opcode];
    out.extend((key.len() as u16).to_be_bytes());
    out.extend([extras.len() as u8, 0]);
    out.extend(status.to_be_bytes());
    out.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    out.extend([7, 7, 7, 7]);
    out.extend([0; 8]);
    out.extend(extras);
    out.extend(key);
    out.extend(value);
    out
}

/// The same in binary.
fn binary_script(worker: usize, bytes: usize, keys: Range<usize>) -> Script {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    let requests = keys.len() * 4;
    for i in keys {
        let (key, value) = (format!("binary-{worker}-{bytes}-{i}"), value(i, bytes));
        let flags = (i as u32).to_be_bytes();
        let extras = [flags, [0; 4]].concat();
        // Set, set quietly, get, get a key that is not there.
        request.extend(packet(0x80, 0x01, 0, &extras, key.as_bytes(), &value));
        request.extend(packet(0x80, 0x11, 0, &extras, key.as_bytes(), &value));
        request.extend(packet(0x80, 0x00, 0, &[], key.as_bytes(), &[]));
        request.extend(packet(0x80, 0x00, 0, &[], format!("{key}-not").as_bytes(), &[]));
        reply.extend(packet(0x81, 0x01, 0, &[], &[], &[]));
        reply.extend(packet(0x81, 0x00, 0, &flags, &[], &value));
        reply.extend(packet(0x81, 0x00, 1, &[], &[], b"Not found"));
    }
    Script { request, reply, requests }
}

/// Blanks the CAS fields of binary replies, which are counted up across all keys.
fn without_cas(reply: &mut [u8]) {
    let mut at = 0;
    while at + 24 <= reply.len() && reply[at] == 0x81 {
        reply[at + 16..at + 24].fill(0);
        let body = reply[at + 8..at + 12].try_into().expect("4 bytes");
        at += 24 + u32::from_be_bytes(body) as usize;
    }
}

/// The scripts, in text and in binary, and how often each is played.
fn scripts(worker: usize) -> Vec<(usize, Script, Script)> {
    let mut scripts = Vec::new();
    for (bytes, times, together) in VALUES {
        for first in (0..KEYS).step_by(together) {
            let keys = first..first + together;
            let text = text_script(worker, bytes, keys.clone());
            scripts.push((times, text, binary_script(worker, bytes, keys)));
        }
    }
    scripts
}

/// One worker with its clients, on its own thread.
struct Bench<'b, C: Clients, T> {
    clients: C,
    transport: C::Transport,
    shared: &'b Shared,
    turn: T,
    /// Calls of the allocator during turns.
    calls: u64,
    reply: Vec<u8>,
}

impl<C: Clients, T: FnMut(&mut C::Transport, Now)> Bench<'_, C, T> {
    fn turn(&mut self) {
        let now = self.shared.clock.read();
        self.clients.turn(now);
        let before = CALLS.get();
        (self.turn)(&mut self.transport, now);
        self.calls += CALLS.get() - before;
        self.clients.turn(now);
    }

    /// Plays a script on one connection.
    fn play(&mut self, index: usize, script: &Script) {
        let mut sent = 0;
        self.reply.clear();
        while self.reply.len() < script.reply.len() {
            sent += self.clients.send(&mut self.transport, index, &script.request[sent..]);
            self.turn();
            self.clients.receive(&mut self.transport, index, &mut self.reply);
        }
        without_cas(&mut self.reply);
        assert!(self.reply == script.reply, "a wrong answer on connection {index}");
    }

    /// Plays all scripts `rounds` times as often as [`VALUES`] says; returns the number of
    /// requests.
    fn round(&mut self, scripts: &[(usize, Script, Script)], rounds: usize) -> usize {
        let mut requests = 0;
        for (times, text, binary) in scripts {
            for n in 0..times * rounds {
                // Half of the connections speak text, the others binary.
                let at = n % (CONNECTIONS / 2);
                self.play(at, text);
                self.play(CONNECTIONS / 2 + at, binary);
                requests += text.requests + binary.requests;
            }
        }
        requests
    }

    /// Turns until all `workers` have reached this point.
    fn meet(&mut self, met: &AtomicUsize, until: usize) {
        met.fetch_add(1, Ordering::SeqCst);
        while met.load(Ordering::SeqCst) < until {
            self.turn();
        }
    }
}

/// Runs one worker; returns the requests of its measured part and the allocator's calls in it.
fn work<C: Clients>(shared: &Arc<Shared>, mailbox: Mailbox, met: &AtomicUsize) -> (usize, u64) {
    let (worker, workers) = (mailbox.worker(), shared.stats.len());
    let config = memory::MemoryConfig {
        bytes: 64 << 20,
        item_bytes_max: LIMITS.item_bytes_max,
        worker,
        workers,
        stats: Arc::clone(&shared.stats[worker]),
    };
    let tier = L1Only::new(Memory::new(config).expect("mapped"));
    buffer::prepare_thread();
    let execute = |operation, now| tier.execute(operation, now);
    let mut server = Worker::new(Arc::clone(shared), mailbox, &tier, execute);
    let (transport, clients) = C::new(shared, worker);
    let turn = |transport: &mut C::Transport, now: Now| {
        server.turn(transport, now);
        tier.turn(now);
    };
    let mut bench =
        Bench { clients, transport, shared, turn, calls: 0, reply: Vec::with_capacity(32 << 20) };
    let scripts = scripts(worker);
    // Connections are opened, and each has executed everything once.
    bench.round(&scripts, 1);
    bench.meet(met, workers);
    bench.calls = 0;
    let requests = bench.round(&scripts, 2);
    bench.meet(met, 2 * workers);
    let calls = bench.calls;
    // No worker stops while another may still send it requests.
    bench.meet(met, 3 * workers);
    (requests, calls)
}

fn run<C: Clients>(workers: usize) {
    let _alone = alone();
    let shared = Arc::new(Shared::new(Clock::start(), LIMITS, Settings::default(), workers));
    let met = AtomicUsize::new(0);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = Mailbox::mesh(workers)
            .into_iter()
            .map(|mailbox| scope.spawn(|| work::<C>(&shared, mailbox, &met)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    for (worker, (requests, calls)) in results.into_iter().enumerate() {
        println!("worker {worker} of {workers}: {requests} requests, {calls} allocator calls");
        assert!(requests > 10_000, "{requests}");
        assert_eq!(calls, 0, "worker {worker} of {workers} called the allocator");
    }
    assert_eq!(shared.sum(Counter::Evictions), 0, "no key is evicted, so that gets hit");
    assert_eq!(workers > 1, shared.sum(Counter::RemoteOperations) > 1000);
}

#[test]
fn a_worker_over_pipes_does_not_allocate() {
    run::<PipeClients>(1);
}

#[test]
fn two_workers_over_pipes_do_not_allocate() {
    run::<PipeClients>(2);
}

#[test]
fn a_worker_over_the_tcp_stack_does_not_allocate() {
    run::<WireClient>(1);
}

#[test]
fn two_workers_over_the_tcp_stack_do_not_allocate() {
    run::<WireClient>(2);
}

#[test]
fn the_counter_counts() {
    let before = CALLS.get();
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert_eq!(CALLS.get() - before, 2);
}
