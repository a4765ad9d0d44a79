//! The state of a link and its transitions.

mod lookup;
mod loss;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use super::collect::Collect;
use super::config::{LinkConfig, Role};
use super::input::Input;
use super::keys::Keys;
use super::line::Line;
use super::output::Output;
use super::protocol::{Codec, Garbage, Head, Status};
use super::remembered::Remembered;
use super::request::RequestWriter;
use super::slots::Slots;
use super::stream::{Address, Stream};
use crate::base::buffer::Key;
use crate::base::clock::Now;
use crate::base::latency::Level;
use crate::base::limits::{
    LINK_BATCHES, LINK_GREETING_BYTES_MAX, LINK_GREETING_US, LINK_OUTPUT_BYTES, LINK_PROBE_US,
    LINK_READS_PER_TURN, LINK_VALUE_BYTES_MAX,
};
use crate::base::readiness::Readiness;
use crate::base::stats::{Counter, WorkerStats};
use loss::Trouble;

/// In the queue of requests, in place of a batch: the answer is no longer needed.
const ABANDONED: u32 = u32::MAX;
/// The same: the answer is to a remembered invalidation.
const REMEMBERED: u32 = u32::MAX - 1;

/// Position of the connection's number in a cas.
const EPOCH_SHIFT: u32 = 48;
/// The bits of that number. The bit above has another use.
const EPOCH_MASK: u64 = 0x3fff;

/// Boxed keys kept for later invalidations, so that those do not allocate.
const SPARE_KEYS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkState {
    /// Connecting since that uptime.
    Connecting { since_us: u64 },
    /// The greeting was sent at that uptime, and is not answered yet.
    Greeting { since_us: u64 },
    /// Until that uptime the server must answer to prove that it has read its old connection.
    Proving { until_us: u64 },
    /// Remembered invalidations are not answered yet.
    Restoring,
    /// Requests are accepted.
    Serving,
    /// Waiting for late answers, since that uptime.
    Suspended { since_us: u64 },
    /// We closed the connection at that uptime, and the server has not closed it yet.
    Closing { since_us: u64 },
    /// Waiting for the next attempt at that uptime.
    Lost { until_us: u64 },
}

/// Consecutive requests of one batch.
#[derive(Debug)]
struct InFlight {
    slot: u32,
    /// How many of them are unanswered, and the number of the first of those.
    count: u32,
    opaque: u32,
    at_us: u64,
    kind: Kind,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// With one answer, which may have a value.
    One,
    /// With a value and its key, or not at all: a key of a lookup.
    Key,
    /// With the end of a lookup; it belongs to no batch.
    End,
}

/// The next part of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Head,
    /// A value, of which this many bytes are missing.
    Value(usize),
    /// The trailer of a value.
    Trailer,
}

pub(super) struct Inner<C, K> {
    address: Address,
    timeout_us: u64,
    readiness: Readiness,
    stats: Arc<WorkerStats>,
    now: Now,
    state: LinkState,
    stream: Option<Stream>,
    /// How often it was connected again.
    epoch: u64,
    /// Of the store that it was last connected to, if that is known.
    generation: Option<u64>,
    /// Delay before the attempt after the next, should the next fail; 0: the next is immediate.
    retry_us: u64,
    /// Time-out of the next greeting.
    greeting_us: u64,
    /// The server has not closed the previous connection, so it may not have read everything from
    /// it.
    is_in_doubt: bool,
    /// It has stopped serving, and does not yet again.
    is_down: bool,
    /// When the link stopped serving; 0: it never has.
    down_us: u64,
    role: Role,
    probe_at_us: u64,

    output: Output,
    /// Waiters for room in the output.
    pub(super) line: Line,
    /// Keys that were looked up and not answered.
    keys: Keys,

    input: Input,
    reading: Reading,
    /// The kernel may have more input.
    has_more: bool,

    /// Unanswered requests, in order.
    in_flight: VecDeque<InFlight>,
    next_opaque: u32,
    pub(super) slots: Slots<K>,
    remembered: Remembered,
    #[allow(clippy::vec_box, reason = "keys move between batches and this list by pointer")]
    spare_keys: Vec<Box<Key>>,
    codec: PhantomData<fn() -> C>,
}

impl<C, K> fmt::Debug for Inner<C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { address, state, .. } = self;
        write!(f, "Link({address}, {state:?}, {} outstanding)", self.in_flight.len())
    }
}

impl<C: Codec, K: Collect> Inner<C, K> {
    pub(super) fn new(config: LinkConfig, stream: Stream, now: Now) -> Inner<C, K> {
        let LinkConfig { address, timeout_us, readiness, stats, role, starts_empty: _ } = config;
        Inner {
            address,
            timeout_us,
            readiness,
            stats,
            now,
            state: LinkState::Serving,
            generation: stream.generation(),
            stream: Some(stream),
            epoch: 0,
            retry_us: 0,
            greeting_us: LINK_GREETING_US,
            is_in_doubt: false,
            is_down: false,
            down_us: 0,
            role,
            probe_at_us: 0,
            output: Output::new(),
            line: Line::default(),
            keys: Keys::default(),
            input: Input::new(),
            reading: Reading::Head,
            has_more: false,
            in_flight: VecDeque::with_capacity(LINK_BATCHES),
            next_opaque: 0,
            slots: Slots::with_capacity(LINK_BATCHES),
            remembered: Remembered::default(),
            spare_keys: Vec::with_capacity(SPARE_KEYS),
            codec: PhantomData,
        }
    }

    /// Empties the server before anything is asked of it. An earlier process may have been killed
    /// after it changed L2, and before it told the server, or the server has not read that yet.
    pub(super) fn begin_empty(&mut self) {
        self.remembered = Remembered::everything();
        if self.stream.as_ref().is_some_and(Stream::is_dropped_before_the_next) {
            self.send_remembered();
        } else {
            self.is_in_doubt = true;
            self.greeted();
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        self.state == LinkState::Serving
    }

    pub(super) fn count_failure(&self) {
        self.stats.add(Counter::LinkFailures, 1);
    }

    pub(super) fn boxed_key(&mut self, key: &Key) -> Box<Key> {
        match self.spare_keys.pop() {
            Some(mut spare) => {
                spare.as_mut().clone_from(key);
                spare
            }
            None => Box::new(key.clone()),
        }
    }

    pub(super) fn unbox_key(&mut self, key: Box<Key>) {
        if self.spare_keys.len() < SPARE_KEYS {
            self.spare_keys.push(key);
        }
    }

    pub(super) fn remember(&mut self, key: Key) {
        self.stats.add(Counter::LinkInvalidations, 1);
        self.remembered.add(key);
    }

    // Requests.

    /// Whether a request of this many bytes can be written now.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.line.is_empty() && self.has_space(bytes)
    }

    /// The same, for the first waiter.
    pub(super) fn has_space(&self, bytes: usize) -> bool {
        let has_space = |used: usize| used == 0 || used + bytes <= LINK_OUTPUT_BYTES;
        has_space(self.output.unsent_bytes()) && has_space(self.keys.bytes())
    }

    #[inline]
    pub(super) fn write_request(&mut self, slot: u32, write: impl FnOnce(&mut RequestWriter<'_>)) {
        self.end_lookup();
        let opaque = self.next_opaque;
        self.next_opaque = opaque.wrapping_add(1);
        write(&mut RequestWriter::new(self.output.end_mut(), opaque));
        if slot != REMEMBERED {
            self.slots.expect_answer(slot);
        }
        self.expect(slot, opaque, Kind::One);
    }

    #[inline]
    fn expect(&mut self, slot: u32, opaque: u32, kind: Kind) {
        let at_us = self.now.uptime_us;
        match self.in_flight.back_mut() {
            Some(last) if last.slot == slot && last.at_us == at_us && last.kind == kind => {
                last.count += 1;
            }
            _ => self.in_flight.push_back(InFlight { slot, count: 1, opaque, at_us, kind }),
        }
    }

    pub(super) fn abandon(&mut self, slot: u32) {
        self.slots.abandon(slot);
    }

    #[inline]
    pub(super) fn cas_of_server(&self, cas: u64) -> Option<u64> {
        let epoch = self.epoch & EPOCH_MASK;
        if epoch == 0 || cas == 0 {
            return Some(cas);
        }
        (cas >> EPOCH_SHIFT == epoch).then_some(cas & ((1 << EPOCH_SHIFT) - 1))
    }

    #[inline]
    fn cas_of_link(&self, cas: u64) -> u64 {
        if cas == 0 { 0 } else { cas | (self.epoch & EPOCH_MASK) << EPOCH_SHIFT }
    }

    // Turns.

    pub(super) fn now(&self) -> Now {
        self.now
    }

    pub(super) fn turn(&mut self, now: Now) -> usize {
        self.now = now;
        if let Some(stream) = &mut self.stream {
            stream.rise();
        }
        let answers = match self.state {
            LinkState::Lost { until_us } => {
                if now.uptime_us >= until_us {
                    self.connect();
                }
                0
            }
            LinkState::Connecting { since_us } => {
                self.look_whether_connected(since_us);
                0
            }
            _ => self.receive(),
        };
        self.look_at_deadline();
        answers
    }

    pub(super) fn flush(&mut self, now: Now) {
        self.now = now;
        self.end_lookup();
        let is_open = !matches!(
            self.state,
            LinkState::Connecting { .. } | LinkState::Closing { .. } | LinkState::Lost { .. }
        );
        if is_open && self.output.unsent_bytes() > 0 {
            self.send();
        }
        self.stats.set(self.role.operations(), self.slots.len() as u64);
    }

    /// Called before the worker sleeps.
    pub(super) fn wake_at_us(&mut self) -> u64 {
        if self.has_more {
            return 0;
        }
        if self.readiness.wakes()
            && let Some(stream) = &mut self.stream
        {
            let is_expecting = !self.in_flight.is_empty();
            let is_blocked = self.output.unsent_bytes() > 0;
            if !stream.may_sleep(is_expecting, is_blocked, self.now.uptime_us) {
                return 0;
            }
        }
        self.state_deadline_us()
    }

    /// Sends as much output as the kernel accepts.
    fn send(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let now_us = self.now.uptime_us;
        if self.output.send(|bytes| stream.write(bytes, now_us)).is_err() {
            return self.lose();
        }
        self.line.wake_first();
    }

    /// Receives as much input as a turn may.
    fn receive(&mut self) -> usize {
        let is_due = self.now.uptime_us >= self.probe_at_us;
        let is_expected = !self.in_flight.is_empty()
            || self.has_more
            || matches!(self.state, LinkState::Greeting { .. } | LinkState::Closing { .. });
        if !is_due && !is_expected {
            return 0;
        }
        self.probe_at_us = self.now.uptime_us + LINK_PROBE_US;
        self.has_more = false;
        let mut answers = 0;
        for _ in 0..LINK_READS_PER_TURN {
            let Some(stream) = &mut self.stream else { return answers };
            let space = self.input.space();
            let space_bytes = space.len();
            let n = match stream.read(space, self.now.uptime_us) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return answers,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.refuse_answers();
                    return answers;
                }
                Err(_) => 0,
            };
            if n == 0 {
                self.lose();
                return answers;
            }
            self.input.add(n, self.now.uptime_us);
            match self.digest() {
                Ok(count) => {
                    answers += count;
                    self.advance(count);
                    self.line.wake_first();
                }
                Err(Garbage) => {
                    self.refuse_answers();
                    return answers;
                }
            }
            if n < space_bytes {
                return answers;
            }
        }
        self.has_more = true;
        answers
    }

    /// What arrived is no answer.
    fn refuse_answers(&mut self) {
        self.stats.add(Counter::LinkGarbage, 1);
        self.report_down(Trouble::Invalid);
        self.close();
    }

    /// Processes the input buffer, and makes room in it. Returns how many answers ended.
    fn digest(&mut self) -> Result<usize, Garbage> {
        match self.state {
            LinkState::Closing { .. } => {
                self.input.clear();
            }
            LinkState::Greeting { .. } => self.parse_greeting()?,
            _ => {}
        }
        let mut answers = 0;
        while !self.input.is_empty() && self.step(&mut answers)? {}
        self.input.make_room();
        Ok(answers)
    }

    /// Processes the next piece of input. False: it is incomplete.
    #[inline]
    fn step(&mut self, answers: &mut usize) -> Result<bool, Garbage> {
        let Some(requests) = self.in_flight.front() else {
            // There is no request that this could answer.
            let is_greeting = matches!(self.state, LinkState::Greeting { .. });
            return if is_greeting { Ok(false) } else { Err(Garbage) };
        };
        let (mut slot, kind) = (requests.slot, requests.kind);
        let bytes = self.input.unread();
        match self.reading {
            Reading::Head => {
                let Some((head, used)) = C::head(bytes, self.now)? else {
                    return if bytes.len() > C::HEAD_BYTES_MAX { Err(Garbage) } else { Ok(false) };
                };
                let is_other = head.opaque.is_some_and(|opaque| opaque != requests.opaque);
                if head.value_bytes > LINK_VALUE_BYTES_MAX {
                    return Err(Garbage);
                }
                if kind == Kind::One {
                    if is_other || head.status == Status::End || head.key_bytes > 0 {
                        return Err(Garbage);
                    }
                    self.input.take(used);
                } else {
                    let start = self.input.take_at(used) + C::LOOKUP_KEY_START;
                    if head.status != Status::Value {
                        self.looked_up(&head, answers)?;
                        return Ok(true);
                    }
                    slot = self.found(start, &head, answers)?;
                }
                self.hand_over(slot, head)?;
                if head.status == Status::Value {
                    self.reading = Reading::Value(head.value_bytes);
                } else {
                    self.answered(slot);
                    *answers += 1;
                }
            }
            Reading::Value(left) => {
                let n = left.min(bytes.len());
                if slot < REMEMBERED
                    && let Some(taker) = self.slots.taker(slot)
                {
                    taker.bytes(&bytes[..n]);
                }
                self.input.take(n);
                self.reading = Reading::Value(left - n);
            }
            Reading::Trailer => {
                if bytes.len() < C::TRAILER.len() {
                    return Ok(false);
                }
                if !bytes.starts_with(C::TRAILER) {
                    return Err(Garbage);
                }
                self.input.take(C::TRAILER.len());
                self.valued(slot, answers);
            }
        }
        if self.reading == Reading::Value(0) {
            self.reading = Reading::Trailer;
            if C::TRAILER.is_empty() {
                self.valued(slot, answers);
            }
        }
        Ok(true)
    }

    /// A value was read completely, and with it the answer.
    #[inline]
    fn valued(&mut self, slot: u32, answers: &mut usize) {
        self.reading = Reading::Head;
        if slot < REMEMBERED
            && let Some(taker) = self.slots.taker(slot)
        {
            taker.end();
        }
        self.answered(slot);
        *answers += 1;
    }

    /// An answer begins.
    #[inline]
    fn hand_over(&mut self, slot: u32, mut head: Head) -> Result<(), Garbage> {
        head.cas = self.cas_of_link(head.cas);
        match slot {
            ABANDONED => {}
            // A server that refuses to delete a key must not be used.
            REMEMBERED if !matches!(head.status, Status::Done | Status::Miss) => {
                return Err(Garbage);
            }
            REMEMBERED => {}
            _ => {
                if let Some(taker) = self.slots.taker(slot) {
                    taker.begin(&head);
                }
            }
        }
        Ok(())
    }

    /// Which tier it leads to.
    #[inline]
    pub(super) fn level(&self) -> Level {
        self.role.level()
    }

    /// The oldest request was answered.
    #[inline]
    fn answered(&mut self, slot: u32) {
        let Some(requests) = self.in_flight.front_mut() else {
            unreachable!("an answer has a request")
        };
        let weight = self.stats.latencies().weight(requests.opaque);
        if weight > 0 {
            let waited_ns = self.now.uptime_us.saturating_sub(requests.at_us) * 1_000;
            let times = self.stats.latencies().tier(self.role.level());
            times.record(waited_ns, u64::from(weight));
        }
        requests.count -= 1;
        requests.opaque = requests.opaque.wrapping_add(1);
        if requests.kind == Kind::Key {
            self.keys.pop();
        }
        if requests.count == 0 {
            self.in_flight.pop_front();
        }
        match slot {
            ABANDONED => {}
            REMEMBERED => self.remembered.answered(),
            _ => self.slots.answered(slot),
        }
    }

    fn parse_greeting(&mut self) -> Result<(), Garbage> {
        let bytes = self.input.unread();
        match C::greeting(bytes) {
            Ok(Some(())) => {
                self.input.clear();
                self.greeted();
                Ok(())
            }
            Ok(None) if bytes.len() <= LINK_GREETING_BYTES_MAX => Ok(()),
            _ => Err(Garbage),
        }
    }

    /// Continues after everything that had to be answered first was answered.
    fn advance(&mut self, answers: usize) {
        if answers == 0 || !self.in_flight.is_empty() {
            return;
        }
        match self.state {
            LinkState::Suspended { .. } => self.restore(),
            LinkState::Restoring => {
                // The first of them were answered, so the server works; the rest were added since,
                // and are sent before any new request.
                self.send_remembered();
                self.serve();
            }
            LinkState::Serving => self.retry_us = 0,
            _ => {}
        }
    }

    /// Sends the invalidations remembered during the outage, and serves.
    fn restore(&mut self) {
        if self.remembered.is_empty() {
            self.serve();
        } else {
            self.state = LinkState::Restoring;
            self.send_remembered();
        }
    }

    fn send_remembered(&mut self) {
        while let Some(invalidation) = self.remembered.take() {
            self.write_request(REMEMBERED, |request| match &invalidation {
                Some(key) => C::delete(request, key.as_bytes()),
                None => C::flush_all(request),
            });
        }
    }
}
