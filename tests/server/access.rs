//! Who may connect, and what a listener lets its clients do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Instant;

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
    assert_eq!(answer[24..48], *b"not allowed on this port");
    assert_eq!((answer[49], &answer[54..56], answer[76]), (0, &[0, 0][..], b'x'));
}

/// HAProxy in front of the server at `behind`, to which it connects from 127.0.0.9.
fn haproxy(port: u16, behind: u16, server: &str) -> Server {
    haproxy_with(port, behind, "", server)
}

/// The same with lines of options.
fn haproxy_with(port: u16, behind: u16, lines: &str, server: &str) -> Server {
    let path = std::env::temp_dir().join(format!("sunder-haproxy-{port}.cfg"));
    let config = format!(
        "defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n\
         listen one\n bind 127.0.0.1:{port}\n {lines} \
         server sunder 127.0.0.1:{behind} source 127.0.0.9 {server}\n"
    );
    std::fs::write(&path, config).expect("a file");
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&path);
    let haproxy = Server::start(command).expect("haproxy starts");
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(begun.elapsed() < PATIENCE, "haproxy does not listen: {}", haproxy.stderr());
    }
    std::fs::remove_file(path).expect("it was read");
    haproxy
}

#[test]
fn behind_haproxy_a_client_has_its_own_address() {
    let (port, before) = (free_port(), free_port());
    let number = port.to_string();
    let flags = ["-p", &number, "--workers", "2", "--proxy-protocol", "127.0.0.9"];
    // 127.0.0.1 finds out whether HAProxy listens. The checks of the server have HAProxy's address:
    // the command LOCAL.
    let allow = ["--allow", "127.0.0.5,127.0.0.9,127.0.0.1"];
    let mut sunder = Server::sunder(&[&flags[..], &allow[..]].concat()).expect("it serves");
    let options = "send-proxy-v2 proxy-v2-options crc32c check inter 50ms";
    let _haproxy = haproxy(before, port, options);

    let value = "x".repeat(100_000);
    let store = format!("set k 0 0 {}\r\n{value}\r\nget k\r\n", value.len());
    let stored = format!("STORED\r\nVALUE k 0 {}\r\n{value}\r\nEND\r\n", value.len());
    assert!(text(from([127, 0, 0, 5], before), &store) == stored);
    let client = from([127, 0, 0, 5], before);
    let own = client.local_addr().expect("it is connected");
    let conns = text(client, "stats conns\r\n");
    assert!(conns.contains(&format!("addr tcp:{own}\r\n")), "{own}: {conns}");
    assert_eq!(text(from([127, 0, 0, 6], before), "get k\r\n"), "", "not on the list");
    let line = "sunder: a connection from 127.0.0.6 through 127.0.0.9 was refused";
    sunder.wait_for_line(line).expect("it says so");
    let stats = text(from([127, 0, 0, 5], port), "stats\r\n");
    // HAProxy may try once more.
    assert!(!stats.contains("STAT rejected_by_allow 0\r\n"), "{stats}");
    assert!(stats.contains("STAT rejected_proxy_headers 0\r\n"), "{stats}");
}

#[test]
fn a_load_balancer_of_another_version_is_told_to_the_operator() {
    let (port, before) = (free_port(), free_port());
    let flags = ["-p", &port.to_string(), "--workers", "1", "--proxy-protocol", "127.0.0.9"];
    let mut sunder = Server::sunder(&flags).expect("it serves");
    let _haproxy = haproxy(before, port, "send-proxy");
    assert_eq!(text(from([127, 0, 0, 1], before), "get k\r\n"), "");
    let line = "sunder: a connection from 127.0.0.9 was refused: it sends version 1";
    sunder.wait_for_line(line).expect("it says so");
    let said = sunder.stderr();
    assert!(said.contains("sends version 1") && said.contains("send-proxy-v2"), "{said}");
}

#[test]
fn a_load_balancer_that_is_not_named_is_told_to_the_operator() {
    let users = std::env::temp_dir().join(format!("sunder-unnamed-{}", free_port()));
    std::fs::write(&users, "alice:secret\n").expect("a file");
    let login = ["--auth-file", users.to_str().expect("plain")];
    for more in [&[][..], &["--protocol", "ascii"], &["--protocol", "binary"], &login] {
        let (port, before) = (free_port(), free_port());
        let number = port.to_string();
        let flags = [&["-p", &number, "--workers", "1"][..], more].concat();
        let mut sunder = Server::sunder(&flags).expect("it serves");
        let _haproxy = haproxy(before, port, "send-proxy-v2");
        let mut client = from([127, 0, 0, 1], before);
        client.write_all(b"get k\r\n").expect("it reads");
        let line = "sunder: a PROXY header from 127.0.0.9, which --proxy-protocol does not name";
        sunder.wait_for_line(line).expect("it says so");
    }
    std::fs::remove_file(users).expect("it is there");
}

/// The checks of the README: a plain one succeeds although no client is served.
#[test]
fn a_check_of_a_load_balancer_finds_out_whether_clients_are_served() {
    let check = "check inter 50ms rise 1 fall 1";
    let ask_version = "option tcp-check\n tcp-check send version\\r\\n\n \
                       tcp-check expect string VERSION\n";
    let state = |flags: &[&str], options: &str| {
        let (port, before) = (free_port(), free_port());
        let number = port.to_string();
        let flags = [&["-p", &number, "--workers", "1"][..], flags].concat();
        let _sunder = Server::sunder(&flags).expect("it serves");
        let mut haproxy = haproxy_with(before, port, ask_version, &format!("{check} {options}"));
        if flags.contains(&"127.0.0.9,127.0.0.1") {
            let answer = text(from([127, 0, 0, 1], before), "version\r\n");
            assert_eq!(answer, "VERSION 1.6.18\r\n");
            return;
        }
        haproxy.wait_for(&|said| said.contains("is DOWN")).expect("it says so");
    };
    let named = ["--proxy-protocol", "127.0.0.9", "--allow"];
    state(&[&named[..], &["127.0.0.9,127.0.0.1"]].concat(), "send-proxy-v2 check-send-proxy");
    state(&[&named[..], &["127.0.0.1"]].concat(), "send-proxy-v2 check-send-proxy");
    state(&named[..2], "");
}
