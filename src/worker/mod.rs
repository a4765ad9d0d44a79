//! One worker: one thread on one core, with its transport, its connections and its part of the
//! keys.
//!
//! A turn reads the clock once and then gives every source of work its bounded share: the
//! transport, the mailbox, woken tasks, connections to visit again, the tiers. Nothing in a turn
//! waits; a worker sleeps only between turns, and only if it is allowed to and has no work pending.

mod control;
mod drain;
mod engine;
mod errands;
mod held;
mod listing;
mod logins;
mod measure;
mod shared;

pub use engine::WorkerEngine;
pub use logins::Logins;
pub use shared::{Cause, Settings, Shared, TOP_KEYS};

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::clock::{Now, Pace};
use crate::base::limits::{ROOM_WAIT_US, TASKS_PER_WORKER};
use crate::base::stats::Counter;
use crate::connection::sample::Sampler;
use crate::connection::{Connection, Scratch};
use crate::mailbox::Mailbox;
use crate::net::{ConnectionId, EndAddress, Handler, Stream, Transport};
use crate::orchestrator::task::Executor;
use crate::orchestrator::{Operation, Orchestrator};
use crate::protocol;
use crate::report::{self, Event};
use crate::tier::Outcome;

/// When a worker without work sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Never: it keeps polling.
    Poll,
    /// After this many empty turns.
    SleepAfter(u32),
}

/// Longest sleep, in microseconds: how late a timer of an idle worker may fire.
const SLEEP_US: u64 = 100_000;

/// The parts of a worker.
pub struct Worker<'o, O: Orchestrator, F, M> {
    engine: WorkerEngine<'o, O, F, M>,
    scratch: Scratch,
}

impl<'o, O, F, M> Worker<'o, O, F, M>
where
    O: Orchestrator,
    F: Future<Output = Outcome<O::Value>>,
    M: FnMut(Operation, Now) -> F,
{
    /// A worker over `orchestrator`. `execute` must be [`Orchestrator::execute`] of the same one: a
    /// closure, because the type of its future has no name.
    pub fn new(
        shared: Arc<Shared>,
        mailbox: Mailbox,
        orchestrator: &'o O,
        execute: M,
    ) -> Worker<'o, O, F, M> {
        let executor = Executor::new(TASKS_PER_WORKER, execute);
        let mut scratch = Scratch::default();
        scratch.sampler = Sampler::new(shared.sampling(mailbox.worker()));
        Worker { scratch, engine: WorkerEngine::new(shared, mailbox, orchestrator, executor) }
    }

    /// One turn. Returns how much was done; 0 = nothing.
    #[inline]
    pub fn turn<T: Transport<Connection>>(&mut self, transport: &mut T, now: Now) -> usize {
        // Replies are sent first: a client that gets one may have sent its next request by the time
        // of the poll, which then goes to the tiers in this turn and not in the next.
        self.scratch.sampler.turn(now);
        if self.engine.has_errands() {
            self.engine.watch.keep_time(now);
        }
        let mut done = self.engine.exchange(now);
        if self.engine.has_errands() {
            done += self.engine.run_errands(transport, &mut self.scratch.sampler, now);
        }
        while let Some(id) = self.engine.next_visit() {
            transport.resume(id, now, self);
            done += 1;
        }
        done += transport.poll(now, self);
        transport.flush(now);
        self.engine.end_turn();
        done
    }

    /// Tells what became of a connection, by its number in `stats conns`, if that is asked for.
    #[inline]
    fn tell(&self, id: ConnectionId, what: &str) {
        report::tell_at(report::CONNECTIONS, || {
            let number = self.engine.number(id.index as usize);
            Event::Connection.line(format_args!("connection {number} {what}"))
        });
    }

    /// Whether work is pending that a sleep would delay.
    fn owes_work(&self) -> bool {
        self.engine.owes_work()
    }
}

impl<O, F, M> Handler for Worker<'_, O, F, M>
where
    O: Orchestrator,
    F: Future<Output = Outcome<O::Value>>,
    M: FnMut(Operation, Now) -> F,
{
    type Connection = Connection;

    fn opened(&mut self, id: ConnectionId, listener: usize, now: Now) -> Connection {
        self.tell(id, "is open");
        let (rights, binding, needs_login) = self.engine.port(listener);
        Connection::new(listener, needs_login, now).with_rights(rights).with_binding(binding)
    }

    fn arrived(&mut self, id: ConnectionId, peer: &dyn Fn() -> EndAddress) {
        if self.engine.watch.is_of_connections() {
            self.engine.watch.tell_begun(id, peer());
        }
    }

    fn departs(
        &mut self,
        id: ConnectionId,
        connection: &Connection,
        peer: &dyn Fn() -> EndAddress,
        is_reset: bool,
    ) {
        if self.engine.watch.is_of_connections() {
            let reason = self.engine.reason(connection, is_reset);
            self.engine.watch.tell_over(id, peer, reason);
        }
    }

    fn ready<S: Stream>(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection,
        stream: &mut S,
        now: Now,
    ) {
        connection.drive(id, stream, &mut self.engine, &mut self.scratch, now);
    }

    fn foresees(&self) -> bool {
        self.engine.foresees()
    }

    #[inline]
    fn foresee(&self, bytes: &[u8]) -> u64 {
        protocol::first_key(bytes).map_or(0, |key| self.engine.prefetch(key))
    }

    #[inline(always)]
    fn foresee_more(&self, foreseen: u64) {
        self.engine.prefetch_more(foreseen);
    }

    fn is_overdue(&self, connection: &Connection, now: Now) -> bool {
        connection.is_overdue(self.engine.is_contended(now), now)
    }

    fn is_idle(&self, connection: &Connection, now: Now) -> bool {
        connection.is_idle(self.engine.idle_us(), now)
    }

    fn closed(&mut self, id: ConnectionId, connection: Connection) {
        self.tell(id, "is closed");
        connection.release(id, &mut self.engine);
    }
}

/// Runs a worker until [`Shared::stop`]. Called on the worker's own thread.
pub fn run<T: Transport<Connection>, O: Orchestrator>(
    shared: &Arc<Shared>,
    mailbox: Mailbox,
    transport: &mut T,
    orchestrator: &O,
    idle: Idle,
) {
    crate::base::buffer::prepare_thread();
    let stats = Arc::clone(&shared.stats[mailbox.worker()]);
    let mut worker = Worker::new(Arc::clone(shared), mailbox, orchestrator, |operation, now| {
        orchestrator.execute(operation, now)
    });
    let mut idle_turns = 0;
    let mut pace = Pace::new(shared.clock.read());
    let mut busy_from_us = None;
    shared.owing.fetch_add(1, Ordering::Relaxed);
    while !shared.stop.load(Ordering::Relaxed) {
        let now = pace.at(shared.clock.read());
        if let Some(from_us) = busy_from_us.take() {
            stats.add(Counter::BusyUs, now.uptime_us - from_us);
        }
        transport.leave_out(pace.left_out_us());
        let mut done = orchestrator.turn(now);
        done += worker.turn(transport, now);
        orchestrator.flush(now);
        stats.add(Counter::Turns, 1);
        if done > 0 {
            idle_turns = 0;
            busy_from_us = Some(now.uptime_us);
        } else {
            stats.add(Counter::TurnsIdle, 1);
            idle_turns += 1;
        }
        let Idle::SleepAfter(turns) = idle else { continue };
        if idle_turns >= turns {
            let due_us = orchestrator.wake_at_us().saturating_sub(now.uptime_us);
            let due_us =
                if worker.engine.has_waiting() { due_us.min(ROOM_WAIT_US) } else { due_us };
            let due_us = due_us.min(worker.engine.watch_wait_us());
            let timeout_us = if worker.owes_work() { 0 } else { SLEEP_US.min(due_us) };
            if let Some(from_us) = busy_from_us.take() {
                let until_us = pace.at(shared.clock.read()).uptime_us;
                stats.add(Counter::BusyUs, until_us - from_us);
            }
            transport.wait(timeout_us);
        }
    }
    shared.tell_stop();
    transport.stop_listening();
    worker.drain(shared, &mut pace, transport, orchestrator);
    transport.close_all(pace.at(shared.clock.read()), &mut worker);
}
