//! How long ago something got its stamp.
//!
//! A stamp is the count of links at that time; it orders items by their use and takes four bytes in
//! each. For each of the last ticks it is known here how far the count had come when it began.
//! Nothing here may be asked for more than it remembers.

use crate::base::clock::Now;
use crate::base::limits::{READER_PAUSE_PRESSED_US, READER_PAUSE_US};

/// How precisely times are compared, in microseconds.
const TICK_US: u64 = 8192;

/// Ticks that are remembered, the current one included.
const TICKS: u64 = 64;

/// For how long a reader pauses before it may lose its item.
#[derive(Clone, Copy, Debug)]
pub enum Pause {
    /// [`READER_PAUSE_US`].
    Long,
    /// [`READER_PAUSE_PRESSED_US`].
    Short,
}

impl Pause {
    /// Ticks that begin in it, and the one in which it begins.
    const fn ticks(self) -> u64 {
        let us = match self {
            Pause::Long => READER_PAUSE_US,
            Pause::Short => READER_PAUSE_PRESSED_US,
        };
        us.div_ceil(TICK_US) + 1
    }
}

const _: () = assert!(Pause::Long.ticks() < TICKS && Pause::Short.ticks() < TICKS);

/// The ticks that were looked at.
#[derive(Debug)]
pub struct Ticks {
    /// The newest one.
    tick: u64,
    /// The count when each began.
    began_at: [u32; TICKS as usize],
}

impl Default for Ticks {
    fn default() -> Ticks {
        Ticks { tick: 0, began_at: [0; TICKS as usize] }
    }
}

impl Ticks {
    /// Notes which tick it is. Before a stamp is given, so that it is not taken for an older one.
    pub fn begin(&mut self, count: &mut u32, now: Now) {
        let tick = now.uptime_us / TICK_US;
        if tick <= self.tick {
            return;
        }
        let first = (self.tick + 1).max((tick + 1).saturating_sub(TICKS));
        for begun in first..=tick {
            self.began_at[(begun % TICKS) as usize] = *count;
        }
        self.tick = tick;
        *count = count.wrapping_add(1);
    }

    /// Whether a stamp is older than `pause`.
    pub fn is_older(&self, stamp: u32, pause: Pause) -> bool {
        let Some(since) = (self.tick + 1).checked_sub(pause.ticks()) else { return false };
        let count = self.began_at[(since % TICKS) as usize];
        count.wrapping_sub(stamp) as i32 >= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(uptime_us: u64) -> Now {
        Now { uptime_us, ..Now::default() }
    }

    #[test]
    fn a_stamp_is_older_than_a_time_once_that_has_passed_whatever_happens_meanwhile() {
        for (pause, pause_us) in
            [(Pause::Short, READER_PAUSE_PRESSED_US), (Pause::Long, READER_PAUSE_US)]
        {
            for links in [0, 1, 1000] {
                // The count passes its end in the middle.
                let (mut ticks, mut count) = (Ticks::default(), u32::MAX - 20);
                for round in 0..40 {
                    let begun_us = 10_000_000 + round * 777_777;
                    ticks.begin(&mut count, at(begun_us));
                    let stamp = count;
                    let mut old_us = None;
                    for us in (0..400_000).step_by(1_000) {
                        count = count.wrapping_add(links);
                        ticks.begin(&mut count, at(begun_us + us));
                        let is_older = ticks.is_older(stamp, pause);
                        assert!(is_older || old_us.is_none(), "it stays old");
                        old_us = old_us.or(is_older.then_some(us));
                    }
                    let old_us = old_us.expect("it gets old");
                    assert!((pause_us..pause_us + 2 * TICK_US).contains(&old_us), "{old_us}");
                }
            }
        }
    }

    #[test]
    fn what_was_never_looked_at_counts_as_old_and_the_first_moments_do_not() {
        let (mut ticks, mut count) = (Ticks::default(), 0);
        ticks.begin(&mut count, at(100));
        assert!(!ticks.is_older(count, Pause::Short));
        let stamp = count;
        ticks.begin(&mut count, at(u64::from(u32::MAX)));
        assert!(ticks.is_older(stamp, Pause::Long));
        assert!(!ticks.is_older(count, Pause::Short));
    }
}
