//! The end of a worker after a stop was requested: pending replies are sent and every connection is
//! closed in order, for at most [`Shared::drain_limit_us`]. Nothing new is accepted or waited for.

use std::future::Future;
use std::sync::atomic::Ordering;

use super::{Shared, Worker};
use crate::base::clock::{Now, Pace};
use crate::base::limits::DRAIN_NAP_US;
use crate::connection::Connection;
use crate::net::Transport;
use crate::orchestrator::{Operation, Orchestrator};
use crate::report::{self, Event};
use crate::tier::Outcome;

impl<O, F, M> Worker<'_, O, F, M>
where
    O: Orchestrator,
    F: Future<Output = Outcome<O::Value>>,
    M: FnMut(Operation, Now) -> F,
{
    /// Continues until no worker has a pending reply: workers execute each other's operations, and
    /// one may transport the others' frames.
    pub(super) fn drain<T: Transport<Connection>>(
        &mut self,
        shared: &Shared,
        pace: &mut Pace,
        transport: &mut T,
        orchestrator: &O,
    ) {
        let until_us = pace.at(shared.clock.read()).uptime_us + shared.drain_limit_us();
        let mut owes = true;
        loop {
            let now = pace.at(shared.clock.read());
            let left = transport.drain(now, self);
            if left == 0 && std::mem::take(&mut owes) {
                shared.owing.fetch_sub(1, Ordering::Relaxed);
            }
            let is_over =
                now.uptime_us >= until_us || shared.is_unreachable() || shared.is_hurried();
            if is_over && left > 0 {
                let connections = if left == 1 { "connection" } else { "connections" };
                let text = format_args!("stopping: {left} {connections} with unread replies reset");
                report::tell(Event::RepliesLost.line(text).count(left as u64));
            }
            if is_over || shared.owing.load(Ordering::Relaxed) == 0 {
                break;
            }
            let mut done = orchestrator.turn(now);
            done += self.turn(transport, now);
            orchestrator.flush(now);
            if done == 0 && !self.owes_work() {
                transport.wait(DRAIN_NAP_US);
            }
        }
        if owes {
            shared.owing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
