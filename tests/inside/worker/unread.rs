//! Clients that write all their requests before they read the first byte of an answer.

use sunder::base::limits::{INTAKE_BUDGET_BYTES, INTAKE_BYTES_MAX};

use super::*;

/// A get of many keys in one line, sets with replies, quiet binary gets: each longer than the
/// buffers of two streams.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let keys = (0..60_000).map(|i| format!(" key-of-thirty-bytes-{:010}", i % 50));
    let get = format!("get{}\r\nversion\r\n", keys.collect::<String>()).into_bytes();
    let set = |i: usize| format!("set set{} 0 0 {}\r\n{}\r\n", i % 90, i % 70, "v".repeat(i % 70));
    let sets = (0..50_000).map(set).collect::<String>().into_bytes();
    let long = |i| format!("set long{i} 0 0 20000\r\n{}\r\nget long{i}\r\n", "v".repeat(20_000));
    let longs = (0..100).map(long).collect::<String>().into_bytes();
    let mut quiet = Vec::new();
    for i in 0..20_000 {
        let key = format!("key-of-thirty-bytes-{:010}", i % 60);
        let mut header = [0; 24];
        header[..2].copy_from_slice(&[0x80, 0x0d]);
        header[3] = key.len() as u8;
        header[11] = key.len() as u8;
        header[12..16].copy_from_slice(&(i as u32).to_be_bytes());
        quiet.extend_from_slice(&header);
        quiet.extend_from_slice(key.as_bytes());
    }
    let mut noop = [0; 24];
    noop[..2].copy_from_slice(&[0x80, 0x0a]);
    quiet.extend_from_slice(&noop);
    vec![("keys", get), ("sets", sets), ("long values", longs), ("quiet gets", quiet)]
}

#[test]
fn a_client_that_writes_everything_first_gets_the_same_answers() {
    for workers in 1..=2 {
        let shared = shared(workers);
        let tiers: Vec<_> = (0..workers).map(|w| memory(&shared, w)).collect();
        let mut crew = Crew::new(&shared, &tiers);
        let writer = crew.pipes[0].connect(64 << 10, 64 << 10, 64 << 10);
        for i in 0..50 {
            let set = format!("set key-of-thirty-bytes-{i:010} 0 0 99\r\n{}\r\n", "v".repeat(99));
            crew.talk(0, writer, set.as_bytes());
        }
        for (name, request) in requests() {
            // One reads concurrently, the other does not.
            let a = crew.pipes[0].connect(64 << 10, 64 << 10, 64 << 10);
            let expected = crew.talk(0, a, &request);
            for piece in [1000, 16 << 10] {
                let b = crew.pipes[0].connect(16 << 10, 16 << 10, piece);
                crew.write_all(0, b, &request, 2_000);
                let reply = crew.talk(0, b, b"");
                assert!(reply == expected, "{name}: {} of {}", reply.len(), expected.len());
            }
        }
    }
}

#[test]
fn a_client_that_closes_after_writing_everything_gets_all_answers() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let (_, request) = requests().swap_remove(1);
    let c = crew.pipes[0].connect(16 << 10, 4096, 4096);
    crew.write_all(0, c, &request, 2_000);
    crew.pipes[0].pipe(c).is_peer_finished = true;
    let mut reply = Vec::new();
    while !crew.pipes[0].pipe(c).is_closed {
        crew.turn();
        crew.pipes[0].receive(c, &mut reply);
    }
    crew.pipes[0].receive(c, &mut reply);
    assert!(reply == b"STORED\r\n".repeat(50_000));
}

#[test]
fn a_client_that_closes_before_the_last_byte_of_a_long_value_is_closed() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    // Received in place, and gathered.
    for length in [33_000, 1_000_000, 9_000_000] {
        for end in ["", "\r"] {
            let c = crew.pipes[0].connect(64 << 10, 4096, 64 << 10);
            let request = format!("set k 0 0 {length}\r\n{}{end}", "v".repeat(length));
            crew.write_all(0, c, request.as_bytes(), 2_000);
            crew.turn();
            crew.pipes[0].pipe(c).is_peer_finished = true;
            crew.turn();
            assert!(crew.pipes[0].pipe(c).is_closed, "{length} {end:?}");
        }
    }
}

/// Sends gets on connection `c` for as long as they are read; returns the number of bytes.
fn pour(crew: &mut Crew<'_>, c: usize) -> usize {
    let gets = b"get k\r\n".repeat(9_000);
    let (mut sent, mut quiet) = (0, 0);
    while quiet < 5 {
        let n = crew.pipes[0].send(c, &gets[sent % 7..]);
        sent += n;
        quiet = if n == 0 { quiet + 1 } else { 0 };
        crew.turn();
    }
    sent
}

#[test]
fn kept_input_is_bounded_shared_and_released() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let connect = |crew: &mut Crew<'_>| crew.pipes[0].connect(64 << 10, 4096, 64 << 10);
    let c = connect(&mut crew);
    crew.talk(0, c, format!("set k 0 0 1000\r\n{}\r\n", "v".repeat(1000)).as_bytes());
    // The pipe itself, the output's contents, and two blocks.
    let beside = (64 << 10) + 4096 + 2 * sunder::base::limits::BLOCK_BYTES;
    let before = buffer::blocks_made();
    let first = pour(&mut crew, c);
    assert!((INTAKE_BYTES_MAX - beside..INTAKE_BYTES_MAX + beside).contains(&first), "{first}");
    let greedy: Vec<usize> = (0..30).map(|_| connect(&mut crew)).collect();
    let all: usize = greedy.iter().map(|&c| pour(&mut crew, c)).sum();
    assert!(first + all < INTAKE_BUDGET_BYTES + 31 * beside, "{first} and {all}");
    let made = (buffer::blocks_made() - before) * sunder::base::limits::BLOCK_BYTES;
    assert!(made <= INTAKE_BUDGET_BYTES, "{made} bytes");
    let newcomer = connect(&mut crew);
    let late = pour(&mut crew, newcomer);
    assert!(late > 100_000, "one that comes late: {late}");
    // It is not overdue while it writes, but is when it stops.
    crew.now.uptime_us += 60_000_000;
    assert!(!crew.pipes[0].state(c).is_overdue(false, crew.now));
    crew.now.uptime_us += 110_000_000;
    assert!(crew.pipes[0].state(c).is_overdue(false, crew.now));
    for c in greedy.into_iter().chain([c, newcomer]) {
        crew.pipes[0].reset(c);
    }
    crew.turn();
    let c = connect(&mut crew);
    let again = pour(&mut crew, c);
    assert!(again > INTAKE_BYTES_MAX - beside, "{again}");
}

#[test]
fn what_a_client_wrote_first_counts_no_more_once_it_is_answered() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let c = crew.pipes[0].connect(16 << 10, 4096, 16 << 10);
    let key = "k".repeat(240);
    crew.talk(0, c, format!("set {key} 0 0 1000\r\n{}\r\n", "v".repeat(1000)).as_bytes());
    let get = format!("get {key}\r\n").into_bytes();
    let gets = get.repeat(100);
    let mut taken = Vec::new();
    // More than all connections may keep at a time.
    for _ in 0..2 + INTAKE_BUDGET_BYTES / INTAKE_BYTES_MAX {
        let (mut sent, mut quiet) = (0, 0);
        while quiet < 5 {
            let n = crew.pipes[0].send(c, &gets[sent % get.len()..]);
            sent += n;
            quiet = if n == 0 { quiet + 1 } else { 0 };
            crew.turn();
        }
        taken.push(sent);
        let rest = &get[sent % get.len()..];
        let reply = crew.talk(0, c, if rest.len() < get.len() { rest } else { b"" });
        assert!(reply.ends_with(b"END\r\n"));
    }
    assert!(taken.iter().all(|&n| n + (32 << 10) > taken[0]), "{taken:?}");
    assert!(taken[0] > INTAKE_BYTES_MAX / 2);
}

#[test]
fn a_client_that_writes_has_time_to_read() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let c = crew.pipes[0].connect(64 << 10, 4096, 64 << 10);
    crew.talk(0, c, format!("set k 0 0 1000\r\n{}\r\n", "v".repeat(1000)).as_bytes());
    let get = format!("get k{}\r\n", " k".repeat(1_000));
    let gets = get.repeat(20);
    let (mut sent, mut second) = (0, 0);
    let is_overdue = |crew: &Crew<'_>, is_contended: bool| {
        crew.pipes[0].state(c).is_overdue(is_contended, crew.now)
    };
    // At a little more than the slowest rate that counts as progress, for as long as it is read.
    loop {
        let (begun, mut n) = (sent, 0);
        for _ in 0..4 {
            n += crew.pipes[0].send(c, &gets.as_bytes()[sent % get.len()..][..17_500]);
            sent = begun + n;
            crew.turn();
        }
        if n < 70_000 {
            break;
        }
        assert!(!is_overdue(&crew, false) && !is_overdue(&crew, true), "{second} s");
        crew.now.uptime_us += 1_000_000;
        second += 1;
    }
    assert!(second > 80, "{second} s");
    // Then it has the time that its bytes have earned, and a minute.
    crew.now.uptime_us += 4_000_000;
    assert!(is_overdue(&crew, true) && !is_overdue(&crew, false));
    crew.now.uptime_us += 50_000_000;
    assert!(!is_overdue(&crew, false));
    crew.now.uptime_us += 20_000_000;
    assert!(is_overdue(&crew, false));
}

#[test]
fn the_rest_of_a_bad_line_is_skipped_without_another_byte() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let line = format!("get{} {}{}\r\n", " k".repeat(2000), "x".repeat(251), " more".repeat(100));
    for piece in [50, 100, 333] {
        let c = crew.pipes[0].connect(16 << 10, 16 << 10, piece);
        let request = format!("{line}version\r\n");
        assert_eq!(crew.pipes[0].send(c, request.as_bytes()), request.len());
        for _ in 0..100 {
            crew.turn();
        }
        let mut reply = Vec::new();
        crew.pipes[0].receive(c, &mut reply);
        let reply = text(&reply);
        assert!(reply.ends_with(&format!("VERSION {}\r\n", sunder::protocol::VERSION)), "{reply}");
    }
}

#[test]
fn the_rest_of_a_bad_line_is_skipped_wherever_it_is_split() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let line = format!("get{} {}{}\r\n", " k".repeat(2000), "x".repeat(251), " more".repeat(100));
    for piece in [50, 100, 333, 16 << 10] {
        let c = crew.pipes[0].connect(16 << 10, 16 << 10, piece);
        let reply = crew.talk(0, c, format!("{line}version\r\n").as_bytes());
        let expected = "CLIENT_ERROR bad command line format\r\nVERSION ";
        assert!(text(&reply).starts_with(expected), "{piece}: {}", text(&reply));
    }
}
