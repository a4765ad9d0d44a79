//! Users of whom the server knows only a hash.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use socket2::SockRef;
use sunder::base::password::{Hash, Memory};

use super::{Users, answers, ask, connect, packet, set};
use crate::support::{PATIENCE, SUNDER, Server, free_port, run_sunder};

const FAILURE: [&str; 2] = ["CLIENT_ERROR authentication failure", "CLIENT_ERROR unauthenticated"];

fn hash(password: &str) -> String {
    Hash::make(password.as_bytes(), 256, 1).expect("cheap")
}

fn hang_up(sunder: &Server) {
    let sent = Command::new("kill").args(["-HUP", &sunder.pid().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn hashed_and_plain_users_log_in_in_both_protocols() {
    let users = Users::new(&format!("alice:{}\nbob:plain\n", hash("secret")));
    let port_text = free_port().to_string();
    let flags = ["-Y", users.path(), "--workers", "2", "-p", &port_text];
    let flags = [&flags[..], &["--login-attempts", "0"]].concat();
    let _sunder = Server::sunder(&flags).expect("it serves");
    let port = port_text.parse().expect("a port");
    assert_eq!(answers(port, &[&set("alice secret")]), ["STORED", "END"]);
    assert_eq!(answers(port, &[&set("bob plain")]), ["STORED", "END"]);
    for wrong in ["alice secreT", "alice plain", "bob secret", "nobody secret", "alice x y"] {
        assert_eq!(answers(port, &[&set(wrong)]), FAILURE, "{wrong}");
    }
    let then_right = [&set("alice x")[..], &set("alice secret"), b"set a 0 0 1\r\nx\r\n"];
    assert_eq!(answers(port, &then_right), [FAILURE[0], "STORED", "STORED", "END"]);

    let failure = Some((0x20, b"Auth failure.".to_vec()));
    let plain = |message: &[u8]| packet(0x21, b"PLAIN", message);
    let mut client = connect(port);
    assert_eq!(ask(&mut client, &plain(b"\0alice\0secreT")), failure);
    assert_eq!(ask(&mut client, &plain(b"\0nobody\0secret")), failure);
    let admitted = Some((0, b"Authenticated".to_vec()));
    assert_eq!(ask(&mut client, &plain(b"\0alice\0secret")), admitted);
    assert_eq!(ask(&mut client, &packet(0, b"nothing", b"")), Some((1, b"Not found".to_vec())));
}

#[test]
fn hashes_come_and_go_with_sighup() {
    let users = Users::new("alice:secret\n");
    let port_text = free_port().to_string();
    let flags = ["-Y", users.path(), "--workers", "1", "-p", &port_text];
    let mut sunder = Server::sunder(&flags).expect("it serves");
    let port = port_text.parse().expect("a port");
    for _ in 0..2 {
        users.write(&format!("alice:{}\n", hash("hashed")));
        hang_up(&sunder);
        let said = format!("sunder: {} was read again", users.path());
        sunder.wait_for_line(&said).expect("it says so");
        assert_eq!(answers(port, &[&set("alice hashed")]), ["STORED", "END"]);
        assert_eq!(answers(port, &[&set("alice secret")]), FAILURE);

        users.write("alice:secret\nbob:$argon2id$v=19$m=8,t=1,p=1$x\n");
        hang_up(&sunder);
        let said = format!("sunder: {} is not used, line 2: its hash is not", users.path());
        sunder.wait_for_line(&said).expect("it says so");
        assert_eq!(answers(port, &[&set("alice hashed")]), ["STORED", "END"]);
    }
    let ended = run_sunder(&["serve", "--auth-file", users.path()]).expect("it ends");
    assert_eq!(ended.status, 2);
    assert!(
        ended.stderr.contains("line 2: its hash is not $argon2id$v=19$m=KIB"),
        "{}",
        ended.stderr
    );
}

/// A server of so many workers, its port, and a client whom no hash keeps waiting.
fn start_with_bob(users: &Users, workers: &str) -> (Server, u16, TcpStream) {
    let port = free_port();
    let flags = ["-Y", users.path(), "--workers", workers, "-p", &port.to_string()];
    let server = Server::sunder(&flags).expect("it serves");
    let mut bob = connect(port);
    bob.write_all(&set("bob plain")).expect("it reads");
    bob.read_exact(&mut [0; 8]).expect("it answers");
    (server, port, bob)
}

#[test]
fn others_are_served_while_logins_are_verified() {
    let costly = Hash::make(b"secret", 16_384, 3).expect("allowed");
    let users = Users::new(&format!("alice:{costly}\nbob:plain\n"));
    let (_sunder, port, mut other) = start_with_bob(&users, "1");
    let mut answer = [0; 8];

    let login = [&set("alice secret")[..], b"get nothing\r\n"].concat();
    let mut clients: Vec<TcpStream> = (0..50).map(|_| connect(port)).collect();
    for client in &mut clients {
        client.write_all(&login).expect("it reads");
    }
    for _ in 0..100 {
        other.write_all(b"get nothing\r\n").expect("it reads");
        other.read_exact(&mut answer[..5]).expect("it answers");
        assert_eq!(&answer[..5], b"END\r\n");
    }
    let last = clients.last_mut().expect("many");
    last.set_nonblocking(true).expect("an option");
    let error = last.read(&mut answer).expect_err("it is verified after the others");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    last.set_nonblocking(false).expect("an option");
    for client in &mut clients {
        let mut said = [0; 13];
        client.read_exact(&mut said).expect("it answers");
        assert_eq!(&said, b"STORED\r\nEND\r\n");
    }
}

/// Half of them end their stream and wait for the reply, half are gone: neither keeps its place.
#[test]
fn who_is_gone_keeps_no_place_among_the_logins_that_wait() {
    let costly = Hash::make(b"secret", 65_536, 4).expect("allowed");
    let users = Users::new(&format!("alice:{costly}\nbob:plain\n"));
    let (_sunder, port, mut other) = start_with_bob(&users, "2");

    let start = Instant::now();
    let one = Hash::parse(costly.as_bytes()).expect("made here");
    assert!(bool::from(one.is_of(b"secret", &mut Memory::default())));
    let verification = start.elapsed();
    let mut ended = Vec::new();
    for n in 0..600 {
        let mut client = connect(port);
        client.write_all(&[&set("alice secret")[..], b"get nothing\r\n"].concat()).expect("sent");
        if n % 2 == 0 {
            client.shutdown(Shutdown::Write).expect("it is open");
            ended.push(client);
        } else {
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("an option");
        }
    }
    let start = Instant::now();
    assert_eq!(answers(port, &[&set("alice secret")]), ["STORED", "END"]);
    let waited = start.elapsed();
    assert!(waited < 100 * verification, "{waited:?}, of {verification:?} each");
    let answered = ended.iter_mut().map(|client| {
        let mut said = Vec::new();
        client.read_to_end(&mut said).expect("it is ended");
        assert!([&b""[..], b"STORED\r\nEND\r\n"].contains(&&said[..]), "{said:?}");
        usize::from(!said.is_empty())
    });
    let answered: usize = answered.sum();
    assert!(answered < 100, "{answered} of {}", ended.len());
    let stats = |other: &mut TcpStream| {
        other.write_all(b"stats\r\n").expect("it reads");
        let mut said = String::new();
        let mut lines = BufReader::new(other);
        while !said.ends_with("END\r\n") {
            assert_ne!(lines.read_line(&mut said).expect("it answers"), 0);
        }
        said
    };
    let start = Instant::now();
    while !stats(&mut other).contains("STAT curr_connections 1\r\n") {
        assert!(start.elapsed() < PATIENCE, "{}", stats(&mut other));
    }
    assert!(stats(&mut other).contains("STAT auth_limited 0\r\n"));
}

#[test]
fn the_password_command_prints_a_line_that_the_server_takes() {
    let line_of = |input: &[u8], flags: &[&str]| {
        let mut command = Command::new(SUNDER);
        command.args(["password", "alice"]).args(flags);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        child.stdin.take().expect("piped").write_all(input).expect("it reads");
        let ended = child.wait_with_output().expect("it ends");
        let [out, err] =
            [ended.stdout, ended.stderr].map(|it| String::from_utf8(it).expect("text"));
        (ended.status.code(), out, err)
    };
    let (status, line, said) = line_of(b"secret\nmore\n", &["--memory", "256K", "--passes", "1"]);
    assert_eq!((status, &said[..]), (Some(0), ""));
    assert!(line.starts_with("alice:$argon2id$v=19$m=256,t=1,p=1$"), "{line}");
    let (status, default, _) = line_of(b"secret", &[]);
    assert_eq!(status, Some(0));
    assert!(default.starts_with("alice:$argon2id$v=19$m=19456,t=2,p=1$"), "{default}");
    for input in [&b""[..], b"\n", &[b'x'; 256]] {
        let (status, out, said) = line_of(input, &[]);
        assert_eq!((status, &out[..]), (Some(1), ""));
        assert_eq!(said, "sunder password: expected a password of 1 to 255 bytes\n");
    }
    for line in [line, default] {
        let users = Users::new(&line);
        let port_text = free_port().to_string();
        let flags = ["-Y", users.path(), "--workers", "1", "-p", &port_text];
        let _sunder = Server::sunder(&flags).expect("it serves");
        let port = port_text.parse().expect("a port");
        assert_eq!(answers(port, &[&set("alice secret")]), ["STORED", "END"]);
        assert_eq!(answers(port, &[&set("alice Secret")]), FAILURE);
        // A tool cannot log in with a hash.
        let ended = run_sunder(&["setget", "--login", users.path()]).expect("it ends");
        assert_eq!(ended.status, 2);
        assert!(
            ended.stderr.contains("the first line has a hash, and not the"),
            "{}",
            ended.stderr
        );
    }
}
