//! Address probes, conflicts, and reports to switches.

use std::net::IpAddr;

use super::peer::{Hand, packet, seal};
use super::wire::{Bench, CLIENT_MAC, SERVER_MAC, VecFrame, config};
use crate::base::limits::{TCP_DEFEND_US, TCP_GROUP_REPORTS_US, TCP_PROBE_US, TCP_PROBES};
use crate::base::stats::Counter;
use crate::net::Transport;
use crate::net::tcp::Taken;

fn arp(operation: u8, mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = [[0xff; 6], mac].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame.resize(60, 0);
    frame
}

/// A solicitation without a source for our IPv6 address, or an advertisement of it.
fn neighbor(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    let own = "fd00::1".parse::<std::net::Ipv6Addr>().unwrap();
    let (from, to) = if kind == 135 { ("::", "ff02::1:ff00:1") } else { ("fd00::1", "ff02::1") };
    let mut body = vec![kind, 0, 0, 0, if kind == 136 { 0x20 } else { 0 }, 0, 0, 0];
    body.extend(own.octets());
    let mut frame = packet(from.parse().unwrap(), to.parse().unwrap(), 58, &body);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&mac);
    frame
}

/// Probes our addresses while `frames` arrive, one per step.
fn claim(bench: &mut Bench, frames: &[Vec<u8>]) -> Result<(), Taken> {
    let mut frames = frames.iter();
    loop {
        if let Some(frame) = frames.next() {
            bench.queues.borrow_mut().to_server.push_back(VecFrame::new(frame.clone()));
        }
        if bench.stack.claim(true, bench.now)? {
            return Ok(());
        }
        bench.stack.flush(bench.now);
        bench.now.uptime_us += 1_000;
    }
}

#[test]
fn free_addresses_are_probed_for_a_moment_and_taken() {
    let mut bench = Bench::new(&config());
    let since_us = bench.now.uptime_us;
    // Our own probes, returned by a bridge, and traffic between others.
    let echo = [
        arp(1, SERVER_MAC, [0; 4], [10, 0, 0, 1]),
        neighbor(135, SERVER_MAC),
        arp(1, CLIENT_MAC, [10, 0, 0, 2], [10, 0, 0, 3]),
        arp(1, CLIENT_MAC, [10, 0, 0, 2], [10, 0, 0, 1]),
    ];
    assert_eq!(claim(&mut bench, &echo), Ok(()));
    assert_eq!(bench.now.uptime_us - since_us, u64::from(TCP_PROBES) * TCP_PROBE_US);
    let sent = bench.sent();
    // In each round two for IPv4 and one for IPv6; the group is joined first.
    assert_eq!(sent.len(), 1 + 3 * TCP_PROBES as usize);
    assert_eq!(sent[0][..6], [0x33, 0x33, 0, 0, 0, 0x16]);
    let mut probe = [[0xff; 6], SERVER_MAC].concat();
    probe.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    probe.extend(SERVER_MAC);
    probe.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    assert_eq!(sent[1], probe);
    let mut solicitation = neighbor(135, SERVER_MAC);
    solicitation[..6].copy_from_slice(&[0x33, 0x33, 0xff, 0, 0, 1]);
    assert_eq!(sent[3], solicitation);
    bench.run();
    let announced = bench.sent();
    assert_eq!(announced[1][..14], [&[0xff; 6], &SERVER_MAC[..], &[8, 6]].concat());
    let mut hand = Hand::open(&mut bench, "10.0.0.2:40000", "10.0.0.1:11211");
    assert_eq!(hand.say(&mut bench, b"hello"), b"hello");
}

#[test]
fn an_address_that_another_host_has_or_probes_is_not_used() {
    let (v4, v6): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
    for (address, mac, frame) in [
        // The answer to a probe, an announcement, another's probe, and the same in IPv6.
        (v4, CLIENT_MAC, arp(2, CLIENT_MAC, [10, 0, 0, 1], [0; 4])),
        (v4, CLIENT_MAC, arp(1, CLIENT_MAC, [10, 0, 0, 1], [10, 0, 0, 1])),
        (v4, CLIENT_MAC, arp(1, CLIENT_MAC, [0; 4], [10, 0, 0, 1])),
        // Another process on the same device answers with our MAC.
        (v4, SERVER_MAC, arp(2, SERVER_MAC, [10, 0, 0, 1], [0; 4])),
        (v6, CLIENT_MAC, neighbor(136, CLIENT_MAC)),
        (v6, CLIENT_MAC, neighbor(135, CLIENT_MAC)),
        (v6, SERVER_MAC, neighbor(136, SERVER_MAC)),
    ] {
        let mut bench = Bench::new(&config());
        assert_eq!(claim(&mut bench, &[vec![0; 20], frame]), Err(Taken { address, mac }));
    }
}

#[test]
fn an_address_is_defended_within_a_rate() {
    for (rival, kind) in [
        (arp(1, CLIENT_MAC, [10, 0, 0, 1], [10, 0, 0, 9]), [8, 6]),
        (neighbor(136, CLIENT_MAC), [0x86, 0xdd]),
    ] {
        let mut bench = Bench::new(&config());
        bench.run();
        bench.sent();
        let defended = bench.exchange(rival.clone());
        assert_eq!(defended.len(), 1, "the one address, once");
        assert_eq!((defended[0][0] & 1, &defended[0][12..14]), (1, &kind[..]));
        for _ in 0..100 {
            assert!(bench.exchange(rival.clone()).is_empty());
        }
        bench.now.uptime_us += TCP_DEFEND_US;
        assert_eq!(bench.exchange(rival).len(), 1);
        assert_eq!(bench.count(Counter::AddressConflicts), 102);
        // A bridge returns our own frames.
        bench.now.uptime_us += TCP_DEFEND_US;
        let own = [arp(1, SERVER_MAC, [10, 0, 0, 1], [10, 0, 0, 1]), neighbor(136, SERVER_MAC)];
        for frame in own {
            assert!(bench.exchange(frame).is_empty());
        }
        assert_eq!(bench.count(Counter::AddressConflicts), 102);
    }
}

#[test]
fn addresses_are_announced_when_the_link_comes_up() {
    let config = config();
    let mut bench = Bench::new(&config);
    bench.run();
    assert_eq!(bench.sent().len(), 4);
    config.board.link_came_up();
    bench.wait(1_000);
    assert_eq!(bench.sent().len(), 4);
    bench.wait(5_000_000);
    assert_eq!(bench.sent().len(), 4, "again, for switches that were still learning");
}

/// A report of our solicited-node group up to its ICMPv6 message, to `group`, with `bytes`.
fn report(mac: [u8; 6], group: &str, bytes: u8) -> Vec<u8> {
    let mut frame = [mac, SERVER_MAC].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, bytes, 0, 1]);
    frame.extend([0; 16]);
    frame.extend(group.parse::<std::net::Ipv6Addr>().unwrap().octets());
    frame.extend([58, 0, 5, 2, 0, 0, 1, 0]);
    frame
}

const GROUP: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1];

/// A query for `group`, or all, in version 1 or 2.
fn query(group: &str, is_v1: bool) -> Vec<u8> {
    query_within(10, group, is_v1)
}

/// A query with a maximum delay of `delay_ms`.
fn query_within(delay_ms: u8, group: &str, is_v1: bool) -> Vec<u8> {
    let to = if group == "::" { "ff02::1" } else { group };
    let mut body = vec![130, 0, 0, 0, 0, delay_ms, 0, 0];
    body.extend(group.parse::<std::net::Ipv6Addr>().unwrap().octets());
    if !is_v1 {
        body.extend([2, 125, 0, 0]);
    }
    // Sealed as ICMPv6 alone, whose pseudo-header does not include the options.
    let mut frame = packet("fe80::9".parse().unwrap(), to.parse().unwrap(), 58, &body);
    frame[21] = 1;
    seal(&mut frame);
    frame.splice(54..54, [58, 0, 5, 2, 0, 0, 1, 0]);
    frame[20] = 0;
    frame[19] += 8;
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame
}

#[test]
fn solicited_node_groups_are_reported_to_switches() {
    let mut bench = Bench::new(&config());
    bench.run();
    let mut joined = report([0x33, 0x33, 0, 0, 0, 0x16], "ff02::16", 36);
    joined.extend([143, 0, 0x6f, 0x89, 0, 0, 0, 1, 4, 0, 0, 0]);
    joined.extend(GROUP);
    assert_eq!(bench.sent()[0], joined);

    let mut answer = report([0x33, 0x33, 0, 0, 0, 0x16], "ff02::16", 36);
    answer.extend([143, 0, 0x71, 0x89, 0, 0, 0, 1, 2, 0, 0, 0]);
    answer.extend(GROUP);
    for group in ["::", "ff02::1:ff00:1"] {
        // Many queries, one answer.
        for _ in 0..50 {
            assert!(bench.exchange(query(group, false)).is_empty());
        }
        bench.wait(20_000);
        assert_eq!(bench.sent(), [answer.clone()]);
        bench.wait(TCP_GROUP_REPORTS_US);
    }
    bench.exchange(query("::", true));
    bench.wait(20_000);
    let mut old = report([0x33, 0x33, 0xff, 0, 0, 1], "ff02::1:ff00:1", 32);
    old.extend([131, 0, 0x80, 0xa1, 0, 0, 0, 0]);
    old.extend(GROUP);
    assert_eq!(bench.sent(), [old]);

    // Not our group; from beyond the link; from no link-local address; a wrong checksum; truncated.
    let spoiled = |change: fn(&mut Vec<u8>)| {
        let mut frame = query("::", false);
        change(&mut frame);
        frame
    };
    let frames = [
        query("ff02::1:ff00:7", false),
        spoiled(|frame| frame[21] = 2),
        spoiled(|frame| frame[22] = 0xfd),
        spoiled(|frame| frame[65] ^= 1),
        spoiled(|frame| frame[56] = 4),
        spoiled(|frame| {
            frame.truncate(70);
            frame[19] = 16;
        }),
    ];
    for frame in frames {
        bench.exchange(frame);
        bench.wait(20_000);
        assert!(bench.sent().is_empty());
    }
}

#[test]
fn queries_for_an_immediate_answer_get_one_a_second() {
    for (group, is_v1) in [("::", false), ("ff02::1:ff00:1", false), ("::", true)] {
        let mut bench = Bench::new(&config());
        bench.run();
        bench.sent();
        assert_eq!(bench.exchange(query_within(0, group, is_v1)).len(), 1, "at once");
        let until_us = bench.now.uptime_us + 3 * TCP_GROUP_REPORTS_US;
        let mut reports = 0;
        while bench.now.uptime_us < until_us {
            bench.exchange_quietly(query_within(0, group, is_v1));
            bench.wait(1_000);
            reports += bench.sent().len();
        }
        assert_eq!(reports, 3);
        // Another query, whose answer is delayed, and then none.
        assert!(bench.exchange(query_within(0, group, is_v1)).is_empty());
        bench.wait(2 * TCP_GROUP_REPORTS_US);
        assert_eq!(bench.sent().len(), 1);
        assert_eq!(bench.exchange(query_within(0, group, is_v1)).len(), 1, "immediately again");
    }
}

#[test]
fn several_addresses_of_one_group_are_one_listener() {
    let mut own = config();
    let cidr = |text: &str| super::super::Cidr { address: text.parse().unwrap(), prefix_bits: 64 };
    own.addresses = vec![cidr("fd00::1:1"), cidr("fe80::1:1"), cidr("fd00::2:2")];
    let mut bench = Bench::new(&own);
    bench.run();
    let report = &bench.sent()[0];
    assert_eq!(report.len(), 14 + 40 + 8 + 8 + 2 * 20);
    assert_eq!(report[22..24], [0xfe, 0x80], "from the link-local address");
    let mut sealed = report.clone();
    sealed.drain(54..62);
    (sealed[19], sealed[20]) = (sealed[19] - 8, 58);
    let before = sealed.clone();
    seal(&mut sealed);
    assert_eq!(sealed, before);
}
