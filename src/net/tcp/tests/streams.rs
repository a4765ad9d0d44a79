//! Connections that behave.

use super::peer::{ACK, Client, FIN, Hand, SYN, see};
use super::wire::{Bench, config};
use crate::net::Transport;

#[test]
fn a_connection_opens_echoes_and_closes() {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    let mut hand = Hand::open(&mut bench, "10.0.0.2:40000", "10.0.0.1:11211");
    assert_eq!(bench.handler.opened.len(), 1);
    assert_eq!(bench.stack.connections(), 1);
    assert_eq!(hand.say(&mut bench, b"hello"), b"hello");
    assert_eq!(hand.say(&mut bench, b"again"), b"again");
    let answer = bench.exchange(hand.craft(FIN | ACK).frame());
    let seen = see(&answer[0]);
    assert_eq!((answer.len(), seen.flags, seen.ack), (1, FIN | ACK, hand.seq + 1));
    hand.seq += 1;
    hand.ack += 1;
    assert!(bench.exchange(hand.craft(ACK).frame()).is_empty());
    assert_eq!(bench.stack.connections(), 0);
    assert_eq!(bench.handler.closed.len(), 1);
    let _ = SYN;
}

#[test]
fn a_smoltcp_client_is_answered_over_both_families() {
    let mut bench = Bench::new(&config());
    let mut client = Client::new(7, &["10.0.0.2/24", "fd00::2/64"]);
    for (to, port) in [("10.0.0.1:11211", 40000), ("[fd00::1]:11212", 40001)] {
        let handle = client.connect(to, port, 4096);
        client.play(&mut bench, 100);
        assert!(client.socket(handle).may_send());
        client.socket(handle).send_slice(b"hello").unwrap();
        client.play(&mut bench, 100);
        let mut answer = [0; 10];
        assert_eq!(client.socket(handle).recv_slice(&mut answer), Ok(5));
        assert_eq!(&answer[..5], b"hello");
    }
    assert_eq!(bench.handler.opened.iter().map(|o| o.1).collect::<Vec<_>>(), [0, 1]);
}
