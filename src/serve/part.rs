//! What one worker's tiers are made with. Called on the worker's own thread, so that its memory is
//! near its core.

use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::kept::Files;
use super::patience::Patience;
use super::ssd::Source;
use super::{Fault, ServeError, host};
use crate::base::readiness::Readiness;
use crate::base::stats::WorkerStats;
use crate::config::{self, Config, L2, Layout, Memcached, readable_size};
use crate::net::kernel::Inherited;
use crate::report::{self, Event};
use crate::tier::link::{self, OpenError, Role};
use crate::tier::memcached::chunked::{self, Chunked};
use crate::tier::memcached::plain::Plain;
use crate::tier::memory::{self, Memory};
use crate::tier::remote::Remote;
use crate::tier::rend::Rend;
use crate::tier::rend::probe::Server;
use crate::tier::ssd::Ssd;
use crate::tier::ssd::disk::ring::RingDisk;
use crate::worker::Shared;

/// What was opened for all workers before there were any.
#[derive(Debug)]
pub(super) struct Opened<'c> {
    pub patience: Patience,
    /// What a Rend-based L2 was found to be.
    pub rend: Option<Server>,
    /// The SSD that a tier is on.
    pub source: Option<Source<'c>>,
    /// The files of a first tier in memory that outlives the process.
    pub files: Option<Files<'c>>,
    /// Listeners of the process that this one replaces, until they are used.
    pub inherited: Mutex<Inherited>,
    /// A second descriptor of the admin port's listener, for the process that replaces this one.
    pub admin: Option<TcpListener>,
}

/// Which tier is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The first, or the only one.
    L1,
    /// The second.
    L2,
}

/// One worker, of which tiers are made.
#[derive(Debug)]
pub struct Part<'p> {
    pub(super) config: &'p Config,
    pub(super) shared: &'p Shared,
    pub(super) opened: &'p Opened<'p>,
    pub(super) worker: usize,
    pub(super) readiness: Readiness,
}

impl Part<'_> {
    /// Where this worker counts.
    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.shared.stats[self.worker]
    }

    /// A link of this worker's to a memcached, with the layout asked for, for the tier at `level`.
    /// Waits for it as long as the config says.
    ///
    /// # Errors
    /// If it is out of reach, or no memcached that can be used.
    pub fn memcached(&self, level: Level, l: &Memcached) -> Result<Remote, ServeError> {
        let role = match (level, &self.config.l2) {
            (Level::L2, _) => Role::L2,
            (Level::L1, L2::None) => Role::Only,
            (Level::L1, _) => Role::L1,
        };
        self.opened.patience.until(|| {
            let starts_empty = l.starts_empty;
            let link = link::LinkConfig { starts_empty, ..self.link(&l.link, role)? };
            let now = self.shared.clock.read();
            let opened = match l.layout {
                Layout::Plain => Plain::open(link, now).map(Remote::Plain),
                Layout::Chunked { chunk_bytes } => {
                    let item_bytes_max = self.config.item_bytes_max;
                    let config = chunked::ChunkedConfig { link, chunk_bytes, item_bytes_max };
                    Chunked::open(config, now).map(Remote::Chunked)
                }
            };
            opened.map_err(|error| tier_error(level, &error))
        })
    }

    /// A link of this worker's to the Rend-based server that is the config's L2.
    ///
    /// # Errors
    /// If the config names none, or it is out of reach.
    pub fn rend(&self) -> Result<Rend, ServeError> {
        let (L2::Rend(link), Some(server)) = (&self.config.l2, self.opened.rend) else {
            return Err(not_named("a Rend-based server"));
        };
        self.opened.patience.until(|| {
            let (link, now) = (self.link(link, Role::L2)?, self.shared.clock.read());
            Rend::open(link, server, self.config.item_bytes_max, now)
                .map_err(|error| tier_error(Level::L2, &error))
        })
    }

    /// An attachment of this worker's to a daemon of this host that keeps items for L1.
    ///
    /// # Errors
    /// If it is out of reach.
    pub fn shm(&self, link: &config::Link) -> Result<Rend, ServeError> {
        let role = if self.config.l2 == L2::None { Role::Only } else { Role::L1 };
        self.opened.patience.until(|| {
            // Only copies are in an L1.
            let starts_empty = role == Role::L1;
            let link = link::LinkConfig { starts_empty, ..self.link(link, role)? };
            let now = self.shared.clock.read();
            Rend::open(link, Server::Whole, self.config.item_bytes_max, now)
                .map_err(|error| tier_error(Level::L1, &error))
        })
    }

    /// This worker's part of the SSD that a tier of the config is on. There is one: it is asked for
    /// once.
    ///
    /// # Errors
    /// If the config names none, or what is there cannot be used.
    pub fn ssd(&self) -> Result<Ssd<RingDisk>, ServeError> {
        self.opened.source.as_ref().ok_or_else(|| not_named("an SSD"))?.tier(self)
    }

    fn link(&self, l: &config::Link, role: Role) -> Result<link::LinkConfig, ServeError> {
        Ok(link::LinkConfig {
            role,
            address: l.address.clone(),
            timeout_us: l.timeout_us,
            readiness: self.readiness.try_clone().map_err(ServeError::Host)?,
            stats: Arc::clone(self.stats()),
            starts_empty: false,
        })
    }

    /// This worker's share of `bytes` bytes of memory, index included.
    ///
    /// # Errors
    /// If the share is too small or too large, or the host has not so much.
    pub fn memory(&self, bytes: u64) -> Result<Memory, ServeError> {
        let memory = Memory::new(self.memory_config(bytes)?)
            .map_err(|source| ServeError::L1 { bytes, source })?;
        self.count_memory(bytes);
        Ok(memory)
    }

    /// The same in the files that the config names, if it does. `log`: name and number of starts of
    /// the log that is this worker's L2.
    pub(super) fn kept_memory(
        &self,
        bytes: u64,
        log: Option<([u8; 16], u32)>,
    ) -> Result<Memory, ServeError> {
        let Some(files) = &self.opened.files else { return self.memory(bytes) };
        let config = self.memory_config(bytes)?;
        let memory = self.opened.patience.until(|| files.memory(self, config.clone(), log))?;
        self.count_memory(bytes);
        Ok(memory)
    }

    fn count_memory(&self, bytes: u64) {
        let workers = self.shared.stats.len() as u64;
        self.shared.memory_bytes.fetch_add(bytes / workers, Ordering::Relaxed);
    }

    fn memory_config(&self, bytes: u64) -> Result<memory::MemoryConfig, ServeError> {
        let workers = self.shared.stats.len();
        let share = memory_share(bytes, workers)?;
        let item_bytes_max = self.config.item_bytes_max;
        // With less, an item of that length may find no room even if all else is evicted.
        if self.worker == 0 && 4 * item_bytes_max > share {
            let text = format!(
                "--l1: each worker keeps {}, too little for items of --max-item-size ({}); choose \
                 a larger size or fewer workers",
                readable_size(share as u64),
                readable_size(item_bytes_max as u64)
            );
            report::tell(Event::Limited.line(text));
        }
        Ok(memory::MemoryConfig {
            bytes: share,
            item_bytes_max,
            worker: self.worker,
            workers,
            stats: Arc::clone(self.stats()),
        })
    }
}

/// What a worker has of `bytes` bytes of memory, which are all workers', if the host and a worker
/// can have it.
pub(super) fn memory_share(bytes: u64, workers: usize) -> Result<usize, ServeError> {
    memory_share_of(bytes, workers, Path::new("/"))
}

/// As [`memory_share`], of a host whose files are below `root`.
pub(super) fn memory_share_of(
    bytes: u64,
    workers: usize,
    root: &Path,
) -> Result<usize, ServeError> {
    let share = bytes / workers as u64;
    // First what is wrong on any host.
    if !(memory::BYTES_MIN as u64..=memory::BYTES_MAX as u64).contains(&share) {
        return Err(ServeError::L1Part { bytes: bytes / workers as u64 });
    }
    host::check_l1(bytes, workers, root)?;
    Ok(share as usize)
}

fn tier_error(level: Level, error: &OpenError) -> ServeError {
    let flag = match level {
        Level::L1 => "--l1",
        Level::L2 => "--l2",
    };
    let fault = if error.is_absence() { Fault::Passing } else { Fault::Host };
    ServeError::Tier { flag, reason: error.to_string(), fault }
}

fn not_named(tier: &str) -> ServeError {
    let reason = format!("{tier} was asked for, and the config names none");
    ServeError::Tier { flag: "--l1, --l2", reason, fault: Fault::Words }
}
