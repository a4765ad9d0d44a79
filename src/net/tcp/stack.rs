//! One turn of the stack, and the interface to its worker.
//!
//! The work of a turn is bounded: one burst of frames, a budget of timers, a budget of overdue
//! checks.

use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::socket::tcp::State;

use super::claim::announce;
use super::device::Port;
use super::own::Taken;
use super::slab::Phase;
use super::state::Stack;
use crate::base::clock::Now;
use crate::base::limits::TCP_NAP_US;
use crate::net::{ConnectionId, EndAddress, Handler, Listed, Transport};

impl<P: Port, C> Stack<P, C> {
    /// One step of checking whether another host has our addresses, to be repeated before the first
    /// turn; `asks` unless another stack of the device sends the probes. Returns whether the check
    /// is complete and none has. Frames for others that arrive meanwhile are dropped.
    ///
    /// # Errors
    /// [`Taken`], if another host has one.
    pub fn claim(&mut self, asks: bool, now: Now) -> Result<bool, Taken> {
        self.claim.step(&mut self.wire, &self.own, asks, now)
    }

    /// Checks a share of the connections, so that all are checked within a period of
    /// [`Sweep`](super::timers::Sweep); ends those that are overdue or idle, and those that we
    /// closed and whose peer does not.
    fn sweep<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) {
        let flows = self.slab.flows.len();
        for _ in 0..self.sweep.due(flows, now.uptime_us) {
            let index = self.sweep.next(flows);
            self.slab.prefetch_flow(((index + 4) % flows) as u32);
            self.check(index as u32, now, handler);
        }
    }

    /// Refills credits; removes expired tuples and handshakes.
    fn expire<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) {
        self.notices.refill(now.uptime_us);
        if self.notices.has_news() {
            self.read_board(now);
        }
        if self.claim.is_due(now) {
            self.claim.keep(&mut self.wire, &self.own, now);
        }
        self.expire_half_open(now, handler);
        self.expire_time_wait(now);
        if !self.resolver.is_empty() {
            self.resolve(now, handler);
        }
    }

    /// Reads new information for all stacks.
    #[cold]
    fn read_board(&mut self, now: Now) {
        for report in self.notices.read() {
            self.meet_too_big(&report, now);
        }
        if let Some(bytes) = self.notices.board().mtu_bytes() {
            self.paths.resize(&mut self.wire, bytes, now);
        }
        let link_ups = self.notices.board().link_ups();
        self.claim.meet_link(&mut self.wire, &self.own, link_ups, now);
    }
}

/// Whether the peer has acknowledged everything, including our FIN.
fn has_delivered(state: State) -> bool {
    matches!(state, State::FinWait2 | State::TimeWait)
}

impl<P: Port, C> Transport<C> for Stack<P, C> {
    fn poll<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        if !self.is_announced {
            self.is_announced = true;
            announce(&mut self.wire, &self.own);
        }
        let done = self.receive(now, handler) + self.run_timers(now, handler);
        self.expire(now, handler);
        self.sweep(now, handler);
        done + self.wire.port.take_forwarded()
    }

    fn resume<H: Handler<Connection = C>>(&mut self, id: ConnectionId, now: Now, handler: &mut H) {
        let Some(flow) = self.slab.flows.get_mut(id.index as usize) else { return };
        if flow.generation == id.generation && flow.phase == Phase::Open {
            flow.is_stirred = true;
            self.settle(id.index, now, handler);
        }
    }

    fn flush(&mut self, _now: Now) {
        self.wire.port.flush();
    }

    fn leave_out(&mut self, us: u64) {
        self.notices.leave_out(us);
    }

    fn wait(&mut self, timeout_us: u64) {
        // A device cannot wake a thread; messages from other workers can (std's park token).
        std::thread::park_timeout(Duration::from_micros(timeout_us.min(TCP_NAP_US)));
    }

    fn stop_listening(&mut self) {
        self.is_listening = false;
    }

    fn drain<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        let begins = !std::mem::replace(&mut self.is_draining, true);
        let mut left = 0;
        for index in 0..self.slab.flows.len() as u32 {
            if begins && self.slab.flows[index as usize].phase == Phase::Open {
                self.slab.flows[index as usize].is_stirred = true;
                self.settle(index, now, handler);
                // More frames than the port can queue would be lost.
                self.wire.port.flush();
            }
            let flow = &mut self.slab.flows[index as usize];
            left += usize::from(
                matches!(flow.phase, Phase::Open | Phase::Closing | Phase::Refused)
                    && !has_delivered(flow.socket().state()),
            );
        }
        left
    }

    fn close_all<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) {
        for index in 0..self.slab.flows.len() as u32 {
            let flow = &mut self.slab.flows[index as usize];
            if flow.phase != Phase::Free && has_delivered(flow.socket().state()) {
                // The peer has everything, including FIN: a RST would report a false error.
                self.release(index, handler);
            } else if flow.phase != Phase::Free {
                flow.is_stirred = false;
                flow.socket().abort();
                self.settle(index, now, handler);
                self.wire.port.flush();
            }
        }
    }

    fn connections(&self) -> usize {
        self.places.taken()
    }

    fn list(&self, from: usize, places: usize, each: &mut dyn FnMut(Listed<'_, C>)) -> usize {
        let flows = self.slab.flows.len();
        let to = flows.min(from.saturating_add(places));
        for index in from..to {
            let flow = &self.slab.flows[index];
            let (Phase::Open | Phase::Closing, Some(state)) = (flow.phase, &flow.connection) else {
                continue;
            };
            let local = SocketAddr::new(flow.key.local_ip(), flow.key.local_port());
            let (peer, local) = (flow.key.remote_end(), EndAddress::Tcp(local));
            each(Listed { index, peer, local, is_closing: flow.phase != Phase::Open, state });
        }
        if to < flows { to } else { 0 }
    }
}
