//! Replies that hold all of L1's memory: whoever stores is served, and who reads gets all of it.

use super::*;

/// A set of a little more than fits one piece where another worker's value is fetched, and what a
/// get finds then.
fn set(key: &str, fill: u8) -> (Vec<u8>, Vec<u8>) {
    let value = vec![fill; 1_040_000];
    let mut request = format!("set {key} 0 0 1040000\r\n").into_bytes();
    request.extend_from_slice(&value);
    request.extend_from_slice(b"\r\n");
    let mut hit = format!("VALUE {key} 0 1040000\r\n").into_bytes();
    hit.extend_from_slice(&value);
    hit.extend_from_slice(b"\r\nEND\r\n");
    (request, hit)
}

/// Lets a client of worker 0 send and read until its answer ends with a line end, in simulated
/// turns of 100 microseconds, `each` of them after `step`; returns the answer and how long it took.
fn ask(crew: &mut Crew<'_>, request: &[u8], mut each: impl FnMut(&mut Crew<'_>)) -> (String, u64) {
    let c = crew.pipes[0].connect(64 << 10, 4096, 64 << 10);
    let (began_us, mut sent, mut reply) = (crew.now.uptime_us, 0, Vec::new());
    while !reply.ends_with(b"\r\n") {
        sent += crew.pipes[0].send(c, &request[sent..]);
        crew.now.uptime_us += 90;
        crew.turn();
        each(crew);
        crew.pipes[0].receive(c, &mut reply);
        assert!(crew.now.uptime_us - began_us < 1_000_000, "no answer in a second");
    }
    (text(&reply), crew.now.uptime_us - began_us)
}

/// Connections of `worker` that each hold another item of `writer`'s, until a set fails; each reads
/// as much as its output holds.
fn hold_all(crew: &mut Crew<'_>, worker: usize, keys: &[&str]) -> Vec<(usize, Vec<u8>)> {
    let mut readers = Vec::new();
    let writer = crew.pipes[0].connect(64 << 10, 4096, 64 << 10);
    for fill in 0..100 {
        let key = keys[usize::from(fill) % keys.len()];
        let (request, hit) = set(key, fill);
        let mut sent = 0;
        let mut reply = Vec::new();
        for _ in 0..100 {
            sent += crew.pipes[0].send(writer, &request[sent..]);
            crew.turn();
            crew.pipes[0].receive(writer, &mut reply);
            if !reply.is_empty() {
                break;
            }
        }
        if reply.is_empty() {
            // It waits, for memory that others hold.
            crew.pipes[0].reset(writer);
            return readers;
        }
        assert_eq!(text(&reply), "STORED\r\n");
        let c = crew.pipes[worker].connect(16 << 10, 4096, 4096);
        crew.pipes[worker].send(c, format!("get {key}\r\n").as_bytes());
        for _ in 0..4 {
            crew.turn();
        }
        readers.push((c, hit));
    }
    panic!("16 MiB are not held");
}

#[test]
fn who_holds_all_memory_and_reads_nothing_leaves_a_set_its_room() {
    // Without a pause, and after one in which all others were forgotten.
    for (pause_us, most_us) in [(0, 100_000), (300_000, 3_000), (10_000_000, 3_000)] {
        let shared = shared(1);
        let tiers = [memory(&shared, 0)];
        let mut crew = Crew::new(&shared, &tiers);
        let readers = hold_all(&mut crew, 0, &["a", "b", "c"]);
        crew.now.uptime_us += pause_us;
        for n in 0..4 {
            let (reply, us) = ask(&mut crew, &set(&format!("mine{n}"), b'm').0, |_| ());
            assert_eq!(reply, "STORED\r\n");
            assert!(us < most_us, "{us} us, {pause_us}");
        }
        // Who lost its item is closed when it reads on, and all others get what they asked for.
        let (mut cut, mut whole) = (0, 0);
        for (c, hit) in readers {
            let mut reply = Vec::new();
            for _ in 0..1_000 {
                crew.turn();
                crew.pipes[0].receive(c, &mut reply);
            }
            assert!(hit.starts_with(&reply));
            let is_cut = crew.pipes[0].pipe(c).is_aborted;
            assert_ne!(is_cut, reply.len() == hit.len(), "{} bytes", reply.len());
            cut += u64::from(is_cut);
            whole += u64::from(!is_cut);
        }
        assert!((1..=9).contains(&cut), "{cut}");
        assert!(whole >= 4, "{whole}");
        assert_eq!(shared.sum(Counter::EvictedUnread), cut);
    }
}

#[test]
fn who_reads_on_keeps_what_it_reads_and_the_set_fails_in_time() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let readers = hold_all(&mut crew, 0, &["a"]);
    let mut replies = vec![Vec::new(); readers.len()];
    let mut turn = 0;
    // Each reads a little every 20 ms.
    let (reply, us) = ask(&mut crew, &set("mine", b'm').0, |crew| {
        turn += 1;
        if turn % 200 == 0 {
            for ((c, _), reply) in readers.iter().zip(&mut replies) {
                crew.pipes[0].receive(*c, reply);
            }
        }
    });
    assert_eq!(reply, "SERVER_ERROR out of memory storing object\r\n");
    assert!((100_000..110_000).contains(&us), "{us} us");
    // And the last one of who filled the memory.
    assert_eq!(shared.sum(Counter::StoreNoMemory), 2);
    // From now on who reads nothing is closed soon.
    let later = Now { uptime_us: crew.now.uptime_us + 4_000_000, ..crew.now };
    assert!(crew.workers[0].is_overdue(crew.pipes[0].state(readers[0].0), later));
    for ((c, hit), mut reply) in readers.into_iter().zip(replies) {
        assert!(reply.len() > 4 * 4096);
        reply.extend(crew.talk(0, c, b""));
        assert!(reply == hit, "{} of {} bytes", reply.len(), hit.len());
    }
    assert_eq!(shared.sum(Counter::EvictedUnread), 0);
}

fn pass_1_ms(crew: &mut Crew<'_>) {
    for _ in 0..10 {
        crew.now.uptime_us += 100;
        crew.turn();
    }
}

#[test]
fn a_lost_value_that_was_lent_is_a_miss_or_ends_its_connection() {
    let shared = shared(2);
    let tiers = [memory(&shared, 0), memory(&shared, 1)];
    let mut crew = Crew::new(&shared, &tiers);
    let writer = crew.pipes[0].connect(64 << 10, 64 << 10, 64 << 10);
    // Keys of worker 0.
    let is_own = |key: &String, crew: &mut Crew<'_>| {
        let before = shared.sum(Counter::RemoteOperations);
        crew.talk(0, writer, format!("get {key}\r\n").as_bytes());
        shared.sum(Counter::RemoteOperations) == before
    };
    let keys = (0..100).map(|n| format!("k{n}"));
    let keys: Vec<String> = keys.filter(|key| is_own(key, &mut crew)).take(18).collect();
    let hits: Vec<String> = keys[..15]
        .iter()
        .enumerate()
        .map(|(n, key)| {
            let (request, hit) = set(key, b'a' + n as u8);
            assert_eq!(text(&crew.talk(0, writer, &request)), "STORED\r\n");
            text(&hit)
        })
        .collect();
    // The first is fetched as a whole. Others begin to read the second and the third, of which they
    // have a piece. One asks for all of them, and begins with the first.
    let begun: Vec<usize> = (0..6)
        .map(|n| {
            let c = crew.pipes[1].connect(16 << 10, 4096, 4096);
            let key = &keys[n.min(2)];
            crew.pipes[1].send(c, format!("get {key}\r\n").as_bytes());
            pass_1_ms(&mut crew);
            c
        })
        .collect();
    let all = keys[..15].iter().map(|key| format!("get {key}\r\n")).collect::<String>();
    let patient = crew.pipes[1].connect(16 << 10, 4096, 4096);
    crew.pipes[1].send(patient, all.as_bytes());
    pass_1_ms(&mut crew);
    crew.now.uptime_us += 1_000_000;
    for key in &keys[15..] {
        let (reply, us) = ask(&mut crew, &set(key, b'm').0, |_| ());
        assert_eq!(reply, "STORED\r\n");
        assert!(us < 3_000, "{us} us");
    }
    let reply = text(&crew.talk(1, patient, b""));
    let mut rest = &reply[..];
    let mut misses = Vec::new();
    for (n, hit) in hits.iter().enumerate() {
        rest = rest.strip_prefix(&hit[..]).unwrap_or_else(|| {
            misses.push(n);
            rest.strip_prefix("END\r\n").expect("a hit or a miss")
        });
    }
    let lost = misses.len();
    assert!((2..=8).contains(&lost), "{lost}");
    assert_eq!((rest, misses[0]), ("", 1));
    let mut cut = 0;
    for (n, c) in begun.into_iter().enumerate() {
        let reply = text(&crew.talk(1, c, b""));
        let hit = &hits[n.min(2)];
        assert!(hit.starts_with(&reply));
        let is_cut = crew.pipes[1].pipe(c).is_aborted;
        assert_ne!(is_cut, reply.len() == hit.len(), "{} bytes", reply.len());
        cut += u64::from(is_cut);
    }
    assert!(cut >= 2, "{cut}");
    // Each hit that was lost, whoever requested it.
    assert_eq!(shared.sum(Counter::EvictedUnread), lost as u64 + cut);
}
