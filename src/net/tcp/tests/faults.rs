//! Streams over a wire that loses, duplicates, reorders and corrupts frames.

use smoltcp::socket::tcp::State;

use super::peer::Client;
use super::wire::{Bench, TestPort, config};
use crate::base::stats::Counter;
use crate::net::Transport;
use crate::net::tcp::fault::{Faults, FaultyPort};

/// Byte number `at` of the stream that connection `n` sends.
fn byte(n: usize, at: usize) -> u8 {
    let x = (at / 8) as u64 ^ (n as u64) << 40;
    (x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (at % 8 * 8)) as u8
}

/// Echoes `bytes` bytes on each of a few connections; returns the simulated microseconds it took.
fn echo(faults: Faults, bytes: usize) -> (Bench<FaultyPort<TestPort>>, u64) {
    let end = TestPort::default();
    let mut bench = Bench::with_port(&config(), FaultyPort::new(end.clone(), faults), &end);
    let mut client = Client::new(faults.seed, &["10.0.0.2/24", "fd00::2/64"]);
    let handles: Vec<_> = (0..4)
        .map(|n| {
            let to = ["10.0.0.1:11211", "[fd00::1]:11211"][n % 2];
            client.connect(to, 40000 + n as u16, 32 * 1024)
        })
        .collect();
    let start_us = bench.now.uptime_us;
    let (mut sent, mut got) = ([0; 4], [0; 4]);
    while handles.iter().any(|&handle| client.socket(handle).state() != State::Closed) {
        assert!(bench.now.uptime_us - start_us < 600_000_000, "stuck at {sent:?} {got:?}");
        for (n, &handle) in handles.iter().enumerate() {
            let socket = client.socket(handle);
            while sent[n] < bytes && socket.can_send() {
                let taken = socket.send(|out| {
                    let len = out.len().min(bytes - sent[n]);
                    out[..len].iter_mut().enumerate().for_each(|(i, b)| *b = byte(n, sent[n] + i));
                    (len, len)
                });
                sent[n] += taken.unwrap();
            }
            while socket.can_recv() {
                let arrived = socket.recv(|piece| {
                    for (i, &b) in piece.iter().enumerate() {
                        assert_eq!(b, byte(n, got[n] + i), "connection {n}, byte {}", got[n] + i);
                    }
                    (piece.len(), piece.len())
                });
                got[n] += arrived.unwrap();
            }
            if got[n] == bytes {
                socket.close();
            }
        }
        client.run(&bench);
        bench.run();
        bench.now.uptime_us += 50;
    }
    assert_eq!(got, [bytes; 4]);
    bench.wait(40_000_000);
    assert_eq!(bench.stack.connections(), 0, "connections left behind");
    assert_eq!(bench.handler.closed.len(), 4);
    let took_us = bench.now.uptime_us - start_us;
    (bench, took_us)
}

#[test]
fn streams_are_complete_whatever_the_wire_does() {
    for seed in 1..4 {
        let faults = Faults {
            drop_ppm: 10_000,
            reorder_ppm: 10_000,
            duplicate_ppm: 10_000,
            corrupt_ppm: 0,
            seed,
        };
        let (bench, _) = echo(faults, 1 << 20);
        assert_eq!(bench.count(Counter::FramesMalformed), 0);
        // Of 4 MiB in 1460 bytes or less, 1 in 100 is lost, and acknowledgements are too.
        let again = bench.count(Counter::SegmentsRetransmitted);
        assert!((10..1_000).contains(&again), "{again}");
        assert_eq!(bench.count(Counter::FramesBadChecksum), 0);
    }
}

#[test]
fn damage_is_detected_and_recovered() {
    let faults = Faults {
        drop_ppm: 20_000,
        reorder_ppm: 20_000,
        duplicate_ppm: 20_000,
        corrupt_ppm: 20_000,
        seed: 99,
    };
    let (bench, _) = echo(faults, 256 << 10);
    assert!(bench.count(Counter::FramesBadChecksum) > 10);
}

#[test]
fn a_perfect_wire_needs_no_retransmissions() {
    let (bench, took_us) = echo(Faults { seed: 5, ..Faults::default() }, 1 << 20);
    assert_eq!(bench.count(Counter::SegmentsRetransmitted), 0);
    assert!(took_us < 41_000_000, "{took_us} us, including 40 s to close");
}
