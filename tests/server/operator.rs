//! The server as its operator sees it: where it listens, which lines it prints and when, how it
//! ends, and how it handles an unprepared host.

#[path = "../../build.rs"]
#[allow(dead_code, reason = "its main is cargo's")]
mod build;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, SUNDER, Server, free_port, free_socket_path, project, run_sunder};

fn connect(address: &str, port: u16) -> TcpStream {
    let address: IpAddr = address.parse().expect("an address");
    let client = TcpStream::connect(SocketAddr::new(address, port)).expect("it listens there");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    client
}

fn ask(client: &mut (impl Read + Write), request: &str, expected: &str) {
    client.write_all(request.as_bytes()).expect("it reads");
    let mut got = vec![0; expected.len()];
    client.read_exact(&mut got).expect("it answers");
    assert_eq!(String::from_utf8_lossy(&got), expected, "{request:?}");
}

/// The lines of an answer up to END.
fn lines(client: &mut (impl Read + Write), request: &str) -> Vec<String> {
    client.write_all(request.as_bytes()).expect("it reads");
    let lines = BufReader::new(client).lines().map(|line| line.expect("it answers"));
    lines.take_while(|line| line != "END").collect()
}

fn signal(server: &Server, name: &str) {
    let sent = Command::new("kill").args([name, &server.pid().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// Listening TCP sockets of a process.
fn tcp_listeners(pid: u32) -> usize {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives");
    let links = folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let own: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let tables = ["tcp", "tcp6"]
        .map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).expect("procfs"));
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    let listens = |row: &&str| {
        let words: Vec<&str> = row.split_whitespace().collect();
        words[3] == "0A" && own.contains(&format!("socket:[{}]", words[9]))
    };
    rows.filter(listens).count()
}

#[test]
fn only_a_unix_socket_is_listened_on_unless_configured() {
    let l2_path = free_socket_path();
    let _l2 = Server::memcached_at(&l2_path, 64).expect("an L2");
    let l2 = format!("memcached,addr=unix:{}", l2_path.display());
    let (main, batch) = (free_socket_path(), free_socket_path());
    let path = |path: &Path| path.to_str().expect("ASCII").to_owned();
    let (main_text, batch_text, port) = (path(&main), path(&batch), free_port().to_string());
    let flags = ["--use-domain-socket", "--sock-path", &main_text, "--l2", &l2, "--workers", "1"];
    let silent = Server::sunder(&flags).expect("it serves");
    assert_eq!(tcp_listeners(silent.pid()), 0, "{}", silent.stderr());
    assert!(silent.stderr().contains("--bp-sock-path"), "{}", silent.stderr());
    drop(silent);
    let asked = Server::sunder(&[&flags[..], &["--bp", &port]].concat()).expect("it serves");
    assert_eq!(tcp_listeners(asked.pid()), 1);
    drop(asked);

    let with = [&flags[..], &["--bp-sock-path", &batch_text]].concat();
    let beside = Server::sunder(&with).expect("it serves");
    assert_eq!(tcp_listeners(beside.pid()), 0);
    for socket in [&main, &batch] {
        let mode = fs::metadata(socket).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", socket.display());
    }
    // A batch read from L2 does not fill L1; a read through the main port does.
    let mut l2 = UnixStream::connect(&l2_path).expect("it listens");
    ask(&mut l2, "set far 0 0 1\r\nx\r\n", "STORED\r\n");
    let mut from_batch = UnixStream::connect(&batch).expect("it listens");
    let mut from_main = UnixStream::connect(&main).expect("it listens");
    let mut is_asked_of_l2 = |client: &mut UnixStream| {
        let mut count = || {
            let all = lines(&mut l2, "stats\r\n");
            all.into_iter().find(|line| line.starts_with("STAT get_hits ")).expect("a counter")
        };
        let before = count();
        ask(client, "get far\r\n", "VALUE far 0 1\r\nx\r\nEND\r\n");
        before != count()
    };
    assert!(is_asked_of_l2(&mut from_batch));
    assert!(is_asked_of_l2(&mut from_batch), "a batch read filled L1");
    assert!(is_asked_of_l2(&mut from_main));
    assert!(!is_asked_of_l2(&mut from_main), "a read of the main port did not");
}

#[test]
fn an_idle_client_sees_a_close_and_no_reset() {
    let port = free_port();
    let text = port.to_string();
    let flags = ["-p", &text, "--workers", "1", "--idle-timeout", "1"];
    let _server = Server::sunder(&flags).expect("it serves");
    let mut client = connect("127.0.0.1", port);
    ask(&mut client, "set k 0 0 1\r\nx\r\n", "STORED\r\n");
    // Not a single read, which a signal to this process would interrupt.
    let end = client.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
    assert_eq!(end, Ok(0), "memcached ends an idle connection by FIN");
    // Dalli and others notice only when they write: a reset would be for them.
    let mut other = connect("127.0.0.1", port);
    ask(&mut other, "get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n");
    let kicks = lines(&mut other, "stats\r\n");
    assert!(kicks.contains(&"STAT idle_kicks 1".to_owned()), "{kicks:?}");
}

#[test]
fn several_addresses_and_both_families_are_listened_on() {
    let port = free_port();
    let text = port.to_string();
    let flags = ["-p", &text, "--bind", "127.0.0.1,127.0.0.2", "--bind", "::1", "--workers", "2"];
    let server = Server::sunder(&flags).expect("it serves");
    for address in ["127.0.0.1", "127.0.0.2", "::1"] {
        ask(&mut connect(address, port), "get none\r\n", "END\r\n");
    }
    let elsewhere = TcpStream::connect(("127.0.0.3", port)).map_err(|error| error.kind());
    assert_eq!(elsewhere.err(), Some(ErrorKind::ConnectionRefused));
    let settings = lines(&mut connect("::1", port), "stats settings\r\n");
    assert!(settings.contains(&"STAT inter 127.0.0.1,127.0.0.2,::1".to_owned()), "{settings:?}");
    let listeners = lines(&mut connect("::1", port), "stats conns\r\n").join("\n");
    for address in [format!("tcp:127.0.0.2:{port}"), format!("tcp6:[::1]:{port}")] {
        assert!(listeners.contains(&address), "{listeners}");
    }
    drop(server);

    let _all = Server::sunder(&["-p", &text, "--bind", "::", "--workers", "2"]).expect("it serves");
    for address in ["127.0.0.1", "127.0.0.3", "::1"] {
        ask(&mut connect(address, port), "get none\r\n", "END\r\n");
    }
    drop(_all);
    let flags = ["-p", &text, "--bind", "::,127.0.0.1", "--workers", "1"];
    let _named = Server::sunder(&flags).expect("it serves");
    ask(&mut connect("127.0.0.1", port), "get none\r\n", "END\r\n");
    let elsewhere = TcpStream::connect(("127.0.0.3", port)).map_err(|error| error.kind());
    assert_eq!(elsewhere.err(), Some(ErrorKind::ConnectionRefused), "one was configured");
}

#[test]
fn start_full_and_stop_are_reported() {
    let port = free_port();
    let text = port.to_string();
    let flags = ["-p", &text, "--workers", "1", "--max-connections", "1", "--enable-shutdown"];
    let mut server = Server::sunder(&flags).expect("it serves");
    let said = server.stderr();
    let banner = said.lines().next().expect("a line").to_owned();
    for word in ["version", "--l1 memory,size=64M --l2 none", "--max-connections 1", "adaptive"] {
        assert!(banner.contains(word), "no '{word}': {said}");
    }
    assert!(said.lines().nth(1).is_some_and(|line| line.starts_with("sunder: ready")), "{said}");

    let mut first = connect("127.0.0.1", port);
    ask(&mut first, "get none\r\n", "END\r\n");
    for _ in 0..3 {
        let mut refused = Vec::new();
        // It may be reset, as it sends nothing.
        let _ = connect("127.0.0.1", port).read_to_end(&mut refused);
        assert_eq!(refused, b"ERROR Too many open connections\r\n");
    }
    server.wait_for_line("sunder: a connection was refused: 1 are open").expect("it is reported");
    let told = server.stderr();
    assert_eq!(told.matches("was refused").count(), 1, "rate-limited: {told}");
    assert!(told.contains("--max-connections"), "{told}");

    signal(&server, "-USR1");
    signal(&server, "-HUP");
    ask(&mut first, "get none\r\n", "END\r\n");
    assert_eq!(server.terminate(), Ok(0));
    let ended = "sunder: stopping: SIGTERM was received; 1 connection is open";
    assert!(server.stderr().lines().any(|line| line == ended), "{}", server.stderr());

    let mut server = Server::sunder(&flags).expect("it serves");
    connect("127.0.0.1", port).write_all(b"shutdown\r\n").expect("it reads");
    let ended = server.wait_for_line("sunder: stopping: a client sent the command shutdown");
    ended.expect("it is reported");
}

#[test]
fn a_start_waits_for_a_tier_as_long_as_configured() {
    let path = free_socket_path();
    let (l1, port) = (format!("memcached,addr=unix:{}", path.display()), free_port().to_string());
    let flags = ["serve", "-p", &port, "--workers", "2", "--l1", &l1];
    let at_once = run_sunder(&flags).expect("it ends");
    assert_eq!(at_once.status, 75, "{}", at_once.stderr);

    let waiting = || {
        let mut command = Command::new(SUNDER);
        command.args(flags).args(["--wait", "600"]);
        let mut server = Server::start(command).expect("it starts");
        let line = "sunder: --l1: memcached at";
        server.wait_for_line(line).expect("it reports what it waits for");
        assert!(server.stderr().contains("waiting up to 600 s"), "{}", server.stderr());
        server
    };
    let mut stopped = waiting();
    assert_eq!(stopped.terminate(), Ok(0), "a stop ends the waiting");
    let told = "sunder: stopping: SIGTERM was received, before it served";
    assert!(stopped.stderr().lines().any(|line| line == told), "{}", stopped.stderr());
    let mut server = waiting();
    let _l1 = Server::memcached_at(&path, 64).expect("an L1");
    server.wait_for_line("sunder: ready").expect("it serves");
    assert_eq!(server.stderr().matches("waiting").count(), 1, "{}", server.stderr());
}

#[test]
fn a_host_that_allows_few_open_files_has_fewer_connections() {
    let port = free_port();
    // Root may raise the limit, unless that capability is removed.
    let as_nobody_special = "if [ \"$(id -u)\" = 0 ]; then set -- setpriv --inh-caps=-sys_resource \
                             --bounding-set=-sys_resource \"$@\"; fi; ulimit -n 200; exec \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", as_nobody_special, "bash", SUNDER, "serve", "--workers", "1", "-p"]);
    command.arg(port.to_string());
    let mut server = Server::start(command).expect("it starts");
    server.wait_for_line("sunder: ready").expect("it serves");
    let said = server.stderr();
    assert!(said.contains("--max-connections: 136 instead of 1024"), "{said}");
    let mut first = connect("127.0.0.1", port);
    let settings = lines(&mut first, "stats settings\r\n");
    assert!(settings.contains(&"STAT maxconns 136".to_owned()), "{settings:?}");
    let mut clients: Vec<TcpStream> = (1..136).map(|_| connect("127.0.0.1", port)).collect();
    clients.push(first);
    for mut client in &clients {
        ask(&mut client, "get none\r\n", "END\r\n");
    }
}

#[test]
fn help_for_a_tool_is_printed_by_help() {
    let helped = run_sunder(&["help", "bench"]).expect("it ends");
    assert_eq!((helped.status, &helped.stderr[..]), (0, ""));
    assert!(helped.stdout.contains("Usage: sunder bench"), "{}", helped.stdout);
}

#[test]
fn the_version_names_the_commit_of_a_release() {
    let said = run_sunder(&["--version"]).expect("it ends");
    let origin = if cfg!(debug_assertions) { "development build" } else { "" };
    assert!(said.stdout.contains(origin) && said.stdout.starts_with("sunder "), "{}", said.stdout);
    assert_eq!(said.stdout.lines().count(), 1);

    let folder = project().join(format!("target/tmp/version-{}", std::process::id()));
    let git = |words: &[&str]| {
        let name = ["-c", "user.name=x", "-c", "user.email=x@localhost"];
        let output = Command::new("git").arg("-C").arg(&folder).args(name).args(words).output();
        let output = output.expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("ASCII").trim().to_owned()
    };
    fs::create_dir_all(&folder).expect("a folder");
    // The folder is inside a repository, but is not a repository.
    assert_eq!(build::commit(&folder), None);
    git(&["init", "-q"]);
    assert_eq!(build::commit(&folder), None, "there is no commit yet");
    git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    assert_eq!(build::commit(&folder), Some(git(&["rev-parse", "--short=12", "HEAD"])));
    let watched = build::watched(&folder);
    assert!(watched.iter().any(|path| path.contains("refs/heads/")), "{watched:?}");
    assert!(watched.iter().all(|path| folder.join(path).is_file()), "else cargo rebuilds");
    fs::remove_dir_all(&folder).expect("ours");
}

/// Not a test of time: it ends long before this.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_port_that_is_about_to_be_free_is_waited_for() {
    let text = free_port().to_string();
    let mut first = Server::sunder(&["-p", &text, "--workers", "1"]).expect("it serves");
    let mut command = Command::new(SUNDER);
    command.args(["serve", "-p", &text, "--workers", "1", "--wait", "600"]);
    let start = Instant::now();
    let mut second = Server::start(command).expect("it starts");
    second.wait_for_line("sunder: cannot listen on").expect("it is reported");
    assert_eq!(first.terminate(), Ok(0));
    second.wait_for_line("sunder: ready").expect("it serves");
    assert!(start.elapsed() < LONG);
}

#[test]
fn a_memory_too_small_for_the_largest_items_is_reported() {
    for (size, is_reported) in [("4095K", true), ("4M", false)] {
        let (port, l1) = (free_port().to_string(), format!("memory,size={size}"));
        let flags = ["-p", &port, "--workers", "1", "-I", "1M", "--l1", &l1];
        let server = Server::sunder(&flags).expect("it starts");
        let told = server.stderr();
        assert_eq!(told.contains("too little for items of --max-item-size"), is_reported, "{told}");
    }
}

/// As memcached's: administration at -v, connections at -vv, and a command changes it.
#[test]
fn how_much_is_told_is_a_flag_and_a_command() {
    let port = free_port();
    let words = ["-p", &port.to_string(), "--workers", "1", "-v"];
    let mut server = Server::sunder(&words).expect("it serves");
    let mut client = connect("127.0.0.1", port);
    let level = |client: &mut TcpStream| {
        let settings = lines(client, "stats settings\r\n");
        let line = settings.iter().find(|line| line.starts_with("STAT verbosity "));
        line.expect("memcached has it").clone()
    };
    assert_eq!(level(&mut client), "STAT verbosity 1");
    ask(&mut client, "flush_all\r\n", "OK\r\n");
    ask(&mut client, "stats reset\r\n", "RESET\r\n");
    ask(&mut client, "lru_crawler metadump all\r\n", "END\r\n");
    ask(&mut client, "verbosity 9\r\n", "OK\r\n");
    assert_eq!(level(&mut client), "STAT verbosity 2");
    let number = lines(&mut connect("127.0.0.1", port), "stats conns\r\n");
    let is_last = |line: &&String| line.contains(":addr tcp:");
    let number = number.iter().rfind(is_last).expect("its own").clone();
    let number = number.trim_start_matches("STAT ").split(':').next().expect("a number").to_owned();
    for line in [
        "sunder: a client flushes all items",
        "sunder: a client has reset the statistics",
        "sunder: a client lists all keys",
        "sunder: a client has set the verbosity to 2; it was 1",
        &format!("sunder: connection {number} is open"),
        &format!("sunder: connection {number} is closed"),
    ] {
        server.wait_for_line(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    // What changes nothing is not told, and changes not one by one.
    for _ in 0..1_000 {
        ask(&mut client, "verbosity 0\r\n", "OK\r\n");
        ask(&mut client, "verbosity 0\r\n", "OK\r\n");
        ask(&mut client, "verbosity 1\r\n", "OK\r\n");
    }
    ask(&mut client, "verbosity 0\r\n", "OK\r\n");
    ask(&mut client, "flush_all\r\n", "OK\r\n");
    drop(client);
    assert_eq!(server.terminate(), Ok(0));
    let said = server.stderr();
    assert_eq!(said.matches("flushes").count(), 1, "{said}");
    let changes = said.matches("set the verbosity").count();
    assert!((2..10).contains(&changes), "{said}");
    assert!(said.contains(" more since the last such line)"), "{said}");
}

#[test]
fn an_address_may_have_a_port_of_its_own() {
    let (port, other) = (free_port(), free_port());
    let (number, both) = (port.to_string(), format!("127.0.0.1,127.0.0.2:{other}"));
    let flags = ["-p", &number, "-l", &both, "--workers", "2"];
    let mut server = Server::sunder(&flags).expect("it serves");
    let ready = format!("sunder: ready on 127.0.0.1:{port}, 127.0.0.2:{other}, 2 workers");
    assert!(server.stderr().contains(&ready), "{}", server.stderr());
    let mut first = connect("127.0.0.1", port);
    ask(&mut first, "set k 0 0 1\r\nx\r\n", "STORED\r\n");
    ask(&mut connect("127.0.0.2", other), "get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n");
    let refused = TcpStream::connect(("127.0.0.2", port)).expect_err("nobody listens there");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(server.terminate(), Ok(0));
}
