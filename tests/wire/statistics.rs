//! Counters, and the time of a delayed flush: what no answer to one case can show.
//!
//! Each command of a session is sent to memcached and to sunder, and must increment the same
//! counters; if it does not, the step says so and docs/DIFFERENCES.md explains why. Left out if
//! `SUNDER_WIRE_TARGET` names a server: counters that others increment cannot be compared.

use crate::Score;
use crate::compositions;
use crate::support::{Server, free_port, free_socket_path};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// Counters that commands increment. Not `bytes`: an item's size differs here.
const COUNTERS: &[&str] = &[
    "cmd_get",
    "cmd_set",
    "cmd_flush",
    "cmd_touch",
    "cmd_meta",
    "get_hits",
    "get_misses",
    "get_expired",
    "get_flushed",
    "delete_misses",
    "delete_hits",
    "incr_misses",
    "incr_hits",
    "decr_misses",
    "decr_hits",
    "cas_misses",
    "cas_hits",
    "cas_badval",
    "touch_hits",
    "touch_misses",
    "store_too_large",
    "store_no_memory",
    "curr_items",
    "total_items",
    "expired_unfetched",
    "evicted_unfetched",
    "evictions",
];

/// Longest time without an answer.
const SILENCE: Duration = Duration::from_secs(20);

/// Runs all tests of this file.
pub fn run_all(score: &mut Score) {
    if std::env::var_os("SUNDER_WIRE_TARGET").is_some() {
        return;
    }
    for workers in ["1", "2"] {
        score.check(&format!("statistics, workers {workers}"), count_alike(workers));
    }
    score.check("statistics of what fails", failures_are_no_hits());
    flush_alike(score);
}

/// A client's connection.
struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Client, String> {
        let connect = || {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE))?;
            Ok(Client { reader: BufReader::new(stream) })
        };
        connect().map_err(|error: std::io::Error| format!("{address}: {error}"))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.reader.get_ref().write_all(bytes).map_err(|error| format!("send: {error}"))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = vec![];
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) => Err("closed".into()),
            Ok(_) => Ok(String::from_utf8_lossy(&line).into_owned()),
            Err(error) => Err(format!("receive: {error}")),
        }
    }

    /// The answer to `request`, whatever it is.
    fn text(&mut self, request: &[u8]) -> Result<String, String> {
        self.send(&[request, b"version\r\n"].concat())?;
        let mut answer = String::new();
        loop {
            let line = self.line()?;
            if line.starts_with("VERSION") {
                return Ok(answer);
            }
            answer += &line;
        }
    }

    /// The same in binary: opcode and status of each answer.
    fn binary(&mut self, request: &[u8]) -> Result<String, String> {
        const NOOP: u8 = 0x0a;
        let noop = packet(NOOP, b"", b"", b"", 0);
        self.send(&[request, &noop].concat())?;
        let mut answer = String::new();
        loop {
            let mut header = [0; 24];
            let failed = |error| format!("receive: {error}");
            self.reader.read_exact(&mut header).map_err(failed)?;
            let bytes = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
            let mut body = vec![0; bytes as usize];
            self.reader.read_exact(&mut body).map_err(failed)?;
            if header[1] == NOOP {
                return Ok(answer);
            }
            answer += &format!("{:02x}:{} ", header[1], header[7]);
        }
    }

    fn counters(&mut self) -> Result<BTreeMap<&'static str, i64>, String> {
        self.send(b"stats\r\n")?;
        let mut counters = BTreeMap::new();
        loop {
            let line = self.line()?;
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("END"), ..) => return Ok(counters),
                (Some("STAT"), Some(name), Some(value)) => {
                    if let Some(&name) = COUNTERS.iter().find(|&&counter| counter == name) {
                        counters.insert(name, value.parse().map_err(|e| format!("{name}: {e}"))?);
                    }
                }
                _ => return Err(format!("no statistic: {line}")),
            }
        }
    }
}

fn packet(opcode: u8, key: &[u8], extras: &[u8], value: &[u8], cas: u64) -> Vec<u8> {
    let mut packet = vec![0x80, opcode];
    packet.extend((key.len() as u16).to_be_bytes());
    packet.extend([extras.len() as u8, 0, 0, 0]);
    packet.extend(((key.len() + extras.len() + value.len()) as u32).to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(cas.to_be_bytes());
    [packet, extras.to_vec(), key.to_vec(), value.to_vec()].concat()
}

/// One command.
enum Input {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    /// A cas with the current number of the key `n`.
    Cas,
}

struct Step {
    what: String,
    input: Input,
    /// A counter that sunder does not increment here, if there is one.
    except: Option<&'static str>,
}

/// Commands, with `|` for the ends of lines.
const TEXT_STEPS: &str = "\
    set w 0 0 3|abc|; set n 0 0 1|5|; get n|; get n w zz|; gets n zz|; gat 0 n|; gat 0 zz|; \
    gat 0 n w zz|; gats 0 n zz|; touch n 0|; touch zz 0|; incr n 1|; incr w 1|; incr zz 1|; \
    decr n 1|; decr w 1|; decr zz 1|; incr n x|; add n 0 0 1|1|; add a 0 0 1|1|; \
    replace n 0 0 1|1|; replace zz 0 0 1|1|; append n 0 0 1|1|; append zz 0 0 1|1|; \
    prepend n 0 0 1|1|; cas n 0 0 1 999999|1|; cas zz 0 0 1 999999|1|; delete a|; delete zz|; \
    set e 0 -1 1|x|; get e|; set e 0 -1 1|x|; touch e 0|; set e 0 -1 1|x|; delete e|; \
    set e 0 -1 1|x|; incr e 1|; set e 0 -1 1|x|; set e 0 0 1|x|; set e 0 -1 1|x|; gat 0 e|; \
    set e 0 -1 1|x|; add e 0 0 1|x|; touch e -1|; get e|; set e 0 0 1|x|; get e|; gat -1 e|; \
    get e|; set n 0 0 1|9|; incr n 1|";

/// Meta commands. memcached 1.6.45 counts them as 1.6.18 does.
const META_STEPS: &str = "\
    mn|; mg zz|; mg zz v q|; mg zz T30 v|; mg m1 N30 v|; mg m2 N30 T30 v|; mg m2 N30 T30 v|; \
    ms m 1|1|; mg m|; mg m v|; mg m T30 v|; mg m R30 N30 v|; mg m u|; me zz|; \
    ms zz 1 MR|1|; ms m 1 ME|1|; ms zz 1 C5|1|; ms m 1 C999999|1|; ms m 1 C1 I|1|; \
    ms m 1 MA C0|1|; ms m 1 MA C999999|1|; md zz|; md m C999999|; md m I|; md m|; ma zz|; \
    ma zz MD|; ma m N0|; ma m|; ma m MD|; ma m T30|; ma m C999999|; ma w|; md m q|";

/// Last of all: memcached reclaims flushed items when it stores others.
const FLUSH_STEPS: &str =
    "get n|; flush_all|; get n|; flush_all 1000|; flush_all noreply|; flush_all -1|";

/// A command with `|` for the ends of lines.
fn step(what: &str) -> Step {
    let input = Input::Text(what.replace('|', "\r\n").into_bytes());
    Step { what: what.into(), input, except: None }
}

fn text_steps() -> Vec<Step> {
    let mut steps: Vec<Step> = TEXT_STEPS.split("; ").map(step).collect();
    steps.insert(26, Step { what: "cas".into(), input: Input::Cas, except: None });
    let value = "v".repeat(1 << 20);
    for (verb, except) in
        [("set", None), ("add", Some("store_too_large")), ("append", Some("store_too_large"))]
    {
        let input = Input::Text(format!("{verb} n 0 0 {}\r\n{value}\r\n", value.len()).into());
        steps.push(Step { what: format!("{verb} of what is too large"), input, except });
    }
    let bad = Input::Text(b"set n 0 0 1\r\nxyz\r\n".to_vec());
    steps.push(Step { what: "bad data".into(), input: bad, except: Some("cmd_set") });
    steps
}

fn flush_steps() -> Vec<Step> {
    let mut steps: Vec<Step> = FLUSH_STEPS.split("; ").map(step).collect();
    let bad = Input::Text(b"flush_all x\r\n".to_vec());
    steps.push(Step { what: "bad flush".into(), input: bad, except: Some("cmd_flush") });
    steps
}

/// Name, opcode, key, extras, value, cas.
type BinaryRow<'r> = (&'r str, u8, &'r [u8], &'r [u8], &'r [u8], u64);

fn binary_steps() -> Vec<Step> {
    let stored: &[u8] = &[0; 8];
    let touched: &[u8] = &[0; 4];
    let count = |initial: u64, expiry: u32| {
        [&1_u64.to_be_bytes()[..], &initial.to_be_bytes(), &expiry.to_be_bytes()].concat()
    };
    let (begin, only) = (count(5, 0), count(0, u32::MAX));
    let rows: [BinaryRow<'_>; 43] = [
        ("set w", 0x01, b"w", stored, b"abc", 0),
        ("set n", 0x01, b"n", stored, b"8", 0),
        ("get", 0x00, b"n", b"", b"", 0),
        ("get of nothing", 0x00, b"zz", b"", b"", 0),
        ("getq", 0x09, b"n", b"", b"", 0),
        ("getq of nothing", 0x09, b"zz", b"", b"", 0),
        ("getk", 0x0c, b"n", b"", b"", 0),
        ("getkq of nothing", 0x0d, b"zz", b"", b"", 0),
        ("set with a wrong cas", 0x01, b"n", stored, b"5", 999_999),
        ("set of nothing with a cas", 0x01, b"zz", stored, b"5", 999_999),
        ("add", 0x02, b"a", stored, b"5", 0),
        ("add of what is there", 0x02, b"n", stored, b"5", 0),
        ("add with a wrong cas", 0x02, b"n", stored, b"5", 999_999),
        ("replace", 0x03, b"n", stored, b"8", 0),
        ("replace of nothing", 0x03, b"zz", stored, b"5", 0),
        ("append", 0x0e, b"w", b"", b"5", 0),
        ("append to nothing", 0x0e, b"zz", b"", b"5", 0),
        ("append with a wrong cas", 0x0e, b"w", b"", b"5", 999_999),
        ("prepend", 0x0f, b"w", b"", b"5", 0),
        ("delete of nothing", 0x04, b"zz", b"", b"", 0),
        ("delete with a wrong cas", 0x04, b"n", b"", b"", 999_999),
        ("delete", 0x04, b"a", b"", b"", 0),
        ("incr", 0x05, b"n", &only, b"", 0),
        ("incr that makes it longer", 0x05, b"n", &only, b"", 0),
        ("incr of a word", 0x05, b"w", &only, b"", 0),
        ("incr that begins", 0x05, b"c", &begin, b"", 0),
        ("incr of what was begun", 0x05, b"c", &begin, b"", 0),
        ("incr of nothing", 0x05, b"zz", &only, b"", 0),
        ("incr with a wrong cas", 0x05, b"n", &only, b"", 999_999),
        ("decr", 0x06, b"n", &only, b"", 0),
        ("decr of a word", 0x06, b"w", &only, b"", 0),
        ("decr that begins", 0x06, b"d", &begin, b"", 0),
        ("decr of nothing", 0x06, b"zz", &only, b"", 0),
        ("touch", 0x1c, b"n", touched, b"", 0),
        ("touch of nothing", 0x1c, b"zz", touched, b"", 0),
        ("gat", 0x1d, b"n", touched, b"", 0),
        ("gat of nothing", 0x1d, b"zz", touched, b"", 0),
        ("gatq", 0x1e, b"n", touched, b"", 0),
        ("gatq of nothing", 0x1e, b"zz", touched, b"", 0),
        ("gatk", 0x23, b"n", touched, b"", 0),
        ("gatkq of nothing", 0x24, b"zz", touched, b"", 0),
        ("flush", 0x08, b"", b"", b"", 0),
        ("flush at once", 0x08, b"", touched, b"", 0),
    ];
    let step = |(what, opcode, key, extras, value, cas): BinaryRow<'_>| {
        let input = Input::Binary(packet(opcode, key, extras, value, cas));
        Step { what: format!("binary {what}"), input, except: None }
    };
    rows.map(step).into()
}

/// An answer, and the increments of counters.
type Counted = (String, BTreeMap<&'static str, i64>);

/// The answer and the increments of each step.
fn counted(address: SocketAddr, steps: &[Step]) -> Result<Vec<Counted>, String> {
    let (mut text, mut binary) = (Client::connect(address)?, Client::connect(address)?);
    let mut all = vec![];
    for Step { what, input, .. } in steps {
        let cas = match input {
            Input::Cas => text.text(b"gets n\r\n")?.split_whitespace().nth(4).map(str::to_owned),
            _ => None,
        };
        let before = text.counters()?;
        let answer = match input {
            Input::Text(request) => text.text(request)?,
            Input::Binary(request) => binary.binary(request)?,
            Input::Cas => {
                let cas = cas.ok_or_else(|| format!("{what}: no number"))?;
                text.text(format!("cas n 0 0 1 {cas}\r\n7\r\n").as_bytes())?
            }
        };
        let mut after = text.counters()?;
        for (name, value) in &mut after {
            *value -= before.get(name).copied().unwrap_or(0);
        }
        after.retain(|_, value| *value != 0);
        all.push((answer, after));
    }
    Ok(all)
}

/// A memcached without background work: its crawler would reclaim expired items at any time, and
/// hold references to others, which are then rewritten instead of changed in place.
fn quiet_memcached() -> Result<(Server, SocketAddr), String> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new("memcached");
    command.args(["-u", "root", "-U", "0", "-l", "127.0.0.1", "-t", "1", "-p"]);
    command.args([&address.port().to_string(), "-o", "no_lru_crawler,no_lru_maintainer"]);
    let mut server = Server::start(command)?;
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        if !server.is_alive() || start.elapsed() > SILENCE {
            return Err(format!("memcached does not accept: {}", server.stderr()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok((server, address))
}

/// Each command must increment the same counters as in memcached.
fn count_alike(workers: &str) -> Result<(), String> {
    let mut steps = text_steps();
    steps.extend(META_STEPS.split("; ").map(step));
    steps.extend(binary_steps());
    steps.extend(flush_steps());
    let (_memcached, address) = quiet_memcached()?;
    let expected = counted(address, &steps)?;
    let port = free_port();
    let _sunder = Server::sunder(&["-p", &port.to_string(), "--workers", workers])?;
    let found = counted(([127, 0, 0, 1], port).into(), &steps)?;
    let mut faults = vec![];
    for (step, (expected, found)) in steps.iter().zip(expected.into_iter().zip(found)) {
        let (mut expected, found) = (expected, found);
        if let Some(name) = step.except {
            let is_different = expected.1.remove(name).is_some() && !found.1.contains_key(name);
            if !is_different {
                faults.push(format!("{}: {name} no longer differs", step.what));
            }
        }
        // cas numbers are tested elsewhere.
        let is_cas = expected.0.starts_with("VALUE") && step.what.starts_with("ga");
        if expected.1 != found.1 || (!is_cas && !alike(&expected.0, &found.0)) {
            faults.push(format!("{}: memcached {expected:?}, sunder {found:?}", step.what));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n    ")) }
}

/// Whether two answers are equal except for the numbers at the ends of lines with values.
fn alike(one: &str, other: &str) -> bool {
    let bare = |answer: &str| -> Vec<String> {
        let line = |line: &str| match line.starts_with("VALUE") {
            true => line.split(' ').take(4).collect::<Vec<_>>().join(" ").trim_end().to_owned(),
            false => line.to_owned(),
        };
        answer.lines().map(line).collect()
    };
    bare(one) == bare(other)
}

/// Operations that fail because a memcached behind sunder is dead are neither hits nor misses.
fn failures_are_no_hits() -> Result<(), String> {
    let path = free_socket_path();
    let memcached = Server::memcached_at(&path, 64)?;
    let port = free_port();
    let l1 = format!("memcached,addr=unix:{}", path.display());
    let _sunder = Server::sunder(&["-p", &port.to_string(), "--workers", "1", "--l1", &l1])?;
    let mut client = Client::connect(([127, 0, 0, 1], port).into())?;
    client.text(b"set n 0 0 1\r\n5\r\n")?;
    drop(memcached);
    let _ = std::fs::remove_file(&path);
    let before = client.counters()?;
    for request in ["get n|", "gat 0 n|", "touch n 0|", "incr n 1|", "decr n 1|", "delete n|"] {
        let answer = client.text(request.replace('|', "\r\n").as_bytes())?;
        if !answer.starts_with("SERVER_ERROR") {
            return Err(format!("{request} {answer}"));
        }
    }
    let after = client.counters()?;
    let wrong: Vec<_> = after
        .iter()
        .filter(|(name, _)| name.ends_with("_hits") || name.ends_with("_misses"))
        .filter(|(name, value)| before.get(*name) != Some(value))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("counted as {wrong:?}")) }
}

/// `flush_all 3` takes effect at the same time as memcached's: after two ticks of its clock, in 1 s
/// to 2 s.
fn flush_alike(score: &mut Score) {
    let check = |address, keeps| late_flush(address, keeps);
    let memcached = Server::memcached().and_then(|(_server, address)| check(address, false));
    score.check("memcached's delayed flush", memcached);
    let results = std::thread::scope(|scope| {
        let alone = scope.spawn(move || {
            let port = free_port();
            let _sunder = Server::sunder(&["-p", &port.to_string(), "--workers", "2"])?;
            check(([127, 0, 0, 1], port).into(), true)
        });
        let others: Vec<_> = compositions::all()
            .into_iter()
            .filter(|composition| {
                let name = &composition.name;
                name.contains("workers 1") && !name.contains("batch")
            })
            .map(|composition| {
                // A memcached loses items stored in the second in which it flushes.
                let keeps =
                    !composition.name.contains("memcached") && !composition.name.contains("l1_l2");
                let name = composition.name.clone();
                let running = scope.spawn(move || {
                    let running = composition.start()?;
                    check(([127, 0, 0, 1], running.port).into(), keeps)
                });
                (name, running)
            })
            .collect();
        let mut results = vec![("memory".to_owned(), alone.join().expect("no panic"))];
        for (name, running) in others {
            results.push((name, running.join().expect("no panic")));
        }
        results
    });
    for (name, result) in results {
        score.check(&format!("a delayed flush, {name}"), result);
    }
}

/// `keeps`: an item stored after it took effect stays.
fn late_flush(address: SocketAddr, keeps: bool) -> Result<(), String> {
    let mut client = Client::connect(address)?;
    client.text(b"set before 0 0 1\r\nx\r\n")?;
    let input = Instant::now();
    let answer = client.text(b"flush_all 3\r\n")?;
    if answer != "OK\r\n" {
        return Err(answer);
    }
    while client.text(b"get before\r\n")? != "END\r\n" {
        if input.elapsed() > SILENCE {
            return Err("it never takes effect".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let after = input.elapsed();
    // On a loaded machine it may be later, never earlier.
    if after < Duration::from_millis(990) {
        return Err(format!("it takes effect after {after:?}, too early"));
    }
    client.text(b"set behind 0 0 1\r\nx\r\n")?;
    let until = Instant::now() + Duration::from_millis(1_100);
    while keeps && Instant::now() < until {
        if client.text(b"get behind\r\n")? == "END\r\n" {
            return Err("an item stored after it is lost".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
