//! Who may connect, and what a listener lets its clients do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::support::{PATIENCE, Server, free_port};

/// A connection to `port` from an address of the loopback network.
fn from(client: [u8; 4], port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((client, 0)).into()).expect("the host has it");
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect(&to.into()).expect("the kernel accepts it");
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    client
}

/// What the server answers to `request` until it closes.
fn ask(mut client: TcpStream, request: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let said = client.write_all(request).and_then(|()| client.read_to_end(&mut answer));
    match said {
        Ok(_) => answer,
        Err(error)
            if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) =>
        {
            b"reset".to_vec()
        }
        Err(error) => panic!("{error}"),
    }
}

fn text(client: TcpStream, request: &str) -> String {
    String::from_utf8_lossy(&ask(client, format!("{request}quit\r\n").as_bytes())).into_owned()
}

#[test]
fn only_those_on_the_list_of_a_port_are_served() {
    let (port, batch) = (free_port(), free_port());
    let (main_text, batch_text) = (port.to_string(), batch.to_string());
    let behind = free_port();
    let _behind = Server::sunder(&["-p", &behind.to_string(), "--workers", "1"]).expect("serves");
    let l2 = format!("memcached,addr=127.0.0.1:{behind}");
    let flags = ["-p", &main_text, "--bp", &batch_text, "--workers", "2", "--l2", &l2];
    let lists = ["--allow", "127.0.0.2/31,fd00::/8", "--bp-allow", "127.0.0.4"];
    let mut sunder = Server::sunder(&[&flags[..], &lists[..]].concat()).expect("it serves");

    for last in [2, 3] {
        assert_eq!(text(from([127, 0, 0, last], port), "get a\r\n"), "END\r\n", "{last}");
        assert_eq!(text(from([127, 0, 0, last], batch), "get a\r\n"), "reset", "{last}");
    }
    assert_eq!(text(from([127, 0, 0, 4], batch), "get a\r\n"), "END\r\n");
    assert_eq!(text(from([127, 0, 0, 4], port), "get a\r\n"), "reset");
    assert_eq!(text(from([127, 0, 0, 1], port), "get a\r\n"), "reset");
    let stats = text(from([127, 0, 0, 2], port), "stats\r\n");
    assert!(stats.contains("STAT rejected_by_allow 4\r\n"), "{stats}");
    assert!(stats.contains("STAT rejected_connections 0\r\n"), "{stats}");
    let said = "sunder: a connection from 127.0.0.2 was refused: it may not connect";
    sunder.wait_for_line(said).expect("it says so");
}
