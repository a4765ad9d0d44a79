//! The roles of children: an echo on a device, clients on kernel sockets, a flood.

use std::collections::BTreeSet;
use std::env::var;
use std::io::{ErrorKind, stdin};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use arrayvec::ArrayVec;
use socket2::{Domain, Socket, Type};
use sunder::base::stats::{Counter, WorkerStats};
use sunder::net::nic::{Huge, Nic, NicConfig, NicError, NicFrame, WorkerPort, open};
use sunder::net::tcp::device::{Capabilities, Frame, Port, RxChecksum, TxOffload};
use sunder::remedies::of_device;

use crate::bench::serve;
use crate::lab::{DEVICE, HUGE, WORKERS};

/// Source ports of the client's connections: as many flows.
pub fn client_ports() -> impl Iterator<Item = u16> {
    40_000..40_016
}

const SERVER: [u8; 4] = [10, 77, 0, 2];

pub fn play(role: &str) {
    match role {
        "echo" => echo(),
        "held-echo" => held_echo(),
        "flood" => flood(),
        "client" => client(),
        "queues" => queues(),
        "ending-server" => serve(false),
        "leaving-server" => serve(true),
        "refused" => refused(),
        _ => panic!("no role {role:?}"),
    }
}

fn open_device() -> (Result<Nic, NicError>, Vec<Arc<WorkerStats>>) {
    let workers: usize = var(WORKERS).unwrap().parse().unwrap();
    let huge = if var(HUGE).unwrap() == "off" { Huge::Off } else { Huge::Auto };
    let config = NicConfig { devices: vec![var(DEVICE).unwrap()], workers, huge };
    let stats: Vec<_> = (0..workers).map(|_| Arc::new(WorkerStats::default())).collect();
    (open(&config, &stats).map(|mut opened| opened.remove(0)), stats)
}

/// A device that cannot be opened: prints why.
fn refused() {
    let (result, _) = open_device();
    println!("\nerror {}", of_device(&result.err().expect("refused")));
}

/// Becomes true when the parent closes our input.
fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    thread::spawn(move || {
        while stdin().read_line(&mut String::new()).is_ok_and(|n| n > 0) {}
        flag.store(true, Ordering::Relaxed);
    });
    stop
}

/// Becomes true at the next line from the parent.
fn line_flag() -> Arc<AtomicBool> {
    let seen = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&seen);
    thread::spawn(move || {
        wait_for_line();
        flag.store(true, Ordering::Relaxed);
    });
    seen
}

static CHECKSUMS_GOOD: AtomicUsize = AtomicUsize::new(0);

/// Answers for the server's address on every worker, and prints which flows each of them received.
fn echo() {
    let affinity = rustix::thread::sched_getaffinity(None).unwrap();
    let (nic, stats) = open_device();
    let mut nic = nic.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(rustix::thread::sched_getaffinity(None).unwrap(), affinity);
    assert!(nic.is_link_up());
    let stop = stop_flag();
    let threads: Vec<_> = (0..stats.len())
        .map(|worker| {
            let (port, stop) = (nic.take_port(worker), Arc::clone(&stop));
            thread::spawn(move || echo_worker(port, &stop))
        })
        .collect();
    println!("\nready");
    let mut kept = Vec::new();
    for (worker, thread) in threads.into_iter().enumerate() {
        let (ports, frame) = thread.join().unwrap();
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        println!("\nworker {worker} ports {}", ports.join(" "));
        kept.push(frame);
    }
    println!("checksums good {}", CHECKSUMS_GOOD.load(Ordering::Relaxed));
    check_counters(&nic, &stats);
    drop(nic);
    // A frame may outlive its device.
    kept.iter_mut().for_each(|frame| frame.bytes_mut().fill(1));
    drop(kept);
    assert!(matches!(open_device().0, Err(NicError::AlreadyOpen)));
}

fn check_counters(nic: &Nic, stats: &[Arc<WorkerStats>]) {
    let sum = |counter| stats.iter().map(|stats| stats.get(counter)).sum::<u64>();
    let device = nic.monitor().statistics();
    assert!(device.frames_received > 0 && device.frames_sent > 0, "{device:?}");
    assert_eq!(sum(Counter::FramesReceived), device.frames_received);
    assert_eq!(sum(Counter::FramesSent), device.frames_sent);
    assert_eq!(sum(Counter::FramesMalformed), 0);
    assert_eq!(nic.has_queue_per_worker(), stats.len() == 1);
    assert_eq!(sum(Counter::FramesSteered) > 0, stats.len() > 1);
    assert_eq!(sum(Counter::FramesSteerDropped), 0);
}

fn echo_worker(mut port: WorkerPort, stop: &AtomicBool) -> (BTreeSet<u16>, NicFrame) {
    let mut flows = BTreeSet::new();
    let mut burst = ArrayVec::new();
    if !stop.load(Ordering::Relaxed) {
        println!("\ntx checksum {}", port.capabilities().tx_checksum);
    }
    while !stop.load(Ordering::Relaxed) {
        port.receive(&mut burst);
        let is_idle = burst.is_empty() && port.take_forwarded() == 0;
        for frame in burst.drain(..) {
            if let Some(reply) = answer(frame, &mut port, &mut flows) {
                send(&mut port, reply);
            }
        }
        port.flush();
        if is_idle {
            thread::yield_now();
        }
    }
    (flows, port.allocate().expect("the pool is not empty"))
}

/// Sends without loss: waits for the peer, which never waits for us.
fn send(port: &mut WorkerPort, mut frame: NicFrame) {
    while let Err(back) = port.send(frame) {
        port.flush();
        frame = back;
    }
}

/// The reply to a frame, written in place or to a new one.
fn answer(
    mut frame: NicFrame,
    port: &mut WorkerPort,
    flows: &mut BTreeSet<u16>,
) -> Option<NicFrame> {
    assert_ne!(frame.rx_checksum(), RxChecksum::Bad);
    let capabilities = port.capabilities();
    let bytes = frame.bytes_mut();
    if bytes.len() >= 42 && bytes[12..14] == [0x08, 0x06] && bytes[38..42] == SERVER {
        answer_arp(bytes, capabilities.mac);
        return Some(frame);
    }
    let is_ours = bytes.len() >= 42 && bytes[12..14] == [0x08, 0x00] && bytes[30..34] == SERVER;
    if !is_ours {
        return None;
    }
    match bytes[23] {
        17 => {
            swap(bytes, 0, 6, 6);
            swap(bytes, 26, 30, 4);
            swap(bytes, 34, 36, 2);
            Some(frame)
        }
        6 => {
            if frame.rx_checksum() == RxChecksum::Good {
                CHECKSUMS_GOOD.fetch_add(1, Ordering::Relaxed);
            }
            flows.insert(u16::from_be_bytes([frame.bytes()[34], frame.bytes()[35]]));
            let mut reply = port.allocate().expect("the pool is not empty");
            write_reset(frame.bytes(), &mut reply, capabilities);
            Some(reply)
        }
        _ => None,
    }
}

fn swap(bytes: &mut [u8], a: usize, b: usize, len: usize) {
    let (left, right) = bytes.split_at_mut(b);
    left[a..a + len].swap_with_slice(&mut right[..len]);
}

/// RFC 826: who has the server's address.
fn answer_arp(bytes: &mut [u8], mac: [u8; 6]) {
    bytes.copy_within(6..12, 0);
    bytes[6..12].copy_from_slice(&mac);
    bytes[21] = 2;
    bytes.copy_within(22..32, 32);
    bytes[22..28].copy_from_slice(&mac);
    bytes[28..32].copy_from_slice(&SERVER);
}

/// RFC 9293, section 3.10.7.1: a SYN to a closed port is answered with RST and ACK.
fn write_reset(syn: &[u8], reply: &mut NicFrame, capabilities: Capabilities) {
    assert!(reply.capacity_bytes() >= 1514);
    reply.set_len(54);
    let out = reply.bytes_mut();
    out.fill(0);
    out[..6].copy_from_slice(&syn[6..12]);
    out[6..12].copy_from_slice(&capabilities.mac);
    out[12..14].copy_from_slice(&[0x08, 0x00]);
    out[14..18].copy_from_slice(&[0x45, 0, 0, 40]);
    out[22..24].copy_from_slice(&[64, 6]);
    out[26..30].copy_from_slice(&syn[30..34]);
    out[30..34].copy_from_slice(&syn[26..30]);
    out[34..36].copy_from_slice(&syn[36..38]);
    out[36..38].copy_from_slice(&syn[34..36]);
    let sequence = u32::from_be_bytes(syn[38..42].try_into().unwrap());
    out[42..46].copy_from_slice(&sequence.wrapping_add(1).to_be_bytes());
    out[46..48].copy_from_slice(&[0x50, 0x14]);
    // RFC 9293, section 3.1: the pseudo-header is the addresses, the protocol and the length.
    let pseudo = add(add(0, &out[26..34]), &[0, 6, 0, 20]);
    if capabilities.tx_checksum {
        out[50..52].copy_from_slice(&fold(pseudo).to_be_bytes());
        reply.set_tx_offload(TxOffload { is_ipv4: true, ip_header_bytes: 20 });
    } else {
        let tcp = !fold(add(pseudo, &out[34..54]));
        out[50..52].copy_from_slice(&tcp.to_be_bytes());
        let ip = !fold(add(0, &out[14..34]));
        out[24..26].copy_from_slice(&ip.to_be_bytes());
    }
}

/// RFC 1071, for an even number of bytes.
fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(sum, |sum, b| sum + u32::from(u16::from_be_bytes([b[0], b[1]])))
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The kernel's own stack as a client: datagrams are returned unchanged, connections are refused.
fn client() {
    let socket = UdpSocket::bind("10.77.0.1:0").unwrap();
    socket.connect("10.77.0.2:7").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    for len in [0, 1, 18, 19, 100, 1000, 1471, 1472] {
        let sent: Vec<u8> = (0..len).map(|n| (n * 7 + len) as u8).collect();
        assert_eq!(exchange(&socket, &sent), sent);
    }
    // The same flows repeatedly: each must stay at its worker.
    for _ in 0..4 {
        for port in client_ports() {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind(&SocketAddr::from(([10, 77, 0, 1], port)).into()).unwrap();
            let server = SocketAddr::from((SERVER, 11211)).into();
            let error = socket.connect_timeout(&server, Duration::from_secs(20)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        }
    }
}

/// Sends until there is an answer. The first datagrams may be lost.
fn exchange(socket: &UdpSocket, sent: &[u8]) -> Vec<u8> {
    let mut back = [0; 2048];
    for _ in 0..100 {
        // A port unreachable from before the echo started is reported here.
        let _ = socket.send(sent);
        match socket.recv(&mut back) {
            Ok(n) if n == sent.len() => return back[..n].to_vec(),
            _ => {}
        }
    }
    panic!("{} bytes were never returned", sent.len());
}

fn wait_for_line() {
    assert!(stdin().read_line(&mut String::new()).unwrap() > 0, "the parent is gone");
}

/// A device that hashes: each worker has its own queue pair, in its own thread.
fn queues() {
    let (nic, stats) = open_device();
    let mut nic = nic.unwrap_or_else(|error| panic!("{error:?}"));
    assert!(nic.has_queue_per_worker());
    thread::scope(|scope| {
        for worker in 0..stats.len() {
            let mut port = nic.take_port(worker);
            scope.spawn(move || {
                let mut burst = ArrayVec::new();
                // This device delivers frames at any time, and drops those sent.
                for _ in 0..100 {
                    port.receive(&mut burst);
                    assert!(burst.is_full());
                    burst.drain(..).for_each(|frame| assert!(port.send(frame).is_ok()));
                    port.flush();
                    assert_eq!(port.take_forwarded(), 0);
                }
            });
        }
    });
    for stats in stats {
        assert_eq!(stats.get(Counter::FramesReceived), 100 * 32);
        assert_eq!(stats.get(Counter::FramesSent), 100 * 32);
        assert_eq!(stats.get(Counter::FramesSteered), 0);
    }
    println!("\nqueues used");
}

/// Returns every frame, but reads its device only after it is told to, and not any more after it is
/// told to rest. Then it waits until its peer has left.
fn held_echo() {
    let (nic, _) = open_device();
    let mut nic = nic.unwrap_or_else(|error| panic!("{error:?}"));
    let mut port = nic.take_port(0);
    println!("\nready");
    wait_for_line();
    let rest = line_flag();
    let mut burst = ArrayVec::new();
    while !rest.load(Ordering::Relaxed) {
        port.receive(&mut burst);
        for frame in burst.drain(..) {
            send(&mut port, frame);
        }
        port.flush();
    }
    println!("\nresting");
    let monitor = nic.monitor();
    while monitor.is_link_up() {
        thread::yield_now();
    }
    println!("alone");
}

/// Sends numbered frames until all queues are full, then expects each of them back, once and in
/// order.
fn flood() {
    let (nic, stats) = open_device();
    let mut nic = nic.unwrap_or_else(|error| panic!("{error:?}"));
    assert!(nic.is_link_up(), "the other end is not there");
    let mut port = nic.take_port(0);
    let mut sent = 0u32;
    loop {
        let mut frame = port.allocate().expect("the pool holds what a queue does");
        frame.set_len(64);
        frame.bytes_mut().fill(0);
        frame.bytes_mut()[60..].copy_from_slice(&sent.to_be_bytes());
        if port.send(frame).is_err() {
            port.flush();
            if stats[0].get(Counter::TxPartialBursts) > 1 {
                break;
            }
            continue;
        }
        sent += 1;
        if sent.is_multiple_of(32) {
            port.flush();
        }
    }
    let in_device = stats[0].get(Counter::FramesSent);
    assert!(in_device > 0 && in_device < u64::from(sent), "{in_device} of {sent}");
    println!("\nfull");
    wait_for_line();
    let mut burst = ArrayVec::new();
    let mut back = 0u32;
    while back < sent {
        port.flush();
        port.receive(&mut burst);
        for frame in burst.drain(..) {
            assert_eq!(frame.bytes().len(), 64);
            assert_eq!(frame.bytes()[60..], back.to_be_bytes());
            back += 1;
        }
    }
    assert_eq!(stats[0].get(Counter::FramesSent), u64::from(sent));
    println!("all back {back}");
    wait_for_line();
}
