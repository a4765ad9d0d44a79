//! The disk of a server whose tier is on an SSD: opened and locked before any worker starts, a part
//! of it for each. It must never let a worker touch a disk that was made for others.
//!
//! What the first part says of how the log was made holds for all: its geometry is compared before
//! there is a worker, and its key decides which worker owns which item, in every run the same.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Fault, Part, ServeError};
use crate::base::clock::Clock;
use crate::base::limits::{
    ITEM_BYTES_MAX_DEFAULT, SSD_BLOCK_BYTES, SSD_FILLS_LEFT_WARN, SSD_SEGMENT_BYTES,
};
use crate::base::readiness::Readiness;
use crate::base::secret;
use crate::base::stats::{Counter, WorkerStats};
use crate::config::{self, Config, L1, L2, Poll, counted, readable_size};
use crate::remedies;
use crate::report::{self, Event};
use crate::tier::ssd::disk::open::{
    LOOK_BYTES_MIN, OpenRequest, Opened, open, open_to_look, try_open,
};
use crate::tier::ssd::disk::ring::{Completions, Mode, RingDisk};
use crate::tier::ssd::disk::{self, Pool};
use crate::tier::ssd::{
    Geometry, Made, Marks, OpenError, Options, SEGMENTS_MIN, Ssd, index_bytes, look,
    record_room_bytes,
};

/// The disk of all workers.
#[derive(Debug)]
pub(super) struct Source<'c> {
    flag: &'static str,
    told: &'c config::Ssd,
    item_bytes_max: usize,
    opened: Opened,
    workers: usize,
    /// There was a log before.
    is_continued: bool,
    hash_key: [u64; 2],
    ready: Mutex<Ready>,
}

/// What workers that are ready have found.
#[derive(Debug)]
struct Ready {
    clock: Clock,
    parts: usize,
    items: u64,
    items_too_large: u64,
    /// Bytes of all segments.
    room_bytes: u64,
    index_bytes: usize,
    /// Items that found no place in the index.
    items_without_place: u64,
    /// Parts of which everything was given up.
    lost: u64,
    /// Parts that were given up because their disk had taken no writes.
    distrusted: usize,
    /// Parts that were given up because the clock was far ahead.
    far_ahead: usize,
    /// Of the part that can be filled least often.
    fills_left: u32,
}

impl Ready {
    fn new(clock: Clock) -> Ready {
        Ready {
            clock,
            parts: 0,
            items: 0,
            items_too_large: 0,
            room_bytes: 0,
            index_bytes: 0,
            items_without_place: 0,
            lost: 0,
            distrusted: 0,
            far_ahead: 0,
            fills_left: u32::MAX,
        }
    }

    /// What an operator has to know now, a line each.
    fn warnings(&self, is_formatted: bool, item_bytes_max: usize) -> Vec<String> {
        let mut lines = Vec::new();
        if is_formatted {
            let line = "\"format\" has started it afresh, and will at every start: take it out of \
                        the flags";
            lines.push(line.to_owned());
        }
        if self.lost > 0 {
            lines.push(format!(
                "{} of {} parts were damaged beyond repair and start afresh",
                self.lost, self.parts
            ));
        }
        if self.distrusted > 0 {
            lines.push(format!(
                "{} of {} parts took no writes before the last stop: what they held was old, and \
                 they start afresh",
                self.distrusted, self.parts
            ));
        }
        if self.far_ahead > 0 {
            lines.push(format!(
                "{} of {} parts were written when the clock was more than a year ahead: what they \
                 held is discarded, because its expiry times cannot be trusted",
                self.far_ahead, self.parts
            ));
        }
        if self.items_without_place > 0 {
            lines.push(format!(
                "{} more items had no place in the index and are discarded; a smaller object= \
                 makes it larger",
                self.items_without_place
            ));
        }
        if self.items_too_large > 0 {
            lines.push(format!(
                "{} more items are too large for --max-item-size {item_bytes_max}: they miss until \
                 it is raised again",
                self.items_too_large
            ));
        }
        if self.fills_left <= SSD_FILLS_LEFT_WARN {
            let tib = (u64::from(self.fills_left) * SSD_SEGMENT_BYTES as u64) >> 40;
            lines.push(format!(
                "a worker can write {tib} TiB more to it, and nothing then; \"format\" starts \
                 afresh"
            ));
        }
        lines
    }
}

impl<'c> Source<'c> {
    /// Opens the disk that one of the tiers of `config` is on, if any is.
    pub fn open(config: &'c Config, workers: usize) -> Result<Option<Source<'c>>, ServeError> {
        let Some((flag, told)) = told(config) else { return Ok(None) };
        refuse_long_items(config)?;
        let path = told.path.display();
        let clock = Clock::start();
        let request = request(told, workers);
        if !told.format {
            refuse_before_it_grows(&request, flag, open)?;
        }
        let opened = open(&request).map_err(|error| not_opened(flag, &error))?;
        let made = if told.format { None } else { made_all(&opened, workers, flag, &path)? };
        let asked = Asked::new(&request, opened.whole_bytes());
        if let Some(made) = made {
            asked
                .refuse_other(&made.geometry, opened.whole_bytes())
                .map_err(|error| of_log(flag, &path, &error))?;
        }
        tell_of_file(&opened, flag, &path)?;
        if let Some(lack) = lack_of_notes(told) {
            let text = format_args!("{flag}: {path}: {lack}");
            report::tell(Event::Limited.line(text).path(&path));
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
            is_continued: made.is_some(),
            hash_key: made.map_or_else(random, |made| made.hash_key),
            ready: Mutex::new(Ready::new(clock)),
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
        let mut disk = RingDisk::new(self.opened.part(part.worker), pool, &readiness)
            .map_err(|error| fail(&error))?;
        let of_log = |error: OpenError| of_log(self.flag, &path, &error);
        let is_gone = self.is_continued && look(&mut disk).map_err(of_log)?.is_none();
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
            name: format!("{}: {path}: part {}", self.flag, part.worker),
            witness: Arc::new(Marks::new(&self.told.path, self.told.state.as_deref())),
            stats: Arc::clone(part.stats()),
        };
        let now = part.shared.clock.read();
        let ssd = Ssd::open(disk, &options, now).map_err(of_log)?;
        let drops = part.stats().get(Counter::SsdDrops)
            - u64::from(ssd.was_distrusted())
            - u64::from(ssd.was_far_ahead());
        let lost = drops + u64::from(is_gone);
        self.note(&ssd, mode, lost, part.stats());
        Ok(ssd)
    }

    /// Counts a worker that is ready; the last one says what all have found.
    fn note(&self, ssd: &Ssd<RingDisk>, mode: Mode, lost: u64, stats: &WorkerStats) {
        let mut ready = self.ready();
        ready.parts += 1;
        ready.items += ssd.items();
        ready.items_too_large += ssd.items_too_large();
        ready.room_bytes += stats.get(Counter::SsdSizeBytes);
        ready.index_bytes += ssd.index_bytes();
        ready.items_without_place += stats.get(Counter::SsdEvicted);
        ready.lost += lost;
        ready.far_ahead += usize::from(ssd.was_far_ahead());
        ready.distrusted += usize::from(ssd.was_distrusted());
        ready.fills_left = ready.fills_left.min(ssd.fills_left());
        if ready.parts < self.workers {
            return;
        }
        let (flag, path) = (self.flag, self.told.path.display());
        let size_bytes = self.told.size_bytes.unwrap_or_else(|| self.opened.whole_bytes());
        let text = format!(
            "{flag}: {path}: {}, room for {} of items, index {}; {}; {} found in {:.2} s",
            readable_size(size_bytes),
            readable_size(ready.room_bytes),
            readable_size(ready.index_bytes as u64),
            remedies::of_disk(mode),
            counted(ready.items, "item"),
            ready.clock.read().uptime_us as f64 / 1e6
        );
        report::tell(Event::Opened.line(text).path(&path));
        for warning in ready.warnings(self.told.format, self.item_bytes_max) {
            let text = format_args!("{flag}: {path}: {warning}");
            report::tell(Event::Limited.line(text).path(&path));
        }
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().expect("nobody panics with it")
    }
}

/// The SSD that a tier is on, and the flag that names it.
fn told(config: &Config) -> Option<(&'static str, &config::Ssd)> {
    match (&config.l1, &config.l2) {
        (L1::Ssd(told), _) => Some(("--l1", told)),
        (_, L2::Ssd(told)) => Some(("--l2", told)),
        _ => None,
    }
}

/// Whether there is something at the path of the tier on SSD.
pub(super) fn exists(config: &Config) -> bool {
    told(config).is_some_and(|(_, told)| told.path.exists())
}

fn request(told: &config::Ssd, workers: usize) -> OpenRequest<'_> {
    OpenRequest {
        path: &told.path,
        size_bytes: told.size_bytes,
        workers,
        // One more than a log needs, whose start takes a piece of the first.
        segments_min: SEGMENTS_MIN as usize + 1,
    }
}

fn refuse_long_items(config: &Config) -> Result<(), ServeError> {
    let room_bytes = record_room_bytes(SSD_SEGMENT_BYTES);
    if config.item_bytes_max <= room_bytes {
        return Ok(());
    }
    let reason = format!(
        "{} is more than an SSD takes: at most {}",
        readable_size(config.item_bytes_max as u64),
        readable_size(room_bytes as u64)
    );
    Err(ServeError::Tier { flag: "--max-item-size", reason, fault: Fault::Words })
}

/// What is said where no note could be made of a disk that takes no writes.
fn lack_of_notes(told: &config::Ssd) -> Option<String> {
    // A file that is still to be made will be where its folder is.
    let folder = told.path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let place = if told.path.exists() { &told.path } else { folder.unwrap_or(Path::new(".")) };
    let lack = Marks::new(place, told.state.as_deref()).lack()?;
    Some(format!(
        "no other file system can take a note of it should the disk take no writes any more \
         ({lack}): changes would be refused then; state=DIR names a folder on another one"
    ))
}

/// What a look at the disk of a tier finds that a start would only warn of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskLook {
    /// How it would run; None: that cannot be told before its file is made.
    pub mode: Option<Mode>,
    /// Why no note could be made should it take no writes.
    pub lack: Option<String>,
    /// Its file system writes what is written again to another place.
    pub is_copied_on_write: bool,
    /// Memory of the index, of all workers, in bytes.
    pub index_bytes: u64,
    /// Memory of the buffers that the kernel is asked to keep mapped, of all workers, in bytes.
    pub buffer_bytes: u64,
}

/// Finds what a start would refuse of the disk that one of the tiers is on, and changes nothing of
/// it.
pub(super) fn try_disk(config: &Config, workers: usize) -> Result<Option<DiskLook>, ServeError> {
    let Some((flag, told)) = told(config) else { return Ok(None) };
    refuse_long_items(config)?;
    let path = told.path.display();
    let request = request(told, workers);
    if !told.format {
        let opened = |request: &OpenRequest<'_>| open_to_look(request.path);
        refuse_before_it_grows(&request, flag, opened)?;
    }
    let opened = try_open(&request).map_err(|error| not_opened(flag, &error))?;
    let pool = Pool::new(config.item_bytes_max.max(ITEM_BYTES_MAX_DEFAULT))
        .map_err(|error| of_path(flag, &path, format!("no memory for buffers: {error}")))?;
    let mut look = DiskLook {
        lack: lack_of_notes(told),
        buffer_bytes: pool.size_bytes() as u64 * workers as u64,
        ..DiskLook::default()
    };
    let Some(opened) = opened else { return Ok(Some(look)) };
    look.is_copied_on_write = opened.is_copied_on_write();
    let whole_bytes = opened.whole_bytes();
    let asked = Asked::new(&request, whole_bytes);
    let part_bytes = asked.geometry.part_bytes;
    let index_bytes = index_bytes(part_bytes, told.object_bytes);
    let index_bytes =
        index_bytes.map_err(|error| of_log(flag, &path, &OpenError::Memory(error)))?;
    look.index_bytes = (index_bytes * workers) as u64;
    // A file that will be made longer holds nothing.
    let is_whole = part_bytes.checked_mul(workers as u64).is_some_and(|it| it <= whole_bytes);
    let opened = if is_whole { opened.divided(workers, part_bytes) } else { opened };
    if is_whole
        && !told.format
        && let Some(made) = made_all(&opened, workers, flag, &path)?
    {
        asked
            .refuse_other(&made.geometry, whole_bytes)
            .map_err(|error| of_log(flag, &path, &error))?;
    }
    let disk = RingDisk::new(opened.part(0), pool, &Readiness::none())
        .map_err(|error| of_path(flag, &path, error))?;
    look.mode = Some(match config.poll() {
        Poll::Busy => disk.mode(),
        Poll::Adaptive => Mode { completions: Completions::Sleeping, ..disk.mode() },
    });
    Ok(Some(look))
}

/// What a log is to be like.
struct Asked {
    geometry: Geometry,
    size_bytes: u64,
}

impl Asked {
    /// As `request` says of what has `has_bytes`.
    fn new(request: &OpenRequest<'_>, has_bytes: u64) -> Asked {
        let size_bytes = request.size_bytes.unwrap_or(has_bytes);
        let segment_bytes = SSD_SEGMENT_BYTES as u32;
        let (part_bytes, workers) = (part_bytes(size_bytes, request.workers), request.workers);
        let geometry = Geometry { part_bytes, segment_bytes, worker: 0, workers: workers as u32 };
        Asked { geometry, size_bytes }
    }

    /// Refuses a log that differs, or is incomplete: if it were opened, the missing part would be
    /// discarded silently.
    fn refuse_other(&self, found: &Geometry, has_bytes: u64) -> Result<(), OpenError> {
        let log_bytes = found.part_bytes * u64::from(found.workers);
        if log_bytes > has_bytes {
            return Err(OpenError::CutOff { has_bytes, log_bytes });
        }
        if *found == self.geometry {
            return Ok(());
        }
        Err(match OpenError::other(*found, self.geometry) {
            // As the operator knows it: a log has whole segments of what it was given.
            OpenError::Size { log_bytes, .. } => {
                let is_all = part_bytes(has_bytes, found.workers as usize) == found.part_bytes;
                let log_bytes = if is_all { has_bytes } else { log_bytes };
                OpenError::Size { log_bytes, asked_bytes: self.size_bytes }
            }
            error => error,
        })
    }
}

/// The part of each of so many workers: whole segments.
fn part_bytes(size_bytes: u64, workers: usize) -> u64 {
    let segment_bytes = SSD_SEGMENT_BYTES as u64;
    size_bytes / workers as u64 / segment_bytes * segment_bytes
}

/// Takes a file for itself that it will be written to, and tells what is not as it would make one.
fn tell_of_file(opened: &Opened, flag: &'static str, path: &dyn Display) -> Result<(), ServeError> {
    let had_mode = opened
        .make_private()
        .map_err(|error| of_path(flag, path, format!("cannot make it private: {error}")))?;
    if let Some(mode) = had_mode {
        let text = format_args!(
            "{flag}: {path}: others could open it (mode {mode:04o}), and may have read or changed \
             what it holds: its owner alone can now; \"format\" starts afresh"
        );
        report::tell(Event::SsdProblem.line(text).path(path));
    }
    if opened.is_copied_on_write() {
        let text = format_args!(
            "{flag}: {path}: its file system copies what is written again and loses items once it \
             is full: remove the file, and size= makes one that is written in place"
        );
        report::tell(Event::SsdProblem.line(text).path(path));
    }
    Ok(())
}

/// Refuses a file that cannot be continued as asked, before it is extended or called too small: it
/// may not be a log, or be one that was cut off or that its old size will continue.
fn refuse_before_it_grows(
    request: &OpenRequest<'_>,
    flag: &'static str,
    open: impl Fn(&OpenRequest<'_>) -> Result<Opened, disk::open::OpenError>,
) -> Result<(), ServeError> {
    let has_bytes = match std::fs::metadata(request.path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => return Ok(()),
    };
    let wanted_bytes = request.size_bytes.unwrap_or(has_bytes);
    let least_bytes = (request.workers * request.segments_min * SSD_SEGMENT_BYTES) as u64;
    let is_enough = (least_bytes..=has_bytes).contains(&wanted_bytes);
    if is_enough || has_bytes == 0 {
        return Ok(());
    }
    let path = request.path.display();
    if has_bytes < LOOK_BYTES_MIN {
        return Err(of_log(flag, &path, &OpenError::Foreign));
    }
    let as_it_is = OpenRequest { size_bytes: None, workers: 1, segments_min: 0, ..*request };
    let opened = open(&as_it_is).map_err(|error| not_opened(flag, &error))?;
    match made(&opened, 0, flag, &path)? {
        Some(made) => Asked::new(request, has_bytes)
            .refuse_other(&made.geometry, has_bytes)
            .map_err(|error| of_log(flag, &path, &error)),
        None => Ok(()),
    }
}

/// How the log on a disk was made, as its first part says. Where that holds nothing no other part
/// may hold anything: before any of them is written to.
fn made_all(
    opened: &Opened,
    workers: usize,
    flag: &'static str,
    path: &dyn Display,
) -> Result<Option<Made>, ServeError> {
    let first = made(opened, 0, flag, path)?;
    if first.is_none() {
        for worker in 1..workers {
            if made(opened, worker, flag, path)?.is_some() {
                return Err(of_log(flag, path, &OpenError::OtherParts));
            }
        }
    }
    Ok(first)
}

/// How the log on a disk was made, as one of its parts says.
fn made(
    opened: &Opened,
    worker: usize,
    flag: &'static str,
    path: &dyn Display,
) -> Result<Option<Made>, ServeError> {
    let fail = |error: &dyn Display| of_path(flag, path, error);
    let pool = Pool::with_buffers(&[(2 * SSD_BLOCK_BYTES, 4)], (SSD_BLOCK_BYTES, 1))
        .map_err(|error| fail(&error))?;
    let mut disk = RingDisk::new(opened.part(worker), pool, &Readiness::none())
        .map_err(|error| fail(&error))?;
    look(&mut disk).map_err(|error| of_log(flag, path, &error))
}

fn not_opened(flag: &'static str, error: &disk::open::OpenError) -> ServeError {
    let fault = match error {
        error if error.may_pass() => Fault::Passing,
        error if error.is_of_request() => Fault::Words,
        _ => Fault::Host,
    };
    ServeError::Tier { flag, reason: error.to_string(), fault }
}

fn of_log(flag: &'static str, path: &dyn Display, error: &OpenError) -> ServeError {
    let fault = if error.is_of_request() { Fault::Words } else { Fault::Host };
    ServeError::Tier { flag, reason: format!("{path}: {}", remedies::of_log(error)), fault }
}

fn of_path(flag: &'static str, path: &dyn Display, error: impl Display) -> ServeError {
    ServeError::Tier { flag, reason: format!("{path}: {error}"), fault: Fault::Host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_warned_of_what_a_start_gives_up_and_of_nothing_else() {
        let mut ready = Ready::new(Clock::start());
        ready.parts = 2;
        ready.fills_left = 1 << 29;
        assert!(ready.warnings(false, 1 << 20).is_empty());
        assert!(ready.warnings(true, 1 << 20)[0].starts_with("\"format\" has started it afresh"));
        ready.lost = 1;
        ready.distrusted = 2;
        ready.far_ahead = 1;
        ready.items_without_place = 58;
        ready.items_too_large = 3;
        ready.fills_left = 65_536;
        let lines = ready.warnings(false, 1 << 20);
        let words = [
            "1 of 2 parts were damaged beyond repair",
            "2 of 2 parts took no writes before the last stop",
            "1 of 2 parts were written when the clock was more than a year ahead",
            "58 more items had no place in the index",
            "3 more items are too large for --max-item-size 1048576",
            "a worker can write 1 TiB more",
        ];
        assert_eq!(lines.len(), words.len());
        for (line, word) in lines.iter().zip(words) {
            assert!(line.starts_with(word), "{line}");
        }
    }
}
