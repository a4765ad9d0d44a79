//! `sunder l1d`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::log::Log;
use super::value::{List, Size};
use crate::config::{self, Config, L1, MemoryFile, Name, Place, Poll};

/// Keep a cache for other processes of this host
///
/// A cache in memory that outlives them. sunder serve --l1 shm,name=NAME reaches it through rings
/// in shared memory, memcached's clients through a Unix socket; all see the same items.
#[derive(Args, Debug)]
#[command(after_help = include_str!("help/l1d.txt"))]
pub(super) struct L1d {
    /// Name of the cache: letters, digits, '-', '_' and '.', at most 32
    #[arg(long, value_name = "NAME", value_parser = config::name)]
    name: Name,
    /// Memory for items, index included; divided among the workers
    #[arg(long, value_name = "SIZE", default_value = "64M")]
    size: Size<{ 1 << 20 }, { 1 << 41 }>,
    /// Keep items over a restart, in files PATH.0, PATH.1 and so on, one a worker
    ///
    /// In /dev/shm, on hugetlbfs or on a disk; all of --size is taken there at the start. Items are
    /// there again after a stop, and after kill -9.
    #[arg(long, value_name = "PATH", value_parser = config::memory_path)]
    path: Option<PathBuf>,
    /// Huge pages for these files [default: auto]
    #[arg(long, value_enum, requires = "path")]
    huge: Option<Huge>,
    /// Start afresh, whatever is in these files, at every start while it is given
    ///
    /// Needed when --workers or --size changes.
    #[arg(long, requires = "path")]
    format: bool,
    /// Unix socket for memcached's clients [default: NAME.sock beside NAME.rings]
    #[arg(long, alias = "sock-path", value_name = "PATH")]
    sock: Option<PathBuf>,
    /// Number of workers, a thread each, at most 64
    ///
    /// Each client worker is attached to one of them. With more than one, a request whose key
    /// belongs to another is passed on, which costs more than the request itself: add workers when
    /// one core is not enough.
    #[arg(short = 't', long, value_name = "N", value_parser = config::workers)]
    #[arg(default_value = "1")]
    workers: usize,
    /// Cores to run workers on, e.g. 0,2-3, instead of --workers
    #[arg(long, value_name = "LIST", value_parser = config::cores, conflicts_with = "workers")]
    cores: Option<List<usize>>,
    /// When a worker sleeps
    #[arg(long, value_enum, default_value = "adaptive")]
    poll: Poll,
    /// Largest item, key and header included
    #[arg(short = 'I', long, value_name = "SIZE", value_parser = config::item_size)]
    #[arg(default_value = "1M")]
    max_item_size: usize,
    #[command(flatten)]
    log: Log,
}

/// Whether files in memory get huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Huge {
    /// If the kernel gives some
    Auto,
    /// None
    Off,
}

impl L1d {
    /// What the flags say.
    pub fn config(self) -> Result<Config, String> {
        let Some(place) = Place::of(&self.name) else {
            return Err("--name: this user has no folder for sockets; set XDG_RUNTIME_DIR".into());
        };
        let socket_path = self.sock.unwrap_or_else(|| place.clients.clone());
        let is_huge = self.huge != Some(Huge::Off);
        let file = self.path.map(|path| MemoryFile { path, is_huge, format: self.format });
        let mut config = Config {
            cores: self.cores.unwrap_or_default(),
            workers: Some(self.workers),
            poll: Some(self.poll),
            socket_path: Some(socket_path),
            attach: Some(place),
            l1: L1::Memory { bytes: self.size.0, file },
            item_bytes_max: self.max_item_size,
            ..Config::default()
        };
        self.log.apply(&mut config);
        Ok(config)
    }
}
