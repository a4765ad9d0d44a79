//! Connections over the host kernel: TCP and Unix sockets behind [`Transport`], and rings in shared
//! memory beside them.
//!
//! One epoll instance per worker, edge-triggered: an event that the kernel reported once is
//! remembered in the connection until a read or a write shows that nothing is left. A request that
//! fits one segment costs three system calls: epoll_wait, recv, send. Nothing here interprets the
//! bytes, blocks outside of [`Transport::wait`], or lets one connection exceed its share of a turn.
//!
//! Required reading: epoll(7), "Edge-triggered and level-triggered"; accept(2), "Error handling".

mod attach;
mod handover;
mod listener;
#[cfg(not(feature = "internals"))]
mod proxy;
#[cfg(feature = "internals")]
pub mod proxy;
mod queue;
mod stream;
mod waker;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

pub use attach::Inbox;
pub use handover::{Inherited, Spares};
#[cfg(any(test, feature = "internals"))]
pub use listener::bind;
pub use listener::{Address, BindError, KernelConfig, KernelSockets, Listener, SocketFile};
pub use listener::{bind_beside, bind_or_inherit, try_bind, try_tcp};
pub use waker::Waker;

use crate::base::clock::Now;
use crate::base::limits::{
    ACCEPT_PAUSE_US, KERNEL_EVENTS_PER_TURN, LINGER_US, PROXY_HEADER_US, STALL_TIMEOUT_US,
    SWEEP_INTERVAL_US, SWEEP_PLACES_PER_TURN,
};
use crate::base::readiness::{self, Readiness};
use crate::base::stats::{Counter, WorkerStats};
use crate::net::{Admission, ConnectionId, Handler, Listed, REFUSAL, Transport};
use crate::report::{self, Topic};
use attach::Attached;
use listener::{Acceptor, Comer};
use stream::{Endpoint, KernelStream, Phase, Received, Shared, Socket};

const _: () = assert!(usize::BITS == 64);

/// Events of connections that could not be accepted.
static NOT_ACCEPTED: Topic = Topic::new();

// A token is a generation and an index. Indices of the connection table are lower than the special
// ones below.
const WAKER_TOKEN: Token = Token(u32::MAX as usize);
// The index below the waker's is `readiness::TOKEN`'s.
const LISTENER_INDEX_BASE: u32 = u32::MAX - 0x1_0000;

fn listener_token(number: usize) -> Token {
    assert!(number < 0xffff, "a listener's number fits a token");
    Token(LISTENER_INDEX_BASE as usize + number)
}

fn connection_token(id: ConnectionId) -> Token {
    Token((id.generation as usize) << 32 | id.index as usize)
}

/// What a token refers to.
enum Target {
    Waker,
    /// A tier's own socket: it only needs to wake the worker.
    Watched,
    Listener(usize),
    Connection(ConnectionId),
}

fn target(token: Token) -> Target {
    let index = token.0 as u32;
    if token == WAKER_TOKEN {
        Target::Waker
    } else if token == readiness::TOKEN {
        Target::Watched
    } else if index >= LISTENER_INDEX_BASE {
        Target::Listener((index - LISTENER_INDEX_BASE) as usize)
    } else {
        Target::Connection(ConnectionId { index, generation: (token.0 >> 32) as u32 })
    }
}

/// One worker's connections over the host kernel.
#[derive(Debug)]
pub struct Kernel<C> {
    poll: Poll,
    events: Events,
    /// The state of epoll's events for the next turn.
    harvest: Harvest,
    /// Connections were resumed since the last epoll_wait, and their peers may have answered by
    /// now.
    has_resumed: bool,
    /// An event of a tier's socket arrived after the tiers had their share of the turn.
    has_tier_news: bool,
    waker: Waker,
    acceptors: Vec<Option<Acceptor>>,
    spares: Arc<Spares>,
    admission: Arc<Admission>,
    entries: Vec<Entry<C>>,
    /// Free indices of the connection table.
    free: Vec<u32>,
    /// Connections that have more to read than the last visit took, or may have more to send, in
    /// the order of their visits.
    pending: VecDeque<ConnectionId>,
    shared: Shared,
    /// What other threads have for this worker, and what it took of that.
    inbox: Arc<Inbox>,
    attached: Attached,
    stats: Arc<WorkerStats>,
    /// Position of the sweep for stalled connections; None between two sweeps.
    sweep_next: Option<usize>,
    sweep_at_us: u64,
    /// The time of the last turn.
    now_us: u64,
}

#[derive(Debug)]
struct Entry<C> {
    generation: u32,
    live: Option<Live<C>>,
}

#[derive(Debug)]
struct Live<C> {
    endpoint: Endpoint,
    state: C,
}

/// The source of the readiness events of the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harvest {
    /// epoll_wait must be called.
    Unknown,
    /// [`Transport::wait`] has called it, and its events must be processed.
    Gathered,
    /// The events of the last wait were all there were, and were just processed. One turn may go
    /// without epoll_wait, so that a worker that goes to sleep calls it once, not twice.
    Exhausted,
}

impl<C> Kernel<C> {
    /// Takes over the sockets that [`bind`] created for this worker.
    pub fn new(sockets: KernelSockets, stats: Arc<WorkerStats>) -> Kernel<C> {
        let KernelSockets { poll, waker, acceptors, admission, inbox, spares } = sockets;
        Kernel {
            poll,
            events: Events::with_capacity(KERNEL_EVENTS_PER_TURN),
            harvest: Harvest::Unknown,
            has_resumed: false,
            has_tier_news: false,
            waker,
            acceptors: acceptors.into_iter().map(Some).collect(),
            spares,
            admission,
            entries: Vec::new(),
            free: Vec::new(),
            pending: VecDeque::new(),
            shared: Shared::new(),
            inbox,
            attached: Attached::default(),
            stats,
            sweep_next: None,
            sweep_at_us: 0,
            now_us: 0,
        }
    }

    /// Wakes this worker from [`Transport::wait`].
    #[cfg(feature = "internals")]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn live(&mut self, id: ConnectionId) -> Option<&mut Live<C>> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        entry.live.as_mut()
    }

    /// Calls epoll_wait, unless that was done. Returns whether there may be events to process.
    fn harvest(&mut self) -> bool {
        match std::mem::replace(&mut self.harvest, Harvest::Unknown) {
            Harvest::Unknown => self.poll_again(),
            Harvest::Gathered => {
                if self.events.iter().count() < KERNEL_EVENTS_PER_TURN {
                    self.harvest = Harvest::Exhausted;
                }
            }
            Harvest::Exhausted => return false,
        }
        true
    }

    /// Calls epoll_wait in the middle of a turn. An event of a tier's socket is reported only once,
    /// and tiers check their sockets only at the start of a turn.
    fn poll_again(&mut self) {
        self.poll_events(Some(Duration::ZERO));
        self.has_tier_news |= self.events.iter().any(|event| event.token() == readiness::TOKEN);
    }

    fn poll_events(&mut self, timeout: Option<Duration>) {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            // A signal; then there are no events.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("epoll_wait on our own descriptor: {error}"),
        }
    }

    /// Processes the events from epoll. Returns how many there were.
    fn look<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        let mut seen = 0;
        // Taken out for the loop; an empty one allocates nothing.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            self.on_event(event, now, handler);
            seen += usize::from(event.token() != WAKER_TOKEN);
        }
        self.events = events;
        seen
    }

    fn on_event<H: Handler<Connection = C>>(&mut self, event: &Event, now: Now, handler: &mut H) {
        let id = match target(event.token()) {
            Target::Waker | Target::Watched => return,
            Target::Listener(number) => {
                if let Some(acceptor) = &mut self.acceptors[number] {
                    acceptor.is_ready = true;
                }
                return;
            }
            Target::Connection(id) => id,
        };
        let Some(live) = self.live(id) else { return };
        let is_hung_up = event.is_read_closed() || event.is_error();
        if is_hung_up && live.endpoint.is_rings() {
            return self.drop_ring(id, handler);
        }
        if event.is_readable() || is_hung_up {
            live.endpoint.announce_readable(is_hung_up);
        }
        self.advance(id, event.is_writable(), now, handler);
    }

    /// Advances one connection: sends queued output if `is_writable`, reads once, and calls the
    /// handler if that changed something for it.
    fn advance<H: Handler<Connection = C>>(
        &mut self,
        id: ConnectionId,
        is_writable: bool,
        now: Now,
        handler: &mut H,
    ) {
        let Kernel { entries, shared, stats, .. } = self;
        let entry = &mut entries[id.index as usize];
        let Some(live) = entry.live.as_mut().filter(|_| entry.generation == id.generation) else {
            return;
        };
        let endpoint = &mut live.endpoint;
        if endpoint.phase == Phase::Introducing {
            return self.read_header(id, now, handler);
        }
        let has_moved =
            is_writable && endpoint.has_output() && endpoint.drain(shared, now.uptime_us, stats);
        if endpoint.phase == Phase::Lingering {
            endpoint.discard(shared);
        } else if endpoint.phase == Phase::Open {
            let is_expected = endpoint.is_expecting() && endpoint.can_receive();
            let received = if endpoint.can_receive() && !is_expected {
                endpoint.receive(shared, stats)
            } else {
                Received::Nothing
            };
            let has_news = has_moved
                || is_expected
                || received != Received::Nothing
                || endpoint.is_cut_short();
            if has_news && endpoint.phase == Phase::Open {
                self.visit(id, received, now, handler);
                return;
            }
        }
        self.settle(id, handler);
    }

    fn visit<H: Handler<Connection = C>>(
        &mut self,
        id: ConnectionId,
        received: Received,
        now: Now,
        handler: &mut H,
    ) {
        let Kernel { entries, shared, stats, .. } = self;
        let Some(live) = &mut entries[id.index as usize].live else { return };
        let Live { endpoint, state } = live;
        let mut stream = KernelStream::new(endpoint, shared, stats, now.uptime_us, received);
        handler.ready(id, state, &mut stream, now);
        stream.leave();
        self.settle(id, handler);
    }

    /// Reads a last time and calls the handler with the end of the input.
    fn read_rest<H: Handler<Connection = C>>(
        &mut self,
        id: ConnectionId,
        now: Now,
        handler: &mut H,
    ) {
        let Kernel { entries, shared, stats, .. } = self;
        let Some(Live { endpoint, .. }) = &mut entries[id.index as usize].live else { return };
        endpoint.announce_readable(false);
        let received = if endpoint.can_receive() {
            endpoint.receive(shared, stats)
        } else {
            Received::Nothing
        };
        match endpoint.phase {
            Phase::Open => self.visit(id, received, now, handler),
            _ => self.settle(id, handler),
        }
    }

    /// Handles the state after a visit or an event: requests an event when writable, advances the
    /// close of the connection, or schedules another visit.
    fn settle<H: Handler<Connection = C>>(&mut self, id: ConnectionId, handler: &mut H) {
        let now_us = self.now_us;
        let Kernel { entries, poll, pending, .. } = self;
        let Some(live) = &mut entries[id.index as usize].live else { return };
        let endpoint = &mut live.endpoint;
        if endpoint.phase == Phase::Closing && !endpoint.has_output() {
            if endpoint.is_finished() {
                // Both sides have finished: closing the socket sends the FIN.
                return self.remove(id, handler);
            }
            endpoint.phase = match endpoint.socket.finish() {
                Ok(()) => Phase::Lingering,
                Err(_) => Phase::Dead,
            };
            endpoint.progress_us = now_us;
        }
        match endpoint.phase {
            Phase::Lingering if endpoint.is_finished() => return self.remove(id, handler),
            Phase::Aborted | Phase::Dead => return self.remove(id, handler),
            Phase::Introducing | Phase::Open | Phase::Closing | Phase::Lingering => {}
        }
        if endpoint.has_output() != endpoint.is_writable_armed {
            endpoint.is_writable_armed = endpoint.has_output();
            let mut interest = Interest::READABLE;
            if endpoint.is_writable_armed {
                interest |= Interest::WRITABLE;
            }
            let source = endpoint.socket.source();
            if poll.registry().reregister(source, connection_token(id), interest).is_err() {
                return self.remove(id, handler);
            }
        }
        let may_read =
            matches!(endpoint.phase, Phase::Introducing | Phase::Open | Phase::Lingering);
        let has_more = (may_read && endpoint.can_receive()) || endpoint.is_cut_short();
        if has_more && !endpoint.is_pending {
            endpoint.is_pending = true;
            pending.push_back(id);
        }
    }

    fn remove<H: Handler<Connection = C>>(&mut self, id: ConnectionId, handler: &mut H) {
        let entry = &mut self.entries[id.index as usize];
        let Some(Live { mut endpoint, state }) = entry.live.take() else { return };
        let is_reset = matches!(endpoint.phase, Phase::Aborted | Phase::Dead);
        handler.departs(id, &state, &|| endpoint.peer_end(), is_reset);
        self.attached.note_end(&endpoint);
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.index);
        self.admission.leave(1);
        self.stats.sub(Counter::CurrConnections, 1);
        // A descriptor is free again.
        for acceptor in self.acceptors.iter_mut().flatten() {
            acceptor.paused_until_us = 0;
        }
        endpoint.release(&mut self.shared);
        // Closing the last descriptor of a socket removes it from epoll.
        if endpoint.phase == Phase::Aborted {
            endpoint.socket.reset();
        }
        handler.closed(id, state);
    }

    /// Visits connections that had more to read, as many as there were when the turn began.
    fn visit_pending<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        let count = self.pending.len().min(KERNEL_EVENTS_PER_TURN);
        for _ in 0..count {
            let Some(id) = self.pending.pop_front() else { break };
            let Some(live) = self.live(id) else { continue };
            live.endpoint.is_pending = false;
            self.advance(id, false, now, handler);
        }
        count
    }

    fn accept<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        let mut accepted = 0;
        for place in 0..self.acceptors.len() {
            let Some(acceptor) = &self.acceptors[place] else { continue };
            let number = acceptor.number;
            for _ in 0..acceptor.budget() {
                let Some(acceptor) = &mut self.acceptors[place] else { break };
                if !acceptor.is_ready || acceptor.paused_until_us > now.uptime_us {
                    break;
                }
                match acceptor.accept() {
                    Ok((socket, Comer::Client)) => {
                        self.admit(socket, number, now, handler);
                        accepted += 1;
                    }
                    Ok((socket, Comer::Proxy(peer))) => {
                        let admitted = self.admit(socket, number, now, handler);
                        if let Some(Live { endpoint, .. }) = admitted.and_then(|id| self.live(id)) {
                            endpoint.await_introduction(place, peer, now.uptime_us);
                        }
                        accepted += 1;
                    }
                    Ok((socket, Comer::Stranger(stranger))) => {
                        // Who has seen the reset sees it counted and told.
                        self.stats.add(Counter::RejectedByAllow, 1);
                        self.admission.report_not_allowed(stranger.to_canonical(), now);
                        // A FIN would leave a TIME-WAIT in the kernel for each.
                        socket.reset();
                        accepted += 1;
                    }
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => acceptor.is_ready = false,
                        // This client gave up while it waited; the next one may not have.
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                        // No descriptor or no memory: retrying immediately would spin.
                        _ => {
                            acceptor.paused_until_us = now.uptime_us + ACCEPT_PAUSE_US;
                            self.stats.add(Counter::ListenDisabled, 1);
                            let remedy = self.admission.remedies().not_accepted;
                            NOT_ACCEPTED.report(now, || {
                                let text = format_args!(
                                    "connections cannot be accepted: {error}; {remedy}"
                                );
                                report::Event::ConnectionRefused.line(text).reason("no_descriptor")
                            });
                        }
                    },
                }
            }
        }
        accepted
    }

    fn admit<H: Handler<Connection = C>>(
        &mut self,
        socket: Socket,
        listener: usize,
        now: Now,
        handler: &mut H,
    ) -> Option<ConnectionId> {
        if !self.admission.enter() {
            self.admission.report_full(now);
            self.refuse(socket);
            return None;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
            assert!(index < LISTENER_INDEX_BASE, "an index fits a token");
            self.entries.push(Entry { generation: 0, live: None });
            // Room for all of them now, so that no later turn allocates.
            self.free.reserve(self.entries.len());
            self.pending.reserve(self.entries.len().saturating_sub(self.pending.len()));
            index
        });
        let entry = &mut self.entries[index as usize];
        let id = ConnectionId { index, generation: entry.generation };
        let mut endpoint = Endpoint::new(socket);
        let source = endpoint.socket.source();
        let registry = self.poll.registry();
        if registry.register(source, connection_token(id), Interest::READABLE).is_err() {
            // The limit of epoll entries for this user is reached.
            self.free.push(index);
            self.admission.leave(1);
            self.refuse(endpoint.socket);
            return None;
        }
        self.stats.add(Counter::CurrConnections, 1);
        self.stats.add(Counter::TotalConnections, 1);
        let state = handler.opened(id, listener, now);
        handler.arrived(id, &|| endpoint.peer_end());
        entry.live = Some(Live { endpoint, state });
        Some(id)
    }

    /// Sends the refusal, as far as the kernel accepts it immediately, and closes.
    fn refuse(&mut self, mut socket: Socket) {
        self.stats.add(Counter::RejectedConnections, 1);
        // A client that does not get the message sees the close at least.
        if let Ok(sent) = socket.write(REFUSAL) {
            self.stats.add(Counter::BytesWritten, sent as u64);
        }
        let mut endpoint = Endpoint::new(socket);
        if endpoint.socket.finish().is_ok() {
            // A request that has already arrived would turn the close into a reset.
            endpoint.discard(&mut self.shared);
        }
    }

    /// Checks some connections for stalls.
    fn sweep<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) {
        let from = match self.sweep_next {
            Some(from) => from,
            None if now.uptime_us >= self.sweep_at_us => 0,
            None => return,
        };
        let to = self.entries.len().min(from + SWEEP_PLACES_PER_TURN);
        for index in from..to {
            let entry = &mut self.entries[index];
            let generation = entry.generation;
            let Some(Live { endpoint, state }) = &mut entry.live else { continue };
            let still_us = now.uptime_us.saturating_sub(endpoint.progress_us);
            let id = ConnectionId { index: index as u32, generation };
            let has_stalled = match endpoint.phase {
                Phase::Lingering if still_us > LINGER_US => {
                    self.remove(id, handler);
                    continue;
                }
                Phase::Introducing if still_us > PROXY_HEADER_US => {
                    let reason = "it sends no PROXY header in time";
                    self.refuse_header(id, reason, now, handler);
                    continue;
                }
                Phase::Lingering | Phase::Introducing => false,
                _ => {
                    (endpoint.has_output() && still_us > STALL_TIMEOUT_US)
                        || (endpoint.phase == Phase::Open && handler.is_overdue(state, now))
                }
            };
            if has_stalled {
                endpoint.phase = Phase::Aborted;
                self.stats.add(Counter::IdleKicks, 1);
                self.remove(id, handler);
            } else if endpoint.phase == Phase::Open && handler.is_idle(state, now) {
                endpoint.phase = Phase::Closing;
                self.stats.add(Counter::IdleKicks, 1);
                self.settle(id, handler);
            }
        }
        let is_done = to == self.entries.len();
        self.sweep_next = (!is_done).then_some(to);
        if is_done {
            self.sweep_at_us = now.uptime_us + SWEEP_INTERVAL_US;
        }
    }

    /// Whether a turn would find something to do without calling epoll_wait.
    fn has_work(&self) -> bool {
        let can_accept = |acceptor: &Acceptor| acceptor.is_ready && acceptor.paused_until_us == 0;
        self.harvest == Harvest::Gathered
            || !self.pending.is_empty()
            || self.sweep_next.is_some()
            || self.acceptors.iter().flatten().any(can_accept)
    }

    /// Microseconds until a turn is due, from the last one.
    fn due_in_us(&self) -> u64 {
        let paused = self.acceptors.iter().flatten().filter(|acceptor| acceptor.is_ready);
        let pause_end_us = paused.map(|acceptor| acceptor.paused_until_us).min();
        let sweep_at_us = (self.connections() > 0).then_some(self.sweep_at_us);
        let due_us = [pause_end_us, sweep_at_us].into_iter().flatten().min();
        due_us.map_or(u64::MAX, |due_us| due_us.saturating_sub(self.now_us))
    }
}

impl<C> Transport<C> for Kernel<C> {
    fn poll<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        self.now_us = now.uptime_us;
        let mut done = self.visit_rings(now, handler);
        done += self.visit_pending(now, handler);
        let has_resumed = std::mem::take(&mut self.has_resumed);
        let is_unknown = self.harvest == Harvest::Unknown;
        if is_unknown && self.attached.postpones_sockets(self.now_us) {
            return done;
        }
        if self.harvest() {
            done += self.look(now, handler);
            if has_resumed && self.harvest == Harvest::Exhausted {
                self.poll_again();
                done += self.look(now, handler);
            }
        }
        done += self.accept(now, handler);
        self.sweep(now, handler);
        done
    }

    fn resume<H: Handler<Connection = C>>(&mut self, id: ConnectionId, now: Now, handler: &mut H) {
        self.now_us = now.uptime_us;
        self.has_resumed = true;
        if self.live(id).is_some_and(|live| live.endpoint.phase == Phase::Open) {
            self.visit(id, Received::Nothing, now, handler);
        }
    }

    /// Nothing to do: output is written as each visit ends.
    fn flush(&mut self, _now: Now) {}

    /// Sleeps in epoll_wait; [`Waker::wake`] and every event end it. Below a millisecond, which
    /// epoll_wait does not resolve, it does not sleep.
    fn readiness(&self) -> io::Result<Readiness> {
        Readiness::new(self.poll.registry())
    }

    fn leave_out(&mut self, _us: u64) {
        // Nothing here is shared.
    }

    fn wait(&mut self, timeout_us: u64) {
        if std::mem::take(&mut self.has_tier_news) || self.has_work() {
            return;
        }
        let timeout_ms = timeout_us.min(self.due_in_us()) / 1000;
        if timeout_ms > 0 && !self.rings_fall_asleep() {
            return;
        }
        if timeout_ms == 0 {
            self.poll_events(Some(Duration::ZERO));
        } else {
            if !self.waker.fall_asleep() {
                return self.rings_rise();
            }
            self.poll_events(Some(Duration::from_millis(timeout_ms.min(i32::MAX as u64))));
            self.waker.rise();
            self.rings_rise();
        }
        self.harvest = Harvest::Gathered;
    }

    fn stop_listening(&mut self) {
        self.spares.close();
        for acceptor in &mut self.acceptors {
            if let Some(acceptor) = acceptor.take() {
                acceptor.close(self.poll.registry());
            }
        }
    }

    fn drain<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        self.now_us = now.uptime_us;
        let begins = !std::mem::replace(&mut self.shared.is_draining, true);
        let mut left = 0;
        for index in 0..self.entries.len() {
            let generation = self.entries[index].generation;
            let id = ConnectionId { index: index as u32, generation };
            if begins && self.live(id).is_some_and(|live| live.endpoint.phase == Phase::Open) {
                self.read_rest(id, now, handler);
            }
            if begins && self.live(id).is_some_and(|it| it.endpoint.phase == Phase::Introducing) {
                // Its client has asked for nothing yet.
                self.remove(id, handler);
            }
            // After FIN the kernel delivers what it has, even after this process has exited.
            let is_owing = |live: &mut Live<C>| live.endpoint.phase != Phase::Lingering;
            left += usize::from(self.live(id).is_some_and(is_owing));
        }
        left
    }

    fn close_all<H: Handler<Connection = C>>(&mut self, _now: Now, handler: &mut H) {
        for index in 0..self.entries.len() {
            let generation = self.entries[index].generation;
            let id = ConnectionId { index: index as u32, generation };
            if let Some(entry) = self.entries.get_mut(index)
                && let Some(live) = &mut entry.live
                && live.endpoint.phase == Phase::Lingering
            {
                // A socket that is closed with unread input sends a reset, and data in flight is
                // lost.
                live.endpoint.discard(&mut self.shared);
            }
            self.remove(id, handler);
        }
    }

    fn connections(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn list(&self, from: usize, places: usize, each: &mut dyn FnMut(Listed<'_, C>)) -> usize {
        let to = self.entries.len().min(from.saturating_add(places));
        for index in from..to {
            let Some(Live { endpoint, state }) = &self.entries[index].live else { continue };
            let is_closing = !matches!(endpoint.phase, Phase::Open | Phase::Introducing);
            let (peer, local) = (endpoint.peer_end(), endpoint.socket.local_end());
            each(Listed { index, peer, local, is_closing, state });
        }
        if to < self.entries.len() { to } else { 0 }
    }
}

impl<C> Drop for Kernel<C> {
    fn drop(&mut self) {
        let live = self.connections();
        self.admission.leave(live);
        self.stats.sub(Counter::CurrConnections, live as u64);
    }
}
