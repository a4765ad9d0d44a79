//! Clients at the other end of a wire: one built from single segments, one using smoltcp.

use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::wire::{Bench, CLIENT_MAC, MTU_BYTES, SERVER_MAC, VecFrame};
use crate::net::tcp::checksum::{Sum, pseudo_header};
use crate::net::tcp::device::Port;
use crate::net::tcp::headers::{be16, be32, flag};

/// A TCP segment in a frame, every field of which a test may change.
#[derive(Clone, Debug)]
pub struct Crafted {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Crafted {
    pub fn new(from: &str, to: &str, flags: u8, seq: u32, ack: u32) -> Crafted {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        let (options, payload) = (Vec::new(), Vec::new());
        Crafted { from, to, seq, ack, flags, window: 0xffff, urgent: 0, options, payload }
    }

    pub fn payload(mut self, payload: &[u8]) -> Crafted {
        self.payload = payload.to_vec();
        self
    }

    pub fn options(mut self, options: &[u8]) -> Crafted {
        self.options = options.to_vec();
        self
    }

    /// The frame with correct checksums.
    pub fn frame(&self) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.from.port().to_be_bytes());
        tcp.extend(self.to.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.push(((20 + self.options.len().next_multiple_of(4)) / 4 * 16) as u8);
        tcp.push(self.flags);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0, 0]);
        tcp.extend(self.urgent.to_be_bytes());
        tcp.extend(&self.options);
        tcp.resize(20 + self.options.len().next_multiple_of(4), 0);
        tcp.extend(&self.payload);
        packet(self.from.ip(), self.to.ip(), 6, &tcp)
    }
}

/// An IP packet in a frame from the client, with correct checksums for TCP and ICMPv6.
pub fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [SERVER_MAC, CLIENT_MAC].concat();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((20 + payload.len() as u16).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((payload.len() as u16).to_be_bytes());
            frame.extend([protocol, if protocol == 58 { 255 } else { 64 }]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        _ => panic!("two families"),
    }
    frame.extend(payload);
    seal(&mut frame);
    frame
}

/// Recomputes the checksums of a frame, as far as its lengths are valid.
pub fn seal(frame: &mut [u8]) {
    let (ip_bytes, addresses) = if frame[12] == 8 { (20, 26..34) } else { (40, 22..54) };
    if frame[12] == 8 {
        frame[24..26].fill(0);
        let sum = Sum::default().add(&frame[14..34]).complement();
        frame[24..26].copy_from_slice(&sum);
    }
    let protocol = if frame[12] == 8 { frame[23] } else { frame[20] };
    let at = match protocol {
        6 => 16,
        1 | 58 => 2,
        _ => return,
    };
    let (head, payload) = frame.split_at_mut(14 + ip_bytes);
    if payload.len() < at + 2 {
        return;
    }
    payload[at..at + 2].fill(0);
    let pseudo = match protocol {
        1 => Sum::default(),
        _ => pseudo_header(&head[addresses], protocol, payload.len()),
    };
    let sum = pseudo.add(payload).complement();
    payload[at..at + 2].copy_from_slice(&sum);
}

/// Fields of a TCP frame that the stack sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub to_port: u16,
    pub payload: Vec<u8>,
}

/// Parses a TCP frame and checks its checksums.
pub fn see(frame: &[u8]) -> Seen {
    assert_eq!(&frame[..12], [CLIENT_MAC, SERVER_MAC].concat());
    let mut sealed = frame.to_vec();
    seal(&mut sealed);
    assert_eq!(sealed, frame, "a wrong checksum");
    let ip_bytes = if frame[12] == 8 { 20 } else { 40 };
    let tcp = &frame[14 + ip_bytes..];
    let header_bytes = usize::from(tcp[12] >> 4) * 4;
    Seen {
        flags: tcp[13],
        seq: be32(tcp, 4),
        ack: be32(tcp, 8),
        to_port: be16(tcp, 2),
        payload: tcp[header_bytes..].to_vec(),
    }
}

pub const SYN: u8 = flag::SYN;
pub const ACK: u8 = flag::ACK;
pub const FIN: u8 = flag::FIN;
pub const RST: u8 = flag::RST;
pub const PSH: u8 = 8;

/// A connection driven segment by segment.
pub struct Hand {
    pub from: String,
    pub to: String,
    pub seq: u32,
    pub ack: u32,
}

impl Hand {
    /// Completes a handshake.
    pub fn open(bench: &mut Bench, from: &str, to: &str) -> Hand {
        let mut hand = Hand { from: from.into(), to: to.into(), seq: 1000, ack: 0 };
        let answer = bench.exchange(hand.craft(SYN).frame());
        let [frame] = &answer[..] else { panic!("{} answers to a SYN", answer.len()) };
        let seen = see(frame);
        assert_eq!((seen.flags, seen.ack), (SYN | ACK, 1001));
        hand.seq = 1001;
        hand.ack = seen.seq.wrapping_add(1);
        assert!(bench.exchange(hand.craft(ACK).frame()).is_empty());
        hand
    }

    pub fn craft(&self, flags: u8) -> Crafted {
        Crafted::new(&self.from, &self.to, flags, self.seq, self.ack)
    }

    /// Sends `payload` and returns the immediate answer, acknowledged with the next segment.
    pub fn say(&mut self, bench: &mut Bench, payload: &[u8]) -> Vec<u8> {
        let frame = self.craft(ACK | PSH).payload(payload).frame();
        self.seq = self.seq.wrapping_add(payload.len() as u32);
        let mut answer = Vec::new();
        for frame in bench.exchange(frame) {
            let seen = see(&frame);
            assert_eq!((seen.seq, seen.ack), (self.ack, self.seq), "{seen:?}");
            self.ack = self.ack.wrapping_add(seen.payload.len() as u32);
            answer.extend(seen.payload);
        }
        answer
    }
}

/// A client host: smoltcp behind our own Ethernet header.
pub struct Client {
    pub iface: Interface,
    pub sockets: SocketSet<'static>,
    pub wire: ClientWire,
    pub rate: u64,
}

#[derive(Default)]
pub struct ClientWire {
    pub inbox: std::collections::VecDeque<VecFrame>,
    pub outbox: Vec<Vec<u8>>,
}

pub struct In(Vec<u8>);
pub struct Out<'a>(&'a mut Vec<Vec<u8>>);

impl phy::RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0[14..])
    }
}

impl phy::TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, f: F) -> R {
        let mut frame = vec![0; 14 + bytes];
        frame[..6].copy_from_slice(&SERVER_MAC);
        frame[6..12].copy_from_slice(&CLIENT_MAC);
        let result = f(&mut frame[14..]);
        let kind = if frame[14] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        frame[12..14].copy_from_slice(&kind);
        self.0.push(frame);
        result
    }
}

impl Device for ClientWire {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: Instant) -> Option<(In, Out<'_>)> {
        // This client handles only IP.
        while let Some(frame) = self.inbox.pop_front() {
            if matches!(frame.bytes[12..14], [8, 0] | [0x86, 0xdd]) {
                return Some((In(frame.bytes), Out(&mut self.outbox)));
            }
        }
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        Some(Out(&mut self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU_BYTES;
        capabilities
    }
}

impl Client {
    pub fn new(seed: u64, addresses: &[&str]) -> Client {
        let mut wire = ClientWire::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut wire, Instant::ZERO);
        iface.update_ip_addrs(|list| {
            list.extend(addresses.iter().map(|text| text.parse::<IpCidr>().unwrap()));
        });
        Client { iface, sockets: SocketSet::new(Vec::new()), wire, rate: 20 }
    }

    pub fn connect(&mut self, to: &str, port: u16, ring_bytes: usize) -> SocketHandle {
        let ring = || tcp::SocketBuffer::new(vec![0; ring_bytes]);
        let mut socket = tcp::Socket::new(ring(), ring());
        socket.set_nagle_enabled(false);
        let to: SocketAddr = to.parse().unwrap();
        socket.connect(self.iface.context(), (to.ip(), to.port()), port).unwrap();
        self.sockets.add(socket)
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// One round: receives what the server sent, then sends.
    pub fn run<P: Port>(&mut self, bench: &Bench<P>) {
        let mut queues = bench.queues.borrow_mut();
        self.wire.inbox.extend(queues.to_client.drain(..));
        let time = Instant::from_micros((bench.now.uptime_us * self.rate) as i64);
        self.iface.poll(time, &mut self.wire, &mut self.sockets);
        queues.to_server.extend(self.wire.outbox.drain(..).map(VecFrame::new));
    }

    /// Runs both sides alternately until neither sends anything, then `us` microseconds pass.
    pub fn play<P: Port>(&mut self, bench: &mut Bench<P>, us: u64) {
        loop {
            self.run(bench);
            bench.run();
            if bench.queues.borrow().to_client.is_empty() {
                break;
            }
        }
        bench.now.uptime_us += us;
    }
}
