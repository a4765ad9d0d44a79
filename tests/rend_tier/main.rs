//! The tier of Rend-based servers, against another sunder and against a stand-in for Rend.

#[path = "support/fake_rend.rs"]
mod fake_rend;
mod support;

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fake_rend::{FakeRend, Kind};
use sunder::clock::Clock;
use sunder::tier::rend::binary::Exptimes;
use sunder::tier::rend::probe::{ProbeError, Server, probe};

fn unix(path: &std::path::Path) -> impl FnMut() -> io::Result<UnixStream> {
    move || {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(stream)
    }
}

fn tcp(port: u16) -> impl FnMut() -> io::Result<TcpStream> {
    move || {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(stream)
    }
}

fn probe_fake(kind: Kind) -> (Result<Server, ProbeError>, FakeRend) {
    let path = support::free_socket_path();
    let fake = FakeRend::start(&path, kind);
    (probe(unix(&path), Clock::start().read()), fake)
}

#[test]
fn a_sunder_is_known_by_all_that_it_can() {
    let port = support::free_port();
    let _sunder =
        support::Server::sunder(&["-p", &port.to_string(), "--workers", "1"]).expect("it starts");
    let server = probe(tcp(port), Clock::start().read()).expect("it has GETE");
    assert_eq!(server, Server::Whole);
}

#[test]
fn a_rend_is_known_by_what_it_cannot_and_nothing_is_left_there() {
    for kind in [Kind::Lmdb, Kind::Memory] {
        let (server, fake) = probe_fake(kind);
        assert_eq!(server.expect("it has GETE"), Server::Rend(Exptimes::Distances), "{kind:?}");
        assert_eq!(fake.keys(), Vec::<Vec<u8>>::new(), "{kind:?}");
    }
}

#[test]
fn a_memcached_is_refused_with_a_line_that_says_what_to_use() {
    let (_memcached, address) = support::Server::memcached().expect("it starts");
    let error = probe(tcp(address.port()), Clock::start().read()).expect_err("it has no GETE");
    assert!(matches!(error, ProbeError::NoGete), "{error}");
    let (refused, _fake) = probe_fake(Kind::WithoutGete);
    let line = refused.expect_err("it has no GETE").to_string();
    assert!(line.contains("memcached,addr=.."), "{line}");
    assert!(!line.contains('\n'), "{line}");
}
