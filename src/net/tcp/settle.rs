//! What follows an event of a flow: its handler is called, output is sent, its timer is set, and
//! when it has ended it is released.

use smoltcp::iface::PollResult;
use smoltcp::socket::tcp::State;

use super::adaptor::{OneFrame, stack_time};
use super::device::Port;
use super::listen::TIME_WAIT;
use super::path::Paths;
use super::slab::{Flow, Phase};
use super::state::Stack;
use super::stream::{SocketStream, drain, peer_finished};
use super::wire::{Sent, Wire};
use crate::base::clock::Now;
use crate::base::limits::{
    BURST_FRAMES, TCP_ACK_DELAY_US, TCP_CLOCK_RATE, TCP_HALF_OPEN_TIMEOUT_US, TCP_LINGER_US,
    TCP_RTO_MIN_US, TCP_SEGMENTS_PER_VISIT, TCP_TIMERS_PER_TURN, TCP_WHEEL_TICK_US,
};
use crate::base::stats::Counter;
use crate::net::{ConnectionId, Handler, REFUSAL};

/// The result of sending in a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transmitted {
    /// Everything that may be sent now was sent.
    AtRest,
    /// It is established and everything was sent: all queued data and all acknowledgements went out
    /// with the newest segment.
    Answered,
    /// There may be more: its share of a visit was used up, or there was no frame.
    CutShort,
}

/// Sends what a flow may send, up to its share of a visit. `is_fresh`: nothing was queued before
/// the handler wrote.
#[inline(always)]
fn transmit<P: Port, C>(
    wire: &mut Wire<P>,
    paths: &mut Paths,
    flow: &mut Flow<C>,
    is_fresh: bool,
    now: Now,
) -> Transmitted {
    wire.sent = Sent { known_seq: flow.next_seq, ..Sent::default() };
    // Nearly always one segment is enough, and the state of a loop would cost.
    let next = transmit_next(wire, paths, flow, is_fresh, now);
    let transmitted = match next {
        Some(transmitted) => transmitted,
        None => transmit_more(wire, paths, flow, is_fresh, now),
    };
    flow.note(&wire.sent);
    if transmitted == Transmitted::AtRest && wire.sent.is_starved {
        return Transmitted::CutShort;
    }
    transmitted
}

/// Sends a flow's next segment; None if there may be another.
#[inline(always)]
fn transmit_next<P: Port, C>(
    wire: &mut Wire<P>,
    paths: &mut Paths,
    flow: &mut Flow<C>,
    is_fresh: bool,
    now: Now,
) -> Option<Transmitted> {
    let next_hop = flow.next_hop;
    let mut device = OneFrame { wire, received: None, next_hop, mtu_bytes: 0 };
    let iface = paths.iface(flow.path);
    if iface.poll_egress(stack_time(now), &mut device, &mut flow.set) == PollResult::None {
        return Some(Transmitted::AtRest);
    }
    // The common case is one segment with all data; polling again would give the same result.
    let sent = &wire.sent;
    let socket = flow.socket();
    let is_answered = is_fresh
        && socket.state() == State::Established
        && sent.payload_bytes > 0
        && sent.payload_bytes as usize == socket.send_queue();
    is_answered.then_some(Transmitted::Answered)
}

/// Continues after the first segment of a visit.
#[inline(never)]
fn transmit_more<P: Port, C>(
    wire: &mut Wire<P>,
    paths: &mut Paths,
    flow: &mut Flow<C>,
    is_fresh: bool,
    now: Now,
) -> Transmitted {
    let mut before = 0;
    // Not until smoltcp reports that it is done: in some states it never does.
    loop {
        let Sent { segments, sequence_bytes, .. } = wire.sent;
        // Segments with sequence numbers are sent before a mere acknowledgement.
        if sequence_bytes == before {
            return Transmitted::AtRest;
        }
        if segments == TCP_SEGMENTS_PER_VISIT {
            return Transmitted::CutShort;
        }
        before = sequence_bytes;
        let next = transmit_next(wire, paths, flow, is_fresh, now);
        if let Some(transmitted) = next {
            return transmitted;
        }
    }
}

impl<P: Port, C> Stack<P, C> {
    /// Processes flow `index` after its socket was fed, its timer fired, or its handler wants to
    /// write.
    #[inline]
    pub(super) fn settle<H: Handler<Connection = C>>(
        &mut self,
        index: u32,
        now: Now,
        handler: &mut H,
    ) {
        let mut flow = &mut self.slab.flows[index as usize];
        if matches!(flow.phase, Phase::HalfOpen | Phase::Connecting) {
            match flow.socket().state() {
                State::SynReceived | State::SynSent => (),
                State::Listen | State::Closed => return self.release(index, handler),
                _ => self.establish(index, now, handler),
            }
            flow = &mut self.slab.flows[index as usize];
        }
        // Data written before and not acknowledged yet.
        let outstanding = flow.socket().send_queue();
        if std::mem::take(&mut flow.is_stirred) && flow.phase == Phase::Open {
            let id = ConnectionId { index, generation: flow.generation };
            let socket = flow.set.get_mut(super::slab::handle());
            let is_draining = self.is_draining;
            let mut stream = SocketStream {
                socket,
                is_draining,
                is_over: false,
                read_bytes: 0,
                written_bytes: 0,
            };
            let connection = flow.connection.as_mut().expect("an open flow has a connection");
            handler.ready(id, connection, &mut stream, now);
            self.wire.stats.add(Counter::BytesRead, stream.read_bytes);
            self.wire.stats.add(Counter::BytesWritten, stream.written_bytes);
            if stream.is_over {
                flow.phase = Phase::Closing;
                flow.since_us = now.uptime_us;
            }
        }
        if matches!(flow.phase, Phase::Closing | Phase::Refused) {
            drain(flow.socket());
        }
        let transmitted = transmit(&mut self.wire, &mut self.paths, flow, outstanding == 0, now);
        if transmitted == Transmitted::Answered {
            // The earliest possible timer is the retransmission of what was just sent. The exact
            // time is determined when this one fires; by then it has mostly moved.
            flow.deadline_us = now.uptime_us + TCP_RTO_MIN_US;
            if flow.deadline_us < flow.armed_us {
                flow.armed_us = self.wheel.arm(index, flow.deadline_us);
            }
            return;
        }
        self.rest(index, transmitted, now, handler);
    }

    /// Completes the visit of flow `index` if it was not answered in full.
    #[inline(never)]
    fn rest<H: Handler<Connection = C>>(
        &mut self,
        index: u32,
        transmitted: Transmitted,
        now: Now,
        handler: &mut H,
    ) {
        let flow = &mut self.slab.flows[index as usize];
        match flow.socket().state() {
            State::Closed | State::Listen => self.release(index, handler),
            state => {
                let sent = &self.wire.sent;
                if matches!(state, State::SynSent | State::SynReceived) && sent.segments > 0 {
                    // Only now is the start of its sequence numbers known.
                    flow.next_seq = sent.next_seq;
                }
                self.arm(index, state, transmitted, now);
                // Not before the FIN was acknowledged, which is all that the record can repeat: an
                // acknowledgement may still wait for its delay, or for a frame.
                let quiet_until_us = self.slab.flows[index as usize].deadline_us;
                if state == State::TimeWait && quiet_until_us > now.uptime_us + TCP_ACK_DELAY_US {
                    self.retire(index, now, handler);
                }
            }
        }
    }

    /// Sets the timer of flow `index`. A deadline that moved later is checked when the wheel wakes
    /// the flow at the old one.
    #[inline]
    fn arm(&mut self, index: u32, state: State, transmitted: Transmitted, now: Now) {
        let flow = &mut self.slab.flows[index as usize];
        let poll_at = self.paths.iface(flow.path).poll_at(stack_time(now), &flow.set);
        let mut deadline_us = match poll_at {
            None => u64::MAX,
            Some(at) => (at.total_micros() as u64).div_ceil(TCP_CLOCK_RATE).max(now.uptime_us),
        };
        if deadline_us == now.uptime_us && transmitted == Transmitted::CutShort {
            deadline_us += TCP_WHEEL_TICK_US;
        } else if deadline_us == now.uptime_us {
            // Everything was sent and it is due again immediately: the timer would fire for ever.
            // In FIN-WAIT-2 that is the probe of a closed window after all data was sent, and only
            // acknowledgements can be due; the peer has until TCP_LINGER_US.
            deadline_us = match state {
                State::FinWait2 if flow.ack == flow.expected => u64::MAX,
                _ => now.uptime_us + TCP_RTO_MIN_US,
            };
        }
        flow.deadline_us = deadline_us;
        if deadline_us < flow.armed_us {
            flow.armed_us = self.wheel.arm(index, deadline_us);
        }
    }

    /// Runs due timers, up to a budget.
    pub(super) fn run_timers<H: Handler<Connection = C>>(
        &mut self,
        now: Now,
        handler: &mut H,
    ) -> usize {
        let mut fired = 0;
        while fired < TCP_TIMERS_PER_TURN
            && let Some(index) = self.wheel.pop(now.uptime_us)
        {
            fired += 1;
            if let Some(next) = self.wheel.peek() {
                self.slab.prefetch_flow(next);
            }
            let flow = &mut self.slab.flows[index as usize];
            if flow.deadline_us > now.uptime_us {
                flow.armed_us = self.wheel.arm(index, flow.deadline_us);
            } else {
                flow.armed_us = u64::MAX;
                self.meet_silence(index, now);
                self.settle(index, now, handler);
            }
        }
        fired
    }

    /// Completes the handshake of flow `index`.
    fn establish<H: Handler<Connection = C>>(&mut self, index: u32, now: Now, handler: &mut H) {
        self.half_open.remove(index);
        let flow = &mut self.slab.flows[index as usize];
        (flow.since_us, flow.received_us) = (now.uptime_us, now.uptime_us);
        // One that we opened was counted when it began.
        if flow.phase != Phase::Connecting && !self.places.take() {
            self.places.begin_refusal(now);
            flow.phase = Phase::Refused;
            let socket = flow.socket();
            drain(socket);
            // A new ring has room for it.
            let told = socket.send_slice(REFUSAL);
            assert_eq!(told, Ok(REFUSAL.len()));
            socket.close();
            return self.dropped(Counter::RejectedConnections);
        }
        self.wire.stats.add(Counter::CurrConnections, 1);
        self.wire.stats.add(Counter::TotalConnections, 1);
        flow.phase = Phase::Open;
        let id = ConnectionId { index, generation: flow.generation };
        flow.connection = Some(handler.opened(id, usize::from(flow.listener), now));
        handler.arrived(id, &|| flow.key.remote_end());
        let socket = flow.socket();
        flow.is_stirred =
            socket.recv_queue() > 0 || peer_finished(socket.state()) || self.is_draining;
    }

    /// Releases flow `index`, whose socket will send nothing more.
    pub(super) fn release<H: Handler<Connection = C>>(&mut self, index: u32, handler: &mut H) {
        let flow = &mut self.slab.flows[index as usize];
        let is_reset = flow.phase == Phase::Open;
        if let Some(connection) = &flow.connection {
            let id = ConnectionId { index, generation: flow.generation };
            handler.departs(id, connection, &|| flow.key.remote_end(), is_reset);
        }
        match std::mem::replace(&mut flow.phase, Phase::Free) {
            Phase::Free => panic!("a flow is released once"),
            Phase::HalfOpen => self.half_open.remove(index),
            Phase::Refused => self.places.end_refusal(),
            phase @ (Phase::Connecting | Phase::Open | Phase::Closing) => {
                if phase != Phase::Connecting {
                    self.wire.stats.sub(Counter::CurrConnections, 1);
                }
                self.places.give_back();
            }
        }
        flow.socket().abort();
        self.table.remove(flow.hash, index);
        self.wheel.cancel(index);
        flow.armed_us = u64::MAX;
        let id = ConnectionId { index, generation: flow.generation };
        flow.generation = flow.generation.wrapping_add(1);
        let connection = flow.connection.take();
        self.slab.give_back(index);
        if let Some(connection) = connection {
            handler.closed(id, connection);
        }
    }

    /// Moves flow `index` to TIME-WAIT: keeps its tuple and releases all else.
    fn retire<H: Handler<Connection = C>>(&mut self, index: u32, now: Now, handler: &mut H) {
        if self.waits.is_full() {
            let oldest = self.waits.take_oldest(now.uptime_us, true);
            self.forget(oldest.expect("a full ring has an oldest record"));
        }
        let flow = &self.slab.flows[index as usize];
        let (key, hash, next_hop) = (flow.key, flow.hash, flow.next_hop);
        let numbers = [flow.next_seq, flow.ack];
        self.release(index, handler);
        let place = self.waits.push(key, hash, numbers, next_hop, now.uptime_us);
        self.table.insert(hash, place | TIME_WAIT);
    }

    /// Ends flow `index` if it is overdue, idle for too long, or closed for too long.
    pub(super) fn check<H: Handler<Connection = C>>(
        &mut self,
        index: u32,
        now: Now,
        handler: &mut H,
    ) {
        self.renew_path(index, now);
        let flow = &mut self.slab.flows[index as usize];
        let is_idle =
            self.idle_timeout_us > 0 && now.uptime_us - flow.received_us >= self.idle_timeout_us;
        match flow.phase {
            Phase::Open => {
                let connection = flow.connection.as_ref().expect("an open flow has a connection");
                if handler.is_overdue(connection, now) {
                    flow.socket().abort();
                } else if is_idle || handler.is_idle(connection, now) {
                    flow.socket().close();
                } else {
                    return;
                }
                flow.phase = Phase::Closing;
                flow.since_us = now.uptime_us;
                self.dropped(Counter::IdleKicks);
                self.settle(index, now, handler);
            }
            Phase::Connecting if now.uptime_us - flow.since_us >= TCP_HALF_OPEN_TIMEOUT_US => {
                self.release(index, handler);
            }
            Phase::Closing | Phase::Refused if now.uptime_us - flow.since_us >= TCP_LINGER_US => {
                flow.socket().abort();
                self.settle(index, now, handler);
            }
            _ => (),
        }
    }

    /// Updates the path of flow `index` from what was learned and forgotten since.
    #[inline]
    fn renew_path(&mut self, index: u32, now: Now) {
        let flow = &mut self.slab.flows[index as usize];
        if flow.path != 0 || !self.paths.is_empty() {
            flow.path = self.paths.towards(flow.key.remote, &self.secrets, now);
        }
    }

    /// Drops handshakes that take too long.
    pub(super) fn expire_half_open<H: Handler<Connection = C>>(
        &mut self,
        now: Now,
        handler: &mut H,
    ) {
        for _ in 0..BURST_FRAMES {
            let Some(oldest) = self.half_open.oldest() else { return };
            let since_us = self.slab.flows[oldest as usize].since_us;
            if now.uptime_us - since_us < TCP_HALF_OPEN_TIMEOUT_US {
                return;
            }
            self.dropped(Counter::HalfOpenTimeouts);
            self.release(oldest, handler);
        }
    }

    /// Removes tuples whose TIME-WAIT is over.
    pub(super) fn expire_time_wait(&mut self, now: Now) {
        for _ in 0..BURST_FRAMES {
            match self.waits.take_oldest(now.uptime_us, false) {
                Some(place) => self.forget(place),
                None => return,
            }
        }
    }
}
