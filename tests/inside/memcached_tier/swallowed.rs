//! Answers that are lost between a healthy server and the link, and connections that never end: how
//! soon the link serves again, and that nothing is executed late.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use sunder::base::clock::Expiry;
use sunder::base::limits::{LINK_CLOSING_US, LINK_PROOF_US, LINK_RECOVERY_US, LINK_SUSPENDED_US};
use sunder::base::stats::Counter;
use sunder::tier::link::Address;
use sunder::tier::{Outcome, StoreMode, Tier};

use super::fixture::{Fixture, Folder, HELD_TIMEOUT_US, Memcached, Scripted, greet, key, receive};

/// Time that a loaded machine may add, at most.
const SLACK: Duration = Duration::from_secs(2);

/// A proxy between a link and its server that drops single answers.
struct Swallower {
    folder: Folder,
    /// Answers that are passed on before the next ones are dropped.
    before: Arc<AtomicI64>,
}

impl Swallower {
    /// When `before` is used up, drops this many answers, on any connection.
    fn start(server: &Path, count: i64) -> Swallower {
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.socket()).expect("a socket in a new folder");
        let before = Arc::new(AtomicI64::new(i64::MAX));
        let (left, server) = (Arc::clone(&before), server.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = UnixStream::connect(&server).expect("it listens");
                let (from, to) =
                    (client.try_clone().expect("one"), server.try_clone().expect("one"));
                std::thread::spawn(move || relay(from, to, |_| true));
                let left = Arc::clone(&left);
                // One request at a time: one read is one answer.
                let is_let_through = move |_: &[u8]| {
                    let left = left.fetch_sub(1, SeqCst);
                    left > 0 || left <= -count
                };
                std::thread::spawn(move || relay(server, client, is_let_through));
            }
        });
        Swallower { folder, before }
    }
}

fn relay(mut from: UnixStream, mut to: UnixStream, is_let_through: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if is_let_through(&buffer[..n]) && to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// One operation after another, each with one answer; returns after the first failure.
fn request_until_one_fails(fixture: &Fixture, name: &[u8]) -> usize {
    let now = fixture.now();
    for step in 0.. {
        let outcome = match step {
            0 | 4 => fixture.set(name, b"old"),
            1 => fixture.run(fixture.tier.get(&key(name), now)),
            2 => fixture.run(fixture.tier.touch(&key(name), Expiry::NEVER, now)),
            3 => fixture.run(fixture.tier.delete(&key(name), 0, now)),
            5 => fixture.store(StoreMode::Append, name, b"er", 0, 0, Expiry::NEVER),
            _ => return usize::MAX,
        };
        if matches!(outcome, Outcome::Failed) {
            return step;
        }
    }
    unreachable!("the steps end")
}

/// Any answer may be lost, including that to the greeting of the next connection.
#[test]
fn a_link_recovers_in_a_stated_time_whichever_answer_is_lost() {
    let folder = Folder::new();
    let _memcached = Memcached::start(&folder.socket(), &[]);
    let case = |lost: usize, count: i64| {
        let swallower = Swallower::start(&folder.socket(), count);
        let address = Address::Unix(swallower.folder.socket());
        let fixture = Fixture::open_with(address, 500_000).expect("it greets");
        swallower.before.store(lost as i64, SeqCst);
        let name = format!("k{lost}-{count}").into_bytes();
        assert_eq!(request_until_one_fails(&fixture, &name), lost);
        let start = Instant::now();
        fixture.wait_until_up();
        let bound = Duration::from_micros(LINK_RECOVERY_US) + SLACK;
        assert!(start.elapsed() < bound, "{lost} {count}: {:?}", start.elapsed());
        assert!(fixture.count(Counter::LinkReconnects) >= count as u64);
        assert!(matches!(fixture.set(&name, b"new"), Outcome::Stored { .. }), "{lost} {count}");
        let Outcome::Hit(hit) = fixture.get(&name) else { panic!("a hit") };
        assert_eq!(hit.value.to_vec(), b"new", "{lost} {count}");
    };
    std::thread::scope(|scope| {
        for (lost, count) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (0, 2), (3, 2)] {
            scope.spawn(move || case(lost, count));
        }
    });
}

/// A server whose connection never ends: the connection is abandoned, and the server used again
/// when it has answered for so long that it must have read what it was sent before.
#[test]
fn a_connection_that_never_ends_is_abandoned_and_the_next_one_waits() {
    let server = Scripted::start();
    let fixture = Fixture::open_held(&server.folder.socket());
    let mut old = server.accept(&fixture);
    let mut tasks = [fixture.begin_set(b"k", b"old")];
    fixture.pass_ms(HELD_TIMEOUT_US / 1000 + 1, &mut tasks);
    assert!(matches!(tasks[0].output, Some(Outcome::Failed)));
    fixture.pass_ms::<()>(LINK_SUSPENDED_US / 1000 + 1, &mut []);
    assert_eq!(receive(&mut old, "the end"), None, "the link has shut down its output");
    fixture.pass_ms::<()>(LINK_CLOSING_US / 1000 - 100, &mut []);
    assert!(server.try_accept().is_none(), "it may still read older requests");
    assert_eq!(fixture.count(Counter::LinkReconnects), 0);
    fixture.pass_ms::<()>(200, &mut []);
    let mut stream = server.accept(&fixture);
    assert!(!fixture.tier.link().is_up());
    assert!(matches!(fixture.begin_get(b"k").output, Some(Outcome::Failed)));
    fixture.pass_ms::<()>(LINK_PROOF_US / 1000 - 500, &mut []);
    assert!(!fixture.tier.link().is_up(), "it may not have read all older requests");
    fixture.pass_ms::<()>(600, &mut []);
    assert!(!fixture.tier.link().is_up(), "it must answer first");
    assert!(greet(&mut stream));
    fixture.wait_until_up();
    assert_eq!(fixture.count(Counter::LinkReconnects), 1);
}

#[test]
fn a_memcached_stopped_for_very_long_never_executes_failed_requests_late() {
    let folder = Folder::new();
    let memcached = Memcached::start(&folder.socket(), &[]);
    let fixture = Fixture::open_held(&folder.socket());
    fixture.set(b"k", b"before");
    memcached.freeze();
    let mut tasks = [fixture.begin_set(b"k", b"late")];
    fixture.pass_ms((LINK_SUSPENDED_US + LINK_CLOSING_US) / 1000 + 5_000, &mut tasks);
    assert!(matches!(tasks[0].output, Some(Outcome::Failed)));
    assert!(fixture.count(Counter::LinkReconnects) > 0, "its kernel accepts connections");
    memcached.thaw();
    let start = Instant::now();
    while !fixture.tier.link().is_up() {
        assert!(start.elapsed() < super::fixture::PATIENCE, "{:?}", fixture.tier);
        fixture.pass_ms::<()>(1, &mut []);
        std::thread::sleep(Duration::from_micros(50));
    }
    assert!(matches!(fixture.set(b"k", b"after"), Outcome::Stored { .. }));
    for _ in 0..200 {
        let Outcome::Hit(hit) = fixture.get(b"k") else { panic!("a hit") };
        assert_eq!(hit.value.to_vec(), b"after");
    }
}
