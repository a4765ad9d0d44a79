//! Every composition of sunder, and the faults that each must survive.
//!
//! L1 {memory, memcached plain, chunked, chunked small, shm} x {l1_only, l1_l2, both ports mixed} x
//! {1, 2 workers}, and a few especially difficult ones. All share [`OPERATIONS`]. The seed is
//! printed, and can be set.

use super::accidents;
use super::is_right;
use crate::support::chaos::{Accident, Accidents, Memcached};
use crate::support::{Server, free_port};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;
use sunder::load::history::plan::Plan;
use sunder::load::wire::Dialect;

/// Operations of all compositions together, unless `SUNDER_HISTORY_OPERATIONS` is set.
const OPERATIONS: u64 = 1_000_000;

/// All faults of a memcached, in a random order from the seed. The time-out of a link is
/// [`TIMEOUT`], so some freezes are shorter and some longer.
const EVERYTHING: &[Accident] = &[
    Accident::Kill { down_ms: 0 },
    Accident::Kill { down_ms: 50 },
    Accident::KillFrozen { frozen_ms: 80 },
    Accident::Freeze { frozen_ms: 40 },
    Accident::Freeze { frozen_ms: 70 },
    Accident::Freeze { frozen_ms: 250 },
    Accident::LoseChunks { keys: 8 },
    Accident::LoseChunks { keys: 64 },
];

/// The time-out of links without one of their own.
const TIMEOUT: &str = ",timeout=60";

/// Faults that do not reset a memcached's counters.
const WITHOUT_KILLS: &[Accident] =
    &[Accident::Freeze { frozen_ms: 80 }, Accident::LoseChunks { keys: 64 }];

/// Lengths of most records: at most some twenty chunks.
const SMALL: (usize, usize) = (10, 20_000);

/// What is behind L1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum L2 {
    None,
    Memcached,
    /// Another sunder, through the binary protocol.
    Rend,
    /// A file.
    Ssd,
}

/// The server into which faults are injected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Victim {
    L1,
    L2,
    Both,
}

/// A composition of sunder.
pub struct Composition {
    pub name: String,
    /// The value of `--l1`; `L1` in it is replaced by the address of a memcached, `L1D` by the name
    /// of an l1d, `SSD` by the path of a file, `KEPT` by one in memory.
    l1: &'static str,
    l2: L2,
    /// Half of the connections use the batch port.
    is_mixed: bool,
    workers: usize,
    /// Memory of the L1 memcached.
    megabytes: u32,
    victim: Victim,
    pub accidents: &'static [Accident],
    /// Keys with values, and shortest and longest record in bytes.
    keys: usize,
    value_bytes: (usize, usize),
    /// The values exceed L1's memory.
    is_crowded: bool,
    /// Losing an item is an error.
    is_loss_wrong: bool,
}

const L1S: &[(&str, &str)] = &[
    ("memory", "memory,size=256M"),
    ("plain", "memcached,addr=L1"),
    ("chunked", "memcached,addr=L1,layout=chunked"),
    ("chunked 512", "memcached,addr=L1,layout=chunked,chunk=512"),
    ("shm", SHM),
];

/// L1 in an l1d.
const SHM: &str = "shm,name=L1D";

const ORCHESTRATORS: &[(&str, L2, bool)] = &[
    ("l1_only", L2::None, false),
    ("l1_l2", L2::Memcached, false),
    ("l1_l2 mixed ports", L2::Memcached, true),
];

fn all() -> Vec<Composition> {
    let mut all = vec![];
    for workers in [1, 2] {
        for &(l1_name, l1) in L1S {
            for &(orchestrator, l2, is_mixed) in ORCHESTRATORS {
                let is_memory = l1_name == "memory";
                let name = format!("{l1_name}, {orchestrator}");
                all.push(Composition {
                    is_mixed,
                    accidents: if is_memory { &[] } else { EVERYTHING },
                    // L2 has everything, whatever happens to L1. Two workers flush the same L2 one
                    // after the other, and L1 may keep items from L2 a little longer than the
                    // second flush.
                    is_loss_wrong: is_memory && l2 == L2::None || l2 != L2::None && workers == 1,
                    ..base(workers, &name, l1, l2)
                });
            }
        }
        all.extend(sizes(workers));
        all.extend(troubles(workers));
        all.extend(ssds(workers));
    }
    all
}

const CHUNKED: &str = "memcached,addr=L1,layout=chunked";

/// The common part of the difficult compositions.
fn base(workers: usize, name: &str, l1: &'static str, l2: L2) -> Composition {
    Composition {
        name: format!("{name}, workers {workers}"),
        l1,
        l2,
        is_mixed: false,
        workers,
        megabytes: 64,
        victim: Victim::L1,
        accidents: &[],
        keys: 16,
        value_bytes: SMALL,
        is_crowded: false,
        is_loss_wrong: false,
    }
}

/// Too many values, or large ones, or no faults at all.
fn sizes(workers: usize) -> Vec<Composition> {
    let crowded = |name: &str, l1, l2| Composition {
        megabytes: 4,
        accidents: WITHOUT_KILLS,
        keys: 400,
        value_bytes: (15_000, 20_000),
        is_crowded: true,
        ..base(workers, name, l1, l2)
    };
    let large = |name: &str, l1, l2| Composition {
        accidents: EVERYTHING,
        // More than a link's output holds, so that half of a value is frozen.
        keys: 64,
        value_bytes: (60_000, 250_000),
        ..base(workers, name, l1, l2)
    };
    let patient =
        |name: &str, l1| Composition { is_loss_wrong: true, ..base(workers, name, l1, L2::None) };
    vec![
        Composition { accidents: &[], ..crowded("memory, 4 MB", "memory,size=4M", L2::None) },
        crowded("plain, 4 MB", "memcached,addr=L1", L2::None),
        crowded("chunked, 4 MB", CHUNKED, L2::None),
        crowded("chunked, 4 MB, l1_l2", CHUNKED, L2::Memcached),
        large("plain, large", "memcached,addr=L1", L2::None),
        large("chunked, large", CHUNKED, L2::None),
        large("chunked, large, impatient", "memcached,addr=L1,layout=chunked,timeout=5", L2::None),
        large("chunked, large, l1_l2", CHUNKED, L2::Memcached),
        patient("plain, patient", "memcached,addr=L1,timeout=20000"),
        patient("chunked, patient", "memcached,addr=L1,layout=chunked,timeout=20000"),
        crowded("shm, 4 MB", SHM, L2::None),
        large("shm, large", SHM, L2::None),
        large("shm, large, l1_l2", SHM, L2::Memcached),
        patient("shm, patient", "shm,name=L1D,timeout=20000"),
    ]
}

/// Links with short time-outs, faults of L2 too, and another sunder as L2.
fn troubles(workers: usize) -> Vec<Composition> {
    let impatient = |name: &str, l1, l2| Composition {
        victim: if l2 == L2::None { Victim::L1 } else { Victim::Both },
        accidents: EVERYTHING,
        is_mixed: l2 != L2::None,
        ..base(workers, name, l1, l2)
    };
    let l2_suffers = |name: &str, l1| Composition {
        victim: Victim::L2,
        accidents: EVERYTHING,
        is_mixed: true,
        ..base(workers, name, l1, L2::Memcached)
    };
    let over_sunder = |name: &str, l1, accidents| Composition {
        accidents,
        is_mixed: true,
        ..base(workers, name, l1, L2::Rend)
    };
    vec![
        impatient("plain, impatient", "memcached,addr=L1,timeout=1", L2::None),
        impatient("chunked, impatient", "memcached,addr=L1,layout=chunked,timeout=1", L2::None),
        impatient("plain, faults in both", "memcached,addr=L1,timeout=2", L2::Memcached),
        impatient("chunked, faults in both", CHUNKED, L2::Memcached),
        l2_suffers("memory, L2 suffers", "memory,size=64M"),
        l2_suffers("plain, L2 suffers", "memcached,addr=L1"),
        l2_suffers("chunked, L2 suffers", CHUNKED),
        impatient("shm, impatient", "shm,name=L1D,timeout=1", L2::None),
        impatient("shm, faults in both", SHM, L2::Memcached),
        over_sunder("memory over sunder", "memory,size=64M", &[]),
        over_sunder("plain over sunder", "memcached,addr=L1", EVERYTHING),
        over_sunder("chunked over sunder", CHUNKED, EVERYTHING),
    ]
}

/// The file of an SSD: room for two workers, and little more.
const SSD: &str = "ssd,path=SSD,size=600M,flush=20";

/// L1 in files.
const KEPT: &str = "memory,size=64M,path=KEPT";

/// An SSD, alone, and behind a memory tier that holds everything or hardly anything. It may lose
/// items that a slow disk has no time for.
fn ssds(workers: usize) -> Vec<Composition> {
    let little = "memory,size=4M";
    vec![
        base(workers, "ssd, l1_only", SSD, L2::None),
        Composition { is_mixed: true, ..base(workers, "kept memory, ssd", KEPT, L2::Ssd) },
        Composition { is_mixed: true, ..base(workers, "memory, ssd", "memory,size=64M", L2::Ssd) },
        Composition {
            is_mixed: true,
            accidents: EVERYTHING,
            ..base(workers, "shm, ssd", SHM, L2::Ssd)
        },
        Composition {
            is_mixed: true,
            keys: 400,
            value_bytes: (15_000, 20_000),
            ..base(workers, "memory, 4 MB, ssd", little, L2::Ssd)
        },
    ]
}

/// A file below `target`, created by the server.
struct LogFile(PathBuf);

impl Drop for LogFile {
    fn drop(&mut self) {
        // Only compositions with an SSD have it, and only those with L1 in files the others.
        let _ = std::fs::remove_file(&self.0);
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

/// A composition that runs.
pub struct Running {
    /// The addresses that clients connect to, in turn.
    pub addresses: Vec<String>,
    pub l1: Memcached,
    pub l2: Option<Memcached>,
    _sunder: Server,
    _behind: Option<Server>,
    _file: LogFile,
}

/// A sunder with L1 in memory, and its port.
fn sunder_behind() -> Result<(Server, u16), String> {
    let port = free_port();
    let args = ["-p", &port.to_string(), "--workers", "2", "--poll", "adaptive"];
    let server = Server::sunder(&[&args[..], &["--l1", "memory,size=256M"]].concat())?;
    Ok((server, port))
}

impl Composition {
    pub fn start(&self, seed: u64) -> Result<Running, String> {
        let is_shm = self.l1.starts_with("shm");
        let l1 =
            if is_shm { Memcached::start_l1d } else { Memcached::start }(self.megabytes, seed)?;
        let mut words = vec!["--workers".into(), self.workers.to_string()];
        let name = format!("history-{}-{}.ssd", std::process::id(), free_port());
        let file = LogFile(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        let path = file.0.to_string_lossy();
        let mut first = match is_shm {
            true => self.l1.replace("L1D", l1.name()),
            false => self
                .l1
                .replace("L1", &l1.address())
                .replace("SSD", &path)
                .replace("KEPT", &file.kept().to_string_lossy()),
        };
        if (is_shm || first.starts_with("memcached")) && !first.contains("timeout") {
            first.push_str(TIMEOUT);
        }
        words.extend(["--l1".into(), first]);
        // A key that failed would be missing among the hits of a multi-get, as if it were lost.
        let patience = if self.is_loss_wrong { ",timeout=20000" } else { TIMEOUT };
        let (mut l2, mut behind) = (None, None);
        match self.l2 {
            L2::None => {}
            L2::Memcached => {
                let memcached = Memcached::start(256, !seed)?;
                words.extend([
                    "--l2".into(),
                    format!("memcached,addr={}{patience}", memcached.address()),
                ]);
                l2 = Some(memcached);
            }
            L2::Rend => {
                let (server, port) = sunder_behind()?;
                words.extend(["--l2".into(), format!("rend,addr=127.0.0.1:{port}{patience}")]);
                behind = Some(server);
            }
            L2::Ssd => words.extend(["--l2".into(), SSD.replace("SSD", &path)]),
        }
        let mut ports = vec![free_port(), free_port()];
        words.extend(["-p".into(), ports[0].to_string(), "--bp".into(), ports[1].to_string()]);
        words.extend(["--poll".into(), "adaptive".into()]);
        if !self.is_mixed {
            ports.truncate(1);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let sunder = Server::sunder(&words)?;
        let addresses = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Ok(Running { addresses, l1, l2, _sunder: sunder, _behind: behind, _file: file })
    }

    /// Those of its memcacheds into which faults are injected.
    pub fn victims<'a>(
        &self,
        l1: &'a mut Memcached,
        l2: Option<&'a mut Memcached>,
    ) -> Vec<&'a mut Memcached> {
        let l1 = (self.victim != Victim::L2).then_some(l1);
        let l2 = l2.filter(|_| self.victim != Victim::L1);
        assert!(self.victim == Victim::L1 || l2.is_some(), "no L2 for faults");
        l1.into_iter().chain(l2).collect()
    }

    /// Runs it and verifies all answers.
    fn check(&self, operations: u64, seed: u64) -> Result<(), String> {
        let mut running = self.start(seed)?;
        let plan = Plan {
            targets: running.addresses.iter().map(|address| super::target(address)).collect(),
            operations,
            seed,
            keys: self.keys,
            value_bytes: self.value_bytes,
            is_loss_wrong: self.is_loss_wrong,
            dialects: vec![Dialect::Text, Dialect::Text, Dialect::Meta, Dialect::Binary],
            ..Plan::default()
        };
        let mut victims = self.victims(&mut running.l1, running.l2.as_mut());
        let report = accidents::run_with(&plan, &mut victims, self.accidents)?;
        let happened: Vec<Accidents> = victims.iter().map(|victim| victim.happened).collect();
        is_right(&format!("{}, seed {seed}", self.name), &report);
        if !self.accidents.is_empty() {
            println!("{happened:?}");
            let all: u64 = happened.iter().map(Accidents::all).sum();
            assert!(all > 0, "{}: no fault was injected", self.name);
        }
        if self.is_crowded {
            let evictions = self.evictions(&running).map_err(|error| format!("stats: {error}"))?;
            assert!(evictions > 0, "{}: nothing was evicted", self.name);
        }
        Ok(())
    }

    /// Number of items that L1 evicted.
    fn evictions(&self, running: &Running) -> std::io::Result<u64> {
        if self.l1.contains("memcached") || self.l1.contains("shm") {
            return evictions(UnixStream::connect(running.l1.path())?);
        }
        evictions(TcpStream::connect(&running.addresses[0])?)
    }
}

/// The same, from a server's `stats`.
fn evictions(stream: impl Read + Write) -> std::io::Result<u64> {
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(b"stats\r\n")?;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 && line != "END\r\n" {
        if let Some(count) = line.strip_prefix("STAT evictions ") {
            return count.trim_end().parse().map_err(std::io::Error::other);
        }
        line.clear();
    }
    Err(std::io::Error::other("no evictions"))
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")),
        Err(_) => default,
    }
}

/// All that are wanted.
pub fn compositions() -> Vec<Composition> {
    let wanted = std::env::var("SUNDER_HISTORY_ONLY").unwrap_or_default();
    let mut compositions = all();
    compositions.retain(|composition| composition.name.contains(&wanted));
    assert!(!compositions.is_empty(), "no composition's name contains '{wanted}'");
    compositions
}

#[test]
fn every_composition_is_correct() {
    let compositions = compositions();
    let operations = number("SUNDER_HISTORY_OPERATIONS", OPERATIONS);
    let each = operations.div_ceil(compositions.len() as u64);
    let seed = number("SUNDER_HISTORY_SEED", 1);
    for composition in &compositions {
        let start = Instant::now();
        let result = composition.check(each, seed);
        result.unwrap_or_else(|error| panic!("{}, seed {seed}: {error}", composition.name));
        println!("took {:.1} s\n", start.elapsed().as_secs_f64());
    }
}
