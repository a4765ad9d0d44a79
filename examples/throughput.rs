//! How many GETs a second several servers answer, one beside the other in one run.
//!
//! One thread, all connections of a server at once, one request at a time on each. The servers take
//! turns, round after round, so that what else the machine does hits all alike; what counts is the
//! median of each one's share of what the first one did in the same round. Every answer has to be a
//! hit of the right length that begins and ends right; anything else is an error, exit status 1.
//!
//! usage: throughput [--connections 50] [--value-bytes 100] [--keys 1000] [--milliseconds 500]
//!                   [--rounds 9] NAME=HOST:PORT..

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

/// A server that says nothing for this long has lost a reply.
const SILENCE: Duration = Duration::from_secs(10);

struct Plan {
    connections: usize,
    value_bytes: usize,
    keys: usize,
    slice: Duration,
    rounds: usize,
    servers: Vec<(String, SocketAddr)>,
}

fn main() -> ExitCode {
    let plan = match plan(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("throughput: {error}");
            return ExitCode::from(2);
        }
    };
    match measure(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan(mut words: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan {
        connections: 50,
        value_bytes: 100,
        keys: 1000,
        slice: Duration::from_millis(500),
        rounds: 9,
        servers: vec![],
    };
    while let Some(word) = words.next() {
        if let Some((name, address)) = word.split_once('=') {
            let address = address.parse().map_err(|_| format!("{word}: not NAME=HOST:PORT"))?;
            plan.servers.push((name.to_owned(), address));
            continue;
        }
        let value: usize = words
            .next()
            .and_then(|value| value.parse().ok())
            .filter(|value| (1..=10_000_000).contains(value))
            .ok_or_else(|| format!("{word}: wants a number from 1 to 10000000"))?;
        match word.as_str() {
            "--connections" => plan.connections = value,
            "--value-bytes" => plan.value_bytes = value,
            "--keys" => plan.keys = value,
            "--milliseconds" => plan.slice = Duration::from_millis(value as u64),
            "--rounds" => plan.rounds = value,
            _ => return Err(format!("{word}: no such flag")),
        }
    }
    if plan.servers.is_empty() { Err("name at least one server".into()) } else { Ok(plan) }
}

fn measure(plan: &Plan) -> Result<(), String> {
    let mut fleets = vec![];
    for (name, address) in &plan.servers {
        fill(*address, plan).map_err(|error| format!("{name}: {error}"))?;
        fleets.push(Fleet::open(*address, plan).map_err(|error| format!("{name}: {error}"))?);
    }
    let mut rates = vec![vec![]; fleets.len()];
    for _ in 0..plan.rounds {
        for ((fleet, rates), (name, _)) in fleets.iter_mut().zip(&mut rates).zip(&plan.servers) {
            rates.push(fleet.run(plan).map_err(|error| format!("{name}: {error}"))?);
        }
    }
    println!("{:<28} {:>12} {:>8}", "server", "GET/s", "share");
    for ((name, _), own) in plan.servers.iter().zip(&rates) {
        let shares = own.iter().zip(&rates[0]).map(|(own, first)| own / first).collect();
        println!("{name:<28} {:>12.0} {:>8.3}", median(own.clone()), median(shares));
    }
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn key(number: usize) -> String {
    format!("throughput-{number:08}")
}

/// Stores all keys, over a connection of its own.
fn fill(address: SocketAddr, plan: &Plan) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).map_err(|e| format!("connect: {e}"))?;
    stream.set_read_timeout(Some(SILENCE)).map_err(|e| e.to_string())?;
    let value = "v".repeat(plan.value_bytes);
    let mut answer = [0; 8];
    for number in 0..plan.keys {
        let request = format!("set {} 0 0 {}\r\n{value}\r\n", key(number), value.len());
        stream.write_all(request.as_bytes()).map_err(|e| format!("set: {e}"))?;
        stream.read_exact(&mut answer).map_err(|e| format!("set: {e}"))?;
        if answer != *b"STORED\r\n" {
            return Err(format!("set: {}", answer.escape_ascii()));
        }
    }
    Ok(())
}

/// The connections to one server.
struct Fleet {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    /// Chooses keys (xorshift).
    random: u64,
}

struct Client {
    stream: mio::net::TcpStream,
    /// Bytes of the answer that are in.
    received: usize,
    /// A request is out.
    is_asking: bool,
}

impl Fleet {
    fn open(address: SocketAddr, plan: &Plan) -> Result<Fleet, String> {
        let poll = Poll::new().map_err(|e| e.to_string())?;
        let mut clients = vec![];
        for number in 0..plan.connections {
            let stream = TcpStream::connect(address).map_err(|e| format!("connect: {e}"))?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            stream.set_nonblocking(true).map_err(|e| e.to_string())?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(number), Interest::READABLE)
                .map_err(|e| e.to_string())?;
            clients.push(Client { stream, received: 0, is_asking: false });
        }
        Ok(Fleet { poll, events: Events::with_capacity(1024), clients, random: 0x9e37_79b9 })
    }

    /// Asks for a slice of time and takes the last answers in. Answers a second.
    fn run(&mut self, plan: &Plan) -> Result<f64, String> {
        let mut buffer = vec![0; 256 * 1024];
        let start = Instant::now();
        let (mut answers, mut out) = (0_u64, 0);
        for number in 0..self.clients.len() {
            self.ask(number, plan)?;
            out += 1;
        }
        while out > 0 {
            self.poll.poll(&mut self.events, Some(SILENCE)).map_err(|e| e.to_string())?;
            let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
            if ready.is_empty() {
                return Err(format!("no answer for {} s", SILENCE.as_secs()));
            }
            let is_over = start.elapsed() >= plan.slice;
            for number in ready {
                if !self.clients[number].take(&mut buffer, plan)? {
                    continue;
                }
                answers += 1;
                out -= 1;
                if !is_over {
                    self.ask(number, plan)?;
                    out += 1;
                }
            }
        }
        Ok(answers as f64 / start.elapsed().as_secs_f64())
    }

    fn ask(&mut self, number: usize, plan: &Plan) -> Result<(), String> {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let client = &mut self.clients[number];
        let request = format!("get {}\r\n", key((self.random % plan.keys as u64) as usize));
        let sent = client.stream.write(request.as_bytes()).map_err(|e| format!("get: {e}"))?;
        if sent != request.len() {
            return Err("a request did not fit".into());
        }
        client.received = 0;
        client.is_asking = true;
        Ok(())
    }
}

impl Client {
    /// Reads what there is. True when the answer is whole.
    fn take(&mut self, buffer: &mut [u8], plan: &Plan) -> Result<bool, String> {
        let head = format!("VALUE {} 0 {}\r\n", key(0), plan.value_bytes).len();
        let expected = head + plan.value_bytes + b"\r\nEND\r\n".len();
        loop {
            let got = match self.stream.read(buffer) {
                Ok(0) => return Err("closed the connection".into()),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(format!("read: {error}")),
            };
            if self.received == 0 && !buffer[..got].starts_with(&b"VALUE "[..got.min(6)]) {
                return Err(format!("answered {}", buffer[..got.min(80)].escape_ascii()));
            }
            self.received += got;
            if !self.is_asking || self.received > expected {
                return Err("answered more than was asked".into());
            }
            if self.received == expected {
                self.is_asking = false;
                let has_end = got < 5 || buffer[..got].ends_with(b"END\r\n");
                return if has_end { Ok(true) } else { Err("an answer without its end".into()) };
            }
        }
    }
}
