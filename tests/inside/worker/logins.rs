//! Clients whose password only a hash tells: a thread beside the worker verifies it.

use std::sync::Arc;

use super::{Crew, LIMITS, memory, text};
use sunder::base::clock::Clock;
use sunder::base::credentials::Credentials;
use sunder::base::limits::VERIFICATIONS_MAX;
use sunder::base::stats::Counter;
use sunder::worker::{Logins, Settings, Shared};

/// A server of one worker whose only user, alice, has the password "password", of which it knows a
/// hash; nothing verifies yet.
fn shared_with_a_hash(at_once: u32) -> (Arc<Shared>, Arc<Logins>) {
    let path = std::env::temp_dir().join(format!("sunder-hash-{}-{at_once}", std::process::id()));
    let hash =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    std::fs::write(&path, format!("alice:{hash}\n")).expect("written");
    let users = Credentials::read(&path).expect("it is right");
    std::fs::remove_file(&path).expect("it is there");
    let mut shared = Shared::new(Clock::start(), LIMITS, Settings::default(), 1);
    let logins = Arc::new(Logins::new(users, at_once, shared.clock, 1, ""));
    shared.logins = Some(Arc::clone(&logins));
    (Arc::new(shared), logins)
}

const LOGIN: &[u8] = b"set auth 0 0 14\r\nalice password\r\n";

/// Turns until a connection has got as many bytes as `expected` has.
fn expect_soon(crew: &mut Crew<'_>, c: usize, expected: &str) {
    let start = std::time::Instant::now();
    let mut reply = Vec::new();
    while reply.len() < expected.len() && start.elapsed().as_secs() < 30 {
        crew.turn();
        crew.pipes[0].receive(c, &mut reply);
        std::thread::yield_now();
    }
    assert_eq!(text(&reply), expected);
}

#[test]
fn what_follows_a_login_waits_for_its_verdict_and_others_go_on() {
    let (shared, logins) = shared_with_a_hash(0);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let [c, gone, finished, wrong] = [(); 4].map(|()| crew.pipes[0].connect(4096, 4096, 4096));
    let login = [LOGIN, b"get a\r\nget b\r\n"].concat();
    for c in [c, gone, finished] {
        crew.pipes[0].send(c, &login);
    }
    crew.pipes[0].send(wrong, b"set auth 0 0 14\r\nalice passwore\r\nget a\r\n");
    for _ in 0..100 {
        crew.turn();
    }
    crew.pipes[0].pipe(finished).is_peer_finished = true;
    crew.pipes[0].reset(gone);
    crew.turn();
    let mut reply = Vec::new();
    crew.pipes[0].receive(c, &mut reply);
    assert_eq!(text(&reply), "", "nobody has verified it");
    assert!(!crew.pipes[0].state(c).is_overdue(false, crew.now));
    logins.start_verifier().expect("a thread");
    expect_soon(&mut crew, c, "STORED\r\nEND\r\nEND\r\n");
    // It waited behind another, and its client sends no more.
    expect_soon(&mut crew, finished, "");
    assert!(!crew.pipes[0].is_open(finished));
    let refused = "CLIENT_ERROR authentication failure\r\nCLIENT_ERROR unauthenticated\r\n";
    expect_soon(&mut crew, wrong, refused);
    let count = |counter| shared.sum(counter);
    assert_eq!((count(Counter::AuthCmds), count(Counter::AuthErrors)), (4, 1));
    assert_eq!(count(Counter::AuthLimited), 0);
}

#[test]
fn more_logins_than_can_be_verified_are_refused_as_limited() {
    let (shared, logins) = shared_with_a_hash(10);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let all: Vec<_> = (0..VERIFICATIONS_MAX + 1)
        .map(|_| {
            let c = crew.pipes[0].connect(4096, 4096, 4096);
            crew.pipes[0].send(c, LOGIN);
            crew.turn();
            c
        })
        .collect();
    let (last, pending) = all.split_last().expect("many");
    expect_soon(&mut crew, *last, "CLIENT_ERROR authentication failure\r\n");
    assert!(!crew.pipes[0].is_open(*last));
    logins.start_verifier().expect("a thread");
    for &c in pending {
        expect_soon(&mut crew, c, "STORED\r\n");
    }
    assert_eq!(shared.sum(Counter::AuthLimited), 1);
    // And there is room again.
    let c = crew.pipes[0].connect(4096, 4096, 4096);
    crew.pipes[0].send(c, LOGIN);
    expect_soon(&mut crew, c, "STORED\r\n");
}
