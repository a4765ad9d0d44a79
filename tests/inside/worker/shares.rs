//! One client's share of the common resources: it takes all it can, and another is served
//! immediately.
//!
//! Time is counted in turns, of which a worker runs thousands in a tenth of a second.

use super::*;

/// Connections that request long values and many short ones, and read nothing.
fn unreading(crew: &mut Crew<'_>, worker: usize, count: usize) -> Vec<usize> {
    let long = (0..8).map(|i| format!("get big{i}\r\n")).collect::<String>();
    let request = long + &"get a\r\nget b\r\n".repeat(550);
    (0..count)
        .map(|_| {
            let c = crew.pipes[worker].connect(16 << 10, 16 << 10, 4096);
            assert_eq!(crew.pipes[worker].send(c, request.as_bytes()), request.len());
            c
        })
        .collect()
}

#[test]
fn clients_that_read_nothing_leave_slots_to_others() {
    let shared = shared(2);
    let tiers = [memory(&shared, 0), memory(&shared, 1)];
    let mut crew = Crew::new(&shared, &tiers);
    let writer = crew.pipes[0].connect(64 << 10, 64 << 10, 64 << 10);
    for i in 0..8 {
        let set = format!("set big{i} 0 0 1000000\r\n{}\r\n", "v".repeat(1_000_000));
        assert_eq!(text(&crew.talk(0, writer, set.as_bytes())), "STORED\r\n");
    }
    for key in ["a", "b", "c", "d", "e", "f"] {
        crew.talk(0, writer, format!("set {key} 0 0 1\r\n{key}\r\n").as_bytes());
    }
    for worker in 0..2 {
        unreading(&mut crew, worker, 200);
    }
    for _ in 0..200 {
        crew.turn();
    }
    for worker in 0..2 {
        let c = crew.pipes[worker].connect(16 << 10, 16 << 10, 4096);
        for (request, end) in [
            ("version\r\n", "\r\n"),
            ("stats\r\n", "END\r\n"),
            // Of both workers.
            ("get a b c d e f\r\n", "f\r\nEND\r\n"),
            ("set n 0 0 1\r\n1\r\nincr n 1\r\ndelete n\r\n", "DELETED\r\n"),
            ("set x 0 0 1\r\n1\r\nset y 0 0 1\r\n1\r\nget x y\r\n", "END\r\n"),
        ] {
            crew.pipes[worker].send(c, request.as_bytes());
            let (_, turns) = crew.read_until(worker, c, end, 20);
            assert!(turns <= 10, "{request}: {turns} turns");
        }
        // A deep pipeline makes progress too.
        let request = "get a b c d e f\r\n".repeat(500);
        let reply = text(&crew.talk(worker, c, request.as_bytes()));
        assert_eq!(reply.matches("END").count(), 500);
        assert_eq!(reply.matches("VALUE").count(), 3000);
    }
}

#[test]
fn version_and_stats_are_answered_without_a_slot() {
    let shared = shared(2);
    let tiers = [memory(&shared, 0), memory(&shared, 1)];
    let mut crew = Crew::new(&shared, &tiers);
    let count = sunder::base::limits::SLOTS_PER_WORKER + 1;
    // Each waits for answers of the other worker, which is stopped and owns some of this many keys.
    let ready: Vec<usize> = (0..count).map(|_| crew.pipes[0].connect(64, 64, 64)).collect();
    for &c in &ready {
        crew.pipes[0].send(c, b"get a b c d e f g h i j k l m n o p\r\n");
    }
    for _ in 0..10 {
        crew.now.uptime_us += 10;
        crew.workers[0].turn(&mut crew.pipes[0], crew.now);
    }
    let c = crew.pipes[0].connect(16 << 10, 16 << 10, 4096);
    for (request, end) in [("version\r\n", "\r\n"), ("stats\r\n", "END\r\n")] {
        crew.pipes[0].send(c, request.as_bytes());
        crew.workers[0].turn(&mut crew.pipes[0], crew.now);
        let mut reply = Vec::new();
        crew.pipes[0].receive(c, &mut reply);
        assert!(!reply.is_empty() && reply.ends_with(end.as_bytes()), "{}", text(&reply));
    }
    // Requests after such a command wait for room, whatever they are.
    let mut others = Vec::new();
    for request in
        ["version\r\nnonsense\r\n", "version\r\nget aa bb\r\n", "stats\r\nms k 1\r\nx\r\n"]
    {
        let c = crew.pipes[0].connect(16 << 10, 16 << 10, 4096);
        crew.pipes[0].send(c, request.as_bytes());
        others.push(c);
    }
    crew.workers[0].turn(&mut crew.pipes[0], crew.now);
    for &c in &others {
        let mut reply = Vec::new();
        crew.pipes[0].receive(c, &mut reply);
        let reply = text(&reply);
        assert!(reply.starts_with("VERSION ") || reply.ends_with("END\r\n"), "{reply}");
    }
    // A connection without requests does not wait for room.
    let visits = |crew: &mut Crew<'_>| {
        let before = shared.stats[0].get(Counter::ConnYields);
        crew.workers[0].turn(&mut crew.pipes[0], crew.now);
        shared.stats[0].get(Counter::ConnYields) - before
    };
    visits(&mut crew);
    let before = visits(&mut crew);
    let idle = crew.pipes[0].connect(16 << 10, 16 << 10, 64);
    crew.pipes[0].send(idle, b"version\r\n");
    visits(&mut crew);
    assert_eq!(visits(&mut crew), before);
    // All others as soon as the other worker runs again.
    for (&c, end) in others.iter().zip(["ERROR\r\n", "END\r\n", "ERROR\r\n"]) {
        assert_eq!(crew.read_until(0, c, end, 2_000).0, end);
    }
    for &c in &[ready[0], ready[count - 1]] {
        let (reply, _) = crew.read_until(0, c, "END\r\n", 2_000);
        assert_eq!(reply, "END\r\n");
    }
}

#[test]
fn connections_that_wait_for_the_same_slot_get_it_in_turn() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let writer = crew.pipes[0].connect(16 << 10, 16 << 10, 4096);
    crew.talk(0, writer, format!("set k 0 0 100\r\n{}\r\n", "v".repeat(100)).as_bytes());
    // All slots but one are taken by replies that nobody reads.
    for _ in 1..sunder::base::limits::SLOTS_PER_WORKER {
        let c = crew.pipes[0].connect(64, 64, 64);
        crew.pipes[0].send(c, b"get k\r\n");
    }
    crew.turn();
    let waiters: Vec<usize> = (0..6).map(|_| crew.pipes[0].connect(64, 64, 64)).collect();
    for &c in &waiters {
        crew.pipes[0].send(c, b"get k\r\n");
    }
    let mut replies = vec![Vec::new(); waiters.len()];
    let mut served = vec![0; waiters.len()];
    for _ in 0..200 {
        crew.turn();
        for ((reply, served), &c) in replies.iter_mut().zip(&mut served).zip(&waiters) {
            crew.pipes[0].receive(c, reply);
            if reply.ends_with(b"END\r\n") {
                reply.clear();
                *served += 1;
                crew.pipes[0].send(c, b"get k\r\n");
            }
        }
    }
    let all: usize = served.iter().sum();
    assert!(all >= 20, "{served:?}");
    assert!(served.iter().all(|&n| n * 4 * served.len() >= all), "{served:?}");
}

/// Connections that each announce 1 MB and have sent nothing of it yet.
fn announcers(crew: &mut Crew<'_>, count: usize) -> Vec<usize> {
    let announce = |i| {
        let c = crew.pipes[0].connect(64 << 10, 4096, 64 << 10);
        crew.pipes[0].send(c, format!("set k{i} 0 0 1000000\r\n").as_bytes());
        c
    };
    (0..count).map(announce).collect()
}

/// Each sends up to `bytes` bytes of its value, as far as it is read.
fn fill(crew: &mut Crew<'_>, senders: &[usize], bytes: usize) {
    let value = vec![b'x'; bytes];
    let mut sent = vec![0; senders.len()];
    let mut quiet = 0;
    while quiet < 10 {
        quiet += 1;
        for (sent, &c) in sent.iter_mut().zip(senders) {
            let n = crew.pipes[0].send(c, &value[*sent..]);
            *sent += n;
            if n > 0 {
                quiet = 0;
            }
        }
        crew.turn();
    }
}

/// Number of turns for a set of 200 KB.
fn turns_of_a_set(crew: &mut Crew<'_>) -> usize {
    let c = crew.pipes[0].connect(16 << 10, 4096, 16 << 10);
    let request = format!("set mine 0 0 200000\r\n{}\r\n", "m".repeat(200_000));
    let sent = crew.write_all(0, c, request.as_bytes(), 40);
    let (reply, turns) = crew.read_until(0, c, "\r\n", 10);
    assert_eq!(reply, "STORED\r\n");
    sent + turns
}

#[test]
fn an_announced_value_takes_no_room() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let idlers = announcers(&mut crew, 500);
    for _ in 0..20 {
        crew.turn();
        idlers.iter().for_each(|&c| assert_eq!(crew.pipes[0].send(c, b"x"), 1));
    }
    let turns = turns_of_a_set(&mut crew);
    assert!(turns <= 20, "{turns} turns for 200 KB through 16 KiB");
}

#[test]
fn announced_values_evict_at_most_an_eighth_of_l1() {
    let shared = shared(2);
    let tiers = [memory(&shared, 0), memory(&shared, 1)];
    let mut crew = Crew::new(&shared, &tiers);
    let writer = crew.pipes[0].connect(64 << 10, 64 << 10, 64 << 10);
    // More than fit.
    let value = "v".repeat(30_000);
    let sets = (0..1_200).map(|i| format!("set kept{i} 0 0 30000\r\n{value}\r\n"));
    let stored = text(&crew.talk(0, writer, sets.collect::<String>().as_bytes()));
    assert_eq!(stored.matches("STORED").count(), 1_200);
    let before = shared.sum(Counter::CurrItems);
    assert!(before > 1_000, "{before} of 32 MiB");
    for worker in 0..2 {
        for i in 0..100 {
            let c = crew.pipes[worker].connect(64 << 10, 4096, 64 << 10);
            crew.pipes[worker].send(c, format!("set k{i} 0 0 1000000\r\nx").as_bytes());
        }
    }
    for _ in 0..20 {
        crew.turn();
    }
    // An eighth, and rounding.
    let kept = shared.sum(Counter::CurrItems);
    assert!(kept < before, "values are received in their final place");
    assert!(kept * 100 > before * 85, "{kept} of {before} items");
}

#[test]
fn clients_that_send_all_but_the_end_leave_room_for_others() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    for count in [40, 80] {
        let mut crew = Crew::new(&shared, &tiers);
        let greedy = announcers(&mut crew, count);
        fill(&mut crew, &greedy, 999_999);
        let turns = turns_of_a_set(&mut crew);
        assert!(turns <= 20, "{turns} turns for 200 KB through 16 KiB");
        // Each waiting connection is visited once per turn, however often it sends.
        for _ in 0..20 {
            crew.pipes[0].send(greedy[0], b"x");
            crew.turn();
        }
        let before = shared.stats[0].get(Counter::ConnYields);
        crew.turn();
        let yields = shared.stats[0].get(Counter::ConnYields) - before;
        assert!(yields <= count as u64, "{yields} visits");
        // A longer value waits at most until the connections that hold its room time out.
        let c = crew.pipes[0].connect(64 << 10, 4096, 64 << 10);
        let value = "m".repeat(1_000_000);
        let request = format!("set long 0 0 1000000\r\n{value}\r\n");
        let mut sent = 0;
        let mut gone = 0;
        for _ in 0..20 {
            for _ in 0..50 {
                sent += crew.pipes[0].send(c, &request.as_bytes()[sent..]);
                crew.turn();
            }
            if sent == request.len() {
                break;
            }
            crew.now.uptime_us += 3_000_000;
            crew.turn();
            for &other in &greedy {
                let is_here = crew.pipes[0].is_open(other);
                if is_here && crew.pipes[0].state(other).is_overdue(true, crew.now) {
                    crew.pipes[0].reset(other);
                    gone += 1;
                }
            }
        }
        assert_eq!(crew.read_until(0, c, "\r\n", 100).0, "STORED\r\n", "{gone} gone");
    }
}

#[test]
fn many_concurrent_long_values_all_arrive() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let senders = announcers(&mut crew, 150);
    let value = vec![b'x'; 1_000_000];
    let rest = [&value[..], b"\r\n"].concat();
    fill(&mut crew, &senders, rest.len());
    // `fill` above sends only x: each value is complete, and its end is wrong.
    for &c in &senders {
        let (reply, _) = crew.read_until(0, c, "\r\n", 100);
        assert_eq!(reply, "CLIENT_ERROR bad data chunk\r\n");
    }
}

#[test]
fn slow_clients_make_room_for_those_that_wait() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let [slow, steady, silent] = announcers(&mut crew, 3)[..] else { unreachable!() };
    crew.turn();
    let is_overdue = |crew: &Crew<'_>, c: usize, is_contended| {
        crew.pipes[0].state(c).is_overdue(is_contended, crew.now)
    };
    for second in 0..8 {
        assert_eq!(is_overdue(&crew, silent, true), second >= 3, "{second} s");
        assert_eq!(is_overdue(&crew, slow, true), second >= 3, "{second} s");
        assert!(!is_overdue(&crew, steady, true), "{second} s");
        assert!(!is_overdue(&crew, slow, false), "no connection waits");
        crew.now.uptime_us += 1_000_000;
        crew.pipes[0].send(slow, b"x");
        for _ in 0..2 {
            crew.pipes[0].send(steady, &[b'x'; 33 << 10]);
            crew.turn();
        }
    }
}

/// Turns until connection `c` has sent all of `request` and its answer ends with `end`.
fn turns_of(crew: &mut Crew<'_>, worker: usize, c: usize, request: &[u8], end: &str) -> usize {
    let (mut sent, mut reply) = (0, Vec::new());
    for turn in 0..10_000 {
        sent += crew.pipes[worker].send(c, &request[sent..]);
        crew.pipes[worker].receive(c, &mut reply);
        if sent == request.len() && reply.ends_with(end.as_bytes()) {
            return turn;
        }
        crew.turn();
    }
    panic!("{sent} of {} bytes sent, {} received", request.len(), reply.len());
}

#[test]
fn clients_that_do_not_read_long_values_leave_room_to_others() {
    let shared = shared(2);
    let tiers = [memory(&shared, 0), memory(&shared, 1)];
    let mut crew = Crew::new(&shared, &tiers);
    let writer = crew.pipes[0].connect(64 << 10, 64 << 10, 64 << 10);
    for i in 0..8 {
        let set = format!("set big{i} 0 0 1000000\r\n{}\r\n", "v".repeat(1_000_000));
        assert_eq!(text(&crew.talk(0, writer, set.as_bytes())), "STORED\r\n");
    }
    let before = buffer::blocks_made();
    let get = "get big0 big1 big2 big3 big4 big5 big6 big7\r\n";
    for worker in 0..2 {
        for _ in 0..150 {
            let c = crew.pipes[worker].connect(16 << 10, 16 << 10, 4096);
            crew.pipes[worker].send(c, get.as_bytes());
        }
    }
    for _ in 0..100 {
        crew.turn();
    }
    let made = (buffer::blocks_made() - before) * sunder::base::limits::BLOCK_BYTES;
    assert!(made < 80 << 20, "{made} bytes");
    for worker in 0..2 {
        let c = crew.pipes[worker].connect(16 << 10, 256 << 10, 256 << 10);
        let turns = turns_of(&mut crew, worker, c, get.as_bytes(), "END\r\n");
        assert!(turns < 1_000, "{turns} turns for 8 MB");
    }
    // Pieces are short now. All are of one value, whatever happens to the key meanwhile, and the
    // deadline is for the whole reply.
    let readers: Vec<usize> = (0..2)
        .map(|worker| {
            let c = crew.pipes[worker].connect(16 << 10, 4096, 4096);
            crew.pipes[worker].send(c, b"get big3\r\n");
            c
        })
        .collect();
    crew.turn();
    crew.turn();
    crew.turn();
    let set = format!("set big3 0 0 1000000\r\n{}\r\n", "w".repeat(1_000_000));
    assert_eq!(text(&crew.talk(0, writer, set.as_bytes())), "STORED\r\n");
    let mut replies = [Vec::new(), Vec::new()];
    for second in 0..80 {
        crew.now.uptime_us += 1_000_000;
        for (worker, &c) in readers.iter().enumerate() {
            for _ in 0..2 {
                crew.pipes[worker].receive(c, &mut replies[worker]);
                crew.turn();
                crew.turn();
            }
            let is_overdue = crew.pipes[worker].state(c).is_overdue(false, crew.now);
            assert_eq!(is_overdue, second >= 75, "{second} s, worker {worker}");
        }
    }
    for (worker, &c) in readers.iter().enumerate() {
        replies[worker].extend(crew.talk(worker, c, b""));
        let expected = format!("VALUE big3 0 1000000\r\n{}\r\nEND\r\n", "v".repeat(1_000_000));
        assert!(text(&replies[worker]) == expected, "worker {worker}");
    }
}

/// One binary request up to its value.
fn binary(opcode: u8, key: &str, extras: &[u8], value_bytes: usize) -> Vec<u8> {
    let mut request = vec![0x80, opcode, 0, key.len() as u8, extras.len() as u8, 0, 0, 0];
    request.extend(((extras.len() + key.len() + value_bytes) as u32).to_be_bytes());
    request.extend([0; 12]);
    request.extend(extras);
    request.extend(key.as_bytes());
    request
}

#[test]
fn a_set_that_gives_its_room_up_removes_the_old_item_and_other_stores_leave_it() {
    let no_memory = "SERVER_ERROR out of memory storing object\r\n";
    let line = |verb: &'static str, end: &'static str| {
        move |key: &str| format!("{verb} {key} 0 0 1000000{end}\r\n").into_bytes()
    };
    let of_opcode = |opcode| move |key: &str| binary(opcode, key, &[0; 8], 1_000_000);
    // Status 0x82: out of memory.
    let refused = "\u{82}";
    type Head = Box<dyn Fn(&str) -> Vec<u8>>;
    let rows: [(Head, &str, bool); 8] = [
        (Box::new(line("set", "")), no_memory, true),
        (Box::new(line("set", " noreply")), "", true),
        (Box::new(of_opcode(0x01)), refused, true),
        (Box::new(of_opcode(0x11)), refused, true),
        (Box::new(line("replace", "")), no_memory, false),
        (Box::new(line("cas", " 1")), no_memory, false),
        (Box::new(line("append", "")), "SERVER_ERROR temporarily overloaded\r\n", false),
        (Box::new(line("prepend", " noreply")), "", false),
    ];
    for (n, (head, told, is_removed)) in rows.iter().enumerate() {
        let shared = shared(2);
        let tiers = [memory(&shared, 0), memory(&shared, 1)];
        let mut crew = Crew::new(&shared, &tiers);
        let writer = crew.pipes[0].connect(64 << 10, 64 << 10, 64 << 10);
        let keys: Vec<String> = (0..60).map(|i| format!("k{i}")).collect();
        for key in &keys {
            crew.talk(0, writer, format!("set {key} 0 0 3\r\nold\r\n").as_bytes());
        }
        let senders: Vec<usize> =
            keys.iter().map(|_| crew.pipes[0].connect(64 << 10, 4096, 64 << 10)).collect();
        for (key, &c) in keys.iter().zip(&senders) {
            crew.pipes[0].send(c, &head(key));
        }
        fill(&mut crew, &senders, 999_999);
        crew.now.uptime_us += 1_000_000;
        for _ in 0..2 {
            let c = crew.pipes[0].connect(64 << 10, 4096, 64 << 10);
            let request = format!("set mine 0 0 1000000\r\n{}\r\n", "v".repeat(1_000_000));
            turns_of(&mut crew, 0, c, request.as_bytes(), "STORED\r\n");
        }
        let given_up = shared.sum(Counter::StoreNoMemory);
        assert!((1..=6).contains(&given_up), "{n}: {given_up}");
        let get = format!("get {}\r\n", keys.join(" "));
        let left = text(&crew.talk(0, writer, get.as_bytes()));
        let gone = keys.len() as u64 - left.matches("\r\nold\r\n").count() as u64;
        assert_eq!(gone, if *is_removed { given_up } else { 0 }, "{n}");
        // Told once its value has ended, in its place in the order.
        let mut refusals = 0;
        for &c in &senders {
            let is_binary = n == 2 || n == 3;
            let end = if is_binary { &b"x"[..] } else { b"x\r\nversion\r\n" };
            let mut reply = Vec::new();
            crew.pipes[0].send(c, end);
            for _ in 0..5 {
                crew.turn();
            }
            crew.pipes[0].receive(c, &mut reply);
            let is_refused = if is_binary {
                reply.get(7) == Some(&0x82)
            } else {
                !told.is_empty() && text(&reply).starts_with(told)
            };
            refusals += u64::from(is_refused);
        }
        assert_eq!(refusals, if told.is_empty() { 0 } else { given_up }, "{n}");
    }
}

#[test]
fn a_reply_in_pieces_has_the_time_of_what_is_left_of_it() {
    let limits = Limits { item_bytes_max: 100 << 20, ..LIMITS };
    let shared = Arc::new(Shared::new(Clock::start(), limits, Settings::default(), 2));
    let tiers = [memory(&shared, 0), memory(&shared, 1)];
    let mut crew = Crew::new(&shared, &tiers);
    let writer = crew.pipes[0].connect(64 << 10, 64 << 10, 64 << 10);
    let set = format!("set k 0 0 655360\r\n{}\r\n", "v".repeat(655_360));
    assert_eq!(text(&crew.talk(0, writer, set.as_bytes())), "STORED\r\n");
    // Pieces are short: others have taken what there is.
    for worker in 0..2 {
        for _ in 0..400 {
            let c = crew.pipes[worker].connect(16 << 10, 4096, 4096);
            crew.pipes[worker].send(c, b"get k\r\n");
        }
    }
    for _ in 0..300 {
        crew.turn();
    }
    let readers: Vec<usize> = (0..2)
        .map(|worker| {
            let c = crew.pipes[worker].connect(16 << 10, 64 << 10, 64 << 10);
            crew.pipes[worker].send(c, b"get k\r\n");
            c
        })
        .collect();
    for _ in 0..10 {
        crew.turn();
    }
    // A minute, and 10 s for its length.
    for (after_s, is_overdue) in [(68, false), (72, true)] {
        let later = Now { uptime_us: crew.now.uptime_us + after_s * 1_000_000, ..crew.now };
        for (worker, &c) in readers.iter().enumerate() {
            let state = crew.pipes[worker].state(c);
            assert_eq!(state.is_overdue(false, later), is_overdue, "{after_s} s, {worker}");
        }
    }
}

#[test]
fn clients_with_unfinished_long_values_leave_room_for_others() {
    let shared = shared(2);
    let tiers = [memory(&shared, 0), memory(&shared, 1)];
    let mut crew = Crew::new(&shared, &tiers);
    let greedy = announcers(&mut crew, 200);
    fill(&mut crew, &greedy, 999_999);
    crew.now.uptime_us += 1_000_000;
    for key in ["a", "b", "c", "d", "e", "f"] {
        let began_us = crew.now.uptime_us;
        let request = format!("set {key} 0 0 1000000\r\n{}\r\n", "v".repeat(1_000_000));
        let c = crew.pipes[0].connect(64 << 10, 4096, 64 << 10);
        let turns = turns_of(&mut crew, 0, c, request.as_bytes(), "STORED\r\n");
        let us = crew.now.uptime_us - began_us;
        assert!(us < 100_000, "{turns} turns, {us} us");
    }
    // A client whose value was dropped gets an error when the value ends, and continues.
    let mut told = 0;
    for c in greedy {
        let mut reply = Vec::new();
        crew.pipes[0].send(c, b"x\r\nversion\r\n");
        for _ in 0..3 {
            crew.turn();
        }
        crew.pipes[0].receive(c, &mut reply);
        let reply = text(&reply);
        if let Some(rest) = reply.strip_prefix("SERVER_ERROR out of memory storing object\r\n") {
            assert!(rest.starts_with("VERSION"), "{rest}");
            told += 1;
        }
    }
    assert!((1..=12).contains(&told), "{told} of 200 values dropped for six");
}
