//! Connections that we open.

use super::peer::{ACK, Crafted, PSH, RST, SYN, packet, see};
use super::wire::{Bench, CLIENT_MAC, SERVER_MAC, config};
use crate::base::limits::TCP_HALF_OPEN_TIMEOUT_US;
use crate::net::tcp::ConnectError;
use crate::net::tcp::connect::OUTGOING;
use crate::net::{ConnectionId, Transport};

fn quiet() -> Bench {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    bench
}

fn connect(bench: &mut Bench, remote: &str) -> Result<ConnectionId, ConnectError> {
    bench.stack.connect(remote.parse().unwrap(), 50_000, bench.now, &mut bench.handler)
}

fn arp_reply(sender: [u8; 4]) -> Vec<u8> {
    let mut frame = [SERVER_MAC, CLIENT_MAC].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(CLIENT_MAC);
    frame.extend(sender);
    frame.extend(SERVER_MAC);
    frame.extend([10, 0, 0, 1]);
    frame
}

#[test]
fn a_neighbor_is_requested_and_the_handshake_follows() {
    let mut bench = quiet();
    let id = connect(&mut bench, "10.0.0.2:11211").unwrap();
    assert_eq!(connect(&mut bench, "10.0.0.2:11211"), Err(ConnectError::InUse));
    let asked = bench.sent();
    assert_eq!((asked.len(), &asked[0][38..42]), (1, &[10, 0, 0, 2][..]));
    // An unsolicited answer, then the correct one.
    assert!(bench.exchange(arp_reply([10, 0, 0, 9])).is_empty());
    let syn = see(&bench.exchange(arp_reply([10, 0, 0, 2]))[0]);
    assert_eq!((syn.flags, syn.to_port), (SYN, 11211));
    assert!(bench.stack.is_connecting(id));

    let ours = "10.0.0.1:50000";
    let answer = Crafted::new("10.0.0.2:11211", ours, SYN | ACK, 500, syn.seq.wrapping_add(1));
    let seen = see(&bench.exchange(answer.frame())[0]);
    assert_eq!((seen.flags, seen.ack), (ACK, 501));
    assert_eq!(bench.handler.opened, [(id, OUTGOING)]);
    let data = Crafted::new("10.0.0.2:11211", ours, ACK | PSH, 501, seen.seq).payload(b"VALUE");
    assert_eq!(see(&bench.exchange(data.frame())[0]).payload, b"VALUE");
    assert_eq!(bench.stack.connections(), 1);

    // The neighbour is known now; a refusal frees the connection.
    let other = connect(&mut bench, "10.0.0.2:80").unwrap();
    let syn = see(&bench.sent()[0]);
    let reset = Crafted::new("10.0.0.2:80", ours, RST | ACK, 0, syn.seq.wrapping_add(1));
    bench.exchange(reset.frame());
    assert!(!bench.stack.is_connecting(other));
    assert_eq!((bench.stack.connections(), bench.handler.opened.len()), (1, 1));
}

#[test]
fn a_distant_address_is_reached_through_the_router() {
    let mut bench = quiet();
    connect(&mut bench, "192.0.2.1:11211").unwrap();
    assert_eq!(bench.sent()[0][38..42], [10, 0, 0, 254]);
    assert_eq!(see(&bench.exchange(arp_reply([10, 0, 0, 254]))[0]).to_port, 11211);

    connect(&mut bench, "[2001:db8::1]:11211").unwrap();
    let asked = &bench.sent()[0];
    assert_eq!((asked[..6].to_vec(), asked[54]), (vec![0x33, 0x33, 0xff, 0, 0, 0xfe], 135));
    let mut body = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    body.extend("fd00::fe".parse::<std::net::Ipv6Addr>().unwrap().octets());
    body.extend([2, 1]);
    body.extend(CLIENT_MAC);
    let answer = packet("fd00::fe".parse().unwrap(), "fd00::1".parse().unwrap(), 58, &body);
    assert_eq!(see(&bench.exchange(answer)[0]).flags, SYN);

    let mut config = config();
    config.gateways.clear();
    let mut bench = Bench::new(&config);
    assert_eq!(connect(&mut bench, "192.0.2.1:11211"), Err(ConnectError::NoRoute));
    assert_eq!(connect(&mut bench, "10.0.0.2:0"), Err(ConnectError::NoRoute));
    assert_eq!((bench.stack.connections(), bench.stack.table.len()), (0, 0));
}

#[test]
fn each_own_address_has_its_own_ports() {
    let mut bench = quiet();
    let from = |bench: &mut Bench, local: &str, remote: &str| {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        bench.stack.connect_from(local, remote, bench.now, &mut bench.handler)
    };
    let id = from(&mut bench, "10.0.0.1:50000", "10.0.0.2:11211").unwrap();
    assert_eq!(from(&mut bench, "10.0.0.1:50000", "10.0.0.2:11211"), Err(ConnectError::InUse));
    bench.sent();
    let syn = &bench.exchange(arp_reply([10, 0, 0, 2]))[0];
    assert_eq!((see(syn).flags, &syn[34..36]), (SYN, &50_000_u16.to_be_bytes()[..]));
    assert!(bench.stack.is_connecting(id));

    // The same port of another address: on its own network directly, else through the router.
    from(&mut bench, "10.1.0.1:50000", "10.0.0.2:11211").unwrap();
    assert_eq!(bench.sent()[0][38..42], [10, 0, 0, 254]);
    let syn = &bench.exchange(arp_reply([10, 0, 0, 254]))[0];
    assert_eq!(syn[26..30], [10, 1, 0, 1]);
    from(&mut bench, "10.1.0.1:50000", "10.1.0.9:11211").unwrap();
    assert_eq!(bench.sent()[0][38..42], [10, 1, 0, 9]);

    for (local, remote) in [
        ("10.0.0.3:50000", "10.0.0.2:11211"),
        ("[fd00::2]:50000", "[fd00::9]:11211"),
        ("10.0.0.1:50000", "[fd00::9]:11211"),
    ] {
        assert_eq!(from(&mut bench, local, remote), Err(ConnectError::NoRoute), "{local}");
    }
    assert!(from(&mut bench, "[fd00::1]:50000", "[fd00::9]:11211").is_ok());
    assert_eq!(bench.stack.connections(), 4);
}

#[test]
fn a_neighbor_that_does_not_answer_is_given_up() {
    let mut bench = quiet();
    let id = connect(&mut bench, "10.0.0.2:11211").unwrap();
    bench.wait(5_000_000);
    assert_eq!(bench.sent().len(), 3);
    assert!(!bench.stack.is_connecting(id));
    assert_eq!((bench.stack.connections(), bench.stack.table.len()), (0, 0));
    // And a host that drops our SYN.
    let id = connect(&mut bench, "10.0.0.2:11211").unwrap();
    bench.exchange(arp_reply([10, 0, 0, 2]));
    bench.wait(2 * TCP_HALF_OPEN_TIMEOUT_US);
    assert!(!bench.stack.is_connecting(id));
    assert_eq!((bench.stack.connections(), bench.handler.opened.len()), (0, 0));
}
