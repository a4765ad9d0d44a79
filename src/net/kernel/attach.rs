//! Attachments: connections over rings in shared memory, which another thread makes and a worker's
//! transport takes over, where they are connections like those over sockets.
//!
//! A client that was attached before and has ended may have left requests in its rings. They must
//! not be executed after those of its next attachment, so a new one is used only after every worker
//! has dropped the attachments that have ended ([`Inbox::ask_to_sweep`]).

use std::sync::Mutex;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::stream::{Endpoint, Phase, Socket};
use super::{Kernel, Live};
use crate::base::clock::Now;
use crate::base::limits::{RING_SOCKETS_US, RING_SPIN_US};
use crate::net::{ConnectionId, Handler};
use crate::report::{Event, Topic};
use crate::tier::shm::End;

/// What other threads have for one worker.
#[derive(Debug, Default)]
pub struct Inbox {
    has_news: AtomicBool,
    /// New attachments, and the listener that they count as.
    ends: Mutex<Vec<(End, usize)>>,
    sweeps_asked: AtomicU64,
    sweeps_done: AtomicU64,
}

impl Inbox {
    /// Passes an attachment to the worker, as a connection of listener number `listener`. The
    /// worker must be woken.
    pub fn push(&self, end: End, listener: usize) {
        self.ends.lock().expect("no thread panics holding it").push((end, listener));
        self.has_news.store(true, Release);
    }

    /// Asks the worker to drop the attachments whose clients have ended; returns the number of this
    /// sweep. The worker must be woken.
    pub fn ask_to_sweep(&self) -> u64 {
        let sweep = self.sweeps_asked.fetch_add(1, Relaxed) + 1;
        self.has_news.store(true, Release);
        sweep
    }

    /// Whether a sweep is done.
    pub fn has_swept(&self, sweep: u64) -> bool {
        self.sweeps_done.load(Acquire) >= sweep
    }
}

/// The connections over rings of one worker.
#[derive(Debug, Default)]
pub(super) struct Attached {
    ids: Vec<ConnectionId>,
    /// When a ring last had something to do.
    busy_us: u64,
    /// When sockets have to be looked at again, however busy the rings are.
    sockets_at_us: u64,
    /// Attachments that ended because their clients broke the rings, and are not reported.
    broken: u32,
}

/// Clients that broke their rings.
static BROKEN: Topic = Topic::new();

impl Attached {
    /// Whether the rings are so busy that a turn goes without a system call for the sockets.
    pub(super) fn postpones_sockets(&mut self, now_us: u64) -> bool {
        let is_busy = !self.ids.is_empty() && self.busy_us == now_us;
        if is_busy && now_us < self.sockets_at_us {
            return true;
        }
        self.sockets_at_us = now_us + RING_SOCKETS_US;
        false
    }

    /// A connection ends.
    pub(super) fn note_end(&mut self, endpoint: &Endpoint) {
        self.broken += u32::from(endpoint.is_broken_ring());
    }

    fn report(&mut self, now: Now) {
        for _ in 0..std::mem::take(&mut self.broken) {
            BROKEN.report(now, || {
                Event::AttachRefused
                    .line(
                        "an attachment was ended: its client wrote impossible indexes to the \
                         shared memory; check which program attaches",
                    )
                    .reason("broken_rings")
            });
        }
    }
}

impl<C> Kernel<C> {
    /// Takes over new attachments, and visits those whose rings have something to do. Returns how
    /// many there were.
    pub(super) fn visit_rings<H: Handler<Connection = C>>(
        &mut self,
        now: Now,
        handler: &mut H,
    ) -> usize {
        let mut done = 0;
        if self.inbox.has_news.load(Relaxed) {
            done += self.take_news(now, handler);
        }
        let mut place = 0;
        while let Some(&id) = self.attached.ids.get(place) {
            let Some(live) = self.live(id) else {
                self.attached.ids.swap_remove(place);
                continue;
            };
            place += 1;
            let (has_input, has_room) = live.endpoint.ring_news();
            if has_input || has_room {
                self.advance(id, has_room, now, handler);
                done += 1;
            }
        }
        if done > 0 {
            self.attached.busy_us = now.uptime_us;
            self.attached.report(now);
        }
        done
    }

    fn take_news<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        self.inbox.has_news.swap(false, Acquire);
        let asked = self.inbox.sweeps_asked.load(Relaxed);
        if asked > self.inbox.sweeps_done.load(Relaxed) {
            for place in 0..self.attached.ids.len() {
                let id = self.attached.ids[place];
                if self.live(id).is_some_and(|live| live.endpoint.is_hung_up_ring()) {
                    self.drop_ring(id, handler);
                }
            }
            self.inbox.sweeps_done.store(asked, Release);
        }
        let ends =
            std::mem::take(&mut *self.inbox.ends.lock().expect("no thread panics holding it"));
        let count = ends.len();
        for (end, listener) in ends {
            if let Some(id) = self.admit(Socket::Rings(Box::new(end)), listener, now, handler) {
                self.attached.ids.push(id);
            }
        }
        count
    }

    /// The client of a ring has ended: nothing that it left there is executed.
    pub(super) fn drop_ring<H: Handler<Connection = C>>(
        &mut self,
        id: ConnectionId,
        handler: &mut H,
    ) {
        if let Some(Live { endpoint, .. }) = self.live(id) {
            endpoint.phase = Phase::Dead;
            self.settle(id, handler);
        }
    }

    /// Announces that this worker is about to sleep. False if it must not: rings have something to
    /// do, or had just now.
    pub(super) fn rings_fall_asleep(&mut self) -> bool {
        if self.inbox.has_news.load(Acquire) {
            return false;
        }
        if self.attached.ids.is_empty() {
            return true;
        }
        if self.now_us < self.attached.busy_us + RING_SPIN_US {
            return false;
        }
        for place in 0..self.attached.ids.len() {
            let id = self.attached.ids[place];
            if self.live(id).is_some_and(|live| !live.endpoint.ring_falls_asleep()) {
                self.rings_rise();
                return false;
            }
        }
        true
    }

    /// Announces that this worker is awake.
    pub(super) fn rings_rise(&mut self) {
        for place in 0..self.attached.ids.len() {
            let id = self.attached.ids[place];
            if let Some(live) = self.live(id) {
                live.endpoint.ring_rises();
            }
        }
    }
}
