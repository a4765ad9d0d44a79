//! The compositions that the table is run on: every L1 with every orchestrator, with one worker and
//! two.
//!
//! The local memcacheds of a composition are started and stopped with it. Memory alone is not here:
//! it is run at every cut, these at some. Their links have long time-outs, so that a memcached is
//! not considered frozen on a slow machine.

use crate::support::chaos::Memcached;
use crate::support::{Server, free_port};
use crate::table::Case;
use std::path::{Path, PathBuf};

/// Statistics of items in this process, which these compositions may not have; and cases in which
/// memcached's answer depends on chance: it pads a number only if nothing else refers to the item
/// at that moment, and reads beyond the item for the digits after white space (or nothing) and for
/// the sign of a number of 2^63 or more. docs/DIFFERENCES.md describes this.
const OF_MEMORY_ALONE: &[&str] = &[
    "stats items",
    "stat items",
    "decr keeps the length",
    "incr nothing",
    "'' by",
    "incr wraps",
    "a space",
    "the most",
    "18446744073709551615' by",
];

/// Whether the answer to `case` is always the same in every composition.
pub fn is_general(case: &Case) -> bool {
    !OF_MEMORY_ALONE.iter().any(|part| case.name.contains(part))
}

/// The settings of a server under test.
pub struct Composition {
    pub name: String,
    /// The value of `--l1`; `L1` in it is replaced by the socket of a memcached, `L1D` by the name
    /// of an l1d, `SSD` by the path of a file, `KEPT` by one in memory.
    l1: &'static str,
    l2: L2,
    /// Clients use the batch port.
    is_batch: bool,
    workers: &'static str,
}

/// What is behind L1.
#[derive(Clone, Copy, PartialEq, Eq)]
enum L2 {
    None,
    Memcached,
    Ssd,
}

/// The file of an SSD: room for two workers.
const SSD: &str = "ssd,path=SSD,size=600M";

/// L1 in files.
const KEPT: &str = "memory,path=KEPT";

/// L1 in an l1d.
const SHM: &str = "shm,name=L1D,timeout=5000";

/// Interval of the tried cuts with an SSD, where each flush waits for the disk: only the first.
const SSD_EVERY: usize = 1_000_000;

/// A running composition.
pub struct Running {
    /// The port that clients connect to.
    pub port: u16,
    _sunder: Server,
    _l1: Local,
    _l2: Option<Local>,
    _file: LogFile,
}

/// A file below `target`, created by the server.
struct LogFile(PathBuf);

impl Drop for LogFile {
    fn drop(&mut self) {
        // Only compositions with an SSD have it.
        let _ = std::fs::remove_file(&self.0);
        // Only compositions with L1 in files have these.
        for worker in 0..2 {
            let _ = std::fs::remove_file(format!("{}.{worker}", self.kept().display()));
        }
    }
}

impl LogFile {
    /// The files of L1, but for the worker's number.
    fn kept(&self) -> PathBuf {
        Path::new("/dev/shm").join(self.0.file_name().expect("a name"))
    }
}

/// A memcached on a Unix socket, or an l1d.
struct Local(Memcached);

impl Local {
    fn start() -> Result<Local, String> {
        Memcached::start(64, 1).map(Local)
    }

    fn start_l1d() -> Result<Local, String> {
        Memcached::start_l1d(64, 1).map(Local)
    }
}

/// Every composition except memory alone.
pub fn all() -> Vec<Composition> {
    let l1s = [
        ("memory", "memory"),
        ("memcached plain", "memcached,addr=unix:L1,timeout=5000"),
        ("memcached chunked", "memcached,addr=unix:L1,layout=chunked,timeout=5000"),
        ("shm", SHM),
    ];
    let mut all = vec![];
    for (l1_name, l1) in l1s {
        for (orchestrator, l2, is_batch) in [
            ("l1_only", L2::None, false),
            ("l1_l2", L2::Memcached, false),
            ("l1_l2_batch", L2::Memcached, true),
        ] {
            if l1 == "memory" && l2 == L2::None {
                continue;
            }
            for workers in ["1", "2"] {
                let name = format!("{l1_name}, {orchestrator}, workers {workers}");
                all.push(Composition { name, l1, l2, is_batch, workers });
            }
        }
    }
    for workers in ["1", "2"] {
        for (name, l1, l2) in [
            ("ssd, l1_only", SSD, L2::None),
            ("memory, ssd", "memory", L2::Ssd),
            ("kept memory, ssd", KEPT, L2::Ssd),
            ("shm, ssd", SHM, L2::Ssd),
        ] {
            let name = format!("{name}, workers {workers}");
            all.push(Composition { name, l1, l2, is_batch: false, workers });
        }
    }
    all
}

impl Composition {
    /// Whether a memcached of this host is one of its tiers.
    pub fn has_memcached(&self) -> bool {
        self.l2 == L2::Memcached || self.l1.starts_with("memcached")
    }

    /// Interval of the tried cuts; `every` if nothing is slow.
    pub fn every(&self, every: usize) -> usize {
        if self.l1 == SSD || self.l2 == L2::Ssd { SSD_EVERY } else { every }
    }

    /// Starts it on kernel sockets.
    pub fn start(&self) -> Result<Running, String> {
        let is_shm = self.l1 == SHM;
        let l1 = if is_shm { Local::start_l1d()? } else { Local::start()? };
        let l2 = if self.l2 == L2::Memcached { Some(Local::start()?) } else { None };
        let (main_port, batch_port) = (free_port(), free_port());
        let name = format!("wire-{}-{main_port}.ssd", std::process::id());
        let file = LogFile(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        let args = self.arguments(&l1.0, l2.as_ref().map(|l2| l2.0.path()), &file);
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (main, batch) = (main_port.to_string(), batch_port.to_string());
        args.extend(["-p", &main, "--bp", &batch, "--poll", "adaptive"]);
        let sunder = Server::sunder(&args)?;
        let port = if self.is_batch { batch_port } else { main_port };
        Ok(Running { port, _sunder: sunder, _l1: l1, _l2: l2, _file: file })
    }

    fn arguments(&self, l1: &Memcached, l2: Option<&Path>, file: &LogFile) -> Vec<String> {
        let (kept, file) = (file.kept(), file.0.to_string_lossy());
        let l1 = match self.l1 {
            SHM => SHM.replace("L1D", l1.name()),
            KEPT => KEPT.replace("KEPT", &kept.to_string_lossy()),
            other => other.replace("L1", &l1.path().to_string_lossy()).replace("SSD", &file),
        };
        let mut args = vec!["--workers".into(), self.workers.into(), "--l1".into(), l1];
        if let Some(l2) = l2 {
            args.extend([
                "--l2".into(),
                format!("memcached,addr=unix:{},timeout=5000", l2.display()),
            ]);
        }
        if self.l2 == L2::Ssd {
            args.extend(["--l2".into(), SSD.replace("SSD", &file)]);
        }
        args
    }
}
