//! Hostile clients and servers of a sunder whose items are in other processes: memory stays
//! bounded, nothing hangs, and other clients are served. How a link treats single bad answers is
//! in tests/inside/memcached_tier and tests/inside/rend_tier.

use crate::support::client::{Client, SILENCE};
use crate::support::{Server, free_port, free_socket_path};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Most memory that a server of one worker may gain, whatever clients do: twice
/// `GATHER_BUDGET_BYTES` beside `BODY_BUDGET_BYTES`, and buffers.
const GAIN_BYTES_MAX: u64 = 256 * 1024 * 1024;

const LARGE_BYTES: usize = 1_000_000;

struct Rig {
    sunder: Server,
    address: SocketAddr,
    resident_bytes: u64,
    _memcached: Server,
    path: PathBuf,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Rig {
    /// One worker with long time-outs for a busy machine, in front of a memcached that has `values`
    /// large values and a small one.
    fn start(layout: &str, values: usize) -> Rig {
        let path = free_socket_path();
        let memcached = Server::memcached_at(&path, 2 * values + 64).expect("memcached serves");
        let port = free_port();
        let address = format!("addr=unix:{}", path.display());
        let l1 = format!("memcached,{address},layout={layout},timeout=2000");
        let args = ["-p", &port.to_string(), "--workers", "1", "--poll", "adaptive", "--l1", &l1];
        let sunder = Server::sunder(&args).expect("sunder serves");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut rig = Rig { sunder, address, resident_bytes: 0, _memcached: memcached, path };
        let mut client = rig.client();
        client.set("small", b"hi");
        for n in 0..values {
            client.set(&format!("k{n}"), &large(n));
        }
        rig.resident_bytes = rig.sunder.resident_bytes();
        rig
    }

    fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Number of items requested from the memcached so far, by any command.
    fn lookups(&self) -> u64 {
        let stream = UnixStream::connect(&self.path).expect("memcached accepts");
        stream.set_read_timeout(Some(SILENCE)).expect("a timeout");
        (&stream).write_all(b"stats\r\n").expect("memcached reads");
        let mut lines = BufReader::new(stream).lines().map(|line| line.expect("stats"));
        let line = lines.find(|line| line.starts_with("STAT cmd_get ")).expect("cmd_get");
        line.rsplit(' ').next().expect("a number").parse().expect("digits")
    }

    fn is_bounded(&mut self) {
        let resident = self.sunder.resident_bytes();
        let gain = resident.saturating_sub(self.resident_bytes);
        assert!(gain < GAIN_BYTES_MAX, "gained {gain} bytes to {resident}");
        assert!(self.sunder.is_alive(), "it ended: {}", self.sunder.stderr());
    }
}

/// The large value number `n`.
fn large(n: usize) -> Vec<u8> {
    vec![b'a' + (n % 26) as u8; LARGE_BYTES]
}

/// Waits until the connection of `client` is the only one.
fn wait_until_alone(client: &mut Client) {
    let start = Instant::now();
    loop {
        client.send(b"stats\r\n");
        let lines: Vec<String> =
            std::iter::repeat_with(|| client.line()).take_while(|line| line != "END\r\n").collect();
        if lines.iter().any(|line| line == "STAT curr_connections 1\r\n") {
            return;
        }
        assert!(start.elapsed() < SILENCE, "other connections are still open");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Clients that request hundreds of large values, read nothing, and stay.
fn readers_that_do_not_read(layout: &str) {
    const VALUES: usize = 500;
    let mut rig = Rig::start(layout, VALUES);
    let mut honest = rig.client();
    let clients: Vec<Client> = (0..60)
        .map(|n| {
            let mut client = rig.client();
            let gets = (0..VALUES).map(|i| format!("get k{}\r\n", (i + n * 37) % VALUES));
            client.send(gets.collect::<String>().as_bytes());
            client
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(honest.get("small").as_deref(), Ok(&b"hi"[..]), "a short value is served");
        rig.is_bounded();
    }
    // The connections that hold the room lose it when it is needed.
    let start = Instant::now();
    while honest.get("k7") != Ok(large(7)) {
        assert!(start.elapsed() < SILENCE, "large values are served again");
        rig.is_bounded();
    }
    drop(clients);
    rig.is_bounded();
}

#[test]
fn readers_of_a_memcached_that_do_not_read() {
    readers_that_do_not_read("plain");
}

#[test]
fn readers_of_chunked_values_that_do_not_read() {
    readers_that_do_not_read("chunked");
}

/// Honest clients that request more at the same time than there is room for: everything arrives
/// eventually.
#[test]
fn deep_pipelines_of_large_gets_that_are_read() {
    const VALUES: usize = 100;
    let mut rig = Rig::start("plain", VALUES);
    let mut clients: Vec<Client> = (0..4).map(|_| rig.client()).collect();
    // The expected length is learned from the first.
    assert_eq!(clients[0].get("k1"), Ok(large(1)));
    for client in &mut clients {
        let gets = (0..VALUES).map(|i| format!("get k{i}\r\n"));
        client.send(gets.collect::<String>().as_bytes());
    }
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                for n in 0..VALUES {
                    assert_eq!(client.value(&format!("k{n}")), Ok(large(n)));
                    assert_eq!(client.line(), "END\r\n");
                }
            })
        })
        .collect();
    for reader in readers {
        reader.join().expect("every value arrived");
    }
    rig.is_bounded();
}

/// Gets of one key repeatedly, with and without an item: each waits for the previous one, and a
/// round trip for each would delay the client, and others that need that key, for seconds.
#[test]
fn thousands_of_gets_of_one_key_are_few_round_trips() {
    for layout in ["plain", "chunked"] {
        let mut rig = Rig::start(layout, 0);
        for (key, answer) in [("small", "VALUE small 0 2\r\nhi\r\n"), ("none", "")] {
            let before = rig.lookups();
            let mut client = rig.client();
            client.send(format!("get{}\r\n", format!(" {key}").repeat(2000)).as_bytes());
            let mut got = vec![0; 2000 * answer.len() + 5];
            client.0.read_exact(&mut got).expect("the answers");
            assert!(got == format!("{}END\r\n", answer.repeat(2000)).as_bytes(), "{layout} {key}");
            let asked = rig.lookups() - before;
            assert!(asked < 1000, "{layout}: {asked} lookups of '{key}' for 2000 gets");
        }
        rig.is_bounded();
    }
}

/// Connections that close at any point leave nothing behind.
#[test]
fn thousands_of_connections_closed_with_requests_outstanding() {
    const BATCH: usize = 50;
    let mut rig = Rig::start("chunked", 20);
    let requests = [
        "get k1 k2 k3 k4\r\n".repeat(3),
        format!("get{}", " k5".repeat(500)),
        format!("set half 0 0 {LARGE_BYTES}\r\n{}", "h".repeat(30_000)),
        "set s 0 0 3\r\nabc\r\nincr s 1\r\nappend s 0 0 1\r\nx\r\ndelete s\r\n".repeat(10),
        String::new(),
        "\u{80}".to_owned(),
    ];
    let mut honest = rig.client();
    let mut descriptors = 0;
    for round in 0..60 {
        let clients: Vec<Client> = (0..BATCH)
            .map(|n| {
                let mut client = rig.client();
                client.send(requests[(n + round) % requests.len()].as_bytes());
                client
            })
            .collect();
        // Some while their requests are in flight, some before those were parsed.
        if round % 2 == 0 {
            assert_eq!(honest.get("small").as_deref(), Ok(&b"hi"[..]));
        }
        drop(clients);
        rig.is_bounded();
        // No more at the same time than are allowed.
        if round % 10 == 9 {
            wait_until_alone(&mut honest);
            let now = rig.sunder.descriptors();
            assert!(
                descriptors == 0 || now == descriptors,
                "{descriptors}, then {now} descriptors"
            );
            descriptors = now;
        }
    }
    assert_eq!(honest.get("k3"), Ok(large(3)));
}

/// Sets of large values faster than a memcached accepts them.
#[test]
fn deep_pipelines_of_large_sets() {
    let mut rig = Rig::start("plain", 10);
    let mut request = format!("set k1 0 0 {LARGE_BYTES} noreply\r\n").into_bytes();
    request.extend(large(1));
    request.extend(b"\r\n");
    let senders: Vec<_> = (0..20)
        .map(|_| {
            let mut client = rig.client();
            let request = request.clone();
            std::thread::spawn(move || {
                for _ in 0..20 {
                    client.send(&request);
                }
                assert_eq!(client.get("small").as_deref(), Ok(&b"hi"[..]));
            })
        })
        .collect();
    let mut honest = rig.client();
    while senders.iter().any(|sender| !sender.is_finished()) {
        assert_eq!(honest.get("small").as_deref(), Ok(&b"hi"[..]));
        rig.is_bounded();
    }
    for sender in senders {
        sender.join().expect("everything was read");
    }
    assert_eq!(honest.get("k1"), Ok(large(1)));
}
