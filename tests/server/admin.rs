//! The admin port: metrics in Prometheus' text format that equal `stats`, latencies, hot keys and
//! degraded tiers; and that whoever abuses it is refused, and no client notices.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::{PATIENCE, Server, free_port, free_socket_path, run_sunder};

struct Running {
    server: Server,
    port: u16,
    admin: u16,
}

fn start(flags: &[&str]) -> Running {
    let (port, admin) = (free_port(), free_port());
    let (number, address) = (port.to_string(), format!("127.0.0.1:{admin}"));
    let flags = [&["-p", &number, "--admin", &address], flags].concat();
    Running { server: Server::sunder(&flags).expect("it starts"), port, admin }
}

/// What the admin port answers to these bytes, up to the end of the connection.
fn exchange(admin: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", admin)).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    String::from_utf8(answer).expect("text")
}

/// The body of a page that is there.
fn get(admin: u16, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let answer = exchange(admin, &request);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    body.to_owned()
}

fn feed(admin: u16) -> serde_json::Value {
    serde_json::from_str(&get(admin, "/feed")).expect("JSON")
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn client(port: u16) -> Client {
    Client::connect(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// The answer to a command whose last line is END.
fn lines(client: &mut Client, command: &str) -> Vec<String> {
    client.send(command.as_bytes());
    let line = std::iter::repeat_with(|| client.line().trim_end().to_owned());
    line.take_while(|line| line != "END").collect()
}

/// The value of each series.
type Series = BTreeMap<String, f64>;

/// Reads the text format (version 0.0.4) as strictly as `promtool check metrics`: a family's HELP
/// and TYPE come once, before its series, which follow one another; names and labels are well
/// formed; counters end in _total; the buckets of a histogram never fall and end with its count.
fn series(text: &str) -> Series {
    let (mut all, mut families) = (Series::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    let mut below: Option<(String, f64)> = None;
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("words");
            assert!(!words.is_empty() && families.insert(name.to_owned()), "{line}");
            family = name.to_owned();
            kind.clear();
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').expect("a type");
            assert!(name == family && kind.is_empty(), "{line} after {family}");
            assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
            assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
            kind = of.to_owned();
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (bare, labels) = labels(name);
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(value.is_finite() && !kind.is_empty(), "{line}");
        let is_named = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(bare.starts_with("sunder_") && bare.chars().all(is_named), "{line}");
        match bare.strip_prefix(&family).unwrap_or_else(|| panic!("{line} in {family}")) {
            "" => assert_ne!(kind, "histogram", "{line}"),
            "_sum" => assert_eq!(kind, "histogram", "{line}"),
            "_bucket" => {
                assert_eq!(kind, "histogram", "{line}");
                let (le, others): (Vec<_>, Vec<_>) =
                    labels.iter().partition(|(name, _)| name == "le");
                assert_eq!(le.len(), 1, "{line}");
                let of = format!("{others:?}");
                let least = below.take().filter(|(is, _)| *is == of).map_or(0.0, |(_, n)| n);
                assert!(value >= least, "{line} falls");
                below = (le[0].1 != "+Inf").then_some((of, value));
                if below.is_none() {
                    let count = name.replace("_bucket{", "_count{");
                    let count = count.replace(",le=\"+Inf\"", "").replace("le=\"+Inf\",", "");
                    all.insert(format!("expected {count}"), value);
                }
            }
            "_count" => assert_eq!(kind, "histogram", "{line}"),
            other => panic!("{line}: {other}"),
        }
        assert!(all.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    let expected: Vec<_> = all.keys().filter(|name| name.starts_with("expected ")).collect();
    for name in expected {
        let count = all.get(name.trim_start_matches("expected "));
        assert_eq!(count, Some(&all[name]), "{name}");
    }
    all
}

/// The name of a series, and its labels with their values, unescaped.
fn labels(series: &str) -> (&str, Vec<(String, String)>) {
    let Some((name, rest)) = series.split_once('{') else { return (series, Vec::new()) };
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("{series}"));
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (label, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{series}"));
        let (mut text, mut chars) = (String::new(), value.char_indices());
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("{series} does not end")) {
                (at, '"') => break at,
                (_, '\\') => match chars.next().map(|(_, c)| c) {
                    Some(c @ ('\\' | '"')) => text.push(c),
                    Some('n') => text.push('\n'),
                    other => panic!("{series}: \\{other:?}"),
                },
                (_, c) => {
                    assert!(!c.is_control(), "{series}");
                    text.push(c);
                }
            }
        };
        labels.push((label.to_owned(), text));
        rest = &value[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name, labels)
}

#[test]
fn metrics_are_what_stats_says() {
    let mut it = start(&["-t", "2", "--sample", "1"]);
    let mut client = client(it.port);
    client.set("key", b"value");
    for _ in 0..200 {
        client.get("key").expect("a hit");
    }
    client.send(b"delete key\r\ndelete key\r\nincr key 1\r\nadd key 0 0 1\r\n1\r\n");
    for answer in ["DELETED", "NOT_FOUND", "NOT_FOUND", "STORED"] {
        assert_eq!(client.line().trim_end(), answer);
    }
    let stats: BTreeMap<String, String> = lines(&mut client, "stats\r\n")
        .iter()
        .filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let all = series(&get(it.admin, "/metrics"));
    let mut compared = 0;
    for (name, value) in &stats {
        // These change with the answer to stats itself, and with time.
        if ["bytes_written", "turns", "turns_idle", "busy_us", "conn_yields", "requests_queued"]
            .contains(&&name[..])
        {
            continue;
        }
        let of = [format!("sunder_{name}_total"), format!("sunder_{name}")];
        if let Some(metric) = of.iter().find_map(|name| all.get(name)) {
            assert_eq!(metric.to_string(), *value, "{name}");
            compared += 1;
        }
    }
    assert!(compared > 80, "{compared}");
    let took = |command: &str, outcome: &str| {
        let labels = format!("{{command=\"{command}\",outcome=\"{outcome}\",tier=\"l1\"}}");
        let count = all.get(&format!("sunder_request_duration_seconds_count{labels}"));
        count.copied().unwrap_or(0.0)
    };
    // One in one is measured, and the others are none of these.
    for (command, outcome, count) in [
        ("get", "ok", 200.0),
        ("set", "ok", 1.0),
        ("delete", "ok", 1.0),
        ("delete", "miss", 1.0),
        ("incr", "miss", 1.0),
        ("add", "ok", 1.0),
        ("replace", "ok", 0.0),
    ] {
        assert_eq!(took(command, outcome), count, "{command} {outcome}");
    }
    let rend = get(it.admin, "/metrics/rend");
    for line in [
        "rend_cmd_get|type*counter|dataType*uint64 200",
        "rend_cmd_get_hits_l1|type*counter|dataType*uint64 200",
        "rend_cmd_set_stored|type*counter|dataType*uint64 1",
        "rend_hist_get|type*counter|dataType*uint64|statistic*count 200",
    ] {
        assert!(rend.lines().any(|it| it == line), "{line}");
    }
    let buckets = rend.lines().filter(|line| line.starts_with("rend_bhist_get|"));
    let sum: u64 = buckets.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert_eq!(sum, 200);
    assert_eq!(it.server.terminate(), Ok(0));
}

#[test]
fn hot_keys_are_found_and_shown_without_harm() {
    let mut it = start(&["--sample", "2"]);
    let mut client = client(it.port);
    let hot = "<script>alert(\"hot\\\")</script>";
    let mut last = String::new();
    until("the key is hot", || {
        for n in 0..300 {
            client.send(format!("get {hot}\r\nget k{n}\r\n").as_bytes());
            assert_eq!((client.line(), client.line()), ("END\r\n".into(), "END\r\n".into()));
        }
        last = lines(&mut client, "stats topkeys\r\n").concat();
        last.starts_with(&format!("STAT {} ", hot.as_bytes().escape_ascii()))
    });
    let all = series(&get(it.admin, "/metrics"));
    let keys = all.iter().filter(|(name, _)| name.starts_with("sunder_hot_key"));
    let keys: Vec<_> = keys.map(|(name, share)| (labels(name).1[0].1.clone(), *share)).collect();
    let share = keys.iter().find(|(key, _)| *key == hot.as_bytes().escape_ascii().to_string());
    assert!(share.is_some_and(|(_, share)| (0.3..0.7).contains(share)), "{keys:?}");
    // Over the binary protocol a key may have any bytes.
    let mut stream = TcpStream::connect(("127.0.0.1", it.port)).expect("it accepts");
    let key = b"\x00\xff\n\"{}\\ 9";
    let mut request = vec![0x80, 0x00, 0, key.len() as u8, 0, 0, 0, 0, 0, 0, 0, key.len() as u8];
    request.extend([0; 12]);
    request.extend(key);
    until("the key with control bytes is listed", || {
        for _ in 0..500 {
            stream.write_all(&request).expect("it reads");
            let mut answer = [0; 33];
            stream.read_exact(&mut answer).expect("a miss");
        }
        let keys = series(&get(it.admin, "/metrics"));
        keys.keys().any(|name| name.contains("\\\\x00\\\\xff\\\\n"))
    });
    // A space would end it, and what follows be taken for its rate. They are listed each second.
    let shown = r#"STAT \x00\xff\n\"{}\\\x209 "#;
    until("it is in stats topkeys", || {
        stream.write_all(&request).expect("it reads");
        stream.read_exact(&mut [0; 33]).expect("a miss");
        lines(&mut client, "stats topkeys\r\n").iter().any(|line| line.starts_with(shown))
    });
    assert_eq!(it.server.terminate(), Ok(0));
}

#[test]
fn a_lost_l1_is_told_and_found_again() {
    let path = free_socket_path();
    let l1 = format!("memcached,addr=unix:{}", path.display());
    let mut memcached = Server::memcached_at(&path, 64).expect("memcached");
    let mut it = start(&["--l1", &l1, "-t", "1"]);
    let mut client = client(it.port);
    client.set("key", b"value");
    let degraded = |admin| feed(admin)["degraded"].to_string();
    assert_eq!(degraded(it.admin), "[]");
    memcached.kill();
    until("it is told", || {
        client.send(b"get key\r\n");
        client.line();
        degraded(it.admin).contains("L1 (memcached,addr=unix:")
    });
    assert_eq!(series(&get(it.admin, "/metrics"))["sunder_links_down_l1"], 1.0);
    let _memcached = Server::memcached_at(&path, 64).expect("memcached");
    until("it is used again", || degraded(it.admin) == "[]");
    let all = series(&get(it.admin, "/metrics"));
    assert!(all["sunder_tier_duration_seconds_count{tier=\"l1\"}"] > 0.0);
    assert!(
        all["sunder_request_duration_seconds_count{command=\"set\",outcome=\"ok\",tier=\"l1\"}"]
            > 0.0
    );
    assert_eq!(it.server.terminate(), Ok(0));
}

#[test]
fn the_last_seconds_are_in_the_feed_once() {
    let mut it = start(&["-t", "1"]);
    let mut client = client(it.port);
    let mut after = 0;
    let (mut gets, mut numbers) = (0, Vec::new());
    until("three seconds with gets", || {
        client.get("key").expect_err("there is none");
        let body = get(it.admin, &format!("/feed?since={after}"));
        let feed: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        for second in feed["seconds"].as_array().expect("rows") {
            after = second["seq"].as_u64().expect("a number");
            numbers.push(after);
            gets += second["gets"].as_u64().expect("a count");
            assert_eq!(second["gets"], second["misses"]);
        }
        numbers.len() >= 3 && gets > 0
    });
    assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{numbers:?}");
    assert_eq!(it.server.terminate(), Ok(0));
}

#[test]
fn a_worker_that_sleeps_is_not_busy() {
    let mut it = start(&["--workers", "1"]);
    let mut client = client(it.port);
    let busy_us = |client: &mut Client| {
        let all = lines(client, "stats\r\n");
        let own = all.iter().find_map(|line| line.strip_prefix("STAT busy_us "));
        own.expect("it is there").parse::<u64>().expect("a number")
    };
    let (begun, before_us) = (Instant::now(), busy_us(&mut client));
    for _ in 0..20 {
        assert!(lines(&mut client, "get none\r\n").is_empty());
        std::thread::sleep(Duration::from_millis(20));
    }
    let elapsed_us = begun.elapsed().as_micros() as u64;
    let busy_us = busy_us(&mut client) - before_us;
    assert!(busy_us < elapsed_us / 2, "{busy_us} of {elapsed_us} us");
    assert_eq!(it.server.terminate(), Ok(0));
}

#[test]
fn a_name_is_refused_on_loopback_whatever_the_port_is_bound_to() {
    let (port, admin) = (free_port().to_string(), free_port());
    let address = format!("0.0.0.0:{admin}");
    let mut server = Server::sunder(&["-p", &port, "--admin", &address]).expect("it starts");
    let request = "GET /feed HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n";
    assert!(exchange(admin, request).starts_with("HTTP/1.1 421"));
    assert!(server.stderr().contains(&format!(" --admin {address}")), "{}", server.stderr());
    assert_eq!(server.terminate(), Ok(0));
}

#[test]
fn what_the_admin_port_refuses() {
    let mut it = start(&[]);
    for (request, status) in [
        ("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n", "405"),
        ("DELETE /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n", "405"),
        // A name that its owner points at this host.
        ("GET /feed HTTP/1.1\r\nHost: rebound.example\r\n", "421"),
        ("GET /feed HTTP/1.1\r\nHost: 127.0.0.1.rebound.example\r\n", "421"),
        ("GET http://rebound.example/feed HTTP/1.1\r\nHost: rebound.example\r\n", "421"),
        ("GET /feed HTTP/1.1\r\nHost: localhost:1\r\n", "200"),
        ("GET /feed HTTP/1.1\r\nHost: [::1]:1\r\n", "200"),
        ("HEAD /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n", "200"),
        ("GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n", "404"),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n", "404"),
        ("GET /feed?since=-1 HTTP/1.1\r\nHost: 127.0.0.1\r\n", "400"),
        ("GET /feed?since=1&x HTTP/1.1\r\nHost: 127.0.0.1\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://other.example\r\n", "200"),
        ("\x16\x03\x01 nonsense\r\n", "400"),
    ] {
        let answer = exchange(it.admin, &format!("{request}Connection: close\r\n\r\n"));
        let (head, _) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
        assert!(!head.to_lowercase().contains("access-control"), "{head}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(("127.0.0.1", it.admin)).expect("it accepts");
    let _ = stream.write_all(long.as_bytes());
    let mut first = String::new();
    let _ = BufReader::new(stream).read_line(&mut first);
    assert!(!first.contains(" 200 "), "{first}");
    assert_eq!(it.server.terminate(), Ok(0));
}

#[test]
fn scrapers_that_never_read_or_never_ask_are_bounded_and_no_client_notices() {
    let mut it = start(&["-t", "1"]);
    let connect = || TcpStream::connect(("127.0.0.1", it.admin));
    let before = it.server.descriptors();
    let mut idle: Vec<_> = (0..600).filter_map(|_| connect().ok()).collect();
    for stream in idle.iter_mut().step_by(2) {
        let many = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(50);
        let _ = stream.set_nonblocking(true);
        let _ = stream.write(many.as_bytes());
    }
    let mut client = client(it.port);
    client.set("key", b"value");
    for _ in 0..1_000 {
        assert_eq!(client.get("key").as_deref(), Ok(&b"value"[..]));
    }
    assert!(it.server.descriptors() < before + 300, "{}", it.server.descriptors());
    assert!(it.server.resident_bytes() < 400 << 20, "{}", it.server.resident_bytes());
    idle.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    drop(idle);
    series(&get(it.admin, "/metrics"));
    assert_eq!(it.server.terminate(), Ok(0));
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let port = free_port().to_string();
    let ended = run_sunder(&["serve", "-p", &port, "--admin", &address]).expect("it ends");
    assert_eq!(ended.status, 75, "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&format!("--admin {address}: another process")),
        "{}",
        ended.stderr
    );
}
