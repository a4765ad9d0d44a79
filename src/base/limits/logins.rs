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
