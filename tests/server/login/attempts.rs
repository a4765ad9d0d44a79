//! Clients that guess passwords: their address is limited, others are not, and no reply tells why.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::{Users, ask, packet, set};
use crate::access::from;
use crate::support::{PATIENCE, Server, free_port, free_socket_path};

const FAILURE: &str = "CLIENT_ERROR authentication failure\r\n";
const GUESSER: [u8; 4] = [127, 0, 0, 1];
const OTHER: [u8; 4] = [127, 0, 0, 2];

/// Sends a login, one request more and the end. Returns everything that is answered.
fn guess<C: Read + Write>(mut client: C, finish: Finish<C>, login: &[u8]) -> String {
    let mut said = Vec::new();
    client.write_all(&[login, b"get nothing\r\n"].concat()).expect("it reads");
    // It fails if the server has ended the connection.
    let _ = finish(&client, Shutdown::Write);
    client.read_to_end(&mut said).expect("it answers and ends");
    String::from_utf8(said).expect("text")
}

type Finish<C> = fn(&C, Shutdown) -> io::Result<()>;

fn guess_from(address: [u8; 4], port: u16, login: &[u8]) -> String {
    guess(from(address, port), TcpStream::shutdown, login)
}

fn stat(port: u16, login: &[u8], name: &str) -> u64 {
    let mut client = from(OTHER, port);
    client.write_all(&[login, b"stats\r\nquit\r\n"].concat()).expect("it reads");
    let mut stats = String::new();
    client.read_to_string(&mut stats).expect("it answers");
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
    line.unwrap_or_else(|| panic!("{name}: {stats}")).parse().expect("a number")
}

#[test]
fn an_address_that_guesses_is_limited_and_others_are_not() {
    let users = Users::new("alice:secret\n");
    let port_text = free_port().to_string();
    let flags = ["-Y", users.path(), "--workers", "2", "-p", &port_text];
    let mut sunder = Server::sunder(&flags).expect("it serves");
    let port: u16 = port_text.parse().expect("a port");
    let (right, wrong, nobody) = (set("alice secret"), set("alice secreT"), set("bob secret"));
    let refused = format!("{FAILURE}CLIENT_ERROR unauthenticated\r\n");

    let start = Instant::now();
    let mut compared = 0;
    let mut limited = 0;
    for n in 0..4_000u64 {
        // Right ones among them give nothing back, and are refused too.
        let login = match n % 3 {
            0 => &wrong,
            1 => &nobody,
            _ if n > 100 => &right,
            _ => &wrong,
        };
        let said = guess_from(GUESSER, port, login);
        if said == "STORED\r\nEND\r\n" {
            assert_eq!(login, &right);
        } else if said == refused {
            assert_ne!(login, &right);
            compared += 1;
        } else {
            assert_eq!(said, FAILURE, "the text is the same");
            limited += 1;
        }
        if n % 100 == 0 {
            assert_eq!(guess_from(OTHER, port, &right), "STORED\r\nEND\r\n", "{n}");
        }
    }
    let seconds = start.elapsed().as_secs();
    assert!((10..=11 + seconds).contains(&compared), "{compared} in {seconds} s");
    assert!(limited >= 100, "{limited}");
    assert_eq!(stat(port, &right, "auth_limited"), limited);
    assert_eq!(stat(port, &right, "auth_errors"), limited + compared);
    let said = "sunder: a login from 127.0.0.1 was refused: it has failed too often";
    sunder.wait_for_line(said).expect("it says so");
}

#[test]
fn binary_clients_are_limited_with_the_same_text() {
    let users = Users::new("alice:secret\n");
    let port_text = free_port().to_string();
    let flags = ["-Y", users.path(), "--workers", "1", "-p", &port_text, "--login-attempts", "3"];
    let _sunder = Server::sunder(&flags).expect("it serves");
    let port = port_text.parse().expect("a port");
    let failure = Some((0x20, b"Auth failure.".to_vec()));
    let plain = |message: &[u8]| packet(0x21, b"PLAIN", message);
    let mut client = from(GUESSER, port);
    // More than a bucket has, and what fills it meanwhile: the last one is limited.
    let start = Instant::now();
    let mut answered = 0;
    while ask(&mut client, &plain(b"\0alice\0secreT")) == failure {
        answered += 1;
        assert!(start.elapsed() < PATIENCE, "it has ended");
    }
    assert!((4..=5 + start.elapsed().as_secs()).contains(&answered), "{answered}");
    let said = ask(&mut from(OTHER, port), &plain(b"\0alice\0secret"));
    assert_eq!(said, Some((0, b"Authenticated".to_vec())));
}

#[test]
fn attempts_are_not_limited_where_there_is_no_address_or_no_limit() {
    let users = Users::new("alice:secret\n");
    let path = free_socket_path();
    let flags = ["-Y", users.path(), "--workers", "1", "-s", path.to_str().expect("ASCII")];
    let _sunder = Server::sunder(&flags).expect("it serves");
    let refused = format!("{FAILURE}CLIENT_ERROR unauthenticated\r\n");
    for _ in 0..100 {
        let client = UnixStream::connect(&path).expect("it accepts");
        assert_eq!(guess(client, UnixStream::shutdown, &set("alice secreT")), refused);
    }
    let port_text = free_port().to_string();
    let flags = ["-Y", users.path(), "--workers", "1", "-p", &port_text, "--login-attempts", "0"];
    let _sunder = Server::sunder(&flags).expect("it serves");
    let port = port_text.parse().expect("a port");
    for _ in 0..100 {
        assert_eq!(guess_from(GUESSER, port, &set("alice secreT")), refused);
    }
    assert_eq!(stat(port, &set("alice secret"), "auth_limited"), 0);
}
