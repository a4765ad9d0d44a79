//! `sunder bench` over a device, with a server on kernel sockets that closes connections.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write, stdin};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use sunder::load::result::RunResult;

use crate::CLIENT;
use crate::lab::Lab;

/// The gets, over all connections, after which their connection is ended: the first by a reset, the
/// second by a close. With `leaves`, the server exits at the third.
const RESET_AT: usize = 100;
const CLOSE_AT: usize = 200;
const LEAVE_AT: usize = 300;

/// The server on the kernel's side, until it is told to stop.
pub fn serve(leaves: bool) {
    let listener = TcpListener::bind((CLIENT, 11211)).unwrap();
    println!("\nready");
    thread::spawn(move || {
        static GETS: AtomicUsize = AtomicUsize::new(0);
        for stream in listener.incoming().map_while(Result::ok) {
            println!("port {}", stream.peer_addr().unwrap().port());
            thread::spawn(move || answer(&stream, &GETS, leaves));
        }
    });
    while stdin().read_line(&mut String::new()).is_ok_and(|n| n > 0) {}
}

fn answer(mut stream: &TcpStream, gets: &AtomicUsize, leaves: bool) {
    stream.set_nodelay(true).unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut is_admitted = leaves;
    while let Some(Ok(line)) = lines.next() {
        if line.starts_with("set sunder-login ") {
            let words = lines.next().unwrap().unwrap();
            is_admitted = words == "alice secret";
            println!("login {is_admitted}");
        }
        let answer: &[u8] = match &line[..] {
            _ if line.starts_with("set ") => b"STORED\r\n",
            _ if !is_admitted => b"CLIENT_ERROR unauthenticated\r\n",
            "version" => b"VERSION 1.2.3-stub\r\n",
            "stats" => b"STAT pid 1\r\nSTAT sunder_version 9.8.7\r\nEND\r\n",
            _ => b"END\r\n",
        };
        if line.starts_with("get ") {
            // A load that a busy machine can keep up with.
            thread::sleep(Duration::from_millis(1));
            match gets.fetch_add(1, Ordering::Relaxed) + 1 {
                RESET_AT => return SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap(),
                CLOSE_AT => return,
                LEAVE_AT if leaves => std::process::exit(0),
                _ => {}
            }
        }
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

/// Runs three connections for a second, or until the server exits.
fn bench(lab: &Lab, far: &str, json: &str, words: &str) -> Output {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lab.space("server"), env!("CARGO_BIN_EXE_sunder"), "bench"]);
    command.args([CLIENT, "--device", &format!("net_af_packet0,iface={far}"), "--huge", "off"]);
    command.args(["--address", "10.77.0.2/24", "--connections", "3", "--json", json]);
    command.args(["--ratio", "1:0", "--no-fill", "--warmup", "0"]);
    command.args(words.split_whitespace()).output().unwrap()
}

#[test]
fn a_bench_prints_its_result_and_reopens_closed_connections() {
    let lab = Lab::new();
    let (_near, far) = lab.veth(CLIENT);
    let mut server = lab.role("ending-server").inside("client").start();
    server.expect("ready");
    let json = lab.path("bench.json");
    let login = lab.path("login");
    fs::write(&login, "alice:secret\n").unwrap();
    let ended = bench(&lab, &far, &json, &format!("--duration 1 --login {login}"));
    let result = RunResult::load(json.as_ref());
    let _ = [&json, &login].map(fs::remove_file);
    let stderr = String::from_utf8_lossy(&ended.stderr);
    let result = result.unwrap_or_else(|error| panic!("{error}: {stderr}"));
    // As after any error.
    assert_eq!((ended.status.code(), &stderr[..]), (Some(1), ""));
    assert_eq!(result.server.as_deref(), Some("1.2.3-stub, sunder 9.8.7"));
    let step = &result.steps[0];
    assert_eq!((step.outages.reconnects, step.outages.requests_lost), (2, 2));
    assert_eq!((step.errors, step.latency.all.count), (2, step.requests + 2));
    let gaps = &step.outages;
    assert!(gaps.longest_gap_s > 0.0 && gaps.gap_s > gaps.longest_gap_s, "{gaps:?}");
    assert!(gaps.gap_s < 1.0 && step.requests > CLOSE_AT as u64, "{} {gaps:?}", step.requests);
    assert!(result.notes.iter().any(|note| note.contains("2 opened again")), "{:?}", result.notes);
    let lines = server.stop();
    assert_eq!(lines.iter().filter(|line| *line == "login true").count(), 1 + 3 + 2);
    let ports: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("port ")).collect();
    let different: BTreeSet<&str> = ports.iter().copied().collect();
    assert_eq!((ports.len(), different.len()), (1 + 3 + 2, 1 + 3 + 2), "{ports:?}");
}

#[test]
fn a_bench_ends_when_its_server_exits() {
    let lab = Lab::new();
    let (_near, far) = lab.veth(CLIENT);
    let mut server = lab.role("leaving-server").inside("client").start();
    server.expect("ready");
    let json = lab.path("bench.json");
    let ended = bench(&lab, &far, &json, "--duration 60 --timeout 1");
    let result = RunResult::load(json.as_ref());
    let _ = fs::remove_file(&json);
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    for words in ["closed connection", "no new one: the server refused it", "answers so far"] {
        assert!(stderr.contains(words), "no '{words}' in: {stderr}");
    }
    // The result up to then.
    let result = result.unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let step = &result.steps[0];
    // Two of its three connections may have received their answers just before the exit.
    let lost = step.outages.requests_lost;
    assert!(step.outages.reconnects == 2 && (2 + 1..=2 + 3).contains(&lost), "{:?}", step.outages);
    assert!(step.elapsed_s < 30.0, "{} s", step.elapsed_s);
    server.stop();
}
