//! Frames created in the process for a server without a device: many clients, each with one request
//! at a time, in random order, 32 frames per burst. Only the server's turns are timed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use sunder::base::clock::Now;
use sunder::base::limits::BURST_FRAMES;
use sunder::base::stats::WorkerStats;
use sunder::net::several::Several;
use sunder::net::tcp::device::{Capabilities, Frame, Port, RxChecksum, TxOffload};
use sunder::net::tcp::{Cidr, Stack, StackConfig};
use sunder::net::{Admission, Remedies, Transport};

const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Frames created before the clock runs, as a device's ring would hold them.
const RING_FRAMES: usize = 512;
/// The duration of one burst on the stack's own clock.
const BURST_US: u64 = 8;

type Buffer = Box<[u8; 2048]>;

thread_local! {
    /// Free buffers, like a device's pool.
    static POOL: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// A frame of the pool.
pub struct BenchFrame {
    /// None after it was dropped.
    bytes: Option<Buffer>,
    len: usize,
    checksum: RxChecksum,
}

impl BenchFrame {
    fn allocate() -> Option<BenchFrame> {
        let bytes = POOL.with_borrow_mut(Vec::pop)?;
        Some(BenchFrame { bytes: Some(bytes), len: 0, checksum: RxChecksum::Good })
    }
}

impl Drop for BenchFrame {
    fn drop(&mut self) {
        POOL.with_borrow_mut(|pool| pool.extend(self.bytes.take()));
    }
}

impl Frame for BenchFrame {
    fn bytes(&self) -> &[u8] {
        &self.bytes.as_ref().expect("alive")[..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut().expect("alive")[..self.len]
    }

    fn set_len(&mut self, bytes: usize) {
        assert!(bytes <= 2048);
        self.len = bytes;
    }

    fn capacity_bytes(&self) -> usize {
        2048
    }

    fn rx_checksum(&self) -> RxChecksum {
        self.checksum
    }

    fn set_tx_offload(&mut self, _: TxOffload) {}
}

#[derive(Default)]
struct Rings {
    rx: Vec<BenchFrame>,
    tx: Vec<BenchFrame>,
}

/// The server's end of the wire.
pub struct BenchPort {
    rings: Rc<RefCell<Rings>>,
    tx_checksum: bool,
}

impl Port for BenchPort {
    type Frame = BenchFrame;

    fn capabilities(&self) -> Capabilities {
        Capabilities { mac: SERVER_MAC, mtu_bytes: 1500, tx_checksum: self.tx_checksum }
    }

    fn receive(&mut self, burst: &mut ArrayVec<BenchFrame, BURST_FRAMES>) {
        let mut rings = self.rings.borrow_mut();
        while !burst.is_full()
            && let Some(frame) = rings.rx.pop()
        {
            burst.push(frame);
        }
    }

    fn allocate(&mut self) -> Option<BenchFrame> {
        BenchFrame::allocate()
    }

    fn send(&mut self, frame: BenchFrame) -> Result<(), BenchFrame> {
        self.rings.borrow_mut().tx.push(frame);
        Ok(())
    }

    fn flush(&mut self) {}
}

/// The stacks of a worker, as it has them, of one device.
pub type BenchStacks<C> = Several<Stack<BenchPort, C>>;

/// The measured server: a stack and whatever is behind it.
pub trait Server {
    /// The stack's state of a connection.
    type Connection;

    /// One turn; returns how much was done.
    fn turn(&mut self, stacks: &mut BenchStacks<Self::Connection>, now: Now) -> usize;

    /// Writes the next request to `out`, which is empty.
    fn next_request(&mut self, out: &mut Vec<u8>);
}

#[derive(Clone, Copy)]
struct Peer {
    address: u32,
    port: u16,
    seq: u32,
    ack: u32,
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0))).sum()
}

fn fold(mut sum: u32) -> [u8; 2] {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

impl Peer {
    fn fill(&self, frame: &mut BenchFrame, flags: u8, payload: &[u8], is_summed: bool) {
        let len = 54 + payload.len();
        frame.set_len(len);
        let b = frame.bytes_mut();
        b[..6].copy_from_slice(&SERVER_MAC);
        b[6..12].copy_from_slice(&CLIENT_MAC);
        b[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        b[16..18].copy_from_slice(&(len as u16 - 14).to_be_bytes());
        b[18..26].copy_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
        b[26..30].copy_from_slice(&self.address.to_be_bytes());
        b[30..34].copy_from_slice(&[10, 0, 0, 1]);
        b[34..36].copy_from_slice(&self.port.to_be_bytes());
        b[36..38].copy_from_slice(&11211u16.to_be_bytes());
        b[38..42].copy_from_slice(&self.seq.to_be_bytes());
        b[42..46].copy_from_slice(&self.ack.to_be_bytes());
        b[46..54].copy_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        b[54..].copy_from_slice(payload);
        if is_summed {
            let ip = fold(sum(&b[14..34]));
            b[24..26].copy_from_slice(&ip);
            let tcp = fold(sum(&b[26..34]) + 6 + (len as u32 - 34) + sum(&b[34..]));
            b[50..52].copy_from_slice(&tcp);
        }
        frame.checksum = if is_summed { RxChecksum::Unknown } else { RxChecksum::Good };
    }
}

/// A server and its clients.
pub struct Bench<S: Server> {
    pub server: S,
    stacks: BenchStacks<S::Connection>,
    rings: Rc<RefCell<Rings>>,
    now: Now,
    peers: Vec<Peer>,
    is_summed: bool,
    request: Vec<u8>,
}

impl<S: Server> Bench<S> {
    /// `connections` clients, connected. `is_summed`: checksums are verified and computed in
    /// software.
    pub fn new(server: S, connections: usize, is_summed: bool) -> Bench<S> {
        let rings = Rc::new(RefCell::new(Rings::default()));
        let buffer = || vec![0; 2048].into_boxed_slice().try_into().expect("2048 bytes");
        POOL.with_borrow_mut(|pool| pool.resize_with(2 * RING_FRAMES + 64, buffer));
        let port = BenchPort { rings: rings.clone(), tx_checksum: !is_summed };
        let config = StackConfig {
            addresses: vec![Cidr { address: [10, 0, 0, 1].into(), prefix_bits: 8 }],
            gateways: Vec::new(),
            ports: vec![11211],
            allow: Vec::new(),
            connections_max: connections,
            admission: Arc::new(Admission::new(connections, Remedies::default())),
            board: Arc::default(),
            idle_timeout_us: 0,
            secret: std::array::from_fn(|i| i as u8 * 7),
        };
        let now = Now { uptime_us: 1_000_000, unix_s: 1_000_000_000 };
        let stack = Stack::new(port, &config, Arc::new(WorkerStats::default()), now)
            .expect("a right configuration");
        let stacks = Several::new(vec![stack]);
        let (peers, request) = (Vec::new(), Vec::new());
        let mut bench = Bench { server, stacks, rings, now, peers, is_summed, request };
        for n in 0..connections as u32 {
            bench.connect(n);
        }
        assert_eq!(bench.stacks.connections(), connections);
        // A fixed shuffle, so that no hardware prefetcher finds a pattern.
        let mut state = 1u64;
        for i in (1..bench.peers.len()).rev() {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            bench.peers.swap(i, (state >> 33) as usize % (i + 1));
        }
        bench
    }

    fn connect(&mut self, n: u32) {
        let mut peer = Peer {
            address: 0x0a01_0000 + n / 25_000,
            port: 20_000 + (n % 25_000) as u16,
            seq: 1000,
            ack: 0,
        };
        self.push(&peer, 2, &[]);
        self.turns();
        let answer = self.rings.borrow_mut().tx.pop().expect("an answer to a SYN");
        // It may be preceded by the announcement of our address.
        self.rings.borrow_mut().tx.clear();
        peer.seq += 1;
        peer.ack = u32::from_be_bytes(answer.bytes()[38..42].try_into().expect("4 bytes")) + 1;
        drop(answer);
        self.push(&peer, 16, &[]);
        self.turns();
        self.peers.push(peer);
    }

    fn push(&mut self, peer: &Peer, flags: u8, payload: &[u8]) {
        let mut rings = self.rings.borrow_mut();
        let mut frame = BenchFrame::allocate().expect("a frame");
        peer.fill(&mut frame, flags, payload, self.is_summed);
        rings.rx.push(frame);
    }

    /// The server's turns until it has nothing more to do: these are measured, in seconds and,
    /// under callgrind, in instructions (`--toggle-collect`).
    #[inline(never)]
    fn turns(&mut self) {
        loop {
            self.now.uptime_us += BURST_US;
            if self.server.turn(&mut self.stacks, self.now) == 0 {
                return;
            }
        }
    }

    /// One request on every connection; adds the server's nanoseconds per request of each group to
    /// `figures`. Returns the bytes of all replies.
    fn round(&mut self, figures: &mut Vec<f64>) -> usize {
        let mut peers = std::mem::take(&mut self.peers);
        let mut request = std::mem::take(&mut self.request);
        let mut reply_bytes = 0;
        for group in peers.chunks_mut(RING_FRAMES) {
            for peer in group.iter_mut() {
                request.clear();
                self.server.next_request(&mut request);
                self.push(peer, 24, &request);
                peer.seq = peer.seq.wrapping_add(request.len() as u32);
            }
            self.rings.borrow_mut().rx.reverse();
            let start = Instant::now();
            self.turns();
            figures.push(start.elapsed().as_nanos() as f64 / group.len() as f64);
            let mut rings = self.rings.borrow_mut();
            assert_eq!(rings.tx.len(), group.len(), "a reply is one frame");
            for (peer, frame) in group.iter_mut().zip(&rings.tx) {
                assert_eq!(frame.bytes()[36..38], peer.port.to_be_bytes());
                let bytes = frame.bytes().len() - 54;
                assert!(bytes > 0, "a reply has bytes");
                peer.ack = peer.ack.wrapping_add(bytes as u32);
                reply_bytes += bytes;
            }
            rings.tx.clear();
        }
        self.request = request;
        self.peers = peers;
        reply_bytes
    }

    /// Nanoseconds per request: the lower quartile of groups, which is affected least by a busy
    /// machine.
    /// Also returns the mean length of a reply, in bytes.
    pub fn measure(&mut self, requests: usize) -> (f64, usize) {
        let rounds = requests.div_ceil(self.peers.len());
        let mut figures = Vec::new();
        for _ in 0..rounds.div_ceil(10) {
            self.round(&mut figures);
        }
        figures.clear();
        let bytes: usize = (0..rounds).map(|_| self.round(&mut figures)).sum();
        figures.sort_by(f64::total_cmp);
        (figures[figures.len() / 4], bytes / (rounds * self.peers.len()))
    }

    /// The duration of the server's turns for this many rounds of a request on every connection.
    #[allow(dead_code, reason = "not every bench needs it")]
    pub fn rounds(&mut self, rounds: u64) -> Duration {
        let mut figures = Vec::new();
        let mut ns = 0.0;
        for _ in 0..rounds {
            figures.clear();
            self.round(&mut figures);
            let groups = self.peers.chunks(RING_FRAMES);
            ns += figures.iter().zip(groups).map(|(ns, g)| ns * g.len() as f64).sum::<f64>();
        }
        Duration::from_nanos(ns as u64)
    }

    /// As many requests as given, in whole rounds, untimed.
    #[allow(dead_code, reason = "not every bench needs it")]
    pub fn run(&mut self, requests: usize) {
        let mut figures = Vec::new();
        for _ in 0..requests.div_ceil(self.peers.len()) {
            figures.clear();
            self.round(&mut figures);
        }
    }
}
