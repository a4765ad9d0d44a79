//! Who may connect, and what a listener lets its clients do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::support::{PATIENCE, Server, free_port};

/// A connection to `port` from an address of the loopback network.
pub fn from(client: [u8; 4], port: u16) -> TcpStream {
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

#[test]
fn a_port_refuses_what_its_rights_leave_out_and_goes_on() {
    let (port, batch, behind) = (free_port(), free_port(), free_port());
    let _behind = Server::sunder(&["-p", &behind.to_string(), "--workers", "1"]).expect("serves");
    let l2 = format!("memcached,addr=127.0.0.1:{behind}");
    let (main_text, batch_text) = (port.to_string(), batch.to_string());
    let flags = ["-p", &main_text, "--bp", &batch_text, "--workers", "2", "--l2", &l2, "-A"];
    let rights = ["--rights", "read-only,no-admin", "--bp-rights", "no-flush"];
    let _sunder = Server::sunder(&[&flags[..], &rights[..]].concat()).expect("it serves");
    let near = [127, 0, 0, 1];
    let no = "CLIENT_ERROR not allowed on this port\r\n";

    let said =
        text(from(near, batch), "set a 7 0 1\r\nx\r\nflush_all\r\nincr a 1\r\nverbosity 1\r\n");
    assert_eq!(
        said,
        format!(
            "STORED\r\n{no}CLIENT_ERROR cannot increment or decrement non-numeric value\r\nOK\r\n"
        )
    );
    // A value is discarded with its command, cut wherever it is, and so is a line of keys.
    let asked = "set a 0 0 9\r\nversion\r\n\r\nset a 0 0 1 noreply\r\ny\r\ndelete a\r\ngat 0 a b c\r\n\
                 ms a 3\r\nget\r\nmd a q\r\nmg a T0 v\r\nmg a v f\r\nget a\r\nshutdown\r\n\
                 stats reset\r\nlru_crawler mgdump all\r\nflush_all\r\n";
    let expected =
        [no; 6].concat() + "VA 1 f7\r\nx\r\nVALUE a 7 1\r\nx\r\nEND\r\n" + &[no; 4].concat();
    assert_eq!(text(from(near, port), asked), expected);
    for cut in (1..asked.len()).step_by(3) {
        let mut client = from(near, port);
        client.set_nodelay(true).expect("an option");
        client.write_all(&asked.as_bytes()[..cut]).expect("it reads");
        let rest = &asked[cut..];
        assert_eq!(text(client, rest), expected, "cut at {cut}");
    }
    // Binary: a Set, whose value is discarded, then a Get of the item that is there.
    let mut packets = vec![0x80, 1, 0, 1, 8, 0, 0, 0, 0, 0, 0, 12, 1, 2, 3, 4];
    packets.extend([0; 16]);
    packets.extend(b"azzz");
    packets.extend([0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 5, 6, 7, 8]);
    packets.extend([0; 8]);
    packets.extend(b"a");
    packets.extend([0x80, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    packets.extend([0; 12]);
    let answer = ask(from(near, port), &packets);
    assert_eq!((&answer[..2], &answer[6..8]), (&[0x81, 1][..], &[0, 0x20][..]));
    assert_eq!(answer[24..37], *b"Auth failure.");
    assert_eq!((answer[38], &answer[43..45], answer[65]), (0, &[0, 0][..], b'x'));
}
