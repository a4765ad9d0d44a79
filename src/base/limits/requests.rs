//! Requests: how many are in flight, how much a visit or a turn does, how long one may stall.

/// Requests in flight in one worker: parsed, and their reply not yet wholly written. Each holds a
/// slot; at this point no more requests are parsed until slots come back.
pub const SLOTS_PER_WORKER: usize = 16 * 1024;

/// Requests in flight on one connection, so that one client cannot take all the slots.
pub const SLOTS_PER_CONNECTION: usize = 1024;

/// Slots that only connections without any may take, so that this many more connections each find
/// one.
pub const SLOTS_RESERVED: usize = SLOTS_PER_WORKER / 4;

/// One connection may have less than this fraction (1/n) of the free operations in a worker, and of
/// those at one other worker.
pub const OPERATIONS_SHARE: usize = 2;

/// Operations that one worker executes concurrently, waiting ones included. Own requests, and those
/// that the other workers sent.
pub const TASKS_PER_WORKER: usize = SLOTS_PER_WORKER;

/// How far apart two tiers may carry out the same delayed flush_all, in seconds: their clocks count
/// whole seconds, and not the same ones.
pub const FLUSH_SKEW_S: u32 = 2;

/// Requests parsed for one connection in one visit, so that a deep pipeline does not starve others.
pub const REQUESTS_PER_VISIT: usize = 128;

/// Messages in one direction between two workers. A worker sends at most one operation a slot and
/// answers at most as many, so half of it is never exceeded in each role.
pub const MAILBOX_MESSAGES: usize = 4096;

/// Operations a worker may have outstanding at one other worker.
pub const REMOTE_OPERATIONS_MAX: usize = MAILBOX_MESSAGES / 2;

/// Messages taken from one mailbox in one turn.
pub const MAILBOX_BUDGET_MESSAGES: usize = 256;

/// Bytes copied for one other worker in one turn, beyond which the rest waits for the next.
pub const MAILBOX_BUDGET_BYTES: usize = 1024 * 1024;

/// What an append, a prepend or a question for statistics counts for among [`REQUESTS_PER_VISIT`]:
/// it copies a whole item, or writes a page.
pub const COST_OF_EXTENDING: usize = REQUESTS_PER_VISIT / 4;

/// How long those who wait for room that others hold are not looked at, where the worker sleeps, in
/// microseconds: a millisecond is what epoll_wait(2) resolves.
pub const ROOM_WAIT_US: u64 = 1_000;

/// Bytes that requests copied or looked through beside their own (`work`) which count as one more
/// request among [`REQUESTS_PER_VISIT`]: about as long as a get takes. A visit ends after 512 KiB
/// of them plus the work of the last request, such as an incr of a long value.
pub const WORK_BYTES_PER_REQUEST: usize = 4096;

/// Such bytes after which operations that other workers or the tiers' servers brought wait for the
/// next turn.
pub const WORK_BYTES_PER_TURN: usize = 1024 * 1024;

/// A request that is half sent, or a reply that is not read, for this long closes its connection.
/// Microseconds. A connection that is merely idle is kept, as memcached keeps it.
pub const STALL_TIMEOUT_US: u64 = 60 * 1_000_000;

/// Slowest that a long value may arrive, in bytes a second, on top of [`STALL_TIMEOUT_US`]: a
/// client that trickles one must not hold its share of [`BODY_BUDGET_BYTES`] for long.
pub const BODY_BYTES_PER_S_MIN: u64 = 64 * 1024;

/// While others wait for room for values, a long value of which nothing has arrived, or a reply of
/// which nothing was read, for this long closes its connection, in microseconds: room is for those
/// who use it.
pub const BODY_PAUSE_US: u64 = 3 * 1_000_000;

/// Who has room for the rest of its long value and sends nothing of it for this long loses it, and
/// the store, when another needs it, in microseconds: longer than a network between a client and
/// its cache takes for a round trip, and short enough that the other is served in a tenth of a
/// second.
pub const REST_PAUSE_US: u64 = 50_000;

/// For how long from its first byte on a long value may use the room that is kept for rests of new
/// ones, in microseconds.
pub const REST_NEW_US: u64 = 1_000_000;

/// How long the budget counts as contended after a request found it used up, in microseconds:
/// longer than it takes to look at every connection once.
pub const CONTENTION_US: u64 = 6 * 1_000_000;
