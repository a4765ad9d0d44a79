//! One thread's requests and answers, whatever carries them.
//!
//! A connection has up to `depth` requests in flight, each with its time in a ring of its own. A
//! visit takes the answers that came, in place, and writes as many requests as may begin. After
//! start nothing here allocates for a request of one key. Time is what the carrier said it is:
//! [`Engine::tick`].

mod carried;
mod login;
mod lost;
mod overdue;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::plan::Plan;
use super::record::Record;
use super::schedule::{Arrivals, Share, Window};
use super::traffic::Traffic;
use crate::load::wire::{self, Dialect, Item, Reply, Step};
use crate::net::Stream;
use carried::Carried;
use login::{LoginState, Logins};
use lost::Losses;

/// What requests a thread makes at the moment.
enum Work {
    /// None.
    Idle,
    /// None: its connections log in.
    LogIn,
    /// A set of each of its keys, once.
    Fill { next: u64, end: u64, stride: u64 },
    /// The next as soon as one is answered.
    Closed { end_ns: u64 },
    /// Each at its time.
    Open(Arrivals),
    /// None: what was dealt and not begun is overdue.
    GiveUp(Arrivals),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Get,
    GetMany,
    Set,
}

/// A request in flight.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// When it was meant to begin.
    start_ns: u64,
    /// Its first key.
    key: u32,
    kind: Kind,
}

const NOTHING: Pending = Pending { start_ns: 0, key: 0, kind: Kind::Get };

/// What few connections ever need.
#[derive(Debug, Default)]
struct Long {
    /// The start of an answer that is longer than the transport holds.
    held: Vec<u8>,
    /// How many bytes more it needs.
    missing: usize,
    /// A request that did not fit, and how much of it was sent.
    unsent: Vec<u8>,
    sent: usize,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    number: u32,
    /// The place of the oldest request in flight, and how many there are.
    first: u32,
    waiting: u32,
    /// How many keys of the oldest request have had their answer.
    items: u32,
    login: LoginState,
    long: Option<Box<Long>>,
}

impl Conn {
    /// Connection number `number` of its thread.
    pub fn new(number: usize) -> Conn {
        let number = u32::try_from(number).expect("bounded by the options");
        let login = LoginState::default();
        Conn { number, first: 0, waiting: 0, items: 0, login, long: None }
    }

    fn has_unsent(&self) -> bool {
        self.long.as_ref().is_some_and(|long| long.sent < long.unsent.len())
    }
}

/// Arrivals dealt to a connection in this step, and how many of them were begun.
#[derive(Clone, Copy, Debug, Default)]
struct Dealt {
    dealt: u64,
    begun: u64,
}

/// How far a thread is, for those who watch: written once a turn.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Progress {
    /// Answers since the thread began.
    pub answers: AtomicU64,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    /// Log in on all connections.
    LogIn,
    /// Store every key once, unless that would take longer than this, in nanoseconds.
    Fill { limit_ns: u64 },
    /// Ask from `start_ns` on, at `rate` a second by all threads or as fast as answers come.
    Measure {
        /// None: a closed loop.
        rate: Option<f64>,
        /// When to begin.
        start_ns: u64,
        /// What of it counts.
        window: Window,
        /// Length of the stretches that are recorded apart.
        interval_ns: u64,
    },
}

/// One thread's side of a run.
pub struct Engine {
    dialect: Dialect,
    depth: u32,
    multi_get: usize,
    answer_bytes: usize,
    check_every: u32,
    until_check: u32,
    share: Share,
    keys: u32,
    traffic: Traffic,
    work: Work,
    /// `depth` places for each connection.
    pending: Box<[Pending]>,
    /// `multi_get` for each of these, if more than one.
    many: Box<[u32]>,
    /// For each connection.
    dealt: Box<[Dealt]>,
    /// Requests that were dealt and not begun.
    backlog: u64,
    now_ns: u64,
    /// Requests in flight on all connections.
    outstanding: u64,
    /// When the last answer came, or there was none to wait for.
    answered_ns: u64,
    answers: u64,
    /// Requests and answers, now and when the turn began.
    sent_and_answered: u64,
    seen_at_turn: u64,
    is_spinning: bool,
    progress: Arc<Progress>,
    record: Record,
    /// Whether answers are recorded: not while keys are filled in.
    is_measuring: bool,
    failure: Option<String>,
    /// Nothing that happens to connections matters any more.
    is_over: bool,
    /// The first error and the first mismatch, in words.
    first_error: Option<String>,
    first_mismatch: Option<String>,
    losses: Losses,
    logins: Logins,
    /// Connections that a stack of ours carries.
    pub carried: Carried,
    request: Vec<u8>,
    stitched: Vec<u8>,
}

impl Engine {
    /// The engine of one thread.
    pub fn new(plan: &Plan, share: Share, progress: Arc<Progress>) -> Engine {
        let places = share.connections * plan.depth as usize;
        let many = if plan.multi_get > 1 { places * plan.multi_get } else { 0 };
        Engine {
            dialect: plan.dialect,
            depth: plan.depth,
            multi_get: plan.multi_get,
            answer_bytes: plan.answer_bytes,
            check_every: plan.check_every,
            until_check: plan.check_every,
            share,
            keys: plan.keys,
            traffic: Traffic::new(plan, share.thread),
            work: Work::Idle,
            pending: vec![NOTHING; places].into_boxed_slice(),
            many: vec![0; many].into_boxed_slice(),
            dealt: vec![Dealt::default(); share.connections].into_boxed_slice(),
            backlog: 0,
            now_ns: 0,
            outstanding: 0,
            answered_ns: 0,
            answers: 0,
            sent_and_answered: 0,
            seen_at_turn: 0,
            is_spinning: plan.device.is_some(),
            progress,
            record: Record::new(Window { from_ns: 0, end_ns: 1 }, 1),
            is_measuring: false,
            failure: None,
            is_over: false,
            first_error: None,
            first_mismatch: None,
            losses: Losses::new(share.connections, plan.timeout_ns()),
            logins: Logins::new(plan.login.as_ref(), plan.dialect),
            carried: Carried::default(),
            request: Vec::with_capacity(4096),
            stitched: Vec::with_capacity(64 * 1024),
        }
    }

    /// Begins a task.
    pub fn begin(&mut self, task: Task) {
        self.answered_ns = self.now_ns;
        self.dealt.fill(Dealt::default());
        self.backlog = 0;
        self.losses.keys.clear();
        match task {
            Task::LogIn => {
                self.is_measuring = false;
                self.work = Work::LogIn;
            }
            Task::Fill { .. } => {
                self.is_measuring = false;
                let (thread, threads) = (self.share.thread as u64, self.share.threads as u64);
                self.work = Work::Fill { next: thread, end: self.keys.into(), stride: threads };
            }
            Task::Measure { rate, start_ns, window, interval_ns } => {
                self.is_measuring = true;
                self.record = Record::new(window, interval_ns);
                self.record.is_spinning = self.is_spinning;
                let end_ns = window.end_ns;
                self.work = match rate {
                    None => Work::Closed { end_ns },
                    Some(rate) => Work::Open(Arrivals::new(rate, self.share, start_ns, end_ns)),
                };
            }
        }
    }

    /// To be called at the start of each turn, with its time.
    #[inline]
    pub fn tick(&mut self, now_ns: u64) {
        let turn_ns = now_ns - self.now_ns;
        self.now_ns = now_ns;
        if self.record.is_open() {
            self.record.turns += 1;
            let is_idle = self.sent_and_answered == self.seen_at_turn;
            self.record.idle_ns += if is_idle { turn_ns } else { 0 };
            self.record.turn_ns_max = self.record.turn_ns_max.max(turn_ns);
            if let Some(late_ns) = now_ns.checked_sub(self.next_arrival_ns()) {
                self.record.late.add(late_ns);
            }
        }
        self.seen_at_turn = self.sent_and_answered;
        self.record.tick(now_ns);
        self.progress.answers.store(self.answers, Relaxed);
        if self.outstanding == 0 && self.losses.down() == 0 {
            self.answered_ns = now_ns;
        }
    }

    /// A closer look at the clock, within a turn.
    #[inline]
    pub fn set_now(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// This turn's time.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// When the next arrival is due: never in a closed loop.
    #[inline]
    pub fn next_arrival_ns(&self) -> u64 {
        match &self.work {
            Work::Open(arrivals) => arrivals.next_ns(),
            _ => u64::MAX,
        }
    }

    /// The connection of the next arrival that is due: it is to be visited.
    #[inline]
    pub fn deal(&mut self) -> Option<usize> {
        let Work::Open(arrivals) = &mut self.work else { return None };
        let connection = arrivals.deal(self.now_ns)?;
        self.dealt[connection].dealt += 1;
        self.backlog += 1;
        Some(connection)
    }

    /// Ends the window now.
    pub fn cut_short(&mut self) {
        self.record.cut_short(self.now_ns);
        match &mut self.work {
            Work::Closed { end_ns } => *end_ns = self.now_ns,
            Work::Open(arrivals) => arrivals.cut_short(self.now_ns),
            Work::Fill { next, end, .. } => {
                *end = *next;
                self.losses.keys.clear();
            }
            Work::LogIn => self.work = Work::Idle,
            Work::Idle | Work::GiveUp(_) => {}
        }
    }

    /// Whether new requests may still begin.
    pub fn may_send(&self) -> bool {
        match &self.work {
            Work::Idle | Work::GiveUp(_) => false,
            Work::LogIn => self.is_logging_in(),
            Work::Fill { next, end, .. } => next < end || !self.losses.keys.is_empty(),
            Work::Closed { end_ns } => self.now_ns < *end_ns,
            Work::Open(arrivals) => arrivals.next_ns() < u64::MAX,
        }
    }

    /// How long storing all keys takes at the pace of the first `elapsed_ns`, in nanoseconds.
    pub fn fill_ns(&self, elapsed_ns: u64) -> u64 {
        let Work::Fill { next, end, .. } = &self.work else { return 0 };
        let whole_ns = u128::from(elapsed_ns) * u128::from(*end) / u128::from((*next).max(1));
        u64::try_from(whole_ns).unwrap_or(u64::MAX)
    }

    /// Requests in flight.
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Requests that are due and had no room on their connection yet.
    pub fn backlog(&self) -> u64 {
        self.backlog
    }

    /// For how long nothing has come although something should have, in nanoseconds.
    pub fn silence_ns(&self) -> u64 {
        self.now_ns - self.answered_ns
    }

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.share.connections
    }

    /// What was seen; empties it.
    pub fn take_record(&mut self) -> Record {
        self.work = Work::Idle;
        self.count_gaps();
        let empty = Record::new(Window { from_ns: 0, end_ns: 1 }, 1);
        std::mem::replace(&mut self.record, empty)
    }

    /// The first error answer and the first mismatch, in words.
    pub fn take_firsts(&mut self) -> [Option<String>; 2] {
        [self.first_error.take(), self.first_mismatch.take()]
    }

    /// Why it cannot go on.
    pub fn failure(&self) -> Option<&String> {
        self.failure.as_ref()
    }

    /// Ends the run, for this reason.
    #[cold]
    pub fn fail(&mut self, reason: String) {
        if !self.is_over {
            self.failure.get_or_insert(reason);
        }
        self.work = Work::Idle;
    }

    /// The connections are about to be closed.
    pub fn end(&mut self) {
        self.is_over = true;
        self.work = Work::Idle;
    }

    /// Takes the answers of a connection and begins what may begin.
    #[inline]
    pub fn visit<S: Stream>(&mut self, conn: &mut Conn, stream: &mut S) {
        if self.logins.holds(conn) && !self.log_in(conn, stream) {
            return;
        }
        self.take_answers(conn, stream);
        if self.failure.is_some() {
            return;
        }
        if conn.long.is_some() {
            self.send_unsent(conn, stream);
        }
        if stream.is_peer_finished() {
            return;
        }
        while conn.waiting < self.depth && !conn.has_unsent() && stream.room_bytes() > 0 {
            let Some(start_ns) = self.next_start(conn) else { return };
            self.send(conn, stream, start_ns);
        }
    }

    /// When the next request of a connection is meant to begin, if one may begin now.
    #[inline]
    fn next_start(&mut self, conn: &Conn) -> Option<u64> {
        let now_ns = self.now_ns;
        let dealt = &mut self.dealt[conn.number as usize];
        match &self.work {
            Work::Closed { end_ns } => (now_ns < *end_ns).then_some(now_ns),
            Work::Open(arrivals) => {
                let n = dealt.begun;
                let intended = || arrivals.intended_ns(conn.number as usize, n);
                let start_ns = (n < dealt.dealt).then(intended)?;
                dealt.begun += 1;
                self.backlog -= 1;
                Some(start_ns)
            }
            Work::Fill { next, end, .. } => {
                (next < end || !self.losses.keys.is_empty()).then_some(now_ns)
            }
            Work::Idle | Work::LogIn => None,
            Work::GiveUp(arrivals) => {
                for n in dealt.begun..dealt.dealt {
                    let start_ns = arrivals.intended_ns(conn.number as usize, n);
                    self.record.overdue(start_ns, now_ns, 1);
                    self.backlog -= 1;
                }
                dealt.begun = dealt.dealt;
                None
            }
        }
    }

    /// Writes one request.
    #[inline]
    fn send<S: Stream>(&mut self, conn: &mut Conn, stream: &mut S, start_ns: u64) {
        let mut place = conn.first + conn.waiting;
        if place >= self.depth {
            place -= self.depth;
        }
        let place = conn.number as usize * self.depth as usize + place as usize;
        let kind = match &mut self.work {
            Work::Fill { .. } => Kind::Set,
            _ if !self.traffic.draw_is_get() => Kind::Set,
            _ if self.multi_get > 1 => Kind::GetMany,
            _ => Kind::Get,
        };
        let key = match &mut self.work {
            Work::Fill { next, end, .. } if *next >= *end => {
                self.losses.keys.pop().expect("there is one, or it would not ask")
            }
            Work::Fill { next, stride, .. } => {
                let key = *next as u32;
                *next += *stride;
                key
            }
            _ => self.traffic.draw_key(),
        };
        self.pending[place] = Pending { start_ns, key, kind };
        conn.waiting += 1;
        self.outstanding += 1;
        self.sent_and_answered += 1;
        if kind == Kind::Get {
            let traffic = &self.traffic;
            let bytes = stream.write_with(|out| traffic.write_get(key, out).unwrap_or(0));
            if bytes > 0 {
                self.record.sent(bytes);
                return;
            }
        }
        self.send_long(conn, stream, place);
    }

    /// Writes the request in `place`, of any kind and length.
    fn send_long<S: Stream>(&mut self, conn: &mut Conn, stream: &mut S, place: usize) {
        let Pending { key, kind, .. } = self.pending[place];
        let mut request = std::mem::take(&mut self.request);
        request.clear();
        match kind {
            Kind::Get => self.traffic.put_get(key, &mut request),
            Kind::Set => self.traffic.put_set(key, &mut request),
            Kind::GetMany => {
                let keys = &mut self.many[place * self.multi_get..][..self.multi_get];
                keys[0] = key;
                keys[1..].iter_mut().for_each(|key| *key = self.traffic.draw_key());
                self.traffic.put_many(keys, &mut request);
            }
        }
        self.record.sent(request.len());
        let sent = stream.write(&request);
        if sent < request.len() {
            let long = conn.long.get_or_insert_default();
            long.unsent.clear();
            long.unsent.extend_from_slice(&request[sent..]);
            long.sent = 0;
        }
        self.request = request;
    }

    fn send_unsent<S: Stream>(&mut self, conn: &mut Conn, stream: &mut S) {
        if let Some(long) = &mut conn.long
            && long.sent < long.unsent.len()
        {
            long.sent += stream.write(&long.unsent[long.sent..]);
        }
    }

    /// Takes all answers that are there.
    #[inline]
    fn take_answers<S: Stream>(&mut self, conn: &mut Conn, stream: &mut S) {
        loop {
            if conn.long.as_ref().is_some_and(|long| long.missing > 0)
                && !self.take_held(conn, stream)
            {
                return;
            }
            let input = stream.received();
            let piece = input.len();
            if piece == 0 {
                return;
            }
            let (taken, missing) = self.take_from(conn, input);
            stream.consume(taken);
            if self.failure.is_some() {
                return;
            }
            if missing > 0 && !self.take_cut(conn, stream, piece - taken, missing) {
                return;
            }
        }
    }

    /// An answer is cut after `piece` bytes, `missing` more are needed. Returns whether to look
    /// again.
    fn take_cut<S: Stream>(
        &mut self,
        conn: &mut Conn,
        stream: &mut S,
        piece: usize,
        missing: usize,
    ) -> bool {
        if piece + missing > stream.receive_capacity_bytes() {
            // It will never be here as a whole.
            let long = conn.long.get_or_insert_default();
            long.held.resize(piece, 0);
            let copied = stream.peek(&mut long.held);
            assert_eq!(copied, piece, "bytes that were there a moment ago");
            stream.consume(piece);
            long.missing = missing;
            return true;
        }
        let all = stream.received_bytes();
        if all < piece + missing {
            return false;
        }
        // The ring wraps: the answer is in two pieces.
        let mut stitched = std::mem::take(&mut self.stitched);
        stitched.resize(all, 0);
        let copied = stream.peek(&mut stitched);
        let (taken, missing) = self.take_from(conn, &stitched[..copied]);
        stream.consume(taken);
        // Only now its head is whole, and says that the answer is too long for the ring.
        let is_long = taken == 0 && all + missing > stream.receive_capacity_bytes();
        if is_long && self.failure.is_none() {
            let long = conn.long.get_or_insert_default();
            long.held.clear();
            long.held.extend_from_slice(&stitched[..copied]);
            long.missing = missing;
            stream.consume(copied);
        }
        self.stitched = stitched;
        (taken > 0 || is_long) && self.failure.is_none()
    }

    /// Adds to an answer that is held. Returns whether it is complete and was taken.
    fn take_held<S: Stream>(&mut self, conn: &mut Conn, stream: &mut S) -> bool {
        let Some(mut long) = conn.long.take() else { return true };
        while long.missing > 0 {
            let input = stream.received();
            let more = input.len().min(long.missing);
            if more == 0 {
                break;
            }
            long.held.extend_from_slice(&input[..more]);
            stream.consume(more);
            long.missing -= more;
            if long.missing == 0 {
                let (taken, missing) = self.take_from(conn, &long.held);
                long.held.drain(..taken);
                long.missing = missing;
            }
        }
        let is_done = long.missing == 0;
        conn.long = Some(long);
        is_done && self.failure.is_none()
    }

    /// Takes the whole answers at the start of `input`: how many bytes they were, and how many are
    /// missing for the next; none if nothing of it is there.
    #[inline]
    fn take_from(&mut self, conn: &mut Conn, input: &[u8]) -> (usize, usize) {
        let mut at = 0;
        let mut missing = 0;
        while at < input.len() {
            if let Some(taken) = self.take_hit(conn, &input[at..]) {
                at += taken;
                continue;
            }
            match wire::decode(self.dialect, &input[at..]) {
                Step::Reply { reply, opaque, consumed } => {
                    at += consumed;
                    self.answer(conn, reply, opaque);
                    if self.failure.is_some() {
                        break;
                    }
                }
                Step::NeedMore(more) => {
                    missing = more;
                    let (bytes, max) = (input.len() - at + more, self.answer_bytes);
                    if bytes > max {
                        self.fail(format!(
                            "an answer of {bytes} bytes is longer than {max} (--answer-bytes)"
                        ));
                    }
                    break;
                }
                Step::Garbage(garbage) => {
                    let start = input[at..].iter().take(40).copied().collect::<Vec<u8>>();
                    let start = start.escape_ascii();
                    self.fail(format!("the server answered garbage ({garbage}): {start}"));
                    break;
                }
            }
        }
        self.record.received(at);
        (at, missing)
    }

    /// Takes the answer that nearly all are, without looking for the ends of its lines: a hit in
    /// text, all of it here. Returns its length, or None for everything else.
    #[inline(always)]
    fn take_hit(&mut self, conn: &mut Conn, input: &[u8]) -> Option<usize> {
        if self.dialect != Dialect::Text || conn.waiting == 0 || conn.items != 0 {
            return None;
        }
        let place = conn.number as usize * self.depth as usize + conn.first as usize;
        let pending = self.pending[place];
        if pending.kind != Kind::Get {
            return None;
        }
        let (item, taken) = self.traffic.text_hit(pending.key, input)?;
        self.sample(pending.key, &item);
        self.record.found(pending.start_ns, 1, 0);
        self.finish(conn, pending);
        Some(taken)
    }

    /// One reply to the oldest request.
    #[inline]
    fn answer(&mut self, conn: &mut Conn, reply: Reply<'_>, opaque: Option<u32>) {
        if self.dialect == Dialect::Meta && reply == Reply::Refused(wire::meta::UNKNOWN) {
            return self.fail(wire::meta::LACKING.to_owned());
        }
        if conn.waiting == 0 {
            let words = match reply {
                Reply::Failed(words) | Reply::Refused(words) => words.escape_ascii().to_string(),
                _ => "more than it was asked".into(),
            };
            return self.fail(format!("the server answered {words}"));
        }
        let place = conn.number as usize * self.depth as usize + conn.first as usize;
        let pending = self.pending[place];
        match (pending.kind, reply) {
            (Kind::Get, Reply::Item(item)) if conn.items == 0 => {
                self.check(pending.key, &item);
                self.record.found(pending.start_ns, 1, 0);
                conn.items = 1;
                // In text the end is still to come.
                if self.dialect != Dialect::Text {
                    self.finish(conn, pending);
                }
            }
            (Kind::Get, Reply::End) => {
                self.record.found(pending.start_ns, 0, u64::from(conn.items == 0));
                self.finish(conn, pending);
            }
            (Kind::Get, Reply::Miss) => {
                self.record.found(pending.start_ns, 0, 1);
                self.finish(conn, pending);
            }
            (Kind::Set, Reply::Stored | Reply::Done) => self.finish(conn, pending),
            (Kind::GetMany, Reply::Item(item)) => self.take_item(conn, place, &item, opaque),
            (Kind::GetMany, Reply::End) => {
                let missing = self.multi_get as u64 - u64::from(conn.items);
                self.record.found(pending.start_ns, 0, missing);
                self.finish(conn, pending);
            }
            (_, Reply::Failed(_) | Reply::Refused(_) | Reply::TooLarge | Reply::NotStored) => {
                self.refused(reply);
                // Behind a quiet get that failed the end of them all is still to come.
                if pending.kind != Kind::GetMany || self.dialect == Dialect::Text {
                    self.finish(conn, pending);
                }
            }
            (kind, reply) => {
                self.fail(format!("the server answered {reply} to a {kind:?} request"));
            }
        }
    }

    /// An item of a get of many keys.
    fn take_item(&mut self, conn: &mut Conn, place: usize, item: &Item<'_>, opaque: Option<u32>) {
        let keys = &self.many[place * self.multi_get..][..self.multi_get];
        let from = conn.items as usize;
        let found = match opaque {
            Some(n) => (from..keys.len()).contains(&(n as usize)).then_some(n as usize),
            None => (from..keys.len()).find(|&n| self.traffic.is_key(keys[n], item.key)),
        };
        let Some(n) = found else {
            return self.mismatch("an item that was not requested");
        };
        let key = keys[n];
        let start_ns = self.pending[place].start_ns;
        self.record.found(start_ns, 1, (n - from) as u64);
        conn.items = n as u32 + 1;
        self.check(key, item);
    }

    /// Compares an item with what its key's is: key and length always, all of it now and then.
    #[inline]
    fn check(&mut self, key: u32, item: &Item<'_>) {
        if !self.traffic.fits(key, item) {
            return self.mismatch("an item with another key or length");
        }
        self.sample(key, item);
    }

    /// Compares all of an item, now and then.
    #[inline]
    fn sample(&mut self, key: u32, item: &Item<'_>) {
        self.until_check -= 1;
        if self.until_check == 0 {
            self.until_check = self.check_every;
            if !self.traffic.is_right(key, item) {
                self.mismatch("a value or flags that were not stored");
            }
        }
    }

    #[cold]
    fn mismatch(&mut self, what: &str) {
        self.record.counts.mismatches += 1;
        self.first_mismatch.get_or_insert_with(|| what.to_owned());
    }

    #[cold]
    fn refused(&mut self, reply: Reply<'_>) {
        let words = match reply {
            Reply::Failed(words) | Reply::Refused(words) => words.escape_ascii().to_string(),
            Reply::TooLarge => "too large".to_owned(),
            _ => "not stored".to_owned(),
        };
        if matches!(self.work, Work::Fill { .. }) {
            return self
                .fail(format!("the server does not store what is to be requested: {words}"));
        }
        self.record.counts.errors += 1;
        self.first_error.get_or_insert(words);
    }

    /// The oldest request has had its whole answer.
    #[inline]
    fn finish(&mut self, conn: &mut Conn, pending: Pending) {
        conn.items = 0;
        conn.waiting -= 1;
        conn.first += 1;
        if conn.first == self.depth {
            conn.first = 0;
        }
        self.outstanding -= 1;
        self.answers += 1;
        self.sent_and_answered += 1;
        self.answered_ns = self.now_ns;
        if self.is_measuring {
            self.record.answered(pending.kind != Kind::Set, pending.start_ns, self.now_ns);
        }
    }
}
