//! The probe of a server's capabilities at start.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use sunder::tier::link::Address;
use sunder::tier::rend::Rend;
use sunder::tier::rend::binary::Exptimes;
use sunder::tier::rend::probe::{ProbeError, Server};

use super::fake::{FakeRend, Kind, START_UNIX_S};
use super::fixture::{Folder, Sunder};
use crate::support;
use sunder::base::clock::{Clock, Now};

fn probe(address: &Address) -> Result<Server, ProbeError> {
    Rend::probe(address, Clock::start().read())
}

fn probe_fake(fake: &FakeRend) -> Result<Server, ProbeError> {
    let now = Now { unix_s: START_UNIX_S, ..Now::default() };
    Rend::probe(&Address::Unix(fake.path().to_owned()), now)
}

fn refused(result: Result<Server, ProbeError>) -> String {
    let line = result.expect_err("it is refused").to_string();
    assert!(!line.contains('\n'), "one line: {line}");
    line
}

#[test]
fn a_sunder_is_recognized_by_its_capabilities() {
    let server = probe(&Sunder::start().address());
    // It has ended already: the sunder existed for that line only.
    assert!(matches!(server, Ok(Server::Whole)), "{server:?}");
}

#[test]
fn a_rend_is_recognized_by_what_it_lacks_and_nothing_is_left_there() {
    for kind in [Kind::Lmdb, Kind::Memory] {
        let fake = FakeRend::start(kind);
        let server = probe_fake(&fake).expect("it has GETE");
        assert_eq!(server, Server::Rend(Exptimes::Distances), "{kind:?}");
        assert_eq!(fake.keys(), Vec::<Vec<u8>>::new(), "{kind:?}");
        assert!(Rend::lacks(server).is_some_and(|line| line.contains("flush_all")));
    }
    assert_eq!(Rend::lacks(Server::Whole), None);
}

#[test]
fn a_memcached_is_refused_with_a_line_that_names_the_right_tier() {
    let (_memcached, address) = support::Server::memcached().expect("it starts");
    let line = refused(probe(&Address::Tcp(address)));
    assert!(line.contains("memcached,addr=.."), "{line}");
    let fake = FakeRend::start(Kind::WithoutGete);
    let line = refused(probe_fake(&fake));
    assert!(line.contains("memcached,addr=.."), "{line}");
}

#[test]
fn a_server_whose_gete_returns_no_expiry_is_refused() {
    let fake = FakeRend::start(Kind::Remaining);
    let line = refused(probe_fake(&fake));
    assert!(line.contains("when an item expires"), "{line}");
}

#[test]
fn a_missing_server_or_another_protocol_is_refused() {
    let folder = Folder::new();
    let address = Address::Unix(folder.socket());
    let absent = probe(&address).expect_err("there is no server");
    assert!(matches!(absent, ProbeError::Lost(_)), "{absent}");
    let listener = UnixListener::bind(folder.socket()).expect("a socket in a new folder");
    let speaker = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it connects");
        stream.write_all(b"ERROR\r\n").expect("it listens");
        // The answer is long enough when it closes.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let line = refused(probe(&address));
    assert!(line.contains("does not speak memcached's binary protocol"), "{line}");
    speaker.join().expect("it spoke");
}
