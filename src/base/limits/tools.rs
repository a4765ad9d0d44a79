//! The load tools.

use super::TCP_HALF_OPEN_MAX;

/// Longest file that is read as a measurement's result, in bytes: an hour at ten intervals a second
/// takes 4 MiB.
pub const RESULT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Connections that the load client on a device has half open at the same time: half of what a
/// server of ours keeps, and as many SYNs as no receive ring loses.
pub const BENCH_HALF_OPEN_MAX: usize = 512;

const _: () = assert!(BENCH_HALF_OPEN_MAX <= TCP_HALF_OPEN_MAX / 2);
