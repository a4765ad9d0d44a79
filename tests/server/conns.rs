//! `stats conns`: every connection of every worker, by memcached's names, a piece at a time.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::support::{PATIENCE, Server, free_port, free_socket_path};

fn start(flags: &[&str]) -> (Server, u16) {
    let port = free_port();
    let number = port.to_string();
    let flags = [&["-p", &number], flags].concat();
    (Server::sunder(&flags).expect("it starts"), port)
}

fn connect(address: &str, port: u16) -> TcpStream {
    let client = TcpStream::connect((address, port)).expect("it accepts");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    client
}

/// What is said of one connection, by name.
type Fields = BTreeMap<String, String>;

/// The answer up to its END, by number.
fn answer(from: impl BufRead) -> BTreeMap<u64, Fields> {
    let mut listed: BTreeMap<u64, Fields> = BTreeMap::new();
    for line in from.lines() {
        let line = line.expect("the server answers");
        if line == "END" {
            return listed;
        }
        let stat = line.strip_prefix("STAT ").and_then(|stat| stat.split_once(' '));
        let (name, value) = stat.unwrap_or_else(|| panic!("{line}"));
        let (id, name) = name.split_once(':').unwrap_or_else(|| panic!("{line}"));
        let fields = listed.entry(id.parse().expect("a number")).or_default();
        assert_eq!(fields.insert(name.to_owned(), value.to_owned()), None, "twice: {line}");
    }
    panic!("no end: {listed:?}");
}

fn conns<C: Read + Write>(client: &mut C) -> BTreeMap<u64, Fields> {
    client.write_all(b"stats conns\r\n").expect("it reads");
    answer(BufReader::new(client))
}

/// The state of the connection with this address.
fn state_of(listed: &BTreeMap<u64, Fields>, address: &str) -> Option<String> {
    let mut of_it = listed.values().filter(|fields| fields["addr"] == address);
    let found = of_it.next().map(|fields| fields["state"].clone());
    assert!(of_it.next().is_none(), "{address} twice: {listed:?}");
    found
}

fn address_of(client: &TcpStream) -> String {
    match client.local_addr().expect("it is connected") {
        address @ SocketAddr::V4(_) => format!("tcp:{address}"),
        address @ SocketAddr::V6(_) => format!("tcp6:{address}"),
    }
}

#[test]
fn each_connection_is_listed_with_what_it_does() {
    let (_server, port) = start(&["--workers", "2", "--bind", "127.0.0.1", "--bind", "::1"]);
    let idle: Vec<TcpStream> = (0..5).map(|_| connect("127.0.0.1", port)).collect();
    let sixth = connect("::1", port);
    let mut storing = connect("127.0.0.1", port);
    storing.write_all(b"set k 0 0 100000\r\nab").expect("it reads");
    let mut swallowed = connect("127.0.0.1", port);
    swallowed.write_all(b"set k 0 0 9999999\r\nab").expect("it reads");
    let mut deaf = connect("127.0.0.1", port);
    let large = [&b"set large 0 0 1000000\r\n"[..], &[b'x'; 1_000_000], b"\r\n"].concat();
    deaf.write_all(&large).expect("it reads");
    deaf.write_all(&b"get large\r\n".repeat(100)).expect("it reads");
    let mut asking = connect("127.0.0.1", port);

    let mut expected = vec![
        (address_of(&sixth), "conn_read"),
        (address_of(&storing), "conn_nread"),
        (address_of(&swallowed), "conn_swallow"),
        (address_of(&deaf), "conn_mwrite"),
        (address_of(&asking), "conn_parse_cmd"),
    ];
    expected.extend(idle.iter().map(|client| (address_of(client), "conn_read")));
    // What was sent is read at some time, and a connection accepted.
    let begun = Instant::now();
    let listed = loop {
        let listed = conns(&mut asking);
        let is_so = |(address, state): &(String, &str)| {
            state_of(&listed, address).as_deref() == Some(state)
        };
        if expected.iter().all(is_so) {
            break listed;
        }
        assert!(begun.elapsed() < PATIENCE, "{expected:?}: {listed:?}");
    };
    assert_eq!(listed.len(), expected.len() + 2, "and two listeners: {listed:?}");
    let listener = format!("tcp:127.0.0.1:{port}");
    assert_eq!(state_of(&listed, &listener).as_deref(), Some("conn_listening"));
    assert_eq!(state_of(&listed, &format!("tcp6:[::1]:{port}")).as_deref(), Some("conn_listening"));
    for (_, fields) in listed.iter().filter(|(_, fields)| fields["state"] != "conn_listening") {
        let is_v6 = fields["addr"].starts_with("tcp6:");
        let to = if is_v6 { format!("tcp6:[::1]:{port}") } else { listener.clone() };
        assert_eq!(fields["listen_addr"], to, "{fields:?}");
        fields["secs_since_last_cmd"].parse::<u64>().expect("a number");
    }

    drop(idle);
    let begun = Instant::now();
    while conns(&mut asking).len() != listed.len() - 5 {
        assert!(begun.elapsed() < PATIENCE, "closed ones are not listed");
    }
    // Behind it the connection goes on, also if the next request came with it.
    asking.write_all(b"stats conns\r\nset a 0 0 1\r\nx\r\nget a\r\n").expect("it reads");
    asking.shutdown(Shutdown::Write).expect("an end");
    let mut all = String::new();
    asking.read_to_string(&mut all).expect("text");
    assert!(all.ends_with("\r\nEND\r\nSTORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"), "{all}");
}

#[test]
fn a_long_list_is_whole_whoever_else_asks() {
    let (_server, port) = start(&["--workers", "2"]);
    let many: Vec<TcpStream> = (0..500).map(|_| connect("127.0.0.1", port)).collect();
    let mut asking: Vec<TcpStream> = (0..8).map(|_| connect("127.0.0.1", port)).collect();
    for client in &mut asking {
        client.write_all(&b"stats conns\r\n".repeat(20)).expect("it reads");
    }
    // Accepted by now, because they were answered.
    for client in &mut asking {
        let mut from = BufReader::new(client);
        (0..20).for_each(|_| drop(answer(&mut from)));
    }
    let begun = Instant::now();
    loop {
        let listed = conns(&mut asking[0]);
        if many.iter().all(|client| state_of(&listed, &address_of(client)).is_some()) {
            assert_eq!(listed.len(), 1 + 500 + 8);
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", listed.len());
    }
}

#[test]
fn unix_sockets_and_binary_clients_are_listed_too() {
    let path = free_socket_path();
    let text = path.to_str().expect("plain").to_owned();
    let _server = Server::sunder(&["-s", &text, "--workers", "1"]).expect("it starts");
    let mut client = UnixStream::connect(&path).expect("it accepts");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut binary = UnixStream::connect(&path).expect("it accepts");
    let mut noop = [0; 24];
    noop[..2].copy_from_slice(&[0x80, 0x0a]);
    binary.write_all(&noop).expect("it reads");
    binary.read_exact(&mut noop).expect("an answer");
    let listed = conns(&mut client);
    assert_eq!(listed.len(), 3, "{listed:?}");
    let on_it = listed.values().filter(|fields| fields["addr"] == format!("unix:{text}"));
    assert_eq!(on_it.count(), 3, "{listed:?}");
}
