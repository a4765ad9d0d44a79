//! Time: the one file that reads the clock.
//!
//! A worker reads the clock once per turn and passes the [`Now`] down as an argument. Nothing below
//! it may read the time itself, so that tests can run the same code on a simulated clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::limits::TURN_GAP_US;

/// One reading of the clock, used for one turn of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since the process started; never decreases. For a worker, the time in which it
    /// ran: see `Pace`.
    pub uptime_us: u64,
    /// Unix time in whole seconds. It advances with the time since the start, as memcached's clock
    /// does: setting the host's clock neither expires items nor extends their life.
    pub unix_s: u32,
}

/// The process's clock. All copies give the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_unix_us: u64,
}

impl Clock {
    /// Starts a clock at uptime zero.
    pub fn start() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start: Instant::now(), start_unix_us: since_epoch.as_micros() as u64 }
    }

    /// Reads the clock.
    pub fn read(&self) -> Now {
        self.at(self.read_ns())
    }

    /// Whole seconds from the start to `now`, including those that a worker's `Pace` left out.
    pub fn seconds_up(&self, now: Now) -> u64 {
        u64::from(now.unix_s).saturating_sub(self.start_unix_us / 1_000_000)
    }

    /// Reads the clock: nanoseconds since it was started. For measurements.
    #[inline]
    pub fn read_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Reads the clock: Unix time in microseconds, which advances with the time since the start.
    pub fn unix_us(&self) -> u64 {
        self.start_unix_us + self.read_ns() / 1_000
    }

    /// The reading at `uptime_ns`, a result of [`Clock::read_ns`]: one reading serves both.
    pub fn at(&self, uptime_ns: u64) -> Now {
        let uptime_us = uptime_ns / 1_000;
        Now { uptime_us, unix_s: ((self.start_unix_us + uptime_us) / 1_000_000) as u32 }
    }
}

/// Time as a worker experiences it. Time in which no thread ran, because the process was stopped or
/// its machine frozen, is left out: a deadline limits how long a peer may be silent while this
/// process runs. Unix time is not changed, because items expire by it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The clock at the last turn.
    real_us: u64,
    /// Time left out so far.
    left_out_us: u64,
}

impl Pace {
    /// Starts at `real`, a reading of the clock.
    pub fn new(real: Now) -> Pace {
        Pace { real_us: real.uptime_us, left_out_us: 0 }
    }

    /// Time left out so far, in microseconds. Add it to compare the times of different workers.
    #[inline]
    pub fn left_out_us(&self) -> u64 {
        self.left_out_us
    }

    /// The time of a turn that begins at `real`, a reading of the clock.
    #[inline]
    pub fn at(&mut self, real: Now) -> Now {
        let gap_us = real.uptime_us.saturating_sub(self.real_us);
        if gap_us > TURN_GAP_US {
            self.left_out_us += gap_us - TURN_GAP_US;
        }
        self.real_us = real.uptime_us;
        Now { uptime_us: real.uptime_us - self.left_out_us, ..real }
    }
}

/// The host's clock, in milliseconds of Unix time. For people: it may be set.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Unix time as ISO 8601 writes it (days to a date as in Howard Hinnant's civil_from_days).
pub fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400 + 719_468, unix_s % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The same with milliseconds.
pub fn utc_ms(unix_ms: u64) -> String {
    let seconds = utc(unix_ms / 1_000);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), unix_ms % 1_000)
}

/// When an item stops being served, in whole seconds of Unix time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Expiry(u32);

/// An exptime above this many seconds (30 days) is a Unix time, not a distance (protocol.txt,
/// "Expiration times").
pub const RELATIVE_EXPTIME_MAX_S: i64 = 60 * 60 * 24 * 30;

impl Expiry {
    /// The item does not expire.
    pub const NEVER: Expiry = Expiry(0);
    /// The item has expired already.
    pub const PAST: Expiry = Expiry(1);

    /// Reads a client's exptime as memcached does: 0 means never, negative means past, up to 30
    /// days is relative to `now`, and anything larger is a Unix time.
    pub fn from_exptime(exptime: i64, now: Now) -> Expiry {
        match exptime {
            0 => Expiry::NEVER,
            i64::MIN..0 => Expiry::PAST,
            1..=RELATIVE_EXPTIME_MAX_S => Expiry(now.unix_s.saturating_add(exptime as u32)),
            _ => Expiry(u32::try_from(exptime).unwrap_or(u32::MAX)),
        }
    }

    /// An expiry from its [`Expiry::unix_s`] form.
    pub fn from_unix_s(unix_s: u32) -> Expiry {
        Expiry(unix_s)
    }

    /// Unix time in seconds; 0 for never.
    pub fn unix_s(self) -> u32 {
        self.0
    }

    /// Whether an item with this expiry has expired at `now`.
    pub fn is_past(self, now: Now) -> bool {
        self.0 != 0 && self.0 <= now.unix_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_795_412_345), "2026-11-23T05:39:05Z");
        assert_eq!(utc_ms(1_795_412_345_007), "2026-11-23T05:39:05.007Z");
    }

    #[test]
    fn time_in_which_the_process_was_stopped_does_not_count() {
        let at = |uptime_us, unix_s| Now { uptime_us, unix_s };
        let mut pace = Pace::new(at(5_000_000, 100));
        assert_eq!(pace.at(at(5_000_000, 100)).uptime_us, 5_000_000);
        // A turn may take this long without being taken for a pause.
        let long_us = 5_000_000 + TURN_GAP_US;
        assert_eq!(pace.at(at(long_us, 101)).uptime_us, long_us);
        let after = pace.at(at(long_us + 110_000_000, 211));
        assert_eq!(after, at(long_us + TURN_GAP_US, 211));
        assert_eq!(pace.left_out_us(), 110_000_000 - TURN_GAP_US);
        // Time continues from there.
        let next = pace.at(at(long_us + 110_000_500, 211));
        assert_eq!(next.uptime_us, after.uptime_us + 500);
    }

    #[test]
    fn seconds_up_include_pauses() {
        let clock = Clock { start: Instant::now(), start_unix_us: 1_700_000_000_900_000 };
        let mut pace = Pace::new(clock.at(0));
        let after = pace.at(clock.at(110_000_000_000));
        assert_eq!((after.uptime_us, clock.seconds_up(after)), (TURN_GAP_US, 110));
        assert_eq!(clock.seconds_up(clock.at(0)), 0);
    }

    #[test]
    fn exptime_is_read_as_memcached_reads_it() {
        let now = Now { uptime_us: 0, unix_s: 1_800_000_000 };
        assert_eq!(Expiry::from_exptime(0, now), Expiry::NEVER);
        assert!(Expiry::from_exptime(-1, now).is_past(now));
        assert_eq!(Expiry::from_exptime(10, now).unix_s(), 1_800_000_010);
        assert_eq!(Expiry::from_exptime(2_592_000, now).unix_s(), 1_802_592_000);
        assert!(Expiry::from_exptime(2_592_001, now).is_past(now));
        assert_eq!(Expiry::from_exptime(1_900_000_000, now).unix_s(), 1_900_000_000);
        assert!(!Expiry::NEVER.is_past(now));
    }

    #[test]
    fn an_item_expires_in_the_second_of_its_expiry() {
        let expiry = Expiry::from_unix_s(100);
        assert!(!expiry.is_past(Now { uptime_us: 0, unix_s: 99 }));
        assert!(expiry.is_past(Now { uptime_us: 0, unix_s: 100 }));
    }
}
