//! Floods: memory stays bounded, and an honest client is served.

use super::peer::{ACK, Crafted, FIN, Hand, SYN, see};
use super::wire::{Bench, VecFrame, config};
use crate::base::limits::{BURST_FRAMES, TCP_HALF_OPEN_MAX, TCP_TIME_WAIT_MAX};
use crate::base::stats::Counter;
use crate::net::Transport;

const SERVER: &str = "10.0.0.1:11211";

fn quiet(connections_max: usize) -> Bench {
    let mut config = config();
    config.allow(connections_max);
    let mut bench = Bench::new(&config);
    bench.run();
    bench.sent();
    bench
}

#[test]
fn a_syn_flood_costs_neither_memory_nor_service() {
    let mut bench = quiet(100);
    let mut hand = Hand::open(&mut bench, "10.0.0.2:40000", SERVER);
    for n in 0..100_000u32 {
        let from = format!("10.0.{}.{}:{}", n / 250 % 250, n % 250 + 3, 1024 + n / 62_500);
        let frame = Crafted::new(&from, SERVER, SYN, n, 0).frame();
        bench.queues.borrow_mut().to_server.push_back(VecFrame::new(frame));
        if n % BURST_FRAMES as u32 == 0 {
            bench.run();
            bench.now.uptime_us += 10;
        }
        if n % 10_000 == 0 {
            bench.run();
            bench.sent();
            assert_eq!(hand.say(&mut bench, b"hello"), b"hello");
            bench.exchange(hand.craft(ACK).frame());
            let fresh = format!("10.1.0.9:{}", 5000 + n / 10_000);
            let mut fresh = Hand::open(&mut bench, &fresh, SERVER);
            assert_eq!(fresh.say(&mut bench, b"me too"), b"me too");
        }
    }
    bench.run();
    assert!(bench.stack.slab.flows.len() <= TCP_HALF_OPEN_MAX + 16);
    assert!(bench.stack.half_open.len() <= TCP_HALF_OPEN_MAX);
    assert!(bench.stack.table.len() <= TCP_HALF_OPEN_MAX + 16);
    assert!(bench.count(Counter::HalfOpenDropped) > 90_000);
    // After its time-out nothing is left of it.
    bench.wait(11_000_000);
    assert_eq!(bench.stack.half_open.len(), 0);
    assert_eq!(bench.stack.table.len(), bench.stack.connections());
}

#[test]
fn ten_thousand_connections_open_at_once_and_their_flows_are_reused() {
    let mut bench = quiet(10_000);
    for round in 0..2 {
        let mut hands = Vec::new();
        for n in 0..10_000u32 {
            let from = format!("10.1.{}.{}:{}", n / 250, n % 250 + 2, 2000 + round);
            hands.push(Hand::open(&mut bench, &from, SERVER));
        }
        assert_eq!(bench.stack.connections(), 10_000);
        for hand in &mut hands {
            assert_eq!(hand.say(&mut bench, b"get a"), b"get a");
        }
        for hand in &mut hands {
            let answer = bench.exchange(hand.craft(FIN | ACK).frame());
            assert_eq!(see(&answer[0]).flags & FIN, FIN);
            hand.seq += 1;
            hand.ack += 1;
            bench.exchange(hand.craft(ACK).frame());
        }
        assert_eq!(bench.stack.connections(), 0);
        assert_eq!(bench.stack.table.len(), 0);
        assert_eq!(bench.stack.slab.flows.len(), 10_000);
    }
    let ids: std::collections::HashSet<_> = bench.handler.opened.iter().map(|o| o.0).collect();
    assert_eq!(ids.len(), 20_000, "an id was used twice");
    assert_eq!(bench.handler.closed.len(), 20_000);
}

#[test]
fn tuples_in_time_wait_are_bounded_and_the_oldest_goes() {
    let mut bench = quiet(10);
    bench.handler.manner = super::wire::Manner::Close;
    for n in 0..TCP_TIME_WAIT_MAX as u32 + 100 {
        let from = format!("10.1.{}.{}:3000", n / 250, n % 250 + 2);
        let mut hand = Hand::open(&mut bench, &from, SERVER);
        bench.exchange(hand.craft(ACK).payload(b"q").frame());
        hand.seq += 1;
        hand.ack += 6;
        bench.exchange(hand.craft(FIN | ACK).frame());
    }
    assert_eq!(bench.stack.table.len(), TCP_TIME_WAIT_MAX);
    bench.wait(11_000_000);
    assert_eq!(bench.stack.table.len(), 0);
}
