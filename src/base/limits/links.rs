//! Links: connections to the servers that store a tier's items.

use super::{ITEM_BYTES_MAX_LIMIT, TASKS_PER_WORKER};

/// Largest time-out for an answer that can be configured for a link, in milliseconds.
pub const LINK_TIMEOUT_MS_MAX: u64 = 60_000;

/// At start, time-out for connecting to a server and for each step of its greeting, in
/// microseconds.
pub const LINK_OPEN_TIMEOUT_US: u64 = 1_000_000;

/// A server that takes longer than this for a request is considered frozen, in microseconds. It
/// bounds the cost of an outage for requests in flight when it begins; all later ones are answered
/// immediately. On an overloaded host even a healthy memcached may not run for a tenth of a second
/// now and then, and a server that is considered frozen serves no request for as long. Hence
/// several times that, and less than the usual time-out of clients, a second.
pub const LINK_TIMEOUT_US: u64 = 500_000;

/// Time from when a server is considered frozen until its connection is closed, in microseconds,
/// not counting large answers in transit: an answer that was lost never arrives.
pub const LINK_SUSPENDED_US: u64 = 1_000_000;

/// How long a server has to close a connection that we have closed, in microseconds. A frozen
/// server closes it as soon as it continues, which is preferable; after this time the connection is
/// reset.
pub const LINK_CLOSING_US: u64 = 30_000_000;

/// How long a server must answer on a new connection until it has certainly read everything it
/// received on one that was reset, in microseconds.
pub const LINK_PROOF_US: u64 = 10_000_000;

/// Time-out for a server's greeting on a new connection, in microseconds; it doubles.
pub const LINK_GREETING_US: u64 = 1_000_000;

/// Its maximum, in microseconds.
pub const LINK_GREETING_MAX_US: u64 = 64_000_000;

/// After a healthy server failed it, a link serves again within this time plus the time-out, in
/// microseconds, whichever answer was lost.
#[cfg(feature = "internals")]
pub const LINK_RECOVERY_US: u64 = LINK_SUSPENDED_US + LINK_GREETING_US + LINK_RETRY_MAX_US;

/// A server that sends is not frozen: while at least one full input buffer arrives in each
/// [`LINK_TIMEOUT_US`], a request behind large answers may take this many times as long.
pub const LINK_PATIENCE: u64 = 16;

/// Input buffer of a link, in bytes: holds small answers for hundreds of clients in one read, and
/// fits into the core's own cache.
pub const LINK_INPUT_BYTES: usize = 64 * 1024;

/// Reads in one turn, so that a stream of large values does not starve the clients: 1 MiB.
pub const LINK_READS_PER_TURN: usize = 16;

/// Output queued in a link before requests have to wait for room, in bytes. A single request may be
/// larger if nothing else is queued.
pub const LINK_OUTPUT_BYTES: usize = 1024 * 1024;

/// Longest request for many keys, in bytes: about 150 keys of usual length. The server sends
/// nothing before it has found all; four such requests fit into the 16 KiB that memcached reads at
/// a time.
pub const LINK_LOOKUP_BYTES: usize = 4096;

/// Longest value accepted from a server, in bytes.
pub const LINK_VALUE_BYTES_MAX: usize = ITEM_BYTES_MAX_LIMIT;

/// Longest greeting of a server, in bytes.
pub const LINK_GREETING_BYTES_MAX: usize = 1024;

/// Appends, prepends, incrs and decrs in flight on one link whose values are stored unchanged. The
/// server copies or reads a whole item for a short request, and later requests wait. memcached
/// itself executes 20 requests of one client before it serves another.
pub const LINK_REWRITES_MAX: usize = 16;

/// Batches for which a link has room from the start; it grows if there are more.
pub const LINK_BATCHES: usize = 1024;

/// Batches in flight on one link: each task waits for one, or for a few concurrently.
pub const LINK_BATCHES_MAX: usize = 4 * TASKS_PER_WORKER;

/// Keys that a link remembers to delete as soon as its server is reachable, 1 MiB of them. With
/// more, everything is flushed instead.
pub const LINK_INVALIDATIONS_MAX: usize = 4096;

/// Delay between the first and the second attempt to reconnect, in microseconds; it doubles. The
/// first attempt is immediate.
pub const LINK_RETRY_US: u64 = 1_000;

/// Its maximum, in microseconds.
pub const LINK_RETRY_MAX_US: u64 = 100_000;

/// Time-out of an attempt to connect, in microseconds.
pub const LINK_CONNECT_TIMEOUT_US: u64 = 1_000_000;

/// How often an idle link checks that its server is reachable, in microseconds.
pub const LINK_PROBE_US: u64 = 50_000;
