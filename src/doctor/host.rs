//! A host as it is looked at: files below a root folder, and a few system calls, so that a test
//! can make hosts up. Reads are bounded and never wait; what cannot be read is None. Only
//! [`Host::take`] changes anything.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, StatxFlags, statfs, statx};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::base::files;
use crate::config::Config;
use crate::net::kernel::Inherited;
use crate::serve::{Level, ServeError, trial};

/// Most entries of a folder that are looked at.
const NAMES_MAX: usize = 4096;

/// A host.
pub(super) struct Host<'s> {
    root: PathBuf,
    pub system: &'s dyn System,
}

/// A write to one of the kernel's files, or a script that does more than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A value for a file, by its path without the first slash.
    Write(String, String),
    /// A script and its words.
    Script(PathBuf, Vec<String>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Write(path, value) => match path.strip_prefix("proc/sys/") {
                Some(name) => write!(f, "sysctl -w {}={value}", name.replace('/', ".")),
                None => write!(f, "echo {value} >/{path}"),
            },
            Step::Script(script, words) => write!(f, "{} {}", script.display(), words.join(" ")),
        }
    }
}

impl<'s> Host<'s> {
    pub fn new(root: PathBuf, system: &'s dyn System) -> Host<'s> {
        Host { root, system }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a file is whose path is given without its first slash.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn exists(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// A file's text, without the space around it.
    pub fn text(&self, path: &str) -> Option<String> {
        files::text(&self.at(path)).map(|text| text.trim().to_owned())
    }

    pub fn number<N: std::str::FromStr>(&self, path: &str) -> Option<N> {
        self.text(path)?.parse().ok()
    }

    /// The first word behind `key` in a file of lines such as `MemTotal: 12 kB`.
    pub fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.text(path)?;
        let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
        let rest = rest.trim_start_matches([':', ' ', '\t']);
        Some(rest.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// A number of kibibytes in /proc/meminfo, in bytes.
    pub fn memory(&self, key: &str) -> Option<u64> {
        self.field("proc/meminfo", key)?.parse::<u64>().ok()?.checked_mul(1024)
    }

    /// The names in a folder, in order.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at(path)) else { return Vec::new() };
        let names = entries.take(NAMES_MAX).flatten();
        let mut names: Vec<_> =
            names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The last name of what a symbolic link leads to.
    pub fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.at(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// The cores in a list such as `0,2-3`.
    pub fn cores(&self, path: &str) -> Option<Vec<usize>> {
        self.text(path).map(|text| cores_of(&text))
    }

    /// Whether this process has a capability (capabilities(7)), by its number.
    pub fn is_capable(&self, number: u32) -> Option<bool> {
        let set = self.field("proc/self/status", "CapEff")?;
        Some(u64::from_str_radix(&set, 16).ok()? >> number & 1 == 1)
    }

    /// Takes a step.
    ///
    /// # Errors
    /// The kernel's reason, or the script's.
    pub fn take(&self, step: &Step) -> io::Result<()> {
        match step {
            Step::Write(path, value) => fs::write(self.at(path), value),
            Step::Script(script, words) => {
                let output = Command::new(script).args(words).output()?;
                match output.status.success() {
                    true => Ok(()),
                    false => {
                        let error = String::from_utf8_lossy(&output.stderr);
                        Err(io::Error::other(error.trim().to_owned()))
                    }
                }
            }
        }
    }
}

/// The cores in a list such as `0,2-3`; what is no number is left out.
pub(super) fn cores_of(list: &str) -> Vec<usize> {
    let mut cores: Vec<_> = ranges(list)
        .flat_map(|(first, last)| first..=last.min(CpuSet::MAX_CPU))
        .take(CpuSet::MAX_CPU)
        .collect();
    cores.dedup();
    cores
}

/// The first and the last number of each part of a list such as `0,2-3`.
pub(super) fn ranges(list: &str) -> impl Iterator<Item = (usize, usize)> {
    list.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    })
}

/// The list of cores.
pub(super) fn list_of(cores: &[usize]) -> String {
    let mut sorted = cores.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let parts: Vec<_> = sorted
        .chunk_by(|one, next| one + 1 == *next)
        .map(|run| match run {
            [one] => one.to_string(),
            run => format!("{}-{}", run[0], run[run.len() - 1]),
        })
        .collect();
    parts.join(",")
}

/// A path, as its file system tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PathLook {
    /// Permission bits.
    pub mode: u32,
    /// The name of its file system's kind.
    pub file_system: String,
    /// Bytes that its file system has free.
    pub free_bytes: u64,
    /// The device that it is on, or is.
    pub device: (u32, u32),
    /// It is a block device.
    pub is_device: bool,
    /// What direct I/O has to be aligned to, in bytes, if the file system says it; 0: there is
    /// none.
    pub direct_align: Option<u32>,
}

/// What is asked of the kernel. The trials are `serve`'s.
pub(super) trait System {
    fn cores(&self) -> io::Result<Vec<usize>>;
    /// Whether io_uring is allowed; if not, why.
    fn rings(&self) -> Result<(), String>;
    /// How much memory may be locked, in bytes; None: all.
    fn memlock(&self) -> Option<u64>;
    fn path(&self, path: &Path) -> Option<PathLook>;
    fn mapping(&self, config: &Config) -> Result<(), ServeError>;
    fn users(&self, config: &Config) -> Result<(), ServeError>;
    fn log(&self, config: &Config) -> Result<(), ServeError>;
    fn connections(&self, config: &Config) -> Result<Option<String>, ServeError>;
    fn listeners(&self, config: &Config) -> Result<(), ServeError>;
    fn admin(&self, config: &Config) -> Result<(), ServeError>;
    fn disk(&self, config: &Config, workers: usize) -> Result<Option<trial::DiskLook>, ServeError>;
    fn files(&self, config: &Config, workers: usize) -> Result<(), ServeError>;
    fn server(&self, config: &Config, level: Level) -> Result<Option<&'static str>, ServeError>;
    /// The user that is to serve.
    fn user(&self, config: &Config) -> Result<(), ServeError>;
    /// Whether a start would take over from a server that runs.
    fn is_taken_over(&self) -> bool;
}

/// The host that this runs on.
#[derive(Debug, Default)]
pub(super) struct ThisHost {
    /// What the server listens on that a start would take over from, which goes on; None: a start
    /// would take over from none.
    pub inherited: Option<Inherited>,
}

impl ThisHost {
    fn with_inherited<T>(&self, look: impl FnOnce(&Inherited) -> T) -> T {
        match &self.inherited {
            Some(inherited) => look(inherited),
            None => look(&Inherited::default()),
        }
    }
}

impl System for ThisHost {
    fn cores(&self) -> io::Result<Vec<usize>> {
        let set = sched_getaffinity(None)?;
        Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
    }

    fn rings(&self) -> Result<(), String> {
        trial::rings()
    }

    fn memlock(&self) -> Option<u64> {
        getrlimit(Resource::Memlock).current
    }

    fn path(&self, path: &Path) -> Option<PathLook> {
        // A file that is not there yet is in its folder.
        let path = if path.exists() { path } else { path.parent()? };
        let meta = fs::metadata(path).ok()?;
        let is_device = meta.mode() & 0o170_000 == 0o060_000;
        let device = if is_device { meta.rdev() } else { meta.dev() };
        let system = statfs(path).ok()?;
        let asked = StatxFlags::DIOALIGN;
        let status = statx(CWD, path, AtFlags::empty(), asked).ok();
        let said = status.filter(|status| status.stx_mask & asked.bits() != 0 && !meta.is_dir());
        Some(PathLook {
            mode: meta.mode() & 0o7777,
            file_system: name_of(system.f_type as u64).to_owned(),
            free_bytes: system.f_bavail.saturating_mul(system.f_bsize as u64),
            device: (rustix::fs::major(device), rustix::fs::minor(device)),
            is_device,
            direct_align: said.map(|status| status.stx_dio_offset_align),
        })
    }

    fn mapping(&self, config: &Config) -> Result<(), ServeError> {
        trial::mapping(config)
    }

    fn users(&self, config: &Config) -> Result<(), ServeError> {
        trial::users(config)
    }

    fn log(&self, config: &Config) -> Result<(), ServeError> {
        trial::log(config)
    }

    fn connections(&self, config: &Config) -> Result<Option<String>, ServeError> {
        trial::connections(config)
    }

    fn listeners(&self, config: &Config) -> Result<(), ServeError> {
        self.with_inherited(|inherited| trial::listeners(config, inherited))
    }

    fn admin(&self, config: &Config) -> Result<(), ServeError> {
        self.with_inherited(|inherited| trial::admin(config, inherited))
    }

    fn disk(&self, config: &Config, workers: usize) -> Result<Option<trial::DiskLook>, ServeError> {
        trial::disk(config, workers)
    }

    fn files(&self, config: &Config, workers: usize) -> Result<(), ServeError> {
        trial::files(config, workers, self.inherited.is_some())
    }

    fn server(&self, config: &Config, level: Level) -> Result<Option<&'static str>, ServeError> {
        trial::server(config, level)
    }

    fn user(&self, config: &Config) -> Result<(), ServeError> {
        trial::user(config)
    }

    fn is_taken_over(&self) -> bool {
        self.inherited.is_some()
    }
}

/// The name of a file system's kind, by its number in statfs(2).
fn name_of(kind: u64) -> &'static str {
    match kind {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x9584_58f6 => "hugetlbfs",
        0x794c_7630 => "overlay",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0x2fc1_2fc1 => "zfs",
        0x0102_1997 => "9p",
        0xf2f5_2010 => "f2fs",
        _ => "another file system",
    }
}
