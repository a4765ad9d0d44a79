//! Connections that a load balancer introduces.

use super::*;

const V4: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x01\x02\x03\x0a\0\0\x01\x12\x34\x2b\xcb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A worker whose load balancers are at 127.0.0.1, and serves these clients.
fn rig(allow: &str) -> Rig {
    let networks = |text: &str| Networks::new(vec![text.parse().unwrap()]);
    let (allow, proxies) = (networks(allow), Some(networks("127.0.0.1")));
    let config = config(vec![Listener { allow, proxies, ..tcp("127.0.0.1:0") }], 100);
    Rig::of(bind(&config, 1).unwrap().remove(0), Behaviour::Echo)
}

/// What the kernel says of a connection that ended.
fn end_of(rig: &mut Rig, client: &mut TcpStream) -> Option<ErrorKind> {
    let mut end = None;
    rig.until("it ended", |_| {
        match client.read(&mut [0]) {
            Ok(0) => end = Some(None),
            Ok(_) => panic!("it was answered"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => end = Some(Some(error.kind())),
        }
        end.is_some()
    });
    end.unwrap()
}

fn peers(rig: &Rig) -> Vec<String> {
    let mut peers = Vec::new();
    rig.kernel.list(0, usize::MAX, &mut |listed| peers.push(listed.peer.to_string()));
    peers
}

#[test]
fn the_handler_sees_what_follows_the_header_however_it_arrives() {
    let input = [V4, b"hello"].concat();
    for step in [1, 2, 7, 27, 28, 29, input.len()] {
        let mut rig = rig("10.1.0.0/16");
        let mut client = rig.connect();
        for piece in input.chunks(step) {
            assert_eq!(rig.peer.written, rig.peer.written.min(5));
            client.write_all(piece).unwrap();
            rig.settle();
        }
        let mut got = Vec::new();
        rig.until("everything was echoed", |_| {
            assert!(!read_some(&mut client, &mut got), "closed early");
            got.len() == 5
        });
        assert_eq!(got, b"hello", "{step}");
        assert_eq!(peers(&rig), ["tcp:10.1.2.3:4660"]);
        check_echo(&mut rig, &mut client, b"and on");
    }
}

#[test]
fn nothing_is_served_before_the_header_and_it_has_to_come_in_time() {
    let mut rig = rig("10.1.0.0/16");
    let mut silent = rig.connect();
    let mut slow = rig.connect();
    slow.write_all(&V4[..27]).unwrap();
    rig.settle();
    assert_eq!((rig.peer.readies, rig.kernel.connections()), (0, 2));
    rig.now.uptime_us += PROXY_HEADER_US - 1_000;
    rig.settle();
    assert_eq!(rig.kernel.connections(), 2, "they have a little longer");
    slow.write_all(&V4[27..]).unwrap();
    rig.settle();
    rig.now.uptime_us += SWEEP_INTERVAL_US;
    assert_eq!(end_of(&mut rig, &mut silent), Some(ErrorKind::ConnectionReset));
    assert_eq!(rig.count(Counter::RejectedProxyHeaders), 1);
    check_echo(&mut rig, &mut slow, b"it was in time");
}

#[test]
fn the_list_is_for_whom_the_header_names() {
    for (allow, header, is_served) in [
        ("10.1.0.0/16", V4, true),
        ("10.2.0.0/16", V4, false),
        // The load balancer's own, as it checks whether the server is there.
        ("127.0.0.0/8", LOCAL, true),
        ("127.0.0.0/8", V4, false),
        ("10.1.0.0/16", LOCAL, false),
    ] {
        let mut rig = rig(allow);
        let mut client = rig.connect();
        client.write_all(header).unwrap();
        rig.settle();
        if is_served {
            check_echo(&mut rig, &mut client, b"hello");
        } else {
            assert_eq!(end_of(&mut rig, &mut client), Some(ErrorKind::ConnectionReset), "{allow}");
        }
        assert_eq!(rig.count(Counter::RejectedByAllow), u64::from(!is_served), "{allow}");
    }
}

#[test]
fn what_is_no_header_is_reset_and_an_end_is_not_counted() {
    let mut rig = rig("127.0.0.0/8");
    let mut client = rig.connect();
    client.write_all(b"get a\r\n").unwrap();
    assert_eq!(end_of(&mut rig, &mut client), Some(ErrorKind::ConnectionReset));
    assert_eq!(rig.count(Counter::RejectedProxyHeaders), 1);
    for sent in [&b""[..], &V4[..20]] {
        let mut client = rig.connect();
        client.write_all(sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        end_of(&mut rig, &mut client);
    }
    rig.until("nothing is left", |rig| rig.kernel.connections() == 0);
    assert_eq!(rig.count(Counter::RejectedProxyHeaders), 1);
    assert_eq!(rig.peer.readies, 0);
}

#[test]
fn a_stop_does_not_wait_for_a_header() {
    let mut rig = rig("127.0.0.0/8");
    let _client = rig.connect();
    rig.until("accepted", |rig| rig.kernel.connections() == 1);
    rig.kernel.stop_listening();
    assert_eq!(rig.kernel.drain(rig.now, &mut rig.peer), 0);
    assert_eq!(rig.kernel.connections(), 0);
}

#[test]
fn others_connect_directly_and_cannot_send_one() {
    let networks = |text: &str| Networks::new(vec![text.parse().unwrap()]);
    let proxies = Some(networks("127.0.0.2"));
    let config = config(vec![Listener { proxies, ..tcp("127.0.0.1:0") }], 100);
    let mut rig = Rig::of(bind(&config, 1).unwrap().remove(0), Behaviour::Echo);
    let mut client = rig.connect();
    check_echo(&mut rig, &mut client, V4);
    assert!(peers(&rig)[0].starts_with("tcp:127.0.0.1:"));
}
