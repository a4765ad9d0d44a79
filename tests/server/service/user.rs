//! `--user`: root opens everything, and somebody else serves.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rustix::process::{Signal, geteuid};

use crate::support::{PATIENCE, SUNDER, Server, free_port, free_socket_path, run_sunder};

/// Items of 10,000 bytes.
const ITEMS: usize = 3_000;

/// There on every Debian.
const USER: &str = "nobody";

fn uid_of(user: &str) -> u32 {
    let user = nix::unistd::User::from_name(user).expect("it can be looked up");
    user.expect("it is there").uid.as_raw()
}

/// What the kernel says of each thread, in the lines that begin so.
fn of_all_threads(server: &Server, start: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let paths = tasks.map(|task| task.expect("readable").path().join("status"));
    let texts = paths.map(|path| fs::read_to_string(path).expect("readable"));
    // The kernel's own for io_uring run no code of the program.
    let texts = texts.filter(|text| !text.starts_with("Name:\tiou-"));
    let lines = |text: String| {
        let lines = text.lines().filter(|line| line.starts_with(start)).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    texts.flat_map(lines).collect()
}

/// The answer, up to this end.
fn ask(client: &mut TcpStream, request: &str, end: &str) -> String {
    client.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    let mut piece = [0; 16_384];
    while !answer.ends_with(end.as_bytes()) {
        let bytes = client.read(&mut piece).expect("it answers");
        assert_ne!(bytes, 0, "it is open");
        answer.extend_from_slice(&piece[..bytes]);
    }
    String::from_utf8(answer).expect("text")
}

/// How many of the items are there, each whole. A disk that is too slow may have lost some.
fn hits(client: &mut TcpStream, value: &str) -> usize {
    let is_there = |n: &usize| {
        let answer = ask(client, &format!("get k{n}\r\n"), "END\r\n");
        let item = format!("VALUE k{n} 0 {}\r\n{value}\r\nEND\r\n", value.len());
        assert!(answer == item || answer == "END\r\n", "k{n}: {}", answer.len());
        answer == item
    };
    (0..ITEMS).filter(is_there).count()
}

/// A folder that root alone may look into.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("user-{}", free_port()));
        fs::create_dir_all(&path).expect("a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("ours");
        Folder(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("plain").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("ours");
    }
}

#[test]
fn root_opens_and_another_user_serves() {
    assert!(geteuid().is_root(), "this test needs root");
    let folder = Folder::new();
    let (log, config) = (folder.path("log"), folder.path("sunder.toml"));
    let port = free_port();
    fs::write(&config, format!("port = {port}\nmax-connections = 50\n")).expect("written");
    let l2 = format!("ssd,path={log},size=300M");
    let flags = ["--config", &config, "--workers", "1", "--l1", "memory,size=16M", "--l2", &l2];
    let batch = free_port().to_string();
    let flags = [&flags[..], &["--bp", &batch, "-u", USER]].concat();
    let value = "x".repeat(10_000);
    let connect = || {
        let client = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
        client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        client
    };
    let mut server = Server::sunder(&flags).expect("it serves");
    let uid = uid_of(USER);
    let ids = of_all_threads(&server, "Uid:");
    assert!(ids.len() > 2, "{ids:?}");
    for line in &ids {
        let all: Vec<u32> = line[4..].split_whitespace().map(|it| it.parse().unwrap()).collect();
        assert_eq!(all, [uid; 4], "{line}");
    }
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        for line in of_all_threads(&server, name) {
            assert_eq!(line[name.len()..].trim(), "0".repeat(16), "{line}");
        }
    }
    for line in of_all_threads(&server, "Groups:") {
        assert_eq!(line.trim(), "Groups:", "no other group");
    }
    assert!(server.stderr().contains(&format!(" --user {USER}")), "{}", server.stderr());

    // More than L1 has, so that the disk is written and read.
    let mut client = connect();
    for n in 0..ITEMS {
        let set = format!("set k{n} 0 0 {}\r\n{value}\r\n", value.len());
        assert_eq!(ask(&mut client, &set, "\r\n"), "STORED\r\n");
    }
    assert_ne!(hits(&mut client, &value), 0);
    let stats = ask(&mut client, "stats\r\n", "END\r\n");
    for counter in ["ssd_reads", "ssd_bytes_written"] {
        assert!(stats.contains(&format!("STAT {counter} ")), "{stats}");
        assert!(!stats.contains(&format!("STAT {counter} 0\r\n")), "{stats}");
    }
    // What only root may read is not read again, and that is told.
    fs::write(&config, format!("port = {port}\nmax-connections = 60\n")).expect("written");
    server.signal(Signal::HUP);
    server.wait_for(&|said| said.contains("(read as nobody, --user)")).expect("it says so");
    assert_eq!(server.terminate(), Ok(0), "{}", server.stderr());

    let mut server = Server::sunder(&flags).expect("it serves again");
    assert_ne!(hits(&mut connect(), &value), 0);
    assert_eq!(server.terminate(), Ok(0), "the disk is closed");
}

#[test]
fn a_unix_socket_belongs_to_the_user_that_serves() {
    let path = free_socket_path();
    let text = path.to_str().expect("plain");
    let _server = Server::sunder(&["-s", text, "--workers", "1", "-u", USER]).expect("it serves");
    assert_eq!(fs::metadata(&path).expect("a socket").uid(), uid_of(USER));
}

#[test]
fn the_next_server_takes_over_from_one_that_serves_as_another_user() {
    let port = free_port();
    let number = port.to_string();
    let flags = ["-p", &number, "--workers", "2", "--takeover", "-u", USER];
    let mut old = Server::sunder(&flags).expect("it serves");
    let mut new = Server::sunder(&flags).expect("it takes over");
    assert!(new.stderr().contains(&format!("process {} ends", old.pid())), "{}", new.stderr());
    let begun = Instant::now();
    while old.is_alive() {
        assert!(begun.elapsed() < PATIENCE, "{}", old.stderr());
    }
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    assert_eq!(ask(&mut client, "version\r\n", "\r\n"), "VERSION 1.6.18\r\n");
    assert_eq!(new.terminate(), Ok(0));
}

#[test]
fn a_user_that_is_not_there_or_cannot_be_become_ends_the_start() {
    let port = free_port().to_string();
    let ended = run_sunder(&["serve", "-p", &port, "-u", "no-such-user"]).expect("it ends");
    assert_eq!(ended.status, 2, "{}", ended.stderr);
    let line = "sunder: -u, --user no-such-user: there is no such user on this host\n";
    assert_eq!(ended.stderr, line);
    // As somebody who is not root, and may not look into the folder of the binary.
    let as_nobody = |user: &str| {
        let line = "exec 9<\"$0\"; exec setpriv --reuid \"$1\" --clear-groups /proc/self/fd/9 \
                    serve -p \"$2\" --workers 1 --user \"$3\"";
        let mut command = Command::new("sh");
        command.args(["-c", line, SUNDER, USER, &port, user]);
        command
    };
    let ended = as_nobody("daemon").output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("only root can become another user"), "{said}");
    // Who is that user need not become it.
    let mut server = Server::start(as_nobody(USER)).expect("it starts");
    server.wait_for_line("sunder: ready").expect("it serves");
}
