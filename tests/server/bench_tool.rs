//! The load client itself: with stubs that record what they did, and with servers that are missing
//! or wrong. Its results for exact times are tested on a simulated clock, in `load::bench`; here
//! are real clocks and sockets on a machine that may be busy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Ended, SUNDER, Server, free_port, free_socket_path, run_sunder};
use sunder::load::result::RunResult;

/// How a stub answers a get: None closes the connection.
type Answer = Arc<dyn Fn(Instant) -> Option<&'static [u8]> + Send + Sync>;

/// A server for gets whose answers are made by `answer`, which may sleep; the duration of each is
/// recorded. It ends with the process.
struct Stub {
    address: SocketAddr,
    delays: Arc<Mutex<Vec<Duration>>>,
}

impl Stub {
    fn start(answer: Answer) -> Stub {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let delays = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&delays);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, delays) = (Arc::clone(&answer), Arc::clone(&kept));
                thread::spawn(move || serve(stream, &answer, &delays));
            }
        });
        Stub { address, delays }
    }

    fn target(&self) -> String {
        self.address.to_string()
    }

    /// The delays since the last call, in ascending order.
    fn take_delays(&self) -> Vec<Duration> {
        let mut delays = std::mem::take(&mut *self.delays.lock().expect("unpoisoned"));
        delays.sort_unstable();
        delays
    }
}

fn serve(stream: TcpStream, answer: &Answer, delays: &Mutex<Vec<Duration>>) {
    stream.set_nodelay(true).expect("an option of TCP");
    let mut to_client = stream.try_clone().expect("a second handle");
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        // Requests that are sent to every server before a run are not part of it.
        let said: &[u8] = match &line[..] {
            "version" => b"VERSION 1.2.3-stub\r\n",
            "stats" => b"END\r\n",
            _ => b"",
        };
        if !said.is_empty() {
            to_client.write_all(said).expect("a reader");
            continue;
        }
        let start = Instant::now();
        let Some(answer) = answer(start) else { return };
        if to_client.write_all(answer).is_err() {
            return;
        }
        delays.lock().expect("unpoisoned").push(start.elapsed());
    }
}

fn quantile(sorted: &[Duration], quantile: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * quantile) as usize].as_nanos() as f64
}

/// Runs `sunder bench TARGET` with words; its result, if it ended with status 0.
fn bench(target: &str, words: &str) -> RunResult {
    let path = free_socket_path().with_extension("json");
    let json = path.display().to_string();
    let mut args = vec!["bench", target, "--json", &json];
    args.extend(words.split_whitespace());
    let ended = run_sunder(&args).expect("it ends");
    assert_eq!(ended.status, 0, "{args:?}: {}", ended.stderr);
    let result = RunResult::load(&path);
    std::fs::remove_file(&path).expect("written");
    result.expect("a result")
}

/// Sends gets to a stub one after another until told to stop; returns the duration of each.
fn reference(address: SocketAddr, duration: Duration) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).expect("the stub accepts");
    stream.set_nodelay(true).expect("an option of TCP");
    let (mut seen, mut answer, begin) = (Vec::new(), [0; 5], Instant::now());
    while begin.elapsed() < duration {
        let start = Instant::now();
        stream.write_all(b"get reference\r\n").expect("written");
        stream.read_exact(&mut answer).expect("answered");
        seen.push(start.elapsed());
    }
    seen.sort_unstable();
    seen
}

#[test]
fn an_unwritable_result_is_reported_before_the_measurement() {
    let stub = Stub::start(Arc::new(|_| Some(MISS)));
    for flag in ["--json", "--hgrm"] {
        let start = Instant::now();
        let words = ["bench", &stub.target(), "--no-fill", flag, "/nonexistent/file"];
        let ended = run_sunder(&words).expect("it ends");
        assert_eq!((ended.status, &ended.stdout[..]), (1, ""), "{flag}: {}", ended.stderr);
        assert!(ended.stderr.contains("/nonexistent/file: "), "{flag}: {}", ended.stderr);
        assert!(start.elapsed() < Duration::from_secs(8), "{flag}: measured first");
    }
}

/// On a terminal of 60 columns, created by `script`; and on one line without a terminal.
#[test]
fn notes_are_as_wide_as_the_terminal() {
    let stub = Stub::start(Arc::new(|_| Some(MISS)));
    let result = bench(&stub.target(), &format!("{GETS} --duration 0.2"));
    let path = free_socket_path().with_extension("json");
    result.save(&path).expect("written");
    let words = format!("stty cols 60 && {SUNDER} bench report {}", path.display());
    let shown = Command::new("script").args(["-qec", &words, "/dev/null"]).output();
    let piped = run_sunder(&["bench", "report", &path.display().to_string()]).expect("it ends");
    std::fs::remove_file(&path).expect("written");
    let shown = String::from_utf8(shown.expect("script runs").stdout).expect("text");
    let (_, notes) = shown.split_once("  note: ").expect("a note");
    assert!(notes.lines().count() > 3, "{shown}");
    assert!(notes.lines().all(|line| line.trim_end().chars().count() <= 60), "{shown}");
    assert!(piped.stdout.lines().any(|line| line.starts_with("  note: ") && line.len() > 200));
}

#[test]
fn a_result_contains_the_version_of_the_server() {
    let stub = Stub::start(Arc::new(|_| Some(MISS)));
    let result = bench(&stub.target(), &format!("{GETS} --duration 0.2"));
    assert_eq!(result.server.as_deref(), Some("1.2.3-stub"));
    let (_memcached, memcached) = Server::memcached().expect("memcached starts");
    let path = free_socket_path();
    let path_text = path.display().to_string();
    let sunder = Server::sunder(&["--use-domain-socket", "--sock-path", &path_text]);
    let _sunder = sunder.expect("sunder starts");
    let short = "--duration 0.2 --warmup 0 --keys 10 --protocol";
    for protocol in ["text", "binary"] {
        let result = bench(&memcached.to_string(), &format!("{short} {protocol}"));
        let version = result.server.expect("a version");
        assert!(version.starts_with("1.") && !version.contains("sunder"), "{version}");
        let result = bench(&format!("unix:{path_text}"), &format!("{short} {protocol}"));
        let version = result.server.expect("a version");
        let is_told = version.ends_with(concat!(", sunder ", env!("CARGO_PKG_VERSION")));
        assert_eq!(is_told, protocol == "text", "{version}");
    }
}

#[test]
fn the_other_tools_flags_do_too() {
    let (_server, address) = Server::memcached().expect("memcached starts");
    let port = address.port().to_string();
    let short = ["--duration", "0.2", "--warmup", "0", "--keys", "10"];
    for flags in [&["-p", &port, "-b"][..], &["--host=127.0.0.1", "--port", &port, "--meta"]] {
        let words = [&["bench"], flags, &short].concat();
        let ended = run_sunder(&words).expect("it ends");
        assert_eq!(ended.status, 0, "{words:?}: {}", ended.stderr);
    }
    let ended = run_sunder(&["bench", "127.0.0.1:1", "-p", "1"]).expect("it ends");
    assert!(ended.status == 2 && ended.stderr.contains("leave one out"), "{}", ended.stderr);
}

#[test]
fn a_rate_far_above_what_can_be_answered_has_no_latencies() {
    let (_server, address) = Server::memcached().expect("memcached starts");
    let target = address.to_string();
    // After the warm-up more is due than can be sent until the end.
    let short = ["--rate", "1G", "--warmup", "0.3", "--duration", "0.3", "--keys", "10"];
    let ended = run_sunder(&[&["bench", &target][..], &short].concat()).expect("it ends");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    for line in
        ["  not sent    300,000,000 that were due\n", "\n  no latencies: ", "choose a --rate"]
    {
        assert!(ended.stdout.contains(line), "{line}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("latency, "), "{}", ended.stdout);
}

/// Longer than a connection's buffer: the rest must be sent although nothing is received.
#[test]
fn values_longer_than_the_buffers_are_stored_and_read() {
    let (_server, address) = Server::memcached().expect("memcached starts");
    let words = "--value-bytes 700K --keys 4 --connections 2 --ratio 1:1 --warmup 0 \
                 --duration 0.5 --timeout 20";
    let seen = bench(&address.to_string(), words);
    let step = &seen.steps[0];
    assert!(step.requests > 0 && step.mismatches == 0, "{step:?}");
}

const MISS: &[u8] = b"END\r\n";
const GETS: &str = "--ratio 1:0 --no-fill --warmup 0";

/// A request takes as long as the stub says, and as long as a plain client beside it measures: load
/// on the machine affects both. p50 and p99 within 5 % of these. On a busy machine the two may
/// differ in one run; that they differ every time is not by chance.
#[test]
fn a_millisecond_is_reported_as_one() {
    let stub = Stub::start(Arc::new(|_| {
        thread::sleep(Duration::from_millis(1));
        Some(MISS)
    }));
    let mut seen = String::new();
    for _ in 0..12 {
        stub.take_delays();
        let address = stub.address;
        let beside = thread::spawn(move || reference(address, Duration::from_millis(900)));
        let words = format!("{GETS} --connections 1 --duration 0.9");
        let latency = bench(&stub.target(), &words).steps[0].latency.get.histogram().unwrap();
        let (delays, beside) = (stub.take_delays(), beside.join().expect("it ends"));
        let is_near = [0.5, 0.99].map(|q| {
            let told = latency.value_at_quantile(q) as f64;
            let (own, plain) = (quantile(&delays, q), quantile(&beside, q));
            seen += &format!("p{:.0}: {told} ns, stub {own}, beside {plain}; ", q * 100.0);
            // Never less than the fastest answer of the stub.
            assert!(told >= quantile(&delays, 0.0) * 0.998, "{seen}");
            told >= own * 0.95 && told <= 1.05 * own.max(plain)
        });
        if is_near == [true, true] {
            return;
        }
    }
    panic!("{seen}");
}

/// In a tenth of every second nothing is answered. In an open loop a tenth of the requests are due
/// in that time, and their waits are reported: also for those that no connection was free to send,
/// whose delay the stub did not see.
#[test]
fn a_stall_is_visible_in_an_open_loop_and_a_closed_loop_warns() {
    let begin = Instant::now();
    let stub = Stub::start(Arc::new(move |now| {
        let in_second = now.duration_since(begin).subsec_millis();
        if in_second < 100 {
            thread::sleep(Duration::from_millis(u64::from(100 - in_second)));
        }
        Some(MISS)
    }));
    let words = format!("{GETS} --connections 8 --duration 3");
    let open = bench(&stub.target(), &format!("{words} --rate 400"));
    let half_a_stall = Duration::from_millis(50);
    let held = stub.take_delays().iter().filter(|&&delay| delay >= half_a_stall).count() as u64;
    let told = open.steps[0].latency.get.histogram().unwrap();
    let waited = told.count_between(half_a_stall.as_nanos() as u64, u64::MAX);
    // 8 and 20 per stall, if nothing else causes waits.
    assert!(held > 0 && waited > held, "{waited} waited, of which the stub held {held}");
    assert!(!open.notes.iter().any(|note| note.contains("coordinated omission")));
    // All due requests are in it, whatever the stub did meanwhile.
    assert_eq!(open.steps[0].latency.all.count, 1_200);

    let closed = bench(&stub.target(), &words);
    let note = closed.notes.iter().find(|note| note.contains("coordinated omission"));
    assert!(note.is_some_and(|note| note.contains("--rate")), "{:?}", closed.notes);
}

/// With a warm-up, whose requests alone keep the server busy beyond the end.
#[test]
fn a_rate_far_above_the_server_s_has_a_result() {
    let stub = Stub::start(Arc::new(|_| {
        thread::sleep(Duration::from_millis(1));
        Some(MISS)
    }));
    for rate in ["100k", "1G"] {
        let words = format!("{GETS} --connections 2 --warmup 1 --duration 1 --rate {rate}");
        let result = bench(&stub.target(), &words);
        let step = &result.steps[0];
        let due = step.rate_target.expect("an open loop");
        assert_eq!((step.requests, step.latency.all.count), (0, due as u64), "{rate}");
        assert!(step.rate > 0.0 && step.rate < 2_500.0, "{rate}: {}", step.rate);
        assert!(result.notes.iter().any(|note| note.contains("warm-up")), "{:?}", result.notes);
    }
}

fn refused(words: &str, word: &str) {
    let mut args = vec!["bench"];
    args.extend(words.split_whitespace());
    let Ended { status, stdout, stderr } = run_sunder(&args).expect("it ends");
    assert_eq!((status, &stdout[..]), (2, ""), "{words}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{words}: {stderr}");
    assert!(stderr.starts_with("sunder bench: ") && stderr.contains(word), "{words}: {stderr}");
}

#[test]
fn nonsense_is_a_usage_error() {
    refused("--rate 0", "--rate");
    refused("--rate 1e400", "--rate");
    refused("--value-bytes 99T", "--value-bytes");
    refused("--duration -1", "--duration");
    refused("--connections 0", "--connections");
    refused("--sweep 10-5", "--sweep");
    refused("--address 10.0.0.2/24", "--device");
    refused("--colour red", "--colour");
    let ended = run_sunder(&["bench", "no-such-host.invalid"]).expect("it ends");
    assert_eq!(ended.status, 1, "no server: {}", ended.stderr);
    assert!(ended.stderr.contains("no such host"), "{}", ended.stderr);
}

#[test]
fn help_has_examples() {
    let ended = run_sunder(&["bench", "--help"]).expect("it ends");
    assert_eq!(ended.status, 0);
    assert!(ended.stdout.contains("Examples") && ended.stdout.contains("--sweep auto"));
    assert!(ended.stdout.lines().all(|line| line.len() <= 100));
}

/// One line, with the number of answers so far, and status 1; returns stdout.
fn fails(target: &str, words: &str, expected: &[&str]) -> String {
    let mut args = vec!["bench", target];
    args.extend(words.split_whitespace());
    let Ended { status, stdout, stderr } = run_sunder(&args).expect("it ends");
    assert_eq!(status, 1, "{target} {words}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for word in expected {
        assert!(stderr.contains(word), "no '{word}' in: {stderr}");
    }
    stdout
}

/// Checks the results up to the failure of a server, and the reason.
fn told_what_there_was(printed: &str, answers: u64, why: &str) {
    let line = printed.lines().find_map(|line| line.trim_start().strip_prefix("requests  "));
    let requests = line.and_then(|line| line.split_whitespace().next()).expect("requests");
    let requests: u64 = requests.replace(',', "").parse().expect("a number");
    // The first few come before the clock of the measurement starts.
    assert!(requests > answers / 2 && requests <= answers, "{printed}");
    assert!(printed.contains("p99") && printed.contains("note: ended early: "), "{printed}");
    assert!(printed.contains(why), "{printed}");
}

#[test]
fn a_server_that_is_not_there() {
    let target = format!("127.0.0.1:{}", free_port());
    let words = &[&target[..], "cannot connect", "0 of 50", "0 answers"];
    assert_eq!(fails(&target, "--duration 1", words), "");
    let path = format!("unix:{}", free_socket_path().display());
    assert_eq!(fails(&path, "", &[&path, "cannot connect", "0 answers"]), "");
}

/// A stub that answers this many gets, each after a millisecond, and then with `then`.
fn ending(answers: u64, then: fn() -> Option<&'static [u8]>) -> Stub {
    let asked = Arc::new(Mutex::new(0));
    Stub::start(Arc::new(move |_| {
        thread::sleep(Duration::from_millis(1));
        let mut asked = asked.lock().expect("unpoisoned");
        *asked += 1;
        let is_over = *asked > answers;
        drop(asked);
        if is_over { then() } else { Some(MISS) }
    }))
}

#[test]
fn a_server_that_closes_midway() {
    let path = free_socket_path().with_extension("json");
    let words =
        format!("{GETS} --connections 1 --timeout 1 --duration 20 --json {}", path.display());
    let expected = ["closed connection", "of 1", "200 answers so far"];
    let printed = fails(&ending(200, || None).target(), &words, &expected);
    told_what_there_was(&printed, 200, "closed connection");
    let result = RunResult::load(&path);
    std::fs::remove_file(&path).expect("written");
    let result = result.expect("a result");
    let step = &result.steps[0];
    // Lost requests have waited too.
    assert_eq!(step.requests + step.outages.requests_lost, step.latency.all.count);
    assert!(step.elapsed_s < 19.0 && step.rate > 0.0, "{} s", step.elapsed_s);
    // Also with several threads, whichever of them notices, and in the middle of a sweep.
    let words = format!("{GETS} --connections 3 --timeout 1 --duration 20 --threads 3");
    let printed = fails(&ending(600, || None).target(), &words, &["closed connection"]);
    told_what_there_was(&printed, 600, "closed connection");
    let words = format!("{GETS} --connections 2 --timeout 1 --duration 3 --sweep 100-800/2");
    let printed = fails(&ending(60, || None).target(), &words, &["closed connection"]);
    assert!(printed.contains("knee") && printed.contains("ended early: the server closed"));
}

/// One of three connections is closed once: the run continues, and reports the cost.
#[test]
fn a_connection_that_is_reset_is_opened_again() {
    let asked = Arc::new(Mutex::new(0));
    let stub = Stub::start(Arc::new(move |_| {
        thread::sleep(Duration::from_millis(1));
        let mut asked = asked.lock().expect("unpoisoned");
        *asked += 1;
        (*asked != 200).then_some(MISS)
    }));
    let path = free_socket_path().with_extension("json");
    let json = path.display().to_string();
    let target = stub.target();
    let mut args = vec!["bench", &target, "--connections", "3", "--duration", "2"];
    args.extend(["--json", &json]);
    args.extend(GETS.split_whitespace());
    let ended = run_sunder(&args).expect("it ends");
    // As after any error.
    assert_eq!((ended.status, &ended.stderr[..]), (1, ""));
    let result = RunResult::load(&path);
    std::fs::remove_file(&path).expect("written");
    let result = result.expect("a result");
    let step = &result.steps[0];
    assert_eq!((step.outages.reconnects, step.outages.requests_lost), (1, 1));
    assert_eq!((step.errors, step.latency.all.count), (1, step.requests + 1));
    assert!(step.outages.gap_s > 0.0 && step.outages.gap_s < 2.0, "{:?}", step.outages);
    assert!((step.elapsed_s - 2.0).abs() < 0.01 && step.requests > 200, "{}", step.requests);
    let notes = result.notes.iter().filter(|note| note.contains("1 opened again"));
    assert_eq!(notes.count(), 1, "{:?}", result.notes);
    assert!(!ended.stdout.contains("ended early"), "{}", ended.stdout);
}

#[test]
fn a_server_that_answers_garbage() {
    let stub = Stub::start(Arc::new(|_| Some(b"HTTP/1.1 400 Bad Request\r\n")));
    let printed = fails(&stub.target(), GETS, &["garbage", "HTTP/1.1 400", "0 answers so far"]);
    assert_eq!(printed, "");
}

#[test]
fn a_server_that_is_silent() {
    let stub = ending(100, || {
        thread::sleep(Duration::from_secs(3600));
        None
    });
    let words = format!("{GETS} --connections 1 --timeout 1 --duration 20");
    let printed =
        fails(&stub.target(), &words, &["no answer from the server for 1 s", "100 answers so far"]);
    told_what_there_was(&printed, 100, "no answer from the server for 1 s");
}

#[test]
fn values_that_are_not_what_was_stored_are_status_1() {
    const WRONG: &[u8] = b"VALUE sunder-b00000000 0 1\r\nx\r\nEND\r\n";
    let stub = Stub::start(Arc::new(|_| Some(WRONG)));
    let target = stub.target();
    let mut args = vec!["bench", &target, "--duration", "0.2"];
    args.extend(GETS.split_whitespace());
    let ended = run_sunder(&args).expect("it ends");
    assert_eq!(ended.status, 1, "{}", ended.stderr);
    assert!(ended.stdout.contains("mismatches, the first: "), "{}", ended.stdout);
}

#[test]
fn every_protocol_against_memcached() {
    let (_memcached, address) = Server::memcached().expect("memcached starts");
    let target = address.to_string();
    for words in [
        "--protocol text --threads 2",
        "--protocol meta --depth 4 --skew zipf",
        "--protocol binary --value-bytes 1-100K --key-bytes 8-250",
        "--protocol text --multi-get 9 --ratio 1:1",
        "--protocol meta --multi-get 9 --ttl 100",
        "--protocol binary --multi-get 9 --value-bytes 10:1,5K:1",
        "--rate 2000 --value-bytes lognormal:100,2,500K",
    ] {
        let words =
            format!("{words} --keys 200 --check 1 --connections 10 --warmup 0 --duration 0.4");
        let result = bench(&target, &words);
        let step = &result.steps[0];
        assert_eq!((step.errors, step.mismatches, step.misses), (0, 0, 0), "{words}");
        assert!(step.requests > 20 && step.hits > 0, "{words}: {}", step.requests);
        assert_eq!(step.latency.all.count, step.latency.get.count + step.latency.set.count);
    }
    let swept = bench(&target, "--sweep 200-800/3 --warmup 0 --duration 0.3 --keys 50");
    let rates: Vec<_> = swept.steps.iter().map(|step| step.rate_target.unwrap().round()).collect();
    assert_eq!(rates, [200.0, 400.0, 800.0]);
}

#[test]
fn a_unix_socket_and_an_early_end() {
    let path = free_socket_path();
    let path_text = path.display().to_string();
    let server = Server::sunder(&["--use-domain-socket", "--sock-path", &path_text]);
    let _server = server.expect("sunder starts");
    let mut command = Command::new(SUNDER);
    let target = format!("unix:{path_text}");
    command.args(["bench", &target, "--duration", "3600", "--warmup", "0", "--keys", "10"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    thread::sleep(Duration::from_millis(1_500));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("ours");
    let mut shown = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut shown).expect("text");
    assert_eq!(child.wait().expect("ours").code(), Some(130));
    assert!(shown.contains("ended early") && shown.contains("p99"), "{shown}");
}

/// The DPDK client and a sunder in two processes, connected by a ring that needs no network, no
/// hugepages and no privileges. The server ends first: a process that leaves a net_memif while its
/// peer still polls crashes the peer, so the client keeps the link after it has printed its result.
#[cfg(feature = "dpdk")]
#[test]
fn a_dpdk_client_over_memif_counts_right() {
    for (words, requests) in [
        ("--protocol text --ratio 3:1 --depth 2", None),
        ("--protocol binary --ratio 1:1 --value-bytes 1-30K", None),
        ("--protocol text --ratio 1:0 --multi-get 5", None),
        ("--protocol text --rate 2k", Some(1_000)),
    ] {
        let (link, json) = (free_socket_path(), free_socket_path().with_extension("json"));
        let device = |role| {
            let link = link.display();
            format!("net_memif0,role={role},socket={link},socket-abstract=no")
        };
        let (own, json_text) = (device("server"), json.display().to_string());
        let serve = ["--device", &own, "--address", "10.9.0.1/16", "--huge", "off"];
        let rest = ["--workers", "1", "--l1", "memory,size=64M"];
        let mut server = Server::sunder(&[&serve[..], &rest].concat()).expect("sunder starts");
        let mut command = Command::new(SUNDER);
        command.args(["bench", "10.9.0.1", "--device", &device("client"), "--huge", "off"]);
        command.args(["--address", "10.9.1.1/16", "--hold", "20", "--json", &json_text]);
        command.args(["--connections", "20", "--keys", "300", "--check", "1", "--warmup", "0"]);
        command.args(["--duration", "0.5"]).args(words.split_whitespace());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("it starts");
        let start = Instant::now();
        let result = loop {
            match RunResult::load(&json) {
                Ok(result) => break Ok(result),
                Err(error) if child.try_wait().expect("ours").is_some() => break Err(error),
                Err(error) if start.elapsed() > crate::support::PATIENCE => break Err(error),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        let served = server.terminate();
        let ended = child.wait_with_output().expect("it ends");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert_eq!((ended.status.code(), served), (Some(0), Ok(0)), "{words}: {stderr}");
        // The second process finds them already removed.
        let _ = (std::fs::remove_file(&link), std::fs::remove_file(&json));
        let result = result.expect("a result");
        let step = &result.steps[0];
        assert_eq!((step.errors, step.mismatches, step.misses), (0, 0, 0), "{words}: {stdout}");
        assert_eq!(step.latency.all.count, step.requests, "{words}");
        let keys = result.setup.multi_get * step.latency.get.count;
        assert!(step.hits == keys && step.requests > 100, "{words}: {} hits", step.hits);
        assert!(requests.is_none_or(|due| step.requests == due), "{words}: {}", step.requests);
        assert_eq!(result.setup.transport, "net_memif0");
        let version = result.server.expect("a version");
        let is_told = version.ends_with(concat!(", sunder ", env!("CARGO_PKG_VERSION")));
        assert!(is_told != words.contains("binary") && version.len() > 2, "{words}: {version}");
        assert!(stdout.contains("p99") && stdout.contains("mismatches  0"), "{words}: {stdout}");
        assert!(stdout.contains("the clock was read once a turn"), "{words}: {stdout}");
    }
}
