//! What one worker's tiers are made with. Called on the worker's own thread, so that its memory is
//! near its core.

use std::sync::Arc;

use super::ServeError;
use crate::config::{self, Config, L2, Layout, Memcached};
use crate::readiness::Readiness;
use crate::stats::WorkerStats;
use crate::tier::memcached::chunked::{self, Chunked};
use crate::tier::memcached::link::{self, OpenError, Role};
use crate::tier::memcached::plain::Plain;
use crate::tier::memory::{self, Memory};
use crate::tier::remote::Remote;
use crate::tier::rend::Rend;
use crate::tier::rend::probe::Server;
use crate::worker::Shared;

/// One worker, of which tiers are made.
#[derive(Debug)]
pub struct Part<'p> {
    pub(super) config: &'p Config,
    pub(super) shared: &'p Shared,
    pub(super) worker: usize,
    pub(super) readiness: Readiness,
}

impl Part<'_> {
    /// Where this worker counts.
    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.shared.stats[self.worker]
    }

    /// A link of this worker's to a memcached, with the layout asked for. `flag` named it.
    ///
    /// # Errors
    /// If it is out of reach, or no memcached that can be used.
    pub fn memcached(&self, flag: &'static str, l: &Memcached) -> Result<Remote, ServeError> {
        let role = match self.config.l2 {
            _ if flag == "--l2" => Role::L2,
            L2::None => Role::Only,
            _ => Role::L1,
        };
        let link = self.link(&l.link, role)?;
        let now = self.shared.clock.read();
        let opened = match l.layout {
            Layout::Plain => Plain::open(link, now).map(Remote::Plain),
            Layout::Chunked { chunk_bytes } => {
                let item_bytes_max = self.config.item_bytes_max;
                let config = chunked::Config { link, chunk_bytes, item_bytes_max };
                Chunked::open(config, now).map(Remote::Chunked)
            }
        };
        opened.map_err(|error| tier_error(flag, &error))
    }

    /// The second tier that the config names. `server`: what a Rend-based one was found to be.
    pub(super) fn l2(&self, server: Option<Server>) -> Result<Remote, ServeError> {
        match (&self.config.l2, server) {
            (L2::Memcached(memcached), _) => self.memcached("--l2", memcached),
            (L2::Rend(link), Some(server)) => {
                let (link, now) = (self.link(link, Role::L2)?, self.shared.clock.read());
                Rend::open(link, server, self.config.item_bytes_max, now)
                    .map(Remote::Rend)
                    .map_err(|error| tier_error("--l2", &error))
            }
            (L2::Rend(_) | L2::None | L2::Ssd(_), _) => {
                unreachable!("there is an L2 in a server, and it was probed")
            }
        }
    }

    fn link(&self, l: &config::Link, role: Role) -> Result<link::Config, ServeError> {
        Ok(link::Config {
            role,
            address: l.address.clone(),
            timeout_us: l.timeout_us,
            readiness: self.readiness.try_clone().map_err(ServeError::Host)?,
            stats: Arc::clone(self.stats()),
        })
    }

    /// This worker's share of `bytes` bytes of memory.
    ///
    /// # Errors
    /// If the share is too small or too large, or the host has not so much.
    pub fn memory(&self, bytes: u64) -> Result<Memory, ServeError> {
        let workers = self.shared.stats.len();
        let share = bytes / workers as u64;
        if !(memory::BYTES_MIN as u64..=memory::BYTES_MAX as u64).contains(&share) {
            return Err(ServeError::L1Part { bytes: share });
        }
        Memory::new(memory::Config {
            bytes: share as usize,
            item_bytes_max: self.config.item_bytes_max,
            worker: self.worker,
            workers,
            stats: Arc::clone(self.stats()),
        })
        .map_err(|source| ServeError::L1 { bytes, source })
    }
}

fn tier_error(flag: &'static str, error: &OpenError) -> ServeError {
    ServeError::Tier { flag, reason: error.to_string() }
}
