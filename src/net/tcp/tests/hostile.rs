//! Frames that no honest peer sends. Each is dropped and counted; a connection that existed before,
//! and one opened afterwards, work.

use proptest::prelude::*;

use super::peer::{ACK, Crafted, FIN, Hand, PSH, RST, SYN, packet, seal, see};
use super::wire::{Bench, CLIENT_MAC, Manner, config};
use crate::base::limits::{
    TCP_CHALLENGES_MAX, TCP_LINGER_US, TCP_STRAY_INTERVAL_US, TCP_STRAY_REPLIES_MAX,
    TCP_STRAY_REPLIES_MIN, TCP_SWEEP_PERIOD_US,
};
use crate::base::stats::Counter;
use crate::net::Transport;

const CLIENT: &str = "10.0.0.2:40000";
const SERVER: &str = "10.0.0.1:11211";

/// Sends frames that must be dropped under `counter`, around a connection that must not be
/// affected.
fn refused(counter: Counter, frames: &[Vec<u8>]) {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    for (n, frame) in frames.iter().enumerate() {
        let before = bench.count(counter);
        let answer = bench.exchange(frame.clone());
        assert!(answer.is_empty(), "frame {n} was answered: {answer:x?}");
        assert_eq!(bench.count(counter), before + 1, "frame {n} was not counted: {frame:x?}");
    }
    assert_eq!(bench.handler.opened.len(), 1);
    assert_eq!(hand.say(&mut bench, b"still here"), b"still here");
    let mut fresh = Hand::open(&mut bench, "10.0.0.3:40000", SERVER);
    assert_eq!(fresh.say(&mut bench, b"me too"), b"me too");
}

/// A segment with unmodified `options`, on a SYN and on data.
fn with_options(options: &[u8]) -> Vec<Vec<u8>> {
    let syn = Crafted::new("10.0.0.9:1234", SERVER, SYN, 1, 0).options(options);
    let data =
        Crafted::new(CLIENT, SERVER, ACK | PSH, 1001, 1).options(options).payload(b"get a\r\n");
    vec![syn.frame(), data.frame()]
}

fn syn() -> Vec<u8> {
    Crafted::new("10.0.0.9:1234", SERVER, SYN, 1, 0).frame()
}

/// A SYN with `change` applied to its frame and correct checksums.
fn spoiled(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = syn();
    change(&mut frame);
    seal(&mut frame);
    frame
}

#[test]
fn option_of_length_zero_cve_2020_24337_cve_2019_12258() {
    refused(Counter::FramesMalformed, &with_options(&[0x50, 0, 0, 0]));
    refused(Counter::FramesMalformed, &with_options(&[2, 0, 5, 0xb4]));
}

#[test]
fn option_of_length_one_cve_2018_16524() {
    refused(Counter::FramesMalformed, &with_options(&[0x50, 1, 1, 1]));
    refused(Counter::FramesMalformed, &with_options(&[3, 1, 7, 0]));
}

#[test]
fn option_cut_short_mirage_tcpip_56() {
    refused(Counter::FramesMalformed, &with_options(&[1, 2, 0, 0]));
    refused(Counter::FramesMalformed, &with_options(&[1, 1, 1, 0x50]));
}

#[test]
fn option_longer_than_the_header_uip_cve_2020_13988() {
    refused(Counter::FramesMalformed, &with_options(&[2, 0xff, 5, 0xb4]));
    refused(Counter::FramesMalformed, &with_options(&[5, 18, 0, 0, 0, 0, 0, 0]));
    refused(Counter::FramesMalformed, &with_options(&[8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
}

#[test]
fn segment_size_of_zero_cve_2018_16523() {
    let mut bench = Bench::new(&config());
    let mut hand = Hand { from: CLIENT.into(), to: SERVER.into(), seq: 1000, ack: 0 };
    bench.run();
    bench.sent();
    let answer = bench.exchange(hand.craft(SYN).options(&[2, 4, 0, 0]).frame());
    hand.seq += 1;
    hand.ack = see(&answer[0]).seq.wrapping_add(1);
    bench.exchange(hand.craft(ACK).frame());
    assert_eq!(hand.say(&mut bench, &[7; 400]), [7; 400]);
}

#[test]
fn segment_size_of_one_cve_2019_11477() {
    let mut bench = Bench::new(&config());
    let mut hand = Hand { from: CLIENT.into(), to: SERVER.into(), seq: 1000, ack: 0 };
    bench.run();
    bench.sent();
    let answer = bench.exchange(hand.craft(SYN).options(&[2, 4, 0, 1]).frame());
    hand.seq += 1;
    hand.ack = see(&answer[0]).seq.wrapping_add(1);
    bench.exchange(hand.craft(ACK).frame());
    let frame = hand.craft(ACK | PSH).payload(&[7; 1400]).frame();
    let answer = bench.exchange(frame);
    // Few and large enough, whatever the peer announces.
    assert!((1..=30).contains(&answer.len()), "{} segments", answer.len());
    assert!(answer.iter().all(|frame| see(frame).payload.len() >= 48
        || see(frame).payload.is_empty()
        || see(frame).flags & PSH != 0));
}

#[test]
fn urgent_pointer_zero_or_beyond_the_data_cve_2019_12255_cve_2020_17437() {
    let urgent = |pointer, payload: &[u8]| {
        let mut crafted = Crafted::new(CLIENT, SERVER, 0x20 | ACK | PSH, 1001, 1).payload(payload);
        crafted.urgent = pointer;
        crafted.frame()
    };
    let long = [b'u'; 1446];
    refused(
        Counter::FramesMalformed,
        &[
            urgent(0, b"x"),
            urgent(2, b"x"),
            urgent(0xffff, b""),
            urgent(1, &long),
            urgent(0, &[b'u'; 1600]),
        ],
    );
}

#[test]
fn wrong_header_lengths_cve_2018_16526() {
    let frames: Vec<_> = [0x40, 0x41, 0x44, 0x46, 0x4f, 0x35, 0x65, 0x05]
        .iter()
        .map(|&byte| spoiled(|frame| frame[14] = byte))
        .collect();
    refused(Counter::FramesMalformed, &frames);
    let frames: Vec<_> = [0, 0x10, 0x40, 0x60, 0xf0]
        .iter()
        .map(|&byte| spoiled(|frame| frame[14 + 20 + 12] = byte))
        .collect();
    refused(Counter::FramesMalformed, &frames);
}

#[test]
fn wrong_total_lengths_cve_2020_24341() {
    let frames: Vec<_> = [0u16, 19, 20, 39, 41, 1500, 0xffff]
        .iter()
        .map(|&bytes| spoiled(|frame| frame[16..18].copy_from_slice(&bytes.to_be_bytes())))
        .collect();
    refused(Counter::FramesMalformed, &frames);
    let cut: Vec<_> = [14, 15, 20, 33, 34, 53].iter().map(|&n| syn()[..n].to_vec()).collect();
    refused(Counter::FramesMalformed, &cut);
    refused(Counter::FramesMalformed, &[vec![], vec![0; 13]]);
}

#[test]
fn wrong_ipv6_lengths_cve_2020_17444() {
    let mut six = Crafted::new("[fd00::9]:1234", "[fd00::1]:11211", SYN, 1, 0).frame();
    six[18..20].copy_from_slice(&0xffffu16.to_be_bytes());
    let mut short = Crafted::new("[fd00::9]:1234", "[fd00::1]:11211", SYN, 1, 0).frame();
    short[18..20].copy_from_slice(&19u16.to_be_bytes());
    seal(&mut short);
    // A hop-by-hop header whose length wraps, a routing header, a fragment, destination options.
    let extension = |kind| {
        packet(
            "fd00::9".parse().unwrap(),
            "fd00::1".parse().unwrap(),
            kind,
            &[6, 0xff, 0, 0, 0, 0, 0, 0],
        )
    };
    let frames = [six, short, extension(0), extension(43), extension(44), extension(60)];
    refused(Counter::FramesMalformed, &frames);
}

#[test]
fn source_routes_cve_2019_12256() {
    let frame = |options: &[u8]| {
        spoiled(|frame| {
            frame.splice(34..34, options.iter().copied());
            frame[14] = 0x45 + (options.len() / 4) as u8;
            let bytes = 40 + options.len() as u16;
            frame[16..18].copy_from_slice(&bytes.to_be_bytes());
        })
    };
    let frames = [
        frame(&[0x83, 3, 0x27, 0x83, 3, 0x27, 0, 0]),
        frame(&[0x89, 7, 4, 10, 0, 0, 9, 0]),
        frame(&[0x83, 0, 0, 0]),
    ];
    refused(Counter::FramesMalformed, &frames);
}

#[test]
fn fragments_cve_2020_17438_cve_2018_5391() {
    let fragment =
        |field: u16| spoiled(|frame| frame[20..22].copy_from_slice(&field.to_be_bytes()));
    refused(
        Counter::FramesMalformed,
        &[fragment(0x2000), fragment(1), fragment(0x3fff), fragment(0x1fff)],
    );
}

#[test]
fn short_echo_cve_2020_17443() {
    let (from, to) = ("fd00::9".parse().unwrap(), "fd00::1".parse().unwrap());
    let frames: Vec<_> =
        (0..8).map(|n| packet(from, to, 58, &[128, 0, 0, 0, 0, 0, 0][..n.min(7)])).collect();
    refused(Counter::FramesMalformed, &frames);
    let (from, to) = ("10.0.0.9".parse().unwrap(), "10.0.0.1".parse().unwrap());
    let frames: Vec<_> =
        (0..8).map(|n| packet(from, to, 1, &[8, 0, 0, 0, 0, 0, 0][..n.min(7)])).collect();
    refused(Counter::FramesMalformed, &frames);
}

#[test]
fn neighbor_options_that_never_end() {
    let solicit = |options: &[u8]| {
        let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
        body.extend("fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        body.extend(options);
        packet("fd00::9".parse().unwrap(), "fd00::1".parse().unwrap(), 58, &body)
    };
    let mut far = solicit(&[1, 1, 2, 0, 0, 0, 0, 9]);
    far[21] = 254;
    let frames = [
        solicit(&[1, 0, 0, 0, 0, 0, 0, 0]),
        solicit(&[1, 2, 0, 0, 0, 0, 0, 0]),
        solicit(&[1]),
        solicit(&[1, 1, 3, 0, 0, 0, 0, 9]),
        far,
    ];
    refused(Counter::FramesMalformed, &frames);
}

#[test]
fn land_attack() {
    let land = Crafted::new(SERVER, SERVER, SYN, 1, 0).frame();
    let other = Crafted::new("10.1.0.1:5", SERVER, SYN, 1, 0).frame();
    let six = Crafted::new("[fd00::1]:11211", "[fd00::1]:11211", SYN, 1, 0).frame();
    refused(Counter::FramesMalformed, &[land, other, six]);
}

#[test]
fn sources_that_are_not_hosts() {
    let frames: Vec<_> = [
        "0.0.0.0:9",
        "0.1.2.3:9",
        "127.0.0.1:9",
        "224.0.0.1:9",
        "239.1.1.1:9",
        "240.0.0.1:9",
        "255.255.255.255:9",
        "10.0.0.255:9",
        "10.1.255.255:9",
    ]
    .iter()
    .map(|from| Crafted::new(from, SERVER, SYN, 1, 0).frame())
    .collect();
    refused(Counter::FramesMalformed, &frames);
    let frames: Vec<_> = ["[::]:9", "[::1]:9", "[ff02::1]:9", "[::ffff:10.0.0.9]:9"]
        .iter()
        .map(|from| Crafted::new(from, "[fd00::1]:11211", SYN, 1, 0).frame())
        .collect();
    refused(Counter::FramesMalformed, &frames);
    refused(Counter::FramesMalformed, &[spoiled(|frame| frame[6] |= 1)]);
}

#[test]
fn destinations_that_are_not_us() {
    let mut frames: Vec<_> = [
        "10.0.0.3:11211",
        "10.0.0.255:11211",
        "255.255.255.255:11211",
        "224.0.0.1:11211",
        "127.0.0.1:11211",
    ]
    .iter()
    .map(|to| Crafted::new("10.0.0.9:9", to, SYN, 1, 0).frame())
    .collect();
    for to in ["[fd00::3]:11211", "[ff02::1]:11211", "[::1]:11211"] {
        frames.push(Crafted::new("[fd00::9]:9", to, SYN, 1, 0).frame());
    }
    // Another host's MAC, broadcast, a group's.
    frames.push(spoiled(|frame| frame[..6].copy_from_slice(&CLIENT_MAC)));
    frames.push(spoiled(|frame| frame[..6].fill(0xff)));
    frames.push(spoiled(|frame| frame[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1])));
    // VLAN tags, unknown types, other protocols.
    frames.push(spoiled(|frame| {
        frame.splice(12..12, [0x81, 0, 0, 5]);
    }));
    frames.push([&syn()[..12], &[0x88, 0xb5], &[0; 60]].concat());
    frames.push(packet("10.0.0.9".parse().unwrap(), "10.0.0.1".parse().unwrap(), 17, &[0; 8]));
    refused(Counter::FramesNotForUs, &frames);
}

#[test]
fn flags_that_exclude_each_other() {
    let frames: Vec<_> = [
        0,
        FIN,
        PSH,
        SYN | FIN,
        SYN | RST,
        SYN | FIN | ACK,
        FIN | RST,
        0x3f,
        0x29,
        FIN | PSH | 0x20,
    ]
    .iter()
    .map(|&flags| Crafted::new(CLIENT, SERVER, flags, 1001, 1).frame())
    .collect();
    refused(Counter::FramesMalformed, &frames);
}

#[test]
fn ports_of_zero() {
    let from = Crafted::new("10.0.0.9:0", SERVER, SYN, 1, 0).frame();
    let to = Crafted::new("10.0.0.9:9", "10.0.0.1:0", SYN, 1, 0).frame();
    refused(Counter::FramesMalformed, &[from, to]);
}

#[test]
fn wrong_checksums() {
    let mut ip = syn();
    ip[24] ^= 1;
    let mut tcp = syn();
    tcp[50] ^= 1;
    let mut data = Crafted::new(CLIENT, SERVER, ACK | PSH, 1001, 1).payload(b"get a\r\n").frame();
    *data.last_mut().unwrap() ^= 0x80;
    let mut echo = packet(
        "10.0.0.9".parse().unwrap(),
        "10.0.0.1".parse().unwrap(),
        1,
        &[8, 0, 0, 0, 1, 2, 3, 4],
    );
    echo[41] ^= 1;
    refused(Counter::FramesBadChecksum, &[ip, tcp, data, echo]);
}

#[test]
fn a_request_before_a_syn_in_one_burst_is_answered() {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    let hand = Hand::open(&mut bench, CLIENT, SERVER);
    let request = hand.craft(ACK | PSH).payload(b"hello").frame();
    let syn = Crafted::new(CLIENT, SERVER, SYN, 77, 0).frame();
    let frames = [request, syn].map(super::wire::VecFrame::new);
    bench.queues.borrow_mut().to_server.extend(frames);
    bench.run();
    let payloads = bench.sent().iter().flat_map(|frame| see(frame).payload).collect::<Vec<_>>();
    assert_eq!(payloads, b"hello");
}

#[test]
fn an_inexact_reset_is_challenged_rfc_5961() {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    assert_eq!(hand.say(&mut bench, b"hello"), b"hello");
    for offset in [1, 500, 16383] {
        let seq = hand.seq + offset;
        let answer = bench.exchange(Crafted::new(CLIENT, SERVER, RST, seq, 0).frame());
        assert_eq!(answer.len(), 1, "{offset}");
        assert_eq!((see(&answer[0]).flags, see(&answer[0]).ack), (ACK, hand.seq));
        assert_eq!(hand.say(&mut bench, b"still here"), b"still here");
    }
    // Directly after data of the same burst, none of which was acknowledged yet.
    let data = hand.craft(ACK | PSH).payload(b"last").frame();
    hand.seq += 4;
    let frames = [data, hand.craft(RST).frame()].map(super::wire::VecFrame::new);
    bench.queues.borrow_mut().to_server.extend(frames);
    bench.run();
    assert_eq!(bench.stack.connections(), 0);
}

#[test]
fn a_guessed_sequence_number_moves_no_replies_to_another_neighbor() {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    let hand = Hand::open(&mut bench, CLIENT, SERVER);
    let answer = bench.exchange(hand.craft(ACK | PSH).payload(b"secret").frame());
    assert_eq!(see(&answer[0]).payload, b"secret");
    for ack in [0, hand.ack.wrapping_add(1 << 20), hand.ack.wrapping_add(1 << 31)] {
        let seq = hand.seq + 6 + 9000;
        let mut forged = Crafted::new(CLIENT, SERVER, ACK, seq, ack).frame();
        forged[6..12].copy_from_slice(&[2, 0xee, 0, 0, 0, 1]);
        bench.exchange(forged);
    }
    // It is retransmitted; `see` checks its destination.
    bench.wait(3_000_000);
    let again = bench.sent();
    assert!(again.iter().any(|frame| see(frame).payload == b"secret"));
}

#[test]
fn wrong_arp() {
    let arp = |body: &[u8]| [&[0xff; 6], &CLIENT_MAC[..], &[8, 6], body].concat();
    let body =
        [&[0, 1, 8, 0, 6, 4, 0, 1], &CLIENT_MAC[..], &[10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]]
            .concat();
    let change = |at: usize, byte| {
        let mut body = body.clone();
        body[at] = byte;
        arp(&body)
    };
    let frames = [
        arp(&body[..27]),
        change(1, 2),
        change(4, 8),
        change(5, 16),
        change(7, 9),
        change(8, 0xff),
        change(14, 224),
    ];
    refused(Counter::FramesMalformed, &frames);
}

#[test]
fn segments_of_no_connection_are_reset_within_a_budget() {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    let answer =
        bench.exchange(Crafted::new(CLIENT, SERVER, ACK | PSH, 77, 99).payload(b"abc").frame());
    let seen = see(&answer[0]);
    assert_eq!((answer.len(), seen.flags, seen.seq), (1, RST, 99));
    let answer = bench.exchange(Crafted::new(CLIENT, "10.0.0.1:80", SYN, 77, 0).frame());
    let seen = see(&answer[0]);
    assert_eq!((answer.len(), seen.flags, seen.seq, seen.ack), (1, RST | ACK, 0, 78));
    assert!(bench.exchange(Crafted::new(CLIENT, SERVER, RST, 77, 0).frame()).is_empty());
    let mut resets = 2;
    for n in 0..5000 {
        resets += bench.exchange(Crafted::new(CLIENT, SERVER, ACK, n, 9).frame()).len();
    }
    let budget = usize::from(TCP_STRAY_REPLIES_MIN)..=usize::from(TCP_STRAY_REPLIES_MAX);
    assert!(budget.contains(&resets), "{resets}");
    assert_eq!(bench.count(Counter::SegmentsUnknownFlow), 5003);
    assert_eq!(bench.count(Counter::ResetsSent), resets as u64);
    bench.wait(100_000);
    assert_eq!(bench.exchange(Crafted::new(CLIENT, SERVER, ACK, 1, 9).frame()).len(), 1);
}

/// The handler writes `version` and closes; the peer acknowledges a byte, then everything with a
/// closed window. smoltcp's probe of that window never ended, and the worker sent acknowledgements
/// for ever.
#[test]
fn four_frames_that_stopped_a_worker() {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    bench.handler.manner = Manner::Close;
    let mut hand = Hand::open(&mut bench, "10.0.0.2:40000", SERVER);
    let request = hand.craft(ACK | PSH).payload(b"version\r\nquit\r\n").frame();
    hand.seq = hand.seq.wrapping_add(15);
    let answer = see(&bench.exchange(request)[0]);
    assert_eq!((answer.flags & FIN, &answer.payload[..]), (FIN, &b"bye\r\n"[..]));
    let closed_at = |ack: u32| {
        let mut crafted = hand.craft(ACK);
        (crafted.ack, crafted.window) = (answer.seq.wrapping_add(ack), 0);
        crafted.frame()
    };
    bench.exchange(closed_at(1));
    bench.exchange(closed_at(6));
    let mut frames = 0;
    for _ in 0..10_000 {
        bench.now.uptime_us += 1000;
        bench.queues.borrow_mut().to_server.clear();
        bench.run();
        let is_tcp = |frame: &&Vec<u8>| frame[12..14] == [8, 0] && frame[23] == 6;
        frames += bench.sent().iter().filter(is_tcp).count();
    }
    assert!(frames <= 2, "{frames} frames to a peer that has received everything");
    bench.handler.manner = Manner::Echo;
    let mut other = Hand::open(&mut bench, "10.0.0.3:40000", SERVER);
    assert_eq!(other.say(&mut bench, b"hello"), b"hello");
    bench.exchange(other.craft(ACK).frame());
    let wait_us = TCP_LINGER_US + 2 * TCP_SWEEP_PERIOD_US;
    bench.wait(wait_us);
    assert_eq!(bench.handler.closed.len(), 1, "the flow is still there");
}

/// Resets that a peer without a connection gets for `asked` segments of its own, in `intervals`
/// intervals, after as many segments each in the name of 10.0.0.2:40000.
fn resets_beside(bench: &mut Bench, forged: &Crafted, asked: usize, intervals: usize) -> usize {
    let mut resets = 0;
    for _ in 0..intervals {
        bench.wait(TCP_STRAY_INTERVAL_US);
        for _ in 0..asked {
            bench.exchange_quietly(forged.frame());
        }
        bench.sent();
        for n in 0..asked as u32 {
            let mine = Crafted::new("10.0.0.66:666", SERVER, ACK, n, 9).frame();
            resets += bench.exchange(mine).len();
        }
    }
    resets
}

/// Forged segments are answered differently depending on whether there is a connection. The forger
/// sees only answers to its own segments, and these must not depend on it.
#[test]
fn answers_to_others_reveal_nothing_of_a_connection_cve_2016_5696() {
    let (asked, intervals) = (300, 100);
    // Outside the window of an existing connection: no answer, or a reset if there is none.
    let forged = Crafted::new(CLIENT, SERVER, ACK, 1 << 30, 1 << 30);
    let with = {
        let mut bench = Bench::new(&config());
        bench.run();
        bench.sent();
        Hand::open(&mut bench, CLIENT, SERVER);
        resets_beside(&mut bench, &forged, asked, intervals)
    };
    let without = {
        let mut bench = Bench::new(&config());
        bench.run();
        resets_beside(&mut bench, &forged, asked, intervals)
    };
    // With one budget for all, the forger would see `asked` fewer in each interval.
    let difference = with.abs_diff(without) / intervals;
    assert!(difference < 16, "{with} resets beside a connection, {without} without");
}

/// The forger's own connection is challenged as often, whatever it does to another's.
#[test]
fn challenges_of_connections_are_independent_cve_2016_5696() {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    let victim = Hand::open(&mut bench, CLIENT, SERVER);
    let own = Hand::open(&mut bench, "10.0.0.66:666", SERVER);
    for forged in [0, 1, 5, 500] {
        bench.wait(TCP_STRAY_INTERVAL_US);
        for _ in 0..forged {
            let reset = Crafted::new(CLIENT, SERVER, RST, victim.seq + 7, 0).frame();
            bench.exchange_quietly(reset);
        }
        assert!(bench.sent().len() <= usize::from(TCP_CHALLENGES_MAX));
        let reset = Crafted::new("10.0.0.66:666", SERVER, RST, own.seq + 7, 0);
        let challenges = (0..100).map(|_| bench.exchange(reset.frame()).len()).sum::<usize>();
        assert_eq!(challenges, usize::from(TCP_CHALLENGES_MAX), "beside {forged}");
        // Nor does it cost another peer its resets.
        let stray = Crafted::new("10.0.0.77:777", SERVER, ACK, 1, 9).frame();
        assert_eq!(bench.exchange(stray).len(), 1);
    }
}

/// Frames with random content: random bytes, and valid segments with a few bytes changed.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let flags = prop_oneof![
        Just(SYN),
        Just(ACK),
        Just(ACK | PSH),
        Just(FIN | ACK),
        Just(RST),
        Just(SYN | ACK),
        any::<u8>()
    ];
    // Sequence numbers close to the connection's.
    let segment = (
        flags,
        -70000i32..70000,
        -70000i32..70000,
        any::<u16>(),
        proptest::collection::vec(any::<u8>(), 0..40),
        0usize..1460,
        0u8..4,
    )
        .prop_map(|(flags, seq, ack, window, options, bytes, port)| {
            let from = format!("10.0.0.2:{}", 40000 + u16::from(port));
            let mut crafted =
                Crafted::new(&from, SERVER, flags, 1001u32.wrapping_add_signed(seq / 50), 0);
            crafted.ack = ack as u32;
            crafted.window = window;
            crafted.payload = vec![b'x'; bytes];
            if window % 3 == 0 {
                crafted.options = options;
            }
            crafted
        });
    let changes = proptest::collection::vec((0usize..80, any::<u8>()), 1..4);
    prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..200),
        8 => segment.clone().prop_map(|s| s.frame()),
        4 => (segment, changes, any::<bool>()).prop_map(
            |(s, changes, sealed)| {
                let mut frame = s.frame();
                for (at, byte) in changes {
                    let at = at % frame.len();
                    frame[at] = byte;
                }
                if sealed && matches!(frame[12..14], [8, 0] | [0x86, 0xdd]) && frame.len() > 60 {
                    seal(&mut frame);
                }
                frame
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_frame_breaks_the_stack(
        frames in proptest::collection::vec((any_frame(), 0u64..200_000), 1..120)
    ) {
        let mut bench = Bench::new(&config());
        bench.run();
        bench.sent();
        // Victims, relative to whose acknowledgement numbers the frames are made.
        let mut victims: Vec<_> = (0..3)
            .map(|n| Hand::open(&mut bench, &format!("10.0.0.2:{}", 40000 + n), SERVER))
            .collect();
        victims[0].say(&mut bench, b"hello");
        for (mut frame, pause_us) in frames {
            if frame.len() > 54 && frame[..6] == super::wire::SERVER_MAC && frame[12] == 8 {
                let port = u16::from_be_bytes([frame[34], frame[35]]);
                if let Some(victim) = victims.get(usize::from(port.wrapping_sub(40000))) {
                    let offset = u32::from_be_bytes(frame[42..46].try_into().unwrap()) as i32 / 50;
                    let ack = victim.ack.wrapping_add_signed(offset);
                    frame[42..46].copy_from_slice(&ack.to_be_bytes());
                    if frame[14] == 0x45 && frame[23] == 6 {
                        seal(&mut frame);
                    }
                }
            }
            bench.exchange(frame);
            bench.now.uptime_us += pause_us;
            bench.run();
        }
        bench.sent();
        let mut hand = Hand::open(&mut bench, "10.0.0.7:50000", SERVER);
        prop_assert_eq!(hand.say(&mut bench, b"alive"), b"alive");
        bench.wait(300_000);
        prop_assert_eq!(
            bench.handler.opened.len() - bench.handler.closed.len(),
            bench.stack.connections()
        );
    }
}
