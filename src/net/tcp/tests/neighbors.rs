//! ARP, neighbour discovery and echo.

use std::net::{IpAddr, Ipv6Addr};

use super::peer::{packet, seal};
use super::wire::{Bench, CLIENT_MAC, SERVER_MAC, config};
use crate::base::stats::Counter;

fn quiet() -> Bench {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    bench
}

fn arp_request(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = [[0xff; 6], CLIENT_MAC].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(CLIENT_MAC);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame.resize(60, 0);
    frame
}

#[test]
fn addresses_are_announced_once() {
    let mut bench = Bench::new(&config());
    bench.run();
    let sent = bench.sent();
    assert_eq!(sent.len(), 4);
    assert_eq!(sent[0][..6], [0x33, 0x33, 0, 0, 0, 0x16], "to the switches");
    let sent = &sent[1..];
    assert_eq!(sent[0][..14], [&[0xff; 6], &SERVER_MAC[..], &[8, 6]].concat());
    assert_eq!(sent[0][28..32], [10, 0, 0, 1]);
    assert_eq!(sent[0][38..42], [10, 0, 0, 1]);
    assert_eq!(sent[1][28..32], [10, 1, 0, 1]);
    assert_eq!((sent[2][20], sent[2][21], sent[2][54]), (58, 255, 136));
    bench.wait(10_000);
    assert!(bench.sent().is_empty());
}

#[test]
fn arp_is_answered_for_all_own_addresses_and_no_other() {
    let mut bench = quiet();
    for target in [[10, 0, 0, 1], [10, 1, 0, 1]] {
        let answer = bench.exchange(arp_request([10, 0, 0, 2], target));
        assert_eq!(answer.len(), 1);
        let mut expected = [CLIENT_MAC, SERVER_MAC].concat();
        expected.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        expected.extend(SERVER_MAC);
        expected.extend(target);
        expected.extend(CLIENT_MAC);
        expected.extend([10, 0, 0, 2]);
        assert_eq!(answer[0], expected);
    }
    // A probe for an address in use.
    assert_eq!(bench.exchange(arp_request([0; 4], [10, 0, 0, 1])).len(), 1);
    assert_eq!(bench.count(Counter::NeighborReplies), 3);
    assert!(bench.exchange(arp_request([10, 0, 0, 2], [10, 0, 0, 3])).is_empty());
    assert_eq!(bench.count(Counter::FramesNotForUs), 1);
}

#[test]
fn solicitations_are_answered() {
    let mut bench = quiet();
    let own: Ipv6Addr = "fd00::1".parse().unwrap();
    let group: IpAddr = "ff02::1:ff00:1".parse().unwrap();
    let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
    body.extend(own.octets());
    body.extend([1, 1]);
    body.extend(CLIENT_MAC);
    let mut frame = packet("fd00::2".parse().unwrap(), group, 58, &body);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0xff, 0, 0, 1]);
    let answer = bench.exchange(frame);
    assert_eq!(answer.len(), 1);
    let mut body = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    body.extend(own.octets());
    body.extend([2, 1]);
    body.extend(SERVER_MAC);
    let mut expected = packet(own.into(), "fd00::2".parse().unwrap(), 58, &body);
    expected[..12].copy_from_slice(&[CLIENT_MAC, SERVER_MAC].concat());
    seal(&mut expected);
    assert_eq!(answer[0], expected);

    // Duplicate address detection has no source and is answered to all nodes.
    let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
    body.extend(own.octets());
    let answer = bench.exchange(packet("::".parse().unwrap(), group, 58, &body));
    assert_eq!(answer[0][..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(bench.count(Counter::NeighborReplies), 2);
}

#[test]
fn echo_is_returned_byte_for_byte() {
    let mut bench = quiet();
    for bytes in [8, 9, 64, 1480] {
        let mut echo = vec![8, 0, 0, 0, 1, 2, 3, 4];
        echo.resize(bytes, 0x5a);
        let (client, server) = ("10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let answer = bench.exchange(packet(client, server, 1, &echo));
        echo[0] = 0;
        let mut expected = packet(server, client, 1, &echo);
        expected[..12].copy_from_slice(&[CLIENT_MAC, SERVER_MAC].concat());
        assert_eq!(answer, [expected]);
    }
    let (client, server) = ("fd00::2".parse().unwrap(), "fd00::1".parse().unwrap());
    let answer = bench.exchange(packet(client, server, 58, &[128, 0, 0, 0, 1, 2, 3, 4, 5]));
    let mut expected = packet(server, client, 58, &[129, 0, 0, 0, 1, 2, 3, 4, 5]);
    expected[..12].copy_from_slice(&[CLIENT_MAC, SERVER_MAC].concat());
    expected[21] = 255;
    assert_eq!(answer, [expected]);
    assert_eq!(bench.count(Counter::EchoReplies), 5);
    // Not to a group: one frame would cause many.
    assert!(
        bench
            .exchange(packet(client, "ff02::1".parse().unwrap(), 58, &[128, 0, 0, 0, 0, 0, 0, 0]))
            .is_empty()
    );
}

#[test]
fn a_priority_tag_is_not_a_vlan() {
    let tagged = |mut frame: Vec<u8>, tags: &[[u8; 4]]| {
        frame.splice(12..12, tags.concat());
        frame
    };
    let mut bench = quiet();
    for (n, tags) in [
        vec![[0x81, 0, 0, 0]],
        vec![[0x81, 0, 0xe0, 0]],
        vec![[0x88, 0xa8, 0x60, 0]],
        vec![[0x88, 0xa8, 0x60, 0], [0x81, 0, 0, 0]],
    ]
    .into_iter()
    .enumerate()
    {
        let answer = bench.exchange(tagged(arp_request([10, 0, 0, 2], [10, 0, 0, 1]), &tags));
        assert_eq!(answer[0][12..14], [8, 6], "answered without a tag");
        let peer = format!("10.0.0.2:{}", 40000 + n);
        let mut hand = super::peer::Hand::open(&mut bench, &peer, "10.0.0.1:11211");
        let request = hand.craft(super::peer::ACK).payload(b"hello").frame();
        hand.seq += 5;
        let answer = bench.exchange(tagged(request, &tags));
        assert_eq!(super::peer::see(&answer[0]).payload, b"hello");
        let echo = packet(
            "fd00::2".parse().unwrap(),
            "fd00::1".parse().unwrap(),
            58,
            &[128, 0, 0, 0, 1, 2, 3, 4],
        );
        assert_eq!(bench.exchange(tagged(echo, &tags)).len(), 1);
    }
    let refused = bench.count(Counter::FramesNotForUs);
    let request = || arp_request([10, 0, 0, 2], [10, 0, 0, 1]);
    for tags in [vec![[0x81, 0, 0, 1]], vec![[0x88, 0xa8, 1, 0]], vec![[0x81, 0, 0, 0]; 3]] {
        assert!(bench.exchange(tagged(request(), &tags)).is_empty());
    }
    assert_eq!(bench.count(Counter::FramesNotForUs), refused + 3);
    // Truncated in the tag.
    assert!(bench.exchange(tagged(request(), &[[0x81, 0, 0, 0]])[..15].to_vec()).is_empty());
}
