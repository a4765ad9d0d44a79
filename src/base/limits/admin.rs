//! Measuring requests, and telling about it.

/// One request in this many is measured: two readings of the clock and a second parse, some 600
/// instructions, are then 5 a request.
pub const SAMPLE_RATE: u32 = 128;

/// Keys of sampled requests that a worker may be ahead of who reads them: at 2 M requests/s it
/// takes a sample each 64 us, and they are read ten times a second. 0.5 MiB a worker.
pub const KEY_SAMPLES: usize = 2_048;
