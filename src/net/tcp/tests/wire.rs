//! A simulated wire: frames in vectors, a clock in a variable, and clients for the other end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::base::clock::Now;
use crate::base::limits::BURST_FRAMES;
use crate::base::stats::{Counter, WorkerStats};
use crate::net::tcp::device::{Capabilities, Frame, Port, RxChecksum, TxOffload};
use crate::net::tcp::{Cidr, Stack, StackConfig};
use crate::net::{Admission, ConnectionId, Handler, Remedies, Stream, Transport};

pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const MTU_BYTES: usize = 1500;
pub const PORTS: [u16; 2] = [11211, 11212];

/// A frame in a vector.
#[derive(Clone, Debug)]
pub struct VecFrame {
    pub bytes: Vec<u8>,
    pub checksum: RxChecksum,
    pub offload: Option<TxOffload>,
}

impl VecFrame {
    pub fn new(bytes: Vec<u8>) -> VecFrame {
        VecFrame { bytes, checksum: RxChecksum::Unknown, offload: None }
    }
}

impl Frame for VecFrame {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn set_len(&mut self, bytes: usize) {
        assert!(bytes <= self.capacity_bytes());
        // Added bytes have any content, so fill them with garbage.
        self.bytes.resize(bytes, 0xa5);
    }

    fn capacity_bytes(&self) -> usize {
        14 + MTU_BYTES
    }

    fn rx_checksum(&self) -> RxChecksum {
        self.checksum
    }

    fn set_tx_offload(&mut self, offload: TxOffload) {
        self.offload = Some(offload);
    }
}

/// Both directions of a wire.
#[derive(Default)]
pub struct Queues {
    pub to_server: VecDeque<VecFrame>,
    pub to_client: VecDeque<VecFrame>,
    /// Frames that can still be allocated; None for any number.
    pub frames_left: Option<usize>,
    pub tx_checksum: bool,
    /// Received frames that were returned and not sent since.
    pub recycled: Vec<VecFrame>,
    pub recycled_ever: u64,
}

/// The server's end of a wire.
#[derive(Clone, Default)]
pub struct TestPort(pub Rc<RefCell<Queues>>);

impl Port for TestPort {
    type Frame = VecFrame;

    fn capabilities(&self) -> Capabilities {
        let tx_checksum = self.0.borrow().tx_checksum;
        Capabilities { mac: SERVER_MAC, mtu_bytes: MTU_BYTES, tx_checksum }
    }

    fn receive(&mut self, burst: &mut ArrayVec<VecFrame, BURST_FRAMES>) {
        let mut queues = self.0.borrow_mut();
        while !burst.is_full()
            && let Some(frame) = queues.to_server.pop_front()
        {
            burst.push(frame);
        }
    }

    fn allocate(&mut self) -> Option<VecFrame> {
        if let Some(left) = &mut self.0.borrow_mut().frames_left {
            *left = left.checked_sub(1)?;
        }
        // With its old content: nothing may rely on zeros.
        let used = self.0.borrow_mut().recycled.pop();
        Some(VecFrame::new(used.map_or(Vec::new(), |frame| frame.bytes)))
    }

    fn recycle(&mut self, frame: VecFrame) {
        let mut queues = self.0.borrow_mut();
        queues.recycled.push(frame);
        queues.recycled_ever += 1;
    }

    fn send(&mut self, frame: VecFrame) -> Result<(), VecFrame> {
        let to_client = &mut self.0.borrow_mut().to_client;
        assert!(to_client.len() < 1 << 20, "a stack that never stops sending");
        to_client.push_back(frame);
        Ok(())
    }

    fn flush(&mut self) {}
}

/// How the handler of a test treats a connection's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Echoes its input; closes when the peer does.
    #[default]
    Echo,
    /// Reads nothing and writes nothing.
    Ignore,
    /// Closes as soon as anything arrived.
    Close,
    /// Writes as much as there is room for and closes as soon as anything arrived.
    Pour,
    /// Resets as soon as anything arrived.
    Abort,
}

/// A handler that records its calls.
#[derive(Default)]
pub struct TestHandler {
    pub manner: Manner,
    pub opened: Vec<(ConnectionId, usize)>,
    pub closed: Vec<ConnectionId>,
    /// Connections that the handler itself has closed.
    pub ended: Vec<ConnectionId>,
    pub overdue: bool,
    pub ready_calls: usize,
    /// The peer of the last call.
    pub peer: Option<IpAddr>,
}

impl Handler for TestHandler {
    type Connection = ConnectionId;

    fn opened(&mut self, id: ConnectionId, listener: usize, _now: Now) -> ConnectionId {
        self.opened.push((id, listener));
        id
    }

    fn ready<S: Stream>(
        &mut self,
        id: ConnectionId,
        connection: &mut ConnectionId,
        stream: &mut S,
        _now: Now,
    ) {
        assert_eq!(id, *connection);
        self.ready_calls += 1;
        self.peer = stream.peer();
        match self.manner {
            Manner::Echo => {
                while stream.received_bytes() > 0 && stream.room_bytes() > 0 {
                    let bytes = stream.received().to_vec();
                    let written = stream.write(&bytes);
                    stream.consume(written);
                }
                if stream.is_peer_finished() && stream.received_bytes() == 0 {
                    stream.close();
                    self.ended.push(id);
                }
            }
            Manner::Ignore => (),
            Manner::Close => {
                stream.write(b"bye\r\n");
                stream.close();
                self.ended.push(id);
            }
            Manner::Pour => {
                while stream.write(&[b'p'; 1000]) > 0 {}
                stream.close();
                self.ended.push(id);
            }
            Manner::Abort => stream.abort(),
        }
    }

    fn is_overdue(&self, _connection: &ConnectionId, _now: Now) -> bool {
        self.overdue
    }

    fn closed(&mut self, id: ConnectionId, connection: ConnectionId) {
        assert_eq!(id, connection);
        self.closed.push(id);
    }
}

/// A stack at the end of a wire, with its clock.
pub struct Bench<P: Port = TestPort> {
    pub stack: Stack<P, ConnectionId>,
    pub handler: TestHandler,
    pub queues: Rc<RefCell<Queues>>,
    pub stats: Arc<WorkerStats>,
    pub now: Now,
}

pub fn config() -> StackConfig {
    let cidr = |text: &str, prefix_bits| Cidr { address: text.parse().unwrap(), prefix_bits };
    StackConfig {
        addresses: vec![cidr("10.0.0.1", 24), cidr("10.1.0.1", 16), cidr("fd00::1", 64)],
        gateways: vec!["10.0.0.254".parse().unwrap(), "fd00::fe".parse().unwrap()],
        ports: PORTS.to_vec(),
        allow: Vec::new(),
        connections_max: 100,
        admission: Arc::new(Admission::new(100, Remedies::default())),
        board: Arc::default(),
        idle_timeout_us: 0,
        secret: std::array::from_fn(|i| i as u8),
    }
}

impl Bench {
    pub fn new(config: &StackConfig) -> Bench {
        let port = TestPort::default();
        Bench::with_port(config, port.clone(), &port)
    }
}

impl<P: Port> Bench<P> {
    /// `port` is connected to the wire of `end`.
    pub fn with_port(config: &StackConfig, port: P, end: &TestPort) -> Bench<P> {
        let now = Now { uptime_us: 1_000_000, unix_s: 1_800_000_000 };
        let queues = end.0.clone();
        let stats = Arc::new(WorkerStats::default());
        let stack = Stack::new(port, config, stats.clone(), now).unwrap();
        Bench { stack, handler: TestHandler::default(), queues, stats, now }
    }

    /// Polls until nothing is left to receive.
    pub fn run(&mut self) {
        loop {
            self.stack.poll(self.now, &mut self.handler);
            self.stack.flush(self.now);
            if self.queues.borrow().to_server.is_empty() {
                return;
            }
        }
    }

    /// Lets `us` microseconds pass in steps of a millisecond.
    pub fn wait(&mut self, us: u64) {
        let end = self.now.uptime_us + us;
        while self.now.uptime_us < end {
            self.now.uptime_us = end.min(self.now.uptime_us + 1000);
            self.run();
        }
    }

    /// Passes `frame` to the stack and returns what it sends immediately.
    pub fn exchange(&mut self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.queues.borrow_mut().to_server.push_back(VecFrame::new(frame));
        self.run();
        self.sent()
    }

    /// Passes `frame` to the stack and leaves what it sends on the wire.
    pub fn exchange_quietly(&mut self, frame: Vec<u8>) {
        self.queues.borrow_mut().to_server.push_back(VecFrame::new(frame));
        self.run();
    }

    /// The frames sent since the last call.
    pub fn sent(&mut self) -> Vec<Vec<u8>> {
        self.queues.borrow_mut().to_client.drain(..).map(|frame| frame.bytes).collect()
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }
}

impl StackConfig {
    /// Allows this many connections, and none in other stacks.
    pub fn allow(&mut self, connections_max: usize) {
        self.connections_max = connections_max;
        self.admission = Arc::new(Admission::new(connections_max, Remedies::default()));
    }
}
