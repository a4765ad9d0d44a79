//! Rings in shared memory: connections of other processes on this host to `tier::shm`'s daemon.

/// Bytes of one ring. There are two for each worker of a client; both fit into a core's own cache,
/// and one holds hundreds of requests. Longer values pass in pieces.
pub const RING_BYTES: usize = 128 * 1024;

/// Smallest ring of another build that is accepted, in bytes.
pub const RING_BYTES_MIN: usize = 4 * 1024;

/// Largest, in bytes.
pub const RING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a side without work keeps polling its rings before it sleeps, in microseconds: longer
/// than a round trip, and than the pause between two bursts of a busy client.
pub const RING_SPIN_US: u64 = 50;

/// While rings are busy, how often a daemon's worker looks for events of its sockets, in
/// microseconds: a system call costs as much as several requests.
pub const RING_SOCKETS_US: u64 = 20;

/// How often a waiting client looks whether the daemon is still there, in microseconds.
pub const RING_HANGUP_US: u64 = 10_000;

/// Time-out of each step of a handshake, in microseconds.
pub const RING_HANDSHAKE_US: u64 = 1_000_000;

/// How long clients wait for a daemon that starts before it says so, in milliseconds; less than a
/// client waits for an answer.
pub const RING_START_MS: u64 = 800;

/// How long an attachment waits for the daemon's workers, in milliseconds; less than a client
/// waits.
pub const RING_SWEEP_MS: u64 = 500;

const _: () = assert!(RING_START_MS * 1000 < RING_HANDSHAKE_US);
const _: () = assert!(RING_SWEEP_MS * 1000 < RING_HANDSHAKE_US);
