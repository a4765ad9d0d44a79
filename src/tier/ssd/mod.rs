//! Items on an SSD: a log that a crash does not harm.
//!
//! ```text
//! commands ── lookup ── index: where the records of a key may be, in memory
//!    │           └──── reads ─────────────────────────────┐
//!    └ writer ── open: segments being filled, in memory ──┼── disk
//!                  └─ checkpoint: makes them durable ─────┤
//!      reclaim: gives segments up, a step ahead ──────────┘
//!      scan, recovery, check: what a log holds, at start
//!      doubt, marks: that a disk which took no writes is not believed then
//! ```
//!
//! A worker has one log on its part of the disk for the keys that it owns. Nothing here waits but
//! the futures of [`Ssd`], for reads; writes are gathered in memory and serve reads from there.
//!
//! # Why nothing comes back
//!
//! **Names.** A record is named by its place and by the number of its segment's use; no name is
//! ever given out twice. A record may *kill* another, by name. Whatever takes a record out of the
//! index writes a record that kills it: the item that replaces it, or a tombstone. There is no
//! exception: expired, flushed, damaged and displaced ones too. So the index has exactly the
//! records that are not killed (A).
//!
//! **Order.** Records have sequences without gaps, in the order in which they took effect. After a
//! crash the log ends before the first sequence that is missing (`scan`); what the disk has of
//! later ones does not count, then or ever. So recovery finds the log as it was at one moment, and
//! by (A) an index as it was at that moment, without comparing keys.
//!
//! **Giving up.** Before a segment is given up, what its records killed is killed anew by
//! tombstones, unless that is gone itself; both superblocks know those durable before the header
//! that gives the segment up is written, and that is durable before the segment counts as gone and
//! its records leave the index. So of a record that is on the disk, whoever killed it is too, in
//! whichever order segments go.
//!
//! **Durability.** What a checkpoint made durable is never lost to a crash: at most `flush_ms` of
//! work, and what the disk needs for two more flushes, is. What is younger than what both
//! superblocks say keeps its segment from being given up: recovery finds no gap there.
//!
//! **Failed writes.** One is tried again in its place. If that does not help while others do, the
//! segment ends before the first record that is not whole, which is where the walk of a recovery
//! ends too; what is lost is forgotten, and what it killed is killed anew.
//!
//! **A disk that takes no writes** keeps what it has, whole and old, and nothing on it can ever
//! say so: neither a mark nor the lack of one, since a process that was killed leaves it just
//! like that. So what the disk lacks is bounded while the server runs (`doubt`). When something
//! done is not durable after `flush=` and `SSD_DOUBT_FAILED_US` more (with an I/O that just does
//! not end, `SSD_DOUBT_SILENT_US`; both in `base::limits`), a file on another file system says
//! that this log is not to be believed (`marks`); it goes only when both superblocks
//! know everything, and the next start gives up a log that has one. From then on what is done is
//! as safe as if it were durable. If there is no such place, changes are refused from a second
//! later until the disk works: what it has stays true. So after a kill at any time, with whatever
//! writable or not, nothing comes back that was replaced or deleted longer ago than those bounds.
//! A stop that cannot make all durable leaves the file at once. What another tier only
//! invalidates here (an SSD as L1 before an L2) cannot be refused: there it takes a place for the
//! file.
//!
//! **Time.** The log has its own clock, which is the host's, or ahead of it: superblocks carry it,
//! and it never goes back from one start to the next. So an item stored while the host's clock was
//! ahead lives no longer once that is put right than the time it was stored with, counted from
//! there; only the time that nobody served is not known.
//!
//! **Damage.** Names of what was killed are in the records and in the segment's summary; headers,
//! seals and superblocks are there twice. Where all of something are damaged nobody knows what was
//! killed, and anything older might be what was: then everything goes, and that is counted
//! (`ssd_drops`). A record's head has a checksum of its own, so that damage behind it is one lost
//! item. A damaged head gives everything up only if it was durable, lies in a segment that is not
//! sealed, and a crash comes before the seal. To cut the log off before it would bring back what
//! durable records behind it deleted, and to drop its segment alone what its records killed
//! elsewhere.
//!
//! # What it costs
//!
//! The index has a place of 8 bytes for each object that is expected, at three quarters load: 10.7
//! bytes an object (`Options::object_bytes` on the disk each). With smaller objects it is full
//! before the disk, and the oldest of a bucket go. A segment has 40 bytes, the buffers are in
//! `limits`. Values are copied once from a buffer of the disk into pooled blocks.

mod admission;
mod check;
mod checkpoint;
mod commands;
pub mod disk;
mod doubt;
mod dump;
mod format;
mod identity;
mod index;
mod kills;
mod log;
mod lookup;
mod marks;
mod meta;
mod open;
mod own_clock;
mod queue;
mod reads;
mod reclaim;
mod recovery;
mod retries;
mod scan;
mod segments;
mod sequences;
mod tasks;
mod writer;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::base::buffer::{Body, Chain, Key};
use crate::base::clock::{Clock, Expiry, Now};
use crate::base::latency::Level;
use crate::base::limits::{
    SSD_BLOCK_BYTES, SSD_FLUSH_ALL_US, SSD_NOTE_US, SSD_STOP_PAUSE_US, SSD_STOP_SILENT_US,
    SSD_STOP_US,
};
use crate::base::spent;
use crate::base::stats::Counter;
use crate::tier::{Action, Arithmetic, Meta, MetaFlags, MetaVerb, Outcome, Store, StoreMode, Tier};
pub use admission::Admit;
pub use check::check;
use checkpoint::Ticket;
use disk::{Buffer, Disk, DiskError};
pub use format::Geometry;
use log::Log;
use lookup::{Item, Look, Others, Verified};
#[cfg(feature = "internals")]
pub use marks::Nowhere;
pub use marks::{Marks, Witness};
use recovery::GivenUp;
pub use recovery::{OpenError, Options, SEGMENTS_MIN};

const _: () = assert!(format::SUPERBLOCKS * SSD_BLOCK_BYTES == disk::open::LOOK_BYTES_MIN as usize);

/// How often a key is looked for that is being moved, or shares its tag with others.
const LOOKS_MAX: usize = 8;

/// With fewer items than this the index is in the core's own caches.
const FAR_ITEMS_MIN: u64 = 16 * 1024;

/// Memory of the index of a part of so many bytes, if the kernel would give it, in bytes.
///
/// # Errors
/// The kernel's.
pub fn index_bytes(part_bytes: u64, object_bytes: u64) -> std::io::Result<usize> {
    // The number of blocks counts only once something is in it.
    Ok(index::Index::new(objects(part_bytes, object_bytes), 1)?.bytes())
}

/// For how many objects there is an index.
fn objects(part_bytes: u64, object_bytes: u64) -> u64 {
    part_bytes / object_bytes.max(1)
}

/// Length of the longest record that a segment has room for, header and key counted, in bytes.
pub const fn record_room_bytes(segment_bytes: usize) -> usize {
    segment_bytes - (format::HEADER_BLOCKS + format::SEAL_BLOCKS + 1) * SSD_BLOCK_BYTES
}

/// What a log was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// What must not change.
    pub geometry: Geometry,
    /// The key of the hash of keys; the same in all parts that were made together.
    pub hash_key: [u64; 2],
}

/// Looks at how the log of a part was made. None: there never was one. Waits for the disk, and
/// reads nothing but the start.
///
/// # Errors
/// As [`Ssd::open`], but for the geometry.
pub fn look(disk: &mut impl Disk) -> Result<Option<Made>, OpenError> {
    let found = recovery::superblock(&mut scan::Waited::new(disk))?;
    Ok(found.map(|found| Made { geometry: found.geometry, hash_key: found.hash_key }))
}

/// The items of one worker, on its part of a disk.
pub struct Ssd<D> {
    log: RefCell<Log<D>>,
    given_up: Option<GivenUp>,
}

impl<D> fmt::Debug for Ssd<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ssd({} items)", self.log.borrow().index.len())
    }
}

/// A read that somebody waits for.
struct Reading<'a, D: Disk> {
    log: &'a RefCell<Log<D>>,
    slot: Option<u32>,
}

impl<D: Disk> Future for Reading<'_, D> {
    type Output = Result<Buffer, DiskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(slot) = self.slot else { unreachable!("not polled after it is done") };
        let log = &mut *self.log.borrow_mut();
        let polled = log.queue.reads_mut().poll(slot, context.waker());
        match polled.is_ready() {
            true => self.slot = None,
            false => spent::awaits(log.level),
        }
        polled
    }
}

impl<D: Disk> Drop for Reading<'_, D> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.log.borrow_mut().queue.reads_mut().abandon(slot);
        }
    }
}

/// A flush_all that somebody waits for until no start brings back what it flushed.
struct Noting<'a, D: Disk> {
    log: &'a RefCell<Log<D>>,
    ticket: Ticket,
    end_us: u64,
}

impl<D: Disk> Future for Noting<'_, D> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let log = self.log;
        let log = &mut *log.borrow_mut();
        // A log that the next start gives up comes back no more than one that was flushed.
        if log.doubt.is_noted() {
            return Poll::Ready(true);
        }
        if log.clock.now().uptime_us >= self.end_us {
            return Poll::Ready(false);
        }
        loop {
            match log.checkpoint.poll(self.ticket, context.waker()) {
                Some(true) => return Poll::Ready(true),
                Some(false) => self.ticket = log.checkpoint.ticket(),
                None => {
                    spent::awaits(log.level);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// What was found where a read may have been needed.
enum Existing {
    Item(Item),
    Nothing,
    /// The disk cannot say.
    Unreadable,
    Throttled,
}

impl<D: Disk> Ssd<D> {
    /// Opens the log on `disk`, or starts one where there never was any. Waits for the disk: before
    /// serving, not on a worker that serves.
    ///
    /// # Errors
    /// See `OpenError`.
    pub fn open(disk: D, options: &Options, now: Now) -> Result<Ssd<D>, OpenError> {
        let (log, given_up) = recovery::open(disk, options, now)?;
        Ok(Ssd { log: RefCell::new(log), given_up })
    }

    /// Length of the longest record, header and key counted, in bytes: items beyond it are too
    /// large whatever `Options::item_bytes_max` says.
    pub fn record_bytes_max(&self) -> usize {
        self.log.borrow().record_bytes_max()
    }

    /// Items in the index that can be read.
    pub fn items(&self) -> u64 {
        let index = &self.log.borrow().index;
        index.len() - index.large()
    }

    /// Items in the index that cannot, because they were stored when items could be larger. Whoever
    /// asks for one misses it; it is there again when they can be as large again.
    pub fn items_too_large(&self) -> u64 {
        self.log.borrow().index.large()
    }

    /// The log's own name, and how often it was started, this time included: what was kept beside
    /// it is of use only if it was used in all of the starts since.
    pub fn name_and_starts(&self) -> ([u8; 16], u32) {
        let identity = &self.log.borrow().identity;
        (identity.log, identity.starts)
    }

    /// Whether the log that was there before was given up, because it was noted that its disk had
    /// taken no writes.
    pub fn was_distrusted(&self) -> bool {
        self.given_up == Some(GivenUp::Distrusted)
    }

    /// Whether the log that was there before was given up, because the clock was so far ahead then
    /// that nobody can say how long its items may still live.
    pub fn was_far_ahead(&self) -> bool {
        self.given_up == Some(GivenUp::FarAhead)
    }

    /// Segments that can be filled before the log has no names for records any more.
    pub fn fills_left(&self) -> u32 {
        self.log.borrow().segments.fills_left()
    }

    /// Bytes of the index.
    pub fn index_bytes(&self) -> usize {
        self.log.borrow().index.bytes()
    }

    /// The disk, given back; what was not durable yet is lost, as in a crash.
    pub fn into_disk(self) -> D {
        self.log.into_inner().queue.into_disk()
    }

    /// Ends every segment and makes everything durable, for a clean stop: the next start has no
    /// records to walk. Waits for the disk, at most until `is_over`. Returns whether all is
    /// durable; if not, it is as after a crash.
    pub fn stop(&self, mut now: impl FnMut() -> Now, mut is_over: impl FnMut() -> bool) -> bool {
        let mut ticket = None;
        self.log.borrow_mut().reclaim.stop();
        while !is_over() {
            let now = now();
            self.turn(now);
            let log = &mut *self.log.borrow_mut();
            // Not before: each tombstone would take a segment of its own.
            if !log.is_killing() {
                log.writer.end_all();
            }
            log.work(now);
            // A disk that was given up already is not waited for.
            if log.doubt.is_hopeless() {
                return false;
            }
            if !log.writer.opens().is_empty() || log.is_killing() {
                continue;
            }
            let ticket = *ticket.get_or_insert_with(|| log.checkpoint.ticket());
            if let Some(is_ok) = log.checkpoint.poll(ticket, std::task::Waker::noop()) {
                return is_ok;
            }
        }
        false
    }

    async fn find(&self, key: &[u8], hash: u64) -> Existing {
        let mut others = Others::new();
        for _ in 0..LOOKS_MAX {
            let (read, reading) = {
                let log = &mut *self.log.borrow_mut();
                let read = match log.look(key, hash, &mut others) {
                    Look::Nothing => return Existing::Nothing,
                    Look::Item(item) => return Existing::Item(item),
                    Look::Read(read) => read,
                };
                let Some(slot) = log.queue.reads_mut().begin(read.offset_bytes, read.len_bytes)
                else {
                    log.count(Counter::SsdThrottled, 1);
                    return Existing::Throttled;
                };
                log.count(Counter::SsdReads, 1);
                (read, Reading { log: &self.log, slot: Some(slot) })
            };
            let result = reading.await;
            let verified = self.log.borrow_mut().verify(key, hash, &read, result, &mut others);
            match verified {
                Verified::Item(item) => return Existing::Item(item),
                Verified::Lost => return Existing::Nothing,
                Verified::Unreadable => return Existing::Unreadable,
                Verified::LookAgain => {}
            }
        }
        Existing::Nothing
    }

    async fn run(&self, key: &[u8], action: Action, value: Body<'_>, now: Now) -> Outcome<Chain> {
        let hash = {
            let log = &mut *self.log.borrow_mut();
            log.see(now);
            log.hash(key)
        };
        let old = if asks_first(action) {
            match self.find(key, hash).await {
                Existing::Item(item) => Some(item),
                Existing::Nothing => None,
                Existing::Throttled => return Outcome::Throttled,
                Existing::Unreadable => {
                    // It may be readable later, and must be gone then.
                    if is_delete(action) {
                        self.log.borrow_mut().forget_all(hash);
                    }
                    None
                }
            }
        } else {
            None
        };
        let log = &mut *self.log.borrow_mut();
        let now = log.clock.now();
        log.act(key, hash, action, value, old, now)
    }
}

/// Whether an action needs to know what there is.
fn asks_first(action: Action) -> bool {
    match action {
        Action::StoreTooLarge
        | Action::StoreNoRoom
        | Action::Store(Store { mode: StoreMode::Set, cas: 0, .. }) => false,
        Action::Meta(meta) => {
            let is_set = matches!(meta.verb, MetaVerb::Store(StoreMode::Set));
            !is_set || meta.has(MetaFlags::CAS)
        }
        _ => true,
    }
}

/// Whether there must be no item afterwards whose state was not known before.
fn is_delete(action: Action) -> bool {
    matches!(action, Action::Delete { .. } | Action::Meta(Meta { verb: MetaVerb::Delete, .. }))
}

impl<D: Disk> Tier for Ssd<D> {
    type Value = Chain;

    fn try_now(
        &self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Option<Outcome<Chain>> {
        if matches!(action, Action::FlushAll { .. } | Action::Dump { .. }) {
            return None;
        }
        let log = &mut *self.log.borrow_mut();
        log.see(now);
        let hash = log.hash(key);
        let old = if asks_first(action) {
            match log.look(key, hash, &mut Others::new()) {
                Look::Nothing => None,
                Look::Item(item) => Some(item),
                Look::Read(_) => return None,
            }
        } else {
            None
        };
        let now = log.clock.now();
        Some(log.act(key, hash, action, value, old, now))
    }

    async fn get(&self, key: &Key, now: Now) -> Outcome<Chain> {
        self.run(key.as_bytes(), Action::Get, Body::EMPTY, now).await
    }

    async fn get_and_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        self.run(key.as_bytes(), Action::GetAndTouch { expiry }, Body::EMPTY, now).await
    }

    async fn store(&self, key: &Key, store: Store, value: &Chain, now: Now) -> Outcome<Chain> {
        self.run(key.as_bytes(), Action::Store(store), Body::Chain(value), now).await
    }

    async fn delete(&self, key: &Key, cas: u64, now: Now) -> Outcome<Chain> {
        self.run(key.as_bytes(), Action::Delete { cas }, Body::EMPTY, now).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        self.run(key.as_bytes(), Action::Touch { expiry }, Body::EMPTY, now).await
    }

    async fn arithmetic(&self, key: &Key, arithmetic: Arithmetic, now: Now) -> Outcome<Chain> {
        self.run(key.as_bytes(), Action::Arithmetic(arithmetic), Body::EMPTY, now).await
    }

    async fn meta(&self, key: &Key, meta: Meta, value: &Chain, now: Now) -> Outcome<Chain> {
        self.run(key.as_bytes(), Action::Meta(meta), Body::Chain(value), now).await
    }

    /// As [`Tier::flush_all`]; the answer comes once a crash cannot undo it, or with a failure if
    /// that takes too long: then a later start may bring back what is gone now.
    async fn flush_all(&self, at: Expiry, now: Now) -> Outcome<Chain> {
        let (ticket, end_us) = {
            let log = &mut *self.log.borrow_mut();
            log.see(now);
            if log.doubt.is_refusing() {
                return Outcome::Failed;
            }
            let (at, now) = (log.clock.own_expiry(at), log.clock.now());
            log.flush_all(at, now);
            (log.checkpoint.ticket(), log.clock.now().uptime_us + SSD_FLUSH_ALL_US)
        };
        let is_durable = Noting { log: &self.log, ticket, end_us }.await;
        if is_durable { Outcome::Flushed } else { Outcome::Failed }
    }

    async fn dump(&self, from: u64, now: Now) -> Outcome<Chain> {
        self.dump_piece(from, now).await
    }

    fn is_far(&self) -> bool {
        self.log.borrow().index.len() >= FAR_ITEMS_MIN
    }

    fn prefetch(&self, key: &[u8]) -> u64 {
        let log = self.log.borrow();
        log.index.prefetch(log.hash(key));
        0
    }

    async fn invalidate(&self, key: &Key, now: Now) {
        let log = &mut *self.log.borrow_mut();
        log.see(now);
        let hash = log.hash(key.as_bytes());
        log.forget_all(hash);
    }

    fn turn(&self, now: Now) -> usize {
        self.log.borrow_mut().turn(now)
    }

    fn flush(&self, now: Now) {
        let log = &mut *self.log.borrow_mut();
        let now = log.clock.at(now);
        log.drain_kills(now);
        log.work(now);
        log.queue.hand_over();
    }

    fn wake_at_us(&self) -> u64 {
        self.log.borrow().wake_at_us()
    }

    fn stand_alone(&self) {
        self.log.borrow_mut().level = Level::L1;
    }

    fn finish(&self, clock: &Clock) -> bool {
        let end_us = clock.read().uptime_us + SSD_STOP_US;
        let (mut moved, mut silent_us) = (u64::MAX, 0);
        let is_over = || {
            let now_us = clock.read().uptime_us;
            let moved_now = self.log.borrow().moved();
            if moved != moved_now {
                (moved, silent_us) = (moved_now, now_us + SSD_STOP_SILENT_US);
            }
            now_us > end_us.min(silent_us)
        };
        let look = || {
            // A disk that has just done something has the next thing to do at once.
            if !self.log.borrow().queue.has_stepped() {
                std::thread::sleep(std::time::Duration::from_micros(SSD_STOP_PAUSE_US));
            }
            clock.read()
        };
        let is_closed = self.stop(look, is_over);
        self.log.borrow_mut().close(is_closed);
        let end_us = clock.read().uptime_us + SSD_NOTE_US;
        while !self.log.borrow().doubt.is_close_noted() && clock.read().uptime_us < end_us {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if !is_closed {
            self.log.borrow().doubt.tell_unclosed();
        }
        is_closed
    }
}
