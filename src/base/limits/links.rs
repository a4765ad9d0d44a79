//! Links: connections to servers that keep a tier's items.

use super::{ITEM_BYTES_MAX_LIMIT, TASKS_PER_WORKER};

/// Longest time for an answer that a link can be given, in milliseconds.
pub const LINK_TIMEOUT_MS_MAX: u64 = 60_000;

/// Longest a server may take to be connected to, and for each step of its greeting, at start, in
/// microseconds.
pub const LINK_OPEN_TIMEOUT_US: u64 = 1_000_000;

/// A server that takes longer than this for a request is taken for frozen, in microseconds. It
/// bounds what an outage costs those who are waiting when it begins; all later requests are
/// answered immediately. A host that has more to run than cores keeps a healthy memcached from
/// running for a tenth of a second now and then, and a server taken for frozen then serves no
/// request for as long: hence several times that, and less than what clients wait for as a rule, a
/// second.
pub const LINK_TIMEOUT_US: u64 = 500_000;

/// How long a server has from being taken for frozen until the connection to it is ended, in
/// microseconds, not counting large answers in transit: an answer that was lost never comes.
pub const LINK_SUSPENDED_US: u64 = 1_000_000;

/// How long a server has to close a connection that we have ended, in microseconds. One that is
/// frozen closes it as soon as it goes on, which is the better end; where nothing comes after this,
/// it is reset.
pub const LINK_CLOSING_US: u64 = 30_000_000;

/// How long a server has to live on a new connection before it has surely read what it had received
/// on one that was reset, in microseconds.
pub const LINK_PROOF_US: u64 = 10_000_000;

/// How long a server has for the greeting of a connection that is made again, in microseconds; it
/// doubles.
pub const LINK_GREETING_US: u64 = 1_000_000;

/// Longest time for that, in microseconds.
pub const LINK_GREETING_MAX_US: u64 = 64_000_000;

/// A link serves again at the latest this long after a healthy server failed it, beside the
/// time-out itself, in microseconds: whatever single answer was lost on the way.
#[cfg(feature = "internals")]
pub const LINK_RECOVERY_US: u64 = LINK_SUSPENDED_US + LINK_GREETING_US + LINK_RETRY_MAX_US;

/// A server that sends is not frozen: as long as one input buffer full comes in each
/// [`LINK_TIMEOUT_US`], a request behind large answers may take this many times as long.
pub const LINK_PATIENCE: u64 = 16;

/// Input buffer of a link, in bytes: small answers of hundreds of clients in one read, and small
/// enough to stay in the core's own cache.
pub const LINK_INPUT_BYTES: usize = 64 * 1024;

/// Reads in one turn, so that a stream of large values does not starve the clients: 1 MiB.
pub const LINK_READS_PER_TURN: usize = 16;

/// Output that a link holds before requests have to wait for room, in bytes. One request may be
/// larger, if it is alone.
pub const LINK_OUTPUT_BYTES: usize = 1024 * 1024;

/// Longest lookup of many keys in one request, in bytes: what a hundred and fifty usual keys take.
/// The server sends nothing before it has found all; four such requests fit the 16 KiB that
/// memcached reads at once.
pub const LINK_LOOKUP_BYTES: usize = 4096;

/// Longest value that a server is believed, in bytes.
pub const LINK_VALUE_BYTES_MAX: usize = ITEM_BYTES_MAX_LIMIT;

/// Longest greeting of a server, in bytes.
pub const LINK_GREETING_BYTES_MAX: usize = 1024;

/// Appends, prepends, incrs and decrs in flight on one link where values are kept as they are. The
/// server copies or reads a whole item for a few bytes of request, and whatever is asked behind
/// them waits. memcached itself does 20 requests of one client before it looks at another.
pub const LINK_REWRITES_MAX: usize = 16;

/// Batches that have room in a link from the start; more make it grow.
pub const LINK_BATCHES: usize = 1024;

/// Batches in flight on one link: each task waits for one, or for a few concurrently.
pub const LINK_BATCHES_MAX: usize = 4 * TASKS_PER_WORKER;

/// Keys that a link remembers to delete as soon as its server is back, 1 MiB of them. One more, and
/// everything is flushed instead.
pub const LINK_INVALIDATIONS_MAX: usize = 4096;

/// Time between the first and the second attempt to connect again, in microseconds; it doubles. The
/// very first attempt is made immediately.
pub const LINK_RETRY_US: u64 = 1_000;

/// Longest time between two attempts, in microseconds.
pub const LINK_RETRY_MAX_US: u64 = 100_000;

/// An attempt to connect is given up after this, in microseconds.
pub const LINK_CONNECT_TIMEOUT_US: u64 = 1_000_000;

/// How often a link without work looks whether its server is still there, in microseconds.
pub const LINK_PROBE_US: u64 = 50_000;
