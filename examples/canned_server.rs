//! The upper limit for a load client: a server on a DPDK device that stores nothing.
//!
//! It answers every `get KEY` with an item of that key and 100 constant bytes, directly from the
//! TCP stack, so that a load client over the same link is slower than the server, or nearly so. It
//! uses one core, which spins, until SIGTERM or SIGINT. At the end it prints how many frames it
//! received and sent for how many requests, and the length of the turns in which something arrived.
//!
//! usage: canned_server DEVICE CIDR [CONNECTIONS] [CORE]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sunder::base::clock::{Clock, Now};
use sunder::base::stats::{Counter, WorkerStats};
use sunder::config;
use sunder::net::nic::{self, Huge};
use sunder::net::tcp::{Cidr, Stack, StackConfig};
use sunder::net::{Admission, ConnectionId, Handler, Remedies, Stream, Transport};
use sunder::remedies;

const VALUE: [u8; 100] = [b'v'; 100];
const PORT: u16 = 11211;

struct Canned {
    tail: Vec<u8>,
    requests: u64,
}

impl Handler for Canned {
    type Connection = ();

    fn opened(&mut self, _: ConnectionId, _: usize, _: Now) {}

    #[inline]
    fn ready<S: Stream>(&mut self, _: ConnectionId, (): &mut (), stream: &mut S, _: Now) {
        loop {
            let mut cut = [0; 300];
            let piece = stream.received();
            let mut line = piece.iter().position(|&byte| byte == b'\n').map(|end| &piece[..=end]);
            if line.is_none() {
                let peeked = stream.peek(&mut cut);
                let end = cut[..peeked].iter().position(|&byte| byte == b'\n');
                line = end.map(|end| &cut[..=end]);
            }
            let Some(line) = line else { break };
            let mut reply = [0; 600];
            let Some(key) = line.strip_prefix(b"get ").and_then(|l| l.strip_suffix(b"\r\n")) else {
                return stream.abort();
            };
            let consumed = line.len();
            reply[..6].copy_from_slice(b"VALUE ");
            let Some(room) = reply.get_mut(6..6 + key.len() + self.tail.len()) else {
                return stream.abort();
            };
            room[..key.len()].copy_from_slice(key);
            room[key.len()..].copy_from_slice(&self.tail);
            let bytes = 6 + room.len();
            if stream.room_bytes() < bytes {
                break;
            }
            stream.write(&reply[..bytes]);
            stream.consume(consumed);
            self.requests += 1;
        }
        if stream.is_peer_finished() {
            stream.close();
        }
    }

    fn is_overdue(&self, (): &(), _: Now) -> bool {
        false
    }

    fn closed(&mut self, _: ConnectionId, (): ()) {}
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("canned_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), String> {
    let [device, address, rest @ ..] = words else {
        return Err("usage: canned_server DEVICE CIDR [CONNECTIONS] [CORE]".into());
    };
    let number = |n: usize, default: usize| match rest.get(n) {
        None => Ok(default),
        Some(word) => word.parse().map_err(|_| format!("'{word}': expected a number")),
    };
    let (connections, core) = (number(0, 10_000)?, number(1, 0)?);
    let cidr = config::cidr(address).map_err(|error| error.to_string())?;
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).map_err(|error| error.to_string())?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let stop = Arc::clone(&stop);
        signal_hook::flag::register(signal, stop).map_err(|error| error.to_string())?;
    }
    let stats = Arc::new(WorkerStats::default());
    let request = nic::NicConfig { devices: vec![device.clone()], workers: 1, huge: Huge::Auto };
    let opened = nic::open(&request, std::slice::from_ref(&stats));
    let mut nic = opened.map_err(|error| remedies::of_device(&error))?.remove(0);
    let config = StackConfig {
        addresses: vec![Cidr { address: cidr.address, prefix_bits: cidr.prefix_bits }],
        gateways: Vec::new(),
        ports: vec![PORT],
        allow: Vec::new(),
        connections_max: connections,
        admission: Arc::new(Admission::new(connections, Remedies::default())),
        board: Arc::default(),
        idle_timeout_us: 0,
        secret: sunder::base::secret::random(),
    };
    let clock = Clock::start();
    let counters = Arc::clone(&stats);
    let stack = Stack::new(nic.take_port(0), &config, stats, clock.read());
    let mut stack = stack.map_err(|error| error.to_string())?;
    let mut tail = b" 0 100\r\n".to_vec();
    tail.extend_from_slice(&VALUE);
    tail.extend_from_slice(b"\r\nEND\r\n");
    let mut canned = Canned { tail, requests: 0 };
    eprintln!("canned_server: ready");
    let (mut begun_ns, mut busy_ns, mut busy_turns) = (clock.read_ns(), 0, 0_u64);
    while !stop.load(Ordering::Relaxed) {
        let now = clock.at(begun_ns);
        let done = stack.poll(now, &mut canned);
        stack.flush(now);
        let ended_ns = clock.read_ns();
        if done > 0 {
            busy_ns += ended_ns - begun_ns;
            busy_turns += 1;
        }
        begun_ns = ended_ns;
    }
    println!(
        "{} requests, {} frames received, {} sent; {busy_turns} turns of {:.1} s together, {:.0} \
         ns a request",
        canned.requests,
        counters.get(Counter::FramesReceived),
        counters.get(Counter::FramesSent),
        busy_ns as f64 / 1e9,
        busy_ns as f64 / canned.requests.max(1) as f64,
    );
    stack.close_all(clock.read(), &mut canned);
    Ok(())
}
