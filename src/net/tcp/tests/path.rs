//! Paths that are narrower than the device.

use std::net::{IpAddr, SocketAddr};

use super::peer::{ACK, Hand, PSH, RST, SYN, packet, seal, see};
use super::wire::{Bench, VecFrame, config};
use crate::base::limits::{TCP_PATH_LIFE_US, TCP_PATHS_KNOWN};
use crate::base::stats::Counter;
use crate::net::tcp::StackConfig;
use crate::net::tcp::headers::be32;

const PAIRS: [(&str, &str); 2] =
    [("192.168.7.2:40000", "10.0.0.1:11211"), ("[fd99::2]:40000", "[fd00::1]:11211")];
const ROUTERS: [&str; 2] = ["10.0.0.254", "fd00::fe"];

fn quiet(config: &StackConfig) -> Bench {
    let mut bench = Bench::new(config);
    bench.run();
    bench.sent();
    bench
}

/// A connection whose peer accepts segments as long as its Ethernet does.
fn open(bench: &mut Bench, from: &str, to: &str) -> Hand {
    let mut hand = Hand { from: from.into(), to: to.into(), seq: 1000, ack: 0 };
    let answer = bench.exchange(hand.craft(SYN).options(&[2, 4, 0x05, 0xb4]).frame());
    let seen = see(answer.last().unwrap());
    assert_eq!((answer.len(), seen.flags, seen.ack), (1, SYN | ACK, 1001));
    hand.seq = 1001;
    hand.ack = seen.seq.wrapping_add(1);
    bench.exchange(hand.craft(ACK).frame());
    hand
}

/// Sends `bytes` to be echoed, and returns the frames of the answer.
fn echo(bench: &mut Bench, hand: &mut Hand, bytes: usize) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    for piece in vec![b'x'; bytes].chunks(1460) {
        sent.extend(bench.exchange(hand.craft(ACK | PSH).payload(piece).frame()));
        hand.seq = hand.seq.wrapping_add(piece.len() as u32);
    }
    sent
}

/// A router's report of `mtu` about `frame`, which it could not forward.
fn too_big(frame: &[u8], mtu: u32) -> Vec<u8> {
    let is_v4 = frame[12] == 8;
    let quote = &frame[14..(14 + 548).min(frame.len())];
    let mut body = if is_v4 { vec![3, 4, 0, 0, 0, 0] } else { vec![2, 0, 0, 0] };
    match is_v4 {
        true => body.extend((mtu as u16).to_be_bytes()),
        false => body.extend(mtu.to_be_bytes()),
    }
    body.extend(quote);
    let to: IpAddr = PAIRS[usize::from(!is_v4)].1.parse::<SocketAddr>().unwrap().ip();
    let router = ROUTERS[usize::from(!is_v4)].parse().unwrap();
    packet(router, to, if is_v4 { 1 } else { 58 }, &body)
}

fn longest(frames: &[Vec<u8>]) -> usize {
    frames.iter().map(|frame| frame.len() - 14).max().unwrap_or(0)
}

/// Acknowledges what arrives, like a client, until nothing does for a second; returns the number of
/// bytes that arrived, each counted once, and the longest packet.
fn receive(bench: &mut Bench, hand: &mut Hand) -> (usize, usize) {
    let (mut bytes, mut longest_bytes) = (0, 0);
    for _ in 0..1000 {
        bench.wait(1_000);
        let frames = bench.sent();
        longest_bytes = longest_bytes.max(longest(&frames));
        for mut frame in frames.into_iter().filter(|frame| frame[0] & 1 == 0) {
            let before = frame.clone();
            seal(&mut frame);
            assert_eq!(frame, before, "a wrong checksum");
            let ip_bytes = if frame[12] == 8 { 20 } else { 40 };
            let tcp = &frame[14 + ip_bytes..];
            let payload_bytes = tcp.len() - usize::from(tcp[12] >> 4) * 4;
            if be32(tcp, 4) == hand.ack {
                hand.ack = hand.ack.wrapping_add(payload_bytes as u32);
                bytes += payload_bytes;
            }
        }
        bench.exchange_quietly(hand.craft(ACK).frame());
    }
    (bytes, longest_bytes)
}

#[test]
fn a_routers_report_is_used_remembered_and_forgotten() {
    for ((peer, to), told, fits) in [(PAIRS[0], 1400, 1392), (PAIRS[1], 1300, 1296)] {
        let mut bench = quiet(&config());
        let mut hand = open(&mut bench, peer, to);
        let lost = echo(&mut bench, &mut hand, 4000);
        assert_eq!(longest(&lost), 1500);
        let big = lost.iter().find(|frame| frame.len() == 1514).unwrap();
        bench.exchange_quietly(too_big(big, told));
        assert_eq!(bench.count(Counter::PathMtuLowered), 1);
        let (bytes, longest_bytes) = receive(&mut bench, &mut hand);
        assert_eq!((bytes, longest_bytes), (4000, fits));

        // Other connections to the same destination start with it.
        let mut next = open(&mut bench, &peer.replace("40000", "40001"), to);
        let sent = echo(&mut bench, &mut next, 3000);
        assert_eq!(longest(&sent), fits);
        receive(&mut bench, &mut next);
        // Other destinations are not affected.
        let other = peer.replace("7.2", "7.3").replace("::2", "::3");
        let mut other = open(&mut bench, &other, to);
        assert_eq!(longest(&echo(&mut bench, &mut other, 3000)), 1500);
        receive(&mut bench, &mut other);

        bench.now.uptime_us += TCP_PATH_LIFE_US;
        for _ in 0..1000 {
            bench.wait(10_000);
        }
        bench.sent();
        let mut late = open(&mut bench, &peer.replace("40000", "40002"), to);
        assert_eq!(longest(&echo(&mut bench, &mut late, 3000)), 1500, "probed again");
    }
}

#[test]
fn an_open_connection_is_widened_again() {
    let mut bench = quiet(&config());
    let mut hand = open(&mut bench, PAIRS[0].0, PAIRS[0].1);
    let lost = echo(&mut bench, &mut hand, 2000);
    bench.exchange_quietly(too_big(lost.iter().max_by_key(|frame| frame.len()).unwrap(), 1000));
    receive(&mut bench, &mut hand);
    // Ten minutes pass, with some traffic now and then.
    for _ in 0..30 {
        bench.now.uptime_us += TCP_PATH_LIFE_US / 30;
        bench.exchange_quietly(hand.craft(ACK).frame());
        bench.wait(10_000);
    }
    bench.wait(5_000_000);
    bench.sent();
    let sent = echo(&mut bench, &mut hand, 2800);
    assert!(longest(&sent) > 1400, "{}", longest(&sent));
}

#[test]
fn an_implausible_report_changes_nothing() {
    for (pair, (peer, to)) in PAIRS.into_iter().enumerate() {
        let mut bench = quiet(&config());
        let mut hand = open(&mut bench, peer, to);
        let lost = echo(&mut bench, &mut hand, 4000);
        let big = lost.iter().find(|frame| frame.len() == 1514).unwrap().clone();
        let ip_bytes = [20, 40][pair];
        let change = |at: usize, by: u8| {
            let mut frame = big.clone();
            frame[at] = frame[at].wrapping_add(by);
            frame
        };
        let tcp = 14 + ip_bytes;
        let mut reports = vec![
            // No flow with that port; a sequence number far ahead, and one acknowledged already.
            too_big(&change(tcp + 3, 1), 1400),
            too_big(&change(tcp + 5, 1), 1400),
            too_big(&change(tcp + 4, 0x80), 1400),
            // No narrower than before, wider than the packet, absurdly narrow.
            too_big(&big, 1500),
            too_big(&big, 9000),
            too_big(&big, [551, 1279][pair]),
            too_big(&big, [68, 0][pair]),
            // Another protocol.
            too_big(&change([14 + 9, 14 + 6][pair], 11), 1400),
        ];
        // Truncated at every position.
        let whole = too_big(&big, 1400);
        for bytes in 0..ip_bytes + 16 {
            let router = ROUTERS[pair].parse().unwrap();
            let to: IpAddr = to.parse::<SocketAddr>().unwrap().ip();
            let body = &whole[14 + ip_bytes..][..bytes];
            reports.push(packet(router, to, [1, 58][pair], body));
        }
        // A short packet was in flight, not a long one.
        let mut short = lost.iter().min_by_key(|frame| frame.len()).unwrap().clone();
        short[tcp + 4..tcp + 8].copy_from_slice(&big[tcp + 4..tcp + 8]);
        reports.push(too_big(&short, 1400));
        for (n, report) in reports.into_iter().enumerate() {
            bench.exchange_quietly(report);
            assert_eq!(bench.count(Counter::PathMtuLowered), 0, "{peer}: report {n}");
        }
        bench.wait(100_000);
        assert_eq!(longest(&bench.sent()), 1500);
        // An acknowledged packet is not in flight.
        receive(&mut bench, &mut hand);
        bench.exchange_quietly(too_big(&big, 1400));
        assert_eq!(bench.count(Counter::PathMtuLowered), 0);
    }
}

#[test]
fn data_that_waits_for_the_peers_window_is_not_in_flight() {
    for (peer, to) in PAIRS {
        let mut bench = quiet(&config());
        let mut hand = open(&mut bench, peer, to);
        let mut narrow = hand.craft(ACK);
        narrow.window = 1460;
        bench.exchange(narrow.frame());
        let mut sent = Vec::new();
        for _ in 0..3 {
            let mut piece = hand.craft(ACK | PSH).payload(&[b'x'; 1400]);
            piece.window = 1460;
            sent.extend(bench.exchange(piece.frame()));
            hand.seq = hand.seq.wrapping_add(1400);
        }
        let tcp = sent[0].len() - see(&sent[0]).payload.len() - 20;
        let sent_bytes: usize = sent.iter().map(|frame| see(frame).payload.len()).sum();
        assert_eq!(sent_bytes, 1460, "of 4,200 that were written");
        // As if everything were sent: of the first byte that was not, and of the last.
        for ahead in [1460, 4199] {
            let mut never = sent[0].clone();
            never[tcp + 4..tcp + 8].copy_from_slice(&hand.ack.wrapping_add(ahead).to_be_bytes());
            bench.exchange_quietly(too_big(&never, 1300));
            assert_eq!(bench.count(Counter::PathMtuLowered), 0, "{peer}: {ahead}");
        }
        bench.exchange_quietly(too_big(&sent[0], 1300));
        assert_eq!(bench.count(Counter::PathMtuLowered), 1);
    }
}

#[test]
fn a_packet_after_a_retransmitted_one_is_in_flight() {
    for (peer, to) in PAIRS {
        let mut bench = quiet(&config());
        let mut hand = open(&mut bench, peer, to);
        // Some exchanges, after which it sends several segments at a time.
        for _ in 0..3 {
            echo(&mut bench, &mut hand, 4000);
            bench.queues.borrow_mut().to_client.clear();
            receive(&mut bench, &mut hand);
        }
        let mut lost = echo(&mut bench, &mut hand, 3 * 1460);
        lost.retain(|frame| longest(std::slice::from_ref(frame)) == 1500);
        let first = see(&lost[0]).seq;
        let newest = lost.iter().max_by_key(|frame| see(frame).seq.wrapping_sub(first)).unwrap();
        // The retransmission time-out: only the first, again.
        let before = bench.count(Counter::SegmentsRetransmitted);
        let mut again = Vec::new();
        while again.is_empty() {
            bench.wait(1_000);
            again = bench.sent();
            again.retain(|frame| !see(frame).payload.is_empty());
        }
        let again: Vec<u32> = again.iter().map(|frame| see(frame).seq).collect();
        assert!(again.contains(&first) && !again.contains(&see(newest).seq), "{again:?}");
        assert_eq!(bench.count(Counter::SegmentsRetransmitted) - before, again.len() as u64);
        bench.exchange_quietly(too_big(newest, 1300));
        assert_eq!(bench.count(Counter::PathMtuLowered), 1, "{peer}");
    }
}

#[test]
fn a_report_without_an_mtu_means_the_next_smaller_one() {
    let mut bench = quiet(&config());
    let mut hand = open(&mut bench, PAIRS[0].0, PAIRS[0].1);
    let lost = echo(&mut bench, &mut hand, 4000);
    bench.exchange_quietly(too_big(lost.iter().find(|f| f.len() == 1514).unwrap(), 0));
    let (bytes, longest_bytes) = receive(&mut bench, &mut hand);
    assert_eq!((bytes, longest_bytes), (4000, 1488));
}

#[test]
fn a_report_received_by_another_worker_reaches_the_flow() {
    let config = config();
    let (mut ours, mut other) = (quiet(&config), quiet(&config));
    let mut hand = open(&mut ours, PAIRS[0].0, PAIRS[0].1);
    let lost = echo(&mut ours, &mut hand, 4000);
    let big = lost.iter().find(|frame| frame.len() == 1514).unwrap();
    other.exchange_quietly(too_big(big, 1400));
    let (bytes, longest_bytes) = receive(&mut ours, &mut hand);
    assert_eq!((bytes, longest_bytes), (4000, 1392));
    // A flood of them is bounded, and the newest is not lost.
    for _ in 0..1000 {
        other.queues.borrow_mut().to_server.push_back(VecFrame::new(too_big(big, 1200)));
    }
    other.run();
    ours.run();
    assert_eq!(ours.count(Counter::PathMtuLowered), 1, "it is no longer in flight");
}

#[test]
fn the_table_of_paths_is_bounded() {
    let mut own = config();
    own.allow(2 * TCP_PATHS_KNOWN);
    let mut bench = quiet(&own);
    for n in 0..2 * TCP_PATHS_KNOWN as u32 - 1 {
        let peer = format!("172.16.{}.{}:40000", n / 200, 1 + n % 200);
        let mut hand = open(&mut bench, &peer, PAIRS[0].1);
        let lost = echo(&mut bench, &mut hand, 2000);
        let big = lost.iter().max_by_key(|frame| frame.len()).unwrap();
        bench.exchange_quietly(too_big(big, 600 + n % 700));
        bench.exchange(hand.craft(RST).frame());
        bench.now.uptime_us += 2_000;
    }
    assert!(bench.count(Counter::PathMtuLowered) > TCP_PATHS_KNOWN as u64);
}

#[test]
fn the_devices_own_mtu_is_followed() {
    let config = config();
    let mut bench = quiet(&config);
    let mut hand = open(&mut bench, PAIRS[0].0, PAIRS[0].1);
    for mtu in [1280, 9000, 700, 1500] {
        config.board.set_mtu(mtu);
        bench.wait(1_000);
        let sent = echo(&mut bench, &mut hand, 4000);
        assert_eq!(longest(&sent), mtu.min(1500));
        // The last frames of what is echoed in pieces arrive with the acknowledgements.
        hand.ack = hand.ack.wrapping_add(sent.iter().map(|f| f.len() as u32 - 54).sum());
        receive(&mut bench, &mut hand);
    }
}
