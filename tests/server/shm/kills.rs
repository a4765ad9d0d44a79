//! kill -9 of the daemon and of its client, at random moments under load: the history checker finds
//! no wrong value.

use super::super::history;
use super::until;
use crate::kept::Place;
use crate::support::chaos::{Accident, Memcached};
use crate::support::{Server, free_port};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use sunder::base::random::mix;
use sunder::load::history::plan::Plan;
use sunder::load::history::run::run_watched;
use sunder::load::stream::Target;

/// Kills of each side; `SUNDER_SHM_KILLS` sets another number.
const KILLS: u64 = 10;

/// Operations since the last, at least.
const UNDER_WAY: u64 = 500;

/// Shortest and longest time between two.
const PAUSE_MS: (u64, u64) = (20, 100);

fn kill(name: &str, flags_of_l1d: &[&str], l2: Option<&Memcached>) {
    let number = |text: String| text.parse().expect("a number");
    let kills = std::env::var("SUNDER_SHM_KILLS").map_or(KILLS, number);
    let mut l1d = Memcached::start_l1d_with(64, 1, flags_of_l1d).expect("it starts");
    let (port, batch_port) = (free_port().to_string(), free_port().to_string());
    let l1 = format!("shm,name={},timeout=60", l1d.name());
    let mut flags = vec!["-p", &port, "--workers", "2", "--poll", "adaptive", "--l1", &l1];
    flags.extend(["--wait", "20"]);
    let l2 = l2.map(|l2| format!("memcached,addr={},timeout=20000", l2.address()));
    if let Some(l2) = &l2 {
        flags.extend(["--l2", l2, "--bp", &batch_port]);
    }
    let mut sunder = Server::sunder(&flags).expect("it attaches");
    let plan = Plan {
        targets: vec![Target::parse(&format!("127.0.0.1:{port}")).expect("an address")],
        // Until both were killed often enough.
        operations: u64::MAX,
        // Both sides lose their count of cas numbers.
        may_cas_repeat: true,
        ..Plan::default()
    };
    let (done, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let report = std::thread::scope(|scope| {
        let (done, is_over) = (&done, &is_over);
        let killer = scope.spawn(move || {
            for n in 0..2 * kills {
                let before = done.load(Relaxed);
                let pause_ms = PAUSE_MS.0 + mix(n) % (PAUSE_MS.1 - PAUSE_MS.0);
                std::thread::sleep(Duration::from_millis(pause_ms));
                // Only under load.
                until("operations are executed", || done.load(Relaxed) >= before + UNDER_WAY);
                if n % 2 == 0 {
                    let down_ms = mix(n ^ 1) % 30;
                    l1d.inject(Accident::Kill { down_ms }, &[]).expect("killed");
                } else {
                    sunder.kill();
                    sunder = Server::sunder(&flags).expect("it attaches again");
                }
            }
            is_over.store(true, Relaxed);
            (l1d, sunder)
        });
        let report = run_watched(&plan, &mut |operations| {
            done.store(operations, Relaxed);
            !is_over.load(Relaxed) && !killer.is_finished()
        });
        drop(killer.join().expect("it kills to the end"));
        report.expect("it runs")
    });
    println!("{name}: killed {} times in all\n{report}", 2 * kills);
    history::is_right(name, &report);
    assert!(report.errors > 0 && report.reconnects > 0, "{report}");
}

#[test]
fn either_side_killed_under_load_serves_nothing_wrong() {
    kill("shm alone", &[], None);
}

#[test]
fn either_side_killed_under_load_before_an_l2_serves_nothing_wrong() {
    let l2 = Memcached::start(64, 2).expect("it starts");
    kill("shm before a memcached", &[], Some(&l2));
}

#[test]
fn either_side_killed_while_workers_of_the_daemon_pass_keys_on_serves_nothing_wrong() {
    // Half of the operations are in another worker's mailbox when their rings end.
    kill("shm, two workers", &["--workers", "2"], None);
}

#[test]
fn a_daemon_that_keeps_items_serves_nothing_wrong_when_either_side_is_killed() {
    let files = Place::new();
    kill("shm, kept", &["--path", &files.path("cache")], None);
}

/// Only the client knows what L1 has to forget because L2 was changed meanwhile; it empties L1 if
/// it has lost that.
#[test]
fn a_daemon_that_keeps_items_before_an_l2_serves_nothing_that_was_replaced() {
    let (files, l2) = (Place::new(), Memcached::start(64, 2).expect("it starts"));
    let flags = ["--path", &files.path("cache"), "--workers", "2"];
    kill("shm, kept, before a memcached", &flags, Some(&l2));
}
