//! Whole workers without sockets: order, ownership, backpressure and bounds, step by step.

mod given_up;
mod logins;
mod pins;
mod shares;
mod unread;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::common::pipe::Pipes;
use sunder::base::buffer::{self, Body, Chain, Key};
use sunder::base::clock::{Clock, Expiry, Now};
use sunder::base::credentials::Credentials;
use sunder::base::stats::Counter;
use sunder::connection::Connection;
use sunder::mailbox::Mailbox;
use sunder::net::{Handler, Transport};
use sunder::orchestrator::l1_l2::L1L2;
use sunder::orchestrator::l1_only::L1Only;
use sunder::orchestrator::{Action, InL1, Operation, Orchestrator};
use sunder::protocol::Limits;
use sunder::tier::memory::{self, ItemValue, Memory};
use sunder::tier::{Arithmetic, Outcome, Store, StoreMode, Tier};
use sunder::worker::{Logins, Settings, Shared, Worker};

const LIMITS: Limits = Limits::DEFAULT;

fn shared(workers: usize) -> Arc<Shared> {
    Arc::new(Shared::new(Clock::start(), LIMITS, Settings::default(), workers))
}

fn memory(shared: &Shared, worker: usize) -> L1Only<Memory> {
    L1Only::new(memory_tier(shared, worker))
}

fn memory_tier(shared: &Shared, worker: usize) -> Memory {
    let config = memory::MemoryConfig {
        bytes: 16 << 20,
        item_bytes_max: LIMITS.item_bytes_max,
        worker,
        workers: shared.stats.len(),
        stats: Arc::clone(&shared.stats[worker]),
    };
    Memory::new(config).expect("mapped")
}

/// A worker, of any type.
trait Turn {
    fn turn(&mut self, pipes: &mut Pipes<Connection>, now: Now);
    fn is_overdue(&self, connection: &Connection, now: Now) -> bool;
}

impl<O, F, M> Turn for Worker<'_, O, F, M>
where
    O: Orchestrator,
    F: Future<Output = Outcome<O::Value>>,
    M: FnMut(Operation, Now) -> F,
{
    fn turn(&mut self, pipes: &mut Pipes<Connection>, now: Now) {
        Worker::turn(self, pipes, now);
    }

    fn is_overdue(&self, connection: &Connection, now: Now) -> bool {
        Handler::is_overdue(self, connection, now)
    }
}

/// Workers that run turn by turn, each with its connections.
struct Crew<'c> {
    workers: Vec<Box<dyn Turn + 'c>>,
    /// What their tiers do in a turn.
    tier_turns: Vec<Box<dyn Fn(Now) + 'c>>,
    pipes: Vec<Pipes<Connection>>,
    now: Now,
}

impl<'c> Crew<'c> {
    fn new<O: Orchestrator>(shared: &Arc<Shared>, tiers: &'c [O]) -> Crew<'c> {
        let workers: Vec<Box<dyn Turn>> = Mailbox::mesh(tiers.len())
            .into_iter()
            .zip(tiers)
            .map(|(mailbox, tier)| {
                let execute = move |operation, now| tier.execute(operation, now);
                Box::new(Worker::new(Arc::clone(shared), mailbox, tier, execute)) as Box<dyn Turn>
            })
            .collect();
        let pipes = (0..workers.len()).map(|_| Pipes::new()).collect();
        let turns = tiers.iter().map(|tier| -> Box<dyn Fn(Now)> {
            Box::new(move |now| {
                tier.turn(now);
            })
        });
        Crew { workers, tier_turns: turns.collect(), pipes, now: shared.clock.read() }
    }

    /// Sends everything without reading anything, in at most `turns_max` turns; returns how many.
    fn write_all(&mut self, worker: usize, c: usize, request: &[u8], turns_max: usize) -> usize {
        let mut sent = 0;
        for turn in 0..turns_max {
            sent += self.pipes[worker].send(c, &request[sent..]);
            if sent == request.len() {
                return turn;
            }
            self.turn();
        }
        panic!("{sent} of {} bytes were taken in {turns_max} turns", request.len());
    }

    /// Turns until the answer ends with `end`; returns it, and the number of turns.
    fn read_until(&mut self, worker: usize, c: usize, end: &str, max: usize) -> (String, usize) {
        let mut reply = Vec::new();
        for turn in 0..max {
            self.pipes[worker].receive(c, &mut reply);
            if reply.ends_with(end.as_bytes()) {
                return (text(&reply), turn);
            }
            self.turn();
        }
        panic!("{} bytes in {max} turns: {}", reply.len(), text(&reply[..reply.len().min(200)]));
    }

    fn turn(&mut self) {
        self.now.uptime_us += 10;
        let tiers = &self.tier_turns;
        for ((worker, pipes), tier) in self.workers.iter_mut().zip(&mut self.pipes).zip(tiers) {
            tier(self.now);
            worker.turn(pipes, self.now);
        }
    }

    /// Sends everything, reads everything, until neither side has anything to send.
    fn talk(&mut self, worker: usize, connection: usize, request: &[u8]) -> Vec<u8> {
        let mut sent = 0;
        let mut reply = Vec::new();
        let mut quiet_turns = 0;
        while quiet_turns < 20 {
            let before = (sent, reply.len());
            sent += self.pipes[worker].send(connection, &request[sent..]);
            self.turn();
            self.pipes[worker].receive(connection, &mut reply);
            quiet_turns = if before == (sent, reply.len()) { quiet_turns + 1 } else { 0 };
        }
        assert_eq!(sent, request.len(), "everything was read");
        reply
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn replies_keep_the_order_of_requests_whoever_owns_the_keys() {
    for workers in 1..=3 {
        let shared = shared(workers);
        let tiers: Vec<_> = (0..workers).map(|w| memory(&shared, w)).collect();
        let mut crew = Crew::new(&shared, &tiers);
        let c = crew.pipes[0].connect(16 << 10, 16 << 10, 7);
        let mut request = String::new();
        let mut expected = String::new();
        for i in 0..200 {
            request += &format!("set key{i} {i} 0 5\r\nv{i:04}\r\n");
            expected += "STORED\r\n";
            request += &format!("get key{i} nokey{i} key{}\r\n", i / 2);
            expected += &format!("VALUE key{i} {i} 5\r\nv{i:04}\r\n");
            expected += &format!("VALUE key{0} {0} 5\r\nv{0:04}\r\n", i / 2);
            expected += "END\r\n";
            if i % 10 == 0 {
                request += "version\r\n";
                expected += &format!("VERSION {}\r\n", sunder::protocol::VERSION);
            }
        }
        let reply = crew.talk(0, c, request.as_bytes());
        assert_eq!(text(&reply), expected, "{workers} workers");
        let remote = shared.sum(Counter::RemoteOperations);
        assert_eq!(remote > 0, workers > 1, "{remote} operations went to other workers");
        assert_eq!(shared.sum(Counter::CmdGet), 600);
        assert_eq!(shared.sum(Counter::GetHits), 400);
    }
}

#[test]
fn an_item_is_read_through_another_worker_until_a_flush() {
    let shared = shared(2);
    let tiers = [memory(&shared, 0), memory(&shared, 1)];
    let mut crew = Crew::new(&shared, &tiers);
    let a = crew.pipes[0].connect(16 << 10, 16 << 10, 4096);
    let b = crew.pipes[1].connect(16 << 10, 16 << 10, 4096);
    for i in 0..50 {
        let set = format!("set k{i} 0 0 1\r\nx\r\n");
        assert_eq!(text(&crew.talk(0, a, set.as_bytes())), "STORED\r\n");
    }
    let all: String = (0..50).fold("get".into(), |line, i| format!("{line} k{i}")) + "\r\n";
    let hits = text(&crew.talk(1, b, all.as_bytes()));
    assert_eq!(hits.matches("VALUE").count(), 50);
    assert_eq!(text(&crew.talk(1, b, b"flush_all\r\n")), "OK\r\n");
    assert_eq!(text(&crew.talk(0, a, all.as_bytes())), "END\r\n");
}

#[test]
fn a_long_value_is_stored_and_read_through_small_buffers() {
    for workers in 1..=2 {
        let shared = shared(workers);
        let tiers: Vec<_> = (0..workers).map(|w| memory(&shared, w)).collect();
        let mut crew = Crew::new(&shared, &tiers);
        let c = crew.pipes[0].connect(4096, 1000, 333);
        for key in ["a", "b", "c", "d"] {
            let value: Vec<u8> = (0..900_000_u32).map(|i| (i.wrapping_mul(7) >> 3) as u8).collect();
            let mut request = format!("set {key} 0 0 {}\r\n", value.len()).into_bytes();
            request.extend_from_slice(&value);
            request.extend_from_slice(format!("\r\nget {key}\r\n").as_bytes());
            let reply = crew.talk(0, c, &request);
            let mut expected = format!("STORED\r\nVALUE {key} 0 {}\r\n", value.len()).into_bytes();
            expected.extend_from_slice(&value);
            expected.extend_from_slice(b"\r\nEND\r\n");
            assert!(reply == expected, "{} bytes for {}", reply.len(), expected.len());
        }
    }
}

/// The work that a turn may do for one connection, which it visits at most twice, on values of half
/// a megabyte and of a megabyte: others wait for bytes, not for requests.
#[test]
fn the_most_expensive_requests_are_limited_by_their_work() {
    let spaces = " ".repeat(499_999);
    let number = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
    let rows: [(String, &str, &str, usize); 7] = [
        (format!("{spaces}x"), "incr k 1\r\n", number, 4),
        (format!("{spaces}x"), "decr k 1\r\n", number, 4),
        (format!("5{spaces}"), "incr k 0\r\n", "5\r\n", 4),
        (format!("{}5", "0".repeat(499_999)), "decr k 0\r\n", "5\r\n", 4),
        ("v".repeat(1_000_000), "append k 0 0 0\r\n\r\n", "STORED\r\n", 2),
        ("v".repeat(1_000_000), "prepend k 0 0 1\r\nx\r\n", "STORED\r\n", 2),
        ("v".into(), "stats\r\n", "\r\nEND\r\n", 8),
    ];
    for (value, request, reply, replies_max) in &rows {
        for workers in 1..=2 {
            let shared = shared(workers);
            let tiers: Vec<_> = (0..workers).map(|w| memory(&shared, w)).collect();
            let mut crew = Crew::new(&shared, &tiers);
            for worker in 0..workers {
                let c = crew.pipes[worker].connect(16 << 10, 64 << 10, 64 << 10);
                let set = format!("set k 0 0 {}\r\n{value}\r\n", value.len());
                assert_eq!(text(&crew.talk(worker, c, set.as_bytes())), "STORED\r\n");
                let requests = request.repeat(100);
                assert_eq!(crew.pipes[worker].send(c, requests.as_bytes()), requests.len());
                let mut replies = 0;
                for turn in 0.. {
                    crew.turn();
                    let mut received = Vec::new();
                    crew.pipes[worker].receive(c, &mut received);
                    let now = text(&received).matches(reply).count();
                    assert!(now <= *replies_max, "{now} times {request} in turn {turn}");
                    replies += now;
                    if replies == 100 {
                        break;
                    }
                    assert!(turn < 300, "{replies} replies");
                }
            }
        }
    }
}

#[test]
fn a_half_sent_request_and_an_unread_reply_become_overdue_and_idleness_does_not() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    for (request, is_overdue) in [
        (&b"version\r\n"[..], false),
        (b"get k", true),
        (b"set k 0 0 10\r\nabc", true),
        (b"set k 0 0 100000\r\nabc", true),
        (b"get k k k k k k k", true),
    ] {
        let mut crew = Crew::new(&shared, &tiers);
        let c = crew.pipes[0].connect(16 << 10, 16 << 10, 4096);
        crew.pipes[0].send(c, request);
        crew.turn();
        let later = Now { uptime_us: crew.now.uptime_us + 120_000_000, ..crew.now };
        let overdue = crew.pipes[0].state(c).is_overdue(false, later);
        assert_eq!(overdue, is_overdue, "{}", text(request));
        assert!(!crew.pipes[0].state(c).is_overdue(false, crew.now), "not immediately");
    }
}

#[test]
fn who_does_not_log_in_becomes_overdue_and_who_has_does_not() {
    let path = std::env::temp_dir().join(format!("sunder-overdue-{}", std::process::id()));
    std::fs::write(&path, "alice:secret\n").expect("written");
    let users = Credentials::read(&path).expect("it is right");
    std::fs::remove_file(&path).expect("it is there");
    let mut shared = Shared::new(Clock::start(), LIMITS, Settings::default(), 1);
    shared.logins = Some(Arc::new(Logins::new(users, 10, shared.clock, 1, "")));
    let shared = Arc::new(shared);
    let tiers = [memory(&shared, 0)];
    for (sent, is_overdue) in [
        (&b""[..], true),
        (b"get a\r\n", true),
        (b"set auth 0 0 12\r\n", true),
        (b"set auth 0 0 12\r\nalice secreT\r\n", true),
        (b"set auth 0 0 12\r\nalice secret\r\n", false),
    ] {
        let mut crew = Crew::new(&shared, &tiers);
        let c = crew.pipes[0].connect(16 << 10, 16 << 10, 4096);
        crew.turn();
        crew.pipes[0].send(c, sent);
        crew.turn();
        assert!(!crew.pipes[0].state(c).is_overdue(false, crew.now), "not immediately");
        crew.now.uptime_us += 120_000_000;
        let overdue = crew.pipes[0].state(c).is_overdue(false, crew.now);
        assert_eq!(overdue, is_overdue, "{}", text(sent));
    }
}

#[test]
fn requests_in_two_parts_are_not_overdue_while_they_arrive() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let c = crew.pipes[0].connect(16 << 10, 16 << 10, 4096);
    let (front, back) = ("set k 0 0", " 10\r\n0123456789\r\n");
    crew.pipes[0].send(c, front.as_bytes());
    crew.turn();
    for _ in 0..10 {
        crew.now.uptime_us += 50_000_000;
        assert!(!crew.pipes[0].state(c).is_overdue(false, crew.now));
        crew.pipes[0].send(c, format!("{back}{front}").as_bytes());
        crew.turn();
        let mut reply = Vec::new();
        crew.pipes[0].receive(c, &mut reply);
        assert_eq!(text(&reply), "STORED\r\n");
    }
    crew.now.uptime_us += 60_000_000;
    assert!(crew.pipes[0].state(c).is_overdue(false, crew.now));
}

#[test]
fn a_refused_value_has_the_same_deadline_as_an_accepted_one() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    for head in ["set k 0 0 10000000\r\n", "add k 0 0 10000000\r\n", "ms k 10000000\r\n"] {
        let mut crew = Crew::new(&shared, &tiers);
        let c = crew.pipes[0].connect(16 << 10, 16 << 10, 4096);
        crew.pipes[0].send(c, head.as_bytes());
        crew.turn();
        // Two minutes, with a pause of half a minute in the middle.
        let mut left = 10_000_002;
        for second in 0..120 {
            crew.now.uptime_us += 1_000_000;
            let due = if (40..70).contains(&second) { 0 } else { 112_000_usize.min(left) };
            let mut due_now = due;
            while due_now > 0 {
                due_now -= crew.pipes[0].send(c, &b"x".repeat(due_now));
                crew.turn();
            }
            left -= due;
            assert!(!crew.pipes[0].state(c).is_overdue(true, crew.now), "{head} {second}");
        }
        let mut reply = Vec::new();
        crew.pipes[0].receive(c, &mut reply);
        assert!(text(&reply).contains("ERROR"), "{left} {}", text(&reply));
        crew.pipes[0].send(c, b"set k 0 0 10000000\r\n");
        crew.turn();
        // A minute, and 153 s for its length.
        crew.now.uptime_us += 212_000_000;
        assert!(!crew.pipes[0].state(c).is_overdue(true, crew.now));
        crew.now.uptime_us += 2_000_000;
        assert!(crew.pipes[0].state(c).is_overdue(true, crew.now));
    }
}

#[test]
fn a_slow_reader_has_a_deadline_for_the_whole_reply() {
    let shared = shared(1);
    let tiers = [memory(&shared, 0)];
    let mut crew = Crew::new(&shared, &tiers);
    let c = crew.pipes[0].connect(16 << 10, 4096, 4096);
    let value = "v".repeat(640 * 1024);
    crew.talk(0, c, format!("set k 0 0 {}\r\n{value}\r\n", value.len()).as_bytes());
    crew.pipes[0].send(c, b"get k\r\n");
    crew.turn();
    // A minute, and 10 s for its length, however often it reads a little.
    let mut seconds = 0;
    let mut sink = Vec::new();
    while !crew.pipes[0].state(c).is_overdue(false, crew.now) {
        crew.now.uptime_us += 1_000_000;
        seconds += 1;
        crew.pipes[0].receive(c, &mut sink);
        crew.turn();
        assert!(seconds < 100);
    }
    assert!((69..=71).contains(&seconds), "{seconds} s");
}

#[test]
fn a_peer_that_finishes_gets_its_replies_and_then_the_end() {
    let shared = shared(2);
    let tiers = [memory(&shared, 0), memory(&shared, 1)];
    let mut crew = Crew::new(&shared, &tiers);
    for rest in ["", "get unfin", "set k 0 0 10\r\nabc", "set k 0 0 100000\r\nabc"] {
        let c = crew.pipes[0].connect(16 << 10, 16 << 10, 4096);
        let request = format!("get a\r\nget b\r\nget c\r\nget d\r\n{rest}");
        crew.pipes[0].send(c, request.as_bytes());
        crew.pipes[0].pipe(c).is_peer_finished = true;
        let mut reply = Vec::new();
        for _ in 0..10 {
            crew.turn();
            crew.pipes[0].receive(c, &mut reply);
        }
        assert_eq!(text(&reply), "END\r\n".repeat(4), "{rest}");
        assert!(crew.pipes[0].pipe(c).is_closed, "{rest}");
    }
}

#[test]
fn a_reset_connection_leaves_nothing_behind() {
    let shared = shared(2);
    let tiers = [memory(&shared, 0), memory(&shared, 1)];
    let mut crew = Crew::new(&shared, &tiers);
    for round in 0..300 {
        let c = crew.pipes[0].connect(64 << 10, 1000, 4096);
        let gets = "get a b c d e f g h\r\n".repeat(100);
        crew.pipes[0].send(c, gets.as_bytes());
        crew.pipes[0].send(c, b"set x 0 0 900000\r\nabc");
        crew.workers[0].turn(&mut crew.pipes[0], crew.now);
        crew.pipes[0].reset(c);
        crew.turn();
        crew.turn();
        assert_eq!(crew.pipes[0].connections(), 0, "round {round}");
    }
    // All slots and the budget for values are free again: a new client is served.
    let c = crew.pipes[0].connect(64 << 10, 64 << 10, 4096);
    let value = "v".repeat(500_000);
    let request = format!("set x 0 0 500000\r\n{value}\r\n{}", "get a b c d e\r\n".repeat(1000));
    let reply = crew.talk(0, c, request.as_bytes());
    assert_eq!(text(&reply), format!("STORED\r\n{}", "END\r\n".repeat(1000)));
}

#[test]
fn long_values_of_another_worker_wait_with_it_until_they_are_read() {
    let shared = shared(2);
    let tiers = [memory(&shared, 0), memory(&shared, 1)];
    let mut crew = Crew::new(&shared, &tiers);
    let writer = crew.pipes[0].connect(64 << 10, 64 << 10, 64 << 10);
    let value = |i: usize| format!("{i:07}").repeat(30_000);
    for i in 0..8 {
        let set = format!("set big{i} 7 0 210000\r\n{}\r\n", value(i));
        assert_eq!(text(&crew.talk(0, writer, set.as_bytes())), "STORED\r\n");
    }
    let before = buffer::blocks_made();
    // One of the two workers does not own big0: its whole pipeline is requested immediately.
    let gets = "get big0 big1 big2 big3 big4 big5 big6 big7\r\n".repeat(100);
    let readers: Vec<Vec<usize>> = crew
        .pipes
        .iter_mut()
        .map(|pipes| (0..8).map(|_| pipes.connect(64 << 10, 4096, 4096)).collect())
        .collect();
    for (pipes, readers) in crew.pipes.iter_mut().zip(&readers) {
        for &reader in readers {
            pipes.send(reader, gets.as_bytes());
        }
    }
    for _ in 0..100 {
        crew.turn();
    }
    // 16 clients requested up to 168 MB each and have read nothing: at most one value each is here.
    let made = (buffer::blocks_made() - before) * sunder::base::limits::BLOCK_BYTES;
    assert!(made < 6 << 20, "{made} bytes of blocks for unread replies");
    // The items are removed; requests made before still get them.
    crew.talk(0, writer, b"flush_all\r\n");
    let mut hits_most = 0;
    for (worker, readers) in readers.iter().enumerate() {
        let mut hits = 0;
        let reply = text(&crew.talk(worker, readers[0], b""));
        let hit = format!("VALUE big0 7 210000\r\n{}\r\n", value(0));
        assert!(reply.starts_with(&hit), "{} bytes", reply.len());
        assert!(reply.ends_with("END\r\n"));
        assert_eq!(reply.matches("END").count(), 100);
        for i in 0..8 {
            let hit = format!("VALUE big{i} 7 210000\r\n{}\r\n", value(i));
            hits += reply.matches(&hit).count();
        }
        assert_eq!(reply.matches("VALUE").count(), hits, "every hit is whole");
        hits_most = hits_most.max(hits);
    }
    assert!(hits_most > 100, "a whole pipeline was requested before the flush");
    // The lent values were returned: there is room for as much again.
    for (pipes, readers) in crew.pipes.iter_mut().zip(&readers) {
        readers.iter().for_each(|&reader| pipes.reset(reader));
    }
    for _ in 0..50 {
        crew.turn();
    }
    assert_eq!(shared.sum(Counter::CurrItems), 0);
    for i in 0..60 {
        let set = format!("set new{i} 0 0 210000\r\n{}\r\n", value(i));
        assert_eq!(text(&crew.talk(0, writer, set.as_bytes())), "STORED\r\n", "{i}");
    }
}

/// A memory tier that answers each operation only after a few turns, not in order.
struct Late {
    inner: L1Only<Memory>,
    turn: Cell<u64>,
    started: Cell<u64>,
    sleepers: RefCell<Vec<(u64, Waker)>>,
}

impl Orchestrator for Late {
    type Value = ItemValue;

    fn try_now(
        &self,
        _key: &[u8],
        _action: Action,
        _value: Body<'_>,
        _now: Now,
    ) -> Result<Outcome<ItemValue>, InL1> {
        Err(InL1::Unasked)
    }

    async fn execute(&self, operation: Operation, now: Now) -> Outcome<ItemValue> {
        let n = self.started.get();
        self.started.set(n + 1);
        let due = self.turn.get() + [0, 3, 1, 7, 2][(n % 5) as usize];
        poll_fn(|context| {
            if self.turn.get() >= due {
                return Poll::Ready(());
            }
            self.sleepers.borrow_mut().push((due, context.waker().clone()));
            Poll::Pending
        })
        .await;
        self.inner.execute(operation, now).await
    }

    fn turn(&self, _now: Now) -> usize {
        self.turn.set(self.turn.get() + 1);
        let turn = self.turn.get();
        let mut sleepers = self.sleepers.borrow_mut();
        for (_, waker) in sleepers.extract_if(.., |(due, _)| *due <= turn) {
            waker.wake();
        }
        0
    }

    fn flush(&self, now: Now) {
        self.inner.flush(now);
    }

    fn wake_at_us(&self) -> u64 {
        self.inner.wake_at_us()
    }

    fn finish(&self, clock: &Clock) -> bool {
        self.inner.finish(clock)
    }
}

#[test]
fn waiting_operations_keep_the_order_on_a_key_and_of_a_connection() {
    for workers in 1..=2 {
        let shared = shared(workers);
        let tiers: Vec<Late> = (0..workers)
            .map(|w| Late {
                inner: memory(&shared, w),
                turn: Cell::new(0),
                started: Cell::new(0),
                sleepers: RefCell::default(),
            })
            .collect();
        let mut crew = Crew::new(&shared, &tiers);
        let c = crew.pipes[0].connect(16 << 10, 16 << 10, 4096);
        let mut request = String::from("set n 0 0 1\r\n0\r\n");
        let mut expected = String::from("STORED\r\n");
        for i in 1..=300 {
            request += &format!("incr n 1\r\nset other{i} 0 0 1\r\nx\r\nget n\r\n");
            expected +=
                &format!("{i}\r\nSTORED\r\nVALUE n 0 {}\r\n{i}\r\nEND\r\n", i.to_string().len());
        }
        let mut sent = 0;
        let mut reply = Vec::new();
        for _ in 0..20_000 {
            sent += crew.pipes[0].send(c, &request.as_bytes()[sent..]);
            crew.turn();
            crew.pipes[0].receive(c, &mut reply);
            if reply.len() == expected.len() {
                break;
            }
        }
        assert_eq!(text(&reply), expected, "{workers} workers");
    }
}

/// A memory tier behind a link: the requests of a turn are sent together at its end, and are
/// answered in the next.
struct Linked {
    inner: Memory,
    turn: Cell<u64>,
    asked: Cell<usize>,
    /// Size of each batch.
    batches: RefCell<Vec<usize>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Linked {
    fn new(inner: Memory) -> Linked {
        Linked {
            inner,
            turn: Cell::new(0),
            asked: Cell::new(0),
            batches: RefCell::default(),
            waiting: RefCell::default(),
        }
    }

    async fn exchange(&self) {
        self.asked.set(self.asked.get() + 1);
        let asked_in = self.turn.get();
        poll_fn(|context| {
            if self.turn.get() > asked_in {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Tier for Linked {
    type Value = ItemValue;

    fn try_now(&self, _: &[u8], _: Action, _: Body<'_>, _: Now) -> Option<Outcome<ItemValue>> {
        None
    }

    async fn get(&self, key: &Key, now: Now) -> Outcome<ItemValue> {
        self.exchange().await;
        self.inner.get(key, now).await
    }

    async fn get_and_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<ItemValue> {
        self.exchange().await;
        self.inner.get_and_touch(key, expiry, now).await
    }

    async fn store(&self, key: &Key, store: Store, value: &Chain, now: Now) -> Outcome<ItemValue> {
        self.exchange().await;
        self.inner.store(key, store, value, now).await
    }

    async fn delete(&self, key: &Key, cas: u64, now: Now) -> Outcome<ItemValue> {
        self.exchange().await;
        self.inner.delete(key, cas, now).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<ItemValue> {
        self.exchange().await;
        self.inner.touch(key, expiry, now).await
    }

    async fn arithmetic(&self, key: &Key, arithmetic: Arithmetic, now: Now) -> Outcome<ItemValue> {
        self.exchange().await;
        self.inner.arithmetic(key, arithmetic, now).await
    }

    async fn flush_all(&self, at: Expiry, now: Now) -> Outcome<ItemValue> {
        self.exchange().await;
        self.inner.flush_all(at, now).await
    }

    async fn invalidate(&self, key: &Key, now: Now) {
        self.exchange().await;
        self.inner.invalidate(key, now).await;
    }

    fn turn(&self, _now: Now) -> usize {
        self.turn.set(self.turn.get() + 1);
        self.waiting.borrow_mut().drain(..).map(Waker::wake).count()
    }

    fn flush(&self, _now: Now) {
        let asked = self.asked.take();
        if asked > 0 {
            self.batches.borrow_mut().push(asked);
        }
    }

    fn wake_at_us(&self) -> u64 {
        self.inner.wake_at_us()
    }

    fn finish(&self, clock: &Clock) -> bool {
        self.inner.finish(clock)
    }
}

#[test]
fn keys_of_a_get_that_miss_l1_are_requested_from_l2_in_one_turn() {
    let shared = shared(1);
    let stats = Arc::clone(&shared.stats[0]);
    let l2 = Linked::new(memory_tier(&shared, 0));
    let keys: Vec<String> = (0..40).map(|i| format!("key{i}")).collect();
    let store = Store { mode: StoreMode::Set, flags: 3, expiry: Expiry::NEVER, cas: 0 };
    for key in &keys {
        let value = Body::Slice(key.as_bytes());
        let action = Action::Store(store);
        l2.inner.try_now(key.as_bytes(), action, value, shared.clock.read()).expect("memory");
    }
    let tiers = [L1L2::new(memory_tier(&shared, 0), l2, stats)];
    let mut crew = Crew::new(&shared, &tiers);
    let c = crew.pipes[0].connect(16 << 10, 16 << 10, 4096);
    let request = format!("get {} none\r\n", keys.join(" "));
    let hit = |key: &String| format!("VALUE {key} 3 {}\r\n{key}\r\n", key.len());
    let expected = keys.iter().map(hit).collect::<String>() + "END\r\n";
    for asked_of_l2 in [41, 1] {
        crew.pipes[0].send(c, request.as_bytes());
        let mut reply = Vec::new();
        for _ in 0..10 {
            crew.turn();
            tiers[0].flush(crew.now);
            crew.pipes[0].receive(c, &mut reply);
        }
        assert_eq!(text(&reply), expected);
        assert_eq!(*tiers[0].l2().batches.borrow(), [asked_of_l2], "all in one batch");
        tiers[0].l2().batches.borrow_mut().clear();
    }
}
