//! The items of one worker, and what is counted about them.
//!
//! What a command means is the caller's affair, and where an item lies that of
//! [`crate::tier::segments`].

use std::io;
use std::sync::Arc;

use super::MemoryConfig;
use super::drafts::Drafts;
use crate::base::clock::Now;
use crate::base::limits::{READER_PAUSE_PRESSED_US, READER_PAUSE_US};
use crate::base::stats::{Counter, WorkerStats};
use crate::tier::segments::{
    Companion, FoundRecord, Opening, SegmentCounts, SegmentStore, StartError, StoreFile,
};

/// Items, drafts, and counters.
#[derive(Debug)]
pub struct Store {
    pub segments: SegmentStore,
    pub stats: Arc<WorkerStats>,
    pub item_bytes_max: usize,
    pub drafts: Drafts,
    /// The second in which the gauges were brought up to date.
    pub reported_s: u32,
    /// What of the store's counts is in the statistics.
    counted: SegmentCounts,
    /// Removals that are in the statistics.
    removals: u64,
}

impl Store {
    pub fn new(config: MemoryConfig) -> io::Result<Store> {
        let segments = SegmentStore::new(config.segments())?;
        Ok(Store::of(segments, config))
    }

    /// With what is in a file.
    pub fn start(
        config: MemoryConfig,
        file: &StoreFile<'_>,
        companion: Option<Companion>,
        now: Now,
    ) -> Result<(Store, Opening), StartError> {
        // The run before this one is the last that may have used it.
        let last = companion.map(|it| Companion { run: it.run.saturating_sub(1), ..it });
        let (mut segments, opening) = SegmentStore::start(config.segments(), file, last, now)?;
        segments.set_companion(companion);
        let mut store = Store::of(segments, config);
        store.account();
        Ok((store, opening))
    }

    fn of(segments: SegmentStore, config: MemoryConfig) -> Store {
        let MemoryConfig { item_bytes_max, stats, .. } = config;
        Store {
            drafts: Drafts::new(segments.segments_bytes()),
            segments,
            stats,
            item_bytes_max,
            reported_s: 0,
            counted: SegmentCounts::default(),
            removals: 0,
        }
    }

    /// The live item of `key`.
    #[inline(always)]
    pub fn find(&mut self, key: &[u8], hash: u64, now: Now) -> Option<FoundRecord> {
        let found = self.segments.find(key, hash, now);
        if found.is_none() {
            self.account_removals();
        }
        found
    }

    /// Whether readers lose what they hold after a shorter pause.
    pub fn set_pressed(&mut self, is_pressed: bool) {
        self.segments.reader_pause_us =
            if is_pressed { READER_PAUSE_PRESSED_US } else { READER_PAUSE_US };
    }

    /// An item was stored.
    #[inline]
    pub fn account_stored(&mut self) {
        self.stats.add(Counter::TotalItems, 1);
        self.account();
    }

    /// Brings the statistics up to date that change with each item.
    #[inline]
    pub fn account(&mut self) {
        self.stats.set(Counter::CurrItems, self.segments.items() as u64);
        self.stats.set(Counter::Bytes, self.segments.live_bytes());
        self.account_removals();
    }

    /// Counts what was removed without being asked for.
    #[inline(always)]
    pub fn account_removals(&mut self) {
        if self.segments.counts.removals() != self.removals {
            self.add_removals();
        }
    }

    #[cold]
    #[inline(never)]
    fn add_removals(&mut self) {
        let (was, is) = (self.counted, self.segments.counts);
        let rows = [
            (Counter::Evictions, is.evictions - was.evictions),
            (Counter::EvictedUnfetched, is.evicted_unused - was.evicted_unused),
            (Counter::Reclaimed, is.reclaimed - was.reclaimed),
            (Counter::ExpiredUnfetched, is.reclaimed_unused - was.reclaimed_unused),
            (Counter::GetExpired, is.found_expired - was.found_expired),
            (Counter::GetFlushed, is.found_flushed - was.found_flushed),
        ];
        for (counter, n) in rows.into_iter().filter(|&(_, n)| n > 0) {
            self.stats.add(counter, n);
        }
        self.removals = is.removals();
        self.counted = is;
        self.stats.set(Counter::CurrItems, self.segments.items() as u64);
        self.stats.set(Counter::Bytes, self.segments.live_bytes());
    }
}
