//! What came of a start on a file: what was kept, or why it must not be used.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// What a store began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing was there.
    New,
    /// Everything, as a clean stop left it.
    Clean,
    /// What the segments' records gave.
    Rebuilt,
    /// Nothing, although something was there.
    Emptied(Emptied),
}

/// Why nothing was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emptied {
    /// It was asked for.
    Asked,
    /// The log that it goes with is another one, or was used without it.
    Companion,
    /// The machine has restarted and this was not stopped before, so that what is on the disk may
    /// be of different times.
    Rebooted,
}

/// How a store began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// With what.
    pub beginning: Beginning,
    /// Items that are there.
    pub items: usize,
    /// Records and segments that were given up because they are not as they were written.
    pub damaged: u64,
    /// Seconds by which the clock was set back, and all times to live were shortened.
    pub back_s: u32,
}

/// What a file's bytes are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Huge pages of this length in bytes.
    HugePages(usize),
    /// Memory: a tmpfs.
    Memory,
    /// A disk.
    Disk,
}

/// Why a file is not used.
#[derive(Debug)]
pub enum StartError {
    /// The kernel refused a step.
    Io {
        /// What was tried.
        step: &'static str,
        /// Its reason.
        error: io::Error,
    },
    /// There are not so many bytes.
    NoSpace {
        /// How many are needed.
        bytes: usize,
        /// Where they are missing.
        room: Room,
    },
    /// The folder that it would be in does not exist.
    NoFolder,
    /// The pages of its file system are longer than that.
    Pages {
        /// Bytes of a page.
        page_bytes: usize,
    },
    /// Another process uses it.
    InUse,
    /// It is not a regular file.
    Kind,
    /// It belongs to another user.
    Owner {
        /// Which.
        uid: u32,
    },
    /// Others may open it.
    Mode {
        /// Its permissions.
        mode: u32,
    },
    /// It is something else.
    Foreign,
    /// Another version wrote it.
    Version {
        /// The version of its format.
        found: u32,
    },
    /// Its header is damaged.
    Damaged,
    /// It was made with another number of workers.
    Workers {
        /// How many it was.
        found: u32,
        /// How many it is.
        wanted: u32,
    },
    /// It is another worker's.
    Worker {
        /// Whose it is.
        found: u32,
        /// Who asked.
        wanted: u32,
    },
    /// It has another length than it was made with.
    Length {
        /// Its length in bytes.
        found: u64,
        /// What it should be.
        wanted: u64,
    },
    /// Its keys were given to workers in another way: it does not go with the other files.
    Keys,
    /// It was made with another size.
    Size {
        /// Its size in bytes.
        found: u64,
        /// The size asked for.
        wanted: u64,
    },
}

impl StartError {
    /// A file that could not be read.
    pub fn reading(error: io::Error) -> StartError {
        match Errno::from_io_error(&error) {
            // Links are not followed.
            Some(Errno::LOOP | Errno::ISDIR) => StartError::Kind,
            _ => StartError::Io { step: "read it", error },
        }
    }

    /// A file that could not be opened or made.
    pub(super) fn opening(error: io::Error) -> StartError {
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => StartError::NoFolder,
            Some(Errno::LOOP | Errno::ISDIR) => StartError::Kind,
            _ => StartError::Io { step: "open it", error },
        }
    }

    pub(super) fn at(step: &'static str) -> impl FnOnce(io::Error) -> StartError {
        move |error| StartError::Io { step, error }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Io { step, error } => write!(f, "cannot {step}: {error}"),
            StartError::NoSpace { bytes, room: Room::HugePages(page_bytes) } => {
                let (pages, mib) = (bytes / page_bytes, page_bytes >> 20);
                write!(f, "it needs {pages} huge pages of {mib} MiB, and not so many are free")
            }
            StartError::NoSpace { bytes, .. } => {
                write!(f, "its file system has no room for {} MiB", bytes.div_ceil(1 << 20))
            }
            StartError::NoFolder => f.write_str("its folder does not exist"),
            StartError::Pages { page_bytes } => {
                let mib = page_bytes >> 20;
                write!(f, "its file system's pages have {mib} MiB, more than a worker's part")
            }
            StartError::InUse => f.write_str("another process uses it"),
            StartError::Kind => f.write_str("not a regular file"),
            StartError::Owner { uid } => write!(f, "it belongs to user {uid}"),
            StartError::Mode { mode } => write!(f, "others may open it (mode {mode:03o})"),
            StartError::Foreign => f.write_str("not a store of sunder's"),
            StartError::Version { found } => {
                write!(f, "written by another version of sunder (format {found})")
            }
            StartError::Damaged => f.write_str("its header is damaged"),
            StartError::Workers { found, wanted } => {
                let plural = if *found == 1 { "" } else { "s" };
                write!(f, "made with {found} worker{plural}, not {wanted}")
            }
            StartError::Worker { found, wanted } => {
                write!(f, "made for worker {found}, not {wanted}")
            }
            StartError::Length { found, wanted } => {
                write!(f, "{found} bytes long, not {wanted}")
            }
            StartError::Keys => f.write_str("it does not go with the other workers' files"),
            StartError::Size { found, wanted } => {
                write!(f, "made with {found} bytes a worker, not {wanted}")
            }
        }
    }
}

impl std::error::Error for StartError {}
