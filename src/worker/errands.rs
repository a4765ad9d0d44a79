//! What a worker does besides requests: lists of its connections, and what watchers need.
//!
//! Both are rare, so that a turn looks at one flag for them. A new watcher's taps go to the other
//! workers by mail, and it gets its answer when all have them: after that no event is missed. A
//! worker that nobody watches has nothing to look at.

use std::future::Future;
use std::sync::Arc;

use super::engine::WorkerEngine;
use super::held::{Copied, Held};
use super::{Shared, listing};
use crate::base::clock::Now;
use crate::base::latency::Level;
use crate::base::limits::WATCH_WAIT_US;
use crate::connection::sample::Sampler;
use crate::connection::watch::{Tap, Watch};
use crate::connection::{Connection, Submitted};
use crate::mailbox::{Answer, Carried, Job, Mailbox, RemoteRequest};
use crate::net::{ConnectionId, Transport};
use crate::orchestrator::{Operation, Orchestrator};
use crate::protocol::watch::{Kind, Wanted};
use crate::tier::Outcome;

impl<O, F, M> WorkerEngine<'_, O, F, M>
where
    O: Orchestrator,
    F: Future<Output = Outcome<O::Value>>,
    M: FnMut(Operation, Now) -> F,
{
    /// Nobody watches yet.
    pub(super) fn watch_of(shared: &Shared, mailbox: &Mailbox) -> Watch {
        let (workers, listeners) = (mailbox.workers(), shared.settings.listeners.len());
        let numbers = ((listeners + mailbox.worker()) as u64, workers as u64);
        let stats = Arc::clone(&shared.stats[mailbox.worker()]);
        Watch::new(shared.clock, stats, Arc::clone(&shared.watchers), numbers)
    }

    /// Whether there is something to do besides requests.
    #[inline]
    pub(super) fn has_errands(&self) -> bool {
        self.has_errands
    }

    /// Does that: a piece of a list of connections, and what watchers need.
    #[cold]
    pub(super) fn run_errands<T: Transport<Connection>>(
        &mut self,
        transport: &T,
        sampler: &mut Sampler,
        now: Now,
    ) -> usize {
        self.attend_watchers(sampler, now);
        let done = self.list(transport, now);
        self.has_errands = !self.listings.is_empty()
            || self.watch.has_readers()
            || [Kind::Evictions, Kind::Slow].into_iter().any(|kind| self.watch.wanted().has(kind));
        done
    }

    /// Answers who first asked for a piece of this worker's connections, which `transport` has.
    #[cold]
    fn list<T: Transport<Connection>>(&mut self, transport: &T, now: Now) -> usize {
        let Some(listing::Request { worker, slot, from }) = self.listings.pop_front() else {
            return 0;
        };
        let (lines, next) = listing::piece(transport, from, |index| self.number(index), now);
        match worker {
            Some(worker) => {
                let outcome = listing::outcome(Carried::Copied(lines), next);
                self.mailbox.send_answer(
                    usize::from(worker),
                    Answer { slot, outcome, level: Level::L1, spent: None },
                );
            }
            None => {
                self.awaited -= 1;
                let outcome = listing::outcome(Held::Remote(Copied::new(0, lines)), next);
                self.visits.extend(self.slots.complete(slot, outcome));
            }
        }
        1
    }

    /// Makes connection `id` a watcher; None: there are as many as there may be.
    #[cold]
    pub(super) fn begin_watch_of(
        &mut self,
        id: ConnectionId,
        wanted: Wanted,
        slot: u32,
    ) -> Option<Submitted<Held<O::Value>>> {
        let (own, workers) = (self.mailbox.worker(), self.mailbox.workers());
        let taps = self.watch.begin(id, workers)?;
        self.has_errands = true;
        for (worker, lines) in taps.into_iter().enumerate() {
            if worker == own {
                self.watch.add(Tap { wanted, lines });
            } else {
                let job = Job::Watch { wanted, lines };
                self.mailbox.send_request(worker, RemoteRequest { slot, job });
            }
        }
        self.awaited += workers - 1;
        Some(match workers as u8 - 1 {
            0 => Submitted::Done(Outcome::Flushed),
            others => Submitted::Waiting(others),
        })
    }

    /// What follows from watchers in this turn: every request is looked at, and watchers among this
    /// worker's connections that have something to read are visited.
    #[cold]
    fn attend_watchers(&mut self, sampler: &mut Sampler, now: Now) {
        if self.watch.wanted().is_of_requests() {
            sampler.watch(true, now);
        }
        self.watch.keep_time(now);
        self.tell_evicted();
        self.visits.extend(self.watch.unread());
    }

    /// Tells what was evicted since the last turn; it is only noted while somebody wants to see it.
    fn tell_evicted(&mut self) {
        let watch = &mut self.watch;
        self.orchestrator.note_evicted(watch.wanted().has(Kind::Evictions));
        let untold = self.orchestrator.take_evicted(&mut |item| watch.tell_evicted(&item));
        watch.count_untold(untold);
    }

    /// Why a connection ends, as watchers are told.
    pub(super) fn reason(&self, connection: &Connection, is_reset: bool) -> &'static str {
        connection.reason(self.idle_us(), is_reset, self.shared.clock.read())
    }

    /// Whether a watcher of this worker can be passed lines.
    pub(super) fn has_news(&self) -> bool {
        self.has_errands && self.watch.unread().next().is_some()
    }

    /// How long this worker may sleep for its watchers' sake, in microseconds.
    pub(super) fn watch_wait_us(&self) -> u64 {
        if self.watch.has_readers() { WATCH_WAIT_US } else { u64::MAX }
    }
}
