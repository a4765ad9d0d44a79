//! The process: start, stop, reports.

/// Exit status of a wrong command line.
pub const EXIT_USAGE: u8 = 2;

/// That of a question that was interrupted, as shells have it.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Memory that a worker uses besides its part of L1, in bytes: its slots, tasks, mailboxes and
/// blocks, as measured.
pub const WORKER_BYTES: u64 = 35 * 1024 * 1024;

/// Most workers; worker numbers fit a byte.
pub const WORKERS_MAX: usize = 64;

/// Most networks in a list of those who may connect: all are compared for each new connection,
/// which takes a microsecond at most.
pub const NETWORKS_MAX: usize = 256;

/// Shortest interval between two lines about the same kind of event, in seconds.
pub const REPORT_INTERVAL_S: u32 = 10;

/// Lines for the operator that are queued to be written; further ones are counted and dropped.
pub const REPORT_LINES: usize = 1024;

/// How long the end of the process waits for a line to be written, in milliseconds: the reader of
/// standard error may have been stopped.
pub const REPORT_END_MS: u64 = 1_000;

/// Longest message or field that the journal is sent, in bytes: nine of them are less than the
/// kernel's limit of a datagram, 208 KiB unless it was changed.
pub const LOG_VALUE_BYTES_MAX: usize = 16 * 1024;

/// Longest pause between two turns that a worker can cause itself, in microseconds: it sleeps for
/// at most a tenth of it. After a longer one, the process was stopped or its machine frozen, and
/// peers' time-outs exclude that time.
pub const TURN_GAP_US: u64 = 1_000_000;

/// How long a server continues to send pending replies after it was told to stop, in microseconds.
pub const DRAIN_US: u64 = 5_000_000;
/// The same if another process waits to take over, and all clients with it.
pub const TAKEOVER_DRAIN_US: u64 = 1_000_000;

/// Listening sockets that a process takes over at most: 64 workers with 16 addresses.
pub const HANDOVER_DESCRIPTORS_MAX: usize = 1_024;

/// Longest sleep of a worker in that time, in microseconds: another worker may have finished.
pub const DRAIN_NAP_US: u64 = 5_000;

/// Interval between attempts to get a resource that a start waits for, in milliseconds: short
/// compared with the start of a server, long compared with the cost of an attempt.
pub const WAIT_RETRY_MS: u64 = 50;
