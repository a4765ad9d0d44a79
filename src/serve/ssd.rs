//! The disk of a server whose tier is on an SSD: opened and locked before any worker starts, a part
//! of it for each. It must never let a worker touch a disk that was made for others.
//!
//! What the first part says of how the log was made holds for all: its geometry is compared before
//! there is a worker, and its key decides which worker owns which item, in every run the same.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Part, ServeError};
use crate::clock::Clock;
use crate::config::{self, Config, L1, L2, Poll};
use crate::console::complain;
use crate::limits::{ITEM_BYTES_MAX_DEFAULT, SSD_BLOCK_BYTES, SSD_SEGMENT_BYTES};
use crate::readiness::Readiness;
use crate::secret;
use crate::tier::ssd::disk::Pool;
use crate::tier::ssd::disk::open::{Opened, Request, open};
use crate::tier::ssd::disk::ring::{Mode, RingDisk};
use crate::tier::ssd::{
    Geometry, Made, OpenError, Options, SEGMENTS_MIN, Ssd, look, record_room_bytes,
};

/// The disk of all workers.
pub(super) struct Source<'c> {
    flag: &'static str,
    told: &'c config::Ssd,
    item_bytes_max: usize,
    opened: Opened,
    workers: usize,
    hash_key: [u64; 2],
    ready: Mutex<Ready>,
}

/// What workers that are ready have found.
struct Ready {
    clock: Clock,
    parts: usize,
    items: u64,
    index_bytes: usize,
}

impl<'c> Source<'c> {
    /// Opens the disk that one of the tiers of `config` is on, if any is.
    pub fn open(config: &'c Config, workers: usize) -> Result<Option<Source<'c>>, ServeError> {
        let (flag, told) = match (&config.l1, &config.l2) {
            (L1::Ssd(told), _) => ("--l1", told),
            (_, L2::Ssd(told)) => ("--l2", told),
            _ => return Ok(None),
        };
        let room_bytes = record_room_bytes(SSD_SEGMENT_BYTES);
        if config.item_bytes_max > room_bytes {
            let reason = format!(
                "{} bytes are more than an SSD takes: up to {room_bytes}",
                config.item_bytes_max
            );
            return Err(ServeError::Tier { flag: "--max-item-size", reason });
        }
        let path = told.path.display();
        let clock = Clock::start();
        let request = Request {
            path: &told.path,
            size_bytes: told.size_bytes,
            workers,
            // One more than a log needs, whose start takes a piece of the first.
            segments_min: SEGMENTS_MIN as usize + 1,
        };
        if !told.format {
            refuse_before_it_grows(&request, flag)?;
        }
        let opened = open(&request).map_err(|error| wrong(flag, error))?;
        let made = if told.format { None } else { made(&opened, flag, &path)? };
        let asked = asked(opened.part(0).size_bytes(), workers);
        if let Some(Made { geometry: found, .. }) = made
            && found != asked
        {
            return Err(of_path(flag, &path, OpenError::Geometry { found, asked }));
        }
        let random = || {
            let half = || u64::from_ne_bytes(secret::random());
            [half(), half()]
        };
        Ok(Some(Source {
            flag,
            told,
            item_bytes_max: config.item_bytes_max,
            opened,
            workers,
            hash_key: made.map_or_else(random, |made| made.hash_key),
            ready: Mutex::new(Ready { clock, parts: 0, items: 0, index_bytes: 0 }),
        }))
    }

    /// What decides which worker owns a key.
    pub fn key_seed(&self) -> u64 {
        self.hash_key[0].rotate_left(32) ^ self.hash_key[1]
    }

    /// The tier of one worker. Called on its own thread, to which the ring belongs.
    pub fn tier(&self, part: &Part<'_>) -> Result<Ssd<RingDisk>, ServeError> {
        let path = self.told.path.display();
        let fail = |error: &dyn Display| of_path(self.flag, &path, error);
        let readiness = match part.config.poll() {
            Poll::Busy => Readiness::none(),
            Poll::Adaptive => part.readiness.try_clone().map_err(ServeError::Host)?,
        };
        let pool = Pool::new(self.item_bytes_max.max(ITEM_BYTES_MAX_DEFAULT))
            .map_err(|error| fail(&format!("no memory for buffers: {error}")))?;
        let disk = RingDisk::new(self.opened.part(part.worker), pool, &readiness)
            .map_err(|error| fail(&error))?;
        let mode = disk.mode();
        let options = Options {
            worker: part.worker,
            workers: self.workers,
            segment_bytes: SSD_SEGMENT_BYTES,
            item_bytes_max: self.item_bytes_max,
            object_bytes: self.told.object_bytes,
            flush_ms: self.told.flush_ms,
            admit: self.told.admit,
            format: self.told.format,
            hash_key: Some(self.hash_key),
            stats: Arc::clone(part.stats()),
        };
        let now = part.shared.clock.read();
        let ssd = Ssd::open(disk, &options, now).map_err(|error| fail(&error))?;
        self.note(&ssd, mode);
        Ok(ssd)
    }

    /// Counts a worker that is ready; the last one says what all have found.
    fn note(&self, ssd: &Ssd<RingDisk>, mode: Mode) {
        let mut ready = self.ready();
        ready.parts += 1;
        ready.items += ssd.items();
        ready.index_bytes += ssd.index_bytes();
        if ready.parts == self.workers {
            let Ready { items, index_bytes, clock, .. } = *ready;
            complain(format_args!(
                "sunder: {}: {}: {} MiB, index {} MiB; {mode}; {items} items found in {:.2} s",
                self.flag,
                self.told.path.display(),
                self.opened.size_bytes() >> 20,
                index_bytes >> 20,
                clock.read().uptime_us as f64 / 1e6
            ));
        }
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().expect("nobody panics with it")
    }
}

fn asked(part_bytes: u64, workers: usize) -> Geometry {
    let segment_bytes = SSD_SEGMENT_BYTES as u32;
    Geometry { part_bytes, segment_bytes, worker: 0, workers: workers as u32 }
}

/// Refuses a file that is not to be continued as asked before it is made longer: it may be somebody
/// else's, or a log that the size it had will continue.
fn refuse_before_it_grows(request: &Request<'_>, flag: &'static str) -> Result<(), ServeError> {
    let has_bytes = match std::fs::metadata(request.path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => return Ok(()),
    };
    let Some(wants_bytes) = request.size_bytes.filter(|bytes| *bytes > has_bytes) else {
        return Ok(());
    };
    if has_bytes == 0 {
        return Ok(());
    }
    let path = request.path.display();
    let segment_bytes = SSD_SEGMENT_BYTES as u64;
    if has_bytes < segment_bytes {
        return Err(of_path(flag, &path, OpenError::Foreign));
    }
    let as_it_is = Request { size_bytes: None, workers: 1, segments_min: 1, ..*request };
    let opened = open(&as_it_is).map_err(|error| wrong(flag, error))?;
    let part_bytes = wants_bytes / request.workers as u64 / segment_bytes * segment_bytes;
    let asked = asked(part_bytes, request.workers);
    match made(&opened, flag, &path)? {
        Some(Made { geometry: found, .. }) if found != asked => {
            Err(of_path(flag, &path, OpenError::Geometry { found, asked }))
        }
        _ => Ok(()),
    }
}

/// How the log on a disk was made, as its first part says.
fn made(
    opened: &Opened,
    flag: &'static str,
    path: &dyn Display,
) -> Result<Option<Made>, ServeError> {
    let fail = |error: &dyn Display| of_path(flag, path, error);
    let pool = Pool::with_buffers(&[(2 * SSD_BLOCK_BYTES, 4)], (SSD_BLOCK_BYTES, 1))
        .map_err(|error| fail(&error))?;
    let mut disk =
        RingDisk::new(opened.part(0), pool, &Readiness::none()).map_err(|error| fail(&error))?;
    look(&mut disk).map_err(|error| fail(&error))
}

fn wrong(flag: &'static str, reason: impl Display) -> ServeError {
    ServeError::Tier { flag, reason: reason.to_string() }
}

fn of_path(flag: &'static str, path: &dyn Display, error: impl Display) -> ServeError {
    wrong(flag, format!("{path}: {error}"))
}
