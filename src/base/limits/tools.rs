//! The load tools.

use super::TCP_HALF_OPEN_MAX;

/// Longest file that is read as the result of a measurement, in bytes: an hour at ten intervals per
/// second takes 4 MiB.
pub const RESULT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Half-open connections of the load client on a device: half of what a sunder server keeps, and
/// few enough SYNs for any receive ring.
pub const BENCH_HALF_OPEN_MAX: usize = 512;

const _: () = assert!(BENCH_HALF_OPEN_MAX <= TCP_HALF_OPEN_MAX / 2);
