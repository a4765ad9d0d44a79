//! Watchers: `watch`.

/// Watchers at the same time, of all workers together; as memcached's.
pub const WATCHERS_MAX: usize = 20;

/// From one worker to one watcher lines may be so many bytes ahead: some 600 of them, and memcached
/// has as much for each worker. 20 watchers take 1.25 MiB a worker.
pub const WATCH_RING_BYTES: usize = 64 * 1024;

/// Longest line: a key with each byte written as three, and at most some 370 bytes beside it.
pub const WATCH_LINE_BYTES_MAX: usize = 3 * super::KEY_BYTES_MAX + 402;

/// A request is slow after this many microseconds, unless the watcher says another number.
pub const WATCH_SLOW_US: u64 = 1_000;

/// How late the lines of other workers may reach a watcher whose worker sleeps, in microseconds.
pub const WATCH_WAIT_US: u64 = 10_000;

/// Evicted items that a worker's tier notes for watchers until the worker's next turn.
pub const EVICTED_NOTED: usize = 256;
