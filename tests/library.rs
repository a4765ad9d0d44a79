//! The library as those use it who compose a server of their own.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use support::{PATIENCE, Server, free_port, project};

/// Lines that a debug server may take, imports and blank lines included: Rend's own measure.
const LINES_MAX: usize = 21;

/// What the README of Rend types into its debug server, up to the wait for the touch to run out.
const SESSION: &[(&str, &str)] = &[
    ("get foo\r\n", "END\r\n"),
    ("set foo 0 0 6\r\nfoobar\r\n", "STORED\r\n"),
    ("get foo\r\n", "VALUE foo 0 6\r\nfoobar\r\nEND\r\n"),
    ("touch foo -1\r\n", "TOUCHED\r\n"),
    ("get foo\r\n", "END\r\n"),
];

#[test]
fn a_debug_server_is_short() {
    let path = project().join("examples/debug_server.rs");
    let lines = std::fs::read_to_string(path).expect("the example").lines().count();
    assert!(lines <= LINES_MAX, "{lines} lines");
}

#[test]
fn a_debug_server_serves() {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "debug_server"])
        .current_dir(project())
        .status();
    assert!(build.expect("cargo runs").success(), "the example does not build");
    let port = free_port();
    // The test lies in target/PROFILE/deps, the examples beside that folder.
    let this = std::env::current_exe().expect("the test's own path");
    let folder = this.ancestors().nth(2).expect("target/PROFILE");
    let mut command = Command::new(folder.join("examples/debug_server"));
    command.arg(port.to_string());
    let mut server = Server::start(command).expect("it starts");
    server.wait_for_line("sunder: ready").expect("it serves");
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    for (asked, expected) in SESSION {
        client.write_all(asked.as_bytes()).expect("it reads");
        let mut got = vec![0; expected.len()];
        client.read_exact(&mut got).expect("it answers");
        assert_eq!(String::from_utf8_lossy(&got), *expected, "{asked:?}");
    }
    assert_eq!(server.terminate().expect("it ends"), 0);
}
