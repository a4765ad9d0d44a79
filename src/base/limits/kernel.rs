//! Kernel sockets.

use super::{LINE_BYTES_MAX, REPLY_HEAD_BYTES_MAX};

/// Bytes that one connection over a kernel socket holds unconsumed at most, and as many unsent: one
/// read's or one write's worth. A connection that has neither holds no buffer.
pub const KERNEL_BUFFER_BYTES: usize = 64 * 1024;

/// Size of the buffer that a short remainder is kept in, such as half a command line, in bytes.
pub const KERNEL_SMALL_BUFFER_BYTES: usize = 4096;

/// Buffers of each size that a worker keeps for the next connection that needs one, before it gives
/// them back to the allocator: 1 MiB of small ones and 4 MiB of large ones.
pub const KERNEL_SMALL_BUFFERS_KEPT: usize = 256;
/// As [`KERNEL_SMALL_BUFFERS_KEPT`], of [`KERNEL_BUFFER_BYTES`] each.
pub const KERNEL_BUFFERS_KEPT: usize = 64;

/// Output gathered in a visit is sent early when less room than this is left, in bytes, so that
/// the longest reply head always finds room until the kernel itself is full.
pub const KERNEL_OUTPUT_ROOM_BYTES: usize = 16 * 1024;

/// A value of this many bytes or more is sent to the kernel from where it lies, not copied to the
/// rest of the output: for a short one a copy costs little.
pub const KERNEL_SEND_PIECES_BYTES: usize = 4 * 1024;

/// Pieces that one such system call sends: 256 KiB of blocks.
pub const KERNEL_SEND_PIECES: usize = 64;

/// A connection whose last value was received where it is kept reads so much, in bytes, to find the
/// next head: what comes with the head is copied, the rest of the value is not.
pub const KERNEL_HEAD_READ_BYTES: usize = KERNEL_SMALL_BUFFER_BYTES;

/// Pieces that one system call receives a value into: 256 KiB of blocks.
pub const RECEIVE_PIECES: usize = 64;

/// Bytes that one visit to a connection receives before the others have their turn, except that the
/// system call that reaches this is completed; as [`KERNEL_SEND_BYTES_PER_VISIT`].
pub const KERNEL_RECEIVE_BYTES_PER_VISIT: usize = 256 * 1024;

/// Bytes that one visit to a connection sends before the others have their turn, except that the
/// system call that reaches this is completed: a client that reads as fast as it is sent to would
/// otherwise keep the worker for as long as it has replies. A tenth of a millisecond's work.
pub const KERNEL_SEND_BYTES_PER_VISIT: usize = 256 * 1024;

/// Readiness events taken from the kernel in one turn, and the most connections left over from
/// earlier turns that are visited again in one turn.
pub const KERNEL_EVENTS_PER_TURN: usize = 256;

/// Connections accepted from one listener in one turn.
pub const ACCEPTS_PER_TURN: usize = 32;

/// Connections accepted in one turn from a listener that all workers share: few, so that they
/// spread.
pub const ACCEPTS_PER_TURN_SHARED: usize = 1;

/// Connections that the kernel holds for us before they are accepted (memcached's default, `-b`).
pub const LISTEN_BACKLOG: i32 = 1024;

/// How long accepting pauses when the host has no descriptor for one more, in microseconds. It
/// resumes earlier if a connection closes.
pub const ACCEPT_PAUSE_US: u64 = 100_000;

/// How long a connection that we closed may take to close its own side, in microseconds. What it
/// sends in that time is dropped; closing immediately would reset it, and it might lose our last
/// reply.
pub const LINGER_US: u64 = 2_000_000;

/// Time between two rounds that look for stalled connections, in microseconds.
pub const SWEEP_INTERVAL_US: u64 = 2_000_000;

/// Places in the connection table that one turn of such a round looks at.
pub const SWEEP_PLACES_PER_TURN: usize = 64;

const _: () = assert!(KERNEL_SMALL_BUFFER_BYTES >= LINE_BYTES_MAX);
const _: () = assert!(KERNEL_OUTPUT_ROOM_BYTES >= REPLY_HEAD_BYTES_MAX);
const _: () = assert!(KERNEL_OUTPUT_ROOM_BYTES < KERNEL_BUFFER_BYTES);
/// Bytes that one TCP connection can receive before its worker reads them, and the most it can have
/// unacknowledged. A power of two. With both rings wholly touched and its state, an idle connection
/// stays below 40 KiB.
pub const TCP_RX_RING_BYTES: usize = 16 * 1024;
