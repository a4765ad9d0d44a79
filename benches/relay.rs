//! The maximum throughput of a relay of values on this kernel: the bound of every L1 behind a link.
//!
//! `cargo bench --bench relay`. A client on one core requests values over TCP on loopback, with
//! eight requests in flight. On the other core a server answers directly, or behind a relay that
//! uses a Unix socket or TCP and only passes the bytes on: by read(2) and write(2), or by splice(2)
//! through a pipe, which copies nothing. No protocol, no lookup: no proxy can be faster on this
//! machine. Prints each round, and the medians relative to the direct answer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, pipe, splice};
use rustix::thread::{CpuSet, sched_setaffinity};

const CLIENT_CORE: usize = 0;
const SERVER_CORE: usize = 1;
const ROUNDS: usize = 5;
const AHEAD: usize = 8;
const WAYS: [Way; 4] = [Way::Direct, Way::CopyUnix, Way::CopyTcp, Way::SpliceUnix];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Direct,
    CopyUnix,
    CopyTcp,
    SpliceUnix,
}

trait Socket: Read + Write + AsFd + Send {}
impl<S: Read + Write + AsFd + Send> Socket for S {}

fn main() {
    for (value_bytes, requests) in [(10_000, 60_000), (100_000, 20_000)] {
        let mut rates = WAYS.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            for (way, rates) in WAYS.iter().zip(&mut rates) {
                rates.push(round(*way, value_bytes, requests));
            }
        }
        let direct = median(&mut rates[0]);
        for (way, rates) in WAYS.iter().zip(&mut rates) {
            let middle = median(rates);
            let share = middle / direct;
            println!(
                "{value_bytes:>6} B {way:?}: {middle:.0}/s, {share:.2} of direct; {rates:.0?}"
            );
        }
    }
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Requests per second.
fn round(way: Way, value_bytes: usize, requests: usize) -> f64 {
    let (mut client, front) = tcp_pair();
    std::thread::scope(|scope| {
        let (server, link): (Box<dyn Socket>, Option<Box<dyn Socket>>) = match way {
            Way::Direct => (Box::new(front.try_clone().expect("a descriptor")), None),
            Way::CopyTcp => {
                let (near, far) = tcp_pair();
                (Box::new(far), Some(Box::new(near)))
            }
            Way::CopyUnix | Way::SpliceUnix => {
                let (near, far) = UnixStream::pair().expect("a pair of sockets");
                (Box::new(far), Some(Box::new(near)))
            }
        };
        scope.spawn(move || serve(server, value_bytes));
        if let Some(link) = link {
            scope.spawn(move || relay(front, link, value_bytes, way == Way::SpliceUnix));
        }
        pin(CLIENT_CORE);
        let mut value = vec![0; value_bytes];
        client.write_all(&[0; AHEAD]).expect("sent");
        let begin = Instant::now();
        for done in 0..requests {
            client.read_exact(&mut value).expect("an answer");
            if done + AHEAD < requests {
                client.write_all(&[0]).expect("sent");
            }
        }
        let rate = requests as f64 / begin.elapsed().as_secs_f64();
        drop(client);
        rate
    })
}

/// Answers each byte with a value, until there are no more.
fn serve(mut socket: Box<dyn Socket>, value_bytes: usize) {
    pin(SERVER_CORE);
    let value = vec![b'x'; value_bytes];
    while socket.read_exact(&mut [0]).is_ok() && socket.write_all(&value).is_ok() {}
}

fn relay(mut front: TcpStream, mut link: Box<dyn Socket>, value_bytes: usize, splices: bool) {
    pin(SERVER_CORE);
    let mut value = vec![0; value_bytes];
    let (read_end, write_end) = pipe().expect("a pipe");
    fcntl_setpipe_size(&write_end, 1 << 20).expect("a pipe of 1 MiB");
    while front.read_exact(&mut [0]).is_ok() {
        link.write_all(&[0]).expect("asked");
        if splices {
            pass(&link.as_fd(), &write_end, value_bytes);
            pass(&read_end, &front, value_bytes);
        } else {
            link.read_exact(&mut value).expect("an answer");
            front.write_all(&value).expect("answered");
        }
    }
}

fn pass(from: &impl AsFd, to: &impl AsFd, bytes: usize) {
    let mut left = bytes;
    while left > 0 {
        left -= splice(from, None, to, None, left, SpliceFlags::empty()).expect("spliced");
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (far, _) = listener.accept().expect("accepted");
    for socket in [&near, &far] {
        socket.set_nodelay(true).expect("an option of TCP");
    }
    (near, far)
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("two cores, 0 and 1");
}
