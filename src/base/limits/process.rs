//! The process: its start, its stop, what it reports.

/// Exit status of a wrong command line.
pub const EXIT_USAGE: u8 = 2;

/// Memory that a worker takes beside its part of L1, in bytes: its slots, tasks, mailboxes and
/// blocks, as measured.
pub const WORKER_BYTES: u64 = 34 * 1024 * 1024;

/// Most workers; worker numbers fit a byte.
pub const WORKERS_MAX: usize = 64;

/// Shortest interval between two lines about the same kind of event, in seconds.
pub const REPORT_INTERVAL_S: u32 = 10;

/// Lines for the operator that wait to be written; further ones are counted and dropped.
pub const REPORT_LINES: usize = 1024;

/// Longest that a worker is away between two turns of its own doing, in microseconds: it sleeps for
/// a tenth of it. Beyond, the process was stopped or its machine frozen, and that time does not
/// count as anybody's silence.
pub const TURN_GAP_US: u64 = 1_000_000;

/// How long a server that was asked to stop continues to send pending replies, in microseconds.
pub const DRAIN_US: u64 = 5_000_000;

/// Longest a worker sleeps meanwhile, in microseconds: another may have finished.
pub const DRAIN_NAP_US: u64 = 5_000;

/// Between two attempts to have what a start waits for, in milliseconds: short beside what a
/// server takes to come up, long beside what an attempt costs.
pub const WAIT_RETRY_MS: u64 = 50;
