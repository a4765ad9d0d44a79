//! What only meta commands have, with faults: in every composition while its memcacheds are killed,
//! frozen and lose items; over links that are cut in the middle of a reply; on a disk that accepts
//! no writes any more; and in files that outlive a server which is killed.

use super::accidents::with_accidents;
use super::compositions::{Running, compositions, number};
use crate::kept::Place;
use crate::ssd::unwritable::Disk;
use crate::support::chaos::Memcached;
use crate::support::{Server, free_port};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use sunder::load::history::choose::Random;
use sunder::load::marks::plan::{Done, Storm};
use sunder::load::stream::Target;

/// Operations of all compositions together, without faults and with them, and of each other test.
const OPERATIONS: u64 = 200_000;
const FAULTY_OPERATIONS: u64 = 30_000;
const OTHER_OPERATIONS: u64 = 10_000;

fn storm(addresses: &[String], operations: u64, seed: u64) -> Storm {
    let targets: Vec<Target> = addresses.iter().map(|address| super::target(address)).collect();
    let mut storm = Storm::new(targets, operations, seed);
    (storm.survives, storm.timeout) = (true, Duration::from_secs(2));
    storm
}

fn run(name: &str, storm: &Storm) -> Done {
    let done = storm.run(&mut |_| true);
    let done = done.unwrap_or_else(|wrong| panic!("{name}: {}: {}", wrong.key, wrong.what));
    println!("{name}: {done}");
    done
}

/// Every composition, each with its own faults if it is to have some.
fn every_composition(operations: u64, is_faulty: bool) {
    let mut all = compositions();
    all.retain(|composition| !is_faulty || !composition.accidents.is_empty());
    let each = number("SUNDER_HISTORY_OPERATIONS", operations).div_ceil(all.len() as u64);
    let seed = number("SUNDER_HISTORY_SEED", 1);
    let (mut used, mut failures) = (0, 0);
    for composition in &all {
        let mut running = composition.start(seed).expect("it starts");
        let storm = storm(&running.addresses, each, seed);
        let name = format!("{}, seed {seed}", composition.name);
        let (keys, accidents) = (storm.keys(), composition.accidents);
        let done = if is_faulty {
            let Running { l1, l2, .. } = &mut running;
            let mut victims = composition.victims(l1, l2.as_mut());
            with_accidents(&mut victims, accidents, &keys, || run(&name, &storm)).expect("faults")
        } else {
            run(&name, &storm)
        };
        // A millisecond may be too short for every operation on a busy machine.
        if !is_faulty && !composition.name.contains("impatient") {
            let is_used = done.read > 0 && done.won > 0 && done.swapped > 0 && done.late > 0;
            assert!(is_used, "{name}: {done}");
        }
        used += usize::from(done.won > 0 && done.swapped > 0);
        failures += done.failures;
    }
    assert!(!is_faulty || failures > 0, "no fault did anything");
    // A link may be down for as long as a short storm takes.
    assert!(used >= all.len() * 3 / 4, "{used} of {} compositions did anything", all.len());
}

#[test]
fn in_every_composition_one_client_fetches_what_is_stale_and_one_swaps() {
    every_composition(OPERATIONS, false);
}

#[test]
fn faults_of_memcacheds_make_no_second_winner_and_no_second_swap() {
    every_composition(FAULTY_OPERATIONS, true);
}

/// Carries bytes between sunder and a memcached, and cuts each connection in the middle of a reply.
struct Cutter {
    address: String,
    cuts: &'static AtomicU64,
}

impl Cutter {
    /// In front of the memcached at `path`. It ends with the process.
    fn start(path: &Path, seed: u64) -> Cutter {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let cuts: &AtomicU64 = Box::leak(Box::default());
        let path = path.to_owned();
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let Ok(server) = UnixStream::connect(&path) else { return };
                let random = Random::new(seed ^ number as u64);
                carry(client, server, random, cuts);
            }
        });
        Cutter { address, cuts }
    }
}

fn carry(client: TcpStream, server: UnixStream, mut random: Random, cuts: &'static AtomicU64) {
    client.set_nodelay(true).expect("an option");
    let (mut from_client, mut to_server) =
        (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let (mut server, mut client) = (server, client);
        // Requests that memcached has taken, and whose replies will not come.
        let mut left = 2_000 + random.below(60_000) as usize;
        let mut piece = [0; 4096];
        while let Ok(bytes @ 1..) = server.read(&mut piece) {
            let taken = bytes.min(left);
            if client.write_all(&piece[..taken]).is_err() {
                break;
            }
            left -= taken;
            if left == 0 {
                cuts.fetch_add(1, Relaxed);
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    });
}

#[test]
fn links_that_are_cut_in_a_reply_make_no_second_winner_and_no_second_swap() {
    let operations = number("SUNDER_HISTORY_OPERATIONS", OTHER_OPERATIONS);
    let seed = number("SUNDER_HISTORY_SEED", 1);
    for tiers in
        ["--l1 memcached,addr=L", "--l1 memcached,addr=L,layout=chunked", "--l2 memcached,addr=L"]
    {
        let memcached = Memcached::start(64, seed).expect("it starts");
        let cutter = Cutter::start(memcached.path(), seed);
        let port = free_port().to_string();
        let words = format!("-p {port} --workers 2 --poll adaptive {tiers}");
        let words = words.replace("addr=L", &format!("addr={}", cutter.address));
        let words: Vec<&str> = words.split_whitespace().collect();
        let _sunder = Server::sunder(&words).expect("it starts");
        let done = run(tiers, &storm(&[format!("127.0.0.1:{port}")], operations, seed));
        assert!(done.swapped > 0 && done.won > 0 && done.failures > 0, "{tiers}: {done}");
        assert!(cutter.cuts.load(Relaxed) > 0, "{tiers}: nothing was cut");
    }
}

/// Kills the server and starts it again while clients go on.
fn with_kills(words: &[&str], is_over: &AtomicBool, seed: u64) -> u64 {
    let mut random = Random::new(!seed);
    let mut kills = 0;
    while !is_over.load(Relaxed) {
        let mut server = Server::sunder(words).expect("it starts");
        // The first while a short storm is on.
        let (least_ms, more_ms) = if kills == 0 { (20, 60) } else { (100, 400) };
        std::thread::sleep(Duration::from_millis(least_ms + random.below(more_ms)));
        if is_over.load(Relaxed) && kills > 0 {
            break;
        }
        server.kill();
        kills += 1;
    }
    kills
}

#[test]
fn kills_of_a_server_with_kept_items_make_no_second_winner_and_no_second_swap() {
    let operations = number("SUNDER_HISTORY_OPERATIONS", OTHER_OPERATIONS);
    let seed = number("SUNDER_HISTORY_SEED", 1);
    let place = Place::new();
    let (l1, port) = (place.l1("64M", ""), free_port().to_string());
    let words = ["-p", &port, "--workers", "2", "--poll", "adaptive", "--l1", &l1];
    let is_over = AtomicBool::new(false);
    let (is_over, words) = (&is_over, &words);
    std::thread::scope(|scope| {
        let kills = scope.spawn(move || with_kills(words, is_over, seed));
        let storm = storm(&[format!("127.0.0.1:{port}")], operations, seed);
        let done = storm.run(&mut |_| true);
        is_over.store(true, Relaxed);
        let kills = kills.join().expect("it restarts");
        let done = done.unwrap_or_else(|wrong| panic!("{}: {}", wrong.key, wrong.what));
        println!("{kills} kills: {done}");
        assert!(kills > 0 && done.swapped > 0 && done.won > 0 && done.failures > 0, "{done}");
    });
}

#[test]
fn a_disk_that_accepts_no_writes_makes_no_second_winner_and_no_second_swap() {
    let operations = number("SUNDER_HISTORY_OPERATIONS", OTHER_OPERATIONS);
    let seed = number("SUNDER_HISTORY_SEED", 1);
    let disk = Disk::new();
    let port = free_port().to_string();
    let tier = format!("ssd,path={}/log,size=300M,flush=20,state={}", disk.on(), disk.state());
    let words = ["-p", &port, "--workers", "1", "--poll", "adaptive", "--l2", &tier];
    let mut sunder = Server::sunder(&words).expect("it starts");
    let storm = storm(&[format!("127.0.0.1:{port}")], operations, seed);
    let mut is_whole = true;
    let done = storm.run(&mut |count| {
        if is_whole && count > operations / 4 {
            disk.fail();
            is_whole = false;
        }
        true
    });
    let done = done.unwrap_or_else(|wrong| panic!("{}: {}", wrong.key, wrong.what));
    println!("the disk failed: {done}");
    assert!(!is_whole && done.swapped > 0 && done.won > 0, "{done}");
    // It could not close its log.
    assert_eq!(sunder.terminate(), Ok(3), "{}", sunder.stderr());
}
