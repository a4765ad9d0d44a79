//! Neighbours whose MAC changes during connections.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::peer::{ACK, Crafted, Hand, PSH, RST, SYN, packet, seal};
use super::wire::{Bench, CLIENT_MAC, SERVER_MAC, config};
use crate::base::limits::{TCP_SEEK_GROUPS, TCP_SEEKS_MAX};
use crate::base::stats::Counter;
use crate::net::Transport;
use crate::net::tcp::headers::be32;

const NEW_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

const PAIRS: [(&str, &str); 2] =
    [("10.0.0.2:40000", "10.0.0.1:11211"), ("[fd00::2]:40000", "[fd00::1]:11211")];

fn quiet() -> Bench {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    bench
}

fn from(mac: [u8; 6], mut frame: Vec<u8>) -> Vec<u8> {
    frame[6..12].copy_from_slice(&mac);
    frame
}

/// The destinations of the segments among `frames`.
fn receivers(frames: &[Vec<u8>]) -> Vec<[u8; 6]> {
    let is_segment = |frame: &&Vec<u8>| match frame[12..14] {
        [8, 0] => frame[23] == 6,
        [0x86, 0xdd] => frame[20] == 6,
        _ => false,
    };
    frames.iter().filter(is_segment).map(|frame| frame[..6].try_into().unwrap()).collect()
}

/// A connection whose peer was answered but did not acknowledge.
fn unheard(bench: &mut Bench, from: &str, to: &str) -> Hand {
    let hand = Hand::open(bench, from, to);
    let lost = bench.exchange(hand.craft(ACK | PSH).payload(b"request").frame());
    assert_eq!(receivers(&lost), [CLIENT_MAC]);
    hand
}

fn arp(operation: u8, mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = [[0xff; 6], mac].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

fn advertisement(mac: [u8; 6], target: Ipv6Addr, to: &str, flags: u8) -> Vec<u8> {
    let mut body = vec![136, 0, 0, 0, flags, 0, 0, 0];
    body.extend(target.octets());
    body.extend([2, 1]);
    body.extend(mac);
    from(mac, packet(target.into(), to.parse().unwrap(), 58, &body))
}

/// `address` announces that it is at `mac`.
fn announcement(mac: [u8; 6], address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(1, mac, address, address),
        IpAddr::V6(address) => {
            let mut frame = advertisement(mac, address, "ff02::1", 0x20);
            frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
            frame
        }
    }
}

#[test]
fn any_segment_from_the_peers_new_mac_moves_its_connection() {
    type Change = fn(&mut Crafted);
    let changes: [Change; 5] = [
        // The request again, a keep-alive without and with a byte, a pure acknowledgement, new
        // data.
        |_| (),
        |segment| (segment.seq, segment.flags) = (segment.seq + 6, ACK),
        |segment| (segment.seq, segment.payload) = (segment.seq + 6, b"t".to_vec()),
        |segment| segment.seq += 7,
        |segment| (segment.seq, segment.payload) = (segment.seq + 7, b"more".to_vec()),
    ];
    for (peer, to) in PAIRS {
        for (n, change) in changes.iter().enumerate() {
            let mut bench = quiet();
            let hand = unheard(&mut bench, peer, to);
            let mut again = hand.craft(ACK | PSH).payload(b"request");
            if n == 1 || n == 3 {
                again.payload.clear();
            }
            change(&mut again);
            bench.exchange(from(NEW_MAC, again.frame()));
            bench.wait(200_000);
            let receivers = receivers(&bench.sent());
            assert!(!receivers.is_empty(), "{peer} {n}: nothing was retransmitted");
            assert!(receivers.iter().all(|&mac| mac == NEW_MAC), "{peer} {n}: {receivers:x?}");
            assert_eq!(bench.count(Counter::NeighborMoves), 1);
        }
    }
}

#[test]
fn an_announcement_moves_waiting_and_idle_connections() {
    for (peer, to) in PAIRS {
        let address = peer.parse::<std::net::SocketAddr>().unwrap().ip();
        let mut bench = quiet();
        unheard(&mut bench, peer, to);
        let idle = peer.replace("40000", "40001");
        Hand::open(&mut bench, &idle, to);
        assert!(bench.exchange(announcement(NEW_MAC, address)).is_empty());
        bench.wait(250_000);
        bench.sent();
        bench.wait(2_000_000);
        let waiting = receivers(&bench.sent());
        assert!(!waiting.is_empty() && waiting.iter().all(|&mac| mac == NEW_MAC), "{waiting:x?}");
        // The keep-alives of both.
        bench.wait(31_000_000);
        let all = receivers(&bench.sent());
        assert!(all.iter().all(|&mac| mac == NEW_MAC), "{all:x?}");
        assert_eq!(bench.count(Counter::NeighborMoves), 2);
    }
}

/// Lets `us` pass; returns the requests to the network in that time.
fn questions(bench: &mut Bench, us: u64) -> Vec<Vec<u8>> {
    bench.sent();
    bench.wait(us);
    let is_group = |frame: &Vec<u8>| frame[0] & 1 != 0;
    bench.sent().into_iter().filter(is_group).collect()
}

#[test]
fn the_mac_of_a_silent_peer_is_requested() {
    let mut bench = quiet();
    unheard(&mut bench, PAIRS[0].0, PAIRS[0].1);
    let asked = questions(&mut bench, 900_000);
    assert_eq!(asked.len(), 1, "once a second");
    assert_eq!(asked[0][..14], [&[0xff; 6], &SERVER_MAC[..], &[8, 6]].concat());
    assert_eq!((&asked[0][28..32], &asked[0][38..42]), (&[10, 0, 0, 1][..], &[10, 0, 0, 2][..]));
    let (server, client) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    bench.exchange(arp(2, NEW_MAC, client, server));
    bench.wait(2_000_000);
    assert_eq!(receivers(&bench.sent()).last(), Some(&NEW_MAC));

    let mut bench = quiet();
    unheard(&mut bench, PAIRS[1].0, PAIRS[1].1);
    let asked = questions(&mut bench, 900_000);
    assert_eq!((asked.len(), &asked[0][..6]), (1, &[0x33, 0x33, 0xff, 0, 0, 2][..]));
    assert_eq!(asked[0][54], 135);
    bench.exchange(advertisement(NEW_MAC, "fd00::2".parse().unwrap(), "fd00::1", 0x60));
    bench.wait(2_000_000);
    assert_eq!(receivers(&bench.sent()).last(), Some(&NEW_MAC));
}

#[test]
fn a_worker_that_was_paused_behaves_like_the_others() {
    let config = config();
    let (mut steady, mut away) = (Bench::new(&config), Bench::new(&config));
    for bench in [&mut steady, &mut away] {
        bench.run();
        bench.sent();
    }
    let away_us = 100_000_000;
    steady.now.uptime_us += away_us;
    unheard(&mut steady, PAIRS[0].0, PAIRS[0].1);
    assert_eq!(questions(&mut steady, 500_000).len(), 1);
    // By its own clock the other is still in the past: requests it sees are old for this one.
    away.stack.leave_out(away_us + 2_000_000);
    unheard(&mut away, &PAIRS[0].0.replace("40000", "40001"), PAIRS[0].1);
    assert_eq!(questions(&mut away, 900_000).len(), 1);
    let (server, client) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    steady.exchange(arp(2, NEW_MAC, client, server));
    away.wait(4_000_000);
    let last = receivers(&away.sent()).last().copied();
    assert_eq!(last, Some(CLIENT_MAC), "the announcement came before this segment");
    steady.now.uptime_us += 10_000_000;
    steady.exchange(arp(2, NEW_MAC, client, server));
    away.wait(4_000_000);
    assert_eq!(receivers(&away.sent()).last(), Some(&NEW_MAC));
}

#[test]
fn a_router_that_fails_over_takes_its_connections_along() {
    // By the configured gateway, and by a router's own announcement.
    let mut own = config();
    for (gateways, router) in [(own.gateways.clone(), [10, 0, 0, 254]), (vec![], [10, 0, 0, 77])] {
        own.gateways = gateways;
        let mut bench = Bench::new(&own);
        bench.run();
        let router = Ipv4Addr::from(router);
        bench.exchange(arp(1, CLIENT_MAC, router, [10, 0, 0, 1].into()));
        unheard(&mut bench, "192.168.5.5:40000", "10.0.0.1:11211");
        bench.wait(3_000_000);
        bench.exchange(arp(2, NEW_MAC, router, router));
        bench.sent();
        bench.wait(5_000_000);
        let receivers = receivers(&bench.sent());
        assert!(!receivers.is_empty() && receivers.iter().all(|&mac| mac == NEW_MAC));
    }
}

#[test]
fn a_forger_who_guesses_moves_nothing_and_learns_nothing() {
    for (peer, to) in PAIRS {
        let mut bench = quiet();
        let hand = unheard(&mut bench, peer, to);
        let forged = |flags, seq: u32, ack: u32| {
            from(NEW_MAC, Crafted::new(peer, to, flags, seq, ack).payload(b"x").frame())
        };
        let (seq, ack) = (hand.seq + 7, hand.ack);
        let far = 1u32 << 20;
        let frames = [
            forged(ACK, seq, ack.wrapping_add(far)),
            forged(ACK, seq.wrapping_add(far), ack),
            forged(ACK, seq.wrapping_sub(far), ack),
            forged(ACK, seq.wrapping_add(1 << 31), ack),
            forged(SYN, seq + 5, 0),
            forged(RST, seq + 5, 0),
            forged(RST | ACK, seq + 5, ack),
        ];
        for frame in frames {
            let sent = receivers(&bench.exchange(frame));
            assert!(sent.iter().all(|&mac| mac == CLIENT_MAC), "{sent:x?}");
        }
        bench.wait(500_000);
        let sent = receivers(&bench.sent());
        assert!(!sent.is_empty() && sent.iter().all(|&mac| mac == CLIENT_MAC), "{sent:x?}");
        assert_eq!(bench.count(Counter::NeighborMoves), 0);
    }
}

#[test]
fn an_answer_that_does_not_override_replaces_nothing() {
    let mut bench = quiet();
    let client: Ipv6Addr = "fd00::2".parse().unwrap();
    bench.exchange(advertisement(CLIENT_MAC, client, "fd00::1", 0x20));
    unheard(&mut bench, PAIRS[1].0, PAIRS[1].1);
    bench.exchange(advertisement(NEW_MAC, client, "fd00::1", 0x40));
    bench.wait(3_000_000);
    assert!(receivers(&bench.sent()).iter().all(|&mac| mac == CLIENT_MAC));
}

#[test]
fn requests_for_silent_peers_are_limited() {
    let mut own = config();
    own.allow(200);
    let mut bench = Bench::new(&own);
    bench.run();
    bench.sent();
    for n in 0..200u16 {
        let peer = format!("10.1.{}.{}:40000", 1 + n / 100, 1 + n % 100);
        let hand = Hand::open(&mut bench, &peer, "10.1.0.1:11211");
        bench.exchange(hand.craft(ACK | PSH).payload(b"request").frame());
    }
    let asked = questions(&mut bench, 400_000);
    let most = 5 * TCP_SEEK_GROUPS * usize::from(TCP_SEEKS_MAX);
    assert!((TCP_SEEK_GROUPS..=most).contains(&asked.len()), "{} questions", asked.len());
}

#[test]
fn a_question_that_was_refused_is_asked_as_soon_as_there_is_credit() {
    let mut own = config();
    own.allow(100);
    let mut bench = Bench::new(&own);
    bench.run();
    bench.sent();
    let hands: Vec<Hand> = (1..=100)
        .map(|n| Hand::open(&mut bench, &format!("10.1.2.{n}:40000"), "10.1.0.1:11211"))
        .collect();
    for hand in &hands {
        bench.exchange(hand.craft(ACK | PSH).payload(b"request").frame());
    }
    // Whom a first question was refused is asked for with the next retransmissions; a neighbour
    // that was asked for, again after a second.
    let asked: BTreeSet<Vec<u8>> =
        questions(&mut bench, 950_000).iter().map(|frame| frame[38..42].to_vec()).collect();
    let at_once = TCP_SEEK_GROUPS * usize::from(TCP_SEEKS_MAX);
    assert!(asked.len() > at_once, "{} of 100", asked.len());
}

#[test]
fn a_repeated_fin_from_a_new_mac_is_acknowledged_there() {
    let mut bench = quiet();
    let mut hand = Hand::open(&mut bench, PAIRS[0].0, PAIRS[0].1);
    let fin = hand.craft(super::peer::FIN | ACK).frame();
    let answer = bench.exchange(fin);
    hand.seq += 1;
    hand.ack = be32(answer.last().unwrap(), 14 + 20 + 4).wrapping_add(1);
    let mut last = hand.craft(ACK);
    bench.exchange(last.frame());
    bench.wait(100_000);
    bench.sent();
    last.seq -= 1;
    last.flags |= super::peer::FIN;
    let mut frame = from(NEW_MAC, last.frame());
    seal(&mut frame);
    let sent = bench.exchange(frame);
    // We closed last, so there may be nothing left to repeat but a reset.
    assert!(receivers(&sent).iter().all(|&mac| mac == NEW_MAC));
}
