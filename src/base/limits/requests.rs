//! Requests: how many are in flight, the work of a visit or a turn, time-outs.

/// Requests in flight in one worker: parsed, and their reply not yet completely written. Each holds
/// a slot; without a free slot no more requests are parsed.
pub const SLOTS_PER_WORKER: usize = 16 * 1024;

/// Requests in flight on one connection, so that one client cannot use up the slots.
pub const SLOTS_PER_CONNECTION: usize = 1024;

/// Slots reserved for connections that hold none, so that this many further connections can each
/// get one.
pub const SLOTS_RESERVED: usize = SLOTS_PER_WORKER / 4;

/// One connection may have at most this fraction (1/n) of the free operations of a worker, and of
/// those at another worker.
pub const OPERATIONS_SHARE: usize = 2;

/// Operations that one worker executes concurrently, including those that wait: its own requests,
/// and those that other workers sent.
pub const TASKS_PER_WORKER: usize = SLOTS_PER_WORKER;

/// Maximum time between the execution of the same delayed flush_all in two tiers, in seconds: their
/// clocks count whole seconds, and may differ by one.
pub const FLUSH_SKEW_S: u32 = 2;

/// Requests parsed for one connection in one visit, so that a deep pipeline does not starve others.
pub const REQUESTS_PER_VISIT: usize = 128;

/// Messages in one direction between two workers. A worker sends at most one operation per slot and
/// at most as many answers, so neither exceeds half of it.
pub const MAILBOX_MESSAGES: usize = 4096;

/// Operations a worker may have outstanding at one other worker.
pub const REMOTE_OPERATIONS_MAX: usize = MAILBOX_MESSAGES / 2;

/// Messages taken from one mailbox in one turn.
pub const MAILBOX_BUDGET_MESSAGES: usize = 256;

/// Bytes copied for one other worker in one turn; the rest waits for the next turn.
pub const MAILBOX_BUDGET_BYTES: usize = 1024 * 1024;

/// How many of the [`REQUESTS_PER_VISIT`] an append, a prepend or a stats request counts for: it
/// copies a whole item, or writes a page.
pub const COST_OF_EXTENDING: usize = REQUESTS_PER_VISIT / 4;

/// Buckets of a store's index, of eight items each, that one piece of a dump looks at: some 30 us.
pub const DUMP_BUCKETS: usize = 16;

/// The same of an SSD's index, in slots.
pub const DUMP_SLOTS: usize = 128;

/// Least time from one piece of a list to the next, in microseconds: the others have the rest.
pub const LIST_INTERVAL_US: u64 = 250;

/// Places of a worker's table of connections that one piece of `stats conns` looks at: some 100 us
/// on kernel sockets, which have to be asked for their addresses.
pub const LISTED_PLACES: usize = 64;

/// While a worker may sleep, how long it does not retry connections that wait for room which others
/// hold, in microseconds: the resolution of epoll_wait(2) is a millisecond.
pub const ROOM_WAIT_US: u64 = 1_000;

/// Bytes that requests copied or scanned besides their own (`work`) and that count as one more
/// request among [`REQUESTS_PER_VISIT`]: about the cost of a get. A visit ends after 512 KiB of
/// them plus the work of the last request, such as an incr of a long value.
pub const WORK_BYTES_PER_REQUEST: usize = 4096;

/// Such bytes after which operations from other workers or from the tiers' servers wait for the
/// next turn.
pub const WORK_BYTES_PER_TURN: usize = 1024 * 1024;

/// Time-out of an incomplete request or an unread reply, in microseconds; then the connection is
/// closed. Idle connections stay open, as in memcached.
pub const STALL_TIMEOUT_US: u64 = 60 * 1_000_000;

/// Minimum rate at which a long value must arrive, in bytes per second, in addition to
/// [`STALL_TIMEOUT_US`]: a slow client must not hold its share of [`BODY_BUDGET_BYTES`] for long.
pub const BODY_BYTES_PER_S_MIN: u64 = 64 * 1024;

/// While others wait for room for values, a connection is closed if nothing of its long value
/// arrived, or nothing of its reply was read, for this long, in microseconds: room is for active
/// connections.
pub const BODY_PAUSE_US: u64 = 3 * 1_000_000;

/// A connection that has room for the rest of its long value and sends nothing for this long loses
/// the room, and the store fails, when another connection needs it, in microseconds: longer than
/// the retransmission of a lost segment takes (200 ms on Linux).
pub const REST_PAUSE_US: u64 = 250_000;

/// As [`REST_PAUSE_US`], for the room reserved for new values: short enough to serve the other in a
/// tenth of a second.
pub const REST_NEW_PAUSE_US: u64 = 50_000;

/// How long after its first byte a long value may use the room reserved for the rest of new ones,
/// in microseconds.
pub const REST_NEW_US: u64 = 1_000_000;

/// How long the budget counts as contended after a request found it used up, in microseconds:
/// longer than a sweep of all connections.
pub const CONTENTION_US: u64 = 6 * 1_000_000;
