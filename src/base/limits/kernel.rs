//! Kernel sockets.

use super::{LINE_BYTES_MAX, REPLY_HEAD_BYTES_MAX};

/// Most unconsumed bytes of one connection over a kernel socket, and most unsent ones: the size of
/// one read or write. A connection without such bytes has no buffer.
pub const KERNEL_BUFFER_BYTES: usize = 64 * 1024;

/// Size of the buffer for a short remainder, such as half a command line, in bytes.
pub const KERNEL_SMALL_BUFFER_BYTES: usize = 4096;

/// Buffers of each size that a worker keeps for reuse before it frees them: 1 MiB of small ones and
/// 4 MiB of large ones.
pub const KERNEL_SMALL_BUFFERS_KEPT: usize = 256;
/// As [`KERNEL_SMALL_BUFFERS_KEPT`], of [`KERNEL_BUFFER_BYTES`] each.
pub const KERNEL_BUFFERS_KEPT: usize = 64;

/// If less room than this is left, output gathered in a visit is sent early, in bytes, so that the
/// longest reply head always fits unless the kernel's buffer is full.
pub const KERNEL_OUTPUT_ROOM_BYTES: usize = 16 * 1024;

/// A value of at least this many bytes is sent to the kernel without copying it to the rest of the
/// output; copying a shorter one is cheap.
pub const KERNEL_SEND_PIECES_BYTES: usize = 4 * 1024;

/// Pieces that one such system call sends: 256 KiB of blocks.
pub const KERNEL_SEND_PIECES: usize = 64;

/// A connection whose last value was received directly into its place reads this much, in bytes, to
/// find the next head: bytes read with the head are copied, the rest of the value is not.
pub const KERNEL_HEAD_READ_BYTES: usize = KERNEL_SMALL_BUFFER_BYTES;

/// Pieces that one system call receives a value into: 256 KiB of blocks.
pub const RECEIVE_PIECES: usize = 64;

/// Bytes that one visit to a connection receives before other connections have their turn. The
/// system call that exceeds it is completed; see [`KERNEL_SEND_BYTES_PER_VISIT`].
pub const KERNEL_RECEIVE_BYTES_PER_VISIT: usize = 256 * 1024;

/// Bytes that one visit to a connection sends before other connections have their turn. The system
/// call that exceeds it is completed. Without it, a client that reads as fast as the worker sends
/// would keep the worker as long as it has replies. A tenth of a millisecond's work.
pub const KERNEL_SEND_BYTES_PER_VISIT: usize = 256 * 1024;

/// Readiness events taken from the kernel in one turn, and most connections left over from earlier
/// turns that one turn visits.
pub const KERNEL_EVENTS_PER_TURN: usize = 256;

/// Connections accepted from one listener in one turn.
pub const ACCEPTS_PER_TURN: usize = 32;

/// Connections accepted in one turn from a listener that all workers share: few, so that they are
/// distributed evenly.
pub const ACCEPTS_PER_TURN_SHARED: usize = 1;

/// Connections that the kernel queues before they are accepted (memcached's default, `-b`).
pub const LISTEN_BACKLOG: i32 = 1024;

/// How long accepting pauses when the host has no free descriptor, in microseconds. It resumes
/// earlier if a connection closes.
pub const ACCEPT_PAUSE_US: u64 = 100_000;

/// How long the peer of a connection that we closed may take to close its side, in microseconds.
/// Data it sends in that time is dropped; closing the socket immediately would reset the
/// connection, and the peer might lose our last reply.
pub const LINGER_US: u64 = 2_000_000;

/// Longest header of the PROXY protocol, in bytes: one with both paths of a Unix socket has 232,
/// and certificates' names may follow.
pub const PROXY_HEADER_BYTES_MAX: usize = 2048;

/// How long a load balancer may take to send it, in microseconds.
pub const PROXY_HEADER_US: u64 = 5_000_000;

/// Interval of the sweeps for stalled connections, in microseconds.
pub const SWEEP_INTERVAL_US: u64 = 2_000_000;

/// Entries of the connection table that one turn of a sweep checks.
pub const SWEEP_PLACES_PER_TURN: usize = 64;

const _: () = assert!(KERNEL_SMALL_BUFFER_BYTES >= LINE_BYTES_MAX);
const _: () = assert!(KERNEL_SMALL_BUFFER_BYTES >= PROXY_HEADER_BYTES_MAX);
const _: () = assert!(KERNEL_OUTPUT_ROOM_BYTES >= REPLY_HEAD_BYTES_MAX);
const _: () = assert!(KERNEL_OUTPUT_ROOM_BYTES < KERNEL_BUFFER_BYTES);
/// Receive buffer of one TCP connection, and its largest receive window, in bytes. A power of two.
/// With both rings in use, and its state, an idle connection takes less than 40 KiB.
pub const TCP_RX_RING_BYTES: usize = 16 * 1024;
