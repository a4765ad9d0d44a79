//! The files of a first tier in memory that outlives the process: one for each worker, all of the
//! same making. It must never let a worker start with a file of another set, or with one that an L2
//! has gone on without.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{Fault, Part, ServeError};
use crate::base::clock::Clock;
use crate::base::limits::WORKERS_MAX;
use crate::base::random::mix;
use crate::base::secret;
use crate::config::{Config, L1, L2, MemoryFile, counted, readable_size};
use crate::remedies::{self, StoreWords};
use crate::report::{self, Event};
use crate::tier::memory::{Memory, MemoryConfig};
use crate::tier::segments::{
    self, Beginning, Companion, Emptied, Opening, SegmentStoreConfig, StartError, StoreFile,
};

/// The files of all workers.
#[derive(Debug)]
pub(super) struct Files<'c> {
    told: &'c MemoryFile,
    words: StoreWords,
    bytes: u64,
    workers: usize,
    key_seed: u64,
    clock: Clock,
    state: Mutex<State>,
}

/// What the workers have found so far.
#[derive(Debug, Default)]
struct State {
    openings: Vec<Opening>,
    /// Files that this start has made.
    made: Vec<PathBuf>,
    /// A worker could not start.
    has_failed: bool,
}

impl State {
    /// Removes what a start has made that failed: it would keep its memory, and refuse the smaller
    /// size that the next one is made with.
    fn clear(&mut self) {
        if self.has_failed {
            self.made.drain(..).for_each(|path| drop(std::fs::remove_file(path)));
        }
    }
}

impl<'c> Files<'c> {
    /// The files that the first tier of `config` is in, if it is in any. `key_seed`: what decides
    /// which worker owns a key, if another tier says it.
    ///
    /// # Errors
    /// If what is there was made for another number of workers, or cannot be looked at.
    pub fn open(
        config: &'c Config,
        workers: usize,
        key_seed: Option<u64>,
    ) -> Result<Option<Files<'c>>, ServeError> {
        let L1::Memory { bytes, file: Some(told) } = &config.l1 else { return Ok(None) };
        let words = match config.attach {
            Some(_) => StoreWords::OF_L1D,
            None => StoreWords::OF_SERVE,
        };
        let failed = |path: &Path, error: &StartError| failed(path, error, *bytes, workers, words);
        refuse_l2(config, told, words)?;
        let mut found = None;
        for worker in 0..WORKERS_MAX {
            let path = path_of(&told.path, worker);
            let io = StartError::reading;
            let Some(made) = segments::made(&path).map_err(|error| failed(&path, &io(error)))?
            else {
                continue;
            };
            if told.format {
                if worker >= workers {
                    // It would keep its memory, and nobody would use it.
                    std::fs::remove_file(&path).map_err(|error| failed(&path, &io(error)))?;
                }
                continue;
            }
            if made.workers as usize != workers {
                let (found, wanted) = (made.workers, workers as u32);
                let error = StartError::Workers { found, wanted };
                return Err(failed(&path, &error));
            }
            found = Some(made.key_seed);
        }
        let random = || u64::from_ne_bytes(secret::random());
        Ok(Some(Files {
            told,
            words,
            bytes: *bytes,
            workers,
            key_seed: key_seed.or(found).unwrap_or_else(random),
            clock: Clock::start(),
            state: Mutex::default(),
        }))
    }

    /// Finds what a start would refuse of the files. It makes and changes nothing. `is_beside`: the
    /// process that uses them will have ended by then.
    ///
    /// # Errors
    /// As [`Files::open`], and those of each worker's file.
    pub fn try_open(config: &Config, workers: usize, is_beside: bool) -> Result<(), ServeError> {
        let L1::Memory { bytes, file: Some(told) } = &config.l1 else { return Ok(()) };
        let words = StoreWords::OF_SERVE;
        refuse_l2(config, told, words)?;
        if !told.format {
            // It only looks then.
            Files::open(config, workers, None)?;
        }
        let share = (bytes / workers as u64) as usize;
        let mut missing_bytes = 0;
        for worker in 0..workers {
            let path = path_of(&told.path, worker);
            let failed = |error: &StartError| failed(&path, error, *bytes, workers, words);
            let file = StoreFile {
                path: &path,
                is_huge: told.is_huge,
                is_afresh: told.format,
                key_seed: 0,
            };
            let store = SegmentStoreConfig { bytes: share, worker, workers };
            let needed = match segments::try_open(store, &file) {
                Err(StartError::InUse) if is_beside => continue,
                needed => needed.map_err(|error| failed(&error))?,
            };
            missing_bytes += needed.missing_bytes;
            if needed.free_bytes.is_some_and(|free| free < missing_bytes) {
                let error = StartError::NoSpace { bytes: share, room: needed.room };
                return Err(failed(&error));
            }
        }
        Ok(())
    }

    /// What decides which worker owns a key.
    pub fn key_seed(&self) -> u64 {
        self.key_seed
    }

    /// Identifies what is in the files to clients: the number is another one only if they began
    /// empty.
    pub fn generation(&self) -> u64 {
        // Not the seed itself: who has it can choose keys of one worker.
        mix(mix(self.key_seed))
    }

    /// The tier of one worker. `log`: name and number of starts of the log that is its L2.
    pub fn memory(
        &self,
        part: &Part<'_>,
        config: MemoryConfig,
        log: Option<([u8; 16], u32)>,
    ) -> Result<Memory, ServeError> {
        let path = path_of(&self.told.path, part.worker);
        let file = StoreFile {
            path: &path,
            is_huge: self.told.is_huge,
            is_afresh: self.told.format,
            key_seed: self.key_seed,
        };
        let companion = log.map(|(log, starts)| Companion { log, run: u64::from(starts) });
        let now = part.shared.clock.read();
        let started = Memory::start(config, &file, companion, now);
        let (memory, opening) = started.map_err(|error| {
            let error = failed(&path, &error, self.bytes, self.workers, self.words);
            if !error.may_pass() {
                let mut state = self.state.lock().expect("nobody panics with it");
                state.has_failed = true;
                state.clear();
            }
            error
        })?;
        self.note(path, opening);
        Ok(memory)
    }

    /// Counts a worker that is ready; the last one says what all have found.
    fn note(&self, path: PathBuf, opening: Opening) {
        let mut state = self.state.lock().expect("nobody panics with it");
        state.openings.push(opening);
        if matches!(opening.beginning, Beginning::New | Beginning::Emptied(Emptied::Asked)) {
            state.made.push(path);
            state.clear();
        }
        if state.openings.len() < self.workers {
            return;
        }
        let path = self.told.path.display();
        let ms = self.clock.read().uptime_us / 1_000;
        let StoreWords { flag, format, .. } = self.words;
        let line = line(&state.openings, ms, self.bytes);
        let text = format_args!("{flag}: {path}: {line}");
        report::tell(Event::Opened.line(text).path(&path));
        if self.told.format {
            let text = format_args!(
                "{flag}: {path}: {format} has started it afresh, and will at every start: take it \
                 out of the flags"
            );
            report::tell(Event::Limited.line(text).path(&path));
        }
    }
}

/// Refuses an L2 whose items may change without those in the files.
fn refuse_l2(config: &Config, told: &MemoryFile, words: StoreWords) -> Result<(), ServeError> {
    if matches!(config.l2, L2::None | L2::Ssd(_)) {
        return Ok(());
    }
    let reason = format!(
        "{}: what another server keeps may change while this one is down: path= goes with --l2 \
         none or --l2 ssd",
        told.path.display()
    );
    Err(ServeError::Tier { flag: words.flag, reason, fault: Fault::Words })
}

/// What all workers have found.
fn line(openings: &[Opening], ms: u64, bytes: u64) -> String {
    let items: usize = openings.iter().map(|opening| opening.items).sum();
    let damaged: u64 = openings.iter().map(|opening| opening.damaged).sum();
    let back_s = openings.iter().map(|opening| opening.back_s).max().unwrap_or(0);
    let has = |beginning| openings.iter().any(|opening| opening.beginning == beginning);
    let emptied = [
        (Emptied::Companion, "the SSD was used without it, and may hold newer items"),
        (Emptied::Rebooted, "the machine restarted before it was stopped"),
        (Emptied::Asked, "as asked for"),
    ];
    let why = emptied.into_iter().find(|&(why, _)| has(Beginning::Emptied(why)));
    if let (0, Some((_, why))) = (items, why) {
        return format!("L1 starts empty: {why}");
    }
    if items == 0 && has(Beginning::New) {
        return format!("L1 is new, {}", readable_size(bytes));
    }
    let how = if has(Beginning::Rebuilt) { ", without a stop before," } else { "" };
    let mut line = format!("L1 recovered {}{how} in {ms} ms", counted(items as u64, "item"));
    if damaged > 0 {
        line += &format!("; damaged and discarded: {}", counted(damaged, "record"));
    }
    if back_s > 0 {
        line += &format!("; the clock was set back by {back_s} s, and all expire that much sooner");
    }
    line
}

/// The file of a worker.
fn path_of(path: &Path, worker: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{worker}"));
    name.into()
}

fn failed(
    path: &Path,
    error: &StartError,
    bytes: u64,
    workers: usize,
    words: StoreWords,
) -> ServeError {
    let reason =
        format!("{}: {}", path.display(), remedies::of_store(error, bytes, workers, words));
    let fault = match error {
        StartError::Workers { .. } | StartError::Size { .. } | StartError::Pages { .. } => {
            Fault::Words
        }
        StartError::InUse | StartError::NoFolder => Fault::Passing,
        _ => Fault::Host,
    };
    ServeError::Tier { flag: words.flag, reason, fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_says_what_all_workers_found() {
        let of = |beginning, items| Opening { beginning, items, damaged: 0, back_s: 0 };
        let clean = of(Beginning::Clean, 4);
        assert_eq!(line(&[clean, clean], 12, 1 << 30), "L1 recovered 8 items in 12 ms");
        let rebuilt = Opening { damaged: 1, back_s: 9, ..of(Beginning::Rebuilt, 1) };
        assert_eq!(
            line(&[clean, rebuilt], 12, 1 << 30),
            "L1 recovered 5 items, without a stop before, in 12 ms; damaged and discarded: 1 \
             record; the clock was set back by 9 s, and all expire that much sooner"
        );
        let new = of(Beginning::New, 0);
        assert_eq!(line(&[new], 1, 1 << 30), "L1 is new, 1 GiB");
        let emptied = of(Beginning::Emptied(Emptied::Companion), 0);
        assert!(line(&[emptied, emptied], 1, 1 << 30).starts_with("L1 starts empty: the SSD "));
    }
}
