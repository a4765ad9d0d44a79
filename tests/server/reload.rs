//! SIGHUP reads the configuration file again: what can change does, for clients that connect from
//! then on, what cannot is told, and what is wrong changes nothing.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::{PATIENCE, Server, free_port};

/// A file that is removed with this.
struct Settings(PathBuf);

impl Settings {
    fn new(port: u16) -> Settings {
        Settings(std::env::temp_dir().join(format!("sunder-reload-{port}.toml")))
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).expect("a file");
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("it is there");
    }
}

/// A connection to `port` from 127.0.0.`last`.
fn from(last: u8, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).expect("the host has it");
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("it accepts");
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    client
}

/// What is answered, or `reset`.
fn ask(client: &mut TcpStream, request: &str, expected: &str) {
    let mut answer = vec![0; expected.len()];
    let said = client.write_all(request.as_bytes()).and_then(|()| client.read_exact(&mut answer));
    match said {
        Ok(()) => assert_eq!(String::from_utf8_lossy(&answer), expected, "{request}"),
        Err(error) => {
            let is_reset = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(is_reset.contains(&error.kind()), "{request}: {error}");
            assert_eq!("reset", expected, "{request}");
        }
    }
}

const VERSION: &str = "VERSION 1.6.18\r\n";
const NO: &str = "CLIENT_ERROR not allowed on this port\r\n";

#[test]
fn a_hangup_changes_the_idle_timeout_of_open_connections_and_how_often_a_login_may_fail() {
    let port = free_port();
    let settings = Settings::new(port);
    let path = settings.0.to_str().expect("plain").to_owned();
    let users = Settings(settings.0.with_extension("users"));
    users.write("a:b\n");
    fs::set_permissions(&users.0, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let always = format!("workers = 1\nauth-file = '{}'\n", users.0.display());
    settings.write(&always);
    let mut sunder =
        Server::sunder(&["--config", &path, "-p", &port.to_string()]).expect("it serves");
    let mut old = from(2, port);
    ask(&mut old, "set auth 0 0 3\r\na b\r\n", "STORED\r\n");
    settings.write(&format!("{always}idle-timeout = 1\nlogin-attempts = 2\n"));
    sunder.signal(Signal::HUP);
    let line = "changed: --idle-timeout, --login-attempts\n";
    sunder.wait_for(&|said| said.contains(line)).expect("both can");
    assert_eq!(old.read(&mut [0; 1]).expect("within the time-out"), 0, "it is idle");
    let fails = "CLIENT_ERROR authentication failure\r\n";
    for word in ["x", "x", "b"] {
        ask(&mut from(3, port), &format!("set auth 0 0 3\r\na {word}\r\n"), fails);
    }

    settings.write(&format!("{always}login-attempts = 0\n"));
    sunder.signal(Signal::HUP);
    let line = "changed: --idle-timeout; needs a restart: --login-attempts\n";
    sunder.wait_for(&|said| said.contains(line)).expect("a limit stays a limit");
}

#[test]
fn a_hangup_changes_what_can_change() {
    let port = free_port();
    let settings = Settings::new(port);
    let path = settings.0.to_str().expect("plain").to_owned();
    settings.write("allow = ['127.0.0.2']\nworkers = 2\nmax-connections = 100\n");
    let flags = ["--config", &path, "-p", &port.to_string()];
    let mut sunder = Server::sunder(&flags).expect("it serves");
    let line = format!(" --allow 127.0.0.2/32 --config {path}\n");
    assert!(sunder.stderr().contains(&line), "{}", sunder.stderr());
    let mut old = from(2, port);
    ask(&mut old, "version\r\n", VERSION);
    ask(&mut from(3, port), "version\r\n", "reset");

    settings.write(
        "allow = ['127.0.0.3']\nworkers = 3\nmax-connections = 3\nrights = 'read-only'\n\
         port = 9\n",
    );
    sunder.signal(Signal::HUP);
    let changed = "was read again; changed: --allow, --rights, --max-connections; needs a restart: \
                   --workers";
    let line = format!("sunder: {path} {changed}");
    sunder.wait_for_line(&line).expect("it says so");
    assert!(!sunder.stderr().contains("--port"), "the command line takes precedence over the file");
    ask(&mut old, "set k 0 0 1\r\nx\r\n", "STORED\r\n");
    ask(&mut from(2, port), "version\r\n", "reset");
    let mut new = from(3, port);
    ask(&mut new, "version\r\n", VERSION);
    ask(&mut new, "set k 0 0 1\r\ny\r\n", NO);
    let mut third = from(3, port);
    ask(&mut third, "get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n");
    ask(&mut from(3, port), "", "ERROR Too many open connections\r\n");

    // What is wrong changes nothing.
    for (text, says) in [
        ("allow = ['127.0.0.1/8']\n", "127.0.0.0/8 for the network"),
        ("alow = ['127.0.0.1']\n", "a similar one is 'allow'"),
        ("device = 'x'\nsock-path = '/x'\n", "cannot be used with"),
    ] {
        settings.write(text);
        sunder.signal(Signal::HUP);
        sunder.wait_for(&|said| said.contains(says)).expect(says);
    }
    assert_eq!(sunder.stderr().matches("all settings stay as they were").count(), 3);
    ask(&mut from(2, port), "version\r\n", "reset");
    ask(&mut new, "set k 0 0 1\r\ny\r\n", NO);

    settings.write("workers = 2\n");
    sunder.signal(Signal::HUP);
    let line = "changed: --allow, --rights, --max-connections\n";
    sunder.wait_for(&|said| said.contains(line)).expect("as without the file");
    ask(&mut from(2, port), "set k 0 0 1\r\nz\r\n", "STORED\r\n");
    ask(&mut third, "get k\r\n", "VALUE k 0 1\r\nz\r\nEND\r\n");
    sunder.signal(Signal::HUP);
    sunder.wait_for(&|said| said.contains("changed: nothing\n")).expect("it says so");
}
