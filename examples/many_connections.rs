//! Very many concurrent connections to one memcached server, each of them answered.
//!
//! Opens all connections, then sends a request on each before it reads any answer, so that all
//! requests are in flight together; once with short values, once with values longer than any buffer
//! of the server. Every byte is checked. With the server's process id it prints the resident memory
//! per connection: opened and idle, after short requests, and with all its buffers used. Exits with
//! 1 on the first wrong answer.
//!
//! usage: many_connections HOST:PORT [--connections 15000] [--server-pid PID]
//!                         [--bytes-per-connection-max BYTES]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A server that sends nothing for this long has lost a reply.
const SILENCE: Duration = Duration::from_secs(30);

/// Connections that are opened, or used with long values, at the same time.
const THREADS: usize = 16;

/// Few keys, so that the memory of items is negligible compared with connections.
const KEYS: usize = 64;

const SHORT_BYTES: usize = 100;

/// Longer than any ring or buffer that the server may have for a connection.
const LONG_BYTES: usize = 40_000;

struct Plan {
    address: String,
    connections: usize,
    server_pid: Option<u32>,
    bytes_max: u64,
}

fn main() -> ExitCode {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("many_connections: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("many_connections: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan() -> Result<Plan, String> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("expected HOST:PORT")?;
    let mut plan = Plan { address, connections: 15_000, server_pid: None, bytes_max: u64::MAX };
    while let Some(flag) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse::<u64>().ok());
        let value = value.filter(|&value| value > 0);
        let value = value.ok_or_else(|| format!("{flag}: expected a number above 0"))?;
        match &flag[..] {
            "--connections" => plan.connections = value as usize,
            "--server-pid" => plan.server_pid = Some(value as u32),
            "--bytes-per-connection-max" => plan.bytes_max = value,
            _ => return Err(format!("{flag}: no such flag")),
        }
    }
    Ok(plan)
}

fn run(plan: &Plan) -> Result<(), String> {
    // One-time costs of the server do not count.
    let mut warm = open(plan, 1)?;
    exchange(&mut warm, SHORT_BYTES)?;
    exchange(&mut warm, LONG_BYTES)?;
    drop(warm);
    let before = resident_bytes(plan)?;

    let start = Instant::now();
    let mut connections = open(plan, plan.connections)?;
    println!("{} connections open after {:.1} s", plan.connections, start.elapsed().as_secs_f64());
    report(plan, "opened and silent", before)?;
    for round in 1..=2 {
        let start = Instant::now();
        exchange(&mut connections, SHORT_BYTES)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("round {round}: all in flight together, all correct after {seconds:.1} s");
    }
    report(plan, "idle after short requests", before)?;
    let start = Instant::now();
    by_thread(&mut connections, |connection, index| {
        ask(connection, index, LONG_BYTES)?;
        expect(connection, index, LONG_BYTES)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    println!("round 3: {LONG_BYTES} bytes both ways on each, all right after {seconds:.1} s");
    report(plan, "idle after long requests", before)
}

/// Opens `count` connections.
fn open(plan: &Plan, count: usize) -> Result<Vec<TcpStream>, String> {
    let share = |thread: usize| (thread..count).step_by(THREADS);
    let connect = |_| {
        let stream = TcpStream::connect(&plan.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(stream)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|n| scope.spawn(move || share(n).map(connect).collect::<io::Result<Vec<_>>>()))
            .collect();
        let mut streams = Vec::with_capacity(count);
        for thread in threads {
            let opened = thread.join().map_err(|_| "a thread panicked")?;
            let opened = opened.map_err(|e| format!("{}: connect: {e}", plan.address))?;
            streams.extend(opened);
        }
        Ok(streams)
    })
}

/// Sends requests on all connections, then reads all answers.
fn exchange(connections: &mut [TcpStream], bytes: usize) -> Result<(), String> {
    by_thread(connections, |connection, index| ask(connection, index, bytes))?;
    by_thread(connections, |connection, index| expect(connection, index, bytes))
}

/// Does `work` for each connection, several at a time; returns the first error.
fn by_thread(
    connections: &mut [TcpStream],
    work: impl Fn(&mut TcpStream, usize) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let share = connections.len().div_ceil(THREADS);
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = connections
            .chunks_mut(share)
            .enumerate()
            .map(|(n, chunk)| {
                scope.spawn(move || {
                    chunk.iter_mut().enumerate().try_for_each(|(i, connection)| {
                        let index = n * share + i;
                        work(connection, index).map_err(|e| format!("connection {index}: {e}"))
                    })
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| "a thread panicked")?)
    })
}

/// The value of a key: every byte depends on both arguments.
fn value_of(key: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (key * 31 + at * 7 + at / 251) as u8).collect()
}

fn ask(connection: &mut TcpStream, index: usize, bytes: usize) -> Result<(), String> {
    let key = index % KEYS;
    let mut request = format!("set many-{bytes}-{key} {key} 0 {bytes}\r\n").into_bytes();
    request.extend(value_of(key, bytes));
    request.extend(format!("\r\nget many-{bytes}-{key}\r\n").into_bytes());
    connection.write_all(&request).map_err(|error| format!("write: {error}"))
}

fn expect(connection: &mut TcpStream, index: usize, bytes: usize) -> Result<(), String> {
    let key = index % KEYS;
    let mut expected = format!("STORED\r\nVALUE many-{bytes}-{key} {key} {bytes}\r\n").into_bytes();
    expected.extend(value_of(key, bytes));
    expected.extend(b"\r\nEND\r\n");
    let mut answer = vec![0; expected.len()];
    connection.read_exact(&mut answer).map_err(|error| format!("read: {error}"))?;
    if answer == expected {
        return Ok(());
    }
    let at = answer.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    Err(format!("wrong from byte {at} on: '{}'", answer[..80].escape_ascii()))
}

/// Resident memory of the server, including its huge pages; 0 if it is not measured.
fn resident_bytes(plan: &Plan) -> Result<u64, String> {
    let Some(pid) = plan.server_pid else { return Ok(0) };
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let kilobytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Ok((kilobytes("VmRSS:") + kilobytes("HugetlbPages:")) * 1024)
}

fn report(plan: &Plan, when: &str, before: u64) -> Result<(), String> {
    if plan.server_pid.is_none() {
        return Ok(());
    }
    let now = resident_bytes(plan)?;
    let each = now.saturating_sub(before) / plan.connections as u64;
    println!("{when}: {each} resident bytes a connection ({} MiB in all)", now >> 20);
    if each > plan.bytes_max {
        return Err(format!("{when}: more than {} bytes a connection", plan.bytes_max));
    }
    Ok(())
}
