//! Peers that may not connect.

use super::*;

/// A client from `from` of a listener with this list.
fn client_of_list(listen: &str, allow: &str, from: &str) -> (Rig, std::io::Result<TcpStream>) {
    let allow = Networks::new(vec![allow.parse().unwrap()]);
    let config = config(vec![Listener { allow, ..tcp(listen) }], 10);
    let mut rig = Rig::of(bind(&config, 1).unwrap().remove(0), Behaviour::Echo);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from: SocketAddr = from.parse().unwrap();
    socket.bind(&from.into()).unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], rig.address.unwrap().port()));
    let client = socket.connect(&to.into()).map(|()| TcpStream::from(socket));
    rig.settle();
    (rig, client)
}

#[test]
fn a_peer_that_is_not_allowed_is_reset_and_nothing_is_kept_of_it() {
    let (rig, client) = client_of_list("127.0.0.1:0", "127.0.0.2/31", "127.0.0.1:0");
    let mut client = client.unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(rig.count(Counter::RejectedByAllow), 1);
    assert_eq!(rig.count(Counter::TotalConnections) + rig.count(Counter::RejectedConnections), 0);
    assert_eq!(rig.count(Counter::BytesWritten), 0);
    assert!(rig.peer.opened.is_empty() && rig.kernel.entries.is_empty());
}

#[test]
fn an_allowed_peer_is_served_also_with_a_mapped_address() {
    for listen in ["127.0.0.1:0", "[::]:0"] {
        let (mut rig, client) = client_of_list(listen, "127.0.0.2/31", "127.0.0.3:0");
        let mut client = client.unwrap();
        client.set_nonblocking(true).unwrap();
        check_echo(&mut rig, &mut client, b"hello");
        assert_eq!(rig.count(Counter::RejectedByAllow), 0, "{listen}");
        assert_eq!(rig.peer.address, Some([127, 0, 0, 3].into()), "{listen}");
    }
}
