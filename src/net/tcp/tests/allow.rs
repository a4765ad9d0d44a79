//! Peers that may not connect: nothing is made for their SYNs.

use std::net::SocketAddr;

use super::peer::{ACK, Crafted, Hand, RST, SYN, see};
use super::wire::{Bench, PORTS, VecFrame, config};
use crate::base::limits::{BURST_FRAMES, TCP_STRAY_REPLIES_MAX};
use crate::base::networks::Networks;
use crate::base::stats::Counter;
use crate::net::Transport;

const SERVER: &str = "10.0.0.1:11211";
const BATCH: &str = "10.0.0.1:11212";

/// A stack whose first port serves 10.1.0.0/16 and fd00::/120, and whose second 10.0.0.2.
fn bench() -> Bench {
    let list = |texts: &[&str]| Networks::new(texts.iter().map(|it| it.parse().unwrap()).collect());
    let mut config = config();
    assert_eq!(PORTS[..2], [11211, 11212]);
    config.allow = vec![list(&["10.1.0.0/16", "fd00::/120"]), list(&["10.0.0.2"])];
    let mut bench = Bench::new(&config);
    bench.run();
    bench.sent();
    bench
}

fn is_untouched(bench: &Bench) -> bool {
    bench.stack.table.len() == 0 && bench.stack.half_open.len() == 0
}

#[test]
fn a_stranger_gets_what_a_closed_port_answers() {
    let mut bench = bench();
    let strangers = [
        ("10.0.0.2:40000", SERVER),
        ("10.1.0.2:40000", BATCH),
        ("[fd00::1:2]:40000", "[fd00::1]:11211"),
        ("[fd00::2]:40000", "[fd00::1]:11212"),
    ];
    for (n, (from, to)) in strangers.into_iter().enumerate() {
        let sent = bench.exchange(Crafted::new(from, to, SYN, 77, 0).frame());
        assert_eq!(sent.len(), 1, "{from}");
        let seen = see(&sent[0]);
        assert_eq!((seen.flags, seen.seq, seen.ack), (RST | ACK, 0, 78), "{from}");
        assert!(is_untouched(&bench), "{from}");
        assert_eq!(bench.count(Counter::RejectedByAllow), n as u64 + 1);
    }
    assert_eq!(bench.count(Counter::RejectedConnections), 0);
    assert!(bench.handler.opened.is_empty());
}

#[test]
fn each_port_serves_whom_its_list_has() {
    let mut bench = bench();
    for (from, to) in [
        ("10.1.0.2:40000", SERVER),
        ("[fd00::2]:40000", "[fd00::1]:11211"),
        ("10.0.0.2:40000", BATCH),
    ] {
        let mut hand = Hand::open(&mut bench, from, to);
        assert_eq!(hand.say(&mut bench, b"hello"), b"hello", "{from}");
        let from: SocketAddr = from.parse().unwrap();
        assert_eq!(bench.handler.peer, Some(from.ip()));
    }
    assert_eq!(bench.count(Counter::RejectedByAllow), 0);
}

#[test]
fn a_flood_of_a_stranger_costs_nothing_and_gets_few_answers() {
    let mut bench = bench();
    let mut hand = Hand::open(&mut bench, "10.1.0.9:40000", SERVER);
    let before = bench.stack.slab.flows.len();
    for n in 0..20_000u32 {
        let from = format!("10.0.0.3:{}", 1024 + n);
        let frame = Crafted::new(&from, SERVER, SYN, n, 0).frame();
        bench.queues.borrow_mut().to_server.push_back(VecFrame::new(frame));
        if n % BURST_FRAMES as u32 == 0 {
            bench.run();
        }
    }
    bench.run();
    assert_eq!(bench.count(Counter::RejectedByAllow), 20_000);
    assert_eq!(bench.count(Counter::HalfOpenDropped), 0);
    assert_eq!((bench.stack.slab.flows.len(), bench.stack.connections()), (before, 1));
    let answers = bench.sent().len();
    assert!(answers <= usize::from(TCP_STRAY_REPLIES_MAX), "{answers}");
    assert_eq!(hand.say(&mut bench, b"hello"), b"hello");
}
