//! A simulated wire: a port for the stack at one end, smoltcp's own sockets as clients at the
//! other.
//!
//! Frames come from a pool that is filled at the start, like a device's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use arrayvec::ArrayVec;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use sunder::base::clock::Now;
use sunder::base::limits::BURST_FRAMES;
use sunder::net::tcp::device::{Capabilities, Frame, Port, RxChecksum, TxOffload};

const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ETHERNET_BYTES: usize = 14;
const MTU_BYTES: usize = 1500;
const FRAME_BYTES: usize = ETHERNET_BYTES + MTU_BYTES;
const POOL_FRAMES: usize = 4096;
const CLIENT_BUFFER_BYTES: usize = 64 * 1024;

pub const SERVER: [u8; 4] = [10, 0, 0, 1];
pub const PORT: u16 = 11211;

struct Buffer {
    bytes: Box<[u8; FRAME_BYTES]>,
    len: usize,
}

/// Both directions, and the free frames.
pub struct Queues {
    to_server: VecDeque<Buffer>,
    to_client: VecDeque<Buffer>,
    pool: Vec<Buffer>,
}

/// A frame of the pool.
pub struct PoolFrame {
    /// None after it was sent or dropped.
    buffer: Option<Buffer>,
    queues: Rc<RefCell<Queues>>,
}

impl Drop for PoolFrame {
    fn drop(&mut self) {
        self.queues.borrow_mut().pool.extend(self.buffer.take());
    }
}

impl Frame for PoolFrame {
    fn bytes(&self) -> &[u8] {
        let buffer = self.buffer.as_ref().expect("alive");
        &buffer.bytes[..buffer.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let buffer = self.buffer.as_mut().expect("alive");
        &mut buffer.bytes[..buffer.len]
    }

    fn set_len(&mut self, bytes: usize) {
        assert!(bytes <= FRAME_BYTES);
        self.buffer.as_mut().expect("alive").len = bytes;
    }

    fn capacity_bytes(&self) -> usize {
        FRAME_BYTES
    }

    fn rx_checksum(&self) -> RxChecksum {
        RxChecksum::Unknown
    }

    fn set_tx_offload(&mut self, _: TxOffload) {
        panic!("not offered");
    }
}

/// The server's end.
pub struct WirePort(Rc<RefCell<Queues>>);

impl WirePort {
    fn frame(&self, buffer: Buffer) -> PoolFrame {
        PoolFrame { buffer: Some(buffer), queues: Rc::clone(&self.0) }
    }
}

impl Port for WirePort {
    type Frame = PoolFrame;

    fn capabilities(&self) -> Capabilities {
        Capabilities { mac: SERVER_MAC, mtu_bytes: MTU_BYTES, tx_checksum: false }
    }

    fn receive(&mut self, burst: &mut ArrayVec<PoolFrame, BURST_FRAMES>) {
        while !burst.is_full() {
            let Some(buffer) = self.0.borrow_mut().to_server.pop_front() else { return };
            burst.push(self.frame(buffer));
        }
    }

    fn allocate(&mut self) -> Option<PoolFrame> {
        let buffer = self.0.borrow_mut().pool.pop()?;
        Some(self.frame(buffer))
    }

    fn send(&mut self, mut frame: PoolFrame) -> Result<(), PoolFrame> {
        let buffer = frame.buffer.take().expect("alive");
        self.0.borrow_mut().to_client.push_back(buffer);
        Ok(())
    }

    fn flush(&mut self) {}
}

/// The clients' end: connections of one address.
pub struct WireClient {
    queues: Rc<RefCell<Queues>>,
    iface: Interface,
    set: SocketSet<'static>,
    handles: Vec<SocketHandle>,
}

/// A wire; both its ends.
pub fn wire(connections: usize) -> (WirePort, WireClient) {
    let buffer = || Buffer { bytes: Box::new([0; FRAME_BYTES]), len: 0 };
    let queues = Rc::new(RefCell::new(Queues {
        to_server: VecDeque::with_capacity(POOL_FRAMES),
        to_client: VecDeque::with_capacity(POOL_FRAMES),
        pool: std::iter::repeat_with(buffer).take(POOL_FRAMES).collect(),
    }));
    let mut end = End(Rc::clone(&queues));
    let config = Config::new(HardwareAddress::Ip);
    let mut iface = Interface::new(config, &mut end, Instant::ZERO);
    iface.update_ip_addrs(|list| {
        list.push(IpCidr::new(IpAddress::v4(10, 0, 0, 2), 24)).expect("room for one");
    });
    let mut client = WireClient {
        queues: Rc::clone(&queues),
        iface,
        set: SocketSet::new(Vec::new()),
        handles: Vec::new(),
    };
    for n in 0..connections {
        client.connect(40_000 + n as u16);
    }
    (WirePort(queues), client)
}

impl WireClient {
    fn connect(&mut self, local_port: u16) {
        let buffer = || tcp::SocketBuffer::new(vec![0; CLIENT_BUFFER_BYTES]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let remote = (IpAddress::from(std::net::Ipv4Addr::from(SERVER)), PORT);
        socket.connect(self.iface.context(), remote, local_port).expect("a free port");
        self.handles.push(self.set.add(socket));
    }

    /// Advances time to `now`: receives what arrived, sends what is queued.
    pub fn turn(&mut self, now: Now) {
        let mut end = End(Rc::clone(&self.queues));
        let time = Instant::from_micros(now.uptime_us as i64);
        self.iface.poll(time, &mut end, &mut self.set);
    }

    /// Sends as much of `bytes` as there is room for on connection `index`; returns how much.
    pub fn send(&mut self, index: usize, bytes: &[u8]) -> usize {
        let socket = self.set.get_mut::<tcp::Socket>(self.handles[index]);
        if socket.can_send() { socket.send_slice(bytes).expect("open") } else { 0 }
    }

    /// Appends what arrived on connection `index` to `into`.
    pub fn receive(&mut self, index: usize, into: &mut Vec<u8>) {
        let socket = self.set.get_mut::<tcp::Socket>(self.handles[index]);
        while socket.can_recv() {
            let take = |piece: &mut [u8]| {
                into.extend_from_slice(piece);
                (piece.len(), ())
            };
            socket.recv(take).expect("there is something");
        }
    }
}

/// The clients' end for smoltcp: packets without their Ethernet headers.
struct End(Rc<RefCell<Queues>>);

struct Arrived(Rc<RefCell<Queues>>, Buffer);

struct Departing(Rc<RefCell<Queues>>);

impl phy::Device for End {
    type RxToken<'t> = Arrived;
    type TxToken<'t> = Departing;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Departing)> {
        loop {
            let buffer = self.0.borrow_mut().to_client.pop_front()?;
            // The stack announces its addresses by ARP; the clients know them.
            if buffer.bytes[12..14] == [8, 0] {
                return Some((Arrived(Rc::clone(&self.0), buffer), Departing(Rc::clone(&self.0))));
            }
            self.0.borrow_mut().pool.push(buffer);
        }
    }

    fn transmit(&mut self, _: Instant) -> Option<Departing> {
        // Some frames are left for the server, so that neither side waits for the other's.
        let has_frames = self.0.borrow().pool.len() > POOL_FRAMES / 2;
        has_frames.then(|| Departing(Rc::clone(&self.0)))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU_BYTES;
        capabilities
    }
}

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(&self.1.bytes[ETHERNET_BYTES..self.1.len]);
        self.0.borrow_mut().pool.push(self.1);
        result
    }
}

impl phy::TxToken for Departing {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, f: F) -> R {
        let mut buffer = self.0.borrow_mut().pool.pop().expect("transmit has looked");
        buffer.len = ETHERNET_BYTES + bytes;
        let (ethernet, packet) = buffer.bytes.split_at_mut(ETHERNET_BYTES);
        ethernet[..6].copy_from_slice(&SERVER_MAC);
        ethernet[6..12].copy_from_slice(&CLIENT_MAC);
        ethernet[12..].copy_from_slice(&[8, 0]);
        let result = f(&mut packet[..bytes]);
        self.0.borrow_mut().to_server.push_back(buffer);
        result
    }
}
