//! How connections open, close, and are aborted.

use smoltcp::socket::tcp::State;

use super::peer::{ACK, Client, FIN, Hand, PSH, RST, SYN, see};
use super::wire::{Bench, Manner, TestPort, config};
use crate::base::clock::{Now, Pace};
use crate::base::limits::{
    TCP_HALF_OPEN_TIMEOUT_US, TCP_KEEP_ALIVE_US, TCP_LINGER_US, TCP_PEER_TIMEOUT_US,
    TCP_REFUSALS_MAX, TCP_RX_RING_BYTES, TCP_SWEEP_PERIOD_US, TCP_TIME_WAIT_US, TCP_TX_RING_BYTES,
};
use crate::base::stats::Counter;
use crate::net::tcp::headers::be16;
use crate::net::tcp::listen::InitialSequence;
use crate::net::tcp::{Cidr, ConfigError, Stack};
use crate::net::{REFUSAL, Transport};

const CLIENT: &str = "10.0.0.2:40000";
const SERVER: &str = "10.0.0.1:11211";

fn quiet() -> Bench {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    bench
}

#[test]
fn a_connection_opens_echoes_and_closes() {
    let mut bench = quiet();
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
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
    assert_eq!(bench.handler.closed, [bench.handler.opened[0].0]);
}

#[test]
fn received_frames_are_returned_and_reused() {
    let mut bench = quiet();
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    let recycled = |bench: &Bench| bench.queues.borrow().recycled_ever;
    let before = recycled(&bench);
    let long = [b'l'; 900];
    for message in [&long[..], b"short", &long, b"s"] {
        // Each answer overwrites a longer or a shorter frame.
        assert_eq!(hand.say(&mut bench, message), message);
    }
    // Frames that belong to no connection are returned too.
    bench.exchange(vec![0xff; 60]);
    assert_eq!(recycled(&bench) - before, 5);
}

#[test]
fn a_smoltcp_client_is_answered_over_both_families_and_on_both_ports() {
    let mut bench = quiet();
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

#[test]
fn checksums_are_left_to_a_device_that_computes_them() {
    let port = TestPort::default();
    port.0.borrow_mut().tx_checksum = true;
    let mut bench = Bench::with_port(&config(), port.clone(), &port);
    bench.run();
    bench.sent();
    let hand = Hand { from: CLIENT.into(), to: SERVER.into(), seq: 1, ack: 0 };
    bench.exchange_quietly(hand.craft(SYN).frame());
    let frame = bench.queues.borrow_mut().to_client.pop_front().unwrap();
    let offload = frame.offload.unwrap();
    assert!(offload.is_ipv4 && offload.ip_header_bytes == 20);
    // The sum of the pseudo-header and nothing else.
    let tcp_bytes = frame.bytes.len() as u32 - 34;
    let words = frame.bytes[26..34].chunks(2).map(|c| u32::from(be16(c, 0)));
    let sum = words.sum::<u32>() + 6 + tcp_bytes;
    assert_eq!(u32::from(be16(&frame.bytes, 50)), (sum & 0xffff) + (sum >> 16));
    assert_eq!(be16(&frame.bytes, 24), 0);
}

#[test]
fn data_before_the_end_is_answered_before_the_end() {
    let mut bench = quiet();
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    let answer = bench.exchange(hand.craft(FIN | ACK | PSH).payload(b"last words").frame());
    let seen: Vec<_> = answer.iter().map(|frame| see(frame)).collect();
    hand.seq += 11;
    assert_eq!(seen.iter().flat_map(|s| s.payload.clone()).collect::<Vec<_>>(), b"last words");
    let last = seen.last().unwrap();
    assert_eq!((last.flags & FIN, last.ack), (FIN, hand.seq));
}

#[test]
fn several_segments_of_a_burst_are_passed_on_once() {
    let mut bench = quiet();
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    for piece in [&b"one "[..], b"two ", b"three"] {
        let frame = hand.craft(ACK | PSH).payload(piece).frame();
        hand.seq += piece.len() as u32;
        bench.queues.borrow_mut().to_server.push_back(super::wire::VecFrame::new(frame));
    }
    bench.run();
    assert_eq!(bench.handler.ready_calls, 1);
    assert_eq!(see(&bench.sent()[0]).payload, b"one two three");
}

#[test]
fn our_close_leaves_a_tuple_in_time_wait() {
    let mut bench = quiet();
    bench.handler.manner = Manner::Close;
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    let answer = bench.exchange(hand.craft(ACK | PSH).payload(b"quit\r\n").frame());
    let seen = see(answer.last().unwrap());
    assert_eq!((&seen.payload[..], seen.flags & FIN), (&b"bye\r\n"[..], FIN));
    hand.seq += 6;
    hand.ack += 6;
    // Data after our FIN is acknowledged and dropped.
    bench.exchange(hand.craft(ACK | PSH).payload(b"more\r\n").frame());
    hand.seq += 6;
    // The acknowledgement may be delayed, but is sent.
    bench.exchange_quietly(hand.craft(FIN | ACK).frame());
    bench.wait(5_000);
    let answer = bench.sent();
    assert_eq!(see(answer.last().unwrap()).ack, hand.seq + 1);
    assert_eq!((bench.stack.connections(), bench.handler.closed.len()), (0, 1));
    assert_eq!(bench.handler.ready_calls, 1);

    // The FIN again: the same answer.
    let again = bench.exchange(hand.craft(FIN | ACK).frame());
    assert_eq!(see(&again[0]), see(answer.last().unwrap()));
    // A RST and an old SYN change nothing; a newer SYN starts a new connection.
    assert!(bench.exchange(hand.craft(RST).frame()).is_empty());
    let mut old = hand.craft(SYN);
    old.seq = hand.seq.wrapping_sub(1000);
    assert_eq!(see(&bench.exchange(old.frame())[0]).flags, ACK);
    let mut newer = hand.craft(SYN);
    newer.seq = hand.seq + 1000;
    assert_eq!(see(&bench.exchange(newer.frame())[0]).flags, SYN | ACK);
}

#[test]
fn time_wait_ends() {
    let mut bench = quiet();
    bench.handler.manner = Manner::Close;
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    bench.exchange(hand.craft(ACK | PSH).payload(b"quit\r\n").frame());
    hand.seq += 6;
    hand.ack += 6;
    bench.exchange(hand.craft(FIN | ACK).frame());
    bench.wait(TCP_TIME_WAIT_US + 1000);
    let answer = bench.exchange(hand.craft(FIN | ACK).frame());
    assert_eq!(see(&answer[0]).flags, RST);
}

#[test]
fn time_wait_waits_for_a_frame_for_the_acknowledgement() {
    let mut bench = quiet();
    bench.handler.manner = Manner::Close;
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    bench.exchange(hand.craft(ACK | PSH).payload(b"quit\r\n").frame());
    hand.seq += 6;
    hand.ack += 6;
    // The stack holds at most one frame.
    bench.queues.borrow_mut().frames_left = Some(0);
    // Two answers are due, so at least one of them finds no frame.
    bench.exchange_quietly(hand.craft(FIN | ACK).frame());
    let mut other = Hand { from: "10.0.0.5:5".into(), to: SERVER.into(), seq: 1, ack: 0 };
    bench.exchange_quietly(other.craft(SYN).frame());
    other.seq += 1;
    assert!(bench.count(Counter::TxNoBuffer) > 0);
    bench.queues.borrow_mut().frames_left = None;
    bench.wait(100_000);
    let seen: Vec<_> = bench.sent().iter().map(|frame| see(frame)).collect();
    assert!(seen.iter().any(|seen| seen.ack == hand.seq + 1), "{seen:?}");
    assert!(seen.iter().any(|seen| seen.flags == SYN | ACK), "{seen:?}");
    assert_eq!(bench.stack.connections(), 0);
}

#[test]
fn our_abort_resets() {
    let mut bench = quiet();
    bench.handler.manner = Manner::Abort;
    let hand = Hand::open(&mut bench, CLIENT, SERVER);
    let answer = bench.exchange(hand.craft(ACK | PSH).payload(b"x").frame());
    assert_eq!(see(&answer[0]).flags & RST, RST);
    assert_eq!((bench.stack.connections(), bench.handler.closed.len()), (0, 1));
}

#[test]
fn a_reset_from_the_peer_closes() {
    let mut bench = quiet();
    let hand = Hand::open(&mut bench, CLIENT, SERVER);
    // Not in the window: RFC 5961, 3.2.
    let mut blind = hand.craft(RST);
    blind.seq = hand.seq.wrapping_add(1 << 20);
    bench.exchange(blind.frame());
    assert_eq!(bench.stack.connections(), 1);
    bench.exchange(hand.craft(RST | ACK).frame());
    assert_eq!((bench.stack.connections(), bench.handler.closed.len()), (0, 1));
}

#[test]
fn a_peer_that_lost_its_state_is_challenged_and_reconnects() {
    let mut bench = quiet();
    let old = Hand::open(&mut bench, CLIENT, SERVER);
    let mut syn = old.craft(SYN);
    syn.seq = 5_000_000;
    let seen = see(&bench.exchange(syn.frame())[0]);
    assert_eq!((seen.flags, seen.seq, seen.ack), (ACK, old.ack, old.seq));
    // The peer does not know that acknowledgement, resets, and tries again.
    let mut reset = old.craft(RST);
    reset.seq = seen.ack;
    bench.exchange(reset.frame());
    assert_eq!(bench.stack.connections(), 0);
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    assert_eq!(hand.say(&mut bench, b"hello"), b"hello");
}

#[test]
fn a_connection_over_the_limit_is_refused_and_more_are_reset() {
    let mut config = config();
    config.allow(2);
    let mut bench = Bench::new(&config);
    bench.run();
    bench.sent();
    for n in 0..2 {
        Hand::open(&mut bench, &format!("10.0.0.2:{}", 40000 + n), SERVER);
    }
    for n in 0..TCP_REFUSALS_MAX {
        let mut hand =
            Hand { from: format!("10.0.0.3:{}", 40000 + n), to: SERVER.into(), seq: 1000, ack: 0 };
        let seen = see(&bench.exchange(hand.craft(SYN).frame())[0]);
        assert_eq!(seen.flags, SYN | ACK);
        hand.seq += 1;
        hand.ack = seen.seq.wrapping_add(1);
        let answer = bench.exchange(hand.craft(ACK).frame());
        let seen = see(&answer[0]);
        assert_eq!((&seen.payload[..], seen.flags & FIN), (REFUSAL, FIN));
    }
    let hand = Hand { from: "10.0.0.4:1".into(), to: SERVER.into(), seq: 1000, ack: 0 };
    assert_eq!(see(&bench.exchange(hand.craft(SYN).frame())[0]).flags, RST | ACK);
    assert_eq!(bench.count(Counter::RejectedConnections), TCP_REFUSALS_MAX as u64 + 1);
    assert_eq!((bench.stack.connections(), bench.handler.opened.len()), (2, 2));
    assert_eq!(bench.count(Counter::CurrConnections), 2);
    assert_eq!(bench.count(Counter::TotalConnections), 2);
    // Refused connections that never close are dropped.
    bench.wait(TCP_LINGER_US + 2 * TCP_SWEEP_PERIOD_US);
    bench.sent();
    assert_eq!(see(&bench.exchange(hand.craft(SYN).frame())[0]).flags, SYN | ACK);
}

#[test]
fn connections_and_their_bytes_are_counted() {
    let mut bench = quiet();
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    assert_eq!(bench.count(Counter::CurrConnections), 1);
    assert_eq!(hand.say(&mut bench, b"hello"), b"hello");
    assert_eq!(bench.count(Counter::BytesRead), 5);
    assert_eq!(bench.count(Counter::BytesWritten), 5);
    bench.exchange(hand.craft(RST).frame());
    assert_eq!(bench.count(Counter::CurrConnections), 0);
    assert_eq!(bench.count(Counter::TotalConnections), 1);
}

#[test]
fn a_silent_peer_is_probed_and_dropped() {
    let mut bench = quiet();
    let hand = Hand::open(&mut bench, CLIENT, SERVER);
    bench.wait(TCP_KEEP_ALIVE_US + 1_000_000);
    let probe = see(&bench.sent()[0]);
    assert_eq!(probe.seq, hand.ack.wrapping_sub(1));
    // An answer keeps the connection open.
    bench.exchange(hand.craft(ACK).frame());
    bench.wait(TCP_PEER_TIMEOUT_US - 1_000_000);
    assert_eq!(bench.stack.connections(), 1);
    bench.wait(2_000_000);
    assert_eq!((bench.stack.connections(), bench.handler.closed.len()), (0, 1));
}

#[test]
fn a_peer_that_dies_before_it_acknowledges_is_dropped() {
    for manner in [Manner::Echo, Manner::Close] {
        let mut bench = quiet();
        bench.handler.manner = manner;
        let hand = Hand::open(&mut bench, CLIENT, SERVER);
        bench.exchange(hand.craft(ACK | PSH | FIN).payload(b"x").frame());
        bench.wait(TCP_PEER_TIMEOUT_US + 2 * TCP_SWEEP_PERIOD_US);
        assert_eq!((bench.stack.connections(), bench.handler.closed.len()), (0, 1));
        // It was retransmitted, but not for ever.
        assert!((5..200).contains(&bench.sent().len()));
    }
}

#[test]
fn a_peer_that_never_closes_after_us_is_dropped() {
    let mut bench = quiet();
    bench.handler.manner = Manner::Close;
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    bench.exchange(hand.craft(ACK | PSH).payload(b"quit\r\n").frame());
    hand.seq += 6;
    hand.ack += 6;
    bench.exchange(hand.craft(ACK).frame());
    assert_eq!(bench.stack.connections(), 1);
    bench.wait(TCP_LINGER_US + 2 * TCP_SWEEP_PERIOD_US);
    assert_eq!((bench.stack.connections(), bench.handler.closed.len()), (0, 1));
    assert!(bench.sent().iter().any(|frame| see(frame).flags & RST != 0));
}

#[test]
fn an_overdue_connection_is_reset() {
    let mut bench = quiet();
    Hand::open(&mut bench, CLIENT, SERVER);
    bench.wait(2 * TCP_SWEEP_PERIOD_US);
    assert_eq!(bench.stack.connections(), 1);
    bench.handler.overdue = true;
    bench.wait(2 * TCP_SWEEP_PERIOD_US);
    assert_eq!((bench.stack.connections(), bench.handler.closed.len()), (0, 1));
    assert_eq!(bench.count(Counter::IdleKicks), 1);
    assert_eq!(see(&bench.sent()[0]).flags & RST, RST);
}

#[test]
fn an_idle_connection_is_closed_if_configured() {
    let mut config = config();
    config.idle_timeout_us = 10_000_000;
    let mut bench = Bench::new(&config);
    bench.run();
    bench.sent();
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    bench.wait(9_000_000);
    hand.say(&mut bench, b"not yet");
    bench.exchange(hand.craft(ACK).frame());
    bench.wait(9_000_000);
    assert!(bench.sent().is_empty());
    bench.wait(1_000_000 + 2 * TCP_SWEEP_PERIOD_US);
    assert_eq!(see(&bench.sent()[0]).flags & (FIN | RST), FIN);
    assert_eq!(bench.count(Counter::IdleKicks), 1);
}

#[test]
fn only_a_plausible_segment_shows_that_the_peer_is_alive() {
    let mut config = config();
    config.idle_timeout_us = 10_000_000;
    // Of 8 bytes each: the difference to the next numbers, and whether it counts.
    let segments = [
        (0, 0, true),
        (100, 0, true),
        (-4, 0, true),
        (-8, 0, false),
        (-100, 0, false),
        (TCP_RX_RING_BYTES as i32, 0, false),
        (1 << 20, 0, false),
        (i32::MIN, 0, false),
        (0, 1, false),
        (0, 1 << 20, false),
        (0, -(1 << 20), false),
        (-4, 1, false),
    ];
    for (seq, ack, counts) in segments {
        let mut bench = Bench::new(&config);
        bench.run();
        bench.sent();
        let hand = Hand::open(&mut bench, CLIENT, SERVER);
        bench.wait(9_000_000);
        let mut segment = hand.craft(ACK | PSH).payload(b"12345678");
        segment.seq = segment.seq.wrapping_add_signed(seq);
        segment.ack = segment.ack.wrapping_add_signed(ack);
        bench.exchange(segment.frame());
        bench.wait(1_000_000 + 2 * TCP_SWEEP_PERIOD_US);
        assert_eq!(bench.count(Counter::IdleKicks) == 0, counts, "{seq}, {ack}");
    }
}

#[test]
fn the_answer_to_a_wrong_acknowledgement_does_not_change_a_flows_numbers() {
    let mut config = config();
    config.idle_timeout_us = 10_000_000;
    let mut bench = Bench::new(&config);
    bench.run();
    bench.sent();
    let mut hand = Hand { from: CLIENT.into(), to: SERVER.into(), seq: 1000, ack: 0 };
    let opened = see(&bench.exchange(hand.craft(SYN).frame())[0]);
    hand.seq = 1001;
    hand.ack = opened.seq.wrapping_add(1);
    // Of an earlier connection between the same two, or of an attacker.
    let mut wrong = hand.craft(ACK);
    wrong.ack = hand.ack.wrapping_add(1 << 20);
    assert_eq!(see(&bench.exchange(wrong.frame())[0]).flags & RST, RST);
    bench.exchange(hand.craft(ACK).frame());
    bench.wait(9_000_000);
    bench.exchange(hand.craft(ACK | PSH).payload(b"12345678").frame());
    bench.wait(1_000_000 + 2 * TCP_SWEEP_PERIOD_US);
    assert_eq!(bench.count(Counter::IdleKicks), 0, "the peer's segments count");
}

#[test]
fn a_stack_that_stopped_listening_keeps_its_connections() {
    let mut bench = quiet();
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    bench.stack.stop_listening();
    let other = Hand { from: "10.0.0.3:5".into(), to: SERVER.into(), seq: 1, ack: 0 };
    assert_eq!(see(&bench.exchange(other.craft(SYN).frame())[0]).flags, RST | ACK);
    assert_eq!(hand.say(&mut bench, b"hello"), b"hello");
}

#[test]
fn resume_reaches_the_right_connection_or_none() {
    let mut bench = quiet();
    bench.handler.manner = Manner::Ignore;
    let hand = Hand::open(&mut bench, CLIENT, SERVER);
    let id = bench.handler.opened[0].0;
    bench.exchange(hand.craft(ACK | PSH).payload(b"later").frame());
    bench.handler.manner = Manner::Echo;
    bench.stack.resume(id, bench.now, &mut bench.handler);
    assert_eq!(see(&bench.sent()[0]).payload, b"later");
    let calls = bench.handler.ready_calls;
    let mut late = id;
    late.generation += 1;
    bench.stack.resume(late, bench.now, &mut bench.handler);
    late.index = 77;
    bench.stack.resume(late, bench.now, &mut bench.handler);
    assert_eq!(bench.handler.ready_calls, calls);
}

#[test]
fn unread_input_closes_the_window_in_both_directions() {
    let mut bench = quiet();
    bench.handler.manner = Manner::Ignore;
    let mut client = Client::new(3, &["10.0.0.2/24"]);
    let handle = client.connect(SERVER, 40000, 64 * 1024);
    client.play(&mut bench, 100);
    client.socket(handle).send_slice(&[7; 60_000]).unwrap();
    for _ in 0..1000 {
        client.play(&mut bench, 10_000);
    }
    assert_eq!(client.socket(handle).send_queue(), 60_000 - TCP_RX_RING_BYTES);
    // Once it is read, everything is transferred.
    bench.handler.manner = Manner::Echo;
    bench.stack.resume(bench.handler.opened[0].0, bench.now, &mut bench.handler);
    for _ in 0..2000 {
        client.play(&mut bench, 10_000);
    }
    assert_eq!(client.socket(handle).recv_queue(), 60_000);

    // The client's ring is nearly full now; it stops reading.
    client.socket(handle).send_slice(&[8; 60_000]).unwrap();
    for _ in 0..1000 {
        client.play(&mut bench, 10_000);
    }
    let stuck = client.socket(handle).send_queue();
    assert!(stuck >= 60_000 - TCP_RX_RING_BYTES - TCP_TX_RING_BYTES - 8192, "{stuck}");
    let mut got = 0;
    for _ in 0..3000 {
        let socket = client.socket(handle);
        while let Ok(n @ 1..) = socket.recv(|piece| (piece.len(), piece.len())) {
            got += n;
        }
        client.play(&mut bench, 10_000);
    }
    assert_eq!(got, 120_000);
    assert_eq!(client.socket(handle).state(), State::Established);
}

#[test]
fn an_incomplete_handshake_is_repeated_and_dropped() {
    let mut bench = quiet();
    let hand = Hand { from: CLIENT.into(), to: SERVER.into(), seq: 1000, ack: 0 };
    assert_eq!(bench.exchange(hand.craft(SYN).frame()).len(), 1);
    // The same SYN again has no immediate effect.
    assert!(bench.exchange(hand.craft(SYN).frame()).is_empty());
    bench.wait(TCP_HALF_OPEN_TIMEOUT_US - 1_000_000);
    let repeated = bench.sent();
    assert!((3..20).contains(&repeated.len()), "{}", repeated.len());
    assert!(repeated.iter().all(|frame| see(frame).flags == SYN | ACK));
    bench.wait(1_100_000);
    assert_eq!(bench.count(Counter::HalfOpenTimeouts), 1);
    bench.sent();
    assert_eq!(see(&bench.exchange(hand.craft(ACK).frame())[0]).flags, RST);
    assert_eq!(bench.handler.opened.len(), 0);
}

#[test]
fn another_syn_for_a_half_open_tuple_starts_again() {
    let mut bench = quiet();
    let first = Hand { from: CLIENT.into(), to: SERVER.into(), seq: 7_000, ack: 0 };
    bench.exchange(first.craft(SYN).frame());
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    assert_eq!(hand.say(&mut bench, b"hello"), b"hello");
}

#[test]
fn initial_sequence_numbers_are_those_of_rfc_6528() {
    let mut other = config();
    other.secret[20] ^= 1;
    let first = |config: &crate::net::tcp::StackConfig, from: &str, later_us: u64| {
        let mut bench = Bench::new(config);
        bench.run();
        bench.sent();
        bench.now.uptime_us += later_us;
        let hand = Hand { from: from.into(), to: SERVER.into(), seq: 1, ack: 0 };
        see(&bench.exchange(hand.craft(SYN).frame())[0]).seq
    };
    let here = first(&config(), CLIENT, 0);
    // smoltcp drew the expected number.
    let key = crate::net::tcp::flows::FlowKey::v4(0x0a000002, 0x0a000001, 40000 << 16 | 11211);
    let secret = config().secret;
    let isn = InitialSequence::new(secret[8..24].try_into().unwrap());
    assert_eq!(here, isn.number(&key, 1_000_000));
    assert_eq!(first(&config(), CLIENT, 4_000).wrapping_sub(here), 1000);
    let secret_apart = first(&other, CLIENT, 0).wrapping_sub(here);
    let tuple_apart = first(&config(), "10.0.0.2:40001", 0).wrapping_sub(here);
    for distance in [secret_apart, tuple_apart] {
        assert!(distance > 1 << 16 && distance < u32::MAX - (1 << 16), "{distance}");
    }
}

#[test]
fn a_reply_follows_its_connection_to_another_neighbor_but_not_a_forger() {
    let mut bench = quiet();
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    let mut forged = hand.craft(ACK);
    forged.seq = hand.seq.wrapping_add(1 << 20);
    let mut frame = forged.frame();
    frame[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    bench.exchange(frame);
    assert_eq!(hand.say(&mut bench, b"hello"), b"hello");
    let mut frame = hand.craft(ACK | PSH).payload(b"moved").frame();
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 3]);
    assert_eq!(bench.exchange(frame)[0][..6], [2, 0, 0, 0, 0, 3]);
}

#[test]
fn an_impossible_configuration_is_refused() {
    let make = |change: &dyn Fn(&mut crate::net::tcp::StackConfig)| {
        let mut config = config();
        change(&mut config);
        let stats = std::sync::Arc::default();
        Stack::<_, ()>::new(TestPort::default(), &config, stats, Default::default()).err()
    };
    assert!(make(&|_| ()).is_none());
    assert!(matches!(make(&|c| c.addresses.clear()), Some(ConfigError::Addresses)));
    for (text, prefix_bits) in [
        ("0.0.0.0", 8),
        ("224.0.0.1", 8),
        ("10.0.0.1", 33),
        ("::", 64),
        ("ff02::1", 64),
        ("fd00::1", 129),
    ] {
        let address = text.parse().unwrap();
        let error = make(&|c| c.addresses = vec![Cidr { address, prefix_bits }]);
        assert!(matches!(error, Some(ConfigError::Addresses)), "{text}/{prefix_bits}");
    }
    assert!(matches!(make(&|c| c.ports = vec![0]), Some(ConfigError::Ports)));
    assert!(matches!(make(&|c| c.ports = vec![1; 9]), Some(ConfigError::Ports)));
    assert!(matches!(make(&|c| c.connections_max = 0), Some(ConfigError::Connections)));
}

#[test]
fn a_pause_of_the_process_does_not_count_as_silence_of_peers() {
    let mut bench = quiet();
    let mut hand = Hand::open(&mut bench, CLIENT, SERVER);
    let mut pace = Pace::new(bench.now);
    let uptime_us = bench.now.uptime_us + TCP_PEER_TIMEOUT_US + 10_000_000;
    bench.now = pace.at(Now { uptime_us, ..bench.now });
    bench.run();
    assert!(bench.sent().is_empty(), "it was dropped, or probed without need");
    // It is probed in time, and stays open.
    bench.wait(TCP_KEEP_ALIVE_US);
    let probes: Vec<_> = bench.sent().iter().map(|frame| see(frame)).collect();
    assert_eq!(probes.len(), 1, "{probes:?}");
    assert_eq!((probes[0].flags & RST, probes[0].seq), (0, hand.ack.wrapping_sub(1)));
    bench.exchange(hand.craft(ACK).frame());
    assert_eq!(hand.say(&mut bench, b"still here"), b"still here");
}

#[test]
fn a_stack_that_drains_delivers_everything_and_ends_without_a_reset() {
    let mut bench = quiet();
    let idle = Hand::open(&mut bench, "10.0.0.3:40001", SERVER);
    let hand = Hand::open(&mut bench, CLIENT, SERVER);
    // A narrow window lets the answer out a little at a time.
    let mut request = hand.craft(ACK | PSH).payload(&[7; 1400]);
    request.window = 100;
    let payloads = |frames: &[Vec<u8>]| frames.iter().map(|f| see(f).payload.len()).sum::<usize>();
    let mut got = payloads(&bench.exchange(request.frame()));
    assert_eq!(got, 100);
    bench.stack.stop_listening();
    assert_eq!(bench.stack.drain(bench.now, &mut bench.handler), 2);
    let told: Vec<_> = bench.sent().iter().map(|frame| see(frame)).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].to_port, told[0].flags), (40_001, FIN | ACK));
    let mut taken = idle.craft(ACK);
    taken.ack = idle.ack.wrapping_add(1);
    bench.exchange(taken.frame());
    assert_eq!(bench.stack.drain(bench.now, &mut bench.handler), 1);
    let mut is_over = false;
    while !is_over {
        let mut more = hand.craft(ACK);
        more.seq = hand.seq.wrapping_add(1400);
        (more.ack, more.window) = (hand.ack.wrapping_add(got as u32), 500);
        let frames = bench.exchange(more.frame());
        assert!(!frames.is_empty(), "it stalls at {got}");
        got += payloads(&frames);
        is_over = frames.iter().any(|frame| see(frame).flags & FIN != 0);
        assert_eq!(bench.stack.drain(bench.now, &mut bench.handler), 1);
    }
    assert_eq!(got, 1400);
    let mut end = hand.craft(ACK);
    end.seq = hand.seq.wrapping_add(1400);
    end.ack = hand.ack.wrapping_add(1401);
    bench.exchange(end.frame());
    assert_eq!(bench.stack.drain(bench.now, &mut bench.handler), 0);
    bench.stack.close_all(bench.now, &mut bench.handler);
    assert!(bench.sent().is_empty(), "a reset after a regular close");
    assert_eq!((bench.stack.connections(), bench.handler.closed.len()), (0, 2));
}

#[test]
fn undelivered_connections_are_reset_when_the_time_is_over() {
    let mut bench = quiet();
    let hand = Hand::open(&mut bench, CLIENT, SERVER);
    let mut request = hand.craft(ACK | PSH).payload(&[7; 1400]);
    request.window = 0;
    bench.exchange(request.frame());
    assert_eq!(bench.stack.drain(bench.now, &mut bench.handler), 1);
    bench.stack.close_all(bench.now, &mut bench.handler);
    let told: Vec<_> = bench.sent().iter().map(|frame| see(frame).flags & RST).collect();
    assert_eq!(told, [RST]);
    assert_eq!(bench.stack.connections(), 0);
}
