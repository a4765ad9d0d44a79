//! Whole tasks against a server in the same thread, on a clock that only this file moves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::drive::{Carrier, drive};
use super::engine::{Conn, Engine, Progress, Task};
use super::plan::Plan;
use super::record::Record;
use super::schedule::{SECOND_NS, Share, Window};
use super::spread::Lengths;
use crate::base::clock::Now;
use crate::load::login::Login;
use crate::load::stream::Target;
use crate::net::ConnectionId;
use crate::net::Handler;
use crate::net::Stream;

const MS: u64 = 1_000_000;

/// All keys, however long it takes.
const FILL: Task = Task::Fill { limit_ns: u64::MAX };

/// Bytes that wait in either direction of a connection, as in a ring of the TCP stack.
const RING_BYTES: usize = 16 * 1024;

/// When an answer to a request that came at some time leaves.
type Answers = fn(u64) -> u64;

/// What the server does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    Silent,
    Garbage,
    /// All connections, for good.
    Closes,
    /// The first, and takes it again a while later.
    Resets,
    Spoils,
    Swaps,
}

#[derive(Default)]
struct Peer {
    conn: Option<Conn>,
    /// What the server has not parsed yet.
    asked: Vec<u8>,
    answers: VecDeque<(u64, Vec<u8>)>,
    /// What the client may read, and where the ring wraps: that many bytes are in the first piece.
    input: VecDeque<u8>,
    read: usize,
    /// When it is there again, if it is not.
    back_ns: Option<u64>,
    /// How often it was opened before.
    generation: u32,
    is_admitted: bool,
}

const REFUSAL: &[u8] = b"CLIENT_ERROR authentication failure\r\n";

/// How long a connection is missing.
const GAP_NS: u64 = 300 * MS;

struct Simulation {
    now_ns: u64,
    /// What a turn takes at least.
    turn_ns: u64,
    peers: Vec<Peer>,
    answers_at: Answers,
    fault: Fault,
    /// From this many requests on.
    fault_after: usize,
    requests: usize,
    items: HashMap<Vec<u8>, (String, Vec<u8>)>,
    /// The engine owns its connections as those of a stack.
    is_stack: bool,
    /// Logins so far, if each connection has to begin with one.
    logins: Option<usize>,
}

struct View<'a> {
    input: &'a mut VecDeque<u8>,
    read: &'a mut usize,
    out: &'a mut Vec<u8>,
    piece: Vec<u8>,
    is_finished: bool,
}

impl Stream for View<'_> {
    fn received(&mut self) -> &[u8] {
        let to_wrap = RING_BYTES - *self.read % RING_BYTES;
        self.piece = self.input.iter().take(to_wrap).copied().collect();
        &self.piece
    }

    fn received_bytes(&self) -> usize {
        self.input.len()
    }

    fn receive_capacity_bytes(&self) -> usize {
        RING_BYTES
    }

    fn peek(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.input.len());
        self.input.iter().zip(out).for_each(|(byte, out)| *out = *byte);
        n
    }

    fn consume(&mut self, bytes: usize) {
        self.input.drain(..bytes);
        *self.read += bytes;
    }

    fn is_peer_finished(&self) -> bool {
        self.is_finished
    }

    fn room_bytes(&self) -> usize {
        RING_BYTES - self.out.len()
    }

    fn write_with(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let mut room = vec![0; self.room_bytes()];
        let filled = fill(&mut room);
        self.out.extend_from_slice(&room[..filled]);
        filled
    }

    fn close(&mut self) {}

    fn abort(&mut self) {}
}

impl Simulation {
    fn new(connections: usize, answers_at: Answers) -> Simulation {
        let peer = |n| Peer { conn: Some(Conn::new(n)), ..Peer::default() };
        Simulation {
            now_ns: 0,
            turn_ns: 1,
            peers: (0..connections).map(peer).collect(),
            answers_at,
            fault: Fault::None,
            fault_after: 0,
            requests: 0,
            items: HashMap::new(),
            is_stack: false,
            logins: None,
        }
    }

    /// The id of a connection in a stack.
    fn id(&self, number: usize) -> ConnectionId {
        ConnectionId { index: number as u32, generation: self.peers[number].generation }
    }

    /// Opens all connections as a stack does.
    fn open_as_stack(&mut self, engine: &mut Engine) {
        self.is_stack = true;
        for number in 0..self.peers.len() {
            let conn = engine.opened(self.id(number), 0, Now::default());
            assert_eq!(engine.carried.ids.last(), Some(&self.id(number)));
            self.peers[number].conn = Some(conn);
        }
        engine.carried.is_reopening = true;
    }

    /// Answers all whole requests in `asked`.
    fn serve(&mut self, number: usize) {
        loop {
            let peer = &self.peers[number];
            let Some(end) = peer.asked.iter().position(|&byte| byte == b'\n') else { return };
            let line = String::from_utf8(peer.asked[..end - 1].to_vec()).expect("text");
            let words: Vec<_> = line.split(' ').collect();
            let mut taken = end + 1;
            let mut answer = Vec::new();
            if let Some(logins) = self.logins.as_mut().filter(|_| !peer.is_admitted) {
                assert_eq!(line, "set sunder-login 0 0 12", "no request before the login");
                *logins += 1;
                let rest = String::from_utf8(peer.asked[taken..].to_vec()).expect("text");
                let is_right = rest == "alice secret\r\n";
                taken += rest.len();
                answer.extend_from_slice(if is_right { &b"STORED\r\n"[..] } else { REFUSAL });
                self.peers[number].is_admitted = is_right;
            } else if words[0] == "set" {
                let bytes: usize = words[4].parse().expect("a length");
                if peer.asked.len() < taken + bytes + 2 {
                    return;
                }
                let value = peer.asked[taken..taken + bytes].to_vec();
                taken += bytes + 2;
                self.items.insert(words[1].into(), (words[2].to_owned(), value));
                answer.extend_from_slice(b"STORED\r\n");
            } else {
                for key in &words[1..] {
                    self.put_item(key, &mut answer);
                }
                answer.extend_from_slice(b"END\r\n");
            }
            self.requests += 1;
            if self.fault == Fault::Garbage && self.requests > self.fault_after {
                answer = b"<html>\r\n".to_vec();
            }
            let peer = &mut self.peers[number];
            peer.asked.drain(..taken);
            if self.fault != Fault::Silent || self.requests <= self.fault_after {
                peer.answers.push_back(((self.answers_at)(self.now_ns), answer));
            }
        }
    }

    fn put_item(&self, key: &str, answer: &mut Vec<u8>) {
        let Some((flags, value)) = self.items.get(key.as_bytes()) else { return };
        let mut value = value.clone();
        let is_wrong = self.requests >= self.fault_after;
        if is_wrong && self.fault == Fault::Spoils {
            value[0] ^= 1;
        }
        let key = if is_wrong && self.fault == Fault::Swaps { "other" } else { key };
        answer.extend_from_slice(format!("VALUE {key} {flags} {}\r\n", value.len()).as_bytes());
        answer.extend_from_slice(&value);
        answer.extend_from_slice(b"\r\n");
    }

    /// Lets what is due into the rings. Returns whether there is anything to read.
    fn deliver(&mut self, number: usize) -> bool {
        let now_ns = self.now_ns;
        let peer = &mut self.peers[number];
        while let Some((at_ns, bytes)) = peer.answers.front_mut()
            && *at_ns <= now_ns
            && peer.input.len() < RING_BYTES
        {
            let fits = bytes.len().min(RING_BYTES - peer.input.len());
            peer.input.extend(bytes.drain(..fits));
            if bytes.is_empty() {
                peer.answers.pop_front();
            }
        }
        !peer.input.is_empty()
    }

    /// Whether the server ends a connection now.
    fn ends(&self, number: usize) -> bool {
        let is_time = self.requests > self.fault_after;
        is_time && (self.fault == Fault::Closes || self.fault == Fault::Resets && number == 0)
    }

    /// What the carrier does when the server has ended a connection.
    fn lose(&mut self, engine: &mut Engine, number: usize) {
        let conn = self.peers[number].conn.take().expect("a connection");
        let (words, mut conn) = (engine.closed_words(&conn), conn);
        let conn = if self.is_stack {
            engine.closed(self.id(number), conn);
            assert_eq!(std::mem::take(&mut engine.carried.gone), [number]);
            None
        } else {
            engine.lost(&mut conn, &words);
            Some(conn)
        };
        let is_back = self.fault == Fault::Resets;
        let back_ns = Some(if is_back { self.now_ns + GAP_NS } else { u64::MAX });
        let generation = self.peers[number].generation + 1;
        self.peers[number] = Peer { conn, back_ns, generation, ..Peer::default() };
        if is_back {
            self.fault = Fault::None;
        }
    }

    /// What the carrier does when a connection is there again.
    fn regain(&mut self, engine: &mut Engine, number: usize) {
        if !self.is_stack {
            return engine.regained(self.peers[number].conn.as_ref().expect("a connection"));
        }
        let id = self.id(number);
        engine.carried.opening.push((id, number));
        self.peers[number].conn = Some(engine.opened(id, 0, Now::default()));
        assert_eq!(engine.carried.opening, []);
        assert_eq!(std::mem::take(&mut engine.carried.back), [number]);
        assert_eq!(engine.carried.ids[number], id);
    }

    fn next_ns(&self) -> u64 {
        let first = |peer: &Peer| peer.answers.front().map(|(at_ns, _)| *at_ns);
        self.peers.iter().filter_map(first).min().unwrap_or(u64::MAX)
    }
}

impl Carrier for Simulation {
    fn begin_turn(&mut self, engine: &mut Engine, until_ns: u64) {
        self.now_ns = self.next_ns().min(until_ns).max(self.now_ns + self.turn_ns);
        engine.tick(self.now_ns);
        for number in 0..self.peers.len() {
            let is_back = self.peers[number].back_ns.is_some_and(|at_ns| at_ns <= self.now_ns);
            if self.deliver(number) || self.ends(number) || is_back {
                self.visit(engine, number);
            }
        }
    }

    fn visit(&mut self, engine: &mut Engine, number: usize) {
        if let Some(back_ns) = self.peers[number].back_ns {
            assert!(engine.is_down(number));
            if back_ns > self.now_ns {
                return engine.visit_lost(&Conn::new(number));
            }
            self.regain(engine, number);
            self.peers[number].back_ns = None;
        }
        // As long as either side has something to do that needs no time.
        loop {
            self.deliver(number);
            let is_finished = self.ends(number);
            let peer = &mut self.peers[number];
            let mut out = Vec::new();
            let (input, read) = (&mut peer.input, &mut peer.read);
            let mut view = View { input, read, out: &mut out, piece: Vec::new(), is_finished };
            engine.visit(peer.conn.as_mut().expect("a connection"), &mut view);
            if is_finished {
                return self.lose(engine, number);
            }
            if out.is_empty() {
                return;
            }
            peer.asked.extend_from_slice(&out);
            self.serve(number);
        }
    }

    fn end_turn(&mut self) {}

    fn close(&mut self, _: &mut Engine) {}
}

/// A closed loop on 10,000 keys, but for what `change` says.
pub fn plan(change: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = Plan::new(Target::Tcp("127.0.0.1".to_owned(), 11211));
    change(&mut plan);
    plan
}

fn engine(plan: &Plan) -> Engine {
    let share = Share { thread: 0, threads: 1, connections: plan.connections };
    Engine::new(plan, share, Arc::new(Progress::default()))
}

/// Measures for two seconds after one of warm-up.
fn measure(
    simulation: &mut Simulation,
    engine: &mut Engine,
    rate: Option<f64>,
) -> Result<Record, String> {
    let start_ns = simulation.now_ns;
    let window = Window { from_ns: start_ns + SECOND_NS, end_ns: start_ns + 3 * SECOND_NS };
    let task = Task::Measure { rate, start_ns, window, interval_ns: SECOND_NS / 10 };
    // Of a server that is gone the end is not to come before the silence.
    let timeout_ns = if simulation.fault == Fault::Closes { SECOND_NS / 2 } else { 10 * SECOND_NS };
    drive(simulation, engine, task, &[&AtomicBool::new(false)], timeout_ns);
    match engine.failure() {
        Some(failure) => Err(failure.clone()),
        None => Ok(engine.take_record()),
    }
}

fn quantile(record: &Record, quantile: f64) -> f64 {
    record.get.value_at_quantile(quantile) as f64
}

fn near(seen: f64, expected: f64, tolerance: f64) {
    assert!((seen / expected - 1.0).abs() <= tolerance, "{seen} instead of {expected}");
}

/// A server that does nothing for the first 100 ms of each second.
fn stalls(at_ns: u64) -> u64 {
    let since_ns = at_ns % SECOND_NS;
    if since_ns < 100 * MS { at_ns - since_ns + 100 * MS } else { at_ns + MS }
}

#[test]
fn a_millisecond_is_a_millisecond() {
    let plan = plan(|plan| {
        plan.get_share = 1.0;
        plan.connections = 4;
    });
    for rate in [None, Some(1_000.0)] {
        let mut simulation = Simulation::new(4, |at_ns| at_ns + MS);
        let record = measure(&mut simulation, &mut engine(&plan), rate).expect("measured");
        near(quantile(&record, 0.5), MS as f64, 0.002);
        near(quantile(&record, 0.99), MS as f64, 0.002);
        let expected = if rate.is_some() { 2_000.0 } else { 8_000.0 };
        near(record.counts.requests as f64, expected, 0.002);
        near(record.counts.answered as f64, expected, 0.002);
    }
}

#[test]
fn an_open_loop_shows_a_stall_and_a_closed_one_hides_it() {
    let plan = plan(|plan| {
        plan.get_share = 1.0;
        plan.connections = 4;
        plan.depth = 64;
    });
    let run = |rate| {
        let mut simulation = Simulation::new(4, stalls);
        measure(&mut simulation, &mut engine(&plan), rate).expect("measured")
    };
    let (open, closed) = (run(Some(1_000.0)), run(None));
    // A tenth of all arrivals fall into a stall, and wait for what is left of it.
    near(quantile(&open, 0.99), 90e6, 0.1);
    near(quantile(&open, 0.95), 50e6, 0.2);
    near(open.counts.requests as f64, 2_000.0, 0.002);
    near(quantile(&closed, 0.99), MS as f64, 0.002);
    // Over time: the stretches with a stall tell it.
    assert!(open.intervals[1].max() > 90 * MS && open.intervals[5].max() < 2 * MS);
}

#[test]
fn what_a_slow_server_was_never_sent_counts_too() {
    let plan = plan(|plan| {
        plan.get_share = 1.0;
        plan.connections = 1;
    });
    let mut simulation = Simulation::new(1, |at_ns| at_ns + MS);
    let mut engine = engine(&plan);
    // It can answer half of it. What began in the warm-up is late when the window opens.
    let record = measure(&mut simulation, &mut engine, Some(2_000.0)).expect("measured");
    let counts = record.counts;
    assert_eq!(counts.requests + counts.overdue, 4_000, "{counts:?}");
    near(counts.answered as f64, 2_000.0, 0.01);
    assert!(counts.overdue > 2_000, "{counts:?}");
    // The last to be answered had been due for half of the time, and the rest have no less.
    assert!(quantile(&record, 0.5) > 1.2e9, "{}", quantile(&record, 0.5));
    // The next step begins afresh.
    let next = measure(&mut simulation, &mut engine, Some(500.0)).expect("measured");
    assert_eq!((next.counts.requests, next.counts.overdue), (1_000, 0));
    near(quantile(&next, 0.99), MS as f64, 0.002);
}

#[test]
fn a_rate_far_above_what_the_server_can_do_ends_with_what_was_due_and_what_was_answered() {
    let plan = plan(|plan| {
        plan.get_share = 1.0;
        plan.connections = 1;
    });
    for rate in [1e5, 1e9] {
        let mut simulation = Simulation::new(1, |at_ns| at_ns + MS);
        // At the higher rate the client falls behind too.
        simulation.turn_ns = MS / 10;
        let record = measure(&mut simulation, &mut engine(&plan), Some(rate)).expect("measured");
        // Soon after the end of the step, however much was due.
        assert!(simulation.now_ns < 4 * SECOND_NS, "{} ns", simulation.now_ns);
        let counts = record.counts;
        assert_eq!((counts.requests, counts.overdue), (0, 2 * rate as u64));
        near(counts.answered as f64, 2_000.0, 0.01);
        assert_eq!(record.get.len(), counts.overdue);
        // What was due first has waited for all of the step and half a second, the last for that.
        near(quantile(&record, 0.5), 1.5e9, 0.01);
        near(quantile(&record, 1.0), 2.5e9, 0.01);
        near(record.get.min() as f64, 0.5e9, 0.01);
    }
}

#[test]
fn what_was_stored_is_found_and_right_at_any_length() {
    let rows: [fn(&mut Plan); 4] = [
        |plan| {
            plan.keys = 500;
            plan.check_every = 1;
            plan.connections = 3;
            plan.depth = 5;
            plan.get_share = 0.75;
        },
        |plan| {
            plan.keys = 50;
            plan.check_every = 1;
            plan.connections = 3;
            plan.depth = 2;
            plan.value_bytes = Lengths::Range(1, 60000);
        },
        |plan| {
            plan.keys = 90;
            plan.check_every = 1;
            plan.connections = 2;
            plan.depth = 3;
            plan.multi_get = 7;
            plan.value_bytes = Lengths::Range(10, 2000);
        },
        |plan| {
            plan.keys = 9;
            plan.check_every = 1;
            plan.connections = 1;
            plan.multi_get = 3;
            plan.value_bytes = Lengths::Fixed(30000);
        },
    ];
    for (row, change) in rows.into_iter().enumerate() {
        let plan = plan(change);
        let mut engine = engine(&plan);
        let mut simulation = Simulation::new(plan.connections, |at_ns| at_ns + 50 * MS);
        drive(&mut simulation, &mut engine, FILL, &[], SECOND_NS);
        assert_eq!(simulation.items.len(), plan.keys as usize, "row {row}: {:?}", engine.failure());
        let record = measure(&mut simulation, &mut engine, None).expect("measured");
        let counts = record.counts;
        let none = (counts.misses, counts.mismatches, counts.errors);
        assert_eq!(none, (0, 0, 0), "row {row}: {:?}", engine.take_firsts());
        assert_eq!(counts.hits, record.get.len() * plan.multi_get as u64, "row {row}");
        assert!(counts.requests > 20, "row {row}: {counts:?}");
    }
}

#[test]
fn wrong_items_are_counted_and_nothing_else_is_hurt() {
    for (fault, what) in [(Fault::Spoils, "not stored"), (Fault::Swaps, "another key")] {
        let plan = plan(|plan| {
            plan.keys = 100;
            plan.check_every = 1;
            plan.connections = 2;
            plan.get_share = 1.0;
        });
        let mut engine = engine(&plan);
        let mut simulation = Simulation::new(2, |at_ns| at_ns + MS);
        drive(&mut simulation, &mut engine, FILL, &[], SECOND_NS);
        (simulation.fault, simulation.fault_after) = (fault, simulation.requests + 3_000);
        let record = measure(&mut simulation, &mut engine, None).expect("measured");
        near(record.counts.mismatches as f64, record.counts.requests as f64 - 1_000.0, 0.01);
        let [_, mismatch] = engine.take_firsts();
        assert!(mismatch.expect("words").contains(what));
    }
}

#[test]
fn a_server_that_fails_ends_the_run_with_its_reason() {
    for (fault, reason) in [
        (Fault::Silent, "no answer from the server for 10 s, 2 requests in flight"),
        (Fault::Garbage, "the server answered garbage"),
        (Fault::Closes, "the server closed connection"),
    ] {
        let plan = plan(|plan| {
            plan.get_share = 1.0;
            plan.connections = 2;
        });
        let mut simulation = Simulation::new(2, |at_ns| at_ns + MS);
        (simulation.fault, simulation.fault_after) = (fault, 1_000);
        let error = measure(&mut simulation, &mut engine(&plan), None).expect_err("failed");
        assert!(error.starts_with(reason), "{error}");
    }
}

#[test]
fn a_connection_that_ends_is_opened_again_and_the_gap_is_told() {
    let both = [(None, 3_000), (Some(1_000.0), 1_500)];
    for (n, (rate, fault_after)) in both.into_iter().cycle().take(4).enumerate() {
        let plan = plan(|plan| {
            plan.get_share = 1.0;
            plan.connections = 2;
        });
        let mut simulation = Simulation::new(2, |at_ns| at_ns + MS);
        (simulation.fault, simulation.fault_after) = (Fault::Resets, fault_after);
        let mut engine = engine(&plan);
        if n >= 2 {
            simulation.open_as_stack(&mut engine);
        }
        let record = measure(&mut simulation, &mut engine, rate).expect("it goes on");
        let counts = record.counts;
        assert!(counts.reconnects == 1 && counts.lost <= 1, "{counts:?}");
        near(record.gap_ns as f64, GAP_NS as f64, 0.2);
        assert_eq!(record.gap_ns, record.gap_ns_max);
        let all = counts.requests + counts.lost + counts.overdue;
        assert_eq!(record.get.len(), all, "{counts:?}");
        if rate.is_none() {
            // One of two connections is missing for 300 of 2000 ms.
            near(all as f64, 3_700.0, 0.02);
        } else {
            // What was due meanwhile has waited, and none is left out.
            assert_eq!(all, 2_000, "{counts:?}");
            assert!(record.get.max() > 250 * MS, "{}", record.get.max());
        }
    }
}

/// Each connection logs in before its first request, and again when it was opened again; none of
/// that is counted.
#[test]
fn every_connection_logs_in_before_its_first_request() {
    for (rate, is_stack) in [(None, false), (Some(1_000.0), false), (None, true)] {
        let plan = plan(|plan| {
            plan.get_share = 1.0;
            plan.connections = 3;
            plan.login = Some(Login::parse("alice:secret").expect("it is one"));
        });
        let mut simulation = Simulation::new(3, |at_ns| at_ns + MS);
        simulation.logins = Some(0);
        let mut engine = engine(&plan);
        if is_stack {
            simulation.open_as_stack(&mut engine);
        }
        drive(&mut simulation, &mut engine, Task::LogIn, &[], 10 * SECOND_NS);
        assert_eq!((engine.failure(), simulation.logins, engine.outstanding()), (None, Some(3), 0));
        assert_eq!(simulation.requests, 3, "nothing but the logins");
        (simulation.fault, simulation.fault_after) = (Fault::Resets, 1_500);
        let record = measure(&mut simulation, &mut engine, rate).expect("it goes on");
        let counts = record.counts;
        assert_eq!((simulation.logins, counts.reconnects, counts.errors), (Some(4), 1, 0));
        assert_eq!(record.get.len(), counts.requests + counts.lost + counts.overdue, "{counts:?}");
    }
}

#[test]
fn a_login_that_fails_ends_the_run_with_the_reason() {
    for (user, fault, reason) in [
        ("alice:secreT", Fault::None, "the server refuses the login (--login): 'CLIENT_ERROR auth"),
        ("alice:secret", Fault::Silent, "no answer from the server for 10 s, 2 requests in flight"),
        ("alice:secret", Fault::Closes, "the server closed connection"),
        ("alice:secret", Fault::Garbage, "the server refuses the login (--login): '<html>'"),
    ] {
        let plan = plan(|plan| {
            plan.connections = 2;
            plan.login = Some(Login::parse(user).expect("it is one"));
        });
        let mut simulation = Simulation::new(2, |at_ns| at_ns + MS);
        (simulation.logins, simulation.fault) = (Some(0), fault);
        let mut engine = engine(&plan);
        drive(&mut simulation, &mut engine, Task::LogIn, &[], 10 * SECOND_NS);
        let failure = engine.failure().expect("it failed");
        assert!(failure.starts_with(reason), "{failure}");
    }
}

/// Keys that were on their way are stored all the same.
#[test]
fn a_connection_that_ends_while_keys_are_stored_leaves_none_out() {
    let plan = plan(|plan| {
        plan.keys = 500;
        plan.connections = 2;
        plan.depth = 8;
    });
    let mut simulation = Simulation::new(2, |at_ns| at_ns + MS);
    (simulation.fault, simulation.fault_after) = (Fault::Resets, 490);
    let mut engine = engine(&plan);
    drive(&mut simulation, &mut engine, FILL, &[], 10 * SECOND_NS);
    assert_eq!((engine.failure(), simulation.items.len()), (None, 500));
    assert_eq!(engine.outstanding(), 0);
}

/// A server that stores two keys a second, of ten thousand.
#[test]
fn keys_that_take_too_long_to_store_end_the_run_with_what_to_do() {
    let plan = plan(|plan| {
        plan.connections = 2;
        plan.duration = Duration::from_secs(2);
    });
    let mut simulation = Simulation::new(2, |at_ns| at_ns + SECOND_NS);
    let mut engine = engine(&plan);
    let task = Task::Fill { limit_ns: 60 * SECOND_NS };
    drive(&mut simulation, &mut engine, task, &[&AtomicBool::new(false)], 10 * SECOND_NS);
    let failure = engine.failure().expect("it is too slow");
    assert!(failure.starts_with("storing the keys would take"), "{failure}");
    assert!(failure.contains("--keys") && failure.contains("--no-fill"), "{failure}");
    assert!(simulation.now_ns < 10 * SECOND_NS, "it is seen early: {}", simulation.now_ns);
    // One that is slow for a moment only is not given up.
    let plan = self::plan(|plan| {
        plan.connections = 2;
        plan.keys = 100;
    });
    let mut simulation = Simulation::new(2, |at_ns| at_ns.max(4 * SECOND_NS) + MS);
    let mut engine = self::engine(&plan);
    drive(&mut simulation, &mut engine, task, &[&AtomicBool::new(false)], 10 * SECOND_NS);
    assert_eq!((engine.failure(), simulation.items.len()), (None, 100));
}

#[test]
fn a_stop_ends_the_step_with_what_there_is() {
    let plan = plan(|plan| {
        plan.get_share = 1.0;
        plan.connections = 2;
    });
    let mut simulation = Simulation::new(2, |at_ns| at_ns + MS);
    let mut engine = engine(&plan);
    let window = Window { from_ns: 0, end_ns: 100 * SECOND_NS };
    let task = Task::Measure { rate: None, start_ns: 0, window, interval_ns: SECOND_NS };
    drive(&mut simulation, &mut engine, task, &[&AtomicBool::new(true)], SECOND_NS);
    let record = engine.take_record();
    assert!(record.window().end_ns < SECOND_NS);
    assert_eq!(engine.outstanding(), 0);
}
