//! Logins.

/// Sets of the table of addresses that failed to log in.
pub const ATTEMPT_SETS: usize = 4_096;

/// Addresses in a set: 32,768 in all, in 256 KiB.
pub const ATTEMPT_WAYS: usize = 8;

/// Failed logins of one address at once, by default.
pub const ATTEMPTS_DEFAULT: u32 = 10;

/// Most of them.
pub const ATTEMPTS_MAX: u32 = 1_000_000;

/// Microseconds after which an address may fail once more.
pub const ATTEMPT_US: u64 = 1_000_000;

/// Most memory of a password's hash, in KiB: what RFC 9106 recommends where memory is scarce.
pub const HASH_KIB_MAX: u32 = 65_536;

/// Most passes over it.
pub const HASH_PASSES_MAX: u32 = 10;

/// Most lanes in it.
pub const HASH_LANES_MAX: u32 = 8;

/// Most logins of a worker, and of all together, whose verification is outstanding. At 20 ms each
/// the last one waits for 5 s.
pub const VERIFICATIONS_MAX: usize = 256;
