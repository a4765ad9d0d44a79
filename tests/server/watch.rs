//! `watch`: beside memcached's, from any worker, with watchers that read, stall and vanish.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::{PATIENCE, Server, free_port};

fn start(flags: &[&str]) -> (Server, SocketAddr) {
    let port = free_port();
    let number = port.to_string();
    let flags = [&["-p", &number], flags].concat();
    let server = Server::sunder(&flags).expect("it starts");
    (server, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A client that watches `what`.
fn watch(address: SocketAddr, what: &str) -> Client {
    let mut watcher = Client::connect(address);
    watcher.send(format!("watch {what}\r\n").as_bytes());
    assert_eq!(watcher.line(), "OK\r\n", "watch {what}");
    watcher
}

/// A line without what differs each time.
fn masked(line: &str) -> String {
    let words = line.trim_end().split(' ').filter(|word| {
        !["ts=", "gid=", "cfd=", "rport="].iter().any(|name| word.starts_with(name))
    });
    words.collect::<Vec<_>>().join(" ")
}

fn field<'l>(line: &'l str, name: &str) -> &'l str {
    let value = |word: &'l str| word.strip_prefix(name)?.strip_prefix('=');
    line.split_whitespace().find_map(value).unwrap_or_else(|| panic!("no {name}: {line}"))
}

/// Sends a request and reads the answer to an `mn` behind it, so that its events are written.
fn ask(client: &mut Client, request: &[u8]) {
    client.send(&[request, b"\r\nmn\r\n"].concat());
    let mut line = Vec::new();
    while line != b"MN\r\n" {
        line.clear();
        assert!(client.0.read_until(b'\n', &mut line).expect("it answers") > 0, "it ended");
    }
}

/// The lines that a watcher gets up to that of a get of `end`, without it.
fn lines_up_to(watcher: &mut Client, end: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let line = watcher.line();
        assert!(!line.is_empty(), "it ended: {lines:?}");
        if line.contains(&format!(" key={end} ")) {
            return lines;
        }
        lines.push(line);
    }
}

fn stats(address: SocketAddr) -> BTreeMap<String, u64> {
    let mut client = Client::connect(address);
    client.send(b"stats\r\n");
    let mut stats = BTreeMap::new();
    loop {
        let line = client.line();
        if line == "END\r\n" {
            return stats;
        }
        let mut words = line.split_whitespace().skip(1);
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
            stats.insert(name.to_owned(), value);
        }
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn requests_to_watch_are_answered_as_by_memcached() {
    let (_memcached, theirs) = Server::memcached().expect("it starts");
    let (_sunder, ours) = start(&["--workers", "2"]);
    let many = ["fetchers"; 40].join(" ");
    let huge = "x".repeat(1_500);
    for words in [
        "",
        " ",
        " fetchers",
        " mutations",
        " evictions",
        " connevents",
        " rawcmds",
        " sysevents",
        " proxyreqs",
        " proxyevents",
        " proxyuser",
        " proxycmds",
        " deletions",
        " foo",
        " fetchers foo",
        " fetchers fetchers",
        " fetchers mutations evictions connevents",
        " noreply",
        " fetchers noreply",
        " noreply fetchers",
        " FETCHERS",
        " fetchers\0foo",
        " slowest",
        &format!(" {many}"),
        &format!(" {huge}"),
        " fetchers  mutations ",
    ] {
        // What follows is not answered to a watcher.
        let answers = [theirs, ours].map(|address| {
            let mut client = Client::connect(address);
            client.send(format!("watch{words}\r\nversion\r\nquit\r\n").as_bytes());
            client.0.get_mut().shutdown(Shutdown::Write).expect("it is open");
            let mut answer = Vec::new();
            loop {
                let line = client.line();
                if line.is_empty() {
                    return answer;
                }
                // Another's connection may end at this moment.
                if !line.starts_with("ts=") {
                    answer.push(line);
                }
            }
        });
        assert_eq!(answers[1], answers[0], "watch{words:?}");
    }
}

/// A request, and the line that differs from memcached's, as docs/DIFFERENCES.md says.
const REQUESTS: &[(&[u8], Option<&str>)] = &[
    (b"get miss", None),
    (b"set a 0 0 3\r\nabc", None),
    (b"get a", None),
    (b"gets a miss a", None),
    (b"gat 0 a", None),
    (b"gat 0 miss", None),
    (b"touch a 0", Some("type=item_get key=a status=found clsid=1 size=0")),
    (b"touch miss 0", None),
    (b"add a 0 0 1\r\nx", None),
    (b"add b 5 100 1\r\n1", None),
    (b"replace b 0 0 2\r\n12", None),
    (b"replace nob 0 0 2\r\n12", None),
    (
        b"append b 0 0 1\r\n3",
        Some("type=item_store key=b status=stored cmd=append ttl=0 clsid=1 size=1"),
    ),
    (b"append nob 0 0 1\r\n3", None),
    (b"cas b 0 0 1 999999\r\n3", None),
    (b"cas nob 0 0 1 999999\r\n3", None),
    (b"incr b 1", Some("type=item_get key=b status=found clsid=1 size=0")),
    (b"incr nob 1", None),
    (b"incr a 1", Some("type=item_get key=a status=found clsid=1 size=0")),
    (b"delete b", Some("type=item_get key=b status=found clsid=1 size=0")),
    (b"delete nob", None),
    (b"set ttl 7 1000000 1\r\nx", None),
    (b"get ttl", None),
    (b"mg a v", None),
    (b"mg miss v", None),
    (b"mg a k s v", None),
    (b"ms m 2\r\nab", None),
    (b"ms m 2 ME\r\nab", None),
    (b"ms m 2 MA\r\ncd", None),
    (b"ms m 2 C5\r\ncd", None),
    (b"me m", None),
    (b"md nom", None),
    (b"mg Zm9vYmFy v b", None),
    (b"ms Zm9vYmFy 1 b\r\nx", None),
    (b"mg Zm9vYmFy v b", None),
    (b"set k%20y\x01\x7f\xff~-_.!*'(); 0 0 1\r\nx", None),
    (b"get k%20y\x01\x7f\xff~-_.!*'();", None),
    (b"set a 0 0 1 noreply\r\nx", None),
    (b"get a", None),
    (b"set a 0 0 0\r\n", None),
    (b"get a", None),
    (b"flush_all", None),
    (b"version", None),
];

#[test]
fn lines_are_memcacheds_and_each_difference_is_known() {
    let (_memcached, theirs) = Server::memcached().expect("it starts");
    for flags in [["--workers", "1"], ["--workers", "3"]] {
        let (_sunder, ours) = start(&flags);
        let mut flush = Client::connect(theirs);
        ask(&mut flush, b"flush_all");
        let mut watchers = [theirs, ours].map(|address| watch(address, "fetchers mutations"));
        let mut clients = [theirs, ours].map(Client::connect);
        for (n, (request, differing)) in REQUESTS.iter().enumerate() {
            let end = format!("end{n}");
            let [expected, got] = [0, 1].map(|of| {
                ask(&mut clients[of], request);
                ask(&mut clients[of], format!("get {end}").as_bytes());
                lines_up_to(&mut watchers[of], &end)
            });
            // memcached looks the item up before it stores one.
            let is_store = expected.iter().any(|line| line.contains("type=item_store"));
            let is_expected = |line: &&String| !is_store || line.contains("type=item_store");
            let mut expected: Vec<_> =
                expected.iter().filter(is_expected).map(|line| masked(line)).collect();
            let mut got: Vec<_> = got.iter().map(|line| masked(line)).collect();
            // Keys of several workers end in any order.
            expected.sort();
            got.sort();
            let request = request.escape_ascii();
            match differing {
                None => assert_eq!(got, expected, "{request}"),
                Some(differing) => {
                    assert_eq!(got, [*differing], "{request}");
                    assert_ne!(got, expected, "{request}: it is no difference any more");
                }
            }
        }
    }
}

#[test]
fn what_binary_clients_do_is_told_too() {
    let (_sunder, address) = start(&["--workers", "2"]);
    let mut watcher = watch(address, "fetchers mutations");
    let mut client = TcpStream::connect(address).expect("it accepts");
    let packet = |opcode: u8, extras: &[u8], key: &[u8], value: &[u8]| {
        let body = [extras, key, value].concat();
        let mut packet = vec![0x80, opcode, 0, key.len() as u8, extras.len() as u8, 0, 0, 0];
        packet.extend_from_slice(&(body.len() as u32).to_be_bytes());
        packet.extend_from_slice(&[0; 12]);
        [packet, body].concat()
    };
    let count = [&1_u64.to_be_bytes()[..], &20_u64.to_be_bytes(), &[0; 4]].concat();
    for (sent, expected) in [
        (
            packet(1, &[0; 8], b"bin", b"12345"),
            "type=item_store key=bin status=stored cmd=set ttl=0 clsid=1 size=5",
        ),
        (packet(0, b"", b"bin", b""), "type=item_get key=bin status=found clsid=1 size=5"),
        (packet(9, b"", b"quiet", b""), "type=item_get key=quiet status=not_found clsid=0 size=0"),
        (packet(5, &count, b"n", b""), "type=item_get key=n status=not_found clsid=0 size=0"),
        (vec![], "type=item_store key=n status=stored cmd=add ttl=0 clsid=1 size=2"),
        (packet(4, b"", b"n", b""), "type=item_get key=n status=found clsid=1 size=0"),
    ] {
        client.write_all(&sent).expect("it reads");
        assert_eq!(masked(&watcher.line()), expected);
    }
}

#[test]
fn a_watcher_sees_what_every_worker_does_and_only_what_it_asked_for() {
    let (_sunder, address) = start(&["--workers", "4"]);
    let mut fetchers = watch(address, "fetchers");
    let mut mutations = watch(address, "mutations");
    let mut clients: Vec<_> = (0..32).map(|_| Client::connect(address)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        ask(client, format!("set key{n} 0 0 1\r\nx").as_bytes());
        ask(client, format!("get key{n}").as_bytes());
    }
    let (mut gids, mut numbers) = (Vec::new(), Vec::new());
    for (watcher, kind) in [(&mut fetchers, "item_get"), (&mut mutations, "item_store")] {
        let mut keys: Vec<_> = (0..32)
            .map(|_| {
                let line = watcher.line();
                assert_eq!(field(&line, "type"), kind);
                gids.push(field(&line, "gid").parse::<u64>().expect("a number"));
                numbers.push(field(&line, "cfd").parse::<u64>().expect("a number"));
                field(&line, "key").to_owned()
            })
            .collect();
        keys.sort();
        let mut expected: Vec<_> = (0..32).map(|n| format!("key{n}")).collect();
        expected.sort();
        assert_eq!(keys, expected, "{kind}");
    }
    gids.sort_unstable();
    assert!(gids.windows(2).all(|pair| pair[0] < pair[1]), "each has its own: {gids:?}");
    // As `stats conns` numbers connections.
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 32);
    let stats = stats(address);
    assert_eq!(stats["log_watchers"], 2);
    assert_eq!((stats["log_worker_written"], stats["log_watcher_sent"]), (64, 64));
    assert_eq!((stats["log_worker_dropped"], stats["log_watcher_skipped"]), (0, 0));
}

#[test]
fn a_watcher_too_many_is_told_and_one_that_is_gone_makes_room() {
    let (_sunder, address) = start(&["--workers", "2"]);
    let mut watchers: Vec<_> = (0..20).map(|_| watch(address, "mutations")).collect();
    for _ in 0..1_000 {
        let mut one_more = Client::connect(address);
        one_more.send(b"watch\r\nversion\r\n");
        assert_eq!(one_more.line(), "WATCHER_TOO_MANY log watcher limit reached\r\n");
        assert_eq!(one_more.line(), "VERSION 1.6.18\r\n");
    }
    assert_eq!(stats(address)["log_watchers"], 20);
    // One is reset, one closed.
    let reset = socket2::SockRef::from(watchers[0].0.get_ref());
    reset.set_linger(Some(Duration::ZERO)).expect("an option");
    watchers.truncate(18);
    watchers.remove(0);
    wait_for("three are gone", || stats(address)["log_watchers"] == 17);
    watchers.extend((0..3).map(|_| watch(address, "mutations")));
    ask(&mut Client::connect(address), b"set last 0 0 1\r\nx");
    for watcher in &mut watchers {
        assert_eq!(field(&watcher.line(), "key"), "last");
    }
    drop(watchers);
    wait_for("all are gone", || stats(address)["log_watchers"] == 0);
    let before = stats(address)["log_worker_written"];
    ask(&mut Client::connect(address), b"set more 0 0 1\r\nx");
    assert_eq!(stats(address)["log_worker_written"], before, "nobody watches");
}

#[test]
fn watchers_that_come_and_go_leave_nothing_behind() {
    let (sunder, address) = start(&["--workers", "2", "-m", "64"]);
    let round = || {
        for _ in 0..200 {
            drop(watch(address, "fetchers mutations slow=0"));
        }
        wait_for("all are gone", || stats(address)["log_watchers"] == 0);
    };
    round();
    let before = sunder.resident_bytes();
    (0..4).for_each(|_| round());
    let grown = sunder.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes");
}

#[test]
fn a_watcher_that_never_reads_loses_lines_and_holds_nobody_up() {
    let (sunder, address) = start(&["--workers", "2", "-m", "64"]);
    let mut stalled = watch(address, "fetchers");
    let mut reading = watch(address, "fetchers");
    let reader = std::thread::spawn(move || {
        let (mut seen, mut lost) = (0_u64, 0_u64);
        loop {
            let line = reading.line();
            if let Some(skipped) = line.strip_prefix("skipped=") {
                lost += skipped.trim_end().parse::<u64>().expect("a number");
            } else if line.contains(" key=last ") {
                return (seen, lost);
            } else {
                seen += 1;
            }
        }
    });
    let long = "k".repeat(200);
    let line = ["get ", &[long.as_str(); 20].join(" "), "\r\n"].concat();
    let batch = line.repeat(50);
    let mut client = Client::connect(address);
    let mut resident = Vec::new();
    for round in 0..200 {
        client.send(batch.as_bytes());
        (0..50).for_each(|_| assert_eq!(client.line(), "END\r\n"));
        if round % 50 == 49 {
            resident.push(sunder.resident_bytes());
        }
    }
    let grown = resident[3].saturating_sub(resident[0]);
    assert!(grown < 2 << 20, "{resident:?}");
    let skipped = stats(address)["log_watcher_skipped"];
    assert!(skipped > 100_000, "{skipped}");
    // Until it has room again each line is lost.
    let mut others = Client::connect(address);
    others.set("other", b"value");
    assert_eq!(others.get("other").expect("stored"), b"value");
    wait_for("the reader gets one more", || {
        ask(&mut client, b"get last");
        reader.is_finished()
    });
    let (seen, _) = reader.join().expect("it saw the last");
    assert!(seen > 0);
    // The other one reads what had room, and is told what it lost, before anything newer.
    let (mut told, mut lines) = (0, 0);
    stalled.0.get_mut().set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
    wait_for("it is told", || {
        ask(&mut client, b"get newer");
        let mut line = String::new();
        while stalled.0.read_line(&mut line).is_ok() {
            if let Some(count) = line.strip_prefix("skipped=") {
                told += count.trim_end().parse::<u64>().expect("a number");
            }
            lines += 1;
            line.clear();
        }
        told > 100_000
    });
    assert!(lines > 100, "{lines}");
}

#[test]
fn a_watcher_has_to_log_in_and_to_be_allowed() {
    let users = std::env::temp_dir().join(format!("watch-users-{}", free_port()));
    std::fs::write(&users, "alice:secret\n").expect("a file");
    let (_sunder, address) = start(&["--auth-file", users.to_str().expect("text")]);
    std::fs::remove_file(&users).expect("it is read");
    let mut client = Client::connect(address);
    client.send(b"watch fetchers\r\n");
    assert_eq!(client.line(), "CLIENT_ERROR unauthenticated\r\n");
    let mut client = Client::connect(address);
    client.send(b"set login 0 0 12\r\nalice secret\r\nwatch fetchers\r\n");
    assert_eq!((client.line(), client.line()), ("STORED\r\n".into(), "OK\r\n".into()));
    for (flags, refusal) in [
        (["--rights", "no-admin"], "CLIENT_ERROR not allowed on this port\r\n"),
        (["-W", "--workers=1"], "CLIENT_ERROR watch commands not allowed\r\n"),
    ] {
        let (_sunder, address) = start(&flags);
        let mut client = Client::connect(address);
        client.send(b"watch\r\nversion\r\n");
        assert_eq!(client.line(), refusal);
        assert_eq!(client.line(), "VERSION 1.6.18\r\n");
    }
}

#[test]
fn an_idle_time_out_does_not_end_a_watcher() {
    let (_sunder, address) = start(&["--idle-timeout", "1"]);
    let mut watcher = watch(address, "fetchers");
    let mut idle = Client::connect(address);
    assert!(idle.is_closed_by_server());
    std::thread::sleep(Duration::from_secs(2));
    ask(&mut Client::connect(address), b"get still");
    assert_eq!(field(&watcher.line(), "key"), "still");
}

#[test]
fn slow_requests_are_told_with_where_their_time_went() {
    let (memcached, l2) = Server::memcached().expect("it starts");
    let l2 = format!("memcached,addr={l2}");
    let (_sunder, address) = start(&["--workers", "2", "--l2", &l2]);
    let mut all = watch(address, "slow=0");
    let mut slow = watch(address, "slow=200000");
    let mut client = Client::connect(address);
    ask(&mut client, b"set a 0 0 3\r\nabc");
    ask(&mut client, b"get a");
    ask(&mut client, b"get b");
    for (cmd, key, status, tier) in
        [("set", "a", "stored", "l2"), ("get", "a", "found", "l1"), ("get", "b", "not_found", "l2")]
    {
        let line = all.line();
        let got = ["type", "cmd", "key", "status", "tier"].map(|name| field(&line, name));
        assert_eq!(got, ["slow", cmd, key, status, tier], "{line}");
        let [us, waited_us] = ["us", "waited_us"].map(|name| number(&line, name));
        assert!(us >= waited_us && us < 10_000_000, "{line}");
        let parts = ["queue_us", "l1_us", "l2_us"].map(|name| number(&line, name));
        assert!(parts.iter().sum::<u64>() <= waited_us, "{line}");
    }
    // A get waits for L2, and a delete behind it.
    memcached.signal(rustix::process::Signal::STOP);
    client.send(b"get c\r\n");
    std::thread::sleep(Duration::from_millis(50));
    let mut behind = Client::connect(address);
    behind.send(b"delete c\r\n");
    std::thread::sleep(Duration::from_millis(300));
    memcached.signal(rustix::process::Signal::CONT);
    client.line();
    behind.line();
    // Of two workers, perhaps, in any order.
    let mut lines = [slow.line(), slow.line()];
    lines.sort_by_key(|line| field(line, "cmd") == "delete");
    let [first, second] = lines;
    assert_eq!((field(&first, "key"), field(&first, "tier")), ("c", "l2"));
    assert!((300_000..10_000_000).contains(&number(&first, "l2_us")), "{first}");
    assert!(number(&first, "queue_us") < 100_000 && number(&first, "l1_us") == 0, "{first}");
    assert_eq!((field(&second, "key"), field(&second, "cmd")), ("c", "delete"));
    assert!((250_000..10_000_000).contains(&number(&second, "queue_us")), "{second}");
}

fn number(line: &str, name: &str) -> u64 {
    field(line, name).parse().unwrap_or_else(|_| panic!("{name}: {line}"))
}

#[test]
fn a_slow_l1_and_a_client_that_does_not_read_are_told_from_each_other() {
    let (memcached, l1) = Server::memcached().expect("it starts");
    let (_beside, l2) = Server::memcached().expect("it starts");
    let (l1, l2) = (format!("memcached,addr={l1},timeout=5000"), format!("memcached,addr={l2}"));
    let (_sunder, address) = start(&["--workers", "2", "--l1", &l1, "--l2", &l2]);
    let mut slow = watch(address, "slow=200000");
    let mut client = Client::connect(address);
    memcached.signal(rustix::process::Signal::STOP);
    client.send(b"get a\r\n");
    std::thread::sleep(Duration::from_millis(300));
    memcached.signal(rustix::process::Signal::CONT);
    client.line();
    let line = slow.line();
    assert_eq!((field(&line, "key"), field(&line, "tier")), ("a", "l2"));
    assert!(number(&line, "l1_us") >= 200_000 && number(&line, "l2_us") < 200_000, "{line}");
    assert!(number(&line, "reply_us") < 200_000, "{line}");
    // More than sockets keep for a client, which reads after a while.
    let value = vec![b'v'; 900_000];
    for n in 0..8 {
        let head = format!("set big{n} 0 0 {}\r\n", value.len());
        client.send(&[head.as_bytes(), &value, b"\r\n"].concat());
        assert_eq!(client.line(), "STORED\r\n");
    }
    let gets: String = (0..40).map(|n| format!("get big{}\r\n", n % 8)).collect();
    client.send(gets.as_bytes());
    std::thread::sleep(Duration::from_millis(500));
    let mut answer = vec![0; 40 * (value.len() + "VALUE big0 0 900000\r\n\r\nEND\r\n".len())];
    client.0.read_exact(&mut answer).expect("all of it");
    let is_of_reader = |line: &str| number(line, "reply_us") >= 200_000;
    let line = std::iter::repeat_with(|| slow.line()).find(|line| is_of_reader(line)).unwrap();
    assert!(field(&line, "key").starts_with("big"), "{line}");
    assert!(number(&line, "us") >= number(&line, "waited_us") + 200_000, "{line}");
}

/// What a watcher is told of the connections that these clients make, by their ports.
fn of_connections(watcher: &mut Client, ports: &[u16]) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < 2 * ports.len() {
        let line = watcher.line();
        assert!(!line.is_empty(), "it ended: {lines:?}");
        if ports.contains(&field(&line, "rport").parse().expect("a port")) {
            assert_eq!(field(&line, "rip"), "127.0.0.1");
            lines.push(line);
        }
    }
    lines.sort_by_key(|line| ports.iter().position(|p| field(line, "rport") == p.to_string()));
    lines.iter().map(|line| masked(line)).collect()
}

#[test]
fn connections_are_told_as_by_memcached() {
    let (_memcached, theirs) = Server::memcached().expect("it starts");
    let (_sunder, ours) = start(&["--workers", "2"]);
    let [expected, got] = [theirs, ours].map(|address| {
        let mut watcher = watch(address, "connevents");
        let mut ports = Vec::new();
        let mut connect = || {
            let client = Client::connect(address);
            ports.push(client.0.get_ref().local_addr().expect("it is connected").port());
            client
        };
        let mut quits = connect();
        quits.send(b"quit\r\n");
        assert!(quits.is_closed_by_server());
        drop(connect());
        let mut asks = connect();
        ask(&mut asks, b"version");
        drop(asks);
        let mut vanishes = connect();
        ask(&mut vanishes, b"version");
        let socket = socket2::SockRef::from(vanishes.0.get_ref());
        socket.set_linger(Some(Duration::ZERO)).expect("an option");
        drop(vanishes);
        of_connections(&mut watcher, &ports)
    });
    assert_eq!(got, expected);
    assert_eq!(got.len(), 8);
    assert!(got[0].starts_with("type=conn_new ") && got[1].ends_with(" reason=normal"), "{got:?}");
    assert!(got[7].ends_with(" reason=error"), "{got:?}");
}

#[test]
fn a_connection_that_was_idle_or_local_is_told_so() {
    let path = crate::support::free_socket_path();
    let path_text = path.to_str().expect("text");
    let (_sunder, address) = start(&["--idle-timeout", "1"]);
    let mut watcher = watch(address, "connevents");
    let mut idle = Client::connect(address);
    let port = idle.0.get_ref().local_addr().expect("it is connected").port();
    assert!(idle.is_closed_by_server());
    drop(idle);
    let lines = of_connections(&mut watcher, &[port]);
    assert!(lines[1].ends_with(" transport=tcp reason=idle_timeout"), "{lines:?}");

    let _sunder = Server::sunder(&["-s", path_text]).expect("it starts");
    let mut watcher = UnixStream::connect(&path).expect("it accepts");
    watcher.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    watcher.write_all(b"watch connevents\r\n").expect("it reads");
    let mut watcher = BufReader::new(watcher);
    let mut lines = [const { String::new() }; 3];
    watcher.read_line(&mut lines[0]).expect("it answers");
    drop(UnixStream::connect(&path).expect("it accepts"));
    watcher.read_line(&mut lines[1]).expect("it tells");
    watcher.read_line(&mut lines[2]).expect("it tells");
    assert_eq!(
        lines.each_ref().map(|line| masked(line)),
        [
            "OK",
            "type=conn_new rip=unix transport=local",
            "type=conn_close rip=unix transport=local reason=normal",
        ]
    );
}

#[test]
fn a_stop_ends_watchers_at_once() {
    let (mut sunder, address) = start(&["--workers", "2"]);
    let mut watcher = watch(address, "fetchers");
    let begin = Instant::now();
    assert_eq!(sunder.terminate().expect("it ends"), 0);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    let mut rest = String::new();
    let end = BufReader::new(watcher.0.get_mut()).read_line(&mut rest);
    assert_eq!(end.expect("it is closed in order"), 0, "{rest}");
}

fn names(line: &str) -> Vec<&str> {
    line.split(' ').map(|word| word.split('=').next().expect("a word")).collect()
}

/// The fields of memcached's line of an evicted item, by name.
fn fields_of_eviction() -> Vec<String> {
    let (_memcached, address) = Server::memcached().expect("it starts");
    let mut watcher = watch(address, "evictions");
    let mut client = Client::connect(address);
    // More than it has memory for.
    for n in 0..1_000 {
        let head = format!("set item{n} 0 0 100000\r\n");
        client.send(&[head.as_bytes(), &[b'v'; 100_000], b"\r\n"].concat());
        assert_eq!(client.line(), "STORED\r\n");
    }
    names(&watcher.line()).into_iter().map(str::to_owned).collect()
}

#[test]
fn evicted_items_are_told_of_as_by_memcached_and_only_while_somebody_watches() {
    let expected = fields_of_eviction();
    let (_sunder, address) = start(&["--workers", "2", "--l1", "memory,size=16M"]);
    let mut client = Client::connect(address);
    let value = vec![b'v'; 10_000];
    let mut store = |from: usize, to: usize| {
        for n in from..to {
            let ttl = if n % 2 == 0 { 0 } else { 1_000 };
            let head = format!("set item%{n} 0 {ttl} {}\r\n", value.len());
            client.send(&[head.as_bytes(), &value, b"\r\n"].concat());
            assert_eq!(client.line(), "STORED\r\n");
        }
    };
    // Before anybody watches, nothing is noted.
    store(0, 4_000);
    // Room is made ahead, in turns of its own.
    let mut before = stats(address);
    wait_for("evictions are over", || {
        std::thread::sleep(Duration::from_millis(100));
        let last = std::mem::replace(&mut before, stats(address));
        last["evictions"] == before["evictions"]
    });
    assert!(before["evictions"] > 1_000, "{}", before["evictions"]);
    let mut watcher = watch(address, "evictions");
    store(4_000, 5_000);
    wait_for("all are told of", || {
        let now = stats(address);
        let told = now["log_worker_written"] + now["log_worker_dropped"];
        // Those of the last turn may be noted already and not told of.
        told > 500 && told == now["evictions"] - before["evictions"]
    });
    let now = stats(address);
    assert_eq!(now["log_worker_dropped"], 0);
    for _ in 0..now["log_worker_written"] {
        let line = watcher.line();
        let n: usize = field(&line, "key").strip_prefix("item%25").unwrap().parse().unwrap();
        let ttl: i64 = field(&line, "ttl").parse().unwrap();
        if n.is_multiple_of(2) {
            assert_eq!(ttl, -1, "{line}");
        } else {
            assert!((900..=1_000).contains(&ttl), "{line}");
        }
        assert!(field(&line, "la").parse::<u64>().unwrap() < 60, "{line}");
        assert_eq!(names(&line), expected, "{line}");
        let end = format!("fetch=no ttl={ttl} la={} clsid=1 size=10000\n", field(&line, "la"));
        assert!(line.ends_with(&end) && line.contains(" type=eviction "), "{line}");
        // It is gone.
        let mut reader = Client::connect(address);
        reader.send(format!("get item%{n}\r\n").as_bytes());
        assert_eq!(reader.line(), "END\r\n", "{line}");
    }
    drop(watcher);
    wait_for("it is gone", || stats(address)["log_watchers"] == 0);
    let before = stats(address);
    store(5_000, 6_000);
    let now = stats(address);
    assert!(now["evictions"] > before["evictions"] + 500);
    assert_eq!(now["log_worker_written"], before["log_worker_written"]);
}
