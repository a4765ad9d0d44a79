//! What the log reads and writes through: one worker's part of a disk.
//!
//! ```text
//! log ── Io ──> submit ──> turn ──> kernel or simulation
//!     <── Done ─────────── turn <──
//! ```
//!
//! A disk must never wait, and must never let go of the memory of an I/O that is under way. It says
//! of an I/O only that it was done wholly or what kept it from that: short counts end here.

pub mod buffer;
mod flight;
#[cfg(feature = "internals")]
pub mod memory;
pub mod open;
pub mod ring;
#[cfg(feature = "internals")]
pub mod sim;
#[cfg(test)]
mod suite;

pub use buffer::{Buffer, Frozen, Pool};

use std::fmt;

use crate::base::clock::Now;

/// One worker's part of a disk.
///
/// I/Os are carried out in any order. Of a write that overlaps another I/O under way nothing is
/// known; whoever submits keeps them apart.
pub trait Disk {
    /// Bytes of this part: whole segments. Every offset is within it, from 0.
    fn size_bytes(&self) -> u64;

    /// Where the memory of its I/Os comes from.
    fn pool(&self) -> &Pool;

    /// Takes an I/O until its completion, or gives it back if as many are under way as can be. It
    /// does not reach the device before the next [`Disk::hand_over`] or [`Disk::turn`].
    ///
    /// # Errors
    /// The I/O itself: try again after a turn.
    ///
    /// # Panics
    /// If it is not within the part, or not in whole blocks: nothing that a client or a disk says
    /// decides that.
    fn submit(&mut self, io: Io) -> Result<(), Io>;

    /// Hands over what was submitted, so that the worker may sleep or do something else while the
    /// device is at it. What is done is for the next [`Disk::turn`] to tell. Does not wait.
    fn hand_over(&mut self) {}

    /// Hands over what was submitted and appends what is done to `done`, at most
    /// [`crate::base::limits::SSD_DONE_PER_TURN`] of them. Returns how many. Does not wait.
    fn turn(&mut self, now: Now, done: &mut Vec<Done>) -> usize;

    /// I/Os submitted and not yet done.
    fn in_flight(&self) -> usize;

    /// Whether to be told of what is no longer needed is good for it.
    fn wants_discards(&self) -> bool {
        true
    }

    /// Whether everything under way has been handed over, and the worker is woken when any of it
    /// is done: no turn is needed before.
    fn wakes(&self) -> bool {
        false
    }
}

/// An input or output, with the memory that it needs.
#[derive(Debug)]
pub struct Io {
    /// Whatever the submitter knows it by.
    pub token: u64,
    /// What is to be done.
    pub op: Op,
}

/// What an [`Io`] does. Offsets and lengths are in bytes and whole blocks
/// ([`crate::base::limits::SSD_BLOCK_BYTES`]).
#[derive(Debug)]
pub enum Op {
    /// Fills the first `len_bytes` of the buffer from the disk.
    Read {
        /// Where on the part.
        offset_bytes: u64,
        /// How much; at most the buffer's length.
        len_bytes: usize,
        /// Where to. After an error its bytes are anything.
        buffer: Buffer,
    },
    /// Writes. When it is done a read sees the bytes, but only a later flush keeps them through a
    /// loss of power. After an error, or a loss of power, any of its blocks may have been written.
    Write {
        /// Where on the part.
        offset_bytes: u64,
        /// What.
        bytes: Frozen,
    },
    /// Makes durable what was done before this was submitted.
    Flush,
    /// Tells the disk that these bytes are no longer needed. A read of them gives zeros or what was
    /// there, until they are written again.
    Discard {
        /// From where on the part.
        offset_bytes: u64,
        /// How much.
        len_bytes: u64,
    },
}

impl Op {
    /// Where on the part it reads or changes something, as offset and length in bytes.
    fn extent(&self) -> (u64, u64) {
        match self {
            Op::Read { offset_bytes, len_bytes, .. } => (*offset_bytes, *len_bytes as u64),
            Op::Write { offset_bytes, bytes } => (*offset_bytes, bytes.len() as u64),
            Op::Flush => (0, 0),
            Op::Discard { offset_bytes, len_bytes } => (*offset_bytes, *len_bytes),
        }
    }
}

/// An I/O that is over, with its memory.
#[derive(Debug)]
pub struct Done {
    /// The I/O as it was submitted.
    pub io: Io,
    /// Whether all of it was done.
    pub result: Result<(), DiskError>,
}

/// Why an I/O was not, or not wholly, done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// There is no room: the file system below is full, or a quota is used up.
    NoSpace,
    /// The disk cannot do this at all; only discards may find that.
    Unsupported,
    /// The disk ends before it, though it did not when it was opened.
    Ended,
    /// The kernel says so.
    Failed {
        /// Its error number, positive.
        errno: i32,
    },
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskError::NoSpace => f.write_str("no space left"),
            DiskError::Unsupported => f.write_str("not supported by the disk"),
            DiskError::Ended => f.write_str("the disk has become shorter"),
            DiskError::Failed { errno } => std::io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}

impl std::error::Error for DiskError {}
