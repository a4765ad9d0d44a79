//! Watching: what a worker does for those who watch, and the connection of one.
//!
//! Every worker has a tap for each watcher of any worker, and writes the lines itself, into a ring
//! that the watcher's connection reads (`base::lines`). So a line costs the worker that has it to
//! tell and nobody else, and nothing at all while nobody watches: taps arrive by mail, and a
//! request is looked at only on the sampler's path. What a watcher sends is dropped, as by
//! memcached; it ends with its connection. Nothing here may wait for a watcher.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use arrayvec::ArrayVec;

use super::slots::Content;
use super::{Connection, Engine, InputState, Progress, Visit};
use crate::base::clock::{Clock, Now};
use crate::base::limits::{WATCH_RING_BYTES, WATCHERS_MAX};
use crate::base::lines::{LineReader, LineWriter, lines};
use crate::base::spent;
use crate::base::stats::{Counter, WorkerStats};
use crate::net::{ConnectionId, EndAddress, Stream};
use crate::orchestrator::Action;
use crate::protocol::watch::{self, Asked, Ended, Kind, Line, Spent, Stamp, Wanted};
use crate::protocol::{Form, text};
use crate::tier::dump::DumpedItem;

/// What all workers share of it.
#[derive(Debug, Default)]
pub struct Watchers {
    count: AtomicUsize,
    /// Lines so far.
    gid: AtomicU64,
}

/// One watcher's tap at one worker.
#[derive(Debug)]
pub struct Tap {
    /// What it wants to see.
    pub wanted: Wanted,
    /// Where its lines go.
    pub lines: LineWriter,
}

/// What a worker has of watchers.
#[derive(Debug)]
pub struct Watch {
    clock: Clock,
    stats: Arc<WorkerStats>,
    watchers: Arc<Watchers>,
    /// The number of a connection is the first of these, and the second as often as its place says.
    numbers: (u64, u64),
    taps: Vec<Tap>,
    /// What any tap wants.
    wanted: Wanted,
    /// Watchers among this worker's connections.
    readers: Vec<(ConnectionId, LineReader)>,
    /// The peers of connections that began while somebody watched for it: when one ends, the kernel
    /// may not know its peer any more.
    peers: HashMap<ConnectionId, EndAddress>,
    /// Requests under way, by their slots.
    waiting: HashMap<u32, (Asked, u64)>,
    /// Those that have ended and whose replies are not out, by their slots.
    sending: HashMap<u32, Sending>,
    /// The turn's time, while somebody watches slow requests.
    now_us: u64,
}

/// A request whose reply is not out yet.
#[derive(Debug)]
struct Sending {
    asked: Asked,
    ended: Ended,
    /// Its time until it ended.
    spent: Spent,
    ended_us: u64,
}

impl Watch {
    /// Of a worker that nobody watches.
    pub fn new(
        clock: Clock,
        stats: Arc<WorkerStats>,
        watchers: Arc<Watchers>,
        numbers: (u64, u64),
    ) -> Watch {
        Watch {
            clock,
            stats,
            watchers,
            numbers,
            taps: Vec::new(),
            wanted: Wanted::NOTHING,
            readers: Vec::new(),
            peers: HashMap::new(),
            waiting: HashMap::new(),
            sending: HashMap::new(),
            now_us: 0,
        }
    }

    /// The number of a connection, as `stats conns` shows it.
    pub fn number(&self, id: ConnectionId) -> u64 {
        self.number_at(id.index as usize)
    }

    /// The number of the one in place `index` of the transport's table.
    pub fn number_at(&self, index: usize) -> u64 {
        self.numbers.0 + index as u64 * self.numbers.1
    }

    /// Makes a connection of this worker a watcher. Returns the taps of `workers` workers; None:
    /// there are as many watchers as there may be.
    pub fn begin(&mut self, id: ConnectionId, workers: usize) -> Option<Vec<LineWriter>> {
        let count = &self.watchers.count;
        let more = |count: usize| (count < WATCHERS_MAX).then_some(count + 1);
        count.fetch_update(Relaxed, Relaxed, more).ok()?;
        self.stats.add(Counter::LogWatchers, 1);
        let (writers, reader) = lines(workers, WATCH_RING_BYTES);
        self.readers.push((id, reader));
        Some(writers)
    }

    /// A watcher among this worker's connections has ended.
    fn end(&mut self, id: ConnectionId) {
        let before = self.readers.len();
        self.readers.retain(|(of, _)| *of != id);
        let ended = before - self.readers.len();
        self.watchers.count.fetch_sub(ended, Relaxed);
        self.stats.sub(Counter::LogWatchers, ended as u64);
        self.forget_ended();
    }

    /// A watcher of any worker begins.
    pub fn add(&mut self, tap: Tap) {
        self.forget_ended();
        self.wanted = self.wanted.or(tap.wanted);
        self.taps.push(tap);
    }

    /// Drops the taps of watchers that are gone.
    fn forget_ended(&mut self) {
        self.taps.retain(|tap| !tap.lines.is_abandoned());
        let wanted = self.taps.iter().map(|tap| tap.wanted);
        self.wanted = wanted.fold(Wanted::NOTHING, Wanted::or);
        if !self.wanted.has(Kind::ConnEvents) {
            self.peers.clear();
        }
    }

    /// What anybody wants to see.
    #[inline]
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Whether a watcher is among this worker's connections.
    pub fn has_readers(&self) -> bool {
        !self.readers.is_empty()
    }

    /// The watchers among this worker's connections that can be passed lines.
    pub fn unread(&self) -> impl Iterator<Item = ConnectionId> {
        let has_news = |reader: &LineReader| !reader.is_blocked && reader.has_lines();
        self.readers.iter().filter(move |(_, reader)| has_news(reader)).map(|(id, _)| *id)
    }

    fn reader(&mut self, id: ConnectionId) -> Option<&mut LineReader> {
        self.readers.iter_mut().find(|(of, _)| *of == id).map(|(_, reader)| reader)
    }

    /// Has the polls of this turn note where time goes, if somebody wants to know.
    pub fn keep_time(&mut self, now: Now) {
        self.now_us = now.uptime_us;
        // 0 is for nobody.
        spent::watch(if self.wanted.has(Kind::Slow) { now.uptime_us.max(1) } else { 0 });
    }

    /// A request waits for its outcome in `slot`.
    pub(super) fn wait(&mut self, slot: u32, asked: Asked, now: Now) {
        self.waiting.insert(slot, (asked, now.uptime_us));
    }

    /// Whether a request that waits is to be told of.
    #[inline]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The request that waited in `slot` has ended. `times`: of its operation, if the tiers made it
    /// wait. `is_open`: its connection is, so that there will be a reply.
    #[cold]
    pub fn tell_waited(
        &mut self,
        slot: u32,
        ended: Ended,
        times: Option<spent::Spent>,
        is_open: bool,
        now: Now,
    ) {
        let Some((asked, since_us)) = self.waiting.remove(&slot) else { return };
        let waited_us = now.uptime_us.saturating_sub(since_us);
        // Without times its owner answered it at once.
        let queue_us = times.map_or(waited_us, |times| times.begun_us.saturating_sub(since_us));
        let (l1_us, l2_us) = times.map_or((0, 0), |times| (times.l1_us, times.l2_us));
        let spent = Spent { us: waited_us, waited_us, queue_us, l1_us, l2_us, reply_us: 0 };
        self.tell_ended(&asked, &ended);
        if !self.wanted.has(Kind::Slow) {
            return;
        }
        if is_open {
            let sending = Sending { asked, ended, spent, ended_us: now.uptime_us };
            self.sending.insert(slot, sending);
        } else {
            self.tell_slow(&asked, &ended, &spent);
        }
    }

    /// Whether replies of requests that waited are not out.
    #[inline]
    pub fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    /// The reply in `slot` was handed to the transport.
    #[cold]
    pub(super) fn tell_sent(&mut self, slot: u32) {
        let Some(Sending { asked, ended, mut spent, ended_us }) = self.sending.remove(&slot) else {
            return;
        };
        spent.reply_us = self.now_us.saturating_sub(ended_us);
        spent.us += spent.reply_us;
        self.tell_slow(&asked, &ended, &spent);
    }

    /// A connection ends, and its replies that are not out never will be.
    #[cold]
    pub(super) fn tell_unsent(&mut self, id: ConnectionId) {
        let number = self.number(id);
        let is_of_it = |sending: &Sending| sending.asked.connection == number;
        let slots = self.sending.iter().filter(|(_, sending)| is_of_it(sending));
        let slots: Vec<_> = slots.map(|(slot, _)| *slot).collect();
        for slot in slots {
            if let Some(Sending { asked, ended, spent, .. }) = self.sending.remove(&slot) {
                self.tell_slow(&asked, &ended, &spent);
            }
        }
    }

    /// Tells of a request that ended at once.
    #[cold]
    pub(super) fn tell(&mut self, asked: &Asked, ended: &Ended, spent: &Spent) {
        self.tell_ended(asked, ended);
        self.tell_slow(asked, ended, spent);
    }

    fn tell_ended(&mut self, asked: &Asked, ended: &Ended) {
        if self.wanted.has(Kind::Fetchers) && watch::has_fetched(asked, ended) {
            self.write(|tap| tap.has(Kind::Fetchers), |stamp| watch::fetched(stamp, asked, ended));
        }
        if self.wanted.has(Kind::Mutations) && watch::is_mutation(asked, ended) {
            self.write(|tap| tap.has(Kind::Mutations), |stamp| watch::stored(stamp, asked, ended));
        }
    }

    fn tell_slow(&mut self, asked: &Asked, ended: &Ended, spent: &Spent) {
        if self.wanted.has(Kind::Slow) && spent.us >= self.wanted.slow_us {
            let is_slow = |tap: Wanted| tap.has(Kind::Slow) && spent.us >= tap.slow_us;
            self.write(is_slow, |stamp| watch::slow(stamp, asked, ended, spent));
        }
    }

    /// Whether somebody wants to see connections begin and end.
    #[inline]
    pub fn is_of_connections(&self) -> bool {
        self.wanted.has(Kind::ConnEvents)
    }

    /// A connection has begun.
    #[cold]
    pub fn tell_begun(&mut self, id: ConnectionId, peer: EndAddress) {
        let (end, kind) = end_of(&peer);
        let number = self.number(id);
        self.write(is_of_connections, |stamp| watch::begun(stamp, end, kind, number));
        self.peers.insert(id, peer);
    }

    /// A connection is over.
    #[cold]
    pub fn tell_over(
        &mut self,
        id: ConnectionId,
        peer: impl FnOnce() -> EndAddress,
        reason: &'static str,
    ) {
        let peer = self.peers.remove(&id).unwrap_or_else(peer);
        let (end, kind) = end_of(&peer);
        let number = self.number(id);
        self.write(is_of_connections, |stamp| watch::over(stamp, end, kind, reason, number));
    }

    /// An item was evicted.
    #[cold]
    pub fn tell_evicted(&mut self, item: &DumpedItem) {
        self.write(|tap| tap.has(Kind::Evictions), |stamp| watch::evicted(stamp, item));
    }

    /// More items were evicted than there was room to note.
    pub fn count_untold(&self, items: u64) {
        self.stats.add(Counter::LogWorkerDropped, items);
    }

    /// Writes a line to those whose tap lets it through.
    fn write(&mut self, is_for: impl Fn(Wanted) -> bool, line: impl FnOnce(Stamp) -> Line) {
        let gid = self.watchers.gid.fetch_add(1, Relaxed) + 1;
        let line = line(Stamp { unix_us: self.clock.unix_us(), gid });
        let (mut sent, mut skipped, mut is_any_gone) = (0, 0, false);
        for tap in self.taps.iter_mut().filter(|tap| is_for(tap.wanted)) {
            if tap.lines.is_abandoned() {
                is_any_gone = true;
            } else if tap.lines.write(&line) {
                sent += 1;
            } else {
                skipped += 1;
            }
        }
        let of_worker =
            if sent > 0 { Counter::LogWorkerWritten } else { Counter::LogWorkerDropped };
        self.stats.add(of_worker, u64::from(sent + skipped > 0));
        self.stats.add(Counter::LogWatcherSent, sent);
        self.stats.add(Counter::LogWatcherSkipped, skipped);
        if is_any_gone {
            self.forget_ended();
        }
    }
}

fn is_of_connections(tap: Wanted) -> bool {
    tap.has(Kind::ConnEvents)
}

/// A peer as lines name it: its address, or what it is instead.
fn end_of(peer: &EndAddress) -> (Option<SocketAddr>, &'static str) {
    match peer {
        EndAddress::Tcp(address) => (Some(*address), ""),
        EndAddress::Unix(_) => (None, "unix"),
        EndAddress::Rings => (None, "rings"),
        EndAddress::Unknown => (None, watch::UNKNOWN_END),
    }
}

/// The reply to a watcher, when all workers have its taps: memcached's OK.
const FORM: Form = Form::Text(text::Form::Line);

impl Connection {
    /// Makes this client a watcher. Lines follow when the reply is out.
    pub(super) fn begin_watch<S: Stream, E: Engine>(
        &mut self,
        wanted: Wanted,
        visit: &mut Visit<'_, S, E>,
    ) {
        let slot = visit.engine.slots().next_free().expect("may_start was checked");
        let content = match visit.engine.begin_watch(visit.id, wanted, slot) {
            Some(submitted) => {
                self.state = InputState::Watch;
                if wanted.is_of_requests() {
                    visit.scratch.sampler.watch(true, visit.now);
                }
                Content::submitted(FORM, None, submitted)
            }
            None => Content::Fixed(text::WATCHER_TOO_MANY),
        };
        self.reply(content, visit);
    }

    /// Drops what the watcher sent, and passes on what there is to tell.
    pub(super) fn watch<S: Stream, E: Engine>(&mut self, visit: &mut Visit<'_, S, E>) -> Progress {
        let bytes = visit.stream.received_bytes();
        visit.stream.consume(bytes);
        if !self.queue.is_empty() {
            return Progress::Wait;
        }
        let Some(reader) = visit.engine.watch().and_then(|watch| watch.reader(visit.id)) else {
            return Progress::Wait;
        };
        reader.is_blocked = false;
        // As much as there was room for at the start: other workers go on writing.
        let mut left = visit.stream.room_bytes().max(1);
        while left > 0 && reader.has_lines() {
            let n = visit.stream.write_with(|out| {
                let room = out.len().min(left);
                reader.read(&mut out[..room])
            });
            if n == 0 {
                // The transport visits it again when there is room.
                reader.is_blocked = true;
                break;
            }
            left -= n;
        }
        Progress::Wait
    }

    /// Ends the watch, if there is one.
    pub(super) fn end_watch<E: Engine>(&self, id: ConnectionId, engine: &mut E) {
        if matches!(self.state, InputState::Watch)
            && let Some(watch) = engine.watch()
        {
            watch.end(id);
        }
    }
}

/// The request of a key, as a watcher is told of it.
pub(super) fn asked(key: &[u8], action: Action, bytes: usize, connection: u64) -> Asked {
    let key = ArrayVec::try_from(key).expect("the parsers refuse longer keys");
    Asked { key, action, bytes, connection }
}
